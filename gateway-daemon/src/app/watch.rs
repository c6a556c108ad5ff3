//! `status` and `tags`: the running gateway on a terminal, once or live.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use super::client::{exchange, socket};
use super::control::{Ask, Reply};
use super::picture::{self, Ink};
use super::say;
use super::snapshot::Snapshot;
use crate::cli::{self, exit};

/// How often a live picture is drawn again.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// `status`: the exit code.
#[must_use]
pub fn status(args: &cli::Status) -> u8 {
    if args.metrics {
        return super::client::converse(&args.reach, &[Ask::Metrics], false);
    }
    let json = |snapshot: &Snapshot| serde_json::json!(snapshot);
    let draw = |snapshot: &Snapshot, ink: Ink| picture::status(snapshot, ink);
    show(&args.reach, args.watch, if args.json { Some(&json) } else { None }, &draw)
}

/// `tags`: the exit code. Live on a terminal, once into a pipe.
#[must_use]
pub fn tags(args: &cli::Tags) -> u8 {
    let live = !args.once && !args.json && std::io::stdout().is_terminal();
    let json = |snapshot: &Snapshot| serde_json::json!({ "tags": snapshot.tags });
    let draw = |snapshot: &Snapshot, ink: Ink| picture::tags(snapshot, &args.only, ink);
    show(&args.reach, live, if args.json { Some(&json) } else { None }, &draw)
}

type Json<'a> = Option<&'a dyn Fn(&Snapshot) -> serde_json::Value>;

fn show(reach: &cli::Reach, live: bool, json: Json<'_>, draw: &dyn Fn(&Snapshot, Ink) -> String) -> u8 {
    let socket = match socket(reach) {
        Ok(socket) => socket,
        Err(code) => return code,
    };
    let ink = if std::io::stdout().is_terminal() { Ink::Ansi } else { Ink::Plain };
    loop {
        let snapshot = match snapshot(&socket) {
            Ok(snapshot) => snapshot,
            Err(code) => return code,
        };
        let text = json.map_or_else(|| draw(&snapshot, ink), |json| format!("{:#}\n", json(&snapshot)));
        // Home and clear to the end: drawing over the old picture does not flicker.
        let text = if live && ink == Ink::Ansi { format!("\x1b[H\x1b[J{text}") } else { text };
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() || !live {
            return exit::OK;
        }
        drop(out);
        std::thread::park_timeout(REDRAW_EVERY);
    }
}

fn snapshot(socket: &Path) -> Result<Snapshot, u8> {
    match exchange(socket, &[Ask::Status])?.pop() {
        Some(Reply::Status(snapshot)) => Ok(*snapshot),
        Some(Reply::Refused(why)) => {
            say::error(why);
            Err(exit::NO)
        }
        _ => {
            say::error("the gateway is of another version than this command");
            Err(exit::IO)
        }
    }
}

//! `update-agent`: the agent with its socket, its records and its look at the gateway.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use drivers::passed;
use tokio::net::UnixListener;

use super::super::stray;
use super::look::Looker;
use crate::cli::{self, exit};
use crate::update::{Folder, Look, Rauc, Settings, is_ours_alone, serve};

/// An agent that systemd has started ends after this long without a client; the next one starts it again.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// `update-agent`: the exit code.
pub(in super::super) fn agent(args: &cli::UpdateAgent) -> u8 {
    if let Err(code) = crate::app::begin_log() {
        return code;
    }
    super::run(async {
        // An installation is under way for minutes.
        if let Err(fault) = stray::ignore() {
            log::error!("signals: {fault}");
            return exit::IO;
        }
        let listener = match &args.socket {
            Some(path) => bind(path).map(|listener| (listener, None)),
            None => inherited().map(|listener| (listener, Some(IDLE_MAX))),
        };
        let (listener, idle) = match listener {
            Ok(found) => found,
            Err(fault) => {
                log::error!("no socket to listen on: {fault}");
                return exit::IO;
            }
        };
        let control = args.control.clone();
        let look: Look = Box::new(move || {
            let mut looker = Looker::new(&control);
            Box::pin(async move { looker.look().await })
        });
        let folder = Folder::new(&args.state);
        let config = args.config.clone();
        let settings = Settings {
            folder,
            rauc: Rauc::default(),
            look,
            idle,
            allow_http: Box::new(move || http_is_allowed(&config)),
            os_release: args.os_release.clone(),
        };
        match serve(listener, settings).await {
            Ok(()) => exit::OK,
            Err(fault) => {
                log::error!("the socket: {fault}");
                exit::IO
            }
        }
    })
}

/// By the word of a file that root alone can change: the gateway, which asks, is nobody to allow itself anything.
fn http_is_allowed(config: &Path) -> bool {
    is_ours_alone(config) && gateway_config::allows_http_updates(config)
}

fn inherited() -> io::Result<UnixListener> {
    let none = || {
        io::Error::other("systemd has passed none; start tidegate-update.socket, or name one with --socket")
    };
    let listener = std::os::unix::net::UnixListener::from(passed::socket().ok_or_else(none)?);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// For tests and systems without systemd. A socket that somebody has left behind is replaced, anything else is left alone.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::other(format!("another agent listens on {}", path.display())));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

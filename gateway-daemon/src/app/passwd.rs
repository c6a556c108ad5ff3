//! `passwd`: the hash of a password, ready to be pasted into the configuration.

use std::io::{self, BufRead as _, Read as _, Write as _};

use gateway_core::broker::access::PASSWORD_BYTES_MAX;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::say;
use super::terminal::events::{Event, Events};
use crate::cli::{Passwd, exit};
use crate::login;

/// Asks for a password and prints its lines; the exit code.
#[must_use]
pub(super) fn passwd(args: &Passwd) -> u8 {
    let asked = if args.stdin { line() } else { twice(args.user.as_deref()) };
    let password = match asked {
        Ok(password) => password,
        Err(Refusal::Usage(text)) => {
            say::error(text);
            return exit::USAGE;
        }
        Err(Refusal::No(text)) => {
            say::error(text);
            return exit::NO;
        }
        Err(Refusal::Io(error)) => {
            say::error(format_args!("the password cannot be read: {error}"));
            return exit::IO;
        }
    };
    match login::make(password.as_bytes()) {
        Ok(hash) => {
            if let Some(user) = &args.user {
                // The file behind `>>` may end without a line break.
                say::line(format_args!("\n[broker.user.{}]", key(user)));
            }
            say::line(format_args!("password_hash = \"{hash}\""));
            exit::OK
        }
        Err(error) => {
            say::error(format_args!("the system gives no random bytes: {error}"));
            exit::IO
        }
    }
}

/// Why there is no password.
enum Refusal {
    Usage(&'static str),
    No(String),
    Io(io::Error),
}

/// The first line of standard input.
fn line() -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    // A longer one is refused below; nothing beyond it is kept.
    let limit = u64::try_from(PASSWORD_BYTES_MAX).unwrap_or(u64::MAX) + 2;
    io::stdin().lock().take(limit).read_until(b'\n', &mut bytes).map_err(Refusal::Io)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Refusal::No("the password is not UTF-8, which MQTT clients would send".to_owned()))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(Refusal::No("the password is empty".to_owned()));
    }
    if text.len() > PASSWORD_BYTES_MAX {
        return Err(Refusal::No(format!("the password has more than {PASSWORD_BYTES_MAX} bytes")));
    }
    Ok(text.to_owned())
}

/// Asks on the terminal, twice.
fn twice(user: Option<&str>) -> Result<String, Refusal> {
    let Ok(before) = tcgetattr(io::stdin()) else {
        return Err(Refusal::Usage(
            "standard input is no terminal: write --stdin to read the password from it",
        ));
    };
    let of = user.map_or_else(String::new, |user| format!(" of {user}"));
    let silence = Silence::begin(before).map_err(Refusal::Io)?;
    let answers = until_stopped(move || {
        ask(&format!("Password{of}: "));
        let first = line()?;
        ask("The same again: ");
        Ok((first, line()?))
    });
    drop(silence);
    let (first, second) = answers?;
    if first == second { Ok(first) } else { Err(Refusal::No("the two passwords differ".to_owned())) }
}

/// Asks until it is answered, or Ctrl-C or the system wants an end: the terminal has to be given back then.
fn until_stopped<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Refusal::Io)?;
    let answer = runtime.block_on(async {
        let mut events = Events::new().map_err(Refusal::Io)?;
        let mut answer = tokio::task::spawn_blocking(question);
        loop {
            tokio::select! {
                answer = &mut answer => return answer.map_err(|fault| Refusal::Io(io::Error::other(fault)))?,
                event = events.next() => if matches!(event, Event::Stop | Event::Gone) {
                    return Err(Refusal::No("stopped".to_owned()));
                },
            }
        }
    });
    // The thread that reads may wait for a line that nobody types.
    runtime.shutdown_background();
    answer
}

/// A question, on standard error: standard output is for the answer.
fn ask(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence(Termios);

impl Silence {
    fn begin(before: Termios) -> io::Result<Self> {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
        // What was typed before the question is thrown away: it was shown.
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// A name as a key of TOML: bare if it may be.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.chars().all(bare) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_keys_of_toml() {
        for (name, text) in
            [("press3", "press3"), ("press 3", "\"press 3\""), ("a.b", "\"a.b\""), ("a\"\\", "\"a\\\"\\\\\"")]
        {
            assert_eq!(key(name), text);
        }
    }
}

//! `update`: asks the agent, and shows how far it is.

use std::io::{IsTerminal as _, Write as _};

use gateway_core::os::{self, Doing};
use gateway_core::text::marked;
use gateway_core::update::source::Source;
use gateway_core::update::wire::{Reply, Request, State, Status};

use super::super::{client, control, say};
use crate::cli::{self, exit};
use crate::update::{Client, ClientError};

/// `update`: the exit code.
pub(in super::super) fn update(args: &cli::Update) -> u8 {
    let request = match &args.source {
        None => Request::Status,
        Some(text) => match source(text) {
            Ok(source) => {
                let (reboot, downgrade) = (!args.no_reboot, args.allow_downgrade);
                Request::Install { source, reboot, key: None, downgrade }
            }
            Err(sentence) => {
                say::error(sentence);
                return exit::NO;
            }
        },
    };
    super::run(converse(args, &request))
}

/// What is named, as the agent takes it: a file by its full path.
fn source(text: &str) -> Result<String, String> {
    let text = if text.contains("://") {
        text.to_owned()
    } else {
        let path = std::path::absolute(text).map_err(|fault| format!("{text}: {fault}"))?;
        path.into_os_string()
            .into_string()
            .map_err(|path| format!("{}: expected a name in UTF-8", path.display()))?
    };
    Source::new(&text).map(|source| source.to_string()).map_err(|fault| format!("{text}: {fault}"))
}

async fn converse(args: &cli::Update, request: &Request) -> u8 {
    let failed = |fault: ClientError| {
        let code = match &fault {
            ClientError::Unreachable(_) => exit::UNAVAILABLE,
            ClientError::Gone | ClientError::Strange(_) => exit::NO,
        };
        say::error(told(args, &fault));
        code
    };
    let mut client = match Client::ask(&args.socket, request).await {
        Ok(client) => client,
        Err(fault) => return failed(fault),
    };
    let mut line = Line::default();
    loop {
        match client.reply().await {
            Ok(Reply::Taken {}) => line.show(0, "asking RAUC"),
            Ok(Reply::Progress { percent, step }) => line.show(percent, &step),
            Ok(Reply::Done { version, reboot }) => {
                line.end();
                let version = version.map(|version| format!(" {version}")).unwrap_or_default();
                say::line(format_args!("version{version} is installed"));
                say::line(if reboot {
                    "the system is starting again; the update stays when everything works as before (gateway-daemon update shows the outcome)"
                } else {
                    "it starts with the next boot (systemctl reboot), and stays when everything works as before"
                });
                return exit::OK;
            }
            Ok(Reply::Failed(failure)) => {
                line.end();
                say::error(format_args!("{}: {}", failure.reason, failure.text));
                return exit::NO;
            }
            Ok(Reply::Status(status)) => {
                print(&status);
                return exit::OK;
            }
            Err(fault) => {
                line.end();
                return failed(fault);
            }
        }
    }
}

fn print(status: &Status) {
    let word = match status.state {
        State::Idle => "no update was installed",
        State::Downloading => "an update is being fetched and checked",
        State::Installing => "an update is being installed",
        State::Installed => "an update is installed and starts with the next boot",
        State::Rebooting => "an update is installed and the system is starting again",
        State::Testing => "the updated system runs and is being tested",
        State::Good => "the last update runs and has passed its test",
        State::RolledBack => "the last update was undone and the old system runs",
        State::Failed => "the last update was not installed",
    };
    let version = status.version.as_ref().map(|version| format!(" (version {version})")).unwrap_or_default();
    say::line(format_args!("{}: {word}{version}", status.state.word()));
    if let Some(percent) = status.percent {
        say::line(format_args!("{percent} %"));
    }
    if let Some(text) = &status.text {
        say::line(text);
    }
}

fn told(args: &cli::Update, fault: &ClientError) -> String {
    let socket = args.socket.display();
    match fault {
        ClientError::Unreachable(fault) if fault.kind() == std::io::ErrorKind::PermissionDenied => {
            client::no_permission(&args.socket)
        }
        ClientError::Unreachable(_) if control::no_socket(&args.socket).is_some() => {
            format!("{socket} is no socket, so no update agent is behind it; check the path")
        }
        ClientError::Unreachable(fault) => format!(
            "no update agent behind {socket}: {}; start it with systemctl start tidegate-update.socket, or name its socket with --socket",
            os::sentence(fault, Doing::Asking)
        ),
        ClientError::Gone => {
            format!(
                "{fault} before the end; gateway-daemon update shows what came of it, and the running system is as it was"
            )
        }
        ClientError::Strange(_) => fault.to_string(),
    }
}

/// How far it is: on a terminal one line that is written over, else a line for each step.
#[derive(Debug, Default)]
struct Line {
    step: String,
    open: bool,
}

impl Line {
    fn show(&mut self, percent: u8, step: &str) {
        if std::io::stdout().is_terminal() {
            let mut out = std::io::stdout().lock();
            // A terminal that is gone needs no progress.
            let _ = write!(out, "\r\x1b[K{percent:>3} %  {}", marked(step, &[])).and_then(|()| out.flush());
            self.open = true;
        } else if self.step != step {
            say::line(format_args!("{percent:>3} %  {step}"));
        }
        step.clone_into(&mut self.step);
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            say::line("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_full_path_and_a_url_as_it_is() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(source("update.raucb").unwrap(), here.join("update.raucb").display().to_string());
        assert_eq!(source("/tmp/x.raucb").unwrap(), "/tmp/x.raucb");
        assert_eq!(source("https://h/x").unwrap(), "https://h/x");
        // A file may be called anything: as a full path it is no option any more.
        assert!(source("--ignore-compatible").unwrap().ends_with("/--ignore-compatible"));
        for text in ["", "ftp://h/x", "https://", "a\nb"] {
            assert!(source(text).is_err(), "{text:?}");
        }
    }
}

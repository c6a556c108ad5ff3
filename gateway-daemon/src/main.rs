//! Parses the command line, hands the command on, ends with its exit code.

use std::io::Write;
use std::process::ExitCode;

use gateway_daemon::cli;

fn main() -> ExitCode {
    let said = match cli::parse(std::env::args_os()) {
        Ok(command) => cli::Said {
            text: format!(
                "error: {}: the room behind this command is missing from this build\n",
                command.word()
            ),
            code: cli::exit::NO,
        },
        Err(said) => said,
    };
    // A closed pipe (`| head`) is no reason to fail differently.
    let _ = if said.code == cli::exit::OK {
        std::io::stdout().write_all(said.text.as_bytes())
    } else {
        std::io::stderr().write_all(said.text.as_bytes())
    };
    ExitCode::from(said.code)
}

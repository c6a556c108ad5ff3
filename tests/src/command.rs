//! What the programs of this package do with their arguments before their work begins.

use std::process::ExitCode;

/// The exit code for arguments that are wrong (`EX_USAGE` of sysexits.h).
pub const USAGE: u8 = 64;

/// Goes to work with arguments that were understood; prints the help for `None`, and beside what is wrong with them otherwise.
pub fn with<A>(args: anyhow::Result<Option<A>>, help: &str, work: impl FnOnce(&A) -> ExitCode) -> ExitCode {
    match args {
        Ok(Some(args)) => work(&args),
        Ok(None) => {
            println!("{help}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}\n\n{help}");
            ExitCode::from(USAGE)
        }
    }
}

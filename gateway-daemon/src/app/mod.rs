//! The frame: wires the rooms together and carries out the commands.

pub mod aside;
mod backlog;
mod certificates;
mod changes;
pub mod check;
pub mod client;
mod clocks;
mod condition;
pub mod control;
mod deeds;
pub mod demo;
mod descriptors;
mod drops;
mod environment;
mod errand;
mod ever_told;
mod faults;
mod fitting;
pub mod gateway;
mod known;
mod last_writes;
mod lines;
mod local;
mod measure;
mod near;
mod passwd;
pub mod picture;
mod progress;
pub mod provision;
mod queue;
mod rate;
mod reload;
pub mod report;
mod requests;
mod say;
pub mod scan;
pub mod serve;
mod sessions;
mod showcase;
pub mod snapshot;
pub mod start;
mod stray;
mod survey;
mod telling;
pub mod terminal;
pub mod troubles;
mod turns;
mod update;
mod upstream;
mod vigil;
mod walltime;
pub mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use drivers::clock;

use crate::cli::{self, Command, exit};
use crate::panics;
use crate::status::journal;

/// Parses the command line of the process, carries the command out, and ends with its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let said = match cli::parse(std::env::args_os()) {
        Ok(command) => {
            let code = execute(&command);
            journal::finish();
            return ExitCode::from(code);
        }
        Err(said) => said,
    };
    // A closed pipe (`| head`) is no reason to fail differently.
    let _ = if said.code == exit::OK {
        std::io::stdout().write_all(terminal::paper().wrap(&said.text).as_bytes())
    } else {
        std::io::stderr().write_all(terminal::paper_of_errors().wrap(&said.text).as_bytes())
    };
    ExitCode::from(said.code)
}

/// Starts the log of a command that works without a person, and ends the process at a fault of its own.
///
/// # Errors
/// [`exit::USAGE`] after every wrong environment variable was told.
fn begin_log() -> Result<(), u8> {
    let level = environment::log_level().map_err(|sentences| {
        sentences.iter().for_each(say::error);
        exit::USAGE
    })?;
    journal::init(level, clock::now, clock::wall);
    panics::end_process_with(exit::FAULT);
    Ok(())
}

/// Carries out a command; the exit code.
#[must_use]
pub fn execute(command: &Command) -> u8 {
    match command {
        Command::Run(args) => serve::run(args),
        Command::Check(args) => check::check(args),
        Command::Schema => check::schema(),
        Command::Read(args) => client::read(args),
        Command::Write(args) => client::write(args),
        Command::Tags(args) => watch::tags(args),
        Command::Status(args) => watch::status(args),
        Command::Sessions(args) => sessions::sessions(args),
        Command::Queue(args) => queue::queue(args),
        Command::Scan(args) => scan::run(args),
        Command::Demo(args) => showcase::demo(args),
        Command::Passwd(args) => passwd::passwd(args),
        Command::Provision(args) => provision::provision(args),
        Command::Update(args) => update::update(args),
        Command::UpdateAgent(args) => update::agent(args),
        Command::Health(args) => update::health(args),
    }
}

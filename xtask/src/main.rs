//! `cargo xtask`: the one door to everything that is done with the sources.

mod apt;
mod args;
mod attack;
mod before;
mod bench;
mod cross;
mod fuzz;
mod image;
mod long;
mod mutants;
mod needs;
mod peers;
mod qemu;
mod steps;
mod suite;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Task};

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Test(args) => suite::test(&args),
        Task::Check => suite::check(),
        Task::Peers => suite::peers(),
        Task::Sim(args) => long::sim(&args),
        Task::Attack(args) => attack::whole(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Mutants(args) => mutants::whole(&args),
        Task::Bench(args) => bench::run(&args),
        Task::E2e(args) => long::e2e(&args),
        Task::Soak(args) => long::soak(&args),
        Task::Rollback(args) => before::roll_back(args.commit.as_deref()),
        Task::Cross(args) => cross::run(&args),
        Task::Image(args) => image::run(&args),
        Task::Qemu(args) => qemu::run_task(&args),
        Task::Golden => long::golden(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // What failed stands in the summary, whose last line is the last of all.
        Err(error) if error.is::<steps::Failed>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `attack`: everything that a stranger can do to the local broker, against the real program.

use anyhow::Result;

use crate::args::Passed;
use crate::steps::{cargo, run};

/// The whole list against the release program, with the arguments of its program.
///
/// # Errors
/// A goal was missed.
pub(crate) fn whole(args: &Passed) -> Result<()> {
    // The program under attack is one of the same package, and starts from beside the attacking one.
    let mut build = cargo(&["build", "--quiet", "--release", "--package", "tidegate-tests"]);
    build.args(["--bin", "attack", "--bin", "gateway"]);
    run(build)?;
    let mut attack = program(&["--release"]);
    attack.args(&args.rest);
    run(attack)
}

/// The short form against the program of the tests: a few attacks, smaller, of which memory and counts are judged.
///
/// # Errors
/// A goal was missed.
pub(crate) fn short() -> Result<()> {
    let mut attack = program(&[]);
    attack.arg("--short");
    run(attack)
}

fn program(profile: &[&str]) -> std::process::Command {
    let mut attack = cargo(&["run", "--quiet"]);
    attack.args(profile).args(["--package", "tidegate-tests", "--bin", "attack", "--"]);
    attack
}

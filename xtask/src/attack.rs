//! `attack`: everything that a stranger can do to the local broker, against the real program.

use anyhow::Result;

use crate::args::Passed;
use crate::steps::{PROGRAM, cargo, firmware, run};

/// The whole list against the program that is shipped, with the arguments of its program.
///
/// # Errors
/// A goal was missed.
pub(crate) fn whole(args: &Passed) -> Result<()> {
    let gateway = firmware()?;
    let mut attack = program(&["--release"]);
    attack.env(PROGRAM, gateway).args(&args.rest);
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

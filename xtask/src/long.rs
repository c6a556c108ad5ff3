//! What takes long or has parameters: simulation, kill tests, soak, golden files.

use std::process::Command;

use anyhow::Result;

use crate::args::{E2e, Passed, Soak};
use crate::steps::{Steps, cargo, commit, run};

/// The simulation of the uplink, with `broker` in front that of the local broker, and with `many` seeds of both that the commit chooses; the rest are
/// arguments of its program.
///
/// # Errors
/// It failed; it has printed its seed.
pub(crate) fn sim(args: &Passed) -> Result<()> {
    let (bin, rest) = match args.rest.split_first() {
        Some((first, rest)) if first == "broker" => ("sim_broker", rest),
        Some((first, rest)) if first == "many" => ("sim_many", rest),
        _ => ("sim", &args.rest[..]),
    };
    let mut sim = cargo(&["run", "--quiet", "--release", "--package", "tidegate-tests", "--bin", bin, "--"]);
    if bin == "sim_many" {
        add_commit(&mut sim);
    }
    sim.args(rest);
    run(sim)
}

/// Some seeds of both simulations, of all plans, which nobody has run before: the commit chooses them.
///
/// # Errors
/// One failed; it is printed with the command that replays it.
pub(crate) fn sim_of_commit() -> Result<()> {
    let mut sim =
        cargo(&["run", "--quiet", "--locked", "--package", "tidegate-tests", "--bin", "sim_many", "--"]);
    add_commit(&mut sim);
    sim.args([
        "--any",
        "24",
        "--each",
        "4",
        "--hours",
        "20",
        "--broker",
        "8",
        "--silent",
        "4",
        "--minutes",
        "6",
    ]);
    run(sim)
}

fn add_commit(sim: &mut Command) {
    if let Some(commit) = commit() {
        sim.args(["--commit", &commit]);
    }
}

/// The kill tests with many rounds.
///
/// # Errors
/// A round failed.
pub(crate) fn e2e(args: &E2e) -> Result<()> {
    let mut steps = Steps::default();
    // The tests start target/debug/gateway-daemon or target/release/gateway-daemon, whichever profile they are built with.
    steps.run("build", || run(cargo(&["build", "--quiet", "--release", "--workspace", "--bins"])));
    steps.run(&format!("kill -9, {} rounds", args.rounds), || {
        run(named("kill_9", "TIDEGATE_ROUNDS", &args.rounds.to_string()))
    });
    steps.finish()
}

/// The soak tests with their long parameters.
///
/// # Errors
/// A test failed.
pub(crate) fn soak(args: &Soak) -> Result<()> {
    let mut steps = Steps::default();
    steps.run(&format!("soak, {} s each", args.seconds), || {
        run(named("soak", "TIDEGATE_SOAK_S", &args.seconds.to_string()))
    });
    steps.finish()
}

/// Rewrites the golden files.
///
/// # Errors
/// A golden test fails even when it may write.
pub(crate) fn golden() -> Result<()> {
    let mut steps = Steps::default();
    // Golden tests are named so, or live in a test file that is.
    for (name, chosen) in
        [("tests named golden_*", &["golden"][..]), ("files tests/golden*", &["--test", "golden*"])]
    {
        steps.run(name, || {
            let mut test = cargo(&["test", "--quiet", "--workspace"]);
            test.args(chosen).env("TIDEGATE_GOLDEN", "write");
            run(test)
        });
    }
    println!("Look at `git diff` before you commit.");
    steps.finish()
}

/// All tests whose name contains `name`, in release, one at a time, with a parameter.
fn named(name: &str, variable: &str, value: &str) -> Command {
    let mut test =
        cargo(&["test", "--release", "--workspace", name, "--", "--nocapture", "--test-threads", "1"]);
    test.env(variable, value);
    test
}

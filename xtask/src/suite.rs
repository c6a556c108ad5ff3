//! `test` and `check`: what a change must pass.

use anyhow::{Result, bail};

use crate::apt::Install;
use crate::args::Test;
use crate::attack;
use crate::before;
use crate::cross;
use crate::image;
use crate::long;
use crate::needs;
use crate::peers;
use crate::qemu;
use crate::steps::{Steps, cargo, command, root, run, succeeds};

/// The checks of cargo-deny that need nothing from the net.
const DENY: [&str; 5] = ["deny", "check", "bans", "licenses", "sources"];

/// Everything.
///
/// # Errors
/// A step failed.
pub(crate) fn test(args: &Test) -> Result<()> {
    let install = Install::from_flag(args.install);
    let mut steps = Steps::default();
    steps.run("peers", || peers::set_up(install));
    quick(&mut steps);
    steps.run("doc", || {
        let mut doc = cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--locked"]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        run(doc)
    });
    deny(&mut steps, install);
    // Tests start the real programs from target/debug; `cargo test` alone does not promise to build them.
    steps.run("build", || run(cargo(&["build", "--quiet", "--workspace", "--bins", "--locked"])));
    steps.run("test", || run(cargo(&["test", "--quiet", "--workspace", "--no-fail-fast", "--locked"])));
    steps.run("a roll-back to the version before", || before::roll_back(None));
    steps.run("simulations, seeds that this commit chooses", long::sim_of_commit);
    steps.run("attacks on the local broker, short form", attack::short);
    if !needs::is_root() {
        steps.skip(
            "systemd in a container, cards on loop devices (tests e2e_systemd)",
            "only root can boot containers and mount cards: run this as root, as CI does",
        );
    }
    cross::test(&mut steps, install);
    image::test(&mut steps, install);
    qemu::test(&mut steps, install);
    steps.finish()
}

/// The quick part.
///
/// # Errors
/// A step failed.
pub(crate) fn check() -> Result<()> {
    let mut steps = Steps::default();
    quick(&mut steps);
    steps.run("tidy", || run(cargo(&["test", "--quiet", "--package", "tidegate-tests", "--test", "tidy"])));
    steps.finish()
}

/// Only the peers.
///
/// # Errors
/// Something is missing and cannot be installed here.
pub(crate) fn peers() -> Result<()> {
    let mut steps = Steps::default();
    steps.run("peers", || peers::set_up(Install::Allowed));
    steps.finish()
}

fn quick(steps: &mut Steps) {
    steps.run("format", || run(cargo(&["fmt", "--all", "--check"])));
    steps.run("clippy", || {
        run(cargo(&[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "--deny",
            "warnings",
        ]))
    });
}

fn deny(steps: &mut Steps, install: Install) {
    const STEP: &str = "deny (bans, licenses, sources; advisories need a database from the net)";
    let installed = || succeeds(cargo(&["deny", "--version"]));
    if !installed() {
        if install == Install::Never {
            steps.skip(
                STEP,
                "cargo-deny is missing: `cargo install cargo-deny --locked`, or run with --install",
            );
            return;
        }
        steps.run("install cargo-deny", || {
            run(cargo(&["install", "cargo-deny", "--locked"]))?;
            if installed() { Ok(()) } else { bail!("cargo-deny is installed and cannot be started") }
        });
    }
    steps.run(STEP, || run(cargo(&DENY)));
    // The fuzz targets are a workspace of their own and never shipped: only where their crates come from matters.
    if root().join("tests/fuzz/Cargo.lock").exists() {
        steps.run("deny of tests/fuzz (sources)", || {
            let mut deny = command("cargo", &["deny", "--manifest-path", "tests/fuzz/Cargo.toml", "check"]);
            deny.arg("sources");
            run(deny)
        });
    }
}

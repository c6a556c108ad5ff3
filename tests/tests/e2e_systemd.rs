//! The `systemd/` tree with a real systemd: units, sandbox, restarts, storage. The root of a Debian machine is made once, below `target/nspawn`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

#[path = "e2e_systemd/service.rs"]
mod service;
#[path = "e2e_systemd/storage.rs"]
mod storage;

use std::io::Write as _;

use tidegate_tests::trixie;

/// Whether this machine can boot containers; what cannot run is said.
fn able(test: &str) -> bool {
    let Some(why) = trixie::unable() else { return true };
    say(&format!("NOT RUN: {test}: {why}"));
    false
}

/// Past the capture of the test harness: what did not run must not look as if it had passed.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

//! The `systemd/` tree with a real systemd: units, sandbox, restarts, storage. The root of a Debian machine is made once, below `target/nspawn`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

#[path = "e2e_systemd/first_boot.rs"]
mod first_boot;
#[path = "e2e_systemd/install.rs"]
mod install;
#[path = "e2e_systemd/service.rs"]
mod service;
#[path = "e2e_systemd/storage.rs"]
mod storage;
#[path = "e2e_systemd/trial.rs"]
mod trial;

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

/// A gateway with a simulated bus that reads a voltage five times a second, and an uplink to the broker beside it.
fn config(more: &str) -> String {
    format!(
        r#"
[gateway]
id = "nest"
[uplink.cloud]
url = "mqtt://127.0.0.1:1883"
backoff_min = "100ms"
backoff_max = "1s"
[bus.field]
driver = "sim"
[device.meter]
bus = "field"
unit = 1
[[device.meter.poll]]
every = "200ms"
name = "power"
tags.voltage = {{ holding = 0, type = "u16", scale = 0.1, unit = "V" }}
{more}"#
    )
}

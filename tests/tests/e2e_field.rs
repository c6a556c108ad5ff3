//! The promises of the field side, each with the real daemon, a real broker and devices that misbehave.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

#[path = "e2e_field/buses.rs"]
mod buses;
#[path = "e2e_field/devices.rs"]
mod devices;
#[path = "e2e_field/disk.rs"]
mod disk;
#[path = "e2e_field/field.rs"]
mod field;
#[path = "e2e_field/time.rs"]
mod time;
#[path = "e2e_field/uplinks.rs"]
mod uplinks;

use std::path::Path;

use tidegate_tests::gateway::Gateway;

/// The gateway with its socket and its database in `dir`, and one uplink to a port of this machine.
fn head(dir: &Path, broker: u16) -> String {
    format!(
        r#"
[gateway]
id = "gw"
socket = "{dir}/control.sock"
[store]
path = "{dir}/queue.db"
[uplink.cloud]
url = "mqtt://127.0.0.1:{broker}"
backoff_min = "100ms"
backoff_max = "1s"
"#,
        dir = dir.display()
    )
}

/// A device behind Modbus TCP whose count is polled ten times per second.
fn counter(port: u16) -> String {
    format!(
        r#"
[bus.plc]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {port}
[device.meter]
bus = "plc"
unit = 1
timeout = "10s"
[[device.meter.poll]]
every = "100ms"
tags.count = {{ holding = 0, type = "u32" }}
"#
    )
}

/// Nobody listens there.
fn dead_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Every message of every uplink is somewhere, at this moment.
async fn assert_balanced(gateway: &Gateway) {
    for uplink in gateway.snapshot().await.unwrap().uplinks {
        assert!(uplink.ledger.balanced(), "{uplink:#?}\n{}", gateway.log());
    }
}

//! The whole way once: a Modbus device, the real daemon, a real broker, and a subscriber behind it.

use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{self, Office};

fn config(dir: &std::path::Path, device: u16, broker: u16) -> String {
    format!(
        r#"
[gateway]
id = "gw"
socket = "{dir}/control.sock"
[store]
[uplink.cloud]
url = "mqtt://127.0.0.1:{broker}"
backoff_min = "100ms"
backoff_max = "1s"
[bus.plc]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {device}
[device.meter]
bus = "plc"
unit = 1
[[device.meter.poll]]
every = "50ms"
tags.count = {{ holding = 0, type = "u32" }}
"#,
        dir = dir.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_poll_of_a_device_reaches_the_office() {
    let dir = tempfile::tempdir().unwrap();
    let device = CounterDevice::start().await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "gw/#").await.unwrap();
    let mut gateway = Gateway::start(dir.path(), &config(dir.path(), device.port, broker.port())).unwrap();
    gateway.wait_for("100 acknowledged", |now| now.uplinks[0].ledger.acknowledged.rows >= 100).await.unwrap();
    let arrivals =
        office.wait_for("100 values", |all| office::counts(all, "count").len() >= 100).await.unwrap();
    gateway.stop().await.unwrap();
    let counts = office::counts(&office.arrivals(), "count");
    assert_eq!(counts, (1..=counts.len() as u64).collect(), "a value is missing");
    assert!(office::holes(&arrivals).is_empty());
}

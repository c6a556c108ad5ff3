//! The whole way once: a Modbus device, the real daemon, a real broker, and a subscriber behind it.

use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{self, Arrival, Office};

fn config(dir: &std::path::Path, device: u16, broker: u16) -> String {
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
[bus.plc]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {device}
[device.meter]
bus = "plc"
unit = 1
timeout = "10s"
[[device.meter.poll]]
every = "50ms"
tags.count = {{ holding = 0, type = "u32" }}
"#,
        dir = dir.display()
    )
}

/// Polls that have to arrive.
const POLLS: u64 = 100;

/// Which of the first polls have no value in the office.
fn missing(arrivals: &[Arrival]) -> Vec<u64> {
    let counts = office::counts(arrivals, "count");
    (1..=POLLS).filter(|number| !counts.contains(number)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_poll_of_a_device_reaches_the_office() {
    let dir = tempfile::tempdir().unwrap();
    let device = CounterDevice::start().await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "gw/#").await.unwrap();
    let mut gateway = Gateway::start(dir.path(), &config(dir.path(), device.port, broker.port())).unwrap();
    let came = office.wait_for("hundred polls", |all| missing(all).is_empty()).await;
    let told = || {
        let counts = office::counts(&office.arrivals(), "count");
        format!("missing {:?}, last {:?}\n{}", missing(&office.arrivals()), counts.last(), gateway.log())
    };
    came.unwrap_or_else(|error| panic!("{error}\n{}", told()));
    gateway.wait_for("acknowledged", |now| now.uplinks[0].ledger.acknowledged.rows >= POLLS).await.unwrap();
    gateway.stop().await.unwrap();
}

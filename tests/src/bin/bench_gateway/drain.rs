//! The backlog after an outage, beside rumqttc alone with the same messages, window and peer, while live values go on.
//!
//! The outage is a run of the daemon without its cloud; the drain is the next run, with a plant of one device that polls live values.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidegate_tests::bare::{self, Load};
use tidegate_tests::bench::{Goal, Measured};
use tidegate_tests::fast_device::FastDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::sink::Sink;

use super::plant::{Plant, bus_lines, frame, plain, real};

/// Messages that the outage leaves on disk, at least.
const BACKLOG: u64 = 250_000;
/// The default of the configuration.
const WINDOW: u16 = 100;
const LATENCY_GOAL_S: f64 = 1.0;
/// Live values that a percentile needs at least.
const SAMPLES_MIN: usize = 50;
/// What the messages of [`BEFORE`] have as JSON.
const PAYLOAD_BYTES: usize = 97;
const TOPIC: &str = "gw/device0-1/1/r7";

/// One message per tag, 16,000 per second, so that the outage is over soon.
const BEFORE: Plant = Plant { buses: 2, devices: 8, registers: 10, every: "10ms", pipeline: 8, shape: "tag" };

pub(crate) async fn run() -> Result<()> {
    let broker = Mosquitto::start(&Options { quiet: true, ..Options::default() }).await?;
    let dir = tempfile::tempdir()?;
    outage(dir.path()).await?;
    let drained = drain(dir.path(), broker.port(), None).await?;
    let (plain, batches) = beside(broker.port(), drained.messages).await?;
    compare("mosquitto", drained.per_s, plain.max(batches), Goal::AtLeast(0.8));
    drop(broker);

    let sink = Sink::start(0).await?;
    let dir = tempfile::tempdir()?;
    outage(dir.path()).await?;
    let drained = drain(dir.path(), sink.port, Some(&sink)).await?;
    let (plain, batches) = beside(sink.port, drained.messages).await?;
    compare("sink", drained.per_s, plain, Goal::Shown);
    compare("sink, it in batches", drained.per_s, batches, Goal::Shown);
    Measured {
        what: "p99 of live latency during the drain, device to sink",
        value: drained.latency.map_or(f64::NAN, |latency| latency.as_secs_f64()),
        reference: LATENCY_GOAL_S,
        unit: "s",
        goal: Goal::AtMost(1.0),
    }
    .print();
    Ok(())
}

fn compare(peer: &str, value: f64, reference: f64, goal: Goal) {
    let what = format!("drain after an outage beside rumqttc alone, window {WINDOW}, {peer}");
    Measured { what: &what, value, reference, unit: "messages/s", goal }.print();
}

/// Messages per second of rumqttc alone, as it comes and in batches.
async fn beside(port: u16, messages: u64) -> Result<(f64, f64)> {
    let load = Load { messages, payload: PAYLOAD_BYTES, window: WINDOW };
    let plain = real(messages) / bare::rumqttc(port, TOPIC, load, 0).await?.as_secs_f64();
    let batches = real(messages) / bare::rumqttc(port, TOPIC, load, 64).await?.as_secs_f64();
    println!(
        "{messages} messages of {PAYLOAD_BYTES} bytes; rumqttc alone {plain:.0}/s, in batches {batches:.0}/s"
    );
    Ok((plain, batches))
}

/// Fills the queue, and ends in order so that all of it is on disk.
async fn outage(dir: &Path) -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let devices = BEFORE.devices().await?;
    let config = BEFORE.config(dir, &plain(port), &devices)?;
    let mut gateway = Gateway::start(dir, &config)?;
    gateway.wait_for("a backlog", |now| now.uplinks[0].ledger.stored.rows >= BACKLOG).await?;
    gateway.stop().await
}

struct Drained {
    messages: u64,
    per_s: f64,
    /// 99th percentile, if a sink looked.
    latency: Option<Duration>,
}

async fn drain(dir: &Path, port: u16, sink: Option<&Sink>) -> Result<Drained> {
    let device = FastDevice::start().await?;
    let mut config = frame(dir, &plain(port), "group");
    bus_lines(&mut config, "plc", device.port, 1)?;
    writeln!(config, "[device.meter]\nbus = \"plc\"\nunit = 1\n[[device.meter.poll]]\nname = \"live\"")?;
    writeln!(config, "every = \"10ms\"\ntags.count = {{ holding = 0, type = \"u32\" }}")?;
    let mut gateway = Gateway::start(dir, &config)?;
    let first = gateway
        .wait_for("the first acknowledgements", |now| now.uplinks[0].ledger.acknowledged.rows > 0)
        .await?;
    let began = Instant::now();
    let last = gateway.wait_for("an empty queue", |now| now.uplinks[0].ledger.stored.rows == 0).await?;
    let took = began.elapsed();
    let ledger = &last.uplinks[0].ledger;
    ensure!(ledger.balanced() && ledger.dropped_total().rows == 0, "messages were dropped: {ledger:?}");
    let messages = ledger.restored.rows;
    ensure!(messages >= BACKLOG, "{messages} messages were left by the outage");
    let acknowledged = ledger.acknowledged.rows - first.uplinks[0].ledger.acknowledged.rows;
    println!("{acknowledged} messages drained in {:.2} s", took.as_secs_f64());
    let latency = match sink {
        Some(sink) => {
            ensure!(sink.backlog() == messages, "{} of {messages} at the sink", sink.backlog());
            Some(latency(&device, sink, (began, began + took))?)
        }
        None => None,
    };
    gateway.stop().await?;
    Ok(Drained { messages, per_s: real(acknowledged) / took.as_secs_f64(), latency })
}

/// The 99th percentile of the values that were sampled in between.
fn latency(device: &FastDevice, sink: &Sink, (from, to): (Instant, Instant)) -> Result<Duration> {
    let mut latencies: Vec<Duration> = (sink.counted().live.iter())
        .filter_map(|(count, arrived)| Some((device.moment(*count)?, *arrived)))
        .filter(|(sampled, _)| (from..=to).contains(sampled))
        .map(|(sampled, arrived)| arrived.saturating_duration_since(sampled))
        .collect();
    latencies.sort_unstable();
    ensure!(latencies.len() >= SAMPLES_MIN, "only {} live values during the drain", latencies.len());
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    println!("{} live values meanwhile, median {:?}, slowest {:?}", latencies.len(), at(50), at(100));
    Ok(at(99))
}

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
use tidegate_tests::gateway::{DEADLINE, Gateway};
use tidegate_tests::sink::Sink;
use tokio::time::sleep;

use super::plant::{Plant, bus_lines, frame, plain, real};

/// Messages that the outage leaves on disk, at least.
const BACKLOG: u64 = 250_000;
/// The default of the configuration.
const WINDOW: u16 = 100;
const LATENCY_GOAL_S: f64 = 1.0;
/// How often the sink is looked at.
const LOOK: Duration = Duration::from_millis(2);
const TOPIC: &str = "gw/device0-1/1/r7";

/// One message per tag, 16,000 per second, so that the outage is over soon.
const BEFORE: Plant = Plant { buses: 2, devices: 8, registers: 10, every: "10ms", pipeline: 8, shape: "tag" };

pub(crate) async fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    outage(dir.path()).await?;
    let sink = Sink::start(0).await?;
    let (backlog, rate, latency) = drain(dir.path(), &sink).await?;
    let counted = sink.counted();
    let payload = usize::try_from(counted.payload_bytes / counted.messages.max(1))?;
    let load = Load { messages: backlog, payload, window: WINDOW };
    let mut alone = Vec::new();
    for batch in [0, 64] {
        let took = bare::rumqttc(sink.port, TOPIC, load, batch).await?;
        alone.push(real(backlog) / took.as_secs_f64());
    }
    println!(
        "{backlog} messages of {payload} bytes; rumqttc alone {:.0}/s, in batches {:.0}/s",
        alone[0], alone[1]
    );
    Measured {
        what: "drain after an outage beside rumqttc alone, window 100, sink",
        value: rate,
        reference: alone[0].max(alone[1]),
        unit: "messages/s",
        goal: Goal::AtLeast(0.8),
    }
    .print();
    Measured {
        what: "p99 of live latency meanwhile, device to cloud",
        value: latency.as_secs_f64(),
        reference: LATENCY_GOAL_S,
        unit: "s",
        goal: Goal::AtMost(1.0),
    }
    .print();
    Ok(())
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

/// Messages of the backlog, their rate, and the 99th percentile of live latency.
async fn drain(dir: &Path, sink: &Sink) -> Result<(u64, f64, Duration)> {
    let device = FastDevice::start().await?;
    let mut config = frame(dir, &plain(sink.port), "group");
    bus_lines(&mut config, "plc", device.port, 1)?;
    writeln!(config, "[device.meter]\nbus = \"plc\"\nunit = 1\n[[device.meter.poll]]\nname = \"live\"")?;
    writeln!(config, "every = \"10ms\"\ntags.count = {{ holding = 0, type = \"u32\" }}")?;
    let mut gateway = Gateway::start(dir, &config)?;
    let restored = gateway.wait_for("the queue", |now| now.uplinks[0].ledger.restored.rows > 0).await?;
    let backlog = restored.uplinks[0].ledger.restored.rows;
    let end = Instant::now() + DEADLINE;
    while sink.backlog() == 0 && Instant::now() < end {
        sleep(LOOK).await;
    }
    let (already, began) = (sink.backlog(), Instant::now());
    while sink.backlog() < backlog && Instant::now() < end {
        sleep(LOOK).await;
    }
    let took = began.elapsed();
    ensure!(sink.backlog() == backlog, "{} of {backlog} messages drained", sink.backlog());
    let mut latencies: Vec<Duration> = (sink.counted().live.iter())
        .filter_map(|(count, arrived)| Some((device.moment(*count)?, *arrived)))
        .filter(|(sampled, _)| *sampled >= began && *sampled <= began + took)
        .map(|(sampled, arrived)| arrived.saturating_duration_since(sampled))
        .collect();
    latencies.sort_unstable();
    ensure!(latencies.len() >= 100, "only {} live values during the drain", latencies.len());
    let p99 = latencies[latencies.len() * 99 / 100];
    println!(
        "drained in {:.2} s; {} live values meanwhile, median {:.1} ms, slowest {:.1} ms",
        took.as_secs_f64(),
        latencies.len(),
        latencies[latencies.len() / 2].as_secs_f64() * 1e3,
        latencies[latencies.len() - 1].as_secs_f64() * 1e3
    );
    let last = gateway.wait_for("an empty queue", |now| now.uplinks[0].ledger.stored.rows == 0).await?;
    let ledger = &last.uplinks[0].ledger;
    ensure!(ledger.balanced() && ledger.dropped_total().rows == 0, "messages were dropped: {ledger:?}");
    gateway.stop().await?;
    Ok((backlog, real(backlog - already) / took.as_secs_f64(), p99))
}

//! Values per second from Modbus TCP to MQTT.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidegate_tests::bench::{Goal, Measured};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::sink::Sink;
use tokio::time::sleep;

use super::plant::{Plant, plain, real, works};

const GOAL_PER_S: f64 = 100_000.0;

/// 16 groups of 125 registers at the shortest interval: 200,000 values per second are there to be had.
const PLANT: Plant =
    Plant { buses: 2, devices: 8, registers: 125, every: "10ms", pipeline: 8, shape: "group" };

/// Until buffers and rates are what they will be.
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURE: Duration = Duration::from_secs(10);

pub(crate) async fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sink = Sink::start(0).await?;
    let devices = PLANT.devices().await?;
    let config = PLANT.config(dir.path(), &plain(sink.port), &devices)?;
    let mut gateway = Gateway::start(dir.path(), &config)?;
    gateway.wait_for("the plant at work", works).await?;
    sleep(WARM_UP).await;
    let (first, began, cpu) = (gateway.snapshot().await?, Instant::now(), gateway.cpu_ticks()?);
    sleep(MEASURE).await;
    let (last, took) = (gateway.snapshot().await?, began.elapsed().as_secs_f64());
    let cores = real(gateway.cpu_ticks()? - cpu) / 100.0 / took;
    let acknowledged =
        last.uplinks[0].ledger.acknowledged.readings - first.uplinks[0].ledger.acknowledged.readings;
    let overruns: u64 = last.buses.iter().map(|bus| bus.overruns).sum::<u64>()
        - first.buses.iter().map(|bus| bus.overruns).sum::<u64>();
    println!(
        "{:.2} cores in the daemon, {:.0} MiB, {overruns} polls skipped because the one before was not done, {} messages waiting",
        cores,
        real(gateway.rss_kib()?) / 1024.0,
        last.uplinks[0].ledger.queued().rows,
    );
    Measured {
        what: "values Modbus TCP -> MQTT, 16 devices of 125 registers every 10 ms",
        value: real(acknowledged) / took,
        reference: GOAL_PER_S,
        unit: "values/s",
        goal: Goal::AtLeast(1.0),
    }
    .print();
    Measured {
        what: "CPU of the daemon meanwhile, beside two cores",
        value: cores,
        reference: 2.0,
        unit: "cores",
        goal: Goal::Shown,
    }
    .print();
    nothing_lost(gateway, &sink, devices).await
}

/// The devices go away, and what was read until then has to be at the sink: all of it, each message once in the account.
async fn nothing_lost(
    mut gateway: Gateway,
    sink: &Sink,
    devices: Vec<tidegate_tests::fast_device::FastDevice>,
) -> Result<()> {
    let answered: u64 = devices.iter().map(tidegate_tests::fast_device::FastDevice::answered).sum();
    drop(devices);
    // Reasons of bad readings change for a while after the cut, so both accounts are looked at until they agree.
    let end = gateway
        .wait_for("everything acknowledged and counted", |now| {
            let ledger = &now.uplinks[0].ledger;
            now.buses.iter().all(|bus| !bus.up)
                && ledger.queued().rows == 0
                && sink.counted().readings() == ledger.acknowledged.readings
        })
        .await?;
    let ledger = &end.uplinks[0].ledger;
    let counted = sink.counted();
    println!(
        "{} readings produced, {} acknowledged, {} good and {} bad at the sink, {} repeated messages",
        ledger.produced.readings, ledger.acknowledged.readings, counted.good, counted.bad, counted.repeated
    );
    ensure!(ledger.balanced() && ledger.dropped_total().rows == 0, "readings were dropped: {ledger:?}");
    // What the device answers between the count and the cut, or what is cut off on its way, is in no account of the gateway.
    let read = counted.good / u64::from(PLANT.registers);
    let slack = u64::from(PLANT.buses) * u64::from(PLANT.pipeline) * 2 + 200;
    ensure!(read.abs_diff(answered) <= slack, "{answered} polls answered, {read} at the sink");
    gateway.stop().await
}

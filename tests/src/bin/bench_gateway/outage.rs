//! What an outage costs the disk, seen from outside the daemon.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use gateway_daemon::app::snapshot::Snapshot;
use tidegate_tests::bench::{Goal, Measured};
use tidegate_tests::gateway::Gateway;
use tokio::time::sleep;

use super::idle;
use super::plant::{Plant, plain, real};

/// 1,600 messages of 125 readings per second.
const BUSY: Plant =
    Plant { buses: 2, devices: 8, registers: 125, every: "10ms", pipeline: 8, shape: "group" };

pub(crate) async fn run() -> Result<()> {
    measure("1,000 tags/s", idle::PLANT, Duration::from_secs(30)).await?;
    measure("200,000 tags/s", BUSY, Duration::from_secs(10)).await
}

async fn measure(how: &str, plant: Plant, time: Duration) -> Result<()> {
    let dir = tempfile::tempdir()?;
    // A port that nobody listens on any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let devices = plant.devices().await?;
    let config = plant.config(dir.path(), &plain(port), &devices)?;
    let mut gateway = Gateway::start(dir.path(), &config)?;
    gateway.wait_for("rows on disk", |now| now.uplinks[0].ledger.stored.rows > 0).await?;
    let (first, written, began) = (gateway.snapshot().await?, gateway.written_bytes()?, Instant::now());
    sleep(time).await;
    let (last, written) = (gateway.snapshot().await?, gateway.written_bytes()? - written);
    let took = began.elapsed().as_secs_f64();
    let stored = |now: &Snapshot| now.uplinks[0].ledger.stored;
    let rows = stored(&last).rows - stored(&first).rows;
    let readings = stored(&last).readings - stored(&first).readings;
    let own = stored(&last).bytes - stored(&first).bytes;
    ensure!(last.store.fault.is_none(), "{:?}", last.store.fault);
    ensure!(last.uplinks[0].ledger.balanced(), "{:?}", last.uplinks[0].ledger);
    println!(
        "{how}: {rows} rows of {:.0} bytes, {} in memory at the end, {:.0} MiB resident",
        real(own) / real(rows),
        last.uplinks[0].ledger.in_memory.rows,
        real(gateway.rss_kib()?) / 1024.0
    );
    let produced = last.uplinks[0].ledger.produced.rows - first.uplinks[0].ledger.produced.rows;
    Measured {
        what: &format!("rows appended offline at {how}, beside rows produced"),
        value: real(rows) / took,
        reference: real(produced) / took,
        unit: "rows/s",
        goal: Goal::Shown,
    }
    .print();
    Measured {
        what: &format!("bytes written offline at {how}, beside the row's own"),
        value: real(written) / real(readings),
        reference: real(own) / real(readings),
        unit: "B/reading",
        goal: Goal::AtMost(2.0),
    }
    .print();
    gateway.stop().await
}

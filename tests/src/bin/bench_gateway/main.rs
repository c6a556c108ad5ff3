//! The whole daemon under measurement: throughput, its cost at rest, what an outage costs the disk, and how it drains.
//!
//! `cargo run --release -p tidegate-tests --bin bench_gateway -- [throughput|idle|outage|drain|size]`, all of them without a word.
//!
//! The daemon is a process of its own, with the settings a user would write. The device and, where it says "sink", the
//! cloud are in this process and share the machine with it: what they cost is missing from the daemon's figure, never added.

mod drain;
mod idle;
mod outage;
mod plant;
mod throughput;

use anyhow::{Context as _, Result, bail};
use tidegate_tests::bench::{Goal, Measured};
use tidegate_tests::gateway;

/// What a stripped binary may have, MiB: the root file system of the firmware has two copies of it.
const SIZE_GOAL_MIB: f64 = 8.0;

fn main() -> Result<()> {
    let wanted = std::env::args().nth(1);
    let known = ["throughput", "idle", "outage", "drain", "size"];
    if let Some(name) = &wanted
        && !known.contains(&name.as_str())
    {
        bail!("{name:?} is none of {}", known.join(", "));
    }
    let wants = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        if wants("throughput") {
            throughput::run().await.context("throughput")?;
        }
        if wants("idle") {
            idle::run().await.context("idle")?;
        }
        if wants("outage") {
            outage::run().await.context("outage")?;
        }
        if wants("drain") {
            drain::run().await.context("drain")?;
        }
        if wants("size") {
            size().context("size")?;
        }
        Ok(())
    })
}

/// The binary without its symbols.
fn size() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let stripped = dir.path().join("gateway");
    let done =
        std::process::Command::new("strip").arg("-o").arg(&stripped).arg(gateway::binary()?).status()?;
    if !done.success() {
        bail!("strip ended with {done}");
    }
    let mib = mib(std::fs::metadata(&stripped)?.len());
    let goal = Goal::AtMost(1.0);
    Measured { what: "size of the stripped binary", value: mib, reference: SIZE_GOAL_MIB, unit: "MiB", goal }
        .print();
    Ok(())
}

#[allow(clippy::cast_precision_loss)]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

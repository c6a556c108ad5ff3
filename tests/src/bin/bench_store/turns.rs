//! Turns of the local broker: durable publishes per second, bytes to disk per row, and opening a file with many rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_core::broker::{Answer, Change, FactKey, FactKind, Limits, Sieve, Turn};
use gateway_core::settings::StoreSettings;
use gateway_core::tag::{BootId, BootNs, RunId};
use gateway_core::uplink::row::{Body, Priority, Qos, Row, Seq};
use gateway_daemon::store::Store;
use tidegate_tests::bench::{Goal, Measured};

use super::{Disk, PACE, noise};

/// What mosquitto reaches with `autosave_on_changes` and an interval of 1, QoS 1, on a disk like this one.
const MOSQUITTO_PER_S: f64 = 82.0;
/// Payload of a publish, bytes.
const PAYLOAD: usize = 128;
/// How long each size of turn is tried.
const TRIAL: Duration = Duration::from_secs(2);

fn row(seq: u64) -> Arc<Row> {
    Arc::new(Row {
        seq: Seq(seq),
        priority: Priority::Normal,
        topic: format!("line2/machine{}/state", seq % 50).into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        body: Body::Raw(noise(seq).take(PAYLOAD + 2).collect()),
        readings: 0,
        run: RunId { boot: BootId(0x5EED), start_ms: 12_345 },
        at: BootNs(86_400_000_000_000 + seq * 10_000_000),
        expiry_s: None,
    })
}

fn insert(client: u64, seq: u64) -> Change {
    Change::Insert { queue: format!("local/client{client}").into(), row: row(seq) }
}

fn retained(topic: u64, seq: u64) -> Change {
    let key = format!("line2/machine{topic}/state");
    let fact = FactKey { kind: FactKind::Retained, key: key.as_bytes().into() };
    Change::Put { fact, value: Arc::clone(row(seq).body.bytes()) }
}

async fn done(store: &Store, changes: Vec<Change>) -> Result<()> {
    let answer = store.turn(Turn { number: 1, changes }).await;
    ensure!(answer == Answer::Done { number: 1 }, "{answer:?}");
    Ok(())
}

async fn open(disk: &Disk, name: &str) -> Result<Store> {
    let store = Store::open(&StoreSettings { path: disk.file(name), file_bytes_max: 500 << 20 }).await;
    ensure!(store.health().fault.is_none(), "{:?}", store.health().fault);
    Ok(store)
}

/// Everything about turns.
pub(super) async fn run(disk: &Disk) -> Result<()> {
    for rows in [1, 10, 100, 1000] {
        // As many publishers wait as rows are in a turn; with one, the disk's own speed is measured.
        let goal = if rows >= 10 { Goal::AtLeast(50.0) } else { Goal::Shown };
        let name = format!("durable publishes, {rows} at a time, beside mosquitto's autosave");
        speed(disk, &name, goal, rows, |index| insert(0, index)).await?;
    }
    speed(disk, "durable publishes, 100 at a time to 100 clients", Goal::Shown, 100, |index| {
        insert(index % 100, index / 100 + 1)
    })
    .await?;
    speed(disk, "retained messages, 100 at a time of 1000 topics", Goal::Shown, 100, |index| {
        retained(index % 1000, index)
    })
    .await?;
    for (rows, turns) in [(1, 300), (10, 300), (100, 150), (1000, 30)] {
        wear(disk, &format!("bytes to disk, turns of {rows} rows"), rows, turns, |index| insert(0, index))
            .await?;
    }
    wear(disk, "bytes to disk, turns of 10 retained messages of 1000 topics", 10, 300, |index| {
        retained(index * 7 % 1000, index)
    })
    .await?;
    for rows in [100_000, 1_000_000] {
        opening(disk, rows).await?;
    }
    Ok(())
}

async fn speed(disk: &Disk, what: &str, goal: Goal, rows: u64, change: impl Fn(u64) -> Change) -> Result<()> {
    let store = open(disk, "turns.db").await?;
    done(&store, (1..=1000).map(&change).collect()).await?;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < TRIAL {
        let from = 1001 + count;
        done(&store, (from..from + rows).map(&change).collect()).await?;
        count += rows;
    }
    let value = count as f64 / start.elapsed().as_secs_f64();
    Measured { what, value, reference: MOSQUITTO_PER_S, unit: "/s", goal }.print();
    store.close().await?;
    Ok(std::fs::remove_file(disk.file("turns.db"))?)
}

async fn wear(disk: &Disk, what: &str, rows: u64, turns: u64, change: impl Fn(u64) -> Change) -> Result<()> {
    let store = open(disk, "wear.db").await?;
    done(&store, (1..=1000).map(&change).collect()).await?;
    let before = disk.written()?;
    let mut next = tokio::time::interval(PACE);
    for index in 0..turns {
        next.tick().await;
        let from = 1001 + index * rows;
        done(&store, (from..from + rows).map(&change).collect()).await?;
    }
    let count = (rows * turns) as f64;
    let value = (disk.written()? - before) / count;
    Measured { what, value, reference: row(1).size() as f64, unit: "B/row", goal: Goal::Shown }.print();
    store.close().await?;
    Ok(std::fs::remove_file(disk.file("wear.db"))?)
}

/// How long it takes to open a file with many rows, and what they cost in memory.
async fn opening(disk: &Disk, rows: u64) -> Result<()> {
    let store = open(disk, "opening.db").await?;
    for from in (1..=rows).step_by(5000) {
        done(&store, (from..from + 5000).map(|seq| insert(0, seq)).collect()).await?;
    }
    store.close().await?;
    let resident = super::resident_mib()?;
    let (start, cpu) = (Instant::now(), cpu_s()?);
    let store = open(disk, "opening.db").await?;
    let (value, cpu) = (start.elapsed().as_secs_f64(), cpu_s()? - cpu);
    let found = store.found(Sieve::new(&Limits::default())).await;
    ensure!(found.queues.len() == 1 && found.queues[0].1.normal.rows == rows, "{:?}", found.queues);
    let what = format!("opening a file with {rows} rows, beside two seconds");
    Measured { what: &what, value, reference: 2.0, unit: "s", goal: Goal::AtMost(1.0) }.print();
    println!(
        "{rows} rows in {} bytes; {cpu:.2} s of CPU to open; resident {:.1} MiB more than before",
        store.health().file_bytes,
        super::resident_mib()? - resident
    );
    store.close().await?;
    Ok(std::fs::remove_file(disk.file("opening.db"))?)
}

/// CPU time of this process.
fn cpu_s() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(") ").context("no name")?.1.split(' ');
    // "proc_pid_stat(5)": utime and stime, ticks of 10 ms, are fields 14 and 15.
    Ok(fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

//! The store: turns of the local broker (`turns`; alone with that argument), rows appended and drained per second, and bytes that reach the disk per row, beside the row's own bytes and beside
//! SQLite with one transaction per row in the same run.
//!
//! Bytes are counted at the block device of an ext4 in a file, mounted for this run, so that file system metadata and journal are in them. Where that is
//! not allowed they are `write_bytes` of /proc/self/io, which knows no metadata; the first line says which.
//!
//! A commit every 12 ms stands for one per second: fast enough to wait for, slow enough that every sync finds a changed
//! modification time, as it does in the field.

mod turns;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use gateway_core::settings::StoreSettings;
use gateway_core::tag::{BootId, BootNs, RunId};
use gateway_core::uplink::row::{Body, Priority, Qos, QueueId, Row, Seq, StoreEvent, StoreOp};
use gateway_daemon::store::{Store, peer};
use tidegate_tests::bench::{Goal, Measured};

/// Size of the disk.
const DISK_BYTES: u64 = 1024 << 20;
/// Pause between two paced commits.
const PACE: Duration = Duration::from_millis(12);
/// Rows the peer stores: each costs a sync.
const PEER_ROWS: u64 = 300;

/// Where files lie, and how written bytes are counted.
struct Disk {
    folder: tempfile::TempDir,
    device: Option<String>,
}

impl Disk {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut disk = Self { folder, device: None };
        match disk.mount() {
            Ok(device) => {
                println!("bytes are counted at /dev/{device}, an ext4 in a file");
                disk.device = Some(device);
            }
            Err(error) => println!("bytes are write_bytes of /proc/self/io, without metadata: {error:#}"),
        }
        Ok(disk)
    }

    fn mount(&self) -> Result<String> {
        let image = self.folder.path().join("disk.img");
        std::fs::File::create(&image)?.set_len(DISK_BYTES)?;
        let at = self.path();
        std::fs::create_dir(&at)?;
        // Without a background thread that goes on making the file system while we count.
        let lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run(Command::new("mkfs.ext4").args(["-qF", "-E", lazy]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at))?;
        let source = run(Command::new("findmnt").args(["-no", "SOURCE"]).arg(&at))?;
        Ok(source.trim().trim_start_matches("/dev/").to_owned())
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A path for a fresh database.
    fn file(&self, name: &str) -> PathBuf {
        if self.device.is_some() { self.path().join(name) } else { self.folder.path().join(name) }
    }

    /// Bytes written so far; everything that waits is written first.
    fn written(&self) -> Result<f64> {
        rustix::fs::sync();
        let Some(device) = &self.device else {
            let io = std::fs::read_to_string("/proc/self/io")?;
            return Ok(io
                .lines()
                .find_map(|line| line.strip_prefix("write_bytes: "))
                .context("no write_bytes")?
                .parse()?);
        };
        // "Block layer statistics": the seventh field is sectors of 512 bytes written.
        let stat = std::fs::read_to_string(format!("/sys/block/{device}/stat"))?;
        let sectors: f64 = stat.split_whitespace().nth(6).context("no sectors written")?.parse()?;
        Ok(sectors * 512.0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.device.is_some() {
            let _ = Command::new("umount").arg(self.path()).status();
        }
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Bytes that do not repeat; nothing compresses them.
fn noise(mut state: u64) -> impl Iterator<Item = u8> {
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
}

fn row(seq: u64, body: usize) -> Arc<Row> {
    // Records differ in length, as those of readings do: a quarter more or less.
    let body =
        body - body / 4 + usize::try_from(seq.wrapping_mul(0x9E37_79B9) >> 7).unwrap_or(0) % (body / 2 + 1);
    Arc::new(Row {
        seq: Seq(seq),
        priority: Priority::Normal,
        topic: format!("plant7-line2/meter{}/1", seq % 20).into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        body: Body::Record(noise(seq).take(body).collect()),
        readings: 10,
        run: RunId { boot: BootId(0x5EED), start_ms: 12_345 },
        at: BootNs(86_400_000_000_000 + seq * 10_000_000),
        expiry_s: None,
    })
}

#[tokio::main]
async fn main() -> Result<()> {
    let disk = Disk::new()?;
    if std::env::args().any(|arg| arg == "turns") {
        return turns::run(&disk).await;
    }
    let goal = Goal::AtMost(2.0);
    // 1,000 readings per second as 100 messages of 10, as 10 messages of 100, and a small site with one message per second.
    let hundred = wear(&disk, "100 rows/s of 10 readings", (100, 65, 300), goal).await?;
    wear(&disk, "10 rows/s of 100 readings", (10, 610, 500), goal).await?;
    wear(&disk, "1 row/s of 10 readings", (1, 65, 500), Goal::Shown).await?;
    let (peer_rows_per_s, peer_bytes) = one_by_one(&disk)?;
    Measured {
        what: "bytes to disk, beside one transaction per row",
        value: hundred,
        reference: peer_bytes,
        unit: "B/row",
        goal: Goal::AtMost(0.5),
    }
    .print();
    speed(&disk, peer_rows_per_s).await?;
    turns::run(&disk).await
}

/// Stores `rows` rows per commit, paced, and reports the bytes that reach the disk per row.
async fn wear(disk: &Disk, what: &str, (rows, body, commits): (u64, usize, u64), goal: Goal) -> Result<f64> {
    let path = disk.file(&format!("wear{rows}.db"));
    let (store, queue) = open(&path).await?;
    // The first commit makes the tables; it is not what wears a card.
    commit(&store, queue, (1..=rows).map(|seq| row(seq, body)).collect()).await?;
    let before = disk.written()?;
    let counters = store.health().counters;
    let mut own = 0;
    let mut next = tokio::time::interval(PACE);
    for index in 1..=commits {
        next.tick().await;
        let batch: Vec<_> = (index * rows + 1..=(index + 1) * rows).map(|seq| row(seq, body)).collect();
        own += batch.iter().map(|row| row.size()).sum::<u64>();
        commit(&store, queue, batch).await?;
    }
    let count = (rows * commits) as f64;
    let written = (disk.written()? - before) / count;
    let encoded = (store.health().counters.row_bytes - counters.row_bytes) as f64 / count;
    println!(
        "{what}: {written:.0} bytes per row on disk, {encoded:.0} encoded, {:.0} counted",
        own as f64 / count
    );
    Measured {
        what: &format!("bytes to disk, {what}"),
        value: written,
        reference: own as f64 / count,
        unit: "B/row",
        goal,
    }
    .print();
    close(&store).await?;
    std::fs::remove_file(&path)?;
    Ok(written)
}

/// Rows per second and bytes per row of one transaction per row.
fn one_by_one(disk: &Disk) -> Result<(f64, f64)> {
    let rows: Vec<_> = (1..=PEER_ROWS).map(|seq| row(seq, 65)).collect();
    let before = disk.written()?;
    let start = Instant::now();
    let stored = peer::one_transaction_per_row(&disk.file("peer.db"), rows.iter().map(|row| &**row))
        .map_err(anyhow::Error::msg)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(stored == PEER_ROWS, "the peer stored {stored} rows");
    Ok((PEER_ROWS as f64 / seconds, (disk.written()? - before) / PEER_ROWS as f64))
}

/// Rows per second in and out, and the memory that it takes.
async fn speed(disk: &Disk, peer_rows_per_s: f64) -> Result<()> {
    const ROWS: u64 = 200_000;
    const BATCH: u64 = 500;
    let path = disk.file("speed.db");
    let (store, queue) = open(&path).await?;
    let start = Instant::now();
    for first in (1..=ROWS).step_by(500) {
        commit(&store, queue, (first..first + BATCH).map(|seq| row(seq, 65)).collect()).await?;
    }
    let appended = ROWS as f64 / start.elapsed().as_secs_f64();
    let resident = resident_mib()?;
    close(&store).await?;
    let start = Instant::now();
    let (store, queue) = open(&path).await?;
    println!("opening {ROWS} rows took {:.3} s", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let mut last = Seq(0);
    let mut drained = 0;
    loop {
        let fetch =
            StoreOp::Fetch { op: 1, after: last, until: Seq(u64::MAX), rows_max: 100, bytes_max: 1 << 20 };
        let StoreEvent::Fetched { rows, more, .. } = store.apply(queue, fetch).await else {
            bail!("fetch failed")
        };
        let Some(row) = rows.last() else { break };
        let acked = vec![(Seq(last.0 + 1), row.seq)];
        last = row.seq;
        drained += rows.len() as u64;
        let event = store.apply(queue, StoreOp::Commit { op: 2, rows: Vec::new(), acked }).await;
        ensure!(
            matches!(event, StoreEvent::Committed { deleted, .. } if deleted.rows == rows.len() as u64),
            "{event:?}"
        );
        if !more {
            break;
        }
    }
    ensure!(drained == ROWS, "{drained} rows drained");
    let drained = ROWS as f64 / start.elapsed().as_secs_f64();
    close(&store).await?;
    let against = |what: &str, value: f64, reference: f64, unit: &str, goal: Goal| {
        Measured { what, value, reference, unit, goal }.print()
    };
    against(
        "rows appended, beside one transaction per row",
        appended,
        peer_rows_per_s,
        "rows/s",
        Goal::AtLeast(10.0),
    );
    against(
        "rows drained in windows of 100, beside 10,000 per second",
        drained,
        10_000.0,
        "rows/s",
        Goal::AtLeast(1.0),
    );
    against(
        "resident memory while appending, beside the daemon's 12",
        resident,
        12.0,
        "MiB",
        Goal::AtMost(1.0),
    );
    Ok(())
}

async fn open(path: &Path) -> Result<(Store, QueueId)> {
    let store = Store::open(&StoreSettings { path: path.to_owned(), file_bytes_max: 256 << 20 }).await;
    if let Some((_, text)) = store.health().fault {
        bail!(text);
    }
    let (queue, _) = store.open_queue("cloud").await;
    Ok((store, queue))
}

async fn commit(store: &Store, queue: QueueId, rows: Vec<Arc<Row>>) -> Result<()> {
    match store.apply(queue, StoreOp::Commit { op: 1, rows, acked: Vec::new() }).await {
        StoreEvent::Committed { .. } => Ok(()),
        other => bail!("{other:?}"),
    }
}

async fn close(store: &Store) -> Result<()> {
    Ok(store.close().await?)
}

/// Resident memory of this process.
fn resident_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(kib.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

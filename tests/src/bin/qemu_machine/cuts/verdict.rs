//! What the card and the office say after a cut.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tidegate_tests::account;
use tidegate_tests::machine::{Card, Partition};
use tidegate_tests::office::Arrival;

/// Asks SQLite itself, with the log of the database beside it.
const INTEGRITY: &str = "import sqlite3, sys
answer = sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0]
print(answer)
sys.exit(answer != 'ok')";

/// Looks at the data partition as a computer would that the card is put into: the file system after its journal was replayed, and the database
/// in it. `false`: there is no database yet.
///
/// # Errors
/// One of the two is corrupt.
pub(crate) fn card_is_whole(card: &Card, dir: &Path) -> Result<bool> {
    let copy = dir.join("state.ext4");
    card.extract(Partition::State, &copy)?;
    let check = Command::new("e2fsck").arg("-fp").arg(&copy).output().context("e2fsck")?;
    let code = check.status.code().unwrap_or(-1);
    ensure!(
        code == 0 || code == 1,
        "the data partition needs a person: {}",
        String::from_utf8_lossy(&check.stdout)
    );
    let out = dir.join("state");
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&out)?;
    let dump = format!("rdump /lib/tidegate {}", out.display());
    Command::new("debugfs").args(["-R", &dump]).arg(&copy).output().context("debugfs")?;
    std::fs::remove_file(&copy)?;
    let database = out.join("tidegate/queue.db");
    if !database.exists() {
        return Ok(false);
    }
    let asked = Command::new("python3").args(["-c", INTEGRITY]).arg(&database).output().context("python3")?;
    ensure!(asked.status.success(), "the store is corrupt: {}", String::from_utf8_lossy(&asked.stdout));
    let aside: Vec<_> = std::fs::read_dir(out.join("tidegate"))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !name.starts_with("queue.db"))
        .collect();
    ensure!(aside.is_empty(), "the gateway has put files aside: {aside:?}");
    Ok(true)
}

/// The numbers that local clients published to the topic `plant/n` and that arrived.
pub(crate) fn published(arrivals: &[Arrival]) -> BTreeSet<u64> {
    arrivals.iter().filter(|one| one.topic == "plant/n").filter_map(|one| one.json.as_u64()).collect()
}

/// Which of the polls between `after` and `last` are missing, provided that they are the last ones.
///
/// # Errors
/// They are not the last ones: something that was stored is gone.
pub(crate) fn lost(arrivals: &[Arrival], after: u32, last: u32) -> Result<u64> {
    let lost: Vec<u64> =
        account::missing(arrivals, last).into_iter().filter(|number| *number > u64::from(after)).collect();
    let Some(first) = lost.first() else { return Ok(0) };
    let count = lost.len() as u64;
    ensure!(
        count == u64::from(last) - first + 1,
        "polls are lost and later ones are not: {lost:?} up to {last}"
    );
    Ok(count)
}

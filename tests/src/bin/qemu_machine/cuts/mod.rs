//! Power cuts at random moments, again and again: the gateway boots, its store is whole, and what was acknowledged or stored arrives.
//!
//! Each job is one gateway with its own card, device and cloud that lives through all its rounds. A round begins with the power, does something
//! for a while, and ends with the power; the card is then looked at from outside, and the next round shows what became of it. The disk forgets by
//! lot what was not flushed ([`tidegate_tests::machine::Disk`]), in three of four cuts.

mod life;
mod round;
pub(crate) mod verdict;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidegate_tests::machine::Image;
use tidegate_tests::sim::chance::Chance;
use tokio::task::JoinSet;

use life::Life;
use round::{Kind, Row};

/// How far apart the seeds of machines are, so that the next run with the next seed draws no lots that were drawn before.
const APART: u64 = 0x9e37_79b9_7f4a_7c15;

/// How many cuts, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    pub(crate) jobs: u64,
    pub(crate) seed: u64,
    /// No round begins after this long.
    pub(crate) time: Duration,
}

/// Runs all rounds and prints the table.
///
/// # Errors
/// Something was lost, corrupt or did not boot.
pub(crate) async fn run(image: &Path, plan: Plan) -> Result<()> {
    let image = Image::at(image)?;
    let Plan { rounds, jobs, seed, time } = plan;
    println!("seed {seed}; again: cargo xtask qemu cuts --rounds {rounds} --jobs {jobs} --seed {seed}");
    let (left, began) = (Arc::new(AtomicU64::new(rounds)), Instant::now());
    let mut set = JoinSet::new();
    for job in 0..jobs {
        set.spawn(rounds_of(
            image.clone(),
            job,
            Chance::new(seed.wrapping_add(job.wrapping_mul(APART))),
            Arc::clone(&left),
            began + time,
        ));
    }
    let mut rows = Vec::new();
    while let Some(done) = set.join_next().await {
        rows.extend(done?);
    }
    print!("{}", table(&rows));
    println!(
        "{} rounds in {} minutes, seed {seed}, {jobs} machines at once",
        rows.len(),
        began.elapsed().as_secs() / 60
    );
    let failed = rows.iter().filter(|row| row.failure.is_some()).count();
    ensure!(failed == 0, "{failed} of {} rounds failed", rows.len());
    ensure!(!rows.is_empty(), "nothing ran");
    Ok(())
}

/// Rounds of one job, until there are none left. A gateway that has failed is replaced by a fresh one.
async fn rounds_of(
    image: Image,
    job: u64,
    mut chance: Chance,
    left: Arc<AtomicU64>,
    end: Instant,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut life = None;
    while Instant::now() < end
        && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    {
        let seed = chance.draw();
        let row = match one(&image, &mut life, seed).await {
            Ok(row) => row,
            Err(error) => {
                life = None;
                Row::failed(seed, format!("{error:#}"))
            }
        };
        println!("job {job}, round {}: {row}", rows.len() + 1);
        rows.push(row);
    }
    // The last cut of a life has no next round that shows what became of it.
    if let Some(mut life) = life {
        let seed = chance.draw();
        match life.finish().await {
            Ok(text) => println!("job {job}, after its last cut: {text}"),
            Err(error) => rows.push(Row::failed(seed, format!("after the last cut: {error:#}"))),
        }
    }
    rows
}

async fn one(image: &Image, life: &mut Option<Life>, seed: u64) -> Result<Row> {
    if life.is_none() {
        *life = Some(Life::begin(image).await?);
    }
    let mut chance = Chance::new(seed);
    match life {
        Some(life) => life.round(seed, &mut chance).await,
        None => anyhow::bail!("no life"),
    }
}

/// What came of the rounds, by what the gateway did when the power went.
fn table(rows: &[Row]) -> String {
    let mut kinds: BTreeMap<Kind, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        kinds.entry(row.kind).or_default().push(row);
    }
    let mut text = String::from(
        "\n  while      rounds  failed  sectors not flushed   polls lost per cut   boot to running, s\n\
         \x20                            median     most       median     most      median     most\n",
    );
    for (kind, rows) in kinds {
        let failed = rows.iter().filter(|row| row.failure.is_some()).count();
        let of = |pick: fn(&Row) -> Option<u64>| spread(rows.iter().filter_map(|row| pick(row)).collect());
        let (sectors, lost, boot) = (of(|row| row.sectors), of(|row| row.lost), of(|row| row.boot_s));
        text.push_str(&format!(
            "  {:<10} {:>6}  {:>6}  {:>9}  {:>7}    {:>9}  {:>7}   {:>9}  {:>7}\n",
            kind.word(),
            rows.len(),
            failed,
            sectors.0,
            sectors.1,
            lost.0,
            lost.1,
            boot.0,
            boot.1
        ));
    }
    for row in rows {
        if let Some(failure) = &row.failure {
            text.push_str(&format!("  FAILED, seed {}: {failure}\n", row.seed));
        }
    }
    text
}

fn spread(mut values: Vec<u64>) -> (String, String) {
    values.sort_unstable();
    let text = |value: Option<&u64>| value.map_or_else(|| "-".to_owned(), u64::to_string);
    (text(values.get(values.len() / 2)), text(values.last()))
}

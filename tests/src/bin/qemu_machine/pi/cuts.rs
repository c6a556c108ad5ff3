//! Power cuts at each step of an update.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidegate_tests::machine::{BOOT_MAX, Image, Loss};
use tidegate_tests::sim::chance::Chance;

use super::board::{Pi, RUNNING};

/// Where the power goes: up to so many milliseconds after something was said on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// RAUC looks through both roots for blocks that it has, and writes the new one.
    Root,
    /// The same, of the boot partition.
    Boot,
    /// All is written, and the restart comes.
    Installed,
    /// The system shuts down.
    ShuttingDown,
    /// The kernel on trial starts.
    Kernel,
    /// The system on trial is at work and not yet kept.
    Trial,
    /// It is being kept.
    Keeping,
    /// It has just been kept.
    Kept,
}

use Step::{Boot, Installed, Keeping, Kept, Kernel, Root, ShuttingDown, Trial};

const STEPS: [Step; 8] = [Root, Boot, Installed, ShuttingDown, Kernel, Trial, Keeping, Kept];

impl Step {
    /// Most milliseconds after the sign.
    fn most_ms(self) -> u64 {
        match self {
            Root => 20_000,
            Boot => 6_000,
            Installed | ShuttingDown => 3_000,
            Kernel => 20_000,
            Trial => 6_000,
            Keeping => 2_000,
            Kept => 1_000,
        }
    }
}

/// One card lives through all steps, `rounds` times.
pub(crate) async fn run(image: &Path, rounds: u64, seed: u64) -> Result<()> {
    let image = Image::at(image)?;
    println!("seed {seed}; again: cargo xtask qemu pi cuts --rounds {rounds} --seed {seed}");
    let mut chance = Chance::new(seed);
    let mut pi = Pi::new(&image, super::newest(&image)).await?;
    pi.power().await?;
    let mut kept = 'A';
    pi.runs(kept).await?;
    for round in 1..=rounds {
        for step in STEPS {
            let ms = chance.of(0..=step.most_ms());
            let lot = Loss::ByLot(chance.draw());
            let loss = chance.pick(&[Loss::Nothing, Loss::All, lot, lot]);
            let what = format!("round {round}, {step:?} and {ms} ms, {loss:?}, from slot {kept}");
            let cut = one(&mut pi, step, Duration::from_millis(ms), loss, kept);
            let (runs, sectors) = cut.await.with_context(|| what.clone())?;
            println!("  {what}: slot {runs} runs; {sectors} sectors had not been flushed");
            kept = runs;
        }
    }
    pi.updates("update.raucb").await?;
    pi.runs(other(kept)).await?;
    pi.is_kept().await?;
    pi.cut(Loss::Nothing).await?;
    let cuts = rounds * STEPS.len() as u64;
    println!("{cuts} cuts, seed {seed}: a system ran after each, and an update afterwards is kept");
    Ok(())
}

/// An update whose power goes at a step: which slot runs afterwards, and how many sectors had not been flushed.
async fn one(pi: &mut Pi, step: Step, pause: Duration, loss: Loss, kept: char) -> Result<(char, usize)> {
    let mark = pi.machine()?.console.mark();
    pi.installs("update.raucb").await?;
    reach(pi, step, mark).await?;
    tokio::time::sleep(pause).await;
    let sectors = pi.cut(loss).await?;
    pi.power().await?;
    let runs = if pi.started()?.partition == 2 { 'A' } else { 'B' };
    let may: &[char] = match step {
        Keeping => &[kept, other(kept)],
        Kept => &[other(kept)],
        _ => &[kept],
    };
    ensure!(may.contains(&runs), "slot {runs} runs, expected {may:?}");
    pi.runs(runs).await?;
    Ok((runs, sectors))
}

/// Waits for the sign of a step, of which the first has come.
async fn reach(pi: &mut Pi, step: Step, mark: usize) -> Result<()> {
    let machine = pi.machine()?;
    let said = match step {
        Root => return Ok(()),
        Boot => "Updating slot boot.",
        Installed => "` succeeded",
        ShuttingDown => "Stopping tidegate.service",
        Kernel | Trial | Keeping | Kept => return tried(pi, step).await,
    };
    machine.console.wait_after(mark, said, BOOT_MAX).await.map(|_| ())
}

/// The same, of the system on trial.
async fn tried(pi: &mut Pi, step: Step) -> Result<()> {
    pi.restarts().await?;
    let said = match step {
        Trial => RUNNING,
        Keeping => "Starting tidegate-mark-good.service",
        Kept => "Finished tidegate-mark-good.service",
        _ => return Ok(()),
    };
    pi.machine()?.console.wait(said, BOOT_MAX).await.map(|_| ())
}

fn other(slot: char) -> char {
    if slot == 'A' { 'B' } else { 'A' }
}

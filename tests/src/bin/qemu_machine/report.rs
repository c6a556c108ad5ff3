//! The figures of the test machine. All times are of an emulated processor that shares its host: read them against each other.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tidegate_tests::machine::{BOOT_MAX, Card, Image, Machine, Start};
use tidegate_tests::office::Arrival;

use crate::world::World;

/// Cards whose first and second boot are measured: what else the host does is in the figures, least of it in the least.
const CARDS: usize = 3;

/// One boot, from power to the first reading.
struct Boot {
    machine: Machine,
    kernel: Duration,
    reading: Duration,
    cpu: Duration,
}

pub(crate) async fn print(image: &Path) -> Result<()> {
    let image = Image::at(image)?;
    if !image.is_product() {
        sizes(&image);
    }
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for number in 1..=CARDS {
        let world = World::new().await?;
        let card = world.card(&image)?;
        card.configure(&world.config("1s"))?;
        let fresh = boot(&world, &card).await?;
        first.push(fresh.cpu);
        fresh.machine.power_off().await?;
        let mut again = boot(&world, &card).await?;
        later.push(again.cpu);
        if number == CARDS {
            last(&mut again).await?;
        }
        again.machine.power_off().await?;
    }
    println!("CPU of the host from power to the first reading, {CARDS} cards:");
    println!("  first boot          {}", spread(&mut first));
    println!("  later boot          {}", spread(&mut later));
    Ok(())
}

async fn boot(world: &World, card: &Card) -> Result<Boot> {
    // What the boot before has left in the queue is no reading of this one.
    let run = |one: &Arrival| one.number().map(|(run, _)| run);
    let before: BTreeSet<String> = world.office.arrivals().iter().filter_map(run).collect();
    let machine = Machine::start(card, &Start::default()).await?;
    let (kernel, _) = machine.console.wait("Starting kernel", BOOT_MAX).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let seen = |all: &[Arrival]| {
        let fresh = |one: &&Arrival| run(one).is_some_and(|run| !before.contains(&run));
        all.iter().filter(fresh).any(|one| one.value("count0").is_some())
    };
    world.office.wait_for("a reading", seen).await.with_context(|| machine.console.tail())?;
    let (reading, cpu) = (machine.began.elapsed(), machine.cpu()?);
    Ok(Boot { kernel: kernel - machine.began, reading, cpu, machine })
}

/// What a running machine tells of itself.
async fn last(boot: &mut Boot) -> Result<()> {
    let shell = &mut boot.machine.shell;
    let times = shell.run("systemctl show -P UserspaceTimestampMonotonic").await?;
    let micros: f64 = times.trim().parse().with_context(|| format!("the start of systemd is {times:?}"))?;
    let (init, published) = (micros / 1e6, (boot.reading - boot.kernel).as_secs_f64());
    println!("power to kernel       {:.1} s", boot.kernel.as_secs_f64());
    println!("kernel to /sbin/init  {init:.1} s");
    println!(
        "kernel to 1st reading {published:.1} s, {:.1} times the kernel's own part",
        published / init.max(0.1)
    );
    let chain = shell.run("systemd-analyze critical-chain --no-pager tidegate.service").await?;
    let blame = shell.run("systemd-analyze blame --no-pager | head -n 20").await?;
    let memory = "awk '/^(MemTotal|MemAvailable)/ {print $1, int($2 / 1024), \"MiB\"}' /proc/meminfo";
    let memory = shell.run(memory).await?;
    let gateway = shell.run("systemctl show -P MemoryCurrent tidegate").await?;
    println!("memory at rest        {}", memory.trim().replace('\n', ", "));
    let gateway = gateway.trim();
    println!("  of the gateway      {}", gateway.parse().map_or_else(|_| gateway.to_owned(), mib));
    println!("what the gateway waited for:\n{chain}what took longest:\n{blame}");
    Ok(())
}

/// Least, median and most.
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |index: usize| times.get(index).map_or(0.0, Duration::as_secs_f64);
    format!(
        "{:.1} s at least, {:.1} s in the median, {:.1} s at most",
        at(0),
        at(times.len() / 2),
        at(times.len().saturating_sub(1))
    )
}

/// Of the test machine's own image; `cargo xtask image --report` prints those of Buildroot's.
fn sizes(image: &Image) {
    let size = |name: &str| std::fs::metadata(image.folder().join(name)).map_or(0, |meta| meta.len());
    let packages = std::fs::read_to_string(image.folder().join("packages")).unwrap_or_default();
    println!("packages              {}", packages.lines().count());
    println!("root file system      {}", mib(size("rootfs.ext4")));
    println!("update bundle         {} (signed, verity, compressed)", mib(size("update.raucb")));
    println!("program               {}", mib(size("root/usr/bin/gateway-daemon")));
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

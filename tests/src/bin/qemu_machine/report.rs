//! The figures of the test machine. All times are of an emulated processor that shares its host: read them against each other.

use std::path::Path;

use anyhow::{Context as _, Result};
use tidegate_tests::machine::{BOOT_MAX, Image, Machine, Start};

use crate::world::World;

pub(crate) async fn print(image: &Path) -> Result<()> {
    let image = Image::at(image)?;
    if !image.is_product() {
        sizes(&image);
    }
    let world = World::new().await?;
    let card = world.card(&image)?;
    card.configure(&world.config("1s"))?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    let (kernel, _) = machine.console.wait("Starting kernel", BOOT_MAX).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let seen =
        world.office.wait_for("a reading", |all| all.iter().any(|one| one.value("count0").is_some())).await;
    seen.with_context(|| machine.console.tail())?;
    let (published, cpu) = (kernel.elapsed(), machine.cpu()?);
    let times = machine.shell.run("systemctl show -P UserspaceTimestampMonotonic").await?;
    let micros: f64 = times.trim().parse().with_context(|| format!("the start of systemd is {times:?}"))?;
    let init = micros / 1e6;
    println!("power to kernel       {:.1} s", (kernel - machine.began).as_secs_f64());
    println!("kernel to /sbin/init  {init:.1} s");
    println!(
        "kernel to 1st reading {:.1} s, {:.1} times the kernel's own part; {:.1} s of CPU of the host since power-on",
        published.as_secs_f64(),
        published.as_secs_f64() / init.max(0.1),
        cpu.as_secs_f64()
    );
    let blame = machine.shell.run("systemd-analyze blame --no-pager | head -n 12").await?;
    let memory = machine
        .shell
        .run("awk '/^(MemTotal|MemAvailable)/ {print $1, int($2 / 1024), \"MiB\"}' /proc/meminfo")
        .await?;
    let gateway = machine.shell.run("systemctl show -P MemoryCurrent tidegate").await?;
    println!("memory at rest        {}", memory.trim().replace('\n', ", "));
    let gateway = gateway.trim();
    println!("  of the gateway      {}", gateway.parse().map_or_else(|_| gateway.to_owned(), mib));
    println!("what took longest:\n{blame}");
    machine.power_off().await
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

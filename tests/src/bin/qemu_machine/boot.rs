//! From power-on to the first reading.

use anyhow::{Context as _, Result, ensure};
use tidegate_tests::machine::{BOOT_MAX, Image, Loss, Machine, STEP_MAX, Start};
use tidegate_tests::office::Arrival;

use crate::cuts::verdict;
use crate::world::World;

/// Cold boot of a card that has its configuration; the figures are of this run, under emulation.
pub(crate) async fn a_configured_card_boots_and_publishes_its_first_reading(image: Image) -> Result<()> {
    let world = World::new().await?;
    let card = world.card(&image)?;
    card.configure(&world.config("1s"))?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    let (kernel, _) = machine.console.wait("Starting kernel", BOOT_MAX).await?;
    let (_, line) = machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let arrivals =
        world.office.wait_for("a reading", |all| all.iter().any(|one| one.value("count0").is_some())).await;
    let arrivals = arrivals.with_context(|| machine.console.tail())?;
    let first = arrivals.iter().find_map(|one| one.value("count0")).context("no value")?;
    println!(
        "  kernel after {:.1} s, first reading ({first}) after {:.1} s, {:.1} s of CPU; the guest's own clock: {}",
        (kernel - machine.began).as_secs_f64(),
        machine.began.elapsed().as_secs_f64(),
        machine.cpu()?.as_secs_f64(),
        line.split(']').next().unwrap_or_default().trim_start_matches('[').trim()
    );
    sandboxed(&mut machine).await?;
    limited(&mut machine).await?;
    machine.cut(Loss::Nothing).await?;
    Ok(())
}

/// What the unit asks for is what the kernel does: a systemd that was built without a filter of system calls leaves it out without a word.
async fn sandboxed(machine: &mut Machine) -> Result<()> {
    let status = machine.shell.run("cat /proc/$(systemctl show -P MainPID tidegate)/status").await?;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    ensure!(field("Seccomp:") == "2", "no system call is filtered: {status}");
    ensure!(field("NoNewPrivs:") == "1", "it could get more rights: {status}");
    ensure!(field("CapEff:").bytes().all(|digit| digit == b'0'), "it has capabilities: {status}");
    ensure!(!field("Uid:").starts_with('0'), "it runs as root: {status}");
    let exposure =
        machine.shell.ask("systemd-analyze security --no-pager --threshold=15 tidegate.service").await?;
    ensure!(exposure.code == 0, "its exposure is above 1.5: {}", exposure.text);
    Ok(())
}

/// What the unit says of memory the kernel enforces: who takes more in there is ended, the gateway is started again, and nobody else has noticed.
async fn limited(machine: &mut Machine) -> Result<()> {
    const OTHERS: &str =
        "systemctl show -P MainPID systemd-networkd systemd-resolved systemd-journald systemd-udevd dbus";
    let folder = machine.shell.run("echo /sys/fs/cgroup$(systemctl show -P ControlGroup tidegate)").await?;
    let folder = folder.trim().to_owned();
    let number = async |machine: &mut Machine, line: &str| -> Result<u64> {
        let said = machine.shell.run(line).await?;
        said.trim().parse().with_context(|| format!("`{line}` says {said:?}"))
    };
    let total = number(machine, "awk '/^MemTotal/ {print $2 * 1024}' /proc/meminfo").await?;
    let most = number(machine, &format!("cat {folder}/memory.max")).await?;
    // The kernel counts in pages.
    ensure!(most.abs_diff(total * 60 / 100) < 1 << 20, "memory.max is {most} of {total}, expected 60 %");
    ensure!(number(machine, &format!("cat {folder}/memory.swap.max")).await? == 0, "it may swap");
    let others = machine.shell.run(OTHERS).await?;
    let mark = machine.console.mark();
    let greedy = format!("sh -c 'echo $$ >{folder}/cgroup.procs; exec tail /dev/zero'");
    let ended = machine.shell.ask(&greedy).await?;
    ensure!(ended.code == 128 + 9, "who took all memory ended with {}: {}", ended.code, ended.text);
    machine.console.wait_after(mark, "uplink cloud: connected", STEP_MAX).await?;
    let after = machine.shell.run(OTHERS).await?;
    ensure!(others == after, "others were ended as well: {others:?} became {after:?}");
    Ok(())
}

/// From the computer at a desk to the cloud, then the power goes; everything that was acknowledged or stored is there afterwards.
pub(crate) async fn a_card_with_a_dropped_file_publishes_its_first_reading_and_survives_a_power_cut(
    image: Image,
) -> Result<()> {
    let world = World::new().await?;
    let card = world.card(&image)?;
    card.drop_file("gateway.toml", world.config("1s").as_bytes())?;
    let machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let reading =
        world.office.wait_for("a reading", |all| all.iter().any(|one| one.value("count0").is_some())).await;
    reading.with_context(|| machine.console.tail())?;
    let seconds = machine.began.elapsed().as_secs();
    let sectors = machine.cut(Loss::ByLot(1)).await?;
    println!("  first reading after {seconds} s; {sectors} sectors had not been flushed when the power went");
    verdict::card_is_whole(&card, world.dir.path())?;
    let before = world.device.quiet().await?;
    let machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let later =
        |all: &[Arrival]| all.iter().filter_map(|one| one.value("count0")).any(|count| count > before.into());
    world.office.wait_for("a reading after the cut", later).await.with_context(|| machine.console.tail())?;
    let lost = verdict::lost(&world.office.arrivals(), 0, before)?;
    println!("  the cut has cost {lost} of {before} polls");
    machine.cut(Loss::Nothing).await?;
    Ok(())
}

//! `cargo xtask qemu`: the test machine, its system tests and its power cuts.
//!
//! What the image consists of is hashed; nothing that has not changed is made again. The programs that drive the machine are in the tests
//! package (`qemu_machine`).

mod image;
mod setup;

use std::path::Path;

use anyhow::{Result, ensure};

use self::image::Board;
use crate::apt::Install;
use crate::args::{Qemu, QemuTask};
use crate::needs;
use crate::steps::{Steps, cargo, command, root, run};

/// Runs one of the tasks.
///
/// # Errors
/// Something is missing, cannot be made, or fails.
pub(crate) fn run_task(args: &Qemu) -> Result<()> {
    setup::set_up(Install::Allowed)?;
    if let QemuTask::Pi { name, rpi5, rounds, seed } = &args.task {
        let board = if *rpi5 { Board::Rpi5 } else { Board::Rpi64 };
        return pi(args, board, name.as_deref(), *rounds, seed.unwrap_or_else(some_seed));
    }
    let image = match &args.images {
        Some(images) => image::open(images, args.fresh)?,
        None => image::make(Board::Qemu, args.daemon.as_deref(), args.fresh)?,
    };
    match &args.task {
        QemuTask::Pi { .. } => {}
        QemuTask::Image => println!("{}", image.display()),
        QemuTask::Run => return console(&image),
        QemuTask::Test { name } => machine(&image, "test", &[name.as_deref().unwrap_or_default()])?,
        QemuTask::Report => machine(&image, "report", &[])?,
        QemuTask::Cuts { rounds, jobs, seed, minutes } => {
            let seed = seed.unwrap_or_else(some_seed);
            let words = [*rounds, *jobs, seed, *minutes].map(|number| number.to_string());
            machine(&image, "cuts", &words.each_ref().map(String::as_str))?;
        }
    }
    Ok(())
}

fn some_seed() -> u64 {
    u64::from(std::process::id())
}

/// Lives of a card in a Raspberry Pi whose firmware is played.
fn pi(args: &Qemu, board: Board, name: Option<&str>, rounds: u64, seed: u64) -> Result<()> {
    ensure!(
        args.images.is_none(),
        "the card of a Raspberry Pi is made of Debian's packages only: leave out --images"
    );
    let image = image::make(board, args.daemon.as_deref(), args.fresh)?;
    let cuts = name.is_none_or(|name| name == "cuts");
    if name != Some("cuts") {
        machine(&image, "pi", &[name.unwrap_or_default()])?;
    }
    if cuts {
        machine(&image, "pi-cuts", &[&rounds.to_string(), &seed.to_string()])?;
    }
    Ok(())
}

/// The step of `cargo xtask test`: what fits into its time.
pub(crate) fn test(steps: &mut Steps, install: Install) {
    const STEP: &str = "the QEMU test machine: first boot, one power cut";
    if let (Err(why), Install::Never) = (setup::present(), install) {
        steps.skip(STEP, &format!("{why:#}"));
        return;
    }
    steps.run(STEP, || {
        setup::set_up(install)?;
        let image = image::make(Board::Qemu, None, false)?;
        machine(&image, "short", &[])
    });
    steps.run("a Raspberry Pi, its firmware played: an update tried and kept", || {
        let image = image::make(Board::Rpi64, None, false)?;
        machine(&image, "pi-short", &[])
    });
}

/// The figures of a running image that was made elsewhere.
pub(crate) fn report(steps: &mut Steps, image: &Path) {
    const STEP: &str = "figures of the running machine";
    match setup::present() {
        Ok(()) => steps.run(STEP, || machine(image, "report", &[])),
        Err(why) => steps.skip(STEP, &format!("{why:#}")),
    }
}

fn machine(image: &Path, task: &str, words: &[&str]) -> Result<()> {
    let mut program =
        cargo(&["run", "--quiet", "--package", "tidegate-tests", "--bin", "qemu_machine", "--", task]);
    program.arg(image).args(words.iter().filter(|word| !word.is_empty()));
    run(program)
}

/// The machine in this terminal, with a card of its own that stays: the serial console with the journal. Ctrl-A x ends it.
fn console(image: &Path) -> Result<()> {
    let card = root().join("target/qemu/card.img");
    if !card.exists() {
        run(copy(image, &card))?;
    }
    println!("    card: {} (delete it for a fresh one); Ctrl-A x ends", card.display());
    let mut qemu = command("qemu-system-aarch64", &["-M", "virt", "-nographic", "-bios", needs::U_BOOT]);
    qemu.args(include_str!("../../tests/qemu/machine").split_whitespace());
    qemu.arg("-drive").arg(format!("if=none,id=card,format=raw,file={}", card.display()));
    qemu.args(["-device", "nvme,drive=card,serial=TIDEGATE0001", "-device", "virtio-rng-pci"]);
    qemu.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
    qemu.stdin(std::process::Stdio::inherit());
    run(qemu)
}

fn copy(image: &Path, card: &Path) -> std::process::Command {
    let mut copy = command("cp", &["--sparse=always"]);
    copy.arg(image.join("card.img")).arg(card);
    copy
}

//! `cargo xtask qemu`: the test machine, its system tests and its power cuts.
//!
//! What the image consists of is hashed; nothing that has not changed is made again. The programs that drive the machine are in the tests
//! package (`qemu_machine`).

mod image;
mod setup;

use std::path::Path;

use anyhow::Result;

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
    let image = match &args.images {
        Some(images) => image::open(images, args.fresh)?,
        None => image::make(args.daemon.as_deref(), args.fresh)?,
    };
    match &args.task {
        QemuTask::Image => println!("{}", image.display()),
        QemuTask::Run => return console(&image),
        QemuTask::Test { name } => machine(&image, "test", &[name.as_deref().unwrap_or_default()])?,
        QemuTask::Report => machine(&image, "report", &[])?,
        QemuTask::Cuts { rounds, jobs, seed, minutes } => {
            let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
            let words = [*rounds, *jobs, seed, *minutes].map(|number| number.to_string());
            machine(&image, "cuts", &words.each_ref().map(String::as_str))?;
        }
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
        let image = image::make(None, false)?;
        machine(&image, "short", &[])
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
    let mut qemu = command("qemu-system-aarch64", &["-M", "virt", "-cpu", "max,pauth=off,sve=off,sme=off"]);
    qemu.args(["-m", "512", "-nographic", "-bios", needs::U_BOOT]);
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

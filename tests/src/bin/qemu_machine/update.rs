//! Updates: installed from a web server, refused, undone, and cut in the middle.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use tidegate_tests::machine::{BOOT_MAX, Image, Loss, Machine, STEP_MAX, Start};

use crate::shelf::Shelf;
use crate::world::World;

/// What RAUC says on the console when it has looked at the bundle and begins with the slot.
const BEGINS: &str = "/rootfs.img";

/// The same when the root is written and the boot partition is next.
const HALF: &str = "/boot.img";

/// Where the daemon lies.
const DAEMON: &str = "/usr/bin/gateway-daemon";

pub(crate) const BOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../buildroot/board/tidegate");

/// Most of a bundle that is loaded when only the daemon has changed. What was measured stands in docs/qemu.md.
const SHARE_MAX: f64 = 0.25;

/// Slot A runs, the bundle comes over HTTP into B, B starts on trial, passes its health gate and is good. Only the daemon is another one, and what A has
/// of it is not loaded.
pub(crate) async fn an_update_from_a_url_is_tried_passes_its_gate_and_stays(image: Image) -> Result<()> {
    let world = World::new().await?;
    let shelf = Shelf::open(world.dir.path()).await?;
    let root = world.dir.path().join("newer");
    newer(&image, &root)?;
    bundle(&root, &image, &world.dir.path().join("update.raucb"), &[])?;
    let card = world.card(&image)?;
    card.configure(&world.config("1s"))?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    slot(&mut machine, "A").await?;
    let mark = machine.console.mark();
    install(&mut machine, shelf.port, "update.raucb").await?;
    machine.console.wait_after(mark, "Tidegate: slot B tidegate.trial", BOOT_MAX).await?;
    let share = shelf.share("update.raucb", 0)?;
    ensure!(
        share < SHARE_MAX,
        "an update of the daemon alone has loaded {:.0} % of the bundle",
        100.0 * share
    );
    machine.console.wait_after(mark, "Finished tidegate-mark-good.service", BOOT_MAX).await?;
    let left = variable(&mut machine, "BOOT_B_LEFT").await?;
    ensure!(left == "3", "B is not marked good: BOOT_B_LEFT={left}");
    slot(&mut machine, "B").await?;
    machine.power_off().await?;
    let machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("Tidegate: slot B", BOOT_MAX).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    machine.cut(Loss::Nothing).await?;
    Ok(())
}

/// Signed by a stranger, and made for another board: refused with the reason, and nothing has changed.
pub(crate) async fn a_foreign_signature_and_another_board_are_refused(image: Image) -> Result<()> {
    let world = World::new().await?;
    let shelf = Shelf::open(world.dir.path()).await?;
    let keys = world.dir.path().join("stranger");
    sh(Command::new(format!("{BOARD}/rauc/pki.sh")).arg(&keys))?;
    bundle(
        &image.root(),
        &image,
        &world.dir.path().join("stranger.raucb"),
        &["--keys", &keys.display().to_string()],
    )?;
    bundle(
        &image.root(),
        &image,
        &world.dir.path().join("board.raucb"),
        &["--compatible", "tidegate-rpi64"],
    )?;
    let card = world.card(&image)?;
    card.configure(&world.config("1s"))?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    for (name, reason) in [("stranger.raucb", "bad-signature"), ("board.raucb", "wrong-board")] {
        let said = machine.shell.ask(&command(shelf.port, name)).await?;
        ensure!(said.code == 1, "{name} ended with {}: {}", said.code, said.text);
        println!("  {name} ({reason}): {}", said.text.trim().lines().last().unwrap_or_default());
    }
    let order = variable(&mut machine, "BOOT_ORDER").await?;
    ensure!(order.starts_with('A'), "the order is {order}");
    again(&mut machine, &image, &world, &shelf).await?;
    machine.cut(Loss::Nothing).await?;
    Ok(())
}

/// Two systems as the boards have them, in EROFS, one after the other into the slot that does not run; nothing of the second one's daemon is that of the
/// first. This machine could not start them: its kernel has no EROFS of its own.
async fn again(machine: &mut Machine, image: &Image, world: &World, shelf: &Shelf) -> Result<()> {
    let tree = world.dir.path().join("tree");
    sh(Command::new("cp").args(["-a", "--reflink=auto"]).arg(image.files()).arg(&tree))?;
    let daemon = tree.join(DAEMON.trim_start_matches('/'));
    for name in ["first", "second"] {
        let root = world.dir.path().join(name);
        sh(Command::new(format!("{BOARD}/erofs.sh")).arg(&tree).arg(&root))?;
        bundle(&root, image, &world.dir.path().join(format!("{name}.raucb")), &[])?;
        let other: Vec<u8> = std::fs::read(&daemon)?.into_iter().map(|byte| byte ^ 0x5a).collect();
        std::fs::write(&daemon, other)?;
    }
    let mut shares = [1.0; 2];
    for (share, name) in shares.iter_mut().zip(["first.raucb", "second.raucb"]) {
        let before = shelf.served();
        machine.shell.run(&format!("rauc install http://10.0.2.2:{}/{name}", shelf.port)).await?;
        *share = shelf.share(name, before)?;
    }
    ensure!(
        shares[0] > SHARE_MAX,
        "the first one was loaded to {:.0} %: nothing is shown",
        100.0 * shares[0]
    );
    ensure!(shares[1] < SHARE_MAX, "the second one was loaded to {:.0} %", 100.0 * shares[1]);
    Ok(())
}

/// A system whose gateway does not run fails its gate and is left by itself; the old one says so.
pub(crate) async fn a_system_whose_gateway_fails_is_left_by_itself(image: Image) -> Result<()> {
    let world = World::new().await?;
    let shelf = Shelf::open(world.dir.path()).await?;
    let bad = world.dir.path().join("bad");
    broken(&image, &bad)?;
    bundle(&bad, &image, &world.dir.path().join("bad.raucb"), &[])?;
    let card = world.card(&image)?;
    card.configure(&world.config("1s"))?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let mark = machine.console.mark();
    install(&mut machine, shelf.port, "bad.raucb").await?;
    machine.console.wait_after(mark, "Tidegate: slot B tidegate.trial", BOOT_MAX).await?;
    machine.console.wait_after(mark, "Tidegate: slot A", 2 * BOOT_MAX).await?;
    machine.console.wait_after(machine.console.mark(), "uplink cloud: connected", BOOT_MAX).await?;
    let fault = "for i in $(seq 200); do [ -e /run/tidegate-faults/update-rolled-back ] && break; sleep 1; done; \
                 ls /run/tidegate-faults; cat /run/tidegate-faults/* 2>&1 || true";
    let fault = machine.shell.run(fault).await?;
    println!("  what the old system says: {}", fault.trim());
    ensure!(fault.contains("update-rolled-back"), "it does not say that the update was undone");
    machine.cut(Loss::Nothing).await?;
    Ok(())
}

/// The power goes between the root of slot B and its boot partition: A runs, as if nothing had been.
pub(crate) async fn a_power_cut_in_the_middle_of_an_update_leaves_the_old_system(image: Image) -> Result<()> {
    let (world, shelf) = (World::new().await?, Shelf::open(image.folder()).await?);
    let card = world.card(&image)?;
    card.configure(&world.config("1s"))?;
    let mut machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    let mark = machine.console.mark();
    install(&mut machine, shelf.port, "update.raucb").await?;
    machine.console.wait_after(mark, HALF, BOOT_MAX).await?;
    let sectors = machine.cut(Loss::ByLot(1)).await?;
    println!("  {sectors} sectors had not been flushed");
    let mut machine = Machine::start(&card, &Start::default()).await?;
    machine.console.wait("uplink cloud: connected", BOOT_MAX).await?;
    slot(&mut machine, "A").await?;
    machine.cut(Loss::Nothing).await?;
    Ok(())
}

fn command(port: u16, name: &str) -> String {
    format!("gateway-daemon update http://10.0.2.2:{port}/{name}")
}

/// Has it installed, and leaves the restart to the gateway.
async fn install(machine: &mut Machine, port: u16, name: &str) -> Result<()> {
    let mark = machine.console.mark();
    machine.shell.run(&format!("{} >/run/update.log 2>&1 &", command(port, name))).await?;
    if let Err(fault) = machine.console.wait_after(mark, BEGINS, STEP_MAX).await {
        bail!("{fault:#}; the update says: {}", machine.shell.run("cat /run/update.log").await?);
    }
    Ok(())
}

async fn slot(machine: &mut Machine, name: &str) -> Result<()> {
    let said = machine.shell.run("cat /proc/cmdline").await?;
    ensure!(said.contains(&format!("rauc.slot={name}")), "not slot {name}: {said}");
    Ok(())
}

async fn variable(machine: &mut Machine, name: &str) -> Result<String> {
    Ok(machine.shell.run(&format!("fw_printenv -n {name} 2>/dev/null")).await?.trim().to_owned())
}

pub(crate) fn bundle(root: &Path, image: &Image, out: &Path, more: &[&str]) -> Result<()> {
    let mut mkbundle = Command::new(format!("{BOARD}/rauc/mkbundle.sh"));
    mkbundle.args(["--machine", image.machine(), "--boot"]).arg(image.boot()).arg("--root").arg(root);
    sh(mkbundle.arg("--out").arg(out).args(more))
}

/// A copy of the root whose gateway ends at once.
pub(crate) fn broken(image: &Image, out: &Path) -> Result<()> {
    let script = "#!/bin/sh\n[ \"$1\" != run ] || exit 1\nexec /usr/bin/gateway-daemon.real \"$@\"\n";
    replaced(image, out, script.as_bytes())
}

/// A copy of the root with another daemon, which does the same.
fn newer(image: &Image, out: &Path) -> Result<()> {
    let daemon = std::fs::read(image.files().join(DAEMON.trim_start_matches('/')))?;
    replaced(image, out, &[&daemon, &b"a newer version!"[..]].concat())
}

/// A copy of the root with this daemon; the one before stays beside it, as `gateway-daemon.real`.
fn replaced(image: &Image, out: &Path, bytes: &[u8]) -> Result<()> {
    let program: PathBuf = out.with_extension("program");
    std::fs::write(&program, bytes)?;
    let place = DAEMON;
    if image.root().extension().is_some_and(|name| name == "erofs") {
        let tree = out.with_extension("tree");
        sh(Command::new("cp").args(["-a", "--reflink=auto"]).arg(image.files()).arg(&tree))?;
        let inside = tree.join(place.trim_start_matches('/'));
        sh(Command::new("mv").arg(&inside).arg(inside.with_extension("real")))?;
        sh(Command::new("install").args(["-m", "0755"]).arg(&program).arg(&inside))?;
        return sh(Command::new(format!("{BOARD}/erofs.sh")).arg(&tree).arg(out));
    }
    std::fs::copy(image.root(), out)?;
    let script = out.with_extension("script");
    let lines = format!(
        "ln {place} {place}.real\nunlink {place}\nwrite {} {place}\nsif {place} mode 0100755\n",
        program.display()
    );
    std::fs::write(&script, lines)?;
    sh(Command::new("debugfs").args(["-w", "-f"]).arg(&script).arg(out))
}

pub(crate) fn sh(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

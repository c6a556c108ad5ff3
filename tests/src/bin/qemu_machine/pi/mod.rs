//! `cargo xtask qemu pi`: lives of a card in a Raspberry Pi whose firmware is played (docs/decisions/0061) around the kernel, systemd, RAUC and scripts of the
//! image as they are.

mod board;
mod bundle;
pub(crate) mod cuts;

use anyhow::{Result, ensure};
use tidegate_tests::firmware::{Board, Day, Model};
use tidegate_tests::machine::{Image, Loss};

use board::Pi;

/// A board of the newest day that takes the card of an image.
fn newest(image: &Image) -> Board {
    Board::new(if image.machine() == "rpi5" { Model::Pi5 } else { Model::Pi4 })
}

/// One of another loader, where the card fits several.
fn another(image: &Image) -> Board {
    Board::new(if image.machine() == "rpi5" { Model::Cm5 } else { Model::Pi3 })
}

/// A life that fits into the time of a merge: an update is tried and kept, and the line ends of Windows change nothing.
pub(crate) async fn an_update_is_tried_once_and_kept(image: Image) -> Result<()> {
    let mut pi = Pi::new(&image, newest(&image)).await?;
    pi.power().await?;
    pi.runs('A').await?;
    pi.updates("update.raucb").await?;
    ensure!(pi.started()?.tryboot, "slot B is not tried, it is started for good");
    pi.runs('B').await?;
    pi.is_kept().await?;
    pi.off().await?;
    windows(&pi)?;
    pi.power().await?;
    pi.runs('B').await?;
    let choice = pi.firmware.read(1, "autoboot.txt").unwrap_or_default();
    ensure!(!choice.contains(&b'\r'), "the line ends of Windows are still there");
    pi.cut(Loss::Nothing).await.map(|_| ())
}

/// Somebody's editor saves `autoboot.txt`.
fn windows(pi: &Pi) -> Result<()> {
    let choice = pi.firmware.read(1, "autoboot.txt").unwrap_or_default();
    let choice = String::from_utf8(choice)?.replace('\n', "\r\n");
    pi.firmware.write(1, "autoboot.txt", choice.as_bytes())
}

/// On a board without an EEPROM where the card fits one, and back in slot A; then the choice is lost, which costs one start of the other system.
pub(crate) async fn two_updates_in_a_row_are_kept_and_a_deleted_choice_is_made_anew(
    image: Image,
) -> Result<()> {
    let mut pi = Pi::new(&image, another(&image)).await?;
    pi.power().await?;
    pi.runs('A').await?;
    for slot in ['B', 'A', 'B'] {
        pi.updates("update.raucb").await?;
        pi.runs(slot).await?;
        pi.is_kept().await?;
    }
    pi.cut(Loss::All).await?;
    pi.firmware.remove(1, "autoboot.txt")?;
    pi.power().await?;
    pi.runs('A').await?;
    ensure!(pi.firmware.has(1, "autoboot.txt"), "autoboot.txt is not made anew");
    pi.machine()?.shell.run("systemctl reboot --no-block").await?;
    pi.restarts().await?;
    pi.runs('B').await?;
    // What RAUC knows of the blocks of A is older than the boot sector that was taken away while A was bad.
    pi.updates("update.raucb").await?;
    pi.runs('A').await?;
    pi.is_kept().await?;
    pi.cut(Loss::Nothing).await.map(|_| ())
}

/// Its gate fails, it restarts by itself, and the old system says so.
pub(crate) async fn a_system_whose_gateway_fails_is_left_by_itself_on_a_pi(image: Image) -> Result<()> {
    let mut pi = Pi::new(&image, newest(&image)).await?;
    bundle::gateway_fails(&image, &pi.world.dir.path().join("bad.raucb"))?;
    pi.power().await?;
    pi.runs('A').await?;
    pi.updates("bad.raucb").await?;
    ensure!(pi.started()?.partition == 3, "it is not tried");
    pi.restarts().await?;
    pi.runs('A').await?;
    let said = pi.fault("update-rolled-back").await?;
    println!("  the old system says: {}", said.trim());
    pi.cut(Loss::Nothing).await.map(|_| ())
}

/// A panic restarts by itself; a kernel that hangs is reset by the watchdog that the firmware left running, or waits for power where there is none.
pub(crate) async fn a_kernel_that_panics_and_one_that_hangs_are_left(image: Image) -> Result<()> {
    let mut pi = Pi::new(&image, newest(&image)).await?;
    bundle::kernel_panics(&image, &pi.world.dir.path().join("panics.raucb"))?;
    bundle::kernel_hangs(&image, &pi.world.dir.path().join("hangs.raucb"))?;
    pi.power().await?;
    pi.runs('A').await?;
    pi.updates("panics.raucb").await?;
    ensure!(pi.started()?.partition == 3, "it is not tried");
    pi.machine()?.console.wait("Kernel panic", tidegate_tests::machine::BOOT_MAX).await?;
    pi.restarts().await?;
    pi.runs('A').await?;
    println!("  after a panic: {}", pi.fault("update-rolled-back").await?.trim());
    pi.updates("hangs.raucb").await?;
    ensure!(pi.started()?.partition == 3, "it is not tried");
    pi.hangs().await?;
    pi.runs('A').await?;
    println!("  after a hang: {}", pi.fault("update-rolled-back").await?.trim());
    // docs/update.md: firmware of before summer 2025 leaves no watchdog running, and only power helps.
    (pi.board.firmware, pi.board.eeprom) = (Day(2025, 6, 1), Day(2025, 6, 1));
    pi.updates("hangs.raucb").await?;
    pi.hangs().await?;
    println!("  without a watchdog: {}", pi.waits()?);
    pi.power_cycle().await?;
    pi.runs('A').await?;
    pi.cut(Loss::Nothing).await.map(|_| ())
}

/// As docs/update.md says: by itself where the boot loader has a watchdog that is switched on, by power elsewhere. A gateway can be updated afterwards.
pub(crate) async fn boot_files_that_cannot_be_read_are_left_by_a_watchdog_or_by_power(
    image: Image,
) -> Result<()> {
    let old = Day(2025, 12, 8);
    let mut pi = Pi::new(&image, Board { eeprom: old, ..newest(&image) }).await?;
    pi.power().await?;
    pi.runs('A').await?;
    let whole = pi.firmware.clone();
    pi.firmware.spoil(3, if image.machine() == "rpi5" { "kernel_2712.img" } else { "start4.elf" });
    pi.updates("update.raucb").await?;
    println!("  {}", pi.waits()?);
    pi.power_cycle().await?;
    pi.runs('A').await?;
    pi.board.boot_watchdog_s = 60;
    pi.updates("update.raucb").await?;
    pi.runs('A').await?;
    pi.firmware = whole;
    pi.updates("update.raucb").await?;
    pi.runs('B').await?;
    pi.is_kept().await?;
    pi.cut(Loss::Nothing).await.map(|_| ())
}

/// A hat is written down once, in `[board]`: the gateway restarts once for it, and each update has it.
pub(crate) async fn the_overlay_of_a_hat_is_loaded_and_stays_across_updates(image: Image) -> Result<()> {
    const HAT: &str = "sc16is752-spi1,int_pin=24";
    let mut pi = Pi::with(&image, newest(&image), &format!("[board]\noverlays = [\"{HAT}\"]\n")).await?;
    let has = |pi: &Pi| pi.overlays().map(|overlays| overlays.iter().any(|overlay| overlay == HAT));
    pi.power().await?;
    ensure!(!has(&pi)?, "nobody has said so yet");
    pi.restarts().await?;
    ensure!(has(&pi)?, "the overlay is not loaded: {:?}", pi.overlays()?);
    pi.runs('A').await?;
    for slot in ['B', 'A'] {
        pi.updates("update.raucb").await?;
        ensure!(has(&pi)?, "the update has lost the overlay: {:?}", pi.overlays()?);
        pi.runs(slot).await?;
        pi.is_kept().await?;
    }
    let told = pi.machine()?.shell.run("ls /run/tidegate-faults").await?;
    ensure!(!told.contains("board"), "a fault is told: {told}");
    pi.cut(Loss::Nothing).await.map(|_| ())
}

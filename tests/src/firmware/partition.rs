//! Which partition is started.

use super::autoboot::{self, Autoboot};
use super::board::{Board, Day, Loader};
use super::card::{Card, PARTITIONS_MAX};
use super::{Cause, Trouble};

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) partition: u8,
    pub(super) tryboot: bool,
    pub(super) tryboot_a_b: bool,
}

pub(super) fn choose(card: &Card, board: &Board, cause: Cause) -> Result<Choice, Trouble> {
    let first = first_stage(card, board)?;
    let tryboot = cause.tryboot();
    let file = read_autoboot(card, board, first, tryboot);
    // "Specifies the partition number for booting unless the partition number was already specified as a parameter to the `reboot` command".
    let asked = if cause.partition() == 0 { file.boot_partition } else { Some(cause.partition()) };
    let choice = |partition| Choice { partition, tryboot, tryboot_a_b: file.tryboot_a_b };
    let Some(asked) = asked else { return first_bootable(card, board).map(choice) };
    if bootable(card, board, asked) {
        return Ok(choice(asked));
    }
    let stays = format!("partition {asked} is asked for and is not bootable");
    if board.walks() && board.unproven.walk_from_a_choice {
        // "check each partition in turn (up to 8 and wrapping to 0)" (`eeprom-bootloader.adoc`, PARTITION_WALK).
        let mut others = (asked + 1..=PARTITIONS_MAX).chain(1..asked);
        let found = others.find(|partition| bootable(card, board, *partition));
        return found.map(choice).ok_or(Trouble::Nothing(stays));
    }
    // "Fix failover to partition 1 if the `boot_partition` points to non-bootable partition" (rpi-eeprom 446, 2022-10-18).
    let falls_to_first = match board.model.loader() {
        Loader::Rom => false,
        Loader::Eeprom2711 => board.eeprom >= Day(2022, 10, 18),
        Loader::Eeprom2712 => true,
    };
    if falls_to_first && bootable(card, board, 1) {
        return Ok(choice(1));
    }
    // "Previously, if the specified boot partition was not bootable the bootloader would stop and advance to the next BOOT_ORDER" (2025-01-27).
    Err(Trouble::Nothing(stays))
}

/// The partition with what reads `autoboot.txt`.
fn first_stage(card: &Card, board: &Board) -> Result<u8, Trouble> {
    let mut fat = (1..=PARTITIONS_MAX).filter(|partition| card.is_fat(*partition));
    let found = match board.model.loader() {
        // The boot ROM takes `bootcode.bin` from the first FAT partition that has it (forum, a Raspberry Pi engineer; decision 0033).
        Loader::Rom => fat.find(|partition| card.has(*partition, "bootcode.bin")),
        _ => fat.next(),
    };
    found.ok_or_else(|| Trouble::Nothing("the card has no partition that the boot ROM reads".to_owned()))
}

fn read_autoboot(card: &Card, board: &Board, partition: u8, tryboot: bool) -> Autoboot {
    // On a Pi 3 `autoboot.txt` was seen to count only beside a `config.txt` (forum, November 2025).
    if board.model.loader() == Loader::Rom && !card.has(partition, "config.txt") {
        return Autoboot::default();
    }
    // Missing, empty and 512 random bytes: the default partition (TriMixxx, T6c and T7).
    card.read(partition, "autoboot.txt")
        .map(|bytes| autoboot::read(&bytes, board, tryboot))
        .unwrap_or_default()
}

/// "Bootable partitions must be formatted as FAT12, FAT16 or FAT32 and contain a `start.elf` file (or `config.txt` file on Raspberry Pi 5)" (`autoboot.adoc`);
/// "contains `start4.elf` on a Pi4" (`eeprom-bootloader.adoc`).
fn bootable(card: &Card, board: &Board, partition: u8) -> bool {
    partition <= PARTITIONS_MAX && card.has(partition, needs(board))
}

fn needs(board: &Board) -> &'static str {
    match board.model.loader() {
        Loader::Rom => "start.elf",
        Loader::Eeprom2711 => "start4.elf",
        Loader::Eeprom2712 => "config.txt",
    }
}

/// "the `default` partition which is the first bootable FAT partition". Any `start*.elf` makes a Pi 4 stop there: "then no `start4.elf` on p1 either [but others]: no
/// start at all" (TriMixxx, T6).
fn first_bootable(card: &Card, board: &Board) -> Result<u8, Trouble> {
    let stops = |partition: &u8| match board.model.loader() {
        Loader::Eeprom2712 => bootable(card, board, *partition),
        _ => card.names(*partition).iter().any(|name| {
            let name = name.to_lowercase();
            name.starts_with("start") && name.ends_with(".elf")
        }),
    };
    let found = (1..=PARTITIONS_MAX).find(stops);
    let found = found.ok_or_else(|| Trouble::Nothing("no partition is bootable".to_owned()))?;
    if bootable(card, board, found) {
        Ok(found)
    } else {
        Err(Trouble::OfLoader(format!("partition {found} has no {}", needs(board))))
    }
}

//! What is taken from the chosen partition: the settings, the kernel, its command line and its device tree.

use super::Trouble;
use super::board::{Board, Day, Loader, Model};
use super::card::{Card, Lost};
use super::config::{Config, Step};
use super::lines::number;
use super::partition::Choice;

/// A kernel that runs, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The partition that it came from.
    pub partition: u8,
    /// Whether the flag was set.
    pub tryboot: bool,
    /// The name of the kernel's file.
    pub kernel: String,
    /// The name of the file with the command line.
    pub cmdline_file: String,
    /// What stands in it; the words of the device tree come before it, and it is empty when there is no file.
    pub cmdline: String,
    /// The name of the device tree's file.
    pub device_tree: String,
    /// Overlays and parameters, in order.
    pub steps: Vec<Step>,
    /// All other properties of `config.txt`.
    pub config: Config,
    /// Seconds until the firmware's watchdog resets a kernel that has not taken it over; `None` is never.
    pub kernel_watchdog_s: Option<u32>,
    /// `/chosen/bootloader/partition`.
    pub told_partition: u8,
}

impl Start {
    /// `/chosen/bootloader`: "32-bit integer" each (`device-tree.adoc`), named and valued as measured on a Pi 4 (TriMixxx).
    #[must_use]
    pub fn chosen(&self) -> [(&'static str, u32); 5] {
        [
            ("boot-mode", 1),
            ("partition", u32::from(self.told_partition)),
            ("tryboot", u32::from(self.tryboot)),
            ("rsts", 0x1000),
            ("capabilities", 0x7f),
        ]
    }
}

pub(super) fn start(card: &Card, board: &Board, choice: Choice) -> Result<Start, Trouble> {
    let partition = choice.partition;
    let config = settings(card, board, choice)?;
    start_elf(card, board, partition, &config)?;
    let kernel = kernel(card, board, partition, &config)?;
    let device_tree = device_tree(card, board, partition, &config)?;
    // "the default value is `cmdline.txt`" (`boot.adoc`). "Failed to open command line file" is only logged (rpi-eeprom 654). One line.
    let cmdline_file = config.get("cmdline").unwrap_or("cmdline.txt").to_owned();
    let cmdline = card.read(partition, &cmdline_file).unwrap_or_default();
    let cmdline = String::from_utf8_lossy(&cmdline).lines().next().unwrap_or_default().trim().to_owned();
    let watchdog = config.get("kernel_watchdog_timeout").and_then(number).filter(|s| *s > 0);
    // rpi-eeprom 575: the property was 0 on a Pi 5 until May 2024.
    let silent = board.model.loader() == Loader::Eeprom2712 && board.eeprom < Day(2024, 5, 1);
    Ok(Start {
        partition,
        tryboot: choice.tryboot,
        kernel,
        cmdline_file,
        cmdline,
        device_tree,
        steps: config.steps.clone(),
        kernel_watchdog_s: watchdog.filter(|_| board.knows_kernel_watchdog()),
        told_partition: if silent { 0 } else { partition },
        config,
    })
}

/// "a one-shot flag which, if set, is cleared but causes `tryboot.txt` to be loaded instead of `config.txt`" (`bootflow-eeprom.adoc`); `tryboot_a_b=1`: "to load the normal
/// `config.txt`" (`autoboot.adoc`). What happens without that file is not documented: taken as no settings at all.
fn settings(card: &Card, board: &Board, choice: Choice) -> Result<Config, Trouble> {
    let of_trial = choice.tryboot && (!choice.tryboot_a_b || board.unproven.tryboot_file_always);
    let name = if of_trial { "tryboot.txt" } else { "config.txt" };
    match Config::read(card, board, choice.partition, name, choice.tryboot) {
        Ok(config) => Ok(config),
        Err(Lost::Missing) => Ok(Config { told: vec![format!("there is no {name}")], ..Config::default() }),
        Err(Lost::Unreadable) => {
            Err(Trouble::Hang(format!("{name} of partition {} cannot be read", choice.partition)))
        }
    }
}

/// The program that starts the kernel, where it is not the EEPROM's.
///
/// Measured: "A's `start4.elf` truncated to 64 KiB" hung until the boot watchdog (TriMixxx, T10). That it is read at all is told by its first bytes, those of an ELF file.
/// `gpu_mem=16` takes `start_cd.elf` (documentation of `gpu_mem`).
fn start_elf(card: &Card, board: &Board, partition: u8, config: &Config) -> Result<(), Trouble> {
    let small = config.get("gpu_mem").and_then(number).is_some_and(|mib| mib <= 16);
    let default = match (board.model.loader(), small) {
        (Loader::Eeprom2712, _) => return Ok(()),
        (Loader::Rom, false) => "start.elf",
        (Loader::Rom, true) => "start_cd.elf",
        (Loader::Eeprom2711, false) => "start4.elf",
        (Loader::Eeprom2711, true) => "start4cd.elf",
    };
    let name = config.get("start_file").unwrap_or(default);
    match card.read(partition, name) {
        Ok(bytes) if bytes.starts_with(b"\x7fELF") => Ok(()),
        Ok(_) => Err(Trouble::Hang(format!("{name} of partition {partition} is no program"))),
        Err(Lost::Missing) => Err(Trouble::OfLoader(format!("partition {partition} has no {name}"))),
        Err(Lost::Unreadable) => {
            Err(Trouble::Hang(format!("{name} of partition {partition} cannot be read")))
        }
    }
}

/// "A `kernel=` naming a missing file is no such failure: the firmware falls back to `kernel8.img`" (TriMixxx, T10). Without the property: `kernel7.img` on 3 and Zero 2 W
/// (`boot.adoc`), or `kernel8.img` with `arm_64bit`, which "Defaults to 1 on Pi 4s [...] and 0 on all other platforms"; `kernel_2712.img` on 5.
fn kernel(card: &Card, board: &Board, partition: u8, config: &Config) -> Result<String, Trouble> {
    let wide = config.get("arm_64bit").and_then(number);
    let default = match board.model.loader() {
        Loader::Rom if wide.unwrap_or(0) == 0 => "kernel7.img",
        Loader::Eeprom2711 if wide == Some(0) => "kernel7l.img",
        Loader::Rom | Loader::Eeprom2711 => "kernel8.img",
        Loader::Eeprom2712 => "kernel_2712.img",
    };
    let wanted = config.get("kernel").unwrap_or(default);
    let mut names = [wanted, "kernel8.img"].into_iter();
    let readable = names.find(|name| card.read(partition, name).is_ok_and(|bytes| !bytes.is_empty()));
    readable.map(str::to_owned).ok_or_else(|| {
        let text = format!("partition {partition} gives no kernel, neither {wanted} nor kernel8.img");
        shown(board, text)
    })
}

/// "if there are serious errors such as a missing or corrupt base dtb [...] the loader will fall back to a non-DT boot" (`device-tree.adoc`), which no 64-bit kernel
/// survives. On a 5 the boot loader looks for it beforehand ("a suitable device-tree"), but for `os_check=0`.
fn device_tree(card: &Card, board: &Board, partition: u8, config: &Config) -> Result<String, Trouble> {
    let own = config.get("device_tree");
    let names = own.as_slice().iter().copied().chain(board.model.device_trees().iter().copied());
    let mut names = if own.is_some() { names.take(1) } else { names.take(Model::ALL.len()) };
    let readable = names.find(|name| card.read(partition, name).is_ok_and(|bytes| !bytes.is_empty()));
    readable.map(str::to_owned).ok_or_else(|| {
        let text = format!("partition {partition} gives no device tree of a {:?}", board.model);
        if config.get("os_check") == Some("0") { Trouble::Hang(text) } else { shown(board, text) }
    })
}

fn shown(board: &Board, text: String) -> Trouble {
    match board.model.loader() {
        Loader::Eeprom2712 => Trouble::OfLoader(text),
        _ => Trouble::OfStartElf(text),
    }
}

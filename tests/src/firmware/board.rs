//! A board as it is played: its model, the day of its boot loader, its settings, and what nobody has proven.

use std::fmt;

/// A day, as boot loaders are called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u16, pub u8, pub u8);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.0, self.1, self.2)
    }
}

/// A model that an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// 3 B.
    Pi3,
    /// 3 B+.
    Pi3Plus,
    /// Compute Module 3.
    Cm3,
    /// Zero 2 W.
    Zero2W,
    /// 4 B.
    Pi4,
    /// 400.
    Pi400,
    /// Compute Module 4.
    Cm4,
    /// 5.
    Pi5,
    /// 500.
    Pi500,
    /// Compute Module 5.
    Cm5,
    /// Compute Module 5 without eMMC.
    Cm5Lite,
}

/// Which program chooses what starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    /// The boot ROM takes `bootcode.bin` from the card, and that `start.elf`.
    Rom,
    /// A boot loader in the EEPROM of BCM2711, which takes `start4.elf` from the card.
    Eeprom2711,
    /// A boot loader in the EEPROM of BCM2712, which starts the kernel by itself.
    Eeprom2712,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Pi3,
        Self::Pi3Plus,
        Self::Cm3,
        Self::Zero2W,
        Self::Pi4,
        Self::Pi400,
        Self::Cm4,
        Self::Pi5,
        Self::Pi500,
        Self::Cm5,
        Self::Cm5Lite,
    ];

    /// Which program chooses what starts.
    #[must_use]
    pub fn loader(self) -> Loader {
        match self {
            Self::Pi3 | Self::Pi3Plus | Self::Cm3 | Self::Zero2W => Loader::Rom,
            Self::Pi4 | Self::Pi400 | Self::Cm4 => Loader::Eeprom2711,
            Self::Pi5 | Self::Pi500 | Self::Cm5 | Self::Cm5Lite => Loader::Eeprom2712,
        }
    }

    /// The model filters that it passes.
    ///
    /// `conditional.adoc`: "`[pi3]` Model 3B, Model 3B+, Model 3A+, Compute Module 3, Compute Module 3+", "`[pi4]` Model 4B, Pi 400, Compute Module 4,
    /// Compute Module 4S", "`[pi02]` Zero 2 W (also sees `[pi0w]` and `[pi0]` contents)". `[pi5]`, `[pi500]` and `[cm5]`: `dtapply` of raspberrypi/utils, in which
    /// `[pi5]` covers all three and "There is no `[cm3]` filter".
    #[must_use]
    pub fn filters(self) -> &'static [&'static str] {
        match self {
            Self::Pi3 | Self::Cm3 => &["pi3"],
            Self::Pi3Plus => &["pi3", "pi3+"],
            Self::Zero2W => &["pi02", "pi0w", "pi0"],
            Self::Pi4 => &["pi4"],
            Self::Pi400 => &["pi4", "pi400"],
            Self::Cm4 => &["pi4", "cm4"],
            Self::Pi5 => &["pi5"],
            Self::Pi500 => &["pi5", "pi500"],
            Self::Cm5 | Self::Cm5Lite => &["pi5", "cm5"],
        }
    }

    /// Its device trees, the first that is there is taken.
    ///
    /// `device-tree.adoc`: "It chooses which one to load based on the board revision number". Compute Module 5: release notes of firmware-2712, 2025-03-27:
    /// "bcm2712-rpi-cm5-cm5io.dtb or bcm2712-rpi-cm5l-cm5io.dtb on CM5".
    #[must_use]
    pub fn device_trees(self) -> &'static [&'static str] {
        match self {
            Self::Pi3 => &["bcm2710-rpi-3-b.dtb"],
            Self::Pi3Plus => &["bcm2710-rpi-3-b-plus.dtb"],
            Self::Cm3 => &["bcm2710-rpi-cm3.dtb"],
            Self::Zero2W => &["bcm2710-rpi-zero-2-w.dtb", "bcm2710-rpi-zero-2.dtb"],
            Self::Pi4 => &["bcm2711-rpi-4-b.dtb"],
            Self::Pi400 => &["bcm2711-rpi-400.dtb"],
            Self::Cm4 => &["bcm2711-rpi-cm4.dtb"],
            Self::Pi5 => &["bcm2712d0-rpi-5-b.dtb", "bcm2712-rpi-5-b.dtb"],
            Self::Pi500 => &["bcm2712-rpi-500.dtb"],
            Self::Cm5 => &["bcm2712-rpi-cm5-cm5io.dtb"],
            Self::Cm5Lite => &["bcm2712-rpi-cm5l-cm5io.dtb"],
        }
    }
}

/// What becomes of the lines below a filter that the firmware does not know. Nobody says; `autoboot.txt` on an EEPROM of 2021 was seen to be `Ignored`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFilter {
    /// They are left out.
    Skipped,
    /// They count, as if the filter was not there.
    Ignored,
}

/// What becomes of a line that is longer than the firmware reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongLine {
    /// `what_is_config_txt.adoc`: "There is a 98-character line length limit [...] any characters past this limit will be ignored".
    Cut,
    /// raspberrypi/firmware 1669: "applies a line break at column/character 100", in comments as well.
    Breaks,
}

/// Where sources are silent or contradict one another. The default is what is documented or was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unproven {
    /// An unknown filter.
    pub unknown_filter: UnknownFilter,
    /// A long line.
    pub long_line: LongLine,
    /// Line ends of Windows are line ends. Else a filter with one is unknown; a number is read up to it.
    pub windows_line_ends: bool,
    /// `PARTITION_WALK` also when a valid `autoboot.txt` names a partition that is not bootable: documented, and denied by one measurement.
    pub walk_from_a_choice: bool,
    /// With the flag set `tryboot.txt` is read although `tryboot_a_b=1` stands in `autoboot.txt`: rpi-eeprom 504, reported on two Pi 4.
    pub tryboot_file_always: bool,
    /// `start4.elf` restarts after a fatal error as the EEPROM does.
    pub start_elf_resets: bool,
    /// `bootcode.bin` knows the sections of `autoboot.txt`.
    pub rom_knows_sections: bool,
    /// `kernel_watchdog_timeout` has an effect on boards without an EEPROM.
    pub rom_kernel_watchdog: bool,
    /// The boot loader of BCM2712 reads files that are included: `what_is_config_txt.adoc` says that the EEPROM does not, rpi-eeprom 738 shows one that did.
    pub eeprom_includes: bool,
}

impl Default for Unproven {
    fn default() -> Self {
        Self {
            unknown_filter: UnknownFilter::Ignored,
            long_line: LongLine::Breaks,
            windows_line_ends: true,
            walk_from_a_choice: true,
            tryboot_file_always: false,
            start_elf_resets: false,
            rom_knows_sections: true,
            rom_kernel_watchdog: true,
            eeprom_includes: true,
        }
    }
}

/// A board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// Its model.
    pub model: Model,
    /// The day of its EEPROM; without a meaning where there is none.
    pub eeprom: Day,
    /// The day of `bootcode.bin` and `start*.elf` on the card.
    pub firmware: Day,
    /// `PARTITION_WALK` of the EEPROM's settings; `None` is the default of its day.
    pub partition_walk: Option<bool>,
    /// `BOOT_WATCHDOG_TIMEOUT`, seconds; 0 is none.
    pub boot_watchdog_s: u32,
    /// `BOOT_WATCHDOG_PARTITION`; 0 leads through `autoboot.txt`.
    pub boot_watchdog_partition: u8,
    /// `REBOOT_ON_FATAL_ERROR`.
    pub resets_on_fatal_error: bool,
    /// The section `[config.txt]` of the EEPROM's settings: "appended in memory, to the contents of the `config.txt` file" (`eeprom-bootloader.adoc`).
    pub appended: String,
    /// What nobody has proven.
    pub unproven: Unproven,
}

impl Board {
    /// A board with the newest boot loader whose release notes were read, and with its settings as delivered.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self {
            model,
            eeprom: Day(2026, 8, 4),
            firmware: Day(2025, 12, 1),
            partition_walk: None,
            boot_watchdog_s: 0,
            boot_watchdog_partition: 0,
            resets_on_fatal_error: true,
            appended: String::new(),
            unproven: Unproven::default(),
        }
    }

    /// The same with an EEPROM of another day.
    #[must_use]
    pub fn with_eeprom(model: Model, eeprom: Day) -> Self {
        Self { eeprom, ..Self::new(model) }
    }

    /// `[tryboot]` and `tryboot_a_b` in `autoboot.txt`.
    ///
    /// rpi-eeprom 446, 2022-10-18: "Add support for a `[tryboot]` conditional statement in config files", "Load config.txt instead of tryboot.txt if tryboot_a_b=1 in
    /// autoboot.txt". BCM2712: from its first one on.
    #[must_use]
    pub fn knows_sections(&self) -> bool {
        match self.model.loader() {
            Loader::Rom => self.unproven.rom_knows_sections && self.firmware >= Day(2022, 10, 18),
            Loader::Eeprom2711 => self.eeprom >= Day(2022, 10, 18),
            Loader::Eeprom2712 => true,
        }
    }

    /// `[boot_partition=N]` in `config.txt`.
    ///
    /// Release notes of firmware-2712, 2025-03-10; raspberrypi/firmware 1940, 2025-03-21: "The latest version of start4.elf in rpi-update supports 'boot_partition'".
    #[must_use]
    pub fn knows_boot_partition(&self) -> bool {
        match self.model.loader() {
            Loader::Rom | Loader::Eeprom2711 => self.firmware >= Day(2025, 3, 21),
            Loader::Eeprom2712 => self.eeprom >= Day(2025, 3, 10),
        }
    }

    /// Whether partitions are tried in turn when one that was asked for is not bootable.
    ///
    /// Release notes, 2025-01-27 and 2025-02-11: "If the new PARTITION_WALK option is set to 1 the bootloader will now check each partition in turn starting from the
    /// specified partition"; 2025-08-13: "Enable the PARTITION_WALK property by default"; firmware-2711, 2025-08-20: "Fix PARTITION_WALK for missing start.elf
    /// files".
    #[must_use]
    pub fn walks(&self) -> bool {
        let (option, default) = match self.model.loader() {
            Loader::Rom => return false,
            Loader::Eeprom2711 => (Day(2025, 8, 20), Day(2025, 8, 20)),
            Loader::Eeprom2712 => (Day(2025, 1, 27), Day(2025, 8, 13)),
        };
        self.eeprom >= option && self.partition_walk.unwrap_or(self.eeprom >= default)
    }

    /// Whether the boot loader's own watchdog runs: release notes, 2025-06-20 (2712) and 2025-07-03 (2711).
    #[must_use]
    pub fn has_boot_watchdog(&self) -> bool {
        self.boot_watchdog_s > 0
            && match self.model.loader() {
                Loader::Rom => false,
                Loader::Eeprom2711 => self.eeprom >= Day(2025, 7, 3),
                Loader::Eeprom2712 => self.eeprom >= Day(2025, 6, 20),
            }
    }

    /// Release notes of both, 2026-04-14: "perform a hard reset after displaying the fatal error three times in a row instead of waiting forever".
    #[must_use]
    pub fn resets_by_itself(&self) -> bool {
        self.model.loader() != Loader::Rom && self.resets_on_fatal_error && self.eeprom >= Day(2026, 4, 14)
    }

    /// `kernel_watchdog_timeout`: documentation PR 4144; with the boot loaders that have a boot watchdog, and `start*.elf` of about that day.
    #[must_use]
    pub fn knows_kernel_watchdog(&self) -> bool {
        match self.model.loader() {
            Loader::Rom => self.unproven.rom_kernel_watchdog && self.firmware >= Day(2025, 7, 3),
            Loader::Eeprom2711 => self.firmware >= Day(2025, 7, 3),
            Loader::Eeprom2712 => self.eeprom >= Day(2025, 6, 20),
        }
    }
}

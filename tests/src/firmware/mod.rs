//! The firmware of a Raspberry Pi, played on the image of a card as its documentation says: what starts, or what the board does instead.
//!
//! [`play`] is one start; [`settle`] follows the resets that the board makes by itself. Sentences in quotation marks are the documentation's; where they are silent
//! or contradict one another, [`Unproven`] is the parameter. Sources: docs/decisions/0061. The texts are parsed by [`lines`], [`autoboot`] and [`config`].
//!
//! Not played: USB and network (`BOOT_ORDER` comes back to the card for ever), `boot.img`, GPT, and the partition 32 that a watchdog may ask for before the EEPROM of
//! 2025-10-08.

pub mod autoboot;
pub mod board;
pub mod card;
pub mod config;
pub mod lines;
mod partition;
mod start;

pub use board::{Board, Day, Loader, LongLine, Model, UnknownFilter, Unproven};
pub use card::{Card, Lost};
pub use config::{Config, Step};
pub use start::Start;

/// Resets in a row after which a board counts as one that never starts.
pub const RESETS_MAX: usize = 4;

/// Why the firmware runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Power came.
    PowerOn,
    /// A reset without an argument: the watchdog, a panic, a plain restart. The partition is what the boot loader's own watchdog was told, else 0.
    Reset {
        /// 0 leads through `autoboot.txt`.
        partition: u8,
    },
    /// A restart with an argument.
    Restart {
        /// 0 leads through `autoboot.txt`.
        partition: u8,
        /// The one-shot flag.
        tryboot: bool,
    },
}

impl Cause {
    /// A reset that asks for nothing.
    pub const RESET: Self = Self::Reset { partition: 0 };

    /// A restart with the argument of `reboot`: "0 tryboot", "2", or nothing.
    ///
    /// raspberrypi/linux PR 3937: "The partition id is the first parameter followed by zero or more flags".
    #[must_use]
    pub fn restart(argument: &str) -> Self {
        let mut words = argument.split_whitespace();
        let partition = words.next().and_then(lines::number).and_then(|n| u8::try_from(n).ok());
        Self::Restart { partition: partition.unwrap_or(0), tryboot: words.any(|word| word == "tryboot") }
    }

    fn partition(self) -> u8 {
        match self {
            Self::PowerOn => 0,
            Self::Reset { partition } | Self::Restart { partition, .. } => partition,
        }
    }

    fn tryboot(self) -> bool {
        matches!(self, Self::Restart { tryboot: true, .. })
    }
}

/// What the board does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel runs.
    Starts(Box<Start>),
    /// It shows an error, or nothing, until somebody takes its power away.
    Waits {
        /// Why, in a sentence.
        because: String,
    },
    /// It resets by itself.
    Resets {
        /// What comes next.
        next: Cause,
        /// Why, in a sentence.
        because: String,
    },
}

/// What keeps a kernel from running.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// No partition is bootable: other boot modes are tried, for ever.
    Nothing(String),
    /// An error that the boot loader of the EEPROM shows.
    OfLoader(String),
    /// An error that `start*.elf` shows.
    OfStartElf(String),
    /// A program of the firmware that does not run: nothing is shown.
    Hang(String),
}

/// One run of the firmware.
#[must_use]
pub fn play(card: &Card, board: &Board, cause: Cause) -> Outcome {
    match partition::choose(card, board, cause).and_then(|choice| start::start(card, board, choice)) {
        Ok(start) => Outcome::Starts(Box::new(start)),
        Err(trouble) => board.after(trouble),
    }
}

/// Plays until the board starts something, waits, or has reset too often.
#[must_use]
pub fn settle(card: &Card, board: &Board, cause: Cause) -> Outcome {
    let mut outcome = play(card, board, cause);
    for _ in 0..RESETS_MAX {
        let Outcome::Resets { next, .. } = outcome else { break };
        outcome = play(card, board, next);
    }
    outcome
}

impl Outcome {
    /// What started.
    #[must_use]
    pub fn start(&self) -> Option<&Start> {
        match self {
            Self::Starts(start) => Some(start),
            _ => None,
        }
    }
}

impl Board {
    fn after(&self, trouble: Trouble) -> Outcome {
        let (because, shown) = match trouble {
            // `BOOT_ORDER` ends with f, "restart", and `MAX_RESTARTS` is -1: no error, the modes are gone through again.
            Trouble::Nothing(text) | Trouble::Hang(text) => (text, false),
            Trouble::OfLoader(text) => (text, true),
            Trouble::OfStartElf(text) => (text, self.unproven.start_elf_resets),
        };
        // "If the OS is not started within the specified time, the watchdog will reset the system" (`eeprom-bootloader.adoc`).
        if self.has_boot_watchdog() {
            return Outcome::Resets {
                next: Cause::Reset { partition: self.boot_watchdog_partition },
                because,
            };
        }
        if shown && self.resets_by_itself() {
            return Outcome::Resets { next: Cause::RESET, because };
        }
        Outcome::Waits { because }
    }
}

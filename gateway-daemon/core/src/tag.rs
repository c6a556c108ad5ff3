//! The vocabulary of a reading: which tag, what value or why none, and when.
//!
//! Invariants: a [`Sample`] has a value or a reason and never both; a [`Stamp`] is monotonic within one boot and
//! carries no wall time, because a Raspberry Pi has no clock at boot. Wall time is added when a message is encoded,
//! from what the [`WallClock`] knows by then; it is never guessed.
//!
//! This room imports nothing.

use std::fmt;
use std::sync::Arc;

/// Longest tag, device, bus, group or uplink name in bytes: fits a log field and an MQTT topic level.
pub const NAME_LEN_MAX: usize = 64;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has no characters.
    #[error("a name needs at least one character")]
    Empty,
    /// The text is longer than [`NAME_LEN_MAX`] bytes.
    #[error("a name has at most {NAME_LEN_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// The text holds a character outside `A-Z a-z 0-9 _ - .`.
    #[error("a name is made of letters, digits, '_', '-' and '.', not {0:?}")]
    Character(char),
}

/// A name as it appears in TOML keys, MQTT topic levels, JSON keys and logs: 1 to [`NAME_LEN_MAX`] characters of
/// `A-Z a-z 0-9 _ - .`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_LEN_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))) {
            Some(c) => Err(NameError::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The name of a tag, unique within its device.
pub type TagName = Name;

/// Engineering unit of a value as free text ("V", "kWh", "°C"); printed, never interpreted.
pub type Unit = Arc<str>;

/// What a point can hold once decoded and scaled. Integers stay integers unless a scale makes them fractional.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A coil, a discrete input or one bit of a register.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer (needed for u64 counters above `i64::MAX`).
    UInt(u64),
    /// A finite number; NaN and infinity are [`Reason::NotANumber`], never a value.
    Float(f64),
    /// Text of a string point, without its padding.
    Text(Arc<str>),
}

/// Why there is no good value. The variants are different situations for the person who has to act: the device said
/// no, the line failed, the value is impossible, or nobody has asked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No poll of this point has finished since the gateway started.
    NotPolled,
    /// The device did not answer within its timeout, all retries included.
    Timeout,
    /// An answer came and its checksum, length, unit or function was wrong.
    BadAnswer,
    /// The device answered with a Modbus exception code ("MODBUS Application Protocol V1.1b3", 7).
    Exception(u8),
    /// The port or connection of the bus is not open.
    BusDown,
    /// The device failed too often and is only probed from time to time.
    DeviceDown,
    /// The raw value is outside the range the configuration allows.
    OutOfRange,
    /// The device sent NaN, infinity or a BCD digit above 9.
    NotANumber,
    /// The value was good but is older than its staleness limit.
    Stale,
    /// One that a newer version of the gateway has stored, by its code: kept and shown.
    Other(u8),
}

impl Reason {
    /// The word used in payloads, metrics and logs, without the exception code.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotPolled => "not-polled",
            Self::Timeout => "timeout",
            Self::BadAnswer => "bad-answer",
            Self::Exception(_) => "exception",
            Self::BusDown => "bus-down",
            Self::DeviceDown => "device-down",
            Self::OutOfRange => "out-of-range",
            Self::NotANumber => "not-a-number",
            Self::Stale => "stale",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exception(code) => write!(f, "exception-{code}"),
            Self::Other(code) => write!(f, "other-{code}"),
            other => f.write_str(other.word()),
        }
    }
}

/// A value with good quality, or bad quality with its reason.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// Quality good.
    Good(Value),
    /// Quality bad, and why.
    Bad(Reason),
}

/// Index of a tag in the list of all tags of the configuration ([`crate::poll::Settings::tags`]); valid for one
/// loaded configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TagId(pub u32);

/// Index of a poll group in the list of all poll groups of the configuration; valid for one loaded configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub u32);

/// The machine's boot, from `/proc/sys/kernel/random/boot_id` (its first 64 bits). Two stamps compare only within
/// one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootId(pub u64);

/// One run of the daemon within a boot. Messages are numbered per run, so `(run, seq)` never repeats although nothing
/// is written to disk while all is well. Printed as `<boot, 16 hex digits>-<start, ms since boot>`; it is the `boot` field of
/// payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId {
    /// The boot this run belongs to.
    pub boot: BootId,
    /// When the daemon started, in ms since boot.
    pub start_ms: u64,
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.boot.0, self.start_ms)
    }
}

/// A moment of this boot: nanoseconds of `CLOCK_BOOTTIME`. It runs through suspend and is never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct BootNs(pub u64);

impl BootNs {
    /// This moment plus a duration, saturating at the end of time.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this moment is; zero if it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since boot.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// When something was sampled: boot and time since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// The boot in which `at` counts.
    pub boot: BootId,
    /// Time since that boot.
    pub at: BootNs,
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WallMs(pub i64);

/// What is known about wall time: for each boot the wall time of its boot moment, once a trusted clock gave it.
/// Filled from the clock history of the store and from the running clock.
pub trait WallClock {
    /// Wall time at which `boot` began, in ms since 1970, or `None` while no trusted clock has said so.
    fn boot_wall(&self, boot: BootId) -> Option<WallMs>;

    /// Wall time of a stamp, if known.
    fn wall(&self, stamp: Stamp) -> Option<WallMs> {
        let boot = self.boot_wall(stamp.boot)?;
        Some(WallMs(boot.0.saturating_add(i64::try_from(stamp.at.ms()).unwrap_or(i64::MAX))))
    }
}

/// One tag read once. `at` is the moment the answer's last byte arrived, or the moment the failure was known.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Which tag.
    pub tag: TagId,
    /// When it was sampled, in this boot.
    pub at: BootNs,
    /// What was read, or why not.
    pub sample: Sample,
}

/// What one cycle of one poll group yields: a reading for every tag of the group, in the group's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Cycle {
    /// Which poll group.
    pub group: GroupId,
    /// When the cycle was due; the schedule's grid, not the wire.
    pub due: BootNs,
    /// One reading per tag of the group.
    pub readings: Vec<Reading>,
}

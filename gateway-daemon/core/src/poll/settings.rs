//! Plain settings of the field side: buses, devices, poll groups and tags. Filled by `gateway-config`, every value checked.

use std::path::PathBuf;
use std::time::Duration;

use super::request::{Table, UnitId};
use crate::process::settings::Filter;
use crate::tag::{Name, TagName, Unit};

/// All buses, devices, groups and tags of one configuration, as flat lists that refer to each other by index.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// Buses; a device names its bus by index here.
    pub buses: Vec<Bus>,
    /// Devices; a group names its device by index here.
    pub devices: Vec<Device>,
    /// Poll groups; a [`crate::tag::GroupId`] is an index here.
    pub groups: Vec<Group>,
    /// Tags; a [`crate::tag::TagId`] is an index here. The tags of one group are contiguous.
    pub tags: Vec<Tag>,
}

/// One line or connection with its timing.
#[derive(Debug, Clone, PartialEq)]
pub struct Bus {
    /// Its name.
    pub name: Name,
    /// How its bytes travel.
    pub medium: Medium,
    /// Share of bus time that may go to probing dead devices, 0.0 to 0.5.
    pub probe_share: f64,
    /// RTU: whether a unit that owes a late answer is asked for a number of ours (function 8/0) before its next request, so that the late
    /// answer can be told from the next one. Off only for devices that function 8 harms; then time alone must do.
    pub fences: bool,
    /// Least silence between the end of one answer and the next request, on top of the 3.5 characters of a serial line.
    pub pause: Duration,
}

/// How the bytes of a bus travel.
#[derive(Debug, Clone, PartialEq)]
pub enum Medium {
    /// Modbus RTU on a serial line.
    Serial(Serial),
    /// Modbus TCP, MBAP header ("MODBUS Messaging on TCP/IP V1.0b").
    Tcp {
        /// Host name or address.
        host: String,
        /// TCP port, 502 by default.
        port: u16,
        /// Most requests in flight, 1 (default) to 16.
        pipeline: u8,
        /// Time for DNS and TCP handshake.
        connect_timeout: Duration,
        /// Pause between the handshake and the first request, up to 10 s.
        connect_pause: Duration,
        /// How long a connection lives.
        connection: Connection,
    },
    /// RTU frames with CRC through a TCP connection (serial servers).
    RtuOverTcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Time for DNS and TCP handshake.
        connect_timeout: Duration,
        /// Pause between the handshake and the first request, up to 10 s.
        connect_pause: Duration,
        /// How long a connection lives.
        connection: Connection,
        /// Frames end after this much silence.
        frame_silence: Duration,
    },
    /// A simulated bus inside the process with one answering unit per configured device; for `demo` and tests.
    Sim,
}

/// How long a TCP connection to a device lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connection {
    /// As long as the device keeps it open; what the device closes is opened again when it is needed.
    #[default]
    Keep,
    /// For one poll cycle: closed when nothing is to be asked, opened for the next.
    PerCycle,
}

/// A serial port and its line settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Serial {
    /// Device path; a stable one under /dev/serial/by-id is reopened after an unplug.
    pub port: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// Parity bit.
    pub parity: Parity,
    /// Data bits: 8 for RTU.
    pub data_bits: u8,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// Direction switching by the kernel, for UARTs whose driver needs to be told.
    pub rs485: Option<Rs485>,
}

impl Serial {
    /// Bits of one character on the wire: start, data, parity, stop.
    #[must_use]
    pub fn bits_per_char(&self) -> u32 {
        1 + u32::from(self.data_bits) + u32::from(self.parity != Parity::None) + u32::from(self.stop_bits)
    }

    /// Time of `chars` characters on the wire.
    #[must_use]
    pub fn chars(&self, chars: u32) -> Duration {
        let bits = u64::from(self.bits_per_char()) * u64::from(chars);
        Duration::from_nanos(bits * 1_000_000_000 / u64::from(self.baud.max(1)))
    }

    /// The silence that ends a frame: 3.5 characters, fixed at 1.75 ms above 19200 baud
    /// ("MODBUS over Serial Line V1.02", 2.5.1.1).
    #[must_use]
    pub fn frame_silence(&self) -> Duration {
        if self.baud > 19_200 { Duration::from_micros(1750) } else { self.chars(7) / 2 }
    }
}

/// Parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Even, the Modbus default.
    Even,
    /// Odd.
    Odd,
}

/// RS485 direction control by the kernel driver (`TIOCSRS485`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rs485 {
    /// RTS level while sending: true is high.
    pub rts_on_send: bool,
    /// Delay between RTS and the first bit, ms.
    pub delay_before_ms: u32,
    /// Delay between the last bit and RTS, ms.
    pub delay_after_ms: u32,
    /// Whether the receiver hears what is sent.
    pub rx_during_tx: bool,
}

/// One device on a bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its name.
    pub name: Name,
    /// Index of its bus.
    pub bus: usize,
    /// Its address.
    pub unit: UnitId,
    /// Time from the end of the request to the first byte of the answer.
    pub timeout: Duration,
    /// Further tries after a failed request, 0 to 10.
    pub retries: u8,
    /// Silence before each request to this device, on top of the bus's.
    pub delay_before: Duration,
    /// After a broadcast: how long units need to act.
    pub turnaround: Duration,
    /// Failed requests in a row after which the device counts as dead and is only probed.
    pub dead_after: u32,
    /// Longest pause between probes of a dead device.
    pub probe_max: Duration,
    /// Most registers per request, 1 to 125.
    pub registers_max: u16,
    /// Most bits per request, 1 to 2000.
    pub bits_max: u16,
    /// Most unwanted registers (or 16 times as many bits) read to join two points into one request.
    pub gap_max: u16,
    /// Whether every point gets its own request.
    pub one_by_one: bool,
    /// The number that the file gives to its first address, 0 or 1: messages count as the file does.
    pub base: u16,
}

/// Points of one device that are polled together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Index of its device.
    pub device: usize,
    /// Its name: the one given in TOML, else its number within the device, from 1.
    pub name: Name,
    /// Scan interval.
    pub every: Duration,
    /// First tag in [`Settings::tags`].
    pub tags_start: usize,
    /// How many tags.
    pub tags_len: usize,
}

impl Group {
    /// The group's tags as a range into [`Settings::tags`].
    #[must_use]
    pub fn tags(&self) -> std::ops::Range<usize> {
        self.tags_start..self.tags_start + self.tags_len
    }
}

/// One tag: a point of a device and how its raw value becomes an engineering value.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// Its name, unique within the device.
    pub name: TagName,
    /// Index of its poll group.
    pub group: usize,
    /// Where it is in the device.
    pub point: Point,
    /// Engineering unit.
    pub unit: Option<Unit>,
    /// From raw to engineering value.
    pub scale: Option<Scale>,
    /// Engineering values below or above are [`crate::tag::Reason::OutOfRange`] or clamped.
    pub range: Option<Range>,
    /// When it is worth a message.
    pub filter: Filter,
    /// Whether the `write` command may set it.
    pub writable: bool,
    /// Priority of its readings: a message takes the highest of its tags.
    pub alarm: bool,
}

/// value = raw * factor + offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Finite and not zero.
    pub factor: f64,
    /// Finite.
    pub offset: f64,
}

/// One limit of an engineering value, as it was written: beyond 2^53 an f64 holds not every whole number, and a counter of 64 bits counts them all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Without a point.
    Whole(i128),
    /// With a point or an exponent.
    Float(f64),
}

impl Limit {
    /// The nearest f64.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Whole(number) => nearest(number),
            Self::Float(number) => number,
        }
    }

    /// Whether it is less than another.
    #[must_use]
    pub fn is_below(self, other: Self) -> bool {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a < b,
            (a, b) => a.to_f64() < b.to_f64(),
        }
    }
}

/// The f64 nearest to an integer.
#[expect(clippy::cast_precision_loss, reason = "the nearest is what is asked for")]
pub(crate) fn nearest(number: i128) -> f64 {
    number as f64
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
        }
    }
}

/// Limits of an engineering value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// Lowest good value.
    pub min: Option<Limit>,
    /// Highest good value.
    pub max: Option<Limit>,
    /// Clamp to the limit instead of marking the value bad.
    pub clamp: bool,
}

/// Where a tag is in its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Which table.
    pub table: Table,
    /// Zero-based address on the wire (`base = 1` and 4xxxx notations are resolved by `gateway-config`).
    pub address: u16,
    /// How its bits or registers are read.
    pub kind: Kind,
}

/// Type of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A coil, a discrete input.
    Bit,
    /// One bit of a register, 0 is the least significant.
    BitOf(u8),
    /// Unsigned 8 bit: the low (`high = false`) or high byte of a register.
    U8 {
        /// High byte of the register.
        high: bool,
    },
    /// Signed 8 bit.
    I8 {
        /// High byte of the register.
        high: bool,
    },
    /// Unsigned 16 bit; `swap` exchanges its two bytes.
    U16 {
        /// Exchange the bytes.
        swap: bool,
    },
    /// Signed 16 bit.
    I16 {
        /// Exchange the bytes.
        swap: bool,
    },
    /// Unsigned 32 bit.
    U32(Order4),
    /// Signed 32 bit.
    I32(Order4),
    /// IEEE 754 single.
    F32(Order4),
    /// Unsigned 64 bit.
    U64(Order8),
    /// Signed 64 bit.
    I64(Order8),
    /// IEEE 754 double.
    F64(Order8),
    /// Four BCD digits.
    Bcd16,
    /// Eight BCD digits.
    Bcd32(Order4),
    /// Text of so many registers, two characters each; ends at the first NUL, trailing spaces are cut.
    Text {
        /// 1 to 125.
        registers: u16,
        /// Low byte first.
        swap: bool,
    },
}

/// Order of the bytes of a 4-byte value on the wire; `a` is the most significant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order4 {
    /// Big endian.
    Abcd,
    /// Words swapped.
    Cdab,
    /// Bytes swapped.
    Badc,
    /// Little endian.
    Dcba,
}

/// Order of the bytes of an 8-byte value on the wire; `a` is the most significant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order8 {
    /// Big endian.
    Abcdefgh,
    /// Words reversed.
    Ghefcdab,
    /// Bytes swapped within words.
    Badcfehg,
    /// Little endian.
    Hgfedcba,
    /// Double words swapped.
    Efghabcd,
    /// Words swapped within double words.
    Cdabghef,
}

impl Kind {
    /// Registers the point takes; 1 for a single bit of a bit table.
    #[must_use]
    pub fn registers(self) -> u16 {
        match self {
            Self::U32(_) | Self::I32(_) | Self::F32(_) | Self::Bcd32(_) => 2,
            Self::U64(_) | Self::I64(_) | Self::F64(_) => 4,
            Self::Text { registers, .. } => registers,
            Self::Bit | Self::BitOf(_) | Self::U8 { .. } | Self::I8 { .. } => 1,
            Self::U16 { .. } | Self::I16 { .. } | Self::Bcd16 => 1,
        }
    }
}

//! What a request costs on the wire.
//!
//! On a serial line a request takes: the silence before it (3.5 characters, "MODBUS over Serial Line V1.02", 2.5.1.1,
//! plus the bus's pause and the device's delay), its own characters, the silence by which the device knows that it is
//! over, and the characters of the answer. Then the next request begins with its own silence.
//!
//! How long a device thinks before it answers is not known and not part of the least time: real devices take from 1
//! to 50 ms longer. The longest time is that of a device that does not answer: its timeout for every try.

use std::time::Duration;

use crate::poll::settings::{Bus, Device, Medium, Serial};

use super::blocks::Block;
use crate::poll::request::Table;

/// Unit, function, address, count, checksum.
const RTU_REQUEST_BYTES: u32 = 8;
/// Unit, function, byte count, checksum.
const RTU_ANSWER_BYTES: u32 = 5;
/// MBAP header with its unit ("MODBUS Messaging on TCP/IP V1.0b", 3.1.3), function, address, count.
const TCP_REQUEST_BYTES: u32 = 12;
/// MBAP header with its unit, function, byte count.
const TCP_ANSWER_BYTES: u32 = 9;

/// Bytes and time of one request or of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Requests.
    pub requests: u32,
    /// Bytes of the requests.
    pub out_bytes: u64,
    /// Bytes of good answers.
    pub in_bytes: u64,
    /// Registers of good answers, 0 for bits.
    pub registers: u32,
    /// Bits of good answers, 0 for registers.
    pub bits: u32,
    /// Time on a serial line when every device answers at once; `None` where the speed of the line is unknown.
    pub least: Option<Duration>,
    /// Time on a serial line when no device answers, without retries.
    pub silent: Option<Duration>,
}

impl Cost {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let time = |a: Option<Duration>, b: Option<Duration>| Some(a?.saturating_add(b?));
        Self {
            requests: self.requests.saturating_add(other.requests),
            out_bytes: self.out_bytes.saturating_add(other.out_bytes),
            in_bytes: self.in_bytes.saturating_add(other.in_bytes),
            registers: self.registers.saturating_add(other.registers),
            bits: self.bits.saturating_add(other.bits),
            least: time(self.least, other.least),
            silent: time(self.silent, other.silent),
        }
    }

    /// What one read of `block` costs.
    #[must_use]
    pub fn of(block: &Block, bus: &Bus, device: &Device) -> Self {
        let count = u32::from(block.count);
        let (registers, bits) = match block.table {
            Table::Coil | Table::Discrete => (0, count),
            Table::Holding | Table::Input => (count, 0),
        };
        let payload = registers * 2 + bits.div_ceil(8);
        let (out, back) = match bus.medium {
            Medium::Tcp { .. } | Medium::Sim => (TCP_REQUEST_BYTES, TCP_ANSWER_BYTES + payload),
            Medium::Serial(_) | Medium::RtuOverTcp { .. } => (RTU_REQUEST_BYTES, RTU_ANSWER_BYTES + payload),
        };
        let (least, silent) = match &bus.medium {
            Medium::Serial(serial) => {
                let asked = ask_time(serial, bus, device, out);
                let answered = serial.frame_silence() + serial.chars(back);
                (Some(asked + answered), Some(asked + device.timeout))
            }
            Medium::Tcp { .. } | Medium::RtuOverTcp { .. } | Medium::Sim => (None, None),
        };
        Self {
            requests: 1,
            out_bytes: u64::from(out),
            in_bytes: u64::from(back),
            registers,
            bits,
            least,
            silent,
        }
    }

    /// Nothing at all on a bus.
    #[must_use]
    pub fn nothing(bus: &Bus) -> Self {
        let time = matches!(bus.medium, Medium::Serial(_)).then_some(Duration::ZERO);
        Self { least: time, silent: time, ..Self::default() }
    }
}

/// From the end of what was on the line before to the last character of a request of `out` bytes.
fn ask_time(serial: &Serial, bus: &Bus, device: &Device, out: u32) -> Duration {
    let switching =
        serial.rs485.map_or(0, |rs485| u64::from(rs485.delay_before_ms) + u64::from(rs485.delay_after_ms));
    serial.frame_silence()
        + bus.pause
        + device.delay_before
        + Duration::from_millis(switching)
        + serial.chars(out)
}

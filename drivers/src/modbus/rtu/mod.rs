//! RTU: frames that are separated by silence ("MODBUS over Serial Line V1.02", 2.5.1), as a master without I/O.
//!
//! RTU has no transaction ids: nothing in an answer says which request it answers. What [`Master`] does about it:
//! 1. An answer must have the unit, function, byte count, echoed fields, length and checksum that its request asks for.
//! 2. Input is flushed before each request, and each request is preceded by the silence of 3.5 characters after the last
//!    byte on the line (more after a fault: [`Timing::gap`]).
//! 3. After a debt was forgiven by time alone, an answer whose first byte was there before the request can have been sent
//!    completely is not its answer. (Not on ports without a true baud rate: pseudo terminals, native USB.)
//! 4. A unit that owes an answer (its request timed out, or something unreadable came) gets no further request until its
//!    debt is cleared: its late answer was seen; or it answered a **fence**, function 8/0 "return query data" with a number of ours;
//!    or, for units that ignore unknown functions, nothing was sent to it for [`LATE_GUARD`] or twice its timeout.
//!
//! **What is proven**: a unit that answers requests in order, each at most once, and answers fences (with the data or, as the
//! specification demands of devices without function 8, with exception 1) can be arbitrarily late and its answer is never taken
//! for the answer to another request, nor for the answer to the same request sent again: no request is sent while an earlier
//! answer may be under way. **What is not provable**: for a unit that ignores fences, an answer later than the guard is taken for the answer
//! to the request of that moment if unit, function and length happen to fit. The protocol holds nothing that could tell them apart.
//!
//! Bounds: one exchange at a time; at most [`FRAME_BYTES_MAX`] bytes of a frame and its echo are kept; a line that is
//! never silent is given up after [`QUARANTINE_MAX`]. It never reads a clock and never sleeps.

mod crc;
mod debt;
mod exchange;
mod judge;
mod master;
mod receiver;
#[cfg(test)]
mod tests;

use std::time::Duration;

use gateway_core::poll::request::Request;
use gateway_core::poll::settings::Serial;

pub use crc::{append_crc, crc16};
pub use exchange::Step;
pub use master::Master;

/// Largest RTU frame: unit, 253 bytes of PDU, CRC (V1.02, 2.5.1).
pub const FRAME_BYTES_MAX: usize = 256;
/// Smallest RTU frame: unit, function, CRC.
pub const FRAME_BYTES_MIN: usize = 4;
/// A line without the silence of one frame end for so long is babbling; requests fail until it stops.
pub const QUARANTINE_MAX: Duration = Duration::from_secs(2);
/// Least time after the last request to a unit that ignores fences before its debt is forgiven.
pub const LATE_GUARD: Duration = Duration::from_secs(1);
/// Bytes of line noise tolerated right before or after a whole, correct answer: drivers being switched on and off make one or two.
pub const JUNK_BYTES_MAX: usize = 4;
/// How long bytes can be held up before this process can read them: by a USB adapter (FTDI without low latency: 16 ms) and by the kernel's own threads on a
/// busy machine. Silence inside an answer counts as its end only beyond this. How late this process itself looks does not matter: it reads before it judges.
const HELD_UP_MAX: Duration = Duration::from_millis(50);

/// Times of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// One character on the wire; zero where bytes have no known duration (through TCP, in memory).
    pub character: Duration,
    /// Silence before each request: 3.5 characters.
    pub silence: Duration,
    /// Silence after which an incomplete frame has ended, as far as a process can see silence.
    pub gap: Duration,
    /// Whether fences are sent (see the module); off only where function 8 is known to do harm.
    pub fences: bool,
}

impl Timing {
    /// Times of a serial line.
    #[must_use]
    pub fn serial(serial: &Serial) -> Self {
        let silence = serial.frame_silence();
        Self { character: serial.chars(1), silence, gap: silence + HELD_UP_MAX, fences: true }
    }

    /// Times of RTU frames through a connection: characters take no time that is known here, frames end after `gap`.
    #[must_use]
    pub fn stream(gap: Duration) -> Self {
        Self { character: Duration::ZERO, silence: Duration::ZERO, gap, fences: true }
    }
}

/// One request with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whom and what.
    pub request: Request,
    /// From the end of the request to the first byte of the answer.
    pub timeout: Duration,
    /// Silence before the request, on top of the line's.
    pub delay_before: Duration,
    /// After a broadcast: how long units need to act.
    pub turnaround: Duration,
}

/// What happened on a line since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests put on the line, fences not included.
    pub requests: u64,
    /// Answers that matched, exceptions included.
    pub answers: u64,
    /// Of these: exceptions.
    pub exceptions: u64,
    /// Broadcasts sent.
    pub broadcasts: u64,
    /// Requests without any answer in time.
    pub silent: u64,
    /// Requests that ended with an incomplete answer.
    pub short: u64,
    /// Requests that ended with too many bytes.
    pub long: u64,
    /// Requests that ended with a wrong checksum.
    pub checksum: u64,
    /// Requests that ended with only frames of other units seen.
    pub foreign: u64,
    /// Requests that ended with an answer to something else.
    pub mismatch: u64,
    /// Late answers seen and thrown away.
    pub late_answers: u64,
    /// Frames thrown away because they began before their request can have ended, while an old answer was possible.
    pub early_frames: u64,
    /// Other frames and noise thrown away: outside an exchange, or inside one before the answer.
    pub strays: u64,
    /// Echoes of requests recognised.
    pub echoes: u64,
    /// Answers accepted with up to [`JUNK_BYTES_MAX`] bytes of noise around them.
    pub salvaged: u64,
    /// Fences sent.
    pub fences: u64,
    /// Fences answered.
    pub fences_answered: u64,
    /// Debts forgiven by time alone ([`LATE_GUARD`]).
    pub debts_forgiven: u64,
    /// Requests given up because the line was never silent.
    pub babble: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

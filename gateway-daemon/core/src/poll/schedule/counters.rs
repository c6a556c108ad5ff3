//! What a schedule counts, per bus and per device. All counts start at zero with the schedule and never fall.

use crate::poll::request::LineFault;

/// Counts of one bus or of one device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Requests put on the line, retries and probes included.
    pub requests: u64,
    /// Requests that were answered, exceptions included.
    pub answers: u64,
    /// Requests without an answer, by what went wrong; silence is a timeout.
    pub faults: Faults,
    /// Exception answers by their code.
    pub exceptions: Exceptions,
    /// Requests that were tried again.
    pub retries: u64,
    /// Cycles delivered, bad ones included.
    pub cycles: u64,
    /// Cycles delivered between two grid moments because a device or the bus came back.
    pub refreshes: u64,
    /// Cycles that were skipped because the bus was still busy with an earlier one.
    pub overruns: u64,
    /// Requests that were cut in two after an illegal address.
    pub splits: u64,
    /// Requests to dead devices for a sign of life.
    pub probes: u64,
    /// Times a device was given up.
    pub deaths: u64,
    /// Times a dead device answered again.
    pub recoveries: u64,
    /// Answers to orders that nobody was waiting for any more.
    pub strays: u64,
    /// Time in which at least one request was on the line.
    pub busy_ns: u64,
    /// Part of the time that went to probes.
    pub probe_ns: u64,
}

/// Requests without an answer, one count per [`LineFault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Timeouts.
    pub silence: u64,
    /// Answers with too few bytes.
    pub short: u64,
    /// Answers with too many bytes.
    pub long: u64,
    /// Wrong checksums.
    pub checksum: u64,
    /// Bytes that are no frame.
    pub garbage: u64,
    /// Answers of another unit.
    pub foreign_unit: u64,
    /// Answers of another function.
    pub function: u64,
    /// Answers with a transaction id that no request had.
    pub transaction: u64,
    /// Answers to another request.
    pub mismatch: u64,
    /// Requests lost because the bus went down.
    pub down: u64,
}

impl Faults {
    /// Counts one.
    pub fn add(&mut self, fault: LineFault) {
        match fault {
            LineFault::Silence => self.silence += 1,
            LineFault::Short => self.short += 1,
            LineFault::Long => self.long += 1,
            LineFault::Checksum => self.checksum += 1,
            LineFault::Garbage => self.garbage += 1,
            LineFault::ForeignUnit(_) => self.foreign_unit += 1,
            LineFault::Function(_) => self.function += 1,
            LineFault::Transaction(_) => self.transaction += 1,
            LineFault::Mismatch => self.mismatch += 1,
            LineFault::Down => self.down += 1,
        }
    }

    /// Answers that came and were wrong: everything but silence and a bus that is down.
    #[must_use]
    pub fn bad_answers(&self) -> u64 {
        let frames = self.foreign_unit + self.function + self.transaction + self.mismatch;
        self.short + self.long + self.checksum + self.garbage + frames
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.silence + self.bad_answers() + self.down
    }
}

/// Highest exception code of "MODBUS Application Protocol V1.1b3", 7.
pub const EXCEPTION_CODE_MAX: u8 = 11;

/// Exception answers by code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exceptions {
    /// Count of code `n` at `n`; codes the standard does not know are at 0.
    pub by_code: [u64; EXCEPTION_CODE_MAX as usize + 1],
}

impl Exceptions {
    /// Counts one.
    pub fn add(&mut self, code: u8) {
        let slot = if code <= EXCEPTION_CODE_MAX { usize::from(code) } else { 0 };
        self.by_code[slot] += 1;
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.by_code.iter().sum()
    }
}

/// Counts of one poll group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupCounters {
    /// Cycles delivered at grid moments.
    pub cycles: u64,
    /// Grid moments that were skipped.
    pub overruns: u64,
    /// Cycles delivered in between because a device or the bus came back.
    pub refreshes: u64,
}

//! Where every message of a queue is: the equation that makes loss visible.
//!
//! `restored + produced = in memory + stored + acknowledged + dropped`, in messages, readings and bytes, after every step. The queue
//! only ever moves a count from one place to another with the functions below.

use crate::uplink::row::Tally;

/// Why a message was dropped. The words are stable: they stand in ledger messages and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The queue was full and its policy drops the oldest.
    Oldest,
    /// The queue was full and its policy refuses what arrives.
    Newest,
    /// The queue was full and readings were thinned out.
    Thinned,
    /// Older than the queue's age limit or the message's own expiry.
    Expired,
    /// The store took no rows in time (full, read-only, broken or too slow) and the bound of memory was reached.
    MemoryFull,
    /// The store lost what it had: its file was corrupt or foreign.
    StoreLost,
    /// Larger than the queue, or than the largest packet of the link.
    Oversize,
    /// Its topic cannot be published to.
    Topic,
    /// The stored record cannot be read: its schema is unknown or its bytes are damaged.
    Unreadable,
    /// The cloud will not take it: it was set aside, and deleted by hand or by the limit of what is set aside.
    RefusedByCloud,
}

impl DropReason {
    /// All reasons, in the order of [`Ledger`]'s counts.
    pub const ALL: [Self; 10] = [
        Self::Oldest,
        Self::Newest,
        Self::Thinned,
        Self::Expired,
        Self::MemoryFull,
        Self::StoreLost,
        Self::Oversize,
        Self::Topic,
        Self::Unreadable,
        Self::RefusedByCloud,
    ];

    /// The word in ledger messages, metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Oldest => "drop-oldest",
            Self::Newest => "drop-newest",
            Self::Thinned => "thin-out",
            Self::Expired => "expired",
            Self::MemoryFull => "memory-full",
            Self::StoreLost => "store-lost",
            Self::Oversize => "oversize",
            Self::Topic => "topic",
            Self::Unreadable => "unreadable",
            Self::RefusedByCloud => "refused-by-cloud",
        }
    }
}

/// The two sides of the equation differ: a fault of this program, never of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("restored + produced is {came:?}, in memory + stored + acknowledged + dropped is {known:?}")]
pub struct Imbalance {
    /// What came in.
    pub came: Tally,
    /// What is accounted for.
    pub known: Tally,
}

/// Counts of one queue since its daemon started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Found in the store at the start, or salvaged into it later.
    pub restored: Tally,
    /// Given to the queue, dropped ones included.
    pub produced: Tally,
    /// Only in memory.
    pub in_memory: Tally,
    /// On disk and not yet acknowledged.
    pub stored: Tally,
    /// Acknowledged by the cloud; with QoS 0: written to the link.
    pub acknowledged: Tally,
    dropped: [Tally; DropReason::ALL.len()],
}

impl Ledger {
    /// Dropped for one reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> Tally {
        self.dropped[reason as usize]
    }

    /// Dropped for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> Tally {
        self.dropped.iter().fold(Tally::default(), |sum, one| plus(sum, *one))
    }

    /// In memory and on disk together: what the limits count.
    #[must_use]
    pub fn kept(&self) -> Tally {
        plus(self.in_memory, self.stored)
    }

    /// Whether every message is accounted for.
    ///
    /// # Errors
    /// Both sides of the equation.
    pub fn check(&self) -> Result<(), Imbalance> {
        let came = plus(self.restored, self.produced);
        let known = plus(plus(self.kept(), self.acknowledged), self.dropped_total());
        if came == known { Ok(()) } else { Err(Imbalance { came, known }) }
    }

    pub(super) fn restore(&mut self, rows: Tally) {
        self.restored.add(rows);
        self.stored.add(rows);
    }

    pub(super) fn produce(&mut self, row: Tally) {
        self.produced.add(row);
        self.in_memory.add(row);
    }

    pub(super) fn commit(&mut self, row: Tally) {
        self.in_memory.take(row);
        self.stored.add(row);
    }

    pub(super) fn acknowledge(&mut self, row: Tally, on_disk: bool) {
        self.leave(row, on_disk);
        self.acknowledged.add(row);
    }

    pub(super) fn lose(&mut self, rows: Tally, on_disk: bool, reason: DropReason) {
        self.leave(rows, on_disk);
        self.dropped[reason as usize].add(rows);
    }

    /// What the store holds turned out to be `actual` where `expected` was counted: what is missing is dropped for `reason`, what is
    /// more counts as restored.
    pub(super) fn correct(&mut self, expected: Tally, actual: Tally, reason: DropReason) {
        let mut missing = expected;
        missing.take(actual);
        let mut found = actual;
        found.take(expected);
        self.lose(missing, true, reason);
        self.restore(found);
    }

    /// Takes rows from where they are. The disk may turn out to have held more than was counted; the surplus counts as restored.
    fn leave(&mut self, rows: Tally, on_disk: bool) {
        if on_disk {
            self.restore(minus(rows, self.stored));
            self.stored.take(rows);
        } else {
            self.in_memory.take(rows);
        }
    }
}

/// Sum of two counts.
pub(super) fn plus(mut a: Tally, b: Tally) -> Tally {
    a.add(b);
    a
}

/// Difference of two counts, stopping at zero in each of its fields.
pub(super) fn minus(mut a: Tally, b: Tally) -> Tally {
    a.take(b);
    a
}

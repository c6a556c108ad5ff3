//! What all sessions hold together, and what they dropped.

use super::Held;
pub(in crate::broker) use crate::broker::settings::WhenFull;

/// Bounds of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct Limit {
    /// Most messages that wait, those in flight not counted.
    pub(in crate::broker) rows_max: u64,
    /// Most bytes that wait or are in flight.
    pub(in crate::broker) bytes_max: u64,
    /// What happens beyond.
    pub(in crate::broker) when_full: WhenFull,
}

/// Bounds of all sessions together. Beyond, the newest message is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct TotalsLimits {
    /// Most that sessions hold whose messages are in memory only.
    pub(in crate::broker) volatile: Held,
    /// Most that durable sessions hold, on disk or not.
    pub(in crate::broker) durable: Held,
}

/// Why a message of QoS 1 or 2 did not reach its session's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) enum DropReason {
    /// The session's queue was full.
    Full,
    /// All queues together were full.
    TotalFull,
    /// Nobody wanted it any more.
    Expired,
    /// Its row could not be read or understood.
    Unreadable,
    /// The database was replaced.
    Lost,
    /// Its session ended, by the wish of its client or of a person.
    Ended,
    /// Its session was without its client for too long.
    SessionExpired,
    /// The client refused it (5.0).
    Refused,
    /// The client takes no packet as large (5.0).
    TooLarge,
    /// The client may not read it.
    Forbidden,
}

impl DropReason {
    /// How many there are.
    pub(in crate::broker) const COUNT: usize = 10;
}

/// Sums over all sessions.
#[derive(Debug)]
pub(in crate::broker) struct Totals {
    limits: TotalsLimits,
    volatile: Held,
    durable: Held,
    dropped: [u64; DropReason::COUNT],
}

impl Totals {
    pub(in crate::broker) fn new(limits: TotalsLimits) -> Self {
        let (volatile, durable) = Default::default();
        Self { limits, volatile, durable, dropped: [0; DropReason::COUNT] }
    }

    /// What volatile sessions hold.
    pub(in crate::broker) fn volatile(&self) -> Held {
        self.volatile
    }

    /// What durable sessions hold.
    pub(in crate::broker) fn durable(&self) -> Held {
        self.durable
    }

    /// Messages dropped for a reason.
    pub(in crate::broker) fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Counts dropped messages.
    pub(in crate::broker) fn drop(&mut self, reason: DropReason, rows: u64) {
        let count = &mut self.dropped[reason as usize];
        *count = count.saturating_add(rows);
    }

    pub(super) fn fits(&self, durable: bool, size: u64) -> bool {
        let (held, limit) =
            if durable { (self.durable, self.limits.durable) } else { (self.volatile, self.limits.volatile) };
        held.rows < limit.rows && held.bytes.saturating_add(size) <= limit.bytes
    }

    pub(super) fn add(&mut self, durable: bool, size: u64) {
        self.of(durable).add(1, size);
    }

    pub(super) fn add_held(&mut self, held: Held) {
        self.durable.add(held.rows, held.bytes);
    }

    pub(super) fn take(&mut self, durable: bool, held: Held) {
        self.of(durable).take(held.rows, held.bytes);
    }

    fn of(&mut self, durable: bool) -> &mut Held {
        if durable { &mut self.durable } else { &mut self.volatile }
    }
}

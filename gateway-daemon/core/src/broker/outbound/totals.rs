//! What all sessions hold together, how much of it one may hold when there is no more room, and what they dropped.

use super::{Held, LOADED_BYTES_TOTAL_MAX};
pub(in crate::broker) use crate::broker::settings::WhenFull;
use crate::broker::settings::{QUEUED_SHARE_BYTES_MIN, SHARE_ROWS_MIN, STORED_SHARE_BYTES_MIN};

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

/// Bounds of all sessions together. Beyond, those that hold more than their share make room; see [`super::crowd`].
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
    /// Its topic holds a character that no topic may hold; an earlier version took it.
    Topic,
}

impl DropReason {
    /// At least as many as there are.
    pub(in crate::broker) const COUNT: usize = 16;
}

/// Sums over the sessions of one class.
#[derive(Debug, Clone, Copy, Default)]
struct Class {
    held: Held,
    /// Sessions that hold anything.
    holders: u64,
}

/// Sums over all sessions.
#[derive(Debug)]
pub(in crate::broker) struct Totals {
    limits: TotalsLimits,
    volatile: Class,
    durable: Class,
    /// Bytes of durable sessions that are in memory and on disk.
    loaded: u64,
    dropped: [u64; DropReason::COUNT],
}

impl Totals {
    pub(in crate::broker) fn new(limits: TotalsLimits) -> Self {
        let (volatile, durable) = Default::default();
        Self { limits, volatile, durable, loaded: 0, dropped: [0; DropReason::COUNT] }
    }

    /// What volatile sessions hold.
    pub(in crate::broker) fn volatile(&self) -> Held {
        self.volatile.held
    }

    /// What durable sessions hold.
    pub(in crate::broker) fn durable(&self) -> Held {
        self.durable.held
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

    /// Whether there is room for one more message.
    pub(in crate::broker) fn fits(&self, durable: bool, size: u64) -> bool {
        let (Class { held, .. }, limit) = self.class(durable);
        held.rows < limit.rows && held.bytes.saturating_add(size) <= limit.bytes
    }

    /// Durable sessions have as much in memory as they may.
    pub(super) fn is_crowded(&self) -> bool {
        self.loaded >= LOADED_BYTES_TOTAL_MAX
    }

    /// A durable session has so many bytes in memory, and had so many before.
    pub(super) fn load(&mut self, before: u64, after: u64) {
        self.loaded = self.loaded.saturating_sub(before).saturating_add(after);
    }

    /// Bytes that durable sessions have in memory although they are on disk.
    pub(in crate::broker) fn loaded(&self) -> u64 {
        self.loaded
    }

    /// What one session may hold in any case: an equal part for each that holds anything, and for one that is about to.
    pub(super) fn share(&self, durable: bool, newcomer: bool) -> Held {
        let (Class { holders, .. }, limit) = self.class(durable);
        let holders = (holders + u64::from(newcomer)).max(1);
        let least = least(durable);
        Held { rows: (limit.rows / holders).max(least.rows), bytes: (limit.bytes / holders).max(least.bytes) }
    }

    /// A session whose messages are `own` holds more.
    pub(super) fn add(&mut self, durable: bool, own: &mut Held, more: Held) {
        let class = self.of(durable);
        class.holders += u64::from(own.rows == 0 && more.rows > 0);
        class.held.add(more.rows, more.bytes);
        own.add(more.rows, more.bytes);
    }

    /// A session whose messages are `own` holds less.
    pub(super) fn take(&mut self, durable: bool, own: &mut Held, less: Held) {
        let class = self.of(durable);
        let held_any = own.rows > 0;
        class.held.take(less.rows, less.bytes);
        own.take(less.rows, less.bytes);
        class.holders = class.holders.saturating_sub(u64::from(held_any && own.rows == 0));
    }

    fn class(&self, durable: bool) -> (Class, Held) {
        if durable { (self.durable, self.limits.durable) } else { (self.volatile, self.limits.volatile) }
    }

    fn of(&mut self, durable: bool) -> &mut Class {
        if durable { &mut self.durable } else { &mut self.volatile }
    }
}

/// What each session may hold although all together are full and nobody can make room: a few messages, in memory for some thousand sessions a few
/// megabytes.
pub(super) fn least(durable: bool) -> Held {
    let bytes = if durable { STORED_SHARE_BYTES_MIN } else { QUEUED_SHARE_BYTES_MIN };
    Held { rows: SHARE_ROWS_MIN, bytes }
}

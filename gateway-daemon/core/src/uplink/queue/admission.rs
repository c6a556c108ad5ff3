//! Limits: what is dropped when the queue is full, and how much a trim has to free.
//!
//! Rows go in this order: lower priority before higher, and within a priority by the policy. A row in flight or in a commit under way
//! never goes. Rows on disk are freed by a trim, which takes time: until it is answered the limit may be exceeded by what is in
//! memory, at most by the slack.

use super::lanes::Settled;
use super::ledger::minus;
use super::{DropReason, Queue, TRIM_ROWS_MAX};
use crate::tag::BootNs;
use crate::uplink::mutant::Mutant;
use crate::uplink::row::{Priority, Row, Seq, StoreFault, Tally};
use crate::uplink::settings::WhenFull;

/// The slack is this part of the limit, so that a trim has time to be answered while rows arrive.
const SLACK_PART: u64 = 16;
/// The slack of a very small queue in rows: some poll groups that arrive together.
const SLACK_ROWS_MIN: u64 = 16;
/// The slack of a very small queue in bytes.
const SLACK_BYTES_MIN: u64 = 4096;

/// What a trim has to free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) priority_max: Priority,
}

impl Queue {
    /// Makes room for a row that is already counted as produced and in memory, or says why it is the one to go.
    pub(super) fn make_room(&mut self, now: BootNs, row: &Row) -> Result<(), DropReason> {
        let size = row.size();
        if size > self.settings.limits.bytes_max || size > self.settings.memory.bytes_max {
            return Err(DropReason::Oversize);
        }
        while self.over_limit() && !self.disk_yields_to(row.priority) {
            self.displace(now, row.priority, self.policy_reason())?;
        }
        if self.settings.limits.when_full == WhenFull::DropNewest && self.over_limit() {
            self.owed.add_row(row);
        }
        while self.memory_full() && !self.faults.has(Mutant::HoardMemory) {
            self.displace(now, row.priority, DropReason::MemoryFull)?;
        }
        Ok(())
    }

    /// Drops rows of normal priority from memory when the limit is exceeded and the disk has nothing of that priority to give, so that
    /// no higher row is trimmed for their sake.
    pub(super) fn shed(&mut self, now: BootNs) {
        if self.settings.limits.when_full == WhenFull::DropNewest {
            if !self.over_limit() {
                self.owed = Tally::default();
            }
            return;
        }
        while self.over_limit() && self.trimmable(Priority::Normal) == 0 {
            let Some(seq) = self.victim(Priority::Normal, true) else { return };
            self.settle(now, seq, Settled::Dropped(DropReason::Oldest));
        }
    }

    /// What the next trim should free, if anything.
    pub(super) fn excess(&self) -> Option<Excess> {
        let priority_max =
            if self.trimmable(Priority::Normal) > 0 { Priority::Normal } else { Priority::High };
        let limits = &self.settings.limits;
        if limits.when_full == WhenFull::DropNewest {
            let owed = self.owed.rows > 0 && priority_max == Priority::Normal;
            return owed.then_some(Excess { rows: self.owed.rows, bytes: self.owed.bytes, priority_max });
        }
        if self.trimmable(priority_max) == 0 {
            return None;
        }
        let kept = self.limited();
        let rows = kept.rows.saturating_sub(limits.rows_max);
        let bytes = kept.bytes.saturating_sub(limits.bytes_max);
        if rows > 0 || bytes > 0 {
            // A little more than needed, so that not every row that arrives costs a transaction.
            let spare = (limits.rows_max / 100).min(1000);
            return Some(Excess {
                rows: rows.saturating_add(spare).min(TRIM_ROWS_MAX),
                bytes: if bytes > 0 { bytes.saturating_add(limits.bytes_max / 100) } else { 0 },
                priority_max,
            });
        }
        // A full disk takes the newest rows only in exchange for the oldest; before memory runs over, that is what the policy says.
        let pressed = self.fault == Some(StoreFault::Full) && self.memory_pressed();
        let memory = self.ledger.in_memory;
        pressed.then_some(Excess { rows: memory.rows.min(TRIM_ROWS_MAX), bytes: memory.bytes, priority_max })
    }

    /// The policy as a reason.
    pub(super) fn policy_reason(&self) -> DropReason {
        match self.settings.limits.when_full {
            WhenFull::DropNewest => DropReason::Newest,
            WhenFull::DropOldest | WhenFull::ThinOut { .. } => DropReason::Oldest,
        }
    }

    /// What the limits count: everything that is kept but for what is set aside, which has limits of its own.
    fn limited(&self) -> Tally {
        minus(self.ledger.kept(), self.aside.total())
    }

    pub(super) fn over_limit(&self) -> bool {
        let kept = self.limited();
        kept.rows > self.settings.limits.rows_max || kept.bytes > self.settings.limits.bytes_max
    }

    /// Half of memory is used: a commit is due without waiting for the interval.
    pub(super) fn memory_pressed(&self) -> bool {
        let memory = self.ledger.in_memory;
        memory.rows > self.settings.memory.rows_max / 2 || memory.bytes > self.settings.memory.bytes_max / 2
    }

    /// Rows on disk that a trim may delete: not loaded, because those are in flight or about to be, and not set aside.
    pub(super) fn trimmable(&self, priority: Priority) -> u64 {
        let spared = self.loaded_rows[priority as usize] + self.aside.rows_on_disk(priority);
        self.stored_rows[priority as usize].saturating_sub(spared)
    }

    /// Whether memory holds more than its bounds, or more beyond the limit than the slack while a trim is awaited.
    fn memory_full(&self) -> bool {
        let (memory, bounds, limits) = (self.ledger.in_memory, &self.settings.memory, &self.settings.limits);
        let over =
            minus(self.limited(), Tally { rows: limits.rows_max, readings: 0, bytes: limits.bytes_max });
        memory.rows > bounds.rows_max
            || memory.bytes > bounds.bytes_max
            || over.rows.min(memory.rows) > (limits.rows_max / SLACK_PART).max(SLACK_ROWS_MIN)
            || over.bytes.min(memory.bytes) > (limits.bytes_max / SLACK_PART).max(SLACK_BYTES_MIN)
    }

    /// Whether a trim can make room for a row of this priority by the policy.
    fn disk_yields_to(&self, priority: Priority) -> bool {
        let normal = self.trimmable(Priority::Normal) > self.owed.rows;
        match self.settings.limits.when_full {
            WhenFull::DropNewest => priority == Priority::High && normal,
            WhenFull::DropOldest | WhenFull::ThinOut { .. } => {
                normal || (priority == Priority::High && self.trimmable(Priority::High) > 0)
            }
        }
    }

    /// Drops one waiting row of memory in favour of one of `priority`, or gives the reason why that one has to go itself.
    fn displace(&mut self, now: BootNs, priority: Priority, reason: DropReason) -> Result<(), DropReason> {
        let oldest = self.settings.limits.when_full != WhenFull::DropNewest;
        let victim = match (oldest, priority) {
            (true, Priority::Normal) => self.victim(Priority::Normal, true),
            (true, Priority::High) => {
                self.victim(Priority::Normal, true).or_else(|| self.victim(Priority::High, true))
            }
            (false, Priority::High) => self.victim(Priority::Normal, false),
            (false, Priority::Normal) => None,
        };
        let seq = victim.ok_or(reason)?;
        if self.faults.has(Mutant::DropUncounted) {
            if let Some(entry) = self.entries.remove(&seq) {
                self.live.remove(&seq);
                self.urgent -= usize::from(entry.waiting == super::Waiting::Urgent);
                self.ledger.in_memory = minus(self.ledger.in_memory, super::tally(&entry.row));
            }
            return Ok(());
        }
        self.settle(now, seq, Settled::Dropped(reason));
        Ok(())
    }

    /// The oldest or newest row of a priority that is only in memory, in no commit and not in flight.
    fn victim(&self, priority: Priority, oldest: bool) -> Option<Seq> {
        let free = |seq: &Seq| *seq > self.committing_to();
        let fits = |entry: &super::Entry| entry.row.priority == priority && !entry.in_flight;
        let mut rows = self.memory().filter(|(seq, entry)| free(seq) && fits(entry)).map(|(seq, _)| *seq);
        if oldest { rows.next() } else { rows.next_back() }
    }
}

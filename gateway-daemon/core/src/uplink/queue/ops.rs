//! Which op the store gets next, and when.
//!
//! In this order: a replacement that is already decided (one without room yields, see the module `rescue`), room, the commit, the age limit, the backlog. One at a time.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::admission::Excess;
use super::ranges::Ranges;
use super::{
    COMMIT_BYTES_MAX, COMMIT_ROWS_MAX, DELETE_RANGES_MAX, DELETE_ROWS_EARLY, FETCH_BYTES_MAX, FETCH_ROWS_MAX,
    Queue, tally,
};
use crate::settings::Durability;
use crate::tag::BootNs;
use crate::uplink::mutant::Mutant;
use crate::uplink::row::{Priority, Row, Seq, StoreOp, Tally};

/// First pause after an op that the store could not carry out.
pub(super) const STORE_RETRY_MIN: Duration = Duration::from_millis(500);
/// Longest pause: a disk that is free again is used within half a minute.
pub(super) const STORE_RETRY_MAX: Duration = Duration::from_secs(30);

/// The op under way.
#[derive(Debug)]
pub(super) enum Pending {
    Commit { op: u64, rows: Vec<Seq>, deletes: Ranges },
    Fetch { op: u64, purpose: Purpose, until: Seq, generation: u64 },
    Trim { op: u64, excess: Excess },
    Replace { op: u64, planned: Planned },
    Mark { op: u64, set: Vec<Seq>, clear: Vec<Seq> },
}

impl Pending {
    pub(super) fn op(&self) -> u64 {
        match self {
            Self::Commit { op, .. }
            | Self::Fetch { op, .. }
            | Self::Trim { op, .. }
            | Self::Replace { op, .. }
            | Self::Mark { op, .. } => *op,
        }
    }
}

/// What fetched rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be sent.
    Backlog,
    /// To be thinned out.
    Thin,
    /// To look at their age.
    Age,
}

/// A replacement that is decided and waits for its turn.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) why: Why,
    pub(super) remove: Vec<Seq>,
    pub(super) rows: Vec<Arc<Row>>,
    /// How many of `remove` are of high priority.
    pub(super) high: u64,
    pub(super) generation: u64,
}

/// Why rows on disk are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Thinned,
    Expired,
    /// After a reset of the store: all rows whose bodies are in memory are written, those that were on disk again.
    Rescue(Rescue),
}

/// What is known of a rescue; see the module `rescue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rescue {
    /// What the store and the loaded rows seem to hold beyond what was stored before.
    pub(super) surplus: Tally,
    /// The highest row that was salvaged.
    pub(super) salvaged_to: Seq,
    /// Most rows of one try, less than all once there was no room.
    pub(super) rows_max: usize,
    /// There was no room: what makes some goes first.
    pub(super) yields: bool,
}

/// Pause after a failure: doubling, ended by a success.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Retry {
    failures: u32,
    until: Option<BootNs>,
}

impl Retry {
    pub(super) fn failed(&mut self, now: BootNs) {
        let pause = STORE_RETRY_MIN.saturating_mul(1 << self.failures.min(10)).min(STORE_RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now.plus(pause));
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_over(&self, now: BootNs) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    fn not_before(&self, at: BootNs) -> BootNs {
        self.until.map_or(at, |until| until.max(at))
    }
}

impl Queue {
    /// When [`Self::poll_op`] may have something to ask without anything else happening first; `None` is never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNs> {
        if self.pending.is_some() {
            return None;
        }
        let soon = BootNs(0);
        let write_at = [
            self.planned.as_ref().map(|_| soon),
            self.excess().map(|_| soon),
            self.rows_due_at(),
            self.deletes_due_at(),
            self.aside.marks_are_due().then_some(soon),
        ];
        let read_at = [self.age_due_at(), self.wants_backlog().then_some(soon)];
        let write_at = write_at.into_iter().flatten().min().map(|at| self.write_retry.not_before(at));
        let read_at = if self.planned.is_some() { [None; 2] } else { read_at };
        let read_at = read_at.into_iter().flatten().min().map(|at| self.read_retry.not_before(at));
        [write_at, read_at].into_iter().flatten().min()
    }

    pub(super) fn next_op(&mut self, now: BootNs) -> Option<StoreOp> {
        if self.pending.is_some() {
            return None;
        }
        self.expire_memory(now);
        self.shed(now);
        if self.write_retry.is_over(now)
            && let Some(op) = self.next_write(now)
        {
            return Some(op);
        }
        // What a planned replacement says about the disk is true only if nothing is read or settled before it.
        if self.planned.is_some() || !self.read_retry.is_over(now) {
            return None;
        }
        if self.age_due_at().is_some_and(|at| now >= at) {
            return Some(self.fetch(Purpose::Age, self.cursor));
        }
        self.wants_backlog().then(|| self.fetch(Purpose::Backlog, self.cursor))
    }

    fn next_write(&mut self, now: BootNs) -> Option<StoreOp> {
        if let Some(op) = self.relieve(now) {
            return Some(op);
        }
        if let Some(planned) = self.planned.take()
            && planned.generation == self.generation_of(planned.why)
        {
            let planned = self.portion(planned);
            return Some(self.replace(planned));
        }
        let commit_due = self.rows_due_at().is_some_and(|at| now >= at);
        if let Some(excess) = self.excess()
            && !(self.trimmed_last && commit_due)
        {
            if !self.deletes.is_empty() {
                return Some(self.commit(now, commit_due));
            }
            if let Some(op) = self.fetch_to_thin(now) {
                return Some(op);
            }
            return Some(self.trim(excess));
        }
        self.trimmed_last = false;
        let deletes_due = self.deletes_due_at().is_some_and(|at| now >= at);
        if commit_due || deletes_due {
            return Some(self.commit(now, commit_due));
        }
        self.aside.marks_are_due().then(|| self.mark())
    }

    /// A rescue survives a loss of the link, because its rows exist nowhere else.
    fn generation_of(&self, why: Why) -> u64 {
        match why {
            Why::Rescue(_) => 0,
            Why::Thinned | Why::Expired => self.generation,
        }
    }

    /// When the oldest row of memory is due on disk.
    fn rows_due_at(&self) -> Option<BootNs> {
        let (_, oldest) = self.memory().next()?;
        let at = self.all_due_at()?;
        // Only what somebody waits for is due then; see `commit`.
        Some(self.waited_for_at().map_or(at, |slow| at.min(slow.max(oldest.queued))))
    }

    /// When all rows of memory are due.
    fn all_due_at(&self) -> Option<BootNs> {
        let (_, oldest) = self.memory().next()?;
        let at_once = self.flush
            || self.settings.durability == Durability::Strict
            || self.memory_pressed()
            || self.urgent_now()
            || self.aside.in_memory_rows() > 0
            || self.faults.has(Mutant::CommitEager);
        if at_once {
            return Some(oldest.queued);
        }
        let times = if self.faults.has(Mutant::CommitLate) { 3 } else { 1 };
        Some(oldest.queued.plus(self.settings.commit_interval.saturating_mul(times)))
    }

    /// When rows that publishers wait for are due because the reader is slow.
    fn waited_for_at(&self) -> Option<BootNs> {
        let ignored = self.faults.has(Mutant::SlowLate) || self.faults.has(Mutant::ReceiptLate);
        self.slow_from().filter(|_| self.urgent > 0 && self.flows() && !ignored)
    }

    /// Whether a publisher is held up and no acknowledgement can come soon.
    fn urgent_now(&self) -> bool {
        let late = self.faults.has(Mutant::ReceiptLate);
        let eager = self.faults.has(Mutant::ReceiptEager);
        self.urgent > 0 && (eager || !self.flows()) && !late
    }

    /// When settled rows are due to be deleted.
    fn deletes_due_at(&self) -> Option<BootNs> {
        let since = self.deletes_since.filter(|_| !self.deletes.is_empty())?;
        let at_once = self.flush
            || self.deletes.rows() >= DELETE_ROWS_EARLY
            || self.deletes.len() >= DELETE_RANGES_MAX / 2;
        Some(if at_once { since } else { since.plus(self.settings.commit_interval) })
    }

    fn age_due_at(&self) -> Option<BootNs> {
        self.age_at.filter(|_| self.settings.limits.age_max.is_some() && self.unloaded() > 0)
    }

    /// Whether the backlog in memory is running out and more is on disk. Not while too many deletions wait: each row read and sent
    /// adds one.
    fn wants_backlog(&self) -> bool {
        self.attached
            && !self.flush
            && self.unloaded() > 0
            && self.deletes.len() < DELETE_RANGES_MAX
            && self.backlog.len() < self.fetch_rows() as usize / 2
    }

    /// Rows of one fetch: two windows, within bounds.
    fn fetch_rows(&self) -> u32 {
        (u32::from(self.settings.window) * 2).clamp(16, FETCH_ROWS_MAX)
    }

    /// Last seq of the commit under way, or of the last one.
    pub(super) fn committing_to(&self) -> Seq {
        match &self.pending {
            Some(Pending::Commit { rows, .. }) => rows.last().copied().unwrap_or(self.committed_to),
            Some(Pending::Replace { planned, .. }) => {
                planned.rows.last().map_or(self.committed_to, |row| row.seq.max(self.committed_to))
            }
            _ => self.committed_to,
        }
    }

    pub(super) fn commit(&mut self, now: BootNs, with_rows: bool) -> StoreOp {
        let mut rows = Vec::new();
        if with_rows {
            let mut bytes: u64 = 0;
            let until = self.commits_until(now);
            for (_, entry) in self.memory().take_while(|(seq, _)| **seq <= until).take(COMMIT_ROWS_MAX) {
                bytes = bytes.saturating_add(entry.row.size());
                if bytes > COMMIT_BYTES_MAX && !rows.is_empty() {
                    break;
                }
                rows.push(Arc::clone(&entry.row));
            }
        }
        let deletes = self.deletes_of_commit();
        self.deletes_since = (!self.deletes.is_empty()).then_some(now);
        let acked = deletes.to_vec();
        let op = self.number();
        let seqs: Vec<Seq> = rows.iter().map(|row| row.seq).collect();
        if self.faults.has(Mutant::AckBeforeCommit) {
            self.receipts_safe(&seqs);
        }
        self.pending = Some(Pending::Commit { op, rows: seqs, deletes });
        self.counters.writes_total += 1;
        StoreOp::Commit { op, rows, acked }
    }

    /// The last row that is due: of all, or of those that publishers wait for.
    fn commits_until(&self, now: BootNs) -> Seq {
        let everything = Seq(u64::MAX);
        if self.all_due_at().is_none_or(|at| now >= at) {
            return everything;
        }
        let urgent = |(_, entry): &(&Seq, &super::Entry)| entry.waiting == super::Waiting::Urgent;
        self.memory().rev().find(urgent).map_or(everything, |(seq, _)| *seq)
    }

    pub(super) fn fetch(&mut self, purpose: Purpose, after: Seq) -> StoreOp {
        let op = self.number();
        let until = self.committed_to;
        self.pending = Some(Pending::Fetch { op, purpose, until, generation: self.generation });
        self.counters.reads_total += 1;
        let rows_max = self.fetch_rows();
        StoreOp::Fetch { op, after, until, rows_max, bytes_max: FETCH_BYTES_MAX }
    }

    pub(super) fn trim(&mut self, excess: Excess) -> StoreOp {
        let op = self.number();
        let loaded = self.entries.range((Bound::Unbounded, Bound::Included(self.committed_to)));
        let mut keep: Vec<Seq> = loaded.map(|(seq, _)| *seq).collect();
        keep.extend(self.aside.seqs_on_disk());
        keep.extend(self.rescue_holds());
        keep.sort_unstable();
        keep.dedup();
        if self.faults.has(Mutant::TrimInFlight) {
            keep.clear();
        }
        self.pending = Some(Pending::Trim { op, excess });
        self.trimmed_last = true;
        self.counters.trims_total += 1;
        let Excess { rows, bytes, priority_max } = excess;
        StoreOp::Trim { op, rows, bytes, priority_max, keep }
    }

    fn replace(&mut self, planned: Planned) -> StoreOp {
        let op = self.number();
        self.counters.writes_total += 1;
        let (remove, rows) = (planned.remove.clone(), planned.rows.clone());
        self.pending = Some(Pending::Replace { op, planned });
        StoreOp::Replace { op, remove, rows }
    }

    pub(super) fn number(&mut self) -> u64 {
        let op = self.next_op;
        self.next_op += 1;
        op
    }
}

/// Rows of high priority among these.
pub(super) fn high_rows(rows: &[Arc<Row>]) -> u64 {
    rows.iter().filter(|row| row.priority == Priority::High).map(|row| tally(row).rows).sum()
}

//! Rows that the cloud will not take: they stay stored and are not sent.
//!
//! ```text
//!   in flight --set aside--> in memory --commit, due at once--> on disk --Mark--> marked on disk
//!                                                                 |  put back: mark cleared, waits at its place again
//!                                                                 +--deleted by hand or by the limit: dropped as `refused-by-cloud`
//! ```
//!
//! A row that is set aside counts as stored (or in memory, until it is committed), so the equation of the ledger does not change with it. Neither the
//! limits of the queue nor its age limit concern it. A crash before its mark is on disk only lets it be sent and blamed once more. A database that
//! takes the place of a damaged one may have lost marks: those that are known are remembered until the rows behind them have been read, and a row
//! that was salvaged without its mark is marked again.
//!
//! Bounds: [`ASIDE_ROWS_MAX`] rows of together [`crate::uplink::settings::Limits::aside_bytes_max`]; of each about half a kilobyte is in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::lanes::Settled;
use super::ledger::plus;
use super::ops::Pending;
use super::ranges::Ranges;
use super::{ASIDE_ROWS_MAX, DropReason, Lane, Queue};
use crate::tag::BootNs;
use crate::uplink::mutant::Mutant;
use crate::uplink::row::{Blame, Mark, Priority, Row, Seq, StoreOp, Tally};

#[derive(Debug)]
struct Held {
    mark: Arc<Mark>,
    on_disk: bool,
    /// The store has the mark, or is being told.
    marked: bool,
}

/// What is set aside.
#[derive(Debug, Default)]
pub(super) struct Aside {
    rows: BTreeMap<Seq, Held>,
    total: Tally,
    on_disk: Tally,
    rows_on_disk: [u64; 2],
    /// Rows on disk whose mark the store does not have yet.
    unmarked: BTreeSet<Seq>,
    /// Rows whose mark the store has to forget.
    clear: BTreeSet<Seq>,
    /// Marks that a new database has lost, of rows that it may have.
    remembered: BTreeMap<Seq, Arc<Mark>>,
}

impl Aside {
    pub(super) fn holds(&self, seq: Seq) -> bool {
        self.rows.contains_key(&seq)
    }

    pub(super) fn total(&self) -> Tally {
        self.total
    }

    pub(super) fn on_disk(&self) -> Tally {
        self.on_disk
    }

    pub(super) fn rows_on_disk(&self, priority: Priority) -> u64 {
        self.rows_on_disk[priority as usize]
    }

    pub(super) fn in_memory_rows(&self) -> usize {
        usize::try_from(self.total.rows.saturating_sub(self.on_disk.rows)).unwrap_or(usize::MAX)
    }

    /// Rows that are on disk, or may be.
    pub(super) fn seqs_on_disk(&self) -> impl Iterator<Item = Seq> {
        let known = self.rows.iter().filter(|(_, held)| held.on_disk).map(|(seq, _)| *seq);
        known.chain(self.remembered.keys().copied())
    }

    pub(super) fn marks_are_due(&self) -> bool {
        !self.unmarked.is_empty() || !self.clear.is_empty()
    }

    fn put(&mut self, mark: Arc<Mark>, on_disk: bool, marked: bool) {
        let seq = mark.seq;
        self.forget(seq);
        self.total.add(mark.tally);
        if on_disk {
            self.count_on_disk(&mark);
        }
        if on_disk && !marked {
            self.unmarked.insert(seq);
        }
        self.clear.remove(&seq);
        self.rows.insert(seq, Held { mark, on_disk, marked });
    }

    fn count_on_disk(&mut self, mark: &Mark) {
        self.on_disk.add(mark.tally);
        self.rows_on_disk[mark.priority as usize] += 1;
    }

    /// The row has left the queue, or waits in it again. Gives its mark, and whether the store knows that.
    pub(super) fn forget(&mut self, seq: Seq) -> Option<(Arc<Mark>, bool)> {
        let held = self.rows.remove(&seq)?;
        self.total.take(held.mark.tally);
        if held.on_disk {
            self.on_disk.take(held.mark.tally);
            let rows = &mut self.rows_on_disk[held.mark.priority as usize];
            *rows = rows.saturating_sub(1);
        }
        self.unmarked.remove(&seq);
        Some((held.mark, held.marked))
    }

    /// A row has come to the disk. Says whether it is set aside.
    pub(super) fn committed(&mut self, seq: Seq) -> bool {
        let Some(held) = self.rows.get_mut(&seq) else { return false };
        held.on_disk = true;
        let mark = Arc::clone(&held.mark);
        self.count_on_disk(&mark);
        self.unmarked.insert(seq);
        true
    }

    /// What the store could not write is due again, unless it means nothing any more.
    pub(super) fn unmarked(&mut self, set: &[Seq], clear: &[Seq]) {
        for seq in set {
            if let Some(held) = self.rows.get_mut(seq) {
                held.marked = false;
                self.unmarked.insert(*seq);
            }
        }
        self.clear.extend(clear.iter().filter(|seq| !self.rows.contains_key(*seq)));
    }

    /// The store holds other rows than before: of those on disk the ones that it names are set aside, and later those that are read from it and were
    /// set aside before.
    pub(super) fn replaced(
        &mut self,
        marks: &[Arc<Mark>],
        deletes: &Ranges,
        in_memory: impl Fn(Seq) -> bool,
    ) {
        let gone: Vec<Seq> = self.rows.iter().filter(|(_, held)| held.on_disk).map(|(seq, _)| *seq).collect();
        for seq in gone {
            if let Some((mark, _)) = self.forget(seq) {
                self.remembered.insert(seq, mark);
            }
        }
        self.clear.clear();
        for mark in marks.iter().filter(|mark| !deletes.contains(mark.seq)) {
            if in_memory(mark.seq) {
                // It was put back, and the store had not heard of that.
                self.clear.insert(mark.seq);
            } else {
                self.put(Arc::clone(mark), true, true);
            }
        }
        self.remembered.retain(|seq, _| !self.rows.contains_key(seq) && !deletes.contains(*seq));
        while self.remembered.len() > ASIDE_ROWS_MAX {
            self.remembered.pop_first();
        }
    }

    /// Rows that were read: those whose mark was lost are set aside again.
    fn recall(&mut self, rows: &[Arc<Row>]) {
        for row in rows {
            if let Some(mark) = self.remembered.remove(&row.seq) {
                self.put(mark, true, false);
            }
        }
    }

    /// Everything up to there has been read: what is remembered of it was not salvaged.
    pub(super) fn read_to(&mut self, reached: Seq) {
        while self.remembered.first_entry().is_some_and(|first| *first.key() <= reached) {
            self.remembered.pop_first();
        }
    }

    pub(super) fn audit(&self, in_memory: impl Fn(Seq) -> bool) -> bool {
        let sum = |on_disk: bool| {
            let rows = self.rows.values().filter(|held| held.on_disk || !on_disk);
            rows.fold(Tally::default(), |sum, held| plus(sum, held.mark.tally))
        };
        let apart = self.rows.iter().all(|(seq, held)| held.on_disk != in_memory(*seq));
        apart && sum(false) == self.total && sum(true) == self.on_disk
    }
}

impl Queue {
    /// Says which of the stored rows are set aside; once, before anything else is asked of the queue.
    pub fn restore_aside(&mut self, marks: &[Arc<Mark>]) {
        for mark in marks {
            self.aside.put(Arc::clone(mark), true, true);
        }
        self.debug_check();
    }

    /// The first waiting row of a lane.
    #[must_use]
    pub fn peek(&self, lane: Lane) -> Option<&Arc<Row>> {
        let waiting = match lane {
            Lane::Live => &self.live,
            Lane::Backlog => &self.backlog,
        };
        waiting.first().and_then(|seq| self.entries.get(seq)).map(|entry| &entry.row)
    }

    /// The row that waits behind another one in its lane.
    #[must_use]
    pub fn peek_behind(&self, lane: Lane, seq: Seq) -> Option<&Arc<Row>> {
        let waiting = match lane {
            Lane::Live => &self.live,
            Lane::Backlog => &self.backlog,
        };
        let behind = (Bound::Excluded(seq), Bound::Unbounded);
        waiting.range(behind).next().and_then(|seq| self.entries.get(seq)).map(|entry| &entry.row)
    }

    /// A row whose body is in memory.
    #[must_use]
    pub fn row(&self, seq: Seq) -> Option<Arc<Row>> {
        self.entries.get(&seq).map(|entry| Arc::clone(&entry.row))
    }

    /// Sets a row aside that waits or is in flight; it stays stored and is not sent until it is put back. The oldest ones go, counted, when there
    /// are too many. Gives its mark, or nothing if the row is not in memory.
    pub fn set_aside(&mut self, now: BootNs, seq: Seq, blame: Blame, server: &Arc<str>) -> Option<Arc<Mark>> {
        let entry = self.entries.get_mut(&seq)?;
        if std::mem::take(&mut entry.in_flight) {
            self.in_flight -= 1;
        }
        let mark = Arc::new(Mark::of(&entry.row, blame, server));
        self.live.remove(&seq);
        self.backlog.remove(&seq);
        self.counters.set_aside_rows_total += 1;
        if self.faults.has(Mutant::AsideCountedDropped) {
            self.settle(now, seq, Settled::Dropped(DropReason::RefusedByCloud));
            return Some(mark);
        }
        let on_disk = seq <= self.committed_to;
        if on_disk {
            self.unload(seq);
        }
        self.aside.put(Arc::clone(&mark), on_disk, false);
        self.bound_aside(now);
        self.debug_check();
        Some(mark)
    }

    fn bound_aside(&mut self, now: BootNs) {
        while self.aside.rows.len() > ASIDE_ROWS_MAX
            || self.aside.total.bytes > self.settings.limits.aside_bytes_max()
        {
            let Some(oldest) = self.aside.rows.keys().next().copied() else { break };
            self.delete_aside(now, oldest);
        }
    }

    /// Rows come from the store: those that are known to be set aside although it has lost their marks are marked again.
    pub(super) fn recall(&mut self, now: BootNs, rows: &[Arc<Row>]) {
        if !self.aside.remembered.is_empty() {
            self.aside.recall(rows);
            self.bound_aside(now);
        }
    }

    /// Puts a row back that was set aside: it waits again at its place, to be sent before what was published after it. Says whether it was set aside.
    pub fn put_back(&mut self, seq: Seq) -> bool {
        let remembered = self.aside.remembered.remove(&seq).map(|mark| (mark, false));
        let Some((_, marked)) = self.aside.forget(seq).or(remembered) else { return false };
        self.counters.put_back_rows_total += 1;
        if self.entries.contains_key(&seq) {
            if self.sendable_before_commit() {
                self.live.insert(seq);
            }
        } else {
            self.cursor = self.cursor.min(Seq(seq.0.saturating_sub(1)));
            if marked {
                self.aside.clear.insert(seq);
            }
        }
        self.debug_check();
        true
    }

    /// Deletes a row that was set aside; it counts as dropped. Says whether it was set aside.
    pub fn delete_aside(&mut self, now: BootNs, seq: Seq) -> bool {
        if self.entries.contains_key(&seq) && self.aside.holds(seq) {
            self.settle(now, seq, Settled::Dropped(DropReason::RefusedByCloud));
            return true;
        }
        let Some((mark, _)) = self.aside.forget(seq) else { return false };
        let rows = &mut self.stored_rows[mark.priority as usize];
        *rows = rows.saturating_sub(1);
        self.ledger.lose(mark.tally, true, DropReason::RefusedByCloud);
        self.delete_later(now, seq);
        self.debug_check();
        true
    }

    /// Marks of all rows that are set aside, oldest first.
    pub fn aside(&self) -> impl Iterator<Item = &Arc<Mark>> {
        self.aside.rows.values().map(|held| &held.mark)
    }

    /// Whether the store has been told everything about what is set aside on disk.
    #[must_use]
    pub fn marks_are_written(&self) -> bool {
        !self.aside.marks_are_due() && self.aside.in_memory_rows() == 0
    }

    /// How much is set aside; part of what is stored, or in memory for a moment.
    #[must_use]
    pub fn aside_total(&self) -> Tally {
        self.aside.total
    }

    /// Rows on disk that no trim may delete.
    pub(super) fn spared_rows(&self, priority: Priority) -> u64 {
        self.loaded_rows[priority as usize] + self.aside.rows_on_disk(priority)
    }

    /// Tells the store which rows are set aside and which are no longer.
    pub(super) fn mark(&mut self) -> StoreOp {
        let set = std::mem::take(&mut self.aside.unmarked);
        let clear = std::mem::take(&mut self.aside.clear);
        let clear: Vec<Seq> = clear.into_iter().collect();
        let mut marks = Vec::with_capacity(set.len());
        for seq in &set {
            if let Some(held) = self.aside.rows.get_mut(seq) {
                held.marked = true;
                marks.push(Arc::clone(&held.mark));
            }
        }
        if self.faults.has(Mutant::ForgetAside) {
            marks.clear();
        }
        let op = self.number();
        self.counters.writes_total += 1;
        self.pending = Some(Pending::Mark { op, set: set.into_iter().collect(), clear: clear.clone() });
        StoreOp::Mark { op, set: marks, clear }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::{BootId, RunId};
    use crate::uplink::row::Blame;

    fn mark(seq: u64) -> Arc<Mark> {
        let tally = Tally { rows: 1, readings: 2, bytes: 30 };
        let run = RunId { boot: BootId(1), start_ms: 0 };
        let (topic, server) = ("t".into(), "cloud:8883".into());
        let (priority, at) = (Priority::Normal, BootNs(0));
        Arc::new(Mark { seq: Seq(seq), priority, tally, topic, run, at, blame: Blame::Cut, server })
    }

    #[test]
    fn the_audit_misses_no_count_that_is_wrong_by_itself() {
        let is_sound = |spoil: &dyn Fn(&mut Aside)| {
            let mut aside = Aside::default();
            aside.put(mark(1), true, true);
            aside.put(mark(2), false, false);
            spoil(&mut aside);
            aside.audit(|seq| seq == Seq(2))
        };
        assert!(is_sound(&|_| {}));
        assert!(!is_sound(&|aside| aside.total.readings += 1));
        assert!(!is_sound(&|aside| aside.on_disk.bytes += 1));
        assert!(!is_sound(&|aside| aside.rows.get_mut(&Seq(2)).unwrap().on_disk = true));
        let mut aside = Aside::default();
        aside.put(mark(1), true, true);
        assert!(!aside.audit(|_| true), "a row on disk is no row of memory");
    }
}

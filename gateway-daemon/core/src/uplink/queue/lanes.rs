//! Between the queue and its reader: which row is next, and what became of it.

use std::collections::btree_map;
use std::ops::Bound;
use std::sync::Arc;

use super::{DropReason, Entry, Fate, Lane, Queue, tally};
use crate::tag::BootNs;
use crate::uplink::mutant::Mutant;
use crate::uplink::row::{Row, Seq};
use crate::uplink::settings::Drain;

/// A row handed to the reader.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The row.
    pub row: Arc<Row>,
    /// Whether it was handed out before in this run, so that the cloud may know it.
    pub again: bool,
}

impl Queue {
    /// The reader's link is up: the backlog is read from disk from here on.
    pub fn attach(&mut self) {
        self.attached = true;
    }

    /// The reader's link is gone: rows in flight wait again, and bodies that are on disk leave memory.
    pub fn detach(&mut self, now: BootNs) {
        self.attached = false;
        self.generation += 1;
        let (stay, live_first) = (self.stays_loaded(), self.live_first());
        for (seq, entry) in &mut self.entries {
            if entry.in_flight && self.faults.has(Mutant::NoResend) {
                continue;
            }
            if entry.in_flight {
                entry.in_flight = false;
                self.in_flight -= 1;
                let in_memory = *seq > self.committed_to && !self.backlog.contains(seq);
                // A fresh row may lie beyond a backlog that nobody has read.
                if in_memory || (stay && live_first && entry.fresh) {
                    self.live.insert(*seq);
                } else if stay {
                    self.backlog.insert(*seq);
                }
            }
        }
        self.departures.clear();
        self.unload_stored(now);
        self.debug_check();
    }

    /// Without a link, bodies that are on disk leave memory.
    pub(super) fn unload_stored(&mut self, now: BootNs) {
        if self.stays_loaded() {
            return;
        }
        let on_disk = self.entries.range((Bound::Unbounded, Bound::Included(self.committed_to)));
        let unload: Vec<Seq> = on_disk.filter(|(_, entry)| !entry.in_flight).map(|(seq, _)| *seq).collect();
        for seq in &unload {
            self.unload(*seq);
        }
        if let Some(Seq(lowest)) = unload.first() {
            self.cursor = self.cursor.min(Seq(lowest.saturating_sub(1)));
            if self.settings.limits.age_max.is_some() {
                self.age_at = Some(now);
            }
        }
    }

    /// Whether a fresh row waits that may be sent.
    #[must_use]
    pub fn has_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// Whether a row of the backlog waits in memory.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether there is a backlog, in memory or on a disk that can be read.
    #[must_use]
    pub fn backlog_exists(&self) -> bool {
        !self.backlog.is_empty() || (self.unloaded() > 0 && !self.read_retry.is_failing())
    }

    /// The lane of the row that is next by its number, if no row before it is still on disk only.
    #[must_use]
    pub fn next_in_order(&self) -> Option<Lane> {
        let live = self.live.first();
        match (live, self.backlog.first()) {
            (Some(live), Some(backlog)) if live < backlog => Some(Lane::Live),
            (_, Some(_)) => Some(Lane::Backlog),
            // Rows of memory come after everything on disk, loaded or not.
            (Some(live), None) if *live <= self.committed_to || self.unloaded() == 0 => Some(Lane::Live),
            (_, None) => None,
        }
    }

    /// Takes the first waiting row of a lane and counts it as in flight. `None` if the lane is empty, or if its first row had expired and is
    /// dropped: then another row, perhaps of the other lane, is next.
    pub fn take(&mut self, now: BootNs, lane: Lane) -> Option<Taken> {
        let seq = self.first_of(lane)?;
        self.take_this(now, lane, seq)
    }

    /// As [`Self::take`], of a row that waits in this lane.
    pub fn take_this(&mut self, now: BootNs, lane: Lane, seq: Seq) -> Option<Taken> {
        let Some(entry) = self.entries.get(&seq) else {
            self.counters.odd_answers_total += 1;
            self.waiting(lane).remove(&seq);
            return None;
        };
        if self.is_expired(&entry.row, now) {
            self.settle(now, seq, Settled::Dropped(DropReason::Expired));
            return None;
        }
        let entry = self.entries.get_mut(&seq)?;
        (entry.in_flight, entry.since) = (true, now);
        self.departures.push_back((now, seq));
        let again = std::mem::replace(&mut entry.sent, true);
        let row = Arc::clone(&entry.row);
        self.in_flight += 1;
        self.counters.resent_rows_total += u64::from(again);
        self.waiting(lane).remove(&seq);
        if self.faults.has(Mutant::DeleteOnSend) && seq <= self.committed_to {
            self.delete_later(now, seq);
        }
        Some(Taken { row, again })
    }

    /// The reader has acknowledged a row in flight. Returns false, and changes nothing, if it is not in flight.
    pub fn acknowledged(&mut self, now: BootNs, seq: Seq) -> bool {
        self.end_flight(now, seq, Settled::Acknowledged)
    }

    /// The link can never send a row in flight: it is dropped and counted. Returns false if it is not in flight.
    pub fn refused(&mut self, now: BootNs, seq: Seq, reason: DropReason) -> bool {
        if self.faults.has(Mutant::ResendRefused) {
            if let Some(entry) = self.entries.get_mut(&seq) {
                entry.in_flight = false;
                self.in_flight -= 1;
                self.live.insert(seq);
            }
            return true;
        }
        self.end_flight(now, seq, Settled::Dropped(reason))
    }

    fn end_flight(&mut self, now: BootNs, seq: Seq, settled: Settled) -> bool {
        let known = self.entries.get(&seq).is_some_and(|entry| entry.in_flight);
        if known {
            self.settle(now, seq, settled);
        }
        self.debug_check();
        known
    }

    /// Forgets a row because it has arrived or is dropped. A row that is on disk is deleted in the next commit, one that is being
    /// committed afterwards.
    pub(super) fn settle(&mut self, now: BootNs, seq: Seq, settled: Settled) {
        let Some(entry) = self.entries.remove(&seq) else { return };
        self.aside.forget(seq);
        self.live.remove(&seq);
        self.backlog.remove(&seq);
        self.in_flight -= usize::from(entry.in_flight);
        if entry.in_flight && matches!(settled, Settled::Acknowledged) {
            self.pace.answered(now, entry.since);
        }
        self.forget_departures();
        let on_disk = seq <= self.committed_to;
        if on_disk {
            self.forget_loaded(&entry);
            let rows = &mut self.stored_rows[entry.row.priority as usize];
            *rows = rows.saturating_sub(1);
            self.delete_later(now, seq);
        }
        let row = tally(&entry.row);
        let fate = match settled {
            Settled::Acknowledged => {
                self.ledger.acknowledge(row, on_disk);
                Fate::Safe
            }
            Settled::Dropped(reason) => {
                self.ledger.lose(row, on_disk, reason);
                Fate::Dropped(reason)
            }
        };
        self.tell(seq, entry.waiting, fate);
    }

    /// Takes the body of a row that is on disk out of memory; the row stays counted as stored.
    pub(super) fn unload(&mut self, seq: Seq) {
        self.live.remove(&seq);
        self.backlog.remove(&seq);
        if let Some(entry) = self.entries.remove(&seq) {
            self.forget_loaded(&entry);
        }
    }

    pub(super) fn forget_loaded(&mut self, entry: &Entry) {
        self.loaded.take(tally(&entry.row));
        let rows = &mut self.loaded_rows[entry.row.priority as usize];
        *rows = rows.saturating_sub(1);
    }

    pub(super) fn count_loaded(&mut self, row: &Row) {
        self.loaded.add_row(row);
        self.loaded_rows[row.priority as usize] += 1;
    }

    pub(super) fn delete_later(&mut self, now: BootNs, seq: Seq) {
        self.deletes.insert(seq);
        self.deletes_since.get_or_insert(now);
    }

    /// Rows that are only in memory, oldest first, those of a commit under way included.
    pub(super) fn memory(&self) -> btree_map::Range<'_, Seq, Entry> {
        self.entries.range((Bound::Excluded(self.committed_to), Bound::Unbounded))
    }

    /// Whether the reader is about to acknowledge what was published last: its link is up and no backlog goes first.
    pub(super) fn flows(&self) -> bool {
        self.attached && (self.live_first() || (self.backlog.is_empty() && self.unloaded() == 0))
    }

    /// From when on the reader counts as slow unless it answers before: when its oldest row, sent or waiting, has had its time.
    pub(super) fn slow_from(&self) -> Option<BootNs> {
        let oldest = self.departures.front().map(|(since, _)| *since).or_else(|| self.oldest_waiting())?;
        Some(oldest.plus(self.pace.patience(self.settings.commit_interval)))
    }

    /// Rows that are not in flight any more, or are again since later, are no reason to call the reader slow.
    fn forget_departures(&mut self) {
        while let Some((since, seq)) = self.departures.front() {
            let flies = |entry: &Entry| entry.in_flight && entry.since == *since;
            if self.entries.get(seq).is_some_and(flies) {
                break;
            }
            self.departures.pop_front();
        }
    }

    /// Whether fresh rows overtake the backlog.
    pub(super) fn live_first(&self) -> bool {
        self.settings.drain == Drain::LiveFirst
    }

    fn first_of(&mut self, lane: Lane) -> Option<Seq> {
        let reorder = self.faults.has(Mutant::ReorderResend);
        let waiting = self.waiting(lane);
        if reorder { waiting.last().copied() } else { waiting.first().copied() }
    }

    fn waiting(&mut self, lane: Lane) -> &mut std::collections::BTreeSet<Seq> {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        }
    }
}

/// How a row ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Settled {
    /// Its reader has it.
    Acknowledged,
    /// A stated policy dropped it.
    Dropped(DropReason),
}

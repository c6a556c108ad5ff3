//! What the store's answers change.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::admission::Excess;
use super::ledger::{minus, plus};
use super::ops::{Pending, Planned, Purpose, Why, high_rows};
use super::ranges::Ranges;
use super::{DropReason, Entry, FETCH_BYTES_MAX, Fate, MEMORY_ROWS_MAX, Queue, Receipt, Waiting, tally};
use crate::tag::BootNs;
use crate::uplink::mutant::Mutant;
use crate::uplink::row::{Mark, Priority, Row, Seq, StoreEvent, StoreFault, Stored, Tally};

impl Queue {
    /// Takes an answer of the store. One that fits no op under way is counted and ignored.
    pub fn store(&mut self, now: BootNs, event: StoreEvent) {
        self.answered(now, event);
        self.debug_check();
    }

    fn answered(&mut self, now: BootNs, event: StoreEvent) {
        let op = match &event {
            StoreEvent::Reset { salvaged, aside } => return self.reset(now, *salvaged, aside),
            StoreEvent::Committed { op, .. }
            | StoreEvent::Fetched { op, .. }
            | StoreEvent::Trimmed { op, .. }
            | StoreEvent::Failed { op, .. } => *op,
        };
        let Some(pending) = self.pending.take_if(|pending| pending.op() == op) else {
            self.counters.odd_answers_total += 1;
            return;
        };
        match (pending, event) {
            (Pending::Commit { rows, deletes, .. }, StoreEvent::Committed { deleted, .. }) => {
                self.wrote();
                self.committed(now, &rows);
                self.spare_rescue(&rows, &deletes, deleted);
            }
            (Pending::Replace { planned, .. }, StoreEvent::Committed { deleted, .. }) => {
                self.wrote();
                self.replaced(&planned, deleted);
                if let Why::Rescue { .. } = planned.why {
                    let fresh = planned.rows.iter().map(|row| row.seq).filter(|seq| *seq > self.committed_to);
                    let fresh: Vec<Seq> = fresh.collect();
                    self.committed(now, &fresh);
                }
            }
            (Pending::Mark { .. }, StoreEvent::Committed { .. }) => self.wrote(),
            (Pending::Trim { excess, .. }, StoreEvent::Trimmed { dropped, .. }) => {
                self.wrote();
                self.trimmed(excess, dropped);
            }
            (Pending::Fetch { purpose, until, generation, .. }, StoreEvent::Fetched { rows, more, .. }) => {
                self.read_retry.succeeded();
                if generation == self.generation {
                    self.fetched(now, purpose, until, rows, more);
                } else {
                    self.counters.fetched_in_vain_rows_total += rows.len() as u64;
                }
            }
            (pending, StoreEvent::Failed { fault, .. }) => self.failed(now, pending, fault),
            (pending, _) => {
                self.counters.odd_answers_total += 1;
                self.failed(now, pending, StoreFault::Io);
            }
        }
    }

    fn wrote(&mut self) {
        self.write_retry.succeeded();
        self.fault = None;
    }

    fn failed(&mut self, now: BootNs, pending: Pending, fault: StoreFault) {
        self.counters.store_failures_total += 1;
        self.fault = Some(fault);
        match pending {
            Pending::Commit { rows, .. } if self.faults.has(Mutant::BelieveFailedCommit) => {
                self.committed(now, &rows);
            }
            Pending::Commit { deletes, .. } => {
                self.write_failed(now);
                self.deletes.join(&deletes);
                if !self.deletes.is_empty() {
                    self.deletes_since.get_or_insert(now);
                }
            }
            Pending::Fetch { .. } => self.read_retry.failed(now),
            Pending::Trim { .. } => self.write_failed(now),
            Pending::Mark { set, clear, .. } => {
                self.write_failed(now);
                self.aside.unmarked(&set, &clear);
            }
            Pending::Replace { planned, .. } => {
                self.write_failed(now);
                match planned.why {
                    Why::Rescue { .. } => self.planned = Some(planned),
                    Why::Expired => self.age_at = Some(now),
                    Why::Thinned => {}
                }
            }
        }
    }

    /// Rows of memory are on disk. Those in flight stay loaded, and so do fresh ones, as many as may be in flight and as much as one fetch: a message that is
    /// committed at once because its publisher waits does not go behind a backlog of hours. Others leave memory.
    fn committed(&mut self, now: BootNs, rows: &[Seq]) {
        let mut keep = self.attached && (self.live_first() || self.unloaded() == 0);
        let window = usize::from(self.settings.window);
        let (mut kept, mut kept_bytes) = self.kept_before(rows.first().copied().unwrap_or_default());
        for seq in rows {
            let Some(entry) = self.entries.get_mut(seq) else {
                // Acknowledged or dropped while it was being committed.
                if !self.faults.has(Mutant::ForgetCommittingAck) {
                    self.delete_later(now, *seq);
                }
                continue;
            };
            let row = Arc::clone(&entry.row);
            let in_flight = entry.in_flight;
            let waiting = std::mem::take(&mut entry.waiting);
            self.tell(*seq, waiting, Fate::Safe);
            self.ledger.commit(tally(&row));
            self.stored_rows[row.priority as usize] += 1;
            self.count_loaded(&row);
            if self.aside.committed(*seq) {
                self.unload(*seq);
                continue;
            }
            keep = keep && kept < window && kept_bytes < FETCH_BYTES_MAX;
            if !in_flight && keep {
                kept += 1;
                kept_bytes = kept_bytes.saturating_add(row.size());
                self.live.insert(*seq);
            } else if !in_flight {
                self.unload(*seq);
            }
            if self.age_at.is_none() && self.settings.limits.age_max.is_some() {
                self.age_at = Some(self.expires_at(&row));
            }
        }
        if let Some(last) = rows.last() {
            self.committed_to = *last;
        }
    }

    /// Fresh rows before this one that are on disk and stay loaded, and their bytes.
    fn kept_before(&self, seq: Seq) -> (usize, u64) {
        let sizes = self.live.range(..seq).filter_map(|seq| Some(self.entries.get(seq)?.row.size()));
        sizes.fold((0, 0), |(rows, bytes), size| (rows + 1, bytes.saturating_add(size)))
    }

    pub(super) fn receipts_safe(&mut self, rows: &[Seq]) {
        for seq in rows {
            if let Some(entry) = self.entries.get_mut(seq) {
                let waiting = std::mem::take(&mut entry.waiting);
                self.tell(*seq, waiting, Fate::Safe);
            }
        }
    }

    /// Tells whoever waits for a row, which waits for nothing any more.
    pub(super) fn tell(&mut self, seq: Seq, waiting: Waiting, fate: Fate) {
        self.urgent -= usize::from(waiting == Waiting::Urgent);
        if waiting != Waiting::Nobody {
            self.receipts.push_back(Receipt { seq, fate });
        }
    }

    fn trimmed(&mut self, excess: Excess, dropped: Tally) {
        self.ledger.lose(dropped, true, self.policy_reason());
        self.owed = Tally::default();
        let Excess { rows, bytes, priority_max } = excess;
        let stored = &mut self.stored_rows[priority_max as usize];
        *stored = stored.saturating_sub(dropped.rows);
        if dropped.rows < rows || dropped.bytes < bytes {
            // The store found nothing more that it may delete.
            self.stored_rows[Priority::Normal as usize] = self.spared_rows(Priority::Normal);
            if priority_max == Priority::High {
                self.stored_rows[Priority::High as usize] = self.spared_rows(Priority::High);
            }
        }
    }

    fn replaced(&mut self, planned: &Planned, deleted: Tally) {
        let added = planned.rows.iter().fold(Tally::default(), |sum, row| plus(sum, tally(row)));
        match planned.why {
            Why::Thinned => self.ledger.correct(deleted, added, DropReason::Thinned),
            Why::Expired => self.ledger.lose(deleted, true, DropReason::Expired),
            // What was both salvaged and loaded has been counted twice.
            Why::Rescue { surplus, .. } => self.ledger.correct(deleted, surplus, DropReason::StoreLost),
        }
        let (added_rows, high_added) = match planned.why {
            // They were counted when the rescue was planned.
            Why::Rescue { .. } => (0, 0),
            Why::Thinned | Why::Expired => (added.rows, high_rows(&planned.rows)),
        };
        let high_removed = planned.high.min(deleted.rows);
        let [normal, high] = &mut self.stored_rows;
        *high = high.saturating_sub(high_removed).saturating_add(high_added);
        let normal_removed = deleted.rows.saturating_sub(high_removed);
        *normal = normal.saturating_sub(normal_removed).saturating_add(added_rows.saturating_sub(high_added));
    }

    fn fetched(&mut self, now: BootNs, purpose: Purpose, until: Seq, rows: Vec<Arc<Row>>, more: bool) {
        if more && rows.is_empty() {
            self.counters.odd_answers_total += 1;
            self.read_retry.failed(now);
            return;
        }
        self.recall(now, &rows);
        let last = rows.last().map_or(until, |row| row.seq);
        let reached = if more { last } else { until };
        if purpose == Purpose::Age {
            // Rows set aside have no age; looked at from behind them, the next ones have.
            let leading = rows.iter().take_while(|row| self.aside.holds(row.seq)).last();
            self.cursor = leading.map_or(self.cursor, |row| self.cursor.max(row.seq));
        }
        let fresh = rows.into_iter().filter(|row| {
            let known = self.entries.contains_key(&row.seq) || self.aside.holds(row.seq);
            row.seq > self.cursor && !known && !self.deletes.contains(row.seq)
        });
        let fresh: Vec<Arc<Row>> = fresh.collect();
        match purpose {
            Purpose::Thin => self.fetched_to_thin(reached, &fresh),
            Purpose::Age => self.fetched_to_age(now, &fresh, more),
            Purpose::Backlog if !self.attached => {
                self.counters.fetched_in_vain_rows_total += fresh.len() as u64;
            }
            Purpose::Backlog => self.load(now, reached, fresh, more),
        }
    }

    fn load(&mut self, now: BootNs, reached: Seq, rows: Vec<Arc<Row>>, more: bool) {
        for row in rows {
            let seq = row.seq;
            self.count_loaded(&row);
            self.backlog.insert(seq);
            let waiting = Waiting::Nobody;
            let entry = Entry { row, queued: now, in_flight: false, since: now, sent: false, waiting };
            self.entries.insert(seq, entry);
        }
        self.cursor = self.cursor.max(reached);
        self.aside.read_to(reached);
        if !more {
            // Everything on disk is loaded: the counts have to agree with what is really there.
            let known = plus(self.loaded, self.aside.on_disk());
            self.ledger.correct(self.ledger.stored, known, DropReason::StoreLost);
            self.stored_rows = [self.spared_rows(Priority::Normal), self.spared_rows(Priority::High)];
        } else {
            let known = plus(self.loaded, self.aside.on_disk());
            self.ledger.restore(minus(known, self.ledger.stored));
        }
    }

    /// Whoever is about to stop has no time for long pauses.
    fn write_failed(&mut self, now: BootNs) {
        if self.flush {
            self.write_retry.succeeded();
        }
        self.write_retry.failed(now);
    }

    /// The database was replaced. Every row whose body is in memory is written (again), in one replacement; how much of that was salvaged
    /// as well shows when the answer says how many rows it has deleted. A commit that failed may have reached the old file, so rows that
    /// count as being only in memory take part.
    fn reset(&mut self, now: BootNs, salvaged: Stored, aside: &[Arc<Mark>]) {
        self.counters.resets_total += 1;
        self.generation += 1;
        let unread_lost = self.unread_lost(salvaged.last);
        self.aside.replaced(aside, &self.deletes, |seq| self.entries.contains_key(&seq));
        if self.faults.has(Mutant::ForgetLostMarks) {
            self.aside.read_to(Seq(u64::MAX));
        }
        let mut rescue: BTreeMap<Seq, Arc<Row>> = BTreeMap::new();
        if let Some(Planned { why: Why::Rescue { .. }, rows, .. }) = self.planned.take() {
            rescue.extend(rows.into_iter().map(|row| (row.seq, row)));
            rescue.retain(|seq, _| *seq <= self.committed_to && !self.deletes.contains(*seq));
        }
        rescue.extend(self.entries.iter().map(|(seq, entry)| (*seq, Arc::clone(&entry.row))));
        let rows: Vec<Arc<Row>> = rescue.into_values().collect();
        let on_disk = |row: &&Arc<Row>| row.seq <= self.committed_to;
        let loaded = rows.iter().filter(on_disk).fold(Tally::default(), |sum, row| plus(sum, tally(row)));
        let high = rows.iter().filter(on_disk).filter(|row| row.priority == Priority::High).count() as u64;
        let seen = plus(plus(salvaged.normal, salvaged.high), loaded);
        let missing = minus(self.ledger.stored, seen);
        let lost = if unread_lost.rows > missing.rows { unread_lost } else { missing };
        self.ledger.lose(lost, true, DropReason::StoreLost);
        let surplus = minus(seen, self.ledger.stored);
        self.stored_rows = [
            salvaged.normal.rows.saturating_add(loaded.rows.saturating_sub(high)),
            salvaged.high.rows.saturating_add(high),
        ];
        let remove = self.rescue_removes(&rows, salvaged.last);
        if remove.is_empty() {
            self.ledger.restore(surplus);
        } else {
            let why = Why::Rescue { surplus };
            self.planned = Some(Planned { why, remove, rows, high, generation: 0 });
        }
        if salvaged.first > Seq(0) {
            self.cursor = self.cursor.min(Seq(salvaged.first.0 - 1));
        }
        self.thinned_to = Seq(0);
        if self.settings.limits.age_max.is_some() {
            self.age_at = Some(now);
        }
    }

    /// What is lost at least of the rows that nobody has read, from the highest number in the new database: an older state of the old one may have just
    /// as many rows, and others. Readings and bytes are shares of what is unread.
    fn unread_lost(&self, salvaged_to: Seq) -> Tally {
        let unread = minus(minus(self.ledger.stored, self.loaded), self.aside.on_disk());
        let rows = unread.rows.saturating_sub(salvaged_to.0.saturating_sub(self.cursor.0));
        let share = |whole: u64| {
            let part = u128::from(whole) * u128::from(rows) / u128::from(unread.rows.max(1));
            u64::try_from(part).unwrap_or(whole)
        };
        Tally { rows, readings: share(unread.readings), bytes: share(unread.bytes) }
    }

    /// What a rescue deletes: the rows it writes, and settled rows that may have been salvaged: they were waiting for their deletion, or a commit that
    /// failed has written them although they were settled before it was answered.
    fn rescue_removes(&self, rows: &[Arc<Row>], salvaged_to: Seq) -> Vec<Seq> {
        let mut settled = self.deletes.to_vec();
        let failed_to = salvaged_to.0.min(self.next_seq.0.saturating_sub(1));
        let failed_from = (self.committed_to.0 + 1).max(failed_to.saturating_sub(MEMORY_ROWS_MAX));
        settled.push((Seq(failed_from), Seq(failed_to)));
        if let Some(Pending::Commit { deletes, .. }) = &self.pending {
            settled.extend(deletes.to_vec());
        }
        let mut remove: Vec<Seq> = rows.iter().map(|row| row.seq).collect();
        remove.extend(settled.iter().flat_map(|(first, last)| (first.0..=last.0).map(Seq)));
        remove.sort_unstable();
        remove.dedup();
        remove
    }

    /// Rows that the new database has taken after its reset need no rescue, and what it deleted with them was salvaged and counted then.
    fn spare_rescue(&mut self, committed: &[Seq], deletes: &Ranges, deleted: Tally) {
        let Some(Planned { why: Why::Rescue { surplus }, remove, rows, .. }) = &mut self.planned else {
            return;
        };
        let spared = |seq: Seq| committed.binary_search(&seq).is_ok() || deletes.contains(seq);
        remove.retain(|seq| !spared(*seq));
        rows.retain(|row| !spared(row.seq));
        let counted = minus(deleted, *surplus);
        surplus.take(deleted);
        let (surplus, done) = (*surplus, remove.is_empty());
        self.ledger.lose(counted, true, DropReason::StoreLost);
        if done {
            self.planned = None;
            self.ledger.restore(surplus);
        }
    }
}

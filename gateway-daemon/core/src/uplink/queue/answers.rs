//! What the store's answers change.

use std::sync::Arc;

use super::admission::Excess;
use super::ledger::{minus, plus};
use super::ops::{Pending, Planned, Purpose, Why, high_rows};
use super::{DropReason, Entry, FETCH_BYTES_MAX, Fate, Queue, Receipt, Waiting, tally};
use crate::tag::BootNs;
use crate::uplink::mutant::Mutant;
use crate::uplink::row::{Priority, Row, Seq, StoreEvent, StoreFault, Tally};

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
                self.spare_rescue(
                    now,
                    |seq| rows.binary_search(&seq).is_ok() || deletes.contains(seq),
                    deleted,
                );
            }
            (Pending::Replace { planned, .. }, StoreEvent::Committed { deleted, .. }) => {
                self.wrote();
                match planned.why {
                    Why::Rescue(_) => self.rescued(now, &planned, deleted),
                    Why::Thinned | Why::Expired => self.replaced(&planned, deleted),
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
                    Why::Rescue(_) => self.plan_rescue_again(now, planned, fault),
                    Why::Expired => self.age_at = Some(now),
                    Why::Thinned => {}
                }
            }
        }
    }

    /// Rows of memory are on disk. Those in flight stay loaded, and so do fresh ones, as many as may be in flight and as much as one fetch: a message that is
    /// committed at once because its publisher waits does not go behind a backlog of hours. Others leave memory.
    pub(super) fn committed(&mut self, now: BootNs, rows: &[Seq]) {
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
            Why::Rescue(_) => {}
        }
        self.forget_removed(planned, deleted);
        let high_added = high_rows(&planned.rows);
        let [normal, high] = &mut self.stored_rows;
        *high = high.saturating_add(high_added);
        *normal = normal.saturating_add(added.rows.saturating_sub(high_added));
    }

    /// Rows that a replacement has deleted are no longer stored.
    pub(super) fn forget_removed(&mut self, planned: &Planned, deleted: Tally) {
        let high_removed = planned.high.min(deleted.rows);
        let [normal, high] = &mut self.stored_rows;
        *high = high.saturating_sub(high_removed);
        *normal = normal.saturating_sub(deleted.rows.saturating_sub(high_removed));
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
            self.backlog.insert(row.seq);
            self.enter(now, row);
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

    /// Takes the body of a row that is on disk into memory.
    pub(super) fn enter(&mut self, now: BootNs, row: Arc<Row>) {
        let seq = row.seq;
        self.count_loaded(&row);
        let (in_flight, sent, fresh, waiting) = (false, false, false, Waiting::Nobody);
        let entry = Entry { row, queued: now, in_flight, since: now, sent, fresh, waiting };
        self.entries.insert(seq, entry);
    }

    /// Whoever is about to stop has no time for long pauses.
    fn write_failed(&mut self, now: BootNs) {
        if self.flush {
            self.write_retry.succeeded();
        }
        self.write_retry.failed(now);
    }
}

//! After the database was replaced: what is in memory and was on disk is written again, before anything else.
//!
//! ```text
//!   Reset --> planned ---Replace---> done, and whatever else is due
//!                |  ^
//!        no room |  | deletions, or a trim: one of them, if there is any
//!                v  |
//!          without the rows that are only in memory, in portions of half as many rows
//! ```
//!
//! Nothing else is written or read before it: rows that were settled may have been salvaged, and the counts are right only when it has said how many it
//! deleted. What makes room is the exception: without it a full disk would hold up what empties it. Of a commit that failed the rows that may have been
//! salvaged stay in the rescue, so that they are neither counted nor sent twice; later ones are left to ordinary commits. While there is a rescue what is
//! loaded stays so, with or without a link, each row in its lane: it can be sent and acknowledged, and needs no room then.
//!
//! Bounds: what is loaded when the database is replaced, and [`MEMORY_ROWS_MAX`] settled rows of a commit that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ledger::{minus, plus};
use super::ops::{Pending, Planned, Rescue, Why};
use super::ranges::Ranges;
use super::{DELETE_RANGES_MAX, DropReason, MEMORY_ROWS_MAX, Queue, tally};
use crate::tag::BootNs;
use crate::uplink::mutant::Mutant;
use crate::uplink::row::{Mark, Priority, Row, Seq, StoreFault, StoreOp, Stored, Tally};

impl Queue {
    /// The database was replaced. Every row whose body is in memory is written (again), in one replacement; how much of that was salvaged
    /// as well shows when the answer says how many rows it has deleted. A commit that failed may have reached the old file, so rows that
    /// count as being only in memory take part.
    pub(super) fn reset(&mut self, now: BootNs, salvaged: Stored, aside: &[Arc<Mark>]) {
        self.counters.resets_total += 1;
        self.generation += 1;
        let unread_lost = self.unread_lost(salvaged.last);
        self.aside.replaced(aside, &self.deletes, |seq| self.entries.contains_key(&seq));
        if self.faults.has(Mutant::ForgetLostMarks) {
            self.aside.read_to(Seq(u64::MAX));
        }
        let mut rescue: BTreeMap<Seq, Arc<Row>> = BTreeMap::new();
        // One under way may fail, or reach the old file.
        for planned in self.rescues() {
            rescue.extend(planned.rows.iter().map(|row| (row.seq, Arc::clone(row))));
        }
        self.planned = None;
        rescue.retain(|seq, _| *seq <= self.committed_to && !self.deletes.contains(*seq));
        rescue.extend(self.entries.iter().map(|(seq, entry)| (*seq, Arc::clone(&entry.row))));
        let rows: Vec<Arc<Row>> = rescue.into_values().collect();
        let on_disk = |row: &&Arc<Row>| row.seq <= self.committed_to;
        let loaded = rows.iter().filter(on_disk).fold(Tally::default(), |sum, row| plus(sum, tally(row)));
        let high = self.high_on_disk(&rows);
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
            let rescue = Rescue { surplus, salvaged_to: salvaged.last, rows_max: usize::MAX, yields: false };
            let why = Why::Rescue(rescue);
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

    /// Rows that the new database has taken after its reset need no rescue, and what it deleted with them was salvaged and counted then. What was stored after
    /// the reset is no part of that: no commit deletes of both kinds; see [`Self::deletes_of_commit`].
    pub(super) fn spare_rescue(&mut self, now: BootNs, taken: impl Fn(Seq) -> bool, deleted: Tally) {
        let Some(Planned { why: Why::Rescue(_), remove, rows, .. }) = &mut self.planned else { return };
        let before = remove.len();
        remove.retain(|seq| !taken(*seq));
        rows.retain(|row| !taken(row.seq));
        if remove.len() == before {
            return;
        }
        self.count_rescued(deleted);
        self.end_rescue(now);
    }

    /// What was deleted of the rows that a waiting rescue is about: what was salvaged and is known besides has been counted twice.
    fn count_rescued(&mut self, deleted: Tally) {
        let Some(Planned { why: Why::Rescue(rescue), .. }) = &mut self.planned else { return };
        let counted = minus(deleted, rescue.surplus);
        rescue.surplus.take(deleted);
        self.ledger.lose(counted, true, DropReason::StoreLost);
    }

    /// Ends a rescue that has nothing left to do.
    fn end_rescue(&mut self, now: BootNs) {
        if let Some(Planned { why: Why::Rescue(rescue), remove, .. }) = &self.planned {
            if !remove.is_empty() {
                return;
            }
            self.ledger.restore(rescue.surplus);
            self.planned = None;
        }
        if !self.attached {
            self.unload_stored(now);
        }
    }

    /// A rescue, or a portion of one, was carried out.
    pub(super) fn rescued(&mut self, now: BootNs, planned: &Planned, deleted: Tally) {
        let Why::Rescue(rescue) = planned.why else { return };
        if self.planned.as_ref().is_some_and(Planned::is_rescue) {
            // The rest of it, or that of a database that was replaced since.
            let taken = |seq: Seq| planned.remove.binary_search(&seq).is_ok();
            if let Some(Planned { why: Why::Rescue(rest), remove, rows, .. }) = &mut self.planned {
                rest.rows_max = rest.rows_max.saturating_mul(2);
                remove.retain(|seq| !taken(*seq));
                rows.retain(|row| !taken(row.seq));
            }
            self.count_rescued(deleted);
        } else {
            // What was both salvaged and loaded has been counted twice.
            self.ledger.correct(deleted, rescue.surplus, DropReason::StoreLost);
        }
        self.end_rescue(now);
        self.forget_removed(planned, deleted);
        let fresh = planned.rows.iter().map(|row| row.seq).filter(|seq| *seq > self.committed_to);
        let fresh: Vec<Seq> = fresh.collect();
        self.committed(now, &fresh);
    }

    /// A rescue, or a portion of one, has failed: with its rest it waits for another try. One that found no room yields to what makes some, and goes on with
    /// less.
    pub(super) fn plan_rescue_again(&mut self, now: BootNs, tried: Planned, fault: StoreFault) {
        let tried_rows = tried.rows.len();
        let mut planned = match self.planned.take().filter(Planned::is_rescue) {
            Some(rest) => tried.joined(rest),
            None => tried,
        };
        if fault == StoreFault::Full
            && let Why::Rescue(rescue) = &mut planned.why
        {
            (rescue.rows_max, rescue.yields) = ((tried_rows / 2).max(1), true);
            let (salvaged_to, committed_to) = (rescue.salvaged_to, self.committed_to);
            planned.rows.retain(|row| match row.seq {
                seq if seq <= committed_to => !self.deletes.contains(seq),
                seq => seq <= salvaged_to && self.entries.contains_key(&seq),
            });
            planned.remove.retain(|seq| *seq <= committed_to.max(salvaged_to));
            planned.high = self.high_on_disk(&planned.rows);
        }
        self.planned = Some(planned);
        self.end_rescue(now);
    }

    /// The next portion of a rescue; what is left of it waits.
    pub(super) fn portion(&mut self, mut planned: Planned) -> Planned {
        let Why::Rescue(rescue) = planned.why else { return planned };
        if planned.rows.len() <= rescue.rows_max {
            return planned;
        }
        let rows = planned.rows.split_off(rescue.rows_max);
        let from = rows.first().map_or(Seq(u64::MAX), |row| row.seq);
        let remove = planned.remove.split_off(planned.remove.partition_point(|seq| *seq < from));
        planned.high = self.high_on_disk(&planned.rows);
        let high = self.high_on_disk(&rows);
        self.planned = Some(Planned { why: planned.why, remove, rows, high, generation: 0 });
        planned
    }

    /// What makes room goes before a rescue that found none: deletions, or what a trim frees by the policy. Once per try.
    pub(super) fn relieve(&mut self, now: BootNs) -> Option<StoreOp> {
        let Some(Planned { why: Why::Rescue(rescue), .. }) = &mut self.planned else { return None };
        if !std::mem::take(&mut rescue.yields) {
            return None;
        }
        if !self.deletes.is_empty() {
            return Some(self.commit(now, false));
        }
        self.excess().map(|excess| self.trim(excess))
    }

    /// Settled rows for the next commit. While a rescue waits they are either those that it would delete too or others, since the answer only says how many
    /// were deleted.
    pub(super) fn deletes_of_commit(&mut self) -> Ranges {
        if let Some(Planned { why: Why::Rescue(_), remove, .. }) = &self.planned {
            let taken = self.deletes.split_where(DELETE_RANGES_MAX, |seq| remove.binary_search(&seq).is_ok());
            if !taken.is_empty() {
                return taken;
            }
        }
        self.deletes.split(DELETE_RANGES_MAX)
    }

    /// Rows that a waiting rescue deletes or writes: no trim may count them.
    pub(super) fn rescue_holds(&self) -> &[Seq] {
        match &self.planned {
            Some(Planned { why: Why::Rescue(_), remove, .. }) => remove,
            _ => &[],
        }
    }

    /// Whether what is loaded stays so without a link: a rescue holds most of the bodies anyway, and without room nothing is read from disk until what can be
    /// sent without was sent. Also what a portion has written: it goes before the rest.
    pub(super) fn stays_loaded(&self) -> bool {
        self.rescues().next().is_some()
    }

    /// The rescue that the store was asked for, and what waits: its rest, or that of a database that was replaced since.
    fn rescues(&self) -> impl Iterator<Item = &Planned> {
        let asked = match &self.pending {
            Some(Pending::Replace { planned, .. }) => Some(planned),
            _ => None,
        };
        asked.into_iter().chain(&self.planned).filter(|planned| planned.is_rescue())
    }

    fn high_on_disk(&self, rows: &[Arc<Row>]) -> u64 {
        let high = |row: &&Arc<Row>| row.seq <= self.committed_to && row.priority == Priority::High;
        rows.iter().filter(high).count() as u64
    }
}

impl Planned {
    pub(super) fn is_rescue(&self) -> bool {
        matches!(self.why, Why::Rescue(_))
    }

    /// A portion that was not carried out, with what is left or what was planned since.
    fn joined(self, rest: Self) -> Self {
        let rows = self.rows.into_iter().chain(rest.rows).map(|row| (row.seq, row));
        let rows: BTreeMap<Seq, Arc<Row>> = rows.collect();
        let remove: BTreeSet<Seq> = self.remove.into_iter().chain(rest.remove).collect();
        Self {
            rows: rows.into_values().collect(),
            remove: remove.into_iter().collect(),
            high: self.high.saturating_add(rest.high),
            ..rest
        }
    }
}

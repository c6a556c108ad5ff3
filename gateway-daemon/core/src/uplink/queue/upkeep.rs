//! Age and thinning out: what happens to rows that nobody fetches for a long time.
//!
//! Times of a row count in the boot that produced it. A row of another boot is as old as [`Queue::boot_began`] says; without that its age is
//! at least the age of this boot, so it may be kept too long and is never dropped too early.

use std::sync::Arc;

use super::lanes::Settled;
use super::ops::{Planned, Purpose, Why, high_rows};
use super::{DropReason, Entry, Queue, QueueSettings};
use crate::payload::thin;
use crate::settings::Durability;
use crate::tag::BootNs;
use crate::uplink::row::{Row, Seq, StoreOp};
use crate::uplink::settings::WhenFull;
use std::time::Duration;

/// Fewer rows than this (or than a quarter of the limit) are not worth a pass of thinning out.
const THIN_ROWS_MIN: u64 = 64;

impl Queue {
    /// Other settings hold from here on. Nothing is lost by it but what smaller limits drop by their policy.
    pub fn replace_settings(&mut self, now: BootNs, settings: QueueSettings) {
        let before = std::mem::replace(&mut self.settings, settings);
        let (committed_to, strict) = (self.committed_to, settings.durability == Durability::Strict);
        if strict && before.durability != settings.durability {
            // What is not on disk may not be sent any more before it is.
            self.live.retain(|seq| *seq <= committed_to);
        } else if before.durability != settings.durability {
            let waits = |seq: &Seq, entry: &Entry| !entry.in_flight && !self.aside.holds(*seq);
            let waiting = self.memory().filter(|(seq, entry)| waits(seq, entry)).map(|(seq, _)| *seq);
            let waiting: Vec<Seq> = waiting.filter(|seq| !self.backlog.contains(seq)).collect();
            self.live.extend(waiting);
        }
        if settings.limits.age_max != before.limits.age_max && settings.limits.age_max.is_some() {
            self.age_at = Some(now);
        }
        self.debug_check();
    }

    /// Numbers go on at `next` at least: an earlier queue of this name in this run has given out those below it.
    pub fn continue_at(&mut self, next: Seq) {
        self.next_seq = self.next_seq.max(next);
    }

    pub(super) fn is_expired(&self, row: &Row, now: BootNs) -> bool {
        now >= self.expires_at(row)
    }

    /// When nobody wants a row any more, in this boot.
    pub(super) fn expires_at(&self, row: &Row) -> BootNs {
        let own = row.expiry_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let limit = [self.settings.limits.age_max, own].into_iter().flatten().min();
        let Some(limit) = limit else { return BootNs(u64::MAX) };
        if row.run.boot == self.run.boot {
            return row.at.plus(limit);
        }
        match self.boots.iter().find(|(boot, _)| *boot == row.run.boot) {
            Some((_, before)) => {
                let before = u64::try_from(before.as_nanos()).unwrap_or(u64::MAX);
                BootNs(row.at.plus(limit).0.saturating_sub(before))
            }
            None => BootNs(0).plus(limit),
        }
    }

    /// Drops expired rows from the front of memory; there are some only while the store or the link fails for long.
    pub(super) fn expire_memory(&mut self, now: BootNs) {
        if self.settings.limits.age_max.is_none() {
            return;
        }
        loop {
            let to = self.committing_to();
            let waits = |seq: &Seq, entry: &Entry| *seq > to && !entry.in_flight && !self.aside.holds(*seq);
            let first = self.memory().find(|(seq, entry)| waits(seq, entry));
            let Some((seq, entry)) = first else { return };
            if !self.is_expired(&entry.row, now) {
                return;
            }
            let seq = *seq;
            self.settle(now, seq, Settled::Dropped(DropReason::Expired));
        }
    }

    pub(super) fn fetched_to_age(&mut self, now: BootNs, rows: &[Arc<Row>], more: bool) {
        let expired: Vec<&Arc<Row>> = rows.iter().take_while(|row| self.is_expired(row, now)).collect();
        self.age_at = match rows.get(expired.len()) {
            Some(row) => Some(self.expires_at(row)),
            None => more.then_some(now),
        };
        if expired.is_empty() {
            return;
        }
        let rows: Vec<Arc<Row>> = expired.into_iter().cloned().collect();
        self.planned = Some(Planned {
            why: Why::Expired,
            remove: rows.iter().map(|row| row.seq).collect(),
            rows: Vec::new(),
            high: high_rows(&rows),
            generation: self.generation,
        });
    }

    pub(super) fn thin_bucket(&self) -> Option<Duration> {
        match self.settings.limits.when_full {
            WhenFull::ThinOut { bucket } => Some(bucket),
            WhenFull::DropOldest | WhenFull::DropNewest => None,
        }
    }

    /// A fetch of the oldest rows that were not thinned out yet, if there are enough of them.
    pub(super) fn fetch_to_thin(&mut self, now: BootNs) -> Option<StoreOp> {
        self.thin_bucket()?;
        let from = self.thinned_to.max(self.cursor);
        let enough = THIN_ROWS_MIN.min(self.settings.limits.rows_max / 4).max(2);
        let worth = self.committed_to.0.saturating_sub(from.0) >= enough && self.unloaded() >= enough;
        (worth && self.read_retry.is_over(now)).then(|| self.fetch(Purpose::Thin, from))
    }

    pub(super) fn fetched_to_thin(&mut self, reached: Seq, rows: &[Arc<Row>]) {
        self.thinned_to = self.thinned_to.max(reached);
        let Some(bucket) = self.thin_bucket() else { return };
        let thinned = thin(rows, bucket);
        if thinned.remove.is_empty() {
            return;
        }
        self.planned = Some(Planned {
            why: Why::Thinned,
            remove: thinned.remove,
            rows: thinned.rows,
            high: 0,
            generation: self.generation,
        });
    }
}

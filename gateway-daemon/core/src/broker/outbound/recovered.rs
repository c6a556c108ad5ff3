//! The side of a durable session that is on disk: recovery, reading ahead, forgetting, and a database that was replaced.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Desk, DropReason, Durable, Held, LOADED_ROW_BYTES, Limit, Outbound, Parcel, READ_BYTES_MAX,
    READ_BYTES_MIN, READ_ROWS_MAX, Release, shared,
};
use crate::broker::change::{QueueName, Read};
use crate::broker::facts;
use crate::broker::journal::{Due, Position};
use crate::broker::mutant::Mutant;
use crate::tag::BootNs;
use crate::uplink::row::{Row, Seq, Stored};

/// Pause after a read that failed.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// What a durable session was before this run.
#[derive(Debug, Clone, Default)]
pub(in crate::broker) struct Past {
    /// What its queue holds.
    pub(in crate::broker) stored: Stored,
    /// Identifiers to be released, by seq.
    pub(in crate::broker) released: Vec<(u16, Seq)>,
    /// Highest seq ever sent, from the fact of the session. `None` if it was connected when the run ended: then everything stored may have been
    /// sent.
    pub(in crate::broker) sent: Option<Seq>,
}

impl Outbound {
    /// Of a session that survives.
    pub(in crate::broker) fn durable(
        desk: &mut Desk<'_>,
        name: &QueueName,
        limit: Limit,
        past: &Past,
    ) -> Self {
        let Past { stored, released, sent } = past;
        let mut outbound = Self::volatile(limit);
        outbound.queue = Some(Durable { name: shared(name), slot: desk.journal.open(name) });
        let held = tally(stored);
        outbound.shelf.replace(Some((stored.first, stored.last)), held);
        desk.totals.add(true, &mut outbound.held, outbound.shelf.held());
        outbound.durable = stored.last;
        outbound.sent = sent.unwrap_or(stored.last);
        let highest = released.iter().map(|(_, seq)| *seq).max().unwrap_or_default();
        outbound.last = stored.last.max(outbound.sent).max(highest);
        outbound.releases = released
            .iter()
            .map(|(_, seq)| Release { seq: *seq, position: Position::PAST, told: false })
            .collect();
        outbound.untold = outbound.releases.len();
        outbound
    }

    /// Rows up to `until` are durable. Call [`Outbound::next`] afterwards: messages of QoS 2 and releases may have waited for it.
    pub(in crate::broker) fn progress(&mut self, desk: &Desk<'_>, until: Option<Seq>) {
        if let Some(until) = until {
            self.durable = self.durable.max(until);
            let rest = self.rewritten.map(|(first, last)| (first.max(Seq(until.0.saturating_add(1))), last));
            self.rewritten = rest.filter(|(first, last)| first <= last);
        }
        if self.read.is_none() {
            while self.gone.front().is_some_and(|(position, ..)| desk.journal.is_durable(*position)) {
                self.gone.pop_front();
            }
        }
        self.forget(desk);
    }

    /// What to read, if anything; answer with [`Outbound::rows`] or [`Outbound::unread`]. `may_send`: connection and window have room.
    pub(in crate::broker) fn wants_read(
        &mut self,
        desk: &mut Desk<'_>,
        may_send: bool,
        number: u64,
    ) -> Option<Read> {
        let name = &self.queue.as_ref()?.name;
        let rows = self.head.len();
        if rows == 0 || rows > self.head_rows || !self.shelf.is_empty() {
            let load = ahead_bytes(&self.head).saturating_add(rows as u64 * LOADED_ROW_BYTES);
            desk.totals.load(std::mem::replace(&mut self.loaded.1, load), load);
            self.head_rows = rows;
        }
        if self.read.is_some() || desk.now < self.read_from {
            return None;
        }
        let (first, until) = self.shelf.span()?;
        let crowded = desk.totals.is_crowded();
        let short = rows < READ_ROWS_MAX as usize / 2 && ahead_bytes(&self.head) < READ_BYTES_MAX / 2;
        let wanted = if crowded { may_send && self.head.is_empty() } else { short };
        if !(self.online && wanted || self.wants_split) {
            return None;
        }
        let read = Read {
            number,
            queue: shared(name),
            after: Seq(first.0.saturating_sub(1)),
            until,
            rows_max: READ_ROWS_MAX,
            bytes_max: if crowded { READ_BYTES_MIN } else { READ_BYTES_MAX },
        };
        self.read = Some(read.clone());
        Some(read)
    }

    /// When [`Outbound::wants_read`] may want something after a read that failed.
    pub(in crate::broker) fn read_timeout(&self) -> Option<BootNs> {
        (self.read_from > BootNs(0) && self.read.is_none() && !self.shelf.is_empty())
            .then_some(self.read_from)
    }

    /// A read failed.
    pub(in crate::broker) fn unread(&mut self, now: BootNs, number: u64) {
        if self.read.take_if(|read| read.number == number).is_some() {
            self.read_from = now.plus(READ_PAUSE);
        }
    }

    /// Rows that were read. Those of an outdated read are ignored.
    pub(in crate::broker) fn rows(
        &mut self,
        desk: &mut Desk<'_>,
        number: u64,
        rows: &[Arc<Row>],
        more: bool,
    ) {
        let Some(read) = self.read.take_if(|read| read.number == number) else { return };
        self.read_from = BootNs(0);
        let Some((first, last)) = self.shelf.span() else { return };
        let until = if more { rows.last().map_or(last, |row| row.seq) } else { read.until };
        let mut split = Vec::new();
        for row in rows {
            let (seq, size) = (row.seq, row.size());
            let gone = self.gone.iter().any(|(_, first, last)| (*first..=*last).contains(&seq))
                && !desk.journal.faults().has(Mutant::StaleRead);
            if gone || !(first..=until.min(last)).contains(&seq) {
                continue;
            }
            self.shelf.take(seq, size);
            match facts::delivery(row, desk.journal.run().boot) {
                Ok(delivery) if delivery.message.topic.is_forbidden() => {
                    self.lose(desk, seq, size, DropReason::Topic);
                }
                Ok(delivery) if self.online => {
                    self.head.push_back(Parcel { seq, delivery, size, since: desk.now });
                }
                Ok(_) => split.push((seq, size)),
                Err(facts::Damaged) => self.lose(desk, seq, size, DropReason::Unreadable),
            }
        }
        if desk.journal.faults().has(Mutant::ReorderResend) && rows.iter().all(|row| row.seq <= self.sent) {
            self.head.make_contiguous().reverse();
        }
        let vanished = self.shelf.cut(until);
        desk.totals.take(true, &mut self.held, vanished);
        desk.totals.drop(DropReason::Unreadable, vanished.rows);
        for (seq, size) in split.into_iter().rev() {
            self.shelf.push_front(seq, size);
        }
        self.wants_split = false;
        self.note_pace(desk);
    }

    /// The database was replaced: what is in memory is put again, and what was on disk is what is found there. The facts of releases are
    /// put again too.
    pub(in crate::broker) fn reset(&mut self, desk: &mut Desk<'_>, stored: &Stored) {
        let Some(queue) = &self.queue else { return };
        self.read = None;
        // Flights without a body cannot be written again: what salvage brought back of them is read again by the next connection.
        let flights = self.flights.iter().filter_map(|flight| Some((flight.seq, flight.delivery.as_ref()?)));
        let waiting = self.head.iter().chain(&self.tail).map(|parcel| (parcel.seq, &parcel.delivery));
        self.rewritten = None;
        for (seq, delivery) in flights.chain(waiting) {
            if seq <= self.durable {
                let (first, _) = *self.rewritten.get_or_insert((seq, seq));
                self.rewritten = Some((first, seq));
            }
            desk.journal.insert(desk.now, queue.slot, (seq, delivery.clone()), None, Due::Now);
        }
        let sent = self.flights.back().map(|flight| flight.seq);
        let after = self.head.back().map(|parcel| parcel.seq).or(sent).unwrap_or_default();
        let old = self.shelf.held();
        let found = tally(stored);
        let left = Held { rows: old.rows.min(found.rows), bytes: old.bytes.min(found.bytes) };
        let span = self.shelf.span().map(|(first, last)| (first.max(stored.first), last.min(stored.last)));
        let span = span.filter(|(first, last)| first <= last && *last > after);
        self.shelf.replace(span, left);
        let left = self.shelf.held();
        let lost = Held { rows: old.rows - left.rows, bytes: old.bytes - left.bytes };
        desk.totals.take(true, &mut self.held, lost);
        desk.totals.drop(DropReason::Lost, lost.rows);
        let releases: Vec<Seq> = self.releases.iter().map(|release| release.seq).collect();
        for seq in releases {
            self.put_release(desk, seq);
        }
    }

    /// Forgets what is durable and cannot be sent soon.
    pub(super) fn forget(&mut self, desk: &Desk<'_>) {
        if self.queue.is_none() {
            return;
        }
        if self.shelf.is_empty() {
            let mut all = std::mem::take(&mut self.head);
            all.append(&mut self.tail);
            let keep = if self.online && !desk.totals.is_crowded() { ahead(&all) } else { 0 };
            self.tail = all.split_off(keep);
            self.head = all;
        } else if !self.online {
            self.shelve_head();
        }
        self.shelve_tail();
        if self.tail.is_empty() {
            self.tail.shrink_to(KEPT_CAPACITY);
        }
    }

    /// A row that cannot be understood, or not be handed on, goes, and is counted.
    fn lose(&mut self, desk: &mut Desk<'_>, seq: Seq, size: u64, reason: DropReason) {
        desk.totals.take(true, &mut self.held, Held { rows: 1, bytes: size });
        desk.totals.drop(reason, 1);
        if let Some(queue) = &self.queue {
            desk.journal.delete_range(desk.now, queue.slot, (seq, seq), Due::Soon);
            self.note_gone(desk.journal.position(), seq, seq);
        }
    }
}

/// Places for messages that an empty queue keeps: a burst leaves no memory behind.
const KEPT_CAPACITY: usize = 16;

fn ahead_bytes(head: &VecDeque<Parcel>) -> u64 {
    head.iter().map(|parcel| parcel.size).sum()
}

/// How many of the first messages are kept although they are durable.
fn ahead(all: &VecDeque<Parcel>) -> usize {
    let mut bytes = 0;
    let fits = |parcel: &&Parcel| {
        bytes += parcel.size;
        bytes <= READ_BYTES_MAX
    };
    all.iter().take(READ_ROWS_MAX as usize).take_while(fits).count()
}

fn tally(stored: &Stored) -> Held {
    let Stored { normal, high, .. } = stored;
    Held { rows: normal.rows.saturating_add(high.rows), bytes: normal.bytes.saturating_add(high.bytes) }
}

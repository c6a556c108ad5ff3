//! Messages that were sent and not answered: what is kept of them, how fast their answers come, and where they are when the connection is gone.

use std::mem::replace;

use super::{
    Chunk, Delivery, Desk, DropReason, Due, Held, IDENTIFIERS, LOADED_ROW_BYTES, Outbound, Parcel, identifier,
};
use crate::broker::mutant::Mutant;
use crate::tag::BootNs;
use crate::uplink::row::{Qos, Seq};

/// A message that was sent.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) seq: Seq,
    pub(super) qos: Qos,
    pub(super) size: u64,
    pub(super) since: BootNs,
    /// `None`: its row is durable, and nothing else of it is needed on this connection.
    pub(super) delivery: Option<Delivery>,
    /// It is durable and keeps its body.
    pub(super) kept: bool,
}

impl Outbound {
    /// Where the flight with an identifier is: they ascend, and no two have the same.
    pub(super) fn flight_of(&self, id: u16) -> Option<usize> {
        let first = self.flights.front()?.seq;
        let ahead = (u64::from(id) + IDENTIFIERS - u64::from(identifier(first))) % IDENTIFIERS;
        let seq = Seq(first.0.checked_add(ahead)?);
        let place = self.flights.binary_search_by_key(&seq, |flight| flight.seq).ok()?;
        (identifier(seq) == id).then_some(place)
    }

    pub(super) fn take_flight(&mut self, id: u16, fits: impl Fn(Qos) -> bool) -> Option<Flight> {
        let place = self.flight_of(id)?;
        if fits(self.flights[place].qos) { self.flights.remove(place) } else { None }
    }

    pub(super) fn end_flight(
        &mut self,
        desk: &mut Desk<'_>,
        id: u16,
        fits: impl Fn(Qos) -> bool,
    ) -> Option<()> {
        let flight = self.take_flight(id, fits)?;
        self.answered(desk, &flight);
        self.strike(desk, (flight.seq, flight.size), Due::Soon);
        Some(())
    }

    /// The client has answered a message.
    pub(super) fn answered(&mut self, desk: &mut Desk<'_>, flight: &Flight) {
        if flight.kept {
            let left = self.loaded.0.saturating_sub(flight.load());
            desk.totals.load(replace(&mut self.loaded.0, left), left);
        }
        self.pace.answered(desk.now, flight.since);
        self.note_pace(desk);
    }

    /// Tells the journal from when on the client counts as slow: when its oldest message, sent or waiting, has had its time. Behind rows that wait and are
    /// on disk no answer can come soon, however fast it takes what it missed.
    pub(super) fn note_pace(&self, desk: &mut Desk<'_>) {
        let Some(queue) = self.queue.as_ref().filter(|_| self.online) else { return };
        let sent = self.flights.front().map(|flight| flight.since);
        let oldest = sent.or_else(|| self.front().map(|parcel| parcel.since));
        let patience = self.pace.patience(desk.journal.commit_interval());
        let at = oldest.map(|since| since.plus(patience));
        let is_behind =
            !self.shelf.is_empty() || self.front().is_some_and(|parcel| self.is_on_disk(parcel.seq));
        let at = if is_behind { Some(BootNs(0)) } else { at };
        let ignored = desk.journal.faults().has(Mutant::SlowLate);
        desk.journal.slow_from(queue.slot, at.filter(|_| !ignored));
    }

    /// Takes the bodies of durable flights out of memory where there are too many.
    pub(super) fn unload(&mut self, desk: &mut Desk<'_>) {
        if self.queue.is_none() || self.judged >= self.durable {
            return;
        }
        let first = self.flights.partition_point(|flight| flight.seq <= self.judged);
        for place in first..self.flights.len() {
            let seq = self.flights[place].seq;
            if !self.is_on_disk(seq) {
                break;
            }
            self.judged = seq;
            let flight = &mut self.flights[place];
            flight.kept = !desk.totals.is_crowded();
            if flight.kept {
                desk.totals.load(0, flight.load());
                self.loaded.0 += flight.load();
            } else {
                flight.delivery = None;
            }
        }
    }

    /// What was in flight waits again. What is durable has no need to be in memory.
    pub(super) fn land(&mut self, desk: &mut Desk<'_>) {
        self.judged = Seq(0);
        desk.totals.load(self.loaded.0 + self.loaded.1, 0);
        (self.loaded, self.head_rows) = ((0, 0), 0);
        let mut stored = Vec::new();
        if self.queue.is_some() {
            while let Some(flight) = self.flights.front().filter(|flight| self.is_on_disk(flight.seq)) {
                stored.push((flight.seq, flight.size));
                self.flights.pop_front();
            }
        }
        while let Some(flight) = self.flights.pop_back() {
            let (seq, size) = (flight.seq, flight.size);
            match flight.land() {
                Some(parcel) => self.head.push_front(parcel),
                None => self.lose_flight(desk, seq, size),
            }
        }
        if self.shelf.is_empty() {
            while let Some(parcel) = self.head.pop_back() {
                self.tail.push_front(parcel);
            }
            stored.iter().for_each(|(seq, size)| self.shelf.push_back(*seq, *size));
            self.shelve_tail();
            return;
        }
        self.shelve_head();
        for (seq, size) in stored.into_iter().rev() {
            if self.head.is_empty() {
                self.shelf.push_front(seq, size);
            } else {
                self.lose_flight(desk, seq, size);
            }
        }
    }

    /// The end of what waits before the shelf goes on it, as far as it is durable.
    pub(super) fn shelve_head(&mut self) {
        while let Some(parcel) = self.head.back().filter(|parcel| self.is_on_disk(parcel.seq)) {
            self.shelf.push_front(parcel.seq, parcel.size);
            self.head.pop_back();
        }
    }

    /// The beginning of what waits behind the shelf goes on it, as far as it is durable.
    pub(super) fn shelve_tail(&mut self) {
        while let Some(parcel) = self.tail.front().filter(|parcel| self.is_on_disk(parcel.seq)) {
            self.shelf.push_back(parcel.seq, parcel.size);
            self.tail.pop_front();
        }
    }

    /// A message in flight whose body is not in memory, in a database that was replaced: what comes after it is written again, and it cannot be.
    fn lose_flight(&mut self, desk: &mut Desk<'_>, seq: Seq, bytes: u64) {
        let chunk = Chunk { first: seq, last: seq, held: Held { rows: 1, bytes } };
        self.discard(desk, &chunk, DropReason::Lost);
    }
}

impl Flight {
    /// Bytes of memory of its body.
    pub(super) fn load(&self) -> u64 {
        self.size.saturating_add(LOADED_ROW_BYTES)
    }

    /// As a message that waits; `None` if its body is on disk only.
    pub(super) fn land(self) -> Option<Parcel> {
        let Self { seq, size, since, delivery, .. } = self;
        delivery.map(|delivery| Parcel { seq, delivery, size, since })
    }
}

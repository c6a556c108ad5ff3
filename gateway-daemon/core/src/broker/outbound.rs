//! What one session is owed: what is in flight, what waits, and what of a durable session is on disk only.
//!
//! ```text
//!   releases            flights           head              shelf             tail
//!   PUBREC came,        sent,             to be sent,       on disk only      the end, not durable yet
//!   PUBCOMP did not     no answer yet     in memory         (counts)          or kept because it is short
//! ```
//! Flights, head, shelf and tail ascend by seq and are sent in that order, whatever their QoS. A volatile session has no shelf.
//!
//! - The packet identifier is made from the seq, so that an exchange of QoS 2 goes on under its identifier after a crash. A message whose
//!   identifier is still in use waits, 65,535 messages later.
//! - A QoS 2 message of a durable session is sent when its row is durable, and with it that the client is here: what a fact says was never sent may be
//!   dropped, or expire. Its PUBREC deletes the row and puts the Released fact in one turn; the
//!   PUBREL is sent when that is durable.
//! - Memory: rows of a durable session are forgotten once they are durable and cannot be sent soon, and read again in steps of
//!   [`READ_ROWS_MAX`] and [`READ_BYTES_MAX`]. Offline nothing durable is kept in memory but identifiers to be released.
//!   What all durable sessions have in memory although it is on disk is bounded together ([`LOADED_BYTES_TOTAL_MAX`]): beyond, a message in flight keeps no
//!   body (its acknowledgement needs its seq only, and a new connection reads it again), and only what can be sent at once is read.
//! - Full: see [`WhenFull`]; every drop is counted in [`Totals`] with its [`DropReason`]. What may be with the client already is
//!   never dropped. When all sessions together are full, see [`crowd`].
//! - The journal is told from when on the client counts as slow ([`Pace`]): rows that somebody waits for go to disk then.
//!
//! It never encodes a packet and knows no connection; it is told when one is there.

mod crowd;
mod flights;
mod recovered;
mod shelf;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::VecDeque;
use std::mem::take;
use std::sync::Arc;

use flights::Flight;
pub(super) use recovered::Past;
pub(super) use shelf::Held;
use shelf::{Chunk, Shelf};
pub(super) use totals::{DropReason, Limit, Totals, TotalsLimits, WhenFull};

use super::Ticket;
use super::change::{QUEUE_PREFIX, QueueName};
use super::facts;
use super::journal::{Due, Journal, Position, Slot};
use super::mutant::Mutant;
use super::packet::Delivery;
use super::settings::LOADED_BYTES_TOTAL_MAX;
use crate::tag::BootNs;
use crate::uplink::pace::Pace;
use crate::uplink::row::{Qos, Seq};

/// Most rows read ahead of the window: two windows of the default size.
pub(super) const READ_ROWS_MAX: u32 = 200;
/// Most bytes read ahead, but at least one row.
pub(super) const READ_BYTES_MAX: u64 = 128 << 10;
/// Most bytes of a read while durable sessions together have too much in memory, but at least one row.
const READ_BYTES_MIN: u64 = 4 << 10;
/// What a row in memory costs beside its [`crate::uplink::row::Row::size`], bytes.
const LOADED_ROW_BYTES: u64 = 256;
/// Packet identifiers there are: 1 to 65,535.
const IDENTIFIERS: u64 = 65_535;

/// What an outbound works with.
pub(super) struct Desk<'a> {
    /// The time.
    pub(super) now: BootNs,
    /// Where changes go.
    pub(super) journal: &'a mut Journal,
    /// What all sessions hold together.
    pub(super) totals: &'a mut Totals,
}

/// Where a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits, and nobody is told when it is safe.
    Kept,
    /// It waits, and the ticket comes back once by [`Journal::next_safe`].
    Owed,
    /// It was not taken, and counted.
    Dropped(DropReason),
}

/// What to send.
#[derive(Debug, PartialEq)]
pub(super) enum Send<'a> {
    /// A message. `again`: the client may have it.
    Publish { id: u16, delivery: &'a Delivery, again: bool },
    /// PUBREL.
    Release(u16),
}

/// What a PUBREC means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    /// [`Outbound::next`] gives the PUBREL when it may be sent.
    Release,
    /// No such identifier.
    Unknown,
}

/// A message that waits.
#[derive(Debug)]
struct Parcel {
    seq: Seq,
    delivery: Delivery,
    /// What it counts for: memory if it is nowhere else, otherwise its row.
    size: u64,
    /// When it came, or was read from disk.
    since: BootNs,
}

#[derive(Debug)]
struct Release {
    seq: Seq,
    /// The row is gone and the identifier is kept, both durable with this.
    position: Position,
    /// Sent on this connection.
    told: bool,
}

#[derive(Debug)]
struct Durable {
    name: QueueName,
    slot: Slot,
}

/// The messages of one session. It is offline when made.
#[derive(Debug)]
pub(super) struct Outbound {
    queue: Option<Durable>,
    limit: Limit,
    online: bool,
    /// That it is online is durable with this.
    told_at: Position,
    /// Seq given last.
    last: Seq,
    /// Highest seq ever sent.
    sent: Seq,
    /// Rows up to here are durable, but for those that were rewritten.
    durable: Seq,
    /// First and last of the rows that were durable, were written again into a database that took the place of another, and are not durable there yet. Rows
    /// behind them that are on disk only are durable all the time.
    rewritten: Option<(Seq, Seq)>,
    releases: VecDeque<Release>,
    /// Releases not sent on this connection.
    untold: usize,
    flights: VecDeque<Flight>,
    /// Flights up to here are durable, and keep their body or not.
    judged: Seq,
    /// Bytes of durable flights that keep their body, and of the head, as the totals know them.
    loaded: (u64, u64),
    /// Rows of the head when its bytes were told to the totals.
    head_rows: usize,
    /// How fast the client answers.
    pace: Pace,
    head: VecDeque<Parcel>,
    shelf: Shelf,
    tail: VecDeque<Parcel>,
    /// Everything but releases.
    held: Held,
    /// Rows deleted whose deletion a read may not see yet.
    gone: VecDeque<(Position, Seq, Seq)>,
    /// The read under way.
    read: Option<super::change::Read>,
    /// No read before.
    read_from: BootNs,
    /// The oldest stored rows must be counted one by one before they can be dropped.
    wants_split: bool,
}

impl Outbound {
    /// Of a session that ends with its connection or lives in memory only.
    pub(super) fn volatile(limit: Limit) -> Self {
        Self {
            queue: None,
            limit,
            online: false,
            told_at: Position::PAST,
            last: Seq(0),
            sent: Seq(0),
            durable: Seq(0),
            rewritten: None,
            releases: VecDeque::new(),
            untold: 0,
            flights: VecDeque::new(),
            judged: Seq(0),
            loaded: (0, 0),
            head_rows: 0,
            pace: Pace::default(),
            head: VecDeque::new(),
            shelf: Shelf::new(limit.rows_max),
            tail: VecDeque::new(),
            held: Held::default(),
            gone: VecDeque::new(),
            read: None,
            read_from: BootNs(0),
            wants_split: false,
        }
    }

    /// Whether its messages survive.
    pub(super) fn is_durable(&self) -> bool {
        self.queue.is_some()
    }

    /// Whether a row of a durable session is durable.
    fn is_on_disk(&self, seq: Seq) -> bool {
        seq <= self.durable && !self.rewritten.is_some_and(|(first, last)| (first..=last).contains(&seq))
    }

    /// Rows that wait, in flight ones included.
    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// Messages in flight, releases included.
    pub(super) fn in_flight(&self) -> usize {
        self.flights.len() + self.releases.len()
    }

    /// Highest seq ever sent, for the fact of the session.
    pub(super) fn sent(&self) -> Seq {
        self.sent
    }

    /// Takes a message of QoS 1 or 2. Owe the ticket one place if the answer is [`Pushed::Owed`].
    pub(super) fn push(&mut self, desk: &mut Desk<'_>, delivery: Delivery, ticket: Option<Ticket>) -> Pushed {
        let size = self.size_of(&delivery);
        if let Err(reason) = self.make_room(desk, size) {
            desk.totals.drop(reason, 1);
            return Pushed::Dropped(reason);
        }
        self.last = Seq(self.last.0.saturating_add(1));
        desk.totals.add(self.queue.is_some(), &mut self.held, Held { rows: 1, bytes: size });
        let mut pushed = Pushed::Kept;
        if let Some(queue) = &self.queue {
            // What a publisher may not send again is tied to its identifier, and goes with it.
            let tied = delivery.message.qos == Qos::ExactlyOnce || !self.online;
            let due = if tied { Due::Now } else { Due::Soon };
            desk.journal.insert(desk.now, queue.slot, (self.last, delivery.clone()), ticket, due);
            pushed = if ticket.is_some() { Pushed::Owed } else { Pushed::Kept };
        }
        self.tail.push_back(Parcel { seq: self.last, delivery, size, since: desk.now });
        self.note_pace(desk);
        pushed
    }

    /// What a message counts for in this queue.
    pub(super) fn size_of(&self, delivery: &Delivery) -> u64 {
        if self.queue.is_some() { facts::row_size(delivery) } else { delivery.cost() }
    }

    /// What to send next, if at most `window` messages may be without an answer.
    pub(super) fn next(&mut self, desk: &mut Desk<'_>, window: usize) -> Option<Send<'_>> {
        if !self.online {
            return None;
        }
        self.unload(desk);
        if self.untold > 0
            && let Some(release) = self.releases.iter_mut().find(|release| !release.told)
            && (desk.journal.is_durable(release.position)
                || desk.journal.faults().has(Mutant::ReleaseBeforeCommit))
        {
            release.told = true;
            self.untold -= 1;
            return Some(Send::Release(identifier(release.seq)));
        }
        if self.in_flight() >= window {
            return None;
        }
        while let Some(parcel) = self.front() {
            let (seq, qos) = (parcel.seq, parcel.delivery.qos);
            let begun = qos == Qos::ExactlyOnce && seq <= self.sent;
            if !begun && is_expired(&parcel.delivery, desk.now) {
                let parcel = self.pop_front()?;
                self.strike(desk, (parcel.seq, parcel.size), Due::Soon);
                desk.totals.drop(DropReason::Expired, 1);
                continue;
            }
            let unsafe_yet = qos == Qos::ExactlyOnce
                && self.queue.is_some()
                && (!self.is_on_disk(seq) || seq > self.sent && !desk.journal.is_durable(self.told_at))
                && !desk.journal.faults().has(Mutant::SendBeforeCommit);
            if unsafe_yet || self.is_identifier_used(seq) {
                return None;
            }
            let again = seq <= self.sent;
            self.sent = self.sent.max(seq);
            let Parcel { delivery, size, .. } = self.pop_front()?;
            let flight = Flight { seq, qos, size, since: desk.now, delivery: Some(delivery), kept: false };
            self.flights.push_back(flight);
            self.note_pace(desk);
            let delivery = self.flights.back()?.delivery.as_ref()?;
            return Some(Send::Publish { id: identifier(seq), delivery, again });
        }
        None
    }

    /// PUBACK. `false`: no such message in flight.
    pub(super) fn acknowledged(&mut self, desk: &mut Desk<'_>, id: u16) -> bool {
        self.end_flight(desk, id, |qos| qos == Qos::AtLeastOnce).is_some()
    }

    /// PUBREC.
    pub(super) fn received(&mut self, desk: &mut Desk<'_>, id: u16) -> Receipt {
        let Some(flight) = self.take_flight(id, |qos| qos == Qos::ExactlyOnce) else {
            let Some(release) = self.releases.iter_mut().find(|release| identifier(release.seq) == id) else {
                return Receipt::Unknown;
            };
            self.untold += usize::from(std::mem::replace(&mut release.told, false));
            return Receipt::Release;
        };
        let seq = flight.seq;
        self.answered(desk, &flight);
        self.strike(desk, (seq, flight.size), Due::Now);
        self.put_release(desk, seq);
        let position = if self.queue.is_some() { desk.journal.position() } else { Position::PAST };
        self.releases.push_back(Release { seq, position, told: false });
        self.untold += 1;
        Receipt::Release
    }

    /// PUBCOMP. `false`: nothing with that identifier was released.
    pub(super) fn completed(&mut self, desk: &mut Desk<'_>, id: u16) -> bool {
        let place = self.releases.iter().position(|release| release.told && identifier(release.seq) == id);
        if place.and_then(|place| self.releases.remove(place)).is_none() {
            return false;
        }
        if let Some(queue) = &self.queue {
            desk.journal.remove(desk.now, facts::released_key(client(queue), id), None, Due::Soon);
        }
        true
    }

    /// PUBREC with an error (5.0), or a message that cannot be sent to this client: counted, and gone. `false`: no such message in
    /// flight.
    pub(super) fn give_up(&mut self, desk: &mut Desk<'_>, id: u16, reason: DropReason) -> bool {
        let known = self.end_flight(desk, id, |_| true).is_some();
        if known {
            desk.totals.drop(reason, 1);
        }
        known
    }

    /// Whether something with this identifier waits for an answer of the client.
    pub(super) fn is_in_flight(&self, id: u16) -> bool {
        self.flight_of(id).is_some() || self.releases.iter().any(|release| identifier(release.seq) == id)
    }

    /// Takes out what is in memory and may be given to another session: everything that was not sent, and QoS 1 messages in flight. What
    /// is on disk only stays, and is dropped with the session.
    pub(super) fn take_rest(&mut self, desk: &mut Desk<'_>, why: DropReason) -> Vec<Delivery> {
        let (flights, head, tail) = (take(&mut self.flights), take(&mut self.head), take(&mut self.tail));
        let sent = self.sent;
        let mut rest = Vec::new();
        let mut stored = VecDeque::new();
        let mut waiting: Vec<(Seq, u64, Delivery)> = Vec::new();
        for mut flight in flights {
            match flight.delivery.take() {
                Some(delivery) => waiting.push((flight.seq, flight.size, delivery)),
                None => stored.push_back(flight),
            }
        }
        let others = head.into_iter().chain(tail);
        waiting.extend(others.map(|parcel| (parcel.seq, parcel.size, parcel.delivery)));
        for (seq, size, delivery) in waiting {
            self.strike(desk, (seq, size), Due::Soon);
            if seq <= sent && delivery.qos == Qos::ExactlyOnce {
                desk.totals.drop(why, 1);
            } else {
                rest.push(delivery);
            }
        }
        self.flights = stored;
        rest
    }

    /// The client is there, and that is durable with `told_at`. What was in flight comes again by [`Outbound::next`], releases first.
    pub(super) fn online(&mut self, told_at: Position) {
        self.online = true;
        self.told_at = told_at;
        for release in &mut self.releases {
            release.told = false;
        }
        self.untold = self.releases.len();
    }

    /// The client went away.
    pub(super) fn offline(&mut self, desk: &mut Desk<'_>) {
        self.online = false;
        self.read = None;
        if desk.journal.faults().has(Mutant::ForgetReleased) {
            self.releases.clear();
        }
        self.land(desk);
        if let Some(queue) = &self.queue {
            desk.journal.hasten(queue.slot);
        }
        self.forget(desk);
    }

    /// The session ends, and its queue with it. What it held is counted as dropped.
    pub(super) fn end(mut self, desk: &mut Desk<'_>, why: DropReason) {
        let held = self.held;
        desk.totals.take(self.queue.is_some(), &mut self.held, held);
        desk.totals.drop(why, held.rows);
        desk.totals.load(self.loaded.0 + self.loaded.1, 0);
        let Some(queue) = &self.queue else { return };
        desk.journal.drop_queue(&queue.name);
        for release in &self.releases {
            let fact = facts::released_key(client(queue), identifier(release.seq));
            desk.journal.remove(desk.now, fact, None, Due::Now);
        }
    }

    fn front(&self) -> Option<&Parcel> {
        self.head.front().or_else(|| if self.shelf.is_empty() { self.tail.front() } else { None })
    }

    fn pop_front(&mut self) -> Option<Parcel> {
        self.head.pop_front().or_else(|| if self.shelf.is_empty() { self.tail.pop_front() } else { None })
    }

    fn is_identifier_used(&self, seq: Seq) -> bool {
        let flights = self.flights.front().map(|flight| flight.seq);
        let oldest = self.releases.iter().map(|release| release.seq).chain(flights).min();
        oldest.is_some_and(|oldest| seq.0.saturating_sub(oldest.0) >= IDENTIFIERS)
    }

    /// A message is owed no longer.
    fn strike(&mut self, desk: &mut Desk<'_>, (seq, size): (Seq, u64), due: Due) {
        desk.totals.take(self.queue.is_some(), &mut self.held, Held { rows: 1, bytes: size });
        let Some(queue) = &self.queue else { return };
        if !desk.journal.delete(desk.now, queue.slot, seq, due) {
            self.note_gone(desk.journal.position(), seq, seq);
        }
    }

    fn note_gone(&mut self, position: Position, first: Seq, last: Seq) {
        match self.gone.back_mut() {
            Some(before) if before.0 == position && before.2.0.checked_add(1) == Some(first.0) => {
                before.2 = last
            }
            _ => self.gone.push_back((position, first, last)),
        }
    }

    fn put_release(&self, desk: &mut Desk<'_>, seq: Seq) {
        if let Some(queue) = &self.queue {
            let fact = facts::released_key(client(queue), identifier(seq));
            desk.journal.put(desk.now, fact, facts::released(seq), None, Due::Now);
        }
    }
}

/// The packet identifier of a place in the queue.
pub(super) fn identifier(seq: Seq) -> u16 {
    u16::try_from(seq.0.saturating_sub(1) % IDENTIFIERS + 1).unwrap_or(u16::MAX)
}

/// Whether nobody wants a message any more.
pub(super) fn is_expired(delivery: &Delivery, now: BootNs) -> bool {
    let message = &delivery.message;
    message.expiry_s.is_some_and(|expiry_s| now.since(message.at).as_secs() >= u64::from(expiry_s))
}

fn client(queue: &Durable) -> &str {
    queue.name.strip_prefix(QUEUE_PREFIX).unwrap_or(&queue.name)
}

/// Names a queue for sharing.
fn shared(name: &QueueName) -> QueueName {
    Arc::clone(name)
}

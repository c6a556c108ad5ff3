//! Bytes of all connections together: what is to be written and is not, and what came and is no whole packet yet.
//!
//! Each direction has one total; it is full at four fifths of its limit. Below three quarters of that a connection has what its own limits allow. Above, one
//! that has more than its share (an equal part for each connection that has anything) gets no more: QoS 0 is dropped and counted, QoS 1 and 2 wait in
//! their sessions. When the total is full and somebody within its share needs room, the slowest go: of those above their share the one that has made no
//! progress for the longest time is closed as [`CloseReason::Stalled`]. One that has made progress within [`STALLED_MIN`] is spared until the limit
//! is reached.
//!
//! Who goes is decided by address first. The total is divided equally among the addresses that have anything: one below its part loses no connection, and of
//! the others the one that has most is first. There a connection's share is an equal piece of its address's part. So an honest client with one large
//! message does not go because many others have a little each.
//!
//! Counted is what the broker holds and what it has handed out and was not told to be written, so also what waits in TLS or in frames of a WebSocket.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Broker;
use super::conn::Conn;
use crate::broker::access::Peer;
use crate::broker::{CloseReason, ConnId};
use crate::tag::BootNs;

/// Who has written or read something this short time ago is not called slow: a busy machine, a radio.
const STALLED_MIN: Duration = Duration::from_millis(250);

/// Nobody could be closed: how long until the next look, so that not every packet costs one.
const SEARCH_PAUSE: Duration = Duration::from_millis(10);

/// Connections looked at for one unit of work.
const CONNS_PER_UNIT: usize = 4;

/// One direction of all connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Total {
    bytes: usize,
    /// Full.
    max: usize,
    /// Connections that have anything.
    holders: usize,
    /// No look for the slowest before: there was none.
    search_from: BootNs,
}

/// What one connection has of a [`Total`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    bytes: usize,
    /// The last time that it became less, or more than nothing.
    moved: BootNs,
    /// It was refused more.
    refused: bool,
}

impl Total {
    /// `max` is never exceeded by more than one packet; full is a fifth below, so that a burst of those who read ends no connection.
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: 0, max: max / 5 * 4, holders: 0, search_from: BootNs(0) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An equal part.
    pub(super) fn share(&self) -> usize {
        self.max / self.holders.max(1)
    }

    /// A connection has so much of it.
    pub(super) fn note(&mut self, now: BootNs, part: &mut Part, bytes: usize) {
        if bytes < part.bytes || part.bytes == 0 {
            part.moved = now;
        }
        self.holders += usize::from(part.bytes == 0 && bytes > 0);
        self.holders -= usize::from(part.bytes > 0 && bytes == 0);
        self.bytes = self.bytes - part.bytes + bytes;
        part.bytes = bytes;
    }

    /// Whether a connection may have more, as things are.
    pub(super) fn allows(&self, part: &Part) -> bool {
        let within_share = self.bytes < self.max && part.bytes < self.share();
        self.bytes < self.max / 4 * 3 || within_share || (part.bytes == 0 && !self.is_burst())
    }

    /// Whether somebody else has to go before a connection may have more.
    fn is_crowded_for(&self, part: &Part) -> bool {
        self.bytes >= self.max && part.bytes < self.share()
    }

    /// Whether the limit is reached: nobody is spared.
    fn is_burst(&self) -> bool {
        self.bytes >= self.max.saturating_add(self.max / 4)
    }

    /// Whether it is worth a look at all connections for the slowest.
    fn is_searched(&self, now: BootNs) -> bool {
        now >= self.search_from || self.is_burst()
    }
}

impl Part {
    /// Remembers that it was refused more.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// Whether it was refused more since this was asked last.
    pub(super) fn take_refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }
}

impl Broker {
    /// Makes room for bytes to a connection where others that are slow have more than their share. Call it before [`Conn::may_get`].
    pub(super) fn make_room_to(&mut self, conn: ConnId) {
        if self.unwritten.bytes < self.unwritten.max {
            return;
        }
        let Some(part) = self.conns.get(&conn).map(|open| open.unwritten) else { return };
        while self.unwritten.is_crowded_for(&part) && self.close_slowest() {}
    }

    /// A connection was told something that cannot be left out.
    pub(super) fn bound_unwritten(&mut self, conn: ConnId) {
        let limits = &self.settings.limits;
        let own_max = limits.outbox_bytes_max + 2 * limits.packet_bytes_max;
        if self.conns.get(&conn).is_some_and(|open| open.unwritten.bytes > own_max) {
            self.condemn(conn, CloseReason::Stalled);
        }
        while self.unwritten.bytes > self.unwritten.max && self.close_slowest() {}
    }

    /// Closes the connection that has made no progress for the longest time, of those that have more than their share.
    fn close_slowest(&mut self) -> bool {
        let (now, total) = (self.now, self.unwritten);
        if !total.is_searched(now) {
            return false;
        }
        let is_spared = |open: &Conn| !total.is_burst() && now.since(open.unwritten.moved) < STALLED_MIN;
        let Some(slowest) = self.heaviest(&total, |open| &open.unwritten, is_spared) else {
            self.unwritten.search_from = now.plus(SEARCH_PAUSE);
            return false;
        };
        self.counters.crowded_out_connections_total += 1;
        self.condemn(slowest, CloseReason::Stalled);
        true
    }

    /// What came from a connection and is no whole packet, or is not looked at yet, has changed.
    pub(super) fn bound_unread(&mut self, conn: ConnId) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.catches_up = false;
        let bytes = open.front.held_bytes();
        if bytes == 0 && open.unread.bytes == 0 {
            return;
        }
        self.unread.note(self.now, &mut open.unread, bytes);
        while self.unread.bytes > self.unread.max && self.close_unfinished() {}
    }

    /// Closes the connection whose packet is unfinished for the longest time, of those that have more than their share. What waits because the broker reads
    /// nothing from its connection is not its fault: that ends when everybody who sends has its share.
    fn close_unfinished(&mut self) -> bool {
        let (now, total) = (self.now, self.unread);
        if !total.is_searched(now) {
            return false;
        }
        let is_spared = |open: &Conn| open.is_held() || open.catches_up;
        let Some(oldest) = self.heaviest(&total, |open| &open.unread, is_spared) else {
            self.unread.search_from = now.plus(SEARCH_PAUSE);
            return false;
        };
        self.counters.crowded_out_connections_total += 1;
        self.condemn(
            oldest,
            CloseReason::Quota("bytes of packets that are not whole, of all clients together"),
        );
        true
    }

    /// Of the connections that have more than their share of a total, at the address that has most, the one that has made no progress for the longest time.
    fn heaviest(
        &mut self,
        total: &Total,
        part: impl Fn(&Conn) -> &Part,
        is_spared: impl Fn(&Conn) -> bool,
    ) -> Option<ConnId> {
        self.work.charge(self.conns.len() / CONNS_PER_UNIT);
        // Bytes and connections that have any.
        let mut addresses: BTreeMap<&Peer, (usize, usize)> = BTreeMap::new();
        for open in self.conns.values().filter(|open| part(open).bytes > 0) {
            let (bytes, holders) = addresses.entry(&open.peer).or_default();
            (*bytes, *holders) = (*bytes + part(open).bytes, *holders + 1);
        }
        let fair = total.max / addresses.len().max(1);
        let found = self.conns.iter().filter_map(|(conn, open)| {
            let Part { bytes, moved, .. } = *part(open);
            let (of_address, holders) = *addresses.get(&open.peer)?;
            let exceeds = of_address >= fair && bytes > 0 && bytes >= fair / holders;
            (exceeds && !is_spared(open)).then(|| (of_address, self.now.since(moved), *conn))
        });
        found.max().map(|(.., conn)| conn)
    }

    /// As [`Broker::doom`]; what the connection holds is given back at once.
    fn condemn(&mut self, conn: ConnId, reason: CloseReason) {
        let now = self.now;
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.out = Vec::new();
        open.front.forget();
        self.counters.dropped_slow_messages_total += open.drop_later() as u64;
        self.unwritten.note(now, &mut open.unwritten, 0);
        self.unread.note(now, &mut open.unread, 0);
        self.doom(conn, reason);
    }
}

//! Connections before and beside their log-in: how many an address has, what they hold, who gives way, and how fast they go on.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use super::conn::{Conn, Why};
use super::expiry::Alarm;
use super::login::Stage;
use crate::broker::access::{Peer, Traffic};
use crate::broker::front::Front;
use crate::broker::note::{Event, Who};
use crate::broker::{Action, CloseReason, ConnId, Origin};
use crate::tag::BootNs;

/// Connections of one address without a CONNECT from which on the oldest gives way, once it is older than [`GIVE_WAY`].
const IDLE_PER_ADDRESS_MAX: usize = 64;

/// A connection may take this long to its CONNECT, whoever else comes: a hundred times what it takes on a local network.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// Most users that are remembered without a connection, until their buckets are full.
const USERS_MAX: usize = 4096;

/// What the connections of a user have in common.
#[derive(Debug, Default)]
pub(super) struct UserState {
    conns: usize,
    traffic: Traffic,
}

impl Broker {
    /// A client has opened connection `conn`, a number never used before.
    pub fn handle_open(&mut self, now: BootNs, conn: ConnId, origin: Origin) {
        self.now = self.now.max(now);
        self.begin(now);
        let peer = Peer::of(&origin.peer);
        if let Some(reason) = self.no_place(now, &peer) {
            self.counters.connections_refused_total += 1;
            if let CloseReason::Full = reason {
                let listener = self.settings.listeners.get(origin.listener).map(|l| l.name.clone());
                let who = Who { listener, ..Who::at(&peer.text()) };
                self.note(Event::ConnectionRefused("too many connections"), who);
            }
            self.actions.push_back(Action::Close { conn, reason });
            self.settle(now);
            return;
        }
        self.counters.connections_total += 1;
        self.connected_max = self.connected_max.max(self.conns.len() + 1);
        let deadline = now.plus(self.settings.limits.handshake_max);
        let front = Front::new(self.settings.limits.packet_bytes_max);
        self.alarms.insert((deadline, Alarm::Conn(conn)));
        let held = self.peers.open(now, conn, &peer);
        self.conns.insert(conn, Conn::new(front, origin, peer, (now, deadline)));
        if held {
            self.counters.hello_held_total += 1;
            self.hold(conn, Why::Room);
        }
        self.settle(now);
    }

    /// Why a connection of an address has no place. Those that have not sent a CONNECT give way to it: first of its own address.
    fn no_place(&mut self, now: BootNs, peer: &Peer) -> Option<CloseReason> {
        if self.stopping {
            return Some(CloseReason::Shutdown);
        }
        let limits = self.settings.limits;
        let oldest = self.peers.oldest_idle(peer);
        if self.peers.connections(peer) >= limits.connections_per_address_max {
            let Some(oldest) = oldest else { return Some(CloseReason::Full) };
            self.give_way(now, oldest);
        } else if self.peers.idle_len(peer) >= IDLE_PER_ADDRESS_MAX
            && let Some(oldest) = oldest
            && self.conns.get(&oldest).is_some_and(|open| now.since(open.opened) >= GIVE_WAY)
        {
            self.give_way(now, oldest);
        }
        if self.conns.len() >= limits.connections_max {
            let Some(oldest) = self.peers.oldest_of_most() else { return Some(CloseReason::Full) };
            self.give_way(now, oldest);
        }
        None
    }

    fn give_way(&mut self, now: BootNs, conn: ConnId) {
        let refused = self.conns.get(&conn).is_some_and(Conn::is_refused);
        let reason = if refused { self.refuse_now(conn) } else { CloseReason::GaveWay };
        self.close(now, conn, reason);
    }

    /// A connection is no more.
    pub(super) fn part_from(&mut self, conn: ConnId, open: &mut Conn) {
        if let Stage::Verifying { user, .. } = &open.stage {
            self.logins.remove(conn, &open.peer, user);
        }
        self.peers.close(self.now, conn, &open.peer, open.charged);
        if let Some(at) = open.rate_alarm {
            self.alarms.remove(&(at, Alarm::Rate(conn)));
        }
        if let Some(user) = open.counted.take()
            && let Some(state) = self.users.get_mut(&user)
        {
            state.conns = state.conns.saturating_sub(1);
            if state.conns == 0 && state.traffic.is_full(self.now) {
                self.users.remove(&user);
            }
        }
        self.hold_strangers();
    }

    /// Counts what a connection holds that is not let in.
    pub(super) fn charge(&mut self, now: BootNs, conn: ConnId) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        let bytes = open.stranger_bytes();
        let before = std::mem::replace(&mut open.charged, bytes);
        if before != bytes {
            self.peers.charge(now, &open.peer, before, bytes);
            self.hold_strangers();
            self.make_room(now);
        }
        self.bound_unread(conn);
    }

    /// Cuts connections whose CONNECT is not whole, until others can be read.
    fn make_room(&mut self, now: BootNs) {
        while self.peers.is_full() {
            let fresh =
                self.conns.iter().filter(|(_, open)| matches!(open.stage, Stage::Fresh) && open.charged > 0);
            let Some((largest, _)) = fresh.max_by_key(|(_, open)| open.charged) else { return };
            self.close(now, *largest, CloseReason::GaveWay);
        }
    }

    /// Holds connections, or lets them go on, as their addresses' bytes say.
    pub(super) fn hold_strangers(&mut self) {
        while let Some((conn, held)) = self.peers.take_changed() {
            if held {
                self.counters.hello_held_total += 1;
                self.hold(conn, Why::Room);
            } else {
                self.unhold(conn, Why::Room);
            }
        }
    }

    /// What is due for addresses.
    pub(super) fn expire_access(&mut self, now: BootNs) {
        self.notes.expire(now);
        self.peers.expire(now);
        self.hold_strangers();
        while let Some(lock) = self.failures.expire(now) {
            self.note(Event::LockOver, super::login::locked(&lock));
        }
    }

    /// Whether a user may have one more connection; the one that it takes over does not count.
    pub(super) fn has_place(&self, user: &Arc<str>, rival: Option<ConnId>) -> bool {
        let rival = rival.and_then(|conn| self.conns.get(&conn)?.counted.as_ref()) == Some(user);
        let conns = self.users.get(user).map_or(0, |state| state.conns);
        conns < self.settings.limits.connections_per_user_max + usize::from(rival)
    }

    /// A connection was let in as a user.
    pub(super) fn count_user(&mut self, conn: ConnId, user: Option<Arc<str>>) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        if let Some(user) = user {
            if self.users.len() >= USERS_MAX && !self.users.contains_key(&user) {
                self.users.retain(|_, state| state.conns > 0);
            }
            self.users.entry(Arc::clone(&user)).or_default().conns += 1;
            open.counted = Some(user);
        }
    }

    /// Reads nothing from a connection whose address or user sends faster than allowed, until it is as slow again.
    pub(super) fn slow_down(&mut self, now: BootNs, conn: ConnId, bytes: usize) {
        let limits = &self.settings.limits;
        let (bytes_max, messages_max) = (limits.bytes_per_second_max, limits.messages_per_second_max);
        if bytes_max == 0 && messages_max == 0 {
            return;
        }
        let Some(open) = self.conns.get_mut(&conn) else { return };
        let bytes = (u64::try_from(bytes).unwrap_or(u64::MAX), bytes_max);
        let messages = (std::mem::take(&mut open.messages), messages_max);
        let of_peer = self.peers.traffic(&open.peer).and_then(|traffic| traffic.take(now, bytes, messages));
        let user = open.counted.as_ref().and_then(|user| self.users.get_mut(user));
        let of_user = user.and_then(|state| state.traffic.take(now, bytes, messages));
        self.hold_until(conn, of_peer.max(of_user));
    }

    /// As [`Broker::slow_down`], for what others of its address or its user have sent: whoever comes back, or has several connections, is no faster.
    pub(super) fn slow_down_for_others(&mut self, now: BootNs, conn: ConnId) {
        let limits = &self.settings.limits;
        if limits.bytes_per_second_max == 0 && limits.messages_per_second_max == 0 {
            return;
        }
        let open = self.conns.get(&conn).filter(|open| matches!(open.stage, Stage::Up));
        let Some(open) = open.filter(|open| open.rate_alarm.is_none()) else { return };
        let of_peer = self.peers.traffic(&open.peer).and_then(|traffic| traffic.empty_until(now));
        let user = open.counted.as_ref().and_then(|user| self.users.get(user));
        let of_user = user.and_then(|state| state.traffic.empty_until(now));
        self.hold_until(conn, of_peer.max(of_user));
    }

    /// Reads nothing from a connection until then.
    fn hold_until(&mut self, conn: ConnId, until: Option<BootNs>) {
        let (Some(until), Some(open)) = (until, self.conns.get_mut(&conn)) else { return };
        if let Some(at) = open.rate_alarm.replace(until) {
            self.alarms.remove(&(at, Alarm::Rate(conn)));
        }
        self.alarms.insert((until, Alarm::Rate(conn)));
        self.counters.rate_held_total += 1;
        self.hold(conn, Why::Rate);
    }

    /// A connection that was too fast may go on.
    pub(super) fn rate_is_due(&mut self, conn: ConnId) {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.rate_alarm = None;
        }
        self.unhold(conn, Why::Rate);
    }
}

impl Conn {
    /// What it holds before it is let in.
    fn stranger_bytes(&self) -> usize {
        match &self.stage {
            Stage::Up => 0,
            Stage::Verifying { hello, bytes, .. } => self.front.held_bytes() + hello.len() + bytes,
            Stage::Fresh | Stage::Refusing { .. } => self.front.held_bytes(),
        }
    }

    /// Whether its refusal is held back.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refusing { .. })
    }
}

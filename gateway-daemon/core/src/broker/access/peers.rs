//! What each address has: connections, bytes of those that are not let in, and how fast it may go on.
//!
//! Before a log-in is decided nothing of a connection is kept but the bytes of its CONNECT: what has come of it, what waits for its comparison, and what was put
//! aside behind it. All of them together stay below [`HELLO_BYTES_TOTAL_MAX`], those of one address below [`HELLO_BYTES_PER_ADDRESS_MAX`] (and what one round of the
//! loop has read before it knew). Beyond, connections that have not said who they are are not read: what they send waits in the kernel.
//! Above [`CROWDED_BYTES`] that is so for all addresses but those that hold next to nothing, so that an ordinary log-in from elsewhere still passes.
//!
//! ```text
//! bytes of all      0 ......... CROWDED_BYTES ............. FULL_BYTES .. HELLO_BYTES_TOTAL_MAX
//! who is read       everybody   whoever holds < SMALL_BYTES  nobody
//! ```
//! Nobody waits for ever: the time to CONNECT goes on meanwhile, and when it is full, connections whose CONNECT is not whole give way, the largest
//! first.
//!
//! Bounds: an address is kept as long as it has a connection, and up to [`PEERS_MAX`] longer, until its buckets are full.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Pace, Peer};
use crate::broker::ConnId;
use crate::tag::BootNs;

/// Most bytes of all connections that are not let in.
pub const HELLO_BYTES_TOTAL_MAX: usize = 8 << 20;

/// Most bytes of the connections of one address that are not let in: a dozen log-ins of the largest size, thousands of ordinary ones.
pub const HELLO_BYTES_PER_ADDRESS_MAX: usize = 1 << 20;

/// From here on nobody is read: what is under way may add some hundred kilobytes.
const FULL_BYTES: usize = HELLO_BYTES_TOTAL_MAX - (1 << 20);

/// From here on only addresses are read that hold less than [`SMALL_BYTES`].
const CROWDED_BYTES: usize = 5 << 20;

/// More than an ordinary CONNECT has.
const SMALL_BYTES: usize = 4 << 10;

/// Most addresses without a connection that are remembered.
pub(super) const PEERS_MAX: usize = 4096;

/// What the limit of log-ins counts in.
pub(super) const LOGINS_SPAN: Duration = Duration::from_secs(60);

/// What one address has.
#[derive(Debug, Default)]
struct State {
    conns: usize,
    /// Connections without a CONNECT, or whose refusal is held back, the oldest first.
    idle: BTreeSet<ConnId>,
    bytes: usize,
    held: bool,
    logins: Pace,
    traffic: Traffic,
}

/// How fast an address or a user sends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    bytes: Pace,
    messages: Pace,
}

/// How full it is, for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Crowd {
    #[default]
    None,
    Crowded,
    Full,
}

/// All addresses.
#[derive(Debug, Default)]
pub struct Peers {
    states: BTreeMap<Peer, State>,
    bytes: usize,
    crowd: Crowd,
    /// Addresses that have logged in too often, and until when.
    paced: BTreeSet<(BootNs, Peer)>,
    /// Connections to be held or let go on.
    changed: VecDeque<(ConnId, bool)>,
}

/// One second, which traffic is counted in.
const SECOND: Duration = Duration::from_secs(1);

impl Traffic {
    /// Takes bytes and messages; gives when more may come, if it is too much.
    pub fn take(
        &mut self,
        now: BootNs,
        (bytes, bytes_max): (u64, u64),
        (messages, messages_max): (u64, u64),
    ) -> Option<BootNs> {
        let bytes = self.bytes.take(now, bytes, (bytes_max, SECOND));
        let messages = self.messages.take(now, messages, (messages_max, SECOND));
        bytes.max(messages)
    }

    /// When something may come again, if too much came.
    #[must_use]
    pub fn empty_until(&self, now: BootNs) -> Option<BootNs> {
        self.bytes.empty_until(now, SECOND).max(self.messages.empty_until(now, SECOND))
    }

    /// Whether nothing is missing: to be forgotten.
    #[must_use]
    pub fn is_full(&self, now: BootNs) -> bool {
        self.bytes.is_full(now) && self.messages.is_full(now)
    }
}

impl Peers {
    /// A connection has come. Whether it is to be held from the beginning.
    pub fn open(&mut self, now: BootNs, conn: ConnId, peer: &Peer) -> bool {
        if self.states.len() >= PEERS_MAX && !self.states.contains_key(peer) {
            self.states.retain(|_, state| state.conns > 0);
        }
        let state = self.states.entry(peer.clone()).or_default();
        state.conns += 1;
        state.idle.insert(conn);
        self.look(now, peer);
        self.changed.retain(|(other, _)| *other != conn);
        self.states.get(peer).is_some_and(|state| state.held)
    }

    /// A connection is gone, which held so many bytes.
    pub fn close(&mut self, now: BootNs, conn: ConnId, peer: &Peer, bytes: usize) {
        self.known(conn, peer);
        self.charge(now, peer, bytes, 0);
        let Some(state) = self.states.get_mut(peer) else { return };
        state.conns = state.conns.saturating_sub(1);
        let is_over = state.conns == 0 && state.logins.is_full(now) && state.traffic.is_full(now);
        if is_over {
            self.states.remove(peer);
        }
    }

    /// A connection has sent its CONNECT.
    pub fn known(&mut self, conn: ConnId, peer: &Peer) {
        if let Some(state) = self.states.get_mut(peer) {
            state.idle.remove(&conn);
        }
    }

    /// A connection can give way again: its refusal is held back.
    pub fn idle(&mut self, conn: ConnId, peer: &Peer) {
        if let Some(state) = self.states.get_mut(peer) {
            state.idle.insert(conn);
        }
    }

    /// How many connections an address has.
    #[must_use]
    pub fn connections(&self, peer: &Peer) -> usize {
        self.states.get(peer).map_or(0, |state| state.conns)
    }

    /// How many of them have not sent a CONNECT.
    #[must_use]
    pub fn idle_len(&self, peer: &Peer) -> usize {
        self.states.get(peer).map_or(0, |state| state.idle.len())
    }

    /// The one of an address that gives way first.
    #[must_use]
    pub fn oldest_idle(&self, peer: &Peer) -> Option<ConnId> {
        self.states.get(peer)?.idle.first().copied()
    }

    /// The one that gives way when all places are taken: the oldest of the address that has most of them.
    #[must_use]
    pub fn oldest_of_most(&self) -> Option<ConnId> {
        self.states.values().max_by_key(|state| state.idle.len())?.idle.first().copied()
    }

    /// Whether nobody is read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.crowd == Crowd::Full
    }

    /// What connections hold that are not let in, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a connection holds has changed.
    pub fn charge(&mut self, now: BootNs, peer: &Peer, before: usize, after: usize) {
        if before == after {
            return;
        }
        self.bytes = self.bytes.saturating_sub(before).saturating_add(after);
        if let Some(state) = self.states.get_mut(peer) {
            state.bytes = state.bytes.saturating_sub(before).saturating_add(after);
        }
        // A quarter of room before anybody is read again: no coming and going at the border.
        let over = |bytes: usize, was: bool| self.bytes >= if was { bytes / 4 * 3 } else { bytes };
        let crowd = if over(FULL_BYTES, self.crowd == Crowd::Full) {
            Crowd::Full
        } else if over(CROWDED_BYTES, self.crowd != Crowd::None) {
            Crowd::Crowded
        } else {
            Crowd::None
        };
        if std::mem::replace(&mut self.crowd, crowd) == crowd {
            self.look(now, peer);
        } else {
            let peers: Vec<Peer> = self.states.keys().cloned().collect();
            peers.iter().for_each(|peer| self.look(now, peer));
        }
    }

    /// A log-in of an address. It is not read again before its bucket has something in it.
    pub fn login(&mut self, now: BootNs, peer: &Peer, per_minute_max: u64) {
        let Some(state) = self.states.get_mut(peer) else { return };
        if let Some(until) = state.logins.take(now, 1, (per_minute_max, LOGINS_SPAN)) {
            self.paced.insert((until, peer.clone()));
            self.look(now, peer);
        }
    }

    /// Bytes and messages of an address; gives when it may go on, if it is too much.
    pub fn traffic(&mut self, peer: &Peer) -> Option<&mut Traffic> {
        Some(&mut self.states.get_mut(peer)?.traffic)
    }

    /// When an address may go on.
    #[must_use]
    pub fn timeout(&self) -> Option<BootNs> {
        self.paced.first().map(|(until, _)| *until)
    }

    /// Lets addresses go on whose time has come.
    pub fn expire(&mut self, now: BootNs) {
        while self.paced.first().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, peer)) = self.paced.pop_first() {
                self.look(now, &peer);
            }
        }
    }

    /// A connection that is to be held, or let go on.
    pub fn take_changed(&mut self) -> Option<(ConnId, bool)> {
        self.changed.pop_front()
    }

    /// Holds the connections of an address that have not said who they are, or lets them go on.
    fn look(&mut self, now: BootNs, peer: &Peer) {
        let crowd = self.crowd;
        let Some(state) = self.states.get_mut(peer) else { return };
        let most = HELLO_BYTES_PER_ADDRESS_MAX - (1 << 18);
        let most = if state.held { most / 4 * 3 } else { most };
        let held = state.bytes >= most
            || crowd == Crowd::Full
            || (crowd == Crowd::Crowded && state.bytes >= SMALL_BYTES)
            || state.logins.empty_until(now, LOGINS_SPAN).is_some();
        if std::mem::replace(&mut state.held, held) != held {
            self.changed.extend(state.idle.iter().map(|conn| (*conn, held)));
        }
    }
}

//! A budget of work for each turn of the loop that owns the broker, and what is put down when it is spent.
//!
//! Work is counted in *units* of some 50 ns of a desktop's core (about 200 instructions; a small ARM core takes four to eight times as long). A turn begins with
//! [`Broker::timeout`]. Half of its budget at most goes to what was put down before, so that who comes now is heard; the rest goes to what comes in. When
//! it is spent, nothing more is begun:
//!
//! - bytes of connections are put aside and the connection is held; it goes on in its turn with a slice of the budget, one packet after the other;
//! - SUBSCRIBE and UNSUBSCRIBE go on with the next filter; they are answered when all are done;
//! - messages to sessions wait in them as references ([`Broker::pump`]); what makes a message safe does not wait;
//! - retained messages for subscribers, new rules of connections, closings, alarms and the subscriptions of ended sessions go on one by one.
//!
//! What must be changed together (see [`crate::broker::journal`]) is never cut: a packet is atomic but for the three things above, and its
//! cost is bounded by [`crate::broker::settings::MATCH_STEPS_MAX`] and the number of sessions.
//!
//! Bounds: each list holds a connection or session once at most; [`WAITING_MAX`] connections with bytes put aside before no more are asked for;
//! [`FILTERS_BYTES_MAX`] bytes of packets with filters wait, and one packet. The filters are parsed one by one.

use std::collections::VecDeque;

use super::Broker;
use super::conn::Why;
use super::subscribe::Task;
use crate::broker::outbound::DropReason;
use crate::broker::packet::Delivery;
use crate::broker::session::Filters;
use crate::broker::settings::FILTERS_BYTES_MAX;
use crate::broker::tree::GroupId;
use crate::broker::{Action, ConnId, SessionId};
use crate::tag::BootNs;

/// A packet of a client, whatever it is.
pub(super) const PACKET: usize = 8;
/// A session given a message.
pub(super) const GIVE: usize = 8;
/// Bytes copied, encoded and written to a socket for one unit.
const BYTES_PER_UNIT: usize = 64;
/// A filter subscribed or removed, beside its levels: tree, session, list of changes.
pub(super) const FILTER: usize = 24;
/// A row or a fact for the disk.
pub(super) const ROW: usize = 10;
/// The end of a connection or a session, or its beginning.
pub(super) const SESSION: usize = 60;
/// Sessions looked at for one unit of work.
pub(super) const SESSIONS_PER_UNIT: usize = 4;
/// A rule with its names filled in, or a filter compared with rules.
pub(super) const RULE: usize = 4;
/// Shares of the budget for one connection whose bytes were put aside: 16 of them in a turn's half, so that light ones are not behind heavy ones for long.
const SLICES: u64 = 32;
/// Fewer units than one packet takes would be a budget for nothing.
const UNITS_MIN: u64 = 128;
/// Connections with bytes put aside before no more bytes are asked for: a megabyte of reads.
const WAITING_MAX: usize = 64;

/// What of an ended session is left in the tree, and what it had for others.
pub(super) struct Ending {
    pub(super) id: SessionId,
    pub(super) filters: Filters,
    /// Messages of shared subscriptions that other members may get.
    pub(super) rest: VecDeque<Delivery>,
    /// The groups of these subscriptions, in order; they are in the tree until `rest` is empty.
    pub(super) groups: Vec<GroupId>,
    /// Why what nobody gets is dropped.
    pub(super) why: DropReason,
}

/// The budget of this turn, and what was put down.
pub(super) struct Work {
    max: u64,
    spent: u64,
    /// Where what was put down before stops.
    until: u64,
    /// Most units of any turn.
    longest: u64,
    /// Connections with packets to go on with, in their order.
    waiting: VecDeque<ConnId>,
    /// Sessions with something to send.
    pub(super) behind: VecDeque<SessionId>,
    pub(super) ending: VecDeque<Ending>,
    /// Subscriptions in `ending`.
    pub(super) dying: usize,
    /// Connections whose rules have changed.
    pub(super) stale: VecDeque<ConnId>,
    /// Bytes of packets with filters that are carried on.
    pub(super) filters_bytes: usize,
}

impl Work {
    pub(super) fn new(max: u64) -> Self {
        Self {
            max: max.max(UNITS_MIN),
            spent: 0,
            until: max.max(UNITS_MIN),
            longest: 0,
            waiting: VecDeque::new(),
            behind: VecDeque::new(),
            ending: VecDeque::new(),
            dying: 0,
            stale: VecDeque::new(),
            filters_bytes: 0,
        }
    }

    /// Some units of work are done.
    pub(super) fn charge(&mut self, units: usize) {
        self.spent = self.spent.saturating_add(units as u64);
        self.longest = self.longest.max(self.spent);
    }

    /// Bytes are copied.
    pub(super) fn charge_bytes(&mut self, bytes: usize) {
        self.charge(bytes / BYTES_PER_UNIT);
    }

    /// Whether nothing more is to be begun.
    pub(super) fn is_spent(&self) -> bool {
        self.spent >= self.until
    }

    /// A turn begins; a share of it is for what was put down.
    pub(super) fn begin(&mut self) {
        self.spent = 0;
        self.until = self.max / 4;
    }

    /// Alarms have had their share.
    pub(super) fn go_on(&mut self) {
        self.until = self.max / 2;
    }

    /// What was put down has had its share. If its last piece took more than that, the half of what comes in stays what it is.
    pub(super) fn open(&mut self) {
        self.until = self.max.max(self.spent.saturating_add(self.max / 2));
    }

    /// Where a thing stops that has to be done in one turn and may take another whole budget.
    pub(super) fn another(&self) -> u64 {
        self.spent.saturating_add(self.max)
    }

    /// Whether so much is spent.
    pub(super) fn is_past(&self, units: u64) -> bool {
        self.spent >= units
    }

    fn slice(&self) -> u64 {
        self.until.min(self.spent.saturating_add(self.max / SLICES))
    }

    fn is_empty(&self) -> bool {
        let lists = self.waiting.is_empty() && self.behind.is_empty() && self.stale.is_empty();
        lists && self.ending.is_empty()
    }
}

impl Broker {
    /// Whether the budget of this turn is spent: better nothing more is handed in before [`Broker::timeout`] has begun another.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.work.is_spent()
    }

    /// Whether more bytes of clients are welcome: the budget is not spent, and not too many connections have bytes put aside.
    #[must_use]
    pub fn takes_more(&self) -> bool {
        !self.work.is_spent() && self.work.waiting.len() < WAITING_MAX
    }

    /// Whether something was put down and goes on with the next turn.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let lists = self.doomed.is_empty() && self.released.is_empty() && self.replaying.is_empty();
        !lists || !self.work.is_empty() || self.journal.has_news() || self.owes_now()
    }

    /// Most units of work that a turn took so far: the budget, and at most what one packet costs that was put down and one that came in.
    #[must_use]
    pub fn longest_turn_units(&self) -> u64 {
        self.work.longest
    }

    /// Bytes of packets with filters that wait.
    #[cfg(test)]
    pub(in crate::broker) fn filters_bytes(&self) -> usize {
        self.work.filters_bytes
    }

    /// Does what was put down, as far as the budget goes, each kind in its turn.
    pub(super) fn settle(&mut self, now: BootNs) {
        while !self.work.is_spent() {
            if let Some((conn, reason)) = self.doomed.pop_front() {
                self.close(now, conn, reason);
                continue;
            }
            let mut any = false;
            for conn in [self.released.pop_front(), self.work.waiting.pop_front()].into_iter().flatten() {
                any = true;
                let until = self.work.slice();
                self.read(now, conn, &[], until);
                self.charge(now, conn);
                self.slow_down(now, conn, 0);
            }
            if let Some(id) = self.work.behind.pop_front() {
                any = true;
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.behind = false;
                }
                self.pump(now, id);
            }
            if let Some(conn) = self.work.stale.pop_front() {
                any = true;
                self.check(conn);
            }
            any |= self.end_some(now);
            any |= self.replay(now);
            if !any {
                break;
            }
        }
    }

    /// Bytes of a client.
    pub(super) fn hear(&mut self, now: BootNs, conn: ConnId, bytes: &[u8]) {
        let Some(open) = self.conns.get(&conn).filter(|open| !open.condemned) else { return };
        if open.is_held() {
            self.put_aside(conn, bytes);
        } else {
            self.read(now, conn, bytes, self.work.until);
        }
    }

    /// Reads packets until there are none, the connection is held, or so much of the budget is spent.
    fn read(&mut self, now: BootNs, conn: ConnId, mut bytes: &[u8], until: u64) {
        loop {
            let Some(open) = self.conns.get_mut(&conn).filter(|open| !open.condemned) else { return };
            if open.is_held_but_for(Why::Work) {
                open.set_held(Why::Work, false);
                return self.put_aside(conn, bytes);
            }
            if bytes.is_empty() && open.task.is_none() && open.front.is_empty() {
                return self.caught_up(conn);
            }
            let many = self.work.filters_bytes >= FILTERS_BYTES_MAX && open.task.is_none();
            let waits = many && open.front.begins_with_filters(bytes);
            if waits || self.work.spent >= until {
                // Whoever is put down again and again uses the turn up.
                self.work.charge(if waits { PACKET } else { 0 });
                return self.put_down(conn, bytes);
            }
            let outcome = if open.task.is_some() {
                self.go_on_with_filters(now, conn)
            } else {
                match open.front.next(now, &mut bytes) {
                    Ok(None) => return self.caught_up(conn),
                    Ok(Some(packet)) => {
                        self.counters.received_packets_total += 1;
                        self.work.charge(PACKET);
                        if !open.silence_max.is_zero() {
                            open.deadline = now.plus(open.silence_max);
                        }
                        self.handle_packet(now, conn, packet)
                    }
                    Err(reason) => Err(reason),
                }
            };
            if let Err(reason) = outcome {
                return self.close(now, conn, reason);
            }
        }
    }

    /// The rest of what a connection has sent goes on in its turn.
    fn put_down(&mut self, conn: ConnId, bytes: &[u8]) {
        self.counters.put_down_total += 1;
        self.put_aside(conn, bytes);
        self.hold(conn, Why::Work);
        self.work.waiting.push_back(conn);
    }

    /// Nothing is left of what a connection has sent.
    fn caught_up(&mut self, conn: ConnId) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        if open.is_held() {
            open.set_held(Why::Work, false);
            open.forget_aside();
            self.actions.push_back(Action::Hold { conn, held: false });
        }
    }

    /// A session has something to send that waits for the next turn.
    pub(super) fn fall_behind(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !std::mem::replace(&mut session.behind, true)
        {
            self.counters.put_down_total += 1;
            self.work.behind.push_back(id);
        }
    }

    /// What a connection that is gone was asking for.
    pub(super) fn forget_task(&mut self, task: Option<Box<Task>>) {
        self.work.filters_bytes -= task.map_or(0, |task| task.bytes());
    }
}

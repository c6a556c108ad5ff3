//! One connection: what it is told and what it waits for.
//!
//! Whatever is said to a connection goes into one buffer, which leaves as one [`Action::Send`] when the hands ask. Bytes of a
//! connection that is held are put aside, bounded by [`ASIDE_BYTES_MAX`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::expiry::Alarm;
use super::subscribe::Task;
use super::traffic::{Part, Total};
use super::work::{GIVE, SESSION};
use super::{Broker, login::Stage};
use crate::broker::access::{Grants, Peer};
use crate::broker::front::Front;
use crate::broker::packet::{Code, Delivery, Reply, Subscription, Testament, Version};
use crate::broker::{Action, CloseReason, ConnId, Counters, Origin, SessionId};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

/// Most bytes put aside of a connection that is held, beside one packet: what the listener had read before it knew.
const ASIDE_BYTES_MAX: usize = 256 << 10;

/// Most acknowledgements that wait for the disk on behalf of one connection before it is held. Clients of 5.0 are told a lower
/// limit; those of 3.x know none.
const OWED_MAX: usize = 1000;

/// Why nothing more is read from a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Why {
    /// Its password is being compared, or its refusal is held back.
    Login = 1,
    /// The disk is too slow for what is published.
    Disk = 2,
    /// Too many acknowledgements wait.
    Owed = 4,
    /// The budget of the turn was spent before all that it has sent was read.
    Work = 8,
    /// Its rules have changed and are not looked at yet.
    Rules = 16,
    /// Those that are not let in hold too much, or its address has logged in too often.
    Room = 32,
    /// Its address or its user sends faster than allowed.
    Rate = 64,
}

/// What kind of acknowledgement is owed: each kind leaves in the order of its causes (4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Acknowledge,
    Receive,
    Complete,
    Subscribe,
}

/// An acknowledgement that waits for the disk.
#[derive(Debug)]
pub(super) enum Owed {
    Acknowledge(u16, Code),
    Receive(u16, Code),
    Complete(u16, Code),
    Subscribed { id: u16, granted: Vec<Result<Qos, Code>>, replay: Vec<Subscription> },
    Unsubscribed { id: u16, codes: Vec<Code> },
}

/// Acknowledgements in order; the first one that still waits holds up those behind it.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Number of the first entry.
    first: u64,
    /// With whether it may go.
    entries: VecDeque<(Owed, bool)>,
}

pub(super) struct Conn {
    pub(super) front: Front,
    pub(super) origin: Origin,
    pub(super) stage: Stage,
    /// `None` before CONNECT was accepted.
    pub(super) session: Option<SessionId>,
    pub(super) version: Version,
    /// What it may do; `None` is everything.
    pub(super) grants: Option<Box<Grants>>,
    pub(super) will: Option<Box<Testament>>,
    /// Longest silence allowed; zero is for ever.
    pub(super) silence_max: Duration,
    pub(super) deadline: BootNs,
    /// Its entry among the alarms, at or before the deadline.
    pub(super) alarm: Option<BootNs>,
    /// What is to be sent and was not handed out.
    pub(super) out: Vec<u8>,
    /// In the list of connections with something to send.
    listed: bool,
    /// Bytes handed out and not yet written.
    pub(super) unsent: usize,
    /// What it has of the bytes to all connections.
    pub(super) unwritten: Part,
    /// What it has of the bytes of all connections.
    pub(super) unread: Part,
    /// It was held, and what was put aside is not read yet.
    pub(super) catches_up: bool,
    /// It is at its end: nothing is told to it and nothing is read from it.
    pub(super) condemned: bool,
    /// Set of [`Why`].
    held: u8,
    /// Bytes put aside while held.
    aside: usize,
    /// SUBSCRIBE or UNSUBSCRIBE that is not done.
    pub(super) task: Option<Box<Task>>,
    /// QoS 0 messages that are encoded in a later turn.
    pub(super) later: VecDeque<Delivery>,
    /// What they count for in the outbox.
    pub(super) later_bytes: usize,
    lines: [Line; 4],
    /// Its address.
    pub(super) peer: Peer,
    pub(super) opened: BootNs,
    /// Messages since they were counted last.
    pub(super) messages: u64,
    /// When it is read again after it was too fast.
    pub(super) rate_alarm: Option<BootNs>,
    /// What it holds before it is let in, as it was counted last.
    pub(super) charged: usize,
    /// The user that its connection was counted for.
    pub(super) counted: Option<Arc<str>>,
}

impl Conn {
    pub(super) fn new(
        front: Front,
        origin: Origin,
        peer: Peer,
        (opened, deadline): (BootNs, BootNs),
    ) -> Self {
        Self {
            peer,
            opened,
            charged: 0,
            counted: None,
            messages: 0,
            rate_alarm: None,
            front,
            origin,
            stage: Stage::Fresh,
            session: None,
            version: Version::V311,
            grants: None,
            will: None,
            silence_max: Duration::ZERO,
            deadline,
            alarm: Some(deadline),
            out: Vec::new(),
            listed: false,
            unsent: 0,
            unwritten: Part::default(),
            unread: Part::default(),
            catches_up: false,
            condemned: false,
            held: 0,
            aside: 0,
            task: None,
            later: VecDeque::new(),
            later_bytes: 0,
            lines: Default::default(),
        }
    }

    /// Whether the client reads fast enough for more.
    pub(super) fn has_room(&self, outbox_bytes_max: usize) -> bool {
        self.unsent.saturating_add(self.out.len()).saturating_add(self.later_bytes) < outbox_bytes_max
    }

    /// As [`Conn::has_room`], and all connections together have room for it.
    pub(super) fn may_get(&mut self, outbox_bytes_max: usize, total: &Total) -> bool {
        if self.condemned {
            return false;
        }
        let allowed = total.allows(&self.unwritten);
        if !allowed {
            self.unwritten.refuse();
        }
        allowed && self.has_room(outbox_bytes_max)
    }

    /// Tells the total what it has of it.
    pub(super) fn note(&mut self, now: BootNs, total: &mut Total) {
        if !self.condemned {
            let bytes = self.unsent.saturating_add(self.out.len()).saturating_add(self.later_bytes);
            total.note(now, &mut self.unwritten, bytes);
        }
    }

    /// Forgets QoS 0 messages that wait to be encoded; gives how many.
    pub(super) fn drop_later(&mut self) -> usize {
        self.later_bytes = 0;
        std::mem::take(&mut self.later).len()
    }

    pub(super) fn is_held(&self) -> bool {
        self.held != 0
    }

    /// Whether it is held for another reason as well.
    pub(super) fn is_held_but_for(&self, why: Why) -> bool {
        self.held & !(why as u8) != 0
    }

    /// Whether it is held for this reason.
    pub(super) fn is_held_for(&self, why: Why) -> bool {
        self.held & why as u8 != 0
    }

    pub(super) fn set_held(&mut self, why: Why, held: bool) {
        self.held = if held { self.held | why as u8 } else { self.held & !(why as u8) };
    }

    /// Nothing is put aside any more.
    pub(super) fn forget_aside(&mut self) {
        self.aside = 0;
    }

    pub(super) fn line(&mut self, kind: Kind) -> &mut Line {
        &mut self.lines[kind as usize]
    }

    /// Messages of the client whose PUBACK is owed.
    pub(super) fn unacknowledged(&self) -> usize {
        self.lines[Kind::Acknowledge as usize].len()
    }

    /// Writes a packet; `false` if it is too large for the client. Says through `dirty` when something is to be sent first. Call [`Conn::note`]
    /// afterwards.
    pub(super) fn tell(&mut self, conn: ConnId, dirty: &mut Vec<ConnId>, reply: Reply<'_>) -> bool {
        if self.condemned {
            return true;
        }
        let told = self.front.encode(&mut self.out, reply);
        self.list(conn, dirty);
        told
    }

    pub(super) fn list(&mut self, conn: ConnId, dirty: &mut Vec<ConnId>) {
        if !self.out.is_empty() && !std::mem::replace(&mut self.listed, true) {
            dirty.push(conn);
        }
    }
}

impl Line {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of the next one that is put in.
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Puts an acknowledgement at the end; gives its number.
    pub(super) fn push(&mut self, owed: Owed) -> u64 {
        let number = self.next_number();
        self.entries.push_back((owed, false));
        number
    }

    /// One may go. Ones that have gone are no error.
    pub(super) fn allow(&mut self, number: u64) {
        let entry = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = entry.and_then(|at| self.entries.get_mut(at)) {
            entry.1 = true;
        }
    }

    /// PUBACK or PUBREC that still waits gets another code.
    pub(super) fn amend(&mut self, number: u64, code: Code) {
        let entry = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some((Owed::Acknowledge(_, said) | Owed::Receive(_, said), _)) =
            entry.and_then(|at| self.entries.get_mut(at))
        {
            *said = code;
        }
    }

    /// The next one that may go.
    pub(super) fn pop(&mut self) -> Option<Owed> {
        let (owed, _) = self.entries.pop_front_if(|(_, allowed)| *allowed)?;
        self.first += 1;
        if self.entries.is_empty() {
            self.entries.shrink_to(16);
        }
        Some(owed)
    }

    /// Whether PUBREC for this packet still waits.
    pub(super) fn owes_receive(&self, id: u16) -> bool {
        self.entries.iter().any(|(owed, _)| matches!(owed, Owed::Receive(other, _) if *other == id))
    }
}

impl Broker {
    /// Says something to a connection. A client that makes us answer and never reads is cut, and so is one that takes no packet of the answer's size: `false`.
    pub(super) fn tell(&mut self, conn: ConnId, reply: Reply<'_>) -> bool {
        if let Some(open) = self.conns.get_mut(&conn) {
            if !open.tell(conn, &mut self.dirty, reply) {
                // Nobody waits for an answer that cannot be given (3.1.2.11.4).
                self.doom(conn, CloseReason::Small);
                return false;
            }
            open.note(self.now, &mut self.unwritten);
            self.counters.sent_packets_total += 1;
            // Messages stop at the outbox; the rest is room for answers.
            self.bound_unwritten(conn);
        }
        true
    }

    /// An acknowledgement that waits, or is said at once if nothing stands before it and `ready`. Gives its number if it waits.
    pub(super) fn owe(&mut self, conn: ConnId, kind: Kind, owed: Owed, ready: bool) -> Option<u64> {
        let open = self.conns.get_mut(&conn)?;
        let line = open.line(kind);
        if ready && line.len() == 0 {
            self.pay(conn, owed);
            return None;
        }
        let number = line.push(owed);
        if ready {
            line.allow(number);
        }
        if line.len() >= OWED_MAX {
            self.hold(conn, Why::Owed);
        }
        Some(number)
    }

    /// An acknowledgement waits no longer; those behind it that do not either go as well.
    pub(super) fn allow(&mut self, conn: ConnId, kind: Kind, number: u64) {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.line(kind).allow(number);
        }
        while let Some(owed) = self.conns.get_mut(&conn).and_then(|open| open.line(kind).pop()) {
            self.pay(conn, owed);
        }
        if self.conns.get_mut(&conn).is_some_and(|open| open.line(kind).len() < OWED_MAX / 2) {
            self.unhold(conn, Why::Owed);
        }
    }

    fn pay(&mut self, conn: ConnId, owed: Owed) {
        self.work.charge(GIVE);
        let (reply, replay) = match owed {
            Owed::Acknowledge(id, code) => (Reply::Acknowledge(id, code), Vec::new()),
            Owed::Receive(id, code) => (Reply::Receive(id, code), Vec::new()),
            Owed::Complete(id, code) => (Reply::Complete(id, code), Vec::new()),
            Owed::Unsubscribed { id, codes } => (Reply::Unsubscribed { id, codes }, Vec::new()),
            Owed::Subscribed { id, granted, replay } => (Reply::Subscribed { id, granted }, replay),
        };
        if self.tell(conn, reply) && !replay.is_empty() {
            self.begin_replay(conn, replay);
        }
    }

    /// Reads nothing more from a connection for a reason.
    pub(super) fn hold(&mut self, conn: ConnId, why: Why) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        if open.held == 0 {
            self.counters.held_total += 1;
            self.actions.push_back(Action::Hold { conn, held: true });
        }
        open.held |= why as u8;
    }

    /// A reason to read nothing is gone; with the last one, what was put aside is read.
    pub(super) fn unhold(&mut self, conn: ConnId, why: Why) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        if open.held & why as u8 == 0 {
            return;
        }
        open.held &= !(why as u8);
        if open.held == 0 {
            (open.aside, open.catches_up) = (0, true);
            self.actions.push_back(Action::Hold { conn, held: false });
            self.released.push_back(conn);
        }
    }

    /// Takes bytes of a connection that is held.
    pub(super) fn put_aside(&mut self, conn: ConnId, bytes: &[u8]) {
        let aside_max = ASIDE_BYTES_MAX.saturating_add(self.settings.limits.packet_bytes_max);
        let Some(open) = self.conns.get_mut(&conn).filter(|open| !open.is_refused()) else { return };
        open.aside = open.aside.saturating_add(bytes.len());
        if open.aside > aside_max {
            self.doom(conn, CloseReason::Quota("bytes while nothing is read"));
        } else {
            open.front.push(bytes);
        }
    }

    /// What a connection has to send.
    pub(super) fn take_send(&mut self) -> Option<Action> {
        while let Some(conn) = self.dirty.pop() {
            let Some(open) = self.conns.get_mut(&conn) else { continue };
            open.listed = false;
            if let Some(send) = open.take_out(conn, &mut self.counters) {
                return Some(send);
            }
        }
        None
    }

    /// Ends a connection as soon as what is going on is done. From here on nothing more is read from it, and nothing more is told to it. The first reason counts.
    pub(super) fn doom(&mut self, conn: ConnId, reason: CloseReason) {
        if let Some(open) = self.conns.get_mut(&conn)
            && !std::mem::replace(&mut open.condemned, true)
        {
            self.doomed.push_back((conn, reason));
        }
    }

    /// Whether a connection is at its end, or gone.
    pub(super) fn is_doomed(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_none_or(|open| open.condemned)
    }

    pub(super) fn close(&mut self, now: BootNs, conn: ConnId, reason: CloseReason) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        self.work.charge(SESSION);
        open.front.farewell(&mut open.out, &reason);
        let send = open.take_out(conn, &mut self.counters);
        self.actions.extend(send);
        self.counters.count_close(&reason);
        self.note_close(conn, &reason);
        self.actions.push_back(Action::Close { conn, reason });
        self.end(now, conn);
    }

    /// A connection is no more. Gives what it was.
    pub(super) fn forget(&mut self, conn: ConnId) -> Option<Conn> {
        let mut open = self.conns.remove(&conn)?;
        self.unwritten.note(self.now, &mut open.unwritten, 0);
        self.unread.note(self.now, &mut open.unread, 0);
        self.forget_task(open.task.take());
        self.counters.dropped_away_messages_total += open.later.len() as u64;
        self.part_from(conn, &mut open);
        if let Some(alarm) = open.alarm {
            self.alarms.remove(&(alarm, Alarm::Conn(conn)));
        }
        Some(open)
    }
}

impl Conn {
    fn take_out(&mut self, conn: ConnId, counters: &mut Counters) -> Option<Action> {
        if self.out.is_empty() {
            return None;
        }
        counters.sent_bytes_total += self.out.len() as u64;
        self.unsent = self.unsent.saturating_add(self.out.len());
        Some(Action::Send { conn, bytes: std::mem::take(&mut self.out) })
    }
}

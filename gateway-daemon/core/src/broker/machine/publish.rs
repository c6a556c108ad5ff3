//! Messages of clients, and what is owed for them.
//!
//! An acknowledgement waits for a ticket: every place that a message enters and where it is not safe at once holds one count of it.

use std::sync::Arc;

use super::conn::{Conn, Kind, Owed};
use super::route::Post;
use super::{Broker, Waiter};
use crate::broker::note::{Attempt, Event, Shown};
use crate::broker::packet::{Code, Said};
use crate::broker::session::{Received, Unfinished};
use crate::broker::settings::{UNRELEASED_SHARE_MIN, UNRELEASED_TOTAL_MAX};
use crate::broker::{Action, CloseReason, ConnId, SessionId, Ticket};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

/// One client may have this part of what all others leave free.
const FREE_PART: usize = 4;

/// QoS 2 messages that clients have not released.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Unreleased {
    ids: usize,
    /// Those that have gone since the start.
    gone: u64,
}

impl Unreleased {
    /// A session has one more.
    pub(super) fn add(&mut self) {
        self.ids += 1;
    }

    /// Sessions have so many less.
    pub(super) fn take(&mut self, count: usize) {
        self.ids -= count;
        self.gone += count as u64;
    }

    /// Whether a session that has `own` may have one more.
    fn allows(&self, own: usize) -> bool {
        let free = UNRELEASED_TOTAL_MAX.saturating_sub(self.ids);
        own < (free / FREE_PART).max(UNRELEASED_SHARE_MIN)
    }
}

impl Broker {
    /// QoS 2 messages that are released, or forgotten with their session, since the start.
    #[must_use]
    pub fn releases(&self) -> u64 {
        self.unreleased.gone
    }

    /// PUBLISH.
    pub(super) fn published(
        &mut self,
        now: BootNs,
        conn: ConnId,
        id: SessionId,
        mut said: Said,
    ) -> Result<(), CloseReason> {
        self.counters.received_messages_total += 1;
        self.work.charge_bytes(said.message.body.len());
        let Some(open) = self.conns.get_mut(&conn) else { return Ok(()) };
        open.messages += 1;
        let (Some(open), Some(session)) = (self.conns.get(&conn), self.sessions.get(&id)) else {
            return Ok(());
        };
        let topic = &said.message.topic;
        let allowed = self.may_publish(open.grants.as_deref(), topic);
        self.work.charge(open.rules() / 2);
        if said.message.qos == Qos::ExactlyOnce && session.received.contains_key(&said.id) {
            self.receive_again(conn, id, said.id);
            return Ok(());
        }
        let unfinished = open.unacknowledged() + session.received.len();
        if said.message.qos != Qos::AtMostOnce
            && open.is_v5()
            && unfinished >= self.settings.limits.receive_max
        {
            return Err(CloseReason::ReceiveMaximum);
        }
        if !allowed {
            self.counters.publish_refused_total += 1;
            self.counters.own_refused_total += u64::from(self.own.holds(said.message.topic.as_str()));
            let refusal = self.refusal(Attempt::Publish, &said.message.topic);
            self.note(refusal, self.who(conn));
            let code = Code::NotAuthorized;
            match said.message.qos {
                Qos::AtMostOnce => {}
                Qos::AtLeastOnce => {
                    _ = self.owe(conn, Kind::Acknowledge, Owed::Acknowledge(said.id, code), true)
                }
                Qos::ExactlyOnce => _ = self.owe(conn, Kind::Receive, Owed::Receive(said.id, code), true),
            }
            return Ok(());
        }
        if said.message.qos == Qos::ExactlyOnce {
            said.message.at = self.next_held_at(said.message.at);
        }
        let post = Post::of_client(Arc::new(said.message), id);
        match post.qos {
            Qos::AtMostOnce => _ = self.route(now, post, || None),
            Qos::AtLeastOnce => self.publish_at_least_once(now, conn, said.id, post),
            Qos::ExactlyOnce => self.publish_exactly_once(now, conn, id, said.id, post)?,
        }
        self.hold_if_full(conn);
        Ok(())
    }

    fn publish_at_least_once(&mut self, now: BootNs, conn: ConnId, packet: u16, post: Post<'_>) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        let number = open.line(Kind::Acknowledge).next_number();
        let ticket = self.tickets.open(Waiter::Line(conn, Kind::Acknowledge, number));
        let topic = post.topic.clone();
        let routed = self.route(now, Post { ticket: Some(ticket), uplinks: Some(ticket), ..post }, || None);
        if routed.is_lost() {
            self.note_unkept(conn, Some(topic.as_str()));
        }
        if routed.uplinks == 0 || routed.is_kept() {
            self.tickets.keep(ticket);
        }
        self.owe(conn, Kind::Acknowledge, Owed::Acknowledge(packet, routed.code()), false);
        self.settle_ticket(now, ticket);
    }

    fn publish_exactly_once(
        &mut self,
        now: BootNs,
        conn: ConnId,
        id: SessionId,
        packet: u16,
        post: Post<'_>,
    ) -> Result<(), CloseReason> {
        let own = self.sessions.get(&id).map_or(0, |session| session.received.len());
        if !self.unreleased.allows(own) {
            return self.refuse_unreleased(conn, packet);
        }
        let message = post.message.clone();
        let ticket = self.tickets.open(Waiter::Received(id, packet));
        // A durable publisher's fact holds the message until the uplinks have it; a volatile one is told when they do.
        let held = self.is_durable(id).then(|| self.tickets.open(Waiter::Held(id, packet)));
        let post = Post { ticket: Some(ticket), uplinks: held.or(Some(ticket)), ..post };
        let topic = post.topic.clone();
        let routed = self.route(now, post, || None);
        let held = held.filter(|held| routed.uplinks > 0 || self.tickets.close(*held).is_none());
        if routed.is_lost() {
            self.note_unkept(conn, Some(topic.as_str()));
        }
        if routed.is_lost() && self.conns.get(&conn).is_some_and(Conn::is_v5) {
            // PUBREC with an error ends the exchange (4.3.3): nothing of it is to be remembered.
            self.tickets.close(ticket);
            self.owe(conn, Kind::Receive, Owed::Receive(packet, Code::QuotaExceeded), true);
            return Ok(());
        }
        // That nobody wants it is said by PUBACK alone: PUBREC says that it is received, which is what mosquitto's clients are used to.
        let owed = Owed::Receive(packet, Code::Success);
        let owed = self.owe(conn, Kind::Receive, owed, false).map(|number| (conn, number));
        let message = message.filter(|_| held.is_some());
        self.write_received(now, id, packet, message.as_ref(), ticket);
        if let Some(session) = self.sessions.get_mut(&id) {
            let entry = Unfinished { pending: Some(ticket), owed, held, message, ..Unfinished::default() };
            self.received_bytes += entry.held_bytes();
            self.unreleased.add();
            session.received.insert(packet, entry.into());
        }
        if routed.uplinks == 0 || routed.is_kept() || held.is_some() {
            self.tickets.keep(ticket);
        }
        if let Some(held) = held {
            if routed.is_kept() {
                self.tickets.keep(held);
            }
            self.settle_ticket(now, held);
        }
        self.settle_ticket(now, ticket);
        Ok(())
    }

    /// When a QoS 2 message came, as it is kept. After a crash what uplinks do not have enters them in this order, so no two have the same time: a later one
    /// of the same nanosecond counts as one nanosecond younger.
    fn next_held_at(&mut self, at: BootNs) -> BootNs {
        self.held_at = at.max(BootNs(self.held_at.0.saturating_add(1)));
        self.held_at
    }

    /// Too many QoS 2 messages are not released: 5.0 has a word for it, others are cut.
    fn refuse_unreleased(&mut self, conn: ConnId, packet: u16) -> Result<(), CloseReason> {
        self.counters.unreleased_refused_total += 1;
        if !self.conns.get(&conn).is_some_and(Conn::is_v5) {
            return Err(CloseReason::Quota("QoS 2 messages without their release"));
        }
        self.owe(conn, Kind::Receive, Owed::Receive(packet, Code::QuotaExceeded), true);
        Ok(())
    }

    /// A QoS 2 message that is known: PUBREC again, but not before it is true.
    fn receive_again(&mut self, conn: ConnId, id: SessionId, packet: u16) {
        self.counters.repeated_messages_total += 1;
        let owes =
            self.conns.get_mut(&conn).is_some_and(|open| open.line(Kind::Receive).owes_receive(packet));
        let pending =
            self.sessions.get(&id).and_then(|session| session.received.get(&packet)?.unfinished()?.pending);
        if pending.is_some() && owes {
            return;
        }
        let owed = Owed::Receive(packet, Code::Success);
        let number = self.owe(conn, Kind::Receive, owed, pending.is_none());
        let session = self.sessions.get_mut(&id);
        let entry = session.and_then(|session| session.received.get_mut(&packet)?.unfinished_mut());
        if let (Some(entry), Some(number)) = (entry.filter(|_| pending.is_some()), number) {
            entry.owed = Some((conn, number));
        }
    }

    /// PUBREL: the client will not send this message again.
    pub(super) fn release(&mut self, now: BootNs, conn: ConnId, id: SessionId, packet: u16) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(entry) = session.received.get(&packet) else {
            // A client whose PUBCOMP was lost asks again (4.3.3): it is done.
            self.owe_after(conn, id, Kind::Complete, Owed::Complete(packet, Code::Success));
            return;
        };
        let unfinished = entry.unfinished();
        if let Some(Unfinished { held: Some(_), released, .. }) = unfinished {
            if released.is_some_and(|(before, _)| before == conn) {
                return;
            }
            let number = self.owe(conn, Kind::Complete, Owed::Complete(packet, Code::Success), false);
            let session = self.sessions.get_mut(&id);
            let entry = session.and_then(|session| session.received.get_mut(&packet)?.unfinished_mut());
            if let Some(entry) = entry {
                entry.released = number.map(|number| (conn, number));
            }
            return;
        }
        let left_out = unfinished.is_some_and(|entry| entry.left_out);
        self.counters.dropped_left_out_messages_total += u64::from(left_out);
        session.received.remove(&packet);
        self.unreleased.take(1);
        self.remove_received(now, id, packet);
        self.owe_after(conn, id, Kind::Complete, Owed::Complete(packet, Code::Success));
    }

    /// One place of a ticket is safe.
    pub(super) fn settle_ticket(&mut self, now: BootNs, ticket: Ticket) {
        let Some((waiter, kept)) = self.tickets.settle(ticket) else { return };
        if !kept {
            self.note_lost_by_uplinks(&waiter);
        }
        match waiter {
            Waiter::Local => self.actions.push_back(Action::Safe { ticket }),
            Waiter::Line(conn, kind, number) => {
                if !kept {
                    self.amend(conn, kind, number, Code::QuotaExceeded);
                }
                self.allow(conn, kind, number);
            }
            Waiter::Received(id, packet) => {
                if !kept {
                    self.received_is_lost(id, packet, ticket);
                }
                self.received_is_safe(id, packet, ticket);
            }
            Waiter::Held(id, packet) => self.uplinks_have(now, id, packet, ticket),
        }
    }

    /// Nobody who wanted a message could keep it.
    fn note_unkept(&mut self, conn: ConnId, topic: Option<&str>) {
        self.counters.unkept_messages_total += 1;
        self.note(Event::MessageUnkept { topic: topic.map(Shown::new) }, self.who(conn));
    }

    /// Uplinks have dropped a message of a client that nobody else has.
    fn note_lost_by_uplinks(&mut self, waiter: &Waiter) {
        let conn = match waiter {
            Waiter::Local => return,
            Waiter::Line(conn, ..) => Some(*conn),
            Waiter::Received(id, _) | Waiter::Held(id, _) => {
                self.sessions.get(id).and_then(|session| session.conn)
            }
        };
        match conn {
            Some(conn) => self.note_unkept(conn, None),
            None => self.counters.unkept_messages_total += 1,
        }
    }

    /// An acknowledgement that waits says something else.
    fn amend(&mut self, conn: ConnId, kind: Kind, number: u64, code: Code) {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.line(kind).amend(number, code);
        }
    }

    fn received_is_safe(&mut self, id: SessionId, packet: u16, ticket: Ticket) {
        let entry = self.sessions.get_mut(&id).and_then(|session| session.received.get_mut(&packet));
        let Some(entry) = entry else { return };
        let unfinished = entry.unfinished_mut().filter(|unfinished| unfinished.pending == Some(ticket));
        let Some(unfinished) = unfinished else { return };
        unfinished.pending = None;
        let owed = unfinished.owed.take();
        entry.tidy();
        if let Some((conn, number)) = owed {
            self.allow(conn, Kind::Receive, number);
        }
    }

    /// Uplinks have dropped a message that nobody else wanted. A client of 5.0 is told so, which ends the exchange (4.3.3).
    fn received_is_lost(&mut self, id: SessionId, packet: u16, ticket: Ticket) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let entry = session.received.get(&packet).and_then(Received::unfinished);
        let entry = entry.filter(|entry| entry.pending == Some(ticket));
        let Some((conn, number)) = entry.and_then(|entry| entry.owed) else { return };
        if !self.conns.get(&conn).is_some_and(Conn::is_v5) {
            return;
        }
        session.received.remove(&packet);
        self.unreleased.take(1);
        self.amend(conn, Kind::Receive, number, Code::QuotaExceeded);
        self.allow(conn, Kind::Receive, number);
    }

    fn uplinks_have(&mut self, now: BootNs, id: SessionId, packet: u16, ticket: Ticket) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(entry) = session.received.get_mut(&packet) else { return };
        let unfinished = entry.unfinished_mut().filter(|unfinished| unfinished.held == Some(ticket));
        let Some(unfinished) = unfinished else { return };
        self.received_bytes -= unfinished.held_bytes();
        (unfinished.held, unfinished.message) = (None, None);
        let released = unfinished.released.take();
        entry.tidy();
        match released {
            None => self.lighten_received(now, id, packet),
            Some((conn, number)) => {
                session.received.remove(&packet);
                self.unreleased.take(1);
                self.remove_received(now, id, packet);
                self.allow_after((conn, Kind::Complete, number));
            }
        }
    }
}

//! Messages of clients, and what is owed for them.
//!
//! An acknowledgement waits for a ticket: every place that a message enters and where it is not safe at once holds one count of it.

use std::sync::Arc;

use super::conn::{Kind, Owed};
use super::route::Post;
use super::{Broker, Waiter};
use crate::broker::note::{Attempt, Event, Shown};
use crate::broker::packet::{Code, Said};
use crate::broker::session::Received;
use crate::broker::{Action, CloseReason, ConnId, SessionId, Ticket};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

/// Most QoS 2 messages of all clients together that they have not released: some hundred bytes each.
const RECEIVED_TOTAL_MAX: usize = 131_072;

impl Broker {
    /// PUBLISH.
    pub(super) fn published(
        &mut self,
        now: BootNs,
        conn: ConnId,
        id: SessionId,
        said: Said,
    ) -> Result<(), CloseReason> {
        self.counters.received_messages_total += 1;
        self.work.charge_bytes(said.message.body.len());
        if let Some(open) = self.conns.get_mut(&conn) {
            open.messages += 1;
        }
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
            let topic = Shown::new(said.message.topic.as_str());
            self.note(Event::RuleRefused { attempt: Attempt::Publish, topic }, self.who(conn));
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
        let routed = self.route(now, Post { ticket: Some(ticket), uplinks: Some(ticket), ..post }, || None);
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
        if self.received_total >= RECEIVED_TOTAL_MAX {
            return Err(CloseReason::Quota("QoS 2 messages without their release"));
        }
        let message = post.message.clone();
        let ticket = self.tickets.open(Waiter::Received(id, packet));
        // A durable publisher's fact holds the message until the uplinks have it; a volatile one is told when they do.
        let held = self.is_durable(id).then(|| self.tickets.open(Waiter::Held(id, packet)));
        let post = Post { ticket: Some(ticket), uplinks: held.or(Some(ticket)), ..post };
        let routed = self.route(now, post, || None);
        let held = held.filter(|held| routed.uplinks > 0 || self.tickets.close(*held).is_none());
        // That nobody wants it is said by PUBACK alone: PUBREC says that it is received, which is what mosquitto's clients are used to.
        let owed = Owed::Receive(packet, Code::Success);
        let owed = self.owe(conn, Kind::Receive, owed, false).map(|number| (conn, number));
        let message = message.filter(|_| held.is_some());
        self.write_received(now, id, packet, message.as_ref(), ticket);
        if let Some(session) = self.sessions.get_mut(&id) {
            let entry = Received { pending: Some(ticket), owed, held, message, released: None };
            session.received.insert(packet, entry);
            self.received_total += 1;
        }
        if let Some(held) = held {
            self.settle_ticket(now, held);
        }
        self.settle_ticket(now, ticket);
        Ok(())
    }

    /// A QoS 2 message that is known: PUBREC again, but not before it is true.
    fn receive_again(&mut self, conn: ConnId, id: SessionId, packet: u16) {
        self.counters.repeated_messages_total += 1;
        let owes =
            self.conns.get_mut(&conn).is_some_and(|open| open.line(Kind::Receive).owes_receive(packet));
        let pending = self.sessions.get(&id).and_then(|session| session.received.get(&packet)?.pending);
        if pending.is_some() && owes {
            return;
        }
        let owed = Owed::Receive(packet, Code::Success);
        let number = self.owe(conn, Kind::Receive, owed, pending.is_none());
        let entry = self.sessions.get_mut(&id).and_then(|session| session.received.get_mut(&packet));
        if let (Some(entry), Some(number)) = (entry, number) {
            entry.owed = Some((conn, number));
        }
    }

    /// PUBREL: the client will not send this message again.
    pub(super) fn release(&mut self, now: BootNs, conn: ConnId, id: SessionId, packet: u16) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(entry) = session.received.get_mut(&packet) else {
            // A client whose PUBCOMP was lost asks again (4.3.3): it is done.
            self.owe_after(conn, id, Kind::Complete, Owed::Complete(packet, Code::Success));
            return;
        };
        if entry.held.is_some() {
            if entry.released.is_some_and(|(before, _)| before == conn) {
                return;
            }
            let number = self.owe(conn, Kind::Complete, Owed::Complete(packet, Code::Success), false);
            let entry = self.sessions.get_mut(&id).and_then(|session| session.received.get_mut(&packet));
            if let Some(entry) = entry {
                entry.released = number.map(|number| (conn, number));
            }
            return;
        }
        session.received.remove(&packet);
        self.received_total -= 1;
        self.remove_received(now, id, packet);
        self.owe_after(conn, id, Kind::Complete, Owed::Complete(packet, Code::Success));
    }

    /// One place of a ticket is safe.
    pub(super) fn settle_ticket(&mut self, now: BootNs, ticket: Ticket) {
        match self.tickets.settle(ticket) {
            None => {}
            Some(Waiter::Local) => self.actions.push_back(Action::Safe { ticket }),
            Some(Waiter::Line(conn, kind, number)) => self.allow(conn, kind, number),
            Some(Waiter::Received(id, packet)) => self.received_is_safe(id, packet, ticket),
            Some(Waiter::Held(id, packet)) => self.uplinks_have(now, id, packet, ticket),
        }
    }

    fn received_is_safe(&mut self, id: SessionId, packet: u16, ticket: Ticket) {
        let entry = self.sessions.get_mut(&id).and_then(|session| session.received.get_mut(&packet));
        let Some(entry) = entry.filter(|entry| entry.pending == Some(ticket)) else { return };
        entry.pending = None;
        if let Some((conn, number)) = entry.owed.take() {
            self.allow(conn, Kind::Receive, number);
        }
    }

    fn uplinks_have(&mut self, now: BootNs, id: SessionId, packet: u16, ticket: Ticket) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(entry) = session.received.get_mut(&packet).filter(|entry| entry.held == Some(ticket)) else {
            return;
        };
        (entry.held, entry.message) = (None, None);
        match entry.released.take() {
            None => self.lighten_received(now, id, packet),
            Some((conn, number)) => {
                session.received.remove(&packet);
                self.received_total -= 1;
                self.remove_received(now, id, packet);
                self.allow_after((conn, Kind::Complete, number));
            }
        }
    }
}

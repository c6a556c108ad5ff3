//! The end of connections and sessions, and the wills that speak then.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use super::expiry::Alarm;
use super::route::Post;
use crate::broker::outbound::Desk;
use crate::broker::packet::{Message, Testament};
use crate::broker::session::{Owner, Session};
use crate::broker::{CloseReason, ConnId, SessionId};
use crate::tag::BootNs;

/// Session expiry that never comes (3.1.2.11.2).
const NEVER_S: u32 = u32::MAX;

impl Broker {
    /// DISCONNECT: the will is forgotten unless the client wants it (3.14.2.1), and the session may be given another expiry.
    pub(super) fn goodbye(
        &mut self,
        conn: ConnId,
        id: SessionId,
        with_will: bool,
        expiry_s: Option<u32>,
    ) -> CloseReason {
        if let (Some(session), Some(expiry_s)) = (self.sessions.get_mut(&id), expiry_s) {
            if session.is_fleeting() && expiry_s > 0 {
                return CloseReason::Protocol(
                    "a session expiry at DISCONNECT where there was none at CONNECT",
                );
            }
            session.expiry_s = expiry_s;
        }
        if let Some(open) = self.conns.get_mut(&conn).filter(|_| !with_will) {
            open.will = None;
        }
        CloseReason::Goodbye
    }

    /// A connection is gone: its will speaks now or later, its session ends now or later.
    pub(super) fn end(&mut self, now: BootNs, conn: ConnId) {
        let Some(open) = self.forget(conn) else { return };
        let Some(id) = open.session else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.conn = None;
        session.replays.clear();
        for entry in session.received.values_mut() {
            entry.owed = None;
        }
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        session.outbound.offline(&mut desk);
        let may = |will: &Testament| {
            open.grants.as_ref().is_none_or(|grants| grants.may_publish(&will.message.topic))
        };
        let will = open.will.filter(|will| may(will));
        if session.is_fleeting() {
            session.will = will.map(|will| (now, will));
            self.finish_session(now, id);
            return;
        }
        let expiry_s = session.expiry_s.min(self.settings.limits.session_expiry_max_s);
        if expiry_s != NEVER_S {
            let at = now.plus(Duration::from_secs(expiry_s.into()));
            session.ends_at = Some(at);
            self.alarms.insert((at, Alarm::End(id)));
        }
        let Some(will) = will else { return self.write_session(now, id) };
        if will.delay.is_zero() {
            self.write_session(now, id);
            self.speak(now, id, *will);
        } else {
            let at = now.plus(will.delay);
            session.will = Some((at, will));
            self.alarms.insert((at, Alarm::Will(id)));
            self.write_session(now, id);
        }
    }

    /// The time of a will has come.
    pub(super) fn will_is_due(&mut self, now: BootNs, id: SessionId) {
        let will = self.sessions.get_mut(&id).and_then(|session| session.will.take());
        if let Some((_, will)) = will {
            self.write_session(now, id);
            self.speak(now, id, *will);
        }
    }

    /// Publishes a will.
    fn speak(&mut self, now: BootNs, id: SessionId, will: Testament) {
        self.counters.wills_total += 1;
        // Its expiry counts from here (3.1.3.2.4).
        let message = Arc::new(Message { at: now, ..will.message });
        self.route(now, Post::of_client(message, id), || None);
    }

    /// A session ends, with everything that it holds. A will that was to come speaks now (3.1.3.2.2).
    pub(super) fn finish_session(&mut self, now: BootNs, id: SessionId) {
        let Some(mut session) = self.sessions.remove(&id) else { return };
        for subscription in session.filters.keys() {
            self.tree.remove(subscription, id);
        }
        self.clients.remove(&session.client);
        let ends = session.ends_at.map(|at| (at, Alarm::End(id)));
        let speaks = session.will.as_ref().map(|(at, _)| (*at, Alarm::Will(id)));
        for alarm in [ends, speaks].into_iter().flatten() {
            self.alarms.remove(&alarm);
        }
        self.received_total -= session.received.len();
        for entry in session.received.values() {
            self.received_bytes -= entry.message.as_ref().map_or(0, |message| message.cost());
            self.counters.dropped_left_out_messages_total += u64::from(entry.left_out);
        }
        self.erase(now, &session);
        self.pass_on(now, &mut session);
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        session.outbound.end(&mut desk);
        if let Some((_, will)) = session.will {
            self.speak(now, id, *will);
        }
    }

    /// Messages of shared subscriptions that the member did not get go to the others (4.8.2). What its own subscriptions want as well is
    /// its own; QoS 2 messages that were sent stay with whom they were sent to.
    fn pass_on(&mut self, now: BootNs, session: &mut Session) {
        let shared: Vec<_> = session.filters.keys().filter(|s| s.share.is_some()).cloned().collect();
        if session.owner == Owner::Bridge || shared.is_empty() {
            return;
        }
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        for mut delivery in session.outbound.take_rest(&mut desk) {
            let wants = |s: &&crate::broker::packet::Subscription| s.filter.matches(&delivery.message.topic);
            let own = session.filters.keys().filter(|s| s.share.is_none()).any(|s| wants(&s));
            let group = shared.iter().find(wants).and_then(|subscription| self.tree.group_of(subscription));
            let sessions = &self.sessions;
            let ready = |id| sessions.get(&id).is_some_and(|session| session.conn.is_some());
            let chosen = group.filter(|_| !own).and_then(|group| self.tree.pick(group, ready));
            let Some((other, options)) = chosen else {
                self.counters.dropped_session_messages_total += 1;
                continue;
            };
            delivery.qos = delivery.message.qos.min(options.qos);
            delivery.identifiers = options.identifier.into_iter().collect();
            self.counters.passed_on_messages_total += 1;
            self.deliver(now, other, delivery, None);
        }
    }
}

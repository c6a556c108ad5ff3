//! The end of connections and sessions, and the wills that speak then.

use std::sync::Arc;

use super::Broker;
use super::expiry::Alarm;
use super::route::Post;
use crate::broker::access::Identity;
use crate::broker::note::{Attempt, Event, Shown, Who};
use crate::broker::outbound::{Desk, DropReason};
use crate::broker::packet::{Message, Testament};
use crate::broker::session::{Owner, Session};
use crate::broker::{CloseReason, ConnId, SessionId};
use crate::tag::BootNs;

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
        session.since = self.ran.saturating_add(now.since(self.started));
        let will = open.will;
        if session.is_fleeting() {
            session.will = will.map(|will| (now, will));
            self.finish_session(now, id, DropReason::Ended);
            return;
        }
        let expiry_s = session.expiry_s;
        if let Some(expiry) = self.expiry(expiry_s) {
            self.set_end(now, id, now.plus(expiry));
        }
        match will {
            None => self.write_session(now, id),
            Some(will) if will.delay.is_zero() => {
                self.write_session(now, id);
                self.speak_for(now, id, *will);
            }
            Some(will) => {
                let at = now.plus(will.delay);
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.will = Some((at, will));
                }
                self.alarms.insert((at, Alarm::Will(id)));
                self.write_session(now, id);
            }
        }
        self.note_vacancy(id);
    }

    /// The time of a will has come.
    pub(super) fn will_is_due(&mut self, now: BootNs, id: SessionId) {
        let will = self.sessions.get_mut(&id).and_then(|session| session.will.take());
        if let Some((_, will)) = will {
            self.write_session(now, id);
            self.speak_for(now, id, *will);
            self.note_vacancy(id);
        }
    }

    /// Publishes the will of a session that is there.
    fn speak_for(&mut self, now: BootNs, id: SessionId, will: Testament) {
        let Some(session) = self.sessions.get(&id) else { return };
        let who = Identity { client: Arc::clone(&session.client), user: session.user.clone() };
        let certified = session.certified;
        self.speak(now, (id, who, certified), will);
    }

    /// Publishes a will, if whoever left it may still publish there.
    fn speak(
        &mut self,
        now: BootNs,
        (id, who, certified): (SessionId, Identity, Option<bool>),
        will: Testament,
    ) {
        if !self.may_speak(&who, certified, &will.message.topic) {
            self.counters.wills_refused_total += 1;
            let topic = Shown::new(will.message.topic.as_str());
            let who = Who::of_session(&who.client, who.user.as_ref());
            self.note(Event::RuleRefused { attempt: Attempt::Will, topic }, who);
            return;
        }
        self.counters.wills_total += 1;
        // Its expiry counts from here (3.1.3.2.4).
        let message = Arc::new(Message { at: now, ..will.message });
        self.route(now, Post::of_client(message, id), || None);
    }

    /// A session ends, with everything that it holds. A will that was to come speaks now (3.1.3.2.2).
    pub(super) fn finish_session(&mut self, now: BootNs, id: SessionId, why: DropReason) {
        self.clear_end(id);
        let Some(mut session) = self.sessions.remove(&id) else { return };
        self.vacant.remove(&(session.since, id));
        session.maker.as_ref().inspect(|maker| self.shares.take(maker));
        for subscription in session.filters.keys() {
            self.tree.remove(subscription, id);
        }
        self.clients.remove(&session.client);
        if let Some((at, _)) = &session.will {
            self.alarms.remove(&(*at, Alarm::Will(id)));
        }
        self.received_total -= session.received.len();
        for entry in session.received.values() {
            self.received_bytes -= entry.message.as_ref().map_or(0, |message| message.cost());
            self.counters.dropped_left_out_messages_total += u64::from(entry.left_out);
        }
        self.erase(now, &session);
        self.pass_on(now, &mut session, why);
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        session.outbound.end(&mut desk, why);
        if let Some((_, will)) = session.will {
            let who = Identity { client: session.client, user: session.user };
            self.speak(now, (id, who, session.certified), *will);
        }
    }

    /// Messages of shared subscriptions that the member did not get go to the others (4.8.2). What its own subscriptions want as well is
    /// its own; QoS 2 messages that were sent stay with whom they were sent to.
    fn pass_on(&mut self, now: BootNs, session: &mut Session, why: DropReason) {
        let shared: Vec<_> = session.filters.keys().filter(|s| s.share.is_some()).cloned().collect();
        if session.owner == Owner::Bridge || shared.is_empty() {
            return;
        }
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        for mut delivery in session.outbound.take_rest(&mut desk, why) {
            let wants = |s: &&crate::broker::packet::Subscription| s.filter.matches(&delivery.message.topic);
            let own = session.filters.keys().filter(|s| s.share.is_none()).any(|s| wants(&s));
            let group = shared.iter().find(wants).and_then(|subscription| self.tree.group_of(subscription));
            let sessions = &self.sessions;
            let ready = |id| sessions.get(&id).is_some_and(|session| session.conn.is_some());
            let chosen = group.filter(|_| !own).and_then(|group| self.tree.pick(group, ready));
            let Some((other, options)) = chosen else {
                self.totals.drop(why, 1);
                continue;
            };
            delivery.qos = delivery.message.qos.min(options.qos);
            delivery.identifiers = options.identifier.into_iter().collect();
            self.counters.passed_on_messages_total += 1;
            self.deliver(now, other, delivery, None);
        }
    }
}

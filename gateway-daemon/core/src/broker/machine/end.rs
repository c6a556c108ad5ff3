//! The end of connections and sessions, and the wills that speak then.

use std::sync::Arc;

use super::Broker;
use super::expiry::Alarm;
use super::route::Post;
use super::work::{Ending, FILTER, ROW, SESSION};
use crate::broker::access::Identity;
use crate::broker::mutant::Mutant;
use crate::broker::note::{Attempt, Who};
use crate::broker::outbound::{Desk, DropReason};
use crate::broker::packet::{Delivery, Message, Testament};
use crate::broker::session::{Filters, Owner};
use crate::broker::tree::GroupId;
use crate::broker::{CloseReason, ConnId, SessionId};
use crate::tag::BootNs;

/// Subscriptions and messages of a session that has ended before the budget is asked again.
const ENDS_AT_ONCE: usize = 8;

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
        let kept = with_will || self.journal.faults().has(Mutant::WillAfterGoodbye);
        if let Some(open) = self.conns.get_mut(&conn).filter(|_| !kept) {
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
            if let Some(unfinished) = entry.unfinished_mut() {
                unfinished.owed = None;
            }
            entry.tidy();
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
            Some(will) if will.delay.is_zero() || self.journal.faults().has(Mutant::WillAtOnce) => {
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
            let refusal = self.refusal(Attempt::Will, &will.message.topic);
            self.note(refusal, Who::of_session(&who.client, who.user.as_ref()));
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
        self.lose_left_out_will(id);
        let Some(mut session) = self.sessions.remove(&id) else { return };
        let facts =
            if session.outbound.is_durable() { session.filters.len() + session.received.len() } else { 0 };
        self.work.charge(SESSION + facts * ROW);
        self.vacant.remove(&(session.since, id));
        session.maker.as_ref().inspect(|maker| self.shares.take(maker));
        if self.clients.get(&session.client) == Some(&id) {
            self.clients.remove(&session.client);
        }
        if let Some((at, _)) = &session.will {
            self.alarms.remove(&(*at, Alarm::Will(id)));
        }
        self.unreleased.take(session.received.len());
        for entry in session.received.values() {
            self.received_bytes -= entry.held_bytes();
            let left_out = entry.unfinished().is_some_and(|entry| entry.left_out);
            self.counters.dropped_left_out_messages_total += u64::from(left_out);
        }
        self.erase(now, &session);
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        let shared = session.owner == Owner::Client && session.filters.has_shared();
        let rest = if shared { session.outbound.take_rest(&mut desk, why) } else { Vec::new() };
        self.work.charge(rest.len());
        let durable = session.outbound.is_durable();
        session.outbound.end(&mut desk, why);
        let groups = if rest.is_empty() { Vec::new() } else { self.groups_of(&session.filters) };
        let mut ending = Ending { id, filters: session.filters, rest: rest.into(), groups, why };
        if durable {
            self.pass_on_at_once(now, &mut ending);
        }
        self.work.dying += ending.filters.len();
        self.work.ending.push_back(ending);
        if let Some((_, will)) = session.will {
            let who = Identity { client: session.client, user: session.user };
            self.speak(now, (id, who, session.certified), *will);
        }
    }

    /// Goes on with the oldest session that has ended: first its messages go to others, then its subscriptions out of the tree. `false` if there is none.
    pub(super) fn end_some(&mut self, now: BootNs) -> bool {
        let Some(mut ending) = self.work.ending.pop_front() else { return false };
        for _ in 0..ENDS_AT_ONCE {
            if let Some(delivery) = ending.rest.pop_front() {
                self.pass_on(now, &ending, delivery);
                if self.work.is_spent() {
                    break;
                }
                continue;
            }
            let Some(subscription) = ending.filters.pop() else {
                self.work.dying -= ending.filters.len();
                return true;
            };
            self.work.dying -= 1;
            let (_, looked) = self.tree.remove(&subscription, ending.id);
            self.work.charge(FILTER + looked);
        }
        self.work.ending.push_front(ending);
        true
    }

    /// The groups of shared subscriptions among these, in order.
    fn groups_of(&mut self, filters: &Filters) -> Vec<GroupId> {
        let shared = filters.iter().filter(|subscription| subscription.share.is_some());
        let mut groups: Vec<GroupId> = shared.filter_map(|shared| self.tree.group_of(&shared)).collect();
        groups.sort_unstable();
        self.work.charge(filters.len() + groups.len() * FILTER);
        groups
    }

    /// Rows of a durable session must go with the turn that gives them to another one: as many as another budget is enough for. The others go like those
    /// that are on disk only.
    fn pass_on_at_once(&mut self, now: BootNs, ending: &mut Ending) {
        let until = self.work.another();
        while !self.work.is_past(until)
            && let Some(delivery) = ending.rest.pop_front()
        {
            self.pass_on(now, ending, delivery);
        }
        self.totals.drop(ending.why, ending.rest.len() as u64);
        ending.rest.clear();
    }

    /// A message of shared subscriptions that the member did not get goes to another (4.8.2). What its own subscriptions want as well is
    /// its own; QoS 2 messages that were sent stay with whom they were sent to.
    fn pass_on(&mut self, now: BootNs, from: &Ending, mut delivery: Delivery) {
        let topic = delivery.message.topic.clone();
        let mut found = std::mem::take(&mut self.found);
        self.tree.matching(&topic, &mut found);
        self.work.charge(found.steps + found.own.len() + found.groups.len());
        let own = found.own.iter().any(|(id, _)| *id == from.id);
        let left = |group: &GroupId| from.groups.binary_search(group).is_ok();
        let group = found.groups.iter().copied().find(left).filter(|_| !own);
        found.clear();
        self.found = found;
        let Some((other, options)) = group.and_then(|group| self.pick(group, &topic)) else {
            self.totals.drop(from.why, 1);
            return;
        };
        delivery.qos = delivery.message.qos.min(options.qos);
        delivery.identifiers = options.identifier.into_iter().collect();
        self.counters.passed_on_messages_total += 1;
        self.deliver(now, other, delivery, None);
    }
}

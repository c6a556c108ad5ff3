//! What must survive: the broker's side of the journal.
//!
//! Nothing here decides what a client is told; it writes what changed and lets go what waited for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Broker;
use super::conn::Why;
use super::expiry::Alarm;
use super::work::GIVE;
use crate::broker::change::Answer;
use crate::broker::facts::{self, Ended, SessionFact, Value};
use crate::broker::journal::Due;
use crate::broker::outbound::{Desk, DropReason, Limit, Outbound, Past};
use crate::broker::packet::{Message, Options, Subscription};
use crate::broker::retained::Recovered;
use crate::broker::session::Session;
use crate::broker::settings::RECEIVED_BYTES_MAX;
use crate::broker::shares::Maker;
use crate::broker::topic::TopicName;
use crate::broker::tree::{Bounds, Entered};
use crate::broker::{Action, CloseReason, ConnId, FactKey, FactKind, Found, SessionId, Ticket};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

impl Broker {
    /// Whether what a session holds survives.
    pub(super) fn is_durable(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.outbound.is_durable())
    }

    /// An empty queue for a client.
    pub(super) fn new_outbound(&mut self, now: BootNs, client: &str, durable: bool) -> Outbound {
        if !durable {
            return Outbound::volatile(self.volatile_limit());
        }
        let limit = self.durable_limit();
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        Outbound::durable(&mut desk, &facts::queue_name(client), limit, &Past::default())
    }

    fn volatile_limit(&self) -> Limit {
        let limits = &self.settings.limits;
        Limit {
            rows_max: limits.queued_max as u64,
            bytes_max: limits.queued_bytes_max as u64,
            when_full: limits.when_full,
        }
    }

    fn durable_limit(&self) -> Limit {
        let limits = &self.settings.limits;
        Limit {
            rows_max: limits.stored_rows_max,
            bytes_max: limits.stored_bytes_max,
            when_full: limits.when_full,
        }
    }

    pub(super) fn write_session(&mut self, now: BootNs, id: SessionId) {
        self.put_session_fact(now, id, Due::Soon);
    }

    /// The client of a session is here. What waits of QoS 2 waits for the disk to know it.
    pub(super) fn write_attached(&mut self, now: BootNs, id: SessionId) {
        let waits = self.sessions.get(&id).is_some_and(|session| session.outbound.held().rows > 0);
        self.put_session_fact(now, id, if waits { Due::Now } else { Due::Soon });
    }

    fn put_session_fact(&mut self, now: BootNs, id: SessionId, due: Due) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.outbound.is_durable()) else {
            return;
        };
        let conn = session.conn.and_then(|conn| self.conns.get(&conn));
        let will = conn.and_then(|open| open.will.as_deref());
        let will = will.or(session.will.as_ref().map(|(_, will)| &**will)).cloned();
        let fact = SessionFact {
            version: session.version,
            expiry_s: session.expiry_s,
            user: session.user.clone(),
            sent: session.outbound.sent(),
            ended: conn.is_none().then_some(Ended::At(session.since)),
            will,
            will_left_out: false,
        };
        let value = facts::session(&fact, self.run.boot);
        self.journal.put(now, facts::session_key(&session.client), value, None, due);
    }

    pub(super) fn write_subscription(
        &mut self,
        now: BootNs,
        id: SessionId,
        subscription: &Subscription,
        options: Options,
    ) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.outbound.is_durable()) else {
            return;
        };
        let key = facts::subscription_key(&session.client, &subscription.text());
        self.journal.put(now, key, facts::subscription(options), None, Due::Now);
    }

    pub(super) fn remove_subscription(&mut self, now: BootNs, id: SessionId, subscription: &Subscription) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.outbound.is_durable()) else {
            return;
        };
        let key = facts::subscription_key(&session.client, &subscription.text());
        self.journal.remove(now, key, None, Due::Now);
    }

    /// A QoS 2 message is received; with the message if uplinks do not have it yet.
    pub(super) fn write_received(
        &mut self,
        now: BootNs,
        id: SessionId,
        packet: u16,
        held: Option<&Arc<Message>>,
        ticket: Ticket,
    ) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.outbound.is_durable()) else {
            return;
        };
        let key = facts::received_key(&session.client, packet);
        self.tickets.owe(ticket, 1);
        self.journal.put(now, key, facts::received(held), Some(ticket), Due::Now);
    }

    /// A message of an earlier run has a time of this boot now. Nothing that comes to disk after it may come without it: it is not lazy.
    pub(super) fn write_arrival(&mut self, now: BootNs, id: SessionId, packet: u16, held: &Arc<Message>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let key = facts::received_key(&session.client, packet);
        self.journal.put(now, key, facts::received(Some(held)), None, Due::Soon);
    }

    /// The uplinks have a received message: the identifier alone is enough.
    pub(super) fn lighten_received(&mut self, now: BootNs, id: SessionId, packet: u16) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.outbound.is_durable()) else {
            return;
        };
        let key = facts::received_key(&session.client, packet);
        self.journal.put(now, key, facts::received(None), None, Due::Lazy);
    }

    pub(super) fn remove_received(&mut self, now: BootNs, id: SessionId, packet: u16) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.outbound.is_durable()) else {
            return;
        };
        let key = facts::received_key(&session.client, packet);
        self.journal.remove(now, key, None, Due::Now);
    }

    /// A retained message takes the place of the one before.
    pub(super) fn write_retained(&mut self, now: BootNs, message: Arc<Message>, ticket: Option<Ticket>) {
        if !self.store {
            return;
        }
        let key = facts::retained_key(message.topic.shared());
        let (ticket, due) = self.urgency(message.qos, ticket);
        self.journal.put(now, key, Value::Retained(message), ticket, due);
    }

    pub(super) fn remove_retained(&mut self, now: BootNs, topic: &TopicName, ticket: Option<Ticket>) {
        if !self.store {
            return;
        }
        let (ticket, due) = self.urgency(Qos::AtLeastOnce, ticket);
        self.journal.remove(now, facts::retained_key(topic.shared()), ticket, due);
    }

    fn urgency(&mut self, qos: Qos, ticket: Option<Ticket>) -> (Option<Ticket>, Due) {
        match ticket.filter(|_| qos > Qos::AtMostOnce) {
            None => (None, Due::Lazy),
            Some(ticket) => {
                self.tickets.owe(ticket, 1);
                (Some(ticket), Due::Now)
            }
        }
    }

    /// What is known of a session goes; its queue goes by [`Outbound::end`].
    pub(super) fn erase(&mut self, now: BootNs, session: &Session) {
        if !session.outbound.is_durable() {
            return;
        }
        let client = &session.client;
        let subscriptions =
            session.filters.iter().map(|subscription| facts::subscription_key(client, &subscription.text()));
        let received = session.received.keys().map(|packet| facts::received_key(client, *packet));
        let all = subscriptions.chain(received).chain([facts::session_key(client)]);
        for fact in all {
            self.journal.remove(now, fact, None, Due::Soon);
        }
    }

    /// Publishers wait when the disk is too slow for them.
    pub(super) fn hold_if_full(&mut self, conn: ConnId) {
        if self.is_full() {
            self.hold(conn, Why::Disk);
            if self.stopped.last() != Some(&conn) {
                self.stopped.push(conn);
            }
        }
    }

    /// Whether more has to become safe before publishers may go on: on disk, or with the uplinks.
    fn is_full(&self) -> bool {
        self.journal.is_full() || self.received_bytes >= RECEIVED_BYTES_MAX
    }

    /// Asks for rows of a session that could be sent.
    pub(super) fn want_read(&mut self, now: BootNs, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let open = session.conn.and_then(|conn| self.conns.get_mut(&conn));
        let outbox_bytes_max = self.settings.limits.outbox_bytes_max;
        let room = open.is_some_and(|open| open.may_get(outbox_bytes_max, &self.unwritten));
        let may_send = room && session.outbound.in_flight() < session.window;
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        if let Some(read) = session.outbound.wants_read(&mut desk, may_send, self.last_read + 1) {
            self.last_read += 1;
            self.reads.insert(read.number, id);
            self.actions.push_back(Action::Read(read));
        }
    }

    pub(super) fn answered(&mut self, now: BootNs, answer: Answer) {
        match answer {
            Answer::Rows { number, rows, more } => {
                let Some(id) = self.reads.remove(&number) else { return };
                let Some(session) = self.sessions.get_mut(&id) else { return };
                let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
                session.outbound.rows(&mut desk, number, &rows, more);
                self.pump(now, id);
            }
            Answer::Unread { number, fault: _ } => {
                self.counters.failed_reads_total += 1;
                let Some(id) = self.reads.remove(&number) else { return };
                let Some(session) = self.sessions.get_mut(&id) else { return };
                session.outbound.unread(now, number);
                if let Some(at) = session.outbound.read_timeout() {
                    self.alarms.insert((at, Alarm::Read(id)));
                }
            }
            Answer::Done { .. } | Answer::Failed { .. } => {
                self.counters.turns_total += u64::from(matches!(answer, Answer::Done { .. }));
                self.counters.failed_turns_total += u64::from(matches!(answer, Answer::Failed { .. }));
                self.journal.answer(now, &answer);
            }
            Answer::Reset { found } => {
                self.counters.resets_total += 1;
                self.journal.replaced();
                if self.blind {
                    self.recover(now, found);
                    self.enqueue_unsent(now);
                } else {
                    self.put_everything(now, &found);
                }
            }
        }
        self.let_go(now);
    }

    /// Whoever waited for what is durable now goes on.
    pub(super) fn let_go(&mut self, now: BootNs) {
        while !self.work.is_spent()
            && let Some(ticket) = self.journal.next_safe()
        {
            self.work.charge(GIVE);
            self.settle_ticket(now, ticket);
        }
        while !self.work.is_spent()
            && let Some(progress) = self.journal.next_progress()
        {
            self.work.charge(GIVE);
            let client = progress.queue.strip_prefix(crate::broker::change::QUEUE_PREFIX);
            let Some(id) = client.and_then(|client| self.clients.get(client)).copied() else { continue };
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
            session.outbound.progress(&desk, progress.until);
            self.pump(now, id);
        }
        while !self.work.is_spent()
            && let Some((_, (conn, kind, number))) =
                self.after.pop_front_if(|(position, _)| self.journal.is_durable(*position))
        {
            self.work.charge(GIVE);
            self.allow(conn, kind, number);
        }
        if !self.stopped.is_empty() && !self.is_full() {
            for conn in std::mem::take(&mut self.stopped) {
                self.unhold(conn, Why::Disk);
            }
        }
    }

    /// Whether an acknowledgement that waited for the disk can go.
    pub(super) fn owes_now(&self) -> bool {
        self.after.front().is_some_and(|(position, _)| self.journal.is_durable(*position))
    }

    pub(super) fn journal_timeout(&self) -> Option<BootNs> {
        self.journal.poll_timeout(self.now)
    }

    /// The database was replaced: what is known goes into it again, and whatever else salvage brought back goes: an identifier that its client has long
    /// released would swallow its next message. A QoS 2 message that did not fit into memory is nowhere else, and stays.
    fn put_everything(&mut self, now: BootNs, found: &Found) {
        if found.left_out.retained.count > 0 {
            self.retained.leave_out();
        }
        let stays = self.keep_left_out(found);
        for (fact, _) in found.facts.iter().filter(|(fact, _)| !stays.contains(fact)) {
            self.journal.remove(now, fact.clone(), None, Due::Soon);
        }
        for (queue, _) in &found.queues {
            let client = queue.strip_prefix(crate::broker::change::QUEUE_PREFIX).unwrap_or_default();
            if !self.clients.get(client).is_some_and(|id| self.is_durable(*id)) {
                self.journal.drop_queue(queue);
            }
        }
        let ids: Vec<SessionId> = self.sessions.keys().copied().filter(|id| self.is_durable(*id)).collect();
        for id in ids {
            self.put_session(now, id, found);
        }
        for message in self.retained.stored() {
            let key = facts::retained_key(message.topic.shared());
            self.journal.put(now, key, Value::Retained(Arc::clone(message)), None, Due::Soon);
        }
    }

    /// The facts that hold QoS 2 messages without room in memory, as far as salvage brought them back. The messages of the others are lost, and their
    /// identifiers stay.
    fn keep_left_out(&mut self, found: &Found) -> BTreeSet<FactKey> {
        let holds = |(fact, value): &&(FactKey, Arc<[u8]>)| {
            fact.kind == FactKind::Received && facts::holds_message(value)
        };
        let found: BTreeSet<&FactKey> = found.facts.iter().filter(holds).map(|(fact, _)| fact).collect();
        let mut stays = BTreeSet::new();
        for session in self.sessions.values_mut() {
            for (packet, entry) in &mut session.received {
                let Some(unfinished) = entry.unfinished_mut().filter(|unfinished| unfinished.left_out) else {
                    continue;
                };
                let key = facts::received_key(&session.client, *packet);
                if found.contains(&key) {
                    stays.insert(key);
                    continue;
                }
                self.counters.dropped_left_out_messages_total += 1;
                unfinished.left_out = false;
                entry.tidy();
            }
        }
        stays
    }

    fn put_session(&mut self, now: BootNs, id: SessionId, found: &Found) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let name = facts::queue_name(&session.client);
        let stored = found.queues.iter().find(|(queue, _)| *queue == name).map(|(_, stored)| *stored);
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        session.outbound.reset(&mut desk, &stored.unwrap_or_default());
        // What was left out and is in this database stays as it is there.
        let known = session.received.iter().filter(|(_, entry)| !entry.is_left_out());
        for (packet, entry) in known {
            let key = facts::received_key(&session.client, *packet);
            let message = entry.unfinished().and_then(|entry| entry.message.as_ref());
            self.journal.put(now, key, facts::received(message), None, Due::Now);
        }
        let filters: Vec<_> = session.filters.iter().collect();
        for subscription in filters {
            if let Some(options) = self.tree.options(&subscription, id) {
                self.write_subscription(now, id, &subscription, options);
            }
        }
        self.lose_left_out_will(id);
        self.write_session(now, id);
        self.pump(now, id);
    }

    /// Makes what the store held.
    pub(super) fn recover(&mut self, now: BootNs, found: Found) {
        self.blind = found.blind;
        let arrivals = facts::arrivals(&found, self.run.boot);
        let recovered = facts::recover(found, self.run.boot);
        self.counters.damaged_facts_total += recovered.damaged;
        self.counters.dropped_topic_messages_total += recovered.forbidden;
        self.counters.left_out_facts_total += recovered.left_out.count();
        if recovered.left_out.retained.count > 0 {
            self.retained.leave_out();
        }
        self.recover_clock(recovered.ran);
        for fact in recovered.stray_facts {
            self.journal.remove(now, fact, None, Due::Soon);
        }
        for queue in &recovered.stray_queues {
            self.journal.drop_queue(queue);
        }
        for (client, session) in recovered.sessions {
            self.recover_session(now, &client, session, &arrivals);
        }
        self.order_unsent();
        for message in recovered.retained {
            // Outdated: published before the store could be read.
            let left_out = self.retained.recover(Arc::new(message)) == Recovered::LeftOut;
            self.counters.left_out_facts_total += u64::from(left_out);
        }
    }

    fn recover_session(
        &mut self,
        now: BootNs,
        client: &Arc<str>,
        past: facts::RecoveredSession,
        arrivals: &facts::Arrivals,
    ) {
        let facts::RecoveredSession { fact, subscriptions, received, released, stored } = past;
        // A client that came while nothing could be read comes again, to what is stored for it.
        if let Some(young) = self.clients.get(client).copied() {
            if let Some(conn) = self.sessions.get(&young).and_then(|session| session.conn) {
                self.close(now, conn, CloseReason::TakenOver);
            }
            self.finish_session(now, young, DropReason::Ended);
        }
        let limit = self.durable_limit();
        let sent = fact.ended.map(|_| fact.sent);
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        let past = Past { stored, released, sent };
        let outbound = Outbound::durable(&mut desk, &facts::queue_name(client), limit, &past);
        let mut session = Session::of_client(Arc::clone(client), outbound);
        session.user = fact.user;
        session.maker = Some(Maker { user: session.user.clone(), address: None });
        session.maker.as_ref().inspect(|maker| self.shares.add(maker));
        session.version = fact.version;
        session.expiry_s = fact.expiry_s;
        session.will_left_out = fact.will_left_out;
        let id = self.add_session(session);
        self.clients.insert(Arc::clone(client), id);
        for (text, options) in subscriptions {
            let Ok(subscription) = Subscription::parse(&text) else {
                self.counters.damaged_facts_total += 1;
                continue;
            };
            let bounds = Bounds::of(&self.settings.limits);
            if let Entered::Refused(_) = self.tree.insert(&subscription, id, options, bounds) {
                // A restart is bound like a SUBSCRIBE.
                self.counters.subscriptions_refused_total += 1;
                self.remove_subscription(now, id, &subscription);
                continue;
            }
            if let Some(session) = self.sessions.get_mut(&id) {
                session.filters.insert(&subscription);
            }
        }
        for (packet, past) in received {
            let at = arrivals.of(client, packet);
            self.recover_received(now, id, packet, past, at);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(will) = fact.will {
            let at = now.plus(will.delay);
            session.will = Some((at, Box::new(will)));
            self.alarms.insert((at, Alarm::Will(id)));
        }
        // Writes the session, with its will.
        self.recover_end(now, id, fact.ended);
        self.note_vacancy(id);
    }

    /// When a session of an earlier run ends. Without a word of running time its time begins here, and that is written: it was connected when the run ended, or
    /// an earlier version wrote it. Not where the fact holds a will that did not fit: then each run begins it anew.
    fn recover_end(&mut self, now: BootNs, id: SessionId, ended: Option<Ended>) {
        let running = self.running(now);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.since = match ended {
            Some(Ended::At(since)) => since,
            Some(Ended::Earlier) | None => running,
        };
        let (waited, expiry_s) = (running.saturating_sub(session.since), session.expiry_s);
        let writes = !matches!(ended, Some(Ended::At(_))) && !session.will_left_out;
        let Some(expiry) = self.expiry(expiry_s) else { return };
        self.set_end(now, id, now.plus(expiry.saturating_sub(waited)));
        if writes {
            self.write_session(now, id);
        }
    }

    /// The fact of a session is written anew: a will in it that did not fit into memory is lost.
    pub(super) fn lose_left_out_will(&mut self, id: SessionId) {
        let session = self.sessions.get_mut(&id);
        let lost = session.is_some_and(|session| std::mem::take(&mut session.will_left_out));
        self.counters.dropped_left_out_messages_total += u64::from(lost);
    }
}

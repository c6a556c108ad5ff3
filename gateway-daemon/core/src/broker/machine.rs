//! The broker itself: connections, sessions, routing.

mod route;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mqtt_protocol_core::mqtt::result_code::ConnectReturnCode;

use super::access::Access;
use super::front_old::{Front, Hello, Packet, Reply, Said};
use super::retained::Retained;
use super::session::{Owner, Session};
use super::settings::Settings;
use super::topic::{TopicError, TopicFilter, TopicName};
use super::tree::Tree;
use super::{
    Action, Answer, BrokerError, CloseReason, ConnId, Counters, Fate, Found, Limits, Local, Origin,
    SessionId, Ticket,
};
use crate::tag::{BootNs, RunId};
use crate::uplink::row::Qos;

struct Conn {
    front: Front,
    /// `None` before CONNECT.
    session: Option<SessionId>,
    will: Option<Said>,
    /// Longest silence allowed; zero is for ever.
    silence_max: Duration,
    deadline: BootNs,
    /// Its entry in [`Broker::alarms`], at or before the deadline.
    alarm: Option<BootNs>,
    /// Bytes handed out and not yet written.
    unsent: usize,
}

/// A sans-IO broker. After every input, take its actions by [`Broker::poll_action`] until there are none, and call
/// [`Broker::timeout`] when [`Broker::poll_timeout`] says.
pub struct Broker {
    settings: Settings,
    limits: Limits,
    conns: BTreeMap<ConnId, Conn>,
    sessions: BTreeMap<SessionId, Session>,
    clients: BTreeMap<Arc<str>, SessionId>,
    last_session: u32,
    tree: Tree<SessionId>,
    retained: Retained,
    /// Sum of what sessions hold.
    held_bytes: usize,
    /// When connections may be due; a connection's own deadline may be later, then it is put in again.
    alarms: BTreeSet<(BootNs, ConnId)>,
    /// Connections found faulty while something else was going on.
    doomed: VecDeque<(ConnId, CloseReason)>,
    actions: VecDeque<Action>,
    counters: Counters,
}

impl Broker {
    /// A broker over a store, with what the store held: sessions, their queues, retained messages.
    #[must_use]
    pub fn new(now: BootNs, settings: Settings, run: RunId, found: Found) -> Self {
        let _ = (now, run, found);
        Self { settings: settings.clone(), ..Self::in_memory(settings.limits) }
    }

    /// A broker without a store: no [`Action::Turn`] is ever asked, and whoever acknowledges a message has it in memory. For tests and the
    /// pretend cloud of the demo. Everybody may do everything.
    #[must_use]
    pub fn in_memory(limits: Limits) -> Self {
        Self {
            settings: Settings { limits, ..Settings::default() },
            limits,
            conns: BTreeMap::new(),
            sessions: BTreeMap::new(),
            clients: BTreeMap::new(),
            last_session: 0,
            tree: Tree::default(),
            retained: Retained::new(limits.retained_max, limits.retained_bytes_max),
            held_bytes: 0,
            alarms: BTreeSet::new(),
            doomed: VecDeque::new(),
            actions: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Opens a session whose subscriber is a durable queue outside: whatever matches `filters` leaves as
    /// [`Action::Enqueue`], with at most the QoS of the filter. Retained messages that are older than the bridge do not
    /// enter it: they were delivered to its queue when they were published.
    ///
    /// # Errors
    /// There is no room for another session or for its subscriptions.
    pub fn open_bridge(
        &mut self,
        filters: impl IntoIterator<Item = (TopicFilter, Qos)>,
    ) -> Result<SessionId, BrokerError> {
        let filters: BTreeMap<TopicFilter, Qos> = filters.into_iter().collect();
        if self.sessions.len() >= self.limits.sessions_max {
            return Err(BrokerError::Sessions(self.limits.sessions_max));
        }
        if self.tree.len().saturating_add(filters.len()) > self.limits.subscriptions_max {
            return Err(BrokerError::Subscriptions(self.limits.subscriptions_max));
        }
        let id = self.add_session(Session::new(Owner::Bridge, false, None));
        for (filter, qos) in &filters {
            self.tree.insert(filter, id, *qos);
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.filters = filters;
        }
        Ok(id)
    }

    /// Ends a bridge session; what it enqueued stays where it is.
    pub fn close_bridge(&mut self, id: SessionId) {
        if matches!(self.sessions.get(&id), Some(session) if matches!(session.owner, Owner::Bridge)) {
            self.remove_session(id);
        }
    }

    /// Publishes a message of this process. Bridges get the draft as it is, bodies shared and never copied. `ready` is asked at most
    /// once, and only when a client or the retained messages want a [`Record`](crate::uplink::row::Body::Record): it gives the bytes for the wire.
    ///
    /// # Errors
    /// The topic cannot be published to; nothing was delivered.
    pub fn publish(
        &mut self,
        now: BootNs,
        local: &Local<'_>,
        ready: impl FnOnce() -> Option<Arc<[u8]>>,
    ) -> Result<Option<Ticket>, TopicError> {
        let topic = TopicName::new(Arc::clone(&local.draft.topic))?;
        self.counters.local_messages_total += 1;
        self.route(&topic, local.draft, local.qos, ready);
        self.settle(now);
        Ok(None)
    }

    /// A password was compared with its hash, as [`Action::Verify`] asked.
    pub fn handle_verified(&mut self, now: BootNs, conn: ConnId, ok: bool) {
        let _ = (conn, ok);
        self.settle(now);
    }

    /// The store answers a turn or a read, or says that it was replaced.
    pub fn handle_answer(&mut self, now: BootNs, answer: Answer) {
        let _ = answer;
        self.settle(now);
    }

    /// What became of a message of [`Action::Enqueue`] with a ticket. Said once for each such action, perhaps before it returns.
    pub fn handle_receipt(&mut self, now: BootNs, ticket: Ticket, fate: Fate) {
        let _ = (ticket, fate);
        self.settle(now);
    }

    /// Other users and rules hold from here on; whoever is connected and is nobody any more is turned away.
    pub fn replace_access(&mut self, now: BootNs, access: Access) {
        self.settings.access = access;
        self.settle(now);
    }

    /// Says goodbye to everybody and makes everything durable that is not: go on acting and answering until [`Broker::is_flushed`].
    pub fn stop(&mut self, now: BootNs) {
        self.settle(now);
    }

    /// Whether nothing is left to be made durable.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.actions.is_empty()
    }

    /// A client has opened connection `conn`, a number never used before.
    pub fn handle_open(&mut self, now: BootNs, conn: ConnId, origin: Origin) {
        let _ = origin;
        if self.conns.len() >= self.limits.connections_max {
            self.counters.connections_refused_total += 1;
            self.actions.push_back(Action::Close { conn, reason: CloseReason::Full });
            return;
        }
        self.counters.connections_total += 1;
        let deadline = now.plus(self.limits.handshake_max);
        let front = Front::new(self.limits.packet_bytes_max);
        self.alarms.insert((deadline, conn));
        let silence_max = Duration::ZERO;
        let alarm = Some(deadline);
        self.conns
            .insert(conn, Conn { front, session: None, will: None, silence_max, deadline, alarm, unsent: 0 });
    }

    /// A client has sent bytes, cut anywhere. Bytes of a connection that was closed are ignored.
    pub fn handle_bytes(&mut self, now: BootNs, conn: ConnId, bytes: &[u8]) {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.front.push(bytes);
        }
        while let Some(open) = self.conns.get_mut(&conn) {
            let mut answers = Vec::new();
            let packet = open.front.next(&mut answers);
            if packet.is_ok() && open.session.is_some() && !open.silence_max.is_zero() {
                open.deadline = now.plus(open.silence_max);
            }
            self.send(conn, answers);
            let outcome = match packet {
                Ok(Some(packet)) => self.handle_packet(now, conn, packet),
                Ok(None) => break,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = outcome {
                self.doomed.push_back((conn, reason));
            }
            self.settle(now);
        }
    }

    /// `bytes` of what [`Action::Send`] gave for a connection have been written: there is room for more.
    pub fn handle_sent(&mut self, now: BootNs, conn: ConnId, bytes: usize) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.unsent = open.unsent.saturating_sub(bytes);
        if let Some(session) = open.session {
            self.pump(session);
        }
        self.settle(now);
    }

    /// A client's connection is gone without a word.
    pub fn handle_closed(&mut self, now: BootNs, conn: ConnId) {
        self.drop_conn(now, conn, true);
        self.settle(now);
    }

    /// When [`Broker::timeout`] wants to be called next; early is harmless.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNs> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Closes connections that were silent for too long.
    pub fn timeout(&mut self, now: BootNs) {
        while let Some(&(at, conn)) = self.alarms.first() {
            if at > now {
                break;
            }
            self.alarms.pop_first();
            let Some(open) = self.conns.get_mut(&conn) else { continue };
            open.alarm = None;
            if open.deadline > now {
                open.alarm = Some(open.deadline);
                self.alarms.insert((open.deadline, conn));
            } else if open.session.is_none() {
                self.doomed.push_back((conn, CloseReason::Handshake));
            } else {
                self.doomed.push_back((conn, CloseReason::KeepAlive));
            }
        }
        self.settle(now);
    }

    /// What to do next, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How much there is of everything.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.conns.len(),
            sessions: self.sessions.len(),
            subscriptions: self.tree.len(),
            retained_messages: self.retained.len(),
            held_bytes: self.held_bytes,
        }
    }

    fn handle_packet(&mut self, now: BootNs, conn: ConnId, packet: Packet) -> Result<(), CloseReason> {
        if let Packet::Connect(hello) = packet {
            return self.connect(now, conn, *hello);
        }
        let not_connected = CloseReason::Protocol("a packet before CONNECT was accepted");
        let id = self.conns.get(&conn).and_then(|open| open.session).ok_or(not_connected)?;
        match packet {
            Packet::Connect(_) => {}
            Packet::Publish(said) => self.published(now, conn, id, said)?,
            Packet::Acknowledged(packet) => self.finished(id, packet, Qos::AtLeastOnce),
            Packet::Completed(packet) => self.finished(id, packet, Qos::ExactlyOnce),
            Packet::Received(packet) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    self.held_bytes -= session.confirm(packet);
                }
                self.reply(conn, Reply::Release(packet));
            }
            Packet::Release(packet) => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.received.remove(&packet);
                }
                self.reply(conn, Reply::Complete(packet));
            }
            Packet::Subscribe { id: packet, filters } => self.subscribe(conn, id, packet, filters)?,
            Packet::Unsubscribe { id: packet, filters } => {
                for filter in filters {
                    self.unsubscribe(id, &TopicFilter::new(filter).map_err(CloseReason::Topic)?);
                }
                self.reply(conn, Reply::Unsubscribed(packet));
            }
            Packet::Ping => self.reply(conn, Reply::Pong),
            Packet::Disconnect => {
                if let Some(open) = self.conns.get_mut(&conn) {
                    open.will = None;
                }
                return Err(CloseReason::Goodbye);
            }
        }
        Ok(())
    }

    /// CONNECT ("MQTT Version 3.1.1", 3.1.4): take-over, session present, and what the session is still owed.
    fn connect(&mut self, now: BootNs, conn: ConnId, hello: Hello) -> Result<(), CloseReason> {
        if self.conns.get(&conn).is_none_or(|open| open.session.is_some()) {
            return Err(CloseReason::Protocol("a second CONNECT"));
        }
        if hello.client.is_empty() && !hello.clean {
            return Err(self.refuse(conn, ConnectReturnCode::IdentifierRejected, "no client id"));
        }
        let client: Arc<str> = if hello.client.is_empty() {
            format!("auto-{}", conn.0).into()
        } else {
            hello.client.as_str().into()
        };
        let mut old = self.clients.get(&client).copied();
        if let Some(rival) = old.and_then(|id| self.sessions.get(&id)?.conn) {
            self.close(now, rival, CloseReason::TakenOver);
            old = self.clients.get(&client).copied();
        }
        if let (Some(id), true) = (old, hello.clean) {
            self.remove_session(id);
            old = None;
        }
        if old.is_none() && self.sessions.len() >= self.limits.sessions_max {
            return Err(self.refuse(conn, ConnectReturnCode::ServerUnavailable, "too many sessions"));
        }
        let id = old.unwrap_or_else(|| {
            self.add_session(Session::new(Owner::Client(Arc::clone(&client)), hello.clean, None))
        });
        self.clients.insert(client, id);
        self.attach(now, conn, id, hello);
        self.reply(conn, Reply::Connected { session_present: old.is_some() });
        self.resume(conn, id);
        Ok(())
    }

    fn attach(&mut self, now: BootNs, conn: ConnId, id: SessionId, hello: Hello) {
        let (Some(open), Some(session)) = (self.conns.get_mut(&conn), self.sessions.get_mut(&id)) else {
            return;
        };
        session.conn = Some(conn);
        session.clean = hello.clean;
        open.session = Some(id);
        open.will = hello.will;
        // One and a half times, 3.1.2.10.
        open.silence_max = Duration::from_millis(u64::from(hello.keep_alive) * 1500);
        if let Some(alarm) = open.alarm.take() {
            self.alarms.remove(&(alarm, conn));
        }
        if !open.silence_max.is_zero() {
            open.deadline = now.plus(open.silence_max);
            open.alarm = Some(open.deadline);
            self.alarms.insert((open.deadline, conn));
        }
        open.front.restore(session.received.iter().copied());
    }

    fn reply(&mut self, conn: ConnId, reply: Reply<'_>) {
        if let Some(open) = self.conns.get_mut(&conn) {
            let bytes = open.front.encode(reply);
            self.send(conn, bytes);
        }
    }

    /// Hands bytes out, joined with those just before. A client that makes us answer and never reads is cut.
    fn send(&mut self, conn: ConnId, mut bytes: Vec<u8>) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        if bytes.is_empty() {
            return;
        }
        open.unsent = open.unsent.saturating_add(bytes.len());
        // `deliver` and `pump` stop at the outbox, `resume` at what a session holds; the rest is room for answers.
        let unsent_max =
            self.limits.outbox_bytes_max + self.limits.queued_bytes_max + 2 * self.limits.packet_bytes_max;
        if open.unsent > unsent_max {
            self.doomed.push_back((conn, CloseReason::Stalled));
        }
        match self.actions.back_mut() {
            Some(Action::Send { conn: last, bytes: before }) if *last == conn => before.append(&mut bytes),
            _ => self.actions.push_back(Action::Send { conn, bytes }),
        }
    }

    fn refuse(&mut self, conn: ConnId, code: ConnectReturnCode, why: &'static str) -> CloseReason {
        self.counters.logins_refused_total += 1;
        self.reply(conn, Reply::Refused(code));
        CloseReason::Refused(why)
    }

    /// Ends the connections that were found faulty; their wills may find more.
    fn settle(&mut self, now: BootNs) {
        while let Some((conn, reason)) = self.doomed.pop_front() {
            self.close(now, conn, reason);
        }
    }

    fn close(&mut self, now: BootNs, conn: ConnId, reason: CloseReason) {
        if !self.conns.contains_key(&conn) {
            return;
        }
        match &reason {
            CloseReason::Malformed(_)
            | CloseReason::Protocol(_)
            | CloseReason::Topic(_)
            | CloseReason::TooLarge => {
                self.counters.malformed_total += 1;
            }
            CloseReason::Handshake | CloseReason::KeepAlive => self.counters.silent_total += 1,
            CloseReason::Stalled => self.counters.stalled_total += 1,
            CloseReason::TakenOver => self.counters.takeovers_total += 1,
            CloseReason::Version => self.counters.logins_refused_total += 1,
            _ => {}
        }
        self.drop_conn(now, conn, !matches!(reason, CloseReason::Goodbye));
        self.actions.push_back(Action::Close { conn, reason });
    }

    fn drop_conn(&mut self, now: BootNs, conn: ConnId, will: bool) {
        let Some(open) = self.conns.remove(&conn) else { return };
        if let Some(alarm) = open.alarm {
            self.alarms.remove(&(alarm, conn));
        }
        if let Some(id) = open.session {
            let clean = self.sessions.get_mut(&id).is_some_and(|session| {
                session.conn = None;
                session.clean
            });
            if clean {
                self.remove_session(id);
            }
        }
        if let (Some(said), true) = (open.will, will) {
            self.counters.wills_total += 1;
            self.route_said(now, &said);
        }
    }

    fn add_session(&mut self, session: Session) -> SessionId {
        while self.sessions.contains_key(&SessionId(self.last_session)) {
            self.last_session = self.last_session.wrapping_add(1);
        }
        let id = SessionId(self.last_session);
        self.sessions.insert(id, session);
        id
    }

    fn remove_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for filter in session.filters.keys() {
            self.tree.remove(filter, id);
        }
        if let Owner::Client(client) = &session.owner {
            self.clients.remove(client);
        }
        self.held_bytes -= session.held_bytes;
        let undelivered =
            session.queue.len() + session.in_flight.iter().filter(|f| f.delivery.is_some()).count();
        self.counters.dropped_session_messages_total += undelivered as u64;
    }
}

/// Sizes of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Open connections.
    pub connections: usize,
    /// Sessions, connected or not, bridges included.
    pub sessions: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Retained messages.
    pub retained_messages: usize,
    /// Bytes that wait for sessions or are in flight.
    pub held_bytes: usize,
}

//! The broker itself: what comes in, and who deals with it.

mod announce;
mod bridges;
mod clock;
mod conn;
mod connect;
mod deliver;
mod durable;
mod end;
mod expiry;
mod login;
mod publish;
mod refusals;
mod route;
mod sessions;
mod strangers;
mod subscribe;
mod sys;
mod table;
mod traffic;
mod wills;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::bridges::Unsent;
use self::conn::{Conn, Kind};
use self::deliver::Word;
use self::expiry::Alarm;
use self::login::Asked;
use self::publish::Unreleased;
use self::route::Post;
pub use self::sessions::{SessionView, Which};
use self::strangers::UserState;
use self::subscribe::Task;
use self::table::Table;
use self::traffic::Total;
use self::work::{ROW, Work};
use super::access::{Access, Failures, Identity, LoginQueue, Peers};
use super::change::Answer;
use super::journal::{self, Journal, Position};
use super::note::{Event, Note, Notes, Shown, Who};
use super::outbound::{DropReason, Held, Totals, TotalsLimits};
use super::own::Own;
use super::packet::{Message, Packet, Reply};
use super::retained::{self, Retained, Retention};
use super::session::Session;
use super::settings::Settings;
use super::shares::Shares;
use super::ticket::Tickets;
use super::topic::{TopicError, TopicName};
use super::tree::{Matches, Tree};
use super::{Action, CloseReason, ConnId, Counters, Found, Gauges, Limits, Local, SessionId, Ticket};
use crate::tag::{BootId, BootNs, RunId};
use crate::uplink::row::StoreFault;

/// Who waits for a ticket.
#[derive(Debug)]
enum Waiter {
    /// An acknowledgement in a connection's line.
    Line(ConnId, Kind, u64),
    /// PUBREC of a QoS 2 message.
    Received(SessionId, u16),
    /// The fact of a received message, which holds it until the uplinks do.
    Held(SessionId, u16),
    /// Whoever published it in this process.
    Local,
}

/// A sans-IO broker. After every input, take its actions by [`Broker::poll_action`] until there are none, and call
/// [`Broker::timeout`] when [`Broker::poll_timeout`] says.
pub struct Broker {
    settings: Settings,
    run: RunId,
    /// Sessions survive; `false` keeps everything in memory.
    store: bool,
    /// What is stored is not known yet: no durable session can be opened.
    blind: bool,
    /// Nobody is asked who it is.
    open_to_all: bool,
    started: BootNs,
    /// Running time of earlier runs.
    ran: Duration,
    /// When running time is written, while sessions wait for their end.
    clock_due: Option<BootNs>,
    /// Sessions that have an end.
    ending: usize,
    /// Topics of the gateway itself.
    own: Arc<Own>,
    shares: Shares,
    /// Sessions that hold nothing, by the time when they were left.
    vacant: BTreeSet<(Duration, SessionId)>,
    /// The latest time that was told.
    now: BootNs,
    stopping: bool,
    conns: Table<ConnId, Conn>,
    sessions: Table<SessionId, Session>,
    clients: BTreeMap<Arc<str>, SessionId>,
    last_session: u32,
    tree: Tree<SessionId>,
    /// Memory of [`Tree::matching`].
    found: Matches<SessionId>,
    retained: Retained,
    journal: Journal,
    totals: Totals,
    tickets: Tickets<Waiter>,
    /// Acknowledgements that are true once a position is durable, in its order.
    after: VecDeque<(Position, (ConnId, Kind, u64))>,
    reads: BTreeMap<u64, SessionId>,
    last_read: u64,
    unsent: Vec<Unsent>,
    /// When the last QoS 2 message of a client came, as it is kept.
    held_at: BootNs,
    unreleased: Unreleased,
    /// What messages cost that are received, not released, and that uplinks do not have yet.
    received_bytes: u64,
    failures: Failures,
    /// Addresses: connections and what they hold before they are let in.
    peers: Peers,
    /// Users with a connection.
    users: BTreeMap<Arc<str>, UserState>,
    logins: LoginQueue,
    /// The password that is compared.
    comparing: Option<Asked>,
    notes: Notes,
    alarms: BTreeSet<(BootNs, Alarm)>,
    /// The figures have an alarm.
    watched: bool,
    connected_max: usize,
    /// Connections found faulty while something else was going on.
    doomed: VecDeque<(ConnId, CloseReason)>,
    /// Connections that are read again.
    released: VecDeque<ConnId>,
    /// Connections held for the disk.
    stopped: Vec<ConnId>,
    /// Connections with something to send.
    dirty: Vec<ConnId>,
    /// Bytes to all connections that are not written.
    unwritten: Total,
    /// Bytes of all connections that are no whole packet, or wait until they are read.
    unread: Total,
    /// Sessions that wait for retained messages.
    replaying: VecDeque<SessionId>,
    work: Work,
    actions: VecDeque<Action>,
    counters: Counters,
}

impl Broker {
    /// A broker over a store, with what the store held: sessions, their queues, retained messages. Open bridges before anything else.
    #[must_use]
    pub fn new(now: BootNs, settings: Settings, run: RunId, found: Found) -> Self {
        let mut broker = Self::build(now, settings, run, true);
        broker.recover(now, found);
        broker
    }

    /// A broker with a deliberate fault, for a simulation that has to notice it.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(
        now: BootNs,
        settings: Settings,
        run: RunId,
        found: Found,
        mutant: Option<super::Mutant>,
    ) -> Self {
        let mut broker = Self::build(now, settings, run, true);
        broker.journal.set_faults(super::mutant::Faults::of(mutant));
        broker.recover(now, found);
        broker
    }

    /// A broker without a store: no [`Action::Turn`] is ever asked, and whoever acknowledges a message has it in memory. For tests and the
    /// pretend cloud of the demo. Everybody may do everything.
    #[must_use]
    pub fn in_memory(limits: Limits) -> Self {
        let settings = Settings { limits, ..Settings::default() };
        Self::build(BootNs(0), settings, RunId { boot: BootId(0), start_ms: 0 }, false)
    }

    fn build(now: BootNs, settings: Settings, run: RunId, store: bool) -> Self {
        let limits = settings.limits;
        let volatile = Held { rows: u64::MAX, bytes: limits.queued_bytes_total_max as u64 };
        let durable = Held { rows: limits.stored_rows_total_max, bytes: limits.stored_bytes_total_max };
        Self {
            run,
            store,
            blind: false,
            open_to_all: !store,
            started: now,
            ran: Duration::ZERO,
            clock_due: None,
            ending: 0,
            own: Arc::default(),
            shares: Shares::default(),
            vacant: BTreeSet::new(),
            now,
            stopping: false,
            conns: Table::default(),
            sessions: Table::default(),
            clients: BTreeMap::new(),
            last_session: 0,
            tree: Tree::default(),
            found: Matches::default(),
            retained: Retained::new(retained::Settings {
                rows_max: limits.retained_max,
                bytes_max: limits.retained_bytes_max as u64,
                expiry_s: limits.retained_expiry_s,
                rules: settings.retained.clone(),
            }),
            journal: Journal::new(journal::Settings {
                run,
                commit_interval: limits.commit_interval,
                retained_interval: limits.retained_interval,
                dirty_bytes_max: limits.dirty_bytes_max,
            }),
            totals: Totals::new(TotalsLimits { volatile, durable }),
            tickets: Tickets::default(),
            after: VecDeque::new(),
            reads: BTreeMap::new(),
            last_read: 0,
            unsent: Vec::new(),
            held_at: BootNs(0),
            unreleased: Unreleased::default(),
            received_bytes: 0,
            failures: Failures::default(),
            peers: Peers::default(),
            users: BTreeMap::new(),
            logins: LoginQueue::default(),
            comparing: None,
            notes: Notes::default(),
            alarms: BTreeSet::new(),
            watched: false,
            connected_max: 0,
            doomed: VecDeque::new(),
            released: VecDeque::new(),
            stopped: Vec::new(),
            dirty: Vec::new(),
            unwritten: Total::new(limits.unsent_bytes_total_max),
            unread: Total::new(limits.received_bytes_total_max),
            replaying: VecDeque::new(),
            work: Work::new(limits.turn_work_max),
            actions: VecDeque::new(),
            counters: Counters::default(),
            settings,
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
        self.now = self.now.max(now);
        let topic = TopicName::new(Arc::clone(&local.draft.topic))?;
        self.counters.local_messages_total += 1;
        let ticket = local.want.then(|| self.tickets.open(Waiter::Local));
        self.route(now, Post::of_process(topic, local, ticket), ready);
        if let Some(ticket) = ticket {
            self.settle_ticket(now, ticket);
        }
        self.settle(now);
        Ok(ticket)
    }

    /// A client has sent bytes, cut anywhere. Bytes of a connection that was closed are ignored.
    pub fn handle_bytes(&mut self, now: BootNs, conn: ConnId, bytes: &[u8]) {
        self.now = self.now.max(now);
        self.counters.received_bytes_total += bytes.len() as u64;
        self.slow_down_for_others(now, conn);
        self.hear(now, conn, bytes);
        self.charge(now, conn);
        self.slow_down(now, conn, bytes.len());
        self.settle(now);
    }

    /// `bytes` of what [`Action::Send`] gave for a connection have been written: there is room for more.
    pub fn handle_sent(&mut self, now: BootNs, conn: ConnId, bytes: usize) {
        self.now = self.now.max(now);
        let Some(open) = self.conns.get_mut(&conn) else { return };
        let had_room = open.has_room(self.settings.limits.outbox_bytes_max / 2);
        open.unsent = open.unsent.saturating_sub(bytes);
        open.note(now, &mut self.unwritten);
        let refused = open.unwritten.take_refused();
        let Some(id) = open.session else { return };
        if !had_room || refused {
            self.pump(now, id);
        }
        self.list_replay(id);
        self.settle(now);
    }

    /// A client's connection is gone without a word.
    pub fn handle_closed(&mut self, now: BootNs, conn: ConnId) {
        self.now = self.now.max(now);
        self.end(now, conn);
        self.settle(now);
    }

    /// The store answers a turn or a read, or says that it was replaced.
    pub fn handle_answer(&mut self, now: BootNs, answer: Answer) {
        self.now = self.now.max(now);
        self.answered(now, answer);
        self.settle(now);
    }

    /// Other users and rules hold from here on; whoever is connected and would not be let in any more is turned away.
    pub fn replace_access(&mut self, now: BootNs, access: Access) {
        self.now = self.now.max(now);
        self.settings.access = access;
        self.failures.forgive();
        self.check_everybody();
        self.settle(now);
    }

    /// Says goodbye to everybody and makes everything durable that is not: go on acting, answering and beginning turns until [`Broker::is_flushed`].
    /// All goodbyes are said when [`Broker::has_work`] says no.
    pub fn stop(&mut self, now: BootNs) {
        self.now = self.now.max(now);
        self.begin(now);
        self.stopping = true;
        let conns: Vec<ConnId> = self.conns.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.doom(conn, CloseReason::Shutdown));
        self.settle(now);
        self.write_clock(now);
        self.journal.flush();
    }

    /// Whether nothing is left to be made durable.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.actions.is_empty() && self.dirty.is_empty() && self.journal.is_clean() && !self.has_work()
    }

    /// What to do next, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if let Some(send) = self.take_send() {
            return Some(send);
        }
        if !self.store {
            return None;
        }
        // Last, so that a turn holds what all inputs so far have changed.
        let turn = self.journal.poll(self.now);
        self.work.charge(turn.as_ref().map_or(0, |turn| turn.changes.len() * ROW));
        self.let_go(self.now);
        self.settle(self.now);
        turn.map(Action::Turn).or_else(|| self.actions.pop_front()).or_else(|| self.take_send())
    }

    /// The next thing that a person may want to read in the log: to be asked in every round, until there is none.
    pub fn poll_note(&mut self) -> Option<Note> {
        self.notes.take()
    }

    /// Something happened to somebody.
    fn note(&mut self, event: Event, who: Who) {
        self.notes.add(self.now, event, who);
    }

    /// Who a connection is, as far as it is known.
    fn who(&self, conn: ConnId) -> Who {
        let Some(open) = self.conns.get(&conn) else { return Who::default() };
        let session = open.session.and_then(|id| self.sessions.get(&id));
        Who {
            user: session.and_then(|session| session.user.as_ref()).map(|user| Shown::new(user)),
            client: session.map(|session| Shown::new(&session.client)),
            peer: Some(Shown::new(&open.origin.peer)),
            listener: self.settings.listeners.get(open.origin.listener).map(|listener| listener.name.clone()),
        }
    }

    /// Who a connection is that was not given a session.
    fn who_is(&self, conn: ConnId, identity: &Identity) -> Who {
        let Identity { client, user } = identity;
        let Who { peer, listener, .. } = self.who(conn);
        Who { peer, listener, ..Who::of_session(client, user.as_ref()) }
    }

    /// Why the last turn failed, until one is done.
    #[must_use]
    pub fn fault(&self) -> Option<StoreFault> {
        self.journal.fault()
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let dropped = |reason| self.totals.dropped(reason);
        Counters {
            dropped_full_messages_total: dropped(DropReason::Full) + dropped(DropReason::TotalFull),
            dropped_expired_messages_total: dropped(DropReason::Expired),
            dropped_unreadable_messages_total: dropped(DropReason::Unreadable),
            dropped_lost_messages_total: dropped(DropReason::Lost),
            dropped_session_expired_messages_total: dropped(DropReason::SessionExpired),
            dropped_refused_messages_total: dropped(DropReason::Refused),
            dropped_session_messages_total: self.counters.dropped_session_messages_total
                + dropped(DropReason::Ended),
            dropped_large_messages_total: self.counters.dropped_large_messages_total
                + dropped(DropReason::TooLarge),
            dropped_forbidden_messages_total: self.counters.dropped_forbidden_messages_total
                + dropped(DropReason::Forbidden),
            dropped_topic_messages_total: self.counters.dropped_topic_messages_total
                + dropped(DropReason::Topic),
            ..self.counters
        }
    }

    /// How much there is of everything.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let (volatile, durable) = (self.totals.volatile(), self.totals.durable());
        Gauges {
            connections: self.conns.len(),
            unsent_bytes: self.unwritten.bytes(),
            unread_bytes: self.unread.bytes(),
            hello_bytes: self.peers.bytes(),
            logins_waiting: self.logins.len(),
            locked_out: self.failures.locked(),
            sessions: self.sessions.len(),
            subscriptions: self.tree.len(),
            shared_subscriptions: self.tree.shared_len(),
            retained_messages: self.retained.len(),
            retained_bytes: self.retained.bytes(),
            wills_bytes: self.wills_bytes(),
            received_bytes: self.received_bytes,
            held_messages: volatile.rows + durable.rows,
            held_bytes: volatile.bytes,
            stored_messages: durable.rows,
            stored_bytes: durable.bytes,
            loaded_bytes: self.totals.loaded(),
            dirty_bytes: self.journal.dirty_bytes(),
            waiting_acknowledgements: self.tickets.len(),
        }
    }

    fn handle_packet(&mut self, now: BootNs, conn: ConnId, packet: Packet) -> Result<(), CloseReason> {
        if let Packet::Connect(hello) = packet {
            return self.hello(now, conn, hello);
        }
        let not_connected = CloseReason::Protocol("a packet before CONNECT was accepted");
        let id = self.conns.get(&conn).and_then(|open| open.session).ok_or(not_connected)?;
        match packet {
            Packet::Connect(_) => {}
            Packet::Publish(said) => self.published(now, conn, id, said)?,
            Packet::Acknowledged(packet) => self.heard(now, conn, id, packet, Word::Acknowledged)?,
            Packet::Completed(packet) => self.heard(now, conn, id, packet, Word::Completed)?,
            Packet::Received { id: packet, refused } => {
                self.heard(now, conn, id, packet, Word::Received { refused })?;
            }
            Packet::Release(packet) => self.release(now, conn, id, packet),
            Packet::Subscribe { id: packet, wishes, identifier } => {
                self.begin_filters(conn, Task::subscribe(packet, identifier, wishes));
            }
            Packet::Unsubscribe { id: packet, filters } => {
                self.begin_filters(conn, Task::unsubscribe(packet, filters));
            }
            Packet::Ping => _ = self.tell(conn, Reply::Pong),
            Packet::Disconnect { with_will, expiry_s } => {
                return Err(self.goodbye(conn, id, with_will, expiry_s));
            }
            Packet::Auth => return Err(CloseReason::Protocol("AUTH without enhanced authentication")),
        }
        Ok(())
    }

    /// Keeps a retained message, or clears its topic. Whether what it says is in force.
    fn retain(&mut self, now: BootNs, message: Arc<Message>, ticket: Option<Ticket>) -> bool {
        let kept = self.retained.set(Arc::clone(&message));
        match kept {
            Retention::Kept => self.write_retained(now, message, ticket),
            Retention::Cleared | Retention::Full { before: true } => {
                self.remove_retained(now, &message.topic, ticket)
            }
            Retention::Nothing | Retention::Full { before: false } => {}
        }
        let full = matches!(kept, Retention::Full { .. });
        self.counters.unretained_messages_total += u64::from(full);
        !full
    }
}

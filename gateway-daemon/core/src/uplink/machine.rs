//! One cloud connection: when to connect, what to send, when to give up on a link, and what the queue may forget.
//!
//! ```text
//!            start            pause over             Up
//!   Idle ------------> BackingOff ------> Connecting ------> Up
//!    ^                    ^  ^                 | Down         | Down, or no acknowledgement in time
//!    | stop               |  +-----------------+              |
//!    +--- from anywhere   +-----------------------------------+   pause drawn under a doubling ceiling
//! ```
//!
//! Use: after every input ([`Uplink::publish`], [`Uplink::store`], [`Uplink::link`], [`Uplink::timeout`], ...) carry out
//! [`Uplink::poll_action`] until it gives `None`, then wait for the next input, at most until [`Uplink::poll_timeout`]. Hand in events of the link
//! before a timeout that is due at the same moment.
//!
//! Invariants:
//! - One epoch is one connection. What is said about an older epoch is counted and changes nothing.
//! - A row leaves the queue only by an acknowledgement of the connection on which it was sent (QoS 0: by being written), or by a
//!   counted drop.
//! - At most `window` rows are in flight, plus one birth, one ledger, one stop message and one of [`super::bulletins`].
//! - Servers are tried in turn, and the pause grows only when a whole round of them has failed.
//! - The back-off ends only with an acknowledged publish, never with CONNACK.
//! - The first publish of a connection is the birth message.
//!
//! Bounds: rows in flight by the window, everything else by [`super::queue`]. It never renders a record, opens a connection, reads a clock or draws
//! a random number of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::{Backoff, Jitter};
use super::bulletins::Bulletins;
use super::flights::{Cargo, Flight, Flights};
use super::link::{Epoch, LinkEvent, PublishFault, Token};
use super::loss::{Loss, TakeOverWatch};
use super::mutant::{Faults, Mutant};
use super::queue::{DropReason, Lane, Message, Queue, QueueSettings};
use super::row::{Seq, StoreEvent, Stored};
use super::servers::Servers;
use super::settings::Settings;
use super::share::Share;
use super::status::Identity;
use super::suspects::{OTHERS_MAX, Suspects};
use super::trial::accused_of;
use crate::tag::BootNs;

pub use super::action::{Action, Counters, State};

/// A link that has said neither `Up` nor `Down` for this long is given up: its own timeouts are far shorter, so it must be broken.
pub const CONNECT_SILENCE_MAX: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Stop {
    pub(super) deadline: BootNs,
    pub(super) said: bool,
    pub(super) done: bool,
}

/// One cloud connection with its queue. See the module.
#[derive(Debug)]
pub struct Uplink {
    pub(super) settings: Settings,
    pub(super) identity: Identity,
    pub(super) queue: Queue,
    pub(super) state: State,
    pub(super) link_since: BootNs,
    pub(super) epoch: Epoch,
    pub(super) flights: Flights,
    pub(super) share: Share,
    pub(super) backoff: Backoff,
    pub(super) jitter: Jitter,
    pub(super) watch: TakeOverWatch,
    pub(super) last_loss: Option<Loss>,
    /// Why the last connection that was up ended.
    pub(super) last_down: Option<Loss>,
    pub(super) connect_due: bool,
    pub(super) birth_due: bool,
    pub(super) ledger_at: BootNs,
    pub(super) ending: Option<(Epoch, bool)>,
    pub(super) stop: Option<Stop>,
    pub(super) servers: Servers,
    /// Host and port of each server, as far as the hands have said.
    pub(super) server_names: Vec<Arc<str>>,
    pub(super) suspects: Suspects,
    pub(super) bulletins: Bulletins,
    /// The present connection ends for a reason that is no message.
    pub(super) excused: bool,
    /// The lane of the last row while the window is small.
    pub(super) last_lane: Lane,
    /// The lane whose first row has to go alone while others are in flight, and since when. Acknowledgements bring its turn, so it needs no timeout.
    pub(super) alone_wait: Option<(Lane, BootNs)>,
    /// Taken by the hands after the call that makes them: at most one for each row set aside.
    pub(super) notices: VecDeque<Action>,
    pub(super) counters: Counters,
    pub(super) faults: Faults,
    pub(super) now: BootNs,
}

impl Uplink {
    /// An uplink that finds `stored` in its store. `seed` is the start of its jitter: different on every gateway and run.
    #[must_use]
    pub fn new(settings: Settings, identity: Identity, stored: Stored, seed: u64) -> Self {
        let queue = Queue::new(QueueSettings::from(&settings), identity.run, stored);
        Self::with_queue(settings, identity, queue, seed)
    }

    /// An uplink with a queue of its own settings.
    #[must_use]
    pub fn with_queue(settings: Settings, identity: Identity, queue: Queue, seed: u64) -> Self {
        Self {
            share: Share::new(settings.window),
            backoff: Backoff::new(settings.backoff_min, settings.backoff_max),
            jitter: Jitter::new(seed),
            settings,
            identity,
            queue,
            state: State::Idle,
            link_since: BootNs(0),
            epoch: Epoch(0),
            flights: Flights::default(),
            watch: TakeOverWatch::default(),
            last_loss: None,
            last_down: None,
            connect_due: false,
            birth_due: false,
            ledger_at: BootNs(0),
            ending: None,
            stop: None,
            servers: Servers::default(),
            server_names: Vec::new(),
            suspects: Suspects::default(),
            bulletins: Bulletins::default(),
            excused: false,
            last_lane: Lane::Backlog,
            alone_wait: None,
            notices: VecDeque::new(),
            counters: Counters::default(),
            faults: Faults::default(),
            now: BootNs(0),
        }
    }

    /// How many servers there are; one without a word.
    #[must_use]
    pub fn with_servers(mut self, count: usize) -> Self {
        self.servers = Servers::new(count);
        self
    }

    /// Switches a deliberate fault on.
    #[cfg(feature = "mutants")]
    pub fn mutate(&mut self, mutant: Mutant) {
        self.faults = Faults::of(mutant);
        self.queue.mutate(mutant);
    }

    /// Begins to connect, after a first pause up to the smallest ceiling: a whole site gets its power back at the same moment.
    pub fn start(&mut self, now: BootNs) {
        self.at(now);
        self.ledger_at = self.now.plus(self.settings.ledger_every);
        self.link_since = self.now;
        let pause = self.jitter_only();
        self.enter(State::BackingOff { until: self.now.plus(pause) });
    }

    /// Takes a message; see [`Queue::publish`].
    pub fn publish(&mut self, now: BootNs, message: Message) -> Seq {
        self.at(now);
        self.queue.publish(self.now, message)
    }

    /// Takes an answer of the store.
    pub fn store(&mut self, now: BootNs, event: StoreEvent) {
        self.at(now);
        self.queue.store(self.now, event);
    }

    /// Takes an event of the connection `epoch`. Messages of the cloud are none of its business.
    pub fn link(&mut self, now: BootNs, epoch: Epoch, event: LinkEvent) {
        self.at(now);
        let current = epoch == self.epoch && !matches!(self.state, State::Idle | State::BackingOff { .. });
        let trusting = self.faults.has(Mutant::StaleAck) && matches!(event, LinkEvent::Acked { .. });
        if !current && !trusting {
            match event {
                LinkEvent::Acked { .. } => self.counters.stale_acks_total += 1,
                _ => self.counters.stale_events_total += 1,
            }
            return;
        }
        match event {
            LinkEvent::Up { session_present } => self.up(session_present),
            LinkEvent::Acked { token } => self.acked(token),
            LinkEvent::Refused { token, why } => {
                let reason = match why {
                    PublishFault::Oversize { .. } => DropReason::Oversize,
                    PublishFault::Topic => DropReason::Topic,
                };
                self.give_up(token, reason);
            }
            LinkEvent::Message { .. } | LinkEvent::Subscribed { .. } => {}
            LinkEvent::Down { loss, up_for } => self.lost(loss, up_for),
        }
    }

    /// The row of this token cannot be rendered: it is dropped and counted.
    pub fn unreadable(&mut self, now: BootNs, epoch: Epoch, token: Token) {
        self.at(now);
        if epoch == self.epoch {
            self.give_up(token, DropReason::Unreadable);
        } else {
            self.counters.stale_events_total += 1;
        }
    }

    /// The hands cannot go on with the connection `epoch`: it is cut, and the next attempt follows as after any other loss.
    pub fn abandon(&mut self, now: BootNs, epoch: Epoch, loss: Loss) {
        self.at(now);
        if epoch == self.epoch && matches!(self.state, State::Connecting { .. } | State::Up { .. }) {
            self.cut(loss);
        } else {
            self.counters.stale_events_total += 1;
        }
    }

    /// Time has passed.
    pub fn timeout(&mut self, now: BootNs) {
        self.at(now);
        match self.state {
            State::BackingOff { until } if self.now >= until => self.connect(),
            State::Connecting { since } if self.now >= since.plus(CONNECT_SILENCE_MAX) => {
                self.cut(Loss::ConnectTimeout { stage: super::loss::Stage::Tcp, after: CONNECT_SILENCE_MAX });
            }
            State::Up { .. } if self.ack_deadline().is_some_and(|deadline| self.now >= deadline) => {
                self.counters.ack_timeouts_total += 1;
                self.cut(Loss::AckTimeout { after: self.settings.ack_timeout });
            }
            _ => {}
        }
    }

    /// Ends in order: everything in memory goes to disk, `stopped` is published, the connection is closed; [`Action::Stopped`] comes
    /// when that is done or `deadline` has passed.
    pub fn stop(&mut self, now: BootNs, deadline: BootNs) {
        self.at(now);
        if self.stop.is_some() {
            return;
        }
        self.stop = Some(Stop { deadline, said: false, done: false });
        self.queue.flush();
        match self.state {
            State::Connecting { .. } if self.connect_due => self.connect_due = false,
            State::Connecting { .. } => self.ending = Some((self.epoch, false)),
            State::Up { .. } => return,
            State::Idle | State::BackingOff { .. } => {}
        }
        self.enter(State::Idle);
    }

    /// The next thing to do, if any.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.next_action();
        // Looking for an action may drop expired rows or shed others, and their publishers wait too.
        let action = action.or_else(|| self.queue.poll_receipt().map(Action::Receipt));
        action.or_else(|| self.notices.pop_front())
    }

    /// When [`Self::timeout`] is due, if nothing else happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNs> {
        let stopping = self.stop.as_ref().filter(|stop| !stop.done);
        let link = match self.state {
            State::Idle => None,
            State::BackingOff { until } => Some(until),
            State::Connecting { since } => Some(since.plus(CONNECT_SILENCE_MAX)),
            State::Up { .. } => {
                let ledger = self.stop.is_none().then_some(self.ledger_at);
                let ledger = ledger.filter(|_| !self.flights.holds_ledger() && self.may_announce());
                [ledger, self.ack_deadline()].into_iter().flatten().min()
            }
        };
        [link, stopping.map(|stop| stop.deadline), self.queue.poll_timeout()].into_iter().flatten().min()
    }

    /// Its queue, to look at.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Its queue, to tell it about former boots.
    pub fn queue_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Time never runs backwards here, whatever the caller says.
    pub(super) fn at(&mut self, now: BootNs) {
        self.now = self.now.max(now);
    }

    fn ack_deadline(&self) -> Option<BootNs> {
        let kept_for_ever = self.faults.has(Mutant::NoAckTimeout);
        self.flights.deadline(self.settings.ack_timeout).filter(|_| !kept_for_ever)
    }

    pub(super) fn enter(&mut self, state: State) {
        let is_up = |state: &State| matches!(state, State::Up { .. });
        if is_up(&self.state) != is_up(&state) {
            self.link_since = self.now;
        }
        self.state = state;
    }

    fn jitter_only(&mut self) -> Duration {
        let mut first = Backoff::new(self.settings.backoff_min, self.settings.backoff_min);
        first.pause(&mut self.jitter, self.faults)
    }

    fn connect(&mut self) {
        self.epoch = Epoch(self.epoch.0.saturating_add(1));
        self.enter(State::Connecting { since: self.now });
        self.servers.attempt();
        self.connect_due = true;
        self.flights = Flights::default();
        self.share = Share::new(self.settings.window);
    }

    fn up(&mut self, session_present: bool) {
        if !matches!(self.state, State::Connecting { .. }) {
            self.counters.stale_events_total += 1;
            return;
        }
        self.counters.ups_total += 1;
        self.counters.sessions_lost_total += u64::from(!session_present);
        self.enter(State::Up { since: self.now });
        self.birth_due = !self.faults.has(Mutant::NoBirth);
        self.excused = false;
        self.alone_wait = None;
        self.queue.attach();
        self.bulletins.connected(self.servers.current(), session_present);
        let jitter = &mut self.jitter;
        let mut draw = || jitter.below(Duration::from_nanos(OTHERS_MAX.into())).as_nanos();
        self.suspects.connected(|| u32::try_from(draw()).unwrap_or(OTHERS_MAX));
        if self.faults.has(Mutant::BackoffResetOnConnack) {
            self.backoff.reset();
        }
    }

    fn acked(&mut self, token: Token) {
        if self.suspects.written(token.0) {
            return;
        }
        let Some(flight) = self.flights.arrive(self.now, token) else {
            self.counters.unknown_acks_total += 1;
            return;
        };
        self.counters.acks_total += 1;
        self.learn(flight);
        let proved = self.clear_suspicion(token, flight);
        self.arrived(flight);
        if let Some(flight) = proved.and_then(|token| self.flights.arrive(self.now, Token(token))) {
            self.arrived(flight);
        }
    }

    fn arrived(&mut self, flight: Flight) {
        match flight.cargo {
            Cargo::Row(seq, _) => {
                self.queue.acknowledged(self.now, seq);
            }
            Cargo::Stopped => {
                if let Some(stop) = &mut self.stop {
                    stop.said = true;
                }
            }
            Cargo::Bulletin => self.bulletins.done(),
            Cargo::Birth | Cargo::Ledger => {}
        }
    }

    /// What an acknowledgement says about the connection. A QoS 0 message was only written: that proves nothing until the link has held
    /// for as long as an acknowledgement may take.
    fn learn(&mut self, flight: Flight) {
        let steady = match self.state {
            State::Up { since } => self.now >= since.plus(self.settings.ack_timeout),
            _ => false,
        };
        if flight.acked_by_cloud {
            self.share.acknowledged(self.now.since(flight.sent));
        }
        if flight.acked_by_cloud || steady {
            self.backoff.reset();
            self.servers.worked();
        }
    }

    fn give_up(&mut self, token: Token, reason: DropReason) {
        let Some(flight) = self.flights.remove(token) else {
            self.counters.unknown_acks_total += 1;
            return;
        };
        self.counters.refused_total += 1;
        if let Some(accused) = accused_of(flight.cargo) {
            self.suspects.gone(token.0, accused);
        }
        match flight.cargo {
            Cargo::Row(seq, _) => {
                self.queue.refused(self.now, seq, reason);
            }
            Cargo::Stopped => {
                if let Some(stop) = &mut self.stop {
                    stop.said = true;
                }
            }
            Cargo::Bulletin => self.bulletins.done(),
            Cargo::Birth | Cargo::Ledger => {}
        }
    }

    /// We end the connection because it does not work.
    fn cut(&mut self, loss: Loss) {
        let up_for = match self.state {
            State::Up { since } => Some(self.now.since(since)),
            _ => None,
        };
        self.ending = Some((self.epoch, false));
        self.lost(loss, up_for);
    }

    fn lost(&mut self, loss: Loss, up_for: Option<Duration>) {
        let end = self.accuse(&loss, up_for);
        let loss = self.watch.judge_with(loss, up_for, end);
        if matches!(loss, Loss::TakenOver { .. }) {
            self.backoff.undo_reset();
        }
        self.counters.losses_total += 1;
        if up_for.is_some() {
            self.last_down = Some(loss.clone());
        }
        self.last_loss = Some(loss);
        self.queue.detach(self.now);
        self.flights = Flights::default();
        self.birth_due = false;
        let round_over = self.servers.lost();
        if self.stop.is_some() {
            self.enter(State::Idle);
            return;
        }
        self.notices.truncate(super::queue::ASIDE_ROWS_MAX);
        let pause =
            if round_over { self.backoff.pause(&mut self.jitter, self.faults) } else { self.jitter_only() };
        self.enter(State::BackingOff { until: self.now.plus(pause) });
    }
}

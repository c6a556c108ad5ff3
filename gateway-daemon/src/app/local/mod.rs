//! The broker at work: who carries out what it decides, and who tells it what came of it.
//!
//! ```text
//! clients <-> Doors --Incoming--> +--------+ --Enqueue--> uplinks --Fate--> back
//! store   <-> keeper --Word-----> | Broker | --Turn, Read--> keeper
//!           Verifier --Word-----> +--------+ --Question--> Verifier
//! ```
//! The core loop owns the broker. What a client is told leaves after the round that decided it: all bytes for one connection in one
//! system call, all messages for one uplink before it is looked at.
//!
//! Bounds: [`WORDS_MAX`] words wait for the loop, one turn and one read per session for the keeper. Nothing
//! here waits for it.

mod freed;
mod keeper;
mod notes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_config::Config;
use gateway_core::broker::{Action, Answer, Broker, ConnId, Found, Limits, Read, SessionId, Ticket, Turn};
use gateway_core::payload::Draft;
use gateway_core::tag::{BootNs, RunId};
use gateway_core::uplink::row::Qos;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::freed::{Freed, Look};
use super::rate::Rate;
use crate::listen::{Doors, FLUSH_MAX, Incoming, OpenError, SocketMemory};
use crate::login::{Question, Verdict, Verifier};
use crate::store::Store;

/// Words of the keeper that wait: it waits then, nothing is lost.
const WORDS_MAX: usize = 64;

/// A connection that was told goodbye gets this long beyond [`FLUSH_MAX`].
const GOODBYE_GRACE: Duration = Duration::from_millis(100);

/// What the tasks around the broker say to it.
#[derive(Debug)]
pub(super) enum Word {
    /// The store's answer, or its news.
    Answer(Answer),
    /// Whether a password fits.
    Verdict(Verdict),
}

/// A message for an uplink.
#[derive(Debug)]
pub(super) struct Enqueue {
    pub(super) session: SessionId,
    pub(super) qos: Qos,
    pub(super) draft: Draft,
    pub(super) ticket: Option<Ticket>,
}

/// The broker and everything that belongs to it alone.
pub(super) struct Local {
    /// The broker.
    pub broker: Broker,
    /// The way in for clients; `None` without a listener, and from the beginning of the end.
    pub doors: Option<Doors>,
    /// What the keeper says.
    pub words: mpsc::Receiver<Word>,
    /// Messages of clients per second.
    pub received: Rate,
    /// Messages to clients per second.
    pub sent: Rate,
    /// Through which listener each connection came.
    origins: BTreeMap<ConnId, usize>,
    /// What messages of uplinks have become safe; taken after every [`Self::act`].
    pub safe: Vec<Ticket>,
    turns: mpsc::Sender<Turn>,
    reads: mpsc::Sender<Read>,
    verifier: Verifier,
    leaving: Option<JoinHandle<()>>,
    freed: Freed,
}

impl Local {
    /// A broker with what the store held for it, and its listeners open, with `places` descriptors for their connections. Without `[broker]` there are neither clients nor anything to keep.
    ///
    /// # Errors
    /// A listener cannot be opened.
    pub(super) fn open(
        config: &Config,
        places: usize,
        now: BootNs,
        run: RunId,
        (store, found): (&Arc<Store>, Found),
    ) -> Result<Self, OpenError> {
        let limits = config.broker.as_ref().map_or_else(Limits::default, |settings| settings.limits);
        let mut queues = 0;
        let (broker, doors) = match &config.broker {
            None => (Broker::in_memory(limits), None),
            Some(settings) => {
                let mut doors = Doors::open_within(&settings.listeners, &settings.limits, places)?;
                doors.bound_sockets(config.plan.kernel_bytes());
                queues = found.queues.len();
                (Broker::new(now, settings.clone(), run, found), Some(doors))
            }
        };
        let (said, words) = mpsc::channel(WORDS_MAX);
        let (turns, turns_todo) = mpsc::channel(1);
        // A session has one read under way at a time; there may be more stored ones than the limit of today.
        let (reads, reads_todo) = mpsc::channel(limits.sessions_max.max(queues).max(1));
        let verifier = Verifier::start(said.clone(), Word::Verdict);
        tokio::spawn(keeper::run(Arc::clone(store), turns_todo, reads_todo, said));
        let (received, sent) = Default::default();
        let origins = BTreeMap::new();
        let safe = Vec::new();
        Ok(Self {
            broker,
            doors,
            words,
            received,
            sent,
            origins,
            safe,
            turns,
            reads,
            verifier,
            leaving: None,
            freed: Freed::new(now),
        })
    }

    /// What a client did.
    pub(super) fn incoming(&mut self, now: BootNs, incoming: Incoming) {
        match incoming {
            Incoming::Open(conn, origin) => {
                self.origins.insert(conn, origin.listener);
                self.broker.handle_open(now, conn, origin);
            }
            Incoming::Bytes(conn, bytes) => self.broker.handle_bytes(now, conn, &bytes),
            Incoming::Sent(conn, bytes) => self.broker.handle_sent(now, conn, bytes),
            Incoming::Closed(conn) => {
                self.origins.remove(&conn);
                self.broker.handle_closed(now, conn);
            }
        }
    }

    /// Whether a task around the broker has ended by itself: a fault of this program.
    pub(super) fn has_ended(&self) -> bool {
        let doors = self.doors.as_ref().is_some_and(Doors::has_ended);
        doors || self.turns.is_closed() || self.reads.is_closed() || self.verifier.has_ended()
    }

    /// What a client has done already.
    pub(super) fn try_next(&mut self) -> Option<Incoming> {
        self.doors.as_mut()?.try_next()
    }

    /// Takes the present counters into the rates.
    pub(super) fn observe_rates(&mut self, now: BootNs) {
        let counters = self.broker.counters();
        self.received.observe(now, counters.received_messages_total);
        self.sent.observe(now, counters.sent_messages_total);
    }

    /// Asks the kernel what it holds for connections. Once per tick.
    pub(super) fn look_at_sockets(&mut self) {
        if let Some(doors) = &mut self.doors {
            doors.look_at_sockets(|socket| {
                let (received, to_send) = drivers::memory::of_socket(socket);
                SocketMemory { received, to_send }
            });
        }
    }

    /// Gives memory back to the system after much was freed. Once per tick.
    pub(super) fn give_back(&mut self, now: BootNs) {
        if self.freed.is_due(now, Look::at(&self.broker)) {
            drivers::memory::give_back();
        }
    }

    /// Connections through each listener, in the order of the settings.
    pub(super) fn connections(&self, listener: usize) -> u64 {
        self.origins.values().filter(|origin| **origin == listener).count() as u64
    }

    /// What a task around the broker said.
    pub(super) fn word(&mut self, now: BootNs, word: Word) {
        match word {
            Word::Answer(answer) => self.broker.handle_answer(now, answer),
            Word::Verdict(verdict) => self.broker.handle_verified(now, verdict.conn, verdict.fits),
        }
    }

    /// Carries out what the broker decided, up to the next message for an uplink.
    pub(super) fn act(&mut self, now: BootNs) -> Option<Enqueue> {
        while let Some(action) = self.broker.poll_action() {
            match action {
                Action::Send { conn, bytes } => {
                    if let Some(doors) = &mut self.doors {
                        doors.send(conn, bytes);
                    }
                }
                Action::Close { conn, reason } => {
                    self.origins.remove(&conn);
                    if let Some(doors) = &mut self.doors {
                        doors.close(conn, &reason);
                    }
                }
                Action::Hold { conn, held } => {
                    if let Some(doors) = &mut self.doors {
                        doors.hold(conn, held);
                    }
                }
                Action::Enqueue { session, qos, draft, ticket } => {
                    return Some(Enqueue { session, qos, draft, ticket });
                }
                Action::Safe { ticket } => self.safe.push(ticket),
                // One turn and one read per session are under way, so there is room unless the keeper is gone, and then the process is ending.
                Action::Turn(turn) => {
                    if self.turns.try_send(turn).is_err() {
                        log::error!(room = "local broker", reason = "stopped"; "broker: the keeper's task is gone");
                    }
                }
                Action::Read(read) => {
                    if self.reads.try_send(read).is_err() {
                        log::error!(room = "local broker", reason = "stopped"; "broker: the keeper's task is gone");
                    }
                }
                // One comparison is asked for at a time, so there is room unless the task is gone.
                Action::Verify { conn, password, hash } => {
                    if self.verifier.ask(Question { conn, password, hash }).is_err() {
                        self.broker.handle_verified(now, conn, false);
                    }
                }
            }
        }
        None
    }

    /// Writes what was decided for clients, and what a person may want to know of it. Once per round, before the loop waits.
    pub(super) fn flush(&mut self) {
        while let Some(note) = self.broker.poll_note() {
            notes::write(&note);
        }
        if let Some(doors) = &mut self.doors {
            doors.flush();
        }
    }

    /// Tells the broker what was written. Whether anything was: it may have more to send then.
    pub(super) fn tell_sent(&mut self, now: BootNs) -> bool {
        let mut any = false;
        while let Some((conn, bytes)) = self.doors.as_mut().and_then(Doors::take_sent) {
            self.broker.handle_sent(now, conn, bytes);
            any = true;
        }
        any
    }

    /// Lets nobody in any more, and gives the last bytes their time. The goodbyes of [`Broker::stop`] must have been acted on.
    pub(super) fn shut_doors(&mut self) {
        if let Some(doors) = self.doors.take() {
            self.leaving = Some(tokio::spawn(doors.stop(FLUSH_MAX)));
        }
    }

    /// Waits until the doors are shut, within their own limit.
    pub(super) async fn left(&mut self) {
        if let Some(leaving) = self.leaving.take() {
            // Ends by itself; whatever it does not end in time goes with the process.
            let _ = tokio::time::timeout(FLUSH_MAX + GOODBYE_GRACE, leaving).await;
        }
    }
}

/// The next thing that a client does; never without listeners.
pub(super) async fn next_incoming(doors: &mut Option<Doors>) -> Incoming {
    match doors {
        Some(doors) => doors.next().await,
        None => std::future::pending().await,
    }
}

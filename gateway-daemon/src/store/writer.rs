//! The task that lends the engine to a blocking thread, request by request.
//!
//! Requests that arrive while a transaction runs wait in the channel and go into the next one: that is the group commit. The faster
//! rows come, the more of them share a sync.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::broker::{Answer, Found, Read, Sieve, Turn};
use gateway_core::settings::StoreSettings;
use gateway_core::tag::{BootId, WallMs};
use gateway_core::uplink::row::{Mark, QueueId, StoreEvent, StoreFault, StoreOp, Stored};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;

use super::ask::{Reply, Want};
use super::engine::{Engine, Opened};
use super::health::StoreHealth;
use super::pulse::Pulse;
use super::resets::Resets;
use crate::panics::contain;

/// Most requests that wait for the writer; a further one waits in its sender. More ops share a transaction than uplinks exist.
pub const REQUESTS_MAX: usize = 64;

/// How often the paths of the files are looked at while the database is open.
pub(super) const WATCH_EVERY: Duration = Duration::from_secs(20);

/// What the writer is asked.
#[derive(Debug)]
pub(super) enum Request {
    Op {
        queue: QueueId,
        op: StoreOp,
        answer: oneshot::Sender<StoreEvent>,
    },
    Turn {
        turn: Turn,
        answer: oneshot::Sender<Answer>,
    },
    Read {
        read: Read,
        answer: oneshot::Sender<Answer>,
    },
    Found {
        sieve: Sieve,
        answer: oneshot::Sender<Found>,
    },
    OpenQueue {
        name: Arc<str>,
        answer: oneshot::Sender<(QueueId, Stored)>,
    },
    SetAside {
        name: Arc<str>,
        answer: oneshot::Sender<Vec<Arc<Mark>>>,
    },
    Queues {
        answer: oneshot::Sender<Vec<(Arc<str>, Stored)>>,
    },
    DropQueue {
        name: Arc<str>,
        answer: oneshot::Sender<Result<u64, StoreFault>>,
    },
    LearnSchema {
        id: u64,
        bytes: Arc<[u8]>,
    },
    Schemas {
        answer: oneshot::Sender<Vec<(u64, Vec<u8>)>>,
    },
    NoteBoot {
        boot: BootId,
        wall: WallMs,
    },
    ClockHistory {
        answer: oneshot::Sender<Vec<(BootId, WallMs)>>,
    },
    Close {
        answer: oneshot::Sender<Result<(), StoreFault>>,
    },
    // Keeps the thread until somebody lets it go.
    #[cfg(test)]
    Hold(std::sync::mpsc::Receiver<()>),
    // A fault of the program.
    #[cfg(test)]
    Panic,
}

/// The task's ends.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) settings: StoreSettings,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) health: Arc<watch::Sender<StoreHealth>>,
    pub(super) resets: Arc<Resets>,
    pub(super) pulse: Arc<Pulse>,
}

impl Writer {
    /// Runs until the store is closed or dropped.
    pub(super) async fn run(mut self, engine: Engine) {
        let mut engine = engine;
        let mut retry_at = None;
        let mut watch_at = Instant::now() + WATCH_EVERY;
        loop {
            let opened = engine.opened();
            retry_at = engine.retry_after().map(|pause| retry_at.unwrap_or_else(|| Instant::now() + pause));
            let batch = tokio::select! {
                biased;
                first = self.requests.recv() => self.batch(first),
                () = sleep_until(retry_at) => Vec::new(),
                () = tokio::time::sleep_until(watch_at) => Vec::new(),
            };
            let dropped = batch.is_empty() && self.requests.is_closed();
            let due = retry_at.is_some_and(|at| at <= Instant::now());
            let watch = watch_at <= Instant::now();
            if watch {
                watch_at = Instant::now() + WATCH_EVERY;
            }
            let health = Arc::clone(&self.health);
            let turn = move || {
                if due {
                    engine.try_open();
                }
                let closed = serve(&mut engine, batch, &health);
                if watch {
                    engine.watch();
                }
                engine.recover();
                health.send_replace(engine.health());
                (engine, closed)
            };
            let turn = spawn_blocking(|| contain("the store's writer", turn));
            let closed;
            (engine, closed) = match turn.await {
                Ok(turn) => turn,
                Err(error) => match self.succeed(error, opened).await {
                    Some(engine) => (engine, false),
                    None => return,
                },
            };
            if due {
                retry_at = None;
            }
            self.pulse.round();
            self.resets.tell();
            if closed || dropped {
                // Closing twice does nothing.
                let _ = spawn_blocking(move || engine.close()).await;
                return;
            }
        }
    }

    /// The request that woke us and all that wait behind it.
    fn batch(&mut self, first: Option<Request>) -> Vec<Request> {
        let mut batch = Vec::from_iter(first);
        while batch.len() < REQUESTS_MAX
            && let Ok(request) = self.requests.try_recv()
        {
            batch.push(request);
        }
        batch
    }

    /// A panic has taken the engine with it, which only a bug can do: a fresh one opens the database again.
    async fn succeed(&self, error: JoinError, opened: Opened) -> Option<Engine> {
        if error.is_cancelled() {
            return None;
        }
        // The panic itself was told where it happened.
        log::warn!("the store's writer: the database is opened again");
        let (settings, resets) = (self.settings.clone(), Arc::clone(&self.resets));
        spawn_blocking(move || Engine::successor(settings, resets, opened)).await.ok()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whoever waits for the answer to an op, a turn or a read.
enum Waiting {
    Queue(oneshot::Sender<StoreEvent>),
    Broker(oneshot::Sender<Answer>),
}

/// Serves requests in order, neighbouring ops and turns in one transaction. Says whether the store was closed.
fn serve(engine: &mut Engine, batch: Vec<Request>, health: &watch::Sender<StoreHealth>) -> bool {
    engine.watch_log();
    let mut wants = Vec::new();
    let mut waiting = Vec::new();
    let mut closed = false;
    for request in batch {
        let (want, waits) = match request {
            Request::Op { queue, op, answer } => (Want::Op(queue, op), Waiting::Queue(answer)),
            Request::Turn { turn, answer } => (Want::Turn(turn), Waiting::Broker(answer)),
            Request::Read { read, answer } => (Want::Read(read), Waiting::Broker(answer)),
            other => {
                answer_wants(engine, health, &mut wants, &mut waiting);
                closed |= answer_other(engine, other);
                continue;
            }
        };
        wants.push(want);
        waiting.push(waits);
    }
    answer_wants(engine, health, &mut wants, &mut waiting);
    closed
}

fn answer_wants(
    engine: &mut Engine,
    health: &watch::Sender<StoreHealth>,
    wants: &mut Vec<Want>,
    waiting: &mut Vec<Waiting>,
) {
    if wants.is_empty() {
        return;
    }
    let replies = engine.serve(std::mem::take(wants));
    // Whoever has an answer finds it counted.
    health.send_replace(engine.health());
    for pair in waiting.drain(..).zip(replies) {
        // Whoever asked may have gone.
        match pair {
            (Waiting::Queue(answer), Reply::Event(event)) => drop(answer.send(event)),
            (Waiting::Broker(answer), Reply::Answer(reply)) => drop(answer.send(reply)),
            (Waiting::Queue(_), Reply::Answer(_)) | (Waiting::Broker(_), Reply::Event(_)) => {}
        }
    }
    engine.tidy();
}

fn answer_other(engine: &mut Engine, request: Request) -> bool {
    match request {
        Request::Op { .. } | Request::Turn { .. } | Request::Read { .. } => {}
        Request::Found { sieve, answer } => drop(answer.send(engine.found(sieve))),
        Request::OpenQueue { name, answer } => drop(answer.send(engine.open_queue(&name))),
        Request::SetAside { name, answer } => drop(answer.send(engine.set_aside(&name))),
        Request::Queues { answer } => drop(answer.send(engine.queues())),
        Request::DropQueue { name, answer } => drop(answer.send(engine.drop_queue(&name))),
        Request::LearnSchema { id, bytes } => engine.learn_schema(id, bytes),
        Request::Schemas { answer } => drop(answer.send(engine.schemas())),
        Request::NoteBoot { boot, wall } => engine.note_boot(boot, wall),
        #[cfg(test)]
        // Whoever held it has gone, or lets it go.
        Request::Hold(until) => drop(until.recv()),
        #[cfg(test)]
        Request::Panic => panic!("asked for by a test"),
        Request::ClockHistory { answer } => drop(answer.send(engine.clock_history())),
        Request::Close { answer } => {
            // Whoever asked may have gone.
            let _ = answer.send(engine.close());
            return true;
        }
    }
    false
}

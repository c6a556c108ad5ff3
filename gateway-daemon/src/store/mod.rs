//! Durable queues, facts of the local broker, schemas and clock history in one SQLite database; the only user of rusqlite.
//!
//! The queues and the broker decide, the store obeys: it never drops a row on its own, and answers every op with exactly one event
//! ([`gateway_core::uplink::row`]) and every turn and read with one answer ([`gateway_core::broker::change`]).
//!
//! Invariants:
//! - A commit of rows is answered when it is on disk: log synced. A power cut after the answer loses nothing of it.
//! - An op or a turn is all or nothing, and its failure is not the failure of another's, unless the disk is at fault.
//! - Nothing is written while nobody asks: opening an existing database, opening queues, learning schemas and the clock write nothing; there is no
//!   timer that writes; the log is copied into the database only after a commit has made it long, or at close.
//! - No file content, disk state or other process can stop the daemon: a database that cannot be used is salvaged, moved aside and replaced, or
//!   tried again with a growing pause while every op is answered with the fault.
//! - A row that does not decode is left out and counted; it is never sent and never stops the rows behind it.
//!
//! Bounds: [`REQUESTS_MAX`] requests wait; file size by settings; words by the bounds in `words`; files kept aside by `aside::ASIDES_MAX`.
//!
//! The rooms within: `row_codec` (a row as bytes), `words` (what rows share) and `facts` are the formats; `layout` the file; `db` opens and
//! counts; `marks` says which rows are set aside; `ops` carries out one op, `turn` one turn, `transact` a batch of `ask`s; `salvage` and `aside` deal with damaged files; `engine`
//! decides when; `resets` tells who must know; `writer` is the task. `evidence` looks at the files before they are opened, `held` while they are; `pages` reads them without SQLite.

mod aside;
mod ask;
mod crc;
mod db;
mod engine;
mod evidence;
mod facts;
mod fault;
mod health;
mod held;
mod layout;
mod marks;
mod ops;
mod pages;
#[doc(hidden)]
pub mod peer;
mod pulse;
mod resets;
mod room;
pub(crate) mod row_codec;
pub(crate) mod salvage;
#[cfg(test)]
mod tests;
mod transact;
mod turn;
mod words;
mod writer;

use std::sync::Arc;

use gateway_core::broker::{Answer, Found, Read, Sieve, Turn};
use gateway_core::settings::StoreSettings;
use gateway_core::tag::{BootId, WallMs};
use gateway_core::uplink::row::{Mark, QueueId, StoreEvent, StoreFault, StoreOp, Stored};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;

pub use self::health::{Counters, StoreHealth};
pub use self::pulse::Pace;
pub use self::writer::REQUESTS_MAX;

use self::engine::Engine;
use self::pulse::Pulse;
use self::resets::Resets;
use self::writer::{Request, Writer};
use crate::panics::contain;

/// The store. Share it by `Arc`; every method may be called from any task.
#[derive(Debug)]
pub struct Store {
    requests: mpsc::Sender<Request>,
    health: watch::Receiver<StoreHealth>,
    resets: Arc<Resets>,
    pulse: Arc<Pulse>,
}

impl Store {
    /// Opens the database and reads through it once. Never fails: what is wrong stands in [`Store::health`], and a fault that may
    /// pass is tried again. Must be called within a tokio runtime.
    pub async fn open(settings: &StoreSettings) -> Self {
        let resets = Arc::new(Resets::default());
        let (engine_settings, engine_resets) = (settings.clone(), Arc::clone(&resets));
        let open = move || Engine::open(engine_settings, engine_resets);
        let engine = spawn_blocking(|| contain("opening the store", open)).await;
        let engine = engine.unwrap_or_else(|_| Engine::new(settings.clone(), Arc::clone(&resets)));
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let (health, health_receiver) = watch::channel(engine.health());
        let health = Arc::new(health);
        let pulse = Arc::new(Pulse::default());
        let writer = Writer {
            settings: settings.clone(),
            requests: receiver,
            health,
            resets: Arc::clone(&resets),
            pulse: Arc::clone(&pulse),
        };
        // Ends when the store is closed or its last handle is dropped.
        drop(tokio::spawn(writer.run(engine)));
        Self { requests, health: health_receiver, resets, pulse }
    }

    /// Opens a durable queue by name and says what is stored in it. Nothing is written before its first row. While the database cannot be opened
    /// the queue starts at a seq above all that a healthy start gives out; when it is back, a reset tells what is stored.
    pub async fn open_queue(&self, name: &str) -> (QueueId, Stored) {
        let name = name.into();
        self.ask(|answer| Request::OpenQueue { name, answer })
            .await
            .unwrap_or((QueueId(0), Stored::default()))
    }

    /// Which rows of an uplink's queue are set aside, ascending. Ask after [`Store::open_queue`], before the first op.
    pub async fn set_aside(&self, name: &str) -> Vec<Arc<Mark>> {
        let name = name.into();
        self.ask(|answer| Request::SetAside { name, answer }).await.unwrap_or_default()
    }

    /// Every uplink's queue in the database with what is stored in it, also those that nobody has opened; those of local sessions
    /// are told by [`Store::found`].
    pub async fn queues(&self) -> Vec<(Arc<str>, Stored)> {
        self.ask(|answer| Request::Queues { answer }).await.unwrap_or_default()
    }

    /// Removes an uplink's queue with its rows, and says how many rows went. The queue of a local session goes by a turn, not here.
    ///
    /// # Errors
    /// The fault that stands in the way; the queue stays.
    pub async fn drop_queue(&self, name: &str) -> Result<u64, StoreFault> {
        let name = name.into();
        self.ask(|answer| Request::DropQueue { name, answer }).await.unwrap_or(Err(StoreFault::Io))
    }

    /// Carries out one op. Ops are carried out in the order in which their futures are first polled; those that wait together share a
    /// transaction. The answer is never [`StoreEvent::Reset`]: see [`Store::next_reset`].
    pub async fn apply(&self, queue: QueueId, op: StoreOp) -> StoreEvent {
        let number = ops::op_number(&op);
        let event = self.ask(|answer| Request::Op { queue, op, answer }).await;
        event.unwrap_or(StoreEvent::Failed { op: number, fault: StoreFault::Io })
    }

    /// Waits for a queue whose stored rows were replaced: the database was damaged and salvaged, or came back after a fault. Until the event
    /// has been taken here, every op of that queue fails with [`StoreFault::Corrupt`], so that no answer about the
    /// replaced rows can overtake it. Cancel safe; for one caller at a time.
    pub async fn next_reset(&self) -> (QueueId, StoreEvent) {
        let (queue, (salvaged, aside)) = self.resets.next_queue().await;
        (queue, StoreEvent::Reset { salvaged, aside })
    }

    /// What is stored for the local broker: its facts, as far as the sieve lets them through, and the queues of its sessions. Writes nothing. From here on the broker hears of
    /// resets. While the database cannot be opened it is [`Found::blind`]; when it is back, a reset tells what is stored.
    pub async fn found(&self, sieve: Sieve) -> Found {
        let found = self.ask(|answer| Request::Found { sieve, answer }).await;
        found.unwrap_or(Found { blind: true, ..Found::default() })
    }

    /// Makes a turn of the local broker durable, all of it or nothing: answers [`Answer::Done`] or [`Answer::Failed`]. Turns, reads and ops that
    /// wait together share a transaction; none fails with another, unless the disk is at fault. A turn is on disk when it
    /// is answered; one that only deletes rows may come back after a power cut.
    pub async fn turn(&self, turn: Turn) -> Answer {
        let number = turn.number;
        let answer = self.ask(|answer| Request::Turn { turn, answer }).await;
        answer.unwrap_or(Answer::Failed { number, fault: StoreFault::Io })
    }

    /// Reads rows of a local session's queue: answers [`Answer::Rows`] or [`Answer::Unread`]. Rows that do not decode are left out and counted.
    pub async fn read(&self, read: Read) -> Answer {
        let number = read.number;
        let answer = self.ask(|answer| Request::Read { read, answer }).await;
        answer.unwrap_or(Answer::Unread { number, fault: StoreFault::Io })
    }

    /// Waits for [`Answer::Reset`]: what was stored for the broker was replaced, because the database was damaged and salvaged, or came back after
    /// a fault. Until it has been taken here, every turn and read fails with [`StoreFault::Corrupt`]. Cancel safe; for one caller at a time.
    pub async fn next_broker_reset(&self) -> Answer {
        Answer::Reset { found: self.resets.next_broker().await }
    }

    /// Keeps a schema. It is written with the next rows of any queue unless the database holds it already.
    pub async fn learn_schema(&self, id: u64, bytes: &[u8]) {
        self.tell(Request::LearnSchema { id, bytes: bytes.into() }).await;
    }

    /// Every schema: those of stored rows and those learned in this run, by id.
    pub async fn schemas(&self) -> Vec<(u64, Vec<u8>)> {
        self.ask(|answer| Request::Schemas { answer }).await.unwrap_or_default()
    }

    /// Notes the wall time of a boot moment, from a trusted clock. It is written with the next rows, or at once when rows of
    /// that boot are stored; a change of less than 100 ms is not written.
    pub async fn note_boot(&self, boot: BootId, wall: WallMs) {
        self.tell(Request::NoteBoot { boot, wall }).await;
    }

    /// Wall times of boot moments: those of stored rows and those noted in this run.
    pub async fn clock_history(&self) -> Vec<(BootId, WallMs)> {
        self.ask(|answer| Request::ClockHistory { answer }).await.unwrap_or_default()
    }

    /// How the store is, as of its last transaction.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        self.health.borrow().clone()
    }

    /// Whether the writer has something to do, and whether it comes round.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pulse.pace()
    }

    /// Keeps the writer's thread from everything else until the answer is dropped or sends.
    #[cfg(test)]
    pub(crate) async fn hold(&self) -> std::sync::mpsc::SyncSender<()> {
        let (release, until) = std::sync::mpsc::sync_channel(1);
        self.tell(Request::Hold(until)).await;
        release
    }

    /// A fault of the program in the writer's thread.
    #[cfg(test)]
    pub(crate) async fn panic(&self) {
        self.tell(Request::Panic).await;
    }

    /// Carries out what waits, copies the log into the database and closes it. Later ops fail.
    ///
    /// # Errors
    /// The fault that kept the file from being closed cleanly; nothing stored is lost by it.
    pub async fn close(&self) -> Result<(), StoreFault> {
        self.ask(|answer| Request::Close { answer }).await.unwrap_or(Ok(()))
    }

    async fn tell(&self, request: Request) {
        // A closed store needs to learn nothing.
        let _ = self.requests.send(request).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let _waiting = self.pulse.wait();
        self.requests.send(request(answer)).await.ok()?;
        answered.await.ok()
    }
}

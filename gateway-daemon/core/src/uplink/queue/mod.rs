//! A durable queue: rows that wait in memory for at most `commit_interval`, then on disk, until their acknowledgement comes.
//!
//! The queue decides, the store obeys ([`StoreOp`] out of [`Queue::poll_op`], [`StoreEvent`] into [`Queue::store`]); one op is under way
//! at a time. A reader (the uplink, later a local session) is attached while its link is up and takes rows with [`Queue::take`].
//!
//! ```text
//!             publish            Commit asked          Committed
//!   (nothing) -------> in memory -----------> committing --------> on disk --> unloaded, only counted
//!                          |                      |                  |  ^            |
//!                          | ack: forgotten,      | ack: deleted     |  +--- Fetch --+
//!                          v      nothing written v      afterwards  v ack: deleted in the next Commit
//! ```
//!
//! Invariants:
//! - [`Ledger::check`] holds after every call.
//! - Every seq on disk is at most `committed_to`, every seq only in memory is above it; a commit takes the oldest rows of memory.
//! - Every row on disk with a seq at most `cursor` is loaded, set aside or waits for its deletion; rows above it are only counted.
//! - A row that is set aside stays stored, is never handed out, and no limit of the queue counts or deletes it (module `aside`).
//! - A row in flight is dropped only when the link refuses it.
//! - With acknowledgements inside `commit_interval` no op is ever asked for.
//!
//! Bounds: rows only in memory by [`QueueSettings::memory`]; rows loaded from disk by one fetch ([`FETCH_ROWS_MAX`], [`FETCH_BYTES_MAX`])
//! on top of half a fetch and the window; fresh rows that stay when they are written, by the window and [`FETCH_BYTES_MAX`]; deletions waiting by [`DELETE_RANGES_MAX`] plus the window. It never renders a message, never
//! reads a clock and never waits.

mod admission;
mod answers;
mod aside;
mod lanes;
mod ledger;
mod message;
mod ops;
mod ranges;
mod rescue;
mod upkeep;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::aside::Aside;
use self::ops::{Pending, Planned, Retry};
use self::ranges::Ranges;
use super::mutant::Faults;
#[cfg(feature = "mutants")]
use super::mutant::Mutant;
use super::pace::Pace;
#[cfg(doc)]
use super::row::StoreEvent;
use super::row::{Row, Seq, StoreFault, StoreOp, Stored, Tally};
use super::settings::{Drain, Limits, Settings};
use crate::settings::Durability;
use crate::tag::{BootId, BootNs, RunId};

pub use self::lanes::Taken;
pub use self::ledger::{DropReason, Imbalance, Ledger};
pub use self::message::{Fate, Lane, Message, Receipt, Waiting};

/// Most rows of one commit: a transaction of some ten milliseconds on an SD card, so that a fetch never waits long behind it.
pub const COMMIT_ROWS_MAX: usize = 1000;
/// Most bytes of one commit, beyond its first row.
pub const COMMIT_BYTES_MAX: u64 = 1 << 20;
/// Most rows of one fetch: enough for several round trips of a large window, little enough for memory.
pub const FETCH_ROWS_MAX: u32 = 512;
/// Most bytes of one fetch, beyond its first row.
pub const FETCH_BYTES_MAX: u64 = 512 << 10;
/// Most rows deleted to make room in one op, so that one op stays short.
pub const TRIM_ROWS_MAX: u64 = 10_000;
/// Most ranges of seqs that wait for their deletion before the backlog pauses.
pub const DELETE_RANGES_MAX: usize = 4096;
/// So many rows waiting for their deletion are deleted without waiting for the interval: what a crash makes the cloud see twice.
pub const DELETE_ROWS_EARLY: u64 = 10_000;
/// Most former boots whose beginning is remembered for the age of restored rows.
pub const BOOTS_MAX: usize = 64;
/// Most rows only in memory by default: some seconds of a busy gateway while its store fails.
pub const MEMORY_ROWS_MAX: u64 = 10_000;
/// Most rows set aside because the cloud will not take them; the oldest goes, counted as dropped.
pub const ASIDE_ROWS_MAX: usize = 1000;
/// Most bytes set aside, as [`Row::size`] counts: a person can look through them, and they leave the file to readings.
pub use crate::uplink::settings::ASIDE_BYTES_MAX;
/// Most bytes only in memory by default.
pub const MEMORY_BYTES_MAX: u64 = 4 << 20;

/// What a queue needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// Limits of memory and disk together, and what happens then.
    pub limits: Limits,
    /// How long a row may stay only in memory.
    pub commit_interval: Duration,
    /// Whether rows are on disk before they are sent.
    pub durability: Durability,
    /// In which order rows are sent after an outage.
    pub drain: Drain,
    /// Most rows in flight; steers how far ahead the backlog is read.
    pub window: u16,
    /// Bounds of what is only in memory while the store takes nothing.
    pub memory: Memory,
}

/// Bounds of what is only in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Most rows.
    pub rows_max: u64,
    /// Most bytes, as [`Row::size`] counts.
    pub bytes_max: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { rows_max: MEMORY_ROWS_MAX, bytes_max: MEMORY_BYTES_MAX }
    }
}

impl From<&Settings> for QueueSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            limits: settings.limits,
            commit_interval: settings.commit_interval,
            durability: settings.durability,
            drain: settings.drain,
            window: settings.window,
            memory: Memory::default(),
        }
    }
}

/// What happened to a queue, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Commits and replacements asked of the store.
    pub writes_total: u64,
    /// Fetches asked of the store.
    pub reads_total: u64,
    /// Trims asked of the store.
    pub trims_total: u64,
    /// Ops that the store could not carry out.
    pub store_failures_total: u64,
    /// Answers of the store that fit no op under way, or contradict the counts.
    pub odd_answers_total: u64,
    /// Databases replaced under the queue.
    pub resets_total: u64,
    /// Rows fetched and thrown away because the link was lost meanwhile.
    pub fetched_in_vain_rows_total: u64,
    /// Rows sent again.
    pub resent_rows_total: u64,
    /// Most rows ever only in memory.
    pub memory_peak_rows: u64,
    /// Rows set aside because the cloud will not take them.
    pub set_aside_rows_total: u64,
    /// Rows set aside and put back by hand.
    pub put_back_rows_total: u64,
}

/// A row whose body is in memory.
#[derive(Debug)]
struct Entry {
    row: Arc<Row>,
    queued: BootNs,
    in_flight: bool,
    /// When it was handed to the link last.
    since: BootNs,
    /// Handed to the link before, in this run.
    sent: bool,
    /// In memory since it was published: never read from disk as a part of the backlog.
    fresh: bool,
    /// Who waits for its receipt.
    waiting: Waiting,
}

/// Rows per [`Priority`], an estimate that steers which rows a trim asks for.
type PerPriority = [u64; 2];

/// A durable queue. See the module.
#[derive(Debug)]
pub struct Queue {
    settings: QueueSettings,
    run: RunId,
    ledger: Ledger,
    counters: Counters,
    faults: Faults,
    next_seq: Seq,
    entries: BTreeMap<Seq, Entry>,
    /// Waiting rows that may be sent as live.
    live: BTreeSet<Seq>,
    /// Waiting rows fetched from disk.
    backlog: BTreeSet<Seq>,
    in_flight: usize,
    /// Rows in flight in the order in which they were handed to the link; ones that are not any more are never the first.
    departures: VecDeque<(BootNs, Seq)>,
    /// How fast the reader answers.
    pace: Pace,
    /// Entries that are on disk too.
    loaded: Tally,
    loaded_rows: PerPriority,
    stored_rows: PerPriority,
    cursor: Seq,
    committed_to: Seq,
    /// Settled rows on disk.
    deletes: Ranges,
    deletes_since: Option<BootNs>,
    pending: Option<Pending>,
    planned: Option<Planned>,
    next_op: u64,
    attached: bool,
    /// Grows when what was read from disk must not be trusted any more.
    generation: u64,
    write_retry: Retry,
    read_retry: Retry,
    fault: Option<StoreFault>,
    trimmed_last: bool,
    /// Drop-newest: what high rows displaced on disk and a trim has yet to free.
    owed: Tally,
    flush: bool,
    thinned_to: Seq,
    age_at: Option<BootNs>,
    boots: VecDeque<(BootId, Duration)>,
    receipts: VecDeque<Receipt>,
    /// Rows whose publishers are held up until they are safe.
    urgent: usize,
    /// Rows that are not sent because the cloud will not take them.
    aside: Aside,
}

impl Queue {
    /// A queue that finds `stored` in its store.
    #[must_use]
    pub fn new(settings: QueueSettings, run: RunId, stored: Stored) -> Self {
        let mut ledger = Ledger::default();
        ledger.restore(stored.normal);
        ledger.restore(stored.high);
        let any = ledger.stored.rows > 0;
        Self {
            settings,
            run,
            ledger,
            counters: Counters::default(),
            faults: Faults::default(),
            next_seq: Seq(stored.last.0.saturating_add(1)),
            entries: BTreeMap::new(),
            live: BTreeSet::new(),
            backlog: BTreeSet::new(),
            in_flight: 0,
            departures: VecDeque::new(),
            pace: Pace::default(),
            loaded: Tally::default(),
            loaded_rows: [0; 2],
            stored_rows: [stored.normal.rows, stored.high.rows],
            cursor: Seq(stored.first.0.saturating_sub(1)),
            committed_to: stored.last,
            deletes: Ranges::default(),
            deletes_since: None,
            pending: None,
            planned: None,
            next_op: 1,
            attached: false,
            generation: 0,
            write_retry: Retry::default(),
            read_retry: Retry::default(),
            fault: None,
            trimmed_last: false,
            owed: Tally::default(),
            flush: false,
            thinned_to: Seq(0),
            age_at: any.then_some(BootNs(0)),
            boots: VecDeque::new(),
            receipts: VecDeque::new(),
            urgent: 0,
            aside: Aside::default(),
        }
    }

    /// Switches a deliberate fault on.
    #[cfg(feature = "mutants")]
    pub fn mutate(&mut self, mutant: Mutant) {
        self.faults = Faults::of(mutant);
    }

    /// Takes a message and gives it its number. When the queue is full its policy decides which message is dropped: this one, or
    /// others; [`Ledger`] counts it either way, and the number is used up so that a consumer sees the hole.
    pub fn publish(&mut self, now: BootNs, message: Message) -> Seq {
        let seq = self.next_seq;
        self.next_seq = Seq(seq.0.saturating_add(1));
        let waiting = message.waiting;
        let row = Arc::new(Row {
            seq,
            priority: message.priority,
            topic: message.topic,
            qos: message.qos,
            retain: message.retain,
            body: message.body,
            readings: message.readings,
            run: self.run,
            at: message.at,
            expiry_s: message.expiry_s,
        });
        let tally = tally(&row);
        self.ledger.produce(tally);
        match self.make_room(now, &row) {
            Err(reason) => {
                self.ledger.lose(tally, false, reason);
                if waiting != Waiting::Nobody {
                    self.receipts.push_back(Receipt { seq, fate: Fate::Dropped(reason) });
                }
            }
            Ok(()) => {
                if self.sendable_before_commit() {
                    self.live.insert(seq);
                }
                self.urgent += usize::from(waiting == Waiting::Urgent);
                let since = now;
                let (in_flight, sent, fresh) = (false, false, true);
                self.entries.insert(seq, Entry { row, queued: now, in_flight, since, sent, fresh, waiting });
            }
        }
        self.counters.memory_peak_rows = self.counters.memory_peak_rows.max(self.ledger.in_memory.rows);
        self.debug_check();
        seq
    }

    /// The next op for the store, if one is due. Carry it out and answer with [`Self::store`]; until then there is no other.
    pub fn poll_op(&mut self, now: BootNs) -> Option<StoreOp> {
        let op = self.next_op(now);
        self.debug_check();
        op
    }

    /// Word about messages whose publishers wait. The caller takes it after every other call, so only what one call settles ever waits here.
    pub fn poll_receipt(&mut self) -> Option<Receipt> {
        self.receipts.pop_front()
    }

    /// Everything in memory goes to disk at once, and settled rows are deleted at once, from here on: the daemon is about to stop.
    pub fn flush(&mut self) {
        self.flush = true;
        self.write_retry.succeeded();
    }

    /// Whether nothing is left to write.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        let told = self.deletes.is_empty() && !self.aside.marks_are_due();
        self.pending.is_none() && told && self.ledger.in_memory.rows == 0
    }

    /// Says how long before this boot another one began, so that the age of its rows is known exactly. Without it such a row is as
    /// old as this boot at least.
    pub fn boot_began(&mut self, boot: BootId, before: Duration) {
        self.boots.retain(|(known, _)| *known != boot);
        if self.boots.len() >= BOOTS_MAX {
            self.boots.pop_front();
        }
        self.boots.push_back((boot, before));
        if self.settings.limits.age_max.is_some() && self.unloaded() > 0 {
            self.age_at = Some(BootNs(0));
        }
    }

    /// What it may hold, and what happens beyond that.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Where every message is.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// What is wrong with the store, until an op succeeds again.
    #[must_use]
    pub fn fault(&self) -> Option<StoreFault> {
        self.fault
    }

    /// The number the next message gets.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// Rows in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Rows whose bodies are in memory, whether or not they are on disk too.
    #[must_use]
    pub fn loaded_rows(&self) -> usize {
        self.entries.len()
    }

    /// When the oldest row that is only in memory was published.
    #[must_use]
    pub fn oldest_in_memory(&self) -> Option<BootNs> {
        self.memory().next().map(|(_, entry)| entry.queued)
    }

    /// When the oldest fresh row was given to the queue that waits to be sent, whether it is on disk or not.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<BootNs> {
        let seq = self.live.first()?;
        self.entries.get(seq).map(|entry| entry.queued)
    }

    /// Whether an op is under way or the store is being left alone after a failure.
    #[must_use]
    pub fn store_busy(&self, now: BootNs) -> bool {
        self.pending.is_some() || !self.write_retry.is_over(now)
    }

    /// Whether no op is under way or decided: what the store holds then is what is stored and what waits for its deletion.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_none() && self.planned.is_none()
    }

    /// Settled rows that are still on disk and not part of an op under way.
    #[must_use]
    pub fn deletes_waiting(&self) -> u64 {
        self.deletes.rows()
    }

    /// Whether every message is accounted for.
    ///
    /// # Errors
    /// Both sides of the equation.
    pub fn check(&self) -> Result<(), Imbalance> {
        self.ledger.check()
    }

    /// Counts everything again from the rows themselves; slow, for tests.
    ///
    /// # Errors
    /// Which count is wrong.
    pub fn audit(&self) -> Result<(), String> {
        self.check().map_err(|imbalance| imbalance.to_string())?;
        let mut in_memory = Tally::default();
        let mut loaded = Tally::default();
        let mut in_flight = 0;
        let mut waiting = 0;
        let mut urgent = 0;
        for (seq, entry) in &self.entries {
            if *seq <= self.committed_to { &mut loaded } else { &mut in_memory }.add_row(&entry.row);
            in_flight += usize::from(entry.in_flight);
            urgent += usize::from(entry.waiting == Waiting::Urgent);
            waiting += usize::from(self.live.contains(seq)) + usize::from(self.backlog.contains(seq));
        }
        let expect =
            |name: &str, right: bool| if right { Ok(()) } else { Err(format!("{name} is miscounted")) };
        expect("in_memory", in_memory == self.ledger.in_memory)?;
        expect("loaded", loaded == self.loaded)?;
        expect("in_flight", in_flight == self.in_flight)?;
        expect("live and backlog", waiting == self.live.len() + self.backlog.len())?;
        expect("urgent", urgent == self.urgent)?;
        expect("set aside", self.aside.audit(|seq| self.entries.contains_key(&seq)))?;
        let held = self.entries.keys().filter(|seq| self.aside.holds(**seq));
        expect("rows set aside in memory", held.count() == self.aside.in_memory_rows())?;
        let known = self.loaded.rows + self.aside.on_disk().rows;
        expect("the cursor", known <= self.ledger.stored.rows)
    }

    fn sendable_before_commit(&self) -> bool {
        self.settings.durability == Durability::Interval
            || self.faults.has(super::mutant::Mutant::SendBeforeCommit)
    }

    /// Rows on disk of which only the count is in memory.
    fn unloaded(&self) -> u64 {
        self.ledger.stored.rows.saturating_sub(self.loaded.rows).saturating_sub(self.aside.on_disk().rows)
    }

    fn debug_check(&self) {
        if cfg!(debug_assertions) && !self.faults.any() {
            let balance = self.ledger.check();
            debug_assert!(balance.is_ok(), "{balance:?}");
        }
    }
}

/// One row as a count.
fn tally(row: &Row) -> Tally {
    Tally { rows: 1, readings: u64::from(row.readings), bytes: row.size() }
}

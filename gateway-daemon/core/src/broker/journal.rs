//! The list of changes that must survive, cut into turns.
//!
//! A [`Turn`] is one transaction; one is under way at a time. It takes everything that is dirty, except what may wait and is not tied to
//! anything else, so that one waiting publisher does not drag the whole memory to the SD card:
//!
//! - *loose rows* ([`Due::Soon`]): rows of connected sessions whose PUBACK comes from the publisher's own waiting. They usually
//!   annihilate. They go when the oldest dirty row of their queue has waited, and any turn takes them once half of that time is over, so that
//!   slow queues do not make a turn each. Within a queue the rows of a turn are always a beginning of what is dirty: whatever is durable of a queue is
//!   everything up to one seq.
//! - *lazy facts* ([`Due::Lazy`]): retained messages nobody waits for. Only the last of each topic is written.
//!
//! Everything else (all other facts, deletes, drops, rows [`Due::Now`]) goes with the next turn, in one transaction. So what belongs together must only be
//! changed between two calls of [`Journal::poll`]: a received identifier with the rows of its message (which are [`Due::Now`]), the
//! delete of a row with its released identifier, a drop with what is made anew.
//!
//! A row that is deleted before its turn *annihilates*: nothing is written, and its ticket is settled, because its reader has it. A row of the
//! turn under way is deleted by the next one. A turn that failed is joined with what changed meanwhile and asked again after a pause that doubles
//! from [`PAUSE_MIN`] to [`PAUSE_MAX`]; it may have reached the disk all the same, so its rows are deleted for certain.
//!
//! Rows of a connected session that somebody waits for are due, too, as soon as its reader counts as slow ([`Journal::slow_from`]); the others, before
//! them in their queue or not, are not dragged along further than the order of the queue asks for.
//!
//! Bounds: above `dirty_bytes_max` ([`Journal::is_full`]) the broker holds publishers; the journal itself refuses nothing, and everything it has is due
//! at once, loose rows and lazy facts as well: whatever is held, something is due or under way. A turn takes rows and lazy facts up to [`TURN_BYTES_MAX`]; the
//! rest goes with the next ones. Split are only changes that are not tied to one another: rows of QoS 0 and 1, whose publishers are told after the last
//! of them, and lazy facts. A row of QoS 2 goes with the identifier of its publisher, whatever it weighs; rows of one message share its bytes.

mod dirty;
#[cfg(test)]
pub(super) mod disk;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use dirty::{DirtyFact, DirtyQueue, DirtyRow};
use turn::UnderWay;

use super::Ticket;
use super::change::{Answer, FactKey, FactKind, QueueName, Turn};
use super::facts::Value;
use super::mutant::{Faults, Mutant};
use super::packet::Delivery;
use crate::tag::{BootNs, RunId};
use crate::uplink::row::{Qos, Seq, StoreFault};

/// Pause after the first failure: a busy card is well again by then.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause: a full disk needs a person, and publishers are held meanwhile.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Most bytes of rows and lazy facts in one turn, but at least one of them: some tenths of a second of a slow card, and what is encoded at a time.
pub(super) const TURN_BYTES_MAX: u64 = 4 << 20;

/// How a journal does its work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// This run of the daemon, written into rows.
    pub(super) run: RunId,
    /// How long rows of connected sessions and deletes wait.
    pub(super) commit_interval: Duration,
    /// How long retained messages wait that nobody waits for.
    pub(super) retained_interval: Duration,
    /// Bytes above which publishers are held.
    pub(super) dirty_bytes_max: u64,
}

/// When a change has to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// With the next turn, which is asked for at once: somebody waits, or it is tied to something that is.
    Now,
    /// Within the commit interval.
    Soon,
    /// Within the retained interval.
    Lazy,
}

/// A queue that the journal knows; valid until it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(u32);

/// A place in the history: durable with the turn of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(u64);

impl Position {
    /// Durable before this run.
    pub(super) const PAST: Self = Self(0);
}

/// Rows of a queue became durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// Which queue.
    pub(super) queue: QueueName,
    /// Everything of it up to here is durable, if it was inserted at all; `None`: only deletes or facts of it.
    pub(super) until: Option<Seq>,
}

/// What is dirty and what is under way.
#[derive(Debug)]
pub(super) struct Journal {
    settings: Settings,
    names: BTreeMap<QueueName, Slot>,
    queues: Vec<DirtyQueue>,
    free: Vec<Slot>,
    /// Queues with anything dirty.
    dirty: Vec<Slot>,
    /// Facts of the next turn.
    facts: BTreeMap<FactKey, DirtyFact>,
    lazy: BTreeMap<FactKey, DirtyFact>,
    /// When `lazy` is due.
    lazy_at: Option<BootNs>,
    /// When facts and deletes are due.
    tight_at: Option<BootNs>,
    /// When rows may be due; too early after annihilations.
    rows_at: Option<BootNs>,
    /// Something is due now.
    urgent: bool,
    /// Something for the next turn has changed that cannot annihilate.
    fresh: bool,
    flushing: bool,
    number: u64,
    done: u64,
    under_way: Option<UnderWay>,
    safe: VecDeque<Ticket>,
    progress: VecDeque<Progress>,
    dirty_bytes: u64,
    failures: u32,
    paused_until: Option<BootNs>,
    fault: Option<StoreFault>,
    faults: Faults,
    /// A mutant calls what was changed last durable.
    lies: bool,
}

impl Journal {
    /// A journal with nothing in it.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            names: BTreeMap::new(),
            queues: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            facts: BTreeMap::new(),
            lazy: BTreeMap::new(),
            lazy_at: None,
            tight_at: None,
            rows_at: None,
            urgent: false,
            fresh: false,
            flushing: false,
            number: 0,
            done: 0,
            under_way: None,
            safe: VecDeque::new(),
            progress: VecDeque::new(),
            dirty_bytes: 0,
            failures: 0,
            paused_until: None,
            fault: None,
            faults: Faults::default(),
            lies: false,
        }
    }

    /// Switches a deliberate fault on.
    #[cfg(feature = "mutants")]
    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// The fault that is switched on.
    pub(super) fn faults(&self) -> Faults {
        self.faults
    }

    /// This run.
    pub(super) fn run(&self) -> RunId {
        self.settings.run
    }

    /// The slot of a queue, which exists in the store or will when its first row is written.
    pub(super) fn open(&mut self, queue: &QueueName) -> Slot {
        let slot = match self.names.get(queue) {
            Some(slot) => *slot,
            None => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.queues.push(DirtyQueue::default());
                    Slot(u32::try_from(self.queues.len() - 1).unwrap_or(u32::MAX))
                });
                self.names.insert(Arc::clone(queue), slot);
                slot
            }
        };
        let state = self.queue(slot);
        state.name = Some(Arc::clone(queue));
        state.open = true;
        slot
    }

    /// The queue goes with all its rows; their tickets are settled. Its slot is not valid any more; [`Journal::open`] gives one for a queue
    /// of the same name.
    pub(super) fn drop_queue(&mut self, queue: &QueueName) {
        let slot = self.open(queue);
        let state = self.queue(slot);
        state.open = false;
        state.dropped = true;
        state.deletes.clear();
        for row in state.empty() {
            self.dirty_bytes -= row.size;
            self.safe.extend(row.ticket);
        }
        self.list(slot);
        // What is known of it is nothing to a queue of the same name that is made anew.
        self.progress.retain(|progress| progress.queue != *queue);
        (self.urgent, self.fresh) = (true, true);
    }

    /// A row at the end of a queue, or one in memory that the store has lost: then one that is dirty anyway stays as it is, and there is no
    /// ticket.
    pub(super) fn insert(
        &mut self,
        now: BootNs,
        slot: Slot,
        row: (Seq, Delivery),
        ticket: Option<Ticket>,
        due: Due,
    ) {
        let (seq, delivery) = row;
        let ticket = self.belie(
            ticket,
            match delivery.message.qos {
                Qos::ExactlyOnce => Mutant::ReceiveBeforeCommit,
                _ => Mutant::AckBeforeCommit,
            },
        );
        let at = now.plus(self.interval(due));
        let size = delivery.cost();
        let state = self.queue(slot);
        if due == Due::Now {
            state.urgent_to = state.urgent_to.max(Some(seq));
        }
        let pushed = state.push(DirtyRow { seq, delivery, ticket, due: at, size, tried: false });
        let waited_for_at = state.waited_for_at();
        self.list(slot);
        self.dirty_bytes += if pushed { size } else { 0 };
        self.urgent |= due == Due::Now;
        self.rows_at = earlier(self.rows_at, earlier(Some(at), waited_for_at));
    }

    /// From when on the reader of a queue counts as slow unless it answers before; `None`: it does not, or there is none. Its rows that somebody waits
    /// for are due then.
    pub(super) fn slow_from(&mut self, slot: Slot, at: Option<BootNs>) {
        let state = self.queue(slot);
        state.slow_at = at;
        if let Some(at) = state.waited_for_at() {
            self.rows_at = earlier(self.rows_at, Some(at));
        }
    }

    /// How long rows of connected sessions may wait.
    pub(super) fn commit_interval(&self) -> Duration {
        self.settings.commit_interval
    }

    /// A row goes. `true` if it annihilates: nothing of it is written.
    pub(super) fn delete(&mut self, now: BootNs, slot: Slot, seq: Seq, due: Due) -> bool {
        let state = self.queue(slot);
        if let Some(row) = state.take(seq) {
            self.dirty_bytes -= row.size;
            self.safe.extend(row.ticket);
            if !row.tried {
                return true;
            }
        } else if self.faults.has(Mutant::AnnihilateUnderWay) && self.is_under_way(slot, seq) {
            return true;
        }
        self.delete_range(now, slot, (seq, seq), due);
        false
    }

    /// Durable rows go; first and last are included.
    pub(super) fn delete_range(&mut self, now: BootNs, slot: Slot, seqs: (Seq, Seq), due: Due) {
        let at = now.plus(self.interval(due));
        self.queue(slot).add_delete(seqs);
        self.list(slot);
        self.want(at, due);
    }

    /// A fact takes the place of the one before.
    pub(super) fn put(&mut self, now: BootNs, fact: FactKey, value: Value, ticket: Option<Ticket>, due: Due) {
        self.change(now, fact, Some(value), ticket, due);
    }

    /// A fact goes.
    pub(super) fn remove(&mut self, now: BootNs, fact: FactKey, ticket: Option<Ticket>, due: Due) {
        self.change(now, fact, None, ticket, due);
    }

    /// A session went away: its rows cannot annihilate, so they are due now.
    pub(super) fn hasten(&mut self, slot: Slot) {
        let state = self.queue(slot);
        state.slow_at = None;
        if !state.rows.is_empty() {
            state.hasten();
            self.urgent = true;
        }
    }

    /// The turn to ask for, if one is due and none is under way.
    pub(super) fn poll(&mut self, now: BootNs) -> Option<Turn> {
        if self.under_way.is_some() || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        let due = |at: Option<BootNs>| at.is_some_and(|at| at <= now);
        if self.urgent || self.flushing || self.is_full() || due(self.lazy_at) || due(self.tight_at) {
            return self.build(now);
        }
        if due(self.rows_at) {
            // Annihilations may have left nothing that is due.
            self.rows_at = self.first_row();
        }
        if due(self.rows_at) { self.build(now) } else { None }
    }

    /// When [`Journal::poll`] has something to do; early is harmless.
    pub(super) fn poll_timeout(&self, now: BootNs) -> Option<BootNs> {
        if self.under_way.is_some() {
            return None;
        }
        let flushing = self.flushing && !self.is_clean();
        let due = if self.urgent || flushing || self.is_full() {
            Some(now)
        } else {
            earlier(self.lazy_at, earlier(self.tight_at, self.rows_at))
        };
        due.map(|due| self.paused_until.map_or(due, |until| due.max(until)))
    }

    /// What the store says. After it, take [`Journal::next_safe`] and [`Journal::next_progress`] until there are none, and look
    /// again at replies that wait for a position.
    pub(super) fn answer(&mut self, now: BootNs, answer: &Answer) {
        match answer {
            Answer::Done { number } => self.done(*number),
            Answer::Failed { number, fault } => self.failed(now, *number, *fault),
            Answer::Rows { .. } | Answer::Unread { .. } => {}
            Answer::Reset { .. } => self.replaced(),
        }
    }

    /// The database was replaced.
    pub(super) fn replaced(&mut self) {
        self.paused_until = None;
        // It was true of the database before.
        self.progress.clear();
    }

    /// One ticket of something that became safe: durable, annihilated, or dropped with its queue. One for each that was given.
    pub(super) fn next_safe(&mut self) -> Option<Ticket> {
        self.safe.pop_front()
    }

    /// Whether somebody waits for [`Journal::next_safe`] or [`Journal::next_progress`] to be taken.
    pub(super) fn has_news(&self) -> bool {
        !self.safe.is_empty() || !self.progress.is_empty()
    }

    /// A queue of which something became durable.
    pub(super) fn next_progress(&mut self) -> Option<Progress> {
        self.progress.pop_front()
    }

    /// The place of what was changed last, loose rows and lazy facts aside: durable when this is.
    pub(super) fn position(&self) -> Position {
        match &self.under_way {
            _ if self.lies => Position::PAST,
            _ if self.fresh => Position(self.number + 1),
            Some(turn) => Position(turn.number),
            None => Position(self.done),
        }
    }

    /// Whether everything up to a position is durable.
    pub(super) fn is_durable(&self, position: Position) -> bool {
        position.0 <= self.done
    }

    /// Bytes that are only in memory and have to survive, those under way included.
    pub(super) fn dirty_bytes(&self) -> u64 {
        self.dirty_bytes
    }

    /// Whether publishers have to be held.
    pub(super) fn is_full(&self) -> bool {
        self.dirty_bytes >= self.settings.dirty_bytes_max
    }

    /// The process stops: everything is due now, from here on.
    pub(super) fn flush(&mut self) {
        self.flushing = true;
    }

    /// Nothing is dirty and nothing is under way.
    pub(super) fn is_clean(&self) -> bool {
        let rows = self.dirty.iter().any(|slot| !self.queues[slot.0 as usize].is_empty());
        !rows && self.facts.is_empty() && self.lazy.is_empty() && self.under_way.is_none()
    }

    /// Why the last turn failed, until one is done.
    pub(super) fn fault(&self) -> Option<StoreFault> {
        self.fault
    }

    fn interval(&self, due: Due) -> Duration {
        match due {
            Due::Now => Duration::ZERO,
            Due::Soon => self.settings.commit_interval,
            Due::Lazy => self.settings.retained_interval,
        }
    }

    /// Something that cannot annihilate is due.
    fn want(&mut self, at: BootNs, due: Due) {
        self.urgent |= due == Due::Now;
        self.fresh = true;
        self.tight_at = earlier(self.tight_at, Some(at));
    }

    fn queue(&mut self, slot: Slot) -> &mut DirtyQueue {
        &mut self.queues[slot.0 as usize]
    }

    fn list(&mut self, slot: Slot) {
        let state = self.queue(slot);
        if !std::mem::replace(&mut state.listed, true) {
            self.dirty.push(slot);
        }
    }

    fn change(&mut self, now: BootNs, fact: FactKey, value: Option<Value>, ticket: Option<Ticket>, due: Due) {
        self.lies = match fact.kind {
            FactKind::Received => value.is_none() && self.faults.has(Mutant::CompleteBeforeCommit),
            FactKind::Subscription => self.faults.has(Mutant::SubscribeBeforeCommit),
            _ => false,
        };
        let ticket = match fact.kind {
            FactKind::Received => self.belie(ticket, Mutant::ReceiveBeforeCommit),
            FactKind::Retained => self.belie(ticket, Mutant::RetainBeforeCommit),
            _ => ticket,
        };
        let mut dirty = DirtyFact::new(&fact, value);
        dirty.tickets.extend(ticket);
        self.dirty_bytes += dirty.size;
        let lazy = due == Due::Lazy && ticket.is_none() && !self.facts.contains_key(&fact);
        if lazy {
            let at = now.plus(self.settings.retained_interval);
            self.lazy_at.get_or_insert(at);
            if let Some(old) = self.lazy.insert(fact, dirty) {
                self.dirty_bytes -= old.size;
            }
            return;
        }
        if let Some(old) = self.lazy.remove(&fact) {
            self.dirty_bytes -= old.size;
        }
        if let Some(mut old) = self.facts.remove(&fact) {
            self.dirty_bytes -= old.size;
            old.tickets.append(&mut dirty.tickets);
            dirty.tickets = old.tickets;
        }
        self.facts.insert(fact, dirty);
        self.want(now.plus(self.interval(due)), due);
    }

    /// A ticket, unless a mutant settles it too early.
    fn belie(&mut self, ticket: Option<Ticket>, mutant: Mutant) -> Option<Ticket> {
        if !self.faults.has(mutant) {
            return ticket;
        }
        self.safe.extend(ticket);
        None
    }

    fn first_row(&self) -> Option<BootNs> {
        self.dirty.iter().filter_map(|slot| self.queues[slot.0 as usize].due()).min()
    }
}

fn earlier(one: Option<BootNs>, other: Option<BootNs>) -> Option<BootNs> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

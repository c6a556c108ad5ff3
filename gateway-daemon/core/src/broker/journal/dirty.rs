//! What is dirty of one queue and of one fact.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::broker::Ticket;
use crate::broker::change::{Change, FactKey, QueueName};
use crate::broker::facts::{self, Value};
use crate::broker::packet::Delivery;
use crate::tag::{BootId, BootNs, RunId};
use crate::uplink::row::{Qos, Row, Seq};

/// A row that is not durable. It becomes bytes when its turn comes.
#[derive(Debug)]
pub(super) struct DirtyRow {
    pub(super) seq: Seq,
    pub(super) delivery: Delivery,
    pub(super) ticket: Option<Ticket>,
    pub(super) due: BootNs,
    /// Bytes of memory.
    pub(super) size: u64,
    /// It was in a turn that failed and may be durable all the same.
    pub(super) tried: bool,
}

/// What is dirty of a queue, in the order in which it is carried out.
#[derive(Debug, Default)]
pub(super) struct DirtyQueue {
    pub(super) name: Option<QueueName>,
    /// The broker has a use for it.
    pub(super) open: bool,
    /// Everything it held before goes.
    pub(super) dropped: bool,
    /// Durable rows that go: first and last seq.
    pub(super) deletes: Vec<(Seq, Seq)>,
    /// Ascending by seq.
    pub(super) rows: VecDeque<DirtyRow>,
    /// Rows up to here are due now.
    pub(super) urgent_to: Option<Seq>,
    /// From here on its reader counts as slow, unless it answers before: then rows that somebody waits for are due.
    pub(super) slow_at: Option<BootNs>,
    /// Rows that somebody waits for.
    pub(super) waiting: usize,
    /// In the journal's list of dirty queues.
    pub(super) listed: bool,
}

impl DirtyQueue {
    /// Adds a row, nearly always at the end. `false` if it is there already.
    pub(super) fn push(&mut self, row: DirtyRow) -> bool {
        let waiting = usize::from(row.ticket.is_some());
        let pushed = self.place(row);
        self.waiting += if pushed { waiting } else { 0 };
        pushed
    }

    fn place(&mut self, row: DirtyRow) -> bool {
        if self.rows.back().is_none_or(|last| last.seq < row.seq) {
            self.rows.push_back(row);
            return true;
        }
        match self.rows.binary_search_by_key(&row.seq, |other| other.seq) {
            Ok(_) => false,
            Err(place) => {
                self.rows.insert(place, row);
                true
            }
        }
    }

    /// Takes a row out.
    pub(super) fn take(&mut self, seq: Seq) -> Option<DirtyRow> {
        let row = if self.rows.front()?.seq == seq {
            self.rows.pop_front()
        } else {
            let place = self.rows.binary_search_by_key(&seq, |row| row.seq).ok()?;
            self.rows.remove(place)
        }?;
        self.waiting -= usize::from(row.ticket.is_some());
        Some(row)
    }

    /// Whether a row is here.
    pub(super) fn holds(&self, seq: Seq) -> bool {
        self.rows.binary_search_by_key(&seq, |row| row.seq).is_ok()
    }

    /// When the first of its rows is due.
    pub(super) fn due(&self) -> Option<BootNs> {
        let oldest = self.rows.front()?.due;
        Some(self.waited_for_at().map_or(oldest, |at| at.min(oldest)))
    }

    /// When rows that somebody waits for are due because their reader is slow.
    pub(super) fn waited_for_at(&self) -> Option<BootNs> {
        self.slow_at.filter(|_| self.waiting > 0)
    }

    /// How many of its first rows are due at `now`; all of them if the first would be by `horizon`.
    pub(super) fn ready(&self, now: BootNs, horizon: BootNs) -> usize {
        if self.rows.front().is_some_and(|row| row.due <= horizon) {
            return self.rows.len();
        }
        let urgent = self.urgent_to.map_or(0, |seq| self.rows.partition_point(|row| row.seq <= seq));
        let slow = self.waited_for_at().is_some_and(|at| at <= now);
        let waited_for = if slow { self.last(|row| row.ticket.is_some()) } else { 0 };
        urgent.max(waited_for)
    }

    /// How many of the first `ready` rows go with a turn that has room for so many bytes more, which is used up. Rows of QoS 2 go in any case, and what is
    /// before them: they are tied to the identifier of their publisher.
    pub(super) fn fitting(&self, ready: usize, room: &mut u64) -> usize {
        let mut count = 0;
        for row in self.rows.iter().take(ready) {
            if *room == 0 {
                let tied =
                    |row: &DirtyRow| row.ticket.is_some() && row.delivery.message.qos == Qos::ExactlyOnce;
                return count.max(self.last(tied).min(ready));
            }
            *room = room.saturating_sub(facts::row_size(&row.delivery));
            count += 1;
        }
        count
    }

    /// How many rows there are up to the last that fits.
    fn last(&self, fits: impl Fn(&DirtyRow) -> bool) -> usize {
        self.rows.iter().rposition(fits).map_or(0, |place| place + 1)
    }

    /// All rows that are here are due now.
    pub(super) fn hasten(&mut self) {
        self.urgent_to = self.rows.back().map(|row| row.seq);
    }

    /// Forgets every row and gives them.
    pub(super) fn empty(&mut self) -> VecDeque<DirtyRow> {
        (self.urgent_to, self.slow_at, self.waiting) = (None, None, 0);
        std::mem::take(&mut self.rows)
    }

    /// Notes durable rows that go.
    pub(super) fn add_delete(&mut self, (first, last): (Seq, Seq)) {
        match self.deletes.last_mut() {
            Some(before) if before.1.0.checked_add(1) == Some(first.0) => before.1 = last,
            _ => self.deletes.push((first, last)),
        }
    }

    /// What goes with the next turn: everything but the rows, and the first `count` of those.
    pub(super) fn split(&mut self, count: usize) -> Self {
        let rest = self.rows.split_off(count.min(self.rows.len()));
        let rows = std::mem::replace(&mut self.rows, rest);
        let last = rows.back().map(|row| row.seq);
        self.urgent_to = self.urgent_to.filter(|seq| last.is_none_or(|last| *seq > last));
        self.waiting -= rows.iter().filter(|row| row.ticket.is_some()).count();
        Self {
            name: self.name.clone(),
            open: self.open,
            dropped: std::mem::take(&mut self.dropped),
            deletes: std::mem::take(&mut self.deletes),
            rows,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.dropped && self.deletes.is_empty() && self.rows.is_empty()
    }

    pub(super) fn size(&self) -> u64 {
        self.rows.iter().map(|row| row.size).sum()
    }

    /// As changes. Rows of one message share its bytes.
    pub(super) fn write(&self, run: RunId, shared: &mut Shared, changes: &mut Vec<Change>) {
        let Some(queue) = &self.name else { return };
        if self.dropped {
            changes.push(Change::Drop { queue: Arc::clone(queue) });
        }
        for seqs in &self.deletes {
            changes.push(Change::Delete { queue: Arc::clone(queue), seqs: *seqs });
        }
        for row in &self.rows {
            changes.push(Change::Insert { queue: Arc::clone(queue), row: shared.row(row, run) });
        }
    }

    /// Joins what a failed turn took with what is dirty since. Gives the rows that nobody needs any more.
    pub(super) fn join(&mut self, mut taken: Self) -> Vec<DirtyRow> {
        if self.dropped {
            return taken.rows.into();
        }
        self.dropped = taken.dropped;
        let mut gone = Vec::new();
        for mut row in taken.rows.into_iter().rev() {
            row.tried = true;
            if self.deletes.iter().any(|(first, last)| (*first..=*last).contains(&row.seq)) {
                gone.push(row);
            } else if let Ok(place) = self.rows.binary_search_by_key(&row.seq, |row| row.seq) {
                // Put again after a reset: the ticket waits for that one.
                self.rows[place].tried = true;
                self.rows[place].ticket = self.rows[place].ticket.or(row.ticket.take());
                gone.push(row);
            } else if self.rows.front().is_none_or(|first| row.seq < first.seq) {
                self.rows.push_front(row);
            } else {
                self.push(row);
            }
        }
        taken.deletes.append(&mut self.deletes);
        self.deletes = taken.deletes;
        self.waiting = self.rows.iter().filter(|row| row.ticket.is_some()).count();
        self.hasten();
        gone
    }
}

/// The rows of a turn that several sessions want: one body for all of them, however many there are.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// By the place of the message in memory, which the rows keep there, and by the subscription identifiers that are written before it.
    rows: BTreeMap<(usize, Box<[u32]>), Arc<Row>>,
}

impl Shared {
    /// Of a queue and of the list of dirty rows: a message that nobody else holds is written once only.
    const OWN_HOLDERS: usize = 2;

    fn row(&mut self, dirty: &DirtyRow, run: RunId) -> Arc<Row> {
        let DirtyRow { delivery, seq, .. } = dirty;
        if Arc::strong_count(&delivery.message) <= Self::OWN_HOLDERS {
            return Arc::new(facts::row(delivery, *seq, run));
        }
        let key = (Arc::as_ptr(&delivery.message).addr(), delivery.identifiers.clone());
        match self.rows.get(&key) {
            Some(other) => {
                let (qos, retain) = (delivery.qos, delivery.retain);
                Arc::new(Row { seq: *seq, qos, retain, ..Row::clone(other) })
            }
            None => {
                let row = Arc::new(facts::row(delivery, *seq, run));
                self.rows.insert(key, Arc::clone(&row));
                row
            }
        }
    }
}

/// What a fact that is not durable costs beside its key and its value: its places in two maps, bytes.
const FACT_BYTES: u64 = 160;

/// A fact that is not durable; without a value it goes.
#[derive(Debug)]
pub(super) struct DirtyFact {
    pub(super) value: Option<Value>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) size: u64,
}

impl DirtyFact {
    pub(super) fn new(key: &FactKey, value: Option<Value>) -> Self {
        let size = key.key.len() + value.as_ref().map_or(0, Value::size);
        Self { value, tickets: Vec::new(), size: FACT_BYTES.saturating_add(size as u64) }
    }

    pub(super) fn write(&self, key: &FactKey, boot: BootId) -> Change {
        let fact = key.clone();
        match &self.value {
            Some(value) => Change::Put { fact, value: value.encode(boot) },
            None => Change::Remove { fact },
        }
    }
}

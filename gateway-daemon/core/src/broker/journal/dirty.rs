//! What is dirty of one queue and of one fact.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::Ticket;
use crate::broker::change::{Change, FactKey, QueueName};
use crate::broker::facts::{self, Value};
use crate::broker::packet::Delivery;
use crate::tag::{BootId, BootNs, RunId};
use crate::uplink::row::Seq;

/// A row that is not durable. It becomes bytes when its turn comes.
#[derive(Debug)]
pub(super) struct DirtyRow {
    pub(super) seq: Seq,
    pub(super) delivery: Delivery,
    pub(super) ticket: Option<Ticket>,
    pub(super) due: BootNs,
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
    /// All its rows are due.
    pub(super) urgent: bool,
    /// In the journal's list of dirty queues.
    pub(super) listed: bool,
}

impl DirtyQueue {
    /// Adds a row, nearly always at the end. `false` if it is there already.
    pub(super) fn push(&mut self, row: DirtyRow) -> bool {
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
        if self.rows.front()?.seq == seq {
            return self.rows.pop_front();
        }
        let place = self.rows.binary_search_by_key(&seq, |row| row.seq).ok()?;
        self.rows.remove(place)
    }

    /// Whether a row is here.
    pub(super) fn holds(&self, seq: Seq) -> bool {
        self.rows.binary_search_by_key(&seq, |row| row.seq).is_ok()
    }

    /// When its rows are due.
    pub(super) fn due(&self) -> Option<BootNs> {
        self.rows.front().map(|row| row.due)
    }

    /// Notes durable rows that go.
    pub(super) fn add_delete(&mut self, (first, last): (Seq, Seq)) {
        match self.deletes.last_mut() {
            Some(before) if before.1.0.checked_add(1) == Some(first.0) => before.1 = last,
            _ => self.deletes.push((first, last)),
        }
    }

    /// What goes with the next turn: everything, or everything but the rows.
    pub(super) fn split(&mut self, all: bool) -> Self {
        let rows = if all { std::mem::take(&mut self.rows) } else { VecDeque::new() };
        self.urgent &= !all;
        Self {
            name: self.name.clone(),
            open: self.open,
            dropped: std::mem::take(&mut self.dropped),
            deletes: std::mem::take(&mut self.deletes),
            rows,
            urgent: false,
            listed: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.dropped && self.deletes.is_empty() && self.rows.is_empty()
    }

    pub(super) fn size(&self) -> u64 {
        self.rows.iter().map(|row| row.size).sum()
    }

    /// As changes.
    pub(super) fn write(&self, run: RunId, changes: &mut Vec<Change>) {
        let Some(queue) = &self.name else { return };
        if self.dropped {
            changes.push(Change::Drop { queue: Arc::clone(queue) });
        }
        for seqs in &self.deletes {
            changes.push(Change::Delete { queue: Arc::clone(queue), seqs: *seqs });
        }
        for row in &self.rows {
            let row = Arc::new(facts::row(&row.delivery, row.seq, run));
            changes.push(Change::Insert { queue: Arc::clone(queue), row });
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
        self.urgent |= !self.rows.is_empty();
        gone
    }
}

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
        Self { value, tickets: Vec::new(), size: size as u64 }
    }

    pub(super) fn write(&self, key: &FactKey, boot: BootId) -> Change {
        let fact = key.clone();
        match &self.value {
            Some(value) => Change::Put { fact, value: value.encode(boot) },
            None => Change::Remove { fact },
        }
    }
}

//! A store in memory for tests: what a done turn wrote is there, and nothing else.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::broker::change::{Answer, Change, FactKey, QueueName, Read, Turn};
use crate::uplink::row::{Row, Seq, Stored};

/// Rows and facts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::broker) struct Disk {
    pub(in crate::broker) queues: BTreeMap<QueueName, BTreeMap<Seq, Arc<Row>>>,
    pub(in crate::broker) facts: BTreeMap<FactKey, Arc<[u8]>>,
}

impl Disk {
    /// Carries a turn out.
    pub(in crate::broker) fn apply(&mut self, turn: &Turn) {
        for change in &turn.changes {
            match change {
                Change::Insert { queue, row } => {
                    let rows = self.queues.entry(Arc::clone(queue)).or_default();
                    rows.insert(row.seq, Arc::clone(row));
                }
                Change::Delete { queue, seqs } => {
                    if let Some(rows) = self.queues.get_mut(queue) {
                        rows.retain(|seq, _| !(seqs.0..=seqs.1).contains(seq));
                    }
                }
                Change::Drop { queue } => {
                    self.queues.remove(queue);
                    if let Some(subscriptions) = FactKey::subscriptions_of(queue) {
                        self.facts.retain(|fact, _| !fact.begins_with(&subscriptions));
                    }
                }
                Change::Put { fact, value } => {
                    self.facts.insert(fact.clone(), Arc::clone(value));
                }
                Change::Remove { fact } => _ = self.facts.remove(fact),
            }
        }
    }

    /// Answers a read.
    pub(in crate::broker) fn read(&self, read: &Read) -> Answer {
        let none = BTreeMap::new();
        let stored = self.queues.get(&read.queue).unwrap_or(&none);
        let range = (Bound::Excluded(read.after), Bound::Included(read.until));
        let (mut rows, mut bytes, mut more) = (Vec::new(), 0, false);
        for row in stored.range(range).map(|(_, row)| row) {
            bytes += row.size();
            if rows.len() >= read.rows_max as usize || bytes > read.bytes_max && !rows.is_empty() {
                more = true;
                break;
            }
            rows.push(Arc::clone(row));
        }
        Answer::Rows { number: read.number, rows, more }
    }

    /// What one queue holds.
    pub(in crate::broker) fn stored(&self, queue: &str) -> Stored {
        let mut stored = Stored::default();
        let Some(rows) = self.queues.get(queue) else { return stored };
        rows.values().for_each(|row| stored.normal.add_row(row));
        stored.first = rows.keys().next().copied().unwrap_or_default();
        stored.last = rows.keys().next_back().copied().unwrap_or_default();
        stored
    }
}

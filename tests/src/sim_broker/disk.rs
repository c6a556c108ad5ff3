//! A store in memory with the durability of a real one: what a turn wrote survives a crash, what it did not write does not.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use gateway_core::broker::change::QueueName;
use gateway_core::broker::{Answer, Change, FactKey, FactKind, Found, Read, Turn};
use gateway_core::uplink::row::{Row, Seq, Stored};

/// Rows and facts.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    queues: BTreeMap<QueueName, BTreeMap<Seq, Arc<Row>>>,
    facts: BTreeMap<FactKey, Arc<[u8]>>,
}

impl Disk {
    /// Carries a turn out.
    pub fn apply(&mut self, turn: &Turn) {
        for change in &turn.changes {
            match change {
                Change::Insert { queue, row } => {
                    let rows = self.queues.entry(Arc::clone(queue)).or_default();
                    rows.insert(row.seq, Arc::clone(row));
                }
                Change::Delete { queue, seqs: (first, last) } => {
                    if let Some(rows) = self.queues.get_mut(queue) {
                        rows.retain(|seq, _| !(*first..=*last).contains(seq));
                    }
                }
                Change::Drop { queue } => {
                    self.queues.remove(queue);
                    if let Some(subscriptions) = FactKey::subscriptions_of(queue) {
                        self.facts.retain(|fact, _| !fact.begins_with(&subscriptions));
                    }
                }
                Change::Put { fact, value } => _ = self.facts.insert(fact.clone(), Arc::clone(value)),
                Change::Remove { fact } => _ = self.facts.remove(fact),
            }
        }
    }

    /// Answers a read as things are at this moment.
    #[must_use]
    pub fn read(&self, read: &Read) -> Answer {
        let none = BTreeMap::new();
        let stored = self.queues.get(&read.queue).unwrap_or(&none);
        let (mut rows, mut bytes, mut more) = (Vec::new(), 0, false);
        // A database answers a range that ends before it begins with nothing.
        let wanted =
            (read.after < read.until).then_some((Bound::Excluded(read.after), Bound::Included(read.until)));
        for row in wanted.into_iter().flat_map(|wanted| stored.range(wanted)).map(|(_, row)| row) {
            bytes += row.size();
            if rows.len() >= read.rows_max as usize || (bytes > read.bytes_max && !rows.is_empty()) {
                more = true;
                break;
            }
            rows.push(Arc::clone(row));
        }
        Answer::Rows { number: read.number, rows, more }
    }

    /// What a broker finds at start.
    #[must_use]
    pub fn found(&self) -> Found {
        let queues = self.queues.iter().map(|(name, rows)| {
            let mut stored = Stored::default();
            rows.values().for_each(|row| stored.normal.add_row(row));
            stored.first = rows.keys().next().copied().unwrap_or_default();
            stored.last = rows.keys().next_back().copied().unwrap_or_default();
            (Arc::clone(name), stored)
        });
        let facts = self.facts.iter().map(|(key, value)| (key.clone(), Arc::clone(value)));
        Found { facts: facts.collect(), queues: queues.collect(), blind: false, ..Found::default() }
    }

    /// Rows of the queues of honest clients.
    #[must_use]
    pub fn rows(&self) -> usize {
        let honest = self.queues.iter().filter(|(name, _)| name.starts_with("local/client-"));
        honest.map(|(_, rows)| rows.len()).sum()
    }

    /// Facts of a kind about honest clients.
    #[must_use]
    pub fn facts(&self, kind: FactKind) -> usize {
        let honest = |key: &FactKey| key.key.windows(7).any(|part| part == b"client-");
        self.facts.keys().filter(|key| key.kind == kind && honest(key)).count()
    }

    /// Forgets the rows of one queue, as a damaged page does.
    pub fn damage(&mut self, nth: usize) -> Option<String> {
        let (queue, rows) = self.queues.iter_mut().nth(nth)?;
        rows.clear();
        Some(queue.to_string())
    }
}

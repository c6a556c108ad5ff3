//! A store in memory that has the durability of a real one: what was committed survives a crash, what was not does not, and it can be
//! full, read-only, broken, slow or replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::uplink::row::{Mark, Priority, Row, Seq, StoreEvent, StoreFault, StoreOp, Stored, Tally};

use super::chance::Chance;

/// Rows that survive everything but [`Disk::reset`].
#[derive(Debug, Default)]
pub struct Disk {
    rows: BTreeMap<Seq, Arc<Row>>,
    marks: BTreeMap<Seq, Arc<Mark>>,
    bytes: u64,
    /// Bytes there is room for.
    pub capacity: u64,
    /// Writes fail this way.
    pub write_fault: Option<StoreFault>,
    /// Everything fails this way.
    pub fault: Option<StoreFault>,
}

/// What an op did, for the oracle.
#[derive(Debug, Default)]
pub struct Effect {
    /// Rows deleted because the queue said that they are settled.
    pub settled: Vec<Arc<Row>>,
    /// Rows deleted by a trim, and the lowest priority that was left and not to be kept.
    pub trimmed: Vec<Arc<Row>>,
    /// Rows deleted by a replacement.
    pub removed: Vec<Arc<Row>>,
    /// Rows that were there already under the seq of a written one; they count as deleted.
    pub overwritten: Vec<Arc<Row>>,
    /// Rows written.
    pub written: Vec<Arc<Row>>,
}

impl Disk {
    /// An empty disk with room for so many bytes.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// There is room for nothing more.
    pub fn fill(&mut self) {
        self.capacity = self.capacity.min(self.bytes);
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether this very row is durable.
    #[must_use]
    pub fn holds(&self, row: &Row) -> bool {
        self.rows.get(&row.seq).is_some_and(|held| held.run == row.run)
    }

    /// The row of a seq.
    #[must_use]
    pub fn get(&self, seq: Seq) -> Option<&Arc<Row>> {
        self.rows.get(&seq)
    }

    /// What a queue finds when it opens.
    #[must_use]
    pub fn stored(&self) -> Stored {
        let mut stored = Stored::default();
        for row in self.rows.values() {
            if row.priority == Priority::High { &mut stored.high } else { &mut stored.normal }.add_row(row);
        }
        stored.first = self.rows.keys().next().copied().unwrap_or_default();
        stored.last = self.rows.keys().next_back().copied().unwrap_or_default();
        stored
    }

    /// Which rows are set aside.
    #[must_use]
    pub fn marks(&self) -> Vec<Arc<Mark>> {
        self.marks.values().cloned().collect()
    }

    /// Whether a row is known to be set aside.
    #[must_use]
    pub fn is_marked(&self, seq: Seq) -> bool {
        self.marks.contains_key(&seq)
    }

    /// Carries an op out, all of it or nothing.
    pub fn apply(&mut self, op: &StoreOp) -> (StoreEvent, Effect) {
        let mut effect = Effect::default();
        let writes = !matches!(op, StoreOp::Fetch { .. });
        if let Some(fault) = self.fault.or(self.write_fault.filter(|_| writes)) {
            return (StoreEvent::Failed { op: number(op), fault }, effect);
        }
        let event = match op {
            StoreOp::Commit { op, rows, acked } => {
                let needed: u64 = rows.iter().map(|row| row.size()).sum();
                if needed > 0 && self.bytes.saturating_add(needed) > self.capacity {
                    return (StoreEvent::Failed { op: *op, fault: StoreFault::Full }, effect);
                }
                for row in rows {
                    self.insert(row, &mut effect);
                }
                for (first, last) in acked {
                    let seqs: Vec<Seq> = self.rows.range(*first..=*last).map(|(seq, _)| *seq).collect();
                    effect.settled.extend(seqs.iter().filter_map(|seq| self.remove(*seq)));
                }
                let mut deleted = sum(&effect.settled);
                deleted.add(sum(&effect.overwritten));
                StoreEvent::Committed { op: *op, deleted }
            }
            StoreOp::Fetch { op, after, until, rows_max, bytes_max } => {
                self.fetch(*op, *after..=*until, *rows_max, *bytes_max)
            }
            StoreOp::Trim { op, rows, bytes, priority_max, keep } => {
                self.trim((*rows, *bytes), *priority_max, keep, &mut effect);
                StoreEvent::Trimmed { op: *op, dropped: sum(&effect.trimmed) }
            }
            StoreOp::Replace { op, remove, rows } => {
                if !self.has_room_to_replace(remove, rows) {
                    return (StoreEvent::Failed { op: *op, fault: StoreFault::Full }, effect);
                }
                effect.removed.extend(remove.iter().filter_map(|seq| self.remove(*seq)));
                for row in rows {
                    self.insert(row, &mut effect);
                }
                StoreEvent::Committed { op: *op, deleted: sum(&effect.removed) }
            }
            StoreOp::Mark { op, set, clear } => {
                self.marks.retain(|seq, _| !clear.contains(seq));
                let there = set.iter().filter(|mark| self.rows.contains_key(&mark.seq));
                self.marks.extend(there.map(|mark| (mark.seq, Arc::clone(mark))));
                StoreEvent::Committed { op: *op, deleted: Tally::default() }
            }
        };
        (event, effect)
    }

    /// The database is replaced; of its rows a random part is salvaged. Gives back what is lost.
    pub fn reset(&mut self, chance: &mut Chance) -> (Stored, Vec<Arc<Row>>) {
        let kept_of_ten = chance.pick(&[0, 0, 5, 10]);
        let lost: Vec<Seq> = self.rows.keys().copied().filter(|_| chance.of(0..=9) >= kept_of_ten).collect();
        let lost = lost.iter().filter_map(|seq| self.remove(*seq)).collect();
        if !self.marks.is_empty() && chance.one_in(3) {
            self.marks.pop_first();
        }
        (self.stored(), lost)
    }

    /// Whether rows fit when others have gone. What frees as much as it takes always does.
    fn has_room_to_replace(&self, remove: &[Seq], rows: &[Arc<Row>]) -> bool {
        let freed: u64 = remove.iter().filter_map(|seq| self.rows.get(seq)).map(|row| row.size()).sum();
        let taken: u64 = rows.iter().map(|row| row.size()).sum();
        taken <= freed || self.bytes.saturating_sub(freed).saturating_add(taken) <= self.capacity
    }

    fn fetch(
        &self,
        op: u64,
        range: std::ops::RangeInclusive<Seq>,
        rows_max: u32,
        bytes_max: u64,
    ) -> StoreEvent {
        let (after, until) = range.into_inner();
        let mut rows: Vec<Arc<Row>> = Vec::new();
        let mut bytes = 0;
        if after >= until {
            return StoreEvent::Fetched { op, rows, more: false };
        }
        let from = std::ops::Bound::Excluded(after);
        for row in self.rows.range((from, std::ops::Bound::Included(until))).map(|(_, row)| row) {
            bytes += row.size();
            if rows.len() >= rows_max as usize || (bytes > bytes_max && !rows.is_empty()) {
                return StoreEvent::Fetched { op, rows, more: true };
            }
            rows.push(Arc::clone(row));
        }
        StoreEvent::Fetched { op, rows, more: false }
    }

    fn trim(&mut self, free: (u64, u64), priority_max: Priority, keep: &[Seq], effect: &mut Effect) {
        let (mut rows, mut bytes) = (0, 0);
        for priority in [Priority::Normal, Priority::High] {
            if priority > priority_max {
                return;
            }
            let of_priority: Vec<Seq> =
                self.rows.values().filter(|row| row.priority == priority).map(|row| row.seq).collect();
            for seq in of_priority {
                if rows >= free.0 && bytes >= free.1 {
                    return;
                }
                if keep.binary_search(&seq).is_ok() {
                    continue;
                }
                if let Some(row) = self.remove(seq) {
                    rows += 1;
                    bytes += row.size();
                    effect.trimmed.push(row);
                }
            }
        }
    }

    fn insert(&mut self, row: &Arc<Row>, effect: &mut Effect) {
        self.bytes += row.size();
        if let Some(old) = self.rows.insert(row.seq, Arc::clone(row)) {
            self.bytes = self.bytes.saturating_sub(old.size());
            effect.overwritten.push(old);
        }
        effect.written.push(Arc::clone(row));
    }

    fn remove(&mut self, seq: Seq) -> Option<Arc<Row>> {
        let row = self.rows.remove(&seq)?;
        self.marks.remove(&seq);
        self.bytes = self.bytes.saturating_sub(row.size());
        Some(row)
    }
}

/// The number of an op.
pub(super) fn number(op: &StoreOp) -> u64 {
    match op {
        StoreOp::Commit { op, .. }
        | StoreOp::Fetch { op, .. }
        | StoreOp::Trim { op, .. }
        | StoreOp::Mark { op, .. }
        | StoreOp::Replace { op, .. } => *op,
    }
}

fn sum(rows: &[Arc<Row>]) -> Tally {
    rows.iter().fold(Tally::default(), |mut sum, row| {
        sum.add_row(row);
        sum
    })
}

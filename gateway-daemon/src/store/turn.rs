//! One turn of the broker, inside a transaction that someone else begins and ends; and its reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::broker::{Change, FactKey, Read, Turn};
use gateway_core::uplink::row::{Row, Tally};

use super::ask::is_local;
use super::db::Db;
use super::fault::Trouble;
use super::ops::Work;
use super::transact::Tallied;

/// Rows of a read, and whether there are more.
pub(super) type Rows = (Vec<Arc<Row>>, bool);

impl Db {
    /// Makes all changes of a turn, in the file and in memory.
    ///
    /// Whatever a turn removes goes before anything is added: a full file has room again. The outcome is that of the changes in their order, because a
    /// removal is repeated in its place when something was added under the same name before it.
    pub(super) fn turn(&mut self, turn: &Turn) -> Result<Tallied, Trouble> {
        let mut done = Tallied::default();
        self.facts.remove_rotten(&self.conn)?;
        for change in &turn.changes {
            self.take_away(change, &mut done)?;
        }
        let mut filled = BTreeSet::new();
        let mut facts = BTreeSet::new();
        for change in &turn.changes {
            match change {
                Change::Insert { queue, row } => {
                    self.add_row(queue, row, &mut done)?;
                    filled.insert(queue);
                }
                Change::Put { fact, value } => {
                    let bytes = self.facts.put(&self.conn, fact, value)?;
                    done.facts_written = done.facts_written.saturating_add(1);
                    done.fact_bytes = done.fact_bytes.saturating_add(bytes);
                    facts.insert(fact);
                }
                Change::Delete { queue, .. } if filled.contains(queue) => {
                    self.take_away(change, &mut done)?
                }
                Change::Drop { queue } if filled.contains(queue) || has_subscriptions(&facts, queue) => {
                    self.take_away(change, &mut done)?;
                }
                Change::Remove { fact } if facts.contains(fact) => self.take_away(change, &mut done)?,
                Change::Delete { .. } | Change::Drop { .. } | Change::Remove { .. } => {}
            }
        }
        Ok(done)
    }

    /// Carries out a change that removes something; others are left for later.
    fn take_away(&mut self, change: &Change, done: &mut Tallied) -> Result<(), Trouble> {
        match change {
            Change::Delete { queue, seqs: (from, to) } => {
                if self.queues.contains_key(queue) {
                    self.work_on(queue, done, |work| work.delete_and_settle(*from, *to))?;
                }
            }
            Change::Drop { queue } => {
                let dropped = if is_local(queue) { self.drop_tables(queue)? } else { Tally::default() };
                done.rows_removed = done.rows_removed.saturating_add(dropped.rows);
                if let Some(subscriptions) = FactKey::subscriptions_of(queue) {
                    let removed = self.facts.remove_under(&self.conn, &subscriptions)?;
                    done.facts_removed = done.facts_removed.saturating_add(removed);
                }
            }
            Change::Remove { fact } => {
                let removed = self.facts.remove(&self.conn, fact)?;
                done.facts_removed = done.facts_removed.saturating_add(u64::from(removed));
            }
            Change::Insert { .. } | Change::Put { .. } => {}
        }
        Ok(())
    }

    fn add_row(&mut self, queue: &Arc<str>, row: &Arc<Row>, done: &mut Tallied) -> Result<(), Trouble> {
        if !self.queues.contains_key(queue) {
            self.queues.insert(Arc::clone(queue), super::db::Queue::default());
        }
        self.work_on(queue, done, |work| work.insert(std::slice::from_ref(row)))
    }

    /// Works on a queue of a local session and merges what was done to it.
    fn work_on(
        &mut self,
        queue: &Arc<str>,
        done: &mut Tallied,
        act: impl FnOnce(&mut Work<'_>) -> Result<Tally, Trouble>,
    ) -> Result<(), Trouble> {
        if !is_local(queue) {
            return Err(Trouble::Refused("a turn is for the queues of local sessions"));
        }
        let mut work = Work::new(self, queue);
        act(&mut work)?;
        let change = work.into_change();
        done.add(&change);
        if let Some(queue) = self.queues.get_mut(queue) {
            change.merge(queue);
        }
        Ok(())
    }

    /// Reads rows for the broker.
    pub(super) fn read(&mut self, read: &Read) -> Result<Rows, Trouble> {
        Work::new(self, &read.queue).fetch(read.after, read.until, read.rows_max, read.bytes_max)
    }
}

/// Whether a subscription of a queue's client is among these.
fn has_subscriptions(facts: &BTreeSet<&FactKey>, queue: &str) -> bool {
    FactKey::subscriptions_of(queue)
        .is_some_and(|subscriptions| facts.iter().any(|fact| fact.begins_with(&subscriptions)))
}

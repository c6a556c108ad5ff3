//! What was stored when the database was last whole, for counting what is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::db::{self, Db};

/// What was stored when the database was last whole, for counting losses.
#[derive(Debug, Default)]
pub(super) struct KnownStored {
    pub(super) queues: BTreeMap<Arc<str>, KnownQueue>,
    pub(super) facts: u64,
}

/// What was stored of a queue.
#[derive(Debug)]
pub(super) struct KnownQueue {
    pub(super) key: Option<i64>,
    rows: u64,
    /// Its highest seq.
    last: u64,
}

impl KnownStored {
    pub(super) fn of(db: &Db) -> Self {
        let known =
            |queue: &db::Queue| KnownQueue { key: queue.key, rows: queue.total().rows, last: queue.last };
        let queues = db.queues.iter().map(|(name, queue)| (Arc::clone(name), known(queue)));
        Self { queues: queues.collect(), facts: db.facts.len() }
    }

    pub(super) fn rows(&self) -> u64 {
        self.queues.values().map(|queue| queue.rows).sum()
    }

    /// Most rows of this state that `left` may lack where it is an older state: all that have been added since.
    pub(super) fn rows_since(&self, left: &Self) -> u64 {
        let since = |(name, queue): (&Arc<str>, &KnownQueue)| {
            let last = left.queues.get(name).map_or(0, |queue| queue.last);
            queue.rows.min(queue.last.saturating_sub(last))
        };
        self.queues.iter().map(since).sum()
    }
}

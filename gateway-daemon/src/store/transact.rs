//! One transaction over the ops of several queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::tag::{BootId, WallMs};
use gateway_core::uplink::row::{StoreEvent, StoreFault, StoreOp};

use super::db::{Db, Queue};
use super::fault::Trouble;
use super::health::Counters;
use super::ops;
use super::words::Words;

/// A wall time that moves by less is not written again: slewing is not worth a write.
const CLOCK_STEP_MIN_MS: u64 = 100;

/// What this run has learned and the database may not hold yet; written with the next rows.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Schemas by id.
    pub(super) schemas: BTreeMap<u64, Arc<[u8]>>,
    /// Wall time of boot moments.
    pub(super) boots: BTreeMap<BootId, WallMs>,
}

/// An op with the queue it is for.
pub(super) type Ask = (Arc<str>, StoreOp);

/// Why a batch, or part of it, failed; the worst that happened.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// One answer per op, in order.
    pub(super) events: Vec<StoreEvent>,
    /// A fault of the disk, the file or a row, with its text.
    pub(super) fault: Option<(StoreFault, String)>,
    /// Queues with rows that do not decode.
    pub(super) rotten: Vec<Arc<str>>,
    /// Whether something was committed.
    pub(super) committed: bool,
}

/// What one op came to.
type Answer = Result<(StoreEvent, Tallied), Trouble>;

/// What a committed op adds to the counters.
#[derive(Debug, Default)]
struct Tallied {
    rows_written: u64,
    row_bytes: u64,
    rows_removed: u64,
}

/// Why a transaction did not come to its end.
enum Stop {
    /// SQLite, or we, rolled it back because of one op: once more without it.
    Without(usize, Trouble),
    /// The disk is at fault: nobody is served.
    All(Trouble),
}

impl<E: Into<Trouble>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::All(error.into())
    }
}

impl Db {
    /// Carries out ops in order: reads as they are, writes in one transaction. An op that fails takes nobody along, unless the
    /// disk is at fault.
    pub(super) fn serve(&mut self, asks: &[Ask], learned: &Learned, counters: &mut Counters) -> Outcome {
        for (name, _) in asks {
            if !self.queues.contains_key(name) {
                self.queues.insert(Arc::clone(name), Queue::default());
            }
        }
        if !asks.iter().any(|(_, op)| ops::writes(op)) {
            let answers = asks.iter().map(|(name, op)| self.single(name, op)).collect();
            return settle(asks, answers, counters, false);
        }
        let mut answers = self.transact(asks, learned, counters);
        if answers.iter().any(|answer| matches!(answer, Err(Trouble::Disk(StoreFault::Full, _))))
            && self.make_room(counters)
        {
            // The ops that worked are committed and keep their answers; those that found no room try again.
            let again: Vec<usize> = (0..asks.len()).filter(|index| is_full(&answers[*index])).collect();
            let full: Vec<Ask> = again.iter().map(|index| asks[*index].clone()).collect();
            for (index, answer) in again.into_iter().zip(self.transact(&full, learned, counters)) {
                answers[index] = answer;
            }
        }
        let committed = answers.iter().any(Result::is_ok);
        let mut outcome = settle(asks, answers, counters, committed);
        if committed && let Err(trouble) = self.checkpoint_if_long(counters) {
            outcome.fault = outcome.fault.or(Some((trouble.fault(), trouble.to_string())));
        }
        outcome
    }

    fn transact(&mut self, asks: &[Ask], learned: &Learned, counters: &mut Counters) -> Vec<Answer> {
        let before: BTreeMap<Arc<str>, Queue> = asks
            .iter()
            .filter_map(|(name, _)| Some((Arc::clone(name), self.queues.get(name)?.clone())))
            .collect();
        let mut failed: BTreeMap<usize, Trouble> = BTreeMap::new();
        // Ends: every round but the last excludes one more op.
        loop {
            let stop = match self.try_transaction(asks, learned, counters, &mut failed) {
                Ok(mut done) => {
                    let answer = |index| match failed.remove(&index) {
                        Some(trouble) => Err(trouble),
                        None => done.remove(&index).ok_or(Trouble::Refused("op without an answer")),
                    };
                    return (0..asks.len()).map(answer).collect();
                }
                Err(stop) => stop,
            };
            let undone = self.undo(&before);
            match (stop, undone) {
                (Stop::Without(index, trouble), Ok(())) => failed.insert(index, trouble),
                (Stop::All(trouble), _) | (_, Err(trouble)) => {
                    let (fault, text) = (trouble.fault(), trouble.to_string());
                    return asks.iter().map(|_| Err(Trouble::Disk(fault, text.clone()))).collect();
                }
            };
        }
    }

    fn try_transaction(
        &mut self,
        asks: &[Ask],
        learned: &Learned,
        counters: &mut Counters,
        failed: &mut BTreeMap<usize, Trouble>,
    ) -> Result<BTreeMap<usize, (StoreEvent, Tallied)>, Stop> {
        let stores = asks.iter().any(|(_, op)| ops::stores_rows(op));
        self.sync_commits(stores)?;
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        if stores {
            self.write_learned(learned, counters)?;
        }
        // A savepoint copies every page it touches: a lone op is undone with its transaction.
        let alone = asks.len() == 1;
        let mut done = BTreeMap::new();
        for (index, (name, op)) in asks.iter().enumerate() {
            if failed.contains_key(&index) {
                continue;
            }
            if !alone {
                self.conn.execute_batch("SAVEPOINT op")?;
            }
            match self.single(name, op) {
                Ok(answer) => {
                    done.insert(index, answer);
                    if !alone {
                        self.conn.execute_batch("RELEASE op")?;
                    }
                }
                Err(trouble) if trouble.fails_all() => return Err(Stop::All(trouble)),
                Err(trouble) if alone || self.conn.is_autocommit() => {
                    return Err(Stop::Without(index, trouble));
                }
                Err(trouble) => {
                    self.conn.execute_batch("ROLLBACK TO op; RELEASE op")?;
                    self.words = Words::load(&self.conn)?;
                    failed.insert(index, trouble);
                }
            }
        }
        self.conn.execute_batch("COMMIT")?;
        counters.commits = counters.commits.saturating_add(u64::from(!done.is_empty()));
        Ok(done)
    }

    /// One op, its change merged into the queue at once so that the next op of the transaction sees it.
    fn single(&mut self, name: &Arc<str>, op: &StoreOp) -> Answer {
        let (event, change) = ops::carry_out(self, name, op)?;
        let tallied = Tallied {
            rows_written: change.rows_written,
            row_bytes: change.bytes_written,
            rows_removed: change.rows_removed,
        };
        if let Some(queue) = self.queues.get_mut(name) {
            change.merge(queue);
        }
        Ok((event, tallied))
    }

    /// Back to the state before the transaction, in the file and in memory.
    fn undo(&mut self, before: &BTreeMap<Arc<str>, Queue>) -> Result<(), Trouble> {
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        self.queues.extend(before.iter().map(|(name, queue)| (Arc::clone(name), queue.clone())));
        self.words = Words::load(&self.conn)?;
        Ok(())
    }

    /// Rows must be on disk when their commit is answered. Losing a deletion in a power cut only sends a row twice, and is not worth
    /// a sync: while a backlog drains, nothing is waited for.
    fn sync_commits(&mut self, stores: bool) -> Result<(), Trouble> {
        if self.synced != stores {
            self.conn.pragma_update(None, "synchronous", if stores { "FULL" } else { "NORMAL" })?;
            self.synced = stores;
        }
        Ok(())
    }

    /// Schemas and clock of this run that the file lacks; inside a transaction that stores rows.
    fn write_learned(&mut self, learned: &Learned, counters: &mut Counters) -> Result<(), Trouble> {
        if self.rows() == 0 {
            self.words.forget_stale(&self.conn, &learned.schemas)?;
        }
        for (id, bytes) in &learned.schemas {
            if !self.words.has_schema(*id) && !self.words.add_schema(&self.conn, *id, bytes)? {
                counters.schemas_refused = counters.schemas_refused.saturating_add(1);
            }
        }
        self.write_clock(learned)
    }

    fn write_clock(&mut self, learned: &Learned) -> Result<(), Trouble> {
        for (boot, wall) in &learned.boots {
            if self.clock_is_off(*boot, *wall) {
                self.words.set_clock(&self.conn, *boot, *wall)?;
            }
        }
        Ok(())
    }

    fn clock_is_off(&self, boot: BootId, wall: WallMs) -> bool {
        self.words.boot_wall(boot).is_none_or(|known| known.0.abs_diff(wall.0) >= CLOCK_STEP_MIN_MS)
    }

    /// Writes the clock at once if rows wait for it: rows of a boot are stored whose wall time has just been learned.
    pub(super) fn note_clock(&mut self, learned: &Learned) -> Result<(), Trouble> {
        let waits = |(boot, wall): (&BootId, &WallMs)| {
            self.words.knows_boot(*boot) && self.clock_is_off(*boot, *wall)
        };
        if self.rows() == 0 || !learned.boots.iter().any(waits) {
            return Ok(());
        }
        self.sync_commits(true)?;
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        let written = self.write_clock(learned).and_then(|()| Ok(self.conn.execute_batch("COMMIT")?));
        if written.is_err() {
            self.undo(&BTreeMap::new())?;
        }
        written
    }

    /// Pages of the log that are not in the database yet.
    fn log_pages(&self, mode: &str) -> Result<u64, Trouble> {
        let pages: i64 =
            self.conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(1))?;
        Ok(u64::try_from(pages).unwrap_or(0))
    }

    /// Copies the log into the database when it has reached its length. Only ever after a write.
    fn checkpoint_if_long(&mut self, counters: &mut Counters) -> Result<(), Trouble> {
        if self.log_pages("NOOP")? >= self.budget.wal_pages_max {
            self.checkpoint(counters)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, counters: &mut Counters) -> Result<(), Trouble> {
        self.log_pages("PASSIVE")?;
        counters.checkpoints = counters.checkpoints.saturating_add(1);
        Ok(())
    }

    /// After "disk full": if it is the disk and not our own limit, a log that could not grow is copied into the database, after
    /// which it is written from its start again. Says whether that helped.
    fn make_room(&mut self, counters: &mut Counters) -> bool {
        let number =
            |pragma: &str| self.conn.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
        let at_limit = match (number("page_count"), number("freelist_count")) {
            (Ok(pages), Ok(0)) => u64::try_from(pages).is_ok_and(|pages| pages >= self.budget.pages_max),
            (Ok(_), Ok(_)) => false,
            _ => true,
        };
        !at_limit && self.log_pages("NOOP").is_ok_and(|pages| pages > 0) && self.checkpoint(counters).is_ok()
    }
}

fn is_full(answer: &Answer) -> bool {
    matches!(answer, Err(Trouble::Disk(StoreFault::Full, _)))
}

/// Turns answers into events and counts them.
fn settle(asks: &[Ask], answers: Vec<Answer>, counters: &mut Counters, committed: bool) -> Outcome {
    let mut outcome = Outcome { committed, ..Outcome::default() };
    for ((name, op), answer) in asks.iter().zip(answers) {
        outcome.events.push(match answer {
            Ok((event, tallied)) => {
                counters.rows_written = counters.rows_written.saturating_add(tallied.rows_written);
                counters.row_bytes = counters.row_bytes.saturating_add(tallied.row_bytes);
                counters.rows_removed = counters.rows_removed.saturating_add(tallied.rows_removed);
                if let StoreEvent::Fetched { rows, .. } = &event {
                    counters.rows_fetched = counters.rows_fetched.saturating_add(rows.len() as u64);
                }
                event
            }
            Err(trouble) => {
                let fault = trouble.fault();
                counters.count_fault(fault);
                match &trouble {
                    Trouble::Rotten(_) => outcome.rotten.push(Arc::clone(name)),
                    Trouble::Disk(..) => outcome.fault = Some((fault, trouble.to_string())),
                    Trouble::Refused(why) => log::error!(queue = **name, why; "an op was refused"),
                }
                StoreEvent::Failed { op: ops::op_number(op), fault }
            }
        });
    }
    outcome
}

//! One transaction over the ops of several queues and turns of the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::broker::{Answer, Read};
use gateway_core::tag::{BootId, WallMs};
use gateway_core::uplink::row::{StoreEvent, StoreFault};

use super::ask::{Ask, Reply};
use super::db::{Db, Queue};
use super::fault::Trouble;
use super::health::Counters;
use super::ops;
use super::words::{InUse, Words};

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

/// What came of a batch, and the worst that happened.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// One answer per ask, in order.
    pub(super) replies: Vec<Reply>,
    /// A fault of the disk, the file or a row, with its text.
    pub(super) fault: Option<(StoreFault, String)>,
    /// Queues with rows that do not decode.
    pub(super) rotten: Vec<Arc<str>>,
    /// Whether something was committed.
    pub(super) committed: bool,
}

/// What one ask came to.
pub(super) type Done = Result<(Reply, Tallied), Trouble>;

/// What a committed ask adds to the counters.
#[derive(Debug, Default)]
pub(super) struct Tallied {
    pub(super) turns: u64,
    pub(super) rows_written: u64,
    pub(super) row_bytes: u64,
    pub(super) rows_removed: u64,
    pub(super) rows_fetched: u64,
    pub(super) facts_written: u64,
    pub(super) facts_removed: u64,
    pub(super) fact_bytes: u64,
}

impl Tallied {
    /// Adds what was done to a queue.
    pub(super) fn add(&mut self, change: &ops::Change) {
        self.rows_written = self.rows_written.saturating_add(change.rows_written);
        self.row_bytes = self.row_bytes.saturating_add(change.bytes_written);
        self.rows_removed = self.rows_removed.saturating_add(change.rows_removed);
    }

    pub(super) fn count(&self, counters: &mut Counters) {
        for (counter, count) in [
            (&mut counters.turns, self.turns),
            (&mut counters.rows_written, self.rows_written),
            (&mut counters.row_bytes, self.row_bytes),
            (&mut counters.rows_removed, self.rows_removed),
            (&mut counters.rows_fetched, self.rows_fetched),
            (&mut counters.facts_written, self.facts_written),
            (&mut counters.facts_removed, self.facts_removed),
            (&mut counters.fact_bytes, self.fact_bytes),
        ] {
            *counter = counter.saturating_add(count);
        }
    }
}

/// Queues as they were; `None` where there was none.
type Before = BTreeMap<Arc<str>, Option<Queue>>;

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
    /// Carries out asks in order: reads as they are, writes in one transaction. One that fails takes nobody along, unless the
    /// disk is at fault.
    pub(super) fn serve(&mut self, asks: &[Ask], learned: &Learned, counters: &mut Counters) -> Outcome {
        for ask in asks {
            if let Ask::Op(name, _) = ask
                && !self.queues.contains_key(name)
            {
                self.queues.insert(Arc::clone(name), Queue::default());
            }
        }
        if !asks.iter().any(Ask::writes) {
            let answers = asks.iter().map(|ask| self.single(ask)).collect();
            return settle(asks, answers, counters, false);
        }
        let mut answers = self.transact(asks, learned, counters);
        if answers.iter().any(is_full) && self.make_room(counters) {
            // The asks that worked are committed and keep their answers; those that found no room try again.
            let again: Vec<usize> = (0..asks.len()).filter(|index| is_full(&answers[*index])).collect();
            let full: Vec<Ask> = again.iter().map(|index| asks[*index].clone()).collect();
            for (index, answer) in again.into_iter().zip(self.transact(&full, learned, counters)) {
                answers[index] = answer;
            }
        }
        for (ask, answer) in asks.iter().zip(&mut answers).filter(|(_, answer)| is_full(answer)) {
            if let Some(done) = self.serve_in_portions(ask, learned, counters) {
                *answer = done;
            }
        }
        let committed = answers.iter().any(Result::is_ok);
        settle(asks, answers, counters, committed)
    }

    pub(super) fn transact(&mut self, asks: &[Ask], learned: &Learned, counters: &mut Counters) -> Vec<Done> {
        let before: Before = asks.iter().flat_map(|ask| self.queues_of(ask)).collect();
        let mut failed: BTreeMap<usize, Trouble> = BTreeMap::new();
        // Ends: every round but the last excludes one more ask.
        loop {
            let stop = match self.try_transaction(asks, learned, counters, &mut failed) {
                Ok(mut done) => {
                    self.facts.committed();
                    let answer = |index| match failed.remove(&index) {
                        Some(trouble) => Err(trouble),
                        None => done.remove(&index).ok_or(Trouble::Refused("ask without an answer")),
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
    ) -> Result<BTreeMap<usize, (Reply, Tallied)>, Stop> {
        self.sync_commits(asks.iter().any(Ask::is_waited_for))?;
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        if asks.iter().any(Ask::stores) {
            self.write_learned(learned, asks.iter().any(Ask::stores_records), counters)?;
        }
        // A savepoint copies every page it touches: a lone ask is undone with its transaction.
        let alone = asks.len() == 1;
        let mut done = BTreeMap::new();
        for (index, ask) in asks.iter().enumerate() {
            if failed.contains_key(&index) {
                continue;
            }
            let apart = !alone && ask.writes();
            let before: Before = if apart { self.queues_of(ask).collect() } else { Before::new() };
            let mark = self.facts.mark();
            if apart {
                self.conn.execute_batch("SAVEPOINT ask")?;
            }
            match self.single(ask) {
                Ok(answer) => {
                    done.insert(index, answer);
                    if apart {
                        self.conn.execute_batch("RELEASE ask")?;
                    }
                }
                Err(trouble) if trouble.fails_all() => return Err(Stop::All(trouble)),
                Err(trouble) if alone || self.conn.is_autocommit() => {
                    return Err(Stop::Without(index, trouble));
                }
                Err(trouble) => {
                    if apart {
                        self.conn.execute_batch("ROLLBACK TO ask; RELEASE ask")?;
                        self.go_back(&before, mark);
                        self.words = Words::load(&self.conn)?;
                    }
                    failed.insert(index, trouble);
                }
            }
        }
        self.conn.execute_batch("COMMIT")?;
        counters.commits = counters.commits.saturating_add(u64::from(!done.is_empty()));
        Ok(done)
    }

    /// One ask, its changes merged into the queues at once so that the next one of the transaction sees them.
    fn single(&mut self, ask: &Ask) -> Done {
        let mut tallied = Tallied::default();
        let reply = match ask {
            Ask::Op(name, op) => {
                let (event, change) = ops::carry_out(self, name, op)?;
                tallied.add(&change);
                if let StoreEvent::Fetched { rows, .. } = &event {
                    tallied.rows_fetched = rows.len() as u64;
                }
                if let Some(queue) = self.queues.get_mut(name) {
                    change.merge(queue);
                }
                Reply::Event(event)
            }
            Ask::Turn(turn) => {
                tallied = self.turn(turn)?;
                tallied.turns = 1;
                Reply::Answer(Answer::Done { number: turn.number })
            }
            Ask::Read(read) => {
                let (rows, more) = self.read(read)?;
                tallied.rows_fetched = rows.len() as u64;
                Reply::Answer(Answer::Rows { number: read.number, rows, more })
            }
        };
        Ok((reply, tallied))
    }

    /// The queues that an ask may change, as they are.
    fn queues_of(&self, ask: &Ask) -> impl Iterator<Item = (Arc<str>, Option<Queue>)> {
        ask.changed_queues().into_iter().map(|name| (Arc::clone(name), self.queues.get(name).cloned()))
    }

    /// Back to the state before the transaction, in the file and in memory.
    fn undo(&mut self, before: &Before) -> Result<(), Trouble> {
        self.go_back(before, 0);
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        self.words = Words::load(&self.conn)?;
        Ok(())
    }

    fn go_back(&mut self, before: &Before, mark: usize) {
        for (name, queue) in before {
            match queue {
                Some(queue) => drop(self.queues.insert(Arc::clone(name), queue.clone())),
                None => drop(self.queues.remove(name)),
            }
        }
        self.facts.back_to(mark);
    }

    /// Rows must be on disk when their commit is answered. Losing a deletion in a power cut only sends a row twice, and is not worth
    /// a sync: while a backlog drains, nothing is waited for.
    pub(super) fn sync_commits(&mut self, waited_for: bool) -> Result<(), Trouble> {
        if self.synced != waited_for {
            self.conn.pragma_update(None, "synchronous", if waited_for { "FULL" } else { "NORMAL" })?;
            self.synced = waited_for;
        }
        Ok(())
    }

    /// Schemas and clock of this run that the file lacks; inside a transaction that stores something.
    fn write_learned(
        &mut self,
        learned: &Learned,
        with_schemas: bool,
        counters: &mut Counters,
    ) -> Result<(), Trouble> {
        let rows = self.rows();
        let in_use =
            InUse { uplink_rows: rows > self.local_rows(), rows: rows > 0, facts: self.facts.len() > 0 };
        self.words.forget_stale(&self.conn, &learned.schemas, in_use)?;
        self.words.copy(&self.conn, rows)?;
        for (id, bytes) in learned.schemas.iter().filter(|_| with_schemas) {
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

    /// Writes the clock at once if something waits for it: rows of a boot are stored, or facts of this run, whose wall time has just been learned.
    pub(super) fn note_clock(&mut self, learned: &Learned) -> Result<(), Trouble> {
        let stored = self.rows() > 0;
        let waits = |(boot, wall): (&BootId, &WallMs)| {
            (self.facts.put || stored && self.words.knows_boot(*boot)) && self.clock_is_off(*boot, *wall)
        };
        if !learned.boots.iter().any(waits) {
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

    /// Pages that SQLite counts in the log; none where it cannot say. Writes nothing.
    pub(super) fn pages_in_log(&self) -> u64 {
        self.log_pages("NOOP").unwrap_or(0)
    }

    /// Copies pages of the log into the database as the mode says, and counts those in the log.
    fn log_pages(&self, mode: &str) -> Result<u64, Trouble> {
        let pages: i64 =
            self.conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(1))?;
        Ok(u64::try_from(pages).unwrap_or(0))
    }

    /// Copies the log into the database when it has reached its length. Only ever after a write, and when that was answered: nobody waits for it.
    pub(super) fn checkpoint_if_long(&mut self, counters: &mut Counters) -> Result<(), Trouble> {
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
    pub(super) fn make_room(&mut self, counters: &mut Counters) -> bool {
        let at_limit = self.free_pages().is_none_or(|pages| pages == 0);
        !at_limit && self.log_pages("NOOP").is_ok_and(|pages| pages > 0) && self.checkpoint(counters).is_ok()
    }

    /// Pages that the database may still fill within its limit; `None` if it does not say.
    pub(super) fn free_pages(&self) -> Option<u64> {
        let number =
            |pragma: &str| self.conn.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
        let [pages, free] =
            [number("page_count").ok()?, number("freelist_count").ok()?].map(i64::cast_unsigned);
        Some(self.budget.pages_max.saturating_sub(pages).saturating_add(free))
    }
}

fn is_full(answer: &Done) -> bool {
    matches!(answer, Err(Trouble::Disk(StoreFault::Full, _)))
}

/// Turns what came of the asks into answers and counts them.
fn settle(asks: &[Ask], answers: Vec<Done>, counters: &mut Counters, committed: bool) -> Outcome {
    let mut outcome = Outcome { committed, ..Outcome::default() };
    for (ask, answer) in asks.iter().zip(answers) {
        outcome.replies.push(match answer {
            Ok((reply, tallied)) => {
                tallied.count(counters);
                reply
            }
            Err(trouble) => {
                let fault = trouble.fault();
                counters.count_fault(fault);
                match (&trouble, ask) {
                    (Trouble::Rotten(_), Ask::Op(name, _) | Ask::Read(Read { queue: name, .. })) => {
                        outcome.rotten.push(Arc::clone(name));
                    }
                    (Trouble::Rotten(_) | Trouble::Disk(..), _) => {
                        outcome.fault = Some((fault, trouble.to_string()));
                    }
                    (Trouble::Refused(why), _) => log::error!(why; "the store refuses an op or a turn"),
                }
                ask.failed(fault)
            }
        });
    }
    outcome
}

//! The one writer: owns the database while it is open, and gets it back when it is not.
//!
//! ```text
//!            open                         Io three times, Corrupt
//!  Closed ---------> Open(Db) ----------------------------------> Closed, and opened again at once
//!    ^  |                                                           |
//!    +--+ fails: tried again after RETRY_MIN, doubling up to RETRY_MAX; every op is answered with the fault until then
//! ```
//!
//! A database that cannot be used is salvaged into a fresh one beside it, moved aside, and replaced; a crash in between finds
//! either the old one again or the finished fresh one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway_core::settings::StoreSettings;
use gateway_core::tag::{BootId, WallMs};
use gateway_core::uplink::row::{QueueId, Seq, StoreEvent, StoreFault, StoreOp, Stored};

use super::aside;
use super::db::{Db, Unusable};
use super::fault::Trouble;
use super::health::{Counters, StoreHealth};
use super::ops;
use super::salvage::{self, Salvage};
use super::transact::{Ask, Learned};
use super::words::{SCHEMAS_MAX, Words};

/// First pause before a database that cannot be opened is tried again.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause: a card that was pushed back in is found within a minute.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// I/O errors in a row after which the file is closed and opened again by its path: the disk may be another one.
const IO_FAULTS_MAX: u32 = 3;
/// Where a queue starts to count while nobody can say what is stored under it: above every seq that a healthy start gives out,
/// so that older rows stay older when the database comes back.
pub(super) const BLIND_SEQ: Seq = Seq(1 << 40);

/// Queues whose content was replaced, until their owners have heard of it; at most one entry per open queue. The lock is held for one map
/// operation at a time, by the writer and by whoever takes resets.
pub(super) type Resets = Arc<Mutex<BTreeMap<QueueId, Stored>>>;

/// Queues somebody has opened, by their id less one; true if nobody could say what was stored then.
pub(super) type OpenQueues = Vec<(Arc<str>, bool)>;

/// The writer's state.
#[derive(Debug)]
pub(super) struct Engine {
    settings: StoreSettings,
    db: Option<Db>,
    learned: Learned,
    counters: Counters,
    fault: Option<(StoreFault, String)>,
    aside: Option<PathBuf>,
    io_faults: u32,
    retry: Duration,
    /// Whether the database was closed because of a fault just met, and is worth opening at once.
    reopen: bool,
    opened: OpenQueues,
    resets: Resets,
    /// Rows and numbers of the queues when the database was last whole.
    known: BTreeMap<Arc<str>, (Option<i64>, u64)>,
}

impl Engine {
    /// An engine with its database closed; the first [`Engine::try_open`] is due.
    pub(super) fn new(settings: StoreSettings, resets: Resets) -> Self {
        Self {
            settings,
            db: None,
            learned: Learned::default(),
            counters: Counters::default(),
            fault: None,
            aside: None,
            io_faults: 0,
            retry: RETRY_MIN,
            reopen: false,
            opened: Vec::new(),
            resets,
            known: BTreeMap::new(),
        }
    }

    /// Opens the database; without success the engine answers every op with the fault.
    pub(super) fn open(settings: StoreSettings, resets: Resets) -> Self {
        let mut engine = Self::new(settings, resets);
        engine.try_open();
        engine.recover();
        engine
    }

    /// An engine that takes the place of one that is gone: the same queues are open under the same ids, and get a reset.
    pub(super) fn successor(settings: StoreSettings, resets: Resets, queues: OpenQueues) -> Self {
        let mut engine = Self::new(settings, resets);
        engine.opened = queues;
        engine.try_open();
        engine.recover();
        engine
    }

    /// The open queues, for a successor.
    pub(super) fn open_queues(&self) -> OpenQueues {
        self.opened.clone()
    }

    /// When to call [`Engine::try_open`] again; `None` while the database is open.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.db.is_none().then_some(self.retry)
    }

    /// Opens the database, replacing it if it cannot be used. Queues that are open get a reset.
    pub(super) fn try_open(&mut self) {
        if self.db.is_some() {
            return;
        }
        match self.open_or_replace() {
            Ok(db) => self.opened_database(db),
            Err((fault, text)) => {
                self.counters.opens_failed = self.counters.opens_failed.saturating_add(1);
                self.retry = if self.fault.is_none() {
                    RETRY_MIN
                } else {
                    self.retry.saturating_mul(2).min(RETRY_MAX)
                };
                log::error!(path:% = self.settings.path.display(), why = text.as_str(), retry_s = self.retry.as_secs(); "the queue database cannot be opened: {fault}; readings are kept in memory only");
                self.fault = Some((fault, text));
            }
        }
    }

    fn opened_database(&mut self, db: Db) {
        self.counters.rows_lost = self.counters.rows_lost.saturating_add(db.rotten_rows);
        self.counters.words_lost = self.counters.words_lost.saturating_add(db.words.rotten);
        if db.rotten_rows > 0 {
            log::error!(rows = db.rotten_rows; "stored rows do not decode and are lost");
        }
        if self.fault.take().is_some() {
            log::info!(path:% = self.settings.path.display(), rows = db.rows(); "the queue database is open");
        }
        self.retry = RETRY_MIN;
        self.io_faults = 0;
        self.db = Some(db);
        if !self.settle_blind_queues() {
            return;
        }
        self.remember();
        for index in 0..self.opened.len() {
            self.reset(index);
        }
    }

    /// Rows found under a queue that began to count blindly come before its own. False when that could not be written: two rows under
    /// one seq would be one row lost, so the database stays closed.
    fn settle_blind_queues(&mut self) -> bool {
        for (name, blind) in &mut self.opened {
            let Some(db) = self.db.as_mut().filter(|_| *blind) else { continue };
            match db.renumber_below(name, BLIND_SEQ) {
                Ok(()) => *blind = false,
                Err(trouble) => {
                    log::error!(queue = **name, why:% = trouble; "stored rows could not be numbered before newer ones");
                    self.fault = Some((trouble.fault(), trouble.to_string()));
                    let _ = self.db.take().map(Db::close);
                    return false;
                }
            }
        }
        true
    }

    fn open_or_replace(&mut self) -> Result<Db, (StoreFault, String)> {
        let path = self.settings.path.clone();
        self.finish_replacing().map_err(|error| as_fault(error.into()))?;
        let (why, text, ours) = match Db::open(&path, self.settings.file_bytes_max) {
            Ok(db) => return Ok(db),
            Err(Unusable::Fault(fault, text)) => return Err((fault, text)),
            Err(Unusable::Damaged(text)) => ("damaged", text, true),
            Err(Unusable::Newer(version)) => ("newer", format!("format version {version}"), true),
            Err(Unusable::Foreign(text)) => ("foreign", text, false),
        };
        log::error!(path:% = path.display(), why = text.as_str(); "the queue database is {why}: it is replaced");
        // Held until the fresh database is in place, so that no other process touches the file; another one holding it was told above.
        let _lock = aside::Lock::take(&path).map_err(|error| as_fault(error.into()))?;
        if ours {
            self.salvage(why == "damaged").map_err(as_fault)?;
        } else {
            // It may have been ours before its first page went: nobody can say.
            self.counters.losses_unknown = self.counters.losses_unknown.saturating_add(1);
        }
        let place = aside::move_aside(&path, why).map_err(|error| as_fault(error.into()))?;
        self.counters.moved_aside = self.counters.moved_aside.saturating_add(1);
        log::warn!(place:% = place.display(); "the old database was moved aside");
        self.aside = Some(place);
        self.finish_replacing().map_err(|error| as_fault(error.into()))?;
        Db::open(&path, self.settings.file_bytes_max).map_err(|unusable| match unusable {
            Unusable::Fault(fault, text) => (fault, text),
            other => (StoreFault::Corrupt, format!("the fresh database cannot be used: {other:?}")),
        })
    }

    /// Copies what is whole of the database in place into a fresh one beside it.
    fn salvage(&mut self, damaged: bool) -> Result<(), Trouble> {
        let path = &self.settings.path.clone();
        let building = aside::beside(path, ".building");
        aside::remove(&building)?;
        let fresh = Db::open(&building, self.settings.file_bytes_max);
        let mut fresh = fresh.map_err(|unusable| Trouble::Disk(StoreFault::Io, format!("{unusable:?}")))?;
        let names =
            self.known.iter().filter_map(|(name, (key, _))| Some(((*key)?, Arc::clone(name)))).collect();
        fresh.begin_bulk()?;
        let salvage = match salvage::salvage(path, &mut fresh, &names) {
            Ok(salvage) => salvage,
            Err(trouble) => {
                drop(fresh);
                // Room for others; the damaged database stays and is tried again.
                aside::remove(&building)?;
                return Err(trouble);
            }
        };
        self.count_salvage(salvage, &fresh, damaged);
        fresh.end_bulk()?;
        fresh.close()?;
        // The log is empty; it must not be found beside a database it does not belong to.
        aside::rename(&building, &aside::salvage_path(path))?;
        Ok(())
    }

    /// Losses are exact for queues that were counted before the damage.
    fn count_salvage(&mut self, salvage: Salvage, fresh: &Db, damaged: bool) {
        let known: u64 = self.known.values().map(|(_, rows)| *rows).sum();
        let was_counted = !self.known.is_empty();
        let lost = if was_counted { known.saturating_sub(fresh.rows()) } else { salvage.lost };
        let unknown = !was_counted && damaged;
        self.counters.rows_salvaged = self.counters.rows_salvaged.saturating_add(salvage.rows);
        self.counters.rows_lost = self.counters.rows_lost.saturating_add(lost);
        self.counters.losses_unknown = self.counters.losses_unknown.saturating_add(u64::from(unknown));
        log::error!(salvaged = salvage.rows, lost, more_may_be_lost = unknown; "rows were copied out of a damaged database");
    }

    /// Puts a finished fresh database in place if the old one is gone.
    fn finish_replacing(&self) -> std::io::Result<()> {
        let fresh = aside::salvage_path(&self.settings.path);
        if !fresh.exists() {
            return Ok(());
        }
        if self.settings.path.exists() {
            aside::remove(&fresh)
        } else {
            aside::rename(&fresh, &self.settings.path)
        }
    }

    /// What is stored is told to the queue's owner before its next op is carried out.
    fn reset(&mut self, index: usize) {
        let Some((name, _)) = self.opened.get(index).cloned() else { return };
        if let Some(stored) = self.stored(&name) {
            self.resets.lock().unwrap_or_else(PoisonError::into_inner).insert(queue_id(index), stored);
        }
    }

    fn stored(&mut self, name: &str) -> Option<Stored> {
        match self.db.as_ref()?.stored(name) {
            Ok(stored) => Some(stored),
            Err(trouble) => {
                self.meet(trouble.fault(), trouble.to_string());
                None
            }
        }
    }

    /// Remembers what is stored, for counting losses.
    fn remember(&mut self) {
        if let Some(db) = &self.db {
            self.known = db
                .queues
                .iter()
                .map(|(name, queue)| (Arc::clone(name), (queue.key, queue.total().rows)))
                .collect();
        }
    }

    /// Opens a queue; nothing is written.
    pub(super) fn open_queue(&mut self, name: &Arc<str>) -> (QueueId, Stored) {
        let stored = self.stored(name);
        let index = self.opened.iter().position(|(known, _)| known == name).unwrap_or(self.opened.len());
        if index == self.opened.len() {
            self.opened.push((Arc::clone(name), stored.is_none()));
        }
        self.resets.lock().unwrap_or_else(PoisonError::into_inner).remove(&queue_id(index));
        (queue_id(index), stored.unwrap_or(Stored { last: BLIND_SEQ, ..Stored::default() }))
    }

    /// Every queue in the file.
    pub(super) fn queues(&mut self) -> Vec<(Arc<str>, Stored)> {
        let names: Vec<_> = self.db.iter().flat_map(|db| db.queues.keys().cloned()).collect();
        names.into_iter().filter_map(|name| self.stored(&name).map(|stored| (name, stored))).collect()
    }

    /// Removes a queue.
    pub(super) fn drop_queue(&mut self, name: &str) -> Result<u64, StoreFault> {
        let Some(db) = &mut self.db else {
            return Err(self.fault.as_ref().map_or(StoreFault::Io, |(fault, _)| *fault));
        };
        match db.drop_queue(name) {
            Ok(dropped) => {
                self.remember();
                Ok(dropped.rows)
            }
            Err(trouble) => {
                let fault = trouble.fault();
                self.counters.count_fault(fault);
                self.meet(fault, trouble.to_string());
                Err(fault)
            }
        }
    }

    /// Carries out ops; one answer each, in order.
    pub(super) fn serve(&mut self, asks: &[(QueueId, StoreOp)]) -> Vec<StoreEvent> {
        let mut events: Vec<Option<StoreEvent>> =
            asks.iter().map(|(queue, op)| self.refuse(*queue, op)).collect();
        let free: Vec<usize> = (0..asks.len()).filter(|index| events[*index].is_none()).collect();
        let name = |queue: QueueId| self.opened.get(queue_index(queue)).map(|(name, _)| Arc::clone(name));
        let batch: Vec<Ask> =
            free.iter().filter_map(|index| Some((name(asks[*index].0)?, asks[*index].1.clone()))).collect();
        if let Some(db) = self.db.as_mut().filter(|_| !batch.is_empty()) {
            let outcome = db.serve(&batch, &self.learned, &mut self.counters);
            for (index, event) in free.into_iter().zip(outcome.events) {
                events[index] = Some(event);
            }
            self.remember();
            for name in outcome.rotten {
                self.recount(&name);
            }
            match outcome.fault {
                Some((fault, text)) => self.meet(fault, text),
                None if outcome.committed => {
                    self.io_faults = 0;
                    if self.fault.take().is_some() {
                        log::info!(path:% = self.settings.path.display(); "the queue database takes rows again");
                    }
                }
                None => {}
            }
        }
        let lost = |(event, (_, op)): (Option<StoreEvent>, &(QueueId, StoreOp))| {
            event.unwrap_or(StoreEvent::Failed { op: ops::op_number(op), fault: StoreFault::Io })
        };
        events.into_iter().zip(asks).map(lost).collect()
    }

    /// An op that cannot be carried out: the database is closed, nobody opened the queue, or its owner has not yet heard of a reset.
    fn refuse(&mut self, queue: QueueId, op: &StoreOp) -> Option<StoreEvent> {
        let fault = if self.db.is_none() {
            self.fault.as_ref().map_or(StoreFault::Io, |(fault, _)| *fault)
        } else if queue_index(queue) >= self.opened.len() {
            StoreFault::Io
        } else if self.resets.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&queue) {
            StoreFault::Corrupt
        } else {
            return None;
        };
        self.counters.count_fault(fault);
        Some(StoreEvent::Failed { op: ops::op_number(op), fault })
    }

    /// Leaves out rows of a queue that do not decode, and tells its owner what is left.
    fn recount(&mut self, name: &Arc<str>) {
        let Some(db) = &mut self.db else { return };
        let Some(mut queue) = db.queues.get(name).cloned() else { return };
        let before = queue.total().rows;
        match db.count(&mut queue) {
            Ok(()) => {
                let lost = before.saturating_sub(queue.total().rows);
                self.counters.rows_lost = self.counters.rows_lost.saturating_add(lost);
                log::error!(queue = **name, rows = lost; "stored rows do not decode and are lost");
                db.queues.insert(Arc::clone(name), queue);
                self.remember();
                if let Some(index) = self.opened.iter().position(|(known, _)| known == name) {
                    self.reset(index);
                }
            }
            Err(trouble) => self.meet(trouble.fault(), trouble.to_string()),
        }
    }

    /// Takes note of a fault. A damaged database is replaced at once; after several I/O errors the file is opened again.
    fn meet(&mut self, fault: StoreFault, text: String) {
        if self.fault.as_ref().is_none_or(|(known, _)| *known != fault) {
            log::error!(path:% = self.settings.path.display(), why = text.as_str(); "the queue database has a fault: {fault}");
        }
        self.io_faults = if fault == StoreFault::Io { self.io_faults.saturating_add(1) } else { 0 };
        self.fault = Some((fault, text));
        if fault == StoreFault::Corrupt || self.io_faults >= IO_FAULTS_MAX {
            self.io_faults = 0;
            // Whatever is wrong with it is dealt with when it is opened again.
            let _ = self.db.take().map(Db::close);
            self.reopen = true;
        }
    }

    /// Opens a database again that was closed because of a fault. Called between requests: one try, later ones after a pause.
    pub(super) fn recover(&mut self) {
        if std::mem::take(&mut self.reopen) {
            self.try_open();
        }
    }

    /// Keeps a schema for the next rows that are stored.
    pub(super) fn learn_schema(&mut self, id: u64, bytes: Arc<[u8]>) {
        if self.learned.schemas.len() >= SCHEMAS_MAX && !self.learned.schemas.contains_key(&id) {
            self.counters.schemas_refused = self.counters.schemas_refused.saturating_add(1);
            return;
        }
        self.learned.schemas.insert(id, bytes);
    }

    /// Every schema, stored or learned in this run.
    pub(super) fn schemas(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut schemas = match self.db.as_ref().map(|db| Words::schemas(&db.conn)) {
            Some(Ok(schemas)) => schemas,
            Some(Err(error)) => {
                let trouble = Trouble::from(error);
                self.meet(trouble.fault(), trouble.to_string());
                BTreeMap::new()
            }
            None => BTreeMap::new(),
        };
        schemas.extend(self.learned.schemas.iter().map(|(id, bytes)| (*id, bytes.to_vec())));
        schemas.into_iter().collect()
    }

    /// Learns the wall time of a boot moment; written with the next rows, or at once when rows of that boot wait for it.
    pub(super) fn note_boot(&mut self, boot: BootId, wall: WallMs) {
        /// Boots learned in one run: this one, and its corrections replace each other.
        const LEARNED_BOOTS_MAX: usize = 16;
        if self.learned.boots.len() < LEARNED_BOOTS_MAX || self.learned.boots.contains_key(&boot) {
            self.learned.boots.insert(boot, wall);
        }
        let noted = self.db.as_mut().map_or(Ok(()), |db| db.note_clock(&self.learned));
        if let Err(trouble) = noted {
            self.meet(trouble.fault(), trouble.to_string());
        }
    }

    /// Wall times of boot moments, stored or learned in this run.
    pub(super) fn clock_history(&self) -> Vec<(BootId, WallMs)> {
        let mut clock: BTreeMap<_, _> = self.db.iter().flat_map(|db| db.words.clock()).collect();
        clock.extend(self.learned.boots.iter().map(|(boot, wall)| (*boot, *wall)));
        clock.into_iter().collect()
    }

    /// How the store is.
    pub(super) fn health(&self) -> StoreHealth {
        let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |found| found.len());
        let path = self.settings.path.clone();
        StoreHealth {
            fault: self.fault.clone(),
            open: self.db.is_some(),
            aside: self.aside.clone(),
            rows: self.db.as_ref().map_or(0, Db::rows),
            file_bytes: size(path.clone()).saturating_add(size(aside::beside(&path, "-wal"))),
            counters: self.counters,
            path,
        }
    }

    /// Copies the log into the database and closes it.
    pub(super) fn close(&mut self) -> Result<(), StoreFault> {
        match self.db.take().map(Db::close) {
            Some(Err(trouble)) => {
                log::error!(why:% = trouble; "the queue database could not be closed cleanly; nothing stored is lost");
                Err(trouble.fault())
            }
            _ => Ok(()),
        }
    }
}

fn queue_id(index: usize) -> QueueId {
    QueueId(u32::try_from(index).unwrap_or(u32::MAX - 1).saturating_add(1))
}

fn queue_index(queue: QueueId) -> usize {
    usize::try_from(queue.0).unwrap_or(usize::MAX).wrapping_sub(1)
}

fn as_fault(trouble: Trouble) -> (StoreFault, String) {
    (trouble.fault(), trouble.to_string())
}

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

mod broker;
mod known;
mod replace;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::broker::Sieve;
use gateway_core::settings::StoreSettings;
use gateway_core::tag::{BootId, WallMs};
use gateway_core::uplink::row::{Mark, QueueId, Seq, StoreFault, Stored};

use super::aside;
use super::ask::{Ask, Reply, Want, is_local};
use super::db::Db;
use super::fault::Trouble;
use super::health::{Counters, StoreHealth};
use super::resets::Resets;
use super::transact::Learned;
use super::words::{SCHEMAS_MAX, Words};
use known::KnownStored;

/// First pause before a database that cannot be opened is tried again.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause: a card that was pushed back in is found within a minute.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// I/O errors in a row after which the file is closed and opened again by its path: the disk may be another one.
const IO_FAULTS_MAX: u32 = 3;
/// Where a queue starts to count while nobody can say what is stored under it: above every seq that a healthy start gives out,
/// so that older rows stay older when the database comes back.
pub(super) const BLIND_SEQ: Seq = Seq(1 << 40);

/// Who has been told what is stored, and must hear of a reset; and what a successor must know of the files.
#[derive(Debug, Clone, Default)]
pub(super) struct Opened {
    /// Queues by their id less one; true if nobody could say what was stored then.
    queues: Vec<(Arc<str>, bool)>,
    /// What the broker, once it has asked, has memory for.
    broker: Option<Sieve>,
    /// Whether the log was cut while the database was open, until what is left is in a fresh one: SQLite would open it as an older database.
    log_cut: bool,
}

/// The writer's state.
#[derive(Debug)]
pub(super) struct Engine {
    /// The path that the configuration names, which may be a link.
    named: PathBuf,
    pub(super) settings: StoreSettings,
    pub(super) db: Option<Db>,
    learned: Learned,
    counters: Counters,
    pub(super) fault: Option<(StoreFault, String)>,
    aside: Option<PathBuf>,
    io_faults: u32,
    retry: Duration,
    /// Whether the database was closed because of a fault just met, and is worth opening at once.
    reopen: bool,
    /// Whether something was committed since [`Engine::tidy`].
    pub(super) log_grew: bool,
    /// Whether something was to be written since [`Engine::look_again`].
    pub(super) wrote: bool,
    opened: Opened,
    resets: Arc<Resets>,
    known: Option<KnownStored>,
    /// What was last found wrong with the files.
    notice: Option<String>,
    /// Files that are gone, until what they hold is in place again.
    remains: Option<replace::Remains>,
    /// Whether there was no file before the tries to open it that have failed.
    fresh_place: bool,
}

impl Engine {
    /// An engine with its database closed; the first [`Engine::try_open`] is due.
    pub(super) fn new(settings: StoreSettings, resets: Arc<Resets>) -> Self {
        Self {
            named: settings.path.clone(),
            settings,
            db: None,
            learned: Learned::default(),
            counters: Counters::default(),
            fault: None,
            aside: None,
            io_faults: 0,
            retry: RETRY_MIN,
            reopen: false,
            log_grew: false,
            wrote: false,
            opened: Opened::default(),
            resets,
            known: None,
            notice: None,
            remains: None,
            fresh_place: false,
        }
    }

    /// Opens the database; without success the engine answers every op with the fault.
    pub(super) fn open(settings: StoreSettings, resets: Arc<Resets>) -> Self {
        let mut engine = Self::new(settings, resets);
        engine.try_open();
        engine.recover();
        engine
    }

    /// An engine that takes the place of one that is gone: the same queues are open under the same ids, and get a reset.
    pub(super) fn successor(settings: StoreSettings, resets: Arc<Resets>, opened: Opened) -> Self {
        let mut engine = Self::new(settings, resets);
        engine.opened = opened;
        engine.try_open();
        engine.recover();
        engine
    }

    /// What a successor needs.
    pub(super) fn opened(&self) -> Opened {
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
        self.settings.path = aside::resolved(&self.named);
        match self.open_or_replace() {
            Ok(db) => self.opened_database(db),
            Err((fault, text)) => {
                self.counters.opens_failed = self.counters.opens_failed.saturating_add(1);
                self.retry = if self.fault.is_none() {
                    RETRY_MIN
                } else {
                    self.retry.saturating_mul(2).min(RETRY_MAX)
                };
                log::error!(path:% = self.settings.path.display(), reason:% = fault, retry_s = self.retry.as_secs(); "the queue database cannot be opened: {fault}: {text}; readings are kept in memory only");
                self.fault = Some((fault, text));
            }
        }
    }

    fn opened_database(&mut self, db: Db) {
        self.counters.rows_lost = self.counters.rows_lost.saturating_add(db.rotten_rows);
        self.counters.words_lost = self.counters.words_lost.saturating_add(db.words.rotten);
        self.counters.facts_lost = self.counters.facts_lost.saturating_add(db.facts.rotten());
        if db.rotten_rows > 0 || db.facts.rotten() > 0 {
            log::error!(rows = db.rotten_rows, facts = db.facts.rotten(); "stored rows or facts do not decode and are lost");
        }
        if self.fault.take().is_some() {
            log::info!(path:% = self.settings.path.display(), rows = db.rows(); "the queue database is open");
        }
        self.retry = RETRY_MIN;
        self.io_faults = 0;
        self.db = Some(db);
        self.enter_disk();
        if !self.settle_blind_queues() {
            return;
        }
        self.remember();
        for index in 0..self.opened.queues.len() {
            self.reset(index);
        }
        self.reset_broker();
    }

    /// Rows found under a queue that began to count blindly come before its own. False when that could not be written: two rows under
    /// one seq would be one row lost, so the database stays closed.
    fn settle_blind_queues(&mut self) -> bool {
        let Some(db) = &mut self.db else { return false };
        for (name, blind) in self.opened.queues.iter_mut().filter(|(_, blind)| *blind) {
            if let Err(trouble) = db.renumber_below(name, BLIND_SEQ) {
                log::error!(queue = shown(name), why:% = trouble; "stored rows could not be numbered before newer ones");
                self.fault = Some((trouble.fault(), trouble.to_string()));
                let _ = self.db.take().map(Db::close);
                return false;
            }
            *blind = false;
        }
        true
    }

    /// What is stored is told to the queue's owner before its next op is carried out.
    fn reset(&mut self, index: usize) {
        let Some((name, _)) = self.opened.queues.get(index).cloned() else { return };
        if let Some(stored) = self.stored(&name) {
            self.resets.put_queue(queue_id(index), (stored, self.set_aside(&name)));
        }
    }

    /// Which rows of a queue are set aside.
    pub(super) fn set_aside(&self, name: &str) -> Vec<Arc<Mark>> {
        self.db.as_ref().map(|db| db.set_aside(name)).unwrap_or_default()
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

    /// Remembers what is stored, for counting losses; while the database is whole, and before it is closed because of a fault.
    fn remember(&mut self) {
        if let Some(db) = &self.db {
            self.known = Some(KnownStored::of(db));
        }
    }

    /// Opens a queue; nothing is written.
    pub(super) fn open_queue(&mut self, name: &Arc<str>) -> (QueueId, Stored) {
        let stored = self.stored(name);
        let queues = &mut self.opened.queues;
        let index = queues.iter().position(|(known, _)| known == name).unwrap_or(queues.len());
        if index == queues.len() {
            queues.push((Arc::clone(name), stored.is_none()));
        }
        self.resets.forget_queue(queue_id(index));
        (queue_id(index), stored.unwrap_or(Stored { last: BLIND_SEQ, ..Stored::default() }))
    }

    /// Every queue in the file that is not a local session's.
    pub(super) fn queues(&mut self) -> Vec<(Arc<str>, Stored)> {
        self.queues_where(|name| !is_local(name))
    }

    fn queues_where(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<(Arc<str>, Stored)> {
        let names = self.db.iter().flat_map(|db| db.queues.keys().filter(|name| wanted(name)).cloned());
        let names: Vec<_> = names.collect();
        names.into_iter().filter_map(|name| self.stored(&name).map(|stored| (name, stored))).collect()
    }

    /// Removes a queue.
    pub(super) fn drop_queue(&mut self, name: &str) -> Result<u64, StoreFault> {
        let Some(db) = &mut self.db else {
            return Err(self.fault.as_ref().map_or(StoreFault::Io, |(fault, _)| *fault));
        };
        if is_local(name) {
            return Ok(0);
        }
        match db.drop_queue(name) {
            Ok(dropped) => Ok(dropped.rows),
            Err(trouble) => {
                let fault = trouble.fault();
                self.counters.count_fault(fault);
                self.meet(fault, trouble.to_string());
                Err(fault)
            }
        }
    }

    /// Carries out what is wanted; one answer each, in order.
    pub(super) fn serve(&mut self, wants: Vec<Want>) -> Vec<Reply> {
        let mut replies: Vec<Option<Reply>> = Vec::with_capacity(wants.len());
        let (mut asks, mut places) = (Vec::new(), Vec::new());
        for (place, want) in wants.into_iter().enumerate() {
            match self.admit(want) {
                Ok(ask) => {
                    asks.push(ask);
                    places.push(place);
                    replies.push(None);
                }
                Err(reply) => replies.push(Some(reply)),
            }
        }
        for (place, reply) in places.into_iter().zip(self.carry_out(&asks)) {
            replies[place] = Some(reply);
        }
        replies.into_iter().map(|reply| reply.expect("each is refused or carried out")).collect()
    }

    fn carry_out(&mut self, asks: &[Ask]) -> Vec<Reply> {
        let Some(db) = self.db.as_mut().filter(|_| !asks.is_empty()) else { return Vec::new() };
        let outcome = db.serve(asks, &self.learned, &mut self.counters);
        let mut replies = outcome.replies;
        for name in &outcome.rotten {
            self.recount(name);
        }
        self.read_again(asks, &mut replies, &outcome.rotten);
        self.log_grew |= outcome.committed;
        self.wrote |= asks.iter().any(Ask::writes);
        match outcome.fault {
            Some((fault, text)) => self.meet(fault, text),
            None if outcome.committed => self.takes_again(),
            None => {}
        }
        replies
    }

    /// Something was written: no fault stands in the way.
    pub(super) fn takes_again(&mut self) {
        self.io_faults = 0;
        if self.fault.take().is_some() {
            log::info!(path:% = self.settings.path.display(); "the queue database takes rows again");
        }
    }

    /// What has to be done after writes, when they were answered: nobody waits for it.
    pub(super) fn tidy(&mut self) {
        let Some(db) = self.db.as_mut().filter(|_| std::mem::take(&mut self.log_grew)) else { return };
        if let Err(trouble) = db.checkpoint_if_long(&mut self.counters) {
            self.meet(trouble.fault(), trouble.to_string());
        }
    }

    /// A want that can be carried out, or the answer to one that cannot: the database is closed, nobody opened the queue, or its owner has
    /// not yet heard of a reset.
    fn admit(&mut self, want: Want) -> Result<Ask, Reply> {
        let fault = if self.db.is_none() {
            self.fault.as_ref().map_or(StoreFault::Io, |(fault, _)| *fault)
        } else {
            match want {
                Want::Op(queue, op) if !self.resets.holds_queue(queue) => {
                    match self.opened.queues.get(queue_index(queue)) {
                        Some((name, _)) => return Ok(Ask::Op(Arc::clone(name), op)),
                        None => return Err(self.refuse(&Want::Op(queue, op), StoreFault::Io)),
                    }
                }
                Want::Turn(turn) if !self.resets.holds_broker() => return Ok(Ask::Turn(turn)),
                Want::Read(read) if !self.resets.holds_broker() => return Ok(Ask::Read(read)),
                _ => StoreFault::Corrupt,
            }
        };
        Err(self.refuse(&want, fault))
    }

    fn refuse(&mut self, want: &Want, fault: StoreFault) -> Reply {
        self.counters.count_fault(fault);
        want.failed(fault)
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
                log::error!(queue = shown(name), rows = lost; "stored rows do not decode and are lost");
                db.queues.insert(Arc::clone(name), queue);
                if let Some(index) = self.opened.queues.iter().position(|(known, _)| known == name) {
                    self.reset(index);
                }
            }
            Err(trouble) => self.meet(trouble.fault(), trouble.to_string()),
        }
    }

    /// Takes note of a fault. A damaged database is replaced at once; after several I/O errors the file is opened again.
    pub(super) fn meet(&mut self, fault: StoreFault, text: String) {
        if self.fault.as_ref().is_none_or(|(known, _)| *known != fault) {
            log::error!(path:% = self.settings.path.display(), reason:% = fault, why = text.as_str(); "the queue database has a fault: {fault}");
        }
        self.io_faults = if fault == StoreFault::Io { self.io_faults.saturating_add(1) } else { 0 };
        self.fault = Some((fault, text));
        if fault == StoreFault::Corrupt || self.io_faults >= IO_FAULTS_MAX {
            self.io_faults = 0;
            self.remember();
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
            notice: self.notice.clone(),
            rows: self.db.as_ref().map_or(0, Db::rows),
            local_rows: self.db.as_ref().map_or(0, Db::local_rows),
            facts: self.db.as_ref().map_or(0, |db| db.facts.len()),
            file_bytes: size(path.clone()).saturating_add(size(aside::beside(&path, "-wal"))),
            counters: self.counters,
            path,
        }
    }

    /// Copies the log into the database and closes it.
    pub(super) fn close(&mut self) -> Result<(), StoreFault> {
        self.watch();
        self.recover();
        match self.db.take().map(Db::close) {
            Some(Err(trouble)) => {
                log::error!(why:% = trouble; "the queue database could not be closed cleanly; nothing stored is lost");
                Err(trouble.fault())
            }
            _ => Ok(()),
        }
    }
}

/// The start of a queue's name: a client id may be 64 KiB long.
fn shown(name: &str) -> &str {
    /// Bytes of a name in the log.
    const SHOWN_BYTES_MAX: usize = 80;
    &name[..name.floor_char_boundary(SHOWN_BYTES_MAX)]
}

fn queue_id(index: usize) -> QueueId {
    QueueId(u32::try_from(index).unwrap_or(u32::MAX - 1).saturating_add(1))
}

fn queue_index(queue: QueueId) -> usize {
    usize::try_from(queue.0).unwrap_or(usize::MAX).wrapping_sub(1)
}

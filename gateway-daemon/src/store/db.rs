//! An open, healthy database: its connection, words and queues.
//!
//! Opening writes nothing to an existing file. It checks every page and reads every row once: the counts of a queue come from its rows, so they
//! cannot disagree with them, and damage is found before anyone counts on what it hides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use gateway_core::text::one_line;
use gateway_core::uplink::row::{Priority, Row, Seq, StoreFault, Stored, Tally};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::aside::{self, Lock};
use super::ask::is_local;
use super::facts::Facts;
use super::fault::Trouble;
use super::held::Held;
use super::layout::{self, Budget};
use super::marks::Marks;
use super::row_codec;
use super::words::Words;

/// Most rows of one queue that do not decode before the whole database counts as damaged and is copied.
const ROTTEN_MAX: usize = 1000;

/// A durable queue as the database holds it.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    /// Its number in the file; `None` until its first row is written, so that opening a queue writes nothing.
    pub(super) key: Option<i64>,
    /// What is stored, per priority.
    pub(super) tally: [Tally; 2],
    /// No row of normal priority has a lower seq.
    pub(super) normal_from: i64,
    /// Highest seq ever stored, as far as it is known.
    pub(super) last: u64,
    /// The value of `last` that is in the file.
    pub(super) last_saved: u64,
    /// Rows that do not decode: left out, and deleted with the next write.
    pub(super) rotten: BTreeSet<i64>,
    /// Rows that are set aside.
    pub(super) marks: Marks,
}

impl Queue {
    /// Rows of both priorities.
    pub(super) fn total(&self) -> Tally {
        let mut total = self.tally[Priority::Normal as usize];
        total.add(self.tally[Priority::High as usize]);
        total
    }
}

/// Why a file cannot be used as it is.
#[derive(Debug)]
pub(super) enum Unusable {
    /// The disk, the lock or the place: tried again later, the file stays.
    Fault(StoreFault, String),
    /// Our database, damaged: salvaged and moved aside.
    Damaged(String),
    /// Not our database: moved aside.
    Foreign(String),
    /// Our database, written by a newer version: moved aside, what this version understands is copied.
    Newer(i32),
}

impl From<Trouble> for Unusable {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Disk(StoreFault::Corrupt, text) => Self::Damaged(text),
            Trouble::Disk(fault, text) => Self::Fault(fault, text),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        Trouble::from(error).into()
    }
}

impl From<std::io::Error> for Unusable {
    fn from(error: std::io::Error) -> Self {
        Trouble::from(error).into()
    }
}

/// The open database.
#[derive(Debug)]
pub(super) struct Db {
    // The connection is closed before the lock is dropped: fields drop in this order.
    pub(super) conn: Connection,
    pub(super) files: Held,
    pub(super) budget: Budget,
    pub(super) words: Words,
    /// By name.
    pub(super) queues: BTreeMap<Arc<str>, Queue>,
    /// Whether commits are synced at present.
    pub(super) synced: bool,
    /// What the broker remembers.
    pub(super) facts: Facts,
    /// Rows found rotten while opening.
    pub(super) rotten_rows: u64,
    /// Marks of rows that are not there: deleted with the next mark that is written.
    pub(super) stale_marks: Vec<i64>,
    /// The table of marks is somebody else's: it is left alone, and nothing is remembered.
    pub(super) foreign_marks: bool,
}

impl Db {
    /// Opens the database, or makes one where there is none.
    pub(super) fn open(path: &Path, file_bytes_max: u64) -> Result<Self, Unusable> {
        place_is_usable(path)?;
        let (lock, empty) = Lock::take(path)?;
        let budget = Budget::of(file_bytes_max);
        let conn = connect(path)?;
        // A file that turns out to be damaged stays as it is, with its log.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if empty {
            layout::configure(&conn, budget)?;
            layout::create(&conn)?;
        } else {
            identify(&conn, budget, path)?;
        }
        layout::log_on(&conn)?;
        layout::limit(&conn, budget)?;
        check(&conn)?;
        conn.set_prepared_statement_cache_capacity(layout::STATEMENTS_MAX);
        let (words, facts) = (Words::load(&conn)?, Facts::load(&conn)?);
        let page_bytes: u32 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let files = Held::new(lock, path, page_bytes.into())?;
        let (queues, stale_marks) = (BTreeMap::new(), Vec::new());
        let mut db = Self {
            conn,
            files,
            budget,
            words,
            queues,
            synced: true,
            facts,
            rotten_rows: 0,
            stale_marks,
            foreign_marks: false,
        };
        db.load_queues()?;
        db.load_marks()?;
        db.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(db)
    }

    /// Checkpoints what is in the log and closes the file.
    pub(super) fn close(self) -> Result<(), Trouble> {
        self.close_but_hold().1
    }

    /// As [`Db::close`], with the files still held.
    pub(super) fn close_but_hold(self) -> (Held, Result<(), Trouble>) {
        let Self { conn, files, .. } = self;
        let closed = conn.close().map_err(|(_, error)| Trouble::from(error));
        (files, closed)
    }

    /// Closes the file and leaves its log as it is.
    pub(super) fn leave(self) {
        // Without it the log would be copied, which is no harm but to what we want to read there.
        let _ = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        let _ = self.close();
    }

    fn load_queues(&mut self) -> Result<(), Unusable> {
        let mut found = Vec::new();
        {
            let mut statement = self.conn.prepare("SELECT id, name, last_seq FROM queues ORDER BY id")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                found.push((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?));
            }
        }
        for (key, name, last) in found {
            let last = last.cast_unsigned();
            let mut queue = Queue { key: Some(key), last, last_saved: last, ..Queue::default() };
            self.count(&mut queue)?;
            self.rotten_rows = self.rotten_rows.saturating_add(queue.rotten.len() as u64);
            self.queues.insert(name.into(), queue);
        }
        Ok(())
    }

    /// Reads every row of a queue and sets its counts.
    pub(super) fn count(&self, queue: &mut Queue) -> Result<(), Trouble> {
        queue.tally = Default::default();
        queue.rotten.clear();
        queue.normal_from = i64::MAX;
        let Some(key) = queue.key else { return Ok(()) };
        let mut statement = self.conn.prepare(&format!("SELECT seq, row FROM q{key} ORDER BY seq"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            let blob = row.get_ref(1)?.as_blob().unwrap_or_default();
            match weigh(seq, blob, &self.words) {
                Some((priority, tally)) => {
                    queue.tally[priority as usize].add(tally);
                    if priority == Priority::Normal && queue.normal_from == i64::MAX {
                        queue.normal_from = seq;
                    }
                }
                None if queue.rotten.len() >= ROTTEN_MAX => {
                    return Err(Trouble::Disk(
                        StoreFault::Corrupt,
                        format!("more than {ROTTEN_MAX} damaged rows"),
                    ));
                }
                None => {
                    queue.rotten.insert(seq);
                }
            }
            queue.last = queue.last.max(seq.cast_unsigned());
        }
        Ok(())
    }

    /// What is stored of a queue.
    pub(super) fn stored(&self, name: &str) -> Result<Stored, Trouble> {
        let Some(queue) = self.queues.get(name) else { return Ok(Stored::default()) };
        let [normal, high] = queue.tally;
        Ok(Stored { normal, high, first: self.first(queue)?, last: Seq(queue.last) })
    }

    fn first(&self, queue: &Queue) -> Result<Seq, Trouble> {
        let Some(key) = queue.key else { return Ok(Seq(0)) };
        let mut statement = self.conn.prepare(&format!("SELECT seq FROM q{key} ORDER BY seq"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            if !queue.rotten.contains(&seq) {
                return Ok(Seq(seq.cast_unsigned()));
            }
        }
        Ok(Seq(0))
    }

    /// Rows of all queues.
    pub(super) fn rows(&self) -> u64 {
        self.queues.values().map(|queue| queue.total().rows).sum()
    }

    /// Rows of the queues of local sessions.
    pub(super) fn local_rows(&self) -> u64 {
        self.queues.iter().filter(|(name, _)| is_local(name)).map(|(_, queue)| queue.total().rows).sum()
    }

    /// Whether a row is stored under a seq.
    pub(super) fn has_row(&self, name: &str, seq: Seq) -> Result<bool, Trouble> {
        let Some(key) = self.queues.get(name).and_then(|queue| queue.key) else { return Ok(false) };
        let mut statement = self.conn.prepare_cached(&format!("SELECT 1 FROM q{key} WHERE seq = ?1"))?;
        Ok(statement.exists([seq.0.cast_signed()])?)
    }

    /// Makes a queue in the file; inside a transaction.
    pub(super) fn create_queue(&self, name: &str, last: u64) -> Result<i64, Trouble> {
        let sql = "INSERT INTO queues(name, last_seq) VALUES (?1, ?2)";
        self.conn.execute(sql, params![name, last.cast_signed()])?;
        let key = self.conn.last_insert_rowid();
        self.conn.execute_batch(&layout::table_of_queue(key, name))?;
        Ok(key)
    }

    /// Many writes that are worth nothing before the last: syncs are left out until [`Db::end_bulk`].
    pub(super) fn begin_bulk(&mut self) -> Result<(), Trouble> {
        Ok(self.conn.pragma_update(None, "synchronous", "OFF")?)
    }

    /// Everything written is on disk, and the log is empty.
    pub(super) fn end_bulk(&mut self) -> Result<(), Trouble> {
        self.conn.pragma_update(None, "synchronous", "FULL")?;
        self.synced = true;
        Ok(self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Numbers the rows of a queue anew, in their order, ending at `top`, if any of them is above it.
    pub(super) fn renumber_below(&mut self, name: &str, top: Seq) -> Result<(), Trouble> {
        let Some(mut queue) = self.queues.get(name).cloned() else { return Ok(()) };
        let Some(old) = queue.key.filter(|_| queue.last > top.0) else { return Ok(()) };
        let transaction = self.conn.unchecked_transaction()?;
        let key = self.create_queue(name, top.0)?;
        transaction.execute("DELETE FROM queues WHERE id = ?1", [old])?;
        let mut seq = top.0.saturating_sub(queue.total().rows);
        {
            let mut rows_of = transaction.prepare(&format!("SELECT seq, row FROM q{old} ORDER BY seq"))?;
            let mut insert = transaction.prepare(&format!("INSERT INTO q{key}(seq, row) VALUES (?1, ?2)"))?;
            let mut rows = rows_of.query([])?;
            while let Some(row) = rows.next()? {
                let blob = row.get_ref(1)?.as_blob().unwrap_or_default();
                let was = Seq(row.get::<_, i64>(0)?.cast_unsigned());
                if let Some(blob) = row_codec::reseal(was, Seq(seq.saturating_add(1)), blob) {
                    seq = seq.saturating_add(1);
                    insert.execute(params![seq.cast_signed(), blob])?;
                }
            }
        }
        transaction.execute_batch(&format!("DROP TABLE q{old}"))?;
        transaction.commit()?;
        (queue.key, queue.last, queue.last_saved) = (Some(key), top.0, top.0);
        // They are other rows by their numbers: what was set aside of them is sent again.
        queue.marks = Marks::default();
        self.count(&mut queue)?;
        self.queues.insert(name.into(), queue);
        Ok(())
    }

    /// Raises the last seq of a queue that is in the file already; for a salvaged one.
    pub(super) fn keep_last(&mut self, name: &str, last: u64) -> Result<(), Trouble> {
        let Some(queue) = self.queues.get_mut(name) else { return Ok(()) };
        if let Some(key) = queue.key.filter(|_| queue.last < last) {
            self.conn
                .execute("UPDATE queues SET last_seq = ?1 WHERE id = ?2", params![last.cast_signed(), key])?;
            (queue.last, queue.last_saved) = (last, last);
        }
        Ok(())
    }

    /// Removes a queue with its rows. Says what went.
    pub(super) fn drop_queue(&mut self, name: &str) -> Result<Tally, Trouble> {
        let before = self.queues.get(name).cloned();
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        let dropped =
            self.drop_tables(name).and_then(|total| Ok(self.conn.execute_batch("COMMIT").map(|()| total)?));
        if dropped.is_err() {
            if let Some(queue) = before {
                self.queues.insert(name.into(), queue);
            }
            if !self.conn.is_autocommit() {
                self.conn.execute_batch("ROLLBACK")?;
            }
        }
        dropped
    }

    /// Removes a queue with its rows; inside a transaction. Says what went.
    pub(super) fn drop_tables(&mut self, name: &str) -> Result<Tally, Trouble> {
        let Some(queue) = self.queues.remove(name) else { return Ok(Tally::default()) };
        if let Some(key) = queue.key {
            self.conn.execute("DELETE FROM queues WHERE id = ?1", [key])?;
            self.conn.execute_batch(&format!("DROP TABLE q{key}"))?;
            if !queue.marks.is_empty() {
                self.delete_marks(key, i64::MIN, i64::MAX)?;
            }
        }
        Ok(queue.total())
    }
}

/// Priority and count of a stored row; `None` when it does not decode.
pub(super) fn weigh(seq: i64, blob: &[u8], words: &Words) -> Option<(Priority, Tally)> {
    let decoded = row_codec::decode(Seq(seq.cast_unsigned()), blob).ok()?;
    let bytes = decoded.size(words).ok()?;
    Some((decoded.priority, Tally { rows: 1, readings: decoded.readings.into(), bytes }))
}

/// What a row that does not decode counts for when it is deleted.
pub(super) fn weight_of_rotten(blob: &[u8]) -> Tally {
    Tally { rows: 1, readings: 0, bytes: Row::size_of(0, blob.len()) }
}

/// A connection to an existing file.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Whether a file may be opened or made at this path; makes its folder.
fn place_is_usable(path: &Path) -> Result<(), Unusable> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => {
            let text = format!("{} is not a file: give the path of a file in [store] path", path.display());
            return Err(Unusable::Fault(StoreFault::Io, text));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = aside::folder(path);
            std::fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
        }
        Err(error) => return Err(at(path, error)),
    }
    // SQLite falls back to reading when it may not write, and says so only at the first commit.
    let writable = rustix::fs::Access::WRITE_OK;
    for place in [path, aside::folder(path)] {
        match rustix::fs::access(place, writable) {
            Err(errno) if errno != rustix::io::Errno::NOENT => return Err(at(place, errno.into())),
            _ => {}
        }
    }
    Ok(())
}

/// An error with the place that it is about.
fn at(place: &Path, error: std::io::Error) -> Unusable {
    match Trouble::from(error) {
        Trouble::Disk(fault, text) => Trouble::Disk(fault, format!("{}: {text}", place.display())).into(),
        other => other.into(),
    }
}

/// Whether an existing file is a database of ours that this version understands; an older one is migrated.
fn identify(conn: &Connection, budget: Budget, path: &Path) -> Result<(), Unusable> {
    if conn.is_readonly(rusqlite::MAIN_DB)? {
        return Err(Unusable::Fault(StoreFault::ReadOnly, format!("{} may not be written", path.display())));
    }
    let number = |pragma: &str| conn.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i32>(0));
    let application_id = match layout::configure(conn, budget).and_then(|()| number("application_id")) {
        Ok(id) => id,
        Err(error) => {
            return Err(match Unusable::from(error) {
                Unusable::Damaged(text) if !ours_by_its_bytes(path) => Unusable::Foreign(text),
                other => other,
            });
        }
    };
    if application_id != layout::APPLICATION_ID {
        return Err(if ours_by_its_bytes(path) {
            Unusable::Damaged(format!("application id {application_id}"))
        } else {
            Unusable::Foreign(format!("application id {application_id}"))
        });
    }
    match number("user_version")? {
        version if version == layout::USER_VERSION => Ok(()),
        version if version > layout::USER_VERSION => Err(Unusable::Newer(version)),
        version if version >= 0 => Ok(layout::migrate(conn, version)?),
        version => Err(Unusable::Damaged(format!("user version {version}"))),
    }
}

/// Looks for damage that reading does not meet: a page that claims fewer rows than it holds, a free page in use. Reads every page in use once.
fn check(conn: &Connection) -> Result<(), Unusable> {
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Unusable::Damaged(one_line(&found).into_owned())) }
}

/// Whether a file that SQLite does not understand was ours once: the application id stands in the header at byte 68, or
/// our SQL in the first pages.
fn ours_by_its_bytes(path: &Path) -> bool {
    /// The schema page and a few after it.
    const LOOK_BYTES: u64 = 16 * layout::PAGE_BYTES;
    let mut start = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| std::io::Read::read_to_end(&mut std::io::Read::take(file, LOOK_BYTES), &mut start));
    let sql = b"CREATE TABLE words(id INTEGER PRIMARY KEY, kind";
    read.is_ok()
        && (start.get(68..72) == Some(&layout::APPLICATION_ID.to_be_bytes()[..])
            || start.windows(sql.len()).any(|window| window == sql))
}

/// Highest stored seq of a queue.
pub(super) fn highest(conn: &Connection, key: i64) -> rusqlite::Result<Option<i64>> {
    conn.query_row(&format!("SELECT seq FROM q{key} ORDER BY seq DESC LIMIT 1"), [], |row| row.get(0))
        .optional()
}

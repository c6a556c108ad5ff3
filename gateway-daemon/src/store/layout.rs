//! The database file: identity, tables, migrations, and every PRAGMA with its why.
//!
//! ```text
//! queues  id INTEGER PRIMARY KEY | name TEXT | last_seq INTEGER    one row per durable queue
//! words   id INTEGER PRIMARY KEY | kind INTEGER | body BLOB        topics, runs, schemas, clock history (module `words`)
//! words_copy   as words                                           topics, runs and the clock a second time (module `words`)
//! q<id>   seq INTEGER PRIMARY KEY | row BLOB                       the rows of queue <id> (module `row_codec`); the name stands in its SQL, too
//! aside   id INTEGER PRIMARY KEY | ...                             rows that are set aside, made with the first one (module `marks`)
//! facts   id INTEGER PRIMARY KEY | kind INTEGER | key BLOB | value BLOB    what the broker must remember (module `facts`)
//! ```
//!
//! Queues whose name begins with `local/` belong to sessions of local clients; the others to uplinks. Version 1 had no facts.
//!
//! One table per queue, keyed by the integer seq: rows are always appended at the right edge of their own B-tree, so leaves fill
//! to the end and a commit dirties one partly filled page per queue. Measured as bytes reaching the block device of an ext4, 95-byte
//! blobs, 100 rows per commit, pages of 1024: integer key 282 bytes per row, `WITHOUT ROWID` 384; a rollback journal instead of the log needs 311,
//! and 1762 instead of 1157 with 10 rows per commit.

use rusqlite::Connection;

use super::crc::crc32;

/// `PRAGMA application_id` of our files: "TdGt".
pub(super) const APPLICATION_ID: i32 = 0x5464_4774;
/// `PRAGMA user_version` this program writes: the number of [`MIGRATIONS`].
pub(super) const USER_VERSION: i32 = 2;

/// Page size, bytes. A commit writes whole pages and most commits are small: page 1, an inner page and the last leaf come on top of the rows, and
/// a row that does not fit a large page leaves its rest empty, while the overflow of a small one is packed tightly.
/// Measured at the block device of an ext4 with blocks of 4 KiB, bytes per row with 100 rows of 81 / 10 rows of 626 bytes per commit:
/// pages of 512: 333 / 2527; 1024: 324 / 3215; 2048: 338 / 2789; 4096: 393 / 3332.
pub(super) const PAGE_BYTES: u64 = 512;
/// Most bytes of log before it is copied into the database. A short log is soon overwritten in place and stops growing; growing
/// costs file system metadata at every sync, a very short one copies too often. Measured as above: 128 KiB 336 / 2473; 256 KiB 333 / 2527;
/// 512 KiB 334 / 2799; 1 MiB with pages of 2048: 392 / 3225 instead of 337 / 2781.
const WAL_BYTES_MAX: u64 = 256 * 1024;
/// Least bytes of log, however small the file limit is.
const WAL_BYTES_MIN: u64 = 64 * 1024;
/// Page cache, KiB: the working set of appending and draining is a few pages per queue, and the daemon lives in 12 MiB.
const CACHE_KIB: u64 = 256;
/// Least size of the database, pages: below this not even an empty database fits.
const PAGES_MIN: u64 = 128;

/// Step `n` takes a database from user_version `n` to `n + 1`; a fresh one runs them all.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE queues(id INTEGER PRIMARY KEY, name TEXT NOT NULL, last_seq INTEGER NOT NULL);
    CREATE TABLE words(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, body BLOB NOT NULL);
",
    "
    CREATE TABLE facts(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL);
",
];
/// Prepared statements kept: three for each of some ten busy queues, and those for facts; about 3 KiB each.
pub(super) const STATEMENTS_MAX: usize = 48;

/// How a file limit is shared between log and database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// The log is copied into the database when it holds this many pages.
    pub(super) wal_pages_max: u64,
    /// `PRAGMA max_page_count`.
    pub(super) pages_max: u64,
}

impl Budget {
    /// An eighth of the limit, at most [`WAL_BYTES_MAX`], is for the log, and as much again for the transaction that makes it too long.
    pub(super) fn of(file_bytes_max: u64) -> Self {
        let wal_bytes = (file_bytes_max / 8).clamp(WAL_BYTES_MIN, WAL_BYTES_MAX);
        let database_bytes = file_bytes_max.saturating_sub(wal_bytes.saturating_mul(2));
        Self {
            wal_pages_max: wal_bytes / PAGE_BYTES,
            pages_max: (database_bytes / PAGE_BYTES).clamp(PAGES_MIN, u32::MAX.into()),
        }
    }
}

/// Longest name of a queue that its table bears, bytes.
const NAME_BYTES_MAX: usize = 64;

/// The SQL that makes the table of a queue. SQLite keeps its text, and with it the name of the queue: rows find their owner when the table `queues` is damaged. A name that is
/// long or unusual stays out.
pub(super) fn table_of_queue(key: i64, name: &str) -> String {
    let usual = |byte: u8| byte.is_ascii_graphic() && !b"*'\"`[];".contains(&byte);
    let comment = if name.len() <= NAME_BYTES_MAX && name.bytes().all(usual) {
        format!(" /* {:08x} {name} */", seal_of_name(key, name))
    } else {
        String::new()
    };
    format!("CREATE TABLE q{key}(seq INTEGER PRIMARY KEY, row BLOB NOT NULL{comment})")
}

/// The name of a queue out of the SQL of its table.
pub(super) fn queue_of_table(key: i64, sql: &str) -> Option<&str> {
    let (seal, name) = sql.split_once(" /* ")?.1.split_once(" */")?.0.split_once(' ')?;
    (u32::from_str_radix(seal, 16).ok()? == seal_of_name(key, name)).then_some(name)
}

fn seal_of_name(key: i64, name: &str) -> u32 {
    crc32(&[&key.to_le_bytes(), name.as_bytes()])
}

/// Settings of a connection, before its first access to the file. Writes nothing.
pub(super) fn configure(conn: &Connection, budget: Budget) -> rusqlite::Result<()> {
    // One process owns the file: a second one finds it locked, and the index of the log lives in our heap instead of a
    // memory-mapped -shm file, which the kernel would write to the card every few seconds.
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    // Nothing waits for a lock that is held for as long as the other process lives.
    conn.busy_timeout(std::time::Duration::ZERO)?;
    // A commit is answered only when the log is synced. Transactions that only delete run with NORMAL (see `Db::transact`).
    conn.pragma_update(None, "synchronous", "FULL")?;
    // The log is checkpointed by us after a commit, so that it is counted and its errors are seen.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    limit_log(conn, budget)?;
    conn.pragma_update(None, "cache_size", -i64::try_from(CACHE_KIB).unwrap_or(i64::MAX))?;
    // An I/O error on a memory-mapped file is a SIGBUS, and mapped pages count as resident memory.
    conn.pragma_update(None, "mmap_size", 0)?;
    // Rollback of one op inside a transaction keeps old pages in memory, never in a temporary file.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    // Deleted rows are not overwritten with zeros: that would write every page once more.
    conn.pragma_update(None, "secure_delete", "OFF")?;
    // Cells are checked when a page is read: damage becomes SQLITE_CORRUPT and not a wrong row.
    conn.pragma_update(None, "cell_size_check", "ON")?;
    // A schema that was tampered with runs no functions.
    conn.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(())
}

/// The file limit; needs an open database, because the page count lives in it.
pub(super) fn limit(conn: &Connection, budget: Budget) -> rusqlite::Result<()> {
    let pages = i64::try_from(budget.pages_max).unwrap_or(i64::MAX);
    conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}

/// A log that one large transaction has blown up is cut back; the usual length is kept, because growing costs metadata.
pub(super) fn limit_log(conn: &Connection, budget: Budget) -> rusqlite::Result<()> {
    let wal_bytes = budget.wal_pages_max.saturating_mul(PAGE_BYTES).saturating_mul(2);
    conn.pragma_update(None, "journal_size_limit", i64::try_from(wal_bytes).unwrap_or(i64::MAX))
}

/// Makes an empty file ours. Runs with the rollback journal so that identity and tables are in the database file itself, all
/// or nothing, and only then turns to the log.
pub(super) fn create(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "page_size", i64::try_from(PAGE_BYTES).unwrap_or(512))?;
    // A file that never shrinks does not pay for moving pages around: free pages are reused.
    conn.pragma_update(None, "auto_vacuum", "NONE")?;
    migrate(conn, 0)
}

/// Brings a database of an older version up to date, all or nothing.
pub(super) fn migrate(conn: &Connection, from: i32) -> rusqlite::Result<()> {
    let steps = MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(usize::MAX));
    let transaction = conn.unchecked_transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", USER_VERSION)?;
    transaction.commit()
}

/// Turns the write-ahead log on; writes only when it is off. The mode is kept in the file.
pub(super) fn log_on(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // The emptied log stays in place at close: opening and closing a healthy database leaves the directory as it was.
    let mut persist = 1;
    conn.file_control(Some(rusqlite::MAIN_DB), rusqlite::FileControl::PersistWal(&mut persist))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_and_database_stay_below_the_file_limit_together() {
        for file_bytes_max in [1_000_000, 16 << 20, 512_000_000, 1 << 40] {
            let budget = Budget::of(file_bytes_max);
            assert!((2 * budget.wal_pages_max + budget.pages_max) * PAGE_BYTES <= file_bytes_max);
            assert!(budget.wal_pages_max * PAGE_BYTES <= WAL_BYTES_MAX);
        }
        assert_eq!(i32::try_from(MIGRATIONS.len()), Ok(USER_VERSION));
    }
}

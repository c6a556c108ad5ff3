//! What the files say before SQLite opens them: it takes an empty file for a fresh one, deletes a log without a database, reads a log up to the first frame that is damaged,
//! and does without a log that is not there, all without a word.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use gateway_core::uplink::row::Seq;

use super::aside::beside;
use super::db::Db;
use super::facts;
use super::layout;
use super::pages::{Disk, Image, Log, Reader, Value, columns};
use super::row_codec;

/// So many bytes beside a log are as good as none: SQLite takes a database of one byte for an empty one (`unixFileSize`), and deletes the log.
const EMPTY_BYTES_MAX: u64 = 1;

/// The database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Database {
    Missing,
    Empty,
    /// With some content; whether it says that it has a log.
    There {
        logged: bool,
    },
}

/// The files as they were found.
#[derive(Debug)]
pub(super) struct Evidence {
    database: Database,
    /// None if there is no log.
    log: Option<Log>,
}

/// Something that may be lost, and how bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt {
    /// Whether it is more than a power cut leaves behind.
    pub(super) bad: bool,
    /// A sentence without its subject, which is the path.
    pub(super) text: &'static str,
}

impl Evidence {
    /// Looks at the files of a database; writes nothing.
    pub(super) fn look(path: &Path) -> Self {
        let database = match regular(path) {
            Ok(Some((file, bytes))) if bytes > EMPTY_BYTES_MAX => {
                let mut versions = [0; 2];
                // "File format version numbers" of the format: 2 for a log.
                let read = file.read_exact_at(&mut versions, 18);
                Database::There { logged: read.is_ok() && versions == [2, 2] }
            }
            Ok(Some(_)) => Database::Empty,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Database::Missing,
            Ok(None) | Err(_) => Database::There { logged: false },
        };
        let log = regular(&beside(path, "-wal")).ok().flatten().map(|(file, _)| {
            let page_bytes = usize::try_from(layout::PAGE_BYTES).unwrap_or(512);
            Log::read(&Disk::of(Some(&file)), page_bytes)
        });
        Self { database, log }
    }

    /// Whether there is no file at all: nothing has been here.
    pub(super) fn is_first(&self) -> bool {
        self.database == Database::Missing && self.log.is_none()
    }

    /// Whether only the log has rows.
    pub(super) fn only_log(&self) -> bool {
        !matches!(self.database, Database::There { .. }) && self.log.as_ref().is_some_and(Log::holds_pages)
    }

    /// Whether something was committed behind a damaged frame of the log.
    pub(super) fn has_gap(&self) -> bool {
        self.log.as_ref().is_some_and(|log| !log.gap.is_empty())
    }

    /// What may be lost although the database can be opened.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        let (bad, text) = match (self.database, &self.log) {
            (Database::Empty, _) => (
                true,
                "was empty, where a database should be: what was stored in it is lost, how much is unknown",
            ),
            (Database::Missing, Some(_)) => (
                true,
                "was gone, while its log was still there: what was stored in it is lost, how much is unknown",
            ),
            (Database::There { logged: true }, None) => (
                false,
                "was found without its log: what was written last may be lost, unless another program has opened the database, which copies the log and removes it",
            ),
            (Database::There { .. }, Some(log)) if log.torn => (
                false,
                "had a log that ends in the middle, as after a power cut: what was just being written is lost, how much is unknown",
            ),
            _ => return None,
        };
        Some(Doubt { bad, text })
    }
}

/// A file with its length; nothing for anything else that may lie there: opening a pipe would wait for ever.
fn regular(path: &Path) -> io::Result<Option<(File, u64)>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Ok(None);
    }
    Ok(Some((File::open(path)?, found.len())))
}

impl Db {
    /// Whether rows or facts were committed behind a damaged frame of the log, so that this database, as SQLite sees it, lacks them.
    pub(super) fn lacks_what_is_behind_a_gap(&self) -> bool {
        let (database, log) = self.files.disks();
        let mut image = Image::new(&database, &log);
        let gap = image.of_gap();
        let mut lacks = false;
        Reader::new(&image).in_gap(&gap, &mut |stray| {
            stray.rows(&mut |key, payload| {
                let known = match columns(payload).as_deref() {
                    Some([Value::Null, Value::Blob(blob)]) => self.has_whole_row(key, blob),
                    Some([Value::Null, Value::Int(kind), Value::Blob(name), Value::Blob(value)]) => {
                        let fact = facts::unseal(key, *kind, name, value);
                        fact.is_none() || self.holds("facts", "id", "value", key, value)
                    }
                    _ => true,
                };
                lacks |= !known;
            });
        });
        lacks
    }

    /// Whether a row is stored, or is not whole.
    fn has_whole_row(&self, seq: i64, blob: &[u8]) -> bool {
        row_codec::decode(Seq(seq.cast_unsigned()), blob).is_err()
            || self
                .queues
                .values()
                .filter_map(|queue| queue.key)
                .any(|key| self.holds(&format!("q{key}"), "seq", "row", seq, blob))
    }

    fn holds(&self, table: &str, key_column: &str, column: &str, key: i64, expected: &[u8]) -> bool {
        let sql = format!("SELECT {column} = ?2 FROM {table} WHERE {key_column} = ?1");
        let found = self.conn.prepare_cached(&sql).and_then(|mut statement| {
            statement.query_row(rusqlite::params![key, expected], |row| row.get::<_, bool>(0))
        });
        found.unwrap_or(false)
    }
}

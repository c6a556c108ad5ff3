//! Which stored rows are set aside, because the cloud will not take them.
//!
//! ```text
//! aside   id INTEGER PRIMARY KEY | queue INTEGER | seq INTEGER | print INTEGER | blame TEXT | server TEXT
//! ```
//!
//! `queue` is the number of the queue, `print` the CRC-32 of the row's blob: a mark counts only for the very row that it was made for. The row itself stays in
//! its table. The table is made with the first mark; versions before it knew no marks open a database with it as they open any other (they look only at
//! the tables they name), send such rows again, and age and trim them. What they leave of marks fits no row and is deleted with the next mark.
//!
//! Bounds: the queue's own (`ASIDE_ROWS_MAX`); [`READ_MAX`] rows of the table are looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::uplink::row::{Blame, Mark, Row, Seq};
use rusqlite::{Connection, OptionalExtension, params};

use super::crc::crc32;
use super::db::{Db, Queue};
use super::fault::Trouble;
use super::pages::Value;
use super::row_codec;

/// Most marks read: more than all uplinks may have.
pub(super) const READ_MAX: i64 = 50_000;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS aside(id INTEGER PRIMARY KEY, queue INTEGER NOT NULL, seq INTEGER NOT NULL, \
                     print INTEGER NOT NULL, blame TEXT NOT NULL, server TEXT NOT NULL)";

/// Marks of one queue by their seq. Shared, because a queue is copied before each transaction.
pub(super) type Marks = Arc<BTreeMap<i64, Arc<Mark>>>;

/// A mark as it stands in the file.
#[derive(Debug, Clone)]
pub(super) struct Written {
    print: i64,
    blame: Blame,
    server: Arc<str>,
}

impl Written {
    /// A mark out of the columns of [`COLUMNS`].
    pub(super) fn read(row: &rusqlite::Row<'_>) -> Option<((i64, i64), Self)> {
        let place = (row.get(1).ok()?, row.get(2).ok()?);
        let word: String = row.get(4).ok()?;
        let server: String = row.get(5).ok()?;
        Some((
            place,
            Self { print: row.get(3).ok()?, blame: Blame::from_word(&word)?, server: server.into() },
        ))
    }

    /// A mark out of its columns, the key first.
    pub(super) fn of_columns(columns: &[Value<'_>]) -> Option<((i64, i64), Self)> {
        let [
            Value::Null,
            Value::Int(queue),
            Value::Int(seq),
            Value::Int(print),
            Value::Text(blame),
            Value::Text(server),
        ] = *columns
        else {
            return None;
        };
        Some(((queue, seq), Self { print, blame: Blame::from_word(blame)?, server: server.into() }))
    }

    /// The mark, if this is the row that it was made for.
    pub(super) fn of(&self, row: &Row, blob: &[u8]) -> Option<Mark> {
        (print(blob) == self.print).then(|| Mark::of(row, self.blame, &self.server))
    }
}

/// Columns of the table, the key first.
const COLUMNS: &str = "id, queue, seq, print, blame, server";

fn print(blob: &[u8]) -> i64 {
    crc32(&[blob]).into()
}

fn exists(conn: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'aside'";
    Ok(conn.query_row(sql, [], |_| Ok(())).optional()?.is_some())
}

impl Db {
    /// Reads the marks of every queue; after its rows.
    pub(super) fn load_marks(&mut self) -> Result<(), Trouble> {
        self.stale_marks.clear();
        self.foreign_marks = false;
        for queue in self.queues.values_mut() {
            queue.marks = Marks::default();
        }
        if !exists(&self.conn)? {
            return Ok(());
        }
        let mut found = BTreeMap::new();
        {
            let sql = format!("SELECT {COLUMNS} FROM aside ORDER BY id LIMIT {READ_MAX}");
            let Ok(mut statement) = self.conn.prepare(&sql) else {
                self.foreign_marks = true;
                log::warn!(
                    "the table of rows that are set aside is not ours: it is left alone, and such rows are sent again"
                );
                return Ok(());
            };
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                match Written::read(row) {
                    Some((place, written)) => {
                        // Of two for one row the later one counts.
                        let before = found.insert(place, (id, written));
                        self.stale_marks.extend(before.map(|(id, _)| id));
                    }
                    None => self.stale_marks.push(id),
                }
            }
        }
        for ((key, seq), (id, written)) in found {
            let name = self
                .queues
                .iter()
                .find(|(_, queue)| queue.key == Some(key))
                .map(|(name, _)| Arc::clone(name));
            let mark = match &name {
                Some(_) => self.marked_row(key, seq, |row, blob| written.of(row, blob))?.flatten(),
                None => None,
            };
            match (name.and_then(|name| self.queues.get_mut(&name)), mark) {
                (Some(queue), Some(mark)) => {
                    drop(Arc::make_mut(&mut queue.marks).insert(seq, Arc::new(mark)))
                }
                _ => self.stale_marks.push(id),
            }
        }
        Ok(())
    }

    fn marked_row<T>(
        &self,
        key: i64,
        seq: i64,
        take: impl FnOnce(&Row, &[u8]) -> T,
    ) -> Result<Option<T>, Trouble> {
        let sql = format!("SELECT row FROM q{key} WHERE seq = ?1");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query([seq])?;
        let Some(found) = rows.next()? else { return Ok(None) };
        let blob = found.get_ref(0)?.as_blob().unwrap_or_default();
        let place = Seq(seq.cast_unsigned());
        let row = row_codec::decode(place, blob).and_then(|decoded| decoded.to_row(place, &self.words));
        Ok(row.ok().map(|row| take(&row, blob)))
    }

    /// What is set aside in a queue, ascending.
    pub(super) fn set_aside(&self, name: &str) -> Vec<Arc<Mark>> {
        let queue = self.queues.get(name);
        let whole = |queue: &Queue, seq: &i64| !queue.rotten.contains(seq);
        let marks = queue.iter().flat_map(|queue| queue.marks.iter().filter(|(seq, _)| whole(queue, seq)));
        marks.map(|(_, mark)| Arc::clone(mark)).collect()
    }

    /// Writes a mark for a stored row; inside a transaction. Says whether there is such a row.
    pub(super) fn write_mark(&self, key: i64, mark: &Mark) -> Result<bool, Trouble> {
        let seq = mark.seq.0.cast_signed();
        if self.foreign_marks {
            return Ok(false);
        }
        let Some(print) = self.marked_row(key, seq, |_, blob| print(blob))? else { return Ok(false) };
        self.conn.execute_batch(TABLE)?;
        for id in &self.stale_marks {
            self.conn.execute("DELETE FROM aside WHERE id = ?1", [id])?;
        }
        self.conn.execute("DELETE FROM aside WHERE queue = ?1 AND seq = ?2", [key, seq])?;
        let sql = "INSERT INTO aside(queue, seq, print, blame, server) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.conn.execute(sql, params![key, seq, print, mark.blame.word(), &*mark.server])?;
        Ok(true)
    }

    /// Forgets the marks of a range of rows; inside a transaction, and only when there are some.
    pub(super) fn delete_marks(&self, key: i64, from: i64, to: i64) -> Result<(), Trouble> {
        self.conn.execute("DELETE FROM aside WHERE queue = ?1 AND seq BETWEEN ?2 AND ?3", [key, from, to])?;
        Ok(())
    }
}

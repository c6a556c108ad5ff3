//! Copies what can still be read out of a damaged database, row by row, into a fresh one.
//!
//! A damaged page hides the rows on it. Reading goes on behind it: the first readable row is looked for at growing distances, then
//! the edge of the hole by halving; at most [`HOLES_MAX`] holes per table are crossed. Every row is checked by its checksum before it is copied.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gateway_core::broker::{Change, Turn};
use gateway_core::uplink::row::{Mark, Row, Seq, StoreOp};
use rusqlite::Connection;

use super::ask::Ask;
use super::db::{self, Db};
use super::facts;
use super::fault::Trouble;
use super::health::Counters;
use super::layout;
use super::marks::Written;
use super::row_codec;
use super::transact::Learned;
use super::words::Words;

/// Most holes crossed in one table: one per damaged page, and a file with more is mostly damage.
const HOLES_MAX: u32 = 1000;
/// Wider holes, in keys, say nothing about how many rows were in them.
const HOLE_WIDTH_MAX: i64 = 1_000_000;
/// Rows copied in one transaction.
const COPY_ROWS_MAX: usize = 512;
/// Most queues looked for.
const QUEUES_MAX: usize = 10_000;

/// What came of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Salvage {
    /// Rows copied.
    pub(super) rows: u64,
    /// Facts copied.
    pub(super) facts: u64,
    /// What could not be.
    pub(super) lost: Lost,
}

/// What could not be copied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// Rows that did not decode, and as many as fit into holes between readable ones. Rows that vanish with the end of a table, or with a page that claims to
    /// hold fewer, are not seen.
    pub(super) rows: u64,
    /// Facts, likewise.
    pub(super) facts: u64,
}

/// Reads the database at `from` and stores what is whole in `into`, which is fresh. `names` are the queues by their number as far as they were
/// known before the damage.
///
/// # Errors
/// Only what stops the fresh database: the damaged one cannot fail, it can only yield nothing.
pub(super) fn salvage(
    from: &Path,
    into: &mut Db,
    names: &BTreeMap<i64, Arc<str>>,
) -> Result<Salvage, Trouble> {
    let mut salvage = Salvage::default();
    let Ok(conn) = open_damaged(from) else { return Ok(salvage) };
    let mut words = Words::default();
    let mut schemas = Learned::default();
    let mut unread = 0;
    scan(&conn, "words", "id, kind, body", &mut unread, &mut |row| {
        let (Ok(id), Ok(kind)) = (row.get(0), row.get(1)) else { return };
        words.take(id, kind, blob(row, 2));
        if let Some((schema, bytes)) = super::words::schema_of(id, kind, blob(row, 2)) {
            schemas.schemas.insert(schema, bytes.into());
        }
    });
    schemas.boots = words.clock().into_iter().collect();
    let mut marks = BTreeMap::new();
    scan(&conn, "aside", super::marks::COLUMNS, &mut unread, &mut |row| marks.extend(Written::read(row)));
    for (key, (name, last)) in queues(&conn, names) {
        let mut copy = Copy {
            into,
            name: &name,
            learned: &schemas,
            rows: Vec::new(),
            trouble: None,
            copied: 0,
            rotten: 0,
            marks: Vec::new(),
        };
        scan(&conn, &format!("q{key}"), "seq, row", &mut salvage.lost.rows, &mut |row| {
            let seq = Seq(row.get::<_, i64>(0).unwrap_or(0).cast_unsigned());
            let found =
                row_codec::decode(seq, blob(row, 1)).and_then(|decoded| decoded.to_row(seq, &words)).ok();
            if let Some(found) = &found
                && let Some(written) = marks.get(&(key, seq.0.cast_signed()))
            {
                copy.marks.extend(written.of(found, blob(row, 1)).map(Arc::new));
            }
            copy.take(found);
        });
        copy.flush();
        if let Some(trouble) = copy.trouble {
            return Err(trouble);
        }
        copy_marks(copy.into, &name, copy.marks, &schemas)?;
        salvage.rows = salvage.rows.saturating_add(copy.copied);
        salvage.lost.rows = salvage.lost.rows.saturating_add(copy.rotten);
        into.keep_last(&name, last)?;
    }
    copy_facts(&conn, into, &schemas, &mut salvage)?;
    Ok(salvage)
}

/// Marks of rows that were copied.
fn copy_marks(into: &mut Db, name: &Arc<str>, set: Vec<Arc<Mark>>, learned: &Learned) -> Result<(), Trouble> {
    if set.is_empty() {
        return Ok(());
    }
    store(into, Ask::Op(Arc::clone(name), StoreOp::Mark { op: 0, set, clear: Vec::new() }), learned)
}

/// Copies every fact whose checksum is right; of two under one key the later.
fn copy_facts(
    conn: &Connection,
    into: &mut Db,
    learned: &Learned,
    salvage: &mut Salvage,
) -> Result<(), Trouble> {
    let mut changes = Vec::new();
    let mut trouble = None;
    let mut flush = |changes: &mut Vec<Change>| {
        let turn = Turn { number: 0, changes: std::mem::take(changes) };
        if let Err(met) = store(into, Ask::Turn(turn), learned) {
            trouble.get_or_insert(met);
        }
    };
    let (mut missed, mut rotten) = (0, 0_u64);
    scan(conn, "facts", "id, kind, key, value", &mut missed, &mut |row| {
        match facts::decode(row) {
            Some((fact, content)) => changes.push(Change::Put { fact, value: content.into() }),
            None => rotten = rotten.saturating_add(1),
        }
        if changes.len() >= COPY_ROWS_MAX {
            flush(&mut changes);
        }
    });
    if !changes.is_empty() {
        flush(&mut changes);
    }
    salvage.facts = into.facts.len();
    salvage.lost.facts = missed.saturating_add(rotten);
    trouble.map_or(Ok(()), Err)
}

/// Stores a piece of the copy.
fn store(into: &mut Db, ask: Ask, learned: &Learned) -> Result<(), Trouble> {
    // The copy counts as salvaged and not as written.
    let uncounted = &mut Counters::default();
    match into.serve(&[ask], learned, uncounted).fault {
        Some((fault, text)) => Err(Trouble::Disk(fault, text)),
        None => into.checkpoint_if_long(uncounted),
    }
}

/// Opens a database that is known to be damaged, with everything off that would refuse to look at it.
fn open_damaged(path: &Path) -> rusqlite::Result<Connection> {
    let conn = db::connect(path)?;
    layout::configure(&conn, layout::Budget::of(0))?;
    conn.pragma_update(None, "cell_size_check", "OFF")?;
    conn.pragma_update(None, "writable_schema", "ON")?;
    Ok(conn)
}

/// Number, name and last seq of every queue that can be found.
fn queues(conn: &Connection, names: &BTreeMap<i64, Arc<str>>) -> BTreeMap<i64, (Arc<str>, u64)> {
    let mut found = BTreeMap::new();
    let mut unread = 0;
    scan(conn, "queues", "id, name, last_seq", &mut unread, &mut |row| {
        if let (Ok(key), Ok(name), Ok(last)) = (row.get(0), row.get::<_, String>(1), row.get::<_, i64>(2))
            && found.len() < QUEUES_MAX
        {
            found.insert(key, (Arc::from(name), last.cast_unsigned()));
        }
    });
    for (key, name) in names {
        found.entry(*key).or_insert_with(|| (Arc::clone(name), 0));
    }
    // Tables whose queue has lost its name keep their rows under a name that says so.
    let _ = conn
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'q[0-9]*'")
        .and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let table: String = row.get(0)?;
                if let Some(key) = table
                    .strip_prefix('q')
                    .and_then(|key| key.parse().ok())
                    .filter(|_| found.len() < QUEUES_MAX)
                {
                    found.entry(key).or_insert_with(|| (format!("salvaged-{key}").into(), 0));
                }
            }
            Ok(())
        });
    found
}

/// Rows on their way into the fresh database.
struct Copy<'a> {
    into: &'a mut Db,
    name: &'a Arc<str>,
    learned: &'a Learned,
    rows: Vec<Arc<Row>>,
    trouble: Option<Trouble>,
    copied: u64,
    rotten: u64,
    marks: Vec<Arc<Mark>>,
}

impl Copy<'_> {
    fn take(&mut self, row: Option<Row>) {
        match row {
            Some(row) => self.rows.push(Arc::new(row)),
            None => self.rotten = self.rotten.saturating_add(1),
        }
        if self.rows.len() >= COPY_ROWS_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.rows.is_empty() || self.trouble.is_some() {
            return;
        }
        let rows = std::mem::take(&mut self.rows);
        let count = rows.len() as u64;
        let ask = Ask::Op(Arc::clone(self.name), StoreOp::Commit { op: 0, rows, acked: Vec::new() });
        match store(self.into, ask, self.learned) {
            Err(trouble) => self.trouble = Some(trouble),
            Ok(()) => self.copied = self.copied.saturating_add(count),
        }
    }
}

/// Gives every readable row of a table to `visit`, ascending, each once.
fn scan(
    conn: &Connection,
    table: &str,
    columns: &str,
    missed: &mut u64,
    visit: &mut dyn FnMut(&rusqlite::Row<'_>),
) {
    let key = columns.split(',').next().unwrap_or(columns);
    let sql = format!("SELECT {columns} FROM {table} WHERE {key} >= ?1 ORDER BY {key}");
    let mut from = i64::MIN;
    for _ in 0..=HOLES_MAX {
        let (last, at_end) = read(conn, &sql, from, visit);
        if at_end {
            return;
        }
        let hole = last.map_or(from, |last| last.saturating_add(1));
        let Some(behind) = behind_hole(conn, &sql, hole.max(1)) else { break };
        *missed = missed.saturating_add(width(hole, behind));
        from = behind;
    }
}

/// The first place at or behind `hole` from which reading works.
fn behind_hole(conn: &Connection, sql: &str, hole: i64) -> Option<i64> {
    let works = |from: i64| {
        conn.prepare(sql).and_then(|mut statement| statement.query([from])?.next().map(|row| row.is_some()))
    };
    let mut bad = hole;
    let mut step: i64 = 1;
    let mut good = loop {
        let place = hole.checked_add(step)?;
        match works(place) {
            Ok(true) => break place,
            // Behind the last row: whatever was in the hole was the last.
            Ok(false) => return None,
            Err(_) => bad = place,
        }
        step = step.checked_mul(2)?;
    };
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        match works(middle) {
            Ok(true) => good = middle,
            _ => bad = middle,
        }
    }
    Some(good)
}

/// Reads rows from a key on until the end or an error. Returns the last key and whether the end was reached.
fn read(
    conn: &Connection,
    sql: &str,
    from: i64,
    visit: &mut dyn FnMut(&rusqlite::Row<'_>),
) -> (Option<i64>, bool) {
    let mut last: Option<i64> = None;
    let done = conn.prepare(sql).and_then(|mut statement| {
        let mut rows = statement.query([from])?;
        while let Some(row) = rows.next()? {
            let key: i64 = row.get(0)?;
            // A damaged inner page may lead back to rows that were read already.
            if last.is_some_and(|last| last >= key) {
                return Ok(false);
            }
            last = Some(key);
            visit(row);
        }
        Ok(true)
    });
    (last, done.unwrap_or(false))
}

fn blob<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> &'a [u8] {
    row.get_ref(column).ok().and_then(|value| value.as_blob().ok()).unwrap_or_default()
}

/// The keys of a hole as lost rows, unless it is so wide that it says nothing.
fn width(from: i64, behind: i64) -> u64 {
    let width = behind.checked_sub(from).filter(|width| (0..=HOLE_WIDTH_MAX).contains(width));
    width.unwrap_or(0).cast_unsigned()
}

//! Copies what can still be read out of a damaged database, row by row, into a fresh one.
//!
//! The pages and the log are read without SQLite (module `pages`), whatever the header says. Each row, word and fact counts by its own checksum. `tables`
//! finds what belongs to which queue.
//!
//! Rows on a stray page belong to the queue into whose holes their keys fit. Where that may be several, nobody guesses: rows would go to the
//! cloud, or to the client, of another. They are kept in a queue of their own that nobody opens, and the log says so.
//!
//! A row that was acknowledged and deleted comes back only from the page that damage hit (its old bytes may still be there), or, where the free list is lost as
//! well, from free pages whose keys fit a hole. It is sent twice, as after a power cut: at least once holds. Identifiers of
//! received messages, which would swallow a message when they come back, are not taken from such pages; nor is any fact that is there already.

mod rows;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::broker::{Change, FactKey, FactKind, Turn};

use super::ask::Ask;
use super::db::Db;
use super::facts;
use super::fault::Trouble;
use super::health::Counters;
use super::marks::{self, Written};
use super::pages::{Image, Reader, Value, columns};
use super::transact::Learned;
use super::words::{self, Words};

use self::rows::Copy;
use self::tables::{Fixed, Tables};

/// Wider holes, in keys, say nothing about how many rows were in them.
const HOLE_WIDTH_MAX: u64 = 1_000_000;
/// Rows, or facts, copied in one transaction.
const COPY_ROWS_MAX: usize = 512;

/// What came of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Salvage {
    /// Rows copied.
    pub(super) rows: u64,
    /// Of them, rows of which nobody can say to which queue they belong.
    pub(super) unowned: u64,
    /// Facts copied.
    pub(super) facts: u64,
    /// What could not be.
    pub(super) lost: Lost,
    /// Whether there was anything with a checksum of ours.
    pub(super) ours: bool,
}

/// What could not be copied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// Rows that did not decode, and as many as have numbers in holes between readable ones: at most so many.
    pub(super) rows: u64,
    /// Facts that did not decode.
    pub(super) facts: u64,
    /// Words that did not decode.
    pub(super) words: u64,
    /// Whether more may be lost.
    pub(super) unknown: bool,
}

/// Reads a damaged database and stores what is whole in `into`, which is fresh. `names` are the queues by their number as far as they were known before
/// the damage.
///
/// # Errors
/// Only what stops the fresh database: the damaged one cannot fail, it can only yield nothing.
pub(super) fn salvage(
    image: &Image<'_>,
    into: &mut Db,
    names: &BTreeMap<i64, Arc<str>>,
) -> Result<Salvage, Trouble> {
    let mut reader = Reader::new(image);
    let free_list = reader.read_free();
    let tables = Tables::find(&mut reader, names);
    if !free_list {
        reader.look_for_free();
    }
    let mut salvage = Salvage::default();
    salvage.lost.unknown = image.hides_something();
    let mut found = Found::default();
    salvage.lost.words = found.read_words(&mut reader, &tables);
    found.read_marks(&mut reader, &tables);
    copy_facts(&mut reader, &tables, into, &found, free_list, &mut salvage)?;
    Copy::new(into, &found, &tables).all(&mut reader, &mut salvage)?;
    salvage.ours = salvage.rows > 0 || salvage.facts > 0;
    Ok(salvage)
}

/// What rows need: words, and marks by the number of the queue and the seq.
#[derive(Default)]
struct Found {
    words: Words,
    learned: Learned,
    marks: BTreeMap<(i64, i64), Written>,
}

impl Found {
    fn read_words(&mut self, reader: &mut Reader<'_>, tables: &Tables) -> u64 {
        let mut take = |id: i64, payload: &[u8]| {
            let Some([Value::Null, Value::Int(kind), Value::Blob(body)]) =
                columns(payload).as_deref().map(three)
            else {
                return false;
            };
            if !words::is_whole(id, kind, body) {
                return false;
            }
            if !u32::try_from(id).is_ok_and(|word| self.words.knows(word)) {
                self.words.take(id, kind, body);
            }
            if let Some((schema, bytes)) = words::schema_of(id, kind, body) {
                self.learned.schemas.insert(schema, bytes.into());
            }
            true
        };
        let lost = tables.read(reader, Fixed::Words, &mut take);
        // Those of the copy that are still missing.
        tables.read(reader, Fixed::Copy, &mut take);
        self.learned.boots = self.words.clock().into_iter().collect();
        lost
    }

    fn read_marks(&mut self, reader: &mut Reader<'_>, tables: &Tables) {
        let most = usize::try_from(marks::READ_MAX).unwrap_or(usize::MAX);
        tables.read(reader, Fixed::Aside, &mut |_, payload| {
            let written = columns(payload).and_then(|columns| Written::of_columns(&columns));
            let Some((place, written)) = written.filter(|_| self.marks.len() < most) else { return false };
            self.marks.insert(place, written);
            true
        });
    }
}

/// Columns as an array of three, filled up with nothing.
fn three<'a>(columns: &[Value<'a>]) -> [Value<'a>; 3] {
    match *columns {
        [first, second, third] => [first, second, third],
        _ => [Value::Null; 3],
    }
}

/// Copies every fact whose checksum is right; of two under one key the later.
fn copy_facts(
    reader: &mut Reader<'_>,
    tables: &Tables,
    into: &mut Db,
    found: &Found,
    free_list: bool,
    salvage: &mut Salvage,
) -> Result<(), Trouble> {
    let mut batch = Batch { into, learned: &found.learned, changes: Vec::new(), trouble: None };
    salvage.lost.facts = tables.walk(reader, Fixed::Facts, &mut |id, payload| match fact(id, payload) {
        Some((fact, content)) => {
            batch.put(fact, content);
            true
        }
        None => false,
    });
    batch.flush();
    if reader.has_hole(Fixed::Facts as usize) {
        salvage.lost.unknown = true;
        reader.strays(&mut |stray| {
            stray.rows(&mut |id, payload| {
                // Where the free list is lost, the page may be free, and the fact long gone.
                if let Some((fact, content)) = fact(id, payload)
                    && (free_list || fact.kind != FactKind::Received)
                    && !batch.into.facts.has(&fact)
                {
                    batch.put(fact, content);
                }
            });
            batch.flush();
        });
    }
    let trouble = batch.trouble.take();
    salvage.facts = into.facts.len();
    trouble.map_or(Ok(()), Err)
}

fn fact(id: i64, payload: &[u8]) -> Option<(FactKey, Arc<[u8]>)> {
    let [Value::Null, Value::Int(kind), Value::Blob(key), Value::Blob(value)] = *columns(payload)? else {
        return None;
    };
    facts::unseal(id, kind, key, value).map(|(fact, content)| (fact, content.into()))
}

/// Facts on their way into the fresh database.
struct Batch<'a> {
    into: &'a mut Db,
    learned: &'a Learned,
    changes: Vec<Change>,
    trouble: Option<Trouble>,
}

impl Batch<'_> {
    fn put(&mut self, fact: FactKey, value: Arc<[u8]>) {
        self.changes.push(Change::Put { fact, value });
        if self.changes.len() >= COPY_ROWS_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() || self.trouble.is_some() {
            return;
        }
        self.trouble = store(self.into, Ask::Turn(Turn { number: 0, changes }), self.learned).err();
    }
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

/// Fuzz: any bytes are read to their end, and no page is given out more often than it is entered. The first two bytes say how many of the rest are the
/// database; what is left is its log.
pub(crate) fn fuzz(input: &[u8]) {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
    let (database, log) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    read_all(database, log);
}

/// Reads everything that a salvage reads, and stores nothing. Says how many rows and facts were met.
fn read_all(database: &[u8], log: &[u8]) -> (usize, usize) {
    let mut image = Image::new(&database, &log);
    let gap = image.of_gap();
    let mut reader = Reader::new(&image);
    let free_list = reader.read_free();
    let tables = Tables::find(&mut reader, &BTreeMap::new());
    if !free_list {
        reader.look_for_free();
    }
    let mut found = Found::default();
    found.read_words(&mut reader, &tables);
    found.read_marks(&mut reader, &tables);
    let (mut rows, mut facts) = (0_usize, 0_usize);
    tables.read(&mut reader, Fixed::Facts, &mut |id, payload| {
        facts += 1;
        fact(id, payload).is_some()
    });
    for root in tables.queues.iter().filter_map(|queue| queue.root) {
        reader.walk(root, &mut |_, payload| {
            rows += 1;
            columns(payload).is_some()
        });
    }
    let mut count = |stray: &super::pages::Stray<'_>| stray.rows(&mut |_, _| rows += 1);
    reader.strays(&mut count);
    reader.in_gap(&gap, &mut count);
    // Each place of a page is the beginning of a row at most twice by its pointers, once by looking at every place, and once as a stray; and as often in the log.
    let bytes = database.len() + log.len();
    assert!(rows + facts <= 64 * (bytes + 1024), "{rows} rows and {facts} facts in {bytes} bytes");
    (rows, facts)
}

#[cfg(test)]
mod tests;

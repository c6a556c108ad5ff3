//! The facts of the broker: sessions, subscriptions, retained messages, packet identifiers of QoS 2; one row each.
//!
//! ```text
//! id     INTEGER PRIMARY KEY   counts up; a fact keeps it while it is replaced
//! kind   INTEGER               FactKind
//! key    BLOB
//! value  BLOB                  content | CRC-32 (4) over id (8, little endian), kind (8), length of the key (8), key, content
//! ```
//!
//! Facts are found by a map in memory and not by an index in the file: a fact that comes is written at the right edge of one B-tree,
//! beside its neighbours in time, and one that is replaced stays in its page. Measured as bytes of log per change, ten changes per turn among 1400
//! facts, values of 140 bytes: replaced retained messages 532, new ones 368; keyed by (kind, key) `WITHOUT ROWID` 1229 and 1758; with an index
//! 532 and 1241. Identifiers of QoS 2 that come and go: 27, 27 and 54.
//!
//! Bounds: the broker's own; [`ROTTEN_MAX`] damaged ones. About 60 bytes of memory per fact, beside its key, which is shared with the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::broker::{FactKey, FactKind, Sieve};
use gateway_core::uplink::row::StoreFault;
use rusqlite::{Connection, params};

use super::crc::crc32;
use super::fault::Trouble;

/// Most facts that do not decode before the whole database counts as damaged and is copied.
const ROTTEN_MAX: usize = 1000;

/// A fact with its content.
pub(super) type Fact = (FactKey, Arc<[u8]>);

/// Where each fact stands in the file.
#[derive(Debug, Default)]
pub(super) struct Facts {
    ids: BTreeMap<FactKey, i64>,
    next: i64,
    /// Left out, and deleted with the next turn.
    rotten: Vec<i64>,
    /// What to do to the map when the transaction is undone, last first.
    undo: Vec<Undo>,
    /// Whether facts were put since the database was opened.
    pub(super) put: bool,
}

#[derive(Debug)]
enum Undo {
    /// Where a fact stood before.
    Fact(FactKey, Option<i64>),
    /// Rows taken out of the file.
    Rotten(Vec<i64>),
}

impl Facts {
    /// Reads the whole table.
    pub(super) fn load(conn: &Connection) -> Result<Self, Trouble> {
        let mut facts = Self { next: 1, ..Self::default() };
        let mut statement = conn.prepare("SELECT id, kind, key, value FROM facts ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            facts.next = facts.next.max(id.saturating_add(1));
            // Of two facts under one key, which only damage can make, the later one counts.
            let stale = match decode(row) {
                Some((fact, _)) => facts.ids.insert(fact, id),
                None if is_of_a_newer_version(row) => None,
                None => Some(id),
            };
            facts.rotten.extend(stale);
            if facts.rotten.len() > ROTTEN_MAX {
                let text = format!("more than {ROTTEN_MAX} damaged facts");
                return Err(Trouble::Disk(StoreFault::Corrupt, text));
            }
        }
        Ok(facts)
    }

    /// Facts with their content, as the sieve lets them through: it looks at each while SQLite holds it, so what does not fit into memory is never there.
    pub(super) fn read(&self, conn: &Connection, sieve: &mut Sieve) -> Result<Vec<Fact>, Trouble> {
        let mut found = Vec::with_capacity(self.ids.len());
        let mut statement = conn.prepare("SELECT id, kind, key, value FROM facts ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            if let Some((fact, content)) = decode(row)
                && let Some((known, place)) = self.ids.get_key_value(&fact)
                && *place == id
            {
                found.extend(sieve.look(known, content).map(|content| (known.clone(), content)));
            }
        }
        Ok(found)
    }

    /// Whether there is such a fact.
    pub(super) fn has(&self, fact: &FactKey) -> bool {
        self.ids.contains_key(fact)
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Facts that were left out because they do not decode.
    pub(super) fn rotten(&self) -> u64 {
        self.rotten.len() as u64
    }

    /// Puts a fact in the place of the one before; inside a transaction. Says how many bytes its content takes.
    pub(super) fn put(&mut self, conn: &Connection, fact: &FactKey, content: &[u8]) -> Result<u64, Trouble> {
        let known = self.ids.get(fact).copied();
        let id = known.unwrap_or(self.next);
        let value = [content, &seal(id, fact.kind as i64, &fact.key, content)].concat();
        if known.is_some() {
            conn.prepare_cached("UPDATE facts SET value = ?1 WHERE id = ?2")?.execute(params![value, id])?;
        } else {
            conn.prepare_cached("INSERT INTO facts(id, kind, key, value) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![id, fact.kind as i64, &*fact.key, value])?;
            self.next = id.checked_add(1).ok_or(Trouble::Refused("facts are used up"))?;
            self.undo.push(Undo::Fact(fact.clone(), None));
            self.ids.insert(fact.clone(), id);
        }
        self.put = true;
        Ok((fact.key.len() as u64).saturating_add(value.len() as u64))
    }

    /// Removes a fact; inside a transaction. Says whether it was there.
    pub(super) fn remove(&mut self, conn: &Connection, fact: &FactKey) -> Result<bool, Trouble> {
        let Some(id) = self.ids.get(fact).copied() else { return Ok(false) };
        conn.prepare_cached("DELETE FROM facts WHERE id = ?1")?.execute([id])?;
        self.undo.push(Undo::Fact(fact.clone(), Some(id)));
        self.ids.remove(fact);
        Ok(true)
    }

    /// Removes all facts whose keys begin so; inside a transaction. Says how many there were.
    pub(super) fn remove_under(&mut self, conn: &Connection, beginning: &FactKey) -> Result<u64, Trouble> {
        let under = self.ids.range(beginning.clone()..).map(|(fact, _)| fact);
        let all: Vec<FactKey> = under.take_while(|fact| fact.begins_with(beginning)).cloned().collect();
        for fact in &all {
            self.remove(conn, fact)?;
        }
        Ok(all.len() as u64)
    }

    /// Takes facts that do not decode out of the file, as part of a write that happens anyway.
    pub(super) fn remove_rotten(&mut self, conn: &Connection) -> Result<(), Trouble> {
        for id in &self.rotten {
            conn.prepare_cached("DELETE FROM facts WHERE id = ?1")?.execute([id])?;
        }
        if !self.rotten.is_empty() {
            self.undo.push(Undo::Rotten(std::mem::take(&mut self.rotten)));
        }
        Ok(())
    }

    /// A place to go back to with [`Facts::back_to`].
    pub(super) fn mark(&self) -> usize {
        self.undo.len()
    }

    /// The file went back to where it was at the mark.
    pub(super) fn back_to(&mut self, mark: usize) {
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some(Undo::Fact(fact, Some(id))) => drop(self.ids.insert(fact, id)),
                Some(Undo::Fact(fact, None)) => drop(self.ids.remove(&fact)),
                Some(Undo::Rotten(ids)) => self.rotten = ids,
                None => {}
            }
        }
    }

    /// The transaction was committed: there is no way back.
    pub(super) fn committed(&mut self) {
        self.undo.clear();
    }
}

fn kind_of(number: i64) -> Option<FactKind> {
    use FactKind::{Received, Released, Retained, Session, Subscription};
    [Session, Subscription, Retained, Received, Released].into_iter().find(|kind| *kind as i64 == number)
}

/// Whether a row is whole and of a kind that this version does not know: a newer one has put it there before the gateway went back to this one, and finds it
/// again when it comes back.
fn is_of_a_newer_version(row: &rusqlite::Row<'_>) -> bool {
    whole(row).is_some_and(|(number, _, _)| kind_of(number).is_none())
}

/// Key and content of a fact in a row of id, kind, key and value; `None` if it does not decode.
pub(super) fn decode<'a>(row: &'a rusqlite::Row<'_>) -> Option<(FactKey, &'a [u8])> {
    let (number, key, content) = whole(row)?;
    Some((FactKey { kind: kind_of(number)?, key: key.into() }, content))
}

/// Key and content of a fact out of its columns; `None` if its checksum does not fit.
pub(super) fn unseal<'a>(id: i64, number: i64, key: &[u8], value: &'a [u8]) -> Option<(FactKey, &'a [u8])> {
    let content = opened(id, number, key, value)?;
    Some((FactKey { kind: kind_of(number)?, key: key.into() }, content))
}

/// The number of the kind, the key and the content of a row whose checksum fits.
fn whole<'a>(row: &'a rusqlite::Row<'_>) -> Option<(i64, &'a [u8], &'a [u8])> {
    let number = row.get(1).ok()?;
    let (key, value) = (row.get_ref(2).ok()?.as_blob().ok()?, row.get_ref(3).ok()?.as_blob().ok()?);
    Some((number, key, opened(row.get(0).ok()?, number, key, value)?))
}

/// The content of a value whose checksum fits.
fn opened<'a>(id: i64, number: i64, key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (content, crc) = value.split_last_chunk::<4>()?;
    (seal(id, number, key, content) == *crc).then_some(content)
}

fn seal(id: i64, kind: i64, key: &[u8], content: &[u8]) -> [u8; 4] {
    let length = (key.len() as u64).to_le_bytes();
    crc32(&[&id.to_le_bytes(), &kind.to_le_bytes(), &length, key, content]).to_le_bytes()
}

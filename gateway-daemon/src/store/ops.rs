//! One op against one queue, inside a transaction that someone else begins and ends.
//!
//! An op changes nothing in memory: it returns a [`Change`] that is merged after the commit, so that a rollback has nothing to undo.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::uplink::row::{Body, Mark, Priority, Row, Seq, StoreEvent, StoreOp, Tally};
use rusqlite::{Connection, ErrorCode, params};

use super::ask::is_local;
use super::db::{Db, Queue, highest, weigh, weight_of_rotten};
use super::fault::Trouble;
use super::row_codec::{self, TOPIC_BYTES_MAX};
use super::words::{TOPICS_MAX, Words};

/// Rows read at a time while trimming: bounds the memory of a large trim.
const TRIM_ROWS_MAX: usize = 512;

/// What an op does to a queue, once it is committed.
#[derive(Debug, Default)]
pub(super) struct Change {
    created: Option<i64>,
    added: [Tally; 2],
    removed: [Tally; 2],
    highest: u64,
    lowest_normal: Option<i64>,
    trimmed_to: Option<i64>,
    last_saved: Option<u64>,
    gone: BTreeSet<i64>,
    marked: Vec<Arc<Mark>>,
    unmarked: BTreeSet<i64>,
    /// Encoded bytes of the rows written.
    pub(super) bytes_written: u64,
    /// Rows written.
    pub(super) rows_written: u64,
    /// Rows removed.
    pub(super) rows_removed: u64,
}

impl Change {
    fn add(&mut self, row: &Row, seq: i64, bytes: usize) {
        self.added[row.priority as usize].add_row(row);
        self.highest = self.highest.max(row.seq.0);
        self.bytes_written = self.bytes_written.saturating_add(bytes as u64);
        self.rows_written = self.rows_written.saturating_add(1);
        if row.priority == Priority::Normal {
            self.lowest_normal = Some(self.lowest_normal.map_or(seq, |lowest| lowest.min(seq)));
        }
    }

    fn remove(&mut self, priority: Priority, tally: Tally) {
        self.removed[priority as usize].add(tally);
        self.rows_removed = self.rows_removed.saturating_add(tally.rows);
    }

    /// Merges the change into the queue; after the commit.
    pub(super) fn merge(self, queue: &mut Queue) {
        queue.key = self.created.or(queue.key);
        for priority in [Priority::Normal, Priority::High] {
            queue.tally[priority as usize].add(self.added[priority as usize]);
            queue.tally[priority as usize].take(self.removed[priority as usize]);
        }
        queue.last = queue.last.max(self.highest);
        queue.normal_from =
            self.trimmed_to.unwrap_or(queue.normal_from).min(self.lowest_normal.unwrap_or(i64::MAX));
        queue.last_saved = self.last_saved.unwrap_or(queue.last_saved);
        queue.rotten.retain(|seq| !self.gone.contains(seq));
        if !(self.marked.is_empty() && self.unmarked.is_empty()) {
            let marks = Arc::make_mut(&mut queue.marks);
            marks.retain(|seq, _| !self.unmarked.contains(seq));
            marks.extend(self.marked.into_iter().map(|mark| (mark.seq.0.cast_signed(), mark)));
        }
    }
}

/// One op at work, or one change of a turn.
pub(super) struct Work<'a> {
    db: &'a mut Db,
    name: &'a Arc<str>,
    change: Change,
}

/// Whether an op may write.
pub(super) fn writes(op: &StoreOp) -> bool {
    match op {
        StoreOp::Commit { rows, acked, .. } => !(rows.is_empty() && acked.is_empty()),
        StoreOp::Fetch { .. } => false,
        StoreOp::Trim { rows, bytes, .. } => *rows > 0 || *bytes > 0,
        StoreOp::Replace { remove, rows, .. } => !(remove.is_empty() && rows.is_empty()),
        StoreOp::Mark { set, clear, .. } => !(set.is_empty() && clear.is_empty()),
    }
}

/// Whether an op stores rows, so that its commit must reach the disk before it is answered.
pub(super) fn stores_rows(op: &StoreOp) -> bool {
    matches!(op, StoreOp::Commit { rows, .. } | StoreOp::Replace { rows, .. } if !rows.is_empty())
}

/// The number of an op.
pub(super) fn op_number(op: &StoreOp) -> u64 {
    match op {
        StoreOp::Commit { op, .. }
        | StoreOp::Fetch { op, .. }
        | StoreOp::Trim { op, .. }
        | StoreOp::Replace { op, .. }
        | StoreOp::Mark { op, .. } => *op,
    }
}

/// Carries out one op.
pub(super) fn carry_out(db: &mut Db, name: &Arc<str>, op: &StoreOp) -> Result<(StoreEvent, Change), Trouble> {
    let mut work = Work::new(db, name);
    let event = match op {
        StoreOp::Commit { op, rows, acked } => {
            StoreEvent::Committed { op: *op, deleted: work.commit(rows, acked)? }
        }
        StoreOp::Fetch { op, after, until, rows_max, bytes_max } => {
            let (rows, more) = work.fetch(*after, *until, *rows_max, *bytes_max)?;
            StoreEvent::Fetched { op: *op, rows, more }
        }
        StoreOp::Trim { op, rows, bytes, priority_max, keep } => {
            let goal = Tally { rows: *rows, readings: 0, bytes: *bytes };
            StoreEvent::Trimmed { op: *op, dropped: work.trim(goal, *priority_max, keep)? }
        }
        StoreOp::Replace { op, remove, rows } => {
            StoreEvent::Committed { op: *op, deleted: work.replace(remove, rows)? }
        }
        StoreOp::Mark { op, set, clear } => {
            work.mark(set, clear)?;
            StoreEvent::Committed { op: *op, deleted: Tally::default() }
        }
    };
    if writes(op) {
        work.remove_rotten()?;
        work.save_last()?;
    }
    Ok((event, work.change))
}

impl<'a> Work<'a> {
    /// Work on a queue.
    pub(super) fn new(db: &'a mut Db, name: &'a Arc<str>) -> Self {
        Self { db, name, change: Change::default() }
    }

    /// What was done to the queue.
    pub(super) fn into_change(self) -> Change {
        self.change
    }

    /// Deletes an inclusive range and what must go with it.
    pub(super) fn delete_and_settle(&mut self, from: Seq, to: Seq) -> Result<Tally, Trouble> {
        let deleted = self.delete(from, to)?;
        self.remove_rotten()?;
        self.save_last()?;
        Ok(deleted)
    }

    fn queue(&self) -> Option<&Queue> {
        self.db.queues.get(self.name)
    }

    /// The queue's number in the file, if it has one.
    fn key(&self) -> Option<i64> {
        self.change.created.or_else(|| self.queue()?.key)
    }

    /// Deletes first: a full file has room again before rows are added.
    fn commit(&mut self, rows: &[Arc<Row>], acked: &[(Seq, Seq)]) -> Result<Tally, Trouble> {
        let mut deleted = Tally::default();
        for (from, to) in acked {
            deleted.add(self.delete(*from, *to)?);
        }
        deleted.add(self.insert(rows)?);
        for row in rows {
            if acked.iter().any(|(from, to)| (*from..=*to).contains(&row.seq)) {
                deleted.add(self.delete(row.seq, row.seq)?);
            }
        }
        Ok(deleted)
    }

    fn replace(&mut self, remove: &[Seq], rows: &[Arc<Row>]) -> Result<Tally, Trouble> {
        let mut deleted = Tally::default();
        for (from, to) in ranges(remove) {
            deleted.add(self.delete(from, to)?);
        }
        deleted.add(self.insert(rows)?);
        Ok(deleted)
    }

    /// Sets marks of rows that are there, and forgets others.
    fn mark(&mut self, set: &[Arc<Mark>], clear: &[Seq]) -> Result<(), Trouble> {
        let Some(key) = self.key() else { return Ok(()) };
        for seq in clear.iter().map(|seq| key_near(*seq)) {
            if self.queue().is_some_and(|queue| queue.marks.contains_key(&seq)) {
                self.db.delete_marks(key, seq, seq)?;
                self.change.unmarked.insert(seq);
            }
        }
        for mark in set {
            if self.db.write_mark(key, mark)? {
                self.change.marked.push(Arc::clone(mark));
            }
        }
        Ok(())
    }

    /// Adds rows. A row that is stored already under its seq is replaced, and counted as deleted.
    pub(super) fn insert(&mut self, rows: &[Arc<Row>]) -> Result<Tally, Trouble> {
        let mut deleted = Tally::default();
        if rows.is_empty() {
            return Ok(deleted);
        }
        let key = match self.key() {
            Some(key) => key,
            None => {
                let key = self.db.create_queue(self.name, self.queue().map_or(0, |queue| queue.last))?;
                self.change.created = Some(key);
                key
            }
        };
        let sql = format!("INSERT INTO q{key}(seq, row) VALUES (?1, ?2)");
        let mut taken = Vec::new();
        {
            let Self { db, change, name } = self;
            let Db { conn, words, .. } = &mut **db;
            let mut statement = conn.prepare_cached(&sql)?;
            for row in rows {
                let (seq, blob) = encode(conn, words, row, is_local(name))?;
                match statement.execute(params![seq, blob]) {
                    Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                        taken.push((row.seq, blob));
                        change.add(row, seq, 0);
                    }
                    result => {
                        result?;
                        change.add(row, seq, blob.len());
                    }
                }
            }
        }
        for (seq, blob) in taken {
            deleted.add(self.delete(seq, seq)?);
            self.db.conn.execute(&sql, params![key_near(seq), blob])?;
            self.change.bytes_written = self.change.bytes_written.saturating_add(blob.len() as u64);
        }
        Ok(deleted)
    }

    /// Deletes an inclusive range and counts what was in it.
    fn delete(&mut self, from: Seq, to: Seq) -> Result<Tally, Trouble> {
        let (from, to) = (key_near(from), key_near(to));
        let Some(key) = self.key().filter(|_| from <= to) else { return Ok(Tally::default()) };
        let mut deleted = Tally::default();
        {
            let Self { db, name, change } = self;
            let rotten = db.queues.get(*name).map(|queue| &queue.rotten);
            let sql = format!("SELECT seq, row FROM q{key} WHERE seq BETWEEN ?1 AND ?2");
            let mut statement = db.conn.prepare_cached(&sql)?;
            let mut rows = statement.query([from, to])?;
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                if rotten.is_some_and(|rotten| rotten.contains(&seq)) {
                    change.gone.insert(seq);
                    continue;
                }
                let blob = row.get_ref(1)?.as_blob().unwrap_or_default();
                let (priority, tally) =
                    weigh(seq, blob, &db.words).unwrap_or((Priority::Normal, weight_of_rotten(blob)));
                change.remove(priority, tally);
                deleted.add(tally);
            }
        }
        let sql = format!("DELETE FROM q{key} WHERE seq BETWEEN ?1 AND ?2");
        self.db.conn.prepare_cached(&sql)?.execute([from, to])?;
        let marks = self.queue().map(|queue| Arc::clone(&queue.marks)).unwrap_or_default();
        let unmarked = marks.range(from..=to).map(|(seq, _)| *seq);
        self.change.unmarked.extend(unmarked);
        if marks.range(from..=to).next().is_some() {
            self.db.delete_marks(key, from, to)?;
        }
        Ok(deleted)
    }

    /// Reads rows, ascending, and says whether there are more.
    pub(super) fn fetch(
        &self,
        after: Seq,
        until: Seq,
        rows_max: u32,
        bytes_max: u64,
    ) -> Result<(Vec<Arc<Row>>, bool), Trouble> {
        let (from, to) = (key_near(Seq(after.0.saturating_add(1))), key_near(until));
        let Some(key) = self.key().filter(|_| from <= to && after.0 < u64::MAX) else {
            return Ok((Vec::new(), false));
        };
        let rotten = self.queue().map(|queue| &queue.rotten);
        let mut fetched = Vec::new();
        let mut bytes: u64 = 0;
        let sql = format!("SELECT seq, row FROM q{key} WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq");
        let mut statement = self.db.conn.prepare_cached(&sql)?;
        let mut rows = statement.query([from, to])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            if rotten.is_some_and(|rotten| rotten.contains(&seq)) {
                continue;
            }
            if fetched.len() as u64 >= u64::from(rows_max.max(1)) {
                return Ok((fetched, true));
            }
            let place = Seq(seq.cast_unsigned());
            let blob = row.get_ref(1)?.as_blob().map_err(|_| Trouble::Rotten(seq))?;
            let decoded = row_codec::decode(place, blob).map_err(|_| Trouble::Rotten(seq))?;
            bytes = bytes.saturating_add(decoded.size(&self.db.words).map_err(|_| Trouble::Rotten(seq))?);
            if bytes > bytes_max && !fetched.is_empty() {
                return Ok((fetched, true));
            }
            fetched.push(Arc::new(decoded.to_row(place, &self.db.words).map_err(|_| Trouble::Rotten(seq))?));
        }
        Ok((fetched, false))
    }

    fn trim(&mut self, goal: Tally, priority_max: Priority, keep: &[Seq]) -> Result<Tally, Trouble> {
        let mut dropped = Tally::default();
        let Some(key) = self.key() else { return Ok(dropped) };
        let keep: BTreeSet<i64> = keep.iter().filter_map(|seq| key_of(*seq)).collect();
        for priority in [Priority::Normal, Priority::High] {
            if priority > priority_max {
                break;
            }
            let mut cursor = match priority {
                Priority::Normal => self.queue().map_or(0, |queue| queue.normal_from),
                Priority::High => 0,
            };
            let mut spared = None;
            while !enough(dropped, goal) {
                let (chosen, next) = self.choose(key, cursor, priority, &keep, (&mut dropped, goal))?;
                for (from, to) in ranges(&chosen) {
                    let sql = format!("DELETE FROM q{key} WHERE seq BETWEEN ?1 AND ?2");
                    self.db.conn.execute(&sql, [from.0.cast_signed(), to.0.cast_signed()])?;
                }
                spared = spared.or_else(|| keep.range(cursor..).next().copied());
                let Some(next) = next else {
                    cursor = i64::MAX;
                    break;
                };
                cursor = next;
            }
            if priority == Priority::Normal {
                self.change.trimmed_to = Some(spared.map_or(cursor, |spared| spared.min(cursor)));
            }
        }
        Ok(dropped)
    }

    /// Picks rows of one priority from `cursor` on until the goal is met, and counts them; at most [`TRIM_ROWS_MAX`] rows are read. Returns
    /// them with the place to go on from, if there is one.
    fn choose(
        &mut self,
        key: i64,
        cursor: i64,
        priority: Priority,
        keep: &BTreeSet<i64>,
        (dropped, goal): (&mut Tally, Tally),
    ) -> Result<(Vec<Seq>, Option<i64>), Trouble> {
        let Self { db, name, change } = self;
        let rotten = db.queues.get(*name).map(|queue| &queue.rotten);
        let mut chosen = Vec::new();
        let mut statement =
            db.conn.prepare(&format!("SELECT seq, row FROM q{key} WHERE seq >= ?1 ORDER BY seq"))?;
        let mut rows = statement.query([cursor])?;
        for _ in 0..TRIM_ROWS_MAX {
            let Some(row) = rows.next()? else { return Ok((chosen, None)) };
            let seq: i64 = row.get(0)?;
            if enough(*dropped, goal) {
                return Ok((chosen, Some(seq)));
            }
            if keep.contains(&seq) || rotten.is_some_and(|rotten| rotten.contains(&seq)) {
                continue;
            }
            let blob = row.get_ref(1)?.as_blob().unwrap_or_default();
            let (found, tally) =
                weigh(seq, blob, &db.words).unwrap_or((Priority::Normal, weight_of_rotten(blob)));
            if found == priority {
                chosen.push(Seq(seq.cast_unsigned()));
                change.remove(priority, tally);
                dropped.add(tally);
            }
        }
        let next = rows.next()?.map(|row| row.get(0)).transpose()?;
        Ok((chosen, next))
    }

    /// Takes rows that do not decode out of the file, as part of a write that happens anyway.
    fn remove_rotten(&mut self) -> Result<(), Trouble> {
        let Some(key) = self.key() else { return Ok(()) };
        let rotten: Vec<i64> =
            self.queue().map(|queue| queue.rotten.iter().copied().collect()).unwrap_or_default();
        for seq in rotten {
            self.db.conn.execute(&format!("DELETE FROM q{key} WHERE seq = ?1"), [seq])?;
            self.change.gone.insert(seq);
        }
        Ok(())
    }

    /// Keeps the highest seq ever stored when its row goes while older rows stay: it must not be used again.
    fn save_last(&mut self) -> Result<(), Trouble> {
        if self.change.rows_removed == 0 {
            return Ok(());
        }
        let (Some(key), Some(queue)) = (self.key(), self.queue()) else { return Ok(()) };
        let last = queue.last.max(self.change.highest);
        let top = highest(&self.db.conn, key)?.map(i64::cast_unsigned);
        if top.is_some_and(|top| top < last) && queue.last_saved < last {
            let sql = "UPDATE queues SET last_seq = ?1 WHERE id = ?2";
            self.db.conn.execute(sql, params![last.cast_signed(), key])?;
            self.change.last_saved = Some(last);
        }
        Ok(())
    }
}

/// Key and blob of a row, its run as a word, and its topic, too, unless it may be one of endless many: those of local sessions are written
/// into the rows, and messages of clients for an uplink leave half of the word table to readings.
fn encode(conn: &Connection, words: &mut Words, row: &Row, local: bool) -> Result<(i64, Vec<u8>), Trouble> {
    let seq = key_of(row.seq).ok_or(Trouble::Refused("seq out of range"))?;
    if row.topic.len() > TOPIC_BYTES_MAX {
        return Err(Trouble::Refused("topic too long"));
    }
    let topic = match &row.body {
        _ if local => None,
        Body::Raw(_) => words.topic_word(conn, &row.topic, TOPICS_MAX / 2)?,
        Body::Record(_) => words.topic_word(conn, &row.topic, TOPICS_MAX)?,
    };
    let run = words.run_word(conn, row.run)?;
    let mut blob = Vec::with_capacity(row.body.bytes().len().saturating_add(32));
    row_codec::encode(&mut blob, row, topic, run);
    Ok((seq, blob))
}

fn enough(freed: Tally, goal: Tally) -> bool {
    freed.rows >= goal.rows && freed.bytes >= goal.bytes
}

/// A seq as a key: 1 to `i64::MAX`.
fn key_of(seq: Seq) -> Option<i64> {
    i64::try_from(seq.0).ok().filter(|key| *key > 0)
}

/// A seq as an end of a range, where any number will do.
pub(super) fn key_near(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

/// Ascending seqs as inclusive ranges without holes.
fn ranges(seqs: &[Seq]) -> Vec<(Seq, Seq)> {
    let mut ranges: Vec<(Seq, Seq)> = Vec::new();
    for seq in seqs {
        match ranges.last_mut() {
            Some((_, to)) if to.0.saturating_add(1) == seq.0 => *to = *seq,
            _ => ranges.push((*seq, *seq)),
        }
    }
    ranges
}

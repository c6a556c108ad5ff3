//! Rows on their way into the fresh database.

use std::sync::Arc;

use gateway_core::uplink::row::{Mark, Row, Seq, StoreFault, StoreOp};

use super::super::ask::{Ask, is_local};
use super::super::db::Db;
use super::super::fault::Trouble;
use super::super::pages::{Hole, Reader, Stray, Value, columns};
use super::super::row_codec::{self, TopicRef};
use super::super::words::TOPICS_MAX;
use super::tables::Tables;
use super::{COPY_ROWS_MAX, Found, HOLE_WIDTH_MAX, Salvage, store};

/// Copies the rows of all queues.
pub(super) struct Copy<'a> {
    into: &'a mut Db,
    found: &'a Found,
    tables: &'a Tables,
    /// The queue that the batch is for.
    name: Arc<str>,
    rows: Vec<Arc<Row>>,
    marks: Vec<Arc<Mark>>,
    trouble: Option<Trouble>,
}

/// Whose the rows of a stray page are.
enum Owner {
    /// The queue at this place; and whether its hole has its keys counted as lost.
    Queue(usize, bool),
    /// One of several.
    Somebody,
    /// Nobody: a leftover.
    Nobody,
}

impl<'a> Copy<'a> {
    /// A copy into the fresh database.
    pub(super) fn new(into: &'a mut Db, found: &'a Found, tables: &'a Tables) -> Self {
        let name = Arc::from("");
        Self { into, found, tables, name, rows: Vec::new(), marks: Vec::new(), trouble: None }
    }

    /// Copies all rows and counts what is lost.
    pub(super) fn all(mut self, reader: &mut Reader<'_>, salvage: &mut Salvage) -> Result<(), Trouble> {
        let tables = self.tables;
        let (mut refused, mut mended) = (0_u64, 0_u64);
        for queue in &tables.queues {
            self.turn_to(&queue.name);
            if let Some(root) = queue.root {
                let walked = reader.walk(root, &mut |seq, payload| self.take(queue.key, seq, payload));
                refused = refused.saturating_add(walked.refused);
                mended = mended.saturating_add(walked.mended);
            }
            self.flush();
            self.into.keep_last(&queue.name, queue.last)?;
        }
        if let Some(trouble) = self.trouble.take() {
            return Err(trouble);
        }
        salvage.unowned =
            tables.queues.iter().filter(|queue| !queue.named).map(|queue| self.stored(&queue.name)).sum();
        mended = mended.saturating_add(self.strays(reader, salvage)?);
        salvage.rows = self.into.rows();
        salvage.lost.unknown |=
            reader.holes().iter().any(|hole| is_of_queue(hole) && known_width(hole).is_none());
        let holes: u64 = reader.holes().iter().filter(|hole| is_of_queue(hole)).filter_map(known_width).sum();
        salvage.lost.rows = refused.saturating_add(holes.saturating_sub(mended));
        Ok(())
    }

    /// Copies rows of stray pages that fit into holes. Says how many of them were counted as lost with their hole.
    fn strays(&mut self, reader: &Reader<'_>, salvage: &mut Salvage) -> Result<u64, Trouble> {
        let tables = self.tables;
        if !reader.holes().iter().any(is_of_queue) {
            return Ok(0);
        }
        let unowned = tables.unowned();
        let (mut mended, mut next) = (0_u64, 1_u64);
        reader.strays(&mut |stray| {
            match self.owner(reader.holes(), stray) {
                Owner::Nobody => {}
                Owner::Queue(index, counted) => {
                    let queue = &tables.queues[index];
                    self.turn_to(&queue.name);
                    stray.rows(&mut |seq, payload| {
                        let fresh = Seq(seq.cast_unsigned());
                        if self.into.has_row(&queue.name, fresh).is_ok_and(|stored| !stored)
                            && self.take(queue.key, seq, payload)
                        {
                            mended = mended.saturating_add(u64::from(counted));
                            salvage.unowned = salvage.unowned.saturating_add(u64::from(!queue.named));
                        }
                    });
                }
                Owner::Somebody => {
                    self.turn_to(&unowned);
                    stray.rows(&mut |seq, payload| {
                        if let Some((row, _)) = self.decode(seq, payload) {
                            // Rows of several queues may have the same numbers.
                            self.rows.push(Arc::new(Row { seq: Seq(next), ..row }));
                            next = next.saturating_add(1);
                            salvage.unowned = salvage.unowned.saturating_add(1);
                            self.flush_if_long();
                        }
                    });
                }
            }
        });
        self.flush();
        match self.trouble.take() {
            // Leftovers of the damaged file do not stand in the way of a fresh one.
            Some(trouble) if trouble.fault() == StoreFault::Full => {
                salvage.lost.unknown = true;
                Ok(mended)
            }
            Some(trouble) => Err(trouble),
            None => Ok(mended),
        }
    }

    /// To which queue a stray page belongs: most of its keys are in a hole of that queue, and of no other that may have such rows.
    fn owner(&self, holes: &[Hole], stray: &Stray<'_>) -> Owner {
        let Some(local) = self.is_for_local(stray) else { return Owner::Nobody };
        let all = stray.keys().count();
        let (mut owner, mut counted) = (None, false);
        for hole in holes.iter().filter(|hole| is_of_queue(hole)) {
            if 2 * stray.keys().filter(|key| hole.holds(*key)).count() <= all {
                continue;
            }
            let queue =
                hole.table.checked_sub(Tables::table_of(0)).and_then(|index| self.tables.queues.get(index));
            if queue
                .is_some_and(|queue| queue.named && local.is_some_and(|local| local != is_local(&queue.name)))
            {
                continue;
            }
            if owner.is_some_and(|table| table != hole.table) {
                return Owner::Somebody;
            }
            owner = Some(hole.table);
            counted = known_width(hole).is_some();
        }
        match owner {
            None => Owner::Nobody,
            Some(Tables::UNKNOWN) => Owner::Somebody,
            Some(table) => Owner::Queue(table - Tables::table_of(0), counted),
        }
    }

    /// Whether rows of a page are for a local session, if that can be seen: those bear their topics, and those of uplinks name words. `None` if the page has no rows.
    fn is_for_local(&self, stray: &Stray<'_>) -> Option<Option<bool>> {
        let mut local = None;
        stray.rows(&mut |seq, payload| {
            if let Some(topic) = topic(seq, payload)
                && local.is_none()
            {
                local = Some(match topic {
                    Topic::Word => Some(false),
                    // Nor are topics of uplinks words, once there are many.
                    Topic::Inline(bytes) => {
                        (bytes <= 256 && self.found.words.topics() < TOPICS_MAX / 2).then_some(true)
                    }
                });
            }
        });
        local
    }

    fn turn_to(&mut self, name: &Arc<str>) {
        if self.name != *name {
            self.flush();
            self.name = Arc::clone(name);
        }
    }

    /// Takes a row with its mark; false if it is not whole.
    fn take(&mut self, key: i64, seq: i64, payload: &[u8]) -> bool {
        let Some((row, blob)) = self.decode(seq, payload) else { return false };
        if let Some(written) = self.found.marks.get(&(key, seq)) {
            self.marks.extend(written.of(&row, blob).map(Arc::new));
        }
        self.rows.push(Arc::new(row));
        self.flush_if_long();
        true
    }

    fn decode<'p>(&self, seq: i64, payload: &'p [u8]) -> Option<(Row, &'p [u8])> {
        let blob = blob(payload)?;
        let seq = Seq(u64::try_from(seq).ok().filter(|seq| *seq > 0)?);
        let row = row_codec::decode(seq, blob).and_then(|decoded| decoded.to_row(seq, &self.found.words));
        Some((row.ok()?, blob))
    }

    fn flush_if_long(&mut self) {
        if self.rows.len() >= COPY_ROWS_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (rows, set) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.marks));
        if rows.is_empty() || self.trouble.is_some() {
            return;
        }
        let commit = StoreOp::Commit { op: 0, rows, acked: Vec::new() };
        let mark = (!set.is_empty()).then_some(StoreOp::Mark { op: 0, set, clear: Vec::new() });
        for op in [Some(commit), mark].into_iter().flatten() {
            if let Err(trouble) = store(self.into, Ask::Op(Arc::clone(&self.name), op), &self.found.learned) {
                self.trouble.get_or_insert(trouble);
            }
        }
    }

    fn stored(&self, name: &str) -> u64 {
        self.into.queues.get(name).map_or(0, |queue| queue.total().rows)
    }
}

fn is_of_queue(hole: &Hole) -> bool {
    hole.table >= Tables::table_of(0)
}

/// How many rows are lost with a hole at most.
fn known_width(hole: &Hole) -> Option<u64> {
    hole.width().filter(|width| *width <= HOLE_WIDTH_MAX)
}

enum Topic {
    Word,
    Inline(usize),
}

fn topic(seq: i64, payload: &[u8]) -> Option<Topic> {
    Some(match row_codec::decode(Seq(seq.cast_unsigned()), blob(payload)?).ok()?.topic {
        TopicRef::Word(_) => Topic::Word,
        TopicRef::Inline(topic) => Topic::Inline(topic.len()),
    })
}

/// The blob of a row of a queue.
fn blob(payload: &[u8]) -> Option<&[u8]> {
    match columns(payload)?[..] {
        [Value::Null, Value::Blob(blob)] => Some(blob),
        _ => None,
    }
}

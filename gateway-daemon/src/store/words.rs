//! The word table: what many rows share is written once. Topics and runs are named by number in rows; schemas are named by
//! their 64-bit id inside records; clock history says at which wall time a boot began.
//!
//! ```text
//! kind  body
//! 1     topic: UTF-8
//! 2     run: boot (8, little endian) | start_ms (8)
//! 3     schema: id (8) | bytes
//! 4     clock: boot (8) | wall time of the boot moment in ms since 1970, signed (8)
//! all   ... | CRC-32 (4) over number (8), kind (8) and the bytes before
//! ```
//!
//! Without its topic and its run no row can be read, so runs, the clock and the first [`COPIED_TOPICS_MAX`] topics stand a second time in a table `words_copy`, which only salvage reads. It
//! is made when [`COPY_ROWS_MIN`] rows are stored, so that it lies apart from the first pages of the file. Versions before it leave it alone; a copy that they
//! have made stale is written anew.
//!
//! Bounds: [`TOPICS_MAX`], [`RUNS_MAX`], [`SCHEMAS_MAX`], [`BOOTS_MAX`]. A topic or run beyond its bound is written into its rows;
//! a schema beyond its bound is refused and counted; the oldest boot makes room. Topics of local sessions' rows are always written into
//! the rows, because clients may invent them without end; words that nothing can need are forgotten when the table has grown stale.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_core::tag::{BootId, RunId, WallMs};
use rusqlite::{Connection, params};

use super::crc::crc32;
use super::row_codec::Lookup;

/// Most topics with a number: one per tag of a large gateway, 400 kB of memory at most.
pub(super) const TOPICS_MAX: usize = 4096;
/// Longest topic that gets a number, bytes: a longer one costs memory for as long as it is known.
const WORD_TOPIC_BYTES_MAX: usize = 256;
/// Most runs with a number: daemon starts while rows are stored.
const RUNS_MAX: usize = 1024;
/// Most schemas: one per poll group and configuration while rows are stored.
pub(super) const SCHEMAS_MAX: usize = 16_384;
/// Most boots with a known wall time.
const BOOTS_MAX: usize = 1024;
/// Words of one kind that this run does not use, above which they are forgotten once no rows are stored.
const STALE_MAX: usize = 64;

const TOPIC: i64 = 1;
const RUN: i64 = 2;
const SCHEMA: i64 = 3;
const CLOCK: i64 = 4;

/// Topics that are copied: of a gateway with poll groups all; more would take too much of the file where each row has a topic of its own.
const COPIED_TOPICS_MAX: usize = 256;
/// Rows that are stored before there is a copy.
const COPY_ROWS_MIN: u64 = 64;
/// Makes the copy anew: topics (1) as far as they are copied, runs (2) and the clock (4).
const COPY: &str = "DROP TABLE IF EXISTS words_copy; \
                    CREATE TABLE words_copy(id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, body BLOB NOT NULL); \
                    INSERT INTO words_copy SELECT id, kind, body FROM words WHERE kind IN (2, 4) OR id IN \
                    (SELECT id FROM words WHERE kind = 1 ORDER BY id LIMIT 256)";

/// What in the file may need words.
#[derive(Debug, Clone, Copy)]
pub(super) struct InUse {
    /// Whether rows of uplinks are stored.
    pub(super) uplink_rows: bool,
    /// Whether rows are stored.
    pub(super) rows: bool,
    /// Whether facts are stored.
    pub(super) facts: bool,
}

/// The word table and what of it is kept in memory: everything but the bytes of schemas.
#[derive(Debug, Default)]
pub(super) struct Words {
    topic_by_word: BTreeMap<u32, Arc<str>>,
    word_by_topic: BTreeMap<Arc<str>, u32>,
    run_by_word: BTreeMap<u32, RunId>,
    word_by_run: BTreeMap<RunId, u32>,
    schemas: BTreeMap<u64, u32>,
    clock: BTreeMap<BootId, (u32, WallMs)>,
    next: u32,
    /// Whether the copy is there and is one.
    copied: bool,
    /// There is a copy that says something else: it is made anew with whatever is stored next, before salvage can believe it.
    stale: bool,
    /// Words whose checksum or content was wrong.
    pub(super) rotten: u64,
}

impl Lookup for Words {
    fn topic(&self, word: u32) -> Option<&Arc<str>> {
        self.topic_by_word.get(&word)
    }

    fn run(&self, word: u32) -> Option<RunId> {
        self.run_by_word.get(&word).copied()
    }
}

impl Words {
    /// Reads the whole table.
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut words = Self { next: 1, ..Self::default() };
        let mut statement = conn.prepare("SELECT id, kind, body FROM words ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, kind) = (row.get(0)?, row.get(1)?);
            words.take(id, kind, row.get_ref(2)?.as_blob().unwrap_or_default());
        }
        let copy = is_copied(conn)?;
        (words.copied, words.stale) = (copy == Some(true), copy == Some(false));
        Ok(words)
    }

    /// Takes one row of the table into memory; a rotten one is counted.
    pub(super) fn take(&mut self, id: i64, kind: i64, body: &[u8]) {
        let Ok(word) = u32::try_from(id) else {
            self.rotten = self.rotten.saturating_add(1);
            return;
        };
        self.next = self.next.max(word.saturating_add(1));
        if unseal(id, kind, body).and_then(|content| self.learn(word, kind, content)).is_none() {
            self.rotten = self.rotten.saturating_add(1);
        }
    }

    fn learn(&mut self, word: u32, kind: i64, content: &[u8]) -> Option<()> {
        match kind {
            TOPIC => {
                let topic: Arc<str> = std::str::from_utf8(content).ok()?.into();
                self.topic_by_word.insert(word, Arc::clone(&topic));
                self.word_by_topic.insert(topic, word);
            }
            RUN => {
                let (boot, start_ms) = pair(content)?;
                let run = RunId { boot: BootId(boot), start_ms };
                self.run_by_word.insert(word, run);
                self.word_by_run.insert(run, word);
            }
            SCHEMA => {
                self.schemas.insert(schema_parts(content)?.0, word);
            }
            CLOCK => {
                let (boot, wall) = pair(content)?;
                self.clock.insert(BootId(boot), (word, WallMs(wall.cast_signed())));
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether a number has its word already; schemas and the clock apart.
    pub(super) fn knows(&self, word: u32) -> bool {
        self.topic_by_word.contains_key(&word) || self.run_by_word.contains_key(&word)
    }

    /// How many topics have a number.
    pub(super) fn topics(&self) -> usize {
        self.topic_by_word.len()
    }

    /// The number of a topic, given one while fewer than `topics_max` have one.
    pub(super) fn topic_word(
        &mut self,
        conn: &Connection,
        topic: &Arc<str>,
        topics_max: usize,
    ) -> rusqlite::Result<Option<u32>> {
        if let Some(word) = self.word_by_topic.get(topic) {
            return Ok(Some(*word));
        }
        if topic.len() > WORD_TOPIC_BYTES_MAX || self.word_by_topic.len() >= topics_max {
            return Ok(None);
        }
        self.add(conn, TOPIC, topic.as_bytes())
    }

    /// The number of a run, given one if there is room.
    pub(super) fn run_word(&mut self, conn: &Connection, run: RunId) -> rusqlite::Result<Option<u32>> {
        if let Some(word) = self.word_by_run.get(&run) {
            return Ok(Some(*word));
        }
        if self.word_by_run.len() >= RUNS_MAX {
            return Ok(None);
        }
        let content = [run.boot.0.to_le_bytes(), run.start_ms.to_le_bytes()].concat();
        self.add(conn, RUN, &content)
    }

    /// Whether a schema is in the table.
    pub(super) fn has_schema(&self, id: u64) -> bool {
        self.schemas.contains_key(&id)
    }

    /// Writes a schema; false when there is no room.
    pub(super) fn add_schema(&mut self, conn: &Connection, id: u64, bytes: &[u8]) -> rusqlite::Result<bool> {
        if self.schemas.len() >= SCHEMAS_MAX {
            return Ok(false);
        }
        Ok(self.add(conn, SCHEMA, &[&id.to_le_bytes()[..], bytes].concat())?.is_some())
    }

    /// Reads the bytes of every schema.
    pub(super) fn schemas(conn: &Connection) -> rusqlite::Result<BTreeMap<u64, Vec<u8>>> {
        let mut schemas = BTreeMap::new();
        let mut statement = conn.prepare("SELECT id, kind, body FROM words WHERE kind = ?1 ORDER BY id")?;
        let mut rows = statement.query([SCHEMA])?;
        while let Some(row) = rows.next()? {
            let (id, kind) = (row.get(0)?, row.get(1)?);
            let body = row.get_ref(2)?.as_blob().unwrap_or_default();
            if let Some((schema, bytes)) = unseal(id, kind, body).and_then(schema_parts) {
                schemas.insert(schema, bytes.to_vec());
            }
        }
        Ok(schemas)
    }

    /// Whether rows of a boot may be stored.
    pub(super) fn knows_boot(&self, boot: BootId) -> bool {
        self.run_by_word.values().any(|run| run.boot == boot)
    }

    /// Wall time of a boot moment.
    pub(super) fn boot_wall(&self, boot: BootId) -> Option<WallMs> {
        self.clock.get(&boot).map(|(_, wall)| *wall)
    }

    /// Every boot whose wall time is known.
    pub(super) fn clock(&self) -> Vec<(BootId, WallMs)> {
        self.clock.iter().map(|(boot, (_, wall))| (*boot, *wall)).collect()
    }

    /// Writes the wall time of a boot moment in place of the one known before.
    pub(super) fn set_clock(
        &mut self,
        conn: &Connection,
        boot: BootId,
        wall: WallMs,
    ) -> rusqlite::Result<()> {
        let known = self.clock.get(&boot).map(|(word, _)| *word);
        let oldest =
            self.clock.values().map(|(word, _)| *word).min().filter(|_| self.clock.len() >= BOOTS_MAX);
        if let Some(word) = known.or(oldest) {
            conn.execute("DELETE FROM words WHERE id = ?1", [word])?;
            if self.copied {
                conn.execute("DELETE FROM words_copy WHERE id = ?1", [word])?;
            }
            self.clock.retain(|_, (other, _)| *other != word);
        }
        self.add(conn, CLOCK, &[boot.0.to_le_bytes(), wall.0.to_le_bytes()].concat()).map(drop)
    }

    /// Forgets what nothing in the file can need; `learned` are the schemas of this run. Writes only when a kind has more than
    /// [`STALE_MAX`] stale words, so that short outages do not rewrite the table.
    pub(super) fn forget_stale(
        &mut self,
        conn: &Connection,
        learned: &BTreeMap<u64, Arc<[u8]>>,
        in_use: InUse,
    ) -> rusqlite::Result<()> {
        let stale_schemas = self.schemas.keys().filter(|id| !learned.contains_key(id)).count();
        for (kind, needed, stale) in [
            // Rows of local sessions bear their topics; half of the numbers are kept for readings.
            (TOPIC, in_use.uplink_rows, self.word_by_topic.len() >= TOPICS_MAX / 2),
            (RUN, in_use.rows, self.word_by_run.len() > STALE_MAX),
            (SCHEMA, in_use.rows, stale_schemas > STALE_MAX),
            (CLOCK, in_use.rows || in_use.facts, self.clock.len() > STALE_MAX),
        ] {
            if stale && !needed {
                conn.execute("DELETE FROM words WHERE kind = ?1", [kind])?;
                if self.copied {
                    conn.execute("DELETE FROM words_copy WHERE kind = ?1", [kind])?;
                }
                match kind {
                    TOPIC => (self.topic_by_word, self.word_by_topic) = Default::default(),
                    RUN => (self.run_by_word, self.word_by_run) = Default::default(),
                    SCHEMA => self.schemas.clear(),
                    _ => self.clock.clear(),
                }
            }
        }
        Ok(())
    }

    /// Makes the copy, once it is worth it; inside a transaction that stores something.
    pub(super) fn copy(&mut self, conn: &Connection, rows: u64) -> rusqlite::Result<()> {
        if !self.copied && (self.stale || rows >= COPY_ROWS_MIN) {
            conn.execute_batch(COPY)?;
            (self.copied, self.stale) = (true, false);
        }
        Ok(())
    }

    fn add(&mut self, conn: &Connection, kind: i64, content: &[u8]) -> rusqlite::Result<Option<u32>> {
        let word = self.next;
        if word == u32::MAX {
            return Ok(None);
        }
        let body = [content, &seal(word.into(), kind, content)].concat();
        conn.execute("INSERT INTO words(id, kind, body) VALUES (?1, ?2, ?3)", params![word, kind, body])?;
        let wanted = match kind {
            TOPIC => self.word_by_topic.len() < COPIED_TOPICS_MAX,
            _ => kind != SCHEMA,
        };
        if self.copied && wanted {
            conn.execute(
                "INSERT INTO words_copy(id, kind, body) VALUES (?1, ?2, ?3)",
                params![word, kind, body],
            )?;
        }
        self.next = word + 1;
        self.learn(word, kind, content);
        Ok(Some(word))
    }
}

/// Whether the copy says nothing else than the table, and lacks no run; none if there is no copy.
fn is_copied(conn: &Connection) -> rusqlite::Result<Option<bool>> {
    let exists = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'words_copy'";
    if conn.query_row(exists, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(None);
    }
    let same = "SELECT NOT EXISTS (SELECT 1 FROM words_copy LEFT JOIN words USING (id) WHERE words.body IS NOT words_copy.body) \
                AND NOT EXISTS (SELECT 1 FROM words WHERE kind = 2 AND id NOT IN (SELECT id FROM words_copy))";
    // A table of that name with other columns is no copy.
    Ok(Some(conn.query_row(same, [], |row| row.get(0)).unwrap_or(false)))
}

fn seal(id: i64, kind: i64, content: &[u8]) -> [u8; 4] {
    crc32(&[&id.to_le_bytes(), &kind.to_le_bytes(), content]).to_le_bytes()
}

/// The content of a word whose checksum is right.
fn unseal(id: i64, kind: i64, body: &[u8]) -> Option<&[u8]> {
    let (content, crc) = body.split_last_chunk::<4>()?;
    (seal(id, kind, content) == *crc).then_some(content)
}

fn pair(content: &[u8]) -> Option<(u64, u64)> {
    let (first, second) = content.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*first), u64::from_le_bytes(second.try_into().ok()?)))
}

/// Whether the checksum of a word is right.
pub(super) fn is_whole(id: i64, kind: i64, body: &[u8]) -> bool {
    unseal(id, kind, body).is_some()
}

/// Id and bytes of a word that is a schema.
pub(super) fn schema_of(id: i64, kind: i64, body: &[u8]) -> Option<(u64, &[u8])> {
    (kind == SCHEMA).then(|| unseal(id, kind, body).and_then(schema_parts)).flatten()
}

fn schema_parts(content: &[u8]) -> Option<(u64, &[u8])> {
    let (id, bytes) = content.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*id), bytes))
}

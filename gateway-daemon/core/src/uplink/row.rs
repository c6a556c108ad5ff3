//! A message in a durable queue, and the conversation between a queue (pure) and the store (hand).
//!
//! The queue decides, the store obeys: [`StoreOp`] goes out, [`StoreEvent`] comes back, in the order of the ops of one
//! queue. The store never drops a row on its own.

use std::sync::Arc;

use crate::tag::{BootNs, RunId};

/// Which durable queue: one per persistent session. The number is given by the store when the queue is opened, and valid for one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u32);

/// Place of a message in its queue: 1, 2, 3 ... without holes at enqueue, never reused while older rows are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Seq(pub u64);

/// What goes last when a queue is full. Higher is kept longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Readings.
    #[default]
    Normal = 0,
    /// Events and alarms.
    High = 1,
}

/// MQTT quality of service of a message on this queue's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qos {
    /// At most once: a send counts as an acknowledgement.
    AtMostOnce = 0,
    /// At least once: PUBACK.
    AtLeastOnce = 1,
    /// Exactly once: PUBCOMP.
    ExactlyOnce = 2,
}

/// What a row holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Bytes of a client or a ready message, sent as they are.
    Raw(Arc<[u8]>),
    /// A compact record of readings ([`crate::payload`]); encoded to JSON when it is sent, so that wall time can still be
    /// repaired, and cards wear less.
    Record(Arc<[u8]>),
}

impl Body {
    /// The stored bytes, of either kind.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        match self {
            Self::Raw(bytes) | Self::Record(bytes) => bytes,
        }
    }
}

/// One message of a durable queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Place in the queue.
    pub seq: Seq,
    /// What goes last when full.
    pub priority: Priority,
    /// MQTT topic, valid for publishing.
    pub topic: Arc<str>,
    /// QoS towards the session's subscriber.
    pub qos: Qos,
    /// Retain flag towards the session's subscriber.
    pub retain: bool,
    /// What is sent.
    pub body: Body,
    /// How many readings it carries; 0 for other messages.
    pub readings: u32,
    /// The run of the daemon that produced it.
    pub run: RunId,
    /// When it was produced, in `run.boot`.
    pub at: BootNs,
    /// Seconds after `at` at which nobody wants it any more; `None` is for ever.
    pub expiry_s: Option<u32>,
}

impl Row {
    /// Bytes this row counts for in limits: topic, body and a fixed share for its columns and index entry.
    #[must_use]
    pub fn size(&self) -> u64 {
        Self::size_of(self.topic.len(), self.body.bytes().len())
    }

    /// [`Row::size`] of a row whose topic and body have these lengths, for a store that counts rows without building them.
    #[must_use]
    pub fn size_of(topic_bytes: usize, body_bytes: usize) -> u64 {
        /// Columns and B-tree overhead of a row in the store, measured once and rounded up.
        const ROW_OVERHEAD_BYTES: u64 = 64;
        ROW_OVERHEAD_BYTES.saturating_add(topic_bytes as u64).saturating_add(body_bytes as u64)
    }
}

/// A count of messages, the readings in them and their [`Row::size`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Messages.
    pub rows: u64,
    /// Readings inside them.
    pub readings: u64,
    /// Sum of [`Row::size`].
    pub bytes: u64,
}

impl Tally {
    /// Counts one more row.
    pub fn add_row(&mut self, row: &Row) {
        self.add(Self { rows: 1, readings: u64::from(row.readings), bytes: row.size() });
    }

    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.readings = self.readings.saturating_add(other.readings);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    /// Takes another count away, stopping at zero.
    pub fn take(&mut self, other: Self) {
        self.rows = self.rows.saturating_sub(other.rows);
        self.readings = self.readings.saturating_sub(other.readings);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// Why a row is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blame {
    /// The server ended the connection each time after this message alone was sent, while it acknowledged others.
    Cut,
    /// It is like messages that were set aside for [`Self::Cut`] before: same topic and at least as large, or larger than all that the server takes.
    Alike,
    /// Its topic holds characters for which the standard lets servers end the connection; it was not sent.
    Topic,
}

impl Blame {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cut, Self::Alike, Self::Topic];

    /// The word on disk, in status and logs. Stable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Alike => "alike",
            Self::Topic => "topic",
        }
    }

    /// The blame of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|blame| blame.word() == word)
    }
}

/// Most bytes of a topic that a [`Mark`] keeps, and of the name of a server.
pub const MARK_TEXT_MAX: usize = 256;

/// A row that stays stored and is not sent, because the cloud will not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The row.
    pub seq: Seq,
    /// Its priority.
    pub priority: Priority,
    /// The row as a count.
    pub tally: Tally,
    /// The beginning of its topic, at most [`MARK_TEXT_MAX`] bytes.
    pub topic: Arc<str>,
    /// The run that produced it.
    pub run: RunId,
    /// When, in `run.boot`.
    pub at: BootNs,
    /// Why it is set aside.
    pub blame: Blame,
    /// Host and port of the server that will not take it, at most [`MARK_TEXT_MAX`] bytes.
    pub server: Arc<str>,
}

impl Mark {
    /// The mark of a row.
    #[must_use]
    pub fn of(row: &Row, blame: Blame, server: &Arc<str>) -> Self {
        let mut tally = Tally::default();
        tally.add_row(row);
        let (topic, server) = (beginning(&row.topic), beginning(server));
        Self { seq: row.seq, priority: row.priority, tally, topic, run: row.run, at: row.at, blame, server }
    }
}

/// The text, or as much of it as a mark keeps.
fn beginning(text: &Arc<str>) -> Arc<str> {
    if text.len() <= MARK_TEXT_MAX {
        return Arc::clone(text);
    }
    text[..text.floor_char_boundary(MARK_TEXT_MAX)].into()
}

/// What a queue asks of the store. Ops of one queue are carried out in order; the store answers each with exactly one
/// [`StoreEvent`]. Everything in one op is one transaction: all of it or nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreOp {
    /// Insert `rows` and delete `acked` in one transaction; durable when the answer comes.
    Commit {
        /// Number of this op, echoed in the answer.
        op: u64,
        /// New rows, ascending by seq.
        rows: Vec<Arc<Row>>,
        /// Rows whose PUBACK came, as inclusive ranges; rows that are absent are not an error.
        acked: Vec<(Seq, Seq)>,
    },
    /// Read stored rows with `seq > after`, ascending, at most `rows_max` rows and `bytes_max` bytes (but at least one row).
    Fetch {
        /// Number of this op, echoed in the answer.
        op: u64,
        /// Exclusive lower end.
        after: Seq,
        /// Inclusive upper end.
        until: Seq,
        /// At most so many rows.
        rows_max: u32,
        /// At most so many bytes of [`Row::size`].
        bytes_max: u64,
    },
    /// Delete the oldest rows of the lowest priorities first, sparing the seqs in `keep`, until at least `rows` rows and
    /// `bytes` bytes are freed or nothing is left to delete.
    Trim {
        /// Number of this op, echoed in the answer.
        op: u64,
        /// Rows to free.
        rows: u64,
        /// Bytes to free.
        bytes: u64,
        /// Highest priority that may be deleted.
        priority_max: Priority,
        /// In flight: never deleted, ascending.
        keep: Vec<Seq>,
    },
    /// Replace `remove` by `rows` in one transaction: thinning out, and expiry by age (with no rows).
    Replace {
        /// Number of this op, echoed in the answer.
        op: u64,
        /// Rows to delete, ascending.
        remove: Vec<Seq>,
        /// Rows to insert; their seqs are among the removed ones.
        rows: Vec<Arc<Row>>,
    },
    /// Remember that stored rows are set aside, and forget it of others. A mark goes with its row, whatever deletes that.
    Mark {
        /// Number of this op, echoed in the answer.
        op: u64,
        /// Marks of stored rows, ascending; one that is there already is replaced.
        set: Vec<Arc<Mark>>,
        /// Rows that are no longer set aside.
        clear: Vec<Seq>,
    },
}

/// What the store answers, in the order of the ops.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreEvent {
    /// A [`StoreOp::Commit`], [`StoreOp::Replace`] or [`StoreOp::Mark`] is durable. `deleted` counts the rows that were really removed.
    Committed {
        /// The op answered.
        op: u64,
        /// Rows really removed.
        deleted: Tally,
    },
    /// The rows asked for. Fewer than asked means that there are no more in that range.
    Fetched {
        /// The op answered.
        op: u64,
        /// Ascending by seq.
        rows: Vec<Arc<Row>>,
        /// Whether the range holds more rows.
        more: bool,
    },
    /// Rows that a [`StoreOp::Trim`] removed.
    Trimmed {
        /// The op answered.
        op: u64,
        /// What was removed.
        dropped: Tally,
    },
    /// The op was not carried out; nothing of it is durable. `fault` is for counting and logging; the queue keeps its rows
    /// in memory and asks again after a back-off.
    Failed {
        /// The op answered.
        op: u64,
        /// What went wrong.
        fault: StoreFault,
    },
    /// The database was replaced (corrupt or foreign file moved aside): everything stored before is gone from the queue,
    /// except what `salvaged` counts, which is stored again. Comes unasked.
    Reset {
        /// What is stored now.
        salvaged: Stored,
        /// Which of it is set aside.
        aside: Vec<Arc<Mark>>,
    },
}

/// Situations of the store that a queue and a person can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreFault {
    /// ENOSPC or the configured file limit.
    #[error("disk full")]
    Full,
    /// The file system or file is read-only.
    #[error("read-only")]
    ReadOnly,
    /// The user of the gateway may not write there.
    #[error("not allowed")]
    Forbidden,
    /// Any other I/O error.
    #[error("i/o error")]
    Io,
    /// The database is damaged.
    #[error("corrupt database")]
    Corrupt,
    /// Another process holds the database.
    #[error("another gateway is running on this database")]
    Locked,
}

/// What a queue finds in the store when it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Rows of normal priority.
    pub normal: Tally,
    /// Rows of high priority.
    pub high: Tally,
    /// Lowest stored seq, 0 when empty.
    pub first: Seq,
    /// Highest stored seq, or the last one ever used if the store knows it; 0 when empty.
    pub last: Seq,
}

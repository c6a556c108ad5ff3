//! What the broker asks of the store, and what it finds there at start.
//!
//! The broker keeps one ordered list of changes to what must survive: rows of sessions' queues, and *facts* (sessions, subscriptions, retained messages,
//! packet identifiers of QoS 2). A [`Turn`] is everything changed since the last one, in one transaction. So the disk always shows the broker
//! as it was at one moment of its past, and whatever a client was told (PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK) is told after the turn that
//! holds it is durable: nothing a client knows can be forgotten, and no half of an exchange survives.
//!
//! One turn is under way at a time. A row that is acknowledged before its turn begins is never written.

use std::sync::Arc;

use crate::uplink::row::{Row, Seq, StoreFault, Stored};

/// Name of a session's queue in the store. No uplink has one like it: theirs are [`crate::tag::Name`]s and hold no slash.
pub type QueueName = Arc<str>;

/// Queues of local sessions begin with this; the client id follows.
pub const QUEUE_PREFIX: &str = "local/";

/// What kind of thing a fact is about; the number is its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FactKind {
    /// A session; the key is the client id.
    Session = 1,
    /// A subscription; the key is client id and filter.
    Subscription = 2,
    /// A retained message; the key is its topic.
    Retained = 3,
    /// A QoS 2 message of a client that it has not released; the key is client id and packet identifier.
    Received = 4,
    /// A QoS 2 message to a client of which only the release is left to do; the key is client id and packet identifier.
    Released = 5,
}

/// Names one fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactKey {
    /// What it is about.
    pub kind: FactKind,
    /// Which one.
    pub key: Arc<[u8]>,
}

impl FactKey {
    /// The beginning of the keys of all subscriptions that are stored for the client of a queue. `None`: the queue is no client's.
    #[must_use]
    pub fn subscriptions_of(queue: &str) -> Option<Self> {
        let client = queue.strip_prefix(QUEUE_PREFIX).filter(|client| !client.is_empty())?;
        Some(super::facts::subscription_key(client, ""))
    }

    /// Whether it begins with another one and is of its kind.
    #[must_use]
    pub fn begins_with(&self, other: &Self) -> bool {
        self.kind == other.kind && self.key.starts_with(&other.key)
    }
}

/// One change of what must survive.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A row of a queue, which is made if it does not exist.
    Insert {
        /// Which queue.
        queue: QueueName,
        /// Its seq is above all that the queue holds, except after a failed turn or a reset: then it takes the place of a row of the same seq.
        row: Arc<Row>,
    },
    /// Rows go; absent ones are no error.
    Delete {
        /// Which queue.
        queue: QueueName,
        /// First and last seq, both included.
        seqs: (Seq, Seq),
    },
    /// A queue goes with all its rows, and with every subscription that is stored for its client ([`FactKey::subscriptions_of`]): also those that the broker does not
    /// know, because they did not fit into memory. What the same turn puts afterwards stays.
    Drop {
        /// Which queue.
        queue: QueueName,
    },
    /// A fact takes the place of the one before.
    Put {
        /// Which fact.
        fact: FactKey,
        /// Its content.
        value: Arc<[u8]>,
    },
    /// A fact goes; an absent one is no error.
    Remove {
        /// Which fact.
        fact: FactKey,
    },
}

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Echoed in the answer.
    pub number: u64,
    /// In order: a drop before inserts into the same queue empties it first. Never empty.
    pub changes: Vec<Change>,
}

/// Asks for stored rows of one queue, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Echoed in the answer.
    pub number: u64,
    /// Which queue.
    pub queue: QueueName,
    /// Exclusive lower end.
    pub after: Seq,
    /// Inclusive upper end.
    pub until: Seq,
    /// At most so many rows.
    pub rows_max: u32,
    /// At most so many bytes of [`Row::size`], but at least one row.
    pub bytes_max: u64,
}

/// What the store says to the broker.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The turn is durable.
    Done {
        /// The turn.
        number: u64,
    },
    /// The turn is not known to be durable; its changes are asked again later, joined with what changed meanwhile. If it reached the disk all the
    /// same, asking again does no harm.
    Failed {
        /// The turn.
        number: u64,
        /// What went wrong.
        fault: StoreFault,
    },
    /// The rows asked for; fewer than asked and not `more`: there are no more.
    Rows {
        /// The read.
        number: u64,
        /// Ascending by seq.
        rows: Vec<Arc<Row>>,
        /// Whether the range holds more.
        more: bool,
    },
    /// Nothing was read.
    Unread {
        /// The read.
        number: u64,
        /// What went wrong.
        fault: StoreFault,
    },
    /// The database was replaced: what was stored before is gone except what is said here. Comes unasked; turns and reads asked before it is
    /// taken fail with [`StoreFault::Corrupt`].
    Reset {
        /// What is there.
        found: Found,
    },
}

/// What the store holds for the broker.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Every fact whose checksum is right and that the [`super::Sieve`] lets through.
    pub facts: Vec<(FactKey, Arc<[u8]>)>,
    /// Every queue whose name begins with [`QUEUE_PREFIX`].
    pub queues: Vec<(QueueName, Stored)>,
    /// Nothing could be read yet: a disk that is not there, full or read-only, or another gateway that holds the file. What is stored comes with
    /// [`Answer::Reset`] when the fault passes. Until then no durable session may be opened or resumed: its rows would take the places of
    /// those that are stored.
    pub blind: bool,
    /// What is stored beside the facts above and did not pass the [`super::Sieve`].
    pub left_out: super::LeftOut,
}

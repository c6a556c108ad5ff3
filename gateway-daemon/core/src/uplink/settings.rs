//! Plain settings of one uplink: its queue, its window, its back-off and its status topic.

use std::sync::Arc;
use std::time::Duration;

use super::row::Qos;
use crate::settings::Durability;
use crate::tag::Name;

/// What happens when a queue is full. Every dropped row is counted with this policy as its reason; rows of higher priority go last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Drop the oldest rows that are not in flight (default).
    DropOldest,
    /// Refuse the message that arrives.
    DropNewest,
    /// Keep the minimum, the maximum and the last value of each tag per bucket of time; drop the oldest when that is not enough.
    ThinOut {
        /// Length of a bucket.
        bucket: Duration,
    },
}

/// In which order a backlog and fresh messages leave after an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// Fresh messages at once, the backlog with an adaptive share of the window of at least half (default).
    LiveFirst,
    /// Strictly in order of production.
    Fifo,
}

/// Limits of one durable queue, memory and disk together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most rows.
    pub rows_max: u64,
    /// Most bytes, as [`super::row::Row::size`] counts.
    pub bytes_max: u64,
    /// Rows older than this are dropped; `None` keeps them for ever.
    pub age_max: Option<Duration>,
    /// What happens when full.
    pub when_full: WhenFull,
}

/// One uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name in TOML, logs and metrics.
    pub name: Name,
    /// Topic filters of what goes up.
    pub forward: Vec<Arc<str>>,
    /// QoS of what goes up: 0 is at most once and for clouds that send no PUBACK; 1 is at least once (default).
    pub qos: Qos,
    /// Most unacknowledged messages at once, 1 to 1000.
    pub window: u16,
    /// Order after an outage.
    pub drain: Drain,
    /// Limits of its queue.
    pub limits: Limits,
    /// How long a message may stay only in memory.
    pub commit_interval: Duration,
    /// Whether messages are on disk before they are sent.
    pub durability: Durability,
    /// A link without an acknowledgement for this long after a publish is half-open and cut.
    pub ack_timeout: Duration,
    /// Back-off ceiling of the first retry.
    pub backoff_min: Duration,
    /// Back-off ceiling of the last retry; the pause is drawn uniformly from zero to the ceiling (full jitter).
    pub backoff_max: Duration,
    /// Retained QoS 1 topic of birth, last will and clean stop.
    pub status_topic: Arc<str>,
    /// Topic of the ledger message.
    pub ledger_topic: Arc<str>,
    /// How often the ledger is published.
    pub ledger_every: Duration,
}

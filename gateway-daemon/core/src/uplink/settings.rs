//! Plain settings of one uplink: its queue, its window, its back-off and its status topic.

use std::sync::Arc;
use std::time::Duration;

use super::row::{Priority, Qos};
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

/// Most bytes of a queue, unless the file says otherwise or is too small: with the local sessions it fits into a database of the default size.
pub const BYTES_MAX: u64 = 150_000_000;

/// Largest packet that is sent or accepted, unless the file says otherwise.
pub const PACKET_BYTES_MAX: u64 = 256_000;

/// Most bytes of messages that an uplink has set aside because its cloud will not take them, beside its queue.
pub const ASIDE_BYTES_MAX: u64 = 16 << 20;

impl Limits {
    /// Most bytes of messages that may be set aside: [`ASIDE_BYTES_MAX`], and a quarter of a small queue, so that a small database holds both.
    #[must_use]
    pub fn aside_bytes_max(&self) -> u64 {
        ASIDE_BYTES_MAX.min(self.bytes_max / 4)
    }
}

/// Most rules of one direction of an uplink: each message is held against them in turn.
pub const RULES_MAX: usize = 64;

/// One rule of a bridge: which topics pass, and what their messages are on the other side. The first rule that takes a topic decides, so special
/// rules stand before general ones.
///
/// `strip` and `add` are whole levels at the beginning of topics; a slash that is missing at their end is understood. With `strip` = `"line2"` and
/// `add` = `"site/7"` a message on `line2/meter/1` travels as `site/7/meter/1`. Of a filter `line2/#` the parent `line2` itself travels as
/// `site/7`. [`crate::broker::bridge::BridgeRules::new`] checks rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Topic filter on the side where messages come from: local topics for `forward`, topics of the cloud for `accept`.
    pub filter: Arc<str>,
    /// Most QoS on the other side; 2 travels to the cloud as 1 (default: `qos` of the uplink).
    pub qos_max: Qos,
    /// Taken off the beginning of each topic; the filter begins with the same levels. Empty (default): nothing.
    pub strip: Arc<str>,
    /// Put before each topic, after `strip` is taken off. Without wildcards; empty (default): nothing.
    pub add: Arc<str>,
    /// What becomes of retain flags.
    pub retain: Retain,
    /// Priority in the queue of the uplink; `None` (default) leaves what the publisher of this gateway says, normal for clients. Means nothing
    /// for `accept`.
    pub priority: Option<Priority>,
}

impl Rule {
    /// A rule that changes nothing but the QoS.
    #[must_use]
    pub fn plain(filter: impl Into<Arc<str>>, qos_max: Qos) -> Self {
        let (filter, nothing) = (filter.into(), Arc::from(""));
        let (strip, add) = (Arc::clone(&nothing), nothing);
        Self { filter, qos_max, strip, add, retain: Retain::Keep, priority: None }
    }
}

/// What becomes of retain flags on the other side of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retain {
    /// They stay as they come (default). A cloud of MQTT 3.1.1 says only of messages older than the subscription that they are retained, unless
    /// it knows bridges: see [`crate::settings::LinkSettings::bridge_bit`].
    #[default]
    Keep,
    /// Nothing is retained on the other side.
    Drop,
}

/// One uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name in TOML, logs and metrics.
    pub name: Name,
    /// What goes up; at most [`RULES_MAX`].
    pub forward: Vec<Rule>,
    /// What comes down, with QoS 1 at most; at most [`RULES_MAX`]. The filters are subscribed at the cloud.
    pub accept: Vec<Rule>,
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

//! What goes into a queue and what is said about it.

use std::sync::Arc;

use super::DropReason;
use crate::payload::Draft;
use crate::tag::BootNs;
use crate::uplink::row::{Body, Priority, Qos, Seq};

/// A message on its way into a queue, which gives it its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// MQTT topic, valid for publishing.
    pub topic: Arc<str>,
    /// What is sent.
    pub body: Body,
    /// How many readings it carries.
    pub readings: u32,
    /// What goes last when full.
    pub priority: Priority,
    /// QoS towards the reader.
    pub qos: Qos,
    /// Retain flag towards the reader.
    pub retain: bool,
    /// When it was produced, in this boot.
    pub at: BootNs,
    /// Seconds after `at` at which nobody wants it any more.
    pub expiry_s: Option<u32>,
    /// Who waits to hear that it is safe: see [`Receipt`].
    pub waiting: Waiting,
}

/// Who waits to hear that a message is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Waiting {
    /// Nobody; there is no [`Receipt`].
    #[default]
    Nobody,
    /// Somebody who is told in its time: after `commit_interval` at the latest, unless the store fails.
    Patient,
    /// A publisher that sends nothing more until it is told: while no acknowledgement can come soon the message goes to disk as soon as the
    /// store is free, with everything else that is in memory; as soon as the reader counts as slow ([`super::super::pace`]), with what is before it; otherwise as
    /// for [`Self::Patient`].
    Urgent,
}

impl Message {
    /// A message of readings of this gateway; nobody waits for its receipt.
    #[must_use]
    pub fn of(draft: Draft, qos: Qos) -> Self {
        let Draft { topic, body, readings, priority, retain, at } = draft;
        Self { topic, body, readings, priority, qos, retain, at, expiry_s: None, waiting: Waiting::Nobody }
    }
}

/// Word about a message published with [`Message::waiting`]: exactly one per message and run of the daemon, none for [`Waiting::Nobody`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message.
    pub seq: Seq,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is on disk or the cloud has acknowledged it: its publisher may be acknowledged.
    Safe,
    /// A stated policy dropped it, and it is counted.
    Dropped(DropReason),
}

/// Which of the two ways to the link a row takes. Each keeps the order of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Fresh rows, straight from memory.
    Live,
    /// Rows that have been on disk.
    Backlog,
}

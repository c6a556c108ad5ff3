//! Readings to messages: compact records for the queue, JSON for the wire.
//!
//! A row of a queue holds a *record*: indices, samples and a time since boot. It becomes JSON when it is sent ([`render()`]),
//! because only then the wall time of its boot may be known, and because a record is a tenth of its JSON on the SD card. What the indices mean is
//! a [`Schema`], stored once under the hash of its bytes, so that rows outlive the configuration that made them.
//!
//! # Record
//! ```text
//!  0       1       2               10              18
//! +-------+-------+---------------+---------------+----------+---------+---------+--
//! | 0x01  | flags | schema id     | base          | count    | reading | reading | ..
//! | u8    | u8    | u64 LE        | u64 LE        | varint   |         |         |
//! +-------+-------+---------------+---------------+----------+---------+---------+--
//! flags   bit 0 one tag per message (shape), bit 1 thinned out; others 0
//! base    ns since boot of the earliest reading; the boot is in the row
//! count   1 to RECORD_READINGS_MAX
//!
//! reading
//! +---------+--------------+---------------+------------------+
//! | mark    | skipped      | offset        | value            |
//! | u8      | varint, >= 1 | varint, µs    | by kind          |
//! +---------+--------------+---------------+------------------+
//! mark    bits 0-3 kind
//!         bit 4: index is the one before + 1 (first: 0), no `skipped`; else index = before + 1 + skipped
//!         bit 5: offset is the one before (first: 0), no `offset`; else µs after base
//! kind    0 false   1 true   2 int, zigzag varint   3 uint, varint   4 float, f32 LE where exact   5 float, f64 LE
//!         6 text: varint length, UTF-8   7 bad: u8 reason, and for reason 3 (exception) the u8 code
//! ```
//! Reasons: 0 not-polled, 1 timeout, 2 bad-answer, 3 exception, 4 bus-down, 5 device-down, 6 out-of-range, 7 not-a-number, 8 stale.
//!
//! # Schema
//! ```text
//! +-------+------+--------+-------+---------+----------------------+--
//! | 0x01  | bus  | device | group | count   | name, unit ("" none) | ..      texts: varint length, UTF-8
//! +-------+------+--------+-------+---------+----------------------+--
//! ```
//!
//! # Invariants
//! - Every record and schema has exactly one encoding; decoding refuses every other byte, so damage is an error and never a value.
//! - Decoding never allocates more than a small multiple of the bytes it is given.
//! - A float is finite; integers are never turned into floats.
//! - Wall time is printed when it is known and never guessed.
//!
//! Bounds: [`RECORD_READINGS_MAX`] readings per record, [`SCHEMA_TAGS_MAX`] tags per schema, [`TOPIC_LEN_MAX`] bytes per topic.
//! This room never keeps a reading, never numbers a message and never reads a clock.

mod encoder;
mod json;
mod record;
mod render;
mod schema;
pub mod settings;
#[cfg(test)]
mod tests;
mod thin;
mod topic;
mod wall;
mod wire;

pub use encoder::{Counters, Draft, Encoder};
pub use record::{Entry, Head, RECORD_READINGS_MAX, Record, peek};
pub use render::{RenderError, render, render_row};
pub use schema::{SCHEMA_TAGS_MAX, Schema, SchemaId, SchemaTag, Schemas};
pub use thin::{Thinned, thin};
pub use topic::{PLACEHOLDERS, TOPIC_LEN_MAX, Template, TopicError};
pub use wall::iso8601;

use crate::tag::{GroupId, Name};

/// Why settings do not yield messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The topic template cannot be used.
    #[error("message topic: {0}")]
    Topic(#[from] TopicError),
    /// A poll group, its device, its bus or its tags are not in the settings.
    #[error("poll group {} is not in the settings", .0.0)]
    NoSuchGroup(GroupId),
    /// A record cannot number so many tags.
    #[error(
        "poll group {device}/{group} has {tags} tags, at most {SCHEMA_TAGS_MAX} are possible; split the group"
    )]
    TooManyTags {
        /// Device of the group.
        device: Name,
        /// The group.
        group: Name,
        /// How many tags it has.
        tags: usize,
    },
}

/// Why bytes are not a record or not a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("ends too early")]
    Short,
    /// So many bytes follow the end.
    #[error("{0} bytes after the end")]
    Trailing(usize),
    /// Written by a version that this one does not know.
    #[error("format version {0} is not known")]
    Version(u8),
    /// Reserved bits are set.
    #[error("reserved bits are set in {0:#04x}")]
    Flags(u8),
    /// A number is too large or not in its shortest form.
    #[error("a number is not in its shortest form")]
    Varint,
    /// The count is zero, above its limit or above what the bytes can hold.
    #[error("an impossible count")]
    Count,
    /// An index is not above the one before, or too large.
    #[error("an impossible tag index")]
    Index,
    /// An offset is spelled out although it repeats the one before.
    #[error("an offset is not in its shortest form")]
    Offset,
    /// A kind of value that this version does not know.
    #[error("kind {0} is not known")]
    Kind(u8),
    /// A float is not finite or not in its shortest form.
    #[error("an impossible float")]
    Float,
    /// A text is not UTF-8, or a name breaks the rules of names.
    #[error("an impossible text")]
    Text,
}

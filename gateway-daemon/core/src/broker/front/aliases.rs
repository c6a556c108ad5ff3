//! Topic aliases of 5.0, in both directions (3.3.2.3.4).
//!
//! Bounds: [`ALIASES_MAX`] in each direction, and bytes of their topics: [`RECEIVED_BYTES_MAX`] and [`SENT_BYTES_MAX`]. Nothing is kept for a client that
//! uses none.

use std::sync::Arc;

use super::super::CloseReason;
use super::super::settings::ALIASES_BYTES;
use super::super::topic::TopicName;

/// Most topic aliases of one connection in each direction: what mosquitto takes.
pub(crate) const ALIASES_MAX: u16 = 10;

/// Most bytes of topics behind the aliases that one client gave: ten of 200 bytes. It was promised all aliases, so one with more is told that its quota is
/// exceeded.
const RECEIVED_BYTES_MAX: usize = 2 << 10;

/// Most bytes of topics behind the aliases that one client was given: ten of 100 bytes. Further topics go without alias.
const SENT_BYTES_MAX: usize = 1 << 10;

/// Memory of an alias beside the bytes of its topic: its place in the list and what the allocation of a text takes.
const ALIAS_BYTES: usize = 48;

// What the sum of memory counts for a connection is what its aliases may take.
const _: () = assert!(
    (RECEIVED_BYTES_MAX + SENT_BYTES_MAX + 2 * ALIASES_MAX as usize * ALIAS_BYTES) as u64 <= ALIASES_BYTES
);

/// Shortest topic for which an alias pays: it costs three bytes each time.
const WORTH: usize = 4;

/// Topics by the aliases that the client gave them.
#[derive(Default)]
pub(super) struct Received {
    /// Highest alias allowed.
    max: u16,
    topics: Vec<Option<TopicName>>,
    bytes: usize,
}

impl Received {
    /// What CONNACK allowed.
    pub(super) fn allow(&mut self, max: u16) {
        self.max = max.min(ALIASES_MAX);
    }

    /// The topic of a PUBLISH with an alias. A topic takes the place of the one before.
    ///
    /// # Errors
    /// An alias that is not allowed, that has no topic yet, or a topic too many.
    pub(super) fn resolve(&mut self, alias: u16, topic: Option<TopicName>) -> Result<TopicName, CloseReason> {
        if alias == 0 || alias > self.max {
            return Err(CloseReason::Alias);
        }
        let index = usize::from(alias) - 1;
        let Some(topic) = topic else {
            let known = self.topics.get(index).and_then(Clone::clone);
            return known.ok_or(CloseReason::Protocol("a topic alias without a topic"));
        };
        if self.topics.len() <= index {
            self.topics.reserve_exact(usize::from(self.max) - self.topics.len());
            self.topics.resize(index + 1, None);
        }
        let before = self.topics[index].take().map_or(0, |topic| topic.as_str().len());
        self.bytes = self.bytes.saturating_sub(before).saturating_add(topic.as_str().len());
        if self.bytes > RECEIVED_BYTES_MAX {
            return Err(CloseReason::Quota("topics of aliases"));
        }
        self.topics[index] = Some(topic.clone());
        Ok(topic)
    }
}

/// Aliases that the client knows: the first topics it got keep theirs as long as the connection lives.
#[derive(Default)]
pub(super) struct Sent {
    max: u16,
    topics: Vec<Arc<str>>,
    bytes: usize,
}

/// How the topic of a PUBLISH is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    /// In full.
    Plain,
    /// In full, with an alias for the next time.
    First(u16),
    /// As an alias only.
    Alias(u16),
}

impl Sent {
    /// What CONNECT allowed.
    pub(super) fn allow(&mut self, max: u16) {
        self.max = max.min(ALIASES_MAX);
    }

    /// How to write a topic; nothing is remembered before [`Sent::remember`].
    pub(super) fn choose(&self, topic: &Arc<str>) -> Written {
        if self.max == 0 || topic.len() < WORTH {
            return Written::Plain;
        }
        let known = self.topics.iter().position(|known| Arc::ptr_eq(known, topic) || known == topic);
        match known {
            Some(index) => Written::Alias(number(index)),
            None if self.topics.len() >= usize::from(self.max) => Written::Plain,
            None if self.bytes.saturating_add(topic.len()) > SENT_BYTES_MAX => Written::Plain,
            None => Written::First(number(self.topics.len())),
        }
    }

    /// The PUBLISH that was written so is on its way.
    pub(super) fn remember(&mut self, written: Written, topic: &Arc<str>) {
        if matches!(written, Written::First(_)) {
            self.bytes = self.bytes.saturating_add(topic.len());
            self.topics.reserve_exact(usize::from(self.max).saturating_sub(self.topics.len()));
            self.topics.push(Arc::clone(topic));
        }
    }
}

fn number(index: usize) -> u16 {
    u16::try_from(index + 1).unwrap_or(u16::MAX)
}

//! What a server was found to refuse, for a while: messages of a topic from some size on, and all that are larger than anything it ever took.
//!
//! Only what is refused of a topic that the server takes says something about size. Where it has taken nothing of a topic, the topic may be what it
//! refuses: after a start the first three messages of a backlog would otherwise condemn everything that is larger than the smallest of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::row::Row;
use super::suspects::Accused;
use crate::tag::BootNs;

/// Most kinds of messages learned for each server; the oldest goes.
const LEARNED_MAX: usize = 64;
/// So many messages of a kind were set aside, then others are not even sent.
const ALIKE_MIN: u32 = 3;
/// After this time one of a kind is tried again: a server changes its limits.
const LEARNED_FOR: Duration = Duration::from_secs(600);

/// What is known of a row without the row: a print of its topic, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) topic: u64,
    pub(super) size: u64,
}

impl Kind {
    pub(super) fn of(row: &Row) -> Self {
        // FNV-1a; two topics of one print would only be tried more carefully than they need.
        let topic = row.topic.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self { topic, size: row.size() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Learned {
    /// `None`: any topic.
    topic: Option<u64>,
    size_min: u64,
    blamed: u32,
    /// The topic of the first one, and whether there were others: a limit of size concerns more than one.
    first: u64,
    mixed: bool,
    until: BootNs,
}

impl Learned {
    fn fits(&self, kind: Kind) -> bool {
        kind.size >= self.size_min && self.topic.is_none_or(|topic| topic == kind.topic)
    }

    fn is_sure(&self, now: BootNs) -> bool {
        self.blamed >= ALIKE_MIN && now < self.until && (self.topic.is_some() || self.mixed)
    }
}

/// Topics of which something was acknowledged: a bit for each, by its print. Two that share a bit are told apart by nothing; with a hundred topics one in
/// forty is taken for known.
#[derive(Debug, Clone)]
struct Topics([u64; TOPIC_WORDS]);

const TOPIC_WORDS: usize = 64;

impl Default for Topics {
    fn default() -> Self {
        Self([0; TOPIC_WORDS])
    }
}

impl Topics {
    /// Word and bit.
    fn place(topic: u64) -> (usize, u64) {
        let [low, high, ..] = topic.to_le_bytes();
        (usize::from(low) % TOPIC_WORDS, 1 << (high % 64))
    }

    fn add(&mut self, topic: u64) {
        let (word, bit) = Self::place(topic);
        self.0[word] |= bit;
    }

    fn has(&self, topic: u64) -> bool {
        let (word, bit) = Self::place(topic);
        self.0[word] & bit != 0
    }
}

/// What is known of one server.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    /// The largest message that it has acknowledged: no limit that is learned is below it.
    acked_max: u64,
    topics: Topics,
    learned: Vec<Learned>,
    /// Messages of the uplink itself that it refuses, and until when they are left out.
    pub(super) silent: BTreeMap<Accused, BootNs>,
}

impl Server {
    pub(super) fn knows_any(&self) -> bool {
        !self.learned.is_empty()
    }

    /// Whether a message is like some that were refused; true if it need not even be sent.
    pub(super) fn is_like(&self, now: BootNs, kind: Kind) -> Option<bool> {
        let mut like = self.learned.iter().filter(|known| known.fits(kind)).peekable();
        like.peek()?;
        Some(like.any(|known| known.is_sure(now)))
    }

    /// The server has acknowledged a message.
    pub(super) fn takes(&mut self, row: &Row) {
        let kind = Kind::of(row);
        self.acked_max = self.acked_max.max(kind.size);
        self.topics.add(kind.topic);
        if self.knows_any() {
            self.unlearn(kind);
        }
    }

    /// A message of this kind was taken.
    pub(super) fn unlearn(&mut self, kind: Kind) {
        self.learned.retain(|known| !known.fits(kind));
    }

    /// A person says that it may be otherwise.
    pub(super) fn forgive(&mut self) {
        self.learned.clear();
    }

    /// A message of this kind was refused.
    pub(super) fn learn(&mut self, now: BootNs, kind: Kind) {
        self.learn_one(now, kind, Some(kind.topic));
        if kind.size > self.acked_max && self.topics.has(kind.topic) {
            self.learn_one(now, kind, None);
        }
    }

    fn learn_one(&mut self, now: BootNs, kind: Kind, topic: Option<u64>) {
        let until = now.plus(LEARNED_FOR);
        if let Some(known) = self.learned.iter_mut().find(|known| known.topic == topic) {
            known.blamed = known.blamed.saturating_add(1);
            known.size_min = known.size_min.min(kind.size);
            known.mixed |= known.first != kind.topic;
            known.until = until;
            return;
        }
        if self.learned.len() >= LEARNED_MAX {
            self.learned.remove(0);
        }
        let (size_min, first) = (kind.size, kind.topic);
        self.learned.push(Learned { topic, size_min, blamed: 1, first, mixed: false, until });
    }
}

//! A cloud behind a bridge: its queue takes messages at once, late, or never, or drops them; and it sends messages of its own.
//!
//! What the queue has survives crashes, as that of a real uplink does once it has said so; what it has only been given does not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use gateway_core::broker::{Fate, SessionId, Ticket};
use gateway_core::payload::Draft;
use gateway_core::tag::BootNs;
use gateway_core::uplink::row::{Body, Priority};

use super::oracle::{Name, Verdict};

/// Stands for the cloud where a publisher is named.
pub const CLOUD: usize = 9;
/// What is forwarded: everybody's ordinary messages.
pub const FORWARD: &str = "m/#";
/// Most messages of the cloud that are not acknowledged.
const DOWN_MAX: usize = 4;

/// How the queue behaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// Each message is safe after a moment.
    #[default]
    Prompt,
    /// After a long one.
    Late,
    /// Nothing is.
    Silent,
    /// Some are dropped, and said to be.
    Drops,
}

/// The bridge, its queue and the cloud's own messages.
#[derive(Debug, Default)]
pub struct Uplink {
    /// Its session in this run of the broker.
    pub session: Option<SessionId>,
    /// How it behaves.
    pub mood: Mood,
    /// Given and not yet safe.
    waiting: VecDeque<(Name, Option<Ticket>)>,
    /// Safe, whatever happens.
    has: BTreeSet<Name>,
    dropped: BTreeSet<Name>,
    /// Highest number that became safe for the first time, of each publisher and QoS.
    highest: BTreeMap<(usize, u8), u64>,
    /// The cloud's own messages that are not acknowledged, with their tickets in this run.
    down: VecDeque<(u64, Option<Ticket>)>,
    last_down: u64,
    /// Messages that the queue took.
    pub taken: u64,
}

impl Uplink {
    /// A message for the queue.
    ///
    /// # Errors
    /// It must not come here.
    pub fn give(&mut self, session: SessionId, draft: &Draft, ticket: Option<Ticket>) -> Verdict {
        if self.session != Some(session) {
            return Err(format!("{} is for a bridge that is not open", draft.topic));
        }
        let words: Vec<&str> = draft.topic.split('/').collect();
        let body = std::str::from_utf8(draft.body.bytes()).ok().and_then(|text| text.parse().ok());
        let (Some("m"), Some(publisher), Some(qos), Some(number)) = (
            words.first().copied(),
            words.get(1).and_then(|word| word.parse::<usize>().ok()),
            words.get(2).and_then(|word| word.parse::<u8>().ok()),
            body,
        ) else {
            return Err(format!("a message for the cloud that nobody sends: {}", draft.topic));
        };
        if publisher == CLOUD {
            return Err(format!("message {number} of the cloud goes back to it"));
        }
        self.waiting.push_back(((publisher, qos, number), ticket));
        Ok(())
    }

    /// Whether something waits.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The first message becomes safe, or is dropped if `drops`: what the broker is to be told.
    ///
    /// # Errors
    /// It comes out of order.
    pub fn step(&mut self, drops: bool) -> Result<Option<(Ticket, Fate)>, String> {
        let Some((name, ticket)) = self.waiting.pop_front() else { return Ok(None) };
        if drops {
            self.dropped.insert(name);
            return Ok(ticket.map(|ticket| (ticket, Fate::Dropped)));
        }
        self.taken += 1;
        let first = self.has.insert(name) && !self.dropped.contains(&name);
        let highest = self.highest.entry((name.0, name.1)).or_default();
        if first && name.2 < *highest {
            return Err(format!("the cloud gets {name:?} for the first time after number {highest}"));
        }
        *highest = name.2.max(*highest);
        Ok(ticket.map(|ticket| (ticket, Fate::Safe)))
    }

    /// A publisher was told that its message is safe.
    ///
    /// # Errors
    /// The queue neither has it nor has dropped it.
    pub fn acknowledged(&self, name: Name) -> Verdict {
        if name.0 == CLOUD || self.has.contains(&name) || self.dropped.contains(&name) {
            return Ok(());
        }
        Err(format!("{name:?} is acknowledged and the uplink's queue does not have it"))
    }

    /// The daemon is killed: what was not safe is gone, and the cloud sends again what was not acknowledged.
    pub fn crash(&mut self) {
        self.waiting.clear();
        self.session = None;
        self.down.iter_mut().for_each(|(_, ticket)| *ticket = None);
    }

    /// The next message of the cloud, if it may send one.
    pub fn next_down(&mut self) -> Option<u64> {
        if self.down.len() >= DOWN_MAX {
            return None;
        }
        self.last_down += 1;
        self.down.push_back((self.last_down, None));
        Some(self.last_down)
    }

    /// What the cloud has sent and nobody acknowledged, in order.
    #[must_use]
    pub fn unanswered(&self) -> Vec<u64> {
        self.down.iter().map(|(number, _)| *number).collect()
    }

    /// The broker has taken a message of the cloud and will say when it is safe.
    pub fn sent_down(&mut self, number: u64, ticket: Option<Ticket>) {
        if let Some(sent) = self.down.iter_mut().find(|(other, _)| *other == number) {
            sent.1 = ticket;
        }
    }

    /// A message of the cloud is safe: its name.
    pub fn safe(&mut self, ticket: Ticket) -> Option<Name> {
        let place = self.down.iter().position(|(_, waits)| *waits == Some(ticket))?;
        self.down.remove(place).map(|(number, _)| (CLOUD, 1, number))
    }

    /// Whether nothing is under way in either direction.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.down.is_empty()
    }
}

/// Message `number` of the cloud.
#[must_use]
pub fn down(number: u64, at: BootNs) -> Draft {
    Draft {
        topic: Arc::from(format!("m/{CLOUD}/1")),
        body: Body::Raw(number.to_string().into_bytes().into()),
        readings: 0,
        priority: Priority::Normal,
        retain: false,
        at,
    }
}

//! Retained messages of the gateway about itself of which only the newest of each topic counts: how its buses and devices are.
//!
//! They are in no queue and never on disk: while the link is down a newer one takes the place of the one before. Each is sent until its server has acknowledged it,
//! and again to another server or to one whose session is gone, because what that had retained may be gone as well. One is under way at a time, so they
//! take no place of the window from readings. One with an empty payload clears its topic, and is forgotten when it has arrived.
//!
//! Bounds: [`BULLETINS_MAX`] topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action::Action;
use super::flights::Cargo;
use super::machine::Uplink;
use super::suspects::{Accused, Way};

/// Most topics: as many buses and devices as a configuration can have, and as many again that are to be cleared.
pub const BULLETINS_MAX: usize = 4608;

/// What is said on one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulletin {
    /// The message; an empty one clears the topic.
    pub payload: Arc<[u8]>,
    /// Whether the server keeps it.
    pub retain: bool,
}

impl Bulletin {
    /// Clears a topic.
    #[must_use]
    pub fn nothing() -> Self {
        Self { payload: Arc::from([]), retain: true }
    }
}

/// The newest of each topic. See the module.
#[derive(Debug, Default)]
pub(super) struct Bulletins {
    newest: BTreeMap<Arc<str>, Bulletin>,
    due: BTreeSet<Arc<str>>,
    /// What is under way.
    sent: Option<(Arc<str>, Bulletin)>,
    /// The server that has those that are not due.
    server: Option<usize>,
    /// The last message that was sent is one of these.
    last: bool,
}

impl Bulletins {
    /// Takes the newest one of a topic. `false` if there is no room for another topic.
    fn put(&mut self, topic: Arc<str>, bulletin: Bulletin) -> bool {
        let known = self.newest.get(&topic);
        if known == Some(&bulletin) {
            return true;
        }
        if known.is_none() && self.newest.len() >= BULLETINS_MAX {
            return false;
        }
        self.due.insert(Arc::clone(&topic));
        self.newest.insert(topic, bulletin);
        true
    }

    /// A connection is up.
    pub(super) fn connected(&mut self, server: usize, session_present: bool) {
        self.sent = None;
        if self.server != Some(server) || !session_present {
            self.due = self.newest.keys().cloned().collect();
        }
        self.server = Some(server);
    }

    /// The servers are others.
    pub(super) fn other_servers(&mut self) {
        self.server = None;
    }

    /// What was sent last has arrived, or will never be sent.
    pub(super) fn done(&mut self) {
        let Some((topic, sent)) = self.sent.take() else { return };
        if self.newest.get(&topic) != Some(&sent) {
            return;
        }
        self.due.remove(&topic);
        if sent.payload.is_empty() {
            self.newest.remove(&topic);
        }
    }

    /// The topic of what is under way.
    pub(super) fn topic(&self) -> Option<&Arc<str>> {
        self.sent.as_ref().map(|(topic, _)| topic)
    }

    /// Something else was sent.
    pub(super) fn other_sent(&mut self) {
        self.last = false;
    }

    fn next(&self) -> Option<(Arc<str>, Bulletin)> {
        let topic = self.due.first().filter(|_| self.sent.is_none())?;
        Some((Arc::clone(topic), self.newest.get(topic)?.clone()))
    }
}

impl Uplink {
    /// Says something on a topic of its own, in place of what was said there before. `false` if there are too many topics.
    pub fn put_bulletin(&mut self, topic: Arc<str>, bulletin: Bulletin) -> bool {
        self.bulletins.put(topic, bulletin)
    }

    /// Whether a topic is still to be cleared.
    #[must_use]
    pub fn clears_bulletins(&self) -> bool {
        self.bulletins.newest.values().any(|bulletin| bulletin.payload.is_empty())
    }

    /// The next one, if it may be sent now. While everything is sent alone and awaited, a row goes between two of them.
    pub(super) fn next_bulletin(&mut self) -> Option<Action> {
        let (topic, bulletin) = self.bulletins.next()?;
        let rows_wait = self.queue.has_live() || self.queue.has_backlog();
        if !matches!(self.bulletin_way(), Way::Free | Way::Alone { .. })
            || (self.is_careful() && self.bulletins.last && rows_wait)
        {
            return None;
        }
        let payload = bulletin.payload.to_vec();
        let action = self.announce(Cargo::Bulletin, Arc::clone(&topic), payload, bulletin.retain);
        self.bulletins.sent = Some((topic, bulletin));
        self.bulletins.last = true;
        Some(action)
    }

    /// Whether one waits until others have been sent alone, to find out whether the server takes it.
    pub(super) fn bulletin_waits(&self) -> bool {
        self.bulletins.next().is_some() && self.bulletin_way() == Way::Later
    }

    fn bulletin_way(&self) -> Way {
        self.own_way(Accused::Bulletin)
    }
}

//! What the store holds, put together again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::wire::Reader;
use super::{
    Damaged, Ended, Received, SessionFact, clock_key, read_clock, read_received, read_released,
    read_retained, read_session, read_subscription,
};
use crate::broker::change::{FactKey, FactKind, Found, QUEUE_PREFIX, QueueName};
use crate::broker::packet::{Message, Options};
use crate::broker::sieve::LeftOut;
use crate::broker::topic::forbidden;
use crate::tag::BootId;
use crate::uplink::row::{Seq, Stored};

/// A session as it was.
#[derive(Debug)]
pub(in crate::broker) struct RecoveredSession {
    /// What it is.
    pub(in crate::broker) fact: SessionFact,
    /// Filters as they were asked for, `$share/NAME/` included; not checked.
    pub(in crate::broker) subscriptions: Vec<(Arc<str>, Options)>,
    /// QoS 2 messages of the client that it has not released; with the message if uplinks may not have it yet.
    pub(in crate::broker) received: Vec<(u16, Received)>,
    /// QoS 2 messages to the client that it has to complete, by seq.
    pub(in crate::broker) released: Vec<(u16, Seq)>,
    /// Its queue.
    pub(in crate::broker) stored: Stored,
}

/// Everything that was stored.
#[derive(Debug, Default)]
pub(in crate::broker) struct Recovered {
    /// By client id.
    pub(in crate::broker) sessions: BTreeMap<Arc<str>, RecoveredSession>,
    /// Retained messages.
    pub(in crate::broker) retained: Vec<Message>,
    /// Running time of all earlier runs.
    pub(in crate::broker) ran: Duration,
    /// Facts that are damaged or belong to no session: to be removed.
    pub(in crate::broker) stray_facts: Vec<FactKey>,
    /// Queues that belong to no session: to be dropped.
    pub(in crate::broker) stray_queues: Vec<QueueName>,
    /// How many facts were damaged.
    pub(in crate::broker) damaged: u64,
    /// Messages whose topic no topic may be any more; see [`crate::broker::topic::forbidden`].
    pub(in crate::broker) forbidden: u64,
    /// What is on disk only.
    pub(in crate::broker) left_out: LeftOut,
}

/// Puts together what was found, of which each piece is freed when it was read. `boot` is this boot.
pub(in crate::broker) fn recover(found: Found, boot: BootId) -> Recovered {
    let mut all = Recovered { left_out: found.left_out, ..Recovered::default() };
    for (key, value) in of_kind(&found, FactKind::Session) {
        let session = text(&key.key).and_then(|client| Ok((client, read_session(value, boot)?)));
        match session {
            Ok((client, mut fact)) => {
                if fact.will.take_if(|will| will.message.topic.is_forbidden()).is_some() {
                    all.forbidden += 1;
                }
                if let Some(Ended::At(ended)) = fact.ended {
                    all.ran = all.ran.max(ended);
                }
                let (subscriptions, received, released) = Default::default();
                let stored = Stored::default();
                all.sessions
                    .insert(client, RecoveredSession { fact, subscriptions, received, released, stored });
            }
            Err(Damaged) => all.skip(key),
        }
    }
    let clock = clock_key();
    for (key, value) in found.facts {
        let taken = match key.kind {
            FactKind::Session => Ok(true),
            FactKind::Retained => all.retain(&key, &value, boot),
            _ if key == clock => read_clock(&value).map(|ran| {
                all.ran = all.ran.max(ran);
                true
            }),
            _ => all.belong(&key, &value, boot),
        };
        match taken {
            Ok(true) => {}
            Ok(false) => all.stray_facts.push(key),
            Err(Damaged) => all.skip(&key),
        }
    }
    for (name, stored) in &found.queues {
        match name.strip_prefix(QUEUE_PREFIX).and_then(|client| all.sessions.get_mut(client)) {
            Some(session) => session.stored = *stored,
            None => all.stray_queues.push(Arc::clone(name)),
        }
    }
    for session in all.sessions.values_mut() {
        session.released.sort_by_key(|(_, seq)| *seq);
    }
    all
}

impl Recovered {
    fn skip(&mut self, key: &FactKey) {
        self.damaged += 1;
        self.stray_facts.push(key.clone());
    }

    fn retain(&mut self, key: &FactKey, value: &[u8], boot: BootId) -> Result<bool, Damaged> {
        let message = read_retained(value, boot)?;
        if message.topic.as_str().as_bytes() != &*key.key {
            return Err(Damaged);
        }
        if message.topic.is_forbidden() {
            // Nobody can clear it, and whoever gets it may be cut for it.
            self.forbidden += 1;
            return Ok(false);
        }
        self.retained.push(message);
        Ok(true)
    }

    /// A fact of a client; `false` when the client has no session.
    fn belong(&mut self, key: &FactKey, value: &[u8], boot: BootId) -> Result<bool, Damaged> {
        let mut reader = Reader(&key.key);
        let client = reader.text()?;
        let Some(session) = self.sessions.get_mut(client) else { return Ok(false) };
        match key.kind {
            FactKind::Subscription => {
                let filter = text(reader.rest())?;
                if forbidden(&filter).is_some() {
                    // No topic fits it.
                    return Ok(false);
                }
                session.subscriptions.push((filter, read_subscription(value)?));
            }
            FactKind::Received => {
                let mut received = read_received(value, boot)?;
                if matches!(&received, Received::Held(message) if message.topic.is_forbidden()) {
                    received = Received::Identifier;
                    self.forbidden += 1;
                }
                session.received.push((identifier(reader)?, received));
            }
            FactKind::Released => {
                session.released.push((identifier(reader)?, read_released(value)?));
            }
            FactKind::Session | FactKind::Retained => {}
        }
        Ok(true)
    }
}

fn of_kind(found: &Found, kind: FactKind) -> impl Iterator<Item = (&FactKey, &Arc<[u8]>)> {
    found.facts.iter().filter(move |(key, _)| key.kind == kind).map(|(key, value)| (key, value))
}

fn text(bytes: &[u8]) -> Result<Arc<str>, Damaged> {
    std::str::from_utf8(bytes).map(Arc::from).map_err(|_| Damaged)
}

fn identifier(mut reader: Reader<'_>) -> Result<u16, Damaged> {
    let id = reader.u16()?;
    reader.end()?;
    if id == 0 { Err(Damaged) } else { Ok(id) }
}

//! What a client is owed: its subscriptions, what waits for it, and what it has not acknowledged.

mod filters;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(super) use filters::Filters;

use super::access::Peer;
use super::outbound::{Limit, Outbound, WhenFull};
use super::packet::{Message, Subscription, Testament, Version};
use super::shares::Maker;
use super::topic::TopicName;
use super::{ConnId, Ticket};
use crate::tag::BootNs;

/// Whom a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A client, connected or not.
    Client,
    /// A durable queue outside: messages leave as [`super::Action::Enqueue`].
    Bridge,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) owner: Owner,
    /// The client id; empty for a bridge.
    pub(super) client: Arc<str>,
    /// To whom it belongs: whoever was let in with it last.
    pub(super) user: Option<Arc<str>>,
    /// Whether a certificate named the user; `None` of a session of an earlier run.
    pub(super) certified: Option<bool>,
    /// For whom it counts; `None` while it ends with its connection.
    pub(super) maker: Option<Maker>,
    /// Where its client came from last; `None` of a session of an earlier run.
    pub(super) address: Option<Peer>,
    /// When its client came or left, as running time of the broker.
    pub(super) since: Duration,
    pub(super) version: Version,
    /// Seconds after the end of its connection; `u32::MAX` is never.
    pub(super) expiry_s: u32,
    pub(super) conn: Option<ConnId>,
    /// Most messages in flight.
    pub(super) window: usize,
    /// What it subscribed with is in the tree.
    pub(super) filters: Filters,
    pub(super) outbound: Outbound,
    /// QoS 2 messages of the client that it has not released.
    pub(super) received: BTreeMap<u16, Received>,
    /// Retained messages that are still to be given.
    pub(super) replays: VecDeque<Replaying>,
    /// In the list of sessions that wait for retained messages.
    pub(super) replay_listed: bool,
    /// In the list of sessions that have something to send and were put down.
    pub(super) behind: bool,
    /// When it ends, without a connection; it has an alarm then.
    pub(super) ends_at: Option<BootNs>,
    /// The will of its last connection and when it speaks; it has an alarm then.
    pub(super) will: Option<(BootNs, Box<Testament>)>,
    /// It had one when the broker started that did not fit into memory. Its fact, which holds it, is left as it is until the client comes.
    pub(super) will_left_out: bool,
}

/// Memory of [`Unfinished`] and of two tickets, with what allocations take.
pub(super) const UNFINISHED_BYTES: u64 = 240;

/// A QoS 2 message of a client that it has not released: its identifier alone, unless something is still to be done for it.
#[derive(Debug, Default)]
pub(super) struct Received(Option<Box<Unfinished>>);

impl From<Unfinished> for Received {
    fn from(unfinished: Unfinished) -> Self {
        let mut received = Self(Some(Box::new(unfinished)));
        received.tidy();
        received
    }
}

impl Received {
    /// What is still to be done.
    pub(super) fn unfinished(&self) -> Option<&Unfinished> {
        self.0.as_deref()
    }

    /// The same, to be changed; then [`Received::tidy`].
    pub(super) fn unfinished_mut(&mut self) -> Option<&mut Unfinished> {
        self.0.as_deref_mut()
    }

    /// Keeps nothing but the identifier if nothing is to be done.
    pub(super) fn tidy(&mut self) {
        self.0.take_if(|unfinished| {
            let Unfinished { pending, owed, held, message, left_out, released } = &**unfinished;
            let waits = pending.is_some() || owed.is_some() || held.is_some() || released.is_some();
            !waits && message.is_none() && !left_out
        });
    }

    /// Whether the message is on disk only.
    pub(super) fn is_left_out(&self) -> bool {
        self.unfinished().is_some_and(|unfinished| unfinished.left_out)
    }

    /// Bytes of memory, if uplinks have yet to take the message.
    pub(super) fn held_bytes(&self) -> u64 {
        self.unfinished().map_or(0, Unfinished::held_bytes)
    }
}

/// What is still to be done for a QoS 2 message of a client that it has not released.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// PUBREC waits for this.
    pub(super) pending: Option<Ticket>,
    /// Which connection waits for PUBREC, and its place in the line.
    pub(super) owed: Option<(ConnId, u64)>,
    /// Uplinks do not have it yet: its fact holds the message until this is settled.
    pub(super) held: Option<Ticket>,
    /// The message while it is held, for a database that is replaced.
    pub(super) message: Option<Arc<Message>>,
    /// The message is on disk only: there was no room for it at the start. It is lost when the client releases it.
    pub(super) left_out: bool,
    /// The client has released it; PUBCOMP waits for `held`.
    pub(super) released: Option<(ConnId, u64)>,
}

impl Unfinished {
    /// Bytes of memory, if uplinks have yet to take the message.
    pub(super) fn held_bytes(&self) -> u64 {
        self.message.as_ref().map_or(0, |message| message.cost() + UNFINISHED_BYTES)
    }
}

/// Retained messages on their way to a new subscriber.
#[derive(Debug)]
pub(super) struct Replaying {
    pub(super) subscription: Subscription,
    /// The figures of `$SYS` are given or not asked for.
    pub(super) figured: bool,
    /// The last topic that was looked at.
    pub(super) after: Option<TopicName>,
}

impl Session {
    /// A session of a client that is not there yet.
    pub(super) fn of_client(client: Arc<str>, outbound: Outbound) -> Self {
        Self {
            owner: Owner::Client,
            client,
            user: None,
            certified: None,
            maker: None,
            address: None,
            since: Duration::ZERO,
            version: Version::V311,
            expiry_s: 0,
            conn: None,
            window: 1,
            filters: Filters::default(),
            outbound,
            received: BTreeMap::new(),
            replays: VecDeque::new(),
            replay_listed: false,
            behind: false,
            ends_at: None,
            will: None,
            will_left_out: false,
        }
    }

    /// A session whose messages leave at once.
    pub(super) fn of_bridge() -> Self {
        let nothing = Limit { rows_max: 0, bytes_max: 0, when_full: WhenFull::DropNewest };
        Self { owner: Owner::Bridge, ..Self::of_client("".into(), Outbound::volatile(nothing)) }
    }

    /// Whether it is kept for nothing: its client is away, and nothing waits for it or will.
    pub(super) fn is_vacant(&self) -> bool {
        self.conn.is_none()
            && self.filters.is_empty()
            && self.outbound.held().rows == 0
            && self.outbound.in_flight() == 0
            && self.received.is_empty()
            && self.will.is_none()
            && !self.will_left_out
    }

    /// Whether it is forgotten with its connection.
    pub(super) fn is_fleeting(&self) -> bool {
        self.expiry_s == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Received, Unfinished};
    use crate::broker::Ticket;

    #[test]
    fn an_identifier_with_nothing_to_be_done_takes_eight_bytes_and_no_box() {
        assert_eq!(size_of::<Received>(), 8);
        let mut received = Received::from(Unfinished { pending: Some(Ticket(1)), ..Unfinished::default() });
        received.tidy();
        received.unfinished_mut().unwrap().pending = None;
        received.tidy();
        assert!(received.unfinished().is_none());
    }
}

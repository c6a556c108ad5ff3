//! Messages that leave for queues outside, and what becomes of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::route::Post;
use super::{Broker, Waiter};
use crate::broker::facts;
use crate::broker::mutant::Mutant;
use crate::broker::packet::{Message, Options, Subscription};
use crate::broker::session::{Owner, Session, Unfinished};
use crate::broker::tree::Bounds;
use crate::broker::{BrokerError, Fate, SessionId, Ticket, TopicFilter};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

/// A QoS 2 message of an earlier run that uplinks may not have.
#[derive(Debug)]
pub(super) struct Unsent {
    message: Arc<Message>,
    ticket: Ticket,
}

impl Broker {
    /// Opens a session whose subscriber is a durable queue outside: whatever matches `filters` leaves as
    /// [`super::Action::Enqueue`], with at most the QoS of the filter. Retained messages that are older than the bridge do not
    /// enter it: they were delivered to its queue when they were published. Messages that an earlier run had promised to a client and not yet
    /// given to a queue enter it at once: bridges are opened before anything else happens.
    ///
    /// # Errors
    /// There is no room for another session or for its subscriptions.
    pub fn open_bridge(
        &mut self,
        filters: impl IntoIterator<Item = (TopicFilter, Qos)>,
    ) -> Result<SessionId, BrokerError> {
        let limits = &self.settings.limits;
        let filters: BTreeMap<TopicFilter, Qos> = filters.into_iter().collect();
        // Clients do not count: what they have filled must not keep the gateway from starting, or an uplink from being added.
        let bridges = self.sessions.values().filter(|session| session.owner == Owner::Bridge);
        let taken = bridges.fold((0, 0_usize), |taken, bridge| (taken.0 + 1, taken.1 + bridge.filters.len()));
        if taken.0 >= limits.sessions_max {
            return Err(BrokerError::Sessions(limits.sessions_max));
        }
        if taken.1.saturating_add(filters.len()) > limits.subscriptions_max {
            return Err(BrokerError::Subscriptions(limits.subscriptions_max));
        }
        let mut session = Session::of_bridge();
        let filters: Vec<_> = filters
            .into_iter()
            .map(|(filter, qos)| (Subscription::own(filter), Options::plain(qos)))
            .collect();
        for (subscription, _) in &filters {
            session.filters.insert(subscription);
        }
        let id = self.add_session(session);
        for (subscription, options) in &filters {
            // Those of the file are few and never refused.
            self.tree.insert(subscription, id, *options, Bounds::NONE);
        }
        let unsent = std::mem::take(&mut self.unsent);
        for Unsent { message, ticket } in &unsent {
            let wanted = filters.iter().filter(|(s, _)| s.filter.matches(&message.topic));
            if let Some(qos) = wanted.map(|(_, options)| options.qos).max() {
                let post = Post { uplinks: Some(*ticket), ..Post::of_broker(Arc::clone(message)) };
                self.enqueue(id, qos.min(message.qos), &post);
            }
        }
        self.unsent = unsent;
        Ok(id)
    }

    /// Ends a bridge session; what it enqueued stays where it is.
    pub fn close_bridge(&mut self, id: SessionId) {
        if self.sessions.get(&id).is_some_and(|session| session.owner == Owner::Bridge)
            && let Some(session) = self.sessions.remove(&id)
        {
            for subscription in session.filters.iter() {
                self.tree.remove(&subscription, id);
            }
        }
    }

    /// What became of a message of [`super::Action::Enqueue`] with a ticket. Said once for each such action, perhaps before it returns.
    pub fn handle_receipt(&mut self, now: BootNs, ticket: Ticket, fate: Fate) {
        self.now = self.now.max(now);
        self.counters.refused_by_uplinks_total += u64::from(fate == Fate::Dropped);
        if fate == Fate::Safe {
            self.tickets.keep(ticket);
        }
        self.settle_ticket(now, ticket);
        self.let_go(now);
        self.settle(now);
    }

    /// A message that a client has not released, of an earlier run, and when it came.
    pub(super) fn recover_received(
        &mut self,
        now: BootNs,
        id: SessionId,
        packet: u16,
        past: facts::Received,
        at: BootNs,
    ) {
        let left_out = past == facts::Received::LeftOut;
        let message = match past {
            facts::Received::Held(message) => {
                let at = if self.journal.faults().has(Mutant::ForgetArrival) { message.at } else { at };
                let moved = message.at != at;
                let message = Arc::new(Message { at, ..message });
                if moved {
                    self.write_arrival(now, id, packet, &message);
                }
                Some(message)
            }
            facts::Received::Identifier | facts::Received::LeftOut => None,
        };
        let held = message.clone().map(|message| {
            let ticket = self.tickets.open(Waiter::Held(id, packet));
            self.unsent.push(Unsent { message, ticket });
            ticket
        });
        if let Some(session) = self.sessions.get_mut(&id) {
            let entry = Unfinished { held, message, left_out, ..Unfinished::default() };
            self.received_bytes += entry.held_bytes();
            self.unreleased.add();
            session.received.insert(packet, entry.into());
        }
    }

    /// All facts are read: what uplinks do not have enters them in the order in which it came.
    pub(super) fn order_unsent(&mut self) {
        self.unsent.sort_by_key(|unsent| unsent.message.at);
        let youngest = self.unsent.last().map(|unsent| unsent.message.at);
        self.held_at = self.held_at.max(youngest.unwrap_or_default());
    }

    /// What was stored is known only now, and bridges are open: they get what an earlier run had promised.
    pub(super) fn enqueue_unsent(&mut self, now: BootNs) {
        let unsent = std::mem::take(&mut self.unsent);
        for Unsent { message, ticket } in &unsent {
            let mut found = std::mem::take(&mut self.found);
            self.tree.matching(&message.topic, &mut found);
            let mut wanted: BTreeMap<SessionId, Qos> = BTreeMap::new();
            for (id, options) in &found.own {
                if self.sessions.get(id).is_some_and(|session| session.owner == Owner::Bridge) {
                    let qos = wanted.entry(*id).or_insert(options.qos);
                    *qos = options.qos.max(*qos);
                }
            }
            found.clear();
            self.found = found;
            for (id, qos) in wanted {
                let post = Post { uplinks: Some(*ticket), ..Post::of_broker(Arc::clone(message)) };
                self.enqueue(id, qos.min(message.qos), &post);
            }
        }
        self.unsent = unsent;
        self.begin(now);
    }

    /// Bridges are open: what no bridge wanted is owed to none.
    pub(super) fn begin(&mut self, now: BootNs) {
        for Unsent { ticket, .. } in std::mem::take(&mut self.unsent) {
            self.tickets.keep(ticket);
            self.settle_ticket(now, ticket);
        }
    }
}

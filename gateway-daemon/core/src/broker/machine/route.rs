//! The way of a message through the broker: from a publisher to the sessions that want it.

use std::sync::Arc;

use super::Broker;
use super::conn::Why;
use super::work::RULE;
use crate::broker::access::Identity;
use crate::broker::mutant::Mutant;
use crate::broker::note::{Event, Shown, Who};
use crate::broker::packet::{Code, Delivery, Message, Options, Version};
use crate::broker::session::Owner;
use crate::broker::settings::IDENTIFIERS_MAX;
use crate::broker::topic::TopicName;
use crate::broker::tree::GroupId;
use crate::broker::{Action, Local, SessionId, Ticket};
use crate::payload::Draft;
use crate::tag::BootNs;
use crate::uplink::row::{Body, Priority, Qos};

/// Connected members of a group whose rules are asked for one message; of those that are away a quarter, because their rules are to be filled in first.
const PICK_ASKS_MAX: usize = 64;

/// A message on its way through the broker.
pub(super) struct Post<'a> {
    pub(super) topic: TopicName,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Who sent it: subscriptions without local messages do not get it, and it does not go back to the bridge it came from.
    pub(super) from: Option<SessionId>,
    /// As the process made it; bridges get it as it is.
    pub(super) draft: Option<&'a Draft>,
    /// As clients get it, once somebody wants it so.
    pub(super) message: Option<Arc<Message>>,
    /// Whoever waits until it is safe in queues and among retained messages.
    pub(super) ticket: Option<Ticket>,
    /// Whoever waits until the uplinks' queues have it.
    pub(super) uplinks: Option<Ticket>,
    /// For local clients only, and never on disk as a retained message: its sender says it again in every run.
    pub(super) passing: bool,
}

/// Where a message went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Routed {
    /// Sessions that want it.
    pub(super) wanted: u32,
    /// Bridges among them.
    pub(super) uplinks: u32,
    /// Sessions that should have kept it and had no room.
    pub(super) lost: u32,
    /// It is kept as the retained message of its topic.
    pub(super) retained: bool,
    /// It should be that and there is no room.
    pub(super) unretained: bool,
}

impl Routed {
    /// Of a message that is not taken at all.
    const REFUSED: Self = Self { wanted: 1, uplinks: 0, lost: 1, retained: false, unretained: true };

    /// What 5.0 tells the publisher.
    pub(super) fn code(self) -> Code {
        match self.wanted {
            _ if self.unretained => Code::QuotaExceeded,
            0 => Code::NoMatchingSubscribers,
            _ if self.is_lost() => Code::QuotaExceeded,
            _ => Code::Success,
        }
    }

    /// Whether somebody has it, uplinks aside.
    pub(super) fn is_kept(self) -> bool {
        self.retained || self.wanted > self.uplinks + self.lost
    }

    /// Whether it was wanted and nobody could keep it, as far as is known before uplinks have said so.
    pub(super) fn is_lost(self) -> bool {
        self.wanted > 0 && self.lost == self.wanted && !self.retained
    }
}

impl<'a> Post<'a> {
    pub(super) fn of_client(message: Arc<Message>, from: SessionId) -> Self {
        Self { from: Some(from), ..Self::of_broker(message) }
    }

    pub(super) fn of_broker(message: Arc<Message>) -> Self {
        Self {
            topic: message.topic.clone(),
            qos: message.qos,
            retain: message.retain,
            from: None,
            draft: None,
            message: Some(message),
            ticket: None,
            uplinks: None,
            passing: false,
        }
    }

    pub(super) fn of_process(topic: TopicName, local: &Local<'a>, ticket: Option<Ticket>) -> Self {
        Self {
            topic,
            qos: local.qos,
            retain: local.draft.retain,
            from: local.from,
            draft: Some(local.draft),
            message: None,
            ticket,
            uplinks: ticket,
            passing: false,
        }
    }

    /// The message for the wire; `ready` is asked once at most.
    fn message(
        &mut self,
        now: BootNs,
        ready: &mut Option<impl FnOnce() -> Option<Arc<[u8]>>>,
    ) -> Option<Arc<Message>> {
        if self.message.is_none() {
            let body = match &self.draft?.body {
                Body::Raw(body) => Arc::clone(body),
                Body::Record(_) => ready.take()?()?,
            };
            self.message = Some(Arc::new(Message {
                topic: self.topic.clone(),
                body,
                qos: self.qos,
                retain: self.retain,
                properties: None,
                at: now,
                expiry_s: None,
            }));
        }
        self.message.clone()
    }

    /// The message for a queue outside.
    fn draft(&self) -> Option<Draft> {
        if let Some(draft) = self.draft {
            return Some(draft.clone());
        }
        let message = self.message.as_ref()?;
        Some(Draft {
            topic: Arc::clone(message.topic.shared()),
            body: Body::Raw(Arc::clone(&message.body)),
            readings: 0,
            priority: Priority::Normal,
            retain: message.retain,
            at: message.at,
        })
    }
}

/// What the matching subscriptions of one session come to.
struct Wanted {
    qos: Qos,
    retain_as_published: bool,
}

impl Broker {
    /// Gives a message to everybody who wants it and keeps it if it is retained.
    pub(super) fn route(
        &mut self,
        now: BootNs,
        mut post: Post<'_>,
        ready: impl FnOnce() -> Option<Arc<[u8]>>,
    ) -> Routed {
        let mut ready = Some(ready);
        let mut routed = Routed::default();
        if self.is_refused(&post) {
            self.counters.unretained_messages_total += 1;
            return Routed::REFUSED;
        }
        let mut found = std::mem::take(&mut self.found);
        self.tree.matching(&post.topic, &mut found);
        self.work.charge(found.steps + 2 * (found.own.len() + found.groups.len()));
        if found.own.len() > 1 {
            found.own.sort_by_key(|(id, _)| *id);
        }
        let mut rest = &found.own[..];
        while let Some(((id, _), _)) = rest.split_first() {
            let count = rest.iter().take_while(|(other, _)| other == id).count();
            let (subscriptions, others) = rest.split_at(count);
            rest = others;
            self.give(now, subscriptions, &mut post, &mut ready, &mut routed);
        }
        for group in &found.groups {
            if let Some(chosen) = self.pick(*group, &post.topic) {
                self.give(now, &[chosen], &mut post, &mut ready, &mut routed);
            }
        }
        found.clear();
        self.found = found;
        if post.retain {
            match post.message(now, &mut ready) {
                Some(message) => {
                    routed.retained = if post.passing {
                        self.retain_passing(now, message)
                    } else {
                        self.retain(now, message, post.ticket)
                    };
                    routed.unretained = !routed.retained;
                }
                None => self.counters.unrendered_messages_total += 1,
            }
        }
        if routed.unretained {
            let conn = post.from.and_then(|id| self.sessions.get(&id)?.conn);
            let topic = Shown::new(post.topic.as_str());
            self.note(
                Event::MessageUnretained { topic },
                conn.map_or_else(Who::default, |conn| self.who(conn)),
            );
        }
        routed
    }

    /// Whether a message is not taken because it could not be kept as a retained one. Of QoS 2 an error in PUBREC says that nobody has it, and its publisher may
    /// send it again as another one ("MQTT Version 5.0", 4.3.3): whoever had it would have it twice.
    fn is_refused(&self, post: &Post<'_>) -> bool {
        let waits = post.retain && post.qos == Qos::ExactlyOnce && post.ticket.is_some();
        let publisher = post.from.filter(|_| waits).and_then(|id| self.sessions.get(&id));
        publisher.is_some_and(|publisher| publisher.version == Version::V5)
            && post.message.as_ref().is_some_and(|message| !self.retained.takes(message))
    }

    /// The member of a group that gets a message: the next one that is connected, or else the next one that is away, if it may have it.
    pub(super) fn pick(&mut self, group: GroupId, topic: &TopicName) -> Option<(SessionId, Options)> {
        let (sessions, conns) = (&self.sessions, &self.conns);
        let (mut asked, mut rules) = (0, 0);
        let ready = |id| {
            let conn = sessions.get(&id).and_then(|session| session.conn).and_then(|conn| conns.get(&conn));
            let Some(open) = conn.filter(|_| asked < PICK_ASKS_MAX) else { return false };
            asked += 1;
            rules += open.rules();
            open.may_receive(topic)
        };
        let (access, open_to_all, mut away, mut filled) = (&self.settings.access, self.open_to_all, 0, 0);
        let may = |id| {
            let session = sessions.get(&id).filter(|session| session.conn.is_none());
            let Some(session) = session.filter(|_| away < PICK_ASKS_MAX / 4) else { return false };
            if open_to_all {
                return true;
            }
            away += 1;
            let who = Identity { client: Arc::clone(&session.client), user: session.user.clone() };
            let grants = access.grants(&who);
            filled += grants.rules();
            grants.may_receive(topic)
        };
        let chosen = self.tree.pick(group, ready, may);
        let members = self.tree.group_len(group);
        self.work.charge(members / 4 + asked + rules / 2 + away + filled * RULE);
        chosen
    }

    /// Whether a session's client may have a message, as far as is known now: whoever is away is asked for when it comes back.
    pub(super) fn may_receive(&mut self, id: SessionId, topic: &TopicName) -> bool {
        let conn = self.sessions.get(&id).and_then(|session| session.conn);
        let open = conn.and_then(|conn| self.conns.get(&conn)).filter(|open| !open.is_held_for(Why::Rules));
        let Some(open) = open else { return true };
        self.work.charge(open.rules() / 2);
        open.may_receive(topic)
    }

    /// Gives a message to one session, once for all its matching subscriptions.
    fn give(
        &mut self,
        now: BootNs,
        subscriptions: &[(SessionId, Options)],
        post: &mut Post<'_>,
        ready: &mut Option<impl FnOnce() -> Option<Arc<[u8]>>>,
        routed: &mut Routed,
    ) {
        let Some(&(id, _)) = subscriptions.first() else { return };
        let own = post.from == Some(id);
        let Some(session) = self.sessions.get(&id) else { return };
        let bridge = session.owner == Owner::Bridge;
        if bridge && (own || post.passing) {
            return;
        }
        // A subscription without local messages matches all the same.
        routed.wanted += 1;
        let heard =
            subscriptions.iter().map(|(_, options)| options).filter(|options| !(own && options.no_local));
        let wanted = heard.clone().fold(None, |wanted: Option<Wanted>, options| {
            let before = wanted.unwrap_or(Wanted { qos: options.qos, retain_as_published: false });
            Some(Wanted {
                qos: before.qos.max(options.qos),
                retain_as_published: before.retain_as_published || options.retain_as_published,
            })
        });
        let Some(wanted) = wanted else { return };
        let qos = post.qos.min(wanted.qos);
        if bridge {
            routed.uplinks += 1;
            self.enqueue(id, qos, post);
            return;
        }
        let Some(message) = post.message(now, ready) else {
            self.counters.unrendered_messages_total += 1;
            return;
        };
        if post.draft.is_some() && post.ticket.is_none() && self.journal.is_full() && self.is_durable(id) {
            // Nobody waits for it, and nobody can be made to wait.
            self.counters.dropped_local_messages_total += 1;
            return;
        }
        let identifiers = heard.clone().filter_map(|options| options.identifier);
        self.counters.cut_identifiers_total += identifiers.clone().skip(IDENTIFIERS_MAX).count() as u64;
        let delivery = Delivery {
            retain: message.retain && wanted.retain_as_published,
            message,
            qos,
            identifiers: identifiers.take(IDENTIFIERS_MAX).collect(),
        };
        routed.lost += u32::from(!self.deliver(now, id, delivery, post.ticket));
    }

    pub(super) fn enqueue(&mut self, id: SessionId, qos: Qos, post: &Post<'_>) {
        let Some(draft) = post.draft() else { return };
        // A message that is at most once is owed to nobody.
        let owed = qos > Qos::AtMostOnce && !self.journal.faults().has(Mutant::AckBeforeUplink);
        let ticket = post.uplinks.filter(|_| owed);
        if let Some(ticket) = ticket {
            self.tickets.owe(ticket, 1);
        } else {
            for waiting in post.ticket.into_iter().chain(post.uplinks) {
                self.tickets.keep(waiting);
            }
        }
        self.counters.enqueued_messages_total += 1;
        self.actions.push_back(Action::Enqueue { session: id, qos, draft, ticket });
    }
}

//! SUBSCRIBE, UNSUBSCRIBE, and the retained messages that follow.

use super::conn::{Kind, Owed};
use super::{Broker, sys};
use crate::broker::note::{Attempt, Event, Shown};
use crate::broker::packet::{Code, Delivery, Options, Replay, Subscription, Wish};
use crate::broker::session::Replaying;
use crate::broker::topic::TopicError;
use crate::broker::{CloseReason, ConnId, SessionId};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

/// Retained messages looked for at once; what is left follows when the client has read.
const REPLAY_ROWS_MAX: usize = 64;

impl Broker {
    /// SUBSCRIBE: each wish has its own answer, in order.
    pub(super) fn subscribe(
        &mut self,
        now: BootNs,
        conn: ConnId,
        id: SessionId,
        (packet, identifier): (u16, Option<u32>),
        wishes: Vec<Wish>,
    ) -> Result<(), CloseReason> {
        let mut granted = Vec::with_capacity(wishes.len());
        let mut replay = Vec::new();
        for Wish { filter, options } in wishes {
            let subscription = match Subscription::parse(&filter) {
                Ok(subscription) => subscription,
                Err(TopicError::TooDeep(_)) => {
                    granted.push(Err(Code::FilterInvalid));
                    continue;
                }
                Err(error) => return Err(CloseReason::Topic(error)),
            };
            if subscription.share.is_some() && options.no_local {
                return Err(CloseReason::Protocol("no local on a shared subscription"));
            }
            let options = Options { identifier, ..options };
            granted.push(self.subscribe_one(now, (conn, id), &subscription, options, &mut replay));
        }
        self.counters.subscriptions_refused_total +=
            granted.iter().filter(|code| code.is_err()).count() as u64;
        let owed = Owed::Subscribed { id: packet, granted, replay };
        self.owe_after(conn, id, Kind::Subscribe, owed);
        Ok(())
    }

    fn subscribe_one(
        &mut self,
        now: BootNs,
        (conn, id): (ConnId, SessionId),
        subscription: &Subscription,
        options: Options,
        replay: &mut Vec<(Subscription, Options)>,
    ) -> Result<Qos, Code> {
        let grants = self.conns.get(&conn).and_then(|open| open.grants.as_ref());
        if grants.is_some_and(|grants| !grants.may_subscribe(&subscription.filter)) {
            let topic = Shown::new(&subscription.text());
            self.note(Event::RuleRefused { attempt: Attempt::Subscribe, topic }, self.who(conn));
            return Err(Code::NotAuthorized);
        }
        let limits = &self.settings.limits;
        let Some(session) = self.sessions.get_mut(&id) else { return Err(Code::Unspecified) };
        let another = !session.filters.contains_key(subscription);
        let full = session.filters.len() >= limits.subscriptions_per_session_max
            || self.tree.len() >= limits.subscriptions_max;
        if another && full {
            return Err(Code::QuotaExceeded);
        }
        session.filters.insert(subscription.clone(), options);
        self.tree.insert(subscription, id, options);
        self.write_subscription(now, id, subscription, options);
        let wanted = match options.replay {
            Replay::Always => true,
            Replay::IfNew => another,
            Replay::Never => false,
        };
        if wanted && subscription.share.is_none() {
            replay.push((subscription.clone(), options));
        }
        Ok(options.qos)
    }

    /// UNSUBSCRIBE.
    pub(super) fn unsubscribe(
        &mut self,
        now: BootNs,
        conn: ConnId,
        id: SessionId,
        packet: u16,
        filters: &[String],
    ) -> Result<(), CloseReason> {
        let mut codes = Vec::with_capacity(filters.len());
        for filter in filters {
            let subscription = match Subscription::parse(filter) {
                Ok(subscription) => subscription,
                // Nobody has subscribed to it.
                Err(TopicError::TooDeep(_)) => {
                    codes.push(Code::NoSubscriptionExisted);
                    continue;
                }
                Err(error) => return Err(CloseReason::Topic(error)),
            };
            let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
            let had = session.filters.remove(&subscription).is_some();
            if had {
                session.replays.retain(|replaying| replaying.subscription != subscription);
                self.tree.remove(&subscription, id);
                self.remove_subscription(now, id, &subscription);
            }
            codes.push(if had { Code::Success } else { Code::NoSubscriptionExisted });
        }
        self.owe_after(conn, id, Kind::Subscribe, Owed::Unsubscribed { id: packet, codes });
        Ok(())
    }

    /// Retained messages go to whoever subscribes, also again (3.8.4), as fast as it reads.
    pub(super) fn begin_replay(&mut self, conn: ConnId, subscriptions: Vec<(Subscription, Options)>) {
        let Some(id) = self.conns.get(&conn).and_then(|open| open.session) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        for (subscription, options) in subscriptions {
            // Asked for again before it was done: from the start.
            session.replays.retain(|replaying| replaying.subscription != subscription);
            session.replays.push_back(Replaying { subscription, options, after: None });
        }
        if !session.replays.is_empty() {
            self.replaying.push(id);
        }
    }

    /// Gives sessions in [`Broker::replaying`] more of what is retained.
    pub(super) fn replay(&mut self, now: BootNs) {
        self.expire_retained(now);
        while let Some(id) = self.replaying.pop() {
            while self.replay_some(now, id) {}
        }
    }

    /// Gives some retained messages to a session; `false` when there are none or the client has to read first.
    fn replay_some(&mut self, now: BootNs, id: SessionId) -> bool {
        let limits = self.settings.limits;
        let room = self.has_room(id);
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if !room || session.outbound.held().rows >= limits.inflight_max as u64 {
            return false;
        }
        let Some(mut replaying) = session.replays.pop_front() else { return false };
        let Replaying { subscription, options, after } = &replaying;
        let filter = &subscription.filter;
        let mut messages = Vec::new();
        if after.is_none() && filter.levels().next() == Some(sys::ROOT) {
            messages = self.figures(now);
            messages.retain(|message| filter.matches(&message.topic));
        }
        let kept = messages.len();
        messages.extend(self.retained.matching(filter, after.as_ref()).take(REPLAY_ROWS_MAX).cloned());
        let mut again = messages.len() - kept == REPLAY_ROWS_MAX;
        let options = *options;
        for message in messages {
            if !self.has_room(id) {
                again = true;
                break;
            }
            replaying.after = Some(message.topic.clone());
            if message.is_expired(now) {
                continue;
            }
            let qos = message.qos.min(options.qos);
            let identifiers = options.identifier.into_iter().collect();
            self.deliver(now, id, Delivery { message, qos, retain: true, identifiers }, None);
        }
        if again && let Some(session) = self.sessions.get_mut(&id) {
            session.replays.push_front(replaying);
        }
        true
    }

    /// Whether a session's client reads fast enough for more that can wait.
    fn has_room(&self, id: SessionId) -> bool {
        let conn = self.sessions.get(&id).and_then(|session| self.conns.get(&session.conn?));
        conn.is_some_and(|open| open.has_room(self.settings.limits.outbox_bytes_max / 2))
    }
}

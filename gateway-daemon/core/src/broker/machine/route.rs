//! The way of a message through the broker: from a publisher to sessions, and from a session to its connection.

use std::sync::Arc;

use super::Broker;
use crate::broker::front_old::{Reply, Said};
use crate::broker::retained::Kept;
use crate::broker::session::{Delivery, Owner};
use crate::broker::topic::{TopicError, TopicFilter, TopicName};
use crate::broker::{Action, CloseReason, ConnId, SessionId};
use crate::payload::Draft;
use crate::tag::BootNs;
use crate::uplink::row::{Body, Priority, Qos};

impl Broker {
    pub(super) fn published(
        &mut self,
        now: BootNs,
        conn: ConnId,
        id: SessionId,
        said: Said,
    ) -> Result<(), CloseReason> {
        self.counters.received_messages_total += 1;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let fresh = said.qos != Qos::ExactlyOnce || session.received.insert(said.id);
        if session.received.len() > self.limits.inflight_max {
            return Err(CloseReason::Protocol("too many QoS 2 messages without their release"));
        }
        if fresh {
            self.route_said(now, &said);
        }
        match said.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.reply(conn, Reply::Acknowledge(said.id)),
            Qos::ExactlyOnce => self.reply(conn, Reply::Receive(said.id)),
        }
        Ok(())
    }

    pub(super) fn finished(&mut self, id: SessionId, packet: u16, qos: Qos) {
        if let Some(session) = self.sessions.get_mut(&id) {
            self.held_bytes -= session.finish(packet, qos);
            self.pump(id);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        conn: ConnId,
        id: SessionId,
        packet: u16,
        filters: Vec<(String, Qos)>,
    ) -> Result<(), CloseReason> {
        let mut granted = Vec::with_capacity(filters.len());
        let mut accepted = Vec::with_capacity(filters.len());
        for (text, qos) in filters {
            let filter = match TopicFilter::new(text) {
                Ok(filter) => filter,
                Err(TopicError::TooDeep(_)) => {
                    granted.push(None);
                    continue;
                }
                Err(error) => return Err(CloseReason::Topic(error)),
            };
            let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
            if !session.filters.contains_key(&filter) && self.tree.len() >= self.limits.subscriptions_max {
                self.counters.subscriptions_refused_total += 1;
                granted.push(None);
                continue;
            }
            self.tree.insert(&filter, id, qos);
            session.filters.insert(filter.clone(), qos);
            granted.push(Some(qos));
            accepted.push((filter, qos));
        }
        self.reply(conn, Reply::Subscribed { id: packet, granted });
        for (filter, qos) in accepted {
            self.replay(id, &filter, qos);
        }
        Ok(())
    }

    /// Retained messages go to whoever subscribes, also again (3.8.4).
    fn replay(&mut self, id: SessionId, filter: &TopicFilter, qos: Qos) {
        let deliveries: Vec<Delivery> = self
            .retained
            .matching(filter)
            .map(|(topic, kept)| Delivery {
                topic: Arc::clone(topic.shared()),
                body: Arc::clone(&kept.body),
                qos: kept.qos.min(qos),
                retain: true,
            })
            .collect();
        for delivery in deliveries {
            self.deliver(id, delivery);
        }
    }

    pub(super) fn unsubscribe(&mut self, id: SessionId, filter: &TopicFilter) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.filters.remove(filter);
            self.tree.remove(filter, id);
        }
    }

    pub(super) fn route_said(&mut self, now: BootNs, said: &Said) {
        let draft = Draft {
            topic: Arc::clone(said.topic.shared()),
            body: Body::Raw(Arc::clone(&said.body)),
            readings: 0,
            priority: Priority::Normal,
            retain: said.retain,
            at: now,
        };
        self.route(&said.topic, &draft, said.qos, || None);
    }

    pub(super) fn route(
        &mut self,
        topic: &TopicName,
        draft: &Draft,
        qos: Qos,
        ready: impl FnOnce() -> Option<Arc<[u8]>>,
    ) {
        let mut ready = Some(ready);
        let mut rendered = None;
        let mut bytes = || match &draft.body {
            Body::Raw(body) => Some(Arc::clone(body)),
            Body::Record(_) => {
                if let Some(ready) = ready.take() {
                    rendered = ready();
                }
                rendered.clone()
            }
        };
        for (id, wanted) in self.tree.matching(topic) {
            let qos = qos.min(wanted);
            if matches!(self.sessions.get(&id), Some(session) if matches!(session.owner, Owner::Bridge)) {
                self.counters.enqueued_messages_total += 1;
                self.actions.push_back(Action::Enqueue {
                    session: id,
                    qos,
                    draft: draft.clone(),
                    ticket: None,
                });
            } else if let Some(body) = bytes() {
                self.deliver(id, Delivery { topic: Arc::clone(topic.shared()), body, qos, retain: false });
            } else {
                self.counters.unrendered_messages_total += 1;
            }
        }
        if draft.retain {
            match bytes() {
                Some(body) => {
                    let kept = self.retained.set(topic, Kept { body, qos });
                    self.counters.unretained_messages_total += u64::from(!kept);
                }
                None => self.counters.unrendered_messages_total += 1,
            }
        }
    }

    fn deliver(&mut self, id: SessionId, delivery: Delivery) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if delivery.qos == Qos::AtMostOnce {
            let Some((conn, open)) = session.conn.and_then(|conn| Some((conn, self.conns.get_mut(&conn)?)))
            else {
                self.counters.dropped_away_messages_total += 1;
                return;
            };
            if open.unsent >= self.limits.outbox_bytes_max {
                self.counters.dropped_slow_messages_total += 1;
                return;
            }
            self.counters.sent_messages_total += 1;
            let bytes = open.front.encode(publish(&delivery, 0));
            self.send(conn, bytes);
            return;
        }
        let size = delivery.size();
        let full = session.queue.len() >= self.limits.queued_max
            || session.held_bytes.saturating_add(size) > self.limits.queued_bytes_max
            || self.held_bytes.saturating_add(size) > self.limits.queued_bytes_total_max;
        if full {
            self.counters.dropped_full_messages_total += 1;
            return;
        }
        session.push(delivery);
        self.held_bytes += size;
        self.pump(id);
    }

    /// Sends what waits, as far as window and connection have room.
    pub(super) fn pump(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some((conn, open)) = session.conn.and_then(|conn| Some((conn, self.conns.get_mut(&conn)?)))
        else {
            return;
        };
        let mut bytes = Vec::new();
        while session.in_flight.len() < self.limits.inflight_max
            && open.unsent.saturating_add(bytes.len()) < self.limits.outbox_bytes_max
        {
            let Some((packet, delivery)) = session.launch() else { break };
            self.counters.sent_messages_total += 1;
            bytes.append(&mut open.front.encode(publish(&delivery, packet)));
        }
        self.send(conn, bytes);
    }

    /// Sends again what was in flight, in the order of its first sending (4.4, 4.6), then what waited.
    pub(super) fn resume(&mut self, conn: ConnId, id: SessionId) {
        let (Some(open), Some(session)) = (self.conns.get_mut(&conn), self.sessions.get(&id)) else { return };
        let mut bytes = Vec::new();
        for flight in &session.in_flight {
            self.counters.resent_messages_total += u64::from(flight.delivery.is_some());
            bytes.append(&mut open.front.encode(match &flight.delivery {
                Some(delivery) => publish_again(delivery, flight.id),
                None => Reply::Release(flight.id),
            }));
        }
        self.send(conn, bytes);
        self.pump(id);
    }
}

fn publish(delivery: &Delivery, id: u16) -> Reply<'_> {
    let Delivery { topic, body, qos, retain } = delivery;
    Reply::Publish { topic, body, qos: *qos, retain: *retain, id, again: false }
}

fn publish_again(delivery: &Delivery, id: u16) -> Reply<'_> {
    let Delivery { topic, body, qos, retain } = delivery;
    Reply::Publish { topic, body, qos: *qos, retain: *retain, id, again: true }
}

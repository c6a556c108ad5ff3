//! What a client is owed: its subscriptions, what waits for it, and what it has not acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::ConnId;
use super::topic::TopicFilter;
use crate::uplink::row::Qos;

/// A message on its way to a client. Topic and body are shared with everyone who gets it.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) topic: Arc<str>,
    pub(super) body: Arc<[u8]>,
    pub(super) qos: Qos,
    pub(super) retain: bool,
}

impl Delivery {
    /// Bytes it counts for in limits.
    pub(super) fn size(&self) -> usize {
        self.topic.len().saturating_add(self.body.len())
    }
}

/// A message sent and not yet done with.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) id: u16,
    /// `None` once the client said that it has received a QoS 2 message: only the release is left to do.
    pub(super) delivery: Option<Delivery>,
    qos: Qos,
}

/// Whom a session is for.
#[derive(Debug)]
pub(super) enum Owner {
    /// A client by its id, connected or not.
    Client(Arc<str>),
    /// A durable queue outside: messages leave as [`super::Action::Enqueue`].
    Bridge,
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) owner: Owner,
    /// Forgotten when its connection ends.
    pub(super) clean: bool,
    pub(super) conn: Option<ConnId>,
    pub(super) filters: BTreeMap<TopicFilter, Qos>,
    pub(super) queue: VecDeque<Delivery>,
    /// Bytes of what waits and of what is in flight.
    pub(super) held_bytes: usize,
    /// In the order in which they were sent first.
    pub(super) in_flight: VecDeque<InFlight>,
    /// QoS 2 messages of the client that it has not released.
    pub(super) received: BTreeSet<u16>,
    last_id: u16,
}

impl Session {
    pub(super) fn new(owner: Owner, clean: bool, conn: Option<ConnId>) -> Self {
        Self {
            owner,
            clean,
            conn,
            filters: BTreeMap::new(),
            queue: VecDeque::new(),
            held_bytes: 0,
            in_flight: VecDeque::new(),
            received: BTreeSet::new(),
            last_id: 0,
        }
    }

    pub(super) fn push(&mut self, delivery: Delivery) {
        self.held_bytes += delivery.size();
        self.queue.push_back(delivery);
    }

    /// Takes the next waiting message into flight, under a packet identifier that no message in flight has.
    pub(super) fn launch(&mut self) -> Option<(u16, Delivery)> {
        let delivery = self.queue.pop_front()?;
        let id = self.free_id();
        self.in_flight.push_back(InFlight { id, qos: delivery.qos, delivery: Some(delivery.clone()) });
        Some((id, delivery))
    }

    /// PUBACK or PUBCOMP: done. Gives the bytes that are held no longer.
    pub(super) fn finish(&mut self, id: u16, qos: Qos) -> usize {
        let place = self.in_flight.iter().position(|flight| flight.id == id && flight.qos == qos);
        let done = place.and_then(|place| self.in_flight.remove(place));
        self.free(done.and_then(|flight| flight.delivery))
    }

    /// PUBREC: the client has it, only the release is left to do. Gives the bytes that are held no longer.
    pub(super) fn confirm(&mut self, id: u16) -> usize {
        let found =
            self.in_flight.iter_mut().find(|flight| flight.id == id && flight.qos == Qos::ExactlyOnce);
        let delivery = found.and_then(|flight| flight.delivery.take());
        self.free(delivery)
    }

    fn free(&mut self, delivery: Option<Delivery>) -> usize {
        let bytes = delivery.as_ref().map_or(0, Delivery::size);
        self.held_bytes -= bytes;
        bytes
    }

    /// There is one, because far fewer than 65,535 messages are in flight.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.in_flight.iter().all(|flight| flight.id != self.last_id) {
                return self.last_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_identifiers_are_never_0_and_never_shared() {
        let mut session = Session::new(Owner::Client("a".into()), false, None);
        let delivery = Delivery { topic: "t".into(), body: [1].into(), qos: Qos::AtLeastOnce, retain: false };
        session.push(delivery.clone());
        assert_eq!(session.launch().unwrap().0, 1);
        for _ in 0..65_534 {
            session.push(delivery.clone());
            let (id, _) = session.launch().unwrap();
            assert!(id > 1);
            assert_eq!(session.finish(id, Qos::AtLeastOnce), 2);
        }
        session.push(delivery);
        assert_eq!(session.launch().unwrap().0, 2, "1 is still in flight");
        assert_eq!(session.held_bytes, 4, "two are held");
    }
}

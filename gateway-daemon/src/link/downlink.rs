//! Messages of the cloud on one connection: which are to be acknowledged, and the subscriptions they come from.
//!
//! Acknowledgements leave in the order of the messages ("MQTT Version 3.1.1", 4.6), whatever the order in which they are safe. What is not
//! acknowledged when the connection ends is delivered again by the cloud on the next one.
//!
//! Bounds: unacknowledged messages by their packet ids (65,535), of which only the ids are kept here; acknowledgements in the client by
//! `ACKS_MAX`; filters by the rules of the uplink.

use std::collections::VecDeque;
use std::sync::Arc;

use gateway_core::uplink::link::{Delivery, LinkEvent};
use gateway_core::uplink::loss::Loss;
use gateway_core::uplink::row::Qos;
use rumqttc::{AsyncClient, Publish, QoS, SubAck, SubscribeFilter, SubscribeReasonCode};

use super::run::{ACKS_MAX, SUBSCRIBE_MAX, SUBSCRIBES_MAX, on_wire};

/// A message that waits for its acknowledgement.
#[derive(Debug)]
struct Unacknowledged {
    delivery: Delivery,
    /// What rumqttc makes its answer of.
    receipt: Publish,
}

/// One SUBSCRIBE under way.
#[derive(Debug)]
struct Wish {
    /// Known once it is written.
    packet_id: Option<u16>,
    filters: Vec<Arc<str>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Downlink {
    last: Delivery,
    unacknowledged: VecDeque<Unacknowledged>,
    safe: Delivery,
    /// Acknowledgements that the client has and has not written.
    unwritten: usize,
    /// In the order in which they were asked.
    wishes: VecDeque<Wish>,
    refused: Vec<Arc<str>>,
}

impl Downlink {
    /// A message came.
    ///
    /// # Errors
    /// The broker does not keep to the standard.
    pub(super) fn message(&mut self, message: Publish) -> Result<LinkEvent, Loss> {
        let Ok(topic) = std::str::from_utf8(&message.topic) else {
            return Err(Loss::Protocol { detail: "a topic that is not UTF-8".into() });
        };
        let (topic, retain) = (Arc::from(topic), message.retain);
        let qos = match message.qos {
            QoS::AtMostOnce => Qos::AtMostOnce,
            QoS::AtLeastOnce => Qos::AtLeastOnce,
            QoS::ExactlyOnce => Qos::ExactlyOnce,
        };
        let receipt = Publish { topic: Default::default(), payload: Default::default(), ..message.clone() };
        let delivery = (qos != Qos::AtMostOnce).then(|| self.expect(receipt));
        Ok(LinkEvent::Message { delivery, topic, payload: message.payload.into(), qos, retain })
    }

    fn expect(&mut self, receipt: Publish) -> Delivery {
        // A broker that repeats a packet on one connection gets one answer for both, when the second is safe.
        let same =
            |known: &Unacknowledged| known.receipt.pkid == receipt.pkid && known.receipt.qos == receipt.qos;
        self.unacknowledged.retain(|known| !same(known));
        self.last = Delivery(self.last.0.saturating_add(1));
        self.unacknowledged.push_back(Unacknowledged { delivery: self.last, receipt });
        self.last
    }

    /// Messages up to this one are safe.
    pub(super) fn acknowledge(&mut self, through: Delivery) {
        self.safe = self.safe.max(through.min(self.last));
    }

    /// Hands acknowledgements to the client, as many as it has room for.
    ///
    /// # Errors
    /// The client has ended.
    pub(super) fn flush(&mut self, client: &AsyncClient) -> Result<(), Loss> {
        while self.unwritten < ACKS_MAX
            && let Some(next) = self.unacknowledged.pop_front_if(|next| next.delivery <= self.safe)
        {
            self.unwritten += 1;
            // Room in the channel was counted, so only an ended event loop is left.
            client.try_ack(&next.receipt).map_err(|e| Loss::Protocol {
                detail: format!("the client takes no acknowledgement: {e}").into(),
            })?;
        }
        Ok(())
    }

    /// The client has written an acknowledgement.
    pub(super) fn written(&mut self) {
        self.unwritten = self.unwritten.saturating_sub(1);
    }

    /// Whether every acknowledgement that may leave has left.
    pub(super) fn is_written(&self) -> bool {
        self.unwritten == 0
    }

    /// Asks for messages; gives the filters that cannot even be asked for, if that ends the matter.
    pub(super) fn subscribe(&mut self, client: &AsyncClient, filters: Vec<(Arc<str>, Qos)>) -> Vec<Arc<str>> {
        for wish in filters.chunks(SUBSCRIBE_MAX) {
            let names: Vec<Arc<str>> = wish.iter().map(|(filter, _)| Arc::clone(filter)).collect();
            let packet =
                wish.iter().map(|(filter, qos)| SubscribeFilter::new(filter.to_string(), on_wire(*qos)));
            if self.wishes.len() < SUBSCRIBES_MAX && client.try_subscribe_many(packet).is_ok() {
                self.wishes.push_back(Wish { packet_id: None, filters: names });
            } else {
                self.refused.extend(names);
            }
        }
        if self.wishes.is_empty() { std::mem::take(&mut self.refused) } else { Vec::new() }
    }

    /// A SUBSCRIBE was written; they leave in the order in which they were asked.
    pub(super) fn subscribing(&mut self, packet_id: u16) {
        if let Some(wish) = self.wishes.iter_mut().find(|wish| wish.packet_id.is_none()) {
            wish.packet_id = Some(packet_id);
        }
    }

    /// A SUBACK; the last one gives the whole answer.
    pub(super) fn subscribed(&mut self, ack: &SubAck) -> Option<LinkEvent> {
        let place = self.wishes.iter().position(|wish| wish.packet_id == Some(ack.pkid))?;
        let wish = self.wishes.remove(place)?;
        let answers = wish.filters.into_iter().zip(&ack.return_codes);
        let failed = answers.filter(|(_, code)| matches!(code, SubscribeReasonCode::Failure));
        self.refused.extend(failed.map(|(filter, _)| filter));
        let refused = || std::mem::take(&mut self.refused);
        self.wishes.is_empty().then(refused).map(|refused| LinkEvent::Subscribed { refused })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(pkid: u16) -> Publish {
        let mut publish = Publish::new("cmd", QoS::AtLeastOnce, "on");
        publish.pkid = pkid;
        publish
    }

    fn deliveries(downlink: &Downlink) -> Vec<(u64, u16)> {
        downlink.unacknowledged.iter().map(|known| (known.delivery.0, known.receipt.pkid)).collect()
    }

    #[test]
    fn a_packet_that_the_broker_repeats_is_answered_once() {
        let mut downlink = Downlink::default();
        for pkid in [7, 8, 7] {
            downlink.message(publish(pkid)).unwrap();
        }
        assert_eq!(deliveries(&downlink), [(2, 8), (3, 7)]);
    }

    #[test]
    fn nothing_is_acknowledged_that_has_not_come() {
        let mut downlink = Downlink::default();
        downlink.message(publish(1)).unwrap();
        downlink.acknowledge(Delivery(10));
        downlink.message(publish(2)).unwrap();
        assert_eq!(downlink.safe, Delivery(1));
    }
}

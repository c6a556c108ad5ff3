//! PUBLISH of a client: the packet of which there are many, read by hand.

use super::super::CloseReason;
use super::super::note::Shown;
use super::super::packet::{Message, Packet, Said, Version};
use super::super::topic::TopicName;
use super::Front;
use super::properties::{self, Extras, Of};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

impl Front {
    /// Reads the body of a PUBLISH (3.3).
    pub(super) fn publish(&mut self, now: BootNs, flags: u8, body: &[u8]) -> Result<Packet, CloseReason> {
        let short = CloseReason::Malformed("a PUBLISH that ends too early");
        let Some((&[high, low], rest)) = body.split_first_chunk() else { return Err(short) };
        let Some((topic, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))) else {
            return Err(short);
        };
        let Ok(topic) = std::str::from_utf8(topic) else {
            return Err(CloseReason::Malformed("a topic that is no UTF-8"));
        };
        let qos = qos(flags >> 1)?;
        let (id, rest) = match rest.split_first_chunk() {
            _ if qos == Qos::AtMostOnce => (0, rest),
            Some(([0, 0], _)) => return Err(CloseReason::Protocol("packet identifier 0")),
            Some((id, rest)) => (u16::from_be_bytes(*id), rest),
            None => return Err(short),
        };
        let (extras, rest) = match (self.version, rest.split_first()) {
            (Some(Version::V5), Some((0, rest))) => (Extras::default(), rest),
            (Some(Version::V5), Some(_)) => long(rest)?,
            (Some(Version::V5), None) => return Err(short),
            _ => (Extras::default(), rest),
        };
        let topic = match (topic.is_empty(), extras.alias) {
            (false, None) => topic_name(topic)?,
            (false, Some(alias)) => {
                let topic = topic_name(topic)?;
                self.received.resolve(alias, Some(topic))?
            }
            (true, Some(alias)) => self.received.resolve(alias, None)?,
            (true, None) => return Err(CloseReason::Protocol("a PUBLISH without a topic")),
        };
        properties::check_payload(&extras, rest)?;
        Ok(Packet::Publish(Said {
            message: Message {
                topic,
                body: rest.into(),
                qos,
                retain: flags & 1 != 0,
                properties: extras.properties,
                at: now,
                expiry_s: extras.expiry_s,
            },
            id,
            again: flags & 8 != 0,
        }))
    }
}

/// A topic that can be published to. The log says which one could not.
pub(super) fn topic_name(topic: &str) -> Result<TopicName, CloseReason> {
    TopicName::new(topic).map_err(|error| CloseReason::Topic(error, Shown::new(topic)))
}

/// Properties that are there (3.3.2.3), and what comes after them.
fn long(rest: &[u8]) -> Result<(Extras, &[u8]), CloseReason> {
    let (wire, rest) = properties::section(rest)?;
    Ok((properties::extras(wire, Of::Publish)?, rest))
}

/// The two bits of a QoS.
pub(super) fn qos(bits: u8) -> Result<Qos, CloseReason> {
    match bits & 3 {
        0 => Ok(Qos::AtMostOnce),
        1 => Ok(Qos::AtLeastOnce),
        2 => Ok(Qos::ExactlyOnce),
        _ => Err(CloseReason::Malformed("QoS 3")),
    }
}

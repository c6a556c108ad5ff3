//! SUBSCRIBE, UNSUBSCRIBE, DISCONNECT and AUTH: rare, and read by the library.

use mqtt_protocol_core::mqtt::packet::{
    self as wire, Properties, PropertiesParse as _, Property, RetainHandling, SubEntry, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::MqttError;

use super::super::CloseReason;
use super::super::note::Shown;
use super::super::packet::{Options, Packet, Replay, Version, Wish};
use super::super::topic::{self, TopicError};
use super::entries::{Entries, Texts, Wishes};
use super::{check_text, fault, nonzero, properties, used_up};
use crate::uplink::row::Qos;

/// Reads the body of a SUBSCRIBE (3.8).
pub(super) fn subscribe(version: Version, bridge: bool, body: &[u8]) -> Result<Packet, CloseReason> {
    let (mut id, mut identifier) = (0, None);
    let check = |piece: &[u8]| {
        let wrong = |entry| wish(entry, version, None).err();
        let wrong = if version == Version::V5 {
            let (packet, consumed) =
                v5_0::Subscribe::parse(piece).map_err(|error| misplaced(error, piece))?;
            used_up(consumed, piece)?;
            properties::check(packet.props())?;
            for property in packet.props() {
                if let Property::SubscriptionIdentifier(number) = property {
                    identifier = Some(number.val());
                }
            }
            id = packet.packet_id();
            packet.entries().iter().find_map(wrong)
        } else {
            let (packet, consumed) = v3_1_1::Subscribe::parse(piece).map_err(fault)?;
            used_up(consumed, piece)?;
            id = packet.packet_id();
            packet.entries().iter().find_map(wrong)
        };
        wrong.map_or(Ok(()), Err)
    };
    if version == Version::V5 {
        properties::bound(body, 2)?;
    }
    let entries = Entries::check(version, body, 1, check)?;
    let wishes = Wishes { entries, version, bridge, identifier };
    Ok(Packet::Subscribe { id: nonzero(id)?, wishes, identifier })
}

/// A property that does not belong to the packet makes it malformed (2.2.2.2); an entry too few is a protocol error (3.8.3, 3.10.3), and so is
/// identifier 0 (3.8.2.1.2): the library has one word for all of it.
fn misplaced(error: MqttError, body: &[u8]) -> CloseReason {
    let belongs = |property: &Property| {
        matches!(property, Property::SubscriptionIdentifier(_) | Property::UserProperty(_))
    };
    match Properties::parse(body.get(2..).unwrap_or_default()) {
        Ok((properties, _)) if !properties.iter().all(belongs) => {
            CloseReason::Malformed("a property that does not belong here")
        }
        _ => fault(error),
    }
}

pub(super) fn wish(entry: &SubEntry, version: Version, identifier: Option<u32>) -> Result<Wish, CloseReason> {
    let (filter, wire) = (entry.topic_filter(), entry.sub_opts());
    check_filter(filter)?;
    let options = Options {
        qos: match wire.qos() {
            wire::Qos::AtMostOnce => Qos::AtMostOnce,
            wire::Qos::AtLeastOnce => Qos::AtLeastOnce,
            wire::Qos::ExactlyOnce => Qos::ExactlyOnce,
        },
        no_local: wire.nl(),
        retain_as_published: wire.rap(),
        replay: match wire.rh() {
            RetainHandling::SendRetained => Replay::Always,
            RetainHandling::SendRetainedIfNotExists => Replay::IfNew,
            RetainHandling::DoNotSendRetained => Replay::Never,
        },
        identifier,
    };
    let plain = !options.no_local && !options.retain_as_published && options.replay == Replay::Always;
    if version != Version::V5 && !plain {
        return Err(CloseReason::Malformed("reserved bits of a requested QoS"));
    }
    // 3.8.3.1.
    if options.no_local && filter.starts_with("$share/") {
        return Err(CloseReason::Protocol("no local on a shared subscription"));
    }
    Ok(Wish { filter: filter.to_owned(), options })
}

/// Reads the body of an UNSUBSCRIBE (3.10).
pub(super) fn unsubscribe(version: Version, body: &[u8]) -> Result<Packet, CloseReason> {
    let mut id = 0;
    let check = |piece: &[u8]| {
        let wrong = |text: &wire::MqttString| check_filter(text.as_str()).err();
        let wrong = if version == Version::V5 {
            let (packet, consumed) =
                v5_0::Unsubscribe::parse(piece).map_err(|error| misplaced(error, piece))?;
            used_up(consumed, piece)?;
            properties::check(packet.props())?;
            id = packet.packet_id();
            packet.entries().iter().find_map(wrong)
        } else {
            let (packet, consumed) = v3_1_1::Unsubscribe::parse(piece).map_err(fault)?;
            used_up(consumed, piece)?;
            id = packet.packet_id();
            packet.entries().iter().find_map(wrong)
        };
        wrong.map_or(Ok(()), Err)
    };
    if version == Version::V5 {
        properties::bound(body, 2)?;
    }
    let entries = Entries::check(version, body, 0, check)?;
    Ok(Packet::Unsubscribe { id: nonzero(id)?, filters: Texts(entries) })
}

/// A filter, with its share name, without the characters that no topic has.
fn check_filter(text: &str) -> Result<(), CloseReason> {
    check_text(text)?;
    match topic::forbidden(text) {
        None => Ok(()),
        Some(character) => Err(CloseReason::Topic(TopicError::Forbidden(character), Shown::new(text))),
    }
}

/// Reads the body of a DISCONNECT of 5.0 (3.14). Any reason but 0x00 leaves the will in force (3.1.2.5).
pub(super) fn disconnect(body: &[u8]) -> Result<Packet, CloseReason> {
    properties::bound(body, 1)?;
    let (packet, consumed) = v5_0::Disconnect::parse(body).map_err(fault)?;
    used_up(consumed, body)?;
    let mut expiry_s = None;
    if let Some(properties) = packet.props() {
        properties::check(properties)?;
        for property in properties {
            match property {
                Property::SessionExpiryInterval(expiry) => expiry_s = Some(expiry.val()),
                Property::ServerReference(_) => {
                    return Err(CloseReason::Protocol("a property that only servers send"));
                }
                _ => {}
            }
        }
    }
    Ok(Packet::Disconnect { with_will: body.first().is_some_and(|code| *code != 0), expiry_s })
}

/// Reads the body of an AUTH (3.15).
pub(super) fn auth(body: &[u8]) -> Result<Packet, CloseReason> {
    properties::bound(body, 1)?;
    let (packet, consumed) = v5_0::Auth::parse(body).map_err(fault)?;
    used_up(consumed, body)?;
    if let Some(properties) = packet.props() {
        properties::check(properties)?;
    }
    Ok(Packet::Auth)
}

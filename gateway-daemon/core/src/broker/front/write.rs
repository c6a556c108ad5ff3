//! Packets to a client, written straight into the bytes that leave.

use super::super::packet::{Code, Delivery, Reply, Version, Welcome};
use super::super::properties::id as property;
use super::aliases::Written;
use super::{Front, REMAINING_MAX, Stage};
use crate::uplink::row::Qos;

/// Reason codes from here on are failures (2.4).
const FAILURE_MIN: u8 = 0x80;

/// Writes a reply; see [`Front::encode`].
pub(super) fn reply(front: &mut Front, out: &mut Vec<u8>, reply: Reply<'_>) -> bool {
    let v5 = front.version == Some(Version::V5);
    let max = front.peer_bytes_max;
    match reply {
        Reply::Publish { delivery, id, again, age_s } => publish(front, out, delivery, (id, again, age_s)),
        Reply::Acknowledge(id, code) => acknowledge(out, 0x40, id, code, (v5, max)),
        Reply::Receive(id, code) => acknowledge(out, 0x50, id, code, (v5, max)),
        Reply::Release(id, code) => acknowledge(out, 0x62, id, code, (v5, max)),
        Reply::Complete(id, code) => acknowledge(out, 0x70, id, code, (v5, max)),
        Reply::Pong => frame(out, 0xd0, &[], max),
        Reply::Connected(welcome) => {
            front.received.allow(welcome.aliases_max);
            let told = match front.version {
                Some(Version::V5) => connected_v5(out, &welcome, max),
                // A reserved byte in 3.1, where clients know of no session present.
                Some(Version::V31) => frame(out, 0x20, &[0, 0], max),
                _ => frame(out, 0x20, &[u8::from(welcome.session_present), 0], max),
            };
            if told {
                front.stage = Stage::Welcomed;
            }
            told
        }
        Reply::Refused(code, words) => {
            front.stage = Stage::Over;
            if v5 {
                return reasoned(front, out, 0x20, &[0, code as u8], words);
            }
            frame(out, 0x20, &[0, return_code(code)], max)
        }
        Reply::Subscribed { id, granted } => {
            let version = front.version;
            let codes = granted.into_iter().map(|granted| granted_code(version, granted));
            frame(out, 0x90, &answers(id, v5, codes), max)
        }
        Reply::Unsubscribed { id, codes } if v5 => {
            frame(out, 0xb0, &answers(id, true, codes.into_iter().map(|code| code as u8)), max)
        }
        Reply::Unsubscribed { id, .. } => frame(out, 0xb0, &id.to_be_bytes(), max),
        Reply::Goodbye(code, words) => {
            front.stage = Stage::Over;
            !v5 || reasoned(front, out, 0xe0, &[code as u8], words)
        }
    }
}

/// PUBLISH (3.3).
fn publish(
    front: &mut Front,
    out: &mut Vec<u8>,
    delivery: &Delivery,
    (id, again, age_s): (u16, bool, u32),
) -> bool {
    let (message, v5) = (&delivery.message, front.version == Some(Version::V5));
    let name = message.topic.shared();
    let written = if v5 { front.sent.choose(name) } else { Written::Plain };
    let topic = if matches!(written, Written::Alias(_)) { "" } else { message.topic.as_str() };
    let expiry_s = message.expiry_s.map(|expiry_s| expiry_s.saturating_sub(age_s));
    let properties_len = if v5 { properties_len(delivery, expiry_s, written) } else { 0 };
    let mut remaining = 2 + topic.len() + message.body.len();
    if delivery.qos != Qos::AtMostOnce {
        remaining += 2;
    }
    if v5 {
        remaining += varint_len(properties_len) + properties_len;
    }
    if remaining > REMAINING_MAX || 1 + varint_len(remaining) + remaining > front.peer_bytes_max {
        return false;
    }
    out.reserve(1 + varint_len(remaining) + remaining);
    let dup = again && delivery.qos != Qos::AtMostOnce;
    out.push(0x30 | u8::from(dup) << 3 | (delivery.qos as u8) << 1 | u8::from(delivery.retain));
    put_varint(out, remaining);
    put_text(out, topic.as_bytes());
    if delivery.qos != Qos::AtMostOnce {
        out.extend_from_slice(&id.to_be_bytes());
    }
    if v5 {
        put_varint(out, properties_len);
        let start = out.len();
        put_properties(out, delivery, expiry_s, written);
        debug_assert_eq!(out.len() - start, properties_len, "properties are as long as counted");
        front.sent.remember(written, name);
    }
    out.extend_from_slice(&message.body);
    true
}

/// Bytes of the properties of a PUBLISH, as [`put_properties`] writes them.
fn properties_len(delivery: &Delivery, expiry_s: Option<u32>, written: Written) -> usize {
    let mut len = 0;
    if written != Written::Plain {
        len += 3;
    }
    if expiry_s.is_some() {
        len += 5;
    }
    for identifier in &delivery.identifiers {
        len += 1 + varint_len(usize::try_from(*identifier).unwrap_or(REMAINING_MAX));
    }
    len + delivery.message.properties.as_ref().map_or(0, |properties| properties.as_bytes().len())
}

fn put_properties(out: &mut Vec<u8>, delivery: &Delivery, expiry_s: Option<u32>, written: Written) {
    match written {
        Written::Plain => {}
        Written::First(alias) | Written::Alias(alias) => put_u16(out, property::ALIAS, alias),
    }
    if let Some(expiry_s) = expiry_s {
        put_u32(out, property::MESSAGE_EXPIRY, expiry_s);
    }
    for identifier in &delivery.identifiers {
        out.push(property::SUBSCRIPTION);
        put_varint(out, usize::try_from(*identifier).unwrap_or(REMAINING_MAX));
    }
    if let Some(properties) = &delivery.message.properties {
        out.extend_from_slice(properties.as_bytes());
    }
}

/// The four acknowledgements (3.4 to 3.7): without a reason code when it is success, or when there is no word for it.
fn acknowledge(out: &mut Vec<u8>, first: u8, id: u16, code: Code, (v5, max): (bool, usize)) -> bool {
    let [high, low] = id.to_be_bytes();
    if v5 && code != Code::Success && frame(out, first, &[high, low, code as u8], max) {
        return true;
    }
    // A success of another kind may be said as a plain one (3.4.2.1); a failure may not.
    if v5 && code as u8 >= FAILURE_MIN {
        return false;
    }
    if max < 4 {
        return false;
    }
    out.extend_from_slice(&[first, 2, high, low]);
    true
}

/// CONNACK with success (3.2.2); what is not said has the value that the standard gives it. A client that takes small packets only is told what it
/// can do without last: topic aliases, which it then does not use, the largest packet, how many messages at once. What it has to know (its client id, a shorter keep-alive, a
/// shorter session expiry) is said, or it is not let in.
fn connected_v5(out: &mut Vec<u8>, welcome: &Welcome, max: usize) -> bool {
    let mut properties = Vec::new();
    if let Some(client) = &welcome.assigned {
        properties.push(property::ASSIGNED_CLIENT);
        put_text(&mut properties, client.as_bytes());
    }
    if let Some(keep_alive) = welcome.keep_alive {
        put_u16(&mut properties, property::KEEP_ALIVE, keep_alive);
    }
    if let Some(expiry_s) = welcome.expiry_s {
        put_u32(&mut properties, property::SESSION_EXPIRY, expiry_s);
    }
    // Each end is one that may be left out from.
    let mut ends = vec![properties.len()];
    if !matches!(welcome.receive_max, 0 | u16::MAX) {
        put_u16(&mut properties, property::RECEIVE_MAX, welcome.receive_max);
        ends.push(properties.len());
    }
    if welcome.packet_bytes_max != 0 {
        put_u32(&mut properties, property::PACKET_MAX, welcome.packet_bytes_max);
        ends.push(properties.len());
    }
    if welcome.aliases_max != 0 {
        let max = welcome.aliases_max.min(super::ALIASES_MAX);
        put_u16(&mut properties, property::ALIAS_MAX, max);
        ends.push(properties.len());
    }
    ends.into_iter().rev().any(|end| {
        let mut body = vec![u8::from(welcome.session_present), 0];
        put_varint(&mut body, end);
        body.extend_from_slice(&properties[..end]);
        frame(out, 0x20, &body, max)
    })
}

/// A packet that ends with properties, of which there is only a reason string: left out if the client does not want it or has no room for it.
fn reasoned(front: &Front, out: &mut Vec<u8>, first: u8, head: &[u8], words: &str) -> bool {
    if front.wants_words && !words.is_empty() {
        let mut body = head.to_vec();
        put_varint(&mut body, 3 + words.len());
        body.push(property::REASON);
        put_text(&mut body, words.as_bytes());
        if frame(out, first, &body, front.peer_bytes_max) {
            return true;
        }
    }
    let mut body = head.to_vec();
    // CONNACK always says how long its properties are; DISCONNECT may end before.
    if first == 0x20 {
        body.push(0);
    }
    frame(out, first, &body, front.peer_bytes_max)
}

/// SUBACK and UNSUBACK: identifier, no properties, one code each.
fn answers(id: u16, v5: bool, codes: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    body.extend(codes);
    body
}

fn granted_code(version: Option<Version>, granted: Result<Qos, Code>) -> u8 {
    match (granted, version) {
        (Ok(qos), _) => qos as u8,
        (Err(code), Some(Version::V5)) => code as u8,
        // 3.1 has no word for no: the least that it can grant.
        (Err(_), Some(Version::V31)) => 0,
        (Err(_), _) => 0x80,
    }
}

/// Return codes of CONNACK in 3.x ("MQTT Version 3.1.1", 3.2.2.3).
fn return_code(code: Code) -> u8 {
    match code {
        Code::Success => 0,
        Code::UnsupportedVersion => 1,
        Code::ClientIdInvalid => 2,
        Code::BadUserOrPassword => 4,
        Code::NotAuthorized | Code::BadAuthenticationMethod => 5,
        _ => 3,
    }
}

/// A whole packet, if the client takes one of its size.
fn frame(out: &mut Vec<u8>, first: u8, body: &[u8], max: usize) -> bool {
    let len = 1 + varint_len(body.len()) + body.len();
    if body.len() > REMAINING_MAX || len > max {
        return false;
    }
    out.reserve(len);
    out.push(first);
    put_varint(out, body.len());
    out.extend_from_slice(body);
    true
}

fn varint_len(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// A variable byte integer (1.5.5) of at most [`REMAINING_MAX`].
fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = value.to_le_bytes()[0];
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// A string or binary data (1.5.4, 1.5.6): all that comes here was read from a client or checked as a topic, so it fits.
fn put_text(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&bytes[..usize::from(len)]);
}

fn put_u16(out: &mut Vec<u8>, property: u8, value: u16) {
    out.push(property);
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u32(out: &mut Vec<u8>, property: u8, value: u32) {
    out.push(property);
    out.extend_from_slice(&value.to_be_bytes());
}

//! Packets of MQTT 5.0, made of bytes.

use super::wire::{Bench, frames, packet, text};
use crate::broker::ConnId;

/// A property: identifier and value.
pub(super) fn byte(id: u8, value: u8) -> Vec<u8> {
    vec![id, value]
}

pub(super) fn two(id: u8, value: u16) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

pub(super) fn four(id: u8, value: u32) -> Vec<u8> {
    [&[id][..], &value.to_be_bytes()].concat()
}

pub(super) fn string(id: u8, value: &str) -> Vec<u8> {
    [&[id][..], &text(value)].concat()
}

pub(super) fn pair(name: &str, value: &str) -> Vec<u8> {
    [&[0x26][..], &text(name), &text(value)].concat()
}

/// A variable byte integer.
pub(super) fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

fn properties(all: &[Vec<u8>]) -> Vec<u8> {
    let all = all.concat();
    [varint(all.len()), all].concat()
}

/// A will of 5.0: topic, body, QoS, retain, and its properties.
pub(super) struct Will<'a>(
    pub(super) &'a str,
    pub(super) &'a str,
    pub(super) u8,
    pub(super) bool,
    pub(super) &'a [Vec<u8>],
);

pub(super) fn connect5(
    id: &str,
    clean: bool,
    keep_alive: u16,
    extras: &[Vec<u8>],
    will: Option<Will<'_>>,
) -> Vec<u8> {
    let mut flags = u8::from(clean) << 1;
    if let Some(Will(_, _, qos, retain, _)) = will {
        flags |= 4 | qos << 3 | u8::from(retain) << 5;
    }
    let mut body = b"\0\x04MQTT\x05".to_vec();
    body.push(flags);
    body.extend(keep_alive.to_be_bytes());
    body.extend(properties(extras));
    body.extend(text(id));
    if let Some(Will(topic, message, _, _, extras)) = will {
        body.extend(properties(extras));
        body.extend(text(topic));
        body.extend(text(message));
    }
    packet(0x10, &body)
}

/// SUBSCRIBE; each filter with its options byte.
pub(super) fn subscribe5(id: u16, identifier: Option<usize>, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    let identifier = identifier.map(|value| [vec![0x0b], varint(value)].concat());
    body.extend(properties(&identifier.into_iter().collect::<Vec<_>>()));
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

pub(super) fn publish5(flags: u8, topic: &str, id: u16, extras: &[Vec<u8>], body: &str) -> Vec<u8> {
    let mut bytes = text(topic);
    if flags & 6 != 0 {
        bytes.extend(id.to_be_bytes());
    }
    bytes.extend(properties(extras));
    bytes.extend(body.as_bytes());
    packet(0x30 | flags, &bytes)
}

/// DISCONNECT with a reason code and properties.
pub(super) fn disconnect5(code: u8, extras: &[Vec<u8>]) -> Vec<u8> {
    packet(0xe0, &[vec![code], properties(extras)].concat())
}

/// A PUBLISH to a client of 5.0.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) struct Heard5 {
    pub(super) first: u8,
    pub(super) topic: String,
    pub(super) id: u16,
    /// As they are on the wire.
    pub(super) properties: Vec<u8>,
    pub(super) body: String,
}

impl Bench {
    /// A connected client of 5.0; gives what CONNACK said behind its flags: code and properties.
    pub(super) fn client5(&mut self, id: &str, clean: bool, extras: &[Vec<u8>]) -> (ConnId, Vec<u8>) {
        let conn = self.open();
        self.say(conn, &connect5(id, clean, 0, extras, None));
        let told = self.told(conn);
        assert_eq!(told[0], 0x20, "{told:?}");
        assert_eq!(told[3], 0, "{told:?}");
        let len = 2 + usize::from(told[1]);
        assert_eq!(told.len(), len, "nothing but CONNACK");
        (conn, told[2..].to_vec())
    }

    /// A connected client of 5.0 that has subscribed, with an options byte.
    pub(super) fn subscriber5(&mut self, id: &str, filter: &str, options: u8) -> ConnId {
        let (conn, _) = self.client5(id, true, &[]);
        self.say(conn, &subscribe5(1, None, &[(filter, options)]));
        assert_eq!(self.told(conn)[..6], [0x90, 4, 0, 1, 0, options & 3]);
        conn
    }

    /// The PUBLISH packets among what a client of 5.0 was told.
    pub(super) fn heard5(&mut self, conn: ConnId) -> Vec<Heard5> {
        let told = self.told(conn);
        frames(&told)
            .into_iter()
            .map(|frame| {
                assert_eq!(frame[0] >> 4, 3, "a packet that is no PUBLISH: {frame:?}");
                let header = 1 + frame.iter().skip(1).take_while(|b| **b & 0x80 != 0).count() + 1;
                let body = &frame[header..];
                let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8(body[2..2 + topic_len].to_vec()).unwrap();
                let mut rest = &body[2 + topic_len..];
                let mut id = 0;
                if frame[0] & 6 != 0 {
                    id = u16::from_be_bytes([rest[0], rest[1]]);
                    rest = &rest[2..];
                }
                let len = usize::from(rest[0]);
                assert!(len < 128, "short properties");
                let properties = rest[1..=len].to_vec();
                let body = String::from_utf8_lossy(&rest[1 + len..]).into_owned();
                Heard5 { first: frame[0], topic, id, properties, body }
            })
            .collect()
    }
}

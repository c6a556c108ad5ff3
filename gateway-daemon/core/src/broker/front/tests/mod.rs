//! Tests of the front. The library's builders and parsers are the peer: they know nothing of how the front reads and writes.

mod contract;
mod cuts;
mod hello;
mod hostile;
mod read;
mod write;

use super::Front;
use crate::broker::CloseReason;
use crate::broker::packet::{Packet, Reply, Version, Welcome};
use crate::tag::BootNs;

pub(super) const NOW: BootNs = BootNs(7_000_000_000);

/// Largest packet of the tests' fronts.
pub(super) const MAX: usize = 100_000;

const HELLO_V31: &[u8] = b"\x10\x11\0\x06MQIsdp\x03\x02\0\x3c\0\x03abc";
const HELLO_V311: &[u8] = b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03abc";
const HELLO_V5: &[u8] = b"\x10\x10\0\x04MQTT\x05\x02\0\x3c\0\0\x03abc";

pub(super) const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

pub(super) fn hello_bytes(version: Version) -> &'static [u8] {
    match version {
        Version::V31 => HELLO_V31,
        Version::V311 => HELLO_V311,
        Version::V5 => HELLO_V5,
    }
}

/// A front after CONNECT and CONNACK; takes ten aliases.
pub(super) fn welcomed(version: Version) -> Front {
    welcomed_by(hello_bytes(version))
}

pub(super) fn welcomed_by(hello: &[u8]) -> Front {
    let mut front = Front::new(MAX);
    let (packets, end) = feed(&mut front, hello);
    assert!(matches!(packets[..], [Packet::Connect(_)]) && end.is_none(), "{packets:?} {end:?}");
    front.encode(&mut Vec::new(), Reply::Connected(Welcome { aliases_max: 10, ..Welcome::default() }));
    front
}

/// Everything that a front makes of some bytes.
pub(super) fn feed(front: &mut Front, mut input: &[u8]) -> (Vec<Packet>, Option<CloseReason>) {
    let mut packets = Vec::new();
    loop {
        match front.next(NOW, &mut input) {
            Ok(Some(packet)) => packets.push(packet),
            Ok(None) => {
                assert!(input.is_empty(), "what is not a whole packet is kept");
                return (packets, None);
            }
            Err(reason) => return (packets, Some(reason)),
        }
    }
}

/// The one packet that the bytes are.
pub(super) fn one(front: &mut Front, bytes: &[u8]) -> Packet {
    let (mut packets, end) = feed(front, bytes);
    assert!(end.is_none() && packets.len() == 1, "{packets:?} {end:?}");
    packets.remove(0)
}

/// What a front writes.
pub(super) fn written(front: &mut Front, reply: Reply<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(front.encode(&mut out, reply), "the client has room for it");
    out
}

/// A packet out of its first byte and its body.
pub(super) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = body.len();
    while len > 0x7f {
        bytes.push(byte(len & 0x7f) | 0x80);
        len >>= 7;
    }
    bytes.push(byte(len));
    bytes.extend_from_slice(body);
    bytes
}

/// A small number as a byte.
pub(super) fn byte(number: usize) -> u8 {
    u8::try_from(number).expect("the tests' small numbers are small")
}

//! Packets that end their connection, and the code they end it with.

use super::{MAX, NOW, VERSIONS, byte, feed, frame, hello_bytes, welcomed};
use crate::broker::CloseReason;
use crate::broker::front::{Front, HELLO_BYTES_MAX};
use crate::broker::packet::{Code, Packet, Version};
use crate::broker::properties::{PROPERTIES_BYTES_MAX, PROPERTIES_MAX};

/// The bytes after a good CONNECT end the connection with this code, said in a DISCONNECT of 5.0 and in nothing in 3.x.
fn check(version: Version, input: &[u8], expected: Code) {
    let mut front = welcomed(version);
    let (packets, end) = feed(&mut front, input);
    let Some(reason) = end else { panic!("{version:?} {input:02x?} is taken as {packets:?}") };
    assert_eq!(reason.code(), Some(expected), "{version:?} {input:02x?}: {reason}");
    let mut out = Vec::new();
    front.farewell(&mut out, &reason);
    match version {
        Version::V5 => assert_eq!(out, [0xe0, 1, expected as u8]),
        _ => assert_eq!(out, b""),
    }
    front.farewell(&mut out, &reason);
    assert!(out.len() <= 3, "there is one last word");
}

fn check_all(input: &[u8], expected: Code) {
    for version in VERSIONS {
        check(version, input, expected);
    }
}

#[test]
fn reserved_bits_of_the_first_byte_are_refused() {
    for kind in [4_u8, 5, 7, 12, 14] {
        for flags in 1..16 {
            check_all(&frame(kind << 4 | flags, &[0, 1]), Code::MalformedPacket);
        }
    }
    for kind in [6_u8, 8, 10] {
        for flags in (0..16).filter(|flags| flags & 7 != 2) {
            check_all(&frame(kind << 4 | flags, &[0, 1]), Code::MalformedPacket);
        }
        // 3.1 repeats them with DUP.
        check(Version::V311, &frame(kind << 4 | 10, &[0, 1]), Code::MalformedPacket);
        check(Version::V5, &frame(kind << 4 | 10, &[0, 1]), Code::MalformedPacket);
    }
    check(Version::V5, &frame(0xf1, &[]), Code::MalformedPacket);
}

#[test]
fn packets_of_servers_and_packets_that_do_not_exist_are_refused() {
    for first in [0x00_u8, 0x20, 0x90, 0xb0, 0xd0] {
        check_all(&frame(first, &[0, 1, 0]), Code::ProtocolError);
    }
    check(Version::V311, &frame(0xf0, &[]), Code::MalformedPacket);
    for version in VERSIONS {
        check(version, hello_bytes(version), Code::ProtocolError);
    }
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    check_all(b"\x30\xff\xff\xff\xff\x01", Code::MalformedPacket);
    check_all(b"\x30\xff\xff\xff\x7f", Code::PacketTooLarge);
    check_all(b"\xc0\x01\x00", Code::MalformedPacket);
    check(Version::V311, b"\xe0\x01\x00", Code::MalformedPacket);
    for body in [&b""[..], b"\0", b"\0\x05abcd", b"\xff\xff"] {
        check_all(&frame(0x30, body), Code::MalformedPacket);
    }
    // QoS 1 without an identifier.
    check_all(&frame(0x32, b"\0\x01a\0"), Code::MalformedPacket);
    for first in [0x40_u8, 0x50, 0x62, 0x70] {
        for body in [&b""[..], b"\x01"] {
            check_all(&frame(first, body), Code::MalformedPacket);
        }
        check(Version::V311, &frame(first, b"\0\x01\0"), Code::MalformedPacket);
        check(Version::V5, &frame(first, b"\0\x01\0\0\0"), Code::MalformedPacket);
        check(Version::V5, &frame(first, b"\0\x01\0\x01"), Code::MalformedPacket);
        check(Version::V5, &frame(first, b"\0\x01\x77"), Code::MalformedPacket);
    }
}

#[test]
fn packet_identifier_0_is_refused() {
    check(Version::V311, &frame(0x32, b"\0\x01a\0\0"), Code::ProtocolError);
    check(Version::V5, &frame(0x32, b"\0\x01a\0\0\0"), Code::ProtocolError);
    for first in [0x40_u8, 0x50, 0x62, 0x70] {
        check_all(&frame(first, b"\0\0"), Code::ProtocolError);
        check(Version::V5, &frame(first, b"\0\0\0"), Code::ProtocolError);
    }
    check(Version::V311, &frame(0x82, b"\0\0\0\x01a\0"), Code::MalformedPacket);
    check(Version::V5, &frame(0x82, b"\0\0\0\0\x01a\0"), Code::MalformedPacket);
    check(Version::V311, &frame(0xa2, b"\0\0\0\x01a"), Code::MalformedPacket);
    check(Version::V5, &frame(0xa2, b"\0\0\0\0\x01a"), Code::MalformedPacket);
}

#[test]
fn a_publish_with_dup_at_qos_0_or_with_qos_3_is_refused() {
    for first in [0x38_u8, 0x39, 0x36, 0x37, 0x3e] {
        check_all(&frame(first, b"\0\x01a\0\x01\0"), Code::MalformedPacket);
    }
}

#[test]
fn topics_of_a_publish_that_are_none_are_refused() {
    for topic in [&b"+"[..], b"a/#", b"a+", b"a\0b", b"\xc3", b"\xed\xa0\x80", b"\xff", b"\xc0\x80"] {
        let mut body = vec![0, byte(topic.len())];
        body.extend_from_slice(topic);
        body.push(0);
        check_all(&frame(0x30, &body), Code::MalformedPacket);
    }
    let deep = [&[0, 250][..], &[b'/'; 250], &[0]].concat();
    check_all(&frame(0x30, &deep), Code::TopicInvalid);
    check_all(&frame(0x30, b"\0\0\0"), Code::ProtocolError);
}

#[test]
fn properties_of_a_publish_that_are_wrong_are_refused() {
    for (properties, code) in [
        // Twice.
        (&b"\x01\x01\x01\x01"[..], Code::ProtocolError),
        (b"\x02\0\0\0\x01\x02\0\0\0\x01", Code::ProtocolError),
        (b"\x03\0\0\x03\0\0", Code::ProtocolError),
        (b"\x08\0\x01a\x08\0\x01a", Code::ProtocolError),
        (b"\x09\0\0\x09\0\0", Code::ProtocolError),
        (b"\x23\0\x01\x23\0\x01", Code::ProtocolError),
        // Not of this packet, or only of servers.
        (b"\x0b\x01", Code::ProtocolError),
        (b"\x18\0\0\0\x01", Code::ProtocolError),
        (b"\x21\0\x01", Code::ProtocolError),
        (b"\x1f\0\x01a", Code::ProtocolError),
        // Values.
        (b"\x01\x02", Code::ProtocolError),
        (b"\x08\0\x01#", Code::ProtocolError),
        (b"\x23\0\x00", Code::ProtocolError),
        (b"\x23\0\x0b", Code::TopicAliasInvalid),
        (b"\x23\xff\xff", Code::TopicAliasInvalid),
        // Cut short, unknown, not text.
        (b"\x02\0\0", Code::MalformedPacket),
        (b"\x00\x00", Code::MalformedPacket),
        (b"\x7f\x00", Code::MalformedPacket),
        (b"\x26\0\x01a", Code::MalformedPacket),
        (b"\x26\0\x01\0\0\x01b", Code::MalformedPacket),
        (b"\x03\0\x01\xff", Code::MalformedPacket),
        (b"\x03\0\x03\xed\xa0\x80", Code::MalformedPacket),
    ] {
        let body = [&b"\0\x01a"[..], &[byte(properties.len())], properties, b"body"].concat();
        check(Version::V5, &frame(0x30, &body), code);
    }
    // More properties than packet.
    check(Version::V5, &frame(0x30, b"\0\x01a\x7f\x01\x01"), Code::MalformedPacket);
    check(Version::V5, &frame(0x30, b"\0\x01a\xff\xff\xff\xff\x7f"), Code::MalformedPacket);
    check(Version::V5, &frame(0x30, b"\0\x01a"), Code::MalformedPacket);
}

/// Empty user properties: the most that fit into so few bytes.
fn pairs(count: usize) -> Vec<u8> {
    [0x26, 0, 0, 0, 0].repeat(count)
}

/// One user property that makes properties of so many bytes.
fn long_pair(bytes: usize) -> Vec<u8> {
    let value = vec![b'v'; bytes - 5];
    [b"\x26\0\0", &u16::try_from(value.len()).unwrap().to_be_bytes()[..], &value].concat()
}

/// Properties with their length before them.
fn sized(properties: &[u8]) -> Vec<u8> {
    // The frame of a packet is its first byte, a length of the same kind, and the rest.
    frame(0, properties)[1..].to_vec()
}

/// Every packet of 5.0 that has properties, with these; but CONNECT.
fn with_properties(properties: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let sized = sized(properties);
    let packet = |first: u8, head: &[u8], tail: &[u8]| frame(first, &[head, &sized, tail].concat());
    vec![
        ("PUBLISH", packet(0x30, b"\0\x01a", b"body")),
        ("PUBLISH QoS 1", packet(0x32, b"\0\x01a\0\x01", b"body")),
        ("PUBACK", packet(0x40, b"\0\x01\x10", b"")),
        ("PUBREC", packet(0x50, b"\0\x01\x10", b"")),
        ("PUBREL", packet(0x62, b"\0\x01\0", b"")),
        ("PUBCOMP", packet(0x70, b"\0\x01\0", b"")),
        ("SUBSCRIBE", packet(0x82, b"\0\x01", b"\0\x01a\0")),
        ("UNSUBSCRIBE", packet(0xa2, b"\0\x01", b"\0\x01a")),
        ("DISCONNECT", packet(0xe0, b"\0", b"")),
        ("AUTH", packet(0xf0, b"\x18", b"")),
    ]
}

/// CONNECT with properties of its own and of its will.
fn hello_with(properties: &[u8], will: &[u8]) -> Vec<u8> {
    let (properties, will) = (sized(properties), sized(will));
    frame(
        0x10,
        &[b"\0\x04MQTT\x05\x06\0\x3c", &properties[..], b"\0\x01a", &will, b"\0\x01t\0\x01b"].concat(),
    )
}

#[test]
fn no_packet_has_more_properties_or_longer_ones_than_the_limits() {
    let (many, long) = (pairs(PROPERTIES_MAX), long_pair(PROPERTIES_BYTES_MAX));
    for fits in [&many, &long] {
        for (name, bytes) in with_properties(fits) {
            let (packets, end) = feed(&mut welcomed(Version::V5), &bytes);
            // AUTH wants a method; that it is read so far is enough.
            assert!(packets.len() == 1 || (name == "AUTH" && end.is_some()), "{name}: {end:?}");
            assert!(!matches!(end, Some(CloseReason::Properties(_))), "{name}: {end:?}");
        }
        let (packets, end) = feed(&mut Front::new(MAX), &hello_with(fits, fits));
        assert!(packets.len() == 1, "{end:?}");
    }
    for bad in [pairs(PROPERTIES_MAX + 1), long_pair(PROPERTIES_BYTES_MAX + 1), pairs(2000)] {
        for (name, bytes) in with_properties(&bad) {
            let (packets, end) = feed(&mut welcomed(Version::V5), &bytes);
            assert!(packets.is_empty() && matches!(end, Some(CloseReason::Properties(_))), "{name}: {end:?}");
            check(Version::V5, &bytes, Code::QuotaExceeded);
        }
        for bytes in [hello_with(&bad, b""), hello_with(b"", &bad), hello_with(&many, &bad)] {
            check_stranger(&bytes, Some(Code::QuotaExceeded), &[0x20, 3, 0, 0x97, 0]);
        }
    }
}

/// What no topic may hold, as UTF-8.
const FORBIDDEN: [&str; 6] = ["\u{1}", "\u{1f}", "\u{7f}", "\u{9f}", "\u{fdd0}", "\u{1ffff}"];

#[test]
fn topics_with_control_characters_or_non_characters_are_refused_as_topics() {
    for character in FORBIDDEN {
        let topic = format!("x/{character}y");
        let text = [&[0, byte(topic.len())], topic.as_bytes()].concat();
        for first in [0x30_u8, 0x31] {
            check_all(&frame(first, &[&text[..], b"\0"].concat()), Code::TopicInvalid);
        }
        check_all(&frame(0x32, &[&text[..], b"\0\x01\0"].concat()), Code::TopicInvalid);
        check_all(&frame(0x34, &[&text[..], b"\0\x01\0"].concat()), Code::TopicInvalid);
        // By an alias, as a response topic, and in a string that subscribers of 5.0 would get.
        check(Version::V5, &frame(0x30, &[&text[..], b"\x03\x23\0\x01"].concat()), Code::TopicInvalid);
        let answer = [b"\0\x01a", &sized(&[&[8][..], &text].concat())[..]].concat();
        check(Version::V5, &frame(0x30, &answer), Code::MalformedPacket);
        for string in [[&[3][..], &text].concat(), [b"\x26\0\x01n", &text[..]].concat()] {
            let body = [b"\0\x01a", &sized(&string)[..]].concat();
            check(Version::V5, &frame(0x30, &body), Code::MalformedPacket);
        }
        // Last wills.
        let hello = |level: u8, before: &[u8], will: &[u8]| {
            let head = [b"\0\x04MQTT", &[level, 6, 0, 60][..], before, b"\0\x01a", will, &text, b"\0\x01b"];
            frame(0x10, &head.concat())
        };
        check_stranger(&hello(5, b"\0", b"\0"), Some(Code::TopicInvalid), &[0x20, 3, 0, 0x90, 0]);
        check_stranger(&hello(4, b"", b""), Some(Code::TopicInvalid), &[]);
    }
}

#[test]
fn filters_with_control_characters_or_non_characters_are_refused() {
    for character in FORBIDDEN {
        for filter in [format!("x/{character}"), format!("{character}/#"), format!("$share/{character}/a")] {
            let text = [&[0, byte(filter.len())], filter.as_bytes()].concat();
            for version in VERSIONS {
                let head: &[u8] = if version == Version::V5 { b"\0\x01\0" } else { b"\0\x01" };
                check(version, &frame(0x82, &[head, &text, b"\0"].concat()), Code::TopicInvalid);
                check(version, &frame(0xa2, &[head, &text].concat()), Code::TopicInvalid);
            }
        }
    }
}

#[test]
fn a_body_that_is_not_the_text_it_is_said_to_be_is_refused() {
    check(Version::V5, &frame(0x30, b"\0\x01a\x02\x01\x01\xff"), Code::PayloadFormatInvalid);
}

#[test]
fn an_alias_that_has_no_topic_is_refused() {
    check(Version::V5, &frame(0x30, b"\0\0\x03\x23\0\x01"), Code::ProtocolError);
}

#[test]
fn aliases_for_more_topics_than_a_quota_are_refused() {
    let topic = [b'x'; 1500];
    let publish =
        |alias: u8| frame(0x30, &[&1500_u16.to_be_bytes()[..], &topic, b"\x03\x23\0", &[alias]].concat());
    check(Version::V5, &[publish(1), publish(1), publish(2)].concat(), Code::QuotaExceeded);
}

#[test]
fn what_is_wrong_behind_a_thousand_right_filters_is_refused() {
    for (wrong, code) in [
        (&b"\0"[..], Code::MalformedPacket),
        (b"\0\x02a", Code::MalformedPacket),
        (b"\0\x01a\x03", Code::MalformedPacket),
        (b"\0\x01\xff\0", Code::MalformedPacket),
        (b"\0\x01\0\0", Code::MalformedPacket),
    ] {
        let right = b"\0\x01a\0".repeat(1000);
        check(Version::V5, &frame(0x82, &[b"\0\x01\0", &right[..], wrong].concat()), code);
        check(Version::V311, &frame(0x82, &[b"\0\x01", &right[..], wrong].concat()), code);
    }
}

#[test]
fn subscribes_that_are_wrong_are_refused() {
    for (body, code) in [
        (&b"\0\x01"[..], Code::ProtocolError),
        (b"\0", Code::MalformedPacket),
        (b"\0\x01\0\x01a", Code::MalformedPacket),
        (b"\0\x01\0\x01a\x03", Code::MalformedPacket),
        (b"\0\x01\0\x01a\x04", Code::MalformedPacket),
        (b"\0\x01\0\x01a\x10", Code::MalformedPacket),
        (b"\0\x01\0\x01a\x80", Code::MalformedPacket),
        (b"\0\x01\0\x02a", Code::MalformedPacket),
        (b"\0\x01\0\x01\0\0", Code::MalformedPacket),
        (b"\0\x01\0\x01\xff\0", Code::MalformedPacket),
        (b"\0\x01\0\x01a\0\0", Code::MalformedPacket),
    ] {
        check(Version::V31, &frame(0x82, body), code);
        check(Version::V311, &frame(0x82, body), code);
    }
    for (body, code) in [
        (&b"\0\x01\0"[..], Code::ProtocolError),
        (b"\0\x01", Code::MalformedPacket),
        (b"\0\x01\0\0\x01a\x03", Code::MalformedPacket),
        (b"\0\x01\0\0\x01a\x30", Code::MalformedPacket),
        (b"\0\x01\0\0\x01a\x40", Code::MalformedPacket),
        (b"\0\x01\0\0\x01a\x80", Code::MalformedPacket),
        (b"\0\x01\0\0\x01\0\0", Code::MalformedPacket),
        (b"\0\x01\x02\x0b\x00\0\x01a\0", Code::ProtocolError),
        (b"\0\x01\x04\x0b\x01\x0b\x02\0\x01a\0", Code::ProtocolError),
        (b"\0\x01\x02\x01\x01\0\x01a\0", Code::MalformedPacket),
        (b"\0\x01\0\0\x0a$share/g/a\x04", Code::ProtocolError),
        (b"\0\x01\0\0\x08$share/g\x00", Code::MalformedPacket),
        (b"\0\x01\0\0\x09$share//a\x00", Code::MalformedPacket),
        (b"\0\x01\0\0\x0b$share/+/aa\x00", Code::MalformedPacket),
    ] {
        check(Version::V5, &frame(0x82, body), code);
    }
}

#[test]
fn unsubscribes_that_are_wrong_are_refused() {
    check(Version::V311, &frame(0xa2, b"\0\x01"), Code::ProtocolError);
    check(Version::V5, &frame(0xa2, b"\0\x01\0"), Code::ProtocolError);
    check(Version::V5, &frame(0xa2, b"\0\x01"), Code::MalformedPacket);
    check(Version::V5, &frame(0xa2, b"\0\x01\x02\x01\x01\0\x01a"), Code::MalformedPacket);
    check_all(&frame(0xa2, b"\0\x01\0\0\0\x01"), Code::MalformedPacket);
    check(Version::V311, &frame(0xa2, b"\0\x01\0\x01\0"), Code::MalformedPacket);
}

#[test]
fn disconnects_and_auths_that_are_wrong_are_refused() {
    for (first, body, code) in [
        (0xe0_u8, &b"\x01"[..], Code::MalformedPacket),
        (0xe0, b"\0\x05\x11\0\0\0", Code::MalformedPacket),
        (0xe0, b"\0\x05\x11\0\0\0\x01\0", Code::MalformedPacket),
        (0xe0, b"\0\x0a\x11\0\0\0\x01\x11\0\0\0\x01", Code::ProtocolError),
        (0xe0, b"\0\x02\x01\x01", Code::ProtocolError),
        (0xe0, b"\0\x04\x1c\0\x01a", Code::ProtocolError),
        (0xf0, b"\x77", Code::MalformedPacket),
        (0xf0, b"\x18\x02\x01\x01", Code::ProtocolError),
    ] {
        check(Version::V5, &frame(first, body), code);
    }
}

/// A stranger's bytes end the connection with this code, and this last word.
fn check_stranger(input: &[u8], expected: Option<Code>, words: &[u8]) {
    let mut front = Front::new(MAX);
    let (packets, end) = feed(&mut front, input);
    let Some(reason) = end else { panic!("{input:02x?} is taken as {packets:?}") };
    assert_eq!(reason.code(), expected, "{input:02x?}: {reason}");
    let mut out = Vec::new();
    front.farewell(&mut out, &reason);
    assert_eq!(out, words, "{input:02x?}: {reason}");
}

#[test]
fn what_is_not_a_connect_is_cut_at_its_first_bytes() {
    for first in (0..=255_u8).filter(|first| first >> 4 != 1) {
        check_stranger(&[first], Some(Code::ProtocolError), &[]);
    }
    check_stranger(b"GET / HTTP/1.1\r\n", Some(Code::ProtocolError), &[]);
    check_stranger(b"\x16\x03\x01\x02\0\x01\0", Some(Code::ProtocolError), &[]);
    check_stranger(b"\x10\x0f\0\x04MX", Some(Code::MalformedPacket), &[]);
    check_stranger(b"\x10\x0f\0\x05", Some(Code::MalformedPacket), &[]);
    check_stranger(b"\x10\x00", Some(Code::MalformedPacket), &[]);
}

#[test]
fn levels_that_are_not_spoken_are_answered_in_words_their_clients_know() {
    let hello = |name: &[u8], level: u8| frame(0x10, &[name, &[level], b"\x02\0\x3c\0\x03abc"].concat());
    let old = [0x20, 2, 0, 1];
    for (name, level) in
        [(&b"\0\x04MQTT"[..], 3), (b"\0\x04MQTT", 0), (b"\0\x04MQTT", 2), (b"\0\x06MQIsdp", 4)]
    {
        check_stranger(&hello(name, level), Some(Code::UnsupportedVersion), &old);
    }
    // With the bit of a bridge, and levels that have none.
    check_stranger(&hello(b"\0\x04MQTT", 0x83), Some(Code::UnsupportedVersion), &old);
    check_stranger(&hello(b"\0\x06MQIsdp", 0x84), Some(Code::UnsupportedVersion), &old);
    check_stranger(&hello(b"\0\x04MQTT", 0x85), Some(Code::UnsupportedVersion), &old);
    check_stranger(&hello(b"\0\x04MQTT", 6), Some(Code::UnsupportedVersion), &[0x20, 3, 0, 0x84, 0]);
}

#[test]
fn connect_flags_that_contradict_themselves_are_refused() {
    for (version, silent) in [(4_u8, true), (5, false)] {
        for flags in [0x03_u8, 0x0a, 0x12, 0x22, 0x1e, 0x1a] {
            let body = [b"\0\x04MQTT", &[version, flags, 0, 60][..], b"\0\0\x01a\0\0\x01a\0\x01a"].concat();
            let words: &[u8] = if silent { &[] } else { &[0x20, 3, 0, 0x81, 0] };
            check_stranger(&frame(0x10, &body), Some(Code::MalformedPacket), words);
        }
    }
    // A password without a user name is a thing of 5.0.
    check_stranger(&frame(0x10, b"\0\x04MQTT\x04\x42\0\x3c\0\x01a\0\x01p"), Some(Code::MalformedPacket), &[]);
    check_stranger(
        &frame(0x10, b"\0\x06MQIsdp\x03\x42\0\x3c\0\x01a\0\x01p"),
        Some(Code::MalformedPacket),
        &[],
    );
    // Reserved bits of the first byte.
    check_stranger(&frame(0x11, b"\0\x04MQTT\x04\x02\0\x3c\0\x01a"), Some(Code::MalformedPacket), &[]);
}

#[test]
fn client_ids_that_must_be_there_are_missed() {
    check_stranger(
        &frame(0x10, b"\0\x06MQIsdp\x03\x02\0\x3c\0\0"),
        Some(Code::ClientIdInvalid),
        &[0x20, 2, 0, 2],
    );
    check_stranger(
        &frame(0x10, b"\0\x04MQTT\x04\x00\0\x3c\0\0"),
        Some(Code::ClientIdInvalid),
        &[0x20, 2, 0, 2],
    );
}

#[test]
fn fields_of_a_connect_that_are_wrong_are_refused() {
    for (rest, code) in [
        // Client id, will topic, will body, user, password: cut short, not text, U+0000.
        (&b"\x02\0\x3c\0\0\x05abc"[..], Code::MalformedPacket),
        (b"\x02\0\x3c\0\0\x01\0", Code::MalformedPacket),
        (b"\x02\0\x3c\0\0\x01\xff", Code::MalformedPacket),
        (b"\x02\0\x3c\0\0\x01a\0", Code::MalformedPacket),
        (b"\x06\0\x3c\0\0\x01a\0\0\x01#\0\x01b", Code::MalformedPacket),
        (b"\x06\0\x3c\0\0\x01a\0\0\0\0\x01b", Code::MalformedPacket),
        (b"\x06\0\x3c\0\0\x01a\0\0\x01t\0\x05b", Code::MalformedPacket),
        (b"\x82\0\x3c\0\0\x01a\0\x01\xff", Code::MalformedPacket),
        (b"\x82\0\x3c\0\0\x01a\0\x01\0", Code::MalformedPacket),
        (b"\x82\0\x3c\0\0\x01a", Code::MalformedPacket),
        (b"\xc2\0\x3c\0\0\x01a\0\x01u\0\x02p", Code::MalformedPacket),
        (b"\x42\0\x3c\0\0\x01a\0\x02p", Code::MalformedPacket),
        (b"\x42\0\x3c\0\0\x01a\0\x01pp", Code::MalformedPacket),
        // Properties.
        (b"\x02\0\x3c\x05\x11\0\0\0", Code::MalformedPacket),
        (b"\x02\0\x3c\x0a\x11\0\0\0\x01\x11\0\0\0\x01\0\x01a", Code::ProtocolError),
        (b"\x02\0\x3c\x03\x21\0\0\0\x01a", Code::ProtocolError),
        (b"\x02\0\x3c\x05\x27\0\0\0\0\0\x01a", Code::ProtocolError),
        (b"\x02\0\x3c\x02\x17\x02\0\x01a", Code::ProtocolError),
        (b"\x02\0\x3c\x02\x19\x02\0\x01a", Code::ProtocolError),
        (b"\x02\0\x3c\x02\x01\x01\0\x01a", Code::ProtocolError),
        (b"\x02\0\x3c\x04\x16\0\x01x\0\x01a", Code::ProtocolError),
        (b"\x02\0\x3c\x07\x26\0\x01\0\0\x01b\0\x01a", Code::MalformedPacket),
        // Will properties.
        (b"\x06\0\x3c\0\0\x01a\x03\x23\0\x01\0\x01t\0\x01b", Code::ProtocolError),
        (b"\x06\0\x3c\0\0\x01a\x04\x01\x01\x01\x01\0\x01t\0\x01b", Code::ProtocolError),
        (b"\x06\0\x3c\0\0\x01a\x02\x01\x01\0\x01t\0\x01\xff", Code::PayloadFormatInvalid),
    ] {
        let body = [b"\0\x04MQTT\x05", rest].concat();
        check_stranger(&frame(0x10, &body), Some(code), &[0x20, 3, 0, code as u8, 0]);
    }
}

#[test]
fn a_client_that_asks_for_reasons_is_told_in_words_if_it_has_room_for_them() {
    let hello = |properties: &[u8]| {
        let len = byte(properties.len());
        frame(0x10, &[b"\0\x04MQTT\x05\x02\0\x3c", &[len][..], properties, b"\0\x01a"].concat())
    };
    let last_word = |hello: &[u8]| {
        let mut front = super::welcomed_by(hello);
        let reason = feed(&mut front, b"\xc0\x01\x00").1.unwrap();
        let mut out = Vec::new();
        front.farewell(&mut out, &reason);
        out
    };
    let words = last_word(&hello(b"\x17\x01"));
    assert!(words.ends_with(b"a packet that has no body has one"), "{words:02x?}");
    assert_eq!(words[..6], [0xe0, 38, 0x81, 36, 0x1f, 0]);
    assert_eq!(last_word(&hello(b"\x17\x01\x27\0\0\0\x10")), [0xe0, 1, 0x81]);
    assert_eq!(last_word(&hello(b"\x17\x00")), [0xe0, 1, 0x81]);
    assert_eq!(last_word(&hello(b"")), [0xe0, 1, 0x81]);
}

#[test]
fn packets_above_the_limit_are_refused_before_they_arrive() {
    for version in VERSIONS {
        let mut front = welcomed(version);
        let (packets, end) = feed(&mut front, b"\x30\xa1\x8d\x06");
        assert!(packets.is_empty() && end == Some(CloseReason::TooLarge), "{end:?}");
    }
    let mut front = Front::new(usize::MAX);
    let mut hello = frame(0x10, &vec![0; HELLO_BYTES_MAX]);
    hello.truncate(4);
    assert_eq!(feed(&mut front, &hello).1, Some(CloseReason::TooLarge));
    let mut front = Front::new(50);
    assert_eq!(feed(&mut front, b"\x10\x40").1, Some(CloseReason::TooLarge));
}

#[test]
fn a_will_of_the_largest_size_fits_before_connect() {
    let body = [&b"\0\x04MQTT\x04\x06\0\x3c\0\x03abc\0\x01t\xff\xff"[..], &[7; 65_535]].concat();
    let mut front = Front::new(MAX);
    let mut input = &frame(0x10, &body)[..];
    let Ok(Some(Packet::Connect(hello))) = front.next(NOW, &mut input) else { panic!() };
    assert_eq!(hello.will.unwrap().message.body.len(), 65_535);
}

#[test]
fn tls_or_http_at_a_listener_that_speaks_neither_is_named_with_what_to_do() {
    for (input, part) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "speaks TLS"),
        (b"\x16\x03\x03\x00\x05hello", "mqtt://"),
        (b"GET /mqtt HTTP/1.1\r\nHost: a\r\n\r\n", "`websocket`"),
    ] {
        // However the bytes arrive.
        for cut in [1, 2, 4, input.len()] {
            let mut front = Front::new(MAX);
            let (_, first) = feed(&mut front, &input[..cut]);
            let reason = first.or_else(|| feed(&mut front, &input[cut..]).1).unwrap();
            // The first letter of HTTP alone is no packet that MQTT begins with.
            let early = input.starts_with(b"GET") && cut < 4;
            assert!(reason.to_string().contains(part) || early, "{cut}: {reason}");
        }
    }
}

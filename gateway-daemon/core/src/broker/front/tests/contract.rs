//! What the front asks of whatever library reads and writes packets, in bytes out of the standards: no line of this names one.
//!
//! A successor of today's library (decision 0050) passes these, `hostile.rs` and `cuts.rs`, or the front does not use it. Clauses are those of "MQTT Version
//! 5.0" and "MQTT Version 3.1.1".

use super::{VERSIONS, feed, frame, one, welcomed, written};
use crate::broker::front::Front;
use crate::broker::packet::{Code, Hello, Packet, Reply, Version, Welcome};

/// What a packet says, in one line.
fn shown(packet: Packet) -> String {
    match packet {
        Packet::Connect(hello) => greeting(&hello),
        Packet::Publish(said) => {
            let message = &said.message;
            let (topic, body) = (message.topic.as_str(), String::from_utf8_lossy(&message.body));
            let properties = message.properties.as_ref().map_or(&b""[..], |all| all.as_bytes());
            let flags = (message.qos as u8, message.retain, said.again);
            format!(
                "publish {} {topic} {body} {flags:?} {:?} {}",
                said.id,
                message.expiry_s,
                properties.escape_ascii()
            )
        }
        Packet::Subscribe { id, wishes, identifier } => {
            let wishes: Vec<String> =
                wishes.map(|wish| format!("{} {:02x}", wish.filter, wish.options.flags())).collect();
            format!("subscribe {id} {identifier:?} {}", wishes.join(", "))
        }
        Packet::Unsubscribe { id, filters } => {
            format!("unsubscribe {id} {}", filters.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn greeting(hello: &Hello) -> String {
    let will = hello.will.as_ref().map(|will| {
        let message = &will.message;
        let properties = message.properties.as_ref().map_or(&b""[..], |all| all.as_bytes());
        format!(
            "{} {} {} {} after {:?} for {:?} {}",
            message.topic.as_str(),
            String::from_utf8_lossy(&message.body),
            message.qos as u8,
            message.retain,
            will.delay,
            message.expiry_s,
            properties.escape_ascii()
        )
    });
    format!(
        "{:?} {} clean {} expiry {} keep-alive {} user {:?} password {:?} takes {} of {:?} aliases {} reasons {} auth {} will {will:?}",
        hello.version,
        hello.client,
        hello.clean,
        hello.expiry_s,
        hello.keep_alive,
        hello.user,
        hello.password.as_deref().map(String::from_utf8_lossy),
        hello.receive_max,
        hello.packet_bytes_max,
        hello.aliases_max,
        hello.wants_reasons,
        hello.authentication_method,
    )
}

/// A CONNECT in each version with all that it can carry (3.1), and with nothing.
#[test]
fn contract_of_a_connect_in_each_version() {
    let check = |body: &[u8], expected: &str| {
        let bytes = frame(0x10, body);
        assert_eq!(shown(one(&mut Front::new(super::MAX), &bytes)), expected, "{}", body.escape_ascii());
    };
    check(
        b"\0\x06MQIsdp\x03\xee\0\x0a\0\x01a\0\x01t\0\x01b\0\x01u\0\x01p",
        "V31 a clean true expiry 0 keep-alive 10 user Some(\"u\") password Some(\"p\") takes 65535 of None aliases 0 reasons false auth false will \
         Some(\"t b 1 true after 0ns for None \")",
    );
    check(
        b"\0\x04MQTT\x04\xd4\xff\xff\0\x02\xc3\xbc\0\x01t\0\x00\0\x01u\0\x02\xff\0",
        "V311 ü clean false expiry 4294967295 keep-alive 65535 user Some(\"u\") password Some(\"\u{fffd}\\0\") takes 65535 of None aliases 0 reasons false \
         auth false will Some(\"t  2 false after 0ns for None \")",
    );
    check(
        b"\0\x04MQTT\x04\x02\0\0\0\0",
        "V311  clean true expiry 0 keep-alive 0 user None password None takes 65535 of None aliases 0 reasons false auth false will None",
    );
    // Session expiry, receive maximum, maximum packet size, topic alias maximum, no problem information; the will's delay, expiry, content type and pairs.
    check(
        b"\0\x04MQTT\x05\xe6\0\x3c\x12\x11\0\0\0\x4d\x21\0\x03\x27\0\0\x03\xe8\x22\0\x05\x17\0\0\x01c\
          \x17\x18\0\0\0\x09\x02\0\0\0\x08\x03\0\x01x\x26\0\x01b\0\x011\x01\x01\0\x01w\0\x01b\0\x01u\0\x01p",
        "V5 c clean true expiry 77 keep-alive 60 user Some(\"u\") password Some(\"p\") takes 3 of Some(1000) aliases 5 reasons false auth false will \
         Some(\"w b 0 true after 9s for Some(8) \\\\x01\\\\x01\\\\x03\\\\x00\\\\x01x&\\\\x00\\\\x01b\\\\x00\\\\x011\")",
    );
}

/// Every packet of a client behind its CONNECT, in bytes and in meaning.
#[test]
fn contract_of_what_clients_send() {
    let cases: &[(&[Version], &[u8], &str)] = &[
        (&VERSIONS, b"\xc0\0", "Ping"),
        (&VERSIONS, b"\xe0\0", "Disconnect { with_will: false, expiry_s: None }"),
        (&VERSIONS, b"\x40\x02\x12\x34", "Acknowledged(4660)"),
        (&VERSIONS, b"\x50\x02\0\x01", "Received { id: 1, refused: false }"),
        (&VERSIONS, b"\x62\x02\xff\xff", "Release(65535)"),
        (&VERSIONS, b"\x70\x02\0\x07", "Completed(7)"),
        (&VERSIONS[..2], b"\x30\x06\0\x03a/b1", "publish 0 a/b 1 (0, false, false) None "),
        (&VERSIONS[..2], b"\x3b\x07\0\x01t\0\x0912", "publish 9 t 12 (1, true, true) None "),
        (&VERSIONS[..2], b"\x34\x06\0\x01t\0\x0a!", "publish 10 t ! (2, false, false) None "),
        (&VERSIONS[..2], b"\x82\x0e\0\x05\0\x03a/#\x02\0\x01b\0\0\0", ""),
        (&VERSIONS[..2], b"\x82\x0c\0\x05\0\x03a/#\x02\0\x01b\0", "subscribe 5 None a/# 02, b 00"),
        (&VERSIONS[..2], b"\xa2\x0a\0\x03\0\x01a\0\x03b/#", "unsubscribe 3 a, b/#"),
        (&VERSIONS[2..], b"\x30\x07\0\x03a/b\x001", "publish 0 a/b 1 (0, false, false) None "),
        (
            &VERSIONS[2..],
            b"\x32\x13\0\x01t\0\x09\x0c\x02\0\0\0\x3c\x26\0\x01k\0\x01v!",
            "publish 9 t ! (1, false, false) Some(60) &\\x00\\x01k\\x00\\x01v",
        ),
        (&VERSIONS[2..], b"\x40\x03\0\x07\x80", "Acknowledged(7)"),
        (&VERSIONS[2..], b"\x50\x03\0\x07\x97", "Received { id: 7, refused: true }"),
        (&VERSIONS[2..], b"\x82\x0c\0\x06\x03\x0b\x80\x01\0\x03a/b\x2d", "subscribe 6 Some(128) a/b 2d"),
        (&VERSIONS[2..], b"\xa2\x07\0\x03\0\0\x02a/", "unsubscribe 3 a/"),
        (&VERSIONS[2..], b"\xa2\x06\0\x03\0\0\x01a", "unsubscribe 3 a"),
        (
            &VERSIONS[2..],
            b"\xe0\x07\x04\x05\x11\0\0\0\x05",
            "Disconnect { with_will: true, expiry_s: Some(5) }",
        ),
        (&VERSIONS[2..], b"\xf0\x0a\x18\x08\x15\0\x05SCRAM", "Auth"),
    ];
    for (versions, bytes, expected) in cases {
        for version in *versions {
            let (packets, end) = feed(&mut welcomed(*version), bytes);
            match (packets.len(), end) {
                // What the standards forbid ends the connection, and nothing of it is taken.
                (0, Some(_)) => assert_eq!(*expected, "", "{version:?} {}", bytes.escape_ascii()),
                (1, None) => {
                    for packet in packets {
                        assert_eq!(shown(packet), *expected, "{version:?} {}", bytes.escape_ascii());
                    }
                }
                other => panic!("{version:?} {}: {other:?}", bytes.escape_ascii()),
            }
        }
    }
}

/// What the broker answers, byte for byte (3.2, 2.4).
#[test]
fn contract_of_what_the_broker_writes() {
    let welcome = || Welcome {
        session_present: true,
        receive_max: 20,
        packet_bytes_max: 1000,
        aliases_max: 10,
        ..Welcome::default()
    };
    for version in [Version::V31, Version::V311] {
        let mut front = Front::new(super::MAX);
        let _ = feed(&mut front, super::hello_bytes(version));
        // 3.1 has no word for a session that is there (3.1.1, 3.2.2.2; "MQTT V3.1 Protocol Specification", 3.2).
        let present = u8::from(version == Version::V311);
        assert_eq!(written(&mut front, Reply::Connected(welcome())), [0x20, 2, present, 0], "{version:?}");
        let mut front = Front::new(super::MAX);
        let _ = feed(&mut front, super::hello_bytes(version));
        assert_eq!(written(&mut front, Reply::Refused(Code::BadUserOrPassword, "")), [0x20, 2, 0, 4]);
    }
    let mut front = Front::new(super::MAX);
    let _ = feed(&mut front, super::hello_bytes(Version::V5));
    let bytes = written(&mut front, Reply::Connected(welcome()));
    assert_eq!(bytes[..4], [0x20, super::byte(bytes.len() - 2), 1, 0]);
    for property in [&b"\x21\0\x14"[..], b"\x27\0\0\x03\xe8", b"\x22\0\x0a"] {
        assert!(
            bytes.windows(property.len()).any(|part| part == property),
            "{property:02x?} in {bytes:02x?}"
        );
    }
}

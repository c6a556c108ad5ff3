//! Packets to a client, as the library reads them.

use std::sync::Arc;

use mqtt_protocol_core::mqtt::packet::{
    PayloadFormat, Property, Qos as WireQos, SubscriptionIdentifier, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::ConnectReasonCode;

use super::{NOW, VERSIONS, byte, frame, welcomed, welcomed_by, written};
use crate::broker::front::Front;
use crate::broker::packet::{Code, Delivery, Message, Reply, Version, Welcome};
use crate::broker::properties::{Writer, id};
use crate::broker::topic::TopicName;
use crate::uplink::row::Qos;

fn delivery(topic: &str, body: &[u8], qos: Qos) -> Delivery {
    let message = Message {
        topic: TopicName::new(topic).unwrap(),
        body: body.into(),
        qos,
        retain: false,
        properties: None,
        at: NOW,
        expiry_s: None,
    };
    Delivery { message: Arc::new(message), qos, retain: false, identifiers: Box::default() }
}

fn rich(topic: &str) -> Delivery {
    let mut delivery = delivery(topic, b"body", Qos::AtLeastOnce);
    let message = Arc::get_mut(&mut delivery.message).unwrap();
    message.expiry_s = Some(60);
    let mut properties = Writer::default();
    properties.text();
    properties.short(id::CONTENT_TYPE, b"text");
    properties.short(id::RESPONSE_TOPIC, b"answer");
    properties.short(id::CORRELATION, &[0, 255]);
    for (name, value) in [("z", "1"), ("a", "2"), ("z", "")] {
        properties.user(name.as_bytes(), value.as_bytes());
    }
    message.properties = properties.finish();
    delivery.identifiers = Box::new([1, 300, 268_435_455]);
    delivery
}

fn publish(delivery: &Delivery) -> Reply<'_> {
    Reply::Publish { delivery, id: 77, again: true, age_s: 25 }
}

/// Body of a packet, its first byte checked.
fn body(bytes: &[u8], first: u8) -> &[u8] {
    assert_eq!(bytes[0], first, "{bytes:02x?}");
    let header = 2 + bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    &bytes[header..]
}

fn parsed_v5(bytes: &[u8]) -> v5_0::Publish {
    let (packet, consumed) = v5_0::Publish::parse(bytes[0] & 15, body(bytes, bytes[0]).into()).unwrap();
    assert_eq!(consumed, body(bytes, bytes[0]).len());
    packet
}

#[test]
fn publishes_of_3_x_lose_what_only_5_has() {
    for version in [Version::V31, Version::V311] {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let mut delivery = Delivery { qos, ..rich("höhe/1") };
            delivery.retain = qos == Qos::AtMostOnce;
            let bytes = written(&mut welcomed(version), publish(&delivery));
            let (packet, _) = v3_1_1::Publish::parse(bytes[0] & 15, body(&bytes, bytes[0]).into()).unwrap();
            assert_eq!((packet.topic_name(), packet.payload().as_slice()), ("höhe/1", &b"body"[..]));
            assert_eq!((packet.qos() as u8, packet.retain()), (qos as u8, delivery.retain));
            assert_eq!(packet.dup(), qos != Qos::AtMostOnce);
            assert_eq!(packet.packet_id(), (qos != Qos::AtMostOnce).then_some(77));
        }
    }
}

#[test]
fn publishes_of_5_carry_everything_in_order_and_less_expiry_than_they_had() {
    let delivery = rich("t");
    let packet = parsed_v5(&written(&mut welcomed(Version::V5), publish(&delivery)));
    assert_eq!((packet.topic_name(), packet.payload().as_slice()), ("t", &b"body"[..]));
    assert_eq!((packet.qos(), packet.packet_id(), packet.dup()), (WireQos::AtLeastOnce, Some(77), true));
    let mut users = Vec::new();
    let mut identifiers = Vec::new();
    for property in packet.props() {
        match property {
            Property::PayloadFormatIndicator(format) => assert_eq!(format.val(), PayloadFormat::String as u8),
            Property::MessageExpiryInterval(expiry) => assert_eq!(expiry.val(), 35),
            Property::ContentType(kind) => assert_eq!(kind.val(), "text"),
            Property::ResponseTopic(topic) => assert_eq!(topic.val(), "answer"),
            Property::CorrelationData(bytes) => assert_eq!(bytes.val(), [0, 255]),
            Property::UserProperty(pair) => users.push((pair.key(), pair.val())),
            Property::SubscriptionIdentifier(identifier) => identifiers.push(identifier.val()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(users, [("z", "1"), ("a", "2"), ("z", "")]);
    assert_eq!(identifiers, [1, 300, 268_435_455]);
    assert!(SubscriptionIdentifier::new(268_435_455).is_ok());
    assert_eq!(packet.props().len(), 11);
}

#[test]
fn bodies_of_every_length_have_the_right_remaining_length() {
    for size in [0, 1, 120, 121, 122, 123, 124, 125, 16_378, 16_379, 16_380, 16_381, 70_000, 2_097_151] {
        for version in VERSIONS {
            let delivery = delivery("t", &vec![1; size], Qos::AtMostOnce);
            let bytes = written(
                &mut welcomed(version),
                Reply::Publish { delivery: &delivery, id: 0, again: false, age_s: 0 },
            );
            let topic_and_properties = if version == Version::V5 { 4 } else { 3 };
            assert_eq!(frame(0x30, body(&bytes, 0x30)), bytes, "{size}");
            assert_eq!(body(&bytes, 0x30).len(), size + topic_and_properties);
        }
    }
}

/// A client of 5.0 with these properties of CONNECT.
fn client(properties: &[u8]) -> Front {
    let len = byte(properties.len());
    welcomed_by(&frame(0x10, &[b"\0\x04MQTT\x05\x02\0\x3c", &[len][..], properties, b"\0\x01a"].concat()))
}

fn alias(packet: &v5_0::Publish) -> Option<u16> {
    packet.props().iter().find_map(|property| match property {
        Property::TopicAlias(alias) => Some(alias.val()),
        _ => None,
    })
}

#[test]
fn the_first_topics_get_the_aliases_that_a_client_allows() {
    let mut front = client(b"\x22\0\x02");
    let mut send = |topic: &str| {
        let delivery = delivery(topic, b"", Qos::AtLeastOnce);
        let packet = parsed_v5(&written(&mut front, publish(&delivery)));
        (packet.topic_name().to_owned(), alias(&packet))
    };
    assert_eq!(send("first"), ("first".to_owned(), Some(1)));
    assert_eq!(send("first"), (String::new(), Some(1)));
    assert_eq!(send("second"), ("second".to_owned(), Some(2)));
    assert_eq!(send("third"), ("third".to_owned(), None));
    assert_eq!(send("second"), (String::new(), Some(2)));
    assert_eq!(send("abc"), ("abc".to_owned(), None), "too short to gain by one");
}

#[test]
fn an_alias_whose_publish_was_not_sent_is_not_given() {
    let mut front = client(b"\x22\0\x01\x27\0\0\0\x20");
    let mut out = Vec::new();
    let large = delivery("topic", &[0; 40], Qos::AtLeastOnce);
    assert!(!front.encode(&mut out, publish(&large)));
    assert_eq!(out, b"", "nothing of it was written");
    let small = delivery("topic", b"1", Qos::AtLeastOnce);
    let packet = parsed_v5(&written(&mut front, publish(&small)));
    assert_eq!((packet.topic_name(), alias(&packet)), ("topic", Some(1)));
}

#[test]
fn a_client_gets_no_alias_that_it_does_not_allow() {
    for version in VERSIONS {
        let delivery = delivery("topic", b"", Qos::AtMostOnce);
        let mut front = welcomed(version);
        let first = written(&mut front, publish(&delivery));
        assert_eq!(written(&mut front, publish(&delivery)), first);
    }
}

#[test]
fn nothing_larger_than_a_client_takes_is_written() {
    let delivery = delivery("t", b"0123456789", Qos::AtMostOnce);
    let size = written(&mut client(b""), publish(&delivery)).len();
    for (max, fits) in [(size - 1, false), (size, true)] {
        let mut front = client(&[0x27, 0, 0, 0, byte(max)]);
        let mut out = b"before".to_vec();
        assert_eq!(front.encode(&mut out, publish(&delivery)), fits);
        assert_eq!(out.len(), 6 + if fits { size } else { 0 });
    }
    let mut front = client(&[0x27, 0, 0, 0, 3]);
    assert!(!front.encode(&mut Vec::new(), Reply::Acknowledge(1, Code::Success)));
    assert!(front.encode(&mut Vec::new(), Reply::Pong));
}

#[test]
fn acknowledgements_have_a_code_where_there_is_one_to_say() {
    for version in VERSIONS {
        let mut front = welcomed(version);
        let v5 = version == Version::V5;
        let mut check = |reply, plain: &[u8], coded: &[u8]| {
            assert_eq!(written(&mut front, reply), if v5 { coded } else { plain });
        };
        check(Reply::Acknowledge(0x1234, Code::Success), b"\x40\x02\x12\x34", b"\x40\x02\x12\x34");
        check(Reply::Acknowledge(1, Code::NotAuthorized), b"\x40\x02\0\x01", b"\x40\x03\0\x01\x87");
        check(Reply::Receive(1, Code::Success), b"\x50\x02\0\x01", b"\x50\x02\0\x01");
        check(Reply::Receive(1, Code::QuotaExceeded), b"\x50\x02\0\x01", b"\x50\x03\0\x01\x97");
        check(Reply::Release(1, Code::Success), b"\x62\x02\0\x01", b"\x62\x02\0\x01");
        check(Reply::Release(1, Code::PacketIdUnknown), b"\x62\x02\0\x01", b"\x62\x03\0\x01\x92");
        check(Reply::Complete(1, Code::Success), b"\x70\x02\0\x01", b"\x70\x02\0\x01");
        check(Reply::Complete(1, Code::PacketIdUnknown), b"\x70\x02\0\x01", b"\x70\x03\0\x01\x92");
        check(Reply::Pong, b"\xd0\0", b"\xd0\0");
    }
}

#[test]
fn subscriptions_are_answered_in_the_words_of_the_version() {
    let granted = || vec![Ok(Qos::AtMostOnce), Err(Code::NotAuthorized), Ok(Qos::ExactlyOnce)];
    for (version, codes) in [
        (Version::V31, &b"\x90\x05\0\x07\0\0\x02"[..]),
        (Version::V311, b"\x90\x05\0\x07\0\x80\x02"),
        (Version::V5, b"\x90\x06\0\x07\0\0\x87\x02"),
    ] {
        assert_eq!(written(&mut welcomed(version), Reply::Subscribed { id: 7, granted: granted() }), codes);
    }
    let codes = || vec![Code::Success, Code::NoSubscriptionExisted];
    for (version, bytes) in [
        (Version::V31, &b"\xb0\x02\0\x07"[..]),
        (Version::V311, b"\xb0\x02\0\x07"),
        (Version::V5, b"\xb0\x05\0\x07\0\0\x11"),
    ] {
        assert_eq!(written(&mut welcomed(version), Reply::Unsubscribed { id: 7, codes: codes() }), bytes);
    }
}

#[test]
fn a_welcome_says_what_a_client_of_5_cannot_know() {
    let welcome = || Welcome {
        session_present: true,
        assigned: Some("auto-1".into()),
        expiry_s: Some(9),
        keep_alive: Some(60),
        receive_max: 20,
        packet_bytes_max: 1000,
        aliases_max: 10,
    };
    assert_eq!(written(&mut welcomed(Version::V311), Reply::Connected(welcome())), b"\x20\x02\x01\0");
    assert_eq!(written(&mut welcomed(Version::V31), Reply::Connected(welcome())), b"\x20\x02\0\0");
    let bytes = written(&mut welcomed(Version::V5), Reply::Connected(welcome()));
    let (packet, consumed) = v5_0::Connack::parse(body(&bytes, 0x20)).unwrap();
    assert_eq!(consumed, bytes.len() - 2);
    assert!(packet.session_present() && packet.reason_code() == ConnectReasonCode::Success);
    for property in packet.props() {
        match property {
            Property::AssignedClientIdentifier(client) => assert_eq!(client.val(), "auto-1"),
            Property::SessionExpiryInterval(expiry) => assert_eq!(expiry.val(), 9),
            Property::ServerKeepAlive(seconds) => assert_eq!(seconds.val(), 60),
            Property::ReceiveMaximum(max) => assert_eq!(max.val(), 20),
            Property::MaximumPacketSize(max) => assert_eq!(max.val(), 1000),
            Property::TopicAliasMaximum(max) => assert_eq!(max.val(), 10),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(packet.props().len(), 6);
    let silent = Welcome { receive_max: u16::MAX, ..Welcome::default() };
    assert_eq!(written(&mut welcomed(Version::V5), Reply::Connected(silent)), b"\x20\x03\0\0\0");
}

#[test]
fn refusals_are_translated_for_3_x() {
    for (code, old) in [
        (Code::UnsupportedVersion, 1),
        (Code::ClientIdInvalid, 2),
        (Code::ServerUnavailable, 3),
        (Code::ServerBusy, 3),
        (Code::QuotaExceeded, 3),
        (Code::BadUserOrPassword, 4),
        (Code::NotAuthorized, 5),
    ] {
        for version in VERSIONS {
            let mut front = Front::new(1000);
            front.next(NOW, &mut super::hello_bytes(version)).unwrap().unwrap();
            let bytes = written(&mut front, Reply::Refused(code, "words"));
            match version {
                Version::V5 => assert_eq!(bytes, [0x20, 3, 0, code as u8, 0]),
                _ => assert_eq!(bytes, [0x20, 2, 0, old]),
            }
            let mut out = Vec::new();
            front.farewell(&mut out, &crate::broker::CloseReason::Refused("words"));
            front.farewell(&mut out, &crate::broker::CloseReason::Shutdown);
            assert_eq!(out, b"", "who was refused is told nothing more");
        }
    }
}

#[test]
fn goodbyes_are_said_in_5_only() {
    for version in VERSIONS {
        let bytes = written(&mut welcomed(version), Reply::Goodbye(Code::SessionTakenOver, ""));
        assert_eq!(bytes, if version == Version::V5 { &b"\xe0\x01\x8e"[..] } else { b"" });
    }
}

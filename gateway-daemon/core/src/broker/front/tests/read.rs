//! Packets of a client that are taken, as the library writes them.

use mqtt_protocol_core::mqtt::packet::{
    ContentType, CorrelationData, MessageExpiryInterval, PayloadFormat, PayloadFormatIndicator, Property,
    Qos as WireQos, ReasonString, ResponseTopic, RetainHandling, SessionExpiryInterval, SubEntry, SubOpts,
    SubscriptionIdentifier, TopicAlias, UserProperty, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{DisconnectReasonCode, PubrecReasonCode};

use super::{NOW, VERSIONS, frame, one, welcomed};
use crate::broker::packet::{Options, Packet, Replay, Said, Version};
use crate::uplink::row::Qos;

fn said(packet: Packet) -> Said {
    match packet {
        Packet::Publish(said) => said,
        other => panic!("{other:?}"),
    }
}

#[test]
fn publishes_of_3_1_1_are_read_at_every_qos() {
    for (wire, qos) in [
        (WireQos::AtMostOnce, Qos::AtMostOnce),
        (WireQos::AtLeastOnce, Qos::AtLeastOnce),
        (WireQos::ExactlyOnce, Qos::ExactlyOnce),
    ] {
        for size in [0, 1, 100, 200, 20_000] {
            let again = qos != Qos::AtMostOnce && size == 1;
            let body = vec![0xa5_u8; size];
            let mut publish =
                v3_1_1::Publish::builder().topic_name("höhe/1").unwrap().qos(wire).payload(body.clone());
            publish = publish.dup(again).retain(size == 0);
            if qos != Qos::AtMostOnce {
                publish = publish.packet_id(0x1234);
            }
            let bytes = publish.build().unwrap().to_continuous_buffer();
            let said = said(one(&mut welcomed(Version::V311), &bytes));
            assert_eq!((said.message.topic.as_str(), &*said.message.body), ("höhe/1", &body[..]));
            assert_eq!((said.message.qos, said.message.retain, said.again), (qos, size == 0, again));
            assert_eq!(said.id, if qos == Qos::AtMostOnce { 0 } else { 0x1234 });
            assert_eq!((said.message.at, said.message.properties, said.message.expiry_s), (NOW, None, None));
        }
    }
}

fn publish_v5(topic: &str, props: Vec<Property>) -> Vec<u8> {
    let publish = v5_0::Publish::builder().topic_name(topic).unwrap().qos(WireQos::AtLeastOnce).packet_id(9);
    publish.payload("body").props(props).build().unwrap().to_continuous_buffer()
}

#[test]
fn properties_of_a_publish_are_read_in_order() {
    let bytes = publish_v5(
        "t",
        vec![
            Property::UserProperty(UserProperty::new("z", "1").unwrap()),
            Property::PayloadFormatIndicator(PayloadFormatIndicator::new(PayloadFormat::String).unwrap()),
            Property::MessageExpiryInterval(MessageExpiryInterval::new(60).unwrap()),
            Property::UserProperty(UserProperty::new("a", "2").unwrap()),
            Property::ContentType(ContentType::new("text/plain").unwrap()),
            Property::ResponseTopic(ResponseTopic::new("answers/1").unwrap()),
            Property::CorrelationData(CorrelationData::new(b"\0\x01").unwrap()),
            Property::UserProperty(UserProperty::new("z", "1").unwrap()),
        ],
    );
    let said = said(one(&mut welcomed(Version::V5), &bytes));
    assert_eq!((said.id, said.message.expiry_s, &*said.message.body), (9, Some(60), &b"body"[..]));
    let properties = said.message.properties.unwrap();
    let pairs = &b"\x26\0\x01z\0\x011\x26\0\x01a\0\x012\x26\0\x01z\0\x011"[..];
    let others = &b"\x01\x01\x03\0\x0atext/plain\x08\0\x09answers/1\x09\0\x02\0\x01"[..];
    assert_eq!(
        properties.as_bytes(),
        [others, pairs].concat(),
        "those that stand once, then pairs in their order"
    );
    assert!(properties.is_text());
}

#[test]
fn a_publish_without_properties_has_none() {
    let said = said(one(&mut welcomed(Version::V5), &publish_v5("t", vec![])));
    assert_eq!((said.message.properties, said.message.expiry_s), (None, None));
}

#[test]
fn aliases_of_a_client_stand_for_the_topic_said_last() {
    let alias = |alias| vec![Property::TopicAlias(TopicAlias::new(alias).unwrap())];
    let mut front = welcomed(Version::V5);
    let mut topic = |topic, number| {
        said(one(&mut front, &publish_v5(topic, alias(number)))).message.topic.as_str().to_owned()
    };
    assert_eq!(topic("first", 1), "first");
    assert_eq!(topic("tenth", 10), "tenth");
    assert_eq!(topic("", 1), "first");
    assert_eq!(topic("other", 1), "other");
    assert_eq!((topic("", 1), topic("", 10)), ("other".to_owned(), "tenth".to_owned()));
}

#[test]
fn acknowledgements_are_read_in_every_form() {
    for version in VERSIONS {
        let mut front = welcomed(version);
        assert!(matches!(one(&mut front, b"\x40\x02\x12\x34"), Packet::Acknowledged(0x1234)));
        assert!(matches!(
            one(&mut front, b"\x50\x02\x12\x34"),
            Packet::Received { id: 0x1234, refused: false }
        ));
        assert!(matches!(one(&mut front, b"\x62\x02\x12\x34"), Packet::Release(0x1234)));
        assert!(matches!(one(&mut front, b"\x70\x02\x12\x34"), Packet::Completed(0x1234)));
        assert!(matches!(one(&mut front, b"\xc0\x00"), Packet::Ping));
    }
    // 3.1 repeats them with DUP.
    let mut front = welcomed(Version::V31);
    assert!(matches!(one(&mut front, b"\x6a\x02\x12\x34"), Packet::Release(0x1234)));
    assert!(matches!(one(&mut front, b"\x8a\x06\0\x01\0\x01a\0"), Packet::Subscribe { id: 1, .. }));
    let pubrec = v5_0::Pubrec::builder()
        .packet_id(7)
        .reason_code(PubrecReasonCode::QuotaExceeded)
        .props(vec![Property::ReasonString(ReasonString::new("full").unwrap())])
        .build()
        .unwrap();
    let packet = one(&mut welcomed(Version::V5), &pubrec.to_continuous_buffer());
    assert!(matches!(packet, Packet::Received { id: 7, refused: true }));
    assert!(matches!(
        one(&mut welcomed(Version::V5), b"\x50\x03\0\x07\x10"),
        Packet::Received { id: 7, refused: false }
    ));
    assert!(matches!(one(&mut welcomed(Version::V5), b"\x40\x04\0\x07\x87\0"), Packet::Acknowledged(7)));
}

#[test]
fn subscribes_are_read_with_their_options() {
    let entry = |filter: &str, opts| SubEntry::new(filter, opts).unwrap();
    let opts = SubOpts::new().set_qos(WireQos::ExactlyOnce);
    let plain = v3_1_1::Subscribe::builder().packet_id(5);
    let plain = plain.entries(vec![entry("a/#", opts), entry("$share/g/b", SubOpts::new())]).build().unwrap();
    let Packet::Subscribe { id: 5, wishes, identifier: None } =
        one(&mut welcomed(Version::V311), &plain.to_continuous_buffer())
    else {
        panic!()
    };
    let filters: Vec<_> = wishes.map(|wish| (wish.filter, wish.options.qos)).collect();
    assert_eq!(filters, [("a/#".into(), Qos::ExactlyOnce), ("$share/g/b".into(), Qos::AtMostOnce)]);

    let opts = SubOpts::new().set_qos(WireQos::AtLeastOnce).set_nl(true).set_rap(true);
    let opts = opts.set_rh(RetainHandling::SendRetainedIfNotExists);
    let rich = v5_0::Subscribe::builder()
        .packet_id(6)
        .entries(vec![entry("a", opts), entry("b", SubOpts::new().set_rh(RetainHandling::DoNotSendRetained))])
        .props(vec![
            Property::SubscriptionIdentifier(SubscriptionIdentifier::new(268_435_455).unwrap()),
            Property::UserProperty(UserProperty::new("a", "b").unwrap()),
            Property::UserProperty(UserProperty::new("a", "b").unwrap()),
        ])
        .build()
        .unwrap();
    let Packet::Subscribe { id: 6, wishes, identifier: Some(268_435_455) } =
        one(&mut welcomed(Version::V5), &rich.to_continuous_buffer())
    else {
        panic!()
    };
    let identifier = Some(268_435_455);
    let wishes: Vec<_> = wishes.collect();
    assert_eq!(
        wishes[0].options,
        Options {
            qos: Qos::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            replay: Replay::IfNew,
            identifier
        }
    );
    assert_eq!((wishes[1].options.replay, wishes[1].options.no_local), (Replay::Never, false));
}

#[test]
fn unsubscribes_are_read() {
    let v311 =
        v3_1_1::Unsubscribe::builder().packet_id(3).entries(vec!["a", "b/#"]).unwrap().build().unwrap();
    let v5 = v5_0::Unsubscribe::builder().packet_id(3).entries(vec!["a", "b/#"]).unwrap().build().unwrap();
    for (version, bytes) in
        [(Version::V311, v311.to_continuous_buffer()), (Version::V5, v5.to_continuous_buffer())]
    {
        let Packet::Unsubscribe { id: 3, filters } = one(&mut welcomed(version), &bytes) else { panic!() };
        assert_eq!(filters.collect::<Vec<_>>(), ["a", "b/#"]);
    }
}

#[test]
fn a_thousand_filters_are_read_one_by_one_in_their_order() {
    let names: Vec<_> = (0..1000).map(|number| format!("{number:04}")).collect();
    let entries = |tail: &[u8]| -> Vec<u8> {
        names.iter().flat_map(|name| [b"\0\x04", name.as_bytes(), tail].concat()).collect()
    };
    for version in VERSIONS {
        let head: &[u8] = if version == Version::V5 { b"\0\x07\0" } else { b"\0\x07" };
        let bytes = frame(0x82, &[head, &entries(b"\x01")].concat());
        let Packet::Subscribe { id: 7, wishes, .. } = one(&mut welcomed(version), &bytes) else { panic!() };
        assert_eq!(wishes.len(), 1000);
        assert!(wishes.bytes() <= bytes.len(), "kept as they came");
        assert_eq!(wishes.map(|wish| wish.filter).collect::<Vec<_>>(), names);
        let bytes = frame(0xa2, &[head, &entries(b"")].concat());
        let Packet::Unsubscribe { id: 7, filters } = one(&mut welcomed(version), &bytes) else { panic!() };
        assert_eq!(filters.collect::<Vec<_>>(), names);
    }
}

#[test]
fn goodbyes_say_whether_the_will_and_how_long_the_session_stays() {
    for version in VERSIONS {
        let packet = one(&mut welcomed(version), b"\xe0\x00");
        assert!(matches!(packet, Packet::Disconnect { with_will: false, expiry_s: None }));
    }
    let wire = v5_0::Disconnect::builder()
        .reason_code(DisconnectReasonCode::DisconnectWithWillMessage)
        .props(vec![Property::SessionExpiryInterval(SessionExpiryInterval::new(5).unwrap())])
        .build()
        .unwrap();
    let packet = one(&mut welcomed(Version::V5), &wire.to_continuous_buffer());
    assert!(matches!(packet, Packet::Disconnect { with_will: true, expiry_s: Some(5) }), "{packet:?}");
    let packet = one(&mut welcomed(Version::V5), b"\xe0\x01\x00");
    assert!(matches!(packet, Packet::Disconnect { with_will: false, expiry_s: None }));
}

#[test]
fn enhanced_authentication_is_read_for_the_broker_to_refuse() {
    let packet = one(&mut welcomed(Version::V5), &frame(0xf0, b"\x18\x08\x15\0\x05SCRAM"));
    assert!(matches!(packet, Packet::Auth));
}

//! CONNECTs that are taken.

use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::{
    AuthenticationMethod, ContentType, MaximumPacketSize, MessageExpiryInterval, Property, Qos as WireQos,
    ReceiveMaximum, SessionExpiryInterval, TopicAliasMaximum, UserProperty, WillDelayInterval, v3_1_1, v5_0,
};

use super::{MAX, NOW, frame, one};
use crate::broker::front::Front;
use crate::broker::packet::{Hello, Packet, Version};
use crate::uplink::row::Qos;

fn hello(bytes: &[u8]) -> Hello {
    match one(&mut Front::new(MAX), bytes) {
        Packet::Connect(hello) => *hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn connect_of_3_1_1_is_read_as_the_library_wrote_it() {
    let wire = v3_1_1::Connect::builder()
        .client_id("küche/1")
        .unwrap()
        .clean_session(false)
        .keep_alive(17)
        .user_name("ann")
        .unwrap()
        .password(b"\0\xff")
        .unwrap()
        .will_message("last/words", b"gone", WireQos::ExactlyOnce, true)
        .unwrap()
        .build()
        .unwrap();
    let hello = hello(&wire.to_continuous_buffer());
    assert_eq!((hello.version, &*hello.client, hello.clean), (Version::V311, "küche/1", false));
    assert_eq!((hello.expiry_s, hello.keep_alive), (u32::MAX, 17));
    assert_eq!((hello.user.as_deref(), hello.password.as_deref()), (Some("ann"), Some(&b"\0\xff"[..])));
    let will = hello.will.unwrap();
    assert_eq!((will.message.topic.as_str(), &*will.message.body), ("last/words", &b"gone"[..]));
    assert_eq!((will.message.qos, will.message.retain, will.message.at), (Qos::ExactlyOnce, true, NOW));
    assert_eq!(will.delay, Duration::ZERO);
}

#[test]
fn connect_of_5_is_read_as_the_library_wrote_it() {
    let wire = v5_0::Connect::builder()
        .client_id("")
        .unwrap()
        .clean_start(true)
        .keep_alive(0)
        .will_message("w", b"", WireQos::AtLeastOnce, false)
        .unwrap()
        .will_props(vec![
            Property::WillDelayInterval(WillDelayInterval::new(9).unwrap()),
            Property::MessageExpiryInterval(MessageExpiryInterval::new(8).unwrap()),
            Property::ContentType(ContentType::new("text").unwrap()),
            Property::UserProperty(UserProperty::new("b", "1").unwrap()),
            Property::UserProperty(UserProperty::new("a", "2").unwrap()),
        ])
        .props(vec![
            Property::SessionExpiryInterval(SessionExpiryInterval::new(77).unwrap()),
            Property::ReceiveMaximum(ReceiveMaximum::new(3).unwrap()),
            Property::MaximumPacketSize(MaximumPacketSize::new(1000).unwrap()),
            Property::TopicAliasMaximum(TopicAliasMaximum::new(5).unwrap()),
            Property::AuthenticationMethod(AuthenticationMethod::new("SCRAM").unwrap()),
        ])
        .build()
        .unwrap();
    let hello = hello(&wire.to_continuous_buffer());
    assert_eq!((hello.version, &*hello.client, hello.clean), (Version::V5, "", true));
    assert_eq!((hello.expiry_s, hello.receive_max, hello.packet_bytes_max), (77, 3, Some(1000)));
    assert_eq!((hello.aliases_max, hello.wants_reasons, hello.authentication_method), (5, true, true));
    assert_eq!((hello.user, hello.password), (None, None));
    let will = hello.will.unwrap();
    assert_eq!((will.delay, will.message.expiry_s), (Duration::from_secs(9), Some(8)));
    let properties = will.message.properties.unwrap();
    assert_eq!(properties.as_bytes(), b"\x03\0\x04text\x26\0\x01b\0\x011\x26\0\x01a\0\x012");
}

#[test]
fn silence_of_5_means_what_the_standard_says() {
    let hello = hello(&frame(0x10, b"\0\x04MQTT\x05\x02\0\x3c\0\0\x01a"));
    assert_eq!((hello.expiry_s, hello.receive_max, hello.packet_bytes_max), (0, u16::MAX, None));
    assert_eq!((hello.aliases_max, hello.wants_reasons, hello.authentication_method), (0, true, false));
}

#[test]
fn a_password_of_5_needs_no_user_name() {
    let hello = hello(&frame(0x10, b"\0\x04MQTT\x05\x42\0\x3c\0\0\x01a\0\x02pw"));
    assert_eq!((hello.user, hello.password.as_deref()), (None, Some(&b"pw"[..])));
}

#[test]
fn connect_of_3_1_is_a_connect_of_3_1_1_with_another_name() {
    let hello = hello(&frame(
        0x10,
        b"\0\x06MQIsdp\x03\xc6\0\x0a\0\x1aabcdefghijklmnopqrstuvwxyz\0\x01t\0\x01b\0\x01u\0\x01p",
    ));
    assert_eq!((hello.version, &*hello.client), (Version::V31, "abcdefghijklmnopqrstuvwxyz"));
    assert_eq!((hello.clean, hello.keep_alive, hello.expiry_s), (true, 10, 0));
    assert_eq!((hello.user.as_deref(), hello.password.as_deref()), (Some("u"), Some(&b"p"[..])));
    assert_eq!(hello.will.unwrap().message.topic.as_str(), "t");
}

#[test]
fn names_that_3_1_announces_and_does_not_send_are_not_there() {
    let bare = hello(&frame(0x10, b"\0\x06MQIsdp\x03\xc2\0\x0a\0\x01a"));
    assert_eq!((bare.user, bare.password), (None, None));
    let user = hello(&frame(0x10, b"\0\x06MQIsdp\x03\xc2\0\x0a\0\x01a\0\x01u"));
    assert_eq!((user.user.as_deref(), user.password), (Some("u"), None));
}

#[test]
fn bits_that_3_1_does_not_use_are_not_looked_at() {
    let hello = hello(&frame(0x14, b"\0\x06MQIsdp\x03\x03\0\x0a\0\x01a"));
    assert_eq!((hello.version, &*hello.client), (Version::V31, "a"));
}

//! What MQTT 5.0 adds.

use std::time::Duration;

use super::wire::{Bench, PUBACK, PUBCOMP, PUBREC, PUBREL, ack, connect, frames, packet, publish, subscribe};
use super::wire5::{byte, connect5, disconnect5, four, pair, publish5, string, subscribe5, two, varint};
use crate::broker::{CloseReason, Limits};
use crate::uplink::row::Qos;

const RECEIVE_MAXIMUM: u8 = 0x21;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
const TOPIC_ALIAS: u8 = 0x23;
const MESSAGE_EXPIRY: u8 = 0x02;

/// The value of a property in CONNACK, if it is there.
fn property(connack: &[u8], id: u8, len: usize) -> Option<Vec<u8>> {
    let mut rest = &connack[3..];
    while let Some((&this, value)) = rest.split_first() {
        let size = match this {
            0x12 | 0x1f | 0x1a => 2 + usize::from(u16::from_be_bytes([value[0], value[1]])),
            0x21 | 0x22 | 0x13 => 2,
            0x11 | 0x27 => 4,
            _ => 1,
        };
        if this == id {
            assert_eq!(size, len);
            return Some(value[..size].to_vec());
        }
        rest = &value[size..];
    }
    None
}

/// The client id that the broker gave.
fn assigned(connack: &[u8]) -> Option<Vec<u8>> {
    let place = connack.windows(2).position(|window| window == [0x12, 0])?;
    let len = usize::from(connack[place + 2]);
    Some(connack[place + 3..place + 3 + len].to_vec())
}

#[test]
fn connack_says_what_the_broker_takes() {
    let mut bench = Bench::with(Limits { receive_max: 77, packet_bytes_max: 5000, ..Limits::default() });
    let (_, connack) = bench.client5("a", true, &[]);
    assert_eq!(connack[..2], [0, 0]);
    assert_eq!(property(&connack, RECEIVE_MAXIMUM, 2), Some(vec![0, 77]));
    assert_eq!(property(&connack, MAXIMUM_PACKET_SIZE, 4), Some(5000_u32.to_be_bytes().to_vec()));
    assert_eq!(property(&connack, TOPIC_ALIAS_MAXIMUM, 2), Some(vec![0, 10]));
}

#[test]
fn a_client_without_an_id_is_given_one_that_nobody_else_has() {
    let mut bench = Bench::new();
    let ids: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            let (_, connack) = bench.client5("", true, &[]);
            assigned(&connack).expect("an assigned client id")
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(bench.broker.gauges().sessions, 2);
}

#[test]
fn properties_of_a_message_reach_clients_of_5_unchanged_and_leave_those_of_3_alone() {
    let mut bench = Bench::new();
    let young = bench.subscriber5("young", "t", 1);
    let old = bench.subscriber("old", true, "t", 1);
    let (speaker, _) = bench.client5("speaker", true, &[]);
    let extras = [
        byte(0x01, 1),
        string(0x03, "text/plain"),
        string(0x08, "answer/here"),
        string(0x09, "abc"),
        pair("a", "1"),
        pair("a", "2"),
    ];
    bench.say(speaker, &publish5(2, "t", 1, &extras, "hello"));
    assert_eq!(bench.told(speaker), ack(PUBACK, 1));
    let heard = bench.heard5(young);
    assert_eq!((heard[0].topic.as_str(), heard[0].body.as_str()), ("t", "hello"));
    assert_eq!(heard[0].properties, extras.concat());
    assert_eq!(bench.heard(old), [(0x32, "t".into(), 1, "hello".into())]);
    assert_eq!((bench.fate(young), bench.fate(old)), (None, None));
}

#[test]
fn clients_of_all_versions_share_a_topic() {
    let mut bench = Bench::new();
    let young = bench.subscriber5("young", "t", 2);
    let old = bench.subscriber("old", true, "t", 2);
    let oldest = bench.open();
    bench.say(oldest, b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01a");
    assert_eq!(bench.told(oldest), [0x20, 2, 0, 0]);
    bench.say(oldest, &subscribe(1, &[("t", 2)]));
    bench.told(oldest);
    for speaker in [old, oldest] {
        bench.say(speaker, &publish(0, "t", 0, "x"));
    }
    bench.say(young, &publish5(0, "t", 0, &[pair("k", "v")], "x"));
    assert_eq!(bench.heard5(young).len(), 3);
    assert_eq!(bench.heard(old).len(), 3);
    assert_eq!(bench.heard(oldest).len(), 3);
}

#[test]
fn topic_aliases_go_both_ways() {
    let mut bench = Bench::new();
    let (listener, _) = bench.client5("listener", true, &[two(TOPIC_ALIAS_MAXIMUM, 5)]);
    bench.say(listener, &subscribe5(1, None, &[("long/topic/name", 0)]));
    bench.told(listener);
    let (speaker, _) = bench.client5("speaker", true, &[]);
    bench.say(speaker, &publish5(0, "long/topic/name", 0, &[two(TOPIC_ALIAS, 3)], "1"));
    bench.say(speaker, &publish5(0, "", 0, &[two(TOPIC_ALIAS, 3)], "2"));
    bench.say(speaker, &publish5(0, "", 0, &[two(TOPIC_ALIAS, 3)], "3"));
    let heard = bench.heard5(listener);
    assert_eq!(heard.iter().map(|h| h.body.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(heard[0].topic, "long/topic/name");
    assert!(heard[1..].iter().any(|h| h.topic.is_empty()), "an alias of ours: {heard:?}");
    bench.say(speaker, &publish5(0, "t", 0, &[two(TOPIC_ALIAS, 99)], "x"));
    assert_eq!(bench.fate(speaker), Some(&CloseReason::Alias));
    assert_eq!(bench.told(speaker)[2], 0x94);
}

#[test]
fn no_more_messages_are_in_flight_than_the_client_takes() {
    let mut bench = Bench::new();
    let (conn, _) = bench.client5("a", true, &[two(RECEIVE_MAXIMUM, 2)]);
    bench.say(conn, &subscribe5(1, None, &[("t", 2)]));
    bench.told(conn);
    for body in ["1", "2", "3", "4"] {
        bench.local("t", body, Qos::ExactlyOnce, false);
    }
    let heard = bench.heard5(conn);
    assert_eq!(heard.len(), 2);
    bench.say(conn, &ack(PUBREC, heard[0].id));
    assert_eq!(bench.told(conn), ack(PUBREL, heard[0].id), "an exchange that is half done still counts");
    bench.say(conn, &ack(PUBCOMP, heard[0].id));
    assert_eq!(bench.heard5(conn).len(), 1);
}

#[test]
fn a_client_that_sends_more_than_the_broker_takes_is_cut() {
    let mut bench = Bench::with(Limits { receive_max: 3, ..Limits::default() });
    let (conn, _) = bench.client5("a", true, &[]);
    for id in 1..=3 {
        bench.say(conn, &publish5(4, "t", id, &[], "x"));
    }
    assert_eq!(bench.fate(conn), None);
    bench.told(conn);
    bench.say(conn, &publish5(4, "t", 4, &[], "x"));
    assert_eq!(bench.fate(conn), Some(&CloseReason::ReceiveMaximum));
    assert_eq!(bench.told(conn)[2], 0x93);
    let old = bench.client("old", true);
    for id in 1..=10 {
        bench.say(old, &publish(4, "t", id, "x"));
    }
    assert_eq!(bench.fate(old), None, "3.x was told no limit");
}

#[test]
fn a_message_larger_than_the_client_takes_is_dropped_and_counted() {
    let mut bench = Bench::new();
    let (conn, _) = bench.client5("a", true, &[four(MAXIMUM_PACKET_SIZE, 50)]);
    bench.say(conn, &subscribe5(1, None, &[("t", 1), ("u", 0)]));
    bench.told(conn);
    bench.local("t", &"x".repeat(100), Qos::AtLeastOnce, false);
    bench.local("u", &"x".repeat(100), Qos::AtMostOnce, false);
    bench.local("t", "small", Qos::AtLeastOnce, false);
    let heard = bench.heard5(conn);
    assert_eq!(heard.iter().map(|h| h.body.as_str()).collect::<Vec<_>>(), ["small"]);
    assert_eq!(bench.broker.counters().dropped_large_messages_total, 2);
    assert_eq!(bench.broker.gauges().held_messages, 1);
}

#[test]
fn a_packet_larger_than_the_broker_takes_ends_the_connection_with_its_code() {
    let mut bench = Bench::with(Limits { packet_bytes_max: 1000, ..Limits::default() });
    let (conn, _) = bench.client5("a", true, &[]);
    bench.say(conn, &publish5(0, "t", 0, &[], &"x".repeat(1000)));
    assert_eq!(bench.fate(conn), Some(&CloseReason::TooLarge));
    assert_eq!(bench.told(conn)[2], 0x95);
    let (conn, _) = bench.client5("a", true, &[]);
    let fits = publish5(0, "t", 0, &[], &"x".repeat(1000 - 7));
    assert_eq!(fits.len(), 1000);
    bench.say(conn, &fits);
    assert_eq!(bench.fate(conn), None);
}

#[test]
fn a_message_that_waits_too_long_expires_and_one_that_does_not_says_what_is_left() {
    let mut bench = Bench::new();
    let (conn, _) = bench.client5("a", false, &[four(0x11, 1000)]);
    bench.say(conn, &subscribe5(1, None, &[("t", 1)]));
    bench.lose(conn);
    let (speaker, _) = bench.client5("speaker", true, &[]);
    bench.say(speaker, &publish5(2, "t", 1, &[four(MESSAGE_EXPIRY, 5)], "short"));
    bench.say(speaker, &publish5(2, "t", 2, &[four(MESSAGE_EXPIRY, 50)], "long"));
    bench.say(speaker, &publish5(2, "t", 3, &[], "for ever"));
    bench.wait(Duration::from_secs(10));
    let conn = bench.open();
    bench.say(conn, &connect5("a", false, 0, &[four(0x11, 1000)], None));
    let told = bench.told(conn);
    let connack = frames(&told)[0].len();
    let bodies: Vec<&[u8]> = frames(&told[connack..]);
    assert_eq!(bodies.len(), 2);
    assert!(bodies[0].ends_with(b"long") && bodies[1].ends_with(b"for ever"));
    let left = [&[5, MESSAGE_EXPIRY][..], &40_u32.to_be_bytes()].concat();
    assert!(bodies[0].windows(6).any(|window| window == left), "40 seconds are left: {:?}", bodies[0]);
    assert_eq!(bench.broker.counters().dropped_expired_messages_total, 1);
}

#[test]
fn a_retained_message_expires() {
    let mut bench = Bench::new();
    let (speaker, _) = bench.client5("speaker", true, &[]);
    bench.say(speaker, &publish5(1, "t", 0, &[four(MESSAGE_EXPIRY, 5)], "x"));
    bench.wait(Duration::from_secs(4));
    let early = bench.subscriber5("early", "t", 0);
    bench.say(early, &subscribe5(2, None, &[("t", 0)]));
    let told = bench.told(early);
    assert_eq!(frames(&told).len(), 2, "SUBACK and the message");
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.broker.gauges().retained_messages, 0);
    assert_eq!(bench.broker.counters().expired_retained_total, 1);
    assert_eq!(bench.broker.poll_timeout(), None);
}

#[test]
fn subscription_identifiers_come_with_the_message_all_of_them_once() {
    let mut bench = Bench::new();
    let (conn, _) = bench.client5("a", true, &[]);
    bench.say(conn, &subscribe5(1, Some(7), &[("t/#", 0)]));
    bench.say(conn, &subscribe5(2, Some(300), &[("t/+", 1), ("other", 0)]));
    bench.told(conn);
    bench.local("t/x", "x", Qos::ExactlyOnce, false);
    let heard = bench.heard5(conn);
    assert_eq!(heard.len(), 1, "once");
    assert_eq!(heard[0].first, 0x32, "the highest QoS");
    let (small, large) = ([vec![0x0b], varint(7)].concat(), [vec![0x0b], varint(300)].concat());
    let either = [[&small[..], &large].concat(), [&large[..], &small].concat()];
    assert!(either.contains(&heard[0].properties), "{:?}", heard[0].properties);
}

#[test]
fn retain_handling_says_when_retained_messages_come() {
    let mut bench = Bench::new();
    bench.local("t", "kept", Qos::AtLeastOnce, true);
    for (handling, first, again) in [(0, 1, 1), (1, 1, 0), (2, 0, 0)] {
        let (conn, _) = bench.client5("a", true, &[]);
        for expected in [first, again] {
            bench.say(conn, &subscribe5(1, None, &[("t", handling << 4)]));
            let told = bench.told(conn);
            assert_eq!(frames(&told).len(), 1 + expected, "handling {handling}");
        }
    }
}

#[test]
fn retain_as_published_keeps_the_flag_of_live_messages() {
    let mut bench = Bench::new();
    let keeps = bench.subscriber5("keeps", "t", 0x08);
    let clears = bench.subscriber5("clears", "t", 0);
    bench.local("t", "x", Qos::AtMostOnce, true);
    bench.local("t", "x", Qos::AtMostOnce, false);
    let flags = |heard: Vec<super::wire5::Heard5>| heard.iter().map(|h| h.first & 1).collect::<Vec<_>>();
    assert_eq!(flags(bench.heard5(keeps)), [1, 0]);
    assert_eq!(flags(bench.heard5(clears)), [0, 0]);
}

#[test]
fn no_local_keeps_a_client_from_hearing_itself() {
    let mut bench = Bench::new();
    let own = bench.subscriber5("own", "t", 0x04);
    let other = bench.subscriber5("other", "t", 0x04);
    bench.say(own, &publish5(0, "t", 0, &[], "x"));
    assert_eq!((bench.heard5(own).len(), bench.heard5(other).len()), (0, 1));
    bench.say(own, &subscribe5(2, None, &[("#", 0)]));
    bench.told(own);
    bench.say(own, &publish5(0, "t", 0, &[], "x"));
    assert_eq!(bench.heard5(own).len(), 1, "another subscription wants it");
}

#[test]
fn a_request_finds_its_answer() {
    let mut bench = Bench::new();
    let asks = bench.subscriber5("asks", "answers/asks", 1);
    let knows = bench.subscriber5("knows", "questions", 1);
    let extras = [string(0x08, "answers/asks"), string(0x09, "17")];
    bench.say(asks, &publish5(2, "questions", 1, &extras, "?"));
    let heard = bench.heard5(knows);
    assert_eq!(heard[0].properties, extras.concat());
    bench.say(knows, &publish5(2, "answers/asks", 1, &[string(0x09, "17")], "!"));
    bench.told(knows);
    let told = bench.told(asks);
    let answer = frames(&told)[1];
    assert!(answer.ends_with(b"!") && answer.windows(5).any(|w| w == [0x09, 0, 2, b'1', b'7']));
}

#[test]
fn a_publish_that_nobody_wants_is_acknowledged_with_the_word_for_it() {
    let mut bench = Bench::new();
    let (conn, _) = bench.client5("a", true, &[]);
    bench.say(conn, &publish5(2, "t", 1, &[], "x"));
    assert_eq!(bench.told(conn), packet(0x40, &[0, 1, 0x10]));
    bench.say(conn, &publish5(4, "t", 2, &[], "x"));
    assert_eq!(bench.told(conn), ack(PUBREC, 2), "it is received, whoever wants it");
    bench.say(conn, &ack(PUBREL, 2));
    assert_eq!(bench.told(conn), ack(PUBCOMP, 2));
    bench.say(conn, &ack(PUBREL, 2));
    assert_eq!(bench.told(conn), ack(PUBCOMP, 2), "the first PUBCOMP may have been lost");
}

#[test]
fn unsuback_says_which_filters_there_were() {
    let mut bench = Bench::new();
    let conn = bench.subscriber5("a", "t", 0);
    let body = [&[0, 9, 0][..], &super::wire::text("t"), &super::wire::text("u")].concat();
    bench.say(conn, &packet(0xa2, &body));
    assert_eq!(bench.told(conn), packet(0xb0, &[0, 9, 0, 0, 0x11]));
}

#[test]
fn a_rival_is_told_that_its_session_was_taken_over() {
    let mut bench = Bench::new();
    let (old, _) = bench.client5("a", true, &[]);
    bench.client5("a", true, &[]);
    assert_eq!(bench.fate(old), Some(&CloseReason::TakenOver));
    assert_eq!(bench.told(old)[2], 0x8e);
}

#[test]
fn a_client_of_5_is_told_why_it_is_cut() {
    let mut bench = Bench::with(Limits { keep_alive_max_s: 10, ..Limits::default() });
    let (silent, connack) = bench.client5("silent", true, &[]);
    assert_eq!(property(&connack, 0x13, 2), Some(vec![0, 10]), "the broker's own keep-alive");
    bench.wait(Duration::from_secs(15));
    assert_eq!(bench.told(silent)[2], 0x8d);
    let (wrong, _) = bench.client5("wrong", true, &[]);
    bench.say(wrong, &packet(0xd0, &[]));
    assert_eq!(bench.told(wrong)[2], 0x82);
    let (wild, _) = bench.client5("wild", true, &[]);
    bench.say(wild, &publish5(0, "a/#", 0, &[], "x"));
    assert_eq!(bench.told(wild)[2], 0x81);
    let (alone, _) = bench.client5("alone", true, &[]);
    bench.say(alone, &subscribe5(1, None, &[("$share/g/t", 0x04)]));
    assert_eq!(bench.told(alone)[2], 0x82, "no local on a shared subscription");
    let asks = bench.open();
    bench.say(asks, &connect5("asks", true, 0, &[string(0x15, "SCRAM")], None));
    assert_eq!(bench.told(asks)[3], 0x8c, "enhanced authentication is not offered");
    bench.client5("stopped", true, &[]);
}

#[test]
fn everybody_is_told_when_the_broker_stops() {
    let mut bench = Bench::new();
    let (young, _) = bench.client5("young", true, &[]);
    let old = bench.client("old", true);
    bench.broker.stop(bench.now);
    bench.run();
    assert_eq!(bench.told(young)[2], 0x8b);
    assert_eq!(bench.told(old), b"", "3.x has no word for it");
    assert_eq!(bench.fate(old), Some(&CloseReason::Shutdown));
    assert!(bench.broker.is_flushed());
    let late = bench.open();
    assert_eq!(bench.fate(late), Some(&CloseReason::Shutdown));
}

#[test]
fn a_session_lives_as_long_as_its_client_said() {
    let limits = Limits { session_expiry_max_s: u32::MAX, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for (expiry_s, wait_s, lives) in
        [(0, 0, false), (10, 9, true), (10, 11, false), (u32::MAX, 1 << 30, true)]
    {
        let (conn, _) = bench.client5("a", true, &[four(0x11, expiry_s)]);
        bench.lose(conn);
        bench.wait(Duration::from_secs(wait_s));
        assert_eq!(bench.broker.gauges().sessions, usize::from(lives), "{expiry_s} s, after {wait_s} s");
        let (conn, connack) = bench.client5("a", false, &[]);
        assert_eq!(connack[0], u8::from(lives), "session present");
        bench.lose(conn);
        assert_eq!(bench.broker.gauges().sessions, 0, "without expiry it ends with its connection");
    }
    assert_eq!(bench.broker.poll_timeout(), None, "no alarm is left behind");
    assert_eq!(bench.broker.counters().expired_sessions_total, 1);
}

#[test]
fn disconnect_may_change_the_expiry_but_not_from_nothing() {
    let mut bench = Bench::new();
    let (conn, _) = bench.client5("a", true, &[four(0x11, 1000)]);
    bench.say(conn, &disconnect5(0, &[four(0x11, 5)]));
    assert_eq!(bench.fate(conn), Some(&CloseReason::Goodbye));
    bench.wait(Duration::from_secs(6));
    assert_eq!(bench.broker.gauges().sessions, 0);
    let (conn, _) = bench.client5("b", true, &[four(0x11, 1000)]);
    bench.say(conn, &disconnect5(0, &[four(0x11, 0)]));
    assert_eq!(bench.broker.gauges().sessions, 0);
    let (conn, _) = bench.client5("c", true, &[]);
    bench.say(conn, &disconnect5(0, &[four(0x11, 5)]));
    assert!(matches!(bench.fate(conn), Some(CloseReason::Protocol(_))));
    assert_eq!(bench.told(conn)[2], 0x82);
}

#[test]
fn a_session_of_one_version_is_resumed_by_another() {
    let mut bench = Bench::new();
    let old = bench.subscriber("a", false, "t", 1);
    bench.lose(old);
    bench.local("t", "x", Qos::AtLeastOnce, false);
    let conn = bench.open();
    bench.say(conn, &connect5("a", false, 0, &[four(0x11, 100)], None));
    let told = bench.told(conn);
    assert_eq!((told[2], frames(&told).len()), (1, 2));
    bench.lose(conn);
    let conn = bench.open();
    bench.say(conn, &connect("a", false, 0, None));
    let told = bench.told(conn);
    assert_eq!((told[2], frames(&told).len()), (1, 2), "not acknowledged yet");
    assert_eq!(frames(&told)[1][0], 0x3a, "with DUP");
}

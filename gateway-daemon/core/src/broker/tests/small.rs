//! Clients that take small packets only, clients that bring a user name where nobody asks, and bridges of mosquitto's kind.

use std::time::Duration;

use super::disk::open_door;
use super::login::login;
use super::wire::{Bench, connect, frames, packet, publish, subscribe, text};
use super::wire5::{connect5, four, publish5, subscribe5};
use crate::broker::access::{Access, Deed, Rule};
use crate::broker::{CloseReason, Limits, Settings};
use crate::uplink::row::Qos;

const PACKET_MAX: u8 = 0x27;

#[test]
fn connack_leaves_out_what_a_small_client_can_do_without_else_the_connection_is_closed() {
    for max in 1..=40_u32 {
        let mut bench = Bench::new();
        let conn = bench.open();
        bench.say(conn, &connect5("a", true, 0, &[four(PACKET_MAX, max)], None));
        let told = bench.told(conn);
        assert!(told.len() <= max as usize, "{max}: {told:?}");
        if told.is_empty() {
            assert!(
                max < 5 && bench.fate(conn) == Some(&CloseReason::Small),
                "{max}: {:?}",
                bench.fate(conn)
            );
            assert_eq!(bench.broker.gauges().sessions, 0);
            continue;
        }
        assert_eq!((told[0], told[3], bench.fate(conn)), (0x20, 0, None), "{max}");
        let properties: Vec<u8> = told.iter().skip(5).copied().filter(|b| matches!(b, 0x21 | 0x27)).collect();
        match max {
            ..8 => assert_eq!(told.len(), 5),
            8..13 => assert!(properties.contains(&0x21) && !properties.contains(&0x27), "{max}: {told:?}"),
            _ => assert!(properties.contains(&0x21) && properties.contains(&0x27), "{max}: {told:?}"),
        }
    }
}

#[test]
fn a_client_that_cannot_be_told_its_own_id_is_not_let_in() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.say(conn, &connect5("", true, 0, &[four(PACKET_MAX, 12)], None));
    assert_eq!(bench.fate(conn), Some(&CloseReason::Small));
    assert_eq!(bench.told(conn), [0x20, 3, 0, 0x95, 0], "why, because that fits");
    let conn = bench.open();
    bench.say(conn, &connect5("", true, 0, &[four(PACKET_MAX, 200)], None));
    assert_eq!(bench.fate(conn), None);
    let mut bench = Bench::with(Limits { keep_alive_max_s: 60, ..Limits::default() });
    let conn = bench.open();
    bench.say(conn, &connect5("a", true, 0, &[four(PACKET_MAX, 7)], None));
    assert_eq!(
        bench.fate(conn),
        Some(&CloseReason::Small),
        "nor one that does not learn how silent it may be"
    );
    assert_eq!(bench.broker.gauges().connections, 0);
}

#[test]
fn a_largest_packet_of_zero_is_a_protocol_error() {
    let mut bench = Bench::new();
    let conn = bench.open();
    bench.say(conn, &connect5("a", true, 0, &[four(PACKET_MAX, 0)], None));
    assert!(matches!(bench.fate(conn), Some(CloseReason::Protocol(_))), "{:?}", bench.fate(conn));
}

#[test]
fn a_client_that_takes_no_answer_of_the_size_of_its_question_is_closed_and_not_left_waiting() {
    for (what, bytes) in [
        ("SUBACK", subscribe5(1, None, &[("a", 0), ("b", 0), ("c", 0), ("d", 0)])),
        (
            "UNSUBACK",
            packet(0xa2, &[&[0, 1, 0][..], &text("a"), &text("b"), &text("c"), &text("d")].concat()),
        ),
    ] {
        let mut bench = Bench::new();
        let (conn, _) = bench.client5("a", true, &[four(PACKET_MAX, 8)]);
        bench.say(conn, &bytes);
        assert_eq!(bench.fate(conn), Some(&CloseReason::Small), "{what}");
        assert_eq!(bench.told(conn), [0xe0, 1, 0x95], "{what}: why, because that fits");
    }
    // A refusal that does not fit is no success; a success of another kind is one.
    let everybody = vec![Rule { allow: false, deed: Deed::Publish, filter: "no".into() }];
    let mut bench = Bench::stored(Settings {
        listeners: vec![open_door()],
        access: Access { everybody, ..Access::default() },
        ..Settings::default()
    });
    for (topic, qos) in [("no", 2), ("yes", 2), ("no", 4)] {
        let (conn, _) = bench.client5("a", true, &[four(PACKET_MAX, 5)]);
        bench.say(conn, &publish5(qos, topic, 1, &[], "x"));
        let told = bench.told(conn);
        assert_eq!(told.len(), 5, "reason codes fit into five");
        bench.lose(conn);
    }
}

#[test]
fn without_users_a_client_that_sends_credentials_is_nobody() {
    let everybody = vec![
        Rule { allow: true, deed: Deed::Any, filter: "u/%u/#".into() },
        Rule { allow: true, deed: Deed::Publish, filter: "open".into() },
    ];
    let mut bench = Bench::stored(Settings {
        listeners: vec![open_door()],
        access: Access { everybody, ..Access::default() },
        ..Settings::default()
    });
    let mut keep = login("a", "admin", "anything");
    keep[9] = 0xc0;
    let conn = bench.open();
    bench.say(conn, &keep);
    assert_eq!(bench.told(conn), [0x20, 2, 0, 0]);
    bench.say(conn, &subscribe(1, &[("u/admin/x", 0)]));
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.told(conn), [0x90, 3, 0, 1, 0x80], "it has no user");
    bench.lose(conn);
    let conn = bench.open();
    bench.say(conn, &connect("a", false, 0, None));
    assert_eq!(bench.told(conn), [0x20, 2, 1, 0], "it is the same nobody with or without a name");
}

#[test]
fn a_bridge_gets_in_at_its_first_try_keeps_retain_flags_and_hears_no_echo() {
    for (name, level) in [(&b"\0\x04MQTT"[..], 0x84_u8), (b"\0\x06MQIsdp", 0x83)] {
        let mut bench = Bench::new();
        let conn = bench.open();
        bench.say(conn, &packet(0x10, &[name, &[level, 2, 0, 0], &text("bridge")].concat()));
        assert_eq!(bench.told(conn), [0x20, 2, 0, 0]);
        bench.say(conn, &subscribe(1, &[("#", 1)]));
        assert_eq!(bench.told(conn), [0x90, 3, 0, 1, 1]);
        bench.say(conn, &publish(0, "mine", 0, "x"));
        assert_eq!(bench.told(conn), b"", "no echo");
        bench.local("kept", "x", Qos::AtMostOnce, true);
        bench.local("not/kept", "x", Qos::AtMostOnce, false);
        let told = bench.told(conn);
        assert_eq!(frames(&told).iter().map(|frame| frame[0]).collect::<Vec<_>>(), [0x31, 0x30]);
        bench.say(conn, &subscribe(2, &[("$share/g/x", 1)]));
        assert_eq!(bench.told(conn), [0x90, 3, 0, 2, 1]);
    }
}

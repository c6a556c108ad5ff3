//! Whatever a client sends ends its own connection at most.

use proptest::collection::vec;
use proptest::prelude::*;

use super::disk::open_door;
use super::wire::{
    Bench, GOODBYE, PING, PUBACK, PUBCOMP, PUBREC, PUBREL, ack, connect, packet, publish, subscribe, text,
    unsubscribe,
};
use super::wire5::{connect5, disconnect5, four, publish5, subscribe5, two};
use crate::broker::settings::QUEUED_SHARE_BYTES_MIN;
use crate::broker::{CloseReason, Limits, Settings};
use crate::uplink::row::Qos;

/// Says something wrong after CONNECT; only this connection ends.
fn check_wrong(name: &str, bytes: &[u8]) {
    let mut bench = Bench::new();
    let witness = bench.subscriber("witness", true, "#", 0);
    let conn = bench.client("wrong", true);
    bench.say(conn, bytes);
    assert!(bench.fate(conn).is_some(), "{name}: still open, told {:?}", bench.told(conn));
    assert_eq!(bench.fate(witness), None, "{name}");
    bench.local("t", "alive", Qos::AtMostOnce, false);
    assert_eq!(bench.heard(witness).len(), 1, "{name}");
    assert_eq!(bench.broker.gauges().connections, 1, "{name}");
}

#[test]
fn wrong_packets_end_their_connection() {
    let mut reserved_option = subscribe(1, &[("t", 0)]);
    *reserved_option.last_mut().unwrap() = 4;
    for (name, bytes) in [
        ("packet type 0", packet(0x00, &[])),
        ("packet type 15", packet(0xf0, &[])),
        ("a server's packet", packet(0xd0, &[])),
        ("CONNACK", packet(0x20, &[0, 0])),
        ("second CONNECT", connect("wrong", true, 0, None)),
        ("PINGREQ with flags", packet(0xc1, &[])),
        ("PINGREQ with a body", packet(0xc0, &[1])),
        ("DISCONNECT with flags", packet(0xe1, &[])),
        ("SUBSCRIBE without its flags", packet(0x80, &[&[0, 1][..], &text("t"), &[0]].concat())),
        ("SUBSCRIBE with packet identifier 0", subscribe(0, &[("t", 0)])),
        ("SUBSCRIBE without filters", subscribe(1, &[])),
        ("SUBSCRIBE with QoS 3", subscribe(1, &[("t", 3)])),
        ("SUBSCRIBE with a reserved option", reserved_option),
        ("SUBSCRIBE cut short", packet(0x82, &[0, 1, 0, 5, b'a'])),
        ("SUBSCRIBE to an empty filter", subscribe(1, &[("", 0)])),
        ("SUBSCRIBE to a filter with U+0000", subscribe(1, &[("a\0b", 0)])),
        ("SUBSCRIBE to a/#/b", subscribe(1, &[("a/#/b", 0)])),
        ("UNSUBSCRIBE with packet identifier 0", unsubscribe(0, "t")),
        ("UNSUBSCRIBE without filters", packet(0xa2, &[0, 1])),
        ("PUBLISH with QoS 3", publish(6, "t", 1, "x")),
        ("PUBLISH with DUP and QoS 0", publish(8, "t", 0, "x")),
        ("PUBLISH with packet identifier 0", publish(2, "t", 0, "x")),
        ("PUBLISH to a wildcard", publish(0, "a/#", 0, "x")),
        ("PUBLISH to nothing", publish(0, "", 0, "x")),
        ("PUBLISH to a topic with U+0000", publish(0, "a\0b", 0, "x")),
        ("PUBLISH to a topic that is no UTF-8", packet(0x30, &[0, 2, 0xff, 0xfe])),
        ("PUBLISH without a body for its topic", packet(0x30, &[0, 9, b'a'])),
        ("empty PUBLISH", packet(0x30, &[])),
        ("a length of five bytes", vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ("a packet larger than allowed", vec![0x30, 0xff, 0xff, 0xff, 0x7f]),
    ] {
        check_wrong(name, &bytes);
    }
}

#[test]
fn wrong_beginnings_end_at_once_and_open_nothing() {
    let with = |at: usize, byte: u8| {
        let mut bytes = connect("a", true, 0, None);
        bytes[at] = byte;
        bytes
    };
    for (name, bytes) in [
        ("a web browser", b"GET / HTTP/1.1\r\n".to_vec()),
        ("a TLS client", b"\x16\x03\x01\x02\x00".to_vec()),
        ("a PUBLISH first", publish(0, "t", 0, "x")),
        ("CONNECT with flags", with(0, 0x11)),
        ("another protocol name", with(4, b'X')),
        ("a reserved connect flag", with(9, 0x03)),
        ("will QoS 3", with(9, 0x1e)),
        ("will QoS without a will", with(9, 0x0a)),
        ("a password without a user name", with(9, 0x42)),
        ("a client id with U+0000", connect("a\0", true, 0, None)),
        ("a will to a wildcard", connect("a", true, 0, Some(("w/#", "x", 0, false)))),
        ("a CONNECT cut short", packet(0x10, b"\0\x04MQTT\x04\x02")),
        ("an empty CONNECT", packet(0x10, &[])),
        ("a CONNECT with something behind", packet(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x01a???")),
    ] {
        let mut bench = Bench::new();
        let conn = bench.open();
        bench.say(conn, &bytes);
        assert!(bench.fate(conn).is_some(), "{name}: {:?}", bench.told(conn));
        assert_eq!(bench.told(conn), b"", "{name}: no word to who speaks another language");
        assert_eq!(bench.broker.gauges(), crate::broker::Gauges::default(), "{name}");
    }
}

#[test]
fn an_acknowledgement_of_nothing_does_no_harm_and_is_counted() {
    let mut bench = Bench::new();
    let conn = bench.client("a", true);
    bench.say(conn, &[ack(PUBACK, 5), ack(PUBREC, 5), ack(PUBCOMP, 5)].concat());
    assert_eq!(bench.told(conn), ack(PUBREL, 5), "ends an exchange that only the client remembers");
    assert_eq!(bench.fate(conn), None);
    assert_eq!(bench.broker.counters().stray_acknowledgements_total, 3);
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection() {
    for (qos, wrong) in [(1, PUBREC), (1, PUBCOMP), (2, PUBACK), (2, PUBCOMP)] {
        let mut bench = Bench::new();
        let conn = bench.subscriber("a", true, "t", qos);
        bench.local("t", "x", Qos::ExactlyOnce, false);
        let id = bench.heard(conn)[0].2;
        bench.say(conn, &ack(wrong, id));
        assert!(matches!(bench.fate(conn), Some(CloseReason::Protocol(_))), "{wrong:x} of QoS {qos}");
    }
}

#[test]
fn a_client_that_never_reads_its_answers_is_cut() {
    let mut bench = Bench::with(Limits {
        outbox_bytes_max: 100,
        queued_bytes_max: 100,
        packet_bytes_max: 100,
        ..Limits::default()
    });
    bench.writes = false;
    let conn = bench.client("a", true);
    for _ in 0..1000 {
        bench.say(conn, PING);
    }
    assert_eq!(bench.fate(conn), Some(&CloseReason::Stalled));
    assert!(bench.told(conn).len() < 1000);
}

fn packets() -> impl Strategy<Value = Vec<u8>> {
    let topics = || prop::sample::select(vec!["t", "t/a", "#", "+", "", "$SYS/a", "a\0"]);
    prop_oneof![
        (prop::sample::select(vec!["a", "b", ""]), any::<bool>(), 0_u16..3, any::<bool>(), 0_u8..3).prop_map(
            |(id, clean, keep_alive, will, qos)| {
                connect(id, clean, keep_alive, will.then_some(("t", "will", qos, true)))
            }
        ),
        (0_u16..4, topics(), 0_u8..4).prop_map(|(id, topic, qos)| subscribe(id, &[(topic, qos)])),
        (0_u16..4, topics()).prop_map(|(id, topic)| unsubscribe(id, topic)),
        (0_u8..16, topics(), 0_u16..4, 0_usize..300).prop_map(|(flags, topic, id, len)| publish(
            flags,
            topic,
            id,
            &"x".repeat(len)
        )),
        (prop::sample::select(vec![PUBACK, PUBREC, PUBREL, PUBCOMP]), 0_u16..4)
            .prop_map(|(kind, id)| ack(kind, id)),
        (prop::sample::select(vec!["a", "b", ""]), any::<bool>(), 0_u32..20, 0_u16..5).prop_map(
            |(id, clean, expiry_s, aliases)| {
                connect5(id, clean, 0, &[four(0x11, expiry_s), two(0x22, aliases)], None)
            }
        ),
        (1_u16..4, prop::sample::select(vec!["t", "$share/x/t", "#", "$SYS/#"]), 0_u8..64)
            .prop_map(|(id, topic, options)| subscribe5(id, Some(5), &[(topic, options)])),
        (0_u8..16, topics(), 0_u16..4, 0_u16..4).prop_map(|(flags, topic, id, alias)| publish5(
            flags,
            topic,
            id,
            &[two(0x23, alias), four(0x02, 3)],
            "x"
        )),
        (0_u8..6, 0_u32..5).prop_map(|(code, expiry_s)| disconnect5(code, &[four(0x11, expiry_s)])),
        Just(PING.to_vec()),
        Just(GOODBYE.to_vec()),
        vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_bytes_in_any_order_break_no_promise(
        steps in vec((0_usize..3, packets(), 0_u8..20, any::<bool>()), 1..60),
        stored in any::<bool>(),
        turn_work_max in prop::sample::select(vec![1, 500, Limits::default().turn_work_max]),
    ) {
        let limits = Limits { turn_work_max, queued_max: 5, queued_bytes_total_max: 2000, inflight_max: 3, sessions_max: 5, ..Limits::default() };
        let mut bench = if stored {
            Bench::stored(Settings { limits, listeners: vec![open_door()], ..Settings::default() })
        } else {
            Bench::with(limits)
        };
        let witness = bench.subscriber("witness", true, "alive", 0);
        let mut conns = [bench.client("a", false), bench.client("b", true), bench.open()];
        for (who, bytes, event, halves) in steps {
            if bench.fate(conns[who]).is_some() {
                conns[who] = bench.open();
            }
            let cut = if halves { bytes.len() / 2 } else { 0 };
            bench.say(conns[who], &bytes[..cut]);
            bench.say(conns[who], &bytes[cut..]);
            match event {
                0 => { bench.lose(conns[who]); conns[who] = bench.open(); }
                1 => bench.wait(std::time::Duration::from_secs(2)),
                2..6 => bench.local("t", "local", Qos::ExactlyOnce, event == 2),
                _ => {}
            }
            let gauges = bench.broker.gauges();
            prop_assert!(gauges.held_bytes <= 2000 + 5 * QUEUED_SHARE_BYTES_MIN && gauges.sessions <= 5 && gauges.connections <= 4);
        }
        bench.told(witness);
        bench.local("alive", "yes", Qos::AtMostOnce, false);
        prop_assert_eq!(bench.heard(witness).len(), 1);
        for conn in conns {
            bench.lose(conn);
        }
        // Sessions with ids of the broker's choice end by their expiry.
        bench.wait(std::time::Duration::from_secs(60));
        for id in ["a", "b"] {
            let conn = bench.open();
            bench.say(conn, &connect(id, true, 0, None));
            bench.lose(conn);
        }
        bench.lose(witness);
        let gauges = bench.broker.gauges();
        prop_assert_eq!((gauges.sessions, gauges.subscriptions, gauges.held_bytes), (0, 0, 0));
        // The figures of `$SYS` find nobody who wants them any more.
        bench.wait(std::time::Duration::from_secs(60));
        prop_assert_eq!(bench.broker.poll_timeout(), None, "no alarm is left behind");
        // Retained messages are all that may stay.
        bench.wait(std::time::Duration::from_secs(60));
        prop_assert_eq!(bench.disk.rows(), 0);
        prop_assert_eq!(bench.disk.facts.len(), if stored { bench.broker.gauges().retained_messages } else { 0 });
        prop_assert_eq!(bench.broker.gauges().waiting_acknowledgements, 0);
    }
}

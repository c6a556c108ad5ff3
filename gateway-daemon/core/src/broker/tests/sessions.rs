//! What outlives a connection.

use super::wire::{
    Bench, GOODBYE, PUBACK, PUBCOMP, PUBREC, PUBREL, ack, connect, frames, packet, publish, subscribe,
};
use std::time::Duration;

use crate::broker::{CloseReason, ConnId, Limits};
use crate::uplink::row::Qos;

/// Connects again; gives the connection, session present, and what was said after CONNACK.
fn again(bench: &mut Bench, id: &str, clean: bool) -> (ConnId, bool, Vec<u8>) {
    let conn = bench.open();
    bench.say(conn, &connect(id, clean, 0, None));
    let told = bench.told(conn);
    assert_eq!((told[0], told[1], told[3]), (0x20, 2, 0));
    (conn, told[2] == 1, told[4..].to_vec())
}

#[test]
fn a_persistent_session_keeps_subscriptions_and_messages_in_order() {
    let mut bench = Bench::new();
    let conn = bench.subscriber("a", false, "t", 1);
    bench.say(conn, GOODBYE);
    for body in ["1", "2", "3"] {
        bench.local("t", body, Qos::AtLeastOnce, false);
    }
    bench.local("t", "at most once, and nobody there", Qos::AtMostOnce, false);
    let (_, present, owed) = again(&mut bench, "a", false);
    assert!(present);
    let bodies: Vec<u8> = frames(&owed).iter().map(|frame| frame[frame.len() - 1]).collect();
    assert_eq!(bodies, *b"123");
    assert_eq!(bench.broker.counters().dropped_away_messages_total, 1);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_in_order_with_dup_and_its_identifier() {
    let mut bench = Bench::new();
    let conn = bench.subscriber("a", false, "t", 2);
    for (body, qos) in
        [("1", Qos::AtLeastOnce), ("2", Qos::ExactlyOnce), ("3", Qos::ExactlyOnce), ("4", Qos::AtLeastOnce)]
    {
        bench.local("t", body, qos, false);
    }
    let ids: Vec<u16> = bench.heard(conn).iter().map(|heard| heard.2).collect();
    bench.say(conn, &ack(PUBACK, ids[0]));
    bench.say(conn, &ack(PUBREC, ids[1]));
    bench.lose(conn);
    bench.local("t", "5", Qos::AtLeastOnce, false);
    let (conn, present, owed) = again(&mut bench, "a", false);
    assert!(present);
    let owed: Vec<(u8, Vec<u8>)> =
        frames(&owed).iter().map(|frame| (frame[0], frame[frame.len() - 3..].to_vec())).collect();
    let id = |index: usize, body: u8| [&ids[index].to_be_bytes()[..], &[body]].concat();
    assert_eq!(owed.len(), 4);
    assert_eq!(owed[0].0, PUBREL, "received already, only the release is owed");
    assert_eq!(owed[1], (0x3c, id(2, b'3')));
    assert_eq!(owed[2], (0x3a, id(3, b'4')));
    assert_eq!((owed[3].0, owed[3].1[2]), (0x32, b'5'));
    bench.say(conn, &ack(PUBCOMP, ids[1]));
    bench.say(conn, &ack(PUBREC, ids[2]));
    bench.say(conn, &ack(PUBCOMP, ids[2]));
    bench.say(conn, &ack(PUBACK, ids[3]));
    let last = u16::from_be_bytes([owed[3].1[0], owed[3].1[1]]);
    bench.say(conn, &ack(PUBACK, last));
    assert_eq!(bench.fate(conn), None);
    assert_eq!(bench.broker.gauges().held_bytes, 0);
}

#[test]
fn a_qos_2_message_is_routed_once_across_a_reconnect_of_its_publisher() {
    let mut bench = Bench::new();
    let listener = bench.subscriber("listener", true, "t", 0);
    let conn = bench.client("speaker", false);
    bench.say(conn, &publish(4, "t", 9, "x"));
    bench.lose(conn);
    let (conn, present, _) = again(&mut bench, "speaker", false);
    assert!(present);
    bench.say(conn, &publish(12, "t", 9, "x"));
    assert_eq!(bench.told(conn), ack(PUBREC, 9));
    bench.say(conn, &ack(PUBREL, 9));
    assert_eq!(bench.told(conn), ack(PUBCOMP, 9));
    assert_eq!(bench.heard(listener).len(), 1);
}

#[test]
fn a_clean_session_is_forgotten_and_forgets() {
    let mut bench = Bench::new();
    let conn = bench.subscriber("a", false, "t", 1);
    bench.lose(conn);
    bench.local("t", "owed", Qos::AtLeastOnce, false);
    let (conn, present, owed) = again(&mut bench, "a", true);
    assert!(!present && owed.is_empty());
    bench.local("t", "unwanted", Qos::AtLeastOnce, false);
    assert_eq!(bench.told(conn), b"");
    assert_eq!(bench.broker.counters().dropped_session_messages_total, 1);
    bench.lose(conn);
    let (conn, present, _) = again(&mut bench, "a", false);
    assert!(!present, "a clean session leaves nothing");
    bench.lose(conn);
    assert_eq!(bench.broker.gauges().sessions, 1);
    assert_eq!(bench.broker.gauges().held_bytes, 0);
}

#[test]
fn a_newer_connection_takes_the_session_over() {
    let mut bench = Bench::new();
    let old = bench.subscriber("a", false, "t", 1);
    let (new, present, _) = again(&mut bench, "a", false);
    assert!(present);
    assert_eq!(bench.fate(old), Some(&CloseReason::TakenOver));
    bench.local("t", "x", Qos::AtLeastOnce, false);
    assert_eq!((bench.heard(new).len(), bench.told(old).len()), (1, 0));
    bench.say(old, &publish(0, "t", 0, "the dead do not speak"));
    bench.lose(old);
    assert_eq!(bench.told(new), b"");
    assert_eq!(bench.broker.gauges().connections, 1);
}

#[test]
fn a_full_queue_drops_the_newest_and_counts() {
    let mut bench = Bench::with(Limits { queued_max: 3, ..Limits::default() });
    let conn = bench.subscriber("a", false, "t", 1);
    bench.lose(conn);
    for body in ["1", "2", "3", "4", "5"] {
        bench.local("t", body, Qos::AtLeastOnce, false);
    }
    assert_eq!(bench.broker.counters().dropped_full_messages_total, 2);
    let (_, _, owed) = again(&mut bench, "a", false);
    assert_eq!(frames(&owed).iter().map(|frame| frame[frame.len() - 1]).collect::<Vec<_>>(), *b"123");
}

#[test]
fn all_queues_together_are_bounded_in_bytes() {
    let mut bench = Bench::with(Limits { queued_bytes_total_max: 100_000, ..Limits::default() });
    for id in ["a", "b", "c"] {
        let conn = bench.subscriber(id, false, "t", 1);
        bench.lose(conn);
    }
    for _ in 0..1000 {
        bench.local("t", &"x".repeat(34), Qos::AtLeastOnce, false);
    }
    let gauges = bench.broker.gauges();
    assert!((90_000..=100_000).contains(&gauges.held_bytes), "{gauges:?}");
    assert_eq!(bench.broker.counters().dropped_full_messages_total, 3000 - gauges.held_messages);
}

#[test]
fn sessions_connections_and_subscriptions_have_limits_that_are_told() {
    let limits = Limits { sessions_max: 1, connections_max: 2, subscriptions_max: 1, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let first = bench.client("a", true);
    bench.say(first, &subscribe(1, &[("x", 0), ("y", 0), ("x", 1)]));
    assert_eq!(bench.told(first), [0x90, 5, 0, 1, 0, 0x80, 1]);
    let second = bench.open();
    bench.say(second, &connect("b", true, 0, None));
    assert_eq!(bench.told(second), [0x20, 2, 0, 3], "server unavailable");
    let idle = bench.open();
    let third = bench.open();
    assert_eq!((bench.fate(idle), bench.fate(third)), (Some(&CloseReason::GaveWay), None));
    assert_eq!(bench.fate(first), None);
}

#[test]
fn a_session_outlives_its_connection_no_longer_than_the_limit_allows() {
    let mut bench = Bench::with(Limits { session_expiry_max_s: 60, ..Limits::default() });
    let conn = bench.subscriber("a", false, "t", 1);
    bench.wait(Duration::from_secs(100)); // connected sessions do not end
    bench.say(conn, GOODBYE);
    bench.wait(Duration::from_secs(59));
    let (conn, present, _) = again(&mut bench, "a", false);
    assert!(present);
    bench.lose(conn);
    bench.wait(Duration::from_secs(61));
    assert!(!again(&mut bench, "a", false).1);
}

#[test]
fn a_client_of_5_is_told_how_long_its_session_lives() {
    let mut bench = Bench::with(Limits { session_expiry_max_s: 60, ..Limits::default() });
    for (wish, answer) in [(61_u32, Some(60_u32)), (u32::MAX, Some(60)), (60, None), (0, None)] {
        let conn = bench.open();
        let mut body = b"\0\x04MQTT\x05\x02\0\0\x05\x11".to_vec();
        body.extend(wish.to_be_bytes());
        body.extend(b"\0\x01a");
        bench.say(conn, &packet(0x10, &body));
        let told = bench.told(conn);
        let said = told.windows(5).find(|five| five[0] == 0x11).map(|five| five[1..].to_vec());
        assert_eq!(said, answer.map(|seconds| seconds.to_be_bytes().to_vec()), "{wish}: {told:?}");
    }
}

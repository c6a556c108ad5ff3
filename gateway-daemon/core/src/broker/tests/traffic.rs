//! Clients that do not read, and clients that do not finish what they say.

use std::time::Duration;

use super::wire::{Bench, PING, PUBACK, ack, connect, publish, subscribe};
use crate::broker::{CloseReason, ConnId, Limits};
use crate::uplink::row::Qos;

const TOTAL: usize = 400_000;

fn limits() -> Limits {
    Limits {
        unsent_bytes_total_max: TOTAL,
        received_bytes_total_max: TOTAL,
        outbox_bytes_max: 64 << 10,
        packet_bytes_max: 32 << 10,
        connections_max: 1000,
        ..Limits::default()
    }
}

/// A client of an address.
fn client_at(bench: &mut Bench, peer: &str, id: &str) -> ConnId {
    let conn = bench.open_at(peer);
    bench.say(conn, &connect(id, true, 0, None));
    bench.told(conn);
    conn
}

/// A client that has subscribed and reads nothing from here on.
fn deaf(bench: &mut Bench, id: &str, filter: &str, qos: u8) -> ConnId {
    let conn = bench.subscriber(id, true, filter, qos);
    bench.deaf.insert(conn);
    conn
}

#[test]
fn bytes_to_clients_that_never_read_have_one_bound_and_those_that_read_get_everything() {
    for qos in [0, 1] {
        let mut bench = Bench::with(limits());
        let reader = bench.subscriber("reader", true, "news", 1);
        for number in 0..100 {
            deaf(&mut bench, &format!("deaf-{number}"), "#", qos);
        }
        for number in 0..200 {
            bench.wait(Duration::from_millis(20));
            bench.local("flood", &"x".repeat(3000), Qos::AtLeastOnce, false);
            bench.local("news", &number.to_string(), Qos::AtLeastOnce, false);
            let heard = bench.heard(reader);
            assert_eq!(heard.len(), 1, "{number}, QoS {qos}");
            bench.say(reader, &ack(PUBACK, heard[0].2));
            let unsent = bench.broker.gauges().unsent_bytes;
            assert!(unsent <= TOTAL + TOTAL / 4 + 4000, "{unsent}");
        }
        assert_eq!(bench.fate(reader), None);
        assert!(bench.broker.counters().dropped_slow_messages_total > 0 || qos == 1);
    }
}

#[test]
fn the_slowest_go_first_when_somebody_needs_room() {
    let mut bench = Bench::with(limits());
    let slow: Vec<ConnId> =
        (0..20).map(|number| deaf(&mut bench, &format!("deaf-{number}"), "flood", 0)).collect();
    for _ in 0..20 {
        bench.local("flood", &"x".repeat(3000), Qos::AtMostOnce, false);
    }
    bench.wait(Duration::from_secs(1));
    // One of them has read something since.
    let alive = slow[0];
    bench.broker.handle_sent(bench.now, alive, 10);
    bench.run();
    for number in 0..40 {
        let conn = deaf(&mut bench, &format!("new-{number}"), "flood", 0);
        bench.local("flood", &"x".repeat(3000), Qos::AtMostOnce, false);
        assert_eq!(bench.fate(conn), None);
    }
    let cut: Vec<_> = slow.iter().filter(|conn| bench.fate(**conn) == Some(&CloseReason::Stalled)).collect();
    assert!(!cut.is_empty() && !cut.contains(&&alive), "{cut:?}");
    let counters = bench.broker.counters();
    assert!(counters.crowded_out_connections_total >= cut.len() as u64);
    assert!(counters.stalled_total >= counters.crowded_out_connections_total);
}

#[test]
fn answers_to_clients_that_never_read_are_bounded_together() {
    let mut bench = Bench::with(limits());
    let reader = bench.client("reader", true);
    let mut noisy = Vec::new();
    for number in 0..50 {
        let conn = bench.client(&format!("noisy-{number}"), true);
        bench.deaf.insert(conn);
        noisy.push(conn);
    }
    let pings = PING.repeat(2000);
    for _ in 0..20 {
        bench.wait(Duration::from_millis(300));
        for conn in &noisy {
            bench.say(*conn, &pings);
            let unsent = bench.broker.gauges().unsent_bytes;
            assert!(unsent <= TOTAL + TOTAL / 4 + 4000, "{unsent}");
        }
        bench.say(reader, PING);
        assert_eq!(bench.told(reader), [0xd0, 0]);
    }
    assert_eq!(bench.fate(reader), None);
}

#[test]
fn what_a_session_of_a_client_that_does_not_read_is_owed_comes_when_it_reads_again() {
    let mut bench = Bench::with(limits());
    let conns: Vec<ConnId> =
        (0..8).map(|number| deaf(&mut bench, &format!("deaf-{number}"), "t", 1)).collect();
    for _ in 0..30 {
        bench.local("t", &"x".repeat(3000), Qos::AtLeastOnce, false);
    }
    bench.deaf.clear();
    for conn in &conns {
        let mut heard = bench.heard(*conn).len();
        bench.broker.handle_sent(bench.now, *conn, 1 << 20);
        bench.run();
        heard += bench.heard(*conn).len();
        assert_eq!((heard, bench.fate(*conn)), (30, None));
    }
}

#[test]
fn unfinished_packets_have_one_bound_and_finished_ones_get_through() {
    let mut bench = Bench::with(limits());
    let listener = bench.subscriber("listener", true, "t", 0);
    let whole = publish(0, "t", 0, &"x".repeat(30_000));
    let mut slow = Vec::new();
    for number in 0..200 {
        let conn = bench.client(&format!("slow-{number}"), true);
        for piece in whole[..whole.len() - 1].chunks(1000) {
            bench.say(conn, piece);
            let unread = bench.broker.gauges().unread_bytes;
            assert!(unread <= TOTAL + 70_000, "{unread}");
        }
        slow.push(conn);
        bench.wait(Duration::from_millis(10));
    }
    let honest = bench.client("honest", true);
    for piece in whole.chunks(1000) {
        bench.say(honest, piece);
        bench.wait(Duration::from_millis(10));
    }
    assert_eq!(bench.heard(listener).len(), 1);
    assert_eq!(bench.fate(honest), None);
    let cut = slow.iter().filter(|conn| matches!(bench.fate(**conn), Some(CloseReason::Quota(_)))).count();
    assert!(cut > 150, "{cut}");
    assert!(matches!(bench.fate(slow[0]), Some(CloseReason::Quota(_))), "the oldest first");
}

#[test]
fn bytes_that_wait_because_nothing_is_read_end_no_connection_and_all_go_on() {
    let mut bench = Bench::durable();
    bench.settings.limits = Limits { dirty_bytes_max: 3000, received_bytes_total_max: 20_000, ..limits() };
    bench.crash();
    let away = bench.subscriber("away", false, "t", 1);
    bench.lose(away);
    bench.disk.slow = true;
    let conns: Vec<ConnId> = (0..40).map(|number| bench.client(&format!("speaker-{number}"), true)).collect();
    for conn in &conns {
        let many: Vec<u8> = (1..=10).flat_map(|id| publish(2, "t", id, &"x".repeat(100))).collect();
        bench.say(*conn, &many);
        bench.say(*conn, &many[..many.len() / 2]);
    }
    while bench.is_writing() {
        bench.commit();
    }
    for conn in &conns {
        assert_eq!(bench.fate(*conn), None);
        assert!(bench.told(*conn).starts_with(&(1..=10).flat_map(|id| ack(PUBACK, id)).collect::<Vec<u8>>()));
        assert_ne!(bench.holds(*conn).last(), Some(&true));
    }
    assert!(bench.broker.gauges().unread_bytes < 40 * 120);
}

#[test]
fn what_a_connection_held_is_given_back_when_it_ends() {
    let mut bench = Bench::with(limits());
    let conn = bench.open();
    bench.say(conn, &connect("a", true, 0, None));
    bench.say(conn, &subscribe(1, &[("t", 0)]));
    bench.deaf.insert(conn);
    bench.local("t", &"x".repeat(1000), Qos::AtMostOnce, false);
    bench.say(conn, &publish(0, "t", 0, &"x".repeat(1000))[..500]);
    let gauges = bench.broker.gauges();
    assert!(gauges.unsent_bytes > 1000 && gauges.unread_bytes >= 500, "{gauges:?}");
    bench.lose(conn);
    let gauges = bench.broker.gauges();
    assert_eq!((gauges.unsent_bytes, gauges.unread_bytes), (0, 0));
}

#[test]
fn an_honest_slow_sender_is_not_closed_for_what_another_address_piles_up() {
    let mut bench = Bench::with(limits());
    let listener = bench.subscriber("listener", true, "t", 0);
    let whole = publish(0, "t", 0, &"x".repeat(30_000));
    let honest = bench.open_at("10.0.0.1");
    bench.say(honest, &connect("honest", true, 0, None));
    let mut crowd = Vec::new();
    for number in 0..40 {
        let conn = bench.open_at("10.0.0.9");
        bench.say(conn, &connect(&format!("crowd-{number}"), true, 0, None));
        crowd.push(conn);
    }
    // Each of the crowd finishes its packet all the time and begins another one; the honest one takes its time.
    for piece in whole.chunks(300) {
        bench.say(honest, piece);
        for conn in &mut crowd {
            if bench.fate(*conn).is_some() {
                *conn = bench.open_at("10.0.0.9");
                bench.say(*conn, &connect(&format!("crowd-{}", conn.0), true, 0, None));
            }
            bench.say(*conn, &whole[..15_000]);
            bench.say(*conn, &whole[15_000..]);
            bench.say(*conn, &whole[..15_000]);
            bench.say(*conn, &whole[15_000..29_000]);
        }
        bench.wait(Duration::from_millis(100));
        for conn in &crowd {
            bench.say(*conn, &whole[29_000..]);
        }
        assert_eq!(bench.fate(honest), None);
    }
    assert!(bench.broker.counters().crowded_out_connections_total > 0, "the total was full");
    assert!(!bench.heard(listener).is_empty());
}

#[test]
fn an_honest_slow_sender_is_not_closed_for_many_that_each_have_less() {
    let mut bench = Bench::with(limits());
    let whole = publish(2, "t", 7, &"x".repeat(30_000));
    let honest = client_at(&mut bench, "10.0.0.1", "honest");
    let each = TOTAL / 5 * 4 / 40 - 1;
    for number in 0..40 {
        let conn = client_at(&mut bench, &format!("10.0.1.{}", number % 4), &format!("crowd-{number}"));
        bench.say(conn, &whole[..each]);
    }
    assert_eq!(bench.broker.counters().crowded_out_connections_total, 0, "just below the bound");
    for piece in whole.chunks(1000) {
        bench.say(honest, piece);
        bench.wait(Duration::from_millis(100));
        assert_eq!(bench.fate(honest), None);
    }
    assert_eq!(bench.told(honest), ack(PUBACK, 7));
    assert!(bench.broker.counters().crowded_out_connections_total > 0, "the total was full");
}

#[test]
fn an_honest_reader_that_pauses_is_not_closed_for_many_that_each_are_owed_less() {
    let mut bench = Bench::with(limits());
    let honest = client_at(&mut bench, "10.0.0.1", "honest");
    bench.say(honest, &subscribe(1, &[("all/#", 0), ("one", 0)]));
    bench.told(honest);
    bench.deaf.insert(honest);
    for number in 0..100 {
        let conn = client_at(&mut bench, &format!("10.0.1.{}", number % 4), &format!("deaf-{number}"));
        bench.say(conn, &subscribe(1, &[("all/#", 0)]));
        bench.told(conn);
        bench.deaf.insert(conn);
    }
    for _ in 0..8 {
        bench.local("one", &"x".repeat(3000), Qos::AtMostOnce, false);
    }
    let reader = client_at(&mut bench, "10.0.2.1", "reader");
    bench.say(reader, &subscribe(1, &[("all/#", 1)]));
    bench.told(reader);
    for _ in 0..60 {
        bench.wait(Duration::from_millis(300));
        bench.local("all/x", &"x".repeat(400), Qos::AtLeastOnce, false);
        for (_, _, id, _) in bench.heard(reader) {
            bench.say(reader, &ack(PUBACK, id));
        }
        assert_eq!(bench.fate(honest), None);
    }
    assert!(bench.broker.counters().crowded_out_connections_total > 0, "the total was full");
}

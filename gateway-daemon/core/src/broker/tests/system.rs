//! `$SYS`, and topics of every kind.

use std::time::Duration;

use super::wire::{Bench, GOODBYE, frames, publish, subscribe};
use crate::broker::Limits;
use crate::uplink::row::Qos;

#[test]
fn figures_are_told_to_who_subscribes_and_again_while_it_stays() {
    let mut bench = Bench::new();
    let conn = bench.client("a", true);
    bench.say(conn, &subscribe(1, &[("$SYS/broker/clients/connected", 0), ("$SYS/broker/version", 0)]));
    let told = bench.told(conn);
    let told = frames(&told);
    assert_eq!(told.len(), 3, "SUBACK and two figures");
    assert!(told[1..].iter().all(|frame| frame[0] == 0x31), "as retained");
    bench.wait(Duration::from_secs(10));
    let heard = bench.heard(conn);
    assert_eq!(heard, [(0x30, "$SYS/broker/clients/connected".into(), 0, "1".into())]);
    bench.say(conn, GOODBYE);
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.broker.poll_timeout(), None, "nobody wants them any more");
}

#[test]
fn every_figure_has_a_value() {
    let mut bench = Bench::new();
    let conn = bench.client("a", true);
    bench.say(conn, &subscribe(1, &[("$SYS/#", 0)]));
    let told = bench.told(conn);
    let count = frames(&told).len() - 1;
    assert!(count >= 20, "{count}");
    bench.wait(Duration::from_secs(10));
    let heard = bench.heard(conn);
    let uptime = heard.iter().find(|heard| heard.1 == "$SYS/broker/uptime").unwrap();
    assert_eq!(uptime.3, "10 seconds");
    assert!(heard.iter().all(|heard| !heard.3.is_empty()));
}

#[test]
fn payloads_of_any_legal_size_pass() {
    let mut bench = Bench::with(Limits { packet_bytes_max: 100_000, ..Limits::default() });
    let listener = bench.subscriber("listener", true, "t", 1);
    let speaker = bench.client("speaker", true);
    // A packet of the largest size: one byte of type, three of length, topic and packet identifier.
    for len in [0, 1, 127, 128, 16_383, 16_384, 100_000 - 4 - 3 - 2] {
        let body = "x".repeat(len);
        bench.say(speaker, &publish(2, "t", 1, &body));
        let heard = bench.heard(listener);
        assert_eq!(heard.len(), 1, "{len}");
        assert_eq!(heard[0].3.len(), len);
        bench.say(listener, &super::wire::ack(0x40, heard[0].2));
    }
    assert_eq!(bench.fate(speaker), None);
}

#[test]
fn client_ids_and_topics_of_any_legal_kind_pass() {
    let mut bench = Bench::new();
    let long = "x".repeat(65_535);
    for id in ["a/b", "ümlaut", "#", "+", "日本", "$SYS", "%c", " ", &long] {
        let conn = bench.subscriber(id, true, "größe/+", 0);
        bench.local("größe/日本", "x", Qos::AtMostOnce, false);
        assert_eq!(bench.heard(conn).len(), 1, "{id}");
        bench.lose(conn);
    }
    let all = bench.subscriber("all", true, "#", 0);
    for topic in ["/", "//", " ", "a b", "ä", &long, "\u{1F600}", "a/$SYS"] {
        bench.local(topic, "x", Qos::AtMostOnce, false);
        assert_eq!(bench.heard(all)[0].1, topic);
    }
}

#[test]
fn two_hundred_filters_fit_into_one_subscribe() {
    let mut bench = Bench::new();
    let conn = bench.client("a", true);
    let names: Vec<String> = (0..200).map(|number| format!("topic/{number}/+")).collect();
    let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    bench.say(conn, &subscribe(1, &filters));
    let told = bench.told(conn);
    assert_eq!(told[told.len() - 200..], [1; 200]);
    bench.local("topic/199/x", "x", Qos::AtLeastOnce, false);
    assert_eq!(bench.heard(conn).len(), 1);
}

#[test]
fn more_retained_messages_than_fit_at_once_come_as_the_client_reads() {
    let mut bench = Bench::with(Limits { outbox_bytes_max: 2000, ..Limits::default() });
    for number in 0..500 {
        bench.local(&format!("t/{number:03}"), &"x".repeat(50), Qos::AtLeastOnce, true);
    }
    for qos in [0, 1] {
        let conn = bench.client("a", true);
        bench.writes = false;
        bench.say(conn, &subscribe(1, &[("t/#", qos)]));
        let mut got = Vec::new();
        let mut turns = 0;
        while got.len() < 500 {
            let told = bench.told(conn);
            bench.broker.handle_sent(bench.now, conn, told.len());
            for frame in frames(&told).into_iter().filter(|frame| frame[0] & 0xf0 == 0x30) {
                got.push(String::from_utf8_lossy(&frame[4..9]).into_owned());
                if qos == 1 {
                    let id = u16::from_be_bytes([frame[9], frame[10]]);
                    bench.broker.handle_bytes(bench.now, conn, &super::wire::ack(0x40, id));
                }
            }
            bench.run();
            turns += 1;
            assert!(turns < 1000, "{} of 500", got.len());
        }
        assert!(turns > 5, "not all at once");
        let expected: Vec<String> = (0..500).map(|number| format!("t/{number:03}")).collect();
        assert_eq!(got, expected, "each once, in order");
        assert_eq!(bench.broker.counters().dropped_slow_messages_total, 0);
        bench.writes = true;
        bench.lose(conn);
    }
}

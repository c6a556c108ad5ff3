//! Whoever waits, waits for something that is due, and no longer than it needs; and what waited over a crash keeps its order.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::wire::{Bench, PUBACK, PUBREC, PUBREL, ack, connect, frames, publish, subscribe};
use crate::broker::{Answer, ConnId, TopicFilter};
use crate::uplink::row::Qos;

const MS: Duration = Duration::from_millis(1);

/// A broker over a store whose journal is full with so many bytes.
fn bench(dirty_bytes_max: u64) -> Bench {
    let mut bench = Bench::durable();
    bench.settings.limits.dirty_bytes_max = dirty_bytes_max;
    bench.crash();
    bench
}

fn absent(bench: &mut Bench, id: &str, filter: &str) {
    let conn = bench.subscriber(id, false, filter, 1);
    bench.lose(conn);
}

#[test]
fn retained_messages_that_may_wait_hold_nobody_up() {
    let mut bench = bench(20_000);
    absent(&mut bench, "away", "t");
    let chatter = bench.client("chatter", true);
    let speaker = bench.client("speaker", true);
    for number in 0..100 {
        bench.say(chatter, &publish(1, &format!("state/{number}"), 0, &"x".repeat(600)));
    }
    bench.say(speaker, &publish(2, "t", 1, "x"));
    assert_eq!(bench.told(speaker), ack(PUBACK, 1), "at once");
    assert_ne!(bench.holds(chatter).last(), Some(&true));
    assert!(bench.broker.gauges().dirty_bytes < 20_000);
}

#[test]
fn rows_of_a_reader_that_may_still_answer_hold_no_other_publisher_up() {
    let mut bench = bench(20_000);
    let _silent = bench.subscriber("silent", false, "t", 1);
    for _ in 0..100 {
        // Nobody waits for these.
        bench.local("t", &"x".repeat(600), Qos::AtLeastOnce, false);
    }
    assert!(bench.broker.gauges().dirty_bytes < 20_000);
    assert_eq!(bench.broker.counters().dropped_local_messages_total, 0);
}

#[test]
fn full_while_the_store_fails_is_asked_again_after_the_pause() {
    let mut bench = bench(5000);
    let chatter = bench.client("chatter", true);
    bench.disk.slow = true;
    for number in 0..30 {
        bench.say(chatter, &publish(1, &format!("state/{number}"), 0, &"x".repeat(600)));
    }
    bench.fail();
    assert_eq!(bench.holds(chatter).last(), Some(&true));
    assert!(bench.broker.poll_timeout().is_some_and(|at| at <= bench.now.plus(Duration::from_secs(1))));
    bench.disk.slow = false;
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.holds(chatter).last(), Some(&false));
}

/// What a random client does.
#[derive(Debug, Clone)]
enum Deed {
    Publish { who: usize, qos: u8, retain: bool, topic: u8, size: usize },
    Acknowledge(usize),
    Commit,
    Fail,
    Wait(u64),
    Lose(usize),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (0..4_usize, 0..3_u8, any::<bool>(), 0..6_u8, 0..900_usize)
            .prop_map(|(who, qos, retain, topic, size)| Deed::Publish { who, qos, retain, topic, size }),
        2 => (0..4_usize).prop_map(Deed::Acknowledge),
        2 => Just(Deed::Commit),
        1 => Just(Deed::Fail),
        1 => (0..1500_u64).prop_map(Deed::Wait),
        1 => (0..4_usize).prop_map(Deed::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_held_something_is_due_or_under_way(deeds in vec(deed(), 1..120)) {
        let mut bench = bench(4000);
        let mut conns: Vec<ConnId> =
            (0..4).map(|who| bench.subscriber(&format!("client-{who}"), who % 2 == 0, "t/#", 2)).collect();
        let mut id = 0_u16;
        bench.disk.slow = true;
        for deed in deeds {
            match deed {
                Deed::Publish { who, qos, retain, topic, size } => {
                    id += 1;
                    let topic = if topic < 3 { format!("t/{topic}") } else { format!("state/{topic}/{id}") };
                    let flags = qos << 1 | u8::from(retain);
                    bench.say(conns[who], &publish(flags, &topic, id, &"x".repeat(size)));
                }
                Deed::Acknowledge(who) => {
                    bench.told(conns[who]);
                    let acks: Vec<u8> = (1..20).flat_map(|id| [ack(PUBACK, id), ack(PUBREC, id)].concat()).collect();
                    bench.say(conns[who], &acks);
                }
                Deed::Commit => bench.commit(),
                Deed::Fail if bench.is_writing() => bench.fail(),
                Deed::Fail => {}
                Deed::Wait(ms) => bench.wait(MS * u32::try_from(ms).unwrap()),
                Deed::Lose(who) => {
                    bench.lose(conns[who]);
                    let conn = bench.open();
                    bench.say(conn, &connect(&format!("client-{who}"), who % 2 == 0, 0, None));
                    bench.say(conn, &subscribe(1, &[("t/#", 2)]));
                    conns[who] = conn;
                }
            }
            let held = conns.iter().any(|conn| bench.holds(*conn).last() == Some(&true) && bench.fate(*conn).is_none());
            let due = bench.broker.poll_timeout().is_some_and(|at| at <= bench.now.plus(Duration::from_secs(31)));
            let failing = bench.broker.fault().is_some();
            let now = bench.broker.poll_timeout().is_some_and(|at| at <= bench.now);
            prop_assert!(!held || bench.is_writing() || now || (failing && due), "held, and nothing is due");
        }
    }
}

/// PUBACK of so many messages, one after the other, each published when the one before is acknowledged.
fn one_by_one(bench: &mut Bench, speaker: ConnId, ids: std::ops::RangeInclusive<u16>) -> Duration {
    let begun = bench.now;
    for id in ids {
        bench.say(speaker, &publish(2, "t", id, "x"));
        let mut told = bench.told(speaker);
        while told.is_empty() {
            bench.wait(MS);
            told = bench.told(speaker);
        }
        assert_eq!(told, ack(PUBACK, id));
    }
    bench.now.since(begun)
}

#[test]
fn a_reader_that_never_acknowledges_does_not_slow_the_publishers_of_its_topics() {
    for (name, qos) in [("QoS 1", 1), ("QoS 2", 2)] {
        let mut bench = Bench::durable();
        let _silent = bench.subscriber("silent", false, "t", qos);
        let speaker = bench.client("speaker", true);
        let took = one_by_one(&mut bench, speaker, 1..=500);
        assert!(took <= MS * 51, "{name}: {took:?} for 500 messages");
    }
}

#[test]
fn a_reader_that_stops_answering_is_slow_after_four_times_its_usual_answer() {
    let mut bench = Bench::durable();
    let reader = bench.subscriber("reader", false, "t", 1);
    let speaker = bench.client("speaker", true);
    for id in 1..=50 {
        bench.say(speaker, &publish(2, "t", id, "x"));
        bench.wait(MS * 100);
        let heard = bench.heard(reader);
        bench.say(reader, &ack(PUBACK, heard[0].2));
        assert_eq!(bench.told(speaker), ack(PUBACK, id));
    }
    assert!(one_by_one(&mut bench, speaker, 51..=51) > MS * 390);
    assert!(one_by_one(&mut bench, speaker, 52..=100) <= MS * 5, "it is known to be slow");
}

#[test]
fn a_reader_that_answers_as_usual_costs_no_write_with_a_full_window_either() {
    let mut bench = Bench::durable();
    bench.settings.limits.inflight_max = 4;
    bench.crash();
    let reader = bench.subscriber("reader", false, "t", 1);
    let speaker = bench.client("speaker", true);
    bench.wait(Duration::from_secs(5));
    bench.disk.rows_written = 0;
    let mut id = 0;
    for _ in 0..50 {
        for _ in 0..10 {
            id += 1;
            bench.say(speaker, &publish(2, "t", id, "x"));
        }
        for _ in 0..3 {
            bench.wait(MS * 40);
            let acks: Vec<u8> = bench.heard(reader).iter().flat_map(|heard| ack(PUBACK, heard.2)).collect();
            bench.say(reader, &acks);
        }
    }
    bench.wait(Duration::from_secs(5));
    assert_eq!(bench.disk.rows_written, 0);
    assert_eq!(bench.told(speaker), (1..=id).flat_map(|id| ack(PUBACK, id)).collect::<Vec<u8>>());
}

#[test]
fn readings_of_the_gateway_wait_for_the_interval_also_behind_a_slow_reader() {
    let mut bench = Bench::durable();
    let _silent = bench.subscriber("silent", false, "t", 1);
    let speaker = bench.client("speaker", true);
    bench.wait(Duration::from_secs(5));
    bench.disk.rows_written = 0;
    bench.local("t", "reading 1", Qos::AtLeastOnce, false);
    bench.wait(MS * 400);
    assert_eq!(bench.disk.rows_written, 0, "nobody waits for it");
    bench.say(speaker, &publish(2, "t", 1, "x"));
    assert_eq!(bench.told(speaker), ack(PUBACK, 1));
    assert_eq!(bench.disk.rows_written, 2, "with what is before it in the queue");
    bench.local("t", "reading 2", Qos::AtLeastOnce, false);
    bench.wait(MS * 400);
    assert_eq!(bench.disk.rows_written, 2);
    bench.wait(MS * 700);
    assert_eq!(bench.disk.rows_written, 3);
}

#[test]
fn a_publisher_behind_rows_that_are_on_disk_only_is_told_by_the_disk() {
    let mut bench = Bench::durable();
    absent(&mut bench, "away", "t");
    let speaker = bench.client("speaker", true);
    one_by_one(&mut bench, speaker, 1..=600);
    let reader = bench.open();
    bench.say(reader, &connect("away", false, 0, None));
    bench.told(reader);
    assert_eq!(one_by_one(&mut bench, speaker, 601..=700), Duration::ZERO);
}

#[test]
fn a_message_of_qos_2_is_sent_when_the_disk_knows_that_its_client_is_there() {
    let mut bench = Bench::durable();
    bench.settings.limits.stored_rows_max = 2;
    bench.settings.limits.when_full = crate::broker::settings::WhenFull::DropOldest;
    bench.crash();
    let conn = bench.subscriber("away", false, "t", 2);
    bench.lose(conn);
    let speaker = bench.client("speaker", true);
    bench.say(speaker, &publish(4, "t", 1, "1"));
    bench.wait(Duration::from_secs(2));
    bench.disk.slow = true;
    let conn = bench.client("away", false);
    assert_eq!(bench.told(conn), b"", "the disk says that it is away, and that nothing was sent");
    bench.commit();
    assert!(bench.told(conn).ends_with(b"1"), "at once");
    bench.disk.slow = false;
    bench.crash();
    for id in 1..=3 {
        bench.local("t", "x", Qos::AtLeastOnce, false);
        assert_eq!(bench.broker.counters().dropped_full_messages_total, id - 1, "{id}");
    }
    let conn = bench.open();
    bench.say(conn, &connect("away", false, 0, None));
    let told = bench.told(conn);
    let bodies: Vec<u8> = frames(&told[4..]).iter().map(|frame| frame[frame.len() - 1]).collect();
    assert_eq!(bodies, b"1x", "what the client may have is never dropped");
}

/// What happens to a machine whose uplink has nothing yet.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// The daemon is killed.
    Crash,
    /// The machine boots.
    Reboot,
    /// The database is replaced by an empty one.
    Replaced,
}

/// Publishers with durable sessions publish to an uplink that has nothing yet, with trouble in between: what they said, and what it gets at last.
fn order_after(parts: &[(Vec<(usize, u16)>, Trouble)]) -> (Vec<String>, Vec<String>) {
    let all = || [(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)];
    let mut bench = Bench::durable();
    bench.broker.open_bridge(all()).unwrap();
    bench.receipts = false;
    let mut expected = Vec::new();
    for (said, trouble) in parts {
        let conns: Vec<ConnId> = (0..3).map(|who| bench.client(&format!("client-{who}"), false)).collect();
        for (who, id) in said {
            let body = expected.len().to_string();
            bench.say(conns[*who], &publish(4, "t", *id, &body));
            expected.push(body);
        }
        match trouble {
            Trouble::Crash => bench.crash(),
            Trouble::Reboot => bench.reboot(),
            Trouble::Replaced => {
                bench.disk.facts.clear();
                bench.broker.handle_answer(bench.now, Answer::Reset { found: bench.disk.found() });
                bench.run();
                bench.crash();
            }
        }
        bench.broker.open_bridge(all()).unwrap();
        bench.run();
    }
    let body = |draft: &crate::payload::Draft| String::from_utf8_lossy(draft.body.bytes()).into_owned();
    (expected, bench.enqueued.iter().map(|(_, _, draft)| body(draft)).collect())
}

/// Publishers with durable sessions publish to an uplink that has nothing yet; after a crash it gets everything in this order.
fn order_after_a_crash(said: &[(usize, u16)]) -> (Vec<String>, Vec<String>) {
    let all = || [(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)];
    let mut bench = Bench::durable();
    bench.broker.open_bridge(all()).unwrap();
    bench.receipts = false;
    bench.disk.slow = true;
    let mut conns = Vec::new();
    for who in 0..=said.iter().map(|(who, _)| *who).max().unwrap_or(0) {
        conns.push(bench.client(&format!("client-{who}"), false));
    }
    let mut expected = Vec::new();
    for (number, (who, id)) in said.iter().enumerate() {
        let body = number.to_string();
        bench.say(conns[*who], &publish(4, "t", *id, &body));
        expected.push(body);
    }
    while bench.is_writing() {
        bench.commit();
    }
    bench.disk.slow = false;
    bench.crash();
    bench.broker.open_bridge(all()).unwrap();
    bench.run();
    let body = |draft: &crate::payload::Draft| String::from_utf8_lossy(draft.body.bytes()).into_owned();
    (expected, bench.enqueued.iter().map(|(_, _, draft)| body(draft)).collect())
}

#[test]
fn messages_held_for_an_uplink_enter_it_in_the_order_in_which_they_came() {
    let ids: Vec<(usize, u16)> = (251..=260).map(|id| (0, id)).collect();
    let (expected, got) = order_after_a_crash(&ids);
    assert_eq!(got, expected);
    let across: Vec<(usize, u16)> = (251..=260).flat_map(|id| [(3, id), (0, 600 - id), (2, id)]).collect();
    let (expected, got) = order_after_a_crash(&across);
    assert_eq!(got, expected);
}

#[test]
fn an_identifier_that_is_used_again_does_not_bring_its_old_place_back() {
    let all = || [(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)];
    let mut bench = Bench::durable();
    bench.broker.open_bridge(all()).unwrap();
    let conn = bench.client("client", false);
    bench.say(conn, &publish(4, "t", 1, "first"));
    bench.say(conn, &ack(PUBREL, 1));
    bench.receipts = false;
    for (id, body) in [(2, "a"), (3, "b"), (1, "c"), (4, "d")] {
        bench.say(conn, &publish(4, "t", id, body));
    }
    bench.crash();
    bench.broker.open_bridge(all()).unwrap();
    bench.run();
    let bodies: Vec<&[u8]> = bench.enqueued.iter().map(|(_, _, draft)| &**draft.body.bytes()).collect();
    assert_eq!(bodies, [b"a", b"b", b"c", b"d"]);
}

#[test]
fn held_messages_of_an_earlier_boot_keep_their_order_in_another_database() {
    let parts = [(vec![(0, 5), (1, 3), (0, 2)], Trouble::Reboot), (vec![(1, 1)], Trouble::Replaced)];
    let (expected, got) = order_after(&parts);
    assert_eq!(got, expected);
}

#[test]
fn held_messages_of_many_boots_enter_an_uplink_in_the_order_in_which_they_came() {
    let parts =
        [(vec![(2, 9)], Trouble::Reboot), (vec![(0, 8)], Trouble::Reboot), (vec![(1, 7)], Trouble::Reboot)];
    let (expected, got) = order_after(&parts);
    assert_eq!(got, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_order_of_held_messages_survives_crashes_boots_and_other_databases(
        said in prop::collection::hash_set((0..3_usize, 1..=u16::MAX), 1..40),
        troubles in vec(prop_oneof![Just(Trouble::Crash), Just(Trouble::Reboot), Just(Trouble::Replaced)], 1..6),
    ) {
        let said: Vec<(usize, u16)> = said.into_iter().collect();
        let size = said.len().div_ceil(troubles.len());
        let parts: Vec<_> = said.chunks(size).map(<[_]>::to_vec).zip(troubles).collect();
        let (expected, got) = order_after(&parts);
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn the_order_of_held_messages_does_not_depend_on_identifiers_or_clients(
        said in prop::collection::hash_set((0..5_usize, 1..=u16::MAX), 1..60),
    ) {
        let said: Vec<(usize, u16)> = said.into_iter().collect();
        let (expected, got) = order_after_a_crash(&said);
        prop_assert_eq!(got, expected);
    }
}

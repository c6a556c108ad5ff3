//! The database was replaced while the broker was at work.

use std::time::Duration;

use super::wire::{Bench, PUBCOMP, PUBREC, PUBREL, ack, connect, frames, publish};
use crate::broker::{Answer, FactKey, FactKind, TopicFilter, facts};
use crate::uplink::row::Qos;

/// Salvage of a damaged database brought `disk` back.
fn replace(bench: &mut Bench) {
    let found = bench.disk.found();
    bench.broker.handle_answer(bench.now, Answer::Reset { found });
    bench.run();
    bench.wait(Duration::from_secs(40));
}

#[test]
fn salvage_brings_nothing_back_that_was_over() {
    let mut bench = Bench::durable();
    let conn = bench.subscriber("a", false, "t", 1);
    bench.wait(Duration::from_secs(40));
    let known = bench.disk.facts.clone();
    let strange: [FactKey; 3] = [
        facts::received_key("a", 9),
        facts::subscription_key("a", "once/#"),
        FactKey { kind: FactKind::Retained, key: b"cleared".as_slice().into() },
    ];
    for fact in strange {
        bench.disk.facts.insert(fact, facts::received(None).encode(crate::tag::BootId(7)));
    }
    bench.disk.queues.insert("local/stranger".into(), Default::default());
    replace(&mut bench);
    let keys = |facts: &std::collections::BTreeMap<_, _>| facts.keys().cloned().collect::<Vec<FactKey>>();
    assert_eq!(keys(&bench.disk.facts), keys(&known));
    assert!(!bench.disk.queues.contains_key("local/stranger"));
    bench.say(conn, &publish(4, "t", 9, "x"));
    assert!(bench.told(conn).ends_with(b"x") || bench.disk.rows() == 1, "9 is a fresh identifier");
}

#[test]
fn a_message_that_uplinks_do_not_have_yet_survives_a_replaced_database_and_a_crash() {
    let all = || [(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)];
    let mut bench = Bench::durable();
    bench.broker.open_bridge(all()).unwrap();
    bench.receipts = false;
    let conn = bench.open();
    bench.say(conn, &connect("speaker", false, 0, None));
    bench.told(conn);
    bench.say(conn, &publish(4, "t", 9, "x"));
    assert_eq!(bench.told(conn), ack(PUBREC, 9));
    bench.disk.facts.clear();
    replace(&mut bench);
    bench.enqueued.clear();
    bench.crash();
    bench.broker.open_bridge(all()).unwrap();
    bench.run();
    assert_eq!(bench.enqueued.len(), 1, "it enters the uplink again");
}

#[test]
fn what_is_on_disk_only_goes_on_when_the_database_was_replaced() {
    let mut bench = Bench::durable();
    let reader = bench.subscriber("away", false, "t", 2);
    bench.lose(reader);
    let speaker = bench.client("speaker", true);
    let count = 600;
    for id in 1..=count {
        bench.say(speaker, &publish(4, "t", id, "x"));
        bench.say(speaker, &ack(PUBREL, id));
    }
    bench.wait(Duration::from_secs(2));
    let reader = bench.open();
    bench.say(reader, &connect("away", false, 0, None));
    let found = bench.disk.found();
    bench.broker.handle_answer(bench.now, Answer::Reset { found });
    bench.run();
    let mut heard = 0;
    loop {
        let told = bench.told(reader);
        if told.is_empty() {
            break;
        }
        for frame in frames(&told) {
            let (kind, id) = match frame[0] >> 4 {
                3 => (PUBREC, &frame[5..7]),
                6 => (PUBCOMP, &frame[2..4]),
                _ => continue,
            };
            heard += u16::from(kind == PUBREC);
            bench.say(reader, &ack(kind, u16::from_be_bytes([id[0], id[1]])));
        }
    }
    assert_eq!(heard, count, "nothing new has to come for them");
    bench.wait(Duration::from_secs(2));
    assert_eq!(bench.disk.rows(), 0);
}

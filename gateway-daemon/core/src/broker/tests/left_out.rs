//! QoS 2 messages that did not fit into memory at the start, and a database that is replaced meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::disk::sieved;
use super::memory::{message, settings, store_session};
use super::wire::{Bench, PUBREL, ack, connect};
use crate::broker::facts;
use crate::broker::{Answer, FactKey, FactKind, Fate, Limits, TopicFilter};
use crate::tag::BootId;
use crate::uplink::row::Qos;

/// A client of whose QoS 2 messages some did not fit into memory at the start; how many.
pub(super) fn with_messages_left_out() -> (Bench, u64) {
    let mut bench = Bench::stored(settings(Limits::default()));
    store_session(&mut bench, "a", None);
    for id in 1..=100_u16 {
        let held = Arc::new(message("t", &"x".repeat(100_000), 0));
        let value = facts::received(Some(&held)).encode(BootId(7));
        bench.disk.facts.insert(facts::received_key("a", id), value);
    }
    bench.crash();
    bench.broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)]).unwrap();
    bench.receipts = false;
    bench.run();
    let left_out = bench.broker.counters().left_out_facts_total;
    assert!(left_out > 10, "{left_out}");
    (bench, left_out)
}

fn messages_on_disk(bench: &Bench) -> usize {
    let held = |(key, value): (&FactKey, &Arc<[u8]>)| key.kind == FactKind::Received && value.len() > 9;
    bench.disk.facts.iter().filter(|fact| held(*fact)).count()
}

#[test]
fn a_qos_2_message_without_room_stays_in_a_database_that_replaces_another() {
    let (mut bench, left_out) = with_messages_left_out();
    let limits = bench.settings.limits;
    bench.broker.handle_answer(bench.now, Answer::Reset { found: sieved(bench.disk.found(), &limits) });
    bench.wait(Duration::from_secs(10));
    assert_eq!(messages_on_disk(&bench), 100, "each is stored or was put again");
    assert_eq!(bench.broker.counters().dropped_left_out_messages_total, 0);
    // Released without having been sent, which is counted once.
    let conn = bench.open();
    bench.say(conn, &connect("a", false, 0, None));
    for ticket in std::mem::take(&mut bench.owed) {
        bench.broker.handle_receipt(bench.now, ticket, Fate::Safe);
    }
    bench.run();
    for id in 1..=100 {
        bench.say(conn, &ack(PUBREL, id));
    }
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.broker.counters().dropped_left_out_messages_total, left_out);
    assert_eq!(messages_on_disk(&bench), 0);
}

#[test]
fn a_qos_2_message_without_room_that_is_lost_with_its_database_is_counted_and_its_identifier_stays() {
    let (mut bench, left_out) = with_messages_left_out();
    bench.disk.facts.clear();
    bench.broker.handle_answer(bench.now, Answer::Reset { found: bench.disk.found() });
    bench.wait(Duration::from_secs(10));
    assert_eq!(bench.broker.counters().dropped_left_out_messages_total, left_out);
    assert_eq!(messages_on_disk(&bench) as u64, 100 - left_out);
    let identifiers = bench.disk.facts.keys().filter(|key| key.kind == FactKind::Received).count();
    assert_eq!(identifiers, 100, "none is taken twice");
    let conn = bench.open();
    bench.say(conn, &connect("a", false, 0, None));
    bench.told(conn);
    for id in 1..=100 {
        bench.say(conn, &ack(PUBREL, id));
    }
    assert_eq!(bench.broker.counters().dropped_left_out_messages_total, left_out, "once");
}

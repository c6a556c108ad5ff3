//! What the gateway says about itself to local clients.

use std::sync::Arc;

use super::wire::{Bench, publish, subscribe};
use crate::broker::{FactKind, Limits, Settings, TopicFilter};
use crate::uplink::row::Qos;

const TOPIC: &str = "plant/health/device/meter1";

fn settings(limits: Limits) -> Settings {
    Settings { listeners: vec![super::disk::open_door()], limits, ..Settings::default() }
}

fn announce(bench: &mut Bench, text: &str) {
    bench.broker.announce(bench.now, TOPIC.into(), Arc::from(text.as_bytes())).unwrap();
    bench.run();
}

/// What somebody who comes now finds retained, which is nothing or one message.
fn found(bench: &mut Bench, client: &str) -> Option<String> {
    let late = bench.subscriber(client, true, "none", 1);
    bench.say(late, &subscribe(2, &[(TOPIC, 0)]));
    let told = bench.told(late);
    assert_eq!(told[..5], [0x90, 3, 0, 2, 0]);
    let at = told.windows(TOPIC.len()).position(|window| window == TOPIC.as_bytes())?;
    Some(String::from_utf8(told[at + TOPIC.len()..].to_vec()).unwrap())
}

#[test]
fn local_clients_hear_it_late_ones_find_it_and_no_uplink_gets_it() {
    let mut bench = Bench::stored(settings(Limits::default()));
    bench.broker.open_bridge([(TopicFilter::new("#").unwrap(), Qos::AtLeastOnce)]).unwrap();
    let early = bench.subscriber("early", true, "plant/#", 1);
    announce(&mut bench, "dead");
    announce(&mut bench, "good");
    let heard: Vec<String> = bench.heard(early).into_iter().map(|heard| heard.3).collect();
    assert_eq!(heard, ["dead", "good"]);
    assert_eq!(found(&mut bench, "late").as_deref(), Some("good"));
    assert_eq!(bench.enqueued.len(), 0);
    announce(&mut bench, "");
    assert_eq!(found(&mut bench, "later"), None);
}

#[test]
fn nothing_of_it_is_stored_and_a_restart_begins_without_it() {
    let mut bench = Bench::stored(settings(Limits::default()));
    let turns = bench.disk.turns;
    for round in 0..100 {
        announce(&mut bench, &round.to_string());
    }
    assert_eq!(bench.disk.turns, turns, "nothing is written");
    assert_eq!(found(&mut bench, "late").as_deref(), Some("99"));
    bench.crash();
    assert_eq!(found(&mut bench, "again"), None);
}

#[test]
fn what_a_client_had_retained_there_before_is_gone_from_the_store_too() {
    let mut bench = Bench::stored(settings(Limits::default()));
    let conn = bench.subscriber("c", true, "none", 1);
    bench.say(conn, &publish(3, TOPIC, 7, "of a client"));
    assert_eq!(bench.disk.facts.keys().filter(|key| key.kind == FactKind::Retained).count(), 1);
    announce(&mut bench, "good");
    bench.wait(std::time::Duration::from_secs(600));
    assert_eq!(bench.disk.facts.keys().filter(|key| key.kind == FactKind::Retained).count(), 0);
    assert_eq!(found(&mut bench, "late").as_deref(), Some("good"));
}

#[test]
fn it_takes_no_room_from_retained_messages_of_clients_and_does_not_expire() {
    let limits = Limits { retained_max: 1, retained_expiry_s: Some(60), ..Limits::default() };
    let mut bench = Bench::stored(settings(limits));
    for text in ["dead", "good"] {
        announce(&mut bench, text);
    }
    bench.local("other", "x", Qos::AtLeastOnce, true);
    assert_eq!(bench.broker.gauges().retained_messages, 1, "the one that clients may have is free");
    bench.local("third", "x", Qos::AtLeastOnce, true);
    assert_eq!(bench.broker.gauges().retained_messages, 1);
    bench.wait(std::time::Duration::from_secs(3600));
    assert_eq!(found(&mut bench, "late").as_deref(), Some("good"));
    assert_eq!(bench.broker.gauges().retained_messages, 0);
}

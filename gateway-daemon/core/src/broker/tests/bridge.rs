//! Routing to durable queues.

use std::sync::Arc;

use super::wire::{Bench, draft, publish};
use crate::broker::{BrokerError, Limits, Local, TopicFilter};
use crate::payload::Draft;
use crate::uplink::row::{Body, Qos};

fn local(draft: &Draft) -> Local<'_> {
    Local { draft, qos: Qos::AtLeastOnce, from: None, want: false }
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

#[test]
fn a_draft_goes_to_every_bridge_whose_filters_want_it_once_and_with_the_lower_qos() {
    let mut bench = Bench::new();
    let all = bench.broker.open_bridge([(filter("#"), Qos::AtLeastOnce)]).unwrap();
    let both = [(filter("plant/+/1"), Qos::AtMostOnce), (filter("plant/#"), Qos::AtLeastOnce)];
    let plant = bench.broker.open_bridge(both).unwrap();
    bench.local("plant/meter/1", "x", Qos::ExactlyOnce, false);
    bench.local("other", "x", Qos::AtMostOnce, false);
    let got: Vec<_> = bench.enqueued.iter().map(|(id, qos, draft)| (*id, *qos, &*draft.topic)).collect();
    assert_eq!(
        got,
        [
            (all, Qos::AtLeastOnce, "plant/meter/1"),
            (plant, Qos::AtLeastOnce, "plant/meter/1"),
            (all, Qos::AtMostOnce, "other")
        ]
    );
}

#[test]
fn bodies_are_shared_and_never_copied() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.broker.open_bridge([(filter("#"), Qos::AtLeastOnce)]).unwrap();
    }
    let body: Arc<[u8]> = Arc::from(vec![7; 1000]);
    let draft = draft("a", Body::Record(Arc::clone(&body)), false);
    bench.broker.publish(bench.now, &local(&draft), || panic!("nobody reads it")).unwrap();
    bench.run();
    assert_eq!(bench.enqueued.len(), 3);
    assert!(bench.enqueued.iter().all(|(_, _, draft)| Arc::ptr_eq(draft.body.bytes(), &body)));
}

#[test]
fn a_record_is_rendered_once_for_all_clients_and_stays_a_record_for_bridges() {
    let mut bench = Bench::new();
    bench.broker.open_bridge([(filter("#"), Qos::AtLeastOnce)]).unwrap();
    let clients = ["a", "b"].map(|id| bench.subscriber(id, true, "#", 0));
    let mut rendered = 0;
    let draft = draft("t", Body::Record([1, 2].into()), false);
    let ready = || {
        rendered += 1;
        Some(Arc::from(&b"{}"[..]))
    };
    bench.broker.publish(bench.now, &local(&draft), ready).unwrap();
    bench.run();
    assert_eq!(rendered, 1);
    for client in clients {
        assert_eq!(bench.heard(client), [(0x30, "t".into(), 0, "{}".into())]);
    }
    assert_eq!(bench.enqueued[0].2.body, draft.body);
}

#[test]
fn a_record_that_cannot_be_rendered_is_counted() {
    let mut bench = Bench::new();
    let client = bench.subscriber("a", true, "#", 0);
    let draft = draft("t", Body::Record([1, 2].into()), true);
    bench.broker.publish(bench.now, &local(&draft), || None).unwrap();
    bench.run();
    assert_eq!(bench.heard(client), []);
    assert_eq!(bench.broker.counters().unrendered_messages_total, 2, "delivery and retained");
}

#[test]
fn messages_of_clients_enter_bridges_too() {
    let mut bench = Bench::new();
    bench.broker.open_bridge([(filter("cmd/#"), Qos::AtLeastOnce)]).unwrap();
    let client = bench.client("a", true);
    bench.say(client, &publish(0, "cmd/x", 0, "on"));
    bench.say(client, &publish(0, "other", 0, "on"));
    assert_eq!(bench.enqueued.len(), 1);
    assert_eq!(bench.enqueued[0].2.body, Body::Raw((*b"on").into()));
}

#[test]
fn a_closed_bridge_gets_nothing_and_leaves_nothing() {
    let mut bench = Bench::new();
    let id = bench.broker.open_bridge([(filter("#"), Qos::AtLeastOnce)]).unwrap();
    bench.broker.close_bridge(id);
    bench.local("a", "x", Qos::AtLeastOnce, false);
    assert!(bench.enqueued.is_empty());
    assert_eq!(bench.broker.gauges(), crate::broker::Gauges::default());
}

#[test]
fn a_topic_that_cannot_be_published_to_is_an_error_of_the_caller() {
    let mut bench = Bench::new();
    bench.broker.open_bridge([(filter("#"), Qos::AtLeastOnce)]).unwrap();
    let draft = draft("a/+", Body::Raw([].into()), false);
    bench.broker.publish(bench.now, &local(&draft), || None).unwrap_err();
    bench.run();
    assert!(bench.enqueued.is_empty());
}

#[test]
fn bridges_are_refused_beyond_the_limits() {
    let limits = Limits { sessions_max: 1, subscriptions_max: 1, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let two = [(filter("a"), Qos::AtMostOnce), (filter("b"), Qos::AtMostOnce)];
    assert_eq!(bench.broker.open_bridge(two), Err(BrokerError::Subscriptions(1)));
    bench.broker.open_bridge([(filter("a"), Qos::AtMostOnce)]).unwrap();
    assert_eq!(bench.broker.open_bridge([]), Err(BrokerError::Sessions(1)));
}

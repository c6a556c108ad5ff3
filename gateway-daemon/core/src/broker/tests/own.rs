//! Topics of the gateway itself.

use std::sync::Arc;
use std::time::Duration;

use super::people::{hello, two_users};
use super::wire::{Bench, PUBACK, ack, publish};
use super::wire5::publish5;
use crate::broker::{ConnId, Own, Settings};
use crate::uplink::row::Qos;

/// A gateway with the id `plant`, and somebody who hears everything.
fn bench(rules: &[(bool, &str)]) -> (Bench, ConnId) {
    let mut bench = stored(two_users(true, rules));
    let listener = bench.subscriber("listener", true, "#", 1);
    (bench, listener)
}

fn stored(settings: Settings) -> Bench {
    let mut bench = Bench::stored(settings);
    own(&mut bench);
    bench
}

fn own(bench: &mut Bench) {
    let topics = ["plant/status", "plant/ledger", "plant/update", "plant/meter/1"].map(Arc::from);
    bench.broker.replace_own(Arc::new(Own::new(topics)));
}

#[test]
fn nobody_publishes_on_topics_of_the_gateway_itself() {
    let (mut bench, listener) = bench(&[]);
    let (old, _, _) = bench.user3("old", Some("ada"), true);
    let (young, _, _) = bench.user5("young", None, 0);
    for topic in ["plant/status", "plant/ledger", "plant/update", "plant/meter/1"] {
        bench.say(old, &publish(2, topic, 1, "forged"));
        assert_eq!(bench.told(old), ack(PUBACK, 1), "3.1.1 has no word for it");
        bench.say(young, &publish5(2, topic, 1, &[], "forged"));
        assert_eq!(bench.told(young)[4], 0x87);
        bench.say(young, &publish5(0, topic, 0, &[], "forged"));
    }
    bench.say(young, &publish5(0, "plant/cmd", 0, &[], "theirs"));
    let heard: Vec<String> = bench.heard(listener).into_iter().map(|heard| heard.3).collect();
    assert_eq!(heard, ["theirs"]);
    assert_eq!(bench.broker.counters().own_refused_total, 12);
    assert_eq!(bench.broker.counters().publish_refused_total, 12);
}

#[test]
fn the_gateway_itself_publishes_there() {
    let (mut bench, listener) = bench(&[]);
    bench.local("plant/meter/1", "true", Qos::AtLeastOnce, false);
    assert_eq!(bench.heard(listener).len(), 1);
}

#[test]
fn a_retained_message_of_the_gateway_is_not_cleared_by_a_client() {
    let (mut bench, _) = bench(&[]);
    bench.local("plant/update", "true", Qos::AtLeastOnce, true);
    let (conn, _, _) = bench.user3("c", Some("ada"), true);
    bench.say(conn, &publish(1, "plant/update", 0, ""));
    bench.say(conn, &publish(1, "plant/update", 0, "forged"));
    assert_eq!(bench.broker.gauges().retained_messages, 1);
    let late = bench.subscriber("late", true, "none", 1);
    bench.say(late, &super::wire::subscribe(2, &[("plant/update", 0)]));
    assert!(bench.told(late).ends_with(b"true"));
}

#[test]
fn a_rule_that_names_the_topic_lets_its_clients_publish_there_and_no_other_rule_does() {
    for (rules, passes) in [
        (&[(true, "publish plant/status")][..], true),
        (&[(true, "any plant/status")], true),
        (&[(true, "publish #")], false),
        (&[(true, "any plant/#")], false),
        (&[(true, "publish plant/+")], false),
        (&[(true, "publish %c/status"), (true, "publish %u/status")], false),
        (&[(true, "subscribe plant/status"), (true, "publish #")], false),
        (&[(false, "publish plant/#"), (true, "publish plant/status")], false),
    ] {
        let rules = [&[(true, "subscribe #")], rules].concat();
        let (mut bench, listener) = bench(&rules);
        // A client id like the gateway's.
        let (conn, _, _) = bench.user3("plant", Some("ada"), true);
        bench.say(conn, &publish(0, "plant/status", 0, "x"));
        assert_eq!(bench.heard(listener).len(), usize::from(passes), "{rules:?}");
    }
}

#[test]
fn a_will_on_a_topic_of_the_gateway_is_refused_and_silent() {
    let (mut bench, listener) = bench(&[]);
    let will = Some(("plant/status", "offline", 10));
    let conn = bench.enter("192.0.2.1:1", &hello("a", Some("ada"), false, 60, will));
    assert_eq!(bench.told(conn)[3], 0x87);
    bench.broker.replace_own(Arc::default());
    let conn = bench.enter("192.0.2.1:1", &hello("a", Some("ada"), false, 60, will));
    assert_eq!(bench.told(conn)[3], 0);
    bench.lose(conn);
    own(&mut bench);
    bench.wait(Duration::from_secs(20));
    assert_eq!(bench.told(listener), b"", "a device of this name was added meanwhile");
    assert_eq!(bench.broker.counters().wills_refused_total, 2);
}

#[test]
fn the_log_says_that_the_topic_is_the_gateways_own_and_how_to_let_others_publish_there() {
    let (mut bench, _) = bench(&[(true, "publish #"), (true, "subscribe #")]);
    let (conn, _, _) = bench.user3("press\n3", Some("ada"), true);
    notes(&mut bench);
    bench.say(conn, &publish(0, "plant/status", 0, "forged"));
    bench.say(conn, &publish(0, "$SYS/broker/uptime", 0, "forged"));
    bench.broker.replace_access(bench.now, two_users(true, &[(true, "publish open/#")]).access);
    bench.say(conn, &publish(0, "closed", 0, "x"));
    let will = Some(("plant/meter/1", "offline", 10));
    bench.enter("192.0.2.1:1", &hello("a", Some("ada"), false, 60, will));
    let refused: Vec<_> = notes(&mut bench).into_iter().filter(|line| line.contains(" may not ")).collect();
    let who = "user ada as client press\\n3 from 192.0.2.1:1";
    assert_eq!(
        refused,
        [
            format!(
                "own topics: {who} may not publish to plant/status, on which this gateway itself sends: only a rule that names the topic lets others \
                 publish there, allow = [\"publish plant/status\"] beside the rules for everything else"
            ),
            format!("rules: {who} may not publish to closed"),
            "own topics: user ada as client a from 192.0.2.1:1 may not leave a will for plant/meter/1, on which this gateway itself sends: only a rule \
             that names the topic lets others publish there, allow = [\"publish plant/meter/1\"] beside the rules for everything else"
                .to_owned(),
        ]
    );
    bench.wait(Duration::from_secs(61));
    let figures = format!(
        "own topics: {who} may not publish to $SYS/broker/uptime: figures below $SYS come from the broker alone, and no rule lets others publish there"
    );
    assert!(notes(&mut bench).contains(&figures), "what was counted within the minute");
}

fn notes(bench: &mut Bench) -> Vec<String> {
    std::iter::from_fn(|| bench.broker.poll_note()).map(|note| note.to_string()).collect()
}

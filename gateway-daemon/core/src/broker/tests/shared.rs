//! Shared subscriptions.

use super::wire::{Bench, PUBACK, PUBREC, ack, subscribe};
use crate::broker::ConnId;
use crate::uplink::row::Qos;

fn member(bench: &mut Bench, id: &str, clean: bool, qos: u8) -> ConnId {
    bench.subscriber(id, clean, "$share/crew/t/#", qos)
}

fn bodies(bench: &mut Bench, conn: ConnId) -> Vec<String> {
    bench.heard(conn).into_iter().map(|heard| heard.3).collect()
}

#[test]
fn each_message_goes_to_one_member_in_turn() {
    let mut bench = Bench::new();
    let crew = ["a", "b", "c"].map(|id| member(&mut bench, id, true, 1));
    let alone = bench.subscriber("alone", true, "t/#", 1);
    let other = bench.subscriber("other", true, "$share/other/t/#", 1);
    for body in ["1", "2", "3", "4", "5", "6"] {
        bench.local("t/x", body, Qos::AtLeastOnce, false);
    }
    let mut all: Vec<String> = Vec::new();
    for conn in crew {
        let got = bodies(&mut bench, conn);
        assert_eq!(got.len(), 2, "{got:?}");
        all.extend(got);
    }
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(bodies(&mut bench, alone).len(), 6, "a subscription of one's own is another one");
    assert_eq!(bodies(&mut bench, other).len(), 6, "each group gets all");
}

#[test]
fn a_member_that_is_away_gets_messages_only_if_nobody_is_there() {
    let mut bench = Bench::new();
    let away = member(&mut bench, "away", false, 1);
    let there = member(&mut bench, "there", true, 1);
    bench.lose(away);
    for body in ["1", "2", "3"] {
        bench.local("t", body, Qos::AtLeastOnce, false);
    }
    assert_eq!(bodies(&mut bench, there), ["1", "2", "3"]);
    bench.lose(there);
    bench.local("t", "4", Qos::AtLeastOnce, false);
    let back = bench.open();
    bench.say(back, &super::wire::connect("away", false, 0, None));
    let told = bench.told(back);
    assert!(told.ends_with(b"4"), "{told:?}");
}

#[test]
fn what_a_member_did_not_acknowledge_goes_to_another_when_its_session_ends() {
    let mut bench = Bench::new();
    let first = member(&mut bench, "first", true, 2);
    bench.local("t", "once", Qos::AtLeastOnce, false);
    bench.local("t", "exactly", Qos::ExactlyOnce, false);
    bench.local("t", "done", Qos::AtLeastOnce, false);
    let heard = bench.heard(first);
    assert_eq!(heard.len(), 3);
    bench.say(first, &ack(PUBREC, heard[1].2));
    bench.say(first, &ack(PUBACK, heard[2].2));
    bench.told(first);
    let second = member(&mut bench, "second", true, 1);
    bench.lose(first);
    assert_eq!(bodies(&mut bench, second), ["once"], "QoS 2 stays with whom it was sent to");
    assert_eq!(bench.broker.counters().passed_on_messages_total, 1);
    bench.lose(second);
    let gauges = bench.broker.gauges();
    assert_eq!((gauges.subscriptions, gauges.held_messages, gauges.held_bytes), (0, 0, 0));
}

#[test]
fn retained_messages_do_not_come_with_a_shared_subscription() {
    let mut bench = Bench::new();
    bench.local("t/x", "kept", Qos::AtMostOnce, true);
    let conn = member(&mut bench, "a", true, 1);
    assert_eq!(bench.told(conn), b"");
}

#[test]
fn a_share_needs_a_name_and_a_filter() {
    for filter in ["$share//t", "$share/a", "$share/a/", "$share/+/t", "$share/a#/t"] {
        let mut bench = Bench::new();
        let conn = bench.client("a", true);
        bench.say(conn, &subscribe(1, &[(filter, 0)]));
        assert!(bench.fate(conn).is_some(), "{filter}");
    }
}

#[test]
fn leaving_a_group_is_unsubscribing_from_its_whole_text() {
    let mut bench = Bench::new();
    let conn = member(&mut bench, "a", true, 1);
    bench.say(conn, &super::wire::unsubscribe(2, "$share/crew/t/#"));
    bench.told(conn);
    bench.local("t", "x", Qos::AtLeastOnce, false);
    assert_eq!(bench.told(conn), b"");
    assert_eq!(bench.broker.gauges().shared_subscriptions, 0);
}

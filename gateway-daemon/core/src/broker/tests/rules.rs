//! A subscription is granted if anything of it is allowed; what is denied is left out of everything that comes by it.

use std::sync::Arc;
use std::time::Duration;

use super::disk::open_door;
use super::wire::{Bench, PUBACK, ack, connect, subscribe};
use super::wire5::subscribe5;
use crate::broker::access::{Access, Client, Deed, Rule};
use crate::broker::{ConnId, Settings};
use crate::uplink::row::Qos;

fn client(deny: &[&str], allow: &[&str]) -> Client {
    let rule = |allow| move |text: &&str| Rule { allow, deed: Deed::Subscribe, filter: Arc::from(*text) };
    Client { users: None, rules: deny.iter().map(rule(false)).chain(allow.iter().map(rule(true))).collect() }
}

/// `limited` may read everything but `secret/#`.
fn access() -> Access {
    Access { clients: [(Arc::from("limited"), client(&["secret/#"], &[]))].into(), ..Access::default() }
}

fn bench() -> Bench {
    Bench::stored(Settings { access: access(), listeners: vec![open_door()], ..Settings::default() })
}

fn bodies(bench: &mut Bench, conn: ConnId) -> Vec<String> {
    bench.heard(conn).into_iter().map(|heard| heard.3).collect()
}

#[test]
fn everything_is_granted_to_somebody_with_a_deny_and_what_is_denied_does_not_come() {
    for qos in 0..3 {
        let mut bench = bench();
        bench.local("secret/kept", "no", Qos::ExactlyOnce, true);
        bench.local("open/kept", "kept", Qos::ExactlyOnce, true);
        let conn = bench.client("limited", true);
        bench.say(conn, &subscribe(1, &[("#", qos)]));
        let told = bench.told(conn);
        assert_eq!(told[..5], [0x90, 3, 0, 1, qos]);
        assert!(
            told.ends_with(b"kept") && !told.windows(6).any(|part| part == b"secret"),
            "QoS {qos}: {told:?}"
        );
        for sent in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            bench.local("secret/x", "no", sent, false);
            bench.local("secret", "no", sent, true);
            bench.local("open/x", "yes", sent, false);
        }
        assert_eq!(bodies(&mut bench, conn), ["yes", "yes", "yes"], "QoS {qos}");
        assert_eq!(bench.broker.counters().dropped_forbidden_messages_total, 6);
        assert_eq!(bench.broker.gauges().held_messages, if qos == 0 { 0 } else { 3 }, "nothing denied waits");
    }
}

#[test]
fn a_filter_of_which_nothing_may_be_read_is_refused() {
    let mut bench = bench();
    let (conn, _) = bench.client5("limited", true, &[]);
    bench.say(
        conn,
        &subscribe5(1, None, &[("secret/#", 1), ("secret/+/x", 1), ("+/x", 1), ("$share/g/secret", 1)]),
    );
    let told = bench.told(conn);
    assert_eq!(told[told.len() - 4..], [0x87, 0x87, 1, 0x87]);
}

#[test]
fn what_was_queued_before_a_rule_denied_it_is_left_out_when_its_client_comes_back() {
    let mut bench = Bench::stored(Settings { listeners: vec![open_door()], ..Settings::default() });
    let conn = bench.subscriber("limited", false, "#", 1);
    bench.lose(conn);
    bench.local("secret/x", "no", Qos::AtLeastOnce, false);
    bench.local("open/x", "yes", Qos::AtLeastOnce, false);
    bench.broker.replace_access(bench.now, access());
    bench.local("secret/y", "no", Qos::AtLeastOnce, false);
    bench.wait(Duration::from_secs(2));
    let back = bench.open();
    bench.say(back, &connect("limited", false, 0, None));
    let told = bench.told(back);
    assert!(told.ends_with(b"yes") && !told.windows(6).any(|part| part == b"secret"), "{told:?}");
    assert_eq!(bench.broker.counters().dropped_forbidden_messages_total, 2);
    bench.settings.access = access();
    bench.crash();
    let back = bench.open();
    bench.say(back, &connect("limited", false, 0, None));
    assert!(!bench.told(back).windows(6).any(|part| part == b"secret"), "nor after a restart");
}

#[test]
fn a_shared_message_goes_to_a_member_that_may_read_it_whoever_has_the_turn() {
    let mut bench = bench();
    let limited = bench.subscriber("limited", false, "$share/crew/#", 1);
    let other = bench.subscriber("other", false, "$share/crew/#", 1);
    for _ in 0..4 {
        bench.local("secret/x", "secret", Qos::AtLeastOnce, false);
    }
    assert_eq!(bodies(&mut bench, other), ["secret"; 4]);
    bench.lose(other);
    bench.local("secret/x", "for other", Qos::AtLeastOnce, false);
    bench.local("open", "open", Qos::AtLeastOnce, false);
    assert_eq!(bodies(&mut bench, limited), ["open"], "one that is away waits for who may read it");
    bench.lose(limited);
    for _ in 0..2 {
        bench.local("secret/x", "for other, too", Qos::AtLeastOnce, false);
    }
    let back = bench.open();
    bench.say(back, &connect("other", false, 0, None));
    let told = bench.told(back);
    let count = |word: &str| told.windows(word.len()).filter(|part| *part == word.as_bytes()).count();
    assert_eq!(count("for other"), 3, "{told:?}");
    bench.say(back, &ack(PUBACK, 1));
}

#[test]
fn what_a_member_that_ends_leaves_goes_to_one_that_may_read_it() {
    let mut bench = bench();
    let first = bench.subscriber("first", true, "$share/crew/#", 1);
    bench.local("secret/x", "secret", Qos::AtLeastOnce, false);
    let limited = bench.subscriber("limited", true, "$share/crew/#", 1);
    let other = bench.subscriber("other", true, "$share/crew/#", 1);
    bench.lose(first);
    assert_eq!(bodies(&mut bench, other), ["secret"]);
    assert!(bodies(&mut bench, limited).is_empty());
    bench.local("secret/y", "again", Qos::AtLeastOnce, false);
    bench.lose(other);
    assert!(bodies(&mut bench, limited).is_empty());
    assert_eq!(bench.broker.counters().dropped_session_messages_total, 2, "nobody is left who may read them");
}

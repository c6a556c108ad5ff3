//! Who comes in, and what it may do.

use std::sync::Arc;
use std::time::Duration;

use super::disk::{door, open_door};
use super::wire::{Bench, PING, PUBACK, ack, connect, packet, publish, subscribe, text};
use super::wire5::{connect5, publish5, subscribe5};
use crate::broker::access::{Access, Deed, Rule, User};
use crate::broker::{Action, CloseReason, ConnId, Origin, Settings};
use crate::uplink::row::Qos;

fn rule(allow: bool, deed: Deed, filter: &str) -> Rule {
    Rule { allow, deed, filter: filter.into() }
}

pub(super) fn settings(anonymous: bool, rules: Vec<Rule>) -> Settings {
    let user = User { hash: Some("hash of ada".into()), rules };
    let access = Access { users: [(Arc::from("ada"), user)].into(), ..Access::default() };
    Settings { listeners: vec![door(anonymous)], access, ..Settings::default() }
}

/// CONNECT of 3.1.1 with a user name and a password.
pub(super) fn login(id: &str, user: &str, password: &str) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04\xc2\0\0".to_vec();
    for part in [id, user, password] {
        body.extend(text(part));
    }
    packet(0x10, &body)
}

/// What is to be compared.
pub(super) fn verify(bench: &mut Bench) -> Option<(ConnId, Vec<u8>, Arc<str>)> {
    let place = bench.others.iter().position(|action| matches!(action, Action::Verify { .. }))?;
    match bench.others.remove(place) {
        Action::Verify { conn, password, hash } => Some((conn, password, hash)),
        _ => None,
    }
}

/// A client that ada's password let in.
fn ada(bench: &mut Bench, id: &str) -> ConnId {
    let conn = bench.open();
    bench.say(conn, &login(id, "ada", "secret"));
    verify(bench).expect("a password to compare");
    bench.broker.handle_verified(bench.now, conn, true);
    bench.run();
    assert_eq!(bench.told(conn), [0x20, 2, 0, 0]);
    conn
}

#[test]
fn a_password_is_compared_outside_while_the_connection_waits() {
    let mut bench = Bench::stored(settings(false, vec![]));
    let conn = bench.open();
    let early = [login("a", "ada", "secret"), subscribe(1, &[("t", 0)])].concat();
    bench.say(conn, &early);
    assert_eq!(verify(&mut bench), Some((conn, b"secret".to_vec(), "hash of ada".into())));
    assert_eq!((bench.told(conn), bench.holds(conn)), (vec![], vec![true]));
    bench.say(conn, PING);
    assert_eq!(bench.told(conn), b"", "it waits");
    bench.broker.handle_verified(bench.now, conn, true);
    bench.run();
    assert_eq!(bench.told(conn), [&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 0][..], &[0xd0, 0]].concat());
    assert_eq!(bench.holds(conn), [true, false]);
}

#[test]
fn a_wrong_password_is_refused_with_the_code_of_its_version() {
    let mut bench = Bench::stored(settings(false, vec![]));
    let old = bench.open();
    bench.say(old, &login("a", "ada", "wrong"));
    bench.broker.handle_verified(bench.now, old, false);
    bench.run();
    assert_eq!(bench.told(old), [0x20, 2, 0, 4]);
    assert!(matches!(bench.fate(old), Some(CloseReason::Login)));
    let nobody = bench.open();
    bench.say(nobody, &login("b", "nobody", "x"));
    verify(&mut bench);
    let (_, _, hash) = verify(&mut bench).expect("an unknown user takes as long as a known one");
    assert_ne!(&*hash, "hash of ada");
    bench.broker.handle_verified(bench.now, nobody, false);
    bench.run();
    assert_eq!(bench.told(nobody), [0x20, 2, 0, 4]);
    let young = bench.open();
    bench.say(young, &connect5("c", true, 0, &[], None));
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.told(young)[3], 0x87, "nobody in particular");
    assert_eq!(bench.broker.gauges().sessions, 0);
    assert_eq!(bench.broker.counters().logins_refused_total, 3);
}

#[test]
fn guesses_are_told_later_and_later() {
    let mut bench = Bench::stored(settings(false, vec![]));
    let mut waited = Vec::new();
    for _ in 0..6 {
        let conn = bench.open();
        bench.say(conn, &login("a", "ada", "guess"));
        bench.broker.handle_verified(bench.now, conn, false);
        bench.run();
        let mut wait = 0;
        while bench.fate(conn).is_none() {
            bench.wait(Duration::from_millis(100));
            wait += 100;
            assert!(wait < 20_000);
        }
        assert_eq!(bench.told(conn), [0x20, 2, 0, 4]);
        waited.push(wait);
    }
    assert!(waited.is_sorted() && waited[0] == 0 && waited[5] >= 1000, "{waited:?}");
}

#[test]
fn a_certificate_is_a_user() {
    let mut bench = Bench::stored(settings(false, vec![rule(true, Deed::Publish, "ada/#")]));
    let conn = ConnId(77);
    let origin = Origin { certificate: Some("ada".into()), ..Origin::default() };
    bench.broker.handle_open(bench.now, conn, origin);
    bench.say(conn, &connect("a", true, 0, None));
    assert_eq!(bench.told(conn), [0x20, 2, 0, 0]);
    bench.say(conn, &subscribe(1, &[("t", 0)]));
    assert_eq!(bench.told(conn), [0x90, 3, 0, 1, 0x80], "with its rules");
}

#[test]
fn nobody_in_particular_comes_in_only_where_the_listener_says_so() {
    for (anonymous, code) in [(true, 0), (false, 5)] {
        let mut bench = Bench::stored(settings(anonymous, vec![]));
        let conn = bench.open();
        bench.say(conn, &connect("a", true, 0, None));
        assert_eq!(bench.told(conn), [0x20, 2, 0, code]);
    }
}

#[test]
fn a_publish_that_is_not_allowed_is_answered_and_dropped() {
    let mut bench = Bench::stored(Settings {
        listeners: vec![open_door()],
        access: Access { everybody: vec![rule(false, Deed::Publish, "secret/#")], ..Access::default() },
        ..Settings::default()
    });
    let listener = bench.subscriber("listener", true, "#", 2);
    let old = bench.client("old", true);
    bench.say(old, &publish(2, "secret/x", 1, "x"));
    assert_eq!(bench.told(old), ack(PUBACK, 1), "3.1.1 has no word for it");
    let (young, _) = bench.client5("young", true, &[]);
    bench.say(young, &publish5(2, "secret/x", 1, &[], "x"));
    assert_eq!(bench.told(young), packet(0x40, &[0, 1, 0x87]));
    bench.say(young, &publish5(4, "secret/x", 2, &[], "x"));
    assert_eq!(bench.told(young), packet(0x50, &[0, 2, 0x87]));
    bench.say(young, &publish5(0, "secret/x", 0, &[], "x"));
    bench.say(young, &publish5(0, "$SYS/broker/uptime", 0, &[], "x"));
    bench.say(young, &publish5(0, "open", 0, &[], "x"));
    assert_eq!(bench.heard(listener).iter().map(|h| h.1.as_str()).collect::<Vec<_>>(), ["open"]);
    assert_eq!(bench.broker.counters().publish_refused_total, 5);
    assert_eq!((bench.fate(old), bench.fate(young)), (None, None));
}

#[test]
fn a_subscription_that_is_not_allowed_is_refused_and_nothing_comes_around_it() {
    let rules = vec![rule(true, Deed::Subscribe, "open/#"), rule(true, Deed::Publish, "#")];
    let mut bench = Bench::stored(settings(true, rules));
    let conn = ada(&mut bench, "a");
    bench.say(conn, &subscribe(1, &[("open/#", 1), ("#", 1), ("secret", 1), ("open/+", 1)]));
    assert_eq!(bench.told(conn), [0x90, 6, 0, 1, 1, 1, 0x80, 1]);
    bench.local("secret", "x", Qos::AtLeastOnce, false);
    bench.local("secret", "x", Qos::AtMostOnce, false);
    assert_eq!(bench.told(conn), b"");
    assert_eq!(bench.broker.counters().dropped_forbidden_messages_total, 2);
    let (young, _) = bench.client5("young", true, &[]);
    bench.say(young, &subscribe5(1, None, &[("secret", 1)]));
    assert_eq!(bench.told(young), packet(0x90, &[0, 1, 0, 1]), "without rules everything is allowed");
}

#[test]
fn changed_rules_hold_at_once_and_who_is_not_known_any_more_is_turned_away() {
    let mut bench = Bench::stored(settings(true, vec![]));
    let conn = ada(&mut bench, "a");
    let anonymous = bench.client("b", true);
    bench.say(conn, &subscribe(1, &[("t", 1), ("u", 1)]));
    bench.told(conn);
    let Settings { access, .. } = settings(true, vec![rule(true, Deed::Subscribe, "u")]);
    bench.broker.replace_access(bench.now, access);
    bench.run();
    bench.local("t", "x", Qos::AtLeastOnce, false);
    bench.local("u", "y", Qos::AtLeastOnce, false);
    assert_eq!(bench.heard(conn).iter().map(|h| h.3.as_str()).collect::<Vec<_>>(), ["y"]);
    assert_eq!(bench.broker.counters().dropped_forbidden_messages_total, 1);
    bench.broker.replace_access(bench.now, Access::default());
    bench.run();
    assert_eq!(bench.fate(conn), Some(&CloseReason::NotAuthorized));
    assert_eq!(bench.fate(anonymous), None);
}

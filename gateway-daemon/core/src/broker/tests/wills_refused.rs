//! Wills on topics where their clients may not publish: refused when they come, and silent when the rules have changed meanwhile.

use std::time::Duration;

use super::people::{LastWill, hello, two_users, without};
use super::wire::{Bench, connect};
use crate::broker::{CloseReason, ConnId, Settings};

const WILL: LastWill<'_> = ("alarm/fire", "gone", 0);
const LATE: LastWill<'_> = ("alarm/fire", "gone", 10);

fn open() -> Settings {
    two_users(true, &[])
}

/// Nobody may publish below `alarm` any more.
fn closed() -> Settings {
    two_users(true, &[(false, "publish alarm/#")])
}

/// Ada with a session of so many seconds and a will; she is let in.
fn ada(bench: &mut Bench, expiry_s: u32, will: LastWill<'_>) -> ConnId {
    let conn = bench.enter("192.0.2.1:1", &hello("ada's", Some("ada"), false, expiry_s, Some(will)));
    assert_eq!(bench.told(conn)[3], 0);
    conn
}

/// No will was heard or kept, and it was counted.
fn is_silent(bench: &Bench) {
    assert_eq!(bench.broker.gauges().retained_messages, 0);
    assert_eq!((bench.broker.counters().wills_total, bench.broker.counters().wills_refused_total), (0, 1));
}

#[test]
fn a_connect_with_a_will_that_its_client_may_not_publish_is_refused() {
    for topic in ["alarm/fire", "$SYS/broker/uptime"] {
        let mut bench = Bench::stored(closed());
        let conn = bench.enter("192.0.2.1:1", &hello("a", Some("ada"), true, 0, Some((topic, "x", 0))));
        assert_eq!(bench.told(conn)[3], 0x87);
        assert!(matches!(bench.fate(conn), Some(CloseReason::Refused(_))));
        let conn = bench.enter("192.0.2.1:1", &connect("b", true, 0, Some((topic, "x", 1, true))));
        assert_eq!(bench.told(conn), [0x20, 2, 0, 5]);
        bench.wait(Duration::from_secs(100));
        assert_eq!(bench.broker.gauges().retained_messages, 0);
        assert_eq!(bench.broker.counters().wills_refused_total, 2);
        assert_eq!(bench.broker.gauges().sessions, 0);
    }
}

#[test]
fn a_refused_will_does_not_take_over_the_session_that_is_there() {
    let mut bench = Bench::stored(closed());
    let (first, _, _) = bench.user5("ada's", Some("ada"), 60);
    let conn = bench.enter("192.0.2.1:1", &hello("ada's", Some("ada"), true, 0, Some(WILL)));
    assert_eq!(bench.told(conn)[3], 0x87);
    assert_eq!(bench.fate(first), None);
}

#[test]
fn a_will_is_silent_if_the_rules_forbid_it_when_the_connection_ends() {
    for expiry_s in [0, 60] {
        let mut bench = Bench::stored(open());
        let conn = ada(&mut bench, expiry_s, WILL);
        bench.reload(closed());
        bench.lose(conn);
        is_silent(&bench);
    }
}

#[test]
fn a_delayed_will_is_silent_if_the_rules_forbid_it_when_it_is_due() {
    let mut bench = Bench::stored(open());
    let conn = ada(&mut bench, 60, LATE);
    bench.lose(conn);
    bench.reload(closed());
    bench.wait(Duration::from_secs(10));
    is_silent(&bench);
}

#[test]
fn a_delayed_will_is_silent_if_the_end_of_its_session_brings_it_forth_against_the_rules() {
    let mut bench = Bench::stored(open());
    let conn = ada(&mut bench, 5, LATE);
    bench.lose(conn);
    bench.reload(closed());
    bench.wait(Duration::from_secs(5));
    is_silent(&bench);
    let mut bench = Bench::stored(open());
    let conn = ada(&mut bench, 60, LATE);
    bench.lose(conn);
    bench.reload(closed());
    bench.enter("192.0.2.1:1", &hello("ada's", Some("ada"), true, 0, None));
    is_silent(&bench);
}

#[test]
fn a_will_of_before_a_crash_is_silent_if_the_rules_forbid_it_now() {
    for will in [WILL, LATE] {
        let mut bench = Bench::stored(open());
        let conn = ada(&mut bench, 60, will);
        bench.wait(Duration::from_secs(2));
        bench.settings = closed();
        bench.crash();
        bench.wait(Duration::from_secs(20));
        is_silent(&bench);
        assert_eq!(bench.fate(conn), None);
    }
}

#[test]
fn a_will_of_before_a_crash_speaks_if_nothing_has_changed() {
    let mut bench = Bench::stored(open());
    ada(&mut bench, 60, WILL);
    bench.wait(Duration::from_secs(2));
    bench.crash();
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.broker.gauges().retained_messages, 1);
    assert_eq!(bench.broker.counters().wills_total, 1);
}

#[test]
fn a_user_that_is_not_let_in_any_more_leaves_no_will() {
    for crash in [false, true] {
        let mut bench = Bench::stored(open());
        ada(&mut bench, 60, LATE);
        bench.wait(Duration::from_secs(2));
        if crash {
            bench.settings = without(open(), "ada");
            bench.crash();
        } else {
            bench.reload(without(open(), "ada"));
        }
        bench.wait(Duration::from_secs(20));
        is_silent(&bench);
    }
}

#[test]
fn a_will_is_asked_at_a_take_over_too() {
    let mut bench = Bench::stored(open());
    ada(&mut bench, 60, WILL);
    bench.reload(closed());
    bench.user5("ada's", Some("ada"), 60);
    is_silent(&bench);
}

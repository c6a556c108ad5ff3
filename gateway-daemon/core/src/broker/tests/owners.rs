//! To whom sessions belong.

use super::people::{owned, two_users, without};
use super::wire::{Bench, GOODBYE, publish, subscribe};
use super::wire5::subscribe5;
use crate::broker::{CloseReason, ConnId, Origin, Settings};
use crate::uplink::row::Qos;

/// Ada has a durable session named `press` with one message waiting, and is away.
fn waiting(settings: Settings) -> Bench {
    let mut bench = Bench::stored(settings);
    let (ada, code, _) = bench.user3("press", Some("ada"), false);
    assert_eq!(code, 0);
    bench.say(ada, &subscribe(1, &[("t", 1)]));
    bench.lose(ada);
    bench.local("t", "for ada", Qos::AtLeastOnce, false);
    bench
}

/// Whether ada finds her session with its message.
fn is_kept(bench: &mut Bench) -> bool {
    let conn = bench.enter("192.0.2.9:1", &super::people::hello("press", Some("ada"), false, 60, None));
    let told = bench.told(conn);
    assert_eq!((told[0], told[3]), (0x20, 0), "{told:?}");
    let here = told[2] == 1;
    assert_eq!(told.ends_with(b"for ada"), here);
    here
}

#[test]
fn another_user_is_refused_and_neither_the_session_nor_its_messages_are_touched() {
    for anonymous in [false, true] {
        for clean in [false, true] {
            let mut bench = waiting(two_users(true, &[]));
            let who = if anonymous { None } else { Some("bob") };
            assert_eq!(bench.user3("press", who, clean).1, 5, "not authorised");
            assert_eq!(bench.user5("press", who, 100).1, 0x87);
            assert_eq!(bench.broker.counters().foreign_sessions_total, 2);
            assert!(is_kept(&mut bench));
        }
    }
}

#[test]
fn another_user_does_not_end_the_connection_that_is_there() {
    let mut bench = Bench::stored(two_users(true, &[]));
    for (clean, id) in [(true, "one"), (false, "two")] {
        let (ada, _, _) = bench.user3(id, Some("ada"), clean);
        for who in [Some("bob"), None] {
            let (stranger, code, _) = bench.user3(id, who, true);
            assert_eq!(code, 5);
            assert!(matches!(bench.fate(stranger), Some(CloseReason::Refused(_))));
        }
        assert_eq!(bench.fate(ada), None);
        bench.say(ada, &subscribe(1, &[("t", 0)]));
        bench.local("t", "x", Qos::AtMostOnce, false);
        assert_eq!(bench.told(ada).last(), Some(&b'x'));
    }
    assert_eq!(bench.broker.counters().takeovers_total, 0);
}

#[test]
fn the_same_user_takes_its_session_over_as_ever() {
    let mut bench = Bench::stored(two_users(true, &[]));
    let (old, _, _) = bench.user3("press", Some("ada"), false);
    let (new, code, present) = bench.user3("press", Some("ada"), false);
    assert_eq!((code, present), (0, true));
    assert_eq!((bench.fate(old), bench.fate(new)), (Some(&CloseReason::TakenOver), None));
    let (_, code, present) = bench.user3("press", Some("ada"), true);
    assert_eq!((code, present), (0, false), "a clean start as well");
}

#[test]
fn users_of_one_client_id_share_its_session() {
    let mut bench = waiting(owned(two_users(true, &[]), "press", &["bob", "ada"]));
    let (bob, code, present) = bench.user3("press", Some("bob"), false);
    assert_eq!((code, present), (0, true));
    bench.lose(bob);
    assert_eq!(bench.user3("press", None, false).1, 5, "nobody else");
    let (_, code, present) = bench.user3("press", Some("ada"), false);
    assert_eq!((code, present), (0, true));
}

#[test]
fn nobody_in_particular_never_keeps_a_user_out() {
    let mut bench = Bench::stored(two_users(true, &[]));
    let (nobody, _, _) = bench.user3("press", None, false);
    bench.say(nobody, &subscribe(1, &[("t", 1)]));
    let (ada, code, present) = bench.user3("press", Some("ada"), false);
    assert_eq!((code, present), (0, false), "an empty one");
    assert_eq!(bench.fate(nobody), Some(&CloseReason::TakenOver));
    bench.local("t", "x", Qos::AtLeastOnce, false);
    assert_eq!(bench.told(ada), b"", "the subscriptions of nobody are gone");
    bench.say(ada, GOODBYE);
    let (_, code, _) = bench.user5("press", None, 0);
    assert_eq!(code, 0x87, "from here on it is ada's");
}

#[test]
fn a_session_stays_its_user_s_over_a_restart() {
    let mut bench = waiting(two_users(true, &[]));
    bench.crash();
    assert_eq!(bench.user3("press", Some("bob"), true).1, 5);
    assert_eq!(bench.user3("press", None, true).1, 5);
    assert!(is_kept(&mut bench));
}

#[test]
fn a_user_that_is_not_in_the_file_any_more_owns_nothing() {
    for crash in [false, true] {
        let mut bench = waiting(two_users(true, &[]));
        bench.reload(without(two_users(true, &[]), "ada"));
        if crash {
            bench.crash();
        }
        let (_, code, present) = bench.user3("press", Some("bob"), false);
        assert_eq!((code, present), (0, false), "an empty one: the messages were for ada");
        assert_eq!(bench.broker.counters().dropped_session_messages_total, 1);
    }
}

#[test]
fn a_client_id_that_is_given_to_others_is_taken_from_its_squatter() {
    let mut bench = waiting(two_users(true, &[]));
    bench.reload(owned(two_users(true, &[]), "press", &["bob"]));
    let (_, code, present) = bench.user3("press", Some("bob"), false);
    assert_eq!((code, present), (0, false));
}

#[test]
fn a_user_of_a_certificate_owns_its_session_as_one_with_a_password() {
    let mut bench = Bench::stored(two_users(true, &[]));
    let certified = |name: &str| Origin { certificate: Some(name.into()), ..Origin::default() };
    let conn = bench.open_from(certified("drill"));
    bench.say(conn, &super::people::hello("press", None, false, 60, None));
    assert_eq!(bench.told(conn)[3], 0);
    bench.lose(conn);
    assert_eq!(bench.user5("press", Some("bob"), 60).1, 0x87, "no user of the file, and one all the same");
    let other = bench.open_from(certified("saw"));
    bench.say(other, &super::people::hello("press", None, false, 60, None));
    assert_eq!(bench.told(other)[3], 0x87);
    let again = bench.open_from(certified("drill"));
    bench.say(again, &super::people::hello("press", None, false, 60, None));
    assert_eq!(bench.told(again)[2..4], [1, 0]);
}

#[test]
fn without_users_whoever_comes_takes_the_session_over() {
    let mut bench = Bench::durable();
    let old = bench.subscriber("press", false, "t", 1);
    let (new, code, present) = bench.user3("press", None, false);
    assert_eq!((code, present), (0, true));
    assert_eq!(bench.fate(old), Some(&CloseReason::TakenOver));
    bench.say(new, &subscribe5(1, None, &[])[..0]);
    bench.local("t", "x", Qos::AtLeastOnce, false);
    assert_eq!(bench.heard(new).len(), 1);
}

#[test]
fn a_refused_stranger_cannot_publish() {
    let mut bench = waiting(two_users(true, &[]));
    let (stranger, code, _) = bench.user3("press", Some("bob"), true);
    assert_eq!(code, 5);
    bench.say(stranger, &publish(0, "t", 0, "x"));
    assert_eq!(bench.broker.counters().received_messages_total, 0);
    assert_ne!(stranger, ConnId(0));
}

//! How many sessions there may be, and who gives way.

use super::people::{hello, two_users};
use super::wire::{Bench, connect, publish, subscribe};
use super::wire5::{publish5, subscribe5};
use crate::broker::{CloseReason, ConnId, Limits, SessionId, Settings, TopicFilter, Which};
use crate::uplink::row::Qos;

fn settings(limits: Limits) -> Settings {
    Settings { limits, ..two_users(true, &[]) }
}

/// A session that outlives its connection, with a subscription, from an address; the code of CONNACK.
fn lasting(bench: &mut Bench, from: &str, id: &str, user: Option<&str>, subscribed: bool) -> (ConnId, u8) {
    let conn = bench.enter(from, &hello(id, user, false, 1000, None));
    let code = bench.told(conn)[3];
    if code == 0 && subscribed {
        bench.say(conn, &subscribe5(1, None, &[("t", 1)]));
        bench.told(conn);
    }
    (conn, code)
}

#[test]
fn a_user_makes_no_more_lasting_sessions_than_its_share() {
    let mut bench = Bench::stored(settings(Limits { sessions_per_user_max: 3, ..Limits::default() }));
    for index in 0..3 {
        let from = format!("192.0.2.{index}:1");
        let (conn, code) = lasting(&mut bench, &from, &format!("a{index}"), Some("ada"), true);
        assert_eq!(code, 0);
        bench.lose(conn);
    }
    let (conn, code) = lasting(&mut bench, "192.0.2.9:1", "a3", Some("ada"), true);
    assert_eq!(code, 0x97);
    assert!(matches!(bench.fate(conn), Some(CloseReason::Refused("too many sessions of this user"))));
    assert_eq!(bench.user3("a4", Some("ada"), false).1, 3);
    assert_eq!(
        bench.user3("a5", Some("ada"), true).1,
        0,
        "one that ends with its connection is none of these"
    );
    assert_eq!(lasting(&mut bench, "192.0.2.9:1", "b0", Some("bob"), true).1, 0, "others are not concerned");
    assert_eq!(bench.user3("a1", Some("ada"), false).1, 0, "one of hers");
    assert_eq!(bench.broker.counters().sessions_refused_total, 2);
    bench.crash();
    assert_eq!(lasting(&mut bench, "192.0.2.9:1", "a3", Some("ada"), true).1, 0x97, "stored ones count");
    assert!(bench.broker.drop_session(bench.now, &Which::Client("a0".into())).is_some());
    bench.run();
    assert_eq!(lasting(&mut bench, "192.0.2.9:1", "a3", Some("ada"), true).1, 0, "there is room again");
}

#[test]
fn an_address_makes_no_more_lasting_sessions_than_its_share() {
    let mut bench = Bench::stored(settings(Limits { sessions_per_address_max: 2, ..Limits::default() }));
    for (from, id, code) in [
        ("192.0.2.1:1", "a", 0),
        ("192.0.2.1:2", "b", 0),
        ("192.0.2.1:3", "c", 0x97),
        ("192.0.2.2:3", "c", 0),
        ("[2001:db8::1]:1", "d", 0),
        ("[2001:db8::2]:1", "e", 0),
        ("[2001:db8::3]:1", "f", 0x97),
        ("[::ffff:192.0.2.1]:1", "g", 0x97),
    ] {
        assert_eq!(lasting(&mut bench, from, id, None, true).1, code, "{from} {id}");
    }
    // An address counts what it made, wherever that is used.
    let (conn, code) = lasting(&mut bench, "192.0.2.3:1", "a", None, true);
    assert_eq!(code, 0);
    bench.lose(conn);
    assert_eq!(lasting(&mut bench, "192.0.2.1:4", "h", None, true).1, 0x97);
}

#[test]
fn only_sessions_that_hold_nothing_give_way_and_the_oldest_first() {
    let mut bench = Bench::stored(settings(Limits { sessions_max: 4, ..Limits::default() }));
    let leave = |bench: &mut Bench, id: &str, subscribed| {
        let (conn, code) = lasting(bench, "192.0.2.1:1", id, None, subscribed);
        assert_eq!(code, 0, "{id}");
        bench.lose(conn);
        bench.wait(std::time::Duration::from_secs(1));
    };
    leave(&mut bench, "wants", true);
    leave(&mut bench, "old", false);
    leave(&mut bench, "young", false);
    let (_, code) = lasting(&mut bench, "192.0.2.1:1", "there", None, false);
    assert_eq!(code, 0);
    leave(&mut bench, "fifth", true);
    let ids = |bench: &Bench| -> Vec<String> {
        bench.broker.sessions(bench.now, None).map(|view| view.client.to_string()).collect()
    };
    assert_eq!(ids(&bench), ["wants", "young", "there", "fifth"]);
    leave(&mut bench, "sixth", true);
    assert_eq!(ids(&bench), ["wants", "there", "fifth", "sixth"]);
    let conn = bench.enter("192.0.2.2:1", &connect("seventh", true, 0, None));
    assert_eq!(bench.told(conn), [0x20, 2, 0, 3], "everything that is left holds something or is there");
    assert_eq!(bench.user5("eighth", None, 0).1, 0x97);
    assert_eq!(bench.broker.counters().evicted_sessions_total, 2);
    assert_eq!(bench.broker.counters().sessions_refused_total, 2);
}

#[test]
fn nobody_gives_way_to_a_client_that_is_refused() {
    let limits =
        Limits { sessions_max: 2, sessions_per_user_max: 1, wills_bytes_max: 1000, ..Limits::default() };
    let mut bench = Bench::stored(settings(limits));
    let (conn, _) = lasting(&mut bench, "192.0.2.1:1", "vacant", None, false);
    bench.lose(conn);
    assert_eq!(lasting(&mut bench, "192.0.2.1:1", "ada", Some("ada"), true).1, 0);
    let will = "x".repeat(2000);
    let conn = bench.enter("192.0.2.2:1", &connect("testator", false, 0, Some(("t", &will, 0, false))));
    assert_eq!(bench.told(conn), [0x20, 2, 0, 3], "a will without room");
    assert_eq!(
        lasting(&mut bench, "192.0.2.2:1", "more", Some("ada"), false).1,
        0x97,
        "her share is used up"
    );
    assert_eq!(bench.broker.counters().evicted_sessions_total, 0);
    assert_eq!(lasting(&mut bench, "192.0.2.2:1", "welcome", None, false).1, 0);
    assert_eq!(bench.broker.counters().evicted_sessions_total, 1);
}

#[test]
fn a_session_with_messages_and_no_subscription_does_not_give_way() {
    let mut bench = Bench::stored(settings(Limits { sessions_max: 1, ..Limits::default() }));
    let (conn, _) = lasting(&mut bench, "192.0.2.1:1", "a", None, true);
    bench.lose(conn);
    bench.local("t", "waits", Qos::AtLeastOnce, false);
    let (conn, _) = lasting(&mut bench, "192.0.2.1:1", "a", None, true);
    bench.say(conn, &super::wire5::publish5(4, "x", 9, &[], "not released"));
    bench.say(conn, &[0xa2, 6, 0, 2, 0, 0, 1, b't']);
    bench.lose(conn);
    bench.crash();
    assert_eq!(lasting(&mut bench, "192.0.2.1:1", "b", None, true).1, 0x97);
    let views: Vec<_> = bench.broker.sessions(bench.now, None).collect();
    assert_eq!((views.len(), views[0].subscriptions, views[0].messages), (1, 0, 1));
}

#[test]
fn stored_sessions_that_hold_nothing_give_way_after_a_restart() {
    let mut bench = Bench::stored(settings(Limits { sessions_max: 2, ..Limits::default() }));
    for id in ["a", "b"] {
        let (conn, _) = lasting(&mut bench, "192.0.2.1:1", id, None, false);
        bench.wait(std::time::Duration::from_secs(5));
        bench.lose(conn);
        bench.wait(std::time::Duration::from_secs(5));
    }
    bench.crash();
    assert_eq!(lasting(&mut bench, "192.0.2.1:1", "c", None, true).1, 0);
    assert_eq!(bench.broker.counters().evicted_sessions_total, 1);
}

#[test]
fn uplinks_have_their_sessions_whatever_clients_have_filled() {
    let limits = Limits { sessions_max: 2, subscriptions_max: 2, ..Limits::default() };
    let mut bench = Bench::stored(settings(limits));
    for id in ["a", "b"] {
        let (conn, code) = lasting(&mut bench, "192.0.2.1:1", id, None, true);
        assert_eq!(code, 0);
        bench.lose(conn);
    }
    bench.crash();
    let filters = [("x/#", Qos::AtLeastOnce), ("y/#", Qos::AtLeastOnce)];
    let filters = filters.map(|(filter, qos)| (TopicFilter::new(filter).unwrap(), qos));
    assert!(bench.broker.open_bridge(filters.clone()).is_ok(), "the gateway starts");
    assert!(bench.broker.open_bridge(filters).is_err(), "its own are counted");
}

#[test]
fn a_person_sees_sessions_in_pages_and_drops_one() {
    let mut bench = Bench::stored(settings(Limits::default()));
    let (ada, _, _) = bench.user5("ada's", Some("ada"), 1000);
    bench.say(ada, &subscribe5(1, None, &[("t", 1), ("u", 1)]));
    let (bob, _, _) = bench.user3("bob's", Some("bob"), false);
    bench.say(bob, &subscribe(1, &[("t", 1)]));
    bench.lose(bob);
    bench.local("t", "x", Qos::AtLeastOnce, false);
    bench.wait(std::time::Duration::from_secs(40));
    let views: Vec<_> = bench.broker.sessions(bench.now, None).collect();
    let [one, two] = &views[..] else { panic!("{views:?}") };
    assert_eq!((&*one.client, one.user.as_deref(), one.connected), ("ada's", Some("ada"), true));
    assert_eq!((one.subscriptions, one.messages, one.since.as_secs()), (2, 1, 40));
    assert_eq!(one.expires_in.map(|left| left.as_secs()), Some(1000), "after she leaves");
    assert_eq!((&*two.client, two.user.as_deref(), two.connected), ("bob's", Some("bob"), false));
    assert_eq!((two.messages, two.since.as_secs()), (1, 40));
    assert_eq!(two.expires_in.map(|left| left.as_secs()), Some(7 * 86_400 - 40));
    let behind: Vec<_> = bench.broker.sessions(bench.now, Some(one.number)).collect();
    assert_eq!(behind, std::slice::from_ref(two));
    bench.told(ada);
    assert_eq!(bench.broker.drop_session(bench.now, &Which::Number(one.number)).as_ref(), Some(one));
    bench.run();
    assert_eq!(bench.fate(ada), Some(&CloseReason::Administrative));
    assert_eq!(bench.told(ada), [0xe0, 1, 0x98], "administrative action");
    assert!(bench.broker.drop_session(bench.now, &Which::Client("bob's".into())).is_some());
    bench.run();
    assert_eq!(bench.broker.gauges().sessions, 0);
    assert_eq!(bench.broker.gauges().held_messages, 0);
    let counters = bench.broker.counters();
    assert_eq!((counters.removed_sessions_total, counters.dropped_session_messages_total), (2, 2));
    bench.wait(std::time::Duration::from_secs(5));
    assert!(bench.disk.facts.is_empty() && bench.disk.rows() == 0, "{:?}", bench.disk.facts);
}

#[test]
fn an_uplink_is_no_session_that_a_person_drops() {
    let mut bench = Bench::durable();
    let filter = TopicFilter::new("#").unwrap();
    let bridge = bench.broker.open_bridge([(filter, Qos::AtLeastOnce)]).unwrap();
    assert_eq!(bench.broker.sessions(bench.now, None).count(), 0);
    for which in [Which::Number(bridge), Which::Client("".into()), Which::Number(SessionId(77))] {
        assert_eq!(bench.broker.drop_session(bench.now, &which), None);
    }
    assert_eq!(bench.broker.gauges().sessions, 1);
}

#[test]
fn sessions_with_long_filters_take_no_more_memory_than_is_meant_and_leave_room_for_ordinary_ones() {
    let mut bench = Bench::stored(settings(Limits { packet_bytes_max: 128 << 10, ..Limits::default() }));
    let mut granted = Vec::new();
    for client in 0..12 {
        let conn = bench.enter("192.0.2.1:1", &hello(&format!("c{client}"), Some("ada"), true, 0, None));
        bench.told(conn);
        let mut mine = 0;
        for number in 0..12 {
            let filter = format!("{client}/{number}/{}", "x".repeat(65_000));
            bench.say(conn, &subscribe5(1, None, &[(&filter, 0)]));
            mine += usize::from(bench.told(conn).last() == Some(&0));
        }
        granted.push(mine);
    }
    // A megabyte of one session, and of all together what 20,000 ordinary ones take.
    assert!(granted.iter().all(|mine| *mine <= 6) && granted[0] >= 5, "{granted:?}");
    let all: usize = granted.iter().sum();
    assert!((20..=30).contains(&all), "{granted:?}");
    let conn = bench.enter("192.0.2.2:1", &hello("ordinary", Some("bob"), true, 0, None));
    bench.told(conn);
    for number in 0..20 {
        bench.say(conn, &subscribe5(1, None, &[(&format!("plant/line{number}/temp"), 1)]));
        assert_eq!(bench.told(conn).last(), Some(&1));
    }
}

/// Sessions of one holder subscribe to as much as they get, with so many filters in each; how many that is.
fn takes_all(bench: &mut Bench, from: &str, user: Option<&str>, each: usize) -> usize {
    let mut all = 0;
    for session in 0.. {
        let id = format!("{from}/{each}/{session}");
        let conn = bench.enter(from, &hello(&id, user, false, u32::MAX, None));
        if bench.told(conn)[3] != 0 {
            break;
        }
        let filters: Vec<String> = (0..each).map(|number| format!("{id}/{number}")).collect();
        let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
        bench.say(conn, &subscribe5(1, None, &filters));
        let told = bench.told(conn);
        let granted = told.iter().rev().take(each).filter(|code| **code == 1).count();
        bench.lose(conn);
        all += granted;
        if granted < each {
            break;
        }
    }
    all
}

/// One client asks for so many filters; how many it gets.
fn asks(bench: &mut Bench, from: &str, user: Option<&str>, count: usize) -> usize {
    let id = format!("{from}/{user:?}/{count}");
    let conn = bench.enter(from, &hello(&id, user, true, 0, None));
    assert_eq!(bench.told(conn)[3], 0);
    let granted = |number: &usize| {
        bench.say(conn, &subscribe5(1, None, &[(&format!("{id}/{number}"), 1)]));
        bench.told(conn).last() == Some(&1)
    };
    (0..count).filter(granted).count()
}

#[test]
fn whoever_has_few_subscriptions_gets_more_whatever_others_have_taken_also_after_a_crash() {
    let limits = Limits { subscriptions_max: 2000, subscriptions_per_session_max: 200, ..Limits::default() };
    let mut bench = Bench::stored(settings(limits));
    assert_eq!(takes_all(&mut bench, "192.0.2.66:1", None, 200), 1000, "half is the most for an address");
    assert_eq!(takes_all(&mut bench, "192.0.2.66:1", None, 10), 0);
    assert_eq!(asks(&mut bench, "192.0.2.1:1", None, 10), 10);
    assert_eq!(takes_all(&mut bench, "192.0.2.67:1", Some("bob"), 200), 740, "an eighth is left");
    assert_eq!(takes_all(&mut bench, "192.0.2.67:1", Some("bob"), 10), 0);
    assert_eq!(asks(&mut bench, "192.0.2.1:2", None, 20), 16, "few");
    assert_eq!(asks(&mut bench, "192.0.2.66:1", Some("ada"), 10), 10, "a user is no part of the address");
    bench.wait(std::time::Duration::from_secs(10));
    bench.crash();
    assert_eq!(bench.broker.gauges().subscriptions, 1740, "none that was granted goes");
    assert_eq!(asks(&mut bench, "192.0.2.1:1", None, 10), 10);
    assert_eq!(asks(&mut bench, "192.0.2.2:1", None, 16), 16);
    assert!(takes_all(&mut bench, "192.0.2.68:1", None, 200) < 62, "few are less than a part of all");
    assert!(bench.broker.gauges().subscriptions < 2000);
}

#[test]
fn a_holder_has_as_many_subscriptions_as_before_while_there_is_room_for_all() {
    let limits = Limits { subscriptions_max: 8, ..Limits::default() };
    let mut bench = Bench::stored(settings(limits));
    assert_eq!(asks(&mut bench, "192.0.2.1:1", None, 20), 8, "all of them are few");
    assert_eq!(bench.broker.counters().subscriptions_refused_total, 12);
}

/// A broker with room for two retained messages, which are there, and a subscriber to everything.
fn retains_two() -> (Bench, ConnId) {
    let mut bench = Bench::stored(settings(Limits { retained_max: 2, ..Limits::default() }));
    bench.local("a", "1", Qos::AtMostOnce, true);
    bench.local("b", "1", Qos::AtMostOnce, true);
    let reader = bench.subscriber5("reader", "x/#", 2);
    (bench, reader)
}

#[test]
fn a_retained_message_that_is_not_kept_is_no_success() {
    let (mut bench, reader) = retains_two();
    let conn = bench.user5("pub", None, 0).0;
    bench.told(reader);
    bench.say(conn, &publish5(3, "x/1", 1, &[], "on"));
    assert_eq!(bench.told(conn), [0x40, 3, 0, 1, 0x97]);
    assert_eq!(bench.heard5(reader).len(), 1, "subscribers have it");
    bench.say(conn, &publish5(3, "y", 2, &[], "on"));
    assert_eq!(bench.told(conn), [0x40, 3, 0, 2, 0x97], "also when nobody has subscribed");
    bench.say(conn, &publish5(3, "a", 3, &[], "2"));
    assert_eq!(bench.told(conn), [0x40, 3, 0, 3, 0x10], "a topic that has one gets the next");
    bench.say(conn, &publish5(3, "a", 4, &[], ""));
    bench.told(conn);
    bench.say(conn, &publish5(3, "x/1", 5, &[], "on"));
    assert_eq!(bench.told(conn), [0x40, 2, 0, 5], "there is room again");
    assert_eq!(bench.broker.counters().unretained_messages_total, 2);
    let notes: Vec<String> =
        std::iter::from_fn(|| bench.broker.poll_note()).map(|note| note.to_string()).collect();
    let told = notes.iter().filter(|note| note.contains("on x/1 reached its subscribers and is not kept"));
    assert_eq!(told.count(), 1, "{notes:?}");
}

#[test]
fn a_qos_2_message_that_cannot_be_retained_reaches_nobody_so_that_it_can_be_sent_again() {
    let (mut bench, reader) = retains_two();
    let conn = bench.user5("pub", None, 1000).0;
    for id in 1..3 {
        bench.say(conn, &publish5(5, "x/1", id, &[], "on"));
        assert_eq!(bench.told(conn), [0x50, 3, 0, u8::try_from(id).unwrap(), 0x97]);
    }
    assert!(bench.heard5(reader).is_empty());
    bench.say(conn, &publish5(5, "a", 1, &[], ""));
    bench.told(conn);
    bench.say(conn, &publish5(5, "x/1", 2, &[], "on"));
    assert_eq!(bench.told(conn), [0x50, 2, 0, 2], "the identifier is free");
    assert_eq!(bench.heard5(reader).len(), 1);
    assert_eq!(bench.broker.counters().unretained_messages_total, 2);
}

#[test]
fn a_client_of_3_1_1_is_answered_as_ever_when_its_message_is_not_kept() {
    let (mut bench, reader) = retains_two();
    let conn = bench.user3("pub", None, true).0;
    for (flags, answer) in [(3, [0x40, 2, 0, 1]), (5, [0x50, 2, 0, 1])] {
        bench.say(conn, &publish(flags, "x/1", 1, "on"));
        assert_eq!(bench.told(conn), answer);
        assert_eq!(bench.heard5(reader).len(), 1);
    }
    bench.say(conn, &publish(1, "x/1", 0, "on"));
    assert_eq!(bench.heard5(reader).len(), 1, "nor is QoS 0 kept from subscribers");
    assert_eq!(bench.broker.counters().unretained_messages_total, 3);
}

#[test]
fn a_will_that_cannot_be_retained_is_heard() {
    let (mut bench, reader) = retains_two();
    let conn = bench.enter("192.0.2.1:1", &hello("w", None, true, 0, Some(("x/will", "gone", 0))));
    bench.told(conn);
    bench.lose(conn);
    assert_eq!(bench.heard5(reader).len(), 1);
    assert_eq!(bench.broker.counters().unretained_messages_total, 1);
}

#[test]
fn one_user_with_many_small_sessions_does_not_take_the_memory_that_is_for_those_that_have_little() {
    let mut bench = Bench::stored(settings(Limits { packet_bytes_max: 128 << 10, ..Limits::default() }));
    let mut take = |bytes: usize, sessions: usize| {
        let mut all = 0;
        for session in 0..sessions {
            let hello = hello(&format!("{bytes}/{session}"), Some("ada"), true, 0, None);
            let conn = bench.enter("192.0.2.1:1", &hello);
            bench.told(conn);
            for number in 0..3 {
                let filter = format!("{bytes}/{session}/{number}/{}", "x".repeat(bytes));
                bench.say(conn, &subscribe5(1, None, &[(&filter, 0)]));
                all += usize::from(bench.told(conn).last() == Some(&0));
            }
        }
        all
    };
    take(65_000, 30);
    let small = take(2000, 200);
    assert!(small < 60, "{small}: what was left of the ordinary bound");
    let conn = bench.enter("192.0.2.2:1", &hello("ordinary", Some("bob"), true, 0, None));
    bench.told(conn);
    for number in 0..20 {
        bench.say(conn, &subscribe5(1, None, &[(&format!("plant/line{number}/temp"), 1)]));
        assert_eq!(bench.told(conn).last(), Some(&1));
    }
}

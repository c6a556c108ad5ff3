//! What a client can make the broker do at once is bounded, and what is put down is done all the same.

use std::sync::Arc;
use std::time::Duration;

use super::disk::open_door;
use super::wire::{Bench, PING, PUBACK, ack, connect, frames, packet, publish, subscribe, text};
use super::wire5::{four, publish5, subscribe5};
use crate::broker::access::{Access, Client, Deed, RULES_MAX, Rule};
use crate::broker::settings::{FILTERS_BYTES_MAX, PACKET_BYTES_MAX};
use crate::broker::{CloseReason, ConnId, Limits, Settings};
use crate::uplink::row::Qos;

/// A budget that every test here spends many times over.
const UNITS: u64 = 4000;

/// Most that one packet of these tests costs: a match, and a message for each of two hundred sessions.
const PACKET_UNITS: u64 = 8000;

fn limits() -> Limits {
    Limits { turn_work_max: UNITS, match_steps_max: 1000, ..Limits::default() }
}

fn stored(limits: Limits, access: Access) -> Bench {
    Bench::stored(Settings { limits, access, listeners: vec![open_door()], ..Settings::default() })
}

/// Nothing took longer than it may, and something was put down.
fn check_turns(bench: &Bench, what: &str) {
    let longest = bench.broker.longest_turn_units();
    assert!(longest <= UNITS + UNITS / 2 + 2 * PACKET_UNITS, "{what}: {longest} units in a turn");
    assert!(bench.broker.counters().put_down_total > 0, "{what}: nothing was put down");
    assert!(!bench.broker.has_work(), "{what}: something was left");
}

fn many(count: usize, filter: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(filter).collect()
}

fn ask(id: u16, filters: &[String], qos: u8) -> Vec<u8> {
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), qos)).collect();
    subscribe(id, &filters)
}

fn give_up(id: u16, filters: &[String]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(filters.iter().flat_map(|filter| text(filter)));
    packet(0xa2, &body)
}

#[test]
fn thousands_of_filters_against_thousands_of_retained_topics_are_answered_in_many_turns() {
    let mut bench = Bench::with(limits());
    for number in 0..1000 {
        bench.local(&format!("t/{number:04}"), "x", Qos::AtMostOnce, true);
    }
    let conn = bench.client("a", true);
    bench.say(conn, &ask(1, &many(300, |n| format!("+/{n:04}")), 0));
    let told = bench.told(conn);
    let publishes = frames(&told).iter().filter(|frame| frame[0] >> 4 == 3).count();
    assert_eq!(publishes, 300, "each filter has its retained message");
    check_turns(&bench, "300,000 looks at a retained topic");
}

#[test]
fn a_packet_of_sixty_thousand_filters_is_answered_once_and_before_what_came_behind_it() {
    for durable in [false, true] {
        let mut bench = stored(Limits { subscriptions_per_session_max: 100, ..limits() }, Access::default());
        let conn = bench.client("a", !durable);
        let filters = many(20_000, |n| format!("f/{}", n % 200));
        bench.say(conn, &[ask(7, &filters, 1), publish(2, "other", 9, "x")].concat());
        let told = bench.told(conn);
        let frames = frames(&told);
        assert_eq!(frames.iter().map(|frame| frame[0]).collect::<Vec<_>>(), [0x90, PUBACK]);
        assert_eq!(frames[0].len(), 4 + 2 + 20_000, "a code for each");
        assert_eq!(bench.broker.gauges().subscriptions, 100);
        assert_eq!(bench.holds(conn), [true, false], "nothing was read meanwhile, and then again");
        bench.say(conn, &give_up(8, &filters));
        assert_eq!(bench.broker.gauges().subscriptions, 0);
        check_turns(&bench, "20,000 filters");
    }
}

#[test]
fn filters_under_way_of_all_clients_together_are_bounded_in_bytes() {
    let mut bench = Bench::with(limits());
    let conns: Vec<ConnId> = (0..8).map(|n| bench.client(&format!("c{n}"), true)).collect();
    let filters = many(20_000, |n| format!("f/{}", n % 100));
    for conn in &conns {
        bench.say_in_turn(*conn, &ask(1, &filters, 0));
        for _ in 0..4 {
            bench.turn();
            let bytes = bench.broker.filters_bytes();
            assert!(bytes <= FILTERS_BYTES_MAX + PACKET_BYTES_MAX, "{bytes} bytes of filters wait");
        }
    }
    bench.lose(conns[0]);
    bench.run();
    assert_eq!(bench.broker.filters_bytes(), 0);
    for conn in &conns[1..] {
        assert_eq!(bench.told(*conn)[0], 0x90, "the others are answered");
    }
}

#[test]
fn filters_that_would_make_a_match_long_are_refused_and_publishes_stay_short() {
    let mut bench = Bench::with(limits());
    let conn = bench.client("a", true);
    let level = |n: usize, at: usize| if n >> at & 1 == 1 { "+" } else { "a" };
    let filters = many(2000, |n| (0..11).map(|at| level(n, at)).collect::<Vec<_>>().join("/"));
    bench.say(conn, &ask(1, &filters, 0));
    let told = bench.told(conn);
    let refused = told.iter().filter(|code| **code == 0x80).count();
    assert!(refused > 1000, "{refused}");
    assert_eq!(bench.broker.counters().subscriptions_refused_total, refused as u64);
    let speaker = bench.client("b", true);
    let all: Vec<u8> = (0..500).flat_map(|_| publish(0, &["a"; 11].join("/"), 0, "x")).collect();
    bench.say(speaker, &all);
    assert_eq!(bench.heard(conn).len(), 500);
    check_turns(&bench, "publishes into wildcards");
    bench.say(conn, &ask(2, &many(500, |n| format!("m/{n}/+/#")), 0));
    assert!(!bench.told(conn)[5..].contains(&0x80), "usual filters are not refused");
}

#[test]
fn one_message_for_many_sessions_is_sent_in_many_turns_and_each_gets_all_in_order() {
    for (durable, qos) in [(false, 0_u8), (false, 1), (true, 1), (true, 2)] {
        let mut bench = stored(limits(), Access::default());
        let crowd: Vec<ConnId> =
            (0..100).map(|n| bench.subscriber(&format!("c{n}"), !durable, "t/#", qos)).collect();
        let speaker = bench.client("speaker", true);
        let all: Vec<u8> = (1..=30).flat_map(|n| publish(qos << 1, "t/x", n, &format!("{n:02}"))).collect();
        bench.say(speaker, &all);
        let expected: Vec<String> = (1..=30).map(|n| format!("{n:02}")).collect();
        for conn in crowd {
            let got: Vec<String> = bench.heard(conn).into_iter().map(|heard| heard.3).collect();
            assert_eq!(got, expected, "durable {durable}, QoS {qos}");
        }
        check_turns(&bench, "3000 deliveries");
    }
}

#[test]
fn messages_that_wait_to_be_encoded_count_as_unsent_and_are_dropped_beyond_the_limit() {
    let mut bench = Bench::with(Limits { outbox_bytes_max: 20_000, turn_work_max: 1, ..Limits::default() });
    let conn = bench.subscriber("a", true, "t", 0);
    let speaker = bench.client("b", true);
    for _ in 0..100 {
        // No turn of the loop comes between.
        bench.say_in_turn(speaker, &[]);
        let body = "x".repeat(1000);
        let draft = super::wire::draft("t", crate::uplink::row::Body::Raw(body.as_bytes().into()), false);
        let local = crate::broker::Local { draft: &draft, qos: Qos::AtMostOnce, from: None, want: false };
        bench.broker.publish(bench.now, &local, || None).unwrap();
    }
    let dropped = bench.broker.counters().dropped_slow_messages_total;
    assert!((75..=85).contains(&dropped), "{dropped}");
    bench.run();
    assert_eq!(bench.heard(conn).len() as u64 + dropped, 100, "every one is delivered or counted");
}

#[test]
fn a_light_client_is_answered_in_the_next_turn_beside_heavy_ones() {
    let mut bench = Bench::with(limits());
    let heavy: Vec<ConnId> = (0..5).map(|n| bench.client(&format!("h{n}"), true)).collect();
    let light = bench.client("light", true);
    for conn in &heavy {
        bench.say_in_turn(*conn, &ask(1, &many(5000, |n| format!("f/{}", n % 100)), 0));
    }
    for _ in 0..5 {
        bench.say_in_turn(light, PING);
        let mut turns = 0;
        while bench.told(light).is_empty() {
            bench.turn();
            turns += 1;
        }
        assert!(turns <= 2, "{turns} turns for a PINGREQ");
        assert!(bench.broker.has_work(), "the heavy ones are not done");
    }
    bench.run();
    assert!(heavy.iter().all(|conn| bench.told(*conn)[0] == 0x90));
}

#[test]
fn sessions_that_expire_at_the_same_moment_end_in_many_turns_with_their_subscriptions_and_wills() {
    let mut bench = stored(limits(), Access::default());
    let witness = bench.subscriber("witness", true, "will", 0);
    let conns: Vec<ConnId> = (0..100)
        .map(|n| {
            let will = super::wire5::Will("will", "gone", 0, false, &[four(0x18, 60)]);
            let conn = bench.open();
            bench
                .say(conn, &super::wire5::connect5(&format!("c{n}"), true, 0, &[four(0x11, 60)], Some(will)));
            let filters = many(50, |f| format!("{n}/{f}"));
            let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
            bench.say(conn, &subscribe5(1, None, &filters));
            conn
        })
        .collect();
    assert_eq!(bench.broker.gauges().subscriptions, 5001);
    for conn in conns {
        bench.lose(conn);
    }
    bench.wait(Duration::from_secs(61));
    bench.run();
    assert_eq!(bench.heard(witness).len(), 100);
    let gauges = bench.broker.gauges();
    assert_eq!((gauges.sessions, gauges.subscriptions), (1, 1));
    assert_eq!(bench.broker.counters().expired_sessions_total, 100);
    bench.wait(Duration::from_secs(40));
    assert_eq!(bench.disk.facts.len(), 0, "nothing of them is left on disk");
    let longest = bench.broker.longest_turn_units();
    assert!(longest <= UNITS + UNITS / 2 + 2 * PACKET_UNITS, "{longest}");
}

#[test]
fn a_client_that_comes_back_before_its_old_subscriptions_are_gone_has_none_of_them_and_keeps_its_own() {
    let mut bench = stored(Limits { turn_work_max: 1, ..limits() }, Access::default());
    let conn = bench.client("a", false);
    bench.say(conn, &ask(1, &many(200, |n| format!("t/{n}")), 1));
    bench.told(conn);
    let again = bench.open();
    bench.say_in_turn(again, &connect("a", true, 0, None));
    bench.turn();
    assert!(bench.broker.has_work(), "the old subscriptions are not gone");
    let third = bench.open();
    bench.say_in_turn(third, &connect("a", false, 0, None));
    bench.say(third, &subscribe(1, &[("t/199", 1)]));
    bench.local("t/5", "old", Qos::AtLeastOnce, false);
    bench.local("t/199", "own", Qos::AtLeastOnce, false);
    let told = bench.told(third);
    assert!(told.ends_with(b"own") && !told.windows(3).any(|part| part == b"old"), "{told:?}");
    assert_eq!(bench.broker.gauges().subscriptions, 1);
    bench.wait(Duration::from_secs(40));
    bench.crash();
    assert_eq!(bench.broker.gauges().subscriptions, 1, "and so it is on disk");
}

#[test]
fn changed_rules_of_many_connections_are_filled_in_over_many_turns_and_hold_for_each_from_the_first() {
    let rules = |deny: &str| {
        let filler = (1..RULES_MAX).map(|n| (true, format!("x{n}/%c/#")));
        let rule = |(allow, text): (bool, String)| Rule { allow, deed: Deed::Any, filter: text.into() };
        let all = [(false, deny.to_owned())].into_iter().chain(filler).chain([(true, "#".to_owned())]);
        Access { everybody: all.map(rule).collect(), ..Access::default() }
    };
    let mut bench = stored(limits(), rules("nothing"));
    let crowd: Vec<ConnId> =
        (0..50).map(|n| bench.subscriber(&format!("c{n}"), true, "#", u8::from(n % 2 == 1))).collect();
    bench.broker.replace_access(bench.now, rules("secret/#"));
    assert!(bench.broker.has_work());
    for body in ["a", "b"] {
        bench.local("secret/x", body, Qos::AtLeastOnce, false);
        bench.local("open", body, Qos::AtLeastOnce, false);
    }
    bench.run();
    for conn in crowd {
        let got: Vec<_> = bench.heard(conn).into_iter().map(|heard| (heard.1, heard.3)).collect();
        assert_eq!(got, [("open".into(), "a".into()), ("open".into(), "b".into())]);
    }
    check_turns(&bench, "10,000 rules");
    assert_eq!(bench.broker.counters().dropped_forbidden_messages_total, 100);
}

#[test]
fn a_connection_that_is_to_be_closed_is_not_heard_any_more_while_others_are_closed_before_it() {
    let mut bench = stored(limits(), Access::default());
    let conns: Vec<ConnId> = (0..60).map(|n| bench.client(&format!("c{n}"), true)).collect();
    let before = bench.broker.counters().received_packets_total;
    let adas = || Client { users: Some([Arc::from("ada")].into()), ..Client::default() };
    let clients = (0..60).map(|n| (format!("c{n}").into(), adas())).collect();
    bench.broker.replace_access(bench.now, Access { clients, ..Access::default() });
    let open = |bench: &Bench| conns.iter().filter(|conn| bench.fate(**conn).is_none()).count();
    bench.say_in_turn(conns[59], &publish(1 << 1, "t", 1, "too late"));
    assert!(open(&bench) > 0, "some wait to be closed");
    bench.run();
    assert_eq!(open(&bench), 0);
    assert_eq!(bench.broker.counters().received_packets_total, before);
    assert!(bench.told(conns[59]).is_empty(), "no PUBACK for what nobody got");
    let reasons = conns.iter().map(|conn| bench.fate(*conn));
    assert!(reasons.into_iter().all(|fate| matches!(fate, Some(CloseReason::NotAuthorized))));
}

#[test]
fn acknowledgements_that_waited_for_the_disk_go_over_many_turns_and_all_do() {
    let mut bench = stored(limits(), Access::default());
    let conns: Vec<ConnId> = (0..20).map(|n| bench.client(&format!("c{n}"), false)).collect();
    bench.disk.slow = true;
    for (n, conn) in conns.iter().enumerate() {
        for id in 1..=100 {
            bench.say(*conn, &ask(id, &[format!("t/{n}/{id}")], 1));
        }
        assert!(bench.told(*conn).is_empty(), "nothing is durable");
    }
    bench.disk.slow = false;
    while bench.is_writing() {
        bench.commit();
        bench.run();
    }
    for conn in conns {
        assert_eq!(frames(&bench.told(conn)).len(), 100);
    }
    check_turns(&bench, "2000 acknowledgements");
}

#[test]
fn the_rest_of_a_durable_member_is_passed_on_as_far_as_the_budget_goes_and_counted_beyond() {
    let mut bench = stored(limits(), Access::default());
    let first = bench.subscriber("first", false, "$share/crew/t/#", 1);
    bench.disk.slow = true;
    for number in 0..500 {
        bench.local("t/x", &format!("{number:03}"), Qos::AtLeastOnce, false);
    }
    let second = bench.subscriber("second", true, "$share/crew/t/#", 1);
    let again = bench.open();
    bench.say(again, &connect("first", true, 0, None));
    assert!(matches!(bench.fate(first), Some(CloseReason::TakenOver)));
    bench.disk.slow = false;
    while bench.is_writing() {
        bench.commit();
        bench.run();
    }
    let counters = bench.broker.counters();
    let (passed, lost) = (counters.passed_on_messages_total, counters.dropped_session_messages_total);
    assert!(passed > 0 && passed + lost == 500, "{passed} passed on, {lost} lost");
    assert!(bench.fate(second).is_none());
    let longest = bench.broker.longest_turn_units();
    assert!(longest <= 3 * UNITS + 2 * PACKET_UNITS, "{longest}");
}

#[test]
fn goodbyes_of_many_connections_are_said_over_many_turns_and_all_are() {
    let mut bench = Bench::with(limits());
    let conns: Vec<ConnId> = (0..200).map(|n| bench.client(&format!("c{n}"), true)).collect();
    bench.broker.stop(bench.now);
    assert!(!bench.broker.is_flushed());
    bench.run();
    assert!(conns.iter().all(|conn| bench.fate(*conn).is_some()) && bench.broker.is_flushed());
    let longest = bench.broker.longest_turn_units();
    assert!(longest <= UNITS + UNITS / 2 + 2 * PACKET_UNITS, "{longest}");
}

#[test]
fn a_member_with_a_full_queue_that_ends_passes_on_all_of_it_over_many_turns() {
    let mut bench = Bench::with(limits());
    let first = bench.subscriber("first", true, "$share/crew/t/#", 1);
    for number in 0..500 {
        bench.local("t/x", &format!("{number:03}"), Qos::AtLeastOnce, false);
    }
    let second = bench.subscriber("second", true, "$share/crew/t/#", 1);
    bench.lose(first);
    let mut got = Vec::new();
    loop {
        let heard = bench.heard(second);
        if heard.is_empty() {
            break;
        }
        let acks: Vec<u8> = heard.iter().flat_map(|heard| ack(PUBACK, heard.2)).collect();
        got.extend(heard.into_iter().map(|heard| heard.3));
        bench.say(second, &acks);
    }
    assert_eq!(got, many(500, |number| format!("{number:03}")));
    check_turns(&bench, "500 messages of a member that is gone");
}

#[test]
fn a_message_carries_a_bounded_number_of_subscription_identifiers() {
    let mut bench = Bench::new();
    let (conn, _) = bench.client5("a", true, &[]);
    for number in 0..100_u16 {
        let level = |at: u16| if number >> at & 1 == 1 { "+" } else { "a" };
        let filter = (0..7).map(level).collect::<Vec<_>>().join("/");
        bench.say(
            conn,
            &subscribe5(number + 1, Some(number.into()).filter(|n| *n > 0).or(Some(500)), &[(&filter, 0)]),
        );
    }
    bench.told(conn);
    let (speaker, _) = bench.client5("b", true, &[]);
    bench.say(speaker, &publish5(0, &["a"; 7].join("/"), 0, &[], "body"));
    let told = bench.told(conn);
    assert!(told.ends_with(b"body") && told.len() < 64 * 3 + 40, "{}", told.len());
    assert_eq!(bench.broker.counters().cut_identifiers_total, 36);
}

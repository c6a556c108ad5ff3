//! Whoever is not let in: what it may hold, how long it waits, and whom it cannot hurt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::disk::open_door;
use super::login::{login, settings, verify};
use super::people::{hello, two_users};
use super::wire::{Bench, connect, frames, packet, publish, subscribe, text};
use super::wire5::{Will, connect5, pair, publish5};
use crate::broker::access::failures::{LOCK_AFTER, LOCK_MIN};
use crate::broker::access::{HELLO_BYTES_PER_ADDRESS_MAX, HELLO_BYTES_TOTAL_MAX, WAITING_PER_PEER_MAX};
use crate::broker::{Action, CloseReason, ConnId, Event, Limits, Settings};

/// CONNECT of 5.0 with a user, a password, and a large will with user properties.
fn heavy(id: &str) -> Vec<u8> {
    let extras = vec![pair("", ""); 25];
    let mut whole = connect5(id, true, 0, &[], Some(Will("w", &"x".repeat(65_000), 0, false, &extras)));
    // Remaining length of three bytes; flags behind the name and the level.
    whole[4 + 7] |= 0xc0;
    let body = [&whole[4..], &text("ada"), &text("wrong")].concat();
    packet(0x10, &body)
}

/// Clients that send what they have when they are read, as the kernel does for them.
struct Crowd {
    bench: Bench,
    unsent: BTreeMap<ConnId, VecDeque<Vec<u8>>>,
    held: BTreeSet<ConnId>,
    seen: usize,
}

impl Crowd {
    fn new(limits: Limits) -> Self {
        let settings = Settings { limits, ..settings(false, vec![]) };
        Self { bench: Bench::stored(settings), unsent: BTreeMap::new(), held: BTreeSet::new(), seen: 0 }
    }

    fn add(&mut self, peer: &str, bytes: &[u8]) -> ConnId {
        let conn = self.bench.open_at(peer);
        self.unsent.insert(conn, bytes.chunks(16 << 10).map(<[u8]>::to_vec).collect());
        conn
    }

    fn look(&mut self) {
        for action in &self.bench.others[self.seen..] {
            match action {
                Action::Hold { conn, held: true } => _ = self.held.insert(*conn),
                Action::Hold { conn, held: false } => _ = self.held.remove(conn),
                _ => {}
            }
        }
        self.seen = self.bench.others.len();
        for (conn, _) in &self.bench.closed {
            self.unsent.remove(conn);
        }
    }

    /// One round: each that is read sends a piece. Whether any did.
    fn round(&mut self) -> bool {
        let conns: Vec<ConnId> = self.unsent.keys().copied().collect();
        let mut any = false;
        for conn in conns {
            self.look();
            if self.held.contains(&conn) {
                continue;
            }
            if let Some(piece) = self.unsent.get_mut(&conn).and_then(VecDeque::pop_front) {
                any = true;
                self.bench.say(conn, &piece);
                assert!(self.bench.broker.gauges().hello_bytes <= HELLO_BYTES_TOTAL_MAX);
            }
        }
        any
    }
}

/// Answers what is being compared with no.
fn refuse_one(bench: &mut Bench) -> Option<ConnId> {
    let (conn, ..) = verify(bench)?;
    bench.broker.handle_verified(bench.now, conn, false);
    bench.run();
    Some(conn)
}

#[test]
fn a_thousand_large_connects_hold_no_more_than_the_total_and_every_one_is_answered() {
    let mut crowd = Crowd::new(Limits::default());
    let conns: Vec<_> =
        (0..1000).map(|n| crowd.add(&format!("10.0.{}.{}", n / 250, n % 250), &heavy("a"))).collect();
    while crowd.round() {}
    assert!(crowd.bench.broker.counters().hello_held_total > 0, "they wait in the kernel");
    assert!(crowd.bench.broker.gauges().hello_bytes > HELLO_BYTES_TOTAL_MAX / 2, "the room is used");
    let honest = crowd.add("192.168.0.7", &login("honest", "ada", "secret"));
    while crowd.round() {}
    assert_eq!(verify(&mut crowd.bench).map(|asked| asked.0), Some(honest), "the next one that is compared");
    crowd.bench.broker.handle_verified(crowd.bench.now, honest, true);
    crowd.bench.run();
    assert_eq!(crowd.bench.told(honest), [0x20, 2, 0, 0]);
    crowd.bench.wait(Duration::from_secs(30));
    for conn in conns {
        assert!(crowd.bench.fate(conn).is_some(), "nobody waits for ever");
    }
    assert_eq!((crowd.bench.broker.gauges().hello_bytes, crowd.bench.broker.gauges().logins_waiting), (0, 0));
}

#[test]
fn large_connects_that_come_one_after_the_other_wait_for_their_comparison_within_the_total() {
    let mut crowd = Crowd::new(Limits::default());
    let mut refused = 0;
    for n in 0..300 {
        let conn = crowd.add(&format!("10.0.{}.{}", n / 250, n % 250), &heavy("a"));
        while crowd.round() {}
        if n % 2 == 0 && n > 100 {
            refused += usize::from(refuse_one(&mut crowd.bench).is_some());
            crowd.seen = 0;
        }
        assert_eq!(crowd.bench.fate(conn), None);
    }
    assert!(refused > 60, "{refused}: they were read to their end as long as there was room");
    crowd.bench.wait(Duration::from_secs(11));
    assert_eq!(crowd.bench.broker.gauges().hello_bytes, 0, "those that were not whole in time are gone");
    let late = crowd.add("10.0.9.9", &heavy("late"));
    while crowd.round() {}
    assert_eq!(verify(&mut crowd.bench).map(|asked| asked.0), Some(late));
}

#[test]
fn connects_that_never_end_share_the_same_room_and_an_ordinary_client_still_comes_in() {
    let mut crowd = Crowd::new(Limits::default());
    for n in 0..400 {
        let whole = heavy("a");
        crowd.add(&format!("10.0.{}.{}", n / 200, n % 200), &whole[..whole.len() - 1]);
    }
    while crowd.round() {}
    assert!(crowd.bench.broker.counters().hello_held_total > 0);
    let honest = crowd.add("192.168.0.7", &login("honest", "ada", "secret"));
    while crowd.round() {}
    assert_eq!(verify(&mut crowd.bench).map(|asked| asked.0), Some(honest));
    crowd.bench.broker.handle_verified(crowd.bench.now, honest, true);
    crowd.bench.run();
    assert_eq!(crowd.bench.told(honest), [0x20, 2, 0, 0]);
}

#[test]
fn one_address_has_a_share_and_the_rest_is_for_others() {
    let mut crowd = Crowd::new(Limits::default());
    for _ in 0..200 {
        crowd.add("10.0.0.1", &heavy("a"));
    }
    while crowd.round() {}
    let held = crowd.bench.broker.gauges().hello_bytes;
    assert!(held <= HELLO_BYTES_PER_ADDRESS_MAX, "{held}");
    let other = crowd.add("10.0.0.2", &heavy("b"));
    while crowd.round() {}
    assert!(crowd.unsent[&other].is_empty(), "it was read to its end");
    crowd.look();
    assert!(crowd.held.contains(&other), "its password waits");
}

#[test]
fn a_malformed_connect_is_refused_at_once_however_many_wait() {
    let mut crowd = Crowd::new(Limits::default());
    for n in 0..20 {
        crowd.add(&format!("10.0.0.{n}"), &login("a", "ada", "x"));
    }
    while crowd.round() {}
    let mut bad = heavy("a");
    let last = bad.len() - 8;
    bad[last] = 0xff;
    let conn = crowd.add("10.0.0.99", &bad);
    while crowd.round() {}
    assert!(
        matches!(crowd.bench.fate(conn), Some(CloseReason::Malformed(_))),
        "{:?}",
        crowd.bench.fate(conn)
    );
}

#[test]
fn after_a_wrong_password_nothing_is_kept_while_the_refusal_is_held_back() {
    let mut bench = Bench::stored(settings(false, vec![]));
    let mut parked = Vec::new();
    for _ in 0..5 {
        let conn = bench.open_at("10.0.0.1");
        bench.say(conn, &heavy("a"));
        bench.say(conn, &vec![0; 100_000]);
        assert!(bench.broker.gauges().hello_bytes > 100_000);
        refuse_one(&mut bench);
        bench.say(conn, &vec![0; 100_000]);
        assert_eq!(bench.broker.gauges().hello_bytes, 0);
        parked.extend(bench.fate(conn).is_none().then_some(conn));
    }
    assert_eq!(parked.len(), 3, "the first ones are told at once");
    bench.wait(Duration::from_secs(5));
    for conn in parked {
        assert_eq!(bench.told(conn)[3], 0x86);
    }
}

#[test]
fn only_some_refusals_are_held_back_and_the_rest_is_told_at_once() {
    let mut bench = Bench::stored(settings(false, vec![]));
    let mut waiting = 0;
    for n in 0..2000 {
        let conn = bench.open_at(&format!("10.0.0.{}", n % 250));
        bench.say(conn, &login("a", "ada", "x"));
        refuse_one(&mut bench);
        waiting += usize::from(bench.fate(conn).is_none());
    }
    assert!((1..=64).contains(&waiting), "{waiting}");
}

#[test]
fn a_right_log_in_from_elsewhere_waits_for_few_comparisons_whatever_others_guess() {
    let mut bench = Bench::stored(settings(false, vec![]));
    for n in 0..900 {
        let conn = bench.open_at(&format!("10.0.0.{}", n % 3));
        bench.say(conn, &login(&format!("g{n}"), if n % 2 == 0 { "ada" } else { "nobody" }, "guess"));
    }
    let right = bench.open_at("192.168.0.7");
    bench.say(right, &login("right", "ada", "secret"));
    let before = (0..100).find(|_| refuse_one(&mut bench).is_none_or(|conn| conn == right));
    assert!(before.is_some_and(|before| before <= 16), "{before:?}: four for each address that guesses");
    assert_eq!(bench.fate(right), Some(&CloseReason::Login), "refuse_one says no to it as well");
    // From an address where it has logged in before, two.
    let mut bench = Bench::stored(settings(false, vec![]));
    let first = bench.open_at("192.168.0.7");
    bench.say(first, &login("first", "ada", "secret"));
    verify(&mut bench);
    bench.broker.handle_verified(bench.now, first, true);
    for n in 0..900 {
        let conn = bench.open_at(&format!("10.0.{}.1", n % 200));
        bench.say(conn, &login(&format!("g{n}"), "ada", "guess"));
    }
    let right = bench.open_at("192.168.0.7");
    bench.say(right, &login("right", "ada", "secret"));
    let before = (0..100).find(|_| refuse_one(&mut bench).is_none_or(|conn| conn == right));
    assert!(before.is_some_and(|before| before <= 2), "{before:?}");
}

#[test]
fn one_password_is_compared_at_a_time_and_the_wait_of_the_others_ends() {
    let mut bench = Bench::stored(settings(false, vec![]));
    let conns: Vec<_> = (0..WAITING_PER_PEER_MAX + 10)
        .map(|n| {
            let conn = bench.open_at("10.0.0.1");
            bench.say(conn, &login(&n.to_string(), "ada", "x"));
            conn
        })
        .collect();
    let asked = bench.others.iter().filter(|action| matches!(action, Action::Verify { .. })).count();
    assert_eq!(asked, 1);
    let busy = conns.iter().filter(|conn| bench.fate(**conn).is_some()).count();
    assert_eq!(busy, 9, "one is compared, as many wait as may");
    assert_eq!(bench.told(*conns.last().unwrap()), [0x20, 2, 0, 3]);
    bench.wait(Duration::from_secs(11));
    assert!(conns.iter().all(|conn| bench.fate(*conn).is_some()));
    assert_eq!(bench.broker.counters().logins_busy_total, conns.len() as u64);
    assert_eq!((bench.broker.gauges().logins_waiting, bench.broker.gauges().hello_bytes), (0, 0));
}

#[test]
fn who_leaves_before_the_verdict_has_guessed_all_the_same() {
    let mut bench = Bench::stored(settings(false, vec![]));
    for _ in 0..LOCK_AFTER {
        let conn = bench.open_at("10.0.0.1");
        bench.say(conn, &login("a", "ada", "x"));
        bench.lose(conn);
        refuse_one(&mut bench);
    }
    let conn = bench.open_at("10.0.0.1");
    bench.say(conn, &login("a", "ada", "secret"));
    assert_eq!(bench.told(conn), [0x20, 2, 0, 3], "locked out");
    assert!(verify(&mut bench).is_none(), "without a comparison");
}

#[test]
fn guesses_that_wait_when_a_lock_out_begins_are_not_compared_any_more() {
    let mut bench = Bench::stored(settings(false, vec![]));
    let conns: Vec<_> = (0..100)
        .map(|n| {
            let conn = bench.open_at("10.0.0.1");
            bench.say(conn, &login(&n.to_string(), "ada", "guess"));
            conn
        })
        .collect();
    let compared = std::iter::from_fn(|| refuse_one(&mut bench)).count();
    assert_eq!(compared, LOCK_AFTER as usize);
    bench.wait(Duration::from_secs(17));
    assert!(conns.iter().all(|conn| bench.fate(*conn) == Some(&CloseReason::Login)));
    assert_eq!(bench.broker.counters().logins_locked_total, 90);
}

#[test]
fn a_lock_out_is_said_when_it_begins_and_ends_and_never_holds_elsewhere() {
    let mut bench = Bench::stored(settings(false, vec![]));
    for n in 0..LOCK_AFTER + 5 {
        let conn = bench.open_at("10.0.0.1");
        bench.say(conn, &connect5_login("a", "ada", "guess"));
        refuse_one(&mut bench);
        if n >= LOCK_AFTER {
            assert_eq!(bench.told(conn)[3], 0x9f, "too often");
        }
    }
    let counters = bench.broker.counters();
    assert_eq!((counters.lockouts_total, counters.logins_locked_total), (1, 5));
    let right = bench.open_at("10.0.0.2");
    bench.say(right, &login("right", "ada", "secret"));
    assert_eq!(verify(&mut bench).map(|asked| asked.0), Some(right), "at once");
    bench.broker.handle_verified(bench.now, right, true);
    bench.run();
    assert_eq!(bench.told(right), [0x20, 2, 0, 0]);
    bench.wait(LOCK_MIN + Duration::from_secs(1));
    let lines: Vec<_> =
        std::iter::from_fn(|| bench.broker.poll_note()).map(|note| note.to_string()).collect();
    let of_lock: Vec<_> = lines.iter().filter(|line| line.contains("locked out")).collect();
    assert_eq!(
        of_lock,
        [
            "log-in: 10.0.0.1 is locked out for 300 s after 10 failed log-ins",
            "log-in: user ada as client a from 10.0.0.1 is refused: locked out, and 13 more like it within a minute",
            "log-in: 10.0.0.1 is not locked out any more",
        ]
    );
    let again = bench.open_at("10.0.0.1");
    bench.say(again, &login("again", "ada", "secret"));
    assert!(verify(&mut bench).is_some());
}

/// CONNECT of 5.0 with a user and a password.
fn connect5_login(id: &str, user: &str, password: &str) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x05\xc2\0\0\0".to_vec();
    for part in [id, user, password] {
        body.extend(text(part));
    }
    packet(0x10, &body)
}

#[test]
fn log_ins_and_refused_rules_leave_a_line_with_who_what_and_result() {
    let rules = vec![crate::broker::access::Rule {
        allow: true,
        deed: crate::broker::access::Deed::Any,
        filter: "open/#".into(),
    }];
    let mut bench = Bench::stored(settings(true, rules));
    let conn = bench.open_at("10.0.0.1");
    bench.say(conn, &login("press\n3", "ada", "secret"));
    verify(&mut bench);
    bench.broker.handle_verified(bench.now, conn, true);
    bench.run();
    bench.say(conn, &publish(0, "secret/x", 0, "x"));
    bench.say(conn, &publish(0, "secret/x", 0, "x"));
    bench.say(conn, &subscribe(1, &[("secret/#", 0)]));
    let guess = bench.open_at("10.0.0.2");
    bench.say(guess, &login("b", "eve\u{1b}[2J", "hunter2"));
    refuse_one(&mut bench);
    let notes: Vec<_> = std::iter::from_fn(|| bench.broker.poll_note()).collect();
    let lines: Vec<_> = notes.iter().map(ToString::to_string).collect();
    let who = "user ada as client press\\n3 from 10.0.0.1";
    assert_eq!(
        lines,
        [
            format!("log-in: {who} is let in"),
            format!("rules: {who} may not publish to secret/x"),
            format!("rules: {who} may not subscribe to secret/#"),
            "log-in: user eve\\u{1b}[2J as client b from 10.0.0.2 is refused: wrong user name or password"
                .to_owned(),
        ]
    );
    assert_eq!(notes[0].who.listener.as_ref().map(ToString::to_string).as_deref(), Some("door"));
    bench.wait(Duration::from_secs(61));
    let more: Vec<_> = std::iter::from_fn(|| bench.broker.poll_note()).collect();
    assert_eq!((more.len(), more[0].event.kind(), more[0].more), (1, "publish-refused", 0));
}

#[test]
fn idle_connections_of_an_address_give_way_and_others_come_in() {
    let limits = Limits { connections_max: 100, connections_per_address_max: 50, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let old = bench.open_at("10.0.0.9");
    bench.say(old, &connect("old", true, 0, None));
    let idle: Vec<_> = (0..5000).map(|_| bench.open_at("10.0.0.1")).collect();
    assert_eq!(bench.broker.gauges().connections, 51);
    assert_eq!(bench.fate(idle[0]), Some(&CloseReason::GaveWay), "the oldest");
    assert_eq!(bench.fate(idle[4999]), None);
    // From many addresses at once: the one with most of them gives way.
    for n in 0..60 {
        bench.open_at(&format!("10.0.1.{n}"));
    }
    let honest = bench.open_at("10.0.0.8");
    bench.say(honest, &connect("honest", true, 0, None));
    assert_eq!(bench.told(honest), [0x20, 2, 0, 0]);
    assert_eq!((bench.fate(old), bench.broker.gauges().connections), (None, 100));
    assert_eq!(bench.broker.counters().connections_refused_total, 0);
    assert_eq!(bench.broker.counters().gave_way_total, 4950 + 12);
}

#[test]
fn an_address_and_a_user_have_no_more_connections_than_their_share() {
    let limits = Limits {
        connections_max: 5,
        connections_per_address_max: 3,
        connections_per_user_max: 2,
        ..Limits::default()
    };
    let mut bench = Bench::stored(Settings { limits, ..settings(true, vec![]) });
    for n in 0..3 {
        let conn = bench.open_at("10.0.0.1");
        bench.say(conn, &connect(&format!("c{n}"), true, 0, None));
        assert_eq!(bench.told(conn), [0x20, 2, 0, 0]);
    }
    let fourth = bench.open_at("10.0.0.1");
    assert_eq!(bench.fate(fourth), Some(&CloseReason::Full));
    assert_eq!(bench.broker.counters().connections_refused_total, 1);
    let ada = |bench: &mut Bench, id: &str, peer: &str| {
        let conn = bench.open_at(peer);
        bench.say(conn, &login(id, "ada", "secret"));
        verify(bench);
        bench.broker.handle_verified(bench.now, conn, true);
        bench.run();
        (conn, bench.told(conn)[3])
    };
    assert_eq!(ada(&mut bench, "a1", "10.0.0.2").1, 0);
    let (second, told) = ada(&mut bench, "a2", "10.0.0.3");
    assert_eq!(told, 0);
    bench.lose(second);
    assert_eq!(ada(&mut bench, "a3", "10.0.0.3").1, 0, "one that has gone makes room");
    // Five are connected: all places are taken, and nobody is idle.
    let sixth = bench.open_at("10.0.0.4");
    assert_eq!(bench.fate(sixth), Some(&CloseReason::Full));
    let limits = Limits { connections_per_user_max: 2, ..Limits::default() };
    let mut bench = Bench::stored(Settings { limits, ..settings(true, vec![]) });
    assert_eq!(ada(&mut bench, "a1", "10.0.0.2").1, 0);
    assert_eq!(ada(&mut bench, "a2", "10.0.0.3").1, 0);
    assert_eq!(ada(&mut bench, "a3", "10.0.0.4").1, 3, "server unavailable");
    assert_eq!(ada(&mut bench, "a2", "10.0.0.4").1, 0, "taking over its own is no more than before");
}

#[test]
fn log_ins_beyond_the_limit_of_a_minute_wait_and_then_go_on() {
    let limits = Limits { logins_per_minute_max: 10, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let conns: Vec<_> = (0..15).map(|_| bench.open_at("10.0.0.1")).collect();
    for (n, conn) in conns.iter().enumerate() {
        bench.say(*conn, &connect(&format!("c{n}"), true, 0, None));
    }
    let in_now = |bench: &mut Bench| conns.iter().filter(|conn| !bench.told(**conn).is_empty()).count();
    let first = in_now(&mut bench);
    assert!((10..=11).contains(&first), "{first}");
    let other = bench.open_at("10.0.0.2");
    bench.say(other, &connect("other", true, 0, None));
    assert_eq!(bench.told(other), [0x20, 2, 0, 0], "somebody else does not wait");
    bench.wait(Duration::from_secs(7));
    assert_eq!(in_now(&mut bench), 1, "one in six seconds");
    assert!(bench.broker.counters().hello_held_total > 0);
}

#[test]
fn who_sends_faster_than_allowed_is_read_later_and_loses_nothing() {
    for limits in [
        Limits { messages_per_second_max: 10, ..Limits::default() },
        Limits { bytes_per_second_max: 100, ..Limits::default() },
    ] {
        let mut bench =
            Bench::stored(Settings { listeners: vec![open_door()], limits, ..Settings::default() });
        let reader = bench.open_at("10.0.0.2");
        bench.say(reader, &connect("reader", true, 0, None));
        bench.say(reader, &subscribe(1, &[("t", 0)]));
        bench.told(reader);
        let fast = bench.open_at("10.0.0.1");
        bench.say(fast, &connect("fast", true, 0, None));
        let mut heard = 0;
        for _ in 0..60 {
            bench.say(fast, &publish(0, "t", 0, "123456"));
            heard += bench.heard(reader).len();
        }
        assert!((7..=12).contains(&heard), "{heard}");
        assert!(bench.broker.counters().rate_held_total > 0);
        bench.wait(Duration::from_secs(60));
        heard += bench.heard(reader).len();
        assert_eq!((heard, bench.fate(fast)), (60, None), "late and whole");
    }
}

#[test]
fn whoever_was_too_fast_is_as_slow_on_other_connections() {
    let limits = Limits { messages_per_second_max: 10, ..Limits::default() };
    for (user, address) in [(Some("ada"), None), (None, Some("10.0.0.1"))] {
        let mut bench = Bench::stored(Settings { limits, ..two_users(true, &[]) });
        let mut conns = Vec::new();
        for round in 0..5 {
            let from = address.map_or_else(|| format!("10.0.0.{round}"), Into::into);
            // All at once: what is behind the CONNECT must not slip through.
            let mut said = hello(&format!("fast-{round}"), user, true, 0, None);
            said.extend((0..20).flat_map(|_| publish5(0, "t", 0, &[], "x")));
            conns.push(bench.enter(&from, &said));
        }
        let messages = |bench: &Bench| bench.broker.counters().received_messages_total;
        assert!((10..=40).contains(&messages(&bench)), "{} of 100 within a moment", messages(&bench));
        bench.wait(Duration::from_secs(30));
        assert_eq!(messages(&bench), 100, "late and whole");
        assert!(conns.into_iter().all(|conn| bench.fate(conn).is_none()));
    }
}

#[test]
fn a_log_in_that_was_given_up_is_answered_once() {
    let mut bench = Bench::stored(Settings {
        limits: Limits { turn_work_max: 400, ..Limits::default() },
        ..two_users(false, &[])
    });
    let conns: Vec<ConnId> = (0..8)
        .map(|n| {
            let conn = bench.open_at(&format!("10.0.0.{n}"));
            bench.say(conn, &connect5_login(&format!("c{n}"), "ada", "secret"));
            conn
        })
        .collect();
    bench.now = bench.now.plus(Duration::from_secs(60));
    bench.broker.timeout(bench.now);
    // All are too late, and the budget is spent before all are closed: the verdict of the one that is compared comes now.
    for conn in &conns {
        bench.broker.handle_verified(bench.now, *conn, true);
    }
    bench.run();
    for conn in conns {
        assert!(frames(&bench.told(conn)).iter().filter(|frame| frame[0] == 0x20).count() <= 1);
        assert!(bench.fate(conn).is_some());
    }
    assert_eq!(bench.broker.counters().logins_total, 0);
}

#[test]
fn an_event_of_a_refused_connection_is_told() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let mut bench = Bench::with(limits);
    bench.client("a", true);
    bench.open_at("10.0.0.1");
    let last = std::iter::from_fn(|| bench.broker.poll_note()).last().unwrap();
    assert!(matches!(last.event, Event::ConnectionRefused(_)));
    assert_eq!(
        last.to_string(),
        "connection of nobody in particular from 10.0.0.1 is refused: too many connections"
    );
}

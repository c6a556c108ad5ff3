//! Sessions end by running time: what a restart adds to it, and what it does not.

use std::time::Duration;

use super::wire::{Bench, connect};
use crate::broker::{FactKind, Limits, Settings};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn settings() -> Settings {
    Settings { listeners: vec![super::disk::open_door()], ..Settings::default() }
}

/// A subscriber that left, and one message that waits for it.
fn left() -> Bench {
    let mut bench = Bench::stored(settings());
    let conn = bench.subscriber("away", false, "t", 1);
    bench.lose(conn);
    bench.local("t", "waits", Qos::AtLeastOnce, false);
    bench
}

/// The gateway was off; its clock counts from the boot.
fn off_and_on(bench: &mut Bench) {
    bench.now = BootNs(5);
    bench.crash();
}

fn is_there(bench: &Bench) -> bool {
    bench.broker.sessions(bench.now, None).count() == 1
}

#[test]
fn a_session_without_its_client_ends_after_seven_days_and_what_it_held_is_counted() {
    let mut bench = left();
    bench.wait(7 * DAY - Duration::from_secs(1));
    assert!(is_there(&bench));
    bench.wait(Duration::from_secs(1));
    assert!(!is_there(&bench));
    let counters = bench.broker.counters();
    assert_eq!((counters.expired_sessions_total, counters.dropped_session_expired_messages_total), (1, 1));
    assert_eq!((counters.dropped_session_messages_total, counters.dropped()), (0, 1));
    bench.wait(HOUR);
    assert!(bench.disk.facts.keys().all(|key| key.kind != FactKind::Session));
    assert_eq!((bench.disk.rows(), bench.broker.poll_timeout()), (0, None));
}

#[test]
fn restarts_every_day_do_not_keep_a_session_alive() {
    let mut bench = left();
    for day in 0..7 {
        assert!(is_there(&bench), "day {day}");
        bench.wait(DAY - HOUR);
        bench.broker.stop(bench.now);
        bench.run();
        off_and_on(&mut bench);
    }
    bench.wait(7 * HOUR - Duration::from_secs(1));
    assert!(is_there(&bench));
    bench.wait(Duration::from_secs(2));
    assert!(!is_there(&bench));
}

#[test]
fn power_cuts_every_day_cost_an_hour_each_at_most() {
    let mut bench = left();
    let mut days = 0;
    while is_there(&bench) {
        bench.wait(DAY);
        off_and_on(&mut bench);
        days += 1;
        assert!(days < 9);
    }
    assert!(days >= 7, "never too early: {days}");
}

#[test]
fn a_session_that_was_there_at_a_power_cut_waits_from_the_restart_on_and_no_longer() {
    let mut bench = Bench::stored(settings());
    bench.subscriber("away", false, "t", 1);
    bench.wait(30 * DAY);
    off_and_on(&mut bench);
    for _ in 0..7 {
        assert!(is_there(&bench));
        bench.wait(DAY - HOUR);
        bench.broker.stop(bench.now);
        bench.run();
        off_and_on(&mut bench);
    }
    bench.wait(7 * HOUR + Duration::from_secs(1));
    assert!(!is_there(&bench));
}

#[test]
fn a_gateway_that_was_off_keeps_its_sessions() {
    let mut bench = left();
    bench.wait(DAY);
    bench.broker.stop(bench.now);
    bench.run();
    bench.now = bench.now.plus(30 * DAY);
    bench.crash();
    bench.wait(5 * DAY);
    assert!(is_there(&bench));
}

#[test]
fn running_time_is_written_once_an_hour_and_only_while_a_session_waits() {
    let mut bench = Bench::stored(settings());
    let conn = bench.subscriber("away", false, "t", 1);
    bench.wait(10 * HOUR);
    let turns = bench.disk.turns;
    bench.wait(100 * HOUR);
    assert_eq!(bench.disk.turns, turns, "nobody waits");
    bench.lose(conn);
    bench.wait(Duration::from_secs(60));
    let turns = bench.disk.turns;
    bench.wait(10 * HOUR);
    assert_eq!(bench.disk.turns, turns + 10);
    let conn = bench.open();
    bench.say(conn, &connect("away", false, 0, None));
    bench.wait(Duration::from_secs(60));
    let turns = bench.disk.turns;
    bench.wait(100 * HOUR);
    assert_eq!(bench.disk.turns, turns);
}

#[test]
fn sessions_for_ever_are_for_ever_where_the_file_says_so() {
    let limits = Limits { session_expiry_max_s: u32::MAX, ..Limits::default() };
    let mut bench = Bench::stored(Settings { limits, ..settings() });
    let conn = bench.subscriber("away", false, "t", 1);
    bench.lose(conn);
    bench.wait(1000 * DAY);
    bench.crash();
    bench.wait(1000 * DAY);
    assert!(is_there(&bench));
    assert_eq!(bench.broker.sessions(bench.now, None).next().unwrap().expires_in, None);
}

#[test]
fn running_time_goes_on_when_its_fact_is_lost_or_an_earlier_version_has_removed_it() {
    let mut bench = left();
    bench.wait(5 * DAY);
    let conn = bench.subscriber("later", false, "t", 1);
    bench.lose(conn);
    bench.wait(Duration::from_secs(10));
    bench.disk.facts.retain(|key, _| key.kind != FactKind::Subscription || key.key[..2] != [0, 0]);
    off_and_on(&mut bench);
    bench.wait(2 * DAY);
    let left: Vec<String> =
        bench.broker.sessions(bench.now, None).map(|view| view.client.to_string()).collect();
    assert_eq!(left, ["later"], "the moment at which a later one was left is known");
}

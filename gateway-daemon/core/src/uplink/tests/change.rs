//! A configuration that changes under a running uplink.

use super::*;
use crate::settings::TrustClock;
use crate::uplink::link::Epoch;

/// The payloads of announcements.
fn said(actions: &[Action]) -> Vec<String> {
    let payload = |action: &Action| match action {
        Action::Announce { payload, .. } => Some(String::from_utf8(payload.clone()).unwrap()),
        _ => None,
    };
    actions.iter().filter_map(payload).collect()
}

fn balanced(bench: &Bench) {
    bench.uplink.queue().audit().unwrap();
}

#[test]
fn another_configuration_is_told_by_a_birth_on_the_same_connection() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    bench.uplink.replace_identity(identity());
    assert_eq!(said(&bench.actions()), Vec::<String>::new());
    let faults = [("data-partition".to_owned(), "made anew".to_owned())].into();
    bench.uplink.replace_identity(Identity { config: "f00".into(), faults: Arc::new(faults), ..identity() });
    let births = said(&bench.actions());
    assert_eq!(births.len(), 1);
    assert!(births[0].contains(r#""config":"f00""#), "{births:?}");
    assert!(births[0].contains(r#""faults":{"data-partition":"made anew"}"#), "{births:?}");
    assert_eq!(bench.uplink.epoch(), Epoch(1));
}

#[test]
fn what_changes_while_disconnected_is_told_by_the_next_birth_alone() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.uplink.replace_identity(Identity { config: "f00".into(), ..identity() });
    let births = said(&bench.connect());
    assert_eq!(births.len(), 1);
    assert!(births[0].contains(r#""config":"f00""#), "{births:?}");
}

#[test]
fn a_clock_that_no_time_server_has_set_is_named_in_the_birth() {
    let birth = |trust_clock| {
        let mut bench = Bench::new(settings(), Stored::default());
        bench.uplink.replace_identity(Identity { trust_clock, ..identity() });
        said(&bench.connect())
    };
    assert!(birth(TrustClock::System)[0].contains(r#""trust_clock":"system""#));
    assert!(birth(TrustClock::Rtc)[0].contains(r#""trust_clock":"rtc""#));
    assert!(!birth(TrustClock::Ntp)[0].contains("trust_clock"));
}

#[test]
fn a_reconnect_cuts_the_connection_and_sends_what_was_in_flight_again() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    let seq = bench.publish();
    assert_eq!(sends(&bench.actions()).len(), 1);
    bench.uplink.reconnect(bench.now, 2);
    let actions = bench.actions();
    assert!(actions.contains(&Action::Disconnect { epoch: Epoch(1), clean: false }), "{actions:?}");
    bench.link(LinkEvent::Acked { token: Token(2) });
    balanced(&bench);
    let actions = bench.connect();
    assert_eq!(sends(&actions).iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), [seq]);
    assert_eq!(bench.uplink.epoch(), Epoch(2));
    assert_eq!(bench.uplink.counters().losses_total, 0);
}

#[test]
fn a_reconnect_before_the_attempt_began_makes_one_connection() {
    let mut bench = Bench::new(settings(), Stored::default());
    let State::BackingOff { until } = bench.uplink.state() else { panic!() };
    bench.now = until;
    bench.pass(0);
    bench.uplink.reconnect(bench.now, 1);
    assert_eq!(bench.actions(), []);
    bench.pass(0);
    let connects = bench.actions().iter().filter(|action| matches!(action, Action::Connect { .. })).count();
    assert_eq!(connects, 1);
}

#[test]
fn kept_or_counted_when_limits_shrink_under_a_full_queue() {
    let mut bench = Bench::new(settings(), Stored::default());
    for _ in 0..100 {
        bench.publish();
    }
    let limits = Limits { rows_max: 10, ..settings().limits };
    bench.uplink.replace_settings(bench.now, Settings { limits, ..settings() });
    balanced(&bench);
    bench.publish();
    bench.actions();
    balanced(&bench);
    let ledger = bench.uplink.queue().ledger();
    assert_eq!(ledger.produced.rows, 101);
    assert!(ledger.kept().rows < 101 && ledger.dropped(DropReason::Oldest).rows > 0, "{ledger:?}");
}

#[test]
fn a_queue_that_becomes_strict_sends_nothing_more_before_it_is_on_disk() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.publish();
    bench.uplink.replace_settings(bench.now, Settings { durability: Durability::Strict, ..settings() });
    let actions = bench.actions();
    let [Action::Store(StoreOp::Commit { op, .. })] = actions[..] else { panic!("{actions:?}") };
    assert_eq!(sends(&bench.connect()), []);
    let stored = StoreEvent::Committed { op, deleted: Tally::default() };
    bench.uplink.store(bench.now, stored);
    assert_eq!(sends(&bench.actions()).len(), 1);
}

#[test]
fn a_queue_that_is_strict_no_more_sends_what_waits_at_once() {
    let strict = Settings { durability: Durability::Strict, ..settings() };
    let mut bench = Bench::new(strict, Stored::default());
    bench.connect();
    bench.publish();
    bench.uplink.replace_settings(bench.now, settings());
    assert_eq!(sends(&bench.actions()).len(), 1);
    balanced(&bench);
}

#[test]
fn numbers_go_on_where_an_earlier_uplink_of_this_name_has_stopped() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.uplink.continue_at(Seq(17));
    assert_eq!(bench.publish(), Seq(17));
    bench.uplink.continue_at(Seq(3));
    assert_eq!(bench.publish(), Seq(18));
}

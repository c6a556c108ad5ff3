//! The connection machine, driven by hand in virtual time.

mod alone;
mod aside;
mod bulletins;
mod change;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, State};
use super::link::{LinkEvent, PublishFault, Token};
use super::loss::{ConnectRefusal, Login, Loss};
use super::machine::Uplink;
use super::queue::{DropReason, Lane, Message, Waiting};
use super::row::{Body, Priority, Qos, Seq, StoreEvent, StoreOp, Stored, Tally};
use super::settings::{Drain, Limits, Settings, WhenFull};
use super::status::Identity;
use crate::settings::Durability;
use crate::tag::{BootId, BootNs, Name, RunId};

fn settings() -> Settings {
    Settings {
        name: Name::new("cloud").unwrap(),
        forward: Vec::new(),
        accept: Vec::new(),
        qos: Qos::AtLeastOnce,
        window: 4,
        drain: Drain::LiveFirst,
        limits: Limits { rows_max: 1000, bytes_max: 1 << 20, age_max: None, when_full: WhenFull::DropOldest },
        commit_interval: Duration::from_secs(1),
        durability: Durability::Interval,
        ack_timeout: Duration::from_secs(10),
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(120),
        status_topic: "g/status".into(),
        ledger_topic: "g/ledger".into(),
        ledger_every: Duration::from_secs(60),
    }
}

fn identity() -> Identity {
    let run = RunId { boot: BootId(0xb007), start_ms: 5 };
    Identity {
        version: "1.2.3".into(),
        run,
        config: "c0ffee".into(),
        faults: Default::default(),
        trust_clock: Default::default(),
    }
}

fn message(at: BootNs) -> Message {
    Message {
        topic: "t".into(),
        body: Body::Raw(Arc::from(&b"x"[..])),
        readings: 1,
        priority: Priority::Normal,
        qos: Qos::AtLeastOnce,
        retain: false,
        at,
        expiry_s: None,
        waiting: Waiting::Nobody,
    }
}

/// An uplink with a clock.
struct Bench {
    uplink: Uplink,
    now: BootNs,
}

impl Bench {
    fn new(settings: Settings, stored: Stored) -> Self {
        let mut uplink = Uplink::new(settings, identity(), stored, 1);
        uplink.start(BootNs(0));
        Self { uplink, now: BootNs(0) }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.plus(Duration::from_millis(ms));
        self.uplink.timeout(self.now);
    }

    fn actions(&mut self) -> Vec<Action> {
        let actions = std::iter::from_fn(|| self.uplink.poll_action()).collect();
        self.uplink.queue().audit().unwrap();
        actions
    }

    fn publish(&mut self) -> Seq {
        self.uplink.publish(self.now, message(self.now))
    }

    fn link(&mut self, event: LinkEvent) {
        self.uplink.link(self.now, self.uplink.epoch(), event);
    }

    /// Brings the link up and acknowledges the birth.
    fn connect(&mut self) -> Vec<Action> {
        let State::BackingOff { until } = self.uplink.state() else { panic!("{:?}", self.uplink.state()) };
        self.now = until;
        self.pass(0);
        assert!(self.actions().iter().any(|action| matches!(action, Action::Connect { .. })));
        self.link(LinkEvent::Up { session_present: true });
        let actions = self.actions();
        assert!(matches!(actions[0], Action::Announce { .. }), "{actions:?}");
        self.link(LinkEvent::Acked { token: Token(1) });
        actions
    }
}

fn sends(actions: &[Action]) -> Vec<(Token, Seq)> {
    let send = |action: &Action| match action {
        Action::Send { token, row, .. } => Some((*token, row.seq)),
        _ => None,
    };
    actions.iter().filter_map(send).collect()
}

fn ops(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Store(_))).count()
}

#[test]
fn a_row_acknowledged_inside_the_interval_is_never_written() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    for _ in 0..30 {
        bench.publish();
        let actions = bench.actions();
        assert_eq!(ops(&actions), 0);
        let sent = sends(&actions);
        assert_eq!(sent.len(), 1);
        bench.pass(500);
        bench.link(LinkEvent::Acked { token: sent[0].0 });
        assert_eq!(ops(&bench.actions()), 0);
        bench.pass(600);
    }
    assert_eq!(bench.uplink.queue().ledger().acknowledged.rows, 30);
    assert_eq!(bench.uplink.queue().counters().writes_total, 0);
}

#[test]
fn offline_rows_are_committed_in_one_batch_after_the_interval() {
    let mut bench = Bench::new(settings(), Stored::default());
    for _ in 0..5 {
        bench.publish();
        bench.pass(100);
        assert_eq!(ops(&bench.actions()), 0);
    }
    bench.pass(499);
    assert_eq!(ops(&bench.actions()), 0);
    bench.pass(1);
    let actions = bench.actions();
    let Some(Action::Store(StoreOp::Commit { op, rows, acked })) =
        actions.iter().find(|action| matches!(action, Action::Store(_)))
    else {
        panic!("{actions:?}")
    };
    assert_eq!((rows.len(), acked.len()), (5, 0));
    bench.uplink.store(bench.now, StoreEvent::Committed { op: *op, deleted: Tally::default() });
    let ledger = bench.uplink.queue().ledger();
    assert_eq!((ledger.in_memory.rows, ledger.stored.rows), (0, 5));
    assert_eq!(bench.uplink.queue().loaded_rows(), 0);
}

#[test]
fn an_acknowledgement_of_an_older_connection_changes_nothing() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.publish();
    let sent = sends(&bench.connect());
    let old = bench.uplink.epoch();
    bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: None });
    bench.connect();
    assert!(bench.uplink.epoch() > old);
    bench.uplink.link(bench.now, old, LinkEvent::Acked { token: sent[0].0 });
    assert_eq!(bench.uplink.queue().ledger().acknowledged.rows, 0);
    assert_eq!(bench.uplink.counters().stale_acks_total, 1);
}

#[test]
fn rows_in_flight_when_the_link_drops_are_sent_again_in_order() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    for _ in 0..3 {
        bench.publish();
    }
    let first = sends(&bench.actions());
    bench.link(LinkEvent::Acked { token: first[1].0 });
    bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: None });
    let again = bench.connect();
    let seqs: Vec<_> = sends(&again).into_iter().map(|(_, seq)| seq).collect();
    assert_eq!(seqs, [Seq(1), Seq(3)]);
    assert!(again.iter().all(|action| !matches!(action, Action::Send { again: false, .. })));
}

#[test]
fn a_link_without_acknowledgements_is_cut_after_the_timeout_and_the_birth_says_why() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    bench.publish();
    bench.actions();
    bench.pass(9_999);
    assert!(matches!(bench.uplink.state(), State::Up { .. }));
    assert!(bench.uplink.poll_timeout().unwrap() <= bench.now.plus(Duration::from_millis(1)));
    bench.pass(1);
    let cut = bench.actions();
    assert!(cut.iter().any(|action| matches!(action, Action::Disconnect { clean: false, .. })), "{cut:?}");
    assert!(matches!(bench.uplink.last_loss(), Some(Loss::AckTimeout { .. })));
    let birth = bench.connect();
    let Action::Announce { topic, payload, qos, retain, .. } = &birth[0] else { panic!("{birth:?}") };
    assert_eq!((&**topic, *qos, *retain), ("g/status", Qos::AtLeastOnce, true));
    let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
    assert_eq!(json["state"], "online");
    assert_eq!(json["version"], "1.2.3");
    assert_eq!(json["boot"], "000000000000b007-5");
    assert_eq!(json["config"], "c0ffee");
    assert_eq!(json["last_loss"]["reason"], "ack-timeout");
    assert_eq!(json["next_seq"], 2);
}

#[test]
fn failed_attempts_do_not_hide_why_the_connection_was_lost() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    bench.publish();
    bench.actions();
    bench.pass(10_000);
    bench.actions();
    // Back-off over, and the attempt fails.
    bench.pass(120_000);
    bench.actions();
    bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: None });
    bench.actions();
    let birth = bench.connect();
    let Action::Announce { payload, .. } = &birth[0] else { panic!("{birth:?}") };
    let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
    assert_eq!(json["last_loss"]["reason"], "ack-timeout");
    assert_eq!(json["last_failure"]["reason"], "write-timeout");
}

#[test]
fn the_link_is_up_or_down_since_it_changed_and_the_birth_counts_connections_not_attempts() {
    let mut bench = Bench::new(settings(), Stored::default());
    assert_eq!(bench.uplink.link_since(), BootNs(0), "the start");
    let lose = |bench: &mut Bench| {
        let loss = Loss::Refused { refusal: ConnectRefusal::ServerUnavailable, login: Login::Nothing };
        bench.link(LinkEvent::Down { loss, up_for: None });
        bench.actions();
    };
    for _ in 0..3 {
        while !bench.actions().iter().any(|action| matches!(action, Action::Connect { .. })) {
            bench.pass(1000);
        }
        lose(&mut bench);
    }
    assert_eq!(bench.uplink.link_since(), BootNs(0), "attempts change nothing");
    let born = bench.connect();
    let up = bench.now;
    assert_eq!(bench.uplink.link_since(), up);
    let connects = |actions: &[Action]| {
        actions.iter().any(|action| {
            let Action::Announce { payload, .. } = action else { return false };
            String::from_utf8_lossy(payload).contains("\"connects\":1,")
        })
    };
    assert!(connects(&born), "{born:?}");
    bench.pass(90_000);
    assert_eq!(bench.uplink.link_since(), up);
    lose(&mut bench);
    let down = bench.now;
    bench.pass(50);
    bench.pass(200_000);
    assert_eq!(bench.uplink.link_since(), down);
}

#[test]
fn a_message_that_others_have_overtaken_is_not_waited_for_for_ever() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    bench.publish();
    bench.actions();
    for _ in 0..29 {
        bench.pass(1000);
        bench.publish();
        let sent = sends(&bench.actions());
        bench.link(LinkEvent::Acked { token: sent.last().unwrap().0 });
        let writes = bench.actions();
        assert!(matches!(bench.uplink.state(), State::Up { .. }), "{writes:?}");
    }
    bench.pass(1000);
    assert!(matches!(bench.uplink.state(), State::BackingOff { .. }));
}

#[test]
fn connack_does_not_end_the_back_off_and_an_acknowledged_publish_does() {
    let mut bench = Bench::new(settings(), Stored::default());
    let mut ceilings = Vec::new();
    for _ in 0..5 {
        let State::BackingOff { until } = bench.uplink.state() else { panic!() };
        bench.now = until;
        bench.pass(0);
        bench.actions();
        bench.link(LinkEvent::Up { session_present: false });
        bench.actions();
        bench.link(LinkEvent::Down {
            loss: Loss::Refused { refusal: ConnectRefusal::ServerUnavailable, login: Login::Nothing },
            up_for: Some(Duration::ZERO),
        });
        ceilings.push(bench.uplink.backoff_ceiling().as_secs());
    }
    assert_eq!(ceilings, [2, 4, 8, 16, 32]);
    bench.connect();
    assert_eq!(bench.uplink.backoff_ceiling().as_secs(), 1);
}

#[test]
fn a_client_id_used_twice_does_not_reconnect_at_full_speed() {
    let mut bench = Bench::new(settings(), Stored::default());
    for _ in 0..8 {
        bench.connect();
        let loss = Loss::Closed { stage: None };
        bench.link(LinkEvent::Down { loss, up_for: Some(Duration::from_secs(1)) });
    }
    assert!(matches!(bench.uplink.last_loss(), Some(Loss::TakenOver { .. })));
    assert!(
        bench.uplink.backoff_ceiling() >= Duration::from_secs(32),
        "{:?}",
        bench.uplink.backoff_ceiling()
    );
}

#[test]
fn a_row_the_link_refuses_is_dropped_counted_and_never_sent_again() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    bench.publish();
    let sent = sends(&bench.actions());
    let why = PublishFault::Oversize { size: 300_000, limit: 262_144 };
    bench.link(LinkEvent::Refused { token: sent[0].0, why });
    assert_eq!(bench.uplink.queue().ledger().dropped(DropReason::Oversize).rows, 1);
    assert!(sends(&bench.actions()).is_empty());
    bench.publish();
    let sent = sends(&bench.actions());
    bench.uplink.unreadable(bench.now, bench.uplink.epoch(), sent[0].0);
    assert_eq!(bench.uplink.queue().ledger().dropped(DropReason::Unreadable).rows, 1);
}

#[test]
fn the_window_bounds_what_is_in_flight() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    for _ in 0..20 {
        bench.publish();
    }
    assert_eq!(sends(&bench.actions()).len(), 4);
    bench.link(LinkEvent::Acked { token: Token(2) });
    assert_eq!(sends(&bench.actions()).len(), 1);
}

#[test]
fn strict_durability_sends_nothing_that_is_not_on_disk() {
    let mut bench = Bench::new(Settings { durability: Durability::Strict, ..settings() }, Stored::default());
    bench.connect();
    bench.publish();
    let actions = bench.actions();
    assert!(sends(&actions).is_empty());
    let Some(Action::Store(StoreOp::Commit { op, .. })) = actions.first() else { panic!("{actions:?}") };
    bench.uplink.store(bench.now, StoreEvent::Committed { op: *op, deleted: Tally::default() });
    let actions = bench.actions();
    assert_eq!(sends(&actions).len(), 1);
    assert!(matches!(actions[0], Action::Send { lane: Lane::Live, .. }));
}

#[test]
fn a_stop_writes_what_is_in_memory_says_so_and_ends() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    bench.publish();
    bench.actions();
    bench.uplink.stop(bench.now, bench.now.plus(Duration::from_secs(5)));
    let actions = bench.actions();
    let Some(Action::Store(StoreOp::Commit { op, rows, .. })) = actions.first() else {
        panic!("{actions:?}")
    };
    assert_eq!(rows.len(), 1);
    let Some(Action::Announce { payload, token, .. }) = actions.get(1) else { panic!("{actions:?}") };
    assert!(payload.starts_with(br#"{"state":"stopped""#));
    bench.uplink.store(bench.now, StoreEvent::Committed { op: *op, deleted: Tally::default() });
    assert!(bench.actions().is_empty());
    bench.link(LinkEvent::Acked { token: *token });
    let actions = bench.actions();
    assert!(matches!(actions[0], Action::Disconnect { clean: true, .. }), "{actions:?}");
    assert!(matches!(actions[1], Action::Stopped { left: Tally { rows: 0, .. } }), "{actions:?}");
    assert!(bench.actions().is_empty());
}

#[test]
fn a_stop_whose_deadline_passes_ends_anyway_and_says_what_is_lost() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.publish();
    bench.uplink.stop(bench.now, bench.now.plus(Duration::from_secs(5)));
    assert_eq!(ops(&bench.actions()), 1);
    bench.pass(5000);
    let actions = bench.actions();
    assert!(matches!(actions[..], [Action::Stopped { left: Tally { rows: 1, .. } }]), "{actions:?}");
}

#[test]
fn the_ledger_is_published_every_interval_while_connected() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    bench.publish();
    let sent = sends(&bench.actions());
    bench.link(LinkEvent::Acked { token: sent[0].0 });
    bench.pass(60_000);
    let actions = bench.actions();
    let [Action::Announce { topic, payload, retain: false, token, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(&**topic, "g/ledger");
    let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
    assert_eq!(json["produced"]["rows"], 1);
    assert_eq!(json["acknowledged"]["readings"], 1);
    assert_eq!(json["dropped"], serde_json::json!({}));
    bench.link(LinkEvent::Acked { token: *token });
    assert!(bench.actions().is_empty());
}

#[test]
fn a_cloud_that_never_acknowledges_is_served_at_most_once() {
    let mut bench = Bench::new(Settings { qos: Qos::AtMostOnce, ..settings() }, Stored::default());
    let birth = bench.connect();
    assert!(matches!(birth[0], Action::Announce { qos: Qos::AtMostOnce, .. }));
    bench.uplink.publish(bench.now, Message { qos: Qos::AtMostOnce, ..message(bench.now) });
    let sent = sends(&bench.actions());
    bench.link(LinkEvent::Acked { token: sent[0].0 });
    assert_eq!(bench.uplink.queue().ledger().acknowledged.rows, 1);
}

#[test]
fn servers_are_tried_in_turn_with_short_pauses_and_the_one_that_worked_is_tried_first_when_it_is_lost() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.uplink = bench.uplink.with_servers(3);
    let attempt = |bench: &mut Bench| {
        let State::BackingOff { until } = bench.uplink.state() else { panic!("{:?}", bench.uplink.state()) };
        let pause = until.since(bench.now);
        bench.now = until;
        bench.pass(0);
        let server = bench.actions().iter().find_map(|action| match action {
            Action::Connect { server, .. } => Some(*server),
            _ => None,
        });
        (server.unwrap(), pause)
    };
    let fails = |bench: &mut Bench| bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: None });
    let mut tried = Vec::new();
    for _ in 0..30 {
        let (server, pause) = attempt(&mut bench);
        tried.push(server);
        // Within a round nobody waits longer than at the first attempt.
        assert!(server == 0 || pause <= Duration::from_secs(1), "{pause:?}");
        fails(&mut bench);
    }
    assert_eq!(tried, [0, 1, 2].repeat(10));
    assert_eq!(bench.uplink.backoff_ceiling(), Duration::from_secs(120));
    attempt(&mut bench);
    fails(&mut bench);
    // The second one accepts the connection and drops it again: that is not working.
    assert_eq!(attempt(&mut bench).0, 1);
    bench.link(LinkEvent::Up { session_present: false });
    bench.actions();
    bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: Some(Duration::ZERO) });
    assert_eq!(attempt(&mut bench).0, 2);
    bench.link(LinkEvent::Up { session_present: false });
    bench.actions();
    bench.link(LinkEvent::Acked { token: Token(1) });
    bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: Some(Duration::from_secs(100)) });
    assert_eq!((attempt(&mut bench).0, bench.uplink.server()), (2, 2));
    fails(&mut bench);
    assert_eq!(attempt(&mut bench).0, 0);
}

#[test]
fn a_connection_that_the_hands_abandon_is_cut_and_made_again() {
    let mut bench = Bench::new(settings(), Stored::default());
    bench.connect();
    bench.uplink.abandon(bench.now, bench.uplink.epoch(), Loss::Overrun);
    assert!(matches!(bench.actions()[..], [Action::Disconnect { clean: false, .. }]));
    assert_eq!(bench.uplink.last_loss(), Some(&Loss::Overrun));
    let old = bench.uplink.epoch();
    bench.connect();
    bench.uplink.abandon(bench.now, old, Loss::Overrun);
    assert!(matches!(bench.uplink.state(), State::Up { .. }));
}

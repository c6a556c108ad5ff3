//! A row that has to be sent alone gets its turn, however busy the other lane is.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::{ProptestConfig, prop_assert, proptest};

use super::aside::{Cloud, bench, carry_out, line_holds, live, on, topic_is};
use super::*;
use crate::uplink::row::Row;

/// The topic of which the cloud has refused a message, so that another one is sent alone.
const LIKE_REFUSED: &str = "x/y";
const STEP_MS: u64 = 5;

/// A cloud that takes everything, and answers after some time.
struct Line {
    bench: Bench,
    disk: BTreeMap<Seq, Arc<Row>>,
    acks: VecDeque<(BootNs, Token)>,
    round_trip: Duration,
    in_flight: usize,
    /// Whether an attempt to connect succeeds.
    open: bool,
}

impl Line {
    /// An uplink that knows what the cloud refuses, and has lost its link.
    fn after_a_refusal(drain: Drain, window: u16, round_trip: Duration) -> Self {
        let mut bench = bench(drain);
        let mut settings = bench.uplink.settings.clone();
        settings.window = window;
        bench.uplink.replace_settings(bench.now, settings);
        let poison = topic_is(LIKE_REFUSED);
        let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
        let story = live(&mut bench, 60, cloud, |bench, second| {
            bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
            if second == 1 {
                bench.uplink.publish(bench.now, on(LIKE_REFUSED, 5, Qos::AtLeastOnce, bench.now));
            }
        });
        assert_eq!(story.aside.len(), 1);
        bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: None });
        let (disk, acks) = (BTreeMap::new(), VecDeque::new());
        Self { bench, disk, acks, round_trip, in_flight: 0, open: false }
    }

    fn publish(&mut self, topic: &str) -> Seq {
        self.bench.uplink.publish(self.bench.now, on(topic, 5, Qos::AtLeastOnce, self.bench.now))
    }

    /// One step of time; gives the topics of rows that are sent in it, each with the number of messages in flight before it. Nothing wakes the uplink
    /// but events and the timeout that it asks for.
    fn step(&mut self) -> Vec<(Arc<str>, usize)> {
        self.bench.now = self.bench.now.plus(Duration::from_millis(STEP_MS));
        if self.bench.uplink.poll_timeout().is_some_and(|at| at <= self.bench.now) {
            self.bench.pass(0);
        }
        while let Some((_, token)) = self.acks.pop_front_if(|(at, _)| *at <= self.bench.now) {
            self.in_flight -= 1;
            self.bench.link(LinkEvent::Acked { token });
        }
        let mut sent = Vec::new();
        for action in self.bench.actions() {
            let due = self.bench.now.plus(self.round_trip);
            match action {
                Action::Connect { .. } if self.open => {
                    self.bench.link(LinkEvent::Up { session_present: true })
                }
                Action::Connect { .. } => {
                    self.bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: None });
                }
                Action::Store(op) => {
                    let event = carry_out(&mut self.disk, &op);
                    self.bench.uplink.store(self.bench.now, event);
                }
                Action::Announce { token, .. } => {
                    self.acks.push_back((due, token));
                    self.in_flight += 1;
                }
                Action::Send { token, row, .. } => {
                    sent.push((Arc::clone(&row.topic), self.in_flight));
                    self.acks.push_back((due, token));
                    self.in_flight += 1;
                }
                _ => {}
            }
        }
        sent
    }

    /// Waits until everything published so far is on disk, and the link is up again.
    fn come_back(&mut self) {
        while self.bench.uplink.queue().ledger().in_memory.rows > 0 {
            self.step();
        }
        self.open = true;
        while !matches!(self.bench.uplink.state(), State::Up { .. }) {
            self.step();
        }
    }

    /// How long it takes until the message like the refused one is sent alone, while `before_each_step` happens.
    fn sent_alone_after(&mut self, mut before_each_step: impl FnMut(&mut Self)) -> Option<Duration> {
        let began = self.bench.now;
        while self.bench.now.since(began) < Duration::from_secs(30) {
            before_each_step(self);
            if let Some((_, others)) = self.step().iter().find(|(topic, _)| &**topic == LIKE_REFUSED) {
                assert_eq!(*others, 0, "others are in flight");
                return Some(self.bench.now.since(began));
            }
        }
        None
    }
}

/// Live rows without end: there is always one that waits.
fn keep_busy(line: &mut Line) {
    while line.bench.uplink.queue().ledger().in_memory.rows < 200 {
        line.publish("reading");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_row_of_the_backlog_that_has_to_go_alone_is_sent_although_live_rows_never_end(
        window in 1_u16..=40,
        round_trip_ms in 1_u64..=300,
        behind in 0_usize..=100,
    ) {
        let mut line = Line::after_a_refusal(Drain::LiveFirst, window, Duration::from_millis(round_trip_ms));
        line.publish(LIKE_REFUSED);
        for _ in 0..behind {
            line.publish("reading");
        }
        line.come_back();
        let took = line.sent_alone_after(keep_busy);
        prop_assert!(took.is_some_and(|took| took <= Duration::from_secs(2)), "{:?}", took);
    }

    #[test]
    fn a_live_row_that_has_to_go_alone_is_sent_although_the_backlog_is_long(
        window in 1_u16..=40,
        round_trip_ms in 1_u64..=300,
    ) {
        let mut line = Line::after_a_refusal(Drain::LiveFirst, window, Duration::from_millis(round_trip_ms));
        for _ in 0..20_000 {
            line.publish("reading");
        }
        line.come_back();
        for _ in 0..100 {
            line.step();
        }
        line.publish(LIKE_REFUSED);
        let took = line.sent_alone_after(|_| {});
        prop_assert!(line.bench.uplink.queue().ledger().stored.rows > 10);
        prop_assert!(took.is_some_and(|took| took <= Duration::from_secs(2)), "{:?}", took);
    }

    #[test]
    fn in_strict_order_a_row_that_has_to_go_alone_waits_for_what_is_in_flight_only(
        window in 1_u16..=40,
        round_trip_ms in 1_u64..=300,
    ) {
        let mut line = Line::after_a_refusal(Drain::Fifo, window, Duration::from_millis(round_trip_ms));
        line.publish(LIKE_REFUSED);
        line.come_back();
        let took = line.sent_alone_after(keep_busy);
        prop_assert!(took.is_some_and(|took| took <= Duration::from_secs(1)), "{:?}", took);
    }
}

/// A row waits to go alone while live rows are sent.
fn one_waits(expiry_s: Option<u32>) -> Line {
    let mut line = Line::after_a_refusal(Drain::LiveFirst, 20, Duration::from_millis(100));
    let message = on(LIKE_REFUSED, 5, Qos::AtLeastOnce, line.bench.now);
    line.bench.uplink.publish(line.bench.now, Message { expiry_s, ..message });
    line.come_back();
    while line.bench.uplink.alone_wait.is_none() {
        keep_busy(&mut line);
        line.step();
    }
    line
}

#[test]
fn a_row_that_waits_to_go_alone_and_is_acquitted_goes_among_others() {
    let mut line = one_waits(None);
    line.bench.uplink.suspects.forgive(Seq(0));
    let mut sent = Vec::new();
    for _ in 0..400 {
        keep_busy(&mut line);
        sent.extend(line.step());
    }
    assert!(sent.iter().any(|(topic, others)| &**topic == LIKE_REFUSED && *others > 0));
    assert_eq!(line.bench.uplink.alone_wait, None);
}

#[test]
fn a_row_that_waits_to_go_alone_and_expires_holds_up_nobody() {
    let mut line = one_waits(Some(1));
    line.bench.now = line.bench.now.plus(Duration::from_secs(2));
    let mut sent = Vec::new();
    for _ in 0..400 {
        keep_busy(&mut line);
        sent.extend(line.step());
    }
    assert_eq!(line.bench.uplink.queue().ledger().dropped(DropReason::Expired).rows, 1);
    assert!(sent.len() > 100 && sent.iter().all(|(topic, _)| &**topic == "reading"), "{}", sent.len());
    assert_eq!(line.bench.uplink.alone_wait, None);
}

#[test]
fn a_connection_that_is_lost_ends_the_wait() {
    let mut line = one_waits(None);
    line.bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: None });
    while !matches!(line.bench.uplink.state(), State::Up { .. }) {
        line.step();
    }
    assert_eq!(line.bench.uplink.alone_wait, None);
}

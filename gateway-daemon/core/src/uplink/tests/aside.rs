//! Messages that the cloud will not take: who is blamed, and who is not.

use std::collections::BTreeMap;

use super::*;
use crate::uplink::queue::Queue;
use crate::uplink::row::{Blame, Mark, Row};

/// Everything about the cloud and the line that a test may choose.
pub(super) struct Cloud<'a> {
    /// The server ends the connection when it reads this.
    pub(super) poison: &'a dyn Fn(usize, &Sent) -> bool,
    /// The line breaks after this message: its number since the connection was made, and of all.
    pub(super) breaks: &'a mut dyn FnMut(u64, u64) -> bool,
}

/// A message as the cloud sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sent {
    pub(super) topic: String,
    pub(super) bytes: usize,
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) received: Vec<(String, u64)>,
    pub(super) downs: u64,
    pub(super) aside: Vec<Arc<Mark>>,
    pub(super) silenced: Vec<String>,
}

pub(super) fn line_holds() -> impl FnMut(u64, u64) -> bool {
    |_, _| false
}

/// The other side of an uplink.
struct Outside<'a> {
    cloud: Cloud<'a>,
    story: Story,
    disk: BTreeMap<Seq, Arc<Row>>,
    server: usize,
    /// Messages of this connection, and of all.
    sent: (u64, u64),
    /// What the link says next.
    answers: Vec<LinkEvent>,
}

impl Outside<'_> {
    fn act(&mut self, bench: &mut Bench, action: Action) {
        match action {
            Action::Connect { server, .. } => {
                (self.server, self.sent.0) = (server, 0);
                self.answers.push(LinkEvent::Up { session_present: true });
            }
            Action::Store(op) => {
                let event = carry_out(&mut self.disk, &op);
                bench.uplink.store(bench.now, event);
            }
            Action::SetAside { mark } => self.story.aside.push(mark),
            Action::Silenced { topic, .. } => self.story.silenced.push(topic.to_string()),
            Action::Send { token, row, .. } => {
                let sent = Sent { topic: row.topic.to_string(), bytes: row.body.bytes().len() };
                self.carry(token, sent, row.qos, Some(row.seq));
            }
            Action::Announce { token, topic, payload, qos, .. } => {
                self.carry(token, Sent { topic: topic.to_string(), bytes: payload.len() }, qos, None);
            }
            _ => {}
        }
    }

    fn carry(&mut self, token: Token, sent: Sent, qos: Qos, row: Option<Seq>) {
        if self.answers.iter().any(|answer| matches!(answer, LinkEvent::Down { .. })) {
            return;
        }
        self.sent = (self.sent.0 + 1, self.sent.1 + 1);
        if qos == Qos::AtMostOnce {
            self.answers.push(LinkEvent::Acked { token });
        }
        if (self.cloud.poison)(self.server, &sent) || (self.cloud.breaks)(self.sent.0, self.sent.1) {
            self.story.downs += 1;
            let loss = Loss::Closed { stage: None };
            self.answers.push(LinkEvent::Down { loss, up_for: Some(Duration::from_secs(1)) });
            return;
        }
        self.story.received.extend(row.map(|seq| (sent.topic, seq.0)));
        if qos != Qos::AtMostOnce {
            self.answers.push(LinkEvent::Acked { token });
        }
    }
}

/// Lets an uplink, its store and its cloud go on for so many seconds.
pub(super) fn live(
    bench: &mut Bench,
    seconds: u64,
    cloud: Cloud<'_>,
    mut each_second: impl FnMut(&mut Bench, u64),
) -> Story {
    let (story, disk, answers) = (Story::default(), BTreeMap::new(), Vec::new());
    let mut outside = Outside { cloud, story, disk, server: 0, sent: (0, 0), answers };
    for second in 0..seconds {
        each_second(bench, second);
        for _ in 0..20 {
            bench.pass(50);
            for action in bench.actions() {
                outside.act(bench, action);
            }
            for answer in std::mem::take(&mut outside.answers) {
                bench.link(answer);
            }
        }
    }
    outside.story
}

pub(super) fn carry_out(disk: &mut BTreeMap<Seq, Arc<Row>>, op: &StoreOp) -> StoreEvent {
    let mut deleted = Tally::default();
    match op {
        StoreOp::Commit { op, rows, acked } => {
            disk.extend(rows.iter().map(|row| (row.seq, Arc::clone(row))));
            for (first, last) in acked {
                let gone: Vec<Seq> = disk.range(*first..=*last).map(|(seq, _)| *seq).collect();
                gone.iter().for_each(|seq| deleted.add_row(&disk.remove(seq).unwrap()));
            }
            StoreEvent::Committed { op: *op, deleted }
        }
        StoreOp::Fetch { op, after, until, rows_max, .. } => {
            let found = disk.values().filter(|row| row.seq > *after && row.seq <= *until);
            let mut rows: Vec<Arc<Row>> = found.cloned().collect();
            let more = rows.len() > *rows_max as usize;
            rows.truncate(*rows_max as usize);
            StoreEvent::Fetched { op: *op, rows, more }
        }
        StoreOp::Mark { op, .. } => StoreEvent::Committed { op: *op, deleted },
        StoreOp::Trim { .. } | StoreOp::Replace { .. } => panic!("{op:?}"),
    }
}

pub(super) fn on(topic: &str, bytes: usize, qos: Qos, at: BootNs) -> Message {
    Message { topic: topic.into(), body: Body::Raw(vec![0; bytes].into()), qos, ..message(at) }
}

pub(super) fn bench(drain: Drain) -> Bench {
    let limits = Limits { rows_max: 100_000, bytes_max: 64 << 20, ..settings().limits };
    let mut bench = Bench::new(Settings { drain, limits, window: 20, ..settings() }, Stored::default());
    bench.uplink.name_servers(vec!["a.example:8883".into(), "b.example:8883".into()]);
    bench
}

pub(super) fn topic_is(wanted: &'static str) -> impl Fn(usize, &Sent) -> bool {
    move |_, sent: &Sent| sent.topic == wanted
}

/// Readings twice a second and one message on `x/y` in the third second.
pub(super) fn readings_and_one(bench: &mut Bench, second: u64) {
    for _ in 0..2 {
        bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
    }
    if second == 2 {
        bench.uplink.publish(bench.now, on("x/y", 5, Qos::AtLeastOnce, bench.now));
    }
}

#[test]
fn one_message_that_the_cloud_will_not_take_is_set_aside_and_every_other_arrives_in_order() {
    for drain in [Drain::Fifo, Drain::LiveFirst] {
        let mut bench = bench(drain);
        let poison = topic_is("x/y");
        let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
        let story = live(&mut bench, 120, cloud, readings_and_one);
        let blamed: Vec<_> =
            story.aside.iter().map(|mark| (&*mark.topic, mark.blame, &*mark.server)).collect();
        assert_eq!(blamed, [("x/y", Blame::Cut, "a.example:8883")], "{drain:?}");
        assert!(story.downs >= 5 && story.downs <= 20, "{drain:?}: {} cuts", story.downs);
        let ledger = *bench.uplink.queue().ledger();
        assert_eq!((ledger.acknowledged.rows, ledger.kept().rows), (240, 1), "{drain:?}: {ledger:?}");
        let mut seqs: Vec<u64> = story.received.iter().map(|(_, seq)| *seq).collect();
        let in_order = seqs.is_sorted();
        assert!(in_order || drain == Drain::LiveFirst);
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), 240, "{drain:?}");
    }
}

#[test]
fn a_message_larger_than_the_cloud_takes_is_set_aside_and_further_ones_after_one_death_and_then_unsent() {
    let mut bench = bench(Drain::LiveFirst);
    let poison = |_: usize, sent: &Sent| sent.bytes > 128 << 10;
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, 600, cloud, |bench, second| {
        bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
        let topic = ["camera/1", "camera/2"][usize::try_from(second / 60 % 2).unwrap()];
        if second == 2 {
            bench.uplink.publish(bench.now, on("camera/2", 20, Qos::AtLeastOnce, bench.now));
        }
        if second % 60 == 3 {
            bench.uplink.publish(bench.now, on(topic, 100_000, Qos::AtLeastOnce, bench.now));
        }
        if second % 60 == 5 {
            bench.uplink.publish(bench.now, on(topic, 140_000, Qos::AtLeastOnce, bench.now));
        }
    });
    assert_eq!(story.aside.len(), 10);
    assert_eq!(story.aside[0].blame, Blame::Cut);
    assert!(story.aside[1..].iter().all(|mark| mark.blame == Blame::Alike), "{:?}", story.aside);
    assert!(story.aside.iter().all(|mark| mark.tally.bytes > 140_000));
    assert!(story.downs <= 25, "{} cuts", story.downs);
    assert_eq!(bench.uplink.queue().ledger().acknowledged.rows, 611);
}

/// What is refused says something about size only where the server is known to take the topic: otherwise three that are refused for their topics, the
/// first of a backlog, would condemn everything that is larger than the smallest of them.
#[test]
fn refused_topics_at_the_head_of_a_backlog_say_nothing_about_the_messages_behind_them() {
    let mut bench = bench(Drain::LiveFirst);
    let poison = |_: usize, sent: &Sent| sent.topic.starts_with("forbidden/");
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, 300, cloud, |bench, second| {
        if second == 1 {
            for topic in ["forbidden/1", "forbidden/2", "forbidden/3"] {
                bench.uplink.publish(bench.now, on(topic, 5, Qos::AtLeastOnce, bench.now));
            }
        }
        if second > 100 {
            bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
        }
    });
    let aside: Vec<&str> = story.aside.iter().map(|mark| &*mark.topic).collect();
    assert_eq!(aside, ["forbidden/1", "forbidden/2", "forbidden/3"]);
    assert!(story.aside.iter().all(|mark| mark.blame == Blame::Cut), "each has a proof of its own");
    assert_eq!(bench.uplink.queue().ledger().acknowledged.rows, 199);
}

#[test]
fn what_was_learned_about_a_server_ends_when_it_takes_such_a_message() {
    let mut bench = bench(Drain::LiveFirst);
    let raised = std::cell::Cell::new(false);
    let poison = |_: usize, sent: &Sent| sent.bytes > 1000 && !raised.get();
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, 2000, cloud, |bench, second| {
        raised.set(second > 300);
        bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
        if second % 20 == 5 {
            bench.uplink.publish(bench.now, on("big", 2000, Qos::AtLeastOnce, bench.now));
        }
    });
    let arrived = story.received.iter().filter(|(topic, _)| topic == "big").count();
    // Ten minutes after the last one that was refused one is tried again, and from then on all arrive.
    assert!(arrived >= 50, "{arrived}");
    assert_eq!(arrived + story.aside.len(), 100);
}

#[test]
fn messages_of_qos_0_that_kill_the_connection_once_a_second_do_not_strangle_the_readings() {
    let mut bench = bench(Drain::LiveFirst);
    let poison = topic_is("x/y");
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, 300, cloud, |bench, _| {
        bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
        bench.uplink.publish(bench.now, on("zero", 20, Qos::AtMostOnce, bench.now));
        bench.uplink.publish(bench.now, on("x/y", 5, Qos::AtMostOnce, bench.now));
    });
    assert!(
        story.aside.len() > 200,
        "{} {} {:?} {:?} {:?}",
        story.aside.len(),
        story.downs,
        bench.uplink.counters(),
        bench.uplink.state(),
        bench.uplink.queue().ledger()
    );
    assert!(story.aside.iter().all(|mark| &*mark.topic == "x/y"));
    assert!(story.downs < 45, "{} cuts", story.downs);
    assert_eq!(bench.uplink.queue().ledger().acknowledged.rows + story.aside.len() as u64, 900);
}

#[test]
fn topics_for_which_servers_may_end_the_connection_are_set_aside_without_being_sent() {
    let mut bench = bench(Drain::LiveFirst);
    let cloud = Cloud { poison: &|_, _| false, breaks: &mut line_holds() };
    let story = live(&mut bench, 5, cloud, |bench, second| {
        if second == 3 {
            for topic in ["x/\u{1}y", "x/\u{FFFE}", "x/\u{9f}"] {
                bench.uplink.publish(bench.now, on(topic, 5, Qos::AtLeastOnce, bench.now));
            }
        }
    });
    assert_eq!(story.aside.len(), 3);
    assert!(story.aside.iter().all(|mark| mark.blame == Blame::Topic));
    assert_eq!((story.downs, story.received.len()), (0, 0));
}

#[test]
fn a_line_that_breaks_at_any_rate_sets_nothing_aside() {
    let mut trials = 0;
    for (seed, one_in) in [(1_u64, 2_u64), (2, 3), (3, 5), (4, 10), (5, 30), (6, 4), (7, 2), (8, 7)] {
        let mut bench = bench(if seed.is_multiple_of(2) { Drain::Fifo } else { Drain::LiveFirst });
        let mut state = seed * 7919_u64;
        let mut breaks = |_: u64, _: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33).is_multiple_of(one_in)
        };
        let cloud = Cloud { poison: &|_, _| false, breaks: &mut breaks };
        let story = live(&mut bench, 3600, cloud, |bench, second| {
            if second.is_multiple_of(5) {
                bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
            }
        });
        assert!(story.downs > 15, "seed {seed}: {}", story.downs);
        assert!(story.aside.is_empty() && story.silenced.is_empty(), "seed {seed}: {story:?}");
        trials += bench.uplink.counters().sent_alone_total;
    }
    assert!(trials > 1000, "{trials} were tried");
}

#[test]
fn a_line_that_breaks_in_a_rhythm_sets_nothing_aside() {
    for rhythm in 2..20 {
        let mut bench = bench(Drain::Fifo);
        let mut breaks = |on_connection: u64, _: u64| on_connection >= rhythm;
        let cloud = Cloud { poison: &|_, _| false, breaks: &mut breaks };
        let story = live(&mut bench, 1800, cloud, |bench, second| {
            if second.is_multiple_of(10) {
                bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
            }
        });
        assert!(story.aside.is_empty() && story.silenced.is_empty(), "every {rhythm}: {story:?}");
    }
}

#[test]
fn a_hostile_message_is_found_on_a_line_that_breaks_by_itself_too() {
    let mut bench = bench(Drain::LiveFirst);
    let mut state = 77_u64;
    let mut breaks = |_: u64, _: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).is_multiple_of(10)
    };
    let poison = topic_is("x/y");
    let cloud = Cloud { poison: &poison, breaks: &mut breaks };
    let story = live(&mut bench, 900, cloud, readings_and_one);
    let blamed: Vec<_> = story.aside.iter().map(|mark| &*mark.topic).collect();
    assert_eq!(blamed, ["x/y"]);
}

#[test]
fn a_birth_message_that_the_cloud_will_not_take_is_left_out_and_readings_flow() {
    for topic in ["g/status", "g/ledger"] {
        let mut bench = bench(Drain::Fifo);
        let poison = topic_is(topic);
        let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
        let story = live(&mut bench, 900, cloud, |bench, _| {
            bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
        });
        assert_eq!(story.silenced, [topic]);
        assert!(story.aside.is_empty(), "{story:?}");
        assert!(bench.uplink.queue().ledger().acknowledged.rows >= 895, "{topic}");
    }
}

#[test]
fn a_hostile_message_is_found_although_the_cloud_takes_no_message_of_the_uplink_itself() {
    let mut bench = bench(Drain::Fifo);
    let poison = |_: usize, sent: &Sent| sent.topic.starts_with("g/") || sent.topic == "x/y";
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, 1800, cloud, |bench, second| {
        bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
        if second == 900 {
            bench.uplink.publish(bench.now, on("x/y", 5, Qos::AtLeastOnce, bench.now));
        }
    });
    assert_eq!(story.silenced.len(), 2, "{:?}", story.silenced);
    assert_eq!(story.aside.len(), 1, "{:?}", story.aside);
    assert!(bench.uplink.queue().ledger().acknowledged.rows >= 1790);
}

#[test]
fn a_message_that_one_server_will_not_take_is_blamed_on_that_server() {
    let mut bench = bench(Drain::Fifo);
    bench.uplink = bench.uplink.with_servers(2);
    let poison = |server: usize, sent: &Sent| server == 0 && sent.topic == "x/y";
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, 200, cloud, readings_and_one);
    let on_b = story.received.iter().any(|(topic, _)| topic == "x/y");
    let blamed: Vec<_> = story.aside.iter().map(|mark| &*mark.server).collect();
    assert!(on_b || blamed == ["a.example:8883"], "{blamed:?}");
    assert!(bench.uplink.queue().ledger().acknowledged.rows >= 400);
}

#[test]
fn a_message_put_back_is_tried_again_from_the_start_and_arrives_when_the_cloud_takes_it() {
    let mut bench = bench(Drain::Fifo);
    let fixed = std::cell::Cell::new(false);
    let poison = |_: usize, sent: &Sent| sent.topic == "x/y" && !fixed.get();
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, 400, cloud, |bench, second| {
        readings_and_one(bench, second);
        let aside: Vec<Seq> = bench.uplink.queue().aside().map(|mark| mark.seq).collect();
        fixed.set(second >= 250);
        if second == 120 || second == 300 {
            assert_eq!(aside.len(), 1, "at {second}");
            assert!(bench.uplink.put_back(bench.now, aside[0]));
        }
    });
    assert_eq!(story.aside.len(), 2);
    assert!(story.received.iter().any(|(topic, _)| topic == "x/y"));
    assert_eq!(bench.uplink.queue().ledger().kept().rows, 0);
}

#[test]
fn messages_of_qos_0_that_are_put_back_go_among_others_again() {
    let mut bench = bench(Drain::LiveFirst);
    let fixed = std::cell::Cell::new(false);
    let poison = |_: usize, sent: &Sent| sent.topic == "x/y" && !fixed.get();
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let mut alone = 0;
    let story = live(&mut bench, 200, cloud, |bench, second| {
        bench.uplink.publish(bench.now, on("reading", 60, Qos::AtLeastOnce, bench.now));
        if second < 100 {
            bench.uplink.publish(bench.now, on("x/y", 5, Qos::AtMostOnce, bench.now));
        }
        if second == 150 {
            fixed.set(true);
            let aside: Vec<Seq> = bench.uplink.queue().aside().map(|mark| mark.seq).collect();
            assert!(aside.len() > 50, "{}", aside.len());
            assert!(aside.into_iter().all(|seq| bench.uplink.put_back(bench.now, seq)));
            alone = bench.uplink.counters().sent_alone_total;
        }
    });
    let came = story.received.iter().filter(|(topic, _)| topic == "x/y").count();
    assert!(came > 50, "{came}");
    assert_eq!(bench.uplink.counters().sent_alone_total, alone, "nothing is held against them any more");
    assert_eq!(bench.uplink.queue().ledger().kept().rows, 0);
}

#[test]
fn a_message_that_the_cloud_swallows_without_an_acknowledgement_is_set_aside_too() {
    let mut bench = bench(Drain::Fifo);
    bench.connect();
    for topic in ["reading", "x/y", "reading"] {
        bench.uplink.publish(bench.now, on(topic, 5, Qos::AtLeastOnce, bench.now));
    }
    for _ in 0..3000 {
        bench.pass(1000);
        let mut answers = Vec::new();
        for action in bench.actions() {
            match action {
                Action::Connect { .. } => answers.push(LinkEvent::Up { session_present: true }),
                Action::Announce { token, .. } => answers.push(LinkEvent::Acked { token }),
                Action::Send { token, row, .. } if &*row.topic != "x/y" => {
                    answers.push(LinkEvent::Acked { token });
                }
                Action::Store(op) => {
                    let event = StoreEvent::Failed {
                        op: op_number(&op),
                        fault: crate::uplink::row::StoreFault::Full,
                    };
                    bench.uplink.store(bench.now, event);
                }
                _ => {}
            }
        }
        answers.into_iter().for_each(|answer| bench.link(answer));
    }
    assert_eq!(bench.uplink.queue().aside().count(), 1);
    assert_eq!(bench.uplink.queue().ledger().acknowledged.rows, 2);
}

fn op_number(op: &StoreOp) -> u64 {
    match op {
        StoreOp::Commit { op, .. }
        | StoreOp::Fetch { op, .. }
        | StoreOp::Trim { op, .. }
        | StoreOp::Mark { op, .. }
        | StoreOp::Replace { op, .. } => *op,
    }
}

#[test]
fn an_uplink_of_qos_0_suspects_nothing_because_it_sends_nothing_twice() {
    let mut bench = Bench::new(Settings { qos: Qos::AtMostOnce, ..settings() }, Stored::default());
    let poison = topic_is("x/y");
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    let story = live(&mut bench, 100, cloud, |bench, second| {
        let topic = if second % 20 == 3 { "x/y" } else { "reading" };
        bench.uplink.publish(bench.now, on(topic, 5, Qos::AtMostOnce, bench.now));
    });
    assert!(story.aside.is_empty());
    assert_eq!(bench.uplink.queue().ledger().kept().rows, 0);
}

#[test]
fn rows_set_aside_by_an_earlier_run_are_not_sent() {
    let mut row_of = Bench::new(settings(), Stored::default());
    row_of.publish();
    let row = row_of.uplink.queue().row(Seq(1)).unwrap();
    let mut stored = Stored { first: Seq(1), last: Seq(1), ..Stored::default() };
    stored.normal.add_row(&row);
    let mut uplink = Uplink::with_queue(
        settings(),
        identity(),
        Queue::new((&settings()).into(), identity().run, stored),
        1,
    );
    uplink.restore_aside(&[Arc::new(Mark::of(&row, Blame::Cut, &"a".into()))]);
    uplink.start(BootNs(0));
    let mut bench = Bench { uplink, now: BootNs(0) };
    assert!(sends(&bench.connect()).is_empty());
    assert_eq!(ops(&bench.actions()), 0);
    assert_eq!(bench.uplink.queue().ledger().stored.rows, 1);
}

#[test]
fn an_uplink_that_is_told_to_stop_while_its_birth_is_on_trial_ends_in_order() {
    let mut bench = bench(Drain::Fifo);
    let poison = topic_is("g/status");
    let cloud = Cloud { poison: &poison, breaks: &mut line_holds() };
    live(&mut bench, 60, cloud, |_, _| {});
    bench.link(LinkEvent::Down { loss: Loss::WriteTimeout, up_for: None });
    while !bench.actions().iter().any(|action| matches!(action, Action::Connect { .. })) {
        bench.pass(1000);
    }
    bench.link(LinkEvent::Up { session_present: true });
    bench.uplink.stop(bench.now, bench.now.plus(Duration::from_secs(5)));
    let mut stopped = false;
    for _ in 0..10 {
        // Without the bound it would announce without end.
        let actions: Vec<Action> = std::iter::from_fn(|| bench.uplink.poll_action()).take(50).collect();
        assert!(actions.len() < 10, "{actions:?}");
        stopped |= actions.iter().any(|action| matches!(action, Action::Stopped { .. }));
        bench.pass(1000);
    }
    assert!(stopped);
}

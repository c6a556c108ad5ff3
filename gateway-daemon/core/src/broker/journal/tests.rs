//! The journal by itself, and against a model of what should be on disk.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::disk::Disk;
use super::*;
use crate::broker::change::{Change, FactKind};
use crate::broker::facts;
use crate::broker::packet::Message;
use crate::broker::topic::TopicName;
use crate::tag::BootId;
use crate::uplink::row::Qos;

const S: u64 = 1_000_000_000;

fn settings() -> Settings {
    Settings {
        run: RunId { boot: BootId(7), start_ms: 1 },
        commit_interval: Duration::from_secs(1),
        retained_interval: Duration::from_secs(30),
        dirty_bytes_max: 10_000,
    }
}

fn delivery(body: &str) -> Delivery {
    let message = Message {
        topic: TopicName::new("t").unwrap(),
        body: body.as_bytes().into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: None,
        at: BootNs(0),
        expiry_s: None,
    };
    let identifiers = Box::default();
    Delivery { message: Arc::new(message), qos: Qos::AtLeastOnce, retain: false, identifiers }
}

fn fact(name: &str) -> FactKey {
    FactKey { kind: FactKind::Session, key: name.as_bytes().into() }
}

fn value(text: &str) -> Value {
    Value::Bytes(text.as_bytes().into())
}

fn row(seq: u64) -> (Seq, Delivery) {
    (Seq(seq), delivery("x"))
}

/// The changes of a turn in few words.
fn words(turn: &Turn) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Insert { queue, row } => format!("{queue}+{}", row.seq.0),
        Change::Delete { queue, seqs } => format!("{queue}-{}..{}", seqs.0.0, seqs.1.0),
        Change::Drop { queue } => format!("{queue} dropped"),
        Change::Put { fact, value } => {
            format!("{}={}", String::from_utf8_lossy(&fact.key), String::from_utf8_lossy(value))
        }
        Change::Remove { fact } => format!("{} removed", String::from_utf8_lossy(&fact.key)),
    };
    turn.changes.iter().map(word).collect()
}

struct Bench {
    journal: Journal,
    a: Slot,
    b: Slot,
}

fn bench() -> Bench {
    let mut journal = Journal::new(settings());
    let (a, b) = (journal.open(&"a".into()), journal.open(&"b".into()));
    Bench { journal, a, b }
}

impl Bench {
    fn turn(&mut self, at_ms: u64) -> Option<(u64, Vec<String>)> {
        let turn = self.journal.poll(ms(at_ms))?;
        Some((turn.number, words(&turn)))
    }

    fn done(&mut self, at_ms: u64, number: u64) {
        self.journal.answer(ms(at_ms), &Answer::Done { number });
    }

    fn fail(&mut self, at_ms: u64, number: u64) {
        self.journal.answer(ms(at_ms), &Answer::Failed { number, fault: StoreFault::Full });
    }

    fn safe(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.journal.next_safe()).map(|ticket| ticket.0).collect()
    }
}

fn ms(at_ms: u64) -> BootNs {
    BootNs(at_ms * 1_000_000)
}

#[test]
fn a_row_that_is_acknowledged_in_time_is_never_written() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), Some(Ticket(1)), Due::Soon);
    assert_eq!(bench.turn(999), None);
    assert!(bench.journal.delete(ms(999), bench.a, Seq(1), Due::Soon));
    assert_eq!(bench.safe(), [1]);
    assert_eq!(bench.turn(100_000), None);
    assert!(bench.journal.is_clean());
    assert_eq!((bench.journal.dirty_bytes(), bench.journal.poll_timeout(ms(0))), (0, None));
}

#[test]
fn a_row_is_written_when_it_has_waited_and_its_ticket_is_settled_when_that_is_done() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), Some(Ticket(1)), Due::Soon);
    assert_eq!(bench.journal.poll_timeout(ms(0)), Some(ms(1000)));
    assert_eq!(bench.turn(1000), Some((1, vec!["a+1".into()])));
    assert!(bench.safe().is_empty());
    assert_eq!(bench.turn(1000), None, "one turn is under way");
    bench.done(1003, 1);
    assert_eq!(bench.safe(), [1]);
    assert_eq!(bench.journal.next_progress(), Some(Progress { queue: "a".into(), until: Some(Seq(1)) }));
    assert_eq!(bench.journal.next_progress(), None);
}

#[test]
fn a_row_that_may_wait_is_not_dragged_to_disk_by_another_queue() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), Some(Ticket(1)), Due::Soon);
    bench.journal.insert(ms(1), bench.b, row(1), Some(Ticket(2)), Due::Now);
    bench.journal.put(ms(1), fact("s"), value("1"), None, Due::Soon);
    assert_eq!(bench.turn(1), Some((1, vec!["b+1".into(), "s=1".into()])));
    bench.done(2, 1);
    assert_eq!(bench.safe(), [2]);
    assert_eq!(bench.journal.poll_timeout(ms(2)), Some(ms(1000)));
}

#[test]
fn a_row_that_has_waited_for_half_its_time_goes_with_the_turn_of_another() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), None, Due::Soon);
    bench.journal.insert(ms(500), bench.b, row(1), None, Due::Now);
    assert_eq!(bench.turn(500), Some((1, vec!["a+1".into(), "b+1".into()])));
}

#[test]
fn a_row_that_is_due_takes_everything_before_it_in_its_queue_along() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), None, Due::Soon);
    bench.journal.insert(ms(1), bench.a, row(2), None, Due::Now);
    assert_eq!(bench.turn(1), Some((1, vec!["a+1".into(), "a+2".into()])));
}

#[test]
fn rows_of_a_session_that_goes_away_are_due_at_once() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), None, Due::Soon);
    bench.journal.hasten(bench.b);
    assert_eq!(bench.turn(0), None, "nothing waits for b");
    bench.journal.hasten(bench.a);
    assert_eq!(bench.turn(0), Some((1, vec!["a+1".into()])));
}

#[test]
fn a_row_of_the_turn_under_way_is_deleted_by_the_next_one() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), Some(Ticket(1)), Due::Now);
    assert!(bench.turn(0).is_some());
    assert!(!bench.journal.delete(ms(1), bench.a, Seq(1), Due::Soon));
    bench.done(2, 1);
    assert_eq!(bench.safe(), [1]);
    assert_eq!(bench.turn(1000), None);
    assert_eq!(bench.turn(1001), Some((2, vec!["a-1..1".into()])));
}

#[test]
fn a_failed_turn_is_joined_with_what_changed_since_and_asked_again_later_and_later() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), Some(Ticket(1)), Due::Now);
    bench.journal.insert(ms(0), bench.a, row(2), Some(Ticket(2)), Due::Now);
    bench.journal.put(ms(0), fact("s"), value("1"), Some(Ticket(3)), Due::Now);
    let position = bench.journal.position();
    assert!(bench.turn(0).is_some());
    bench.journal.delete(ms(1), bench.a, Seq(1), Due::Soon);
    bench.journal.insert(ms(1), bench.a, row(3), Some(Ticket(4)), Due::Now);
    bench.journal.put(ms(1), fact("s"), value("2"), Some(Ticket(5)), Due::Now);
    bench.fail(2, 1);
    assert_eq!(bench.journal.fault(), Some(StoreFault::Full));
    assert_eq!(bench.safe(), [1], "its reader has it");
    assert_eq!(bench.turn(501), None);
    assert_eq!(bench.journal.poll_timeout(ms(3)), Some(ms(502)));
    let (number, changes) = bench.turn(502).unwrap();
    assert_eq!(changes, ["a-1..1", "a+2", "a+3", "s=2"], "the failed turn may have reached the disk");
    bench.fail(600, number);
    assert_eq!(bench.turn(1599), None);
    let (number, _) = bench.turn(1600).unwrap();
    assert!(!bench.journal.is_durable(position));
    bench.done(1700, number);
    assert!(bench.journal.is_durable(position));
    assert_eq!(bench.safe(), [2, 4, 3, 5]);
    assert_eq!((bench.journal.dirty_bytes(), bench.journal.fault()), (0, None));
}

#[test]
fn pauses_end_at_their_longest() {
    let mut bench = bench();
    bench.journal.put(ms(0), fact("s"), value("1"), None, Due::Now);
    let mut now = 0;
    for _ in 0..40 {
        let (number, _) = bench.turn(now).unwrap();
        bench.fail(now, number);
        let next = bench.journal.poll_timeout(ms(now)).unwrap();
        assert!(next.since(ms(now)) <= PAUSE_MAX && next.since(ms(now)) >= PAUSE_MIN);
        now = next.ms();
    }
    assert_eq!(bench.journal.poll_timeout(ms(now)).unwrap(), ms(now));
}

#[test]
fn what_became_durable_of_a_queue_is_nothing_to_one_of_the_same_name_that_is_made_anew() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), None, Due::Now);
    assert!(bench.turn(0).is_some());
    bench.done(1, 1);
    bench.journal.drop_queue(&"a".into());
    bench.journal.open(&"a".into());
    assert_eq!(bench.journal.next_progress(), None);
    bench.journal.insert(ms(2), bench.b, row(1), None, Due::Now);
    assert!(bench.turn(2).is_some());
    bench.done(3, 2);
    bench.journal.replaced();
    assert_eq!(bench.journal.next_progress(), None, "it was true of the database before");
}

#[test]
fn a_queue_that_is_dropped_and_made_again_is_emptied_first() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), Some(Ticket(1)), Due::Now);
    assert!(bench.turn(0).is_some());
    bench.journal.insert(ms(1), bench.a, row(2), Some(Ticket(2)), Due::Now);
    bench.journal.drop_queue(&"a".into());
    assert_eq!(bench.safe(), [2], "nobody wants it any more");
    let again = bench.journal.open(&"a".into());
    bench.journal.insert(ms(2), again, row(1), Some(Ticket(3)), Due::Now);
    bench.done(3, 1);
    assert_eq!(bench.safe(), [1]);
    assert_eq!(bench.journal.next_progress(), None, "what is durable is of the queue that is gone");
    assert_eq!(bench.turn(3), Some((2, vec!["a dropped".into(), "a+1".into()])));
}

#[test]
fn rows_of_a_failed_turn_are_forgotten_with_their_queue() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), Some(Ticket(1)), Due::Now);
    assert!(bench.turn(0).is_some());
    bench.journal.drop_queue(&"a".into());
    bench.fail(1, 1);
    assert_eq!(bench.safe(), [1]);
    assert_eq!(bench.turn(1000), Some((2, vec!["a dropped".into()])));
    bench.done(1001, 2);
    assert!(bench.journal.is_clean());
    assert_eq!(bench.journal.dirty_bytes(), 0);
}

#[test]
fn slots_of_dropped_queues_are_used_again_and_never_by_two() {
    let mut journal = Journal::new(settings());
    let mut used = BTreeSet::new();
    for round in 0..100_u64 {
        let name: QueueName = format!("q{round}").into();
        let slot = journal.open(&name);
        used.insert(slot);
        journal.insert(BootNs(0), slot, row(1), None, Due::Now);
        journal.drop_queue(&name);
        let number = journal.poll(BootNs(0)).unwrap().number;
        journal.answer(BootNs(0), &Answer::Done { number });
    }
    assert_eq!(used.len(), 1);
}

#[test]
fn only_the_last_of_a_topic_is_written_when_nobody_waits() {
    let mut bench = bench();
    for second in 0..29 {
        bench.journal.put(ms(second * 1000), fact("r"), value(&second.to_string()), None, Due::Lazy);
        assert_eq!(bench.turn(second * 1000), None);
    }
    assert_eq!(bench.turn(30_000), Some((1, vec!["r=28".into()])));
    bench.done(30_001, 1);
    assert!(bench.journal.is_clean());
    assert_eq!(bench.journal.dirty_bytes(), 0);
}

#[test]
fn a_lazy_fact_becomes_urgent_when_somebody_waits_for_a_later_value() {
    let mut bench = bench();
    bench.journal.put(ms(0), fact("r"), value("1"), None, Due::Lazy);
    bench.journal.put(ms(1), fact("r"), value("2"), Some(Ticket(1)), Due::Now);
    bench.journal.put(ms(2), fact("r"), value("3"), None, Due::Lazy);
    assert_eq!(bench.turn(2), Some((1, vec!["r=3".into()])));
}

#[test]
fn a_position_is_durable_when_what_was_changed_before_it_is() {
    let mut bench = bench();
    assert!(bench.journal.is_durable(bench.journal.position()), "nothing was changed");
    bench.journal.put(ms(0), fact("s"), value("1"), None, Due::Now);
    let first = bench.journal.position();
    assert!(bench.turn(0).is_some());
    assert_eq!(bench.journal.position(), first);
    bench.journal.remove(ms(0), fact("s"), None, Due::Now);
    let second = bench.journal.position();
    assert!(second > first);
    bench.done(1, 1);
    assert!(bench.journal.is_durable(first) && !bench.journal.is_durable(second));
}

#[test]
fn a_flush_leaves_nothing() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), None, Due::Soon);
    bench.journal.put(ms(0), fact("r"), value("1"), None, Due::Lazy);
    bench.journal.flush();
    assert_eq!(bench.journal.poll_timeout(ms(0)), Some(ms(0)));
    assert_eq!(bench.turn(0), Some((1, vec!["a+1".into(), "r=1".into()])));
    bench.done(0, 1);
    assert!(bench.journal.is_clean());
    assert_eq!(bench.journal.poll_timeout(ms(0)), None);
}

#[test]
fn above_its_limit_it_says_so() {
    let mut bench = bench();
    let body = "x".repeat(9000);
    bench.journal.insert(ms(0), bench.a, (Seq(1), delivery(&body)), None, Due::Soon);
    assert!(!bench.journal.is_full());
    bench.journal.put(ms(0), fact("s"), value(&body), None, Due::Now);
    assert!(bench.journal.is_full());
}

#[test]
fn everything_is_due_when_it_is_full() {
    let mut bench = bench();
    let body = "x".repeat(9000);
    bench.journal.put(ms(0), retained("r"), value("1"), None, Due::Lazy);
    bench.journal.insert(ms(0), bench.a, (Seq(1), delivery(&body)), None, Due::Soon);
    assert_eq!(bench.turn(0), None);
    bench.journal.put(ms(0), retained("s"), value(&body), None, Due::Lazy);
    assert_eq!(bench.journal.poll_timeout(ms(0)), Some(ms(0)));
    let (number, changes) = bench.turn(0).unwrap();
    assert_eq!((changes.len(), bench.journal.poll_timeout(ms(0))), (3, None));
    bench.done(1, number);
    assert!(bench.journal.is_clean() && bench.journal.dirty_bytes() == 0);
}

fn retained(topic: &str) -> FactKey {
    FactKey { kind: FactKind::Retained, key: topic.as_bytes().into() }
}

#[test]
fn rows_of_one_message_share_its_bytes_in_a_turn() {
    let mut journal = Journal::new(settings());
    let shared = delivery(&"x".repeat(1000));
    let slots: Vec<Slot> = (0..100).map(|number| journal.open(&format!("q{number}").into())).collect();
    for (number, slot) in slots.iter().enumerate() {
        let qos = if number % 2 == 0 { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
        journal.insert(ms(0), *slot, (Seq(7), Delivery { qos, ..shared.clone() }), None, Due::Now);
    }
    let turn = journal.poll(ms(0)).unwrap();
    let mut bodies = BTreeSet::new();
    for (number, change) in turn.changes.iter().enumerate() {
        let Change::Insert { row, .. } = change else { panic!("{change:?}") };
        assert_eq!((row.seq, row.qos == Qos::ExactlyOnce), (Seq(7), number % 2 == 1));
        assert_eq!(**row, facts::row(&Delivery { qos: row.qos, ..shared.clone() }, Seq(7), settings().run));
        bodies.insert(row.body.bytes().as_ptr().addr());
    }
    assert_eq!((turn.changes.len(), bodies.len()), (100, 1));
}

/// Rows of a turn.
fn rows(turn: &Turn) -> Vec<Arc<crate::uplink::row::Row>> {
    let row = |change: &Change| match change {
        Change::Insert { row, .. } => Some(Arc::clone(row)),
        _ => None,
    };
    turn.changes.iter().filter_map(row).collect()
}

#[test]
fn a_turn_has_a_bound_in_bytes_and_the_rest_goes_with_the_next_ones() {
    let mut journal = Journal::new(Settings { dirty_bytes_max: u64::MAX, ..settings() });
    let slots: Vec<Slot> = (0..100).map(|number| journal.open(&format!("q{number}").into())).collect();
    for seq in 1..=3 {
        for slot in &slots {
            journal.insert(ms(0), *slot, (Seq(seq), delivery(&"x".repeat(100_000))), None, Due::Now);
        }
    }
    let (mut turns, mut written) = (0, 0);
    while let Some(turn) = journal.poll(ms(0)) {
        let bytes: u64 = rows(&turn).iter().map(|row| row.size()).sum();
        assert!(bytes <= TURN_BYTES_MAX + 101_000, "{bytes}");
        (turns, written) = (turns + 1, written + rows(&turn).len());
        journal.answer(ms(0), &Answer::Done { number: turn.number });
        assert!(turns < 20);
    }
    assert_eq!(written, 300);
    assert!(turns >= 7 && journal.is_clean() && journal.dirty_bytes() == 0);
}

#[test]
fn rows_of_qos_2_go_with_the_identifier_of_their_publisher_whatever_they_weigh() {
    let mut journal = Journal::new(Settings { dirty_bytes_max: u64::MAX, ..settings() });
    let body = "x".repeat(100_000);
    let slots: Vec<Slot> = (0..100).map(|number| journal.open(&format!("q{number}").into())).collect();
    for slot in &slots {
        journal.insert(ms(0), *slot, (Seq(1), delivery(&body)), Some(Ticket(1)), Due::Now);
    }
    let message = Message { qos: Qos::ExactlyOnce, ..Message::clone(&delivery(&body).message) };
    let message = Arc::new(message);
    for slot in &slots {
        let delivery = Delivery { message: Arc::clone(&message), ..delivery("") };
        journal.insert(ms(0), *slot, (Seq(2), delivery), Some(Ticket(2)), Due::Now);
    }
    let fact = FactKey { kind: FactKind::Received, key: [1].into() };
    journal.put(ms(0), fact.clone(), value("x"), Some(Ticket(2)), Due::Now);
    let turn = journal.poll(ms(0)).unwrap();
    assert_eq!(rows(&turn).iter().filter(|row| row.seq == Seq(2)).count(), 100);
    assert!(
        turn.changes.iter().any(|change| matches!(change, Change::Put { fact: put, .. } if *put == fact))
    );
}

#[test]
fn rows_that_somebody_waits_for_are_due_when_their_reader_is_slow_and_others_are_not() {
    let mut bench = bench();
    bench.journal.insert(ms(0), bench.a, row(1), None, Due::Soon);
    bench.journal.slow_from(bench.a, Some(ms(50)));
    assert_eq!(bench.journal.poll_timeout(ms(0)), Some(ms(1000)));
    bench.journal.insert(ms(10), bench.a, row(2), Some(Ticket(2)), Due::Soon);
    bench.journal.insert(ms(10), bench.a, row(3), None, Due::Soon);
    assert_eq!(bench.journal.poll_timeout(ms(10)), Some(ms(50)));
    bench.journal.slow_from(bench.a, Some(ms(80)));
    assert_eq!(bench.turn(50), None, "it has answered");
    assert_eq!(bench.turn(80), Some((1, vec!["a+1".into(), "a+2".into()])));
    bench.done(81, 1);
    assert_eq!((bench.safe(), bench.turn(1009)), (vec![2], None));
    assert_eq!(bench.turn(1010), Some((2, vec!["a+3".into()])));
}

#[derive(Debug, Clone)]
enum Step {
    Insert {
        queue: usize,
        due: Due,
    },
    Delete {
        queue: usize,
        which: usize,
    },
    Put {
        fact: usize,
        due: Due,
    },
    Remove {
        fact: usize,
    },
    Drop {
        queue: usize,
    },
    Hasten {
        queue: usize,
    },
    Poll,
    Done,
    /// `reached`: the disk has it all the same.
    Fail {
        reached: bool,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let due = prop_oneof![Just(Due::Now), Just(Due::Soon)];
    let fact_due = prop_oneof![Just(Due::Now), Just(Due::Soon), Just(Due::Lazy)];
    prop_oneof![
        6 => (0..3_usize, due).prop_map(|(queue, due)| Step::Insert { queue, due }),
        4 => (0..3_usize, 0..8_usize).prop_map(|(queue, which)| Step::Delete { queue, which }),
        3 => (0..4_usize, fact_due).prop_map(|(fact, due)| Step::Put { fact, due }),
        1 => (0..4_usize).prop_map(|fact| Step::Remove { fact }),
        1 => (0..3_usize).prop_map(|queue| Step::Drop { queue }),
        1 => (0..3_usize).prop_map(|queue| Step::Hasten { queue }),
        6 => Just(Step::Poll),
        5 => Just(Step::Done),
        2 => any::<bool>().prop_map(|reached| Step::Fail { reached }),
        3 => (1..40_000_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// What should be on disk once everything is done, and who waits for what.
#[derive(Default)]
struct Model {
    rows: [BTreeSet<u64>; 3],
    facts: BTreeMap<FactKey, String>,
    /// Ticket to queue, generation of the queue, and seq.
    owed: BTreeMap<u64, (usize, u64, u64)>,
    generation: [u64; 3],
    last: [u64; 3],
    next: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What is settled is on disk or unwanted; what is on disk of a queue has no hole that was not deleted; in the end the disk is what was
    /// asked for, whatever failed in between.
    #[test]
    fn the_disk_becomes_what_was_asked_for_and_nothing_is_called_safe_before(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let mut journal = Journal::new(settings());
        let names: Vec<QueueName> = ["a", "b", "c"].into_iter().map(QueueName::from).collect();
        let mut slots: Vec<Slot> = names.iter().map(|name| journal.open(name)).collect();
        let (mut disk, mut model, mut under_way) = (Disk::default(), Model::default(), None::<Turn>);
        let mut now = 0;
        let ask = |journal: &mut Journal, at: u64, under_way: &mut Option<Turn>| {
            if let Some(turn) = journal.poll(BootNs(at)) {
                assert!(under_way.is_none() && !turn.changes.is_empty());
                *under_way = Some(turn);
            }
        };
        for step in steps {
            match step {
                Step::Insert { queue, due } => {
                    model.last[queue] += 1;
                    model.next += 1;
                    let seq = model.last[queue];
                    model.rows[queue].insert(seq);
                    model.owed.insert(model.next, (queue, model.generation[queue], seq));
                    journal.insert(BootNs(now), slots[queue], row(seq), Some(Ticket(model.next)), due);
                }
                Step::Delete { queue, which } => {
                    let Some(seq) = model.rows[queue].iter().nth(which).copied() else { continue };
                    model.rows[queue].remove(&seq);
                    journal.delete(BootNs(now), slots[queue], Seq(seq), Due::Soon);
                }
                Step::Put { fact: index, due } => {
                    model.next += 1;
                    let (key, text) = (fact(&index.to_string()), model.next.to_string());
                    journal.put(BootNs(now), key.clone(), value(&text), None, due);
                    model.facts.insert(key, text);
                }
                Step::Remove { fact: index } => {
                    let key = fact(&index.to_string());
                    model.facts.remove(&key);
                    journal.remove(BootNs(now), key, None, Due::Now);
                }
                Step::Drop { queue } => {
                    model.rows[queue].clear();
                    model.generation[queue] += 1;
                    model.last[queue] = 0;
                    journal.drop_queue(&names[queue]);
                    slots[queue] = journal.open(&names[queue]);
                }
                Step::Hasten { queue } => journal.hasten(slots[queue]),
                Step::Poll => ask(&mut journal, now, &mut under_way),
                Step::Done => {
                    let Some(turn) = under_way.take() else { continue };
                    disk.apply(&turn);
                    journal.answer(BootNs(now), &Answer::Done { number: turn.number });
                }
                Step::Fail { reached } => {
                    let Some(turn) = under_way.take() else { continue };
                    if reached {
                        disk.apply(&turn);
                    }
                    let fault = StoreFault::Io;
                    journal.answer(BootNs(now), &Answer::Failed { number: turn.number, fault });
                }
                Step::Wait { ms } => now += ms * 1_000_000,
            }
            while let Some(ticket) = journal.next_safe() {
                let (queue, generation, seq) = model.owed.remove(&ticket.0).expect("settled once");
                let wanted = generation == model.generation[queue] && model.rows[queue].contains(&seq);
                let stored = disk.queues.get(&names[queue]).is_some_and(|rows| rows.contains_key(&Seq(seq)));
                prop_assert!(!wanted || stored, "{queue}+{seq} is called safe and is not");
            }
        }
        journal.flush();
        for _ in 0..10 {
            ask(&mut journal, now, &mut under_way);
            let Some(turn) = under_way.take() else { now += 60 * S; continue };
            disk.apply(&turn);
            journal.answer(BootNs(now), &Answer::Done { number: turn.number });
        }
        prop_assert!(journal.is_clean());
        prop_assert_eq!(journal.dirty_bytes(), 0);
        while let Some(ticket) = journal.next_safe() {
            model.owed.remove(&ticket.0);
        }
        prop_assert!(model.owed.is_empty(), "somebody waits for ever: {:?}", model.owed);
        for (name, rows) in names.iter().zip(&model.rows) {
            let stored: BTreeSet<u64> =
                disk.queues.get(name).into_iter().flat_map(|rows| rows.keys().map(|seq| seq.0)).collect();
            prop_assert_eq!(&stored, rows);
        }
        let facts: BTreeMap<FactKey, String> = disk.facts.iter()
            .map(|(key, value)| (key.clone(), String::from_utf8_lossy(value).into_owned())).collect();
        prop_assert_eq!(facts, model.facts);
    }
}

//! Any turns, reads and ops, failures and restarts among them, against a model in memory.

use std::collections::BTreeMap;

use gateway_core::broker::{Answer, Change, FactKey, FactKind, Read, Turn};
use proptest::prelude::*;

use super::turns::{fact, queue};
use super::*;
use crate::store::ask::{Reply, Want};
use crate::store::engine::Engine;
use crate::store::row_codec::tests::any_row;

/// So small that large bodies fill it.
const SMALL_FILE_BYTES: u64 = 300_000;
const CLIENTS: [&str; 3] = ["a", "b/c", "ü"];

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    queues: BTreeMap<Arc<str>, BTreeMap<u64, Arc<Row>>>,
    facts: BTreeMap<FactKey, Vec<u8>>,
}

impl Model {
    fn take(&mut self, turn: &Turn) {
        for change in &turn.changes {
            match change {
                Change::Insert { queue, row } => {
                    self.queues.entry(Arc::clone(queue)).or_default().insert(row.seq.0, Arc::clone(row));
                }
                Change::Delete { queue, seqs: (from, to) } => {
                    if let Some(rows) = self.queues.get_mut(queue) {
                        rows.retain(|seq, _| !(from.0..=to.0).contains(seq));
                    }
                }
                Change::Drop { queue } => {
                    self.queues.remove(queue);
                    if let Some(subscriptions) = FactKey::subscriptions_of(queue) {
                        self.facts.retain(|fact, _| !fact.begins_with(&subscriptions));
                    }
                }
                Change::Put { fact, value } => drop(self.facts.insert(fact.clone(), value.to_vec())),
                Change::Remove { fact } => drop(self.facts.remove(fact)),
            }
        }
    }

    fn read(&self, read: &Read) -> (Vec<Arc<Row>>, bool) {
        let empty = BTreeMap::new();
        let rows = self.queues.get(&read.queue).unwrap_or(&empty);
        let mut range = rows.values().filter(|row| row.seq > read.after && row.seq <= read.until).peekable();
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some(row) = range.peek() {
            bytes += row.size();
            let full = found.len() as u64 >= u64::from(read.rows_max) || bytes > read.bytes_max;
            if full && !found.is_empty() {
                break;
            }
            found.extend(range.next().cloned());
        }
        let more = range.peek().is_some();
        (found, more)
    }

    fn is_in(&self, engine: &mut Engine) -> Result<(), TestCaseError> {
        let found = engine.found(sieve());
        let facts: BTreeMap<_, _> =
            found.facts.into_iter().map(|(fact, value)| (fact, value.to_vec())).collect();
        prop_assert_eq!(&facts, &self.facts);
        let names: Vec<_> = found.queues.iter().map(|(name, _)| Arc::clone(name)).collect();
        prop_assert_eq!(names, self.queues.keys().cloned().collect::<Vec<_>>());
        for (name, stored) in found.queues {
            let rows: Vec<_> = self.queues[&name].values().cloned().collect();
            let of = |priority| {
                tally(&rows.iter().filter(|row| row.priority == priority).cloned().collect::<Vec<_>>())
            };
            prop_assert_eq!((stored.normal, stored.high), (of(Priority::Normal), of(Priority::High)));
            prop_assert_eq!(stored.first, rows.first().map_or(Seq(0), |row| row.seq));
            let read = Read {
                number: 1,
                queue: name,
                after: Seq(0),
                until: Seq(u64::MAX),
                rows_max: u32::MAX,
                bytes_max: u64::MAX,
            };
            let replies = engine.serve(vec![Want::Read(read)]);
            prop_assert_eq!(replies, [Reply::Answer(Answer::Rows { number: 1, rows, more: false })]);
        }
        Ok(())
    }
}

fn any_client() -> impl Strategy<Value = Arc<str>> {
    (0..CLIENTS.len()).prop_map(|index| queue(CLIENTS[index]))
}

fn any_fact() -> impl Strategy<Value = FactKey> {
    let kinds = [FactKind::Session, FactKind::Retained, FactKind::Received, FactKind::Released];
    prop_oneof![
        2 => (0..kinds.len(), "[xyz]{0,2}").prop_map(move |(kind, key)| fact(kinds[kind], &key)),
        1 => (any_client(), "[xyz]{0,2}").prop_map(|(queue, filter)| {
            let FactKey { kind, key } = FactKey::subscriptions_of(&queue).unwrap();
            FactKey { kind, key: [&key, filter.as_bytes()].concat().into() }
        }),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    let row = (1..40_u64, any_row(), prop_oneof![9 => Just(0), 1 => 1000..60_000_usize]).prop_map(
        |(seq, row, large)| {
            let body = if large == 0 { row.body.clone() } else { Body::Raw(vec![7; large].into()) };
            Arc::new(Row { seq: Seq(seq), body, ..row })
        },
    );
    let value = prop_oneof![
        9 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => (0..60_000_usize).prop_map(|length| vec![9; length]),
    ];
    prop_oneof![
        6 => (any_client(), row).prop_map(|(queue, row)| Change::Insert { queue, row }),
        3 => (any_client(), 0..42_u64, prop_oneof![0..42_u64, Just(u64::MAX)])
            .prop_map(|(queue, from, to)| Change::Delete { queue, seqs: (Seq(from), Seq(to)) }),
        1 => any_client().prop_map(|queue| Change::Drop { queue }),
        4 => (any_fact(), value).prop_map(|(fact, value)| Change::Put { fact, value: value.into() }),
        2 => any_fact().prop_map(|fact| Change::Remove { fact }),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Turn(Vec<Change>),
    /// A turn that cannot be carried out to its end.
    Refused(Vec<Change>, usize),
    Read(Read),
    /// An uplink adds a row, or tries to.
    Uplink(bool),
}

fn any_batch() -> impl Strategy<Value = Vec<Step>> {
    let changes = || proptest::collection::vec(any_change(), 0..12);
    let turn = prop_oneof![
        6 => changes().prop_map(Step::Turn),
        1 => (changes(), any::<usize>()).prop_map(|(changes, place)| Step::Refused(changes, place)),
    ];
    let read = || {
        (any_client(), 0..42_u64, 0..42_u64, 1..10_u32, 0..2000_u64).prop_map(
            |(queue, after, until, rows_max, bytes_max)| {
                Step::Read(Read {
                    number: 2,
                    queue,
                    after: Seq(after),
                    until: Seq(until),
                    rows_max,
                    bytes_max,
                })
            },
        )
    };
    let company = || {
        let step = prop_oneof![read(), any::<bool>().prop_map(Step::Uplink)];
        proptest::collection::vec(step, 0..3)
    };
    (company(), turn, company()).prop_map(|(mut batch, turn, behind)| {
        batch.push(turn);
        batch.extend(behind);
        batch
    })
}

fn want(step: &Step, uplink: QueueId, next: &mut u64) -> Want {
    match step {
        Step::Turn(changes) => Want::Turn(Turn { number: 1, changes: changes.clone() }),
        Step::Refused(changes, place) => {
            let mut changes = changes.clone();
            let bad = Change::Insert { queue: queue(CLIENTS[0]), row: row(0) };
            changes.insert(place % (changes.len() + 1), bad);
            Want::Turn(Turn { number: 1, changes })
        }
        Step::Read(read) => Want::Read(read.clone()),
        Step::Uplink(true) => {
            *next += 1;
            Want::Op(uplink, commit(rows(*next..=*next)))
        }
        Step::Uplink(false) => Want::Op(uplink, commit(vec![row(0)])),
    }
}

/// What a batch did to the model. The broker has one turn under way at a time; a read beside it may see it or not.
fn judge(model: &Model, batch: &[Step], replies: &[Reply]) -> Result<Model, TestCaseError> {
    let mut after = model.clone();
    for pair in batch.iter().zip(replies) {
        match pair {
            (Step::Turn(changes), Reply::Answer(Answer::Done { number: 1 })) => {
                after.take(&Turn { number: 1, changes: changes.clone() });
            }
            (Step::Turn(_), Reply::Answer(Answer::Failed { number: 1, fault: StoreFault::Full }))
            | (Step::Refused(..), Reply::Answer(Answer::Failed { number: 1, .. }))
            | (Step::Read(_), Reply::Answer(Answer::Rows { .. }))
            | (Step::Uplink(true), Reply::Event(StoreEvent::Committed { .. }))
            | (Step::Uplink(true), Reply::Event(StoreEvent::Failed { fault: StoreFault::Full, .. }))
            | (Step::Uplink(false), Reply::Event(StoreEvent::Failed { .. })) => {}
            other => prop_assert!(false, "{other:?}"),
        }
    }
    for pair in batch.iter().zip(replies) {
        if let (Step::Read(read), Reply::Answer(Answer::Rows { number: 2, rows, more })) = pair {
            let found = (rows.clone(), *more);
            prop_assert!(found == model.read(read) || found == after.read(read), "{found:?}");
        }
    }
    Ok(after)
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("TIDEGATE_CASES").map_or(48, |cases| cases.parse().expect("a number"));
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_turns_in_any_company_do_what_the_model_does(
        batches in proptest::collection::vec((any_batch(), 0..4_u8), 1..16)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let settings = StoreSettings { path: path.clone(), file_bytes_max: SMALL_FILE_BYTES };
        let open = || {
            let mut engine = Engine::open(settings.clone(), Arc::default());
            let uplink = engine.open_queue(&"cloud".into()).0;
            (engine, uplink)
        };
        let (mut engine, mut uplink) = open();
        let (mut model, mut next) = (Model::default(), 0);
        for (batch, end) in batches {
            let wants = batch.iter().map(|step| want(step, uplink, &mut next)).collect();
            let replies = engine.serve(wants);
            engine.tidy();
            model = judge(&model, &batch, &replies)?;
            match end {
                0 => {
                    prop_assert_eq!(engine.close(), Ok(()));
                    (engine, uplink) = open();
                }
                1 => {
                    // Gone without a word.
                    drop(engine);
                    (engine, uplink) = open();
                }
                _ => {}
            }
            model.is_in(&mut engine)?;
        }
        prop_assert_eq!(engine.health().counters.moved_aside, 0);
    }
}

//! Any ops in any batches against a model in memory.

use std::collections::BTreeMap;

use gateway_core::uplink::row::StoreEvent::{Committed, Fetched, Trimmed};
use proptest::prelude::*;

use super::*;
use crate::store::ask::{Reply, Want};
use crate::store::engine::Engine;
use crate::store::row_codec::tests::any_row;

type Model = BTreeMap<u64, Row>;

fn small_seq() -> impl Strategy<Value = u64> {
    1..40_u64
}

fn some_rows() -> impl Strategy<Value = Vec<Arc<Row>>> {
    (proptest::collection::btree_set(small_seq(), 0..8), proptest::collection::vec(any_row(), 8)).prop_map(
        |(seqs, mut rows)| {
            seqs.into_iter()
                .map(|seq| Arc::new(Row { seq: Seq(seq), ..rows.pop().expect("as many as seqs") }))
                .collect()
        },
    )
}

fn some_seqs() -> impl Strategy<Value = Vec<Seq>> {
    proptest::collection::btree_set(small_seq(), 0..12).prop_map(|seqs| seqs.into_iter().map(Seq).collect())
}

fn any_op() -> impl Strategy<Value = StoreOp> {
    let range =
        (0..42_u64, prop_oneof![0..42_u64, Just(u64::MAX)]).prop_map(|(from, to)| (Seq(from), Seq(to)));
    prop_oneof![
        3 => (some_rows(), proptest::collection::vec(range, 0..2))
            .prop_map(|(rows, acked)| StoreOp::Commit { op: 1, rows, acked }),
        2 => (0..42_u64, 0..42_u64, 0..10_u32, 0..2000_u64).prop_map(|(after, until, rows_max, bytes_max)| {
            StoreOp::Fetch { op: 1, after: Seq(after), until: Seq(until), rows_max, bytes_max }
        }),
        1 => (0..10_u64, 0..1000_u64, any::<bool>(), some_seqs()).prop_map(|(rows, bytes, high, keep)| {
            let priority_max = if high { Priority::High } else { Priority::Normal };
            StoreOp::Trim { op: 1, rows, bytes, priority_max, keep }
        }),
        1 => (some_seqs(), some_rows()).prop_map(|(mut remove, rows)| {
            remove.extend(rows.iter().map(|row| row.seq));
            remove.sort();
            remove.dedup();
            StoreOp::Replace { op: 1, remove, rows }
        }),
    ]
}

fn remove(model: &mut Model, seq: u64, deleted: &mut Tally) {
    if let Some(row) = model.remove(&seq) {
        deleted.add_row(&row);
    }
}

fn insert(model: &mut Model, rows: &[Arc<Row>], deleted: &mut Tally) {
    for row in rows {
        remove(model, row.seq.0, deleted);
        model.insert(row.seq.0, (**row).clone());
    }
}

/// The contract of [`StoreOp`], in as few words as possible.
fn expect(model: &mut Model, op: &StoreOp) -> StoreEvent {
    let mut deleted = Tally::default();
    match op {
        StoreOp::Commit { op, rows, acked } => {
            let is_acked = |seq: &u64| acked.iter().any(|(from, to)| (from.0..=to.0).contains(seq));
            for seq in model.keys().copied().filter(is_acked).collect::<Vec<_>>() {
                remove(model, seq, &mut deleted);
            }
            insert(model, rows, &mut deleted);
            for row in rows.iter().filter(|row| is_acked(&row.seq.0)) {
                remove(model, row.seq.0, &mut deleted);
            }
            Committed { op: *op, deleted }
        }
        StoreOp::Fetch { op, after, until, rows_max, bytes_max } => {
            let mut range = model.values().filter(|row| row.seq > *after && row.seq <= *until).peekable();
            let mut rows: Vec<Arc<Row>> = Vec::new();
            let mut bytes = 0;
            while let Some(row) = range.peek() {
                bytes += row.size();
                if !rows.is_empty() && (rows.len() as u64 >= u64::from(*rows_max) || bytes > *bytes_max) {
                    break;
                }
                rows.push(Arc::new((*row).clone()));
                range.next();
            }
            Fetched { op: *op, rows, more: range.next().is_some() }
        }
        StoreOp::Trim { op, rows, bytes, priority_max, keep } => {
            for priority in
                [Priority::Normal, Priority::High].into_iter().filter(|priority| priority <= priority_max)
            {
                let candidates =
                    model.values().filter(|row| row.priority == priority && !keep.contains(&row.seq));
                for seq in candidates.map(|row| row.seq.0).collect::<Vec<_>>() {
                    if deleted.rows < *rows || deleted.bytes < *bytes {
                        remove(model, seq, &mut deleted);
                    }
                }
            }
            Trimmed { op: *op, dropped: deleted }
        }
        StoreOp::Mark { op, .. } => Committed { op: *op, deleted },
        StoreOp::Replace { op, remove: gone, rows } => {
            gone.iter().for_each(|seq| remove(model, seq.0, &mut deleted));
            insert(model, rows, &mut deleted);
            Committed { op: *op, deleted }
        }
    }
}

fn stored(model: &Model) -> (Tally, Tally, Seq) {
    let of = |priority| {
        let rows: Vec<_> =
            model.values().filter(|row| row.priority == priority).cloned().map(Arc::new).collect();
        tally(&rows)
    };
    (of(Priority::Normal), of(Priority::High), Seq(model.keys().next().copied().unwrap_or(0)))
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("TIDEGATE_CASES").map_or(24, |cases| cases.parse().expect("a number"));
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_ops_in_any_batches_do_what_the_model_does(
        batches in proptest::collection::vec((proptest::collection::vec((0..2_u32, any_op()), 1..5), any::<bool>()), 1..12)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder.path().join("queue.db"));
        let open = || {
            let mut engine = Engine::open(settings.clone(), Arc::default());
            let queues = ["one", "two"].map(|name| engine.open_queue(&name.into()));
            (engine, queues)
        };
        let (mut engine, queues) = open();
        let mut models = [Model::new(), Model::new()];
        for (batch, reopen) in batches {
            let wants = batch.iter().map(|(queue, op)| Want::Op(queues[*queue as usize].0, op.clone())).collect();
            let expected: Vec<_> =
                batch.iter().map(|(queue, op)| Reply::Event(expect(&mut models[*queue as usize], op))).collect();
            prop_assert_eq!(engine.serve(wants), expected);
            engine.tidy();
            if reopen {
                prop_assert_eq!(engine.close(), Ok(()));
                engine = open().0;
            }
            for (name, model) in ["one", "two"].iter().zip(&models) {
                let (_, found) = engine.open_queue(&(*name).into());
                prop_assert_eq!((found.normal, found.high, found.first), stored(model));
                prop_assert!(found.last.0 >= model.keys().next_back().copied().unwrap_or(0));
            }
        }
        prop_assert_eq!(engine.health().counters.moved_aside, 0);
    }
}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{RUN, good};
use crate::payload::settings::Shape;
use crate::payload::{Entry, Head, Record, SchemaId, Thinned, thin};
use crate::tag::{BootNs, Reason, Sample, Value};
use crate::uplink::row::{Body, Priority, Qos, Row, Seq};

const MINUTE: Duration = Duration::from_secs(60);

/// A row sampled at `at_s` with these (tag, sample).
fn row(seq: u64, at_s: u64, samples: &[(u16, Sample)]) -> Arc<Row> {
    let at = BootNs(at_s * 1_000_000_000);
    let head = Head { schema: SchemaId(1), shape: Shape::Group, thinned: false, base: at };
    let entries =
        samples.iter().map(|(index, sample)| Entry { index: *index, offset_us: 0, sample: sample.clone() });
    let body = Body::Record(Record { head, entries: entries.collect() }.encode().into());
    Arc::new(Row {
        seq: Seq(seq),
        priority: Priority::Normal,
        topic: "t".into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        body,
        readings: u32::try_from(samples.len()).unwrap(),
        run: RUN,
        at,
        expiry_s: None,
    })
}

fn decode(row: &Row) -> Record {
    Record::decode(row.body.bytes()).unwrap()
}

/// What each tag shows, in the order of the queue: (seconds, sample).
fn history(rows: &[Arc<Row>]) -> BTreeMap<u16, Vec<(u64, Sample)>> {
    let mut history: BTreeMap<u16, Vec<_>> = BTreeMap::new();
    for record in rows.iter().map(|row| decode(row)) {
        for entry in record.entries {
            let at_ns = record.head.base.0 + entry.offset_us * 1000;
            history.entry(entry.index).or_default().push((at_ns / 1_000_000_000, entry.sample));
        }
    }
    history
}

/// The queue after the replacement.
fn applied(rows: &[Arc<Row>], thinned: &Thinned) -> Vec<Arc<Row>> {
    let stay = rows.iter().filter(|row| thinned.remove.binary_search(&row.seq).is_err());
    let mut after: Vec<_> = stay.chain(&thinned.rows).cloned().collect();
    after.sort_by_key(|row| row.seq);
    after
}

#[test]
fn minimum_maximum_and_last_of_each_tag_stay() {
    let values = [5.0, 1.0, 7.0, 9.0, 3.0, 4.0];
    let rows: Vec<_> =
        (0..).zip(values).map(|(n, value)| row(10 + n, n, &[(0, good(value)), (3, good(2.0))])).collect();
    let thinned = thin(&rows, MINUTE);
    assert_eq!(thinned.remove, (10..16).map(Seq).collect::<Vec<_>>());
    let history = history(&thinned.rows);
    assert_eq!(history[&0], [(1, good(1.0)), (3, good(9.0)), (5, good(4.0))]);
    assert_eq!(history[&3], [(0, good(2.0)), (5, good(2.0))]);
    assert_eq!(thinned.rows.iter().map(|row| row.seq.0).collect::<Vec<_>>(), [10, 13, 15]);
    assert_eq!((thinned.before.readings, thinned.after.readings, thinned.dropped().readings), (12, 5, 7));
    assert!(thinned.rows.iter().all(|row| decode(row).head.thinned));
}

#[test]
fn a_bad_reading_stays_visible_between_good_ones() {
    let bad = Sample::Bad(Reason::Timeout);
    let samples = [good(1.0), bad.clone(), bad.clone(), bad.clone(), good(1.0), good(1.0)];
    let rows: Vec<_> = (0..).zip(samples).map(|(n, sample)| row(1 + n, n, &[(0, sample)])).collect();
    let history = history(&thin(&rows, MINUTE).rows);
    assert_eq!(history[&0], [(0, good(1.0)), (1, bad), (5, good(1.0))]);
}

#[test]
fn the_last_good_reading_stays_even_if_bad_ones_follow() {
    let bad = Sample::Bad(Reason::Timeout);
    let samples = [good(1.0), good(9.0), good(4.0), bad.clone(), bad.clone(), bad.clone()];
    let rows: Vec<_> = (0..).zip(samples).map(|(n, sample)| row(1 + n, n, &[(0, sample)])).collect();
    let history = history(&thin(&rows, MINUTE).rows);
    let kept = [(0, good(1.0)), (1, good(9.0)), (2, good(4.0)), (3, bad.clone()), (5, bad)];
    assert_eq!(history[&0], kept);
}

#[test]
fn buckets_topics_priorities_and_raw_bytes_are_not_mixed() {
    let sample = [(0, good(1.0))];
    let other = |row: Arc<Row>, change: fn(&mut Row)| {
        let mut row = Row::clone(&row);
        change(&mut row);
        Arc::new(row)
    };
    let rows = [
        row(1, 59, &sample),
        row(2, 60, &sample),
        other(row(3, 59, &sample), |row| row.topic = "u".into()),
        other(row(4, 59, &sample), |row| row.priority = Priority::High),
        other(row(5, 59, &sample), |row| row.body = Body::Raw(Arc::from(&b"x"[..]))),
        other(row(6, 59, &sample), |row| row.body = Body::Record(Arc::from(&b"damaged"[..]))),
    ];
    assert_eq!(thin(&rows, MINUTE), Thinned::default());
}

#[test]
fn integers_are_compared_exactly() {
    let value = |value: u64| Sample::Good(Value::UInt(value));
    let big = 1u64 << 60;
    let rows: Vec<_> = (0..)
        .zip([big + 1, big + 2, big, big + 1])
        .map(|(n, number)| row(1 + n, n, &[(0, value(number))]))
        .collect();
    let history = history(&thin(&rows, MINUTE).rows);
    assert_eq!(history[&0], [(1, value(big + 2)), (2, value(big)), (3, value(big + 1))]);
}

#[test]
fn a_zero_bucket_is_the_shortest_one() {
    assert_eq!(
        thin(&[row(1, 1, &[(0, good(1.0))]), row(2, 2, &[(0, good(1.0))])], Duration::ZERO),
        Thinned::default()
    );
}

proptest! {
    #[test]
    fn thinning_keeps_extremes_order_and_ends(
        samples in prop::collection::vec((0u64..20, 0u16..4, prop::option::weighted(0.8, -50i64..50)), 1..60),
    ) {
        let mut at_s = 0;
        let rows: Vec<_> = (1..).zip(&samples).map(|(seq, (step, tag, value))| {
            at_s += step;
            let sample = value.map_or(Sample::Bad(Reason::Timeout), |value| Sample::Good(Value::Int(value)));
            row(seq, at_s, &[(*tag, sample.clone()), (*tag + 1, sample)])
        }).collect();
        let thinned = thin(&rows, MINUTE);
        let after = applied(&rows, &thinned);
        prop_assert!(after.len() <= rows.len());
        prop_assert!(after.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        prop_assert!(thinned.rows.iter().all(|row| thinned.remove.binary_search(&row.seq).is_ok()));
        prop_assert!(after.windows(2).all(|pair| decode(&pair[0]).head.base <= decode(&pair[1]).head.base));
        let (before, after_history) = (history(&rows), history(&after));
        for (tag, before) in &before {
            let after = &after_history[tag];
            prop_assert!(after.iter().all(|kept| before.contains(kept)), "a reading was invented");
            prop_assert!(after.windows(2).all(|pair| pair[0].0 <= pair[1].0), "out of order");
            let minutes: std::collections::BTreeSet<u64> = before.iter().map(|(at, _)| at / 60).collect();
            for minute in minutes {
                let of = |history: &[(u64, Sample)]| -> Vec<Sample> {
                    history.iter().filter(|(at, _)| at / 60 == minute).map(|(_, sample)| sample.clone()).collect()
                };
                let (before, after) = (of(before), of(after));
                let range = |samples: &[Sample]| {
                    let good = || samples.iter().filter_map(|s| if let Sample::Good(Value::Int(v)) = s { Some(*v) } else { None });
                    (good().min(), good().max())
                };
                prop_assert_eq!(range(&before), range(&after));
                prop_assert_eq!(before.last(), after.last());
                prop_assert!(after.len() <= 5);
            }
        }
        prop_assert_eq!(thin(&after, MINUTE), Thinned::default(), "thinning again changes nothing");
    }
}

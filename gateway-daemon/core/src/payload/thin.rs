//! Thinning out: fewer rows that still show how far each tag went.
//!
//! Pure and stateless: rows in, replacements out. It is used when a queue is full and its policy is
//! [`crate::uplink::settings::WhenFull::ThinOut`].

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::record::{Entry, Head, RECORD_READINGS_MAX, Record};
use super::schema::SchemaId;
use super::settings::Shape;
use crate::tag::{BootNs, RunId, Sample, Value};
use crate::uplink::row::{Body, Priority, Row, Seq, Tally};

/// What [`thin()`] wants to have changed: the two fields of a [`crate::uplink::row::StoreOp::Replace`], and their counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Thinned {
    /// Rows to delete, ascending.
    pub remove: Vec<Seq>,
    /// Rows to insert, ascending; their seqs are among `remove`, so the order of the queue stays as it is.
    pub rows: Vec<Arc<Row>>,
    /// The rows in `remove`.
    pub before: Tally,
    /// The rows in `rows`.
    pub after: Tally,
}

impl Thinned {
    /// What is gone: the count of drops with the reason "thinned out".
    #[must_use]
    pub fn dropped(&self) -> Tally {
        let mut dropped = self.before;
        dropped.take(self.after);
        dropped
    }
}

/// Rows that may be joined: one run, one topic, one schema, one part of a large group, one bucket of time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    run: RunId,
    bucket: u64,
    schema: SchemaId,
    part: usize,
    /// The tag itself with [`Shape::Tag`], so that a message stays a message of one tag.
    tag: Option<u16>,
    topic: Arc<str>,
}

#[derive(Debug, Clone)]
struct Source {
    row: Arc<Row>,
    record: Record,
}

/// Of each tag and bucket of time keeps the minimum, the maximum and the last good reading, the first bad reading, and the last of
/// all; the rest goes. Kept readings move into as few rows as hold them in their order.
///
/// `rows` are rows of one queue, ascending by seq, none of them in flight. Rows that are not normal-priority records, that are damaged, or whose bucket would
/// not become smaller are left alone. Texts have no order: of them the last is kept. Calling it again on the result with the same
/// bucket changes nothing as long as the samples of a cycle are not apart.
#[must_use]
pub fn thin(rows: &[Arc<Row>], bucket: Duration) -> Thinned {
    let bucket_ns = u64::try_from(bucket.as_nanos()).unwrap_or(u64::MAX).max(1);
    let mut buckets: BTreeMap<Key, Vec<Source>> = BTreeMap::new();
    for row in rows {
        if let Some((key, source)) = source(row, bucket_ns) {
            buckets.entry(key).or_default().push(source);
        }
    }
    let mut thinned = Thinned::default();
    for sources in buckets.into_values().filter(|sources| sources.len() > 1) {
        join(&sources, &mut thinned);
    }
    thinned.remove.sort_unstable();
    thinned.rows.sort_unstable_by_key(|row| row.seq);
    thinned
}

fn source(row: &Arc<Row>, bucket_ns: u64) -> Option<(Key, Source)> {
    let Body::Record(bytes) = &row.body else { return None };
    if row.priority != Priority::Normal {
        return None;
    }
    let record = Record::decode(bytes).ok()?;
    let first = record.entries.first()?;
    let key = Key {
        run: row.run,
        bucket: record.head.base.0 / bucket_ns,
        schema: record.head.schema,
        part: usize::from(first.index) / RECORD_READINGS_MAX,
        tag: (record.head.shape == Shape::Tag).then_some(first.index),
        topic: Arc::clone(&row.topic),
    };
    Some((key, Source { row: Arc::clone(row), record }))
}

/// A reading that stays: which source it comes from, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    source: usize,
    entry: usize,
}

fn join(sources: &[Source], thinned: &mut Thinned) {
    let mut by_tag: BTreeMap<u16, Vec<Place>> = BTreeMap::new();
    for (source, from) in sources.iter().enumerate() {
        for (entry, reading) in from.record.entries.iter().enumerate() {
            by_tag.entry(reading.index).or_default().push(Place { source, entry });
        }
    }
    // The n-th survivor of every tag goes into the n-th row: the rows then begin in the order of their sources.
    let mut layers: Vec<Vec<Place>> = Vec::new();
    for places in by_tag.values() {
        for (layer, place) in survivors(sources, places).into_iter().enumerate() {
            if layers.len() <= layer {
                layers.push(Vec::new());
            }
            layers[layer].push(place);
        }
    }
    let readings: usize = sources.iter().map(|source| source.record.entries.len()).sum();
    let kept: usize = layers.iter().map(Vec::len).sum();
    if layers.len() >= sources.len() && kept >= readings {
        return;
    }
    for source in sources {
        thinned.remove.push(source.row.seq);
        thinned.before.add_row(&source.row);
    }
    for layer in &layers {
        let row = Arc::new(replacement(sources, layer));
        thinned.after.add_row(&row);
        thinned.rows.push(row);
    }
}

/// Which readings of one tag stay, in their order.
fn survivors(sources: &[Source], places: &[Place]) -> Vec<Place> {
    let sample = |place: &Place| &sources[place.source].record.entries[place.entry].sample;
    let good = |place: &&Place| matches!(sample(place), Sample::Good(_));
    let order = |a: &Place, b: &Place| compare(sample(a), sample(b));
    let mut kept: Vec<Place> = [
        places.iter().filter(good).reduce(|a, b| if order(a, b).is_gt() { b } else { a }),
        places.iter().filter(good).reduce(|a, b| if order(a, b).is_lt() { b } else { a }),
        places.iter().rfind(good),
        places.iter().find(|place| !good(place)),
        places.last(),
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect();
    kept.sort_unstable();
    kept.dedup();
    kept
}

/// One row of readings, at most one per tag, under the number of the earliest row that any of them comes from.
fn replacement(sources: &[Source], layer: &[Place]) -> Row {
    let at = |place: &Place| {
        let record = &sources[place.source].record;
        let offset_ns = record.entries[place.entry].offset_us.saturating_mul(1000);
        BootNs(record.head.base.0.saturating_add(offset_ns))
    };
    let first = layer.iter().map(|place| place.source).min().unwrap_or(0);
    let base = layer.iter().map(at).min().unwrap_or_default();
    let entries: Vec<Entry> = layer
        .iter()
        .map(|place| {
            let from = &sources[place.source].record.entries[place.entry];
            Entry { offset_us: at(place).0.saturating_sub(base.0) / 1000, ..from.clone() }
        })
        .collect();
    let readings = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let head = Head { thinned: true, base, ..sources[first].record.head };
    let body = Body::Record(Record { head, entries }.encode().into());
    Row { body, readings, ..Row::clone(&sources[first].row) }
}

/// Order of two good samples: numbers by value whatever their type, false before true. Texts and mixtures have none.
fn compare(a: &Sample, b: &Sample) -> Ordering {
    let (Sample::Good(a), Sample::Good(b)) = (a, b) else { return Ordering::Equal };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => match (integer(a), integer(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => match (float(a), float(b)) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => Ordering::Equal,
            },
        },
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::UInt(value) => Some(i128::from(*value)),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        #[expect(clippy::cast_precision_loss, reason = "only the order of mixed types depends on it")]
        _ => integer(value).map(|value| value as f64),
    }
}

//! Data in, data out.

mod cycles;
mod report_by_exception;
mod scaling;
mod silence;
mod succeed;
mod writes;

use std::time::Duration;

use crate::poll::request::{Table, UnitId};
use crate::poll::settings as poll;
use crate::process::Processor;
use crate::process::settings::{Deadband, Filter};
use crate::tag::{BootNs, Cycle, GroupId, Name, Reading, Sample, TagId, Value};

const EVERY: Duration = Duration::from_secs(1);
const ALWAYS: Filter = Filter { deadband: Deadband::Off, silence_max: None, stale_after: 0 };

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn s(seconds: f64) -> BootNs {
    BootNs(0).plus(Duration::from_secs_f64(seconds))
}

fn tag(kind: poll::Kind) -> poll::Tag {
    poll::Tag {
        name: name("t"),
        group: 0,
        point: poll::Point { table: Table::Holding, address: 0, kind },
        unit: None,
        scale: None,
        range: None,
        filter: ALWAYS,
        writable: true,
        alarm: false,
    }
}

fn u16_tag() -> poll::Tag {
    tag(poll::Kind::U16 { swap: false })
}

fn scaled(kind: poll::Kind, factor: f64, offset: f64) -> poll::Tag {
    poll::Tag { scale: Some(poll::Scale { factor, offset }), ..tag(kind) }
}

fn ranged(tag: poll::Tag, min: Option<f64>, max: Option<f64>, clamp: bool) -> poll::Tag {
    let (min, max) = (min.map(poll::Limit::Float), max.map(poll::Limit::Float));
    poll::Tag { range: Some(poll::Range { min, max, clamp }), ..tag }
}

fn filtered(deadband: Deadband) -> poll::Tag {
    poll::Tag { filter: Filter { deadband, ..ALWAYS }, ..u16_tag() }
}

/// One device with one group of these tags, polled every second.
fn field(tags: Vec<poll::Tag>) -> poll::Settings {
    let device = poll::Device {
        name: name("meter"),
        bus: 0,
        unit: UnitId::serial(1).unwrap(),
        timeout: Duration::from_millis(500),
        retries: 1,
        delay_before: Duration::ZERO,
        turnaround: Duration::ZERO,
        dead_after: 3,
        probe_max: Duration::from_secs(60),
        registers_max: 125,
        bits_max: 2000,
        gap_max: 8,
        one_by_one: false,
        base: 0,
    };
    let group = poll::Group { device: 0, name: name("1"), every: EVERY, tags_start: 0, tags_len: tags.len() };
    poll::Settings { buses: Vec::new(), devices: vec![device], groups: vec![group], tags }
}

fn processor(tags: Vec<poll::Tag>) -> Processor {
    Processor::new(&field(tags), s(0.0))
}

fn float(value: f64) -> Sample {
    Sample::Good(Value::Float(value))
}

fn int(value: i64) -> Sample {
    Sample::Good(Value::Int(value))
}

/// One cycle at `at` in which the first tags have these samples; what is reported, by tag.
fn cycle(processor: &mut Processor, at: BootNs, samples: &[Sample]) -> Vec<(u32, Sample)> {
    let readings =
        (0..).zip(samples).map(|(tag, sample)| Reading { tag: TagId(tag), at, sample: sample.clone() });
    let cycle = Cycle { group: GroupId(0), due: at, readings: readings.collect() };
    let report = processor.cycle(at, cycle);
    report.readings.into_iter().map(|reading| (reading.tag.0, reading.sample)).collect()
}

/// Which of these samples, one second apart, are reported.
fn reported(tag: poll::Tag, samples: &[Sample]) -> Vec<usize> {
    let mut processor = processor(vec![tag]);
    let each = (0..).zip(samples.iter().enumerate());
    each.filter(|(at, (_, sample))| {
        !cycle(&mut processor, s(f64::from(*at)), std::slice::from_ref(sample)).is_empty()
    })
    .map(|(_, (index, _))| index)
    .collect()
}

//! Data in, data out.

mod encode;
mod json;
mod records;
mod thinning;

use std::sync::Arc;
use std::time::Duration;

use crate::payload::settings::{Settings, Shape};
use crate::payload::{Encoder, Schema, SchemaTag};
use crate::poll::request::{Table, UnitId};
use crate::poll::settings as poll;
use crate::process::settings::{Deadband, Filter};
use crate::tag::{BootId, BootNs, Name, Reading, RunId, Sample, TagId, Value, WallClock, WallMs};

/// A wall clock that knows one boot or none.
struct Clock(Option<i64>);

impl WallClock for Clock {
    fn boot_wall(&self, boot: BootId) -> Option<WallMs> {
        self.0.filter(|_| boot == RUN.boot).map(WallMs)
    }
}

const RUN: RunId = RunId { boot: BootId(0xfeed_beef_0000_0001), start_ms: 7000 };

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn schema(tags: &[(&str, &str)]) -> Schema {
    let tags = tags.iter().map(|(tag, unit)| SchemaTag { name: name(tag), unit: Some(Arc::from(*unit)) });
    Schema::new(name("rs485-1"), name("meter1"), name("fast"), tags.collect()).unwrap()
}

fn reading(tag: u32, at_us: u64, sample: Sample) -> Reading {
    Reading { tag: TagId(tag), at: BootNs(at_us * 1000), sample }
}

fn good(value: f64) -> Sample {
    Sample::Good(Value::Float(value))
}

/// One bus, one device, groups of so many tags; every tag number divisible by 10 is an alarm (but not 0).
fn field(groups: &[usize]) -> poll::Settings {
    let mut field = poll::Settings {
        buses: vec![poll::Bus {
            name: name("line"),
            medium: poll::Medium::Sim,
            probe_share: 0.05,
            fences: true,
            pause: Duration::ZERO,
        }],
        devices: vec![device()],
        ..poll::Settings::default()
    };
    for (index, len) in groups.iter().enumerate() {
        let start = field.tags.len();
        field.groups.push(poll::Group {
            device: 0,
            name: name(&format!("g{index}")),
            every: Duration::from_secs(1),
            tags_start: start,
            tags_len: *len,
        });
        field.tags.extend((start..start + len).map(|number| tag(number, index)));
    }
    field
}

fn device() -> poll::Device {
    poll::Device {
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
    }
}

fn tag(number: usize, group: usize) -> poll::Tag {
    poll::Tag {
        name: name(&format!("t{number}")),
        group,
        point: poll::Point { table: Table::Holding, address: 0, kind: poll::Kind::U16 { swap: false } },
        unit: Some("V".into()),
        scale: None,
        range: None,
        filter: Filter { deadband: Deadband::Off, silence_max: None, stale_after: 0 },
        writable: false,
        alarm: number > 0 && number.is_multiple_of(10),
    }
}

fn encoder(shape: Shape, topic: &str, groups: &[usize]) -> Encoder {
    let settings = Settings { shape, topic: topic.into(), units: false };
    Encoder::new(&name("plant7"), &settings, &field(groups)).unwrap()
}

//! Readings through process, payload and JSON on one core, beside the goal of 100,000 values per second that the whole way
//! from Modbus TCP to MQTT has.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_core::payload::settings::{Settings, Shape};
use gateway_core::payload::{Draft, Encoder, Record, Schemas as _, render};
use gateway_core::poll::request::{Table, UnitId};
use gateway_core::poll::settings::{self as poll, Kind, Order4};
use gateway_core::process::Processor;
use gateway_core::process::settings::{Deadband, Filter};
use gateway_core::tag::{
    BootId, BootNs, Cycle, GroupId, Name, Reading, RunId, Sample, TagId, Value, WallClock, WallMs,
};
use gateway_core::uplink::row::Seq;
use tidegate_tests::bench::{Goal, Measured};

/// Tags of the group: one full Modbus request of 16-bit registers.
const TAGS: u32 = 125;
/// Values per second of the whole way (issue 2).
const GOAL_PER_S: f64 = 100_000.0;

struct Clock;

impl WallClock for Clock {
    fn boot_wall(&self, _: BootId) -> Option<WallMs> {
        Some(WallMs(1_795_222_920_000))
    }
}

fn main() -> Result<()> {
    let field = field()?;
    let all = Filter { deadband: Deadband::Off, silence_max: None, stale_after: 3 };
    let quiet = Filter { deadband: Deadband::Absolute(10.0), silence_max: None, stale_after: 3 };
    let goal = Goal::AtLeast(10.0);
    let report = |what: &str, value: f64, goal: Goal| {
        Measured { what, value, reference: GOAL_PER_S, unit: "values/s", goal }.print();
    };
    report("process and record, all reported", pipeline(&field, all, false)?, goal);
    report("process, record and JSON, all reported", pipeline(&field, all, true)?, goal);
    report("process with a deadband, none reported", pipeline(&field, quiet, false)?, goal);
    let (record, json) = sizes(&field)?;
    Measured {
        what: "record beside its JSON",
        value: record,
        reference: json,
        unit: "B/reading",
        goal: Goal::AtMost(0.5),
    }
    .print();
    Ok(())
}

/// Values per second through the rooms.
fn pipeline(field: &poll::Settings, filter: Filter, json: bool) -> Result<f64> {
    let mut field = field.clone();
    for tag in &mut field.tags {
        tag.filter = filter;
    }
    let mut processor = Processor::new(&field, BootNs(0));
    let mut encoder = encoder(&field)?;
    let schema = encoder.schemas().next().context("there is one group")?.clone();
    let start = Instant::now();
    let (mut values, mut round) = (0u32, 0u32);
    while start.elapsed() < Duration::from_secs(2) {
        for _ in 0..100 {
            round += 1;
            let report = processor.cycle(BootNs(u64::from(round) * 1_000_000), cycle(round));
            for draft in encoder.encode(report.group, &report.readings) {
                if json {
                    let record = Record::decode(draft.body.bytes())?;
                    black_box(render(&record, &schema, (RUN, Seq(1)), &Clock, false)?);
                }
                black_box(draft);
            }
            values += TAGS;
        }
    }
    let reported = processor.counters().reported_total;
    let expected = if filter.deadband == Deadband::Off { u64::from(values) } else { u64::from(TAGS) };
    ensure!(reported == expected, "reported {reported} of {values} values, expected {expected}");
    Ok(f64::from(values) / start.elapsed().as_secs_f64())
}

const RUN: RunId = RunId { boot: BootId(1), start_ms: 0 };

/// Bytes per reading of a record and of its JSON.
fn sizes(field: &poll::Settings) -> Result<(f64, f64)> {
    let mut encoder = encoder(field)?;
    let mut processor = Processor::new(field, BootNs(0));
    let report = processor.cycle(BootNs(1_000_000), cycle(1));
    let drafts: Vec<Draft> = encoder.encode(report.group, &report.readings);
    let draft = drafts.first().context("one message")?;
    let record = Record::decode(draft.body.bytes())?;
    let schema = encoder.schema(record.head.schema).context("the schema is known")?;
    let json = render(&record, &schema, (RUN, Seq(1)), &Clock, false)?;
    let per = |bytes: usize| u32::try_from(bytes).map(|bytes| f64::from(bytes) / f64::from(draft.readings));
    Ok((per(draft.body.bytes().len())?, per(json.len())?))
}

fn encoder(field: &poll::Settings) -> Result<Encoder> {
    let settings = Settings { shape: Shape::Group, topic: "{gateway}/{device}/{group}".into(), units: false };
    Ok(Encoder::new(&Name::new("plant7")?, &settings, field)?)
}

/// Half registers with a scale of a tenth, a quarter plain counters, a quarter f32.
fn cycle(round: u32) -> Cycle {
    let at = BootNs(u64::from(round) * 1_000_000);
    let value = |tag: u32| match tag % 4 {
        0 | 1 => Value::UInt(u64::from(2300 + (round + tag) % 7)),
        2 => Value::UInt(u64::from(round % 8)),
        _ => Value::Float(f64::from(50.0f32 + 0.01 * f32::from(u8::try_from(round % 16).unwrap_or(0)))),
    };
    let readings = (0..TAGS).map(|tag| Reading { tag: TagId(tag), at, sample: Sample::Good(value(tag)) });
    Cycle { group: GroupId(0), due: at, readings: readings.collect() }
}

fn field() -> Result<poll::Settings> {
    let name = |text: &str| Name::new(text);
    let tag = |number: u32| -> Result<poll::Tag> {
        let kind = if number % 4 == 3 { Kind::F32(Order4::Abcd) } else { Kind::U16 { swap: false } };
        Ok(poll::Tag {
            name: name(&format!("voltage_l{number}"))?,
            group: 0,
            point: poll::Point { table: Table::Holding, address: 0, kind },
            unit: Some("V".into()),
            scale: (number % 4 < 2).then_some(poll::Scale { factor: 0.1, offset: 0.0 }),
            range: None,
            filter: Filter { deadband: Deadband::Off, silence_max: None, stale_after: 3 },
            writable: false,
            alarm: false,
        })
    };
    let tags: Vec<poll::Tag> = (0..TAGS).map(tag).collect::<Result<_>>()?;
    Ok(poll::Settings {
        buses: vec![poll::Bus {
            name: name("line")?,
            medium: poll::Medium::Sim,
            probe_share: 0.05,
            fences: true,
            pause: Duration::ZERO,
        }],
        devices: vec![poll::Device {
            name: name("meter1")?,
            bus: 0,
            unit: UnitId::tcp(1),
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
        }],
        groups: vec![poll::Group {
            device: 0,
            name: name("1")?,
            every: Duration::from_millis(1),
            tags_start: 0,
            tags_len: tags.len(),
        }],
        tags,
    })
}

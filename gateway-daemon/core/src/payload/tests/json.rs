use std::sync::Arc;

use proptest::prelude::*;

use super::records::any_record;
use super::{Clock, RUN, good, schema};
use crate::payload::settings::Shape;
use crate::payload::{
    Entry, Head, Record, RenderError, Schema, SchemaId, SchemaTag, Schemas, iso8601, render, render_row,
};
use crate::tag::{BootNs, Reason, Sample, Value, WallMs};
use crate::uplink::row::{Body, Priority, Qos, Row, Seq};

/// 2026-11-21T01:02:00.000Z
const BOOT_WALL: i64 = 1_795_222_920_000;

fn record(shape: Shape, samples: Vec<(u64, Sample)>) -> Record {
    let schema = test_schema().id();
    let entries = (0..).zip(samples).map(|(index, (offset_us, sample))| Entry { index, offset_us, sample });
    Record {
        head: Head { schema, shape, thinned: false, base: BootNs(3_456_789_000) },
        entries: entries.collect(),
    }
}

fn test_schema() -> Schema {
    schema(&[("voltage", "V"), ("energy", "Wh"), ("relay", "")])
}

fn json(record: &Record, clock: &Clock, units: bool) -> String {
    String::from_utf8(render(record, &test_schema(), (RUN, Seq(42)), clock, units).unwrap()).unwrap()
}

#[test]
fn a_group_is_one_flat_object() {
    let record = record(
        Shape::Group,
        vec![
            (0, good(230.1)),
            (900, Sample::Good(Value::UInt(u64::MAX))),
            (900, Sample::Good(Value::Bool(true))),
        ],
    );
    let expected = concat!(
        r#"{"v":1,"boot":"feedbeef00000001-7000","seq":42,"t":"2026-11-21T01:02:03.456Z","#,
        r#""values":{"voltage":230.1,"energy":18446744073709551615,"relay":true}}"#
    );
    assert_eq!(json(&record, &Clock(Some(BOOT_WALL)), false), expected);
}

#[test]
fn bad_quality_units_and_samples_apart_are_told_only_where_there_are_any() {
    let record = record(
        Shape::Group,
        vec![
            (0, Sample::Bad(Reason::Timeout)),
            (2500, Sample::Good(Value::Int(-1))),
            (2500, Sample::Bad(Reason::Exception(2))),
        ],
    );
    let expected = concat!(
        r#"{"v":1,"boot":"feedbeef00000001-7000","seq":42,"t_boot_ms":3456,"span_ms":2,"#,
        r#""values":{"energy":-1},"bad":{"voltage":"timeout","relay":"exception-2"},"units":{"voltage":"V","energy":"Wh"}}"#
    );
    assert_eq!(json(&record, &Clock(None), true), expected);
}

#[test]
fn a_single_tag_is_named_inside_its_message() {
    let good = record(Shape::Tag, vec![(0, good(230.0))]);
    let expected = concat!(
        r#"{"v":1,"boot":"feedbeef00000001-7000","seq":42,"t_boot_ms":3456,"#,
        r#""tag":"voltage","value":230.0,"unit":"V"}"#
    );
    assert_eq!(json(&good, &Clock(None), true), expected);
    let bad = record(Shape::Tag, vec![(0, Sample::Bad(Reason::BusDown))]);
    let expected = r#"{"v":1,"boot":"feedbeef00000001-7000","seq":42,"t_boot_ms":3456,"tag":"voltage","bad":"bus-down"}"#;
    assert_eq!(json(&bad, &Clock(None), false), expected);
}

#[test]
fn a_thinned_record_says_so_and_gives_each_tag_its_time() {
    let mut record = record(Shape::Group, vec![(0, good(1.5)), (61_000_000, good(2.5))]);
    record.head.thinned = true;
    let expected = concat!(
        r#"{"v":1,"boot":"feedbeef00000001-7000","seq":42,"t_boot_ms":3456,"span_ms":61000,"#,
        r#""values":{"voltage":1.5,"energy":2.5},"thinned":true,"offset_ms":{"energy":61000}}"#
    );
    assert_eq!(json(&record, &Clock(None), false), expected);
}

#[test]
fn text_from_a_device_cannot_break_out_of_its_string() {
    let hostile: Arc<str> = "a\"},\\\u{0}\n\u{7f}é".into();
    let record = record(Shape::Group, vec![(0, Sample::Good(Value::Text(Arc::clone(&hostile))))]);
    let parsed: serde_json::Value = serde_json::from_str(&json(&record, &Clock(None), false)).unwrap();
    assert_eq!(parsed["values"]["voltage"], *hostile);
}

#[test]
fn a_wall_time_outside_the_format_is_treated_as_unknown() {
    let record = record(Shape::Tag, vec![(0, good(1.0))]);
    assert!(json(&record, &Clock(Some(i64::MAX)), false).contains(r#""t_boot_ms":3456"#));
}

#[test]
fn wall_times_are_printed_as_the_calendar_has_them() {
    let check = |ms: i64, expected: &str| assert_eq!(iso8601(WallMs(ms)).as_deref(), Some(expected));
    check(0, "1970-01-01T00:00:00.000Z");
    check(-1, "1969-12-31T23:59:59.999Z");
    check(951_782_400_000, "2000-02-29T00:00:00.000Z");
    check(951_868_800_000, "2000-03-01T00:00:00.000Z");
    check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
    check(-62_167_219_200_000, "0000-01-01T00:00:00.000Z");
    for outside in [253_402_300_800_000, -62_167_219_200_001, i64::MIN, i64::MAX] {
        assert_eq!(iso8601(WallMs(outside)), None);
    }
}

struct One(Arc<Schema>);

impl Schemas for One {
    fn schema(&self, id: SchemaId) -> Option<Arc<Schema>> {
        (self.0.id() == id).then(|| Arc::clone(&self.0))
    }
}

fn row(body: Body) -> Row {
    Row {
        seq: Seq(9),
        priority: Priority::Normal,
        topic: "t".into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        body,
        readings: 1,
        run: RUN,
        at: BootNs(0),
        expiry_s: None,
    }
}

#[test]
fn a_row_of_raw_bytes_is_sent_as_it_is() {
    let schemas = One(Arc::new(test_schema()));
    let bytes: Arc<[u8]> = Arc::from(&b"\xff\x00"[..]);
    assert_eq!(render_row(&row(Body::Raw(Arc::clone(&bytes))), &schemas, &Clock(None), true).unwrap(), bytes);
}

#[test]
fn a_row_of_a_record_is_sent_as_json_with_its_own_number() {
    let schemas = One(Arc::new(test_schema()));
    let body = Body::Record(record(Shape::Tag, vec![(0, good(1.0))]).encode().into());
    let bytes = render_row(&row(body), &schemas, &Clock(None), false).unwrap();
    assert!(std::str::from_utf8(&bytes).unwrap().contains(r#""seq":9,"#));
}

#[test]
fn a_row_that_cannot_be_sent_says_why() {
    let schemas = One(Arc::new(test_schema()));
    let mut foreign = record(Shape::Group, vec![(0, good(1.0))]);
    foreign.head.schema = SchemaId(7);
    let check = |bytes: Vec<u8>, expected: RenderError| {
        let error = render_row(&row(Body::Record(bytes.into())), &schemas, &Clock(None), false).unwrap_err();
        assert_eq!(error, expected);
    };
    check(foreign.encode(), RenderError::UnknownSchema(SchemaId(7)));
    check(vec![1], RenderError::Damaged(crate::payload::DecodeError::Short));
    let mut outside = record(Shape::Group, vec![(0, good(1.0))]);
    outside.entries[0].index = 3;
    check(outside.encode(), RenderError::NoSuchTag { index: 3, tags: 3 });
    let other = render(&foreign, &test_schema(), (RUN, Seq(1)), &Clock(None), false).unwrap_err();
    assert_eq!(other, RenderError::OtherSchema { record: SchemaId(7), schema: test_schema().id() });
}

proptest! {
    #[test]
    fn every_record_becomes_json_that_reads_back_exactly(mut record in any_record(), wall in any::<Option<i64>>(), units: bool) {
        for (index, entry) in (0u16..).zip(&mut record.entries) {
            entry.index = index;
        }
        let tags = (0..record.entries.len()).map(|n| SchemaTag { name: super::name(&format!("t{n}")), unit: Some("\"".into()) });
        let schema = Schema::new(super::name("b"), super::name("d"), super::name("g"), tags.collect()).unwrap();
        record.head.schema = schema.id();
        record.head.shape = Shape::Group;
        let bytes = render(&record, &schema, (RUN, Seq(1)), &Clock(wall), units).unwrap();
        let parsed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        for (entry, tag) in record.entries.iter().zip(schema.tags()) {
            let value = &parsed["values"][tag.name.as_str()];
            match &entry.sample {
                Sample::Good(Value::Bool(expected)) => prop_assert_eq!(value.as_bool(), Some(*expected)),
                Sample::Good(Value::Int(expected)) => prop_assert_eq!(value.as_i64(), Some(*expected)),
                Sample::Good(Value::UInt(expected)) => prop_assert_eq!(value.as_u64(), Some(*expected)),
                // serde_json's default reader rounds some floats to a neighbour; the standard library's does not.
                Sample::Good(Value::Float(expected)) => {
                    let text = value.as_number().unwrap().to_string();
                    prop_assert!((value.as_f64().unwrap() - expected).abs() <= expected.abs() * 1e-15, "{text}");
                }
                Sample::Good(Value::Text(expected)) => prop_assert_eq!(value.as_str(), Some(&**expected)),
                Sample::Bad(reason) => {
                    prop_assert!(value.is_null());
                    prop_assert_eq!(parsed["bad"][tag.name.as_str()].as_str().unwrap(), reason.to_string());
                }
            }
        }
    }

    #[test]
    fn floats_read_back_as_the_same_bits(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
        let text = json(&record(Shape::Tag, vec![(0, good(value))]), &Clock(None), false);
        let digits = text.split(r#""value":"#).nth(1).unwrap().trim_end_matches('}');
        prop_assert_eq!(digits.parse::<f64>().unwrap().to_bits(), value.to_bits());
    }
}

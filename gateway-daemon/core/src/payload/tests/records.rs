use proptest::prelude::*;

use super::{good, name, schema};
use crate::payload::settings::Shape;
use crate::payload::{DecodeError, Entry, Head, RECORD_READINGS_MAX, Record, Schema, SchemaId, SchemaTag};
use crate::tag::{BootNs, Reason, Sample, Value};

fn any_sample() -> impl Strategy<Value = Sample> {
    let float = any::<f64>().prop_filter("finite", |value| value.is_finite());
    prop_oneof![
        any::<bool>().prop_map(|value| Sample::Good(Value::Bool(value))),
        any::<i64>().prop_map(|value| Sample::Good(Value::Int(value))),
        any::<u64>().prop_map(|value| Sample::Good(Value::UInt(value))),
        float.prop_map(good),
        any::<i16>().prop_map(|value| good(f64::from(value))),
        ".{0,12}".prop_map(|text| Sample::Good(Value::Text(text.into()))),
        any::<u8>().prop_map(|code| Sample::Bad(Reason::Exception(code))),
        Just(Sample::Bad(Reason::Timeout)),
        Just(Sample::Bad(Reason::Stale)),
        (9..=u8::MAX).prop_map(|code| Sample::Bad(Reason::Other(code))),
    ]
}

pub(super) fn any_record() -> impl Strategy<Value = Record> {
    let entries = prop::collection::btree_map(any::<u16>(), (0u64..5_000_000, any_sample()), 1..20);
    (any::<u64>(), any::<u64>(), any::<bool>(), any::<bool>(), entries).prop_map(
        |(schema, base, tag, thinned, entries)| Record {
            head: Head {
                schema: SchemaId(schema),
                shape: if tag { Shape::Tag } else { Shape::Group },
                thinned,
                base: BootNs(base),
            },
            entries: entries
                .into_iter()
                .map(|(index, (offset_us, sample))| Entry { index, offset_us, sample })
                .collect(),
        },
    )
}

fn record(entries: Vec<Entry>) -> Record {
    let head = Head { schema: SchemaId(0x1122), shape: Shape::Group, thinned: false, base: BootNs(5) };
    Record { head, entries }
}

fn entry(index: u16, offset_us: u64, sample: Sample) -> Entry {
    Entry { index, offset_us, sample }
}

proptest! {
    #[test]
    fn every_record_reads_back_as_it_was_written(record in any_record()) {
        prop_assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    }

    #[test]
    fn a_record_cut_anywhere_is_an_error(record in any_record(), cut in any::<prop::sample::Index>()) {
        let bytes = record.encode();
        prop_assert!(Record::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn hostile_bytes_are_an_error_or_the_one_encoding(
        record in any_record(), at in any::<prop::sample::Index>(), byte: u8, tail in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut bytes = record.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.extend(tail);
        crate::fuzzing::fuzz_record(&bytes);
    }

    #[test]
    fn bytes_from_nowhere_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        crate::fuzzing::fuzz_record(&bytes);
    }
}

#[test]
fn the_bytes_are_those_drawn_in_the_documentation() {
    let bytes = record(vec![
        entry(0, 0, Sample::Good(Value::Bool(true))),
        entry(1, 0, Sample::Good(Value::Int(-2))),
        entry(4, 300, good(230.5)),
        entry(5, 300, Sample::Bad(Reason::Exception(2))),
    ])
    .encode();
    let expected: Vec<u8> = [
        &[1, 0, 0x22, 0x11, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 4][..],
        &[0x31],
        &[0x32, 3],
        &[0x04, 2, 0xac, 0x02],
        &230.5f32.to_le_bytes(),
        &[0x37, 3, 2],
    ]
    .concat();
    assert_eq!(bytes, expected);
}

#[test]
fn ten_small_integers_take_two_bytes_each() {
    let entries = (0..10).map(|index| entry(index, 0, Sample::Good(Value::UInt(100)))).collect();
    assert_eq!(record(entries).encode().len(), 19 + 20);
}

#[test]
fn each_way_to_break_a_record_has_its_error() {
    let whole = record(vec![entry(0, 0, Sample::Good(Value::UInt(7)))]).encode();
    let check = |at: usize, bytes: &[u8], expected: DecodeError| {
        let mut broken = whole[..at].to_vec();
        broken.extend_from_slice(bytes);
        assert_eq!(Record::decode(&broken).unwrap_err(), expected, "{bytes:x?} at {at}");
    };
    check(0, &[], DecodeError::Short);
    check(0, &[2], DecodeError::Version(2));
    check(1, &[4], DecodeError::Flags(4));
    check(18, &[0], DecodeError::Count);
    check(18, &[2, 0x33, 7], DecodeError::Short);
    check(18, &[0xff, 0xff, 0xff, 0xff, 0x0f], DecodeError::Count);
    check(18, &[0x81, 0x00], DecodeError::Varint);
    check(18, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], DecodeError::Varint);
    check(18, &[1, 0x73, 7], DecodeError::Flags(0x73));
    check(18, &[1, 0x38, 7], DecodeError::Kind(8));
    check(18, &[1, 0x23, 0, 7], DecodeError::Index);
    check(18, &[1, 0x23, 0x80, 0x80, 0x04, 7], DecodeError::Index);
    check(18, &[1, 0x13, 0, 7], DecodeError::Offset);
    check(18, &[1, 0x34, 0, 0, 0xc0, 0x7f], DecodeError::Float);
    check(18, &[1, 0x35, 0, 0, 0, 0, 0, 0, 0, 0], DecodeError::Float);
    check(18, &[1, 0x36, 2, 0xff, 0xff], DecodeError::Text);
    check(18, &[1, 0x33, 7, 0], DecodeError::Trailing(1));
}

/// After a roll-back rows of the version that was tried lie in the database, with reasons that came with it.
#[test]
fn a_reason_that_a_newer_version_has_stored_is_kept_and_shown_by_its_code() {
    for code in 9..=u8::MAX {
        let mut bytes = record(vec![entry(0, 0, Sample::Bad(Reason::Stale))]).encode();
        assert_eq!(bytes.pop(), Some(8));
        bytes.push(code);
        let read = Record::decode(&bytes).unwrap();
        assert_eq!(read.entries[0].sample, Sample::Bad(Reason::Other(code)));
        assert_eq!(read.encode(), bytes);
        assert_eq!(Reason::Other(code).to_string(), format!("other-{code}"));
    }
}

#[test]
fn a_count_above_the_limit_is_refused_even_if_the_bytes_are_there() {
    let entries =
        |count: u16| (0..count).map(|index| entry(index, 0, Sample::Good(Value::Bool(false)))).collect();
    let max = u16::try_from(RECORD_READINGS_MAX).unwrap();
    assert!(Record::decode(&record(entries(max)).encode()).is_ok());
    assert_eq!(Record::decode(&record(entries(max + 1)).encode()).unwrap_err(), DecodeError::Count);
}

#[test]
fn a_float_that_is_not_finite_never_becomes_a_value() {
    let bytes = record(vec![entry(0, 0, good(f64::NAN)), entry(1, 0, good(f64::INFINITY))]).encode();
    let samples: Vec<Sample> =
        Record::decode(&bytes).unwrap().entries.into_iter().map(|entry| entry.sample).collect();
    assert_eq!(samples, [Sample::Bad(Reason::NotANumber), Sample::Bad(Reason::NotANumber)]);
}

#[test]
fn a_schema_reads_back_with_the_same_id() {
    let written = schema(&[("voltage", "V"), ("temperature", "°C"), ("relay", "")]);
    let read = Schema::decode(&written.encode()).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.tags()[2].unit, None);
    assert_eq!(read.id(), written.id());
}

/// The number comes from an FNV-1a written apart from this one (a few lines of Python over the drawn bytes).
#[test]
fn a_schema_id_is_the_same_in_every_release() {
    assert_eq!(schema(&[("voltage", "V")]).id().to_string(), "d43796c2ff0306f0");
}

#[test]
fn any_change_of_names_units_or_order_changes_the_id() {
    let base = schema(&[("a", "V"), ("b", "A")]).id();
    assert_ne!(schema(&[("b", "A"), ("a", "V")]).id(), base);
    assert_ne!(schema(&[("a", "kV"), ("b", "A")]).id(), base);
    assert_ne!(schema(&[("a", "V")]).id(), base);
    let tags = vec![SchemaTag { name: name("a"), unit: Some("V".into()) }];
    assert_ne!(Schema::new(name("rs485-1"), name("meter1"), name("slow"), tags).unwrap().id(), base);
}

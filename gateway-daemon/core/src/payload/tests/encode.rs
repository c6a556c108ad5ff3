use std::sync::Arc;

use super::{encoder, field, good, name, reading};
use crate::payload::settings::{Settings, Shape};
use crate::payload::{Encoder, PayloadError, Record, Schemas, Template, TopicError};
use crate::tag::{BootNs, GroupId, Reading};
use crate::uplink::row::Priority;

fn readings(tags: std::ops::Range<u32>) -> Vec<Reading> {
    tags.map(|tag| reading(tag, 1000 + u64::from(tag), good(1.5))).collect()
}

#[test]
fn a_cycle_becomes_one_message_of_its_group() {
    let mut encoder = encoder(Shape::Group, "{gateway}/{bus}/{device}/{group}", &[3, 2]);
    let drafts = encoder.encode(GroupId(1), &readings(3..5));
    assert_eq!(drafts.len(), 1);
    assert_eq!(&*drafts[0].topic, "plant7/line/meter/g1");
    assert_eq!(drafts[0].readings, 2);
    assert_eq!(drafts[0].at, BootNs(1_003_000));
    let record = Record::decode(drafts[0].body.bytes()).unwrap();
    let places: Vec<_> = record.entries.iter().map(|entry| (entry.index, entry.offset_us)).collect();
    assert_eq!(places, [(0, 0), (1, 1)]);
    assert_eq!(encoder.schema(record.head.schema).unwrap().group().as_str(), "g1");
}

#[test]
fn no_readings_make_no_message() {
    assert!(encoder(Shape::Group, "t", &[3]).encode(GroupId(0), &[]).is_empty());
}

#[test]
fn with_one_message_per_tag_each_has_its_own_topic_and_time() {
    let mut encoder = encoder(Shape::Tag, "{device}/{tag}", &[3]);
    let drafts = encoder.encode(GroupId(0), &readings(1..3));
    let seen: Vec<_> = drafts.iter().map(|draft| (&*draft.topic, draft.readings, draft.at)).collect();
    assert_eq!(seen, [("meter/t1", 1, BootNs(1_001_000)), ("meter/t2", 1, BootNs(1_002_000))]);
}

#[test]
fn one_alarm_gives_its_message_the_high_priority() {
    let mut encoder = encoder(Shape::Group, "t", &[12]);
    assert_eq!(encoder.encode(GroupId(0), &readings(0..10))[0].priority, Priority::Normal);
    assert_eq!(encoder.encode(GroupId(0), &readings(0..11))[0].priority, Priority::High);
}

#[test]
fn a_huge_group_is_split_at_fixed_tags() {
    let mut encoder = encoder(Shape::Group, "t", &[1200]);
    let lens =
        |drafts: Vec<crate::payload::Draft>| drafts.iter().map(|draft| draft.readings).collect::<Vec<_>>();
    assert_eq!(lens(encoder.encode(GroupId(0), &readings(0..1200))), [512, 512, 176]);
    assert_eq!(lens(encoder.encode(GroupId(0), &readings(500..600))), [12, 88]);
}

#[test]
fn readings_of_other_groups_and_repeated_ones_are_counted_and_never_mixed_in() {
    let mut encoder = encoder(Shape::Group, "t", &[2, 2]);
    assert!(encoder.encode(GroupId(9), &readings(0..2)).is_empty());
    assert_eq!(encoder.encode(GroupId(0), &readings(1..4))[0].readings, 1);
    assert_eq!(encoder.counters().foreign_readings_total, 4);
    let twice: Vec<_> = readings(0..1).into_iter().chain(readings(0..1)).collect();
    let drafts = encoder.encode(GroupId(0), &twice);
    assert_eq!(drafts.iter().map(|draft| draft.readings).collect::<Vec<_>>(), [1, 1]);
    for draft in drafts {
        Record::decode(draft.body.bytes()).unwrap();
    }
}

#[test]
fn topics_are_those_of_the_configuration_in_order() {
    let topics = |encoder: Encoder| encoder.topics().map(|topic| topic.to_string()).collect::<Vec<_>>();
    assert_eq!(topics(encoder(Shape::Group, "{group}", &[1, 1])), ["g0", "g1"]);
    assert_eq!(topics(encoder(Shape::Tag, "{group}/{tag}", &[1, 1])), ["g0/t0", "g1/t1"]);
}

#[test]
fn each_wrong_template_has_its_error() {
    let check =
        |text: &str, expected: TopicError| assert_eq!(Template::parse(text).unwrap_err(), expected, "{text}");
    check("", TopicError::Empty);
    check("a/+/b", TopicError::Character('+'));
    check("a/#", TopicError::Character('#'));
    check("a\0", TopicError::Character('\0'));
    check("a/{device", TopicError::Braces);
    check("a/device}", TopicError::Braces);
    check("a/{{device}}", TopicError::Unknown("{device".into()));
    check("{Device}", TopicError::Unknown("Device".into()));
    check(&"x".repeat(65_536), TopicError::TooLong(65_536));
}

#[test]
fn a_tag_in_the_topic_needs_messages_of_one_tag() {
    let settings = Settings { shape: Shape::Group, topic: "{tag}".into(), units: false };
    let error = Encoder::new(&name("gw"), &settings, &field(&[1])).unwrap_err();
    assert_eq!(error, PayloadError::Topic(TopicError::TagInGroup));
}

#[test]
fn a_topic_too_long_once_filled_in_is_refused() {
    let settings = Settings { shape: Shape::Group, topic: "{gateway}".repeat(7000), units: false };
    let error = Encoder::new(&name("plant7-line2"), &settings, &field(&[1])).unwrap_err();
    assert_eq!(error, PayloadError::Topic(TopicError::TooLong(84_000)));
}

#[test]
fn settings_that_lead_nowhere_are_an_error() {
    let settings = Settings { shape: Shape::Tag, topic: "t".into(), units: false };
    let mut broken = field(&[2]);
    broken.tags.pop();
    let error = Encoder::new(&name("gw"), &settings, &Arc::new(broken)).unwrap_err();
    assert_eq!(error, PayloadError::NoSuchGroup(GroupId(0)));
}

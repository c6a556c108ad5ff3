use super::{ALWAYS, cycle, filtered, int, name, processor, s, u16_tag};
use crate::poll::settings as poll;
use crate::process::Processor;
use crate::process::settings::Deadband;
use crate::tag::{BootNs, Sample, TagId, Value};

#[test]
fn what_is_reported_keeps_the_order_of_the_group() {
    let mut processor =
        processor(vec![filtered(Deadband::OnChange), u16_tag(), filtered(Deadband::OnChange)]);
    assert_eq!(
        cycle(&mut processor, s(0.0), &[int(1), int(2), int(3)]),
        [(0, int(1)), (1, int(2)), (2, int(3))]
    );
    assert_eq!(cycle(&mut processor, s(1.0), &[int(1), int(2), int(4)]), [(1, int(2)), (2, int(4))]);
}

#[test]
fn the_latest_value_is_known_even_if_it_was_not_reported() {
    let mut processor = processor(vec![filtered(Deadband::Absolute(100.0))]);
    cycle(&mut processor, s(0.0), &[int(1)]);
    cycle(&mut processor, s(1.0), &[int(2)]);
    let latest = processor.latest(TagId(0)).unwrap();
    assert_eq!((&latest.sample, latest.at), (&int(2), s(1.0)));
    assert_eq!(processor.latest(TagId(7)), None);
}

#[test]
fn readings_in_are_reported_suppressed_or_foreign() {
    let mut processor = processor(vec![filtered(Deadband::OnChange); 2]);
    for at in 0..5 {
        cycle(&mut processor, s(f64::from(at)), &[int(1), int(i64::from(at)), int(3)]);
    }
    let counters = processor.counters();
    assert_eq!((counters.in_total, counters.reported_total), (15, 6));
    assert_eq!((counters.suppressed_total, counters.foreign_total), (4, 5));
}

#[test]
fn settings_that_lead_nowhere_do_not_lose_readings() {
    let tag = poll::Tag { name: name("lost"), group: 9, filter: ALWAYS, ..u16_tag() };
    let mut processor =
        Processor::new(&poll::Settings { tags: vec![tag], ..poll::Settings::default() }, BootNs(0));
    assert_eq!(cycle(&mut processor, s(0.0), &[int(1)]), [(0, int(1))]);
}

#[test]
fn a_cycle_is_filtered_in_the_memory_that_it_came_in() {
    let mut processor = processor(vec![u16_tag(); 8]);
    let readings = (0..8).map(|tag| crate::tag::Reading { tag: TagId(tag), at: s(0.0), sample: int(1) });
    let cycle =
        crate::tag::Cycle { group: crate::tag::GroupId(0), due: s(0.0), readings: readings.collect() };
    let memory = cycle.readings.as_ptr();
    assert_eq!(processor.cycle(s(0.0), cycle).readings.as_ptr(), memory);
}

#[test]
fn text_is_shared_and_not_copied() {
    let mut processor = processor(vec![u16_tag()]);
    let text: std::sync::Arc<str> = "serial".into();
    let reported = cycle(&mut processor, s(0.0), &[Sample::Good(Value::Text(std::sync::Arc::clone(&text)))]);
    let Sample::Good(Value::Text(out)) = &reported[0].1 else { panic!("not a text") };
    assert!(std::sync::Arc::ptr_eq(&text, out));
}

use std::time::Duration;

use proptest::prelude::*;

use super::{ALWAYS, EVERY, cycle, int, processor, s, u16_tag};
use crate::poll::settings::Tag;
use crate::process::settings::{Deadband, Filter};
use crate::process::{Processor, Report};
use crate::tag::{BootNs, GroupId, Reading, Reason, Sample, TagId};

fn tag(silence_max_s: Option<u64>, stale_after: u16) -> Tag {
    let filter = Filter {
        deadband: Deadband::OnChange,
        silence_max: silence_max_s.map(Duration::from_secs),
        stale_after,
    };
    Tag { filter, ..u16_tag() }
}

fn reading(at: BootNs, sample: Sample) -> Reading {
    Reading { tag: TagId(0), at, sample }
}

/// Calls `timeout` when it is due, until `end`.
fn run_until(processor: &mut Processor, end: BootNs) -> Vec<Reading> {
    let mut readings = Vec::new();
    while let Some(at) = processor.poll_timeout().filter(|at| *at <= end) {
        readings.extend(processor.timeout(at).into_iter().flat_map(|report| report.readings));
        assert!(
            processor.poll_timeout().is_none_or(|next| next > at),
            "a deadline that stays is a busy loop"
        );
    }
    readings
}

#[test]
fn an_unchanged_value_is_reported_again_after_its_silence() {
    let mut processor = processor(vec![tag(Some(5), 0)]);
    let told: Vec<u32> =
        (0..=12).filter(|at| !cycle(&mut processor, s(f64::from(*at)), &[int(1)]).is_empty()).collect();
    assert_eq!(told, [0, 5, 10]);
}

#[test]
fn the_poll_nearest_to_the_silence_reports_even_if_it_is_a_little_early() {
    let mut processor = processor(vec![tag(Some(1), 0)]);
    for at in [0.01, 1.0, 2.02, 2.99] {
        assert_eq!(cycle(&mut processor, s(at), &[int(1)]).len(), 1, "at {at}");
    }
}

#[test]
fn without_a_silence_an_unchanged_value_is_reported_once() {
    let mut processor = processor(vec![tag(None, 0)]);
    let told =
        (0..10_000).filter(|at| !cycle(&mut processor, s(f64::from(*at)), &[int(1)]).is_empty()).count();
    assert_eq!(told, 1);
    assert_eq!(processor.poll_timeout(), None);
}

#[test]
fn a_value_whose_polls_stop_turns_stale_once() {
    let mut processor = processor(vec![tag(None, 3)]);
    cycle(&mut processor, s(10.0), &[int(1)]);
    let stale = reading(s(13.5), Sample::Bad(Reason::Stale));
    assert_eq!(run_until(&mut processor, s(1000.0)), std::slice::from_ref(&stale));
    assert_eq!(processor.latest(TagId(0)), Some(&stale));
    assert_eq!(processor.counters().stale_total, 1);
    assert_eq!(cycle(&mut processor, s(1001.0), &[int(1)]), [(0, int(1))], "good again is reported at once");
}

#[test]
fn a_value_that_was_not_reported_is_still_fresh() {
    let mut processor = processor(vec![tag(None, 2)]);
    for at in 0..20 {
        cycle(&mut processor, s(f64::from(at)), &[int(1)]);
        assert_eq!(processor.timeout(s(f64::from(at) + 0.9)), []);
    }
}

#[test]
fn a_bad_value_does_not_turn_stale() {
    let mut processor = processor(vec![tag(None, 2)]);
    cycle(&mut processor, s(0.0), &[Sample::Bad(Reason::BusDown)]);
    assert_eq!(run_until(&mut processor, s(100.0)), []);
}

#[test]
fn a_tag_that_was_never_polled_says_so() {
    let mut processor = processor(vec![tag(None, 2)]);
    assert_eq!(processor.latest(TagId(0)).unwrap().sample, Sample::Bad(Reason::NotPolled));
    assert_eq!(run_until(&mut processor, s(100.0)), [reading(s(2.5), Sample::Bad(Reason::NotPolled))]);
}

#[test]
fn a_stale_tag_keeps_saying_so_within_its_silence() {
    let mut processor = processor(vec![tag(Some(10), 2)]);
    cycle(&mut processor, s(0.0), &[int(1)]);
    let stale = |at| reading(s(at), Sample::Bad(Reason::Stale));
    assert_eq!(run_until(&mut processor, s(25.0)), [stale(2.5), stale(13.5), stale(24.5)]);
    assert_eq!((processor.counters().stale_total, processor.counters().repeated_total), (1, 2));
}

#[test]
fn a_repeated_value_keeps_the_moment_it_was_sampled() {
    let mut processor = processor(vec![tag(Some(10), 0)]);
    cycle(&mut processor, s(0.0), &[int(1)]);
    cycle(&mut processor, s(1.0), &[int(1)]);
    assert_eq!(run_until(&mut processor, s(11.0)), [reading(s(1.0), int(1))]);
}

#[test]
fn timeouts_of_one_group_come_in_one_report() {
    let mut processor = processor(vec![tag(None, 2), u16_tag(), tag(None, 2)]);
    let not_polled = |tag| Reading { tag: TagId(tag), at: s(2.5), sample: Sample::Bad(Reason::NotPolled) };
    let report = Report { group: GroupId(0), readings: vec![not_polled(0), not_polled(2)] };
    assert_eq!(processor.timeout(s(2.4)), []);
    assert_eq!(processor.timeout(s(2.5)), [report]);
}

#[test]
fn a_reading_from_the_future_counts_as_read_when_it_came() {
    let mut processor = processor(vec![Tag { filter: ALWAYS, ..u16_tag() }]);
    let cycle =
        crate::tag::Cycle { group: GroupId(0), due: s(1.0), readings: vec![reading(s(99.0), int(1))] };
    assert_eq!(processor.cycle(s(1.0), cycle).readings[0].at, s(1.0));
}

proptest! {
    /// Polls come with gaps; whoever listens hears of the tag at least every silence plus two intervals, and knows within
    /// three and a half intervals that a good value is old.
    #[test]
    fn nobody_waits_longer_than_promised(gaps in prop::collection::vec(prop_oneof![4 => Just(1u64), 1 => 1u64..40], 1..60)) {
        let mut processor = processor(vec![tag(Some(7), 3)]);
        let bound = Duration::from_secs(7) + 2 * EVERY;
        let (mut now, mut heard, mut polled) = (s(0.0), s(0.0), s(0.0));
        cycle(&mut processor, now, &[int(1)]);
        for gap in gaps {
            let next = now.plus(EVERY * u32::try_from(gap).unwrap());
            while let Some(at) = processor.poll_timeout().filter(|at| *at < next) {
                for reading in processor.timeout(at).into_iter().flat_map(|report| report.readings) {
                    prop_assert!(at.since(heard) <= bound);
                    heard = at;
                    let old = at.since(polled) >= EVERY * 7 / 2;
                    prop_assert_eq!(reading.sample, if old { Sample::Bad(Reason::Stale) } else { int(1) });
                }
            }
            (now, polled) = (next, next);
            if !cycle(&mut processor, now, &[int(1)]).is_empty() {
                prop_assert!(now.since(heard) <= bound);
                heard = now;
            }
            prop_assert!(now.since(heard) <= bound);
        }
    }
}

use proptest::prelude::*;

use super::{cycle, filtered, float, int, processor, reported, s};
use crate::process::settings::Deadband;
use crate::tag::{Reason, Sample, Value};

fn check(deadband: Deadband, samples: &[Sample], expected: &[usize]) {
    assert_eq!(reported(filtered(deadband), samples), expected, "{deadband:?} {samples:?}");
}

#[test]
fn with_the_deadband_off_every_reading_is_reported() {
    check(
        Deadband::Off,
        &[int(1), int(1), Sample::Bad(Reason::Timeout), Sample::Bad(Reason::Timeout)],
        &[0, 1, 2, 3],
    );
}

#[test]
fn on_change_reports_only_other_values_whatever_their_type() {
    check(
        Deadband::OnChange,
        &[int(1), int(1), int(2), Sample::Good(Value::UInt(2)), float(2.0), int(1)],
        &[0, 2, 5],
    );
    check(Deadband::OnChange, &[float(0.0), float(-0.0)], &[0]);
}

#[test]
fn bits_and_texts_are_reported_when_they_change_under_every_deadband() {
    let bit = |on| Sample::Good(Value::Bool(on));
    let text = |text: &str| Sample::Good(Value::Text(text.into()));
    for deadband in [Deadband::OnChange, Deadband::Absolute(100.0), Deadband::Percent(100.0)] {
        check(deadband, &[bit(true), bit(true), bit(false)], &[0, 2]);
        check(deadband, &[text("a"), text("a"), text("b")], &[0, 2]);
    }
}

#[test]
fn a_change_must_be_larger_than_an_absolute_deadband() {
    check(Deadband::Absolute(2.0), &[int(10), int(12), int(8), int(13), int(12)], &[0, 3]);
    check(Deadband::Absolute(0.5), &[float(1.0), float(1.5), float(1.75)], &[0, 2]);
}

#[test]
fn slow_drift_adds_up_against_the_last_reported_value() {
    let drift: Vec<Sample> = (0..10).map(int).collect();
    check(Deadband::Absolute(3.0), &drift, &[0, 4, 8]);
}

#[test]
fn large_counters_are_compared_exactly() {
    let counter = |low: u64| Sample::Good(Value::UInt((1 << 60) + low));
    check(Deadband::Absolute(10.0), &[counter(0), counter(10), counter(11)], &[0, 2]);
    check(Deadband::OnChange, &[counter(0), counter(1)], &[0, 1]);
}

#[test]
fn percent_is_of_the_last_reported_value() {
    check(Deadband::Percent(10.0), &[float(100.0), float(110.0), float(110.5), float(100.0)], &[0, 2]);
    check(Deadband::Percent(10.0), &[float(-100.0), float(-91.0), float(-89.0)], &[0, 2]);
}

#[test]
fn leaving_or_crossing_zero_is_always_reported_under_percent() {
    check(Deadband::Percent(200.0), &[float(1.0), float(-0.5), float(0.0), float(0.25)], &[0, 1, 2, 3]);
    check(Deadband::Percent(10.0), &[int(0), int(0), int(1)], &[0, 2]);
}

#[test]
fn every_change_of_quality_is_reported_at_once() {
    let bad = Sample::Bad;
    let samples = [
        int(5),
        bad(Reason::Timeout),
        bad(Reason::Timeout),
        bad(Reason::DeviceDown),
        bad(Reason::Exception(2)),
        bad(Reason::Exception(4)),
        int(5),
        int(5),
    ];
    check(Deadband::Absolute(1000.0), &samples, &[0, 1, 3, 4, 5, 6]);
}

#[test]
fn a_first_reading_that_is_bad_is_reported() {
    check(Deadband::OnChange, &[Sample::Bad(Reason::BusDown), Sample::Bad(Reason::BusDown)], &[0]);
}

proptest! {
    #[test]
    fn the_consumer_is_never_further_off_than_the_deadband(
        deadband in prop_oneof![
            (0.0f64..50.0).prop_map(Deadband::Absolute), (0.0f64..150.0).prop_map(Deadband::Percent), Just(Deadband::OnChange),
        ],
        values in prop::collection::vec(prop::option::weighted(0.9, -100i64..100), 1..80),
        integers: bool,
    ) {
        let mut processor = processor(vec![filtered(deadband)]);
        let mut view: Option<Sample> = None;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let number = |sample: &Sample| match sample {
            Sample::Good(Value::Int(value)) => Some(*value as f64),
            Sample::Good(Value::Float(value)) => Some(*value),
            _ => None,
        };
        for (at, value) in (0..).zip(values) {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let sample = match value {
                None => Sample::Bad(Reason::Timeout),
                Some(value) if integers => int(value),
                Some(value) => float(value as f64 / 8.0),
            };
            if let Some((_, reported)) = cycle(&mut processor, s(f64::from(at)), std::slice::from_ref(&sample)).pop() {
                prop_assert_eq!(&reported, &sample, "only what was read is reported");
                view = Some(reported);
            }
            let view = view.as_ref().expect("the first reading is reported");
            match (number(view), number(&sample)) {
                (Some(told), Some(read)) => {
                    let band = match deadband {
                        Deadband::Off | Deadband::OnChange => 0.0,
                        Deadband::Absolute(units) => units,
                        Deadband::Percent(percent) => told.abs() * (percent / 100.0),
                    };
                    prop_assert!((told - read).abs() <= band, "told {told}, read {read}");
                }
                _ => prop_assert_eq!(view, &sample, "quality differs"),
            }
        }
    }
}

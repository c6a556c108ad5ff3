use proptest::prelude::*;

use super::{cycle, processor, ranged, s, scaled, tag, u16_tag};
use crate::poll::settings::{Kind, Limit, Order4, Order8, Range, Tag};
use crate::process::{Scaler, widen_f32};
use crate::tag::{Reason, Sample, Value};

const U16: Kind = Kind::U16 { swap: false };
const U64: Kind = Kind::U64(Order8::Abcdefgh);
const I64: Kind = Kind::I64(Order8::Abcdefgh);
const F32: Kind = Kind::F32(Order4::Abcd);

fn check(tag: &Tag, raw: Value, expected: Value) {
    assert_eq!(Scaler::new(tag).apply(raw), Sample::Good(expected), "{:?}", tag.scale);
}

#[test]
fn without_a_scale_every_value_passes_untouched() {
    for value in [
        Value::UInt(u64::MAX),
        Value::Int(i64::MIN),
        Value::Float(0.1),
        Value::Bool(true),
        Value::Text("x".into()),
    ] {
        check(&tag(U64), value.clone(), value);
    }
}

#[test]
fn a_tenth_is_a_tenth() {
    check(&scaled(U16, 0.1, 0.0), Value::UInt(2301), Value::Float(230.1));
    check(&scaled(U16, 0.1, -40.0), Value::UInt(635), Value::Float(23.5));
    check(&scaled(U16, 0.001, 0.05), Value::UInt(7), Value::Float(0.057));
    check(&scaled(U16, 0.7, 0.0), Value::UInt(3), Value::Float(2.1));
    check(&scaled(U16, -0.01, 0.0), Value::Int(-12345), Value::Float(123.45));
    check(&scaled(F32, 0.1, 0.0), Value::Float(f64::from(23.5f32)), Value::Float(2.35));
}

#[test]
fn whole_factors_keep_integers_and_all_their_digits() {
    check(&scaled(U64, 1.0, 0.0), Value::UInt(u64::MAX), Value::UInt(u64::MAX));
    check(
        &scaled(U64, 10.0, 3.0),
        Value::UInt(1_000_000_000_000_000_001),
        Value::UInt(10_000_000_000_000_000_013),
    );
    check(&scaled(U16, 1.0, -40.0), Value::UInt(10), Value::Int(-30));
    check(&scaled(U16, -2.0, 0.0), Value::Int(-7), Value::Int(14));
}

#[test]
fn an_integer_beyond_64_bits_becomes_the_nearest_float() {
    check(&scaled(U64, 1000.0, 0.0), Value::UInt(u64::MAX), Value::Float(1.844_674_407_370_955_2e22));
}

#[test]
fn the_type_does_not_change_with_the_value() {
    check(&scaled(U16, 0.1, 0.0), Value::UInt(2300), Value::Float(230.0));
    check(&scaled(U16, 0.1, 0.0), Value::UInt(0), Value::Float(0.0));
}

#[test]
fn factors_that_no_person_writes_are_plain_float_arithmetic() {
    check(&scaled(U16, std::f64::consts::PI, 0.0), Value::UInt(3), Value::Float(3.0 * std::f64::consts::PI));
    check(&scaled(U16, 1e-30, 0.0), Value::UInt(3), Value::Float(3.0 * 1e-30));
}

#[test]
fn a_result_that_is_not_finite_is_out_of_range() {
    let scaler = Scaler::new(&scaled(Kind::F64(Order8::Abcdefgh), 1e10, 0.0));
    assert_eq!(scaler.apply(Value::Float(1e300)), Sample::Bad(Reason::OutOfRange));
}

#[test]
fn an_f32_means_its_seven_digits() {
    check(&tag(F32), Value::Float(f64::from(230.1f32)), Value::Float(230.1));
    check(&tag(F32), Value::Float(f64::from(f32::MAX)), Value::Float(f64::from(f32::MAX)));
    check(&tag(F32), Value::Float(230.1), Value::Float(230.1));
    check(
        &tag(Kind::F64(Order8::Abcdefgh)),
        Value::Float(f64::from(230.1f32)),
        Value::Float(f64::from(230.1f32)),
    );
}

fn in_range(tag: Tag, raw: Value) -> (Sample, u64, u64) {
    let mut processor = processor(vec![tag]);
    let sample = cycle(&mut processor, s(1.0), &[Sample::Good(raw)])[0].1.clone();
    (sample, processor.counters().clamped_total, processor.counters().out_of_range_total)
}

#[test]
fn outside_the_range_is_bad_or_clamped_as_configured() {
    let range = |clamp| ranged(u16_tag(), Some(-2.5), Some(10.0), clamp);
    let good = |value| Sample::Good(value);
    assert_eq!(in_range(range(false), Value::Int(10)), (good(Value::Int(10)), 0, 0));
    assert_eq!(in_range(range(false), Value::Int(11)), (Sample::Bad(Reason::OutOfRange), 0, 1));
    assert_eq!(in_range(range(false), Value::Int(-3)), (Sample::Bad(Reason::OutOfRange), 0, 1));
    assert_eq!(in_range(range(true), Value::UInt(11)), (good(Value::UInt(10)), 1, 0));
    assert_eq!(in_range(range(true), Value::Int(-3)), (good(Value::Int(-2)), 1, 0));
    assert_eq!(in_range(range(true), Value::Float(-2.6)), (good(Value::Float(-2.5)), 1, 0));
    assert_eq!(in_range(range(true), Value::Bool(true)), (good(Value::Bool(true)), 0, 0));
}

#[test]
fn a_half_open_range_has_one_limit_only() {
    let tag = |min, max| ranged(u16_tag(), min, max, false);
    assert_eq!(in_range(tag(None, Some(5.0)), Value::Int(i64::MIN)).2, 0);
    assert_eq!(in_range(tag(Some(5.0), None), Value::UInt(u64::MAX)).2, 0);
    assert_eq!(in_range(tag(Some(5.0), None), Value::Int(4)).2, 1);
}

#[test]
fn limits_are_exact_where_floats_are_not() {
    // 2^53 + 1 is not an f64: compared as floats it would be inside.
    let limit = 9_007_199_254_740_992.0;
    let tag = ranged(tag(U64), None, Some(limit), false);
    assert_eq!(in_range(tag.clone(), Value::UInt(1 << 53)).2, 0);
    assert_eq!(in_range(tag, Value::UInt((1 << 53) + 1)).2, 1);
}

#[test]
fn every_integer_of_64_bits_is_told_from_its_limits() {
    let limited = |kind, min, max| Tag { range: Some(Range { min, max, clamp: false }), ..tag(kind) };
    let whole = |number: i128| Some(Limit::Whole(number));
    let top = i128::from(u64::MAX);
    for below in [1, 2, 1000, 1025] {
        let tag = limited(U64, None, whole(top - below));
        assert_eq!(in_range(tag.clone(), Value::UInt(u64::MAX)).2, 1, "{below}");
        assert_eq!(in_range(tag, Value::UInt(u64::MAX - u64::try_from(below).unwrap())).2, 0, "{below}");
        let tag = limited(I64, whole(i128::from(i64::MIN) + below), None);
        assert_eq!(in_range(tag.clone(), Value::Int(i64::MIN)).2, 1, "{below}");
        assert_eq!(in_range(tag, Value::Int(i64::MIN + i64::try_from(below).unwrap())).2, 0, "{below}");
    }
    assert_eq!(in_range(limited(U64, None, whole(top)), Value::UInt(u64::MAX)).2, 0);
}

proptest! {
    #[test]
    fn a_decimal_scale_gives_the_double_nearest_to_the_decimal_result(
        raw in any::<u32>(), digits in 1i64..10_000, places in 1usize..6, offset in -10_000i64..10_000,
    ) {
        let ten = 10f64.powi(i32::try_from(places).unwrap());
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let (factor, offset_value) = (digits as f64 / ten, offset as f64 / ten);
        let exact = i128::from(raw) * i128::from(digits) + i128::from(offset);
        // The expected value is the standard library's reading of the exact decimal.
        let width = places + 1;
        let text = format!("{}{:0width$}", if exact < 0 { "-" } else { "" }, exact.unsigned_abs());
        let (whole, fraction) = text.split_at(text.len() - places);
        let expected: f64 = format!("{whole}.{fraction}").parse().unwrap();
        let tag = scaled(Kind::U32(Order4::Abcd), factor, offset_value);
        let Sample::Good(scaled) = Scaler::new(&tag).apply(Value::UInt(u64::from(raw))) else { panic!("bad") };
        let scaled = match scaled {
            Value::Float(value) => value,
            // Factor and offset happened to be whole.
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            Value::Int(value) => value as f64,
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            Value::UInt(value) => value as f64,
            other => panic!("{other:?}"),
        };
        prop_assert!((scaled - expected).abs() == 0.0, "{scaled} is not {expected}");
    }

    #[test]
    fn a_widened_f32_prints_like_the_f32_and_reads_back_as_it(bits: u32) {
        let value = f32::from_bits(bits);
        prop_assume!(value.is_finite());
        let wide = widen_f32(value);
        #[expect(clippy::cast_possible_truncation, reason = "the way back is what is tested")]
        let back = wide as f32;
        prop_assert_eq!(back.to_bits(), value.to_bits());
        if value != value.trunc() {
            prop_assert_eq!(format!("{wide:e}"), format!("{value:e}"));
        }
    }
}

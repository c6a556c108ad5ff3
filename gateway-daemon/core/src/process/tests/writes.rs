use proptest::prelude::*;

use super::{ranged, scaled, tag, u16_tag};
use crate::poll::settings::{Kind, Order4, Order8, Tag};
use crate::process::{Scaler, UnscaleError, unscale};
use crate::tag::{Sample, Value};

const U16: Kind = Kind::U16 { swap: false };
const I16: Kind = Kind::I16 { swap: false };
const TEXT: Kind = Kind::Text { registers: 2, swap: false };

fn check(tag: &Tag, value: Value, raw: Value) {
    assert_eq!(unscale(tag, &value), Ok(raw), "{value:?}");
}

fn refused(tag: &Tag, value: Value, text: &str) {
    assert_eq!(unscale(tag, &value).unwrap_err().to_string(), text);
}

#[test]
fn a_write_becomes_the_raw_value_that_reads_as_it() {
    check(&scaled(U16, 0.1, 0.0), Value::Float(230.1), Value::UInt(2301));
    check(&scaled(U16, 0.1, 0.0), Value::Int(230), Value::UInt(2300));
    check(&scaled(U16, 0.1, -40.0), Value::Float(23.5), Value::UInt(635));
    check(&scaled(I16, -0.1, 0.0), Value::Float(1.5), Value::Int(-15));
    check(&scaled(Kind::U64(Order8::Abcdefgh), 1.0, 0.0), Value::UInt(u64::MAX), Value::UInt(u64::MAX));
    check(&u16_tag(), Value::Float(7.0), Value::UInt(7));
    check(&scaled(Kind::F64(Order8::Abcdefgh), 0.5, 1.0), Value::Float(2.0), Value::Float(2.0));
}

#[test]
fn a_write_between_two_steps_goes_to_the_nearest() {
    check(&scaled(U16, 0.1, 0.0), Value::Float(230.14), Value::UInt(2301));
    check(&scaled(U16, 0.1, 0.0), Value::Float(230.15), Value::UInt(2302));
    check(&scaled(I16, 10.0, 0.0), Value::Int(-25), Value::Int(-3));
    check(&scaled(I16, 10.0, 0.0), Value::Int(-24), Value::Int(-2));
    check(&scaled(I16, -10.0, 0.0), Value::Int(25), Value::Int(-3));
}

#[test]
fn bits_take_bits_or_their_digits() {
    check(&tag(Kind::Bit), Value::Bool(true), Value::Bool(true));
    check(&tag(Kind::BitOf(3)), Value::Int(0), Value::Bool(false));
    refused(&tag(Kind::Bit), Value::Int(2), "the point holds a bit: true, false, 1 or 0");
}

#[test]
fn texts_have_to_fit() {
    check(&tag(TEXT), Value::Text("abcd".into()), Value::Text("abcd".into()));
    refused(&tag(TEXT), Value::Text("abcde".into()), "the point holds 4 characters of ASCII");
    refused(&tag(TEXT), Value::Text("é".into()), "the point holds 4 characters of ASCII");
    refused(&tag(TEXT), Value::Int(1), "the point holds a text");
    refused(&u16_tag(), Value::Text("1".into()), "the point holds a number");
}

#[test]
fn what_does_not_fit_is_refused_and_never_clamped() {
    refused(&u16_tag(), Value::Int(-1), "-1 does not fit the point, it holds 0 to 65535");
    refused(
        &scaled(U16, 0.1, 0.0),
        Value::Float(6553.6),
        "65536 does not fit the point, it holds 0 to 65535",
    );
    refused(&tag(Kind::Bcd16), Value::Int(10_000), "10000 does not fit the point, it holds 0 to 9999");
    refused(&tag(I16), Value::Float(1e300), "1e300 does not fit the point, it holds -32768 to 32767");
    refused(&tag(U16), Value::Float(f64::NAN), "not a finite number");
    refused(&tag(Kind::F32(Order4::Abcd)), Value::Float(1e39), "not a finite number");
    refused(
        &ranged(u16_tag(), Some(0.0), Some(50.0), true),
        Value::Int(51),
        "outside the configured range 0 to 50",
    );
    refused(&ranged(u16_tag(), Some(5.0), None, true), Value::Int(4), "outside the configured range from 5");
}

#[test]
fn a_scale_of_zero_is_an_error_and_not_a_panic() {
    assert!(matches!(unscale(&scaled(U16, 0.0, 0.0), &Value::Int(1)), Err(UnscaleError::Raw { .. })));
}

proptest! {
    #[test]
    fn writing_what_was_read_writes_the_same_raw_value(
        raw: i16, digits in prop_oneof![-2000i64..-1, 1i64..2000], places in 0i32..6, offset in -1000i64..1000,
    ) {
        let ten = 10f64.powi(places);
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let tag = scaled(I16, digits as f64 / ten, offset as f64 / ten);
        let raw = Value::Int(i64::from(raw));
        let Sample::Good(value) = Scaler::new(&tag).apply(raw.clone()) else { panic!("bad") };
        prop_assert_eq!(unscale(&tag, &value), Ok(raw));
    }

    #[test]
    fn no_write_panics(factor: f64, offset: f64, value: f64, int: i64) {
        for kind in [U16, I16, Kind::U64(Order8::Abcdefgh), Kind::F32(Order4::Abcd)] {
            let tag = ranged(scaled(kind, factor, offset), Some(factor), None, true);
            let _ = unscale(&tag, &Value::Float(value));
            let _ = unscale(&tag, &Value::Int(int));
            let _ = Scaler::new(&tag).apply(Value::Float(value));
            let _ = Scaler::new(&tag).apply(Value::Int(int));
        }
    }
}

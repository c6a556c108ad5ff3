//! Engineering value to raw value, for writes.

use super::decimal::Decimal;
use super::limits::{self, Checked};
use super::number::{Number, integer, nearest};
use crate::poll::settings::{Kind, Range, Scale, Tag};
use crate::tag::Value;

/// Why a value cannot be written.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnscaleError {
    /// Another type than the point holds.
    #[error("the point holds {expected}")]
    Type {
        /// What it holds.
        expected: &'static str,
    },
    /// Outside the range in the configuration; a write is refused, never clamped.
    #[error("outside the configured range {}", describe(.0))]
    Range(Range),
    /// The raw value does not fit the registers of the point.
    #[error("{} does not fit the point, it holds {min} to {max}", short(*.raw))]
    Raw {
        /// The raw value, rounded.
        raw: f64,
        /// Lowest raw value.
        min: i128,
        /// Highest raw value.
        max: i128,
    },
    /// NaN or infinity.
    #[error("not a finite number")]
    NotFinite,
    /// More characters than the registers hold, or other than ASCII.
    #[error("the point holds {max} characters of ASCII")]
    Text {
        /// Most characters.
        max: usize,
    },
}

/// A number as people read it: beyond fifteen digits with an exponent.
fn short(number: f64) -> String {
    if number.abs() < 1e15 { number.to_string() } else { format!("{number:e}") }
}

fn describe(range: &Range) -> String {
    match (range.min, range.max) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("from {min}"),
        (None, Some(max)) => format!("up to {max}"),
        (None, None) => "of any value".to_owned(),
    }
}

/// The raw value to write so that the tag reads `value`: `(value - offset) / factor`, computed on the decimal digits and rounded
/// to the nearest step of the point (halves away from zero). [`super::Scaler::apply`] of the result is the value that will be read.
///
/// # Errors
/// The type is another, the value is outside the configured range, or the raw value does not fit the point.
pub fn unscale(tag: &Tag, value: &Value) -> Result<Value, UnscaleError> {
    match (tag.point.kind, value) {
        (Kind::Bit | Kind::BitOf(_), Value::Bool(_)) => Ok(value.clone()),
        (Kind::Bit | Kind::BitOf(_), _) => match Number::of(value).map(Number::to_f64) {
            Some(0.0) => Ok(Value::Bool(false)),
            Some(1.0) => Ok(Value::Bool(true)),
            _ => Err(UnscaleError::Type { expected: "a bit: true, false, 1 or 0" }),
        },
        (Kind::Text { registers, .. }, Value::Text(text)) => {
            let max = usize::from(registers) * 2;
            let fits = text.is_ascii() && text.len() <= max;
            if fits { Ok(value.clone()) } else { Err(UnscaleError::Text { max }) }
        }
        (Kind::Text { .. }, _) => Err(UnscaleError::Type { expected: "a text" }),
        (kind, value) => {
            let number = Number::of(value).ok_or(UnscaleError::Type { expected: "a number" })?;
            if !number.to_f64().is_finite() {
                return Err(UnscaleError::NotFinite);
            }
            if let Some(range) = tag.range {
                let inside = matches!(limits::check(Some(&range), value.clone()), Checked::Inside(_));
                if !inside {
                    return Err(UnscaleError::Range(range));
                }
            }
            raw(kind, tag.scale, number)
        }
    }
}

fn raw(kind: Kind, scale: Option<Scale>, number: Number) -> Result<Value, UnscaleError> {
    let Some((min, max)) = integer_range(kind) else {
        let raw = match scale {
            None => number.to_f64(),
            Some(scale) => (number.to_f64() - scale.offset) / scale.factor,
        };
        let fits = match kind {
            Kind::F32(_) => raw.abs() <= f64::from(f32::MAX),
            _ => raw.is_finite(),
        };
        return if fits { Ok(Value::Float(raw)) } else { Err(UnscaleError::NotFinite) };
    };
    let outside = |raw: f64| UnscaleError::Raw { raw, min, max };
    let scale = scale.unwrap_or(Scale { factor: 1.0, offset: 0.0 });
    let raw = match exact(scale, number) {
        Some(raw) => raw,
        None => {
            let raw = ((number.to_f64() - scale.offset) / scale.factor).round();
            rounded(raw).ok_or_else(|| outside(raw))?
        }
    };
    if raw < min || raw > max {
        return Err(outside(nearest(raw)));
    }
    integer(raw, min < 0).ok_or_else(|| outside(nearest(raw)))
}

/// The rounded quotient of the decimal digits; `None` if they are too many.
fn exact(scale: Scale, number: Number) -> Option<i128> {
    let number = match number {
        Number::Integer(digits) => Decimal { digits, places: 0 },
        Number::Float(value) => Decimal::of(value)?,
    };
    let (factor, offset) = (Decimal::of(scale.factor)?, Decimal::of(scale.offset)?);
    let places = number.places.max(factor.places).max(offset.places);
    let above = number.at(places)?.checked_sub(offset.at(places)?)?;
    let below = factor.at(places)?;
    let (quotient, rest) = (above.checked_div(below)?, above.checked_rem(below)?);
    let half_or_more = rest.unsigned_abs() >= below.unsigned_abs() - rest.unsigned_abs();
    let away = if (above < 0) == (below < 0) { 1 } else { -1 };
    quotient.checked_add(if half_or_more { away } else { 0 })
}

/// A float without a fraction as an integer, if an i128 can hold it.
fn rounded(float: f64) -> Option<i128> {
    /// 2^126, far above every point.
    const LIMIT: f64 = 8.507_059_173_023_462e37;
    #[expect(clippy::cast_possible_truncation, reason = "inside the range by the check before")]
    (float.abs() <= LIMIT).then_some(float as i128)
}

/// What the registers of an integer point hold; `None` for floats.
fn integer_range(kind: Kind) -> Option<(i128, i128)> {
    Some(match kind {
        Kind::U8 { .. } => (0, i128::from(u8::MAX)),
        Kind::I8 { .. } => (i128::from(i8::MIN), i128::from(i8::MAX)),
        Kind::U16 { .. } => (0, i128::from(u16::MAX)),
        Kind::I16 { .. } => (i128::from(i16::MIN), i128::from(i16::MAX)),
        Kind::U32(_) => (0, i128::from(u32::MAX)),
        Kind::I32(_) => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Kind::U64(_) => (0, i128::from(u64::MAX)),
        Kind::I64(_) => (i128::from(i64::MIN), i128::from(i64::MAX)),
        Kind::Bcd16 => (0, 9_999),
        Kind::Bcd32(_) => (0, 99_999_999),
        Kind::F32(_) | Kind::F64(_) | Kind::Bit | Kind::BitOf(_) | Kind::Text { .. } => return None,
    })
}

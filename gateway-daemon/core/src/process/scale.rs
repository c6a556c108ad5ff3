//! Raw value to engineering value: `raw * factor + offset`, the way a person would do it on paper.

use super::decimal::{Decimal, EXACT_INTEGER_MAX};
use super::number::{Number, integer, nearest};
use crate::poll::settings::{Kind, Scale, Tag};
use crate::tag::{Reason, Sample, Value};

/// The scale of one tag, prepared.
///
/// # Exactness
/// Factor and offset are taken as the decimal numbers that they look like in the configuration, so `2301 * 0.1` is `230.1` and not
/// `230.10000000000002`.
/// - Without a scale a value passes untouched: u64 counters keep all 64 bits.
/// - With a factor and an offset that are whole numbers an integer stays an integer, exactly; a result beyond u64 and i64 becomes the nearest float.
/// - With a fraction the result is a float for every raw value: the f64 nearest to the exact decimal result while `raw * factor`
///   without its point is below 2^53 (any 32-bit register with up to six digits of factor), else within two units in the last place.
/// - A float stays a float. A result that is not finite is [`Reason::OutOfRange`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaler {
    how: How,
    /// The point holds an f32, which is taken as its shortest decimal.
    f32: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Not,
    /// (raw * factor + offset) / 10^places, in integers of the digits.
    Decimal {
        factor: i128,
        offset: i128,
        places: u32,
        divisor: f64,
    },
    /// Factors that no person writes.
    Float(Scale),
}

impl Scaler {
    /// Prepares the scale of a tag.
    #[must_use]
    pub fn new(tag: &Tag) -> Self {
        let how = match tag.scale {
            None => How::Not,
            Some(scale) => decimal(scale).unwrap_or(How::Float(scale)),
        };
        Self { how, f32: matches!(tag.point.kind, Kind::F32(_)) }
    }

    /// The engineering value of a raw value. Bits and texts have no scale.
    #[must_use]
    pub fn apply(&self, raw: Value) -> Sample {
        let value = match (self.how, &raw) {
            (_, Value::Bool(_) | Value::Text(_)) | (How::Not, Value::Int(_) | Value::UInt(_)) => raw,
            (How::Not, Value::Float(float)) => Value::Float(self.widened(*float)),
            (_, Value::Float(float)) => Value::Float(self.float(self.widened(*float))),
            (_, Value::Int(int)) => self.integer(i128::from(*int), true),
            (_, Value::UInt(uint)) => self.integer(i128::from(*uint), false),
        };
        match value {
            Value::Float(float) if !float.is_finite() => Sample::Bad(Reason::OutOfRange),
            value => Sample::Good(value),
        }
    }

    fn widened(&self, value: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only used if the way back gives the same number"
        )]
        let narrow = value as f32;
        if self.f32 && f64::from(narrow).to_bits() == value.to_bits() { widen_f32(narrow) } else { value }
    }

    fn float(&self, raw: f64) -> f64 {
        match self.how {
            How::Not => raw,
            How::Float(scale) => raw * scale.factor + scale.offset,
            How::Decimal { factor, offset, divisor, .. } => {
                (raw * nearest(factor) + nearest(offset)) / divisor
            }
        }
    }

    fn integer(&self, raw: i128, signed: bool) -> Value {
        if let How::Decimal { factor, offset, places, divisor } = self.how
            && let Some(digits) = raw.checked_mul(factor).and_then(|product| product.checked_add(offset))
        {
            return match places {
                0 => integer(digits, signed).unwrap_or(Value::Float(nearest(digits))),
                _ => Value::Float(nearest(digits) / divisor),
            };
        }
        Value::Float(self.float(Number::Integer(raw).to_f64()))
    }
}

fn decimal(scale: Scale) -> Option<How> {
    let (factor, offset) = (Decimal::of(scale.factor)?, Decimal::of(scale.offset)?);
    let places = factor.places.max(offset.places);
    let (factor, offset) = (factor.at(places)?, offset.at(places)?);
    // Digits that an f64 does not hold would round twice.
    let exact = |digits: i128| digits.unsigned_abs() <= EXACT_INTEGER_MAX;
    if !(exact(factor) && exact(offset)) {
        return None;
    }
    Some(How::Decimal { factor, offset, places, divisor: nearest(10i128.checked_pow(places)?) })
}

/// The f64 that prints like this f32: `230.1f32` becomes `230.1` and not `230.10000610351562`. A device that sends an f32
/// means its seven digits, and nobody wants to read noise after them.
#[must_use]
pub fn widen_f32(value: f32) -> f64 {
    /// `-1.17549435e-38` has 15 characters.
    const TEXT_LEN_MAX: usize = 32;
    if value == value.trunc() || !value.is_finite() {
        return f64::from(value);
    }
    let mut text = [0u8; TEXT_LEN_MAX];
    let mut rest = &mut text[..];
    let written = std::io::Write::write_fmt(&mut rest, format_args!("{value:e}")).is_ok();
    let left = rest.len();
    let digits = std::str::from_utf8(&text[..TEXT_LEN_MAX - left]).ok().filter(|_| written);
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(f64::from(value))
}

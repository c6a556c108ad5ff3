//! The range of an engineering value.

use super::number::{Number, integer};
use crate::poll::settings::{Limit, Range};
use crate::tag::{Reason, Sample, Value};

/// What a range did to a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Checked {
    Inside(Value),
    Clamped(Value),
    Outside,
}

impl Checked {
    /// The sample that goes on.
    pub(super) fn sample(self) -> Sample {
        match self {
            Self::Inside(value) | Self::Clamped(value) => Sample::Good(value),
            Self::Outside => Sample::Bad(Reason::OutOfRange),
        }
    }
}

/// Compares a number with its range. An integer is compared exactly and is clamped to the outermost integer inside the range, so that it
/// stays an integer. Bits and texts have no range.
pub(super) fn check(range: Option<&Range>, value: Value) -> Checked {
    let (Some(range), Some(number)) = (range, Number::of(&value)) else { return Checked::Inside(value) };
    let clamped = match number {
        Number::Integer(number) => {
            let min = range.min.map_or(i128::MIN, |min| whole(min, f64::ceil));
            let max = range.max.map_or(i128::MAX, |max| whole(max, f64::floor));
            let signed = matches!(value, Value::Int(_));
            // A range without an integer inside it clamps to its upper end.
            let to = number.max(min).min(max);
            (to != number)
                .then(|| integer(to, signed).unwrap_or_else(|| Value::Float(Number::Integer(to).to_f64())))
        }
        Number::Float(number) => {
            let min = range.min.map_or(f64::NEG_INFINITY, Limit::to_f64);
            let to = number.max(min).min(range.max.map_or(f64::INFINITY, Limit::to_f64));
            (to != number).then_some(Value::Float(to))
        }
    };
    match clamped {
        None => Checked::Inside(value),
        Some(limit) if range.clamp => Checked::Clamped(limit),
        Some(_) => Checked::Outside,
    }
}

/// The outermost integer inside a limit, saturating.
fn whole(limit: Limit, inside: fn(f64) -> f64) -> i128 {
    match limit {
        Limit::Whole(number) => number,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates far beyond every value that a device can send"
        )]
        Limit::Float(number) => inside(number) as i128,
    }
}

//! Numbers of different types compared as what they are.

use std::cmp::Ordering;

pub(super) use crate::poll::settings::nearest;
use crate::tag::Value;

/// A numeric value without losing any of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    /// The number in a value; texts and bits have none.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Int(value) => Some(Self::Integer(i128::from(*value))),
            Value::UInt(value) => Some(Self::Integer(i128::from(*value))),
            Value::Float(value) => Some(Self::Float(*value)),
            Value::Bool(_) | Value::Text(_) => None,
        }
    }

    /// The nearest f64.
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Self::Integer(value) => nearest(value),
            Self::Float(value) => value,
        }
    }

    /// How far apart two numbers are; exact for integers up to 2^53 apart, wherever they are.
    pub(super) fn distance(self, other: Self) -> f64 {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => nearest(a.saturating_sub(b)).abs(),
            _ => (self.to_f64() - other.to_f64()).abs(),
        }
    }

    /// Below, at or above zero.
    pub(super) fn sign(self) -> Ordering {
        match self {
            Self::Integer(value) => value.cmp(&0),
            Self::Float(value) => value.partial_cmp(&0.0).unwrap_or(Ordering::Equal),
        }
    }
}

/// The integer as the smallest variant that holds it: signed first if the source was signed.
pub(super) fn integer(value: i128, signed: bool) -> Option<Value> {
    let int = || i64::try_from(value).ok().map(Value::Int);
    let uint = || u64::try_from(value).ok().map(Value::UInt);
    if signed { int().or_else(uint) } else { uint().or_else(int) }
}

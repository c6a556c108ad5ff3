//! Whether a change is large enough.

use super::number::Number;
use super::settings::Deadband;
use crate::tag::{Sample, Value};

/// Whether `sample` is worth a message after `last` was reported, time aside.
pub(super) fn changed(deadband: Deadband, last: &Sample, sample: &Sample) -> bool {
    if deadband == Deadband::Off {
        return true;
    }
    match (last, sample) {
        (Sample::Good(last), Sample::Good(value)) => match (Number::of(last), Number::of(value)) {
            (Some(last), Some(value)) => number_changed(deadband, last, value),
            _ => text_changed(last, value),
        },
        (Sample::Bad(last), Sample::Bad(reason)) => last != reason,
        _ => true,
    }
}

fn number_changed(deadband: Deadband, last: Number, value: Number) -> bool {
    match deadband {
        Deadband::Off => true,
        Deadband::OnChange => last.distance(value) > 0.0,
        Deadband::Absolute(units) => last.distance(value) > units,
        // Zero and its two sides are different states (standing still, feeding in, drawing), however wide the band is.
        Deadband::Percent(percent) => {
            last.sign() != value.sign() || last.distance(value) > last.to_f64().abs() * (percent / 100.0)
        }
    }
}

/// Bits and texts have no distance: another value is a change.
fn text_changed(last: &Value, value: &Value) -> bool {
    last != value
}

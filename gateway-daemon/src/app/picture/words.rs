//! Numbers as a person reads them.

use gateway_core::text::is_hidden;
use serde_json::Value;

/// A count with its thousands apart: `1 234 567`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 message`, `1 234 messages`.
#[must_use]
pub fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Bytes with a decimal unit and two or three digits: `512 B`, `3.2 kB`, `48 MB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    if number < 1000 {
        return format!("{number} B");
    }
    let mut scaled = number;
    let mut rest = 0;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        if scaled < 1000 {
            break;
        }
        (rest, scaled, unit) = (scaled % 1000, scaled / 1000, next);
    }
    if scaled < 10 { format!("{scaled}.{} {unit}", rest / 100) } else { format!("{scaled} {unit}") }
}

/// A time in its largest unit or two: `350 ms`, `4.2 s`, `3 min 20 s`, `5 h 12 min`, `9 d 3 h`.
#[must_use]
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{ms} ms"),
        1..10 => format!("{seconds}.{} s", ms % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A rate per second: one decimal below a hundred, none above.
#[must_use]
pub fn rate(per_s: f64) -> String {
    if per_s < 99.95 { format!("{per_s:.1}") } else { format!("{per_s:.0}") }
}

/// A value: fractions with the digits that were measured, not with those that binary arithmetic adds.
#[must_use]
pub fn value(value: &Value) -> String {
    match value {
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::String(text) => {
            text.chars().map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
        }
        Value::Number(number) => match number.as_f64() {
            Some(fraction) if number.is_f64() => short(fraction),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Seven significant digits at most, which is what a 32-bit float holds, without trailing zeros.
fn short(fraction: f64) -> String {
    let size = fraction.abs();
    if size != 0.0 && !(1e-4..1e15).contains(&size) {
        return format!("{fraction:.3e}");
    }
    let text = match size {
        _ if size >= 1e6 => format!("{fraction:.1}"),
        _ if size >= 1e3 => format!("{fraction:.3}"),
        _ if size >= 1.0 => format!("{fraction:.4}"),
        _ => format!("{fraction:.7}"),
    };
    match text.trim_end_matches('0').trim_end_matches('.') {
        "-0" => "0".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_keep_their_thousands_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(u64::MAX).len(), 26);
    }

    #[test]
    fn bytes_have_two_or_three_digits() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_999, "9.9 kB"),
            (10_000, "10 kB"),
            (512_000_000, "512 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn times_are_said_in_their_largest_units() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (9_990, "9.9 s"),
            (59_999, "59 s"),
            (200_000, "3 min 20 s"),
            (3_600_000, "1 h 0 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn values_show_what_was_measured() {
        for (given, text) in [
            (json!(230.100_000_000_000_02), "230.1"),
            (json!(-0.000_000_01), "-1.000e-8"),
            (json!(0.1 + 0.2), "0.3"),
            (json!(0.0), "0"),
            (json!(-0.0), "0"),
            (json!(1_234_567.891), "1234567.9"),
            (json!(21.5), "21.5"),
            (json!(100.0), "100"),
            (json!(1e20), "1.000e20"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(-5), "-5"),
            (json!(true), "on"),
            (json!("SN-1\u{1b}[31m"), "SN-1\u{fffd}[31m"),
        ] {
            assert_eq!(value(&given), text, "{given}");
        }
    }
}

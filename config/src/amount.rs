//! Durations and sizes as people write them: "500ms", "1.5s", "512MB".

use std::time::Duration;

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AmountError {
    /// It does not begin with a number.
    NoNumber,
    /// Nothing follows the number.
    NoUnit,
    /// What follows the number is not a unit.
    UnknownUnit,
    /// The number has a comma.
    Comma,
    /// The number is beyond any range.
    TooLarge,
}

/// Units of durations, in ns.
const DURATION_UNITS: &[(&str, u64)] = &[
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Units of sizes, in bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

pub(crate) fn duration(text: &str) -> Result<Duration, AmountError> {
    amount(text, DURATION_UNITS).map(Duration::from_nanos)
}

pub(crate) fn size(text: &str) -> Result<u64, AmountError> {
    amount(text, SIZE_UNITS)
}

fn amount(text: &str, units: &[(&str, u64)]) -> Result<u64, AmountError> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    if unit.starts_with(',') {
        return Err(AmountError::Comma);
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || number.ends_with('.') {
        return Err(AmountError::NoNumber);
    }
    if unit.is_empty() {
        return Err(AmountError::NoUnit);
    }
    let (_, factor) = units.iter().find(|(word, _)| *word == unit).ok_or(AmountError::UnknownUnit)?;
    let whole: u64 = whole.parse().map_err(|_| AmountError::TooLarge)?;
    let mut total = whole.checked_mul(*factor).ok_or(AmountError::TooLarge)?;
    let mut step = *factor;
    for digit in fraction.bytes() {
        step /= 10; // digits below the smallest step are dropped
        total = total.checked_add(u64::from(digit - b'0') * step).ok_or(AmountError::TooLarge)?;
    }
    Ok(total)
}

/// The shortest text that [`duration`] reads back.
pub(crate) fn duration_text(duration: Duration) -> String {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    for (unit, factor) in [("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1)] {
        let factor = factor * 1_000_000_000;
        if ns > 0 && ns % factor == 0 {
            return format!("{}{unit}", ns / factor);
        }
    }
    if ns % 1_000_000 == 0 { format!("{}ms", ns / 1_000_000) } else { format!("{}us", ns / 1_000) }
}

/// The shortest text that [`size`] reads back.
pub(crate) fn size_text(bytes: u64) -> String {
    for (unit, factor) in [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)]
    {
        if bytes > 0 && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        for (text, ms) in [
            ("500ms", 500),
            ("1s", 1000),
            ("1.5s", 1500),
            ("5m", 300_000),
            ("2 h", 7_200_000),
            ("30d", 2_592_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for (text, bytes) in [("512MB", 512_000_000), ("512MiB", 536_870_912), ("1.5kB", 1500), ("7B", 7)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_says_why() {
        for (text, error) in [
            ("", AmountError::NoNumber),
            ("-1s", AmountError::NoNumber),
            ("s", AmountError::NoNumber),
            ("1", AmountError::NoUnit),
            ("1 sec", AmountError::UnknownUnit),
            ("0,5s", AmountError::Comma),
            ("1.s", AmountError::NoNumber),
            ("1.2.3s", AmountError::NoNumber),
            ("99999999999999999999s", AmountError::TooLarge),
            ("999999999999d", AmountError::TooLarge),
        ] {
            assert_eq!(duration(text), Err(error), "{text}");
        }
    }

    #[test]
    fn texts_are_read_back() {
        for ms in [0, 1, 999, 1000, 60_000, 90_000, 3_600_000, 86_400_000] {
            let duration_ = Duration::from_millis(ms);
            assert_eq!(duration(&duration_text(duration_)), Ok(duration_));
        }
        for bytes in [0, 1, 1000, 1024, 268_000_000, 1_000_000_000_000] {
            assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
    }
}

//! Decimal numbers as people write them: `0.1` is one tenth, not the double next to it.

/// Largest power of ten that an f64 holds exactly.
pub(super) const EXACT_TENS_MAX: u32 = 22;

/// Largest integer below which every integer is an f64.
pub(super) const EXACT_INTEGER_MAX: u128 = 1 << 53;

/// `digits` / 10^`places`, exactly what the shortest decimal form of an f64 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) digits: i128,
    pub(super) places: u32,
}

impl Decimal {
    /// The shortest decimal that reads back as `value`; `None` for what is not finite or has an exponent outside
    /// ±22, where factors and offsets of plants are not found.
    pub(super) fn of(value: f64) -> Option<Self> {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let exponent: i32 = exponent.parse().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let power = exponent.unsigned_abs();
        if power > EXACT_TENS_MAX {
            return None;
        }
        if exponent < 0 {
            Some(Self { digits, places: power })
        } else {
            Some(Self { digits: digits.checked_mul(10i128.checked_pow(power)?)?, places: 0 })
        }
    }

    /// The digits when written with so many places; `None` if there are fewer places than needed or too many digits.
    pub(super) fn at(self, places: u32) -> Option<i128> {
        self.digits.checked_mul(10i128.checked_pow(places.checked_sub(self.places)?)?)
    }
}

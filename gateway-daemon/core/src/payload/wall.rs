//! Wall time as text.

use crate::tag::WallMs;

/// `2026-11-21T01:02:03.456Z` (RFC 3339, always UTC and three decimals), or `None` outside the years 0 to 9999 that the format has.
#[must_use]
pub fn iso8601(wall: WallMs) -> Option<String> {
    const DAY_MS: i64 = 86_400_000;
    let (year, month, day) = civil(wall.0.div_euclid(DAY_MS))?;
    let ms = wall.0.rem_euclid(DAY_MS);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000))
}

/// Year, month and day of a day count since 1970-01-01, proleptic Gregorian. Years are counted from March, so that
/// the leap day is the last of its year and months have a linear formula (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days_1970: i64) -> Option<(i64, i64, i64)> {
    /// 0000-03-01 to 1970-01-01.
    const DAYS_TO_1970: i64 = 719_468;
    const ERA_DAYS: i64 = 146_097;
    let days = days_1970.checked_add(DAYS_TO_1970)?;
    let era = days.div_euclid(ERA_DAYS);
    let day_of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (0..=9999).contains(&year).then_some((year, month, day))
}

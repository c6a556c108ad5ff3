//! Values that mean "not at all" or "without end" in other programs, and bare numbers: what to write instead of them.

use crate::amount;
use crate::keys::{Key, Kind, Need};
use crate::reader::NEVER;
use crate::words::{list, plain};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// Whether a kind is a number or an amount that somebody may want to switch off.
pub(crate) fn is_amount(kind: &Kind) -> bool {
    matches!(kind, Kind::Int { .. } | Kind::Duration { .. } | Kind::Endless { .. } | Kind::Size { .. })
}

/// Whether a value is what other programs take for "not at all" or "without end".
pub(crate) fn means_none(text: &str) -> bool {
    let text = text.trim().trim_matches(['"', '\'']).to_lowercase();
    let digits = text.trim_start_matches('-').trim_end_matches(|c: char| c.is_alphabetic() || c == ' ');
    let zero = digits.contains('0') && digits.chars().all(|c| matches!(c, '0' | '.' | '_'));
    let number = text.parse::<f64>();
    zero || number.is_ok_and(|number| number < 0.0)
        || matches!(
            plain(&text).as_str(),
            "never"
                | "off"
                | "no"
                | "none"
                | "false"
                | "disabled"
                | "unlimited"
                | "infinite"
                | "infinity"
                | "inf"
                | "forever"
                | "always"
                | "nie"
                | "aus"
                | "kein"
                | "keine"
                | "unbegrenzt"
        )
}

/// What to write instead of a value that means "not at all" or "without end", where a key has neither.
pub(crate) fn instead_of_none(key: &Key) -> Option<String> {
    let name = key.name;
    match (&key.kind, key.need) {
        (Kind::Endless { min, .. }, _) => Some(format!(
            ": write {name} = \"{NEVER}\" for no end, \"{}\" for the shortest time",
            amount::duration_text(*min)
        )),
        (Kind::Int { min: ..=0, .. }, Need::Default(_)) => {
            Some(format!(": write {name} = 0 if none is meant"))
        }
        (Kind::Duration { min, .. }, Need::Default(_)) if min.is_zero() => {
            Some(format!(": write {name} = \"0s\" if none is meant"))
        }
        (_, Need::Default(usual)) => {
            Some(format!(": it cannot be switched off, remove the line for the usual {usual}"))
        }
        (_, Need::Optional) if !key.without.is_empty() => {
            Some(format!(": remove the line, and {}", key.without))
        }
        _ => None,
    }
}

/// A bare number with each unit that may have been meant, in quotes, the usual ones first and none that would be refused as well: nobody can tell whether
/// 7 are seconds or days.
pub(crate) fn with_likely_units(kind: &Kind, number: &str) -> Option<String> {
    let units: &[&str] = match kind {
        Kind::Size { .. } if number.len() > 3 => &["B", "kB"],
        Kind::Size { .. } => &["MB", "kB"],
        _ if number.len() > 2 => &["ms", "s"],
        Kind::Duration { max, .. } | Kind::Endless { max, .. } if *max > DAY => &["s", "m", "d"],
        _ => &["s", "ms"],
    };
    let fitting = units.iter().map(|unit| format!("{number}{unit}")).filter(|text| fits(kind, text));
    let texts: Vec<String> = fitting.map(|text| format!("\"{text}\"")).collect();
    (!texts.is_empty()).then(|| list(texts.into_iter(), "or"))
}

/// Whether an amount would be taken.
pub(crate) fn fits(kind: &Kind, text: &str) -> bool {
    match kind {
        Kind::Duration { min, max } | Kind::Endless { min, max } => {
            amount::duration(text).is_ok_and(|found| (*min..=*max).contains(&found))
        }
        Kind::Size { min, max } => amount::size(text).is_ok_and(|found| (*min..=*max).contains(&found)),
        _ => false,
    }
}

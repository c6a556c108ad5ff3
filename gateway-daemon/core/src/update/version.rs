//! Which of two versions is the newer one, so that an update is not the way back to a hole that was closed.
//!
//! A version is numbers with dots, and after a `-`, `~` or `+` what makes it more precise: `1.10`, `2026.05.1`, `1.2.0-rc1`, `1.2.0-12-g3f2a`. Numbers are
//! compared as numbers, and missing ones are 0. What is made more precise by a word comes before the version itself (`-rc1`, `~beta`: Semantic
//! Versioning 2.0.0, 11.3), by a number or after `+` behind it (`-12-g3f2a`, as `git describe` counts commits since a tag).

use std::cmp::Ordering;

/// Longest version that is compared, bytes: RAUC's manifests have short ones.
pub const VERSION_BYTES_MAX: usize = 100;

/// How the first stands to the second; `None` where one of them is no version.
#[must_use]
pub fn compare(one: &str, other: &str) -> Option<Ordering> {
    let (one, other) = (Version::parse(one)?, Version::parse(other)?);
    Some(
        one.numbers()
            .cmp(other.numbers())
            .then_with(|| one.place().cmp(&other.place()))
            .then_with(|| parts(one.rest).cmp(parts(other.rest))),
    )
}

/// Whether an update may follow what ran well here. Where no version is known that did, nobody can tell that it is not older.
///
/// # Errors
/// Why not, for a person.
pub fn follows(update: Option<&str>, ran: &[String]) -> Result<(), String> {
    if ran.is_empty() {
        return Err("this system says no version of its own, and none has passed its test".to_owned());
    }
    for known in ran {
        let Some(update) = update else {
            return Err(format!("the update says no version, and {known} ran here"));
        };
        match compare(update, known) {
            Some(Ordering::Less) => {
                return Err(format!("the update is version {update}, and {known} ran here"));
            }
            Some(Ordering::Equal | Ordering::Greater) => {}
            None => {
                return Err(format!(
                    "the versions {update:?} of the update and {known:?}, which ran here, cannot be compared"
                ));
            }
        }
    }
    Ok(())
}

struct Version<'a> {
    release: &'a str,
    /// With the sign that begins it.
    rest: &'a str,
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        if text.len() > VERSION_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let end = text.find(['-', '~', '+']).unwrap_or(text.len());
        let (release, rest) = text.split_at(end);
        let is_number = |number: &str| number.parse::<u64>().is_ok() && !number.starts_with('+');
        release.split('.').all(is_number).then_some(Self { release, rest })
    }

    /// Without zeros at the end, which say nothing.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let mut numbers: Vec<u64> =
            self.release.split('.').filter_map(|number| number.parse().ok()).collect();
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        numbers.into_iter()
    }

    /// Before the release, it, or behind it.
    fn place(&self) -> i8 {
        let mut signs = self.rest.chars();
        match (signs.next(), signs.next()) {
            (None, _) => 0,
            (Some('+'), _) => 1,
            (Some('-'), Some(first)) if first.is_ascii_digit() => 1,
            _ => -1,
        }
    }
}

/// A part of what stands behind the numbers. A number comes before a word, as in Semantic Versioning.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(u64),
    Word(&'a str),
}

/// `rc10` as a word and a number, so that it comes behind `rc9`.
fn parts(rest: &str) -> impl Iterator<Item = Part<'_>> {
    let mut left = rest;
    std::iter::from_fn(move || {
        left = left.trim_start_matches(|sign: char| !sign.is_ascii_alphanumeric());
        let first = left.chars().next()?;
        let alike =
            |sign: char| sign.is_ascii_alphanumeric() && sign.is_ascii_digit() == first.is_ascii_digit();
        let end = left.find(|sign| !alike(sign)).unwrap_or(left.len());
        let (part, after) = left.split_at(end);
        left = after;
        Some(part.parse().map_or(Part::Word(part), Part::Number))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn versions_stand_in_the_order_in_which_they_were_made() {
        let order = [
            "0.1.0",
            "0.1.1-rc1",
            "0.1.1-rc9",
            "0.1.1-rc10",
            "0.1.1",
            "0.1.1-3-g12ab",
            "0.1.1-12-g00ff",
            "0.9",
            "0.10",
            "1.0~beta",
            "v1.0",
            "1.0+2",
            "1.0.0.1",
            "1.2",
            "2026.05",
            "2026.05.1",
            "2026.11",
        ];
        for (place, one) in order.iter().enumerate() {
            for (other_place, other) in order.iter().enumerate() {
                assert_eq!(compare(one, other), Some(place.cmp(&other_place)), "{one} and {other}");
            }
        }
        assert_eq!(compare("1.0", "1"), Some(Ordering::Equal));
        assert_eq!(compare("01.2", "1.2.0"), Some(Ordering::Equal));
    }

    #[test]
    fn what_is_no_version_is_not_compared() {
        let long = "1".repeat(VERSION_BYTES_MAX + 1);
        for text in [
            "",
            "latest",
            "1..2",
            "1.x",
            "-1",
            "+1",
            ".",
            "1.99999999999999999999999",
            "1 2",
            "1\u{663}",
            &long,
        ] {
            assert_eq!(compare(text, "1.0"), None, "{text:?}");
            assert_eq!(compare("1.0", text), None, "{text:?}");
        }
    }

    #[test]
    fn an_update_follows_what_ran_unless_it_is_older_or_unknown() {
        let ran =
            |versions: &[&str]| versions.iter().map(|version| (*version).to_owned()).collect::<Vec<_>>();
        assert!(follows(Some("2.0"), &ran(&["1.0", "2.0"])).is_ok());
        for (update, last) in [
            (Some("1.9"), "2.0"),
            (None, "2.0"),
            (Some("latest"), "2.0"),
            (Some("2.0"), "latest"),
            (Some("2.0"), ""),
        ] {
            let why = follows(update, &ran(&["0.1", last])).unwrap_err();
            assert!(update.is_none_or(|update| why.contains(update)), "{why}");
        }
    }

    #[test]
    fn nothing_follows_where_no_version_is_known_that_ran() {
        for update in [None, Some("2.0"), Some("latest")] {
            assert!(follows(update, &[]).unwrap_err().contains("says no version"), "{update:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_one(one in "[v0-9.~+a-z-]{0,12}", other in "[v0-9.~+a-z-]{0,12}") {
            let there = compare(&one, &other);
            prop_assert_eq!(there, compare(&other, &one).map(Ordering::reverse));
            if compare(&one, &one).is_some() {
                prop_assert!(compare(&one, &one) == Some(Ordering::Equal));
            }
        }
    }
}

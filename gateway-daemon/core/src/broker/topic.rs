//! Topic names and topic filters, checked once ("MQTT Version 3.1.1", 4.7).

use std::fmt;
use std::sync::Arc;

use super::note::Shown;

/// Longest topic name or filter in bytes: an MQTT string has a 16-bit length ("MQTT Version 3.1.1", 1.5.3).
pub const TOPIC_LEN_MAX: usize = 65_535;

/// Most levels of a name or filter. The standard has no limit; a topic of 65,535 slashes would only serve to make the
/// subscription tree deep. 200 slashes are what mosquitto allows.
pub const TOPIC_LEVELS_MAX: usize = 201;

/// Why a text is not a topic name or not a topic filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The text has no characters (4.7.3).
    #[error("a topic needs at least one character")]
    Empty,
    /// The text is longer than [`TOPIC_LEN_MAX`] bytes (4.7.3).
    #[error("a topic has at most {TOPIC_LEN_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// The text has more than [`TOPIC_LEVELS_MAX`] levels.
    #[error("a topic has at most {TOPIC_LEVELS_MAX} levels, this one has {0}")]
    TooDeep(usize),
    /// The text holds U+0000 (4.7.3).
    #[error("a topic may not hold the character U+0000")]
    Nul,
    /// The text holds a control character or a non-character (4.7.3, 1.5.3); see [`forbidden`].
    #[error("a topic may not hold the character {:?}: it is a control character or none at all", .0)]
    Forbidden(char),
    /// A name to publish to holds a wildcard (3.3.2.1).
    #[error("{0:?} is a wildcard and cannot be published to")]
    Wildcard(char),
    /// `#` stands before other levels (4.7.1.2).
    #[error("'#' must be the last level of a filter")]
    HashNotLast,
    /// `+` or `#` shares its level with other characters (4.7.1.2, 4.7.1.3).
    #[error("a wildcard must be a whole level, not part of \"{}\"", Shown::new(.0))]
    NotAlone(String),
}

/// A topic that can be published to: at least one character, no wildcard. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks and takes a topic name.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, TopicError> {
        let text = text.into();
        Self::check(&text)?;
        Ok(Self(text))
    }

    /// Checks a topic name and keeps nothing of it.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub(super) fn check(text: &str) -> Result<(), TopicError> {
        check_text(text, Characters::Checked)?;
        no_wildcard(text)
    }

    /// A name that an earlier version took, which let clients publish to names with control characters: such a name is [`TopicName::is_forbidden`].
    ///
    /// # Errors
    /// Says which other rule the text breaks.
    pub(super) fn stored(text: impl Into<Arc<str>>) -> Result<Self, TopicError> {
        let text = text.into();
        check_text(&text, Characters::Any)?;
        no_wildcard(&text)?;
        Ok(Self(text))
    }

    /// Whether clients and clouds cut the connection that it comes by.
    pub(super) fn is_forbidden(&self) -> bool {
        forbidden(&self.0).is_some()
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as the shared text that rows and drafts carry.
    #[must_use]
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }

    /// Its levels; `a//b` has an empty one.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

/// What a subscription asks for: a topic name in which whole levels may be `+` or, at the end, `#`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks and takes a topic filter.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, TopicError> {
        let text = text.into();
        check_text(&text, Characters::Checked)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.len() > 1 && level.contains(['+', '#']) {
                return Err(TopicError::NotAlone(level.to_owned()));
            }
            if level == "#" && levels.peek().is_some() {
                return Err(TopicError::HashNotLast);
            }
        }
        Ok(Self(text))
    }

    /// The filter as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its levels, wildcards included.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether a name is among what the filter asks for. `a/#` includes `a` (4.7.1.2); a wildcard in the first level does not
    /// include names that begin with `$` (4.7.2).
    #[must_use]
    pub fn matches(&self, name: &TopicName) -> bool {
        if self.0.starts_with(['+', '#']) && is_reserved(name.as_str()) {
            return false;
        }
        let mut levels = name.levels();
        for wanted in self.levels() {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// The text up to the first wildcard: every matching name begins with it, apart from the parent that `a/#` includes.
    pub(super) fn literal_prefix(&self) -> &str {
        let end = self.0.find(['+', '#']).unwrap_or(self.0.len());
        let prefix = &self.0[..end];
        if self.0[end..].starts_with('#') { prefix.strip_suffix('/').unwrap_or(prefix) } else { prefix }
    }
}

/// Whether a name belongs to the server (`$SYS/...`): kept out of wildcards in the first level (4.7.2).
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name.starts_with('$')
}

/// The first character that no topic may hold: U+0000 to U+001F, U+007F to U+009F, U+FDD0 to U+FDEF, and the last two of each plane. The standard
/// leaves it to the receiver ("MQTT Version 3.1.1", 1.5.3); mosquitto and libmosquitto cut the connection that one comes by, so whoever lets one in
/// lets one client stop others, and the cloud.
#[must_use]
pub fn forbidden(text: &str) -> Option<char> {
    if text.bytes().all(is_plain) {
        return None;
    }
    text.chars().find(|c| {
        matches!(c, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fdd0}'..='\u{fdef}')
            || u32::from(*c) & 0xfffe == 0xfffe
    })
}

/// ASCII without control characters.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..0x7f)
}

/// Whether [`forbidden`] characters are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Characters {
    Checked,
    Any,
}

fn no_wildcard(text: &str) -> Result<(), TopicError> {
    match text.bytes().find(|byte| matches!(byte, b'+' | b'#')) {
        Some(byte) => Err(TopicError::Wildcard(char::from(byte))),
        None => Ok(()),
    }
}

fn check_text(text: &str, characters: Characters) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_LEN_MAX {
        return Err(TopicError::TooLong(text.len()));
    }
    // One pass without a way out: every message of a client comes through here.
    let (mut levels, mut nul, mut plain) = (1_usize, false, true);
    for byte in text.bytes() {
        levels += usize::from(byte == b'/');
        nul |= byte == 0;
        plain &= is_plain(byte);
    }
    if nul {
        return Err(TopicError::Nul);
    }
    if !plain
        && characters == Characters::Checked
        && let Some(character) = forbidden(text)
    {
        return Err(TopicError::Forbidden(character));
    }
    if levels > TOPIC_LEVELS_MAX { Err(TopicError::TooDeep(levels)) } else { Ok(()) }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(filter: &str, name: &str) -> bool {
        TopicFilter::new(filter).unwrap().matches(&TopicName::new(name).unwrap())
    }

    #[test]
    fn the_examples_of_the_standard_match_as_it_says() {
        for (filter, name) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
            ("sport/#", "sport"),
            ("#", "anything/at/all"),
            ("#", "/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("+", "finance"),
            ("$SYS/#", "$SYS/uptime"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("/finance", "/finance"),
            ("Accounts payable", "Accounts payable"),
            ("größe/+", "größe/µ"),
        ] {
            assert!(matches(filter, name), "{filter} {name}");
        }
        for (filter, name) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("#", "$SYS/uptime"),
            ("+/monitor/Clients", "$SYS/monitor/Clients"),
            ("ACCOUNTS", "accounts"),
            ("/finance", "finance"),
            ("finance", "finance/"),
            ("a/b", "a"),
        ] {
            assert!(!matches(filter, name), "{filter} {name}");
        }
    }

    #[test]
    fn names_that_cannot_be_published_to_are_refused_with_their_reason() {
        let error = |text: &str| TopicName::new(text).unwrap_err();
        assert_eq!(error(""), TopicError::Empty);
        assert_eq!(error("a/+/b"), TopicError::Wildcard('+'));
        assert_eq!(error("a#"), TopicError::Wildcard('#'));
        assert_eq!(error("a\0b"), TopicError::Nul);
        assert_eq!(error(&"x".repeat(65_536)), TopicError::TooLong(65_536));
        assert_eq!(error(&"/".repeat(201)), TopicError::TooDeep(202));
        for good in ["/", "a b", "//", "$SYS", "ä/ö", &"x".repeat(65_535), &"/".repeat(199)] {
            TopicName::new(good).unwrap();
        }
    }

    #[test]
    fn filters_with_misplaced_wildcards_are_refused_with_their_reason() {
        let error = |text: &str| TopicFilter::new(text).unwrap_err();
        assert_eq!(error(""), TopicError::Empty);
        assert_eq!(error("a/#/b"), TopicError::HashNotLast);
        assert_eq!(error("#/"), TopicError::HashNotLast);
        assert_eq!(error("sport/tennis#"), TopicError::NotAlone("tennis#".into()));
        assert_eq!(error("sport+/a"), TopicError::NotAlone("sport+".into()));
        assert_eq!(error("++"), TopicError::NotAlone("++".into()));
        assert_eq!(error("a\0"), TopicError::Nul);
        for good in ["#", "+", "+/+", "/#", "+/tennis/#", "a//+", "$SYS/#"] {
            TopicFilter::new(good).unwrap();
        }
    }

    #[test]
    fn control_characters_and_non_characters_are_in_no_name_and_no_filter_and_their_neighbours_are() {
        let bad =
            ['\u{1}', '\t', '\n', '\u{1f}', '\u{7f}', '\u{80}', '\u{85}', '\u{9f}', '\u{fdd0}', '\u{fdef}'];
        let ends = (0..=16).flat_map(|plane| [0xfffe, 0xffff].map(|last| plane << 16 | last));
        let ends = ends.map(|number| char::from_u32(number).unwrap());
        for c in bad.into_iter().chain(ends) {
            let text = format!("x/{c}y");
            assert_eq!(TopicName::new(text.as_str()).unwrap_err(), TopicError::Forbidden(c), "{c:?}");
            assert_eq!(TopicFilter::new(format!("{text}/#")).unwrap_err(), TopicError::Forbidden(c), "{c:?}");
            assert!(TopicName::stored(text).unwrap().is_forbidden(), "what an earlier version took is read");
        }
        for c in [
            ' ',
            '~',
            '\u{a0}',
            '\u{ad}',
            'ü',
            '\u{200b}',
            '\u{fdcf}',
            '\u{fdf0}',
            '\u{fffd}',
            '\u{10000}',
            '\u{1fffd}',
            '😀',
        ] {
            TopicFilter::new(format!("{c}/#")).unwrap();
            assert!(!TopicName::new(format!("x/{c}")).unwrap().is_forbidden());
        }
    }

    #[test]
    fn the_literal_prefix_is_a_prefix_of_every_match() {
        for (filter, prefix) in
            [("a/b", "a/b"), ("a/#", "a"), ("a/+/c", "a/"), ("#", ""), ("+/a", ""), ("/#", "")]
        {
            assert_eq!(TopicFilter::new(filter).unwrap().literal_prefix(), prefix, "{filter}");
        }
    }
}

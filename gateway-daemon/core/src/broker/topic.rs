//! Topic names and topic filters, checked once ("MQTT Version 3.1.1", 4.7).

use std::fmt;
use std::sync::Arc;

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
    /// A name to publish to holds a wildcard (3.3.2.1).
    #[error("{0:?} is a wildcard and cannot be published to")]
    Wildcard(char),
    /// `#` stands before other levels (4.7.1.2).
    #[error("'#' must be the last level of a filter")]
    HashNotLast,
    /// `+` or `#` shares its level with other characters (4.7.1.2, 4.7.1.3).
    #[error("a wildcard must be a whole level, not part of {0:?}")]
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
        check_text(&text)?;
        match text.bytes().find(|byte| matches!(byte, b'+' | b'#')) {
            Some(byte) => Err(TopicError::Wildcard(char::from(byte))),
            None => Ok(Self(text)),
        }
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
        check_text(&text)?;
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

fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_LEN_MAX {
        return Err(TopicError::TooLong(text.len()));
    }
    // One pass without a way out: every message of a client comes through here.
    let (mut levels, mut nul) = (1_usize, false);
    for byte in text.bytes() {
        levels += usize::from(byte == b'/');
        nul |= byte == 0;
    }
    if nul {
        return Err(TopicError::Nul);
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
    fn the_literal_prefix_is_a_prefix_of_every_match() {
        for (filter, prefix) in
            [("a/b", "a/b"), ("a/#", "a"), ("a/+/c", "a/"), ("#", ""), ("+/a", ""), ("/#", "")]
        {
            assert_eq!(TopicFilter::new(filter).unwrap().literal_prefix(), prefix, "{filter}");
        }
    }
}

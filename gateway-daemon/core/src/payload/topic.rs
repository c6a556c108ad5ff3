//! Topic templates: text with `{placeholders}`, checked once.

use crate::tag::Name;

/// Longest topic in bytes: an MQTT string has a 16-bit length ("MQTT Version 3.1.1", 1.5.3).
pub const TOPIC_LEN_MAX: usize = 65_535;

/// Every placeholder of a message topic and what it stands for.
pub const PLACEHOLDERS: [(&str, &str); 5] = [
    ("gateway", "`gateway.id`"),
    ("bus", "name of the bus"),
    ("device", "name of the device"),
    ("group", "name of the poll group, else its number within the device from 1"),
    ("tag", "name of the tag; only with `shape = \"tag\"`"),
];

/// Why a text is not a topic template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing at all.
    #[error("a topic needs at least one character")]
    Empty,
    /// Longer than [`TOPIC_LEN_MAX`] once filled in.
    #[error("a topic has at most {TOPIC_LEN_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A character that a published topic may not hold ("MQTT Version 3.1.1", 4.7.1.1 and 4.7.3).
    #[error("{0:?} is not allowed in a topic that is published to")]
    Character(char),
    /// `{` without `}`, or `}` without `{`.
    #[error("braces do not match; placeholders look like {{device}}")]
    Braces,
    /// A name in braces that stands for nothing.
    #[error("{{{0}}} is not known; use {{gateway}}, {{bus}}, {{device}}, {{group}} or {{tag}}")]
    Unknown(String),
    /// `{tag}` where a message holds many tags.
    #[error("{{tag}} needs shape = \"tag\": a message of a poll group holds many tags")]
    TagInGroup,
}

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) gateway: &'a Name,
    pub(super) bus: &'a Name,
    pub(super) device: &'a Name,
    pub(super) group: &'a Name,
    pub(super) tag: Option<&'a Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Gateway,
    Bus,
    Device,
    Group,
    Tag,
}

/// A checked topic template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

impl Template {
    /// Checks a template.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > TOPIC_LEN_MAX {
            return Err(TopicError::TooLong(text.len()));
        }
        if let Some(bad) = text.chars().find(|c| matches!(c, '+' | '#') || c.is_control()) {
            return Err(TopicError::Character(bad));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(brace);
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let inner = from_brace.strip_prefix('{').ok_or(TopicError::Braces)?;
            let (word, after) = inner.split_once('}').ok_or(TopicError::Braces)?;
            pieces.push(match word {
                "gateway" => Piece::Gateway,
                "bus" => Piece::Bus,
                "device" => Piece::Device,
                "group" => Piece::Group,
                "tag" => Piece::Tag,
                other => return Err(TopicError::Unknown(other.to_owned())),
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// Fills in the words.
    pub(super) fn fill(&self, words: &Words<'_>) -> Result<String, TopicError> {
        let mut topic = String::new();
        for piece in &self.pieces {
            topic.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Gateway => words.gateway.as_str(),
                Piece::Bus => words.bus.as_str(),
                Piece::Device => words.device.as_str(),
                Piece::Group => words.group.as_str(),
                Piece::Tag => words.tag.ok_or(TopicError::TagInGroup)?.as_str(),
            });
        }
        if topic.len() > TOPIC_LEN_MAX { Err(TopicError::TooLong(topic.len())) } else { Ok(topic) }
    }
}

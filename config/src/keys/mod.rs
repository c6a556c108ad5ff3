//! Every key of the configuration file, once: the reader, the JSON Schema and docs/config.md all come from these tables.

pub(crate) mod board;
pub(crate) mod broker;
pub(crate) mod field;
pub(crate) mod network;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod uplink;

use std::time::Duration;

/// A table of the file, such as `[bus.NAME]`.
#[derive(Debug)]
pub(crate) struct Section {
    /// How it is written in the file.
    pub(crate) title: &'static str,
    /// What it is for.
    pub(crate) doc: &'static str,
    /// Its keys in the order of the reference.
    pub(crate) keys: &'static [Key],
    /// Words that other products use, and what they are called here.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
    /// Keys that are refused with a sentence of their own.
    pub(crate) refused: &'static [(&'static str, &'static str)],
}

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) need: Need,
    /// Where the key makes sense, empty for everywhere: the `driver`s of a bus, the `type`s of a tag.
    pub(crate) only: &'static [&'static str],
    /// What is so without the key, for somebody who wanted to switch it off; empty where its default or its need say that.
    pub(crate) without: &'static str,
    pub(crate) doc: &'static str,
}

/// What happens when a key is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It is reported.
    Required,
    /// Its doc says what.
    Optional,
    /// It has this value, written as in TOML.
    Default(&'static str),
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Kind {
    Bool,
    /// A whole number, both ends included.
    Int {
        min: i64,
        max: i64,
        unit: &'static str,
    },
    /// A finite number.
    Float {
        min: f64,
        max: f64,
    },
    /// Text such as "500ms".
    Duration {
        min: Duration,
        max: Duration,
    },
    /// Text such as "7d", or "never".
    Endless {
        min: Duration,
        max: Duration,
    },
    /// Text such as "512MB".
    Size {
        min: u64,
        max: u64,
    },
    /// Text of 1 to `max` bytes without control characters.
    Text {
        max: usize,
    },
    /// true, false, or text of 1 to `max` bytes.
    Flagged {
        max: usize,
    },
    /// A [`gateway_core::tag::Name`].
    Name,
    /// One of some words, or words that other products use for them.
    Choice(&'static [Word], &'static [(&'static str, &'static str)]),
    /// An existing file, relative to the configuration.
    File,
    /// A path that need not exist yet.
    Path,
    /// A list of texts.
    Texts,
    /// A list of whole numbers, both ends included.
    Ints {
        min: i64,
        max: i64,
    },
    /// A list of topic filters, or tables where a filter needs more.
    Rules(&'static Section),
    /// A number of engineering units or a text such as "1%".
    Deadband,
    /// A device path or a TCP port, depending on the driver.
    Port,
    /// A table of its own.
    Table(&'static Section),
    /// Tables with names: `[bus.NAME]`.
    Named(&'static Section),
    /// Tables with names of any characters up to so many bytes: `[broker.client."..."]`.
    Quoted(&'static Section, usize),
    /// A list of tables: `[[device.NAME.poll]]`.
    List(&'static Section),
}

/// A word of a [`Kind::Choice`].
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) word: &'static str,
    pub(crate) doc: &'static str,
}

const fn word(word: &'static str, doc: &'static str) -> Word {
    Word { word, doc }
}

const fn key(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, need: Need::Optional, only: &[], without: "", doc }
}

impl Key {
    const fn required(mut self) -> Self {
        self.need = Need::Required;
        self
    }

    const fn or(mut self, literal: &'static str) -> Self {
        self.need = Need::Default(literal);
        self
    }

    const fn without(mut self, sentence: &'static str) -> Self {
        self.without = sentence;
        self
    }

    const fn only(mut self, words: &'static [&'static str]) -> Self {
        self.only = words;
        self
    }
}

const fn int(min: i64, max: i64, unit: &'static str) -> Kind {
    Kind::Int { min, max, unit }
}

const fn duration(min_ms: u64, max_ms: u64) -> Kind {
    Kind::Duration { min: Duration::from_millis(min_ms), max: Duration::from_millis(max_ms) }
}

const fn endless(min_ms: u64, max_ms: u64) -> Kind {
    Kind::Endless { min: Duration::from_millis(min_ms), max: Duration::from_millis(max_ms) }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KB: u64 = 1000;
const MB: u64 = 1000 * KB;
const GB: u64 = 1000 * MB;
const TB: u64 = 1000 * GB;

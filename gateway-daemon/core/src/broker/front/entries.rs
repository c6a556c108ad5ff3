//! Entries of a SUBSCRIBE or UNSUBSCRIBE: checked, and kept as they came. Parsed, sixty thousand filters would take twenty times as much memory.

use mqtt_protocol_core::mqtt::packet::{MqttString, SubEntry};

use super::super::CloseReason;
use super::super::packet::{Version, Wish};
use super::{properties, subscribe};

/// Entries that the library checks at once.
const CHECKED_AT_ONCE: usize = 64;

/// Checked entries.
#[derive(Debug, Clone)]
pub(super) struct Entries {
    bytes: Box<[u8]>,
    /// Where the next one begins.
    at: usize,
    left: usize,
}

impl Entries {
    /// Has the body of a packet checked in pieces that are packets themselves. An entry is a text and `tail` bytes.
    pub(super) fn check(
        version: Version,
        body: &[u8],
        tail: usize,
        mut check: impl FnMut(&[u8]) -> Result<(), CloseReason>,
    ) -> Result<Self, CloseReason> {
        let behind_id = body.get(2..).unwrap_or_default();
        // Properties that cannot be read are for the library to say.
        let bytes = match version {
            Version::V5 => properties::section(behind_id).map_or(&[][..], |(_, entries)| entries),
            Version::V31 | Version::V311 => behind_id,
        };
        let mut piece = body[..body.len() - bytes.len()].to_vec();
        let (mut rest, mut left) = (bytes, 0);
        loop {
            let (count, end) = first_entries(rest, tail);
            piece.extend_from_slice(&rest[..end]);
            check(&piece)?;
            (rest, left) = (&rest[end..], left + count);
            if rest.is_empty() {
                break;
            }
            piece.truncate(2);
            piece.extend((version == Version::V5).then_some(0));
        }
        if left == 0 {
            return Err(CloseReason::Malformed("properties that cannot be read"));
        }
        Ok(Self { bytes: bytes.into(), at: 0, left })
    }

    fn next<T>(&mut self, parse: impl FnOnce(&[u8]) -> Option<(T, usize)>) -> Option<T> {
        let (entry, len) = parse(self.bytes.get(self.at..)?)?;
        self.at += len;
        self.left = self.left.checked_sub(1)?;
        Some(entry)
    }
}

/// How many entries a piece has, and where it ends: with all that is left if what comes next is no whole entry.
fn first_entries(bytes: &[u8], tail: usize) -> (usize, usize) {
    let mut end = 0;
    for count in 0..CHECKED_AT_ONCE {
        let len = bytes[end..].first_chunk().map(|len| 2 + usize::from(u16::from_be_bytes(*len)) + tail);
        match len {
            Some(len) if len <= bytes.len() - end => end += len,
            _ => return (count, bytes.len()),
        }
    }
    (CHECKED_AT_ONCE, end)
}

/// What a SUBSCRIBE asks for.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Wishes {
    pub(super) entries: Entries,
    pub(super) version: Version,
    /// A bridge says what subscribers of 5.0 say with every subscription.
    pub(super) bridge: bool,
    pub(super) identifier: Option<u32>,
}

impl Wishes {
    /// Bytes of memory.
    pub(in crate::broker) fn bytes(&self) -> usize {
        self.entries.bytes.len()
    }
}

impl Iterator for Wishes {
    type Item = Wish;

    fn next(&mut self) -> Option<Wish> {
        let entry = self.entries.next(|bytes| SubEntry::parse(bytes).ok())?;
        let mut wish = subscribe::wish(&entry, self.version, self.identifier).ok()?;
        if self.bridge {
            wish.options.retain_as_published = true;
            wish.options.no_local = !wish.filter.starts_with("$share/");
        }
        Some(wish)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.entries.left, Some(self.entries.left))
    }
}

impl ExactSizeIterator for Wishes {}

/// What an UNSUBSCRIBE gives up.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Texts(pub(super) Entries);

impl Texts {
    /// Bytes of memory.
    pub(in crate::broker) fn bytes(&self) -> usize {
        self.0.bytes.len()
    }
}

impl Iterator for Texts {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.0.next(|bytes| MqttString::decode(bytes).ok()).map(|text| text.as_str().to_owned())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.left, Some(self.0.left))
    }
}

impl ExactSizeIterator for Texts {}

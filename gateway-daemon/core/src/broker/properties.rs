//! Properties of 5.0 (2.2.2): how they lie in a packet, and those that a message keeps.
//!
//! A message keeps them as one block of bytes, exactly as they leave in a PUBLISH: whoever sends 1 kB of them costs 1 kB of memory and not the
//! hundred that a list of enums would take, and nothing is encoded again for a subscriber. [`Walk`] looks at properties where they lie and
//! allocates nothing.

use std::sync::Arc;

use super::packet::shared_block;

/// Most properties of one packet, those of a will counted by themselves. Clients send a handful; the library that reads the rare packets makes a value
/// of 60 bytes of each, however short it is.
pub(super) const PROPERTIES_MAX: usize = 128;

/// Most bytes of the properties of one packet, those of a will counted by themselves: a trace context or a certificate as correlation data fits, and
/// [`super::front::HELLO_BYTES_MAX`] is no more than that beside the largest will.
pub(super) const PROPERTIES_BYTES_MAX: usize = 16 << 10;

/// Property identifiers (2.2.2.2).
pub(super) mod id {
    pub(in crate::broker) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(in crate::broker) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(in crate::broker) const CONTENT_TYPE: u8 = 0x03;
    pub(in crate::broker) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in crate::broker) const CORRELATION: u8 = 0x09;
    pub(in crate::broker) const SUBSCRIPTION: u8 = 0x0b;
    pub(in crate::broker) const SESSION_EXPIRY: u8 = 0x11;
    pub(in crate::broker) const ASSIGNED_CLIENT: u8 = 0x12;
    pub(in crate::broker) const KEEP_ALIVE: u8 = 0x13;
    pub(in crate::broker) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(in crate::broker) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(in crate::broker) const PROBLEM_INFORMATION: u8 = 0x17;
    pub(in crate::broker) const WILL_DELAY: u8 = 0x18;
    pub(in crate::broker) const RESPONSE_INFORMATION_WANTED: u8 = 0x19;
    pub(in crate::broker) const RESPONSE_INFORMATION: u8 = 0x1a;
    pub(in crate::broker) const SERVER: u8 = 0x1c;
    pub(in crate::broker) const REASON: u8 = 0x1f;
    pub(in crate::broker) const RECEIVE_MAX: u8 = 0x21;
    pub(in crate::broker) const ALIAS_MAX: u8 = 0x22;
    pub(in crate::broker) const ALIAS: u8 = 0x23;
    pub(in crate::broker) const QOS_MAX: u8 = 0x24;
    pub(in crate::broker) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(in crate::broker) const USER: u8 = 0x26;
    pub(in crate::broker) const PACKET_MAX: u8 = 0x27;
    pub(in crate::broker) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(in crate::broker) const SUBSCRIPTION_AVAILABLE: u8 = 0x29;
    pub(in crate::broker) const SHARED_AVAILABLE: u8 = 0x2a;
}

/// The value of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number of one, two or four bytes or a variable byte integer.
    Number(u32),
    /// A string, not checked.
    Text(&'a [u8]),
    /// Binary data.
    Bytes(&'a [u8]),
    /// A name and a value, not checked.
    Pair(&'a [u8], &'a [u8]),
}

/// The bytes are no properties: an identifier that does not exist, or a value that is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoProperty;

/// Properties where they lie, without their length before them. Ends after the first that cannot be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a>(pub(super) &'a [u8]);

impl<'a> Walk<'a> {
    fn property(&mut self) -> Option<(u8, Value<'a>)> {
        let id = *self.0.split_off_first()?;
        let value = match id {
            id::PAYLOAD_FORMAT
            | id::PROBLEM_INFORMATION
            | id::RESPONSE_INFORMATION_WANTED
            | id::QOS_MAX
            | id::RETAIN_AVAILABLE
            | id::WILDCARD_AVAILABLE
            | id::SUBSCRIPTION_AVAILABLE
            | id::SHARED_AVAILABLE => Value::Number((*self.0.split_off_first()?).into()),
            id::KEEP_ALIVE | id::RECEIVE_MAX | id::ALIAS_MAX | id::ALIAS => Value::Number(self.u16()?.into()),
            id::MESSAGE_EXPIRY | id::SESSION_EXPIRY | id::WILL_DELAY | id::PACKET_MAX => {
                let (number, rest) = self.0.split_first_chunk()?;
                self.0 = rest;
                Value::Number(u32::from_be_bytes(*number))
            }
            id::SUBSCRIPTION => {
                let (number, len) = varint(self.0)?;
                self.0 = self.0.get(len..)?;
                Value::Number(u32::try_from(number).ok()?)
            }
            id::CORRELATION | id::AUTHENTICATION_DATA => Value::Bytes(self.short()?),
            id::USER => Value::Pair(self.short()?, self.short()?),
            id::CONTENT_TYPE
            | id::RESPONSE_TOPIC
            | id::ASSIGNED_CLIENT
            | id::AUTHENTICATION_METHOD
            | id::RESPONSE_INFORMATION
            | id::SERVER
            | id::REASON => Value::Text(self.short()?),
            _ => return None,
        };
        Some((id, value))
    }

    fn u16(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?.into();
        self.0.split_off(..len)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<(u8, Value<'a>), NoProperty>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let property = self.property().ok_or(NoProperty);
        if property.is_err() {
            self.0 = &[];
        }
        Some(property)
    }
}

/// A variable byte integer at the front of `bytes` (1.5.5), and how many bytes it takes.
pub(super) fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// What a publisher of 5.0 adds to a message and the broker hands on unchanged (3.3.2.3): payload format if it is text, content type, response topic,
/// correlation data, then user properties in their order. At least one of them. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Properties(Arc<[u8]>);

impl Properties {
    /// As they stand in a PUBLISH.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the body is said to be UTF-8 text.
    pub(super) fn is_text(&self) -> bool {
        self.0.starts_with(&[id::PAYLOAD_FORMAT, 1])
    }

    /// Each of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, Value<'_>)> {
        Walk(&self.0).map_while(Result::ok)
    }

    /// Bytes of memory they cost.
    pub(super) fn cost(&self) -> u64 {
        shared_block(self.0.len())
    }
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Writes [`Properties`]; call its functions in the order that they stand in. Strings and data have at most 65,535 bytes.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// One that has room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// The body is text.
    pub(super) fn text(&mut self) {
        self.0.extend_from_slice(&[id::PAYLOAD_FORMAT, 1]);
    }

    /// A string or binary data.
    pub(super) fn short(&mut self, id: u8, bytes: &[u8]) {
        self.0.push(id);
        self.put(bytes);
    }

    /// A user property.
    pub(super) fn user(&mut self, name: &[u8], value: &[u8]) {
        self.0.push(id::USER);
        self.put(name);
        self.put(value);
    }

    /// What was written; `None` if it was nothing.
    pub(super) fn finish(self) -> Option<Properties> {
        (!self.0.is_empty()).then(|| Properties(self.0.into()))
    }

    fn put(&mut self, bytes: &[u8]) {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&len.to_be_bytes());
        self.0.extend_from_slice(&bytes[..usize::from(len)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Vec<Result<(u8, Value<'_>), NoProperty>> {
        Walk(bytes).collect()
    }

    #[test]
    fn every_kind_of_value_is_read_where_it_lies() {
        let bytes =
            b"\x01\x01\x23\x00\x07\x02\x00\x00\x00\x3c\x0b\xff\x7f\x03\0\x01t\x09\0\x02\0\xff\x26\0\x01n\0\0";
        let expected = [
            (1, Value::Number(1)),
            (0x23, Value::Number(7)),
            (2, Value::Number(60)),
            (0x0b, Value::Number(16_383)),
            (3, Value::Text(b"t")),
            (9, Value::Bytes(b"\0\xff")),
            (0x26, Value::Pair(b"n", b"")),
        ];
        assert_eq!(walk(bytes), expected.map(Ok));
    }

    #[test]
    fn what_is_cut_short_or_unknown_ends_the_walk() {
        for bytes in [
            &b"\0"[..],
            b"\x7f\0",
            b"\x01",
            b"\x02\0\0\0",
            b"\x03\0\x02a",
            b"\x26\0\0",
            b"\x0b\xff\xff\xff\xff",
        ] {
            assert_eq!(walk(bytes), [Err(NoProperty)], "{bytes:02x?}");
        }
        assert_eq!(walk(b"\x01\x01\x04").len(), 2);
    }

    #[test]
    fn properties_of_nothing_are_none_and_cost_what_their_bytes_cost() {
        assert_eq!(Writer::default().finish(), None);
        let mut writer = Writer::default();
        for _ in 0..1000 {
            writer.user(b"", b"");
        }
        let properties = writer.finish().unwrap();
        assert_eq!(properties.as_bytes().len(), 5000);
        assert!(properties.cost() < 5100, "a thousand empty ones cost no more than their bytes");
    }
}

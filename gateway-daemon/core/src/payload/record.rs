//! Readings of one cycle as compact bytes, drawn in the documentation of [`super`].

use std::sync::Arc;

use super::DecodeError;
use super::schema::SchemaId;
use super::settings::Shape;
use super::wire::{Reader, put_text, put_varint, unzigzag, zigzag};
use crate::tag::{BootNs, Reason, Sample, Value};

/// Most readings of one record: about 30 kB of JSON, far below the packet limits of clouds (128 kB and up), and a hostile count
/// cannot ask for much memory. A larger poll group becomes several messages, split at multiples of this index.
pub const RECORD_READINGS_MAX: usize = 512;

/// First byte of a record.
const RECORD_VERSION: u8 = 1;

const FLAG_SHAPE_TAG: u8 = 0x01;
const FLAG_THINNED: u8 = 0x02;

const KIND_MASK: u8 = 0x0f;
/// The index is one above that of the reading before (0 for the first).
const NEXT_INDEX: u8 = 0x10;
/// The offset is that of the reading before (0 for the first).
const SAME_OFFSET: u8 = 0x20;

const KIND_FALSE: u8 = 0;
const KIND_TRUE: u8 = 1;
const KIND_INT: u8 = 2;
const KIND_UINT: u8 = 3;
const KIND_F32: u8 = 4;
const KIND_F64: u8 = 5;
const KIND_TEXT: u8 = 6;
const KIND_BAD: u8 = 7;

/// What stands before the readings of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What the indices mean.
    pub schema: SchemaId,
    /// Which JSON shape it becomes.
    pub shape: Shape,
    /// Whether readings of several cycles were joined by [`super::thin()`].
    pub thinned: bool,
    /// The moment of the earliest reading; the boot is that of the row.
    pub base: BootNs,
}

/// One reading of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Index of the tag in the schema.
    pub index: u16,
    /// Microseconds after the record's base.
    pub offset_us: u64,
    /// What was read, or why not.
    pub sample: Sample,
}

/// A decoded record: at least one and at most [`RECORD_READINGS_MAX`] readings, indices strictly ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What stands before the readings.
    pub head: Head,
    /// The readings.
    pub entries: Vec<Entry>,
}

impl Record {
    /// Writes the record; the inverse of [`Record::decode`] for records that keep their invariants.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + 6 * self.entries.len());
        let entries = self.entries.iter().map(|entry| (entry.index, entry.offset_us, &entry.sample));
        write(&mut out, &self.head, entries);
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Any byte that [`Record::encode`] would not have written: a damaged row must not become a value.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let head = read_head(&mut reader)?;
        let count = usize::try_from(reader.varint()?).map_err(|_| DecodeError::Count)?;
        if count == 0 || count > RECORD_READINGS_MAX || count > reader.left() {
            return Err(DecodeError::Count);
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = read_entry(&mut reader, entries.last())?;
            entries.push(entry);
        }
        reader.end()?;
        Ok(Self { head, entries })
    }
}

/// Reads only what stands before the readings.
///
/// # Errors
/// As [`Record::decode`], for the head alone.
pub fn peek(bytes: &[u8]) -> Result<Head, DecodeError> {
    read_head(&mut Reader::new(bytes))
}

/// Writes a record into `out` from (index, µs after base, sample) in ascending order of the indices.
pub(super) fn write<'a>(
    out: &mut Vec<u8>,
    head: &Head,
    entries: impl ExactSizeIterator<Item = (u16, u64, &'a Sample)>,
) {
    out.push(RECORD_VERSION);
    let shape = if head.shape == Shape::Tag { FLAG_SHAPE_TAG } else { 0 };
    out.push(shape | if head.thinned { FLAG_THINNED } else { 0 });
    out.extend_from_slice(&head.schema.0.to_le_bytes());
    out.extend_from_slice(&head.base.0.to_le_bytes());
    put_varint(out, entries.len() as u64);
    let mut next_index = 0u16;
    let mut offset_before = 0u64;
    for (index, offset_us, sample) in entries {
        let mut marks = 0;
        if index == next_index {
            marks |= NEXT_INDEX;
        }
        if offset_us == offset_before {
            marks |= SAME_OFFSET;
        }
        let at = out.len();
        out.push(marks);
        if index != next_index {
            put_varint(out, u64::from(index.wrapping_sub(next_index)));
        }
        if offset_us != offset_before {
            put_varint(out, offset_us);
        }
        let kind = write_sample(out, sample);
        out[at] |= kind;
        next_index = index.wrapping_add(1);
        offset_before = offset_us;
    }
}

/// Writes the value and returns its kind.
fn write_sample(out: &mut Vec<u8>, sample: &Sample) -> u8 {
    match sample {
        Sample::Good(Value::Bool(false)) => KIND_FALSE,
        Sample::Good(Value::Bool(true)) => KIND_TRUE,
        Sample::Good(Value::Int(value)) => {
            put_varint(out, zigzag(*value));
            KIND_INT
        }
        Sample::Good(Value::UInt(value)) => {
            put_varint(out, *value);
            KIND_UINT
        }
        // A float that is not finite is never a value (`tag`); should one get here, it must not become one.
        Sample::Good(Value::Float(value)) if !value.is_finite() => {
            write_sample(out, &Sample::Bad(Reason::NotANumber))
        }
        Sample::Good(Value::Float(value)) => match narrow(*value) {
            Some(narrow) => {
                out.extend_from_slice(&narrow.to_le_bytes());
                KIND_F32
            }
            None => {
                out.extend_from_slice(&value.to_le_bytes());
                KIND_F64
            }
        },
        Sample::Good(Value::Text(text)) => {
            put_text(out, text);
            KIND_TEXT
        }
        Sample::Bad(reason) => {
            out.push(reason_code(*reason));
            if let Reason::Exception(code) = reason {
                out.push(*code);
            }
            debug_assert!(!matches!(reason, Reason::Other(..CODES)), "a code that has a meaning here");
            KIND_BAD
        }
    }
}

/// The same number as an f32, if there is one.
fn narrow(value: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "checked by comparing the bits of the way back")]
    let narrow = value as f32;
    (f64::from(narrow).to_bits() == value.to_bits()).then_some(narrow)
}

fn read_head(reader: &mut Reader<'_>) -> Result<Head, DecodeError> {
    match reader.byte()? {
        RECORD_VERSION => {}
        version => return Err(DecodeError::Version(version)),
    }
    let flags = reader.byte()?;
    if flags & !(FLAG_SHAPE_TAG | FLAG_THINNED) != 0 {
        return Err(DecodeError::Flags(flags));
    }
    let shape = if flags & FLAG_SHAPE_TAG == 0 { Shape::Group } else { Shape::Tag };
    let schema = SchemaId(u64::from_le_bytes(reader.array()?));
    let base = BootNs(u64::from_le_bytes(reader.array()?));
    Ok(Head { schema, shape, thinned: flags & FLAG_THINNED != 0, base })
}

fn read_entry(reader: &mut Reader<'_>, before: Option<&Entry>) -> Result<Entry, DecodeError> {
    let first = reader.byte()?;
    let kind = first & KIND_MASK;
    let marks = first & !KIND_MASK;
    if marks & !(NEXT_INDEX | SAME_OFFSET) != 0 {
        return Err(DecodeError::Flags(first));
    }
    let next_index = before.map_or(Some(0), |entry| entry.index.checked_add(1)).ok_or(DecodeError::Index)?;
    let index = if marks & NEXT_INDEX != 0 {
        next_index
    } else {
        let skipped = u16::try_from(reader.varint()?).map_err(|_| DecodeError::Index)?;
        if skipped == 0 {
            return Err(DecodeError::Index);
        }
        next_index.checked_add(skipped).ok_or(DecodeError::Index)?
    };
    let offset_before = before.map_or(0, |entry| entry.offset_us);
    let offset_us = if marks & SAME_OFFSET != 0 {
        offset_before
    } else {
        let offset = reader.varint()?;
        if offset == offset_before {
            return Err(DecodeError::Offset);
        }
        offset
    };
    Ok(Entry { index, offset_us, sample: read_sample(reader, kind)? })
}

fn read_sample(reader: &mut Reader<'_>, kind: u8) -> Result<Sample, DecodeError> {
    let value = match kind {
        KIND_FALSE => Value::Bool(false),
        KIND_TRUE => Value::Bool(true),
        KIND_INT => Value::Int(unzigzag(reader.varint()?)),
        KIND_UINT => Value::UInt(reader.varint()?),
        KIND_F32 => finite(f64::from(f32::from_le_bytes(reader.array()?)))?,
        KIND_F64 => {
            let value = f64::from_le_bytes(reader.array()?);
            if narrow(value).is_some() {
                return Err(DecodeError::Float);
            }
            finite(value)?
        }
        KIND_TEXT => Value::Text(Arc::from(reader.text()?)),
        KIND_BAD => return read_reason(reader).map(Sample::Bad),
        other => return Err(DecodeError::Kind(other)),
    };
    Ok(Sample::Good(value))
}

fn finite(value: f64) -> Result<Value, DecodeError> {
    if value.is_finite() { Ok(Value::Float(value)) } else { Err(DecodeError::Float) }
}

/// Codes below have a meaning. A version to come takes the next ones, for reasons of one byte, and this one keeps and shows what it does not know.
const CODES: u8 = 9;

fn reason_code(reason: Reason) -> u8 {
    match reason {
        Reason::NotPolled => 0,
        Reason::Timeout => 1,
        Reason::BadAnswer => 2,
        Reason::Exception(_) => 3,
        Reason::BusDown => 4,
        Reason::DeviceDown => 5,
        Reason::OutOfRange => 6,
        Reason::NotANumber => 7,
        Reason::Stale => 8,
        Reason::Other(code) => code,
    }
}

fn read_reason(reader: &mut Reader<'_>) -> Result<Reason, DecodeError> {
    let code = reader.byte()?;
    Ok(match code {
        0 => Reason::NotPolled,
        1 => Reason::Timeout,
        2 => Reason::BadAnswer,
        3 => Reason::Exception(reader.byte()?),
        4 => Reason::BusDown,
        5 => Reason::DeviceDown,
        6 => Reason::OutOfRange,
        7 => Reason::NotANumber,
        8 => Reason::Stale,
        CODES.. => Reason::Other(code),
    })
}

//! A row of a queue as bytes. Pure: no SQL, no files.
//!
//! The key of a row is its seq; the rest is one blob:
//!
//! ```text
//!  bytes  field
//!  1      bits 7-4 version = 1 | bit 3 record (1) or raw (0) | bit 2 retain | bits 1-0 QoS (3 is invalid)
//!  1      bit 0 priority high | bit 1 expiry follows | bit 2 topic inline | bit 3 run inline | bits 7-4 zero
//!  v      topic: its number in the word table, or inline: length (v) and UTF-8 bytes
//!  v      run:   its number in the word table, or inline: boot (8, little endian) and start_ms (v)
//!  v      at, ns since boot
//!  v      readings
//!  [v]    expiry, s
//!  n      body
//!  4      CRC-32 (little endian) over the seq (8, little endian) and all bytes above
//! ```
//!
//! `v` is an unsigned LEB128 number in its shortest form, at most 10 bytes. The topic and the run are numbers because
//! they repeat in every row: a row of ten readings shrinks by a third. Decoding is strict: a row that any bit flip has touched,
//! or whose seq is not its own, is an error, and never a panic.

use std::sync::Arc;

use gateway_core::tag::{BootId, BootNs, RunId};
use gateway_core::uplink::row::{Body, Priority, Qos, Row, Seq};

use super::crc::crc32;

/// Version in the first four bits.
const VERSION: u8 = 1;
/// Longest topic, bytes: MQTT 3.1.1, 1.5.3.
pub(super) const TOPIC_BYTES_MAX: usize = 65_535;
/// Longest LEB128 form of a u64.
const VARINT_BYTES_MAX: usize = 10;
/// Bytes of the checksum at the end.
const CRC_BYTES: usize = 4;

const RECORD: u8 = 0b1000;
const RETAIN: u8 = 0b0100;
const QOS: u8 = 0b0011;
const HIGH: u8 = 0b0001;
const EXPIRY: u8 = 0b0010;
const TOPIC_INLINE: u8 = 0b0100;
const RUN_INLINE: u8 = 0b1000;

/// Why bytes are not a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    #[error("row ends early")]
    Short,
    #[error("checksum of the row does not match")]
    Checksum,
    #[error("row of format version {0}, expected {VERSION}")]
    Version(u8),
    #[error("row has bits or numbers that this format does not know")]
    Malformed,
    #[error("row names a topic or run that the word table does not hold")]
    UnknownWord,
}

/// A topic as a row names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopicRef<'a> {
    Word(u32),
    Inline(&'a str),
}

/// A run as a row names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunRef {
    Word(u32),
    Inline(RunId),
}

/// What the numbers in a row stand for.
pub(super) trait Lookup {
    fn topic(&self, word: u32) -> Option<&Arc<str>>;
    fn run(&self, word: u32) -> Option<RunId>;
}

/// A decoded row that still borrows its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decoded<'a> {
    pub(super) priority: Priority,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) record: bool,
    pub(super) topic: TopicRef<'a>,
    pub(super) run: RunRef,
    pub(super) at: BootNs,
    pub(super) readings: u32,
    pub(super) expiry_s: Option<u32>,
    pub(super) body: &'a [u8],
}

/// Appends the blob of `row` to `out`. `topic` and `run` are their numbers in the word table, if they have one.
pub(super) fn encode(out: &mut Vec<u8>, row: &Row, topic: Option<u32>, run: Option<u32>) {
    let start = out.len();
    let record = if matches!(row.body, Body::Record(_)) { RECORD } else { 0 };
    let retain = if row.retain { RETAIN } else { 0 };
    out.push(VERSION << 4 | record | retain | row.qos as u8);
    let high = if row.priority == Priority::High { HIGH } else { 0 };
    let expiry = if row.expiry_s.is_some() { EXPIRY } else { 0 };
    let topic_inline = if topic.is_none() { TOPIC_INLINE } else { 0 };
    let run_inline = if run.is_none() { RUN_INLINE } else { 0 };
    out.push(high | expiry | topic_inline | run_inline);
    match topic {
        Some(word) => put_varint(out, word.into()),
        None => {
            put_varint(out, row.topic.len() as u64);
            out.extend_from_slice(row.topic.as_bytes());
        }
    }
    match run {
        Some(word) => put_varint(out, word.into()),
        None => {
            out.extend_from_slice(&row.run.boot.0.to_le_bytes());
            put_varint(out, row.run.start_ms);
        }
    }
    put_varint(out, row.at.0);
    put_varint(out, row.readings.into());
    if let Some(expiry_s) = row.expiry_s {
        put_varint(out, expiry_s.into());
    }
    out.extend_from_slice(row.body.bytes());
    let crc = crc32(&[&row.seq.0.to_le_bytes(), &out[start..]]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Reads the blob stored under `seq`.
pub(super) fn decode(seq: Seq, blob: &[u8]) -> Result<Decoded<'_>, RowError> {
    let (content, crc) = blob.split_last_chunk::<CRC_BYTES>().ok_or(RowError::Short)?;
    if crc32(&[&seq.0.to_le_bytes(), content]) != u32::from_le_bytes(*crc) {
        return Err(RowError::Checksum);
    }
    decode_content(content)
}

/// The blob of the same row under another seq; `None` if it does not decode.
pub(super) fn reseal(was: Seq, seq: Seq, blob: &[u8]) -> Option<Vec<u8>> {
    decode(was, blob).ok()?;
    let (content, _) = blob.split_last_chunk::<CRC_BYTES>()?;
    Some([content, &crc32(&[&seq.0.to_le_bytes(), content]).to_le_bytes()].concat())
}

/// Reads a row behind its checksum.
fn decode_content(content: &[u8]) -> Result<Decoded<'_>, RowError> {
    let mut rest = content;
    let [first, second] = *take(&mut rest, 2)? else { return Err(RowError::Short) };
    if first >> 4 != VERSION {
        return Err(RowError::Version(first >> 4));
    }
    if second & !(HIGH | EXPIRY | TOPIC_INLINE | RUN_INLINE) != 0 {
        return Err(RowError::Malformed);
    }
    let topic = if second & TOPIC_INLINE == 0 {
        TopicRef::Word(take_u32(&mut rest)?)
    } else {
        let length = usize::try_from(take_varint(&mut rest)?).map_err(|_| RowError::Malformed)?;
        if length > TOPIC_BYTES_MAX {
            return Err(RowError::Malformed);
        }
        TopicRef::Inline(std::str::from_utf8(take(&mut rest, length)?).map_err(|_| RowError::Malformed)?)
    };
    let run = if second & RUN_INLINE == 0 {
        RunRef::Word(take_u32(&mut rest)?)
    } else {
        let (boot, after) = rest.split_first_chunk::<8>().ok_or(RowError::Short)?;
        rest = after;
        RunRef::Inline(RunId { boot: BootId(u64::from_le_bytes(*boot)), start_ms: take_varint(&mut rest)? })
    };
    let at = BootNs(take_varint(&mut rest)?);
    let readings = take_u32(&mut rest)?;
    let expiry_s = if second & EXPIRY == 0 { None } else { Some(take_u32(&mut rest)?) };
    Ok(Decoded {
        priority: if second & HIGH == 0 { Priority::Normal } else { Priority::High },
        qos: match first & QOS {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            2 => Qos::ExactlyOnce,
            _ => return Err(RowError::Malformed),
        },
        retain: first & RETAIN != 0,
        record: first & RECORD != 0,
        topic,
        run,
        at,
        readings,
        expiry_s,
        body: rest,
    })
}

impl Decoded<'_> {
    /// The whole row.
    pub(super) fn to_row(self, seq: Seq, words: &impl Lookup) -> Result<Row, RowError> {
        let topic = match self.topic {
            TopicRef::Word(word) => Arc::clone(words.topic(word).ok_or(RowError::UnknownWord)?),
            TopicRef::Inline(topic) => topic.into(),
        };
        let run = match self.run {
            RunRef::Word(word) => words.run(word).ok_or(RowError::UnknownWord)?,
            RunRef::Inline(run) => run,
        };
        let body = if self.record { Body::Record(self.body.into()) } else { Body::Raw(self.body.into()) };
        Ok(Row {
            seq,
            priority: self.priority,
            topic,
            qos: self.qos,
            retain: self.retain,
            body,
            readings: self.readings,
            run,
            at: self.at,
            expiry_s: self.expiry_s,
        })
    }

    /// [`Row::size`] without building the row.
    pub(super) fn size(&self, words: &impl Lookup) -> Result<u64, RowError> {
        let topic = match self.topic {
            TopicRef::Word(word) => words.topic(word).ok_or(RowError::UnknownWord)?.len(),
            TopicRef::Inline(topic) => topic.len(),
        };
        if let RunRef::Word(word) = self.run {
            words.run(word).ok_or(RowError::UnknownWord)?;
        }
        Ok(Row::size_of(topic, self.body.len()))
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = number.to_le_bytes()[0] & 0x7F;
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], RowError> {
    let (taken, after) = rest.split_at_checked(count).ok_or(RowError::Short)?;
    *rest = after;
    Ok(taken)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, RowError> {
    let mut number: u64 = 0;
    for (index, &byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
        let low = u64::from(byte & 0x7F);
        let shift = 7 * index;
        if shift == 63 && low > 1 {
            return Err(RowError::Malformed);
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(RowError::Malformed);
            }
            *rest = &rest[index + 1..];
            return Ok(number);
        }
    }
    Err(if rest.len() < VARINT_BYTES_MAX { RowError::Short } else { RowError::Malformed })
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, RowError> {
    u32::try_from(take_varint(rest)?).map_err(|_| RowError::Malformed)
}

/// Fuzz: any bytes are refused or decode to a row that encodes to the same bytes. The first 8 bytes are the seq, the
/// rest is the blob without its checksum, which is added so that the fuzzer gets past it.
pub(crate) fn fuzz(input: &[u8]) {
    struct Any(Arc<str>);
    impl Lookup for Any {
        fn topic(&self, word: u32) -> Option<&Arc<str>> {
            word.is_multiple_of(2).then_some(&self.0)
        }
        fn run(&self, word: u32) -> Option<RunId> {
            word.is_multiple_of(2).then_some(RunId { boot: BootId(word.into()), start_ms: 1 })
        }
    }
    let Some((seq, content)) = input.split_first_chunk::<8>() else { return };
    let seq = Seq(u64::from_le_bytes(*seq));
    let _ = decode(seq, content);
    let mut blob = content.to_vec();
    blob.extend_from_slice(&crc32(&[&seq.0.to_le_bytes(), content]).to_le_bytes());
    let Ok(decoded) = decode(seq, &blob) else { return };
    let words = Any("any/topic".into());
    let Ok(row) = decoded.to_row(seq, &words) else { return };
    assert_eq!(decoded.size(&words), Ok(row.size()));
    let topic = if let TopicRef::Word(word) = decoded.topic { Some(word) } else { None };
    let run = if let RunRef::Word(word) = decoded.run { Some(word) } else { None };
    let mut again = Vec::new();
    encode(&mut again, &row, topic, run);
    assert_eq!(again, blob);
}

#[cfg(test)]
pub(super) mod tests;

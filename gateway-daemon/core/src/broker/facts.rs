//! Sessions, subscriptions, retained messages and packet identifiers as facts of the store, and back.
//!
//! ```text
//! key of Session        client id
//! key of Subscription   u16 length of the client id, client id, filter with its $share/NAME/
//! key of Retained       topic
//! key of Received       u16 length of the client id, client id, u16 packet identifier
//! key of Released       the same
//!
//! value of Session      0x01, version, flags, u32 expiry s, u64 sent, [u64 RUNNING, u64 ended], [text user], [u32 delay s, message]
//! value of Subscription 0x01, options, [u32 identifier]
//! value of the clock    0x01, u64 running time; its key is a subscription of a client id of no bytes, which no client has
//! value of Retained     message
//! value of Received     0x01 nothing is left to do | 0x02, message: it enters uplinks again after a crash
//! value of Released     0x01, u64 seq
//!
//! message               0x01, flags (bits 0-1 QoS, 2 retain, 3 expires), u64 boot, u64 at, [u32 expiry s], topic, properties, payload
//! properties            flags (bit 0 UTF-8, 1 content type, 2 response topic, 3 correlation, 4 user), then those that are there
//! body of a row         0x01, payload | 0x02, u16 count, u32 subscription identifiers, properties, payload
//! ```
//! `ended` is running time of the broker, all runs together, ns. Version 0.1 wrote the id of a boot in the place of RUNNING and a moment of that boot behind it, and
//! reads only that both are there. The clock it takes for a subscription without a session, which it removes without a word.
//!
//! Numbers are little endian; a text is a u16 length and UTF-8. The first byte of every value names its format.
//!
//! The version before took topics with control characters (`TopicName::is_forbidden`): they are read, and dropped where they would be handed on.
//!
//! What is damaged is skipped and counted, never a panic, and never allocates more than a small multiple of its own bytes.

mod message;
mod order;
mod recovery;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

pub(super) use message::{delivery, row, row_size};
pub(super) use order::{Arrivals, arrivals};
pub(super) use recovery::{RecoveredSession, recover};
pub(super) use wire::Damaged;

use super::change::{FactKey, FactKind, QUEUE_PREFIX, QueueName};
use super::packet::{Message, Options, Testament, Version};
use crate::tag::BootId;
use crate::uplink::row::Seq;
use message::{message, message_len, put_message};
use wire::{Reader, put_short};

/// Longest delay of a will that is stored; seconds fit 32 bits (3.1.3.2.2 of 5.0).
const DELAY_S_MAX: u64 = u32::MAX as u64;

const FORMAT: u8 = 1;
/// Of a Received fact: the message is still needed.
const HOLDS: u8 = 2;
/// Of a Received fact in memory, never on disk: the message is still needed and did not fit into memory.
pub(super) const LEFT_OUT: [u8; 1] = [3];

/// In the place of a boot: running time follows. No boot has this id: they are random numbers of 64 bits.
const RUNNING: u64 = u64::from_le_bytes(*b"running:");

const ENDED: u8 = 1;
const USER: u8 = 2;
const WILL: u8 = 4;
/// Never on disk: there is a will there that did not fit into memory.
const WILL_LEFT_OUT: u8 = 8;

/// What a session is, beside its subscriptions and messages.
#[derive(Debug, Clone)]
pub(super) struct SessionFact {
    /// Protocol of its last connection.
    pub(super) version: Version,
    /// Seconds after the end of the connection at which it is forgotten; `u32::MAX` is never.
    pub(super) expiry_s: u32,
    /// The user it belongs to.
    pub(super) user: Option<Arc<str>>,
    /// Highest seq that was ever sent to the client, when this was written.
    pub(super) sent: Seq,
    /// When its connection ended; `None` while there is one.
    pub(super) ended: Option<Ended>,
    /// A last will that is still to come.
    pub(super) will: Option<Testament>,
    /// A last will is on disk and did not fit into memory.
    pub(super) will_left_out: bool,
}

/// When the connection of a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// At this running time of the broker.
    At(Duration),
    /// Before this run; a version that knew no running time wrote it.
    Earlier,
}

/// The value of a fact; messages are turned into bytes only when they are written.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Ready.
    Bytes(Arc<[u8]>),
    /// A retained message.
    Retained(Arc<Message>),
    /// A message that is received and not released, and that uplinks have not acknowledged.
    Held(Arc<Message>),
}

impl Value {
    /// Bytes it counts for while it is dirty.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Retained(message) => message_len(message),
            Self::Held(message) => 1 + message_len(message),
        }
    }

    /// As the store gets it. `boot` is this boot.
    pub(super) fn encode(&self, boot: BootId) -> Arc<[u8]> {
        let mut out = Vec::with_capacity(self.size());
        match self {
            Self::Bytes(bytes) => return Arc::clone(bytes),
            Self::Retained(message) => put_message(&mut out, message, boot),
            Self::Held(message) => {
                out.push(HOLDS);
                put_message(&mut out, message, boot);
            }
        }
        out.into()
    }
}

/// Name of a client's queue.
pub(super) fn queue_name(client: &str) -> QueueName {
    format!("{QUEUE_PREFIX}{client}").into()
}

/// The fact of a session.
pub(super) fn session_key(client: &Arc<str>) -> FactKey {
    FactKey { kind: FactKind::Session, key: Arc::from(Arc::clone(client)) }
}

/// The fact of a subscription; `filter` with its `$share/NAME/`.
pub(super) fn subscription_key(client: &str, filter: &str) -> FactKey {
    FactKey { kind: FactKind::Subscription, key: of_client(client, filter.as_bytes()) }
}

/// The fact of a retained message; the topic is shared.
pub(super) fn retained_key(topic: &Arc<str>) -> FactKey {
    FactKey { kind: FactKind::Retained, key: Arc::from(Arc::clone(topic)) }
}

/// The fact of a QoS 2 message from a client.
pub(super) fn received_key(client: &str, id: u16) -> FactKey {
    FactKey { kind: FactKind::Received, key: of_client(client, &id.to_le_bytes()) }
}

/// The fact of a QoS 2 message to a client.
pub(super) fn released_key(client: &str, id: u16) -> FactKey {
    FactKey { kind: FactKind::Released, key: of_client(client, &id.to_le_bytes()) }
}

fn of_client(client: &str, rest: &[u8]) -> Arc<[u8]> {
    let mut key = Vec::with_capacity(2 + client.len() + rest.len());
    put_short(&mut key, client.as_bytes());
    key.extend_from_slice(rest);
    key.into()
}

/// The value of a session. `boot` is this boot.
pub(super) fn session(fact: &SessionFact, boot: BootId) -> Value {
    let flags = [(ENDED, fact.ended.is_some()), (USER, fact.user.is_some()), (WILL, fact.will.is_some())];
    let flags = flags.into_iter().fold(0, |flags, (flag, is)| if is { flags | flag } else { flags });
    let mut out = vec![FORMAT, version_number(fact.version), flags];
    out.extend_from_slice(&fact.expiry_s.to_le_bytes());
    out.extend_from_slice(&fact.sent.0.to_le_bytes());
    if let Some(ended) = fact.ended {
        let ended = if let Ended::At(ended) = ended { ended } else { Duration::ZERO };
        out.extend_from_slice(&RUNNING.to_le_bytes());
        out.extend_from_slice(&nanoseconds(ended).to_le_bytes());
    }
    if let Some(user) = &fact.user {
        put_short(&mut out, user.as_bytes());
    }
    if let Some(will) = &fact.will {
        let delay_s = u32::try_from(will.delay.as_secs().min(DELAY_S_MAX)).unwrap_or(u32::MAX);
        out.extend_from_slice(&delay_s.to_le_bytes());
        put_message(&mut out, &will.message, boot);
    }
    Value::Bytes(out.into())
}

/// Reads [`session`].
///
/// # Errors
/// The value is damaged.
pub(super) fn read_session(value: &[u8], boot: BootId) -> Result<SessionFact, Damaged> {
    let mut reader = Reader(value);
    if reader.u8()? != FORMAT {
        return Err(Damaged);
    }
    let version = version_of(reader.u8()?)?;
    let flags = reader.u8()?;
    if flags & !(ENDED | USER | WILL | WILL_LEFT_OUT) != 0 {
        return Err(Damaged);
    }
    let expiry_s = reader.u32()?;
    let sent = Seq(reader.u64()?);
    let ended = if flags & ENDED == 0 {
        None
    } else {
        let known = reader.u64()? == RUNNING;
        let ended = Duration::from_nanos(reader.u64()?);
        Some(if known { Ended::At(ended) } else { Ended::Earlier })
    };
    let user = if flags & USER == 0 { None } else { Some(reader.text()?.into()) };
    let will = if flags & WILL == 0 {
        reader.end()?;
        None
    } else {
        let delay = Duration::from_secs(reader.u32()?.into());
        Some(Testament { message: message(reader, boot)?, delay })
    };
    let will_left_out = flags & WILL_LEFT_OUT != 0;
    Ok(SessionFact { version, expiry_s, user, sent, ended, will, will_left_out })
}

/// The value of a session as it is, but for its will, of which it says only that there is one.
///
/// # Errors
/// The value is damaged.
pub(super) fn without_will(value: &[u8]) -> Result<Arc<[u8]>, Damaged> {
    let mut reader = Reader(value);
    reader.take(2)?;
    let flags = reader.u8()?;
    reader.take(4 + 8)?;
    if flags & ENDED != 0 {
        reader.take(16)?;
    }
    if flags & USER != 0 {
        reader.short()?;
    }
    let mut kept = value[..value.len() - reader.rest().len()].to_vec();
    kept[2] = flags & !WILL | WILL_LEFT_OUT;
    Ok(kept.into())
}

/// The fact of running time.
pub(super) fn clock_key() -> FactKey {
    subscription_key("", "clock")
}

/// The value of running time.
pub(super) fn clock(running: Duration) -> Value {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&nanoseconds(running).to_le_bytes());
    Value::Bytes(out.into())
}

/// Reads [`clock`].
///
/// # Errors
/// The value is damaged.
pub(super) fn read_clock(value: &[u8]) -> Result<Duration, Damaged> {
    let mut reader = Reader(value);
    if reader.u8()? != FORMAT {
        return Err(Damaged);
    }
    let running = Duration::from_nanos(reader.u64()?);
    reader.end()?;
    Ok(running)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The value of a subscription.
pub(super) fn subscription(options: Options) -> Value {
    let flags = options.flags() | u8::from(options.identifier.is_some()) << 6;
    let mut out = vec![FORMAT, flags];
    if let Some(identifier) = options.identifier {
        out.extend_from_slice(&identifier.to_le_bytes());
    }
    Value::Bytes(out.into())
}

/// Reads [`subscription`].
///
/// # Errors
/// The value is damaged.
pub(super) fn read_subscription(value: &[u8]) -> Result<Options, Damaged> {
    let mut reader = Reader(value);
    if reader.u8()? != FORMAT {
        return Err(Damaged);
    }
    let flags = reader.u8()?;
    let identifier = if flags & 0x40 == 0 { None } else { Some(reader.u32()?) };
    if flags & 0x80 != 0 || identifier.is_some_and(|identifier| !(1..=0x0fff_ffff).contains(&identifier)) {
        return Err(Damaged);
    }
    reader.end()?;
    Options::of_flags(flags, identifier).ok_or(Damaged)
}

/// The value of a received identifier: with the message as long as uplinks have not acknowledged it.
pub(super) fn received(held: Option<&Arc<Message>>) -> Value {
    match held {
        Some(message) => Value::Held(Arc::clone(message)),
        None => Value::Bytes([FORMAT].into()),
    }
}

/// What is left of a QoS 2 message that its client has not released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Received {
    /// Its identifier.
    Identifier,
    /// The message, which uplinks may not have.
    Held(Message),
    /// The message is on disk and did not fit into memory.
    LeftOut,
}

/// Reads [`received`].
///
/// # Errors
/// The value is damaged.
pub(super) fn read_received(value: &[u8], boot: BootId) -> Result<Received, Damaged> {
    if value == LEFT_OUT {
        return Ok(Received::LeftOut);
    }
    let mut reader = Reader(value);
    match reader.u8()? {
        FORMAT => reader.end().map(|()| Received::Identifier),
        HOLDS => message(reader, boot).map(Received::Held),
        _ => Err(Damaged),
    }
}

/// Whether a value of [`received`] holds its message, or did before it was left out.
pub(super) fn holds_message(value: &[u8]) -> bool {
    value == LEFT_OUT || value.first() == Some(&HOLDS)
}

/// The value of an identifier of which only the release is left to do.
pub(super) fn released(seq: Seq) -> Value {
    let mut out = vec![FORMAT];
    out.extend_from_slice(&seq.0.to_le_bytes());
    Value::Bytes(out.into())
}

/// Reads [`released`].
///
/// # Errors
/// The value is damaged.
pub(super) fn read_released(value: &[u8]) -> Result<Seq, Damaged> {
    let mut reader = Reader(value);
    if reader.u8()? != FORMAT {
        return Err(Damaged);
    }
    let seq = Seq(reader.u64()?);
    reader.end()?;
    Ok(seq)
}

/// Reads the value of a retained message.
///
/// # Errors
/// The value is damaged.
pub(super) fn read_retained(value: &[u8], boot: BootId) -> Result<Message, Damaged> {
    message(Reader(value), boot)
}

fn version_number(version: Version) -> u8 {
    match version {
        Version::V31 => 3,
        Version::V311 => 4,
        Version::V5 => 5,
    }
}

fn version_of(number: u8) -> Result<Version, Damaged> {
    match number {
        3 => Ok(Version::V31),
        4 => Ok(Version::V311),
        5 => Ok(Version::V5),
        _ => Err(Damaged),
    }
}

//! Messages as bytes: of a row, of a retained message, of a QoS 2 message that is not released, of a last will.

use std::sync::Arc;

use super::wire::{Damaged, Reader, put_short};
use crate::broker::packet::{Delivery, Message};
use crate::broker::properties::{Properties, Value, Writer, id};
use crate::broker::topic::TopicName;
use crate::tag::{BootId, BootNs, RunId};
use crate::uplink::row::{Body, Priority, Qos, Row, Seq};

/// A row whose body is the payload and nothing else.
const PLAIN: u8 = 1;
/// A row with subscription identifiers or properties before its payload.
const FULL: u8 = 2;
/// A message with everything about it.
const MESSAGE: u8 = 1;

const UTF8: u8 = 1;
const CONTENT_TYPE: u8 = 2;
const RESPONSE: u8 = 4;
const CORRELATION: u8 = 8;
const USER: u8 = 16;
const ALL: u8 = 31;

const RETAIN: u8 = 4;
const EXPIRES: u8 = 8;

/// Bytes of the row's body, without building it.
pub(in crate::broker) fn row_size(delivery: &Delivery) -> u64 {
    let message = &delivery.message;
    let mut body = 1 + message.body.len();
    if !delivery.identifiers.is_empty() || message.properties.is_some() {
        body += 2 + 4 * delivery.identifiers.len() + properties_len(message.properties.as_ref());
    }
    Row::size_of(message.topic.as_str().len(), body)
}

/// A message of a session's queue as a row.
pub(in crate::broker) fn row(delivery: &Delivery, seq: Seq, run: RunId) -> Row {
    let message = &delivery.message;
    let mut body = Vec::with_capacity(usize::try_from(row_size(delivery)).unwrap_or(0));
    if delivery.identifiers.is_empty() && message.properties.is_none() {
        body.push(PLAIN);
    } else {
        body.push(FULL);
        let count = u16::try_from(delivery.identifiers.len()).unwrap_or(u16::MAX);
        body.extend_from_slice(&count.to_le_bytes());
        for identifier in delivery.identifiers.iter().take(usize::from(count)) {
            body.extend_from_slice(&identifier.to_le_bytes());
        }
        put_properties(&mut body, message.properties.as_ref());
    }
    body.extend_from_slice(&message.body);
    Row {
        seq,
        priority: Priority::Normal,
        topic: Arc::clone(message.topic.shared()),
        qos: delivery.qos,
        retain: delivery.retain,
        body: Body::Raw(body.into()),
        readings: 0,
        run,
        at: message.at,
        expiry_s: message.expiry_s,
    }
}

/// The message of a row. Its QoS and retain flag as published are not kept; those of the delivery stand for them. A row of another boot is
/// at least as old as this boot.
///
/// # Errors
/// The row is damaged.
pub(in crate::broker) fn delivery(row: &Row, boot: BootId) -> Result<Delivery, Damaged> {
    let Body::Raw(bytes) = &row.body else { return Err(Damaged) };
    let mut reader = Reader(bytes);
    let (identifiers, properties) = match reader.u8()? {
        PLAIN => (Box::default(), None),
        FULL => {
            let count = usize::from(reader.u16()?);
            let bytes = reader.take(count * 4)?;
            let identifiers =
                bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            (identifiers, properties(&mut reader)?)
        }
        _ => return Err(Damaged),
    };
    let message = Message {
        topic: TopicName::stored(Arc::clone(&row.topic)).map_err(|_| Damaged)?,
        body: reader.rest().into(),
        qos: row.qos,
        retain: row.retain,
        properties,
        at: if row.run.boot == boot { row.at } else { BootNs(0) },
        expiry_s: row.expiry_s,
    };
    Ok(Delivery { message: Arc::new(message), qos: row.qos, retain: row.retain, identifiers })
}

/// A whole message as bytes.
pub(super) fn put_message(out: &mut Vec<u8>, message: &Message, boot: BootId) {
    let expires = if message.expiry_s.is_some() { EXPIRES } else { 0 };
    let retain = if message.retain { RETAIN } else { 0 };
    out.extend_from_slice(&[MESSAGE, message.qos as u8 | retain | expires]);
    out.extend_from_slice(&boot.0.to_le_bytes());
    out.extend_from_slice(&message.at.0.to_le_bytes());
    if let Some(expiry_s) = message.expiry_s {
        out.extend_from_slice(&expiry_s.to_le_bytes());
    }
    put_short(out, message.topic.as_str().as_bytes());
    put_properties(out, message.properties.as_ref());
    out.extend_from_slice(&message.body);
}

/// Bytes of [`put_message`].
pub(super) fn message_len(message: &Message) -> usize {
    let expiry = if message.expiry_s.is_some() { 4 } else { 0 };
    let topic = 2 + message.topic.as_str().len();
    18 + expiry + topic + properties_len(message.properties.as_ref()) + message.body.len()
}

/// Reads what [`put_message`] wrote, to the end.
pub(super) fn message(mut reader: Reader<'_>, boot: BootId) -> Result<Message, Damaged> {
    if reader.u8()? != MESSAGE {
        return Err(Damaged);
    }
    let flags = reader.u8()?;
    if flags & !(3 | RETAIN | EXPIRES) != 0 {
        return Err(Damaged);
    }
    let same_boot = reader.u64()? == boot.0;
    let at = BootNs(reader.u64()?);
    let expiry_s = if flags & EXPIRES == 0 { None } else { Some(reader.u32()?) };
    Ok(Message {
        qos: qos(flags & 3)?,
        retain: flags & RETAIN != 0,
        at: if same_boot { at } else { BootNs(0) },
        expiry_s,
        topic: TopicName::stored(reader.text()?).map_err(|_| Damaged)?,
        properties: properties(&mut reader)?,
        body: reader.rest().into(),
    })
}

/// A QoS from its number.
pub(super) fn qos(number: u8) -> Result<Qos, Damaged> {
    match number {
        0 => Ok(Qos::AtMostOnce),
        1 => Ok(Qos::AtLeastOnce),
        2 => Ok(Qos::ExactlyOnce),
        _ => Err(Damaged),
    }
}

fn properties_len(properties: Option<&Properties>) -> usize {
    let Some(properties) = properties else { return 1 };
    let mut users = 0;
    let len: usize = properties
        .iter()
        .map(|(_, value)| match value {
            Value::Number(_) => 0,
            Value::Text(bytes) | Value::Bytes(bytes) => 2 + bytes.len(),
            Value::Pair(name, value) => {
                users = 2;
                4 + name.len() + value.len()
            }
        })
        .sum();
    1 + len + users
}

/// In the order of [`Properties`], which is that of the format.
fn put_properties(out: &mut Vec<u8>, properties: Option<&Properties>) {
    let flags = out.len();
    out.push(0);
    let (mut count_at, mut users) = (0, 0_u16);
    for (id, value) in properties.iter().flat_map(|properties| properties.iter()) {
        out[flags] |= match id {
            id::PAYLOAD_FORMAT => UTF8,
            id::CONTENT_TYPE => CONTENT_TYPE,
            id::RESPONSE_TOPIC => RESPONSE,
            id::CORRELATION => CORRELATION,
            _ => USER,
        };
        match value {
            Value::Number(_) => {}
            Value::Text(bytes) | Value::Bytes(bytes) => put_short(out, bytes),
            Value::Pair(name, value) => {
                if users == 0 {
                    count_at = out.len();
                    out.extend_from_slice(&[0, 0]);
                }
                // One packet never has as many as 65,535.
                users = users.saturating_add(1);
                put_short(out, name);
                put_short(out, value);
            }
        }
    }
    if users > 0 {
        out[count_at..count_at + 2].copy_from_slice(&users.to_le_bytes());
    }
}

fn properties(reader: &mut Reader<'_>) -> Result<Option<Properties>, Damaged> {
    let flags = reader.u8()?;
    if flags & !ALL != 0 {
        return Err(Damaged);
    }
    if flags == 0 {
        return Ok(None);
    }
    let mut writer = Writer::default();
    if flags & UTF8 != 0 {
        writer.text();
    }
    if flags & CONTENT_TYPE != 0 {
        writer.short(id::CONTENT_TYPE, reader.text()?.as_bytes());
    }
    if flags & RESPONSE != 0 {
        let topic = reader.text()?;
        TopicName::stored(topic).map_err(|_| Damaged)?;
        writer.short(id::RESPONSE_TOPIC, topic.as_bytes());
    }
    if flags & CORRELATION != 0 {
        writer.short(id::CORRELATION, reader.short()?);
    }
    if flags & USER != 0 {
        for _ in 0..reader.u16()? {
            writer.user(reader.text()?.as_bytes(), reader.text()?.as_bytes());
        }
    }
    Ok(writer.finish())
}

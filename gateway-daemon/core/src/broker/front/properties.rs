//! Properties of 5.0 as clients send them, checked (2.2.2).

use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::Property;
use mqtt_protocol_core::mqtt::prelude::PropertyValueAccess as _;

use super::super::CloseReason;
use super::super::properties::{
    PROPERTIES_BYTES_MAX, PROPERTIES_MAX, Properties, Value, Walk, Writer, id, varint,
};
use super::super::topic::{self, TopicName};
use super::check_text;

/// What the properties of a PUBLISH or of a will say.
#[derive(Default)]
pub(super) struct Extras {
    /// What is handed on.
    pub(super) properties: Option<Properties>,
    pub(super) expiry_s: Option<u32>,
    pub(super) alias: Option<u16>,
    pub(super) delay: Duration,
}

/// Whose properties they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Publish,
    Will,
}

/// No string of any property holds U+0000, and none but user properties stands twice.
pub(super) fn check(properties: &[Property]) -> Result<(), CloseReason> {
    let mut seen = 0_u64;
    for property in properties {
        let bit = 1_u64 << (property.id() as u8 & 63);
        if seen & bit != 0 && !matches!(property, Property::UserProperty(_)) {
            return Err(CloseReason::Protocol(TWICE));
        }
        seen |= bit;
        property.as_str().map_or(Ok(()), check_text)?;
        if let Some((name, value)) = property.as_key_value() {
            check_text(name)?;
            check_text(value)?;
        }
    }
    Ok(())
}

const TWICE: &str = "a property stands twice";

/// Properties at the front of `bytes`, with their length before them, and what comes after them. Not too many, and not too long: to be asked before a
/// library makes a value of each.
pub(super) fn section(bytes: &[u8]) -> Result<(&[u8], &[u8]), CloseReason> {
    let short = CloseReason::Malformed("properties that end too early");
    let Some((len, header)) = varint(bytes) else { return Err(short) };
    let Some((properties, rest)) = bytes[header..].split_at_checked(len) else { return Err(short) };
    if len > PROPERTIES_BYTES_MAX {
        return Err(CloseReason::Properties("more bytes of properties than a packet may have"));
    }
    // None takes less than two bytes.
    if len > 2 * PROPERTIES_MAX && Walk(properties).count() > PROPERTIES_MAX {
        return Err(CloseReason::Properties("more properties than a packet may have"));
    }
    Ok((properties, rest))
}

/// The same for a packet whose properties may be left out, with what stands before them; what cannot be read is for the library to say.
pub(super) fn bound(body: &[u8], before: usize) -> Result<(), CloseReason> {
    match section(body.get(before..).unwrap_or_default()) {
        Err(reason @ CloseReason::Properties(_)) => Err(reason),
        _ => Ok(()),
    }
}

/// Takes the properties of a message.
pub(super) fn extras(wire: &[u8], of: Of) -> Result<Extras, CloseReason> {
    let mut extras = Extras::default();
    let (mut seen, mut users) = (0_u64, 0);
    let (mut text, mut kind, mut answer, mut correlation) = (false, None, None, None);
    for property in Walk(wire) {
        let Ok((id, value)) = property else {
            return Err(CloseReason::Malformed("a property that cannot be read"));
        };
        let bit = 1_u64 << (id & 63);
        if seen & bit != 0 && id != id::USER {
            return Err(CloseReason::Protocol(TWICE));
        }
        seen |= bit;
        match (id, value) {
            (id::PAYLOAD_FORMAT, Value::Number(format @ 0..=1)) => text = format == 1,
            (id::MESSAGE_EXPIRY, Value::Number(expiry)) => extras.expiry_s = Some(expiry),
            (id::ALIAS, Value::Number(alias @ 1..)) if of == Of::Publish => {
                extras.alias = u16::try_from(alias).ok();
            }
            (id::WILL_DELAY, Value::Number(delay)) if of == Of::Will => {
                extras.delay = Duration::from_secs(delay.into());
            }
            (id::CONTENT_TYPE, Value::Text(bytes)) => kind = Some(string(bytes)?.as_bytes()),
            (id::RESPONSE_TOPIC, Value::Text(bytes)) => {
                TopicName::check(string(bytes)?)
                    .map_err(|_| CloseReason::Protocol("a response topic that is not a topic name"))?;
                answer = Some(bytes);
            }
            (id::CORRELATION, Value::Bytes(bytes)) => correlation = Some(bytes),
            (id::USER, Value::Pair(name, value)) => {
                string(name)?;
                string(value)?;
                users += 1;
            }
            // 3.3.4: only the server says which subscriptions matched.
            _ => return Err(CloseReason::Protocol("a property or a value that does not belong here")),
        }
    }
    let mut writer = Writer::with_capacity(wire.len());
    if text {
        writer.text();
    }
    for (id, bytes) in
        [(id::CONTENT_TYPE, kind), (id::RESPONSE_TOPIC, answer), (id::CORRELATION, correlation)]
    {
        if let Some(bytes) = bytes {
            writer.short(id, bytes);
        }
    }
    if users > 0 {
        for property in Walk(wire) {
            if let Ok((_, Value::Pair(name, value))) = property {
                writer.user(name, value);
            }
        }
    }
    extras.properties = writer.finish();
    Ok(extras)
}

/// A string that is handed on: what libmosquitto and others cut their connection for when they get it is not taken (1.5.4 leaves it to us).
fn string(bytes: &[u8]) -> Result<&str, CloseReason> {
    let text = std::str::from_utf8(bytes).map_err(|_| CloseReason::Malformed("a string that is no UTF-8"))?;
    check_text(text)?;
    match topic::forbidden(text) {
        None => Ok(text),
        Some(_) => Err(CloseReason::Malformed("a control character or a non-character in a string")),
    }
}

/// A body that is said to be text is text (3.3.2.3.2).
pub(super) fn check_payload(extras: &Extras, body: &[u8]) -> Result<(), CloseReason> {
    let said = extras.properties.as_ref().is_some_and(Properties::is_text);
    if said && std::str::from_utf8(body).is_err() { Err(CloseReason::Payload) } else { Ok(()) }
}

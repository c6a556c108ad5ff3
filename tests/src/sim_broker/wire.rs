//! MQTT 3.1.1 and 5.0 as a client speaks it, just enough for the simulation, and written from the standards rather than with the broker's codec.

pub use crate::packets::answer;
use crate::packets::{self, Publish};

/// The DUP flag of PUBLISH.
const AGAIN: u8 = 8;

/// What a broker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// CONNACK: session present and the code.
    Connected(bool, u8),
    /// PUBLISH.
    Publish {
        /// 0 to 2.
        qos: u8,
        /// Retain flag.
        retain: bool,
        /// DUP flag.
        again: bool,
        /// 0 with QoS 0.
        id: u16,
        /// Topic.
        topic: String,
        /// Payload.
        body: Vec<u8>,
    },
    /// PUBACK.
    Ack(u16),
    /// PUBREC.
    Rec(u16),
    /// PUBREL.
    Rel(u16),
    /// PUBCOMP.
    Comp(u16),
    /// SUBACK.
    Subscribed(u16),
    /// UNSUBACK.
    Unsubscribed(u16),
    /// Anything else, by its type.
    Other(u8),
}

/// A last will of QoS 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Where it speaks.
    pub topic: &'a str,
    /// What it says.
    pub body: &'a str,
    /// How long after the end of its connection, s; 5.0 only.
    pub delay_s: u32,
}

/// What a CONNECT says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Speaks 5.0.
    pub v5: bool,
    /// The client id.
    pub id: &'a str,
    /// Its session never ends.
    pub durable: bool,
    /// Most messages without an answer, 5.0 only.
    pub receive_max: u16,
    /// The last will.
    pub will: Option<Will<'a>>,
    /// User name and password.
    pub user: Option<(&'a str, &'a str)>,
}

/// CONNECT.
#[must_use]
pub fn connect(hello: &Hello<'_>) -> Vec<u8> {
    let Hello { v5, id, durable, will, user, .. } = *hello;
    let expiry_s = if durable { u32::MAX } else { 0 };
    let will = will.map(|will| packets::Will {
        topic: will.topic,
        payload: will.body.as_bytes(),
        flags: 1 << 3,
        properties: packets::will_delay(will.delay_s),
    });
    let properties = [packets::session_expiry(expiry_s), packets::receive_max(hello.receive_max)].concat();
    let level = if v5 { 5 } else { 4 };
    packets::Hello { level, id, clean: !durable, user, will, properties }.bytes()
}

/// DISCONNECT of a client that says goodbye.
pub const GOODBYE: [u8; 2] = [0xe0, 0];

/// PUBLISH of QoS 1 or 2.
#[must_use]
pub fn publish(v5: bool, flags: u8, id: u16, topic: &str, payload: &str) -> Vec<u8> {
    let (qos, retain) = (flags >> 1 & 3, flags & 1 == 1);
    let said = Publish { v5, qos, retain, ..Publish::new(topic, payload.as_bytes(), id) };
    let mut packet = said.bytes();
    packet[0] |= flags & AGAIN;
    packet
}

/// SUBSCRIBE to one filter.
#[must_use]
pub fn subscribe(v5: bool, id: u16, filter: &str, qos: u8) -> Vec<u8> {
    packets::subscribe(v5, id, &[filter.to_owned()], qos)
}

/// UNSUBSCRIBE from one filter.
#[must_use]
pub fn unsubscribe(v5: bool, id: u16, filter: &str) -> Vec<u8> {
    packets::unsubscribe(v5, id, &[filter.to_owned()])
}

/// Cuts the next packet off the front.
///
/// # Errors
/// What the broker sent is not MQTT.
pub fn next(buffer: &mut Vec<u8>, v5: bool) -> Result<Option<Heard>, String> {
    let (mut len, mut at) = (0_usize, 1);
    loop {
        let Some(&byte) = buffer.get(at) else { return Ok(None) };
        len |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at > 4 {
            return Err("a remaining length of five bytes".into());
        }
    }
    if buffer.len() < at + len {
        return Ok(None);
    }
    let whole: Vec<u8> = buffer.drain(..at + len).collect();
    let heard = parse(whole[0], &whole[at..], v5);
    heard.ok_or_else(|| format!("a malformed packet: {whole:02x?}")).map(Some)
}

fn parse(first: u8, body: &[u8], v5: bool) -> Option<Heard> {
    let id = || Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    Some(match first >> 4 {
        2 => Heard::Connected(body.first()? & 1 == 1, *body.get(1)?),
        3 => {
            let len = usize::from(id()?);
            let topic = String::from_utf8(body.get(2..2 + len)?.to_vec()).ok()?;
            let mut at = 2 + len;
            let qos = first >> 1 & 3;
            let mut id = 0;
            if qos > 0 {
                id = u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]);
                at += 2;
            }
            if v5 {
                at += 1 + usize::from(*body.get(at)?);
            }
            let (retain, again) = (first & 1 == 1, first & 8 != 0);
            Heard::Publish { qos, retain, again, id, topic, body: body.get(at..)?.to_vec() }
        }
        4 => Heard::Ack(id()?),
        5 => Heard::Rec(id()?),
        6 => Heard::Rel(id()?),
        7 => Heard::Comp(id()?),
        9 => Heard::Subscribed(id()?),
        11 => Heard::Unsubscribed(id()?),
        other => Heard::Other(other),
    })
}

//! MQTT packets byte by byte, honest and hostile: nothing here checks what a client may send.

use crate::fake_broker::remaining_length;

/// What a CONNECT says.
#[derive(Debug, Clone)]
pub struct Hello<'a> {
    /// The protocol level: 4 is 3.1.1, 5 is 5.0; a bridge of mosquitto sets 0x80 as well.
    pub level: u8,
    /// The client id.
    pub id: &'a str,
    /// Clean session, or clean start.
    pub clean: bool,
    /// User name and password.
    pub user: Option<(&'a str, &'a str)>,
    /// The last will.
    pub will: Option<Will<'a>>,
    /// Properties of 5.0 without their length.
    pub properties: Vec<u8>,
}

/// A last will.
#[derive(Debug, Clone)]
pub struct Will<'a> {
    /// Where it speaks.
    pub topic: &'a str,
    /// What it says.
    pub payload: &'a [u8],
    /// QoS (shifted by 3) and [`WILL_RETAIN`].
    pub flags: u8,
    /// Properties of 5.0 without their length.
    pub properties: Vec<u8>,
}

/// The retain flag of a will.
pub const WILL_RETAIN: u8 = 0x20;

impl<'a> Hello<'a> {
    /// An honest client of 3.1.1 with a clean session.
    #[must_use]
    pub fn v3(id: &'a str) -> Self {
        Self { level: 4, id, clean: true, user: None, will: None, properties: Vec::new() }
    }

    /// An honest client of 5.0 with a clean start.
    #[must_use]
    pub fn v5(id: &'a str) -> Self {
        Self { level: 5, ..Self::v3(id) }
    }

    /// With a user name and a password.
    #[must_use]
    pub fn user(self, name: &'a str, password: &'a str) -> Self {
        Self { user: Some((name, password)), ..self }
    }

    /// With a session that outlives its connection.
    #[must_use]
    pub fn durable(self) -> Self {
        let properties = if self.level == 5 { session_expiry(u32::MAX) } else { Vec::new() };
        Self { clean: false, properties, ..self }
    }

    /// The packet; no keep-alive.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (mut body, mut flags) = (Vec::new(), u8::from(self.clean) << 1);
        text(&mut body, b"MQTT");
        if self.user.is_some() {
            flags |= 0xc0;
        }
        if let Some(will) = &self.will {
            flags |= 4 | will.flags;
        }
        body.extend_from_slice(&[self.level, flags, 0, 0]);
        if self.level == 5 {
            with_length(&mut body, &self.properties);
        }
        text(&mut body, self.id.as_bytes());
        if let Some(will) = &self.will {
            if self.level == 5 {
                with_length(&mut body, &will.properties);
            }
            text(&mut body, will.topic.as_bytes());
            text(&mut body, will.payload);
        }
        if let Some((name, password)) = self.user {
            text(&mut body, name.as_bytes());
            text(&mut body, password.as_bytes());
        }
        packet(0x10, &body)
    }
}

/// A PUBLISH.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Speaks 5.0.
    pub v5: bool,
    /// Where.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
    /// 0 to 2.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// The packet identifier; not written with QoS 0.
    pub id: u16,
    /// Properties of 5.0 without their length.
    pub properties: &'a [u8],
}

impl<'a> Publish<'a> {
    /// QoS 1, not retained, 3.1.1.
    #[must_use]
    pub fn new(topic: &'a str, payload: &'a [u8], id: u16) -> Self {
        Self { v5: false, topic, payload, qos: 1, retain: false, id, properties: &[] }
    }

    /// The packet.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.payload.len() + self.properties.len() + 64);
        text(&mut body, self.topic.as_bytes());
        if self.qos > 0 {
            body.extend_from_slice(&self.id.to_be_bytes());
        }
        if self.v5 {
            with_length(&mut body, self.properties);
        }
        body.extend_from_slice(self.payload);
        packet(0x30 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

/// SUBSCRIBE to many filters with one QoS.
#[must_use]
pub fn subscribe(v5: bool, id: u16, filters: &[String], qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    for filter in filters {
        text(&mut body, filter.as_bytes());
        body.push(qos);
    }
    packet(0x82, &body)
}

/// UNSUBSCRIBE from many filters.
#[must_use]
pub fn unsubscribe(v5: bool, id: u16, filters: &[String]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if v5 {
        body.push(0);
    }
    filters.iter().for_each(|filter| text(&mut body, filter.as_bytes()));
    packet(0xa2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP by its first byte.
#[must_use]
pub fn answer(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// PINGREQ.
pub const PING: [u8; 2] = [0xc0, 0];

/// So many user properties with empty names and values: five bytes each on the wire.
#[must_use]
pub fn empty_properties(count: usize) -> Vec<u8> {
    [0x26, 0, 0, 0, 0].repeat(count)
}

/// The property that says how long a session outlives its connection, s.
#[must_use]
pub fn session_expiry(seconds: u32) -> Vec<u8> {
    number(0x11, seconds)
}

/// The property that delays a will, s.
#[must_use]
pub fn will_delay(seconds: u32) -> Vec<u8> {
    number(0x18, seconds)
}

/// The property that bounds messages without an answer.
#[must_use]
pub fn receive_max(messages: u16) -> Vec<u8> {
    let [high, low] = messages.to_be_bytes();
    vec![0x21, high, low]
}

/// The property that names the largest packet a client takes.
#[must_use]
pub fn maximum_packet(bytes: u32) -> Vec<u8> {
    number(0x27, bytes)
}

/// Content type and correlation data of so many bytes each.
#[must_use]
pub fn long_properties(bytes: usize) -> Vec<u8> {
    let filling = vec![b'x'; bytes];
    let mut out = vec![0x03];
    text(&mut out, &filling);
    out.push(0x09);
    text(&mut out, &filling);
    out
}

/// A packet by its first byte and what follows the remaining length.
#[must_use]
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(first);
    with_length(&mut out, body);
    out
}

/// A binary WebSocket frame of a client, with a mask of zeros.
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x82];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ ..=125), _) => out.push(0x80 | len),
        (_, Ok(len)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

/// The request that begins a WebSocket.
pub const UPGRADE: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// The packet at the head of `bytes` if it is complete: first byte, body and whole length.
#[must_use]
pub fn head(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 || at > 4 {
            return Some((bytes[0], bytes.get(at..at + length)?, at + length));
        }
    }
}

fn number(property: u8, value: u32) -> Vec<u8> {
    let mut out = vec![property];
    out.extend_from_slice(&value.to_be_bytes());
    out
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&text[..text.len().min(usize::from(u16::MAX))]);
}

fn with_length(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&remaining_length(body.len()));
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::{Hello, frame, head, packet};

    #[test]
    fn a_packet_of_any_length_is_cut_off_whole_and_not_before_its_last_byte() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 300_000] {
            let whole = packet(0x30, &vec![7; length]);
            assert_eq!(head(&whole[..whole.len() - 1]), None, "{length}");
            let (first, body, used) = head(&whole).unwrap();
            assert_eq!((first, body.len(), used), (0x30, length, whole.len()));
        }
    }

    #[test]
    fn a_hello_and_a_frame_are_those_of_the_standards() {
        let plain = Hello::v3("a").user("u", "p").bytes();
        assert_eq!(plain, b"\x10\x13\0\x04MQTT\x04\xc2\0\0\0\x01a\0\x01u\0\x01p");
        let durable = Hello::v5("a").durable().bytes();
        assert_eq!(durable, b"\x10\x13\0\x04MQTT\x05\0\0\0\x05\x11\xff\xff\xff\xff\0\x01a");
        assert_eq!(frame(b"ab"), b"\x82\x82\0\0\0\0ab");
        assert_eq!(frame(&[0; 200])[..4], [0x82, 0xfe, 0, 200]);
    }
}

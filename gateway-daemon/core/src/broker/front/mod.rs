//! The front of a connection: bytes to [`Packet`]s and [`Reply`]s to bytes, for MQTT 3.1, 3.1.1 and 5.0 on one port.
//!
//! Frames are cut here and read in place: a packet that is whole in one read is never copied but into its topic and its body. PUBLISH and the four
//! acknowledgements, which are nearly all the traffic, are read and written by a few lines of our own; the packets that come once
//! per connection or carry many properties go through the parsers of `mqtt-protocol-core`, with what those leave unchecked
//! checked before and after: reserved bits, DUP with QoS 0, packet identifier 0, connect flags, levels, U+0000, wildcards, trailing bytes.
//! Writing needs no library: nothing that is written can be refused, only be too large for the client.
//!
//! Bounds: a packet that is not whole yet is kept, at most [`Front::new`]'s limit and what was put aside by [`Front::push`]; before CONNECT at
//! most [`HELLO_BYTES_MAX`], and only while the bytes look like a CONNECT. Nothing is allocated by a length that a peer claims. Topic aliases: see
//! [`aliases`]. A connection at rest keeps no buffer.
//!
//! It knows no sessions: packet identifiers, receive maximum and the meaning of session expiry are the machine's.

mod acknowledge;
mod aliases;
mod entries;
mod hello;
mod properties;
mod publish;
mod reason;
mod subscribe;
mod write;

#[cfg(test)]
mod tests;

use std::mem;

use mqtt_protocol_core::mqtt::result_code::MqttError;

use self::aliases::{Received, Sent};
use super::CloseReason;
use super::packet::{Hello, Packet, Reply, Version};
use crate::tag::BootNs;

pub(super) use self::aliases::ALIASES_MAX;
pub(super) use self::entries::{Texts, Wishes};

/// Largest packet before CONNECT is understood, bytes: a will of the largest size an MQTT string has (65,535) and 15 KiB for the client id, the names, the password and
/// the properties. A stranger gets no more of our memory than that. The limit of all packets holds too, if it is smaller.
pub(super) const HELLO_BYTES_MAX: usize = 80 << 10;

/// Largest remaining length there is (2.1.4), bytes.
const REMAINING_MAX: usize = 268_435_455;

/// Protocol names with their length, as CONNECT begins (3.1.2.1; "MQTT V3.1 Protocol Specification", 3.1).
const NAME: &[u8] = b"\0\x04MQTT";
const NAME_V31: &[u8] = b"\0\x06MQIsdp";

/// One connection's codec.
pub(super) struct Front {
    /// Bytes not yet cut into packets, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    /// Largest packet taken from the client.
    packet_bytes_max: usize,
    /// Largest packet the client takes (3.1.2.11.4).
    peer_bytes_max: usize,
    /// `None` before CONNECT.
    version: Option<Version>,
    stage: Stage,
    /// The client asked for reasons in words; see [`Front::farewell`].
    wants_words: bool,
    /// Topics of the client's aliases.
    received: Received,
    /// Aliases for topics, known to the client.
    sent: Sent,
    /// The CONNECT that was read last, first byte and body, until [`Front::take_hello`].
    hello: Vec<u8>,
    /// The client is a bridge of mosquitto's kind.
    bridge: bool,
}

/// How far a conversation has come, for the last word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No CONNACK was written.
    Strange,
    /// CONNACK with success was written.
    Welcomed,
    /// The client has been told of the end: nothing more is to be said.
    Over,
}

/// What stands at the front of some bytes.
enum Cut {
    /// A whole packet: where its body begins and where it ends.
    Whole { header: usize, end: usize },
    /// So many bytes are missing, at least: one or more.
    Missing(usize),
}

/// Refuses what is no MQTT by its name, as soon as it can be told: whoever reads the log has to know what to change.
fn check_language(bytes: &[u8]) -> Result<(), CloseReason> {
    /// A record of a handshake, of TLS 1.0 to 1.3 ("RFC 8446", 5.1). As MQTT it would be a CONNECT of three bytes, which none has.
    const TLS: [u8; 2] = [0x16, 0x03];
    if bytes.starts_with(&TLS) {
        return Err(CloseReason::Protocol(
            "the client speaks TLS and this listener does not: give the client another port or mqtt://, or this listener a `cert` and `key`",
        ));
    }
    if bytes.starts_with(b"GET ") {
        return Err(CloseReason::Protocol(
            "the client speaks HTTP and this listener does not: clients by WebSocket need a listener with `websocket`",
        ));
    }
    Ok(())
}

impl Front {
    /// A connection of which nothing is known; takes packets of up to `packet_bytes_max` bytes.
    pub(super) fn new(packet_bytes_max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            packet_bytes_max: packet_bytes_max.min(REMAINING_MAX),
            peer_bytes_max: usize::MAX,
            version: None,
            stage: Stage::Strange,
            wants_words: false,
            received: Received::default(),
            sent: Sent::default(),
            hello: Vec::new(),
            bridge: false,
        }
    }

    /// The bytes of the CONNECT that [`Front::next`] gave last, for [`Front::hello_again`]: what is parsed takes many times as much memory, and who sent it is
    /// not known yet.
    pub(super) fn take_hello(&mut self) -> Box<[u8]> {
        mem::take(&mut self.hello).into()
    }

    /// Reads the bytes of [`Front::take_hello`] once more.
    ///
    /// # Errors
    /// None, because they have been read before.
    pub(super) fn hello_again(&mut self, now: BootNs, hello: &[u8]) -> Result<Box<Hello>, CloseReason> {
        let (flags, body) = hello.split_first().ok_or(CloseReason::Malformed("an empty CONNECT"))?;
        self.read_hello(now, *flags, body).map(Box::new)
    }

    /// Bytes that wait to be read, as they are in memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.buffer.capacity() + self.hello.capacity()
    }

    /// Forgets bytes that wait to be read.
    pub(super) fn forget(&mut self) {
        (self.buffer, self.start, self.hello) = (Vec::new(), 0, Vec::new());
    }

    /// Whether nothing waits to be cut into packets.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether the next packet, here or in `input`, is a SUBSCRIBE or UNSUBSCRIBE, by its first byte.
    pub(super) fn begins_with_filters(&self, input: &[u8]) -> bool {
        let first = self.buffer.get(self.start).or(input.first());
        first.is_some_and(|first| matches!(first >> 4, 8 | 10))
    }

    /// Puts bytes aside without looking at them, behind what is there: what is left of a read when the connection is held.
    /// [`Front::next`] goes on with them.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.forget_read();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next packet out of what was put aside and then out of `input`, which it shortens by what it took. With `None`, `input` is used up.
    ///
    /// # Errors
    /// The connection is at its end; [`Front::farewell`] has the last word. Nothing is to be read after that.
    pub(super) fn next(&mut self, now: BootNs, input: &mut &[u8]) -> Result<Option<Packet>, CloseReason> {
        loop {
            if self.start < self.buffer.len() {
                match self.cut(&self.buffer[self.start..])? {
                    Cut::Whole { header, end } => {
                        let buffer = mem::take(&mut self.buffer);
                        let packet = self.read(now, &buffer[self.start..][..end], header)?;
                        self.start += end;
                        if self.start < buffer.len() {
                            self.buffer = buffer;
                        } else {
                            self.start = 0;
                        }
                        return Ok(Some(packet));
                    }
                    Cut::Missing(_) if input.is_empty() => return Ok(None),
                    Cut::Missing(bytes) => {
                        let (taken, rest) = input.split_at(bytes.min(input.len()));
                        *input = rest;
                        self.push(taken);
                    }
                }
            } else {
                match self.cut(input)? {
                    Cut::Whole { header, end } => {
                        let (frame, rest) = input.split_at(end);
                        *input = rest;
                        return self.read(now, frame, header).map(Some);
                    }
                    Cut::Missing(_) => {
                        self.push(mem::take(input));
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Writes a packet behind `out`. `false`: it is larger than the client takes (3.1.2.11.4), nothing was written and no alias was given, and a
    /// PUBLISH is to be treated as if it had been delivered. What was written has to be sent: aliases count on it. Words that a version does not have
    /// are left out; that is no failure.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>, reply: Reply<'_>) -> bool {
        write::reply(self, out, reply)
    }

    /// The last word before the connection is closed for `reason`: CONNACK or DISCONNECT with a reason code, as far as the version and the moment have one.
    /// Reason strings go to clients that ask for problem information in so many words (3.1.2.11.7), not to all that are silent about it: to those they are
    /// bytes, and the log has them anyway.
    pub(super) fn farewell(&mut self, out: &mut Vec<u8>, reason: &CloseReason) {
        let (Some(version), Some(code)) = (self.version, reason.code()) else { return };
        match self.stage {
            Stage::Welcomed => self.encode(out, Reply::Goodbye(code, reason.words())),
            Stage::Strange if version == Version::V5 || reason.is_refusal() => {
                self.encode(out, Reply::Refused(code, reason.words()))
            }
            Stage::Strange | Stage::Over => return,
        };
    }

    fn forget_read(&mut self) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }

    /// Finds the packet at the front of `bytes`, and refuses as early as its first bytes tell.
    fn cut(&self, bytes: &[u8]) -> Result<Cut, CloseReason> {
        let Some(&first) = bytes.first() else { return Ok(Cut::Missing(1)) };
        if self.version.is_none() {
            check_language(bytes)?;
        }
        self.check_first_byte(first)?;
        let mut remaining = 0_usize;
        for index in 1..=4 {
            let Some(&byte) = bytes.get(index) else { return Ok(Cut::Missing(1)) };
            remaining |= usize::from(byte & 0x7f) << (7 * (index - 1));
            if byte & 0x80 == 0 {
                let (header, end) = (index + 1, index + 1 + remaining);
                if end > self.packet_bytes_max || (self.version.is_none() && end > HELLO_BYTES_MAX) {
                    return Err(CloseReason::TooLarge);
                }
                if self.version.is_none() {
                    check_name(bytes.get(header..end).or(bytes.get(header..)).unwrap_or_default())?;
                }
                let there = bytes.len();
                return Ok(if there >= end { Cut::Whole { header, end } } else { Cut::Missing(end - there) });
            }
        }
        Err(CloseReason::Malformed("a remaining length of more than four bytes"))
    }

    /// Kind and reserved bits of the fixed header (2.1.2, 2.1.3).
    fn check_first_byte(&self, first: u8) -> Result<(), CloseReason> {
        let (kind, flags) = (first >> 4, first & 0x0f);
        let Some(version) = self.version else {
            return if kind == 1 {
                Ok(())
            } else {
                Err(CloseReason::Protocol("the first packet is not CONNECT"))
            };
        };
        let ok = match kind {
            0 | 2 | 9 | 11 | 13 => return Err(CloseReason::Protocol("a packet that only servers send")),
            3 => {
                let qos = (flags >> 1) & 3;
                if qos == 3 {
                    return Err(CloseReason::Malformed("QoS 3"));
                }
                !(flags & 8 != 0 && qos == 0)
            }
            // In 3.1 a repeated one carries DUP ("MQTT V3.1 Protocol Specification", 2.1).
            6 | 8 | 10 if version == Version::V31 => flags & 7 == 2,
            6 | 8 | 10 => flags == 2,
            _ => flags == 0,
        };
        if ok { Ok(()) } else { Err(CloseReason::Malformed("reserved bits of the first byte")) }
    }

    /// Reads one whole packet whose first byte was checked.
    fn read(&mut self, now: BootNs, frame: &[u8], header: usize) -> Result<Packet, CloseReason> {
        let (kind, flags, body) = (frame[0] >> 4, frame[0] & 0x0f, &frame[header..]);
        let Some(version) = self.version else { return self.hello(now, flags, body) };
        match (kind, version) {
            (3, _) => self.publish(now, flags, body),
            (4..=7, _) => acknowledge::read(version, kind, body),
            (8, _) => subscribe::subscribe(version, self.bridge, body),
            (10, _) => subscribe::unsubscribe(version, body),
            (12, _) if body.is_empty() => Ok(Packet::Ping),
            (14, Version::V5) => subscribe::disconnect(body),
            (14, _) if body.is_empty() => Ok(Packet::Disconnect { with_will: false, expiry_s: None }),
            (15, Version::V5) => subscribe::auth(body),
            (12 | 14, _) => Err(CloseReason::Malformed("a packet that has no body has one")),
            (1, _) => Err(CloseReason::Protocol("a second CONNECT")),
            _ => Err(CloseReason::Malformed("a packet type that does not exist")),
        }
    }
}

/// What arrived of a CONNECT's protocol name must be one: whatever else speaks to this port is cut at its first bytes.
fn check_name(body: &[u8]) -> Result<(), CloseReason> {
    let known = |name: &[u8]| body.starts_with(name) || name.starts_with(body);
    if known(NAME) || known(NAME_V31) {
        Ok(())
    } else {
        Err(CloseReason::Malformed("an unknown protocol name"))
    }
}

/// What the library says of a packet it cannot read.
fn fault(error: MqttError) -> CloseReason {
    match error {
        MqttError::ProtocolError => CloseReason::Protocol("a property or a combination that is not allowed"),
        _ => CloseReason::Malformed("a field that cannot be read"),
    }
}

/// A parser that left something over has not understood the packet.
fn used_up(consumed: usize, body: &[u8]) -> Result<(), CloseReason> {
    if consumed == body.len() { Ok(()) } else { Err(CloseReason::Malformed("bytes after the last field")) }
}

/// No string of MQTT holds U+0000 (1.5.4); surrogates are no UTF-8 in Rust.
fn check_text(text: &str) -> Result<(), CloseReason> {
    if text.as_bytes().contains(&0) { Err(CloseReason::Malformed("U+0000 in a string")) } else { Ok(()) }
}

/// Packet identifier 0 does not exist (2.2.1).
fn nonzero(id: u16) -> Result<u16, CloseReason> {
    if id == 0 { Err(CloseReason::Malformed("packet identifier 0")) } else { Ok(id) }
}

//! The front of a connection: bytes to packets and back, through `mqtt-protocol-core`.
//!
//! Frames are cut here and handed whole to the codec, so that what the codec leaves unchecked is refused before it sees a
//! byte: reserved bits of the fixed header, DUP with QoS 0, packet identifier 0, reserved connect flags, unknown protocol
//! levels. Other protocol versions enter at [`Front::hello`].
//!
//! Bound: one packet of `packet_bytes_max` plus one read of the listener. Never allocates by a length that a peer claims.

use std::sync::Arc;

use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::Event;
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait as _, Packet as Wire, RetainHandling, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, SubackReturnCode};

use super::CloseReason;
use super::topic::TopicName;
use crate::uplink::row::Qos;

/// A packet of a client, checked.
#[derive(Debug)]
pub(super) enum Packet {
    Connect(Box<Hello>),
    Publish(Said),
    Acknowledged(u16),
    Received(u16),
    Release(u16),
    Completed(u16),
    Subscribe { id: u16, filters: Vec<(String, Qos)> },
    Unsubscribe { id: u16, filters: Vec<String> },
    Ping,
    Disconnect,
}

/// What a client says when it connects.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) client: String,
    pub(super) clean: bool,
    /// Seconds; 0 is no keep-alive.
    pub(super) keep_alive: u16,
    pub(super) will: Option<Said>,
}

/// A message of a client.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) topic: TopicName,
    pub(super) body: Arc<[u8]>,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Packet identifier; 0 with QoS 0.
    pub(super) id: u16,
}

/// A packet to a client.
pub(super) enum Reply<'a> {
    Connected { session_present: bool },
    Refused(ConnectReturnCode),
    Publish { topic: &'a str, body: &'a Arc<[u8]>, qos: Qos, retain: bool, id: u16, again: bool },
    Acknowledge(u16),
    Receive(u16),
    Release(u16),
    Complete(u16),
    Subscribed { id: u16, granted: Vec<Option<Qos>> },
    Unsubscribed(u16),
    Pong,
}

/// One connection's codec.
pub(super) struct Front {
    codec: mqtt::Connection<mqtt::role::Server>,
    /// Bytes not yet cut into frames, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    greeted: bool,
    packet_bytes_max: usize,
}

impl Front {
    pub(super) fn new(packet_bytes_max: usize) -> Self {
        let mut codec = mqtt::Connection::new(mqtt::Version::Undetermined);
        codec.set_auto_pub_response(false);
        codec.set_auto_ping_response(false);
        Self { codec, buffer: Vec::new(), start: 0, greeted: false, packet_bytes_max }
    }

    /// Takes what the client sent.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet. `answers` receives what the codec itself has to say (PUBREC to a repeated QoS 2 message).
    ///
    /// # Errors
    /// The connection is at its end; `answers` may hold a last word.
    pub(super) fn next(&mut self, answers: &mut Vec<u8>) -> Result<Option<Packet>, CloseReason> {
        while let Some(len) = self.frame_len()? {
            let end = self.start + len;
            if !self.greeted {
                check_hello(&self.buffer[self.start..end], answers)?;
                self.greeted = true;
            }
            let events = self.codec.recv(&mut Cursor::new(&self.buffer[self.start..end]));
            self.start = end;
            if self.start == self.buffer.len() {
                self.buffer.clear();
                self.buffer.shrink_to(4096);
                self.start = 0;
            }
            if let Some(packet) = digest(events, answers)? {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    /// Remembers QoS 2 messages that an earlier connection of the session delivered and did not release.
    pub(super) fn restore(&mut self, received: impl IntoIterator<Item = u16>) {
        self.codec.restore_qos2_publish_handled(received.into_iter().collect());
    }

    /// A packet as bytes; empty if the codec refuses it, which only a fault of the broker can cause.
    pub(super) fn encode(&mut self, reply: Reply<'_>) -> Vec<u8> {
        let Some(packet) = self.wire(reply) else { return Vec::new() };
        let mut bytes = Vec::new();
        for event in self.codec.send(packet) {
            if let Event::RequestSendPacket { packet, .. } = event {
                bytes.append(&mut packet.to_continuous_buffer());
            }
        }
        bytes
    }

    fn wire(&mut self, reply: Reply<'_>) -> Option<Wire> {
        Some(match reply {
            Reply::Connected { session_present } => v3_1_1::Connack::builder()
                .session_present(session_present)
                .return_code(ConnectReturnCode::Accepted)
                .build()
                .ok()?
                .into(),
            Reply::Refused(code) => {
                v3_1_1::Connack::builder().session_present(false).return_code(code).build().ok()?.into()
            }
            Reply::Publish { topic, body, qos, retain, id, again } => {
                let mut publish = v3_1_1::Publish::builder()
                    .topic_name(topic)
                    .ok()?
                    .qos(wire_qos(qos))
                    .retain(retain)
                    .dup(again)
                    .payload(Arc::clone(body));
                if qos != Qos::AtMostOnce {
                    self.codec.register_packet_id(id).ok()?;
                    publish = publish.packet_id(id);
                }
                publish.build().ok()?.into()
            }
            Reply::Acknowledge(id) => v3_1_1::Puback::builder().packet_id(id).build().ok()?.into(),
            Reply::Receive(id) => v3_1_1::Pubrec::builder().packet_id(id).build().ok()?.into(),
            Reply::Release(id) => {
                // Known already unless the message itself went over an earlier connection.
                let _ = self.codec.register_packet_id(id);
                v3_1_1::Pubrel::builder().packet_id(id).build().ok()?.into()
            }
            Reply::Complete(id) => v3_1_1::Pubcomp::builder().packet_id(id).build().ok()?.into(),
            Reply::Subscribed { id, granted } => v3_1_1::Suback::builder()
                .packet_id(id)
                .return_codes(granted.into_iter().map(suback_code).collect())
                .build()
                .ok()?
                .into(),
            Reply::Unsubscribed(id) => v3_1_1::Unsuback::builder().packet_id(id).build().ok()?.into(),
            Reply::Pong => v3_1_1::Pingresp::new().into(),
        })
    }

    /// Length of the frame at the front of the buffer, if it is whole. Refuses as early as the first byte tells.
    fn frame_len(&self) -> Result<Option<usize>, CloseReason> {
        let bytes = &self.buffer[self.start..];
        let Some(&first) = bytes.first() else { return Ok(None) };
        if !self.greeted && first != 0x10 {
            return Err(CloseReason::Protocol("the first packet is not CONNECT"));
        }
        check_first_byte(first)?;
        let mut remaining = 0_usize;
        for (index, &byte) in bytes.iter().enumerate().skip(1) {
            if index > 4 {
                return Err(CloseReason::Malformed(""));
            }
            remaining |= usize::from(byte & 0x7f) << (7 * (index - 1));
            if byte & 0x80 == 0 {
                let len = 1 + index + remaining;
                if len > self.packet_bytes_max {
                    return Err(CloseReason::TooLarge);
                }
                return Ok((bytes.len() >= len).then_some(len));
            }
        }
        if bytes.len() > 4 { Err(CloseReason::Malformed("")) } else { Ok(None) }
    }
}

/// Reserved bits of the fixed header ("MQTT Version 3.1.1", 2.2.2).
fn check_first_byte(first: u8) -> Result<(), CloseReason> {
    let (kind, flags) = (first >> 4, first & 0x0f);
    let ok = match kind {
        3 => {
            let qos = (flags >> 1) & 3;
            qos != 3 && !(flags & 8 != 0 && qos == 0)
        }
        6 | 8 | 10 => flags == 2,
        0 | 15 => false,
        _ => flags == 0,
    };
    if ok { Ok(()) } else { Err(CloseReason::Malformed("")) }
}

/// Protocol name, level and flags of a CONNECT (3.1.2), before the codec reads it.
fn check_hello(frame: &[u8], answers: &mut Vec<u8>) -> Result<(), CloseReason> {
    let header = 1 + frame.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let body = frame.get(header..).unwrap_or_default();
    if body.starts_with(b"\0\x06MQIsdp") {
        answers.extend_from_slice(&[0x20, 2, 0, ConnectReturnCode::UnacceptableProtocolVersion as u8]);
        return Err(CloseReason::Version);
    }
    let Some((b"\0\x04MQTT", [level, flags, ..])) = body.split_at_checked(6) else {
        return Err(CloseReason::Malformed(""));
    };
    match level {
        4 => {}
        5 => {
            answers.extend_from_slice(&[0x20, 3, 0, 0x84, 0]);
            return Err(CloseReason::Version);
        }
        _ => {
            answers.extend_from_slice(&[0x20, 2, 0, ConnectReturnCode::UnacceptableProtocolVersion as u8]);
            return Err(CloseReason::Version);
        }
    }
    let (reserved, will, will_qos, will_retain) = (flags & 1, flags & 4, (flags >> 3) & 3, flags & 0x20);
    if reserved != 0 || will_qos == 3 || (will == 0 && (will_qos != 0 || will_retain != 0)) {
        return Err(CloseReason::Malformed(""));
    }
    Ok(())
}

/// What the codec made of a frame. Any error ends the connection; what the codec would say then is not sent, because
/// 3.1.1 has no words for it.
fn digest(events: Vec<Event>, answers: &mut Vec<u8>) -> Result<Option<Packet>, CloseReason> {
    let mut packet = None;
    let mut said = Vec::new();
    for event in events {
        match event {
            Event::NotifyPacketReceived(wire) => packet = Some(understand(wire)?),
            Event::RequestSendPacket { packet, .. } => said.append(&mut packet.to_continuous_buffer()),
            Event::NotifyError(_) => return Err(CloseReason::Malformed("")),
            Event::RequestClose => return Err(CloseReason::Protocol("a packet that is not due")),
            Event::NotifyPacketIdReleased(_)
            | Event::RequestTimerReset { .. }
            | Event::RequestTimerCancel(_) => {}
        }
    }
    answers.append(&mut said);
    Ok(packet)
}

fn understand(wire: Wire) -> Result<Packet, CloseReason> {
    Ok(match wire {
        Wire::V3_1_1Connect(connect) => Packet::Connect(Box::new(hello(&connect)?)),
        Wire::V3_1_1Publish(publish) => Packet::Publish(Said {
            topic: TopicName::new(publish.topic_name()).map_err(CloseReason::Topic)?,
            body: publish.payload().as_slice().into(),
            qos: our_qos(publish.qos()),
            retain: publish.retain(),
            id: match publish.packet_id() {
                Some(0) => return Err(CloseReason::Malformed("")),
                id => id.unwrap_or(0),
            },
        }),
        Wire::V3_1_1Puback(packet) => Packet::Acknowledged(packet.packet_id()),
        Wire::V3_1_1Pubrec(packet) => Packet::Received(packet.packet_id()),
        Wire::V3_1_1Pubrel(packet) => Packet::Release(packet.packet_id()),
        Wire::V3_1_1Pubcomp(packet) => Packet::Completed(packet.packet_id()),
        Wire::V3_1_1Subscribe(packet) => {
            let mut filters = Vec::with_capacity(packet.entries().len());
            for entry in packet.entries() {
                let options = entry.sub_opts();
                if options.nl() || options.rap() || options.rh() != RetainHandling::SendRetained {
                    return Err(CloseReason::Malformed(""));
                }
                filters.push((entry.topic_filter().to_owned(), our_qos(options.qos())));
            }
            Packet::Subscribe { id: nonzero(packet.packet_id())?, filters }
        }
        Wire::V3_1_1Unsubscribe(packet) => Packet::Unsubscribe {
            id: nonzero(packet.packet_id())?,
            filters: packet.entries().iter().map(|entry| entry.as_str().to_owned()).collect(),
        },
        Wire::V3_1_1Pingreq(_) => Packet::Ping,
        Wire::V3_1_1Disconnect(_) => Packet::Disconnect,
        _ => return Err(CloseReason::Protocol("a packet that only servers send")),
    })
}

fn hello(connect: &v3_1_1::Connect) -> Result<Hello, CloseReason> {
    let will = match (connect.will_flag(), connect.will_topic(), connect.will_payload()) {
        (true, Some(topic), body) => Some(Said {
            topic: TopicName::new(topic).map_err(CloseReason::Topic)?,
            body: body.unwrap_or_default().into(),
            qos: our_qos(connect.will_qos()),
            retain: connect.will_retain(),
            id: 0,
        }),
        (true, None, _) => return Err(CloseReason::Malformed("")),
        (false, _, _) => None,
    };
    if connect.client_id().contains('\0') {
        return Err(CloseReason::Malformed(""));
    }
    Ok(Hello {
        client: connect.client_id().to_owned(),
        clean: connect.clean_session(),
        keep_alive: connect.keep_alive(),
        will,
    })
}

fn nonzero(id: u16) -> Result<u16, CloseReason> {
    if id == 0 { Err(CloseReason::Malformed("")) } else { Ok(id) }
}

fn our_qos(qos: mqtt::packet::Qos) -> Qos {
    match qos {
        mqtt::packet::Qos::AtMostOnce => Qos::AtMostOnce,
        mqtt::packet::Qos::AtLeastOnce => Qos::AtLeastOnce,
        mqtt::packet::Qos::ExactlyOnce => Qos::ExactlyOnce,
    }
}

fn wire_qos(qos: Qos) -> mqtt::packet::Qos {
    match qos {
        Qos::AtMostOnce => mqtt::packet::Qos::AtMostOnce,
        Qos::AtLeastOnce => mqtt::packet::Qos::AtLeastOnce,
        Qos::ExactlyOnce => mqtt::packet::Qos::ExactlyOnce,
    }
}

fn suback_code(granted: Option<Qos>) -> SubackReturnCode {
    match granted {
        Some(Qos::AtMostOnce) => SubackReturnCode::SuccessMaximumQos0,
        Some(Qos::AtLeastOnce) => SubackReturnCode::SuccessMaximumQos1,
        Some(Qos::ExactlyOnce) => SubackReturnCode::SuccessMaximumQos2,
        None => SubackReturnCode::Failure,
    }
}

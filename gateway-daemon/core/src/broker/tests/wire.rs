//! Clients made of bytes, and a broker under virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::disk::Disk;
use crate::broker::{
    Action, Broker, CloseReason, ConnId, Fate, Limits, Local, Origin, SessionId, Settings, Ticket,
};
use crate::payload::Draft;
use crate::tag::BootNs;
use crate::uplink::row::{Body, Priority, Qos};

/// A broker and what its connections have been told.
pub(super) struct Bench {
    pub(super) broker: Broker,
    pub(super) now: BootNs,
    last: u64,
    told: BTreeMap<ConnId, Vec<u8>>,
    pub(super) closed: Vec<(ConnId, CloseReason)>,
    pub(super) others: Vec<Action>,
    /// Tickets of messages in uplinks' queues that are not said to be safe.
    pub(super) owed: Vec<Ticket>,
    pub(super) enqueued: Vec<(SessionId, Qos, Draft)>,
    /// Whether bytes count as written at once.
    pub(super) writes: bool,
    /// Connections whose bytes are never written.
    pub(super) deaf: BTreeSet<ConnId>,
    /// Behind a broker that has one.
    pub(super) disk: Disk,
    pub(super) settings: Settings,
    pub(super) runs: u64,
    pub(super) boots: u64,
    /// Whether uplinks' queues say at once that a message is safe.
    pub(super) receipts: bool,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(super) fn with(limits: Limits) -> Self {
        Self {
            broker: Broker::in_memory(limits),
            now: BootNs(1),
            disk: Disk::default(),
            settings: Settings::default(),
            runs: 1,
            boots: 0,
            receipts: true,
            last: 0,
            told: BTreeMap::new(),
            closed: Vec::new(),
            others: Vec::new(),
            owed: Vec::new(),
            enqueued: Vec::new(),
            writes: true,
            deaf: BTreeSet::new(),
        }
    }

    /// A connection without a word.
    pub(super) fn open(&mut self) -> ConnId {
        self.open_at("")
    }

    /// A connection without a word from an address.
    pub(super) fn open_at(&mut self, peer: &str) -> ConnId {
        self.open_from(Origin { peer: peer.into(), ..Origin::default() })
    }

    /// A connection of this origin.
    pub(super) fn open_from(&mut self, origin: Origin) -> ConnId {
        self.last += 1;
        let conn = ConnId(self.last);
        self.broker.handle_open(self.now, conn, origin);
        self.run();
        conn
    }

    /// A connected client; its CONNACK is taken.
    pub(super) fn client(&mut self, id: &str, clean: bool) -> ConnId {
        let conn = self.open();
        self.say(conn, &connect(id, clean, 0, None));
        let answer = self.told(conn);
        assert!(answer.starts_with(&[0x20, 2]) && answer[3] == 0, "{answer:?}");
        conn
    }

    /// A connected client that has subscribed.
    pub(super) fn subscriber(&mut self, id: &str, clean: bool, filter: &str, qos: u8) -> ConnId {
        let conn = self.client(id, clean);
        self.say(conn, &subscribe(1, &[(filter, qos)]));
        assert_eq!(self.told(conn)[..5], [0x90, 3, 0, 1, qos]);
        conn
    }

    /// Bytes of a client in the middle of a turn: what is put down stays so.
    pub(super) fn say_in_turn(&mut self, conn: ConnId, bytes: &[u8]) {
        self.broker.handle_bytes(self.now, conn, bytes);
        self.act();
    }

    /// One turn of the loop.
    pub(super) fn turn(&mut self) {
        self.broker.timeout(self.now);
        self.act();
    }

    pub(super) fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        self.broker.handle_bytes(self.now, conn, bytes);
        self.run();
    }

    pub(super) fn lose(&mut self, conn: ConnId) {
        self.broker.handle_closed(self.now, conn);
        self.run();
    }

    pub(super) fn wait(&mut self, time: Duration) {
        let until = self.now.plus(time);
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.broker.timeout(self.now);
            self.run();
        }
        self.now = until;
    }

    pub(super) fn local(&mut self, topic: &str, body: &str, qos: Qos, retain: bool) {
        let draft = draft(topic, Body::Raw(body.as_bytes().into()), retain);
        let local = Local { draft: &draft, qos, from: None, want: false };
        self.broker.publish(self.now, &local, || None).unwrap();
        self.run();
    }

    /// What a connection was told since the last call.
    pub(super) fn told(&mut self, conn: ConnId) -> Vec<u8> {
        self.told.remove(&conn).unwrap_or_default()
    }

    /// The PUBLISH packets among what a connection was told: first byte, topic, packet identifier, body.
    pub(super) fn heard(&mut self, conn: ConnId) -> Vec<(u8, String, u16, String)> {
        let bytes = self.told(conn);
        frames(&bytes)
            .into_iter()
            .map(|frame| {
                assert_eq!(frame[0] >> 4, 3, "a packet that is no PUBLISH: {frame:?}");
                let body = &frame[1 + frame.iter().skip(1).take_while(|b| **b & 0x80 != 0).count() + 1..];
                let topic_len = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8(body[2..2 + topic_len].to_vec()).unwrap();
                let rest = &body[2 + topic_len..];
                let (id, rest) = if frame[0] & 6 == 0 {
                    (0, rest)
                } else {
                    (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..])
                };
                (frame[0], topic, id, String::from_utf8_lossy(rest).into_owned())
            })
            .collect()
    }

    /// What was said of reading from a connection, in order.
    pub(super) fn holds(&self, conn: ConnId) -> Vec<bool> {
        let hold = |action: &Action| match action {
            Action::Hold { conn: other, held } if *other == conn => Some(*held),
            _ => None,
        };
        self.others.iter().filter_map(hold).collect()
    }

    /// Why a connection was closed, if it was.
    pub(super) fn fate(&self, conn: ConnId) -> Option<&CloseReason> {
        self.closed.iter().find(|(closed, _)| *closed == conn).map(|(_, reason)| reason)
    }

    pub(super) fn run(&mut self) {
        self.act();
        // What was put down goes on with the next turns of the loop.
        while self.broker.has_work() {
            self.broker.timeout(self.now);
            self.act();
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.broker.poll_action() {
            match action {
                Action::Send { conn, bytes } => {
                    if self.writes && !self.deaf.contains(&conn) {
                        self.broker.handle_sent(self.now, conn, bytes.len());
                    }
                    self.told.entry(conn).or_default().extend(bytes);
                }
                Action::Close { conn, reason } => self.closed.push((conn, reason)),
                Action::Enqueue { session, qos, draft, ticket } => {
                    self.enqueued.push((session, qos, draft));
                    match ticket {
                        Some(ticket) if self.receipts => {
                            self.broker.handle_receipt(self.now, ticket, Fate::Safe);
                        }
                        Some(ticket) => self.owed.push(ticket),
                        None => {}
                    }
                }
                Action::Turn(turn) => {
                    if let Some(answer) = self.disk.take(turn) {
                        self.broker.handle_answer(self.now, answer);
                    }
                }
                Action::Read(read) => {
                    let answer = self.disk.read(&read);
                    self.broker.handle_answer(self.now, answer);
                }
                other => self.others.push(other),
            }
        }
    }
}

pub(super) fn draft(topic: &str, body: Body, retain: bool) -> Draft {
    Draft { topic: Arc::from(topic), body, readings: 1, priority: Priority::Normal, retain, at: BootNs(1) }
}

/// Cuts bytes into packets; the rest must be nothing.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let mut len = 0;
        let mut index = 0;
        loop {
            index += 1;
            len |= usize::from(bytes[index] & 0x7f) << (7 * (index - 1));
            if bytes[index] & 0x80 == 0 {
                break;
            }
        }
        let (frame, rest) = bytes.split_at(index + 1 + len);
        frames.push(frame);
        bytes = rest;
    }
    frames
}

pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = body.len();
    loop {
        let low = u8::try_from(len & 0x7f).unwrap();
        len >>= 7;
        bytes.push(if len > 0 { low | 0x80 } else { low });
        if len == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// CONNECT, with a will of topic, body, QoS and retain.
pub(super) fn connect(
    id: &str,
    clean: bool,
    keep_alive: u16,
    will: Option<(&str, &str, u8, bool)>,
) -> Vec<u8> {
    let mut flags = u8::from(clean) << 1;
    if let Some((_, _, qos, retain)) = will {
        flags |= 4 | qos << 3 | u8::from(retain) << 5;
    }
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.push(flags);
    body.extend(keep_alive.to_be_bytes());
    body.extend(text(id));
    if let Some((topic, message, _, _)) = will {
        body.extend(text(topic));
        body.extend(text(message));
    }
    packet(0x10, &body)
}

pub(super) fn subscribe(id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        body.extend(text(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub(super) fn unsubscribe(id: u16, filter: &str) -> Vec<u8> {
    packet(0xa2, &[&id.to_be_bytes()[..], &text(filter)].concat())
}

/// PUBLISH; `flags` are the low four bits of the first byte.
pub(super) fn publish(flags: u8, topic: &str, id: u16, body: &str) -> Vec<u8> {
    let mut bytes = text(topic);
    if flags & 6 != 0 {
        bytes.extend(id.to_be_bytes());
    }
    bytes.extend(body.as_bytes());
    packet(0x30 | flags, &bytes)
}

pub(super) fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

pub(super) const PING: &[u8] = &[0xc0, 0];
pub(super) const GOODBYE: &[u8] = &[0xe0, 0];
pub(super) const PUBACK: u8 = 0x40;
pub(super) const PUBREC: u8 = 0x50;
pub(super) const PUBREL: u8 = 0x62;
pub(super) const PUBCOMP: u8 = 0x70;

//! Clients that forget nothing when a connection is lost: MQTT 3.1.1 as the standard says (4.4), with every step in the hands of the test.
//!
//! A [`Publisher`] sends numbers and goes on where it was, the unacknowledged first, in order and with their packet identifiers. A [`Subscriber`] has a
//! persistent session and keeps what it has received at QoS 2 and not seen released. Both insist that the broker remembers their session.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::fake_broker::remaining_length;
use crate::wait::{DEADLINE, within};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x60;
const PUBCOMP: u8 = 0x70;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const DISCONNECT: u8 = 0xE0;

/// Publishes without an answer at once.
pub const WINDOW: usize = 100;

/// A connection, packet by packet.
struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Wire {
    /// Connects as soon as somebody listens, and says whether the session was there. `None`: the connection was lost.
    async fn open(port: u16, id: &str, clean: bool) -> Result<Option<(Self, bool)>> {
        let end = Instant::now() + DEADLINE;
        let stream = loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => return Err(error).context("nobody listens"),
            }
        };
        stream.set_nodelay(true)?;
        let mut wire = Self { stream, input: Vec::new(), output: Vec::new() };
        let mut body = text("MQTT");
        body.extend_from_slice(&[4, u8::from(clean) << 1, 0, 0]);
        body.extend(text(id));
        wire.put(CONNECT, &body);
        let Some((kind, body)) = within("CONNACK", wire.next()).await else { return Ok(None) };
        ensure!(kind == CONNACK && body.get(1) == Some(&0), "not let in: {kind:02x} {body:?}");
        Ok(Some((wire, body[0] == 1)))
    }

    fn put(&mut self, first: u8, body: &[u8]) {
        self.output.push(first);
        self.output.extend(remaining_length(body.len()));
        self.output.extend_from_slice(body);
    }

    fn answer(&mut self, first: u8, id: u16) {
        self.put(first, &id.to_be_bytes());
    }

    /// Writes what was put, and waits for the next packet: its first byte and its body. `None`: the connection was lost.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((length, body)) = head(&self.input)
                && self.input.len() >= body + length
            {
                let first = self.input[0];
                let packet = self.input[body..body + length].to_vec();
                self.input.drain(..body + length);
                return Some((first, packet));
            }
            self.flush().await?;
            self.stream.read_buf(&mut self.input).await.ok().filter(|count| *count > 0)?;
        }
    }

    async fn flush(&mut self) -> Option<()> {
        self.stream.write_all(&self.output).await.ok()?;
        self.output.clear();
        Some(())
    }

    /// Says goodbye. `true` if it was written.
    async fn leave(mut self) -> bool {
        self.put(DISCONNECT, &[]);
        self.flush().await.is_some()
    }
}

/// Length of the body of the packet at the head of `bytes`, and where it begins.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, index + 2));
        }
    }
    None
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn id_of(body: &[u8]) -> Result<u16> {
    Ok(u16::from_be_bytes(*body.first_chunk().context("no packet identifier")?))
}

#[derive(Debug)]
struct Pending {
    id: u16,
    number: u64,
    /// PUBREC came.
    received: bool,
}

/// Publishes the numbers 1, 2, 3 ... to one topic.
#[derive(Debug)]
pub struct Publisher {
    id: String,
    topic: String,
    qos: u8,
    clean: bool,
    next: u64,
    pending: VecDeque<Pending>,
    acknowledged: watch::Sender<u64>,
}

impl Publisher {
    /// One that has published nothing.
    #[must_use]
    pub fn new(id: &str, topic: &str, qos: u8) -> Self {
        let pending = VecDeque::new();
        let acknowledged = watch::Sender::new(0);
        Self { id: id.to_owned(), topic: topic.to_owned(), qos, clean: false, next: 1, pending, acknowledged }
    }

    /// One whose session ends with its connection: it sends what was not acknowledged once more, and asks nothing of the broker's memory.
    #[must_use]
    pub fn passing(id: &str, topic: &str, qos: u8) -> Self {
        Self { clean: true, ..Self::new(id, topic, qos) }
    }

    /// How many numbers are acknowledged to the end: PUBACK or PUBCOMP.
    #[must_use]
    pub fn acknowledged(&self) -> watch::Receiver<u64> {
        self.acknowledged.subscribe()
    }

    /// How many numbers were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.next - 1
    }

    /// Connects and publishes until `total` numbers are acknowledged. `false`: the connection was lost.
    ///
    /// # Errors
    /// The broker does not do what it must.
    pub async fn run(&mut self, port: u16, total: u64) -> Result<bool> {
        let Some((mut wire, present)) = Wire::open(port, &self.id, self.clean).await? else {
            return Ok(false);
        };
        // What was not acknowledged may be forgotten, the session with it.
        let known = !self.clean && *self.acknowledged.borrow() > 0;
        ensure!(present || !known, "{}: the session is forgotten", self.id);
        for pending in &self.pending {
            if pending.received {
                wire.answer(PUBREL | 2, pending.id);
            } else {
                publish(&mut wire, &self.topic, self.qos, pending, true);
            }
        }
        while *self.acknowledged.borrow() < total {
            while self.pending.len() < WINDOW && self.next <= total {
                let id = u16::try_from((self.next - 1) % 65_535 + 1)?;
                let pending = Pending { id, number: self.next, received: false };
                publish(&mut wire, &self.topic, self.qos, &pending, false);
                self.pending.push_back(pending);
                self.next += 1;
            }
            let Some((first, body)) = within("an acknowledgement", wire.next()).await else {
                return Ok(false);
            };
            self.take(&mut wire, first, id_of(&body)?)?;
        }
        Ok(wire.leave().await)
    }

    fn take(&mut self, wire: &mut Wire, first: u8, id: u16) -> Result<()> {
        // Answers come in the order of the publishes (4.6), also those that are repeated after a reconnect.
        let place = match (first & 0xF0, self.qos) {
            (PUBACK, 1) | (PUBCOMP, 2) => 0,
            (PUBREC, 2) => self.pending.iter().position(|pending| !pending.received).unwrap_or(usize::MAX),
            _ => bail!("{first:02x} is no answer to QoS {}", self.qos),
        };
        let pending = self.pending.get_mut(place).filter(|pending| pending.id == id);
        let pending = pending.with_context(|| format!("{first:02x} for {id} comes out of turn"))?;
        if first & 0xF0 == PUBREC {
            pending.received = true;
            wire.answer(PUBREL | 2, id);
        } else {
            self.pending.pop_front();
            self.acknowledged.send_modify(|count| *count += 1);
        }
        Ok(())
    }
}

fn publish(wire: &mut Wire, topic: &str, qos: u8, pending: &Pending, again: bool) {
    let mut body = text(topic);
    body.extend_from_slice(&pending.id.to_be_bytes());
    body.extend_from_slice(pending.number.to_string().as_bytes());
    wire.put(PUBLISH | u8::from(again) << 3 | qos << 1, &body);
}

/// One message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Retain flag.
    pub retain: bool,
    /// DUP flag.
    pub again: bool,
}

impl Message {
    /// The number that a [`Publisher`] sent.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        std::str::from_utf8(&self.payload).ok()?.parse().ok()
    }
}

/// A persistent session with one subscription.
#[derive(Debug)]
pub struct Subscriber {
    id: String,
    filter: String,
    qos: u8,
    clean: bool,
    known: bool,
    received: BTreeSet<u16>,
    /// Everything so far; at QoS 2 each message once.
    pub messages: Vec<Message>,
}

impl Subscriber {
    /// One that was never connected.
    #[must_use]
    pub fn new(id: &str, filter: &str, qos: u8) -> Self {
        let (id, filter) = (id.to_owned(), filter.to_owned());
        let (received, messages) = (BTreeSet::new(), Vec::new());
        Self { id, filter, qos, clean: false, known: false, received, messages }
    }

    /// One whose session ends with its connection.
    #[must_use]
    pub fn passing(id: &str, filter: &str, qos: u8) -> Self {
        Self { clean: true, ..Self::new(id, filter, qos) }
    }

    /// Connects, subscribes the first time, and takes messages until there are `count` in all; then it says goodbye. `false`: the connection
    /// was lost.
    ///
    /// # Errors
    /// The broker does not do what it must.
    pub async fn run(&mut self, port: u16, count: usize) -> Result<bool> {
        let Some((mut wire, present)) = Wire::open(port, &self.id, self.clean).await? else {
            return Ok(false);
        };
        ensure!(present || !self.known, "{}: the session is forgotten", self.id);
        if !self.known {
            let mut body = vec![0, 1];
            body.extend(text(&self.filter));
            body.push(self.qos);
            wire.put(SUBSCRIBE, &body);
        }
        while self.messages.len() < count || !self.known {
            let Some((first, body)) = wire.next().await else { return Ok(false) };
            self.take(&mut wire, first, &body)?;
        }
        Ok(wire.leave().await)
    }

    fn take(&mut self, wire: &mut Wire, first: u8, body: &[u8]) -> Result<()> {
        match first & 0xF0 {
            SUBACK => {
                ensure!(body.get(2) == Some(&self.qos), "not subscribed: {body:?}");
                self.known = true;
            }
            PUBREL => {
                let id = id_of(body)?;
                self.received.remove(&id);
                wire.answer(PUBCOMP, id);
            }
            PUBLISH => {
                let length = usize::from(id_of(body)?);
                let (topic, rest) = body[2..].split_at_checked(length).context("a short topic")?;
                let qos = first >> 1 & 3;
                let (id, payload) = if qos > 0 { (id_of(rest)?, &rest[2..]) } else { (0, rest) };
                let message = Message {
                    topic: String::from_utf8(topic.to_vec())?,
                    payload: payload.to_vec(),
                    retain: first & 1 == 1,
                    again: first & 8 == 8,
                };
                match qos {
                    1 => wire.answer(PUBACK, id),
                    2 => wire.answer(PUBREC, id),
                    _ => {}
                }
                if qos < 2 || self.received.insert(id) {
                    self.messages.push(message);
                }
            }
            other => bail!("{other:02x} is nothing for a subscriber"),
        }
        Ok(())
    }
}

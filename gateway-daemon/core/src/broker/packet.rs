//! What clients and broker say to each other, whatever the version of MQTT: the words between the front of a connection and the machine.
//!
//! Clauses are those of "MQTT Version 5.0" unless another standard is named.

use std::sync::Arc;
use std::time::Duration;

use super::front::{Texts, Wishes};
pub use super::properties::Properties;
use super::topic::{TopicError, TopicFilter, TopicName};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

/// Protocol version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: level 4.
    V311,
    /// MQTT 5.0: level 5.
    V5,
}

/// A message, shared by everyone who gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: TopicName,
    /// What was published.
    pub body: Arc<[u8]>,
    /// As published.
    pub qos: Qos,
    /// As published.
    pub retain: bool,
    /// `None` is none at all.
    pub properties: Option<Properties>,
    /// When it came.
    pub at: BootNs,
    /// Seconds after `at` at which nobody wants it any more; `None` is for ever.
    pub expiry_s: Option<u32>,
}

impl Message {
    /// Whole seconds since it came.
    pub(super) fn age_s(&self, now: BootNs) -> u32 {
        u32::try_from(now.since(self.at).as_secs()).unwrap_or(u32::MAX)
    }

    /// Whether nobody wants it any more.
    pub(super) fn is_expired(&self, now: BootNs) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    /// When nobody wants it any more.
    pub(super) fn expires_at(&self) -> Option<BootNs> {
        self.expiry_s.map(|s| self.at.plus(Duration::from_secs(s.into())))
    }

    /// Bytes of memory that a kept message costs: itself behind its `Arc`, its topic, its body and its properties, each a block of the heap as
    /// `heap_block` counts it. Who shares it with others is charged the whole of it all the same. Measured with a counting allocator
    /// (`tests/memory.rs`): at least four fifths of what the heap grows by.
    #[must_use]
    pub fn cost(&self) -> u64 {
        shared_block(size_of::<Self>()).saturating_add(self.parts_cost())
    }

    fn parts_cost(&self) -> u64 {
        let properties = self.properties.as_ref().map_or(0, Properties::cost);
        shared_block(self.topic.as_str().len())
            .saturating_add(shared_block(self.body.len()))
            .saturating_add(properties)
    }
}

/// Bytes that an allocation of `len` bytes costs: glibc puts 8 bytes before it, rounds up to 16 and gives no less than 32. musl's size classes
/// waste as much on average.
pub(super) fn heap_block(len: usize) -> u64 {
    (len as u64).saturating_add(8 + 15).max(32) / 16 * 16
}

/// Bytes of an allocation behind an `Arc`, which puts two counts before it.
pub(super) fn shared_block(len: usize) -> u64 {
    heap_block(len.saturating_add(16))
}

/// A packet of a client, checked.
#[derive(Debug)]
pub(super) enum Packet {
    Connect(Box<Hello>),
    Publish(Said),
    /// PUBACK.
    Acknowledged(u16),
    /// PUBREC; `refused` when its reason code is an error (5.0), which ends the exchange.
    Received {
        id: u16,
        refused: bool,
    },
    /// PUBREL.
    Release(u16),
    /// PUBCOMP.
    Completed(u16),
    Subscribe {
        id: u16,
        wishes: Wishes,
        identifier: Option<u32>,
    },
    Unsubscribe {
        id: u16,
        filters: Texts,
    },
    Ping,
    /// `with_will`: reason 0x04 of 5.0. `expiry_s`: the new session expiry of 5.0.
    Disconnect {
        with_will: bool,
        expiry_s: Option<u32>,
    },
    /// AUTH of 5.0: enhanced authentication, which is not offered.
    Auth,
}

/// What a client says when it connects. 3.x is translated: no clean session is a session that never expires.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) version: Version,
    /// May be empty: the broker gives one, if the version allows it.
    pub(super) client: String,
    /// Clean session, clean start.
    pub(super) clean: bool,
    /// Seconds after the end of the connection at which the session is forgotten: 0 at once, `u32::MAX` never (3.1.2.11.2).
    pub(super) expiry_s: u32,
    /// Seconds; 0 is no keep-alive.
    pub(super) keep_alive: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<Vec<u8>>,
    pub(super) will: Option<Testament>,
    /// Most QoS 1 and 2 messages the client takes at once; 65,535 without a word.
    pub(super) receive_max: u16,
    /// Largest packet the client takes.
    pub(super) packet_bytes_max: Option<u32>,
    /// Most topic aliases the client takes from us; 0 is none.
    pub(super) aliases_max: u16,
    /// Whether reason strings and user properties may be sent with every packet (3.1.2.11.7).
    pub(super) wants_reasons: bool,
    /// Enhanced authentication was asked for.
    pub(super) authentication_method: bool,
}

/// A last will.
#[derive(Debug, Clone)]
pub(super) struct Testament {
    pub(super) message: Message,
    pub(super) delay: Duration,
}

impl Testament {
    /// Bytes of memory that a will costs while it waits.
    pub(super) fn cost(&self) -> u64 {
        heap_block(size_of::<Self>()).saturating_add(self.message.parts_cost())
    }
}

/// A message of a client. Aliases are resolved by the front.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) message: Message,
    /// Packet identifier; 0 with QoS 0.
    pub(super) id: u16,
    /// Sent before, as the client says; the packet identifier says whether that is so.
    #[cfg_attr(not(test), expect(dead_code, reason = "3.3.1.1: the flag alone proves nothing"))]
    pub(super) again: bool,
}

/// One entry of a SUBSCRIBE. The text is not checked yet: shared subscriptions begin with `$share/`.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) filter: String,
    pub(super) options: Options,
}

/// Subscription options (3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Highest QoS wanted.
    pub qos: Qos,
    /// The subscriber's own messages are not wanted.
    pub no_local: bool,
    /// Retain flags are kept as published.
    pub retain_as_published: bool,
    /// Which retained messages are wanted.
    pub replay: Replay,
    /// Subscription identifier; 1 to 268,435,455.
    pub identifier: Option<u32>,
}

impl Options {
    /// What 3.x can say: a QoS.
    #[must_use]
    pub fn plain(qos: Qos) -> Self {
        Self { qos, no_local: false, retain_as_published: false, replay: Replay::Always, identifier: None }
    }
}

impl Options {
    /// The byte that says them in a SUBSCRIBE (3.8.3.1): all but the identifier.
    pub(super) fn flags(self) -> u8 {
        let replay = match self.replay {
            Replay::Always => 0,
            Replay::IfNew => 1,
            Replay::Never => 2,
        };
        self.qos as u8 | u8::from(self.no_local) << 2 | u8::from(self.retain_as_published) << 3 | replay << 4
    }

    /// Reads [`Options::flags`], the two highest bits aside; `None` is nothing that it gives.
    pub(super) fn of_flags(flags: u8, identifier: Option<u32>) -> Option<Self> {
        Some(Self {
            qos: match flags & 3 {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                2 => Qos::ExactlyOnce,
                _ => return None,
            },
            no_local: flags & 4 != 0,
            retain_as_published: flags & 8 != 0,
            replay: match flags >> 4 & 3 {
                0 => Replay::Always,
                1 => Replay::IfNew,
                2 => Replay::Never,
                _ => return None,
            },
            identifier,
        })
    }
}

/// Retain handling (3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Retained messages at every subscribe; what 3.x does.
    Always,
    /// Only if the subscription did not exist.
    IfNew,
    /// None.
    Never,
}

/// A message on its way to one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) message: Arc<Message>,
    /// The lower of publish and subscription.
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Identifiers of the subscriptions that want it; empty for most.
    pub(super) identifiers: Box<[u32]>,
}

impl Delivery {
    /// Bytes of memory that it costs while it waits: its message as [`Message::cost`] says, its place in a queue twice (a queue has up to as many free
    /// places as taken ones), and its identifiers.
    #[allow(dead_code, reason = "what queues are charged by")]
    pub(super) fn cost(&self) -> u64 {
        let identifiers =
            if self.identifiers.is_empty() { 0 } else { heap_block(size_of_val(&*self.identifiers)) };
        self.message.cost().saturating_add(2 * PLACE_BYTES).saturating_add(identifiers)
    }
}

/// Bytes of a place in a queue: the delivery, its seq, its size.
const PLACE_BYTES: u64 = size_of::<Delivery>() as u64 + 16;

/// Reason codes of 5.0 (2.4) that the broker uses; the front translates them for 3.x where there is a word, and says nothing where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the standard")]
#[repr(u8)]
pub enum Code {
    Success = 0x00,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    Unspecified = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecific = 0x83,
    UnsupportedVersion = 0x84,
    ClientIdInvalid = 0x85,
    BadUserOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    ServerShuttingDown = 0x8b,
    BadAuthenticationMethod = 0x8c,
    KeepAliveTimeout = 0x8d,
    SessionTakenOver = 0x8e,
    FilterInvalid = 0x8f,
    TopicInvalid = 0x90,
    PacketIdInUse = 0x91,
    PacketIdUnknown = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9a,
    SharedNotSupported = 0x9e,
    ConnectionRateExceeded = 0x9f,
}

/// What the broker tells a client at CONNACK beside success.
#[derive(Debug, Clone, Default)]
pub(super) struct Welcome {
    pub(super) session_present: bool,
    /// A client id the broker gave.
    pub(super) assigned: Option<Arc<str>>,
    /// Session expiry if it is not what the client asked for.
    pub(super) expiry_s: Option<u32>,
    /// Keep-alive if it is not what the client asked for, seconds.
    pub(super) keep_alive: Option<u16>,
    /// Most unacknowledged QoS 1 and 2 messages taken from the client.
    pub(super) receive_max: u16,
    pub(super) packet_bytes_max: u32,
    pub(super) aliases_max: u16,
}

/// A packet to a client.
pub(super) enum Reply<'a> {
    Connected(Welcome),
    Refused(Code, &'static str),
    /// `age_s`: how long the message has waited, taken off its expiry.
    Publish {
        delivery: &'a Delivery,
        id: u16,
        again: bool,
        age_s: u32,
    },
    /// PUBACK.
    Acknowledge(u16, Code),
    /// PUBREC.
    Receive(u16, Code),
    /// PUBREL.
    Release(u16, Code),
    /// PUBCOMP.
    Complete(u16, Code),
    /// SUBACK: granted QoS or why not, in the order of the wishes.
    Subscribed {
        id: u16,
        granted: Vec<Result<Qos, Code>>,
    },
    /// UNSUBACK.
    Unsubscribed {
        id: u16,
        codes: Vec<Code>,
    },
    Pong,
    /// DISCONNECT of the server: only 5.0 has it.
    Goodbye(Code, &'static str),
}

/// A filter with its share name, if it is `$share/NAME/FILTER` (4.8.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subscription {
    /// Share name.
    pub share: Option<Arc<str>>,
    /// What is wanted.
    pub filter: TopicFilter,
}

/// First level of the filter of a shared subscription (4.8.2).
const SHARE: &str = "$share/";

impl Subscription {
    /// A filter that is not shared.
    #[must_use]
    pub fn own(filter: TopicFilter) -> Self {
        Self { share: None, filter }
    }

    /// Reads `FILTER` or `$share/NAME/FILTER`.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let Some(shared) = text.strip_prefix(SHARE) else { return Ok(Self::own(TopicFilter::new(text)?)) };
        let (name, filter) = shared.split_once('/').unwrap_or((shared, ""));
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if name.contains(['+', '#']) {
            return Err(TopicError::NotAlone(name.to_owned()));
        }
        Ok(Self { share: Some(name.into()), filter: TopicFilter::new(filter)? })
    }

    /// As it was asked for.
    #[must_use]
    pub fn text(&self) -> Arc<str> {
        match &self.share {
            None => self.filter.as_str().into(),
            Some(share) => format!("{SHARE}{share}/{}", self.filter).into(),
        }
    }
}

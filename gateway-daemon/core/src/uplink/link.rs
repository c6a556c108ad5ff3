//! What the connection machine and the hand that owns the socket say to each other.
//!
//! One epoch is one connection attempt and, if it succeeds, one connection. It is never revived: after [`LinkEvent::Down`] nothing
//! of that epoch is heard again, and the next attempt has a higher epoch and a fresh client. Events are delivered on a channel
//! of their epoch, so an acknowledgement of an older connection cannot be taken for one of the current connection.

use std::sync::Arc;
use std::time::Duration;

use super::loss::Loss;
use super::row::Qos;

/// Number of a connection attempt: 1, 2, 3 ... within a run of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

/// Name of one publish within its epoch, chosen by the machine and given back with its acknowledgement. Not the MQTT packet id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Number of a message of the cloud that has to be acknowledged: 1, 2, 3 ... within its epoch, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Delivery(pub u64);

/// The last will: what the broker publishes when the link dies without a clean stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic, valid for publishing.
    pub topic: Arc<str>,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS with which the broker publishes it.
    pub qos: Qos,
    /// Whether the broker retains it.
    pub retain: bool,
}

/// What the machine asks of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkCommand {
    /// Send one message. Before [`LinkEvent::Up`] it waits.
    Publish {
        /// Given back in [`LinkEvent::Acked`] or [`LinkEvent::Refused`].
        token: Token,
        /// Topic, valid for publishing.
        topic: Arc<str>,
        /// QoS. [`Qos::ExactlyOnce`] travels as at least once: a fresh client does not know which packet ids the broker's session
        /// still holds, and a reused one would make the broker drop the message as a repetition.
        qos: Qos,
        /// Retain flag.
        retain: bool,
        /// The message itself.
        payload: Vec<u8>,
    },
    /// Subscribe at the cloud. Answered by [`LinkEvent::Subscribed`].
    Subscribe {
        /// Filters and the most QoS wanted; 2 travels as 1.
        filters: Vec<(Arc<str>, Qos)>,
    },
    /// This message and all before it are safe: they may be acknowledged to the cloud.
    Acknowledge {
        /// The last one.
        through: Delivery,
    },
    /// Write what was accepted so far, wait a bounded time for its acknowledgements, say DISCONNECT (the broker then drops the
    /// will) and end with [`Loss::Stopped`].
    Disconnect,
}

/// What a link reports. The first event is `Up` or `Down`; `Down` is always the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// CONNACK with return code 0.
    Up {
        /// The broker has kept the session of this client id.
        session_present: bool,
    },
    /// QoS 1: the PUBACK of this very publish on this very connection. QoS 0: the message was written to the socket.
    Acked {
        /// The publish.
        token: Token,
    },
    /// The publish was not sent and never will be: it cannot be an MQTT packet within the limits. The connection lives on.
    Refused {
        /// The publish.
        token: Token,
        /// What is wrong with it.
        why: PublishFault,
    },
    /// The cloud has answered [`LinkCommand::Subscribe`] completely.
    Subscribed {
        /// Filters that it refused.
        refused: Vec<Arc<str>>,
    },
    /// A message of the cloud.
    Message {
        /// To be acknowledged by [`LinkCommand::Acknowledge`], else the cloud delivers it again on the next connection. `None` for QoS 0.
        delivery: Option<Delivery>,
        /// Topic.
        topic: Arc<str>,
        /// Payload, at most the packet limit of the link.
        payload: Vec<u8>,
        /// QoS on this link.
        qos: Qos,
        /// Retained by the broker before we subscribed.
        retain: bool,
    },
    /// The attempt failed or the connection is lost. Publishes without `Acked` may or may not have arrived.
    Down {
        /// Why.
        loss: Loss,
        /// How long the connection was up; `None` if it never was.
        up_for: Option<Duration>,
    },
}

/// Why one publish can never be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PublishFault {
    /// The packet is larger than the link's limit.
    #[error(
        "the packet has {size} bytes, the limit of this uplink is {limit}; raise `packet_max` or publish less per message"
    )]
    Oversize {
        /// Size of the whole PUBLISH packet, bytes.
        size: usize,
        /// Largest packet allowed, bytes.
        limit: usize,
    },
    /// The topic is empty, holds `+`, `#` or U+0000, or is longer than 65535 bytes.
    #[error(
        "the topic is not valid for publishing: it must have 1 to 65535 bytes and no '+', '#' or zero character"
    )]
    Topic,
}

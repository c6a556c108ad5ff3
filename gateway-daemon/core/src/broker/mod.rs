//! A sans-IO MQTT broker: who wants which message, and what each client has yet to be told.
//!
//! Inputs are connections opening, bytes, bytes written, connections closing, local messages and time; outputs are
//! [`Action`]s. One broker serves two kinds of sessions alike: clients behind connections, and *bridges*, whose messages leave as
//! [`Action::Enqueue`] for a durable queue (an uplink is a bridge).
//!
//! MQTT 3.1.1: QoS 0, 1 and 2 delivered as the lower of publish and subscription, retained messages, last wills, keep-alive,
//! take-over, persistent sessions, overlapping subscriptions delivered once with the highest QoS. Level 3 and 5.0 are refused with
//! their own return codes.
//!
//! Invariants: whatever a client sends can end its own connection and nothing else; messages to one session keep their order
//! within a QoS; every message that is not delivered is counted in [`Counters`]; all bounds are in [`settings`].
//!
//! It keeps everything in memory and acknowledges a client's message once it is routed: that is enough for the pretend cloud
//! of the demo and for messages of this process, which the queue behind [`Action::Enqueue`] makes durable. A listener for
//! clients whose acknowledgement must mean "on disk" needs [`Action::Enqueue`] to be answered first.
//!
//! It never reads a clock, opens a socket or blocks.

mod counters;
mod front;
mod machine;
mod retained;
mod session;
pub mod settings;
pub mod topic;
pub mod tree;

pub use counters::Counters;
pub use machine::{Broker, Gauges};
pub use settings::Limits;
pub use topic::{TopicError, TopicFilter, TopicName};

use crate::payload::Draft;
use crate::uplink::row::Qos;

/// A connection, numbered by the listener; no number is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A session of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u32);

/// What the hands do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write bytes to a connection, then tell [`Broker::handle_sent`].
    Send {
        /// Which connection.
        conn: ConnId,
        /// What to write; may be several packets.
        bytes: Vec<u8>,
    },
    /// Close a connection once the bytes sent before are written. The broker has forgotten it.
    Close {
        /// Which connection.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// Put a message into the durable queue of a bridge.
    Enqueue {
        /// Which bridge.
        session: SessionId,
        /// The lower of the publisher's QoS and the filter's.
        qos: Qos,
        /// The message; its body is shared with the publisher.
        draft: Draft,
    },
}

/// Why the broker ends a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client said goodbye; its will is forgotten.
    #[error("disconnected by the client")]
    Goodbye,
    /// No CONNECT within [`Limits::handshake_max`].
    #[error("no CONNECT in time")]
    Handshake,
    /// Silent for one and a half times its keep-alive.
    #[error("keep-alive timeout")]
    KeepAlive,
    /// Another connection took the client id.
    #[error("another connection has the same client id")]
    TakenOver,
    /// A packet that MQTT does not know.
    #[error("malformed packet")]
    Malformed,
    /// A well-formed packet at the wrong moment.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A topic name or filter that is not one.
    #[error("bad topic: {0}")]
    Topic(TopicError),
    /// A packet larger than [`Limits::packet_bytes_max`].
    #[error("packet too large")]
    TooLarge,
    /// A protocol version that is not spoken here.
    #[error("protocol version not supported")]
    Version,
    /// CONNECT was refused; the client has been told the code.
    #[error("connection refused: {0}")]
    Refused(&'static str),
    /// The client lets its answers pile up unread.
    #[error("client does not read")]
    Stalled,
    /// More than [`Limits::connections_max`] connections.
    #[error("too many connections")]
    Full,
}

/// Why a bridge cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// [`Limits::sessions_max`] is reached.
    #[error("there are {0} sessions already, which is the limit")]
    Sessions(usize),
    /// [`Limits::subscriptions_max`] would be exceeded.
    #[error("more than {0} subscriptions, which is the limit")]
    Subscriptions(usize),
}

#[cfg(test)]
mod tests;

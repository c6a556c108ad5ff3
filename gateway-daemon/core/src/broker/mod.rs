//! A sans-IO MQTT broker: who wants which message, and what each client has yet to be told.
//!
//! Inputs are connections opening, bytes, bytes written, connections closing, local messages and time; outputs are
//! [`Action`]s. One broker serves two kinds of sessions alike: clients behind connections, and *bridges*, whose messages leave as
//! [`Action::Enqueue`] for a durable queue (an uplink is a bridge).
//!
//! MQTT 3.1, 3.1.1 and 5.0. The way of a message:
//!
//! ```text
//! bytes --front--> Packet --machine--> tree: who wants it?
//!                     |                  |-- session of a client: outbound (window, queue, rows on disk) --front--> bytes
//!                     |                  |-- session of a bridge: Action::Enqueue --> handle_receipt
//!                     |                  `-- retained
//!                     `-- acknowledgement: in the connection's line until its ticket is settled --front--> bytes
//!        outbound, facts --> journal --> Action::Turn --> handle_answer: tickets, lines and queues go on
//! ```
//!
//! Invariants: whatever a client sends can end its own connection and nothing else; whatever a client is told is true of the disk before it is
//! told ([`change`]); acknowledgements of one connection leave in the order of its packets; messages to one session keep their
//! order within a QoS; every message that is not delivered is counted in [`Counters`]; all bounds are in [`settings`], and what happens beyond
//! is counted too; work is done in turns that begin with [`Broker::timeout`], each with a budget, and what is left is put down and taken up.
//!
//! It never reads a clock, opens a socket or blocks.

pub mod access;
pub mod bridge;
pub mod change;
mod counters;
mod facts;
mod front;
mod gauges;
mod journal;
mod machine;
mod mutant;
pub mod note;
mod outbound;
pub mod own;
pub mod packet;
mod properties;
mod retained;
mod session;
pub mod settings;
mod shares;
mod sieve;
mod ticket;
pub mod topic;
pub mod tree;

pub use change::{Answer, Change, FactKey, FactKind, Found, Read, Turn};
pub use counters::Counters;
pub use gauges::Gauges;
pub use machine::{Broker, SessionView, Which};
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use note::{Event, Note};
pub use own::Own;
pub use settings::{Limits, Settings};
pub use sieve::{LeftOut, Portion, Sieve};
pub use topic::{TopicError, TopicFilter, TopicName};

use std::sync::Arc;

use self::note::Shown;
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
        /// Somebody waits until the queue has it on disk or its reader has it.
        ticket: Option<Ticket>,
    },
    /// Read nothing more from a connection, or read again: its publishes wait for the disk.
    Hold {
        /// Which connection.
        conn: ConnId,
        /// `false` lets it go on.
        held: bool,
    },
    /// Make changes durable.
    Turn(Turn),
    /// Read rows of a session's queue.
    Read(Read),
    /// Compare a password with its hash. Takes tens of milliseconds and memory by design: never in this task, one at a time.
    Verify {
        /// Which connection waits.
        conn: ConnId,
        /// What the client sent.
        password: Vec<u8>,
        /// The PHC text of the user, or of nobody: then the answer is no in any case, after the same time.
        hash: Arc<str>,
    },
    /// What was published with this ticket is on disk wherever it is wanted, or was dropped by a policy.
    Safe {
        /// The ticket of [`Broker::publish`].
        ticket: Ticket,
    },
}

/// A message of this process, or of an uplink.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// The message.
    pub draft: &'a Draft,
    /// Its QoS; subscribers get it with the lower of this and theirs.
    pub qos: Qos,
    /// The bridge it came from: it does not go back there.
    pub from: Option<SessionId>,
    /// Whether somebody waits until it is safe: then [`Broker::publish`] gives a ticket, and [`Action::Safe`] follows.
    pub want: bool,
}

/// What became of a message in a durable queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is on disk, or its reader has acknowledged it.
    Safe,
    /// It was dropped by the queue's policy, which counts it.
    Dropped,
}

/// Somebody waits for a message to be safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Where a connection comes from, as its listener knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Index of the listener in its settings.
    pub listener: usize,
    /// Address of the client, for the log and for slowing down guesses.
    pub peer: String,
    /// The name in the client's verified certificate, if the listener takes it as the user.
    pub certificate: Option<String>,
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
    /// A packet that MQTT does not know; the words say what is wrong with it.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// A well-formed packet at the wrong moment.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A topic name or filter that is not one.
    #[error("bad topic {1}: {0}")]
    Topic(TopicError, Shown),
    /// A packet larger than [`Limits::packet_bytes_max`].
    #[error("packet too large")]
    TooLarge,
    /// More properties in a packet, or more bytes of them, than is taken (5.0).
    #[error("too many properties: {0}")]
    Properties(&'static str),
    /// A topic alias that was not allowed.
    #[error("a topic alias above the limit")]
    Alias,
    /// A body that is said to be text and is not.
    #[error("the payload is not the UTF-8 it is said to be")]
    Payload,
    /// More QoS 1 and 2 messages at once than CONNACK allowed.
    #[error("more unacknowledged messages than allowed")]
    ReceiveMaximum,
    /// More of something than one client gets.
    #[error("quota exceeded: {0}")]
    Quota(&'static str),
    /// A client id that may not be empty is.
    #[error("no client id")]
    ClientId,
    /// A protocol version that is not spoken here.
    #[error("protocol version not supported")]
    Version,
    /// CONNECT was refused; the client has been told the code.
    #[error("connection refused: {0}")]
    Refused(&'static str),
    /// The client lets its answers pile up unread.
    #[error("client does not read")]
    Stalled,
    /// More than [`Limits::connections_max`] connections, or more of its address than it may have.
    #[error("too many connections")]
    Full,
    /// The log-in failed, and the client has been told.
    #[error("log-in refused")]
    Login,
    /// It had not said who it is while others waited for its place.
    #[error("no CONNECT while others waited")]
    GaveWay,
    /// An answer is larger than the client takes.
    #[error("an answer larger than the client takes")]
    Small,
    /// Its user or its client id is not let in any more.
    #[error("not let in any more")]
    NotAuthorized,
    /// A person dropped its session.
    #[error("its session was dropped by command")]
    Administrative,
    /// The daemon stops.
    #[error("the broker is shutting down")]
    Shutdown,
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

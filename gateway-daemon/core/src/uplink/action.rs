//! What the connection machine tells the hands, and what it counts.

use std::sync::Arc;

use super::link::{Epoch, Token, Will};
#[cfg(doc)]
use super::machine::Uplink;
use super::queue::{Lane, Receipt};
use super::row::{Mark, Qos, Row, StoreOp, Tally};
use crate::tag::BootNs;

/// What the hands do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Give the op to the store and its answer to [`Uplink::store`].
    Store(StoreOp),
    /// Make a connection with a fresh client and report to [`Uplink::link`] under this epoch.
    Connect {
        /// Number of the attempt.
        epoch: Epoch,
        /// Index of the server, below the number of [`Uplink::with_servers`].
        server: usize,
        /// Last will for CONNECT.
        will: Will,
    },
    /// Render and publish a row.
    Send {
        /// The connection.
        epoch: Epoch,
        /// Comes back with the acknowledgement.
        token: Token,
        /// The row.
        row: Arc<Row>,
        /// Which way it took.
        lane: Lane,
        /// Whether it was sent before in this run, so that the cloud may have it already.
        again: bool,
    },
    /// Publish a message of the uplink itself.
    Announce {
        /// The connection.
        epoch: Epoch,
        /// Comes back with the acknowledgement.
        token: Token,
        /// Topic.
        topic: Arc<str>,
        /// JSON.
        payload: Vec<u8>,
        /// QoS: 1, or 0 for clouds that never acknowledge.
        qos: Qos,
        /// Whether the broker keeps it.
        retain: bool,
    },
    /// End the connection; nothing of this epoch is heard from here on.
    Disconnect {
        /// The connection.
        epoch: Epoch,
        /// Say DISCONNECT, so that the broker drops the will; otherwise cut it.
        clean: bool,
    },
    /// Word for a publisher that waits.
    Receipt(Receipt),
    /// To be said to a person: a row is set aside, because the cloud will not take it.
    SetAside {
        /// What, why, and for which server.
        mark: Arc<Mark>,
    },
    /// To be said to a person: a message of the uplink itself is not sent for a while, because this server ends the connection for it.
    Silenced {
        /// Its topic.
        topic: Arc<str>,
        /// Host and port of the server.
        server: Arc<str>,
    },
    /// The stop is complete, or its deadline has passed.
    Stopped {
        /// What was still only in memory and is lost: zero unless the store failed or the deadline was too short.
        left: Tally,
    },
}

/// Where the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not started, or stopping without a link.
    Idle,
    /// Waiting until the next attempt.
    BackingOff {
        /// When it is made.
        until: BootNs,
    },
    /// An attempt is under way.
    Connecting {
        /// Since when.
        since: BootNs,
    },
    /// Connected.
    Up {
        /// Since when.
        since: BootNs,
    },
}

/// What happened to an uplink, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connection attempts.
    pub connects_total: u64,
    /// Attempts that came up.
    pub ups_total: u64,
    /// Connections that came up and whose session the broker had forgotten.
    pub sessions_lost_total: u64,
    /// Failed attempts and lost connections.
    pub losses_total: u64,
    /// Links given up because no acknowledgement came.
    pub ack_timeouts_total: u64,
    /// Rows sent as live.
    pub live_rows_total: u64,
    /// Rows sent from the backlog.
    pub backlog_rows_total: u64,
    /// Messages of the uplink itself.
    pub announcements_total: u64,
    /// Acknowledgements of the current connection.
    pub acks_total: u64,
    /// Acknowledgements of an older connection, ignored.
    pub stale_acks_total: u64,
    /// Other events of an older connection, ignored.
    pub stale_events_total: u64,
    /// Acknowledgements of the current connection for nothing in flight, ignored.
    pub unknown_acks_total: u64,
    /// Messages that the link could not send.
    pub refused_total: u64,
    /// Messages sent alone and awaited, to find out which one the cloud will not take.
    pub sent_alone_total: u64,
    /// Times that a message of the uplink itself was found to be refused by the cloud.
    pub silenced_total: u64,
}

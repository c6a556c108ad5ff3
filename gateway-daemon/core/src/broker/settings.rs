//! Bounds of a broker.

use std::time::Duration;

/// Most connections at once: a kilobyte or two each at rest, and more machines than stand around one gateway.
pub const CONNECTIONS_MAX: usize = 1000;

/// Most sessions, connected or not, bridges included.
pub const SESSIONS_MAX: usize = 2000;

/// Most subscriptions of all sessions together: some hundred bytes each.
pub const SUBSCRIPTIONS_MAX: usize = 20_000;

/// Most messages sent to one client and not yet acknowledged; also most QoS 2 messages of one client that it has not
/// released. Enough to fill a local line, few enough to send again.
pub const INFLIGHT_MAX: usize = 100;

/// Most messages that wait for one session; the newest is dropped and counted when full.
pub const QUEUED_MAX: usize = 10_000;

/// Most bytes of topics and bodies that wait for one session or are in flight to it.
pub const QUEUED_BYTES_MAX: usize = 4 << 20;

/// Most bytes that wait for all sessions together or are in flight to them.
pub const QUEUED_BYTES_TOTAL_MAX: usize = 32 << 20;

/// Largest packet taken from a client, bytes; also bounds what comes before CONNECT.
pub const PACKET_BYTES_MAX: usize = 256 << 10;

/// Most bytes handed out for one connection and not yet written; QoS 0 messages beyond are dropped and counted, the others
/// wait in their session.
pub const OUTBOX_BYTES_MAX: usize = 256 << 10;

/// Most retained messages; a retained message on one more topic is delivered but not kept, and counted.
pub const RETAINED_MAX: usize = 10_000;

/// Most bytes of retained topics and bodies.
pub const RETAINED_BYTES_MAX: usize = 8 << 20;

/// Longest time from the opening of a connection to its CONNECT.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Bounds of a broker; the defaults are the constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`SESSIONS_MAX`].
    pub sessions_max: usize,
    /// See [`SUBSCRIPTIONS_MAX`].
    pub subscriptions_max: usize,
    /// See [`INFLIGHT_MAX`].
    pub inflight_max: usize,
    /// See [`QUEUED_MAX`].
    pub queued_max: usize,
    /// See [`QUEUED_BYTES_MAX`].
    pub queued_bytes_max: usize,
    /// See [`QUEUED_BYTES_TOTAL_MAX`].
    pub queued_bytes_total_max: usize,
    /// See [`PACKET_BYTES_MAX`].
    pub packet_bytes_max: usize,
    /// See [`OUTBOX_BYTES_MAX`].
    pub outbox_bytes_max: usize,
    /// See [`RETAINED_MAX`].
    pub retained_max: usize,
    /// See [`RETAINED_BYTES_MAX`].
    pub retained_bytes_max: usize,
    /// See [`HANDSHAKE_MAX`].
    pub handshake_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            sessions_max: SESSIONS_MAX,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            inflight_max: INFLIGHT_MAX,
            queued_max: QUEUED_MAX,
            queued_bytes_max: QUEUED_BYTES_MAX,
            queued_bytes_total_max: QUEUED_BYTES_TOTAL_MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            retained_max: RETAINED_MAX,
            retained_bytes_max: RETAINED_BYTES_MAX,
            handshake_max: HANDSHAKE_MAX,
        }
    }
}

/// The local broker, as `[broker]` says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Its doors; the index is [`super::Origin::listener`].
    pub listeners: Vec<crate::settings::ListenerSettings>,
    /// Users and rules.
    pub access: super::access::Access,
    /// Bounds.
    pub limits: Limits,
}

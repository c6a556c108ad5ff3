//! How much a broker holds at the moment.

/// Sizes of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gauges {
    /// Open connections.
    pub connections: usize,
    /// Bytes to clients that are not written yet.
    pub unsent_bytes: usize,
    /// Bytes of clients that are no whole packet yet, or wait until they are read.
    pub unread_bytes: usize,
    /// Bytes of connections that are not let in.
    pub hello_bytes: usize,
    /// Log-ins that wait for their comparison.
    pub logins_waiting: usize,
    /// Addresses, and users at addresses, that are locked out.
    pub locked_out: usize,
    /// Sessions, connected or not, bridges included.
    pub sessions: usize,
    /// Subscriptions of all sessions, shared ones included.
    pub subscriptions: usize,
    /// Shared subscriptions of all sessions.
    pub shared_subscriptions: usize,
    /// Retained messages.
    pub retained_messages: usize,
    /// Bytes of memory that they cost.
    pub retained_bytes: u64,
    /// Bytes of memory that last wills cost, of connected clients and delayed ones.
    pub wills_bytes: u64,
    /// Bytes of QoS 2 messages, received and not released, that uplinks have yet to take.
    pub received_bytes: u64,
    /// Messages of QoS 1 and 2 that wait for sessions or are in flight.
    pub held_messages: u64,
    /// Bytes of those that are in memory only, because their sessions end with their connections.
    pub held_bytes: u64,
    /// Messages of durable sessions among them.
    pub stored_messages: u64,
    /// Bytes of those.
    pub stored_bytes: u64,
    /// Bytes of durable sessions that are in memory although they are on disk: read ahead, or in flight.
    pub loaded_bytes: u64,
    /// Bytes that are only in memory and have to survive.
    pub dirty_bytes: u64,
    /// Acknowledgements and callers that wait until a message is safe.
    pub waiting_acknowledgements: usize,
}

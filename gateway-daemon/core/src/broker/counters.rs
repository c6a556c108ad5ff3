//! What a broker has done since it was made.

/// Counts of a broker; every drop and every refusal has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections opened.
    pub connections_total: u64,
    /// Connections refused because there were too many.
    pub connections_refused_total: u64,
    /// CONNECT packets refused (version, client id, too many sessions).
    pub logins_refused_total: u64,
    /// Connections ended because a newer one had the same client id.
    pub takeovers_total: u64,
    /// Connections ended for malformed packets or packets that were not due.
    pub malformed_total: u64,
    /// Connections ended by silence: no CONNECT in time, or keep-alive.
    pub silent_total: u64,
    /// Connections ended because the client did not read.
    pub stalled_total: u64,
    /// Subscriptions refused because there were too many.
    pub subscriptions_refused_total: u64,
    /// Messages published by clients.
    pub received_messages_total: u64,
    /// Messages published inside the process.
    pub local_messages_total: u64,
    /// Messages handed to connections, repetitions not counted.
    pub sent_messages_total: u64,
    /// Messages sent again after a reconnect.
    pub resent_messages_total: u64,
    /// Messages handed to bridge sessions.
    pub enqueued_messages_total: u64,
    /// Last wills published.
    pub wills_total: u64,
    /// QoS 0 messages dropped because their client was away.
    pub dropped_away_messages_total: u64,
    /// QoS 0 messages dropped because their client read too slowly.
    pub dropped_slow_messages_total: u64,
    /// QoS 1 and 2 messages dropped because their session's queue, or all queues together, were full.
    pub dropped_full_messages_total: u64,
    /// Messages dropped with their session: clean sessions that ended, sessions thrown away by a clean reconnect.
    pub dropped_session_messages_total: u64,
    /// Records that a client wanted and nobody could render.
    pub unrendered_messages_total: u64,
    /// Retained messages delivered but not kept, because there were too many.
    pub unretained_messages_total: u64,
}

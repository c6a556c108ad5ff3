//! Bounds of a broker.

use std::time::Duration;

pub use super::retained::expiry::{RETAINED_RULES_MAX, RetainedRule, RetainedRules};

/// Most connections at once: a kilobyte or two each at rest, and more machines than stand around one gateway.
pub const CONNECTIONS_MAX: usize = 1000;

/// Most connections of one address (of 64 bits in IPv6): half of all, so that one host, or one router with many behind it, leaves room for others.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = CONNECTIONS_MAX / 2;

/// Most connections of one user.
pub const CONNECTIONS_PER_USER_MAX: usize = CONNECTIONS_MAX / 2;

/// Most log-ins of one address in a minute, refused ones included: a hundred in each second, which is a script that connects for each message.
pub const LOGINS_PER_MINUTE_MAX: u64 = 6000;

/// Memory that the topic aliases of one connection may take, both directions.
pub const ALIASES_BYTES: u64 = 4 << 10;

/// Most sessions, connected or not, bridges included.
pub const SESSIONS_MAX: usize = 2000;

/// Most sessions of one user, and most that connections of one address have made, of those that outlive their connections: four have to act together to take
/// all places.
pub const SESSIONS_SHARE_MAX: usize = SESSIONS_MAX / 4;

/// Longest time that a session outlives its connection, seconds of running time: a machine that is away over a week of holidays gets what it missed, and
/// one that was taken away does not fill the card for ever.
pub const SESSION_EXPIRY_MAX_S: u32 = 7 * 24 * 3600;

/// Most subscriptions of all sessions together: some hundred bytes each. One user, and one address without users, has half of them at most; the last eighth is for
/// sessions that have few.
pub const SUBSCRIPTIONS_MAX: usize = 20_000;

/// Most messages sent to one client and not yet acknowledged; also most QoS 2 messages of one client that it has not
/// released. Enough to fill a local line, few enough to send again.
pub const INFLIGHT_MAX: usize = 100;

/// Most messages that wait for one session in memory; see [`WhenFull`].
pub const QUEUED_MAX: usize = 10_000;

/// Most bytes of messages that wait for one session in memory or are in flight to it.
pub const QUEUED_BYTES_MAX: usize = 4 << 20;

/// Most bytes that wait for all sessions in memory together or are in flight to them.
pub const QUEUED_BYTES_TOTAL_MAX: usize = 16 << 20;

/// Most bytes that each session in memory holds although [`QUEUED_BYTES_TOTAL_MAX`] is reached and nobody can make room: a handful of messages.
pub const QUEUED_SHARE_BYTES_MIN: u64 = 4 << 10;

/// Most bytes that each durable session holds although [`STORED_BYTES_TOTAL_MAX`] is reached and nobody can make room: with 2000 sessions 16 MiB on disk.
pub const STORED_SHARE_BYTES_MIN: u64 = 8 << 10;

/// Most messages that each session holds although a total is reached and nobody can make room.
pub const SHARE_ROWS_MIN: u64 = 16;

/// Most bytes that all durable sessions together have in memory of what is on disk: read ahead, or in flight. Kept, what is in flight survives a database
/// that has to be replaced.
pub const LOADED_BYTES_TOTAL_MAX: u64 = 4 << 20;

/// Largest packet taken from a client, bytes; also bounds what comes before CONNECT.
pub const PACKET_BYTES_MAX: usize = 256 << 10;

/// Most bytes handed out for one connection and not yet written; QoS 0 messages beyond are dropped and counted, the others
/// wait in their session.
pub const OUTBOX_BYTES_MAX: usize = 256 << 10;

/// Most bytes to all connections together that are not written: at the limits of each alone, a thousand clients that do not read would hold half a gigabyte.
/// Near it, those that have more than their share get no more; at it, the slowest of them is closed.
pub const UNSENT_BYTES_TOTAL_MAX: usize = 16 << 20;

/// Most bytes of packets that are not whole yet, and of those that wait while nothing is read, of all connections together. At it, the oldest unfinished one
/// of a connection that has more than its share is closed.
pub const RECEIVED_BYTES_TOTAL_MAX: usize = 16 << 20;

/// Most retained messages; a retained message on one more topic is delivered but not kept, and counted.
pub const RETAINED_MAX: usize = 10_000;

/// Most bytes of memory that retained messages cost: some 400 bytes for each, with what it holds.
pub const RETAINED_BYTES_MAX: usize = 8 << 20;

/// Most bytes of memory that last wills cost, of connected clients and delayed ones: of a thousand clients, each has 2 kB. One user has half of it at most, and
/// so have the clients of one address; the last eighth is for those that have little.
pub const WILLS_BYTES_MAX: usize = 2 << 20;

/// Most bytes of QoS 2 messages, received and not released, that are in memory because uplinks have yet to take them: they share their bodies with the rows
/// of the uplinks' queues. Above, publishers are held.
pub const RECEIVED_BYTES_MAX: u64 = 4 << 20;

/// Most identifiers of QoS 2 messages that all clients together have not released; each client may have so many more as [`UNRELEASED_SHARE_MIN`] says. A
/// client may have a quarter of what is free, so that the first has 6,500 and a dozen of that kind leave some hundreds.
pub const UNRELEASED_TOTAL_MAX: usize = 32_768;

/// Each client has so many although all together have too many: the window of a usual client.
pub const UNRELEASED_SHARE_MIN: usize = 32;

/// Memory of an identifier for which nothing more is to be done: by the layout of the map 24 bytes, 30 after releases here and there.
pub const UNRELEASED_BYTES: u64 = 32;

/// Most bytes of the filters of durable sessions that are read at the start; more can only be stored by whoever tries.
pub const RECOVERED_FILTERS_BYTES_MAX: u64 = 16 << 20;

/// Most messages that wait for one durable session, on disk or not.
pub const STORED_ROWS_MAX: u64 = 100_000;

/// Most bytes that wait for one durable session.
pub const STORED_BYTES_MAX: u64 = 64 << 20;

/// Most messages that wait for durable sessions, on disk or not, all together: a card of 100 GB holds far more, the index of it in memory does not.
pub const STORED_ROWS_TOTAL_MAX: u64 = 1_000_000;

/// Most bytes that wait for durable sessions, all together: with what uplinks may store it fits into the database file of the default size.
pub const STORED_BYTES_TOTAL_MAX: u64 = 64 << 20;

/// Memory of a subscription, bytes: all of them together may cost so much for each that there may be. Ordinary ones cost half of it (80 to 150 bytes measured);
/// with long names or many levels of their own there is room for fewer.
pub const SUBSCRIPTION_BYTES: u64 = 220;

/// Most subscriptions of one session.
pub const SUBSCRIPTIONS_PER_SESSION_MAX: usize = 2000;

/// Most QoS 1 and 2 messages of one client of 5.0 that are not acknowledged: it is told, and cut when it sends more.
pub const RECEIVE_MAX: usize = 1000;

/// Bytes of SUBSCRIBE and UNSUBSCRIBE packets that are carried on, with their answers, of all connections together, before no further one is begun.
pub const FILTERS_BYTES_MAX: usize = 512 << 10;

/// How long rows of connected sessions wait for their acknowledgement before they are written: as long as for uplinks.
pub const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// How long retained messages wait that nobody waits for: a topic that changes every second is written twice a minute.
pub const RETAINED_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes that are only in memory and have to survive; above, publishers are held until the disk has caught up.
pub const DIRTY_BYTES_MAX: u64 = 4 << 20;

/// Longest time from the opening of a connection to its CONNECT.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Most steps that matching one message may take: nodes of the subscription tree visited and subscriptions found. Some milliseconds. A subscription that would
/// make the worst topic take more is refused; filters without `+` hardly count, `+` in many levels beside names in the same levels doubles it with each.
pub const MATCH_STEPS_MAX: usize = 32_768;

/// Most subscription identifiers in one PUBLISH of 5.0: a client with more overlapping subscriptions gets the first of them, and it is counted.
pub const IDENTIFIERS_MAX: usize = 64;

/// Units of work of a turn of the loop, each some 50 ns of a desktop's core: two milliseconds there, some ten on a small board. A poll wakes the thread several
/// times between its request and its cycle, and waits for a turn each time. What is more is put down until the polls, the uplinks and the answers have had
/// their turn.
pub const TURN_WORK_MAX: u64 = 40_000;

/// What happens to a message of QoS 1 or 2 when a session's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// It is dropped: what was accepted first is kept. What mosquitto does.
    #[default]
    DropNewest,
    /// The oldest that was never sent makes room; of stored ones a few dozen at a time.
    DropOldest,
}

/// Bounds of a broker; the defaults are the constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`CONNECTIONS_PER_ADDRESS_MAX`].
    pub connections_per_address_max: usize,
    /// See [`CONNECTIONS_PER_USER_MAX`].
    pub connections_per_user_max: usize,
    /// See [`LOGINS_PER_MINUTE_MAX`]; 0 is no limit. What is beyond waits.
    pub logins_per_minute_max: u64,
    /// Most bytes in a second of one address, and of one user; 0, the default, is no limit. Whoever sends more is read later.
    pub bytes_per_second_max: u64,
    /// The same in messages.
    pub messages_per_second_max: u64,
    /// See [`SESSIONS_MAX`].
    pub sessions_max: usize,
    /// See [`SESSIONS_SHARE_MAX`].
    pub sessions_per_user_max: usize,
    /// See [`SESSIONS_SHARE_MAX`].
    pub sessions_per_address_max: usize,
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
    /// See [`UNSENT_BYTES_TOTAL_MAX`].
    pub unsent_bytes_total_max: usize,
    /// See [`RECEIVED_BYTES_TOTAL_MAX`].
    pub received_bytes_total_max: usize,
    /// See [`RETAINED_MAX`].
    pub retained_max: usize,
    /// See [`RETAINED_BYTES_MAX`].
    pub retained_bytes_max: usize,
    /// See [`WILLS_BYTES_MAX`].
    pub wills_bytes_max: usize,
    /// How long the broker keeps retained messages for which [`Settings::retained`] says nothing else, seconds; `None` (default) is for ever.
    pub retained_expiry_s: Option<u32>,
    /// See [`HANDSHAKE_MAX`].
    pub handshake_max: Duration,
    /// See [`STORED_ROWS_MAX`].
    pub stored_rows_max: u64,
    /// See [`STORED_BYTES_MAX`].
    pub stored_bytes_max: u64,
    /// See [`STORED_ROWS_TOTAL_MAX`].
    pub stored_rows_total_max: u64,
    /// See [`STORED_BYTES_TOTAL_MAX`].
    pub stored_bytes_total_max: u64,
    /// See [`SUBSCRIPTIONS_PER_SESSION_MAX`].
    pub subscriptions_per_session_max: usize,
    /// See [`RECEIVE_MAX`].
    pub receive_max: usize,
    /// Longest keep-alive of clients of 5.0, seconds; 0 leaves it to them. Clients of 3.x cannot be told.
    pub keep_alive_max_s: u16,
    /// See [`SESSION_EXPIRY_MAX_S`], whatever its client asks for; `u32::MAX` leaves it to clients, of which those of 3.x without clean session ask for ever.
    /// Time counts while the broker runs.
    pub session_expiry_max_s: u32,
    /// What happens to a message when its session's queue is full.
    pub when_full: WhenFull,
    /// See [`COMMIT_INTERVAL`].
    pub commit_interval: Duration,
    /// See [`RETAINED_INTERVAL`].
    pub retained_interval: Duration,
    /// See [`DIRTY_BYTES_MAX`].
    pub dirty_bytes_max: u64,
    /// See [`MATCH_STEPS_MAX`].
    pub match_steps_max: usize,
    /// See [`TURN_WORK_MAX`].
    pub turn_work_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            connections_per_user_max: CONNECTIONS_PER_USER_MAX,
            logins_per_minute_max: LOGINS_PER_MINUTE_MAX,
            bytes_per_second_max: 0,
            messages_per_second_max: 0,
            sessions_max: SESSIONS_MAX,
            sessions_per_user_max: SESSIONS_SHARE_MAX,
            sessions_per_address_max: SESSIONS_SHARE_MAX,
            subscriptions_max: SUBSCRIPTIONS_MAX,
            inflight_max: INFLIGHT_MAX,
            queued_max: QUEUED_MAX,
            queued_bytes_max: QUEUED_BYTES_MAX,
            queued_bytes_total_max: QUEUED_BYTES_TOTAL_MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
            outbox_bytes_max: OUTBOX_BYTES_MAX,
            unsent_bytes_total_max: UNSENT_BYTES_TOTAL_MAX,
            received_bytes_total_max: RECEIVED_BYTES_TOTAL_MAX,
            retained_max: RETAINED_MAX,
            retained_bytes_max: RETAINED_BYTES_MAX,
            wills_bytes_max: WILLS_BYTES_MAX,
            retained_expiry_s: None,
            handshake_max: HANDSHAKE_MAX,
            stored_rows_max: STORED_ROWS_MAX,
            stored_bytes_max: STORED_BYTES_MAX,
            stored_rows_total_max: STORED_ROWS_TOTAL_MAX,
            stored_bytes_total_max: STORED_BYTES_TOTAL_MAX,
            subscriptions_per_session_max: SUBSCRIPTIONS_PER_SESSION_MAX,
            receive_max: RECEIVE_MAX,
            keep_alive_max_s: 0,
            session_expiry_max_s: SESSION_EXPIRY_MAX_S,
            when_full: WhenFull::default(),
            commit_interval: COMMIT_INTERVAL,
            retained_interval: RETAINED_INTERVAL,
            dirty_bytes_max: DIRTY_BYTES_MAX,
            match_steps_max: MATCH_STEPS_MAX,
            turn_work_max: TURN_WORK_MAX,
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
    /// How long retained messages of some topics are kept.
    pub retained: RetainedRules,
}

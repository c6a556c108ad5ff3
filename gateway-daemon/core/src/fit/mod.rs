//! Whether all limits of a gateway hold together in the memory and in the database file that they are meant for.
//!
//! Each limit by itself is right for some machine; what a stranger can make the gateway keep is their sum. [`Plan::memory`] and [`Plan::disk`] add up what
//! every limit costs at most, part by part, so that a refusal names the parts. [`Plan::lower`] makes limits smaller until both sums fit: those that the
//! file does not set when it is read, all of them at a start.
//!
//! Who adds a limit that holds memory or bytes of the file adds its line to `MEMORY` or `DISK`, and to `KNOBS` if it may give way.

mod lower;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::broker::settings::{
    ALIASES_BYTES, FILTERS_BYTES_MAX, LOADED_BYTES_TOTAL_MAX, Limits, QUEUED_SHARE_BYTES_MIN,
    RECEIVED_BYTES_MAX, STORED_SHARE_BYTES_MIN, SUBSCRIPTION_BYTES, UNRELEASED_BYTES, UNRELEASED_SHARE_MIN,
    UNRELEASED_TOTAL_MAX,
};
use crate::uplink::settings::ASIDE_BYTES_MAX;

pub use lower::{Change, Stored};

/// Memory of the program itself, before anybody has connected: measured 8 MiB, with what [`BUSES_WITHIN`] buses and their readings take.
const BASE_BYTES: u64 = 10 << 20;

/// Memory of a bus with a device of ten tags: its task, its connection, its schedule, its cycles. Measured 32 KiB with 64 buses (docs/hardware.md).
const BUS_BYTES: u64 = 40 << 10;

/// Buses that are part of [`BASE_BYTES`].
const BUSES_WITHIN: u64 = 64;

/// Memory of a connection at rest: its socket in the runtime, its place in the list of connections, its state in the broker. Measured.
const CONNECTION_BYTES: u64 = 3 << 10;

/// Memory of TLS on a connection at rest, beside [`CONNECTION_BYTES`]. Measured, rounded up.
const TLS_BYTES: u64 = 9 << 10;

/// Memory of a handshake of TLS or WebSocket: its task, its buffers, and for TLS the exchange of keys.
const HANDSHAKE_BYTES: u64 = 40 << 10;

/// Most handshakes at once of all listeners, and of one: each listener has its share, so that a crowd at one does not keep others out at another.
const HANDSHAKES_TOTAL_MAX: u64 = 128;
const HANDSHAKES_MAX: u64 = 64;

/// Most memory that the limits may need together, unless the file says otherwise: with what no limit covers (free memory between what is used), the process
/// stays below 128 MiB on a board of 512 MB.
pub const MEMORY_BYTES_MAX: u64 = 112 << 20;

/// Uplinks that are part of [`MEMORY_BYTES_MAX`]; each more adds what it takes.
const UPLINKS_WITHIN: u64 = 2;

/// Memory of a session without messages and subscriptions.
const SESSION_BYTES: u64 = 1 << 10;

/// A packet of the largest size is in memory so many times at once: as it came, as a message, for a session, and for the disk.
const PACKET_COPIES: u64 = 4;

/// The packet with filters that is begun last is in memory so many times: as it is kept, with its answer, and the piece of it that is checked.
const FILTERS_COPIES: u64 = 2;

/// What changes wait for the disk are in memory twice: in the turn under way, and in the next one.
const DIRTY_COPIES: u64 = 2;

/// Memory of an uplink: 4 MiB of rows, 2 MiB of messages that come down, one fetch from disk, and its connection with TLS.
const UPLINK_BYTES: u64 = 7 << 20;

/// Memory that one comparison of a password takes while no user has a hash of its own: what unknown users cost.
pub const HASH_BYTES_MIN: u64 = 7 << 20;

/// Room for what clients send before their log-in is decided.
const LOGIN_BYTES: u64 = 8 << 20;

/// Bytes of file for a hundred bytes of rows, as [`crate::uplink::row::Row::size`] counts them: measured over all sizes of rows: 174 at
/// worst, for those of which one and a bit fit on a page.
pub const FILE_PERCENT: u64 = 180;

/// Bytes of file of a session with the table of its queue, and of a subscription in it.
const SESSION_FACT_BYTES: u64 = 600;
const SUBSCRIPTION_FACT_BYTES: u64 = 150;

/// The log of the database, and the transaction that makes it long.
const LOG_BYTES: u64 = 512 << 10;

/// Memory of the kernel for one connection: [`SOCKET_BYTES`] in each direction.
const SOCKETS_BYTES: u64 = 2 * SOCKET_BYTES;

/// The part of [`Plan::memory_bytes_max`] that the kernel may keep beside it for all connections: 28 MiB by default. On a board of 512 MB the kernel begins to
/// save on all sockets, those of uplinks included, at 32 MiB (`net.ipv4.tcp_mem`: a sixteenth of the memory).
const KERNEL_PART: u64 = 4;

/// Bytes that the kernel may keep for a connection in each direction, as it counts them (twice what is asked for: socket(7)). Not memory of the
/// process, but of the machine.
pub const SOCKET_BYTES: u64 = 128 << 10;

/// What of an uplink has a share of memory and file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkShare {
    /// Its name.
    pub name: String,
    /// Most bytes of its queue.
    pub bytes_max: u64,
    /// Whether the file says so; otherwise it gives way.
    pub said: bool,
    /// Largest packet.
    pub packet_bytes_max: u64,
}

/// Everything of a configuration that has a share of memory and file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Most memory that the limits may need together.
    pub memory_bytes_max: u64,
    /// Whether the file says so.
    pub memory_said: bool,
    /// Most bytes of the database file.
    pub file_bytes_max: u64,
    /// Limits of the local broker, if there is one.
    pub broker: Option<Limits>,
    /// Keys of `[broker.limits]` that stand in the file; the others give way.
    pub said: Vec<&'static str>,
    /// Listeners that speak TLS.
    pub tls_listeners: u64,
    /// Listeners with a handshake: TLS or WebSocket.
    pub handshaking_listeners: u64,
    /// Memory of the costliest password hash.
    pub hash_bytes: u64,
    /// The uplinks.
    pub uplinks: Vec<UplinkShare>,
    /// How many buses there are.
    pub buses: u64,
}

/// One addend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The key that is to be lowered, if there is one, and what it costs.
    pub what: String,
    /// How many bytes at most.
    pub bytes: u64,
}

/// What is needed at most, and what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// In the order of the table.
    pub parts: Vec<Part>,
    /// What there is.
    pub bytes_max: u64,
    /// The key that says so.
    pub key: &'static str,
}

/// What one entry of a table costs.
type Cost = fn(&Plan, &Limits) -> u64;

/// Memory that the limits of the broker may need, one line each.
const MEMORY: &[(&str, Cost)] = &[
    ("`connections_max`", |_, l| of(l.connections_max).saturating_mul(CONNECTION_BYTES)),
    ("`connections_max` with TLS", |p, l| {
        if p.tls_listeners > 0 { of(l.connections_max).saturating_mul(TLS_BYTES) } else { 0 }
    }),
    ("`connections_max` with topic aliases", |_, l| of(l.connections_max).saturating_mul(ALIASES_BYTES)),
    ("handshakes", |p, _| {
        p.handshaking_listeners * handshakes_max(p.handshaking_listeners) * HANDSHAKE_BYTES
    }),
    ("a password hash", |p, _| p.hash_bytes),
    ("log-ins under way", |_, _| LOGIN_BYTES),
    ("`unsent_bytes_total_max`", |_, l| of(l.unsent_bytes_total_max)),
    ("`received_bytes_total_max`", |_, l| of(l.received_bytes_total_max)),
    ("messages read from disk", |_, _| LOADED_BYTES_TOTAL_MAX),
    ("`packet_max`", |_, l| of(l.packet_bytes_max).saturating_mul(PACKET_COPIES)),
    ("`queued_bytes_total_max`", |_, l| of(l.queued_bytes_total_max)),
    ("`retained_bytes_max`", |_, l| of(l.retained_bytes_max)),
    ("`wills_bytes_max`", |_, l| of(l.wills_bytes_max)),
    ("`sessions_max` with what each may always have queued", |_, l| {
        of(l.sessions_max).saturating_mul(QUEUED_SHARE_BYTES_MIN)
    }),
    ("QoS 2 messages that uplinks have yet to take", |_, _| RECEIVED_BYTES_MAX),
    ("filters of SUBSCRIBE under way", |_, l| {
        of(FILTERS_BYTES_MAX).saturating_add(of(l.packet_bytes_max).saturating_mul(FILTERS_COPIES))
    }),
    ("QoS 2 identifiers that are not released", |_, _| of(UNRELEASED_TOTAL_MAX) * UNRELEASED_BYTES),
    ("`sessions_max` with the identifiers that each may always have", |_, l| {
        of(l.sessions_max).saturating_mul(of(UNRELEASED_SHARE_MIN) * UNRELEASED_BYTES)
    }),
    ("`sessions_max`", |_, l| of(l.sessions_max).saturating_mul(SESSION_BYTES)),
    ("`subscriptions_max`", |_, l| of(l.subscriptions_max).saturating_mul(SUBSCRIPTION_BYTES)),
    ("changes that wait for the disk", |_, l| l.dirty_bytes_max.saturating_mul(DIRTY_COPIES)),
];

/// Bytes of the database file that the limits of the broker may need, one line each; as rows count.
const DISK: &[(&str, Cost)] = &[
    ("`stored_bytes_total_max`", |_, l| l.stored_bytes_total_max),
    ("`sessions_max` with what each may always have stored", |_, l| {
        of(l.sessions_max).saturating_mul(STORED_SHARE_BYTES_MIN)
    }),
    ("`retained_bytes_max`", |_, l| of(l.retained_bytes_max)),
    ("`sessions_max`", |_, l| of(l.sessions_max).saturating_mul(SESSION_FACT_BYTES)),
    ("`subscriptions_max`", |_, l| of(l.subscriptions_max).saturating_mul(SUBSCRIPTION_FACT_BYTES)),
];

fn of(number: usize) -> u64 {
    number as u64
}

/// Most handshakes at once of one of so many listeners that have them.
#[must_use]
pub fn handshakes_max(listeners: u64) -> u64 {
    HANDSHAKES_TOTAL_MAX.checked_div(listeners).map_or(HANDSHAKES_MAX, |share| share.min(HANDSHAKES_MAX))
}

/// [`Plan::memory_bytes_max`] of a file that does not say it.
#[must_use]
pub fn memory_bytes_max(uplinks: usize) -> u64 {
    MEMORY_BYTES_MAX + of(uplinks).saturating_sub(UPLINKS_WITHIN).saturating_mul(UPLINK_BYTES + (1 << 20))
}

impl Plan {
    /// The memory that all limits need at most.
    #[must_use]
    pub fn memory(&self) -> Sum {
        let mut parts = vec![Part { what: "the program itself".into(), bytes: BASE_BYTES }];
        for uplink in &self.uplinks {
            let packet = uplink.packet_bytes_max.saturating_mul(2);
            let bytes = UPLINK_BYTES.saturating_add(packet);
            parts.push(Part { what: format!("uplink `{}` with `packet_max`", uplink.name), bytes });
        }
        let bytes = self.buses.saturating_sub(BUSES_WITHIN).saturating_mul(BUS_BYTES);
        parts.push(Part { what: format!("buses beyond {BUSES_WITHIN}"), bytes });
        self.add(MEMORY, 100, &mut parts);
        Sum { parts, bytes_max: self.memory_bytes_max, key: "`memory_max` in [gateway]" }
    }

    /// The bytes of the database file that all limits need at most.
    #[must_use]
    pub fn disk(&self) -> Sum {
        let mut parts = vec![Part { what: "the log of the database".into(), bytes: self.log_bytes() }];
        for uplink in &self.uplinks {
            let rows = uplink.bytes_max.saturating_add(ASIDE_BYTES_MAX.min(uplink.bytes_max / 4));
            let what = format!("`bytes_max` of uplink `{}`", uplink.name);
            parts.push(Part { what, bytes: in_file(rows, FILE_PERCENT) });
        }
        self.add(DISK, FILE_PERCENT, &mut parts);
        Sum { parts, bytes_max: self.file_bytes_max, key: "`file_max` in [store]" }
    }

    /// Memory of the kernel that connections may keep beside the memory of the process: what each may have, and together never more than a part of
    /// `memory_max`. Not in the sum: it is memory of the machine and not of the process.
    #[must_use]
    pub fn kernel_bytes(&self) -> u64 {
        let each = |limits: &Limits| of(limits.connections_max).saturating_mul(SOCKETS_BYTES);
        self.broker.as_ref().map_or(0, each).min(self.memory_bytes_max / KERNEL_PART)
    }

    /// A quarter of a small file.
    fn log_bytes(&self) -> u64 {
        LOG_BYTES.min(self.file_bytes_max / 4)
    }

    fn add(&self, table: &[(&str, Cost)], percent: u64, parts: &mut Vec<Part>) {
        let Some(limits) = &self.broker else { return };
        parts.extend(table.iter().map(|(what, cost)| Part {
            what: (*what).to_owned(),
            bytes: in_file(cost(self, limits), percent),
        }));
    }
}

fn in_file(bytes: u64, percent: u64) -> u64 {
    bytes.saturating_mul(percent) / 100
}

impl Sum {
    /// All parts together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// Whether that is there.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.total() <= self.bytes_max
    }
}

/// Parts that a sentence names: those that are worth lowering.
const NAMED_MAX: usize = 5;

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<&Part> = self.parts.iter().filter(|part| part.bytes > 0).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        let list: Vec<_> = parts
            .iter()
            .take(NAMED_MAX)
            .map(|part| format!("{} takes {}", part.what, Megabytes(part.bytes)))
            .collect();
        write!(
            f,
            "all limits together need {}, expected at most {} = {}: {}, and the others {}; lower the largest or raise {}",
            Megabytes(self.total()),
            self.key,
            Megabytes(self.bytes_max),
            list.join(", "),
            Megabytes(parts.iter().skip(NAMED_MAX).fold(0, |sum, part| sum.saturating_add(part.bytes))),
            self.key
        )
    }
}

/// Bytes in the unit in which people write sizes into the file, rounded up.
pub(crate) struct Megabytes(pub(crate) u64);

impl fmt::Display for Megabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            few @ 0..1_000_000 => write!(f, "{} kB", few.div_ceil(1000)),
            many => write!(f, "{} MB", many.div_ceil(1_000_000)),
        }
    }
}

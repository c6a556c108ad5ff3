//! What the kernel holds for connections: bytes that are not read, and bytes that are not taken.
//!
//! Each connection has at most [`gateway_core::fit::SOCKET_BYTES`] in each direction, which a client at rest never has and one that reads has for
//! milliseconds. But a thousand that send and are not read, or do not read, would have 256 MB, and the kernel would take it from what all sockets of the
//! machine share, those of uplinks and buses among them. So once a second the kernel is asked, and above [`Doors::bound_sockets`] connections are closed of
//! whose bytes less than half moved over the last looks: of the address that keeps most first, and of its connections the one that keeps most and moved
//! least. What is unread because the broker holds a connection counts against nobody. The only connection of an address that keeps less than
//! [`PAUSE_BYTES_MAX`] may pause for [`PAUSE_LOOKS_MAX`] looks while another address keeps more.
//!
//! Between two looks there may be more: what arrives in a second, within the limit that the kernel has for all sockets (`net.ipv4.tcp_mem`).

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd};

use gateway_core::broker::ConnId;
use gateway_core::broker::access::Peer;

use super::{Doors, Incoming, SocketMemory};

/// What the only connection of an address may keep while it pauses, bytes: a page for an operator panel.
const PAUSE_BYTES_MAX: u64 = 64 << 10;

/// Looks, of a second each, for which it may pause.
const PAUSE_LOOKS_MAX: u32 = 10;

/// What the connections of one address keep.
#[derive(Default)]
struct Address {
    /// In the kernel, whoever is the cause, bytes.
    bytes: u64,
    /// By their own fault, bytes.
    kept: u64,
    connections: usize,
    /// Those that do not move it, the one that keeps most last.
    stuck: Vec<Stuck>,
}

/// A connection that does not move what it keeps.
struct Stuck {
    kept: u64,
    moved: u64,
    bytes: u64,
    looks: u32,
    conn: ConnId,
}

/// What is known of all sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
    pub(super) relieved_total: u64,
}

impl Default for Sockets {
    fn default() -> Self {
        Self { bytes: 0, bytes_max: u64::MAX, relieved_total: 0 }
    }
}

impl Doors {
    /// Memory of the kernel that all connections may keep, bytes; without this there is no limit but that of each.
    pub fn bound_sockets(&mut self, bytes_max: u64) {
        self.sockets.bytes_max = bytes_max;
    }

    /// Memory of the kernel for all connections at the last look, bytes.
    #[must_use]
    pub fn socket_bytes(&self) -> u64 {
        self.sockets.bytes
    }

    /// Asks what the kernel holds, and closes connections that keep too much of it. To be called about once a second.
    pub fn look_at_sockets(&mut self, ask: impl Fn(BorrowedFd<'_>) -> SocketMemory) {
        let mut total = 0;
        let mut addresses: BTreeMap<Peer, Address> = BTreeMap::new();
        for (conn, open) in &mut self.conns {
            let memory = ask(open.stream().as_fd());
            let still = open.look_at_socket(memory);
            let bytes = memory.total();
            total += bytes;
            let address = addresses.entry(open.peer().clone()).or_default();
            address.bytes += bytes;
            address.kept += still.kept;
            address.connections += 1;
            if still.stuck_looks > 0 {
                let (kept, moved, looks) = (still.kept, still.moved, still.stuck_looks);
                address.stuck.push(Stuck { kept, moved, bytes, looks, conn: *conn });
            }
        }
        self.sockets.bytes = total;
        let most = addresses.values().map(|address| address.bytes).max().unwrap_or(0);
        for address in addresses.values_mut() {
            let (only, less) = (address.connections == 1, address.bytes < most);
            address.stuck.retain(|stuck| {
                let pauses = stuck.kept < PAUSE_BYTES_MAX && stuck.looks <= PAUSE_LOOKS_MAX;
                !(only && less && pauses)
            });
            address.stuck.sort_unstable_by_key(|stuck| (stuck.kept, std::cmp::Reverse(stuck.moved)));
        }
        while total > self.sockets.bytes_max {
            let with_stuck = addresses.values_mut().filter(|address| !address.stuck.is_empty());
            let Some(address) = with_stuck.max_by_key(|address| address.kept) else { break };
            let Some(stuck) = address.stuck.pop() else { break };
            address.kept -= stuck.kept;
            total -= stuck.bytes;
            self.relieve(stuck.conn);
        }
    }

    fn relieve(&mut self, conn: ConnId) {
        let Some(open) = self.conns.remove(&conn) else { return };
        self.sockets.relieved_total += 1;
        log::info!(conn = conn.0, reason = "socket memory"; "connection of a client closed: its bytes in the kernel do not move, and all connections together have too many there");
        if open.is_open() {
            self.told.push_back(Incoming::Closed(conn));
        }
    }
}

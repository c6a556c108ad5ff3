//! What the kernel holds for connections: bytes that are not read, and bytes that are not taken.
//!
//! Each connection has at most [`gateway_core::fit::SOCKET_BYTES`] in each direction, which a client at rest never has and one that reads has for
//! milliseconds. But a thousand that send and are not read, or do not read, would have 256 MB, and the kernel would take it from what all sockets of the
//! machine share, those of uplinks and buses among them. So once a second the kernel is asked, and above [`Doors::bound_sockets`] those connections are
//! closed that have more than an equal part and of whose bytes none has moved since the look before, the largest first.
//!
//! Between two looks there may be more: what arrives in a second, within the limit that the kernel has for all sockets (`net.ipv4.tcp_mem`).

use std::os::fd::{AsFd as _, BorrowedFd};

use gateway_core::broker::ConnId;

use super::{Doors, Incoming, SocketMemory};

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
        let (mut total, mut holders) = (0, 0);
        let mut stuck: Vec<(u64, u64, ConnId)> = Vec::new();
        for (conn, open) in &mut self.conns {
            let memory = ask(open.stream().as_fd());
            let still = open.look_at_socket(memory);
            total += memory.total();
            holders += u64::from(memory.total() > 0);
            if still > 0 {
                stuck.push((still, memory.total(), *conn));
            }
        }
        self.sockets.bytes = total;
        let share = self.sockets.bytes_max / holders.max(1);
        stuck.sort_unstable_by_key(|(still, _, _)| std::cmp::Reverse(*still));
        for (_, bytes, conn) in stuck.into_iter().take_while(|(still, _, _)| *still > share) {
            if total <= self.sockets.bytes_max {
                break;
            }
            total -= bytes;
            self.relieve(conn);
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

//! Listeners for MQTT clients: the hand in front of a [`Broker`](gateway_core::broker::Broker).
//!
//! [`Doors`] is owned by the loop that owns the broker. Connections are no tasks: the loop looks at those that are ready, reads from them
//! and writes to them without ever waiting, so an answer costs no wake-up of another thread and an idle connection no stack and no buffer.
//!
//! ```text
//! listener tasks --arrivals--> Doors::next --Incoming--> the loop: Broker::handle_x
//!                                 ^                          |
//!                  sockets <--flush-- send, close, hold <-- Broker::poll_action
//! ```
//! A round of the loop: [`Doors::next`], then [`Doors::try_next`] until it is empty or enough for once, the broker's actions, then
//! [`Doors::flush`]. A slow or silent client holds up nobody: what it does not take waits in its outbox, whose size the broker bounds
//! ([`gateway_core::broker::Limits::outbox_bytes_max`] for one, [`gateway_core::broker::Limits::unsent_bytes_total_max`] for all together).
//!
//! TLS and WebSocket are a coat over the bytes, put on during the handshake, which runs in a task of its own: whoever stalls there holds
//! up nobody. Certificate files are read again when they change.
//!
//! Bounds: so many handshakes of each listener as [`gateway_core::fit::handshakes_max`] says; [`places`] descriptors of connections, beyond which clients wait in the
//! kernel; `SOCKET_BYTES` of the kernel in each direction of a connection, and [`Doors::bound_sockets`] for all together; `ARRIVALS_MAX` connections not yet entered; one read of at most [`READ_BYTES_MAX`] bytes
//! per connection and turn; connections, queues and the time to CONNECT by the broker; the last words of a closed connection by
//! [`FLUSH_MAX`], [`CLOSING_MAX`] and [`CLOSING_BYTES_MAX`]. Out of file descriptors, a listener pauses, counts and goes on.
//!
//! It never interprets a byte of MQTT, and it decides nothing about messages.

mod accept;
mod coat;
mod conn;
mod doors;
mod frames;
mod handshake;
mod identity;
mod ready;
mod revoked;
mod serve;
mod tls;
mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use gateway_core::broker::{ConnId, Origin};
use gateway_core::os;
use gateway_core::tag::Name;

pub use conn::SocketMemory;
pub use doors::{Doors, places};
pub use serve::{Enqueue, Server, serve};
pub use tls::TlsFault;

/// Most bytes read from a connection in one turn: a hundred messages, and no client keeps the others waiting.
pub const READ_BYTES_MAX: usize = 16 << 10;

/// How long a closed connection may take to accept its last bytes and to close.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Most closed connections that are still saying goodbye; the oldest is cut when there is one more.
pub const CLOSING_MAX: usize = 256;

/// Most bytes that wait for them; the oldest is cut when there are more. The broker counts them no longer.
pub const CLOSING_BYTES_MAX: usize = 1 << 20;

/// Pause after a failed accept: without it, being out of file descriptors would be a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the doors say to the broker's loop, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A client has come in; its handshakes are done. For `Broker::handle_open`.
    Open(ConnId, Origin),
    /// A client has sent bytes of MQTT, cut anywhere. For `Broker::handle_bytes`.
    Bytes(ConnId, Vec<u8>),
    /// So many bytes of those given to [`Doors::send`] are written. For `Broker::handle_sent`.
    Sent(ConnId, usize),
    /// The connection is gone. Not said of one that [`Doors::close`] closed. For `Broker::handle_closed`.
    Closed(ConnId),
}

/// What happened at the listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections accepted from the kernel.
    pub accepted_total: u64,
    /// Failed attempts to accept, mostly for want of file descriptors; each is followed by a pause.
    pub accept_failed_total: u64,
    /// Clients that failed in the handshake of TLS or WebSocket.
    pub handshakes_failed_total: u64,
    /// Handshakes cut because all places were taken and others waited.
    pub handshakes_cut_total: u64,
    /// Times that a listener accepted nobody because all descriptors for connections were taken.
    pub paused_total: u64,
    /// WebSocket requests refused because of their `Origin` or `Host`.
    pub pages_refused_total: u64,
    /// Connections closed because the client had gone while nothing was read from it.
    pub reaped_total: u64,
    /// Connections closed because the certificate of the client was called back.
    pub revoked_total: u64,
    /// Connections closed because less than half of their bytes in the kernel moved for two seconds and all together had too many there.
    pub relieved_total: u64,
}

/// Why a listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its address cannot be listened on.
    #[error("listener {listener}: cannot listen on {address}: {}; {advice}", os::plain(source))]
    Bind {
        /// The listener.
        listener: Name,
        /// Its address.
        address: SocketAddr,
        /// What to do.
        advice: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// One of its files is not right.
    #[error("listener {listener}: {fault}")]
    Tls {
        /// The listener.
        listener: Name,
        /// Which file, and what to do.
        fault: TlsFault,
    },
}

/// What a client says before and behind a WebSocket's handshake. Not part of the product.
pub(crate) fn fuzz(input: &[u8]) {
    match upgrade::judge(input, &upgrade::Page::at("/mqtt")) {
        upgrade::Verdict::Welcome { used, .. } => frames::fuzz(&input[used..]),
        _ => frames::fuzz(input),
    }
}

#[cfg(test)]
mod tests;

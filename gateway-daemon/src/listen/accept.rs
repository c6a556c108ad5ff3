//! Listening sockets: one task each takes clients in and hands them to the doors.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use gateway_core::broker::Origin;
use gateway_core::settings::ListenerSettings;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{ACCEPT_PAUSE, OpenError};

/// Most connections that wait to be entered; further ones wait in the kernel.
pub(super) const ARRIVALS_MAX: usize = 32;

/// Most connections that wait in the kernel to be accepted: all clients of a plant come back at once after a power cut.
const BACKLOG_MAX: u32 = 1024;

/// A connection that is ready for MQTT.
pub(super) struct Arrived {
    pub(super) stream: TcpStream,
    pub(super) origin: Origin,
}

/// A listening socket that nobody serves yet.
pub(super) struct Bound {
    name: String,
    socket: TcpListener,
    address: SocketAddr,
}

/// Opens one listener.
///
/// # Errors
/// What is in the way, and what to do.
pub(super) fn bind(settings: &ListenerSettings) -> Result<Bound, OpenError> {
    let fault = |source| OpenError::Bind {
        listener: settings.name.clone(),
        address: settings.address,
        advice: advice(&source),
        source,
    };
    let socket = if settings.address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
    let socket = socket.map_err(fault)?;
    // Connections of the run before may linger in the kernel; they are no reason not to start.
    socket.set_reuseaddr(true).map_err(fault)?;
    socket.bind(settings.address).map_err(fault)?;
    let socket = socket.listen(BACKLOG_MAX).map_err(fault)?;
    let address = socket.local_addr().map_err(fault)?;
    Ok(Bound { name: settings.name.to_string(), socket, address })
}

/// A listening socket of someone else.
///
/// # Errors
/// It has no local address.
pub(super) fn plain(socket: TcpListener) -> io::Result<Bound> {
    let address = socket.local_addr()?;
    Ok(Bound { name: "mqtt".into(), socket, address })
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there: stop it, or choose another port",
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: take one that `ip address` shows, or 0.0.0.0 for all"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege: choose a higher one, or give CAP_NET_BIND_SERVICE"
        }
        _ => "choose another address",
    }
}

impl Bound {
    /// Starts accepting as listener number `index`.
    pub(super) fn listen(
        self,
        index: usize,
        handshake_max: Duration,
        arrived: mpsc::Sender<Arrived>,
    ) -> Listener {
        let _ = handshake_max;
        let address = self.address;
        let task = tokio::spawn(accept(self, index, arrived));
        Listener { address, task }
    }
}

/// A listener at work. Dropping it closes the socket; connections that arrived stay.
pub(super) struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(bound: Bound, index: usize, arrived: mpsc::Sender<Arrived>) {
    loop {
        let (stream, peer) = match bound.socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!(listener = bound.name.as_str(); "listener {}: cannot accept a connection: {error}", bound.name);
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small packets must not wait for an acknowledgement of TCP; without it they are only slower.
        let _ = stream.set_nodelay(true);
        let origin =
            Origin { listener: index, peer: peer.ip().to_canonical().to_string(), certificate: None };
        if arrived.send(Arrived { stream, origin }).await.is_err() {
            return;
        }
    }
}

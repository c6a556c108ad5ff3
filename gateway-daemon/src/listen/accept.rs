//! Listening sockets: one task each takes clients in, lets their handshakes run aside, and hands them to the doors.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway_core::broker::{Limits, Origin};
use gateway_core::settings::ListenerSettings;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::coat::Coat;
use super::handshake::{self, Handshakes};
use super::tls::Keys;
use super::{ACCEPT_PAUSE, OpenError};

/// Most connections that wait to be entered; further ones wait in the kernel.
pub(super) const ARRIVALS_MAX: usize = 32;

/// Most connections that wait in the kernel to be accepted: all clients of a plant come back at once after a power cut.
const BACKLOG_MAX: u32 = 1024;

/// Silence after which the kernel asks whether a client is still there, and how often it asks: a client without keep-alive that lost its
/// power is gone after two minutes.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const ASK_INTERVAL: Duration = Duration::from_secs(15);
const ASKS_MAX: u32 = 4;

/// What happened at the listeners. Written by their tasks, read by whoever draws the metrics.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) accepted: AtomicU64,
    pub(super) accept_failed: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) handshakes_cut: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A connection that is ready for MQTT.
pub(super) struct Arrived {
    pub(super) stream: TcpStream,
    pub(super) origin: Origin,
    pub(super) coat: Coat,
    /// Bytes of MQTT that came with the end of the handshake.
    pub(super) early: Vec<u8>,
}

/// A listening socket that nobody serves yet.
pub(super) struct Bound {
    name: String,
    socket: TcpListener,
    address: SocketAddr,
    keys: Option<Keys>,
    path: Option<Arc<str>>,
}

/// Opens one listener and reads its files.
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
    let keys = settings.tls.as_ref().map(Keys::read).transpose();
    let keys = keys.map_err(|fault| OpenError::Tls { listener: settings.name.clone(), fault })?;
    let socket = if settings.address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
    let socket = socket.map_err(fault)?;
    // Connections of the run before may linger in the kernel; they are no reason not to start.
    socket.set_reuseaddr(true).map_err(fault)?;
    socket.bind(settings.address).map_err(fault)?;
    let socket = socket.listen(BACKLOG_MAX).map_err(fault)?;
    let address = socket.local_addr().map_err(fault)?;
    let path = settings.websocket.as_deref().map(Arc::from);
    Ok(Bound { name: settings.name.to_string(), socket, address, keys, path })
}

/// A listening socket of someone else, for plain MQTT.
///
/// # Errors
/// It has no local address.
pub(super) fn plain(socket: TcpListener) -> io::Result<Bound> {
    let address = socket.local_addr()?;
    Ok(Bound { name: "mqtt".into(), socket, address, keys: None, path: None })
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
        limits: &Limits,
        arrived: mpsc::Sender<Arrived>,
        tally: Arc<Tally>,
    ) -> Listener {
        let address = self.address;
        let door = Arc::new(handshake::Door {
            name: self.name,
            index,
            path: self.path,
            packet_bytes_max: limits.packet_bytes_max,
            handshake_max: limits.handshake_max,
            arrived,
            tally,
        });
        Listener { address, task: tokio::spawn(accept(self.socket, self.keys, door)) }
    }
}

/// A listener at work. Dropping it closes the socket and cuts handshakes; connections that arrived stay.
pub(super) struct Listener {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether its task has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(socket: TcpListener, mut keys: Option<Keys>, door: Arc<handshake::Door>) {
    let mut handshakes = Handshakes::default();
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            // The client has left before we looked.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                // Out of file descriptors or memory: those who are connected go on, and others come in when some have left.
                count(&door.tally.accept_failed);
                let name = door.name.as_str();
                log::warn!(listener = name, reason:% = error; "listener {name}: cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        count(&door.tally.accepted);
        prepare(&stream);
        let config = match &mut keys {
            Some(keys) => Some((keys.current(&door.name).await, keys.identity())),
            None => None,
        };
        if config.is_some() || door.path.is_some() {
            handshakes.start(&door, config, stream, peer).await;
        } else if door.arrived.send(bare(&door, stream, peer)).await.is_err() {
            return;
        }
    }
}

fn bare(door: &handshake::Door, stream: TcpStream, peer: IpAddr) -> Arrived {
    let origin = Origin { listener: door.index, peer: peer.to_string(), certificate: None };
    Arrived { stream, origin, coat: Coat::default(), early: Vec::new() }
}

/// What the kernel is to do for a connection; without it everything works, only slower or later.
fn prepare(stream: &TcpStream) {
    // Small packets must not wait for an acknowledgement of TCP.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, SILENCE_MAX);
    let _ = sockopt::set_tcp_keepintvl(stream, ASK_INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(stream, ASKS_MAX);
}

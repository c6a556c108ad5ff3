//! Listening sockets: one task each takes clients in, lets their handshakes run aside, and hands them to the doors.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gateway_core::broker::{Limits, Origin};
use gateway_core::fit::SOCKET_BYTES;
use gateway_core::os;
use gateway_core::settings::ListenerSettings;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::coat::Coat;
use super::handshake::{self, Handshakes};
use super::revoked::Revoked;
use super::tls::Keys;
use super::upgrade::Page;
use super::{ACCEPT_PAUSE, OpenError};

/// Most connections that wait to be entered; further ones wait in the kernel.
pub(super) const ARRIVALS_MAX: usize = 32;

/// Most connections that wait in the kernel to be accepted: all clients of a plant come back at once after a power cut.
const BACKLOG_MAX: u32 = 1024;

/// How often a trouble of a listener is told at most.
const SAY_INTERVAL: Duration = Duration::from_secs(60);

/// How often files of certificates that were called back are looked at while no client comes.
const REVOKED_INTERVAL: Duration = Duration::from_secs(5);

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
    pub(super) paused: AtomicU64,
    pub(super) pages_refused: AtomicU64,
}

/// What the listeners have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) arrived: mpsc::Sender<Arrived>,
    /// Certificates that were called back.
    pub(super) revoke: mpsc::Sender<(usize, Arc<Revoked>)>,
    pub(super) tally: Arc<Tally>,
    /// One for each descriptor that connections may have.
    pub(super) places: Arc<Semaphore>,
    pub(super) handshakes_max: usize,
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
    /// Given back when the connection is closed.
    pub(super) place: OwnedSemaphorePermit,
}

/// A listening socket that nobody serves yet.
pub(super) struct Bound {
    name: String,
    socket: TcpListener,
    address: SocketAddr,
    keys: Option<Keys>,
    page: Option<Arc<Page>>,
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
    // Taken over by every connection. The kernel would otherwise give a busy one some megabytes, and a thousand of them more than the machine has.
    let asked = u32::try_from(SOCKET_BYTES / 2).unwrap_or(u32::MAX);
    socket.set_recv_buffer_size(asked).map_err(fault)?;
    socket.set_send_buffer_size(asked).map_err(fault)?;
    // Connections of the run before may linger in the kernel; they are no reason not to start.
    socket.set_reuseaddr(true).map_err(fault)?;
    socket.bind(settings.address).map_err(fault)?;
    let socket = socket.listen(BACKLOG_MAX).map_err(fault)?;
    let address = socket.local_addr().map_err(fault)?;
    let page = Page::of(settings).map(Arc::new);
    Ok(Bound { name: settings.name.to_string(), socket, address, keys, page })
}

/// A listening socket of someone else, for plain MQTT.
///
/// # Errors
/// It has no local address.
pub(super) fn plain(socket: TcpListener) -> io::Result<Bound> {
    let address = socket.local_addr()?;
    Ok(Bound { name: "mqtt".into(), socket, address, keys: None, page: None })
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
    /// Whether a connection begins with a handshake of TLS or WebSocket.
    pub(super) fn has_handshakes(&self) -> bool {
        self.keys.is_some() || self.page.is_some()
    }

    /// Starts accepting as listener number `index`.
    pub(super) fn listen(self, index: usize, limits: &Limits, shared: Shared) -> Listener {
        let address = self.address;
        let door = Arc::new(handshake::Door {
            name: self.name,
            index,
            page: self.page,
            packet_bytes_max: limits.packet_bytes_max,
            handshake_max: limits.handshake_max,
            shared,
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

/// Says something once in a while, however often it happens.
#[derive(Default)]
struct Seldom(Option<Instant>);

impl Seldom {
    fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|at| at.elapsed() >= SAY_INTERVAL);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// A place for the next connection. Until there is one, clients wait in the kernel.
async fn place(door: &handshake::Door, said: &mut Seldom) -> Option<OwnedSemaphorePermit> {
    let places = &door.shared.places;
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Some(place);
    }
    count(&door.shared.tally.paused);
    let name = door.name.as_str();
    if said.is_due() {
        log::warn!(listener = name, reason = "descriptors"; "listener {name}: all file descriptors for connections are taken; clients wait until others leave");
    }
    Arc::clone(places).acquire_owned().await.ok()
}

async fn accept(socket: TcpListener, keys: Option<Keys>, door: Arc<handshake::Door>) {
    let mut handshakes = Handshakes::default();
    let (mut paused, mut failed) = (Seldom::default(), Seldom::default());
    let mut keys =
        keys.map(|keys| Watched { keys, listener: door.index, revoke: door.shared.revoke.clone() });
    loop {
        let Some(place) = Watched::beside(&mut keys, &door.name, place(&door, &mut paused)).await else {
            return;
        };
        let accepted = Watched::beside(&mut keys, &door.name, socket.accept()).await;
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
            // The client has left before we looked.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                // Out of file descriptors or memory: those who are connected go on, and others come in when some have left.
                count(&door.shared.tally.accept_failed);
                let name = door.name.as_str();
                if failed.is_due() {
                    log::warn!(listener = name, reason:% = error; "listener {name}: cannot accept a connection: {}; it goes on when others have left", os::plain(&error));
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        count(&door.shared.tally.accepted);
        prepare(&stream);
        let config = match &mut keys {
            Some(watched) => {
                watched.look(&door.name).await;
                Some((watched.keys.config(), watched.keys.identity()))
            }
            None => None,
        };
        if config.is_some() || door.page.is_some() {
            handshakes.start(&door, config, (stream, place), peer).await;
        } else if door.shared.arrived.send(bare(&door, (stream, place), peer)).await.is_err() {
            return;
        }
    }
}

/// The keys of a listener, and who is to hear what they call back.
struct Watched {
    keys: Keys,
    listener: usize,
    revoke: mpsc::Sender<(usize, Arc<Revoked>)>,
}

impl Watched {
    /// Takes changed files into use.
    async fn look(&mut self, name: &str) {
        if let Some(revoked) = self.keys.look(name).await {
            // Nobody is there only when the doors close.
            let _ = self.revoke.send((self.listener, revoked)).await;
        }
    }

    /// Waits for something, and looks at the files once in a while meanwhile: a certificate that was called back must not go on until the next client comes.
    async fn beside<T>(this: &mut Option<Self>, name: &str, wanted: impl Future<Output = T>) -> T {
        let Some(watched) = this.as_mut().filter(|watched| watched.keys.can_revoke()) else {
            return wanted.await;
        };
        let mut wanted = pin!(wanted);
        loop {
            tokio::select! {
                biased;
                done = &mut wanted => return done,
                () = sleep(REVOKED_INTERVAL) => watched.look(name).await,
            }
        }
    }
}

fn bare(door: &handshake::Door, (stream, place): (TcpStream, OwnedSemaphorePermit), peer: IpAddr) -> Arrived {
    let origin = Origin { listener: door.index, peer: peer.to_string(), certificate: None };
    Arrived { stream, origin, coat: Coat::default(), early: Vec::new(), place }
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

//! Ways to the bytes of a line, and how each is opened.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gateway_core::os::{self, Doing};
use gateway_core::poll::settings::{Bus, Medium, Settings};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::modbus::rtu::Timing;
use crate::{serial, sim};

/// Bytes in both directions, as RTU needs them.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    /// Reads what is there at this very moment; `None` if that is nothing, 0 bytes if the other side has closed. Unlike a read of the runtime it asks the
    /// kernel and not what the runtime last heard of it, so what it does not find had not arrived when it was called.
    ///
    /// # Errors
    /// The line is gone.
    fn read_waiting(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// Throws away what has been received and not read.
    ///
    /// # Errors
    /// The line is gone.
    fn flush_input(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Bytes that were written and have not left yet.
    fn unsent_bytes(&self) -> u32 {
        0
    }

    /// Whether bytes take the time of a serial line, so that [`Self::unsent_bytes`] is worth asking for.
    fn is_line(&self) -> bool {
        false
    }
}

impl Wire for TcpStream {
    fn read_waiting(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        found(rustix::io::read(&*self, buffer).map_err(io::Error::from))
    }
}

impl Wire for DuplexStream {
    fn read_waiting(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        // Whoever waits for bytes polls again and leaves its own waker.
        match Pin::new(self).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer) {
            Poll::Pending => Ok(None),
            Poll::Ready(read) => read.map(|()| Some(buffer.filled().len())),
        }
    }
}

/// The outcome of a read that does not wait.
pub(crate) fn found(read: io::Result<usize>) -> io::Result<Option<usize>> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Unacknowledged bytes for so long end a connection: half of the time in which a person looks twice.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is probed after this time, and given up after [`KEEPALIVE_PROBES`] unanswered probes as far apart.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Opens the wire of an RTU bus, again and again.
pub(super) struct Opener {
    settings: Arc<Settings>,
    bus: usize,
    medium: Medium,
}

impl Opener {
    pub(super) fn new(settings: &Arc<Settings>, bus: usize, line: &Bus) -> Self {
        Self { settings: Arc::clone(settings), bus, medium: line.medium.clone() }
    }
}

/// Times of an RTU line.
pub(super) fn timing(medium: &Medium, fences: bool) -> Timing {
    let timing = match medium {
        Medium::Serial(serial) => Timing::serial(serial),
        Medium::RtuOverTcp { frame_silence, .. } => Timing::stream(*frame_silence),
        Medium::Tcp { .. } | Medium::Sim => Timing::stream(Duration::from_millis(20)),
    };
    Timing { fences, ..timing }
}

/// Opens a wire, again and again.
pub(super) trait Dial: Send {
    /// Opens it; the error is for a person.
    fn dial(&mut self) -> impl Future<Output = Result<Box<dyn Wire>, String>> + Send;
}

impl Dial for Opener {
    async fn dial(&mut self) -> Result<Box<dyn Wire>, String> {
        match &self.medium {
            Medium::Serial(settings) => match serial::open(settings) {
                Ok(port) => Ok(Box::new(port)),
                Err(error) => Err(error.to_string()),
            },
            Medium::RtuOverTcp { host, port, connect_timeout, .. }
            | Medium::Tcp { host, port, connect_timeout, .. } => {
                Ok(Box::new(connect(host, *port, *connect_timeout).await?))
            }
            Medium::Sim => Ok(Box::new(sim::serve::bus(&self.settings, self.bus))),
        }
    }
}

/// Names that are looked up at once. Each takes a thread for as long as the name server does not answer, and goes on when its bus has given up; with a
/// thread for each of 256 buses there would be none left for the transactions of the store.
const LOOKUPS_MAX: usize = 16;

/// All buses contend for it, each when it connects to a name.
static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);

/// Connects with the options every Modbus connection has: no delay of small frames, death noticed within seconds.
pub(super) async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let mut missing = format!("the name {host} was not resolved");
    let connected = tokio::time::timeout(timeout, async {
        let addresses = look_up(host, port).await?;
        missing = format!("{host}:{port} did not answer");
        connect_any(host, addresses).await
    });
    let connected = connected.await;
    let stream = connected.map_err(|_| format!("{missing} within {} ms", timeout.as_millis()))??;
    let tuned = stream
        .set_nodelay(true)
        .and_then(|()| Ok(sockopt::set_tcp_user_timeout(&stream, millis(USER_TIMEOUT))?))
        .and_then(|()| Ok(sockopt::set_socket_keepalive(&stream, true)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepintvl(&stream, KEEPALIVE)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?));
    tuned.map_err(|error| {
        format!(
            "cannot set options of the connection to {host}:{port}: {}",
            os::sentence(&error, Doing::Connecting)
        )
    })?;
    Ok(stream)
}

/// The addresses of a host; one that is an address itself is not looked up.
async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |error: &dyn std::fmt::Display| format!("the name {host} cannot be resolved: {error}");
    let permit = LOOKUPS.acquire().await.map_err(|closed| failed(&closed))?;
    let name = host.to_owned();
    let found = spawn_blocking(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        // Held by the thread, not by the bus: that gives up earlier.
        drop(permit);
        found
    });
    let found = found.await.map_err(|error| failed(&error))?;
    found.map_err(|error| {
        format!(
            "the name {host} cannot be resolved: {}; check its spelling and the name server",
            os::sentence(&error, Doing::Connecting)
        )
    })
}

/// Tries the addresses of a host one after the other.
async fn connect_any(host: &str, addresses: Vec<SocketAddr>) -> Result<TcpStream, String> {
    let mut why = format!("the name {host} has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                why = format!("cannot connect to {address}: {}", os::sentence(&error, Doing::Connecting));
            }
        }
    }
    Err(why)
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

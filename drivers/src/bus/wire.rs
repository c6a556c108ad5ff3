//! Ways to the bytes of a line, and how each is opened.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::os::{self, Doing};
use gateway_core::poll::settings::{Bus, Medium, Settings};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpStream, lookup_host};

use crate::modbus::rtu::Timing;
use crate::{serial, sim};

/// Bytes in both directions, as RTU needs them.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
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

impl Wire for TcpStream {}
impl Wire for DuplexStream {}

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
    fences: bool,
}

impl Opener {
    pub(super) fn new(settings: &Arc<Settings>, bus: usize, line: &Bus) -> Self {
        Self { settings: Arc::clone(settings), bus, medium: line.medium.clone(), fences: line.fences }
    }

    /// Times of the line.
    pub(super) fn timing(&self) -> Timing {
        let timing = match &self.medium {
            Medium::Serial(serial) => Timing::serial(serial),
            Medium::RtuOverTcp { frame_silence, .. } => Timing::stream(*frame_silence),
            Medium::Tcp { .. } | Medium::Sim => Timing::stream(Duration::from_millis(20)),
        };
        Timing { fences: self.fences, ..timing }
    }

    /// Opens it; the error is for a person.
    pub(super) async fn open(&self) -> Result<Box<dyn Wire>, String> {
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

/// Connects with the options every Modbus connection has: no delay of small frames, death noticed within seconds.
pub(super) async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let connected = tokio::time::timeout(timeout, connect_any(host, port)).await;
    let stream = connected
        .map_err(|_| format!("{host}:{port} did not answer within {} ms", timeout.as_millis()))??;
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

/// Tries the addresses of a host one after the other.
async fn connect_any(host: &str, port: u16) -> Result<TcpStream, String> {
    let found = lookup_host((host, port)).await;
    let addresses = found.map_err(|error| {
        format!(
            "the name {host} cannot be looked up: {}; check its spelling and the name server",
            os::sentence(&error, Doing::Connecting)
        )
    })?;
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

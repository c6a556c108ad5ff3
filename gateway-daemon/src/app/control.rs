//! The control socket: how `status`, `tags`, `read` and `write` talk to the running gateway.
//!
//! A Unix stream socket, one JSON [`Ask`] per line in, one JSON [`Reply`] per line out.
//! Access is decided by the file's mode (0660). Bounded: `CLIENTS_MAX` connections,
//! `LINE_BYTES_MAX` per line, `IDLE_MAX` without a request; a client beyond the limits is told so and closed. Nothing that
//! a client sends can stop the gateway.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::os::{self, Doing};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::aside::{Queued, Wanted};
use super::errand::OPEN;
use super::picture::words;
use super::snapshot::{Session, SessionPage, Snapshot, Tag};
use crate::panics::Contained;

/// Most clients at once: a technician, a dashboard and a script, with room to spare.
pub const CLIENTS_MAX: usize = 8;
/// Longest request line; a write of a long text fits.
const LINE_BYTES_MAX: u64 = 4096;
/// A client that says nothing for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Requests waiting for the gateway's core loop.
pub const REQUESTS_MAX: usize = 16;

/// What a client asks.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// The whole picture.
    Status,
    /// Prometheus text.
    Metrics,
    /// One tag, asked from the device between two polls.
    Read {
        /// Name of the device.
        device: String,
        /// Name of the tag.
        tag: String,
    },
    /// Sets a writable tag.
    Write {
        /// Name of the device.
        device: String,
        /// Name of the tag.
        tag: String,
        /// The engineering value as text.
        value: String,
    },
    /// Messages that an uplink has set aside.
    Queue {
        /// Name of the uplink.
        uplink: String,
        /// What to do.
        wanted: Wanted,
    },
    /// Registers or bits, known to the configuration or not.
    ReadRaw {
        /// Where.
        at: RawAt,
        /// How many.
        count: u16,
    },
    /// Sets registers or coils.
    WriteRaw {
        /// Where the first one is; the table is `holding` or `coil`.
        at: RawAt,
        /// Register values, or 0 and 1 for coils.
        values: Vec<u16>,
    },
    /// Sessions of local clients, a page of them.
    Sessions {
        /// Those behind the session of this number; without one, from the beginning.
        after: Option<u32>,
    },
    /// Ends a session of a local client; one of the two names it.
    DropSession {
        /// Its client id.
        client: Option<String>,
        /// Its number.
        number: Option<u32>,
    },
}

/// A place on a bus in the words of the wire.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct RawAt {
    /// Name of the bus.
    pub bus: String,
    /// Unit on it.
    pub unit: u8,
    /// `coil`, `discrete`, `holding` or `input`.
    pub table: String,
    /// Zero-based address of the first.
    pub address: u16,
}

/// What a write has left in the device.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Written {
    /// The tag with the value that its registers hold.
    pub tag: Tag,
    /// The value that was asked for, where the registers cannot hold it.
    pub asked: Option<serde_json::Value>,
    /// The steps in which they hold values, if these are even.
    pub step: Option<f64>,
}

impl Written {
    /// Why the value is another than the one that was asked for, if it is.
    #[must_use]
    pub fn rounded(&self) -> Option<String> {
        let asked = words::value(self.asked.as_ref()?);
        Some(match self.step {
            Some(step) => format!("{asked} asked; the register holds steps of {step}"),
            None => format!("{asked} asked; the register holds no nearer value"),
        })
    }
}

/// What the gateway answers.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Ask::Status`].
    Status(Box<Snapshot>),
    /// To [`Ask::Metrics`].
    Text(String),
    /// To [`Ask::Read`]: the tag as it is.
    Tag(Box<Tag>),
    /// To [`Ask::Write`]: the tag as the device holds it.
    Written(Box<Written>),
    /// To [`Ask::Queue`].
    Queue(Box<Queued>),
    /// To [`Ask::ReadRaw`] and [`Ask::WriteRaw`]: registers, or bits as 0 and 1.
    Values(Vec<u16>),
    /// To [`Ask::Sessions`].
    Sessions(Box<SessionPage>),
    /// To [`Ask::DropSession`]: the session as it was.
    Dropped(Box<Session>),
    /// It cannot be done, and why.
    Refused(String),
    /// To a client for which there is no place, whatever it asks: the gateway is well, and the next try may succeed.
    Busy(String),
    /// To [`Ask::Write`] and [`Ask::WriteRaw`]: it may have been done, and why nobody knows.
    Unknown(String),
}

/// Who is at the other end of a connection: as the kernel says it, not as the client does. Without numbers it is this program itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peer {
    /// The user.
    pub uid: Option<u32>,
    /// The process that connected.
    pub pid: Option<i32>,
}

impl Peer {
    fn of(stream: &UnixStream) -> Self {
        // The kernel knows every peer; without an answer the numbers are left out.
        let Ok(found) = stream.peer_cred() else { return Self::default() };
        Self { uid: Some(found.uid()), pid: found.pid() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.uid, self.pid) {
            (Some(uid), Some(pid)) => write!(f, "uid {uid}, pid {pid}"),
            (Some(uid), None) => write!(f, "uid {uid}"),
            (None, _) => f.write_str("this program"),
        }
    }
}

/// One request on its way to the core loop; replies go back through `reply`.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// Who asks.
    pub by: Peer,
    /// Where the answer goes. A client that left makes the send fail, which is not an error.
    pub reply: oneshot::Sender<Reply>,
}

/// Why the socket cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket cannot be created.
    #[error("control socket {}: {}; name one in [gateway] where this user may write, such as socket = \"/tmp/tidegate.sock\", or run as the service does", path.display(), os::sentence(source, Doing::Binding))]
    Bind {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Something else is there, which is not removed.
    #[error("control socket {}: there is something else of this name, which is left alone; choose another `gateway.socket`", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another gateway answers on it.
    #[error("another gateway is running on {}; stop it first", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
}

/// The listening socket; removes its file when dropped.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Binds the socket, replacing one that a dead gateway left behind.
    ///
    /// # Errors
    /// [`ControlError::Taken`] if a gateway answers on it, [`ControlError::NotASocket`] if the path is a folder or a file with somebody's
    /// content, [`ControlError::Bind`] if the socket cannot be created.
    pub async fn bind(path: &Path) -> Result<Self, ControlError> {
        match UnixStream::connect(path).await {
            Ok(_) => return Err(ControlError::Taken { path: path.into() }),
            // Its queue of clients that are not let in yet is full.
            Err(fault) if fault.kind() == ErrorKind::WouldBlock => {
                return Err(ControlError::Taken { path: path.into() });
            }
            Err(_) => {}
        }
        let fault = |source| ControlError::Bind { path: path.into(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(fault)?,
            Ok(_) => return Err(ControlError::NotASocket { path: path.into() }),
            // Whatever else keeps it from being looked at keeps it from being bound, which says why.
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(fault)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(fault)?;
        Ok(Self { listener, path: path.into() })
    }

    /// Serves clients until the receiver of `requests` is gone.
    pub async fn serve(self, requests: mpsc::Sender<Request>) {
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = requests.closed() => return,
                // Before the next one is let in, so that those who left do not count.
                Some(_) = clients.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) if clients.len() < CLIENTS_MAX => {
                    let requests = requests.clone();
                    clients.spawn(Contained::new("a client of the control socket", async move {
                        if let Err(fault) = client(stream, requests).await {
                            log::debug!("control client left: {fault}");
                        }
                    }));
                }
                Ok((stream, _)) => turn_away(&stream),
                Err(fault) => {
                    log::warn!(reason:% = fault; "control socket: {fault}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The file may be gone already; there is nobody left to tell.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One too many: told so without waiting for it.
fn turn_away(stream: &UnixStream) {
    log::warn!(reason = "too-many"; "control socket: more than {CLIENTS_MAX} clients at once, one refused");
    if let Ok(line) = line(&Reply::Busy(too_many())) {
        // The buffer of a fresh socket has room; a client that is gone needs no answer.
        let _ = stream.try_write(&line);
    }
}

/// What a client is told for which there is no place.
pub(super) fn too_many() -> String {
    format!(
        "the gateway runs, but {CLIENTS_MAX} commands are connected to it already, the most that may be; try again when one has ended, such as a `status --watch`, or stop a script that asks all the time"
    )
}

async fn client(stream: UnixStream, requests: mpsc::Sender<Request>) -> std::io::Result<()> {
    let by = Peer::of(&stream);
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(LINE_BYTES_MAX);
        let whole = limited.read_until(b'\n', &mut line);
        let Ok(count) = tokio::time::timeout(IDLE_MAX, whole).await else { return Ok(()) };
        if count? == 0 {
            return Ok(());
        }
        let ask = match parse(&line) {
            Ok(ask) => ask,
            Err(sentence) => return send(&mut write, &Reply::Refused(sentence)).await,
        };
        let (reply, answer) = oneshot::channel();
        let writes = matches!(ask, Ask::Write { .. } | Ask::WriteRaw { .. });
        if requests.send(Request { ask, by, reply }).await.is_err() {
            return send(&mut write, &Reply::Refused("the gateway is stopping".into())).await;
        }
        let none = "no answer: the gateway is stopping, or a fault of the program ended the request, which its log tells";
        let answer = answer.await.unwrap_or_else(|_| match writes {
            true => Reply::Unknown(format!("{none}; {OPEN}")),
            false => Reply::Refused(none.into()),
        });
        send(&mut write, &answer).await?;
    }
}

fn parse(line: &[u8]) -> Result<Ask, String> {
    if line.len() as u64 >= LINE_BYTES_MAX && !line.ends_with(b"\n") {
        return Err(format!("not a request: longer than {LINE_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(line).map_err(|fault| format!("not a request: {fault}"))
}

fn line(reply: &Reply) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(reply).map_err(std::io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

async fn send(write: &mut (impl AsyncWriteExt + Unpin), reply: &Reply) -> std::io::Result<()> {
    let line = line(reply)?;
    tokio::time::timeout(IDLE_MAX, write.write_all(&line)).await.map_err(std::io::Error::other)?
}

/// A client's end of the socket.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the gateway that listens on `path`.
    ///
    /// # Errors
    /// The I/O error of the connect: nobody listens, or no permission.
    pub async fn connect(path: &Path) -> std::io::Result<Self> {
        let connected = UnixStream::connect(path).await;
        Ok(Self { stream: BufReader::new(connected.map_err(|fault| no_socket(path).unwrap_or(fault))?) })
    }

    /// Sends one request. To a gateway that has hung up it is not sent, and [`Client::reply`] says what it has said before.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn ask(&mut self, ask: &Ask) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(ask).map_err(std::io::Error::other)?;
        line.push(b'\n');
        match self.stream.get_mut().write_all(&line).await {
            // One client too many is told so at once, and then closed: before or after it has asked.
            Err(fault) if fault.kind() == ErrorKind::BrokenPipe => Ok(()),
            sent => sent,
        }
    }

    /// Waits for the next reply.
    ///
    /// # Errors
    /// The gateway hung up, or is of a version that answers differently.
    pub async fn reply(&mut self) -> std::io::Result<Reply> {
        /// A status of thousands of tags fits; a peer that is no gateway cannot fill the memory.
        const REPLY_BYTES_MAX: u64 = 16 << 20;
        let mut line = String::new();
        let count = (&mut self.stream).take(REPLY_BYTES_MAX).read_line(&mut line).await?;
        if count == 0 {
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "the gateway hung up"));
        }
        serde_json::from_str(&line).map_err(std::io::Error::other)
    }
}

/// That something else lies there: the system says of every file without a listener that it refuses connections.
pub(super) fn no_socket(path: &Path) -> Option<std::io::Error> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    if kind.is_socket() {
        return None;
    }
    let is = if kind.is_dir() { "a folder" } else { "a file" };
    Some(std::io::Error::other(format!("it is {is} and no socket; check the path")))
}

#[cfg(test)]
pub(super) mod bench;
#[cfg(test)]
mod tests;

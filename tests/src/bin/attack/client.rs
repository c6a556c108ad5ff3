//! Clients by hand: one that waits for its answers, and crowds that push bytes without reading.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket, socket_with};

use tidegate_tests::packets::{self, Hello, head};

/// Where ordinary clients come from.
pub(crate) const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Longest wait for a connection of the kernel, and for room to write.
const PUSH_MAX: Duration = Duration::from_secs(3);
/// Pause of a crowd that can push nothing.
const REST: Duration = Duration::from_millis(2);
const READ_BYTES_MAX: usize = 64 << 10;
/// One write of an attacker that pushes as fast as it can.
pub(crate) const PIECE: usize = 64 << 10;
/// Receive buffer of a client that does not read.
const NARROW_BYTES: usize = 4 << 10;

/// The host `127.0.0.n`.
pub(crate) fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, n)
}

/// A TCP connection from an address of this machine.
pub(crate) fn dial(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    open(from, port, None)
}

/// One whose kernel takes next to nothing that is not read.
pub(crate) fn dial_narrow(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    open(from, port, Some(NARROW_BYTES))
}

fn open(from: Ipv4Addr, port: u16, receive_bytes: Option<usize>) -> io::Result<TcpStream> {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_timeout(&fd, Timeout::Send, Some(PUSH_MAX))?;
    if let Some(bytes) = receive_bytes {
        set_socket_recv_buffer_size(&fd, bytes)?;
    }
    if from != HOME {
        bind(&fd, &SocketAddrV4::new(from, 0))?;
    }
    connect(&fd, &SocketAddrV4::new(HOME, port))?;
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Begins a connection and does not wait until the other side has taken it.
pub(crate) fn knock(from: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let fd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    bind(&fd, &SocketAddrV4::new(from, 0))?;
    match connect(&fd, &SocketAddrV4::new(HOME, port)) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error.into()),
    }
}

/// What a wait ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// First byte and body.
    Packet(u8, Vec<u8>),
    /// The other side ended the connection.
    Closed,
    /// Nothing came in time.
    Silence,
}

impl Heard {
    /// A CONNACK that lets its client in.
    pub(crate) fn lets_in(&self) -> bool {
        matches!(self, Self::Packet(0x20, body) if body.get(1) == Some(&0))
    }
}

/// What carries packets: TCP, or TLS over it.
pub(crate) trait Wire: Debug + Read + Write {
    /// The connection of the kernel.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Wire for Box<dyn Wire> {
    fn socket(&self) -> &TcpStream {
        (**self).socket()
    }
}

/// One connection, packet by packet.
#[derive(Debug)]
pub(crate) struct Client<S = TcpStream> {
    pub stream: S,
    input: Vec<u8>,
}

impl Client {
    /// Connects, says `hello` and waits for what the broker answers.
    pub(crate) fn hello(
        from: Ipv4Addr,
        port: u16,
        hello: &Hello<'_>,
        wait: Duration,
    ) -> io::Result<(Self, Heard)> {
        let mut client = Self::on(dial(from, port)?);
        let heard = client.greet(hello, wait)?;
        Ok((client, heard))
    }

    /// Connects and is let in.
    pub(crate) fn connect(from: Ipv4Addr, port: u16, hello: &Hello<'_>) -> io::Result<Self> {
        Self::on(dial(from, port)?).enter(hello)
    }
}

impl<S: Wire> Client<S> {
    /// A connection that is there.
    pub(crate) fn on(stream: S) -> Self {
        Self { stream, input: Vec::new() }
    }

    /// Says `hello` and waits for what the broker answers.
    pub(crate) fn greet(&mut self, hello: &Hello<'_>, wait: Duration) -> io::Result<Heard> {
        self.send(&hello.bytes())?;
        self.next(Instant::now() + wait)
    }

    /// Says `hello` and is let in.
    pub(crate) fn enter(mut self, hello: &Hello<'_>) -> io::Result<Self> {
        let heard = self.greet(hello, Duration::from_secs(20))?;
        if heard.lets_in() {
            Ok(self)
        } else {
            Err(io::Error::other(format!("{} was not let in: {heard:?}", hello.id)))
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next packet.
    pub(crate) fn next(&mut self, until: Instant) -> io::Result<Heard> {
        let mut buffer = [0; READ_BYTES_MAX];
        loop {
            if let Some((first, body, length)) = head(&self.input) {
                let heard = Heard::Packet(first, body.to_vec());
                self.input.drain(..length);
                return Ok(heard);
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                return Ok(Heard::Silence);
            };
            self.stream.socket().set_read_timeout(Some(left))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Heard::Closed),
                Ok(read) => self.input.extend_from_slice(&buffer[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) =>
                {
                    return Ok(Heard::Closed);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads on until a packet of this type comes; what comes before is dropped, and publishes of QoS 1 are acknowledged.
    pub(crate) fn wait_for(&mut self, kind: u8, wait: Duration) -> io::Result<Heard> {
        let until = Instant::now() + wait;
        loop {
            let heard = self.next(until)?;
            match &heard {
                Heard::Packet(first, _) if first >> 4 == kind => return Ok(heard),
                Heard::Packet(first @ 0x30..=0x3f, body) if first >> 1 & 3 == 1 => {
                    let id = publish_id(body);
                    self.send(&packets::answer(0x40, id))?;
                }
                Heard::Packet(..) => {}
                _ => return Ok(heard),
            }
        }
    }

    /// Subscribes with one QoS, and waits for the SUBACK: the first code.
    pub(crate) fn subscribe(&mut self, v5: bool, filters: &[String], qos: u8) -> io::Result<Option<u8>> {
        self.send(&packets::subscribe(v5, 1, filters, qos))?;
        match self.wait_for(9, Duration::from_secs(60))? {
            Heard::Packet(_, body) => Ok(body.get(if v5 { 3 } else { 2 }).copied()),
            _ => Ok(None),
        }
    }
}

/// The identifier of a PUBLISH of QoS 1 or 2.
pub(crate) fn publish_id(body: &[u8]) -> u16 {
    let at = |place: usize| body.get(place).copied().unwrap_or(0);
    let topic = usize::from(u16::from_be_bytes([at(0), at(1)]));
    u16::from_be_bytes([at(2 + topic), at(3 + topic)])
}

/// Topic and payload of a PUBLISH of 3.1.1.
pub(crate) fn publish_parts(first: u8, body: &[u8]) -> Option<(String, Vec<u8>)> {
    let length = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let topic = String::from_utf8_lossy(body.get(2..2 + length)?).into_owned();
    let rest = body.get(2 + length + if first >> 1 & 3 > 0 { 2 } else { 0 }..)?;
    Some((topic, rest.to_vec()))
}

/// One of a crowd.
#[derive(Debug)]
struct Member {
    stream: TcpStream,
    out: Arc<[u8]>,
    sent: usize,
    closed: bool,
}

/// Connections that push bytes as fast as they are taken, and read only when told to.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    members: Vec<Member>,
}

impl Crowd {
    /// Adds a connection that wants to send `out`.
    pub(crate) fn join(&mut self, from: Ipv4Addr, port: u16, out: Arc<[u8]>) -> io::Result<()> {
        let stream = dial(from, port)?;
        self.take_in(stream, out)
    }

    /// Adds a connection that is there.
    pub(crate) fn take_in(&mut self, stream: TcpStream, out: Arc<[u8]>) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.members.push(Member { stream, out, sent: 0, closed: false });
        Ok(())
    }

    /// How many are connected, as far as they know.
    pub(crate) fn open(&self) -> usize {
        self.members.iter().filter(|member| !member.closed).count()
    }

    /// Bytes that were taken from all of them.
    pub(crate) fn sent(&self) -> u64 {
        self.members.iter().map(|member| member.sent as u64).sum()
    }

    /// Closes our half of every connection and keeps the other.
    pub(crate) fn half_close(&self) {
        for member in &self.members {
            // The other side may have ended it.
            let _ = member.stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Pushes in pieces of at most `piece` bytes, one each in turn, until everything is out, nothing is taken for a second, or `until`. Answers are
    /// read and dropped if `reads`.
    pub(crate) fn push(&mut self, piece: usize, reads: bool, until: Instant) {
        let mut moved = Instant::now();
        while Instant::now() < until && moved.elapsed() < Duration::from_secs(1) {
            let (mut left, mut progress) = (false, false);
            for member in self.members.iter_mut().filter(|member| !member.closed) {
                progress |= member.step(piece);
                if reads {
                    progress |= member.drain();
                }
                left |= !member.closed && member.sent < member.out.len();
            }
            if !left {
                return;
            }
            if progress {
                moved = Instant::now();
            } else {
                thread::park_timeout(REST);
            }
        }
    }

    /// Reads and drops what came, for a while.
    pub(crate) fn read_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let mut progress = false;
            for member in self.members.iter_mut().filter(|member| !member.closed) {
                progress |= member.drain();
            }
            if !progress {
                thread::park_timeout(REST);
            }
        }
    }
}

impl Member {
    fn step(&mut self, piece: usize) -> bool {
        let end = self.out.len().min(self.sent.saturating_add(piece));
        if self.sent == end {
            return false;
        }
        match self.stream.write(&self.out[self.sent..end]) {
            Ok(sent) => {
                self.sent += sent;
                sent > 0
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.closed = true;
                false
            }
        }
    }

    fn drain(&mut self) -> bool {
        let mut buffer = [0; READ_BYTES_MAX];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(_) => return true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.closed = true,
        }
        false
    }
}

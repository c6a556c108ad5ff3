//! Networks that go wrong: a TCP proxy whose faults are switched while it runs, and a small HTTP CONNECT proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream, tcp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the network does to bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Bytes vanish in both directions; connections stay open and can be opened.
    BlackHole,
    /// Bytes from the client vanish, those to the client pass.
    HalfOpenUp,
    /// Bytes to the client vanish, those from the client pass.
    HalfOpenDown,
    /// Every piece of bytes is late by this much, both ways.
    Delay(Duration),
    /// At most so many bytes per second in each direction.
    Throttle(u32),
    /// Connections are accepted and closed at once; existing ones are cut.
    AcceptAndClose,
    /// Existing connections are reset, new ones as well.
    Reset,
}

#[derive(Debug, Clone, Copy)]
struct State {
    fault: Fault,
    /// Connections older than this are cut.
    cuts: u64,
}

/// A TCP proxy in front of one peer.
pub struct FaultProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free port and forwards to `target`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, states) = watch::channel(State { fault: Fault::None, cuts: 0 });
        let accepted = Arc::new(AtomicU64::new(0));
        let counter = accepted.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(client, target, states.clone()));
            }
        });
        Ok(Self { address, state, accepted, task })
    }

    /// In front of a local port.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn to_port(port: u16) -> Result<Self> {
        Self::start(([127, 0, 0, 1], port).into()).await
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Changes what happens from here on, also to existing connections.
    pub fn set(&self, fault: Fault) {
        self.state.send_modify(|state| {
            state.fault = fault;
            if matches!(fault, Fault::AcceptAndClose | Fault::Reset) {
                state.cuts += 1;
            }
        });
    }

    /// Resets all existing connections once; new ones work as the fault says.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn carry(client: TcpStream, target: SocketAddr, mut states: watch::Receiver<State>) {
    let born = *states.borrow_and_update();
    let reset = |stream: &TcpStream| {
        // Zero linger: close sends a reset.
        let _ = stream.set_zero_linger();
    };
    match born.fault {
        Fault::AcceptAndClose => return,
        Fault::Reset => return reset(&client),
        _ => {}
    }
    let Ok(server) = TcpStream::connect(target).await else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut client_read, mut client_write) = client.into_split();
    let (mut server_read, mut server_write) = server.into_split();
    let (up_states, down_states) = (states.clone(), states.clone());
    let cut = tokio::select! {
        () = pump(&mut client_read, &mut server_write, up_states, Fault::HalfOpenUp) => false,
        () = pump(&mut server_read, &mut client_write, down_states, Fault::HalfOpenDown) => false,
        _ = states.wait_for(|state| state.cuts != born.cuts) => true,
    };
    if cut && states.borrow().fault != Fault::AcceptAndClose {
        reset(client_read.as_ref());
        reset(server_read.as_ref());
        // Dropped as usual they would say goodbye first.
        client_write.forget();
        server_write.forget();
    }
}

/// Moves bytes one way until the source ends; a vanished direction is read and thrown away, so that the sender's kernel sees acknowledgements
/// as from a machine that hangs behind a working network.
async fn pump(
    from: &mut tcp::OwnedReadHalf,
    to: &mut tcp::OwnedWriteHalf,
    mut states: watch::Receiver<State>,
    vanishes_in: Fault,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let limit = match states.borrow().fault {
            // A tenth of a second's worth per piece.
            Fault::Throttle(rate) => usize::try_from(rate / 10).unwrap_or(1).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let Ok(length) = from.read(&mut buffer[..limit]).await else { return };
        let fault = states.borrow_and_update().fault;
        if length == 0 {
            if fault != Fault::BlackHole && fault != vanishes_in {
                return;
            }
            // The end vanishes as well: nothing is seen until the fault changes.
            if states.changed().await.is_err() {
                return;
            }
            continue;
        }
        match fault {
            Fault::BlackHole => continue,
            fault if fault == vanishes_in => continue,
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Throttle(rate) => {
                let share = f64::from(u32::try_from(length).unwrap_or(u32::MAX)) / f64::from(rate.max(1));
                tokio::time::sleep(Duration::from_secs_f64(share)).await;
            }
            _ => {}
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// A port on which connections are never accepted and never refused: its backlog is full.
///
/// # Errors
/// When it cannot listen.
pub async fn tarpit() -> Result<(SocketAddr, Vec<Box<dyn Send>>)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(1)?;
    let address = listener.local_addr()?;
    let mut held: Vec<Box<dyn Send>> = vec![Box::new(listener)];
    // Linux queues one more than the backlog; further handshakes get no answer.
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address)).await
    {
        held.push(Box::new(stream));
    }
    Ok((address, held))
}

/// What an HTTP proxy answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A tunnel.
    Tunnel,
    /// A tunnel for this `Proxy-Authorization` value only; 407 otherwise.
    TunnelFor(String),
    /// This head, then the end.
    Head(&'static str),
}

/// An HTTP proxy that knows CONNECT.
pub struct HttpProxy {
    port: u16,
    tunnels: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl HttpProxy {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(answer: Answer) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let tunnels = Arc::new(AtomicU64::new(0));
        let counter = tunnels.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(tunnel(client, answer.clone(), counter.clone()));
            }
        });
        Ok(Self { port, tunnels, task })
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Tunnels made so far.
    #[must_use]
    pub fn tunnels(&self) -> u64 {
        self.tunnels.load(Ordering::Relaxed)
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tunnel(client: TcpStream, answer: Answer, tunnels: Arc<AtomicU64>) -> Result<()> {
    let mut client = BufReader::new(client);
    let (mut target, mut login, mut line) = (String::new(), String::new(), String::new());
    loop {
        line.clear();
        if client.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            head => {
                if let Some(rest) = head.strip_prefix("CONNECT ") {
                    rest.split(' ').next().unwrap_or_default().clone_into(&mut target);
                } else if let Some(rest) = head.strip_prefix("Proxy-Authorization: ") {
                    rest.clone_into(&mut login);
                }
            }
        }
    }
    let refusal = match &answer {
        Answer::Tunnel => None,
        Answer::TunnelFor(wanted) if *wanted == login => None,
        Answer::TunnelFor(_) => Some("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
        Answer::Head(head) => Some(*head),
    };
    if let Some(head) = refusal {
        client.write_all(head.as_bytes()).await?;
        return Ok(());
    }
    let mut server = TcpStream::connect(target).await?;
    tunnels.fetch_add(1, Ordering::Relaxed);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

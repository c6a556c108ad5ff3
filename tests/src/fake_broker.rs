//! A broker that follows a script instead of the standard: late, reversed or missing acknowledgements, refusals, garbage.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use tidegate_tests::fake_broker::{FakeBroker, Packet};
//! let broker = FakeBroker::start(|mut peer| async move {
//!     peer.accept(false).await?;
//!     while let Some(packet) = peer.read().await? {
//!         if let Packet::Publish { id, .. } = packet {
//!             peer.puback(id).await?;
//!         }
//!     }
//!     Ok(())
//! })
//! .await?;
//! # let _ = broker.port();
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rumqttc::tokio_rustls::TlsAcceptor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::certs::Leaf;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connections and packets of a test that are remembered.
const SEEN_MAX: usize = 100_000;

/// What a client can send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// CONNECT.
    Connect {
        /// Client id.
        client_id: String,
        /// Clean session flag.
        clean_session: bool,
        /// Seconds.
        keep_alive_s: u16,
        /// Topic, payload, QoS and retain flag of the last will.
        will: Option<(String, Vec<u8>, u8, bool)>,
        /// User name.
        user: Option<String>,
        /// Password.
        password: Option<Vec<u8>>,
    },
    /// PUBLISH.
    Publish {
        /// Packet id, 0 for QoS 0.
        id: u16,
        /// 0, 1 or 2.
        qos: u8,
        /// Retain flag.
        retain: bool,
        /// Repetition flag.
        dup: bool,
        /// Topic.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP: type and packet id.
    Ack(u8, u16),
    /// PINGREQ.
    Ping,
    /// DISCONNECT.
    Disconnect,
    /// Anything else: first byte and body.
    Other(u8, Vec<u8>),
}

/// One connection of a client.
pub struct Peer {
    stream: BufStream<Box<dyn Stream>>,
    socket: OwnedFd,
    /// 1 for the first connection.
    pub number: u64,
    /// The protocol agreed by ALPN.
    pub alpn: Option<String>,
    seen: mpsc::Sender<(u64, Packet)>,
}

impl Peer {
    /// Reads CONNECT and answers with return code 0.
    ///
    /// # Errors
    /// When something else comes.
    pub async fn accept(&mut self, session_present: bool) -> Result<Packet> {
        self.answer_connect(session_present, 0).await
    }

    /// Reads CONNECT and answers with a return code.
    ///
    /// # Errors
    /// When something else comes.
    pub async fn answer_connect(&mut self, session_present: bool, code: u8) -> Result<Packet> {
        let packet = self.read().await?.context("closed before CONNECT")?;
        ensure!(matches!(packet, Packet::Connect { .. }), "{packet:?} instead of CONNECT");
        self.raw(&[0x20, 2, u8::from(session_present), code]).await?;
        Ok(packet)
    }

    /// The next packet, `None` at the end of the connection.
    ///
    /// # Errors
    /// When the bytes are not MQTT.
    pub async fn read(&mut self) -> Result<Option<Packet>> {
        let first = match self.stream.read_u8().await {
            Ok(byte) => byte,
            Err(e)
                if matches!(
                    e.kind(),
                    std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let mut length = 0_usize;
        for shift in (0..28).step_by(7) {
            let byte = self.stream.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let packet = decode(first, body)?;
        let _ = self.seen.try_send((self.number, packet.clone()));
        Ok(Some(packet))
    }

    /// Reads on until the next PUBLISH, answering pings; gives its packet id.
    ///
    /// # Errors
    /// When the connection ends first.
    pub async fn read_publish(&mut self) -> Result<u16> {
        loop {
            match self.read().await?.context("closed before PUBLISH")? {
                Packet::Publish { id, .. } => return Ok(id),
                Packet::Ping => self.raw(&[0xd0, 0]).await?,
                _ => {}
            }
        }
    }

    /// Answers everything as a good broker would, until the end.
    ///
    /// # Errors
    /// When the bytes are not MQTT.
    pub async fn behave(&mut self) -> Result<()> {
        while let Some(packet) = self.read().await? {
            match packet {
                Packet::Publish { id, qos: 1, .. } => self.puback(id).await?,
                Packet::Ping => self.raw(&[0xd0, 0]).await?,
                Packet::Disconnect => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads and answers nothing until the end, pings included.
    ///
    /// # Errors
    /// When the bytes are not MQTT.
    pub async fn swallow(&mut self) -> Result<()> {
        while self.read().await?.is_some() {}
        Ok(())
    }

    /// Sends PUBACK.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn puback(&mut self, id: u16) -> Result<()> {
        let [high, low] = id.to_be_bytes();
        self.raw(&[0x40, 2, high, low]).await
    }

    /// Sends PUBLISH; `id` is left out with QoS 0.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, id: u16) -> Result<()> {
        let mut body = u16::try_from(topic.len())?.to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        if qos > 0 {
            body.extend_from_slice(&id.to_be_bytes());
        }
        body.extend_from_slice(payload);
        let mut packet = vec![0x30 | qos << 1];
        packet.extend(remaining_length(body.len()));
        packet.extend(body);
        self.raw(&packet).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    /// Reads the head of an HTTP request.
    ///
    /// # Errors
    /// When the connection ends first.
    pub async fn read_head(&mut self) -> Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await?);
        }
        Ok(String::from_utf8(head)?)
    }

    /// Ends the connection with a reset.
    ///
    /// # Errors
    /// When the socket option fails.
    pub fn reset(self) -> Result<()> {
        Ok(rustix::net::sockopt::set_socket_linger(&self.socket, Some(std::time::Duration::ZERO))?)
    }
}

/// The remaining length of a packet, or another variable byte integer (MQTT 5.0, 1.5.5).
#[must_use]
pub fn remaining_length(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(length & 0x7f).unwrap_or(0);
        length >>= 7;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return bytes;
        }
    }
}

/// A position in a packet body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).context("packet too short")?;
        self.0 = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<String> {
        Ok(std::str::from_utf8(self.bytes()?)?.to_owned())
    }
}

fn decode(first: u8, body: Vec<u8>) -> Result<Packet> {
    let mut fields = Fields(&body);
    Ok(match first >> 4 {
        1 => decode_connect(&mut fields)?,
        3 => {
            let qos = first >> 1 & 3;
            let topic = fields.text()?;
            let id = if qos > 0 { fields.number()? } else { 0 };
            Packet::Publish {
                id,
                qos,
                retain: first & 1 > 0,
                dup: first & 8 > 0,
                topic,
                payload: fields.0.to_vec(),
            }
        }
        kind @ 4..=7 => Packet::Ack(kind, fields.number()?),
        12 => Packet::Ping,
        14 => Packet::Disconnect,
        _ => Packet::Other(first, body),
    })
}

fn decode_connect(fields: &mut Fields<'_>) -> Result<Packet> {
    if fields.text()? != "MQTT" || fields.byte()? != 4 {
        bail!("not MQTT 3.1.1");
    }
    let flags = fields.byte()?;
    let keep_alive_s = fields.number()?;
    let client_id = fields.text()?;
    let will = if flags & 4 > 0 {
        Some((fields.text()?, fields.bytes()?.to_vec(), flags >> 3 & 3, flags & 0x20 > 0))
    } else {
        None
    };
    let user = if flags & 0x80 > 0 { Some(fields.text()?) } else { None };
    let password = if flags & 0x40 > 0 { Some(fields.bytes()?.to_vec()) } else { None };
    Ok(Packet::Connect { client_id, clean_session: flags & 2 > 0, keep_alive_s, will, user, password })
}

/// A listening fake.
pub struct FakeBroker {
    port: u16,
    connections: Arc<AtomicU64>,
    seen: mpsc::Receiver<(u64, Packet)>,
    task: JoinHandle<()>,
}

impl FakeBroker {
    /// Listens on a free port; every connection is given to `script`. When the script ends, the connection is closed.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start<F, R>(script: F) -> Result<Self>
    where
        F: Fn(Peer) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        Self::listen(None, script).await
    }

    /// The same behind TLS.
    ///
    /// # Errors
    /// When it cannot listen or the files are bad.
    pub async fn start_tls<F, R>(server: &Leaf, alpn: &[&str], script: F) -> Result<Self>
    where
        F: Fn(Peer) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        Self::listen(Some(acceptor(server, alpn)?), script).await
    }

    async fn listen<F, R>(tls: Option<TlsAcceptor>, script: F) -> Result<Self>
    where
        F: Fn(Peer) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let connections = Arc::new(AtomicU64::new(0));
        let counter = connections.clone();
        let (sender, seen) = mpsc::channel(SEEN_MAX);
        let script = Arc::new(script);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
                let (tls, script, sender) = (tls.clone(), script.clone(), sender.clone());
                tokio::spawn(async move { script(greet(stream, tls, number, sender).await?).await });
            }
        });
        Ok(Self { port, connections, seen, task })
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The next packet that any connection has read, with the connection's number.
    pub async fn seen(&mut self) -> Option<(u64, Packet)> {
        self.seen.recv().await
    }

    /// Packets that were read and not asked for yet.
    pub fn seen_so_far(&mut self) -> Vec<(u64, Packet)> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

async fn greet(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    number: u64,
    seen: mpsc::Sender<(u64, Packet)>,
) -> Result<Peer> {
    let socket = stream.as_fd().try_clone_to_owned()?;
    let (stream, alpn): (Box<dyn Stream>, _) = match tls {
        None => (Box::new(stream), None),
        Some(acceptor) => {
            let secured = acceptor.accept(stream).await?;
            let alpn =
                secured.get_ref().1.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
            (Box::new(secured), alpn)
        }
    };
    Ok(Peer { stream: BufStream::new(stream), socket, number, alpn, seen })
}

fn acceptor(server: &Leaf, alpn: &[&str]) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&server.cert as &Path)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&server.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

//! Plain settings of the hands (`link`, `store`, `status`, `app`): no TOML, no defaults, every value checked.
//! They live here and not beside their rooms because `gateway-config` fills them and the daemon depends on it.

pub mod certificate;
pub mod crl;
pub mod der;
pub mod pem;
pub mod serials;
pub mod web;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::tag::Name;

/// A secret that never appears in logs, errors or `Debug` output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// How the bytes of an uplink travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// `mqtt://`, default port 1883.
    Tcp,
    /// `mqtts://`, default port 8883.
    Tls,
    /// `ws://`, default port 80.
    WebSocket,
    /// `wss://`, default port 443.
    WebSocketTls,
}

/// TLS of an uplink. Files hold PEM; keys may be PKCS#8, PKCS#1 or SEC1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates of the authorities to trust; `None` is the system's list.
    pub ca: Option<PathBuf>,
    /// Client certificate chain and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Name to check the server's certificate against; `None` is the host of the URL.
    pub server_name: Option<String>,
    /// Protocols offered by ALPN, in order of preference; empty offers none.
    pub alpn: Vec<String>,
}

/// An HTTP proxy that is asked to CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name and password.
    pub login: Option<(String, Secret)>,
}

/// Most servers of one uplink.
pub const SERVERS_MAX: usize = 8;

/// Where one server of an uplink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// How the bytes travel.
    pub transport: Transport,
    /// Host name or address of the broker.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path of the WebSocket, beginning with '/'.
    pub path: String,
    /// TLS, for [`Transport::Tls`] and [`Transport::WebSocketTls`].
    pub tls: Option<TlsSettings>,
}

/// One upstream connection (`link`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSettings {
    /// How the bytes travel.
    pub transport: Transport,
    /// Host name or address of the broker.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path of the WebSocket, beginning with '/'; "/mqtt" by default.
    pub path: String,
    /// TLS, for [`Transport::Tls`] and [`Transport::WebSocketTls`].
    pub tls: Option<TlsSettings>,
    /// HTTP CONNECT proxy.
    pub proxy: Option<ProxySettings>,
    /// MQTT client id.
    pub client_id: String,
    /// User name and password of CONNECT.
    pub login: Option<(String, Option<Secret>)>,
    /// Whether the broker forgets the session at a disconnect.
    pub clean_session: bool,
    /// Keep-alive of CONNECT, 5 s to 18 h.
    pub keep_alive: Duration,
    /// Time for DNS, TCP, TLS, WebSocket and CONNACK together; hardware keys need 30 s.
    pub connect_timeout: Duration,
    /// Largest packet sent or accepted, bytes.
    pub packet_bytes_max: u32,
    /// Says in CONNECT that this is a bridge (protocol level 0x84, as mosquitto's bridges do; default no). Brokers that know it, such as mosquitto
    /// and EMQX, send us nothing that we published ourselves and leave retain flags as they were published; others, such as AWS IoT, refuse the
    /// connection. Not over WebSocket.
    pub bridge_bit: bool,
    /// More servers, tried in turn after the one above; with it at most [`SERVERS_MAX`]. The uplink stays with the one that works until it is lost,
    /// and then tries it first. Each server keeps a session of its own.
    pub others: Vec<Server>,
}

impl LinkSettings {
    /// How many servers there are.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.others.len().saturating_add(1)
    }

    /// Host and port of every server.
    pub fn places(&self) -> impl Iterator<Item = (&str, u16)> {
        let others = self.others.iter().map(|server| (server.host.as_str(), server.port));
        std::iter::once((self.host.as_str(), self.port)).chain(others)
    }

    /// The connection to one of the servers: 0 is the first, beyond the last the first again.
    #[must_use]
    pub fn to_server(&self, index: usize) -> Self {
        let mut settings = Self { others: Vec::new(), ..self.clone() };
        if let Some(server) = index.checked_sub(1).and_then(|other| self.others.get(other)) {
            let Server { transport, host, port, path, tls } = server.clone();
            settings = Self { transport, host, port, path, tls, ..settings };
        }
        settings
    }
}

/// What an acknowledgement to a local publisher and a row in memory are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// At most `commit_interval` of readings are lost by a power cut.
    Interval,
    /// Every message is on disk before it is sent.
    Strict,
}

/// The database (`store`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// The database file.
    pub path: PathBuf,
    /// Largest size of the database file with its WAL, bytes.
    pub file_bytes_max: u64,
}

/// The gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Name of the gateway: first level of its topics.
    pub id: Name,
    /// Path of the local control socket.
    pub socket: PathBuf,
    /// Which clock wall time is taken from.
    pub trust_clock: TrustClock,
    /// Whether it tells on topics of their own how its buses and devices are.
    pub health: bool,
}

/// Which clock wall time is taken from while no time server has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrustClock {
    /// None: wall time is not known before.
    #[default]
    Ntp,
    /// The clock chip, if it says that its battery never failed.
    Rtc,
    /// The clock of the system, whoever has set it.
    System,
}

impl TrustClock {
    /// The word in TOML, in `status` and in the birth message.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ntp => "ntp",
            Self::Rtc => "rtc",
            Self::System => "system",
        }
    }
}

/// One door for MQTT clients (`listen`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Its name in TOML, logs and metrics.
    pub name: Name,
    /// Where it listens.
    pub address: SocketAddr,
    /// Path of the WebSocket, beginning with '/'; `None` is plain MQTT.
    pub websocket: Option<String>,
    /// Origins of web pages that may connect, in the form of [`web::origin`]; empty does not ask. Only with a WebSocket.
    pub origins: Vec<String>,
    /// Hosts by which it may be called, in the form of [`web::host`]; empty does not ask. Only with a WebSocket.
    pub hosts: Vec<String>,
    /// TLS; `None` is plain text.
    pub tls: Option<ListenerTls>,
    /// Whether clients without a user name come in. Only by this word; a certificate's name is a user.
    pub anonymous: bool,
}

/// TLS of a listener. Files hold PEM and are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificate of this gateway, and the chain up to the authority.
    pub cert: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// Authorities of client certificates; `None` asks for none.
    pub client_ca: Option<PathBuf>,
    /// Certificates that the authorities have called back: one or more lists in PEM.
    pub crl: Option<PathBuf>,
    /// Serial numbers of client certificates that do not count any more, one a line.
    pub revoked: Option<PathBuf>,
    /// Whether a client without a certificate is turned away.
    pub client_required: bool,
    /// Which name of a client's certificate is its user.
    pub identity: CertificateIdentity,
}

/// Which name of a client's certificate is its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateIdentity {
    /// None: a user name and password are needed as well.
    None,
    /// The common name of its subject.
    CommonName,
    /// The first DNS name, address or mail address among its alternative names.
    AlternativeName,
}

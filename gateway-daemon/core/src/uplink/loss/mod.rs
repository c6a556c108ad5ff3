//! Why a link was lost or could not be made: one structured reason for every situation, in words a person on site can act on.
//!
//! [`Loss::word`] is the short name in payloads, metrics and logs; `Display` says what was seen and what to do. The hand
//! (`gateway_daemon::link`) finds the reason, the machine puts it into the birth message. MQTT 3.1.1 gives no reason when a broker
//! closes a connection, so [`Loss::TakenOver`] is an inference from a pattern ([`TakeOverWatch`]) and its text says so.
//!
//! Never holds a secret: no password, no key, no payload.

mod refusal;
mod scheme;
mod text;
mod watch;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use refusal::{ConnectRefusal, Login};
pub use scheme::Spoken;
pub use watch::{CLOSES_MIN, SHORT_LIFE_MAX, TakeOverWatch};

use crate::settings::Transport;

/// A stage of making a connection, in order. Where the scheme of the `url` may be the fault, the stage knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Reading certificate and key files.
    Files,
    /// Looking up the host name.
    Dns,
    /// TCP handshake.
    Tcp,
    /// CONNECT to the HTTP proxy.
    Proxy,
    /// TLS handshake.
    Tls(Transport),
    /// Upgrade of HTTP to WebSocket.
    WebSocket(Transport),
    /// CONNECT and CONNACK of MQTT.
    Mqtt(Transport),
}

/// Why a TCP connection could not be made or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TcpFault {
    /// ECONNREFUSED: the machine answers, nothing listens on that port.
    Refused,
    /// EHOSTUNREACH, ENETUNREACH, ENETDOWN: no way to the machine.
    Unreachable,
    /// ETIMEDOUT: no answer to the handshake, or sent bytes stayed unacknowledged for longer than `TCP_USER_TIMEOUT`.
    TimedOut,
    /// ECONNRESET, EPIPE, ECONNABORTED: cut without a goodbye.
    Reset,
    /// Any other errno.
    Other,
}

/// Which file of the configuration could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileRole {
    /// Certificates of the authorities to trust.
    Ca,
    /// Our own certificate chain.
    ClientCert,
    /// Our own private key.
    ClientKey,
}

/// Seconds since 1970-01-01 00:00 UTC, as certificates and the gateway's clock count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixSecs(pub u64);

/// Why a link was lost or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The host name has no address, or the name server does not answer.
    Dns {
        /// The name that was looked up.
        host: Arc<str>,
        /// What the resolver said.
        detail: Arc<str>,
    },
    /// The TCP connection failed or was cut.
    Tcp {
        /// How.
        fault: TcpFault,
        /// Where we were; `None` when the link was up.
        stage: Option<Stage>,
        /// The last address tried, or the peer of the connection.
        peer: Option<SocketAddr>,
        /// What the operating system said.
        detail: Arc<str>,
    },
    /// `connect_timeout` passed before CONNACK.
    ConnectTimeout {
        /// Where the attempt was stuck.
        stage: Stage,
        /// The limit.
        after: Duration,
    },
    /// The HTTP proxy answered CONNECT with something other than 2xx.
    ProxyRefused {
        /// HTTP status; 407 means that it wants a login.
        status: u16,
    },
    /// The proxy could not be reached or does not speak HTTP.
    Proxy {
        /// What happened.
        detail: Arc<str>,
    },
    /// A certificate or key file cannot be read or used.
    File {
        /// What the file is for.
        role: FileRole,
        /// The file; empty for the system's list of authorities.
        path: PathBuf,
        /// What is wrong with it.
        detail: Arc<str>,
    },
    /// The TLS handshake failed for a reason not named below.
    Tls {
        /// What the TLS library said.
        detail: Arc<str>,
    },
    /// The server's certificate is signed by nobody we trust.
    CertificateUnknownAuthority,
    /// The server's certificate, or one above it, is past its last day.
    CertificateExpired {
        /// What the gateway's clock says.
        clock: UnixSecs,
        /// End of its validity, when known.
        not_after: Option<UnixSecs>,
    },
    /// The server's certificate, or one above it, is not valid yet: most often the gateway's clock is not set.
    CertificateNotYetValid {
        /// What the gateway's clock says.
        clock: UnixSecs,
        /// Beginning of its validity, when known.
        not_before: Option<UnixSecs>,
    },
    /// The server's certificate is for other names.
    CertificateWrongName {
        /// The name we wanted.
        expected: Arc<str>,
        /// Names in the certificate.
        presented: Vec<String>,
    },
    /// The server's certificate is unusable for another reason.
    CertificateInvalid {
        /// What the TLS library said.
        detail: Arc<str>,
    },
    /// The server did not accept our certificate, or wants one and got none.
    OwnCertificateRejected {
        /// The TLS alert of the server.
        alert: Arc<str>,
        /// Whether a client certificate is configured.
        sent: bool,
    },
    /// The server answered the WebSocket upgrade with something other than 101.
    WebSocketRefused {
        /// HTTP status.
        status: u16,
    },
    /// The server does not speak WebSocket with MQTT inside.
    WebSocket {
        /// What happened.
        detail: Arc<str>,
    },
    /// The port speaks something else than the scheme of the `url` says; its first bytes prove it.
    WrongScheme {
        /// What it speaks.
        spoken: Spoken,
    },
    /// CONNACK with a return code other than 0.
    Refused {
        /// The return code.
        refusal: ConnectRefusal,
        /// What we logged in with.
        login: Login,
    },
    /// No PINGRESP within the keep-alive.
    KeepAlive {
        /// The keep-alive.
        after: Duration,
    },
    /// No PUBACK for a publish within `ack_timeout`; decided by the machine.
    AckTimeout {
        /// The limit.
        after: Duration,
    },
    /// Our writes were not taken: the socket was full for too long.
    WriteTimeout,
    /// The cloud sends more than our disk takes; decided by the way down, so that the cloud keeps the rest.
    Overrun,
    /// The server closed the connection; MQTT 3.1.1 carries no reason.
    Closed {
        /// Where we were; `None` when the link was up.
        stage: Option<Stage>,
    },
    /// Probably another device uses the same client id; see [`TakeOverWatch`].
    TakenOver {
        /// How often in a row the server closed a young connection.
        closes: u32,
    },
    /// The server closed the connection while the uplink finds out which message it will not take.
    OnTrial,
    /// The other side broke the rules of MQTT, or is no MQTT server.
    Protocol {
        /// What was seen.
        detail: Arc<str>,
    },
    /// The server sent a packet larger than `packet_max`.
    IncomingOversize {
        /// The limit, bytes.
        limit: u32,
    },
    /// We said DISCONNECT: a clean stop.
    Stopped,
    /// The settings cannot make a link (a server name that is no name, TLS without settings).
    Settings {
        /// What is wrong.
        detail: Arc<str>,
    },
}

impl Loss {
    /// Every word that [`Self::word`] can give, for documents and metrics.
    pub const WORDS: [&'static str; 37] = [
        "dns",
        "tcp-refused",
        "tcp-unreachable",
        "tcp-timeout",
        "tcp-reset",
        "tcp-error",
        "connect-timeout",
        "proxy-refused",
        "proxy-error",
        "file",
        "tls",
        "certificate-unknown-authority",
        "certificate-expired",
        "certificate-not-yet-valid",
        "certificate-wrong-name",
        "certificate-invalid",
        "own-certificate-rejected",
        "websocket-refused",
        "websocket-error",
        "wrong-scheme",
        "refused-protocol",
        "refused-client-id",
        "refused-unavailable",
        "refused-login",
        "refused-not-authorised",
        "refused",
        "keep-alive",
        "ack-timeout",
        "write-timeout",
        "overrun",
        "closed-by-server",
        "taken-over",
        "message-on-trial",
        "protocol",
        "incoming-oversize",
        "stopped",
        "settings",
    ];

    /// The short name in payloads, metrics and logs. Stable.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "dns",
            Self::Tcp { fault, .. } => match fault {
                TcpFault::Refused => "tcp-refused",
                TcpFault::Unreachable => "tcp-unreachable",
                TcpFault::TimedOut => "tcp-timeout",
                TcpFault::Reset => "tcp-reset",
                TcpFault::Other => "tcp-error",
            },
            Self::ConnectTimeout { .. } => "connect-timeout",
            Self::ProxyRefused { .. } => "proxy-refused",
            Self::Proxy { .. } => "proxy-error",
            Self::File { .. } => "file",
            Self::Tls { .. } => "tls",
            Self::CertificateUnknownAuthority => "certificate-unknown-authority",
            Self::CertificateExpired { .. } => "certificate-expired",
            Self::CertificateNotYetValid { .. } => "certificate-not-yet-valid",
            Self::CertificateWrongName { .. } => "certificate-wrong-name",
            Self::CertificateInvalid { .. } => "certificate-invalid",
            Self::OwnCertificateRejected { .. } => "own-certificate-rejected",
            Self::WebSocketRefused { .. } => "websocket-refused",
            Self::WebSocket { .. } => "websocket-error",
            Self::WrongScheme { .. } => "wrong-scheme",
            Self::Refused { refusal, .. } => refusal.word(),
            Self::KeepAlive { .. } => "keep-alive",
            Self::AckTimeout { .. } => "ack-timeout",
            Self::WriteTimeout => "write-timeout",
            Self::Overrun => "overrun",
            Self::Closed { .. } => "closed-by-server",
            Self::TakenOver { .. } => "taken-over",
            Self::OnTrial => "message-on-trial",
            Self::Protocol { .. } => "protocol",
            Self::IncomingOversize { .. } => "incoming-oversize",
            Self::Stopped => "stopped",
            Self::Settings { .. } => "settings",
        }
    }

    /// Whether trying again alone cannot help: a person has to change a setting, a certificate or a file. The link is tried again
    /// all the same, because the change may be made on the server's side.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => *refusal != ConnectRefusal::ServerUnavailable,
            Self::ProxyRefused { status } => matches!(status, 401 | 403 | 407),
            Self::WebSocketRefused { status } => (400..500).contains(status),
            Self::File { .. }
            | Self::CertificateUnknownAuthority
            | Self::CertificateExpired { .. }
            | Self::CertificateWrongName { .. }
            | Self::CertificateInvalid { .. }
            | Self::OwnCertificateRejected { .. }
            | Self::WrongScheme { .. }
            | Self::TakenOver { .. }
            | Self::IncomingOversize { .. }
            | Self::Settings { .. } => true,
            _ => false,
        }
    }
}

impl std::error::Error for Loss {}

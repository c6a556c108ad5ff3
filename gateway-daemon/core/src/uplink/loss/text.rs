//! The sentences: what was seen, then what to do.

use std::fmt;

use super::{FileRole, Loss, Stage, TcpFault, UnixSecs, refusal, scheme};

/// 2024-01-01: a clock before this was never set, because this program did not exist.
const CLOCK_UNSET_BEFORE: UnixSecs = UnixSecs(1_704_067_200);

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "reading certificate files",
            Self::Dns => "looking up the host name",
            Self::Tcp => "TCP connection",
            Self::Proxy => "HTTP proxy",
            Self::Tls(_) => "TLS handshake",
            Self::WebSocket(_) => "WebSocket upgrade",
            Self::Mqtt(_) => "MQTT CONNECT",
        })
    }
}

impl fmt::Display for FileRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca => "authorities (`ca`)",
            Self::ClientCert => "own certificate (`client_cert`)",
            Self::ClientKey => "own key (`client_key`)",
        })
    }
}

/// `YYYY-MM-DD hh:mm UTC`; years after 9999 are printed as they are.
impl fmt::Display for UnixSecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, second) = (self.0 / 86_400, self.0 % 86_400);
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days; days count from 0000-03-01.
        let shifted = day.saturating_add(719_468);
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day_of_month:02} {:02}:{:02} UTC", second / 3600, second % 3600 / 60)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns { .. } | Self::Tcp { .. } | Self::ConnectTimeout { .. } => network(self, f),
            Self::ProxyRefused { .. } | Self::Proxy { .. } => proxy(self, f),
            Self::File { role, path, detail } if path.as_os_str().is_empty() => {
                write!(
                    f,
                    "the system's list of {role} cannot be used: {detail}; install the package `ca-certificates` or set `ca`"
                )
            }
            Self::File { role, path, detail } => {
                write!(f, "the file {} with the {role} cannot be used: {detail}", path.display())
            }
            Self::Tls { .. }
            | Self::CertificateUnknownAuthority
            | Self::CertificateExpired { .. }
            | Self::CertificateNotYetValid { .. }
            | Self::CertificateWrongName { .. }
            | Self::CertificateInvalid { .. }
            | Self::OwnCertificateRejected { .. } => tls(self, f),
            Self::WebSocketRefused { status: 400 } => f.write_str(
                "the server answered the WebSocket request with HTTP 400: it does not understand it; check the path in the `url`, most brokers use \
                 /mqtt, and the scheme: a port for TLS wants wss://",
            ),
            Self::WebSocketRefused { status } => write!(
                f,
                "the server answered the WebSocket request with HTTP {status}; check the path in the `url`, most brokers use /mqtt"
            ),
            Self::WebSocket { detail } => write!(
                f,
                "the server does not speak WebSocket with MQTT inside: {detail}; check scheme, port and path of the `url`"
            ),
            Self::WrongScheme { spoken } => spoken.fmt(f),
            Self::Refused { refusal, login } => refusal::sentence(*refusal, *login, f),
            _ => session(self, f),
        }
    }
}

fn network(loss: &Loss, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match loss {
        Loss::Dns { host, detail } => write!(
            f,
            "the name {host} cannot be looked up: {detail}; check the spelling in the `url`, the network cable and the name server"
        ),
        Loss::Tcp { fault, stage, peer, detail } => {
            match peer {
                Some(peer) => write!(f, "TCP connection with {peer}: ")?,
                None => f.write_str("TCP connection: ")?,
            }
            match fault {
                TcpFault::Refused => f.write_str("refused, nothing listens there; check the port and whether the broker runs"),
                TcpFault::Unreachable => {
                    f.write_str("no way there; check network cable, SIM card, gateway address and routes of this device")
                }
                TcpFault::TimedOut => f.write_str(
                    "no answer; check the network and whether a firewall drops the traffic (ask for this port to be opened)",
                ),
                TcpFault::Reset => {
                    f.write_str("cut by the other side or something in between")?;
                    if let Some(stage) = stage.filter(|stage| *stage != Stage::Tcp) {
                        write!(f, " during {stage}")?;
                    }
                    other_scheme(*stage, f)?;
                    f.write_str("; check the broker's log and firewalls on the way")
                }
                TcpFault::Other => write!(f, "{detail}; check the network of this device"),
            }
        }
        Loss::ConnectTimeout { stage, after } => {
            write!(f, "no connection within {} s, stuck at: {stage}", after.as_secs_f32())?;
            match stage {
                Stage::Tls(_) | Stage::WebSocket(_) | Stage::Mqtt(_) => {
                    f.write_str(
                        "; something listens there and does not answer: check port and scheme of the `url`",
                    )?;
                    other_scheme(Some(*stage), f)?;
                    f.write_str("; else")?;
                }
                Stage::Files | Stage::Dns | Stage::Tcp | Stage::Proxy => f.write_str(";")?,
            }
            f.write_str(
                " check the network, or raise `connect_timeout` if the server or a hardware key is slow",
            )
        }
        other => f.write_str(other.word()),
    }
}

/// Names the scheme that may be the right one, if the stage suggests one.
fn other_scheme(stage: Option<Stage>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match stage.and_then(scheme::perhaps) {
        Some(guess) => write!(f, "; {guess}"),
        None => Ok(()),
    }
}

fn proxy(loss: &Loss, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match loss {
        Loss::ProxyRefused { status: 407 } => {
            f.write_str("the HTTP proxy wants a login (407); check the user in `proxy` and `proxy_password_file`")
        }
        Loss::ProxyRefused { status: 403 } => {
            f.write_str("the HTTP proxy forbids this connection (403); ask its owner to allow CONNECT to the broker's host and port")
        }
        Loss::ProxyRefused { status } => write!(
            f,
            "the HTTP proxy answered {status}; it could not reach the broker or does not allow CONNECT, ask its owner"
        ),
        Loss::Proxy { detail } => {
            write!(f, "the HTTP proxy cannot be used: {detail}; check host and port in `proxy`")
        }
        other => f.write_str(other.word()),
    }
}

fn clock_hint(clock: UnixSecs, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, ", the gateway's clock says {clock}")?;
    if clock < CLOCK_UNSET_BEFORE {
        f.write_str(" and was never set: give it a time server (NTP) or set the time")?;
    }
    Ok(())
}

fn tls(loss: &Loss, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match loss {
        Loss::Tls { detail } => write!(
            f,
            "the TLS handshake failed: {detail}; check that the port speaks TLS and the server allows TLS 1.2 or 1.3"
        ),
        Loss::CertificateUnknownAuthority => f.write_str(
            "the server's certificate is signed by an authority this gateway does not trust; put the right authority into `ca`, or \
             something in between pretends to be the server",
        ),
        Loss::CertificateExpired { clock, not_after } => {
            f.write_str("the server's certificate is past its last day")?;
            if let Some(end) = not_after {
                write!(f, " ({end})")?;
            }
            clock_hint(*clock, f)?;
            f.write_str("; the owner of the broker has to renew it, or set the gateway's clock if it is wrong")
        }
        Loss::CertificateNotYetValid { clock, not_before } => {
            f.write_str("the server's certificate is not valid yet")?;
            if let Some(begin) = not_before {
                write!(f, " (from {begin})")?;
            }
            clock_hint(*clock, f)?;
            f.write_str("; check the clock of the gateway first, then the certificate")
        }
        Loss::CertificateWrongName { expected, presented } => {
            write!(f, "the server's certificate is not for {expected}")?;
            if !presented.is_empty() {
                write!(f, " but for {}", presented.join(", "))?;
            }
            f.write_str("; check the host in `url`, or set `server_name` to the name in the certificate if you trust it")
        }
        Loss::CertificateInvalid { detail } => write!(
            f,
            "the server's certificate cannot be accepted: {detail}; the owner of the broker has to replace it"
        ),
        Loss::OwnCertificateRejected { alert, sent: false } => write!(
            f,
            "the server wants a certificate of this gateway and none is configured ({alert}); set `client_cert` and `client_key`"
        ),
        Loss::OwnCertificateRejected { alert, sent: true } => write!(
            f,
            "the server did not accept this gateway's certificate ({alert}); check that it is registered, not expired and signed by \
             the authority the broker trusts"
        ),
        other => f.write_str(other.word()),
    }
}

fn session(loss: &Loss, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match loss {
        Loss::KeepAlive { after } => write!(
            f,
            "the broker did not answer a ping within {} s: the line is dead or very slow; check the network",
            after.as_secs_f32()
        ),
        Loss::AckTimeout { after } => write!(
            f,
            "the broker did not acknowledge a message within {} s: the line is dead or the broker is overloaded; check the network, \
             use `qos = 0` only if this broker never acknowledges",
            after.as_secs_f32()
        ),
        Loss::WriteTimeout => {
            f.write_str("nothing could be sent for too long: the line is dead or the broker does not read; check the network")
        }
        Loss::Overrun => f.write_str(
            "the broker sends more than the disk of this gateway takes: the connection is cut so that it keeps the rest; look at the state \
             of the store, or subscribe to less",
        ),
        Loss::Closed { stage: Some(stage) } => {
            write!(f, "the server closed the connection during {stage} without a reason")?;
            other_scheme(Some(*stage), f)?;
            f.write_str("; check scheme and port of the `url`, and the broker's log")
        }
        Loss::Closed { stage: None } => f.write_str(
            "the broker closed the connection without a reason (MQTT 3.1.1 has none); if it repeats, look into the broker's log",
        ),
        Loss::TakenOver { closes } => write!(
            f,
            "the broker closed {closes} young connections in a row: most likely another device uses the same `client_id`, else the broker \
             forbids a topic; give each gateway its own client id and check the broker's access rules"
        ),
        Loss::OnTrial => f.write_str(
            "the broker closed the connection, most likely for a message that it will not take: messages are sent one by one to find out which, \
             and that one is set aside; `gateway-daemon queue list` shows what is set aside",
        ),
        Loss::Protocol { detail } => write!(
            f,
            "the other side broke the rules of MQTT 3.1.1: {detail}; check that host and port of the `url` belong to an MQTT broker, and that \
             its scheme is right"
        ),
        Loss::IncomingOversize { limit } => write!(
            f,
            "the broker sent a packet of more than {limit} bytes; raise `packet_max` or find who publishes it"
        ),
        Loss::Stopped => f.write_str("stopped by this gateway"),
        Loss::Settings { detail } => write!(f, "these settings cannot make a connection: {detail}"),
        other => f.write_str(other.word()),
    }
}

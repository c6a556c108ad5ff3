//! The scheme of the `url` and what the port really speaks: the first bytes prove it, or where the connection ended suggests it.

use std::fmt;

use super::Stage;
use crate::settings::Transport;

/// What a port speaks, where the `url` says something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spoken {
    /// TLS, and we came without it, by this transport.
    Tls(Transport),
    /// Something without TLS, and we came with it, by this transport.
    Plain(Transport),
    /// HTTP, and we came with MQTT.
    Http,
}

impl Spoken {
    /// What the first bytes of an answer prove at a stage; `None` when they are what was expected, or prove nothing.
    ///
    /// A server of TLS that gets something else says so in an alert: content type 21, then the version, whose first byte is always 3 (RFC 8446, 5.1). No
    /// MQTT server begins like that: type 1 is CONNECT, which only clients send.
    #[must_use]
    pub fn by_first_bytes(first: &[u8], stage: Stage) -> Option<Self> {
        let is_alert = matches!(first, [0x15, 3, ..]);
        match stage {
            Stage::Mqtt(plain @ Transport::Tcp) | Stage::WebSocket(plain @ Transport::WebSocket)
                if is_alert =>
            {
                Some(Self::Tls(plain))
            }
            Stage::Mqtt(Transport::Tcp | Transport::Tls) if is_of_the_web(first) => Some(Self::Http),
            _ => None,
        }
    }
}

/// A web server that does not understand a request answers with a status line, or, as if asked by HTTP/0.9, with a page alone. Neither is MQTT: type 4 with
/// flags (`H`) is malformed, and so is a PUBLISH (`<`) before CONNACK.
fn is_of_the_web(first: &[u8]) -> bool {
    let begins = |with: &[u8]| first.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    [&b"HTTP/"[..], b"<!DOCTYPE", b"<html", b"<?xml"].into_iter().any(begins)
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(Transport::WebSocket | Transport::WebSocketTls) => {
                f.write_str("this port speaks TLS: write wss:// in the `url` (its usual port is 443)")
            }
            Self::Tls(_) => f.write_str("this port speaks TLS: write mqtts:// in the `url` (its usual port is 8883)"),
            Self::Plain(Transport::WebSocket | Transport::WebSocketTls) => f.write_str(
                "the server does not speak TLS on this port: its usual port for TLS is 443; without TLS write ws:// in the `url`",
            ),
            Self::Plain(_) => f.write_str(
                "the server does not speak TLS on this port: its usual port for TLS is 8883; without TLS write mqtt:// in the `url`",
            ),
            Self::Http => f.write_str(
                "this port speaks HTTP, not MQTT: a web server answers there; perhaps port 1883 (mqtt://) or 8883 (mqtts://) was meant, or this is a broker that takes MQTT by WebSocket and wants ws:// or wss://",
            ),
        }
    }
}

/// The other scheme that may be the right one, when a connection ends or stops at this stage without a word.
pub(super) fn perhaps(stage: Stage) -> Option<&'static str> {
    Some(match stage {
        Stage::Mqtt(Transport::Tcp) => "perhaps this port speaks TLS: mqtts:// (its usual port is 8883)",
        Stage::WebSocket(Transport::WebSocket) => {
            "perhaps this port speaks TLS: wss:// (its usual port is 443)"
        }
        Stage::Tls(Transport::WebSocketTls | Transport::WebSocket) => {
            "perhaps this port speaks WebSocket without TLS: ws:// (usual port 80; TLS is usually at 443)"
        }
        Stage::Tls(Transport::Tls | Transport::Tcp) => {
            "perhaps this port speaks plain MQTT: mqtt:// (usual port 1883; TLS is usually at 8883)"
        }
        _ => return None,
    })
}

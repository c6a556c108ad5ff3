//! The HTTP request that becomes a WebSocket ("The WebSocket Protocol", RFC 6455, 4.2), without sockets.

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::handshake::machine::TryParse as _;
use async_tungstenite::tungstenite::handshake::server::Request;

/// Most bytes of the request: browsers send cookies.
pub(super) const REQUEST_BYTES_MAX: usize = 8 << 10;

/// Sub-protocols that are MQTT; the version is in CONNECT, whatever is said here.
const PROTOCOLS: [&str; 3] = ["mqtt", "mqttv3.1.1", "mqttv3.1"];

/// What is to be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The request is not complete.
    More,
    /// It is a WebSocket from here on. `used` bytes of the input were the request.
    Welcome { answer: String, used: usize },
    /// It is none; the connection ends with the answer.
    Refused { answer: String, why: String },
}

/// Judges what the client has sent. `path` is the only path that is served.
pub(super) fn judge(bytes: &[u8], path: &str) -> Verdict {
    let (used, request) = match Request::try_parse(bytes) {
        Ok(Some(found)) => found,
        Ok(None) if bytes.len() < REQUEST_BYTES_MAX => return Verdict::More,
        Ok(None) => {
            return refused("431 Request Header Fields Too Large", "a request of more than 8 KiB");
        }
        Err(error) => return refused("400 Bad Request", &format!("no WebSocket request: {error}")),
    };
    if request.uri().path() != path {
        let asked: String = request.uri().path().chars().take(80).collect();
        return refused(
            "404 Not Found",
            &format!("path {asked:?} is not served here, {path:?} is: set it in the client"),
        );
    }
    match key_of(&request) {
        Err(why) => refused("426 Upgrade Required", why),
        Ok(key) => match protocol_of(&request) {
            None => refused(
                "400 Bad Request",
                "the client offers no sub-protocol that is MQTT: one of mqtt, mqttv3.1.1, mqttv3.1",
            ),
            Some(protocol) => {
                let accept = derive_accept_key(key);
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
                );
                Verdict::Welcome { answer, used }
            }
        },
    }
}

fn refused(status: &str, why: &str) -> Verdict {
    let answer = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{why}\n",
        why.len() + 1
    );
    Verdict::Refused { answer, why: why.to_owned() }
}

/// The key of a request that asks for a WebSocket of the version that everybody speaks.
fn key_of(request: &Request) -> Result<&[u8], &'static str> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let lists = |name: &str, word: &str| {
        header(name).is_some_and(|list| list.split(',').any(|entry| entry.trim().eq_ignore_ascii_case(word)))
    };
    if !lists("Connection", "upgrade") || !lists("Upgrade", "websocket") {
        return Err("this is a WebSocket for MQTT, not a web page");
    }
    if header("Sec-WebSocket-Version").map(str::trim) != Some("13") {
        return Err("only version 13 of WebSocket is spoken here");
    }
    let key = request.headers().get("Sec-WebSocket-Key").ok_or("the request has no Sec-WebSocket-Key")?;
    Ok(key.as_bytes())
}

/// The first sub-protocol offered that is MQTT.
fn protocol_of(request: &Request) -> Option<&str> {
    let lists = request.headers().get_all("Sec-WebSocket-Protocol").into_iter();
    lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .find(|offered| PROTOCOLS.contains(offered))
}

//! The HTTP request that becomes a WebSocket ("The WebSocket Protocol", RFC 6455, 4.2), without sockets.

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::handshake::machine::TryParse as _;
use async_tungstenite::tungstenite::handshake::server::Request;
use gateway_core::settings::{ListenerSettings, web};

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
    /// It is one of a web page that may not connect, or to a name that is not ours.
    Forbidden { answer: String, why: String },
}

/// What is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// The only path.
    path: String,
    /// See [`ListenerSettings::origins`].
    origins: Vec<String>,
    /// See [`ListenerSettings::hosts`].
    hosts: Vec<String>,
    /// Whether the request comes by TLS.
    tls: bool,
}

impl Page {
    /// What a listener serves, if it is a WebSocket.
    pub(super) fn of(settings: &ListenerSettings) -> Option<Self> {
        let path = settings.websocket.clone()?;
        let (origins, hosts) = (settings.origins.clone(), settings.hosts.clone());
        Some(Self { path, origins, hosts, tls: settings.tls.is_some() })
    }

    /// A path for everybody.
    pub(super) fn at(path: &str) -> Self {
        Self { path: path.to_owned(), origins: Vec::new(), hosts: Vec::new(), tls: false }
    }

    /// Why a request may not come in.
    fn forbids(&self, request: &Request) -> Option<String> {
        let asks = [
            ("Origin", "origins", &self.origins, one(request, "Origin").and_then(web::origin)),
            ("Host", "hosts", &self.hosts, one(request, "Host").and_then(|text| web::host(text, self.tls))),
        ];
        for (header, key, list, form) in asks {
            if !list.is_empty() && !form.is_some_and(|form| list.contains(&form)) {
                let said: Vec<String> = (request.headers().get_all(header).iter().take(2))
                    .map(|value| shown(value.as_bytes()))
                    .collect();
                let said = if said.is_empty() { "none".to_owned() } else { said.join(" and ") };
                return Some(format!(
                    "{header} of the request is {said}, which is not in `{key}` of this listener"
                ));
            }
        }
        None
    }
}

/// The only value of a header; several are as good as none.
fn one<'a>(request: &'a Request, header: &str) -> Option<&'a str> {
    let mut all = request.headers().get_all(header).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then(|| first.trim())
}

/// Text of a stranger for the log.
fn shown(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(80).collect();
    format!("{text:?}")
}

/// Judges what the client has sent.
pub(super) fn judge(bytes: &[u8], page: &Page) -> Verdict {
    let (used, request) = match Request::try_parse(bytes) {
        Ok(Some(found)) => found,
        Ok(None) if bytes.len() < REQUEST_BYTES_MAX => return Verdict::More,
        Ok(None) => {
            return refused("431 Request Header Fields Too Large", "a request of more than 8 KiB");
        }
        Err(error) => return refused("400 Bad Request", &format!("no WebSocket request: {error}")),
    };
    if let Some(why) = page.forbids(&request) {
        return Verdict::Forbidden { answer: answer("403 Forbidden", &why), why };
    }
    let path = page.path.as_str();
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
    Verdict::Refused { answer: answer(status, why), why: why.to_owned() }
}

fn answer(status: &str, why: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{why}\n",
        why.len() + 1
    )
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

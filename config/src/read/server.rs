//! Servers of an uplink: `url` or `urls`.

use std::ops::Range;

use gateway_core::settings::{SERVERS_MAX, Transport};

use super::{Context, url};
use crate::reader::Reader;
use crate::words;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) transport: Transport,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

impl Address {
    pub(crate) fn is_secured(&self) -> bool {
        matches!(self.transport, Transport::Tls | Transport::WebSocketTls)
    }
}

/// All servers, at least one; `None` when something was reported.
pub(crate) fn servers(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Vec<Address>> {
    if reader.has("url") && reader.has("urls") {
        let text = "`urls` and `url` are both given, expected one of them: write all servers into `urls`";
        cx.found.wrong(&reader.key_at("urls"), text);
        return None;
    }
    if !reader.has("urls") {
        if reader.lacks("url") && reader.lacks("urls") {
            reader.missing("url");
        }
        let text = if reader.has("url") { reader.text("url")? } else { return None };
        return Some(vec![address(cx, "url", &text, &reader.at("url"))?]);
    }
    let texts = reader.texts("urls")?;
    if texts.is_empty() || reader.written("urls") > SERVERS_MAX {
        let text = format!("`urls` has {} servers, expected 1 to {SERVERS_MAX}", reader.written("urls"));
        cx.found.wrong(&reader.at("urls"), text);
        return None;
    }
    let mut list: Vec<(Address, Range<usize>)> = Vec::new();
    let mut whole = true;
    for (text, span) in texts {
        let Some(address) = address(cx, "urls", &text, &span) else {
            whole = false;
            continue;
        };
        if list.iter().any(|(other, _)| *other == address) {
            cx.found.wrong(&span, "`urls` holds this server twice, expected different ones: remove one");
        }
        list.push((address, span));
    }
    whole.then(|| list.into_iter().map(|(address, _)| address).collect())
}

/// Reads one address; `key` is what messages call it.
fn address(cx: &Context<'_, '_>, key: &str, text: &str, span: &Range<usize>) -> Option<Address> {
    let refuse = |text: String| -> Option<Address> {
        cx.found.wrong(span, text);
        None
    };
    let address = match url::split(key, "password_file", text) {
        Ok(address) => address,
        Err(text) => return refuse(text),
    };
    if address.user.is_some() {
        return refuse(format!(
            "`{key}` holds a user name, expected it in a key of its own: move it to `username`"
        ));
    }
    let Some((transport, usual_port)) = url::transport(address.scheme) else {
        let what = if address.scheme.is_empty() {
            "does not begin with a scheme".to_owned()
        } else {
            format!("begins with {}://", words::shown(address.scheme))
        };
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let scheme = url::usual_scheme(address.scheme).unwrap_or(if address.port == Some(1883) {
            "mqtt"
        } else {
            "mqtts"
        });
        let fix = words::shown(&format!("{scheme}://{rest}"));
        let example = if key == "url" { format!("url = \"{fix}\"") } else { format!("\"{fix}\"") };
        return refuse(format!(
            "`{key}` {what}, expected mqtt://, mqtts://, ws:// or wss://: write {example}"
        ));
    };
    let web = matches!(transport, Transport::WebSocket | Transport::WebSocketTls);
    if !web && !matches!(address.path, "" | "/") {
        return refuse(format!(
            "`{key}` has a path, expected one only with ws:// and wss://: remove what follows the port"
        ));
    }
    match (transport, address.port) {
        (Transport::Tcp, Some(8883)) => {
            cx.found.warn(
                span,
                format!(
                    "`{key}` says mqtt:// with port 8883, which is usual for TLS: did you mean mqtts://?"
                ),
            );
        }
        (Transport::Tls, Some(1883)) => {
            cx.found.warn(
                span,
                format!("`{key}` says mqtts:// with port 1883, which is usual without TLS: did you mean port 8883?"),
            );
        }
        _ => {}
    }
    let path = if web && matches!(address.path, "" | "/") { "/mqtt" } else { address.path };
    let path = if web { path } else { "/mqtt" };
    Some(Address {
        transport,
        host: address.host.to_owned(),
        port: address.port.unwrap_or(usual_port),
        path: path.to_owned(),
    })
}

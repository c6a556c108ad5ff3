//! `[uplink.NAME]`: its queue and machine, and its connection.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::broker::settings::Settings as BrokerSettings;
use gateway_core::settings::certificate::Purpose;
use gateway_core::settings::{LinkSettings, ProxySettings, Server, TlsSettings, Transport};
use gateway_core::tag::Name;
use gateway_core::uplink::row::Qos;
use gateway_core::uplink::settings::{self, Drain, Limits, Rule, Settings, WhenFull};

use super::certificates::{self, Pem};
use super::files;
use super::rules::{self, Placed};
use super::server::{self, Address};
use super::top::Store;
use super::{Context, topic, url};
use crate::keys;
use crate::reader::Reader;
use crate::words;

/// Uplinks of one gateway; each has a queue, a connection and a thread of TLS work.
pub(crate) const UPLINKS_MAX: usize = 8;

/// Keys that mean nothing without TLS.
const TLS_KEYS: &[&str] = &[
    "ca",
    "ca_credential",
    "client_cert",
    "client_cert_credential",
    "client_key",
    "client_key_credential",
    "server_name",
    "alpn",
];

/// An uplink and where the filters of its rules stand.
pub(crate) struct Uplink {
    pub(crate) settings: Settings,
    pub(crate) link: LinkSettings,
    pub(crate) forward: Vec<Placed>,
    pub(crate) accept: Vec<Placed>,
    /// Where its name stands.
    pub(crate) span: Range<usize>,
    /// Where the file says how many bytes its queue may have.
    pub(crate) bytes_at: Option<Range<usize>>,
}

/// All uplinks.
pub(crate) fn uplinks<'a, 't>(
    cx: &Context<'a, 't>,
    file: &Reader<'a, 't>,
    gateway: Option<&str>,
    store: Option<&Store>,
) -> Vec<Uplink> {
    let mut tables = file.named("uplink");
    super::at_most(cx, file, "uplink", &mut tables, UPLINKS_MAX, "uplinks");
    let several = tables.len() > 1;
    let mut sessions: BTreeMap<(String, u16, String), Range<usize>> = BTreeMap::new();
    let mut list = Vec::new();
    for (name, span, reader) in tables {
        let gateway_id = gateway.unwrap_or("gateway");
        let default_id = if several { format!("{gateway_id}-{name}") } else { gateway_id.to_owned() };
        let link = link(cx, &reader, &default_id);
        let machine = machine(cx, &reader, &name, gateway_id, store);
        let (Some(link), Some((settings, forward, accept))) = (link, machine) else { continue };
        let places: Vec<_> =
            link.places().map(|(host, port)| (host.to_owned(), port, link.client_id.clone())).collect();
        if let Some(first) = places.iter().find_map(|place| sessions.get(place)) {
            let text = format!(
                "uplink `{name}` has the same broker and client id as the one in line {}, expected different ones because a broker throws out \
                 the older of two: set `client_id`",
                cx.found.line(first)
            );
            cx.found.misfit(&span, text);
        }
        for place in places {
            sessions.entry(place).or_insert_with(|| span.clone());
        }
        let queue = reader.table("queue").filter(|queue| queue.has("bytes_max"));
        let bytes_at = queue.map(|queue| queue.at("bytes_max"));
        list.push(Uplink { settings, link, forward, accept, span, bytes_at });
    }
    list
}

/// Queue, window, back-off and topics.
fn machine<'a, 't>(
    cx: &Context<'a, 't>,
    reader: &Reader<'a, 't>,
    name: &Name,
    gateway: &str,
    store: Option<&Store>,
) -> Option<(Settings, Vec<Placed>, Vec<Placed>)> {
    let qos = match reader.int("qos") {
        Some(0) => Some(Qos::AtMostOnce),
        Some(_) => Some(Qos::AtLeastOnce),
        None => None,
    };
    let forward = rules::rules(cx, reader, "forward", qos.unwrap_or(Qos::AtLeastOnce));
    if forward.as_ref().is_some_and(Vec::is_empty) {
        let text = "`forward` is an empty list, so nothing goes up: write forward = [\"#\"] for everything";
        cx.found.warn(&reader.at("forward"), text);
    }
    let accept = rules::rules(cx, reader, "accept", Qos::AtLeastOnce);
    let window = reader.uint("window");
    let drain = match reader.choice("drain") {
        Some("fifo") => Some(Drain::Fifo),
        Some(_) => Some(Drain::LiveFirst),
        None => None,
    };
    let limits = limits(cx, reader);
    let ack_timeout = reader.duration("ack_timeout");
    let (backoff_min, backoff_max) = (reader.duration("backoff_min"), reader.duration("backoff_max"));
    if backoff_min.zip(backoff_max).is_some_and(|(min, max)| min > max) {
        let text =
            "`backoff_min` is longer than `backoff_max`, expected it to be the shorter one: exchange them";
        cx.found.misfit(&reader.at("backoff_min"), text);
    }
    let status_topic = own_topic(cx, reader, "status_topic", name, gateway);
    let ledger_topic = own_topic(cx, reader, "ledger_topic", name, gateway);
    if status_topic.is_some() && status_topic == ledger_topic {
        let text = "`ledger_topic` is the same topic as `status_topic`, expected different ones: change one";
        cx.found.misfit(&reader.at("ledger_topic"), text);
    }
    let ledger_every = reader.duration("ledger_every");
    let (forward, accept) = (forward?, accept?);
    let plain = |rules: &[Placed]| rules.iter().map(|(rule, _)| rule.clone()).collect();
    let settings = Settings {
        name: name.clone(),
        forward: plain(&forward),
        accept: plain(&accept),
        qos: qos?,
        window: window?,
        drain: drain?,
        limits: limits?,
        commit_interval: store?.commit_interval,
        durability: store?.durability,
        ack_timeout: ack_timeout?,
        backoff_min: backoff_min?,
        backoff_max: backoff_max?,
        status_topic: status_topic?,
        ledger_topic: ledger_topic?,
        ledger_every: ledger_every?,
    };
    Some((settings, forward, accept))
}

fn own_topic(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    key: &str,
    name: &Name,
    gateway: &str,
) -> Option<Arc<str>> {
    let template = reader.text(key)?;
    if let Some(text) = topic::template_problem(key, &template, topic::UPLINK_WORDS) {
        cx.found.wrong(&reader.at(key), text);
        return None;
    }
    Some(topic::render(&template, &[("gateway", gateway), ("uplink", name.as_str())]).into())
}

fn limits<'a, 't>(cx: &Context<'a, 't>, uplink: &Reader<'a, 't>) -> Option<Limits> {
    let reader = cx.table_or_empty(uplink, "queue", &keys::uplink::QUEUE);
    let rows_max = reader.uint("rows_max");
    let bytes_max =
        if reader.lacks("bytes_max") { Some(settings::BYTES_MAX) } else { reader.size("bytes_max") };
    let age_max = reader.duration("age_max");
    let bucket = reader.duration("thin_bucket");
    let when_full = match reader.choice("when_full") {
        Some("thin-out") if reader.lacks("thin_bucket") => {
            let text = "`when_full` = \"thin-out\" lacks `thin_bucket`, expected beside it: write thin_bucket = \"1m\"";
            cx.found.misfit(&reader.at("when_full"), text);
            None
        }
        Some("thin-out") => bucket.map(|bucket| WhenFull::ThinOut { bucket }),
        Some(word) => {
            reader.only("when_full", word);
            Some(if word == "drop-newest" { WhenFull::DropNewest } else { WhenFull::DropOldest })
        }
        None => None,
    };
    Some(Limits { rows_max: rows_max?, bytes_max: bytes_max?, age_max, when_full: when_full? })
}

/// The connection.
fn link(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, default_id: &str) -> Option<LinkSettings> {
    let servers = server::servers(cx, reader);
    let secured = servers.as_ref().map(|list| list.iter().any(Address::is_secured));
    let tls = match secured {
        Some(false) => {
            refuse_tls_keys(cx, reader);
            Some(None)
        }
        _ => tls(cx, reader).map(Some),
    };
    let login = login(cx, reader);
    let proxy = proxy(cx, reader);
    let client_id =
        if reader.lacks("client_id") { Some(default_id.to_owned()) } else { reader.text("client_id") };
    let clean_session = reader.bool("clean_session");
    let keep_alive = reader.duration("keep_alive");
    if keep_alive.is_some_and(|d| d.subsec_nanos() != 0) {
        cx.found.wrong(
            &reader.at("keep_alive"),
            "`keep_alive` has a fraction of a second, expected whole seconds",
        );
    }
    let connect_timeout = reader.duration("connect_timeout");
    let packet_max = reader.size("packet_max");
    let bridge_bit = reader.bool("bridge_bit");
    let servers = servers?;
    let web = |a: &Address| matches!(a.transport, Transport::WebSocket | Transport::WebSocketTls);
    if bridge_bit == Some(true) && servers.iter().any(web) {
        let text = "`bridge_bit` cannot be said over WebSocket, only with mqtt:// and mqtts://: remove it";
        cx.found.wrong(&reader.key_at("bridge_bit"), text);
    }
    let tls = tls?;
    let mut servers = servers.into_iter().map(|address| {
        let tls = tls.clone().filter(|_| address.is_secured());
        let Address { transport, host, port, path } = address;
        Server { transport, host, port, path, tls }
    });
    let Server { transport, host, port, path, tls } = servers.next()?;
    let others = servers.collect();
    Some(LinkSettings {
        transport,
        host,
        port,
        path,
        tls,
        proxy: proxy?,
        client_id: client_id?,
        login: login?,
        clean_session: clean_session?,
        keep_alive: Duration::from_secs(keep_alive?.as_secs()),
        connect_timeout: connect_timeout?,
        packet_bytes_max: u32::try_from(packet_max?).ok()?,
        bridge_bit: bridge_bit?,
        others,
    })
}

fn refuse_tls_keys(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) {
    for key in TLS_KEYS.iter().filter(|key| reader.has(key)) {
        let text = format!(
            "`{key}` means nothing without TLS, expected with mqtts:// or wss:// in `url`: change the url or remove this key"
        );
        cx.found.wrong(&reader.key_at(key), text);
    }
}

fn tls(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<TlsSettings> {
    let given = |key: &str| reader.has(key) || reader.has(&format!("{key}_credential"));
    let lacks = |key: &str| reader.lacks(key) && reader.lacks(&format!("{key}_credential"));
    let read = |key: &str, want| given(key).then(|| certificates::pem(cx, reader, key, want));
    let ca = read("ca", Pem::Authorities);
    let cert = read("client_cert", Pem::Own(Purpose::Client));
    let key = read("client_key", Pem::Key);
    if let (Some(Some(cert)), Some(Some(key))) = (&cert, &key) {
        certificates::pair(cx, cert, key, Purpose::Client);
    }
    for (one, other) in [("client_cert", "client_key"), ("client_key", "client_cert")] {
        if given(one) && lacks(other) {
            let at = if reader.has(one) {
                reader.key_at(one)
            } else {
                reader.key_at(&format!("{one}_credential"))
            };
            cx.found.misfit(
                &at,
                format!("`{one}` stands alone, expected together with `{other}`: add `{other}`"),
            );
        }
    }
    let server_name = reader.text("server_name");
    if server_name.as_deref().is_some_and(|name| !url::host_is_good(name)) {
        let text = "`server_name` is not a host name, expected it without mqtts:// and port";
        cx.found.wrong(&reader.at("server_name"), text);
    }
    let alpn = if reader.lacks("alpn") { Some(Vec::new()) } else { reader.texts("alpn") };
    if let Some((_, span)) = alpn.iter().flatten().find(|(text, _)| text.len() > 255) {
        cx.found.wrong(
            span,
            "a protocol of `alpn` has more than 255 bytes, expected a short word such as \"mqtt\"",
        );
    }
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert?.path, key?.path)),
        _ => None,
    };
    let ca = match ca {
        Some(ca) => Some(ca?.path),
        None => None,
    };
    Some(TlsSettings { ca, client, server_name, alpn: alpn?.into_iter().map(|(text, _)| text).collect() })
}

/// User name and password; the outer `None` means that something was reported.
fn login(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
) -> Option<Option<(String, Option<gateway_core::settings::Secret>)>> {
    let given = [
        ("password_file", reader.has("password_file")),
        ("password_credential", reader.has("password_credential")),
    ];
    let given = given.iter().find(|(_, given)| *given).map(|(key, _)| *key);
    if let (Some(key), true) = (given, reader.lacks("username")) {
        let text = format!(
            "`{key}` stands without `username`, expected both: MQTT has no password without a user name"
        );
        cx.found.misfit(&reader.key_at(key), text);
    }
    let password = match given {
        Some(_) => Some(files::password(cx, reader, "password_file", "password_credential")?),
        None => None,
    };
    if reader.lacks("username") {
        return Some(None);
    }
    Some(Some((reader.text("username")?, password)))
}

/// The proxy; the outer `None` means that something was reported.
fn proxy(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Option<ProxySettings>> {
    let keys = ["proxy_password_file", "proxy_password_credential"];
    let password_key = keys.into_iter().find(|key| reader.has(key));
    if reader.lacks("proxy") {
        if let Some(key) = password_key {
            cx.found.misfit(
                &reader.key_at(key),
                format!("`{key}` stands without `proxy`, expected both: add `proxy`"),
            );
        }
        return Some(None);
    }
    let text = reader.text("proxy")?;
    let span = reader.at("proxy");
    let address = match url::split("proxy", "proxy_password_file", &text) {
        Ok(address) => address,
        Err(text) => {
            cx.found.wrong(&span, text);
            return None;
        }
    };
    if address.scheme != "http" {
        cx.found.wrong(&span, "`proxy` does not begin with http://, expected http://HOST:PORT: other proxies are not part of this version");
        return None;
    }
    let Some(port) = address.port else {
        cx.found.wrong(&span, "`proxy` has no port, expected http://HOST:PORT: add it, often :3128 or :8080");
        return None;
    };
    let password = match password_key {
        Some(_) => Some(files::password(cx, reader, keys[0], keys[1])?),
        None => None,
    };
    let login = match (address.user, password) {
        (Some(user), Some(password)) => Some((user.to_owned(), password)),
        (Some(user), None) => Some((user.to_owned(), gateway_core::settings::Secret::new(""))),
        (None, None) => None,
        (None, Some(_)) => {
            let text =
                "`proxy` has a password and no user name, expected http://USER@HOST:PORT: add the user name";
            cx.found.misfit(&span, text);
            return None;
        }
    };
    Some(Some(ProxySettings { host: address.host.to_owned(), port, login }))
}

/// Filters that take no topic of this gateway, and uplinks that take none at all: mostly a typing error in a filter.
pub(crate) fn warn_idle(cx: &Context<'_, '_>, uplinks: &[Uplink], topics: &[String]) {
    if topics.is_empty() {
        return;
    }
    for uplink in uplinks {
        for (Rule { filter, .. }, span) in &uplink.forward {
            let own = [&uplink.settings.status_topic, &uplink.settings.ledger_topic];
            let takes = |topic: &str| topic::matches(filter, topic);
            if !topics.iter().any(|t| takes(t)) && !own.iter().any(|t| takes(t)) {
                let text = format!(
                    "no reading is sent to a topic that \"{}\" takes; the first topic of this gateway is \"{}\": correct the filter",
                    words::shown(filter),
                    words::shown(&topics[0])
                );
                cx.found.warn(span, text);
            }
        }
    }
}

/// Uplinks that bring down what nobody can get, in a file without a broker.
pub(crate) fn warn_unheard(cx: &Context<'_, '_>, uplinks: &[Uplink]) {
    for (_, at) in uplinks.iter().filter_map(|uplink| uplink.accept.first()) {
        let text = "`accept` without [broker] brings messages down to nobody, expected a broker for local clients: add [broker]";
        cx.found.warn(at, text);
    }
}

/// Uplinks that lead to the gateway's own broker: a server's default address that was left as it is.
pub(crate) fn warn_own(cx: &Context<'_, '_>, uplinks: &[Uplink], broker: Option<&BrokerSettings>) {
    let own = |host: &str, port: u16| {
        let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let listens = |l: &gateway_core::settings::ListenerSettings| {
            l.address.port() == port && (l.address.ip().is_loopback() || l.address.ip().is_unspecified())
        };
        local && broker.is_some_and(|b| b.listeners.iter().any(listens))
    };
    for uplink in uplinks {
        if let Some((host, port)) = uplink.link.places().find(|(host, port)| own(host, *port)) {
            let text = format!(
                "uplink `{}` leads to {host}:{port}, which is a listener of this gateway itself: what goes up comes back to its own broker",
                uplink.settings.name
            );
            cx.found.warn(&uplink.span, text);
        }
    }
}

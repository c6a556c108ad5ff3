//! `[broker]`: its doors and bounds; its users and rules are in [`super::access`].

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use gateway_core::broker::TopicFilter;
use gateway_core::broker::access::Access;
use gateway_core::broker::settings::{
    Limits, RETAINED_RULES_MAX, RetainedRule, RetainedRules, Settings, WhenFull,
};
use gateway_core::settings::certificate::Purpose;
use gateway_core::settings::{CertificateIdentity, ListenerSettings, ListenerTls};
use gateway_core::tag::Name;
use toml::de::DeValue;

use super::certificates::{self, Pem, PemFile};
use super::top::Store;
use super::{Context, access};
use super::{revoked, web};
use crate::keys::broker::LIMITS;
use crate::reader::Reader;
use crate::words;

/// Most doors.
pub(crate) const LISTENERS_MAX: usize = 16;

/// Users, and addresses, that have to act together to take all places for sessions.
const SESSIONS_SHARE: usize = 4;

/// An address and a user may have this many connections if there are as many, whatever half of them is.
const SHARE_MIN: usize = 100;

/// The door without any in the file, and the name that `websocket = true` stands for.
const LOCAL: &str = "local";
const WEBSOCKET_PATH: &str = "/mqtt";

/// The broker; `None` without its table, and when something of it is wrong.
pub(crate) fn broker<'a, 't>(
    cx: &Context<'a, 't>,
    file: &Reader<'a, 't>,
    store: Option<&Store>,
) -> Option<(Settings, Said)> {
    let reader = file.table("broker")?;
    let access = access::access(cx, &reader);
    let limits = limits(cx, &reader, store);
    let listeners = listeners(cx, &reader, access.as_ref());
    let retained = retained(cx, &reader);
    let limits_given = reader.table("limits");
    let places = LIMITS.keys.iter().filter_map(|key| {
        let given = limits_given.as_ref()?;
        given.has(key.name).then(|| (key.name, given.at(key.name)))
    });
    let said = places.collect();
    Some((Settings { listeners: listeners?, access: access?, limits: limits?, retained: retained? }, said))
}

/// Whole seconds of a key that may be left out; the outer `None` means that something was reported.
fn seconds(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, key: &str) -> Option<Option<u32>> {
    if reader.lacks(key) {
        return Some(None);
    }
    let time = reader.duration(key)?;
    if time.subsec_nanos() != 0 {
        let text = format!("`{key}` has a fraction of a second, expected whole seconds");
        cx.found.wrong(&reader.at(key), text);
        return None;
    }
    Some(Some(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)))
}

/// How long retained messages of some topics are kept; `None` means that something was reported.
fn retained(cx: &Context<'_, '_>, broker: &Reader<'_, '_>) -> Option<RetainedRules> {
    let tables = broker.quoted("retained");
    let written = broker.written("retained");
    if written > RETAINED_RULES_MAX {
        let text = format!(
            "{} tables below `retained`, expected at most {RETAINED_RULES_MAX}: each retained message is held against them",
            cx.found.amount(written, RETAINED_RULES_MAX)
        );
        cx.found.misfit(&broker.key_at("retained"), text);
    }
    let mut whole = true;
    let mut rules = Vec::new();
    for (text, span, reader) in tables {
        let expiry_s = seconds(cx, &reader, "expiry");
        let filter = TopicFilter::new(Arc::clone(&text));
        if let Err(error) = &filter {
            let text = format!("\"{}\" is not a topic filter: {error}", words::shown(&text));
            cx.found.wrong(&span, text);
        }
        match (filter, expiry_s) {
            (Ok(filter), Some(expiry_s)) => rules.push(RetainedRule { filter, expiry_s }),
            _ => whole = false,
        }
    }
    whole.then(|| RetainedRules::new(rules))
}

/// Keys of `[broker.limits]` that stand in the file, and where their values are.
pub(crate) type Said = Vec<(&'static str, Range<usize>)>;

fn limits<'a, 't>(cx: &Context<'a, 't>, broker: &Reader<'a, 't>, store: Option<&Store>) -> Option<Limits> {
    let reader = cx.table_or_empty(broker, "limits", &LIMITS);
    reader.look_through();
    let size = |key: &str| reader.size(key).and_then(|bytes| usize::try_from(bytes).ok());
    let keep_alive = seconds(cx, &reader, "keep_alive_max");
    let session_expiry = match reader.endless("session_expiry_max") {
        Some(Some(time)) if time.subsec_nanos() != 0 => {
            let text = "`session_expiry_max` has a fraction of a second, expected whole seconds";
            cx.found.wrong(&reader.at("session_expiry_max"), text);
            None
        }
        other => other,
    };
    let for_others = ["listener", "user", "client"].iter().any(|key| broker.has(key));
    if for_others && reader.lacks("session_expiry_max") {
        let text = "the session of a client that stays away ends after 7 days of running time, where earlier versions kept it for ever: write \
                    session_expiry_max = \"7d\" below [broker.limits], or \"never\"";
        cx.found.warn(&broker.here(), text);
    }
    let sessions_max: usize = reader.uint("sessions_max")?;
    let share = |key: &str| {
        if reader.lacks(key) { Some((sessions_max / SESSIONS_SHARE).max(1)) } else { reader.uint(key) }
    };
    let retained_expiry = seconds(cx, &reader, "retained_expiry");
    let when_full = match reader.choice("when_full") {
        Some("drop-oldest") => Some(WhenFull::DropOldest),
        Some(_) => Some(WhenFull::DropNewest),
        None => None,
    };
    let connections_max: usize = reader.uint("connections_max")?;
    let half = connections_max.div_ceil(2).max(SHARE_MIN.min(connections_max));
    let share_of_connections = |key: &str| if reader.lacks(key) { Some(half) } else { reader.uint(key) };
    Some(Limits {
        connections_max,
        connections_per_address_max: share_of_connections("connections_per_address_max")?,
        connections_per_user_max: share_of_connections("connections_per_user_max")?,
        logins_per_minute_max: reader.uint("logins_per_minute_max")?,
        bytes_per_second_max: reader.uint("bytes_per_second_max")?,
        messages_per_second_max: reader.uint("messages_per_second_max")?,
        sessions_max,
        sessions_per_user_max: share("sessions_per_user_max")?,
        sessions_per_address_max: share("sessions_per_address_max")?,
        subscriptions_max: reader.uint("subscriptions_max")?,
        inflight_max: reader.uint("inflight_max")?,
        queued_max: reader.uint("queued_max")?,
        queued_bytes_max: size("queued_bytes_max")?,
        queued_bytes_total_max: size("queued_bytes_total_max")?,
        packet_bytes_max: size("packet_max")?,
        retained_max: reader.uint("retained_max")?,
        retained_bytes_max: size("retained_bytes_max")?,
        retained_expiry_s: retained_expiry?,
        wills_bytes_max: size("wills_bytes_max")?,
        handshake_max: reader.duration("connect_timeout")?,
        stored_rows_max: reader.uint("stored_max")?,
        stored_bytes_max: reader.size("stored_bytes_max")?,
        stored_rows_total_max: reader.uint("stored_total_max")?,
        stored_bytes_total_max: reader.size("stored_bytes_total_max")?,
        subscriptions_per_session_max: reader.uint("subscriptions_per_session_max")?,
        receive_max: reader.uint("receive_max")?,
        keep_alive_max_s: keep_alive?.map_or(0, |s| u16::try_from(s).unwrap_or(u16::MAX)),
        session_expiry_max_s: session_expiry?
            .map_or(u32::MAX, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX)),
        when_full: when_full?,
        commit_interval: store?.commit_interval,
        retained_interval: reader.duration("retained_interval")?,
        ..traffic(&reader)?
    })
}

/// Totals of bytes on their way to and from clients.
fn traffic(reader: &Reader<'_, '_>) -> Option<Limits> {
    let size = |key| reader.size(key).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    Some(Limits {
        unsent_bytes_total_max: size("unsent_bytes_total_max")?,
        received_bytes_total_max: size("received_bytes_total_max")?,
        ..Limits::default()
    })
}

/// All doors, or the one for programs on this gateway.
fn listeners<'a, 't>(
    cx: &Context<'a, 't>,
    broker: &Reader<'a, 't>,
    access: Option<&Access>,
) -> Option<Vec<ListenerSettings>> {
    let mut tables = broker.named("listener");
    if broker.lacks("listener") {
        let local = ListenerSettings {
            name: Name::new(LOCAL).ok()?,
            address: SocketAddr::from(([127, 0, 0, 1], 1883)),
            websocket: None,
            origins: Vec::new(),
            hosts: Vec::new(),
            tls: None,
            anonymous: access.is_some_and(|a| a.users.is_empty()),
        };
        if !local.anonymous && !somebody(access, None) {
            cx.found.misfit(&broker.here(), nobody(&local.name));
        }
        return Some(vec![local]);
    }
    super::at_most(cx, broker, "listener", &mut tables, LISTENERS_MAX, "listeners");
    let mut whole = !tables.is_empty();
    let mut list: Vec<(ListenerSettings, Range<usize>)> = Vec::new();
    for (name, span, reader) in tables {
        let Some(listener) = listener(cx, &reader, name, access) else {
            whole = false;
            continue;
        };
        if let Some((_, first)) = list.iter().find(|(l, _)| clash(l.address, listener.address)) {
            let text = format!(
                "listener `{}` wants the same port as the one in line {}, expected another: 0.0.0.0 and [::] take every address of this \
                 gateway",
                listener.name,
                cx.found.line(first)
            );
            cx.found.misfit(&reader.at("address"), text);
        }
        list.push((listener, span));
    }
    whole.then(|| list.into_iter().map(|(listener, _)| listener).collect())
}

/// Whether the system would refuse the second of two addresses.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let takes_all = |a: SocketAddr, b: SocketAddr| {
        a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4()) // [::] takes IPv4 as well
    };
    one.port() == other.port()
        && one.port() != 0
        && (one.ip() == other.ip() || takes_all(one, other) || takes_all(other, one))
}

fn listener(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    name: Name,
    access: Option<&Access>,
) -> Option<ListenerSettings> {
    let address = address(cx, reader);
    let websocket = websocket(cx, reader);
    let tls = tls(cx, reader);
    let origins = web::origins(cx, reader);
    let hosts = web::hosts(cx, reader, tls.as_ref().is_some_and(Option::is_some));
    let plain = reader.bool("allow_plain");
    let local = address.is_some_and(|a| is_loopback(a.ip()));
    let users = access.is_none_or(|a| !a.users.is_empty());
    let anonymous = if reader.lacks("anonymous") { local && !users } else { reader.bool("anonymous")? };
    let (address, tls) = (address?, tls?);
    if !local && tls.is_none() && plain == Some(false) {
        let text = format!(
            "`address` = \"{address}\" can be reached from the network without TLS, so that others on it can read passwords and messages: add `cert` \
             and `key`, or allow_plain = true, or listen on 127.0.0.1 only"
        );
        cx.found.misfit(&reader.at("address"), text);
    }
    if !anonymous && !somebody(access, tls.as_ref()) {
        cx.found.misfit(&reader.here(), nobody(&name));
    }
    if anonymous && !local {
        let who = match &tls {
            Some(tls) if tls.client_required => "everybody with a certificate",
            _ => "everybody who reaches it",
        };
        let text = format!(
            "through listener `{name}` {who} comes in without a user name: rules of [broker] alone say what they may do"
        );
        cx.found.warn(&reader.at("anonymous"), text);
    }
    let websocket = websocket?;
    let (origins, hosts) = (origins?, hosts?);
    if websocket.is_none() {
        web::refuse_without(cx, reader);
    }
    Some(ListenerSettings { name, address, websocket, origins, hosts, tls, anonymous })
}

/// Whether anybody can log in.
fn somebody(access: Option<&Access>, tls: Option<&ListenerTls>) -> bool {
    let passwords = access.is_none_or(|a| a.users.values().any(|u| u.hash.is_some()));
    passwords || tls.is_some_and(|t| t.client_ca.is_some() && t.identity != CertificateIdentity::None)
}

fn nobody(name: &Name) -> String {
    format!(
        "nobody can come in through listener `{name}`, expected users, client certificates or everybody: add [broker.user.NAME] \
         (`gateway-daemon passwd`), `client_ca`, or anonymous = true"
    )
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn address(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<SocketAddr> {
    if !reader.has("address") {
        return None;
    }
    let text = reader.text("address")?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            cx.found.warn(
                &reader.at("address"),
                "`address` has port 0, so each start takes another free port: fit for tests only",
            );
        }
        return Some(address);
    }
    let shown = words::shown(&text);
    let host = text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let fix = match host {
        _ if text.contains("://") => ": remove what stands before and behind it".to_owned(),
        Some(("localhost", port)) => format!(": write address = \"127.0.0.1:{port}\""),
        Some(("" | "*", port)) => format!(": write address = \"0.0.0.0:{port}\" for every network"),
        Some((host, port)) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
            format!(": write address = \"[{host}]:{port}\"")
        }
        Some(_) => ": names are not looked up here, write the address of this gateway's network card, or 0.0.0.0 for all".to_owned(),
        None if text.parse::<u16>().is_ok() => format!(": write address = \"0.0.0.0:{shown}\" for every network"),
        None if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => format!(": write address = \"[{shown}]:1883\""),
        None if text.parse::<IpAddr>().is_ok() => format!(": write address = \"{shown}:1883\""),
        None => String::new(),
    };
    let text = format!(
        "`address` = \"{shown}\" is not an address with its port, expected such as \"127.0.0.1:1883\"{fix}"
    );
    cx.found.wrong(&reader.at("address"), text);
    None
}

/// The path of a WebSocket; the outer `None` means that something was reported.
fn websocket(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Option<String>> {
    let Some((value, span)) = reader.raw("websocket") else {
        return reader.lacks("websocket").then_some(None);
    };
    match value {
        DeValue::Boolean(flag) => Some(flag.then(|| WEBSOCKET_PATH.to_owned())),
        DeValue::String(_) => {
            let path = reader.text("websocket")?;
            let good = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '<' | '>' | '\\');
            if path.starts_with('/') && path.chars().all(good) {
                return Some(Some(path));
            }
            let text = format!(
                "`websocket` = \"{}\" is not a path, expected such as \"/mqtt\" without spaces, ? and #, or true",
                words::shown(&path)
            );
            cx.found.wrong(&span, text);
            None
        }
        _ => {
            reader.wrong_type("websocket");
            None
        }
    }
}

/// What only an authority of clients gives a meaning.
const OF_CLIENT_CA: [&str; 5] = ["client_certificates", "identity", "crl", "crl_credential", "revoked_file"];

/// Certificate, key and authorities of clients, those that are given; the inner `None` means that something was reported.
fn tls_files(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    given: [bool; 3],
) -> [Option<Option<PathBuf>>; 3] {
    let read = |given: bool, key: &str, want| given.then(|| certificates::pem(cx, reader, key, want));
    let cert = read(given[0], "cert", Pem::Own(Purpose::Server));
    let key = read(given[1], "key", Pem::Key);
    let client_ca = read(given[2], "client_ca", Pem::Authorities);
    if let (Some(Some(cert)), Some(Some(key))) = (&cert, &key) {
        certificates::pair(cx, cert, key, Purpose::Server);
    }
    [cert, key, client_ca].map(|file: Option<Option<PemFile>>| file.map(|file| file.map(|file| file.path)))
}

/// TLS; the outer `None` means that something was reported.
fn tls(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Option<ListenerTls>> {
    let written = |key: &str| {
        let twin = format!("{key}_credential");
        [key.to_owned(), twin].into_iter().find(|key| reader.has(key))
    };
    let lacks = |key: &str| reader.lacks(key) && reader.lacks(&format!("{key}_credential"));
    let (cert, key, ca) = (written("cert"), written("key"), written("client_ca"));
    // One that is misspelt is reported where it stands.
    let mut whole = [("cert", &cert), ("key", &key), ("client_ca", &ca)]
        .iter()
        .all(|(key, written)| written.is_some() || lacks(key));
    let mut refuse = |at: &str, text: String| {
        cx.found.misfit(&reader.key_at(at), text);
        whole = false;
    };
    match (&cert, &key, &ca) {
        (Some(cert), None, _) if lacks("key") => {
            refuse(cert, "`cert` stands alone, expected together with `key`: add `key`".to_owned())
        }
        (None, Some(key), _) if lacks("cert") => {
            refuse(key, "`key` stands alone, expected together with `cert`: add `cert`".to_owned())
        }
        (None, None, Some(ca)) if lacks("cert") && lacks("key") => {
            let text = format!("`{ca}` means nothing without TLS, expected with `cert` and `key`: add those");
            refuse(ca, text);
        }
        _ => {}
    }
    let no_ca = ca.is_none() && lacks("client_ca");
    for key in OF_CLIENT_CA.into_iter().filter(|key| no_ca && reader.has(key)) {
        let text = format!(
            "`{key}` means nothing without `client_ca`, expected beside it: add `client_ca` or remove `{key}`"
        );
        refuse(key, text);
    }
    let files = tls_files(cx, reader, [cert.is_some(), key.is_some(), ca.is_some()]);
    let authorities = files[2].as_ref().and_then(Option::as_deref);
    let (crl, revoked) = (revoked::crl(cx, reader, authorities), revoked::serials(cx, reader));
    let client_required = reader.choice("client_certificates")? == "required";
    let identity = match reader.choice("identity")? {
        "none" => CertificateIdentity::None,
        "alternative-name" => CertificateIdentity::AlternativeName,
        _ => CertificateIdentity::CommonName,
    };
    if !whole {
        return None;
    }
    let [Some(cert), Some(key), client_ca] = files else { return Some(None) };
    let client_ca = match client_ca {
        None => None,
        Some(path) => Some(path?),
    };
    let asked = client_ca.is_some();
    Some(Some(ListenerTls {
        cert: cert?,
        key: key?,
        crl: crl?,
        revoked: revoked?,
        client_required: asked && client_required,
        identity: if asked { identity } else { CertificateIdentity::None },
        client_ca,
    }))
}

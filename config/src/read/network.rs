//! `[network]`: names, cards and radio; addresses are in [`super::address`].

use std::ops::Range;

use gateway_core::network::settings::{
    Addressing, Card, Country, Ethernet, Host, NTP_MAX, Server, Settings, Ssid, Wifi, WifiPassword,
};
use gateway_core::tag::Name;

use super::{Context, address, files};
use crate::keys::network::{ETHERNET, NETWORK};
use crate::reader::Reader;
use crate::words;

/// The network, and where in the file its password stands, which is no part of the file's hash.
pub(crate) struct Network {
    pub(crate) settings: Option<Settings>,
    pub(crate) secret: Option<Range<usize>>,
}

pub(crate) fn network<'a, 't>(cx: &Context<'a, 't>, file: &Reader<'a, 't>, id: Option<&Name>) -> Network {
    let reader = cx.table_or_empty(file, "network", &NETWORK);
    let hostname = match reader.has("hostname") {
        true => hostname(cx, &reader),
        false => id.map(Host::of_gateway),
    };
    let ntp = ntp(cx, &reader);
    let ethernet = ethernet(cx, &cx.table_or_empty(&reader, "ethernet", &ETHERNET));
    let table = reader.table("wifi");
    let secret = table.as_ref().filter(|wifi| wifi.has("password")).map(|wifi| wifi.at("password"));
    let wifi = match &table {
        Some(table) => wifi(cx, table).map(Some),
        None => Some(None),
    };
    if let (Some(ethernet), Some(Some(wifi))) = (&ethernet, &wifi) {
        warn_same_subnet(cx, &reader, &ethernet.addressing, &wifi.addressing);
    }
    let settings = || {
        Some(Settings {
            hostname: hostname?,
            announced: reader.has("hostname"),
            ntp: ntp?,
            ethernet: ethernet?,
            wifi: wifi?,
        })
    };
    Network { settings: settings(), secret }
}

fn hostname(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Host> {
    let text = reader.text("hostname")?;
    let host = Host::new(&text);
    if host.is_none() {
        let fix: String = words::as_name(&text).replace(['_', '.'], "-").trim_matches('-').to_owned();
        let fix = if fix.is_empty() { "line2".to_owned() } else { fix };
        let text = format!(
            "`hostname` = \"{}\" is no name of a machine, expected letters a to z, digits and '-' between them: write hostname = \"{}\"",
            words::shown(&text),
            words::shown(&fix)
        );
        cx.found.wrong(&reader.at("hostname"), text);
    }
    host
}

fn ntp(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Vec<Server>> {
    if !reader.has("ntp") {
        return Some(Vec::new());
    }
    let texts = reader.texts("ntp")?;
    if reader.written("ntp") > NTP_MAX {
        let text = format!("`ntp` has {} servers, expected at most {NTP_MAX}", reader.written("ntp"));
        cx.found.wrong(&reader.at("ntp"), text);
        return None;
    }
    let mut list = Vec::new();
    let mut whole = true;
    for (text, span) in texts {
        match Server::new(&text) {
            Some(server) => list.push(server),
            None => {
                let text = format!(
                    "`ntp` holds \"{}\", expected the name or the address of a server, such as \"pool.ntp.org\"",
                    words::shown(&text)
                );
                cx.found.wrong(&span, text);
                whole = false;
            }
        }
    }
    whole.then_some(list)
}

fn ethernet(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Ethernet> {
    let card = match reader.has("interface") {
        false => Some(None),
        true => reader.text("interface").and_then(|text| {
            let card = Card::new(&text);
            if card.is_none() {
                let text = format!(
                    "`interface` = \"{}\" is no name of a network card, expected such as \"eth0\": `ip link` shows them",
                    words::shown(&text)
                );
                cx.found.wrong(&reader.at("interface"), text);
            }
            card.map(Some)
        }),
    };
    let addressing = address::addressing(cx, reader);
    Some(Ethernet { card: card?, addressing: addressing? })
}

fn wifi(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Wifi> {
    let ssid = reader.has("ssid").then(|| reader.text("ssid")).flatten().and_then(|text| Ssid::new(&text));
    let password = password(cx, reader);
    let country = country(cx, reader);
    let hidden = reader.bool("hidden");
    let addressing = address::addressing(cx, reader);
    Some(Wifi {
        ssid: ssid?,
        password: password?,
        country: country?,
        hidden: hidden?,
        addressing: addressing?,
    })
}

/// The password in the file, in a file of its own or in a credential. Nothing of it reaches a message.
fn password(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<WifiPassword> {
    let given = ["password", "password_file", "password_credential"];
    let written: Vec<_> = given.into_iter().filter(|key| reader.has(key)).collect();
    if let ["password", other, ..] = written[..] {
        let text = format!("`{other}` and `password` are both given, expected one of them: remove one");
        cx.found.wrong(&reader.key_at(other), text);
        return None;
    }
    let (key, secret) = match written.first() {
        None => {
            if given.into_iter().all(|key| reader.lacks(key)) {
                let text = "`password` is missing in [network.wifi]: write password = \"...\", or password_file = \"wifi-password.txt\"; networks \
                            without a password are not part of this version";
                cx.found.misfit(&reader.here(), text);
            }
            return None;
        }
        Some(&"password") => ("password", reader.secret("password")?),
        Some(key) => {
            let secret = files::password(cx, reader, "password_file", "password_credential")?;
            (*key, secret.reveal().to_owned())
        }
    };
    let password = WifiPassword::new(&secret);
    if password.is_none() {
        let what = match secret.chars().count() {
            0..=7 => "has fewer than 8 characters",
            64.. => "has more than 63 characters",
            _ => "holds a character that Wi-Fi passwords do not have, such as an umlaut",
        };
        let text = format!(
            "`{key}` {what}, expected 8 to 63 letters, digits, spaces and signs of an English keyboard: look at the label of the access point"
        );
        cx.found.wrong(&reader.at(key), text);
    }
    password
}

fn country(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Country> {
    if !reader.has("country") {
        return None;
    }
    let (value, span) = reader.raw("country")?;
    let Some(text) = value.as_str() else {
        reader.wrong_type("country");
        return None;
    };
    let country = Country::new(text);
    if country.is_none() {
        let text = format!(
            "`country` = \"{}\" is no country, expected its two letters, such as \"DE\", \"AT\", \"FR\", \"GB\", \"PL\" or \"US\"",
            words::shown(text)
        );
        cx.found.wrong(&span, text);
    }
    country
}

/// Two cards in one subnet answer for each other, and one of them is never used.
fn warn_same_subnet(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, one: &Addressing, other: &Addressing) {
    if let (
        Addressing::Fixed { address: wired, prefix, .. },
        Addressing::Fixed { address: radio, prefix: radio_prefix, .. },
    ) = (one, other)
    {
        if wired == radio {
            cx.found.misfit(
                &reader.here(),
                "`address` is the same in [network.ethernet] and [network.wifi], expected different ones",
            );
        } else if prefix == radio_prefix && address::in_subnet(*wired, *radio, *prefix) {
            cx.found.warn(
                &reader.here(),
                "[network.ethernet] and [network.wifi] have addresses in the same subnet: only the wired one will be used to reach it",
            );
        }
    }
}

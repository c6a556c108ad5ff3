//! The address of a network card: from the network, or written down and then a possible one.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use gateway_core::network::settings::{Addressing, DNS_MAX};

use super::Context;
use crate::reader::Reader;
use crate::words;

/// What `dhcp`, `address`, `gateway` and `dns` of a card say together.
pub(crate) fn addressing(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Addressing> {
    let dhcp = if reader.has("dhcp") { Some(reader.bool("dhcp")?) } else { None };
    let dns = dns(cx, reader);
    if dhcp == Some(true) && reader.has("address") {
        let text = "`address` and dhcp = true are both given, expected one of them: remove `dhcp` for a fixed address, or `address`";
        cx.found.wrong(&reader.key_at("address"), text);
        return None;
    }
    if !reader.has("address") {
        if dhcp == Some(false) {
            let text = "dhcp = false needs a fixed address: write address = \"192.168.1.20/24\" as well";
            cx.found.wrong(&reader.at("dhcp"), text);
            return None;
        }
        if reader.has("gateway") && reader.lacks("address") {
            let text = "`gateway` means nothing without `address`, because DHCP names the router: remove it, or add address = \"192.168.1.20/24\"";
            cx.found.misfit(&reader.key_at("gateway"), text);
            return None;
        }
        return Some(Addressing::Automatic { dns: dns? });
    }
    let fixed = address(cx, reader);
    let gateway = match reader.has("gateway") {
        true => gateway(cx, reader, fixed).map(Some),
        false => Some(None),
    };
    let (address, prefix) = fixed?;
    Some(Addressing::Fixed { address, prefix, gateway: gateway?, dns: dns? })
}

/// The address and the length of its subnet.
fn address(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<(IpAddr, u8)> {
    let text = reader.text("address")?;
    let refuse = |what: String| -> Option<(IpAddr, u8)> {
        cx.found.wrong(&reader.at("address"), format!("`address` = \"{}\" {what}", words::shown(&text)));
        None
    };
    let Some((host, length)) = text.split_once('/') else {
        let fix = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => format!(": write address = \"{ip}/24\" when the mask is 255.255.255.0"),
            Ok(IpAddr::V6(ip)) => format!(": write address = \"{ip}/64\""),
            Err(_) => String::new(),
        };
        return refuse(format!("has no length of its subnet, expected such as \"192.168.1.20/24\"{fix}"));
    };
    let Ok(ip) = host.parse::<IpAddr>() else {
        return refuse("is not an address, expected such as \"192.168.1.20/24\"".to_owned());
    };
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match length.parse::<u8>() {
        Ok(prefix) if (1..=longest).contains(&prefix) => prefix,
        _ => {
            let fix = match length.parse::<Ipv4Addr>().ok().and_then(prefix_of_mask) {
                Some(prefix) => format!(": write address = \"{ip}/{prefix}\""),
                None => String::new(),
            };
            return refuse(format!("has a wrong length of its subnet, expected 1 to {longest}{fix}"));
        }
    };
    match edge(ip, ip, prefix) {
        Some(what) => refuse(format!(
            "is {what}, expected the address of one machine: ask who plans the network for a free one"
        )),
        None => Some((ip, prefix)),
    }
}

/// The router, which the card must reach directly.
fn gateway(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, fixed: Option<(IpAddr, u8)>) -> Option<IpAddr> {
    let ip = ip(cx, "gateway", &reader.text("gateway")?, &reader.at("gateway"))?;
    let (address, prefix) = fixed?;
    let what = if ip == address {
        Some("is the gateway's own `address`, expected that of the router".to_owned())
    } else if ip.is_ipv4() != address.is_ipv4() || !in_subnet(address, ip, prefix) {
        Some(format!(
            "lies outside of the subnet of `address` = \"{address}/{prefix}\", expected the router in it: correct one of them"
        ))
    } else {
        edge(ip, address, prefix).map(|edge| format!("is {edge}, expected the address of the router"))
    };
    if let Some(what) = what {
        cx.found.misfit(&reader.at("gateway"), format!("`gateway` = \"{ip}\" {what}"));
        return None;
    }
    Some(ip)
}

fn dns(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Vec<IpAddr>> {
    if !reader.has("dns") {
        return Some(Vec::new());
    }
    let texts = reader.texts("dns")?;
    if reader.written("dns") > DNS_MAX {
        let text = format!("`dns` has {} servers, expected at most {DNS_MAX}", reader.written("dns"));
        cx.found.wrong(&reader.at("dns"), text);
        return None;
    }
    let count = texts.len();
    let list: Vec<_> = texts.iter().filter_map(|(text, span)| ip(cx, "dns", text, span)).collect();
    (list.len() == count).then_some(list)
}

/// An address of one machine.
fn ip(cx: &Context<'_, '_>, key: &str, text: &str, span: &Range<usize>) -> Option<IpAddr> {
    let what = match text.parse::<IpAddr>() {
        Ok(ip) => match nobody(ip) {
            None => return Some(ip),
            Some(what) => format!("is {what}, expected the address of one machine"),
        },
        Err(_) if text.contains('/') => {
            "has the length of a subnet, expected an address alone, such as \"192.168.1.1\"".to_owned()
        }
        Err(_) => "is not an address, expected such as \"192.168.1.1\"".to_owned(),
    };
    cx.found.wrong(span, format!("`{key}`: \"{}\" {what}", words::shown(text)));
    None
}

/// Why no machine has this address in any network.
fn nobody(ip: IpAddr) -> Option<&'static str> {
    match ip {
        ip if ip.is_unspecified() => Some("the address of nobody"),
        ip if ip.is_loopback() => Some("the address with which every machine calls itself"),
        ip if ip.is_multicast() => Some("the address of a group"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("the address of everybody"),
        _ => None,
    }
}

/// Why no machine has this address in the subnet of another.
fn edge(ip: IpAddr, of: IpAddr, prefix: u8) -> Option<&'static str> {
    let (IpAddr::V4(ip4), IpAddr::V4(_)) = (ip, of) else { return nobody(ip) };
    // The two addresses of a /31 are both machines (RFC 3021).
    if prefix >= 31 {
        return nobody(ip);
    }
    let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    match ip4.to_bits() & host {
        0 => Some("the address of the subnet itself"),
        bits if bits == host => Some("the broadcast address of the subnet"),
        _ => nobody(ip),
    }
}

/// Whether two addresses are in one subnet of this length.
pub(crate) fn in_subnet(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (one.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(prefix)
        }
        _ => false,
    }
}

/// 255.255.255.0 is 24.
fn prefix_of_mask(mask: Ipv4Addr) -> Option<u32> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    (bits.checked_shl(ones).unwrap_or(0) == 0).then_some(ones)
}

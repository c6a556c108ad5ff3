//! `[gateway]`, `[store]` and `[message]`.

use std::ops::Range;
use std::time::Duration;

use gateway_core::payload::settings::{Settings as MessageSettings, Shape};
use gateway_core::settings::{Durability, GatewaySettings, StoreSettings, TrustClock};

use super::{Context, topic};
use crate::keys::top;
use crate::reader::Reader;

/// Longest path of a unix socket (`sun_path` of unix(7), without its NUL).
const SOCKET_PATH_BYTES_MAX: usize = 107;

pub(crate) fn gateway(cx: &Context<'_, '_>, file: &Reader<'_, '_>) -> Option<GatewaySettings> {
    let reader = file.table("gateway")?;
    let id = reader.name("id");
    let socket = socket(&reader);
    let trust_clock = trust_clock(cx, &reader);
    let health = reader.bool("health");
    Some(GatewaySettings {
        id: id?,
        socket: cx.base.join(socket?),
        trust_clock: trust_clock?,
        health: health?,
    })
}

fn trust_clock(cx: &Context<'_, '_>, gateway: &Reader<'_, '_>) -> Option<TrustClock> {
    Some(match gateway.choice("trust_clock")? {
        "rtc" => TrustClock::Rtc,
        "system" => {
            let text = "`trust_clock` = \"system\" stamps readings by a clock that nobody has checked: a machine without a clock chip goes on after a power \
                        cut from the hour at which it stopped; take it only where somebody sets the clock, and where \"ntp\" and \"rtc\" cannot be had";
            cx.found.warn(&gateway.at("trust_clock"), text);
            TrustClock::System
        }
        _ => TrustClock::Ntp,
    })
}

/// The control socket as the file writes it.
pub(crate) fn socket(gateway: &Reader<'_, '_>) -> Option<String> {
    let path = gateway.text("socket")?;
    if path.len() <= SOCKET_PATH_BYTES_MAX {
        return Some(path);
    }
    let text = format!(
        "`socket` has {} bytes, expected at most {SOCKET_PATH_BYTES_MAX}: choose a shorter path",
        path.len()
    );
    gateway.found().wrong(&gateway.at("socket"), text);
    None
}

/// `memory_max`, if the file says it, and where.
pub(crate) fn memory_max(file: &Reader<'_, '_>) -> Option<(u64, Range<usize>)> {
    let reader = file.table("gateway").filter(|reader| reader.has("memory_max"))?;
    Some((reader.size("memory_max")?, reader.at("memory_max")))
}

/// `[store]`, with what of it belongs to every uplink.
pub(crate) struct Store {
    pub(crate) settings: StoreSettings,
    /// Where `file_max` stands.
    pub(crate) file_max_at: Range<usize>,
    pub(crate) commit_interval: Duration,
    pub(crate) durability: Durability,
}

pub(crate) fn store<'a, 't>(cx: &Context<'a, 't>, file: &Reader<'a, 't>) -> Option<Store> {
    let reader = cx.table_or_empty(file, "store", &top::STORE);
    let path = reader.text("path");
    let file_bytes_max = reader.size("file_max");
    let commit_interval = reader.duration("commit_interval");
    let durability = match reader.choice("durability") {
        Some("strict") => Some(Durability::Strict),
        Some(_) => Some(Durability::Interval),
        None => None,
    };
    Some(Store {
        file_max_at: reader.at("file_max"),
        settings: StoreSettings { path: cx.base.join(path?), file_bytes_max: file_bytes_max? },
        commit_interval: commit_interval?,
        durability: durability?,
    })
}

pub(crate) fn message<'a, 't>(cx: &Context<'a, 't>, file: &Reader<'a, 't>) -> Option<MessageSettings> {
    let reader = cx.table_or_empty(file, "message", &top::MESSAGE);
    let shape = match reader.choice("shape") {
        Some("tag") => Some(Shape::Tag),
        Some(_) => Some(Shape::Group),
        None => None,
    };
    let units = reader.bool("units");
    let topic = if reader.lacks("topic") && shape == Some(Shape::Tag) {
        Some("{gateway}/{device}/{group}/{tag}".to_owned())
    } else {
        reader.text("topic").filter(|t| topic::template_is_good(t, shape, &reader))
    };
    Some(MessageSettings { shape: shape?, topic: topic?, units: units? })
}

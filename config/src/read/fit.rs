//! Whether all limits of the file hold together in its memory and its database: see [`gateway_core::fit`].

use std::ops::Range;

use gateway_core::broker::access::phc;
use gateway_core::broker::settings::{Limits, Settings};
use gateway_core::fit::{self, Plan, Stored, Sum, UplinkShare};
use gateway_core::uplink::settings::BYTES_MAX;

use super::Context;
use super::top::Store;
use super::uplink::Uplink;
use crate::reader::Reader;

/// Where limits stand in the file, by their key.
type Places = Vec<(String, Range<usize>)>;

/// Adds up the limits, lowers those that the file does not set, and reports what cannot fit. Gives the sum's parts as the file has them.
pub(crate) fn fit<'a, 't>(
    cx: &Context<'a, 't>,
    file: &Reader<'a, 't>,
    store: &Store,
    memory_max: Option<(u64, Range<usize>)>,
    uplinks: &mut [Uplink],
    (broker, said): (Option<&mut Settings>, &[(&'static str, Range<usize>)]),
) -> Plan {
    let plan = Plan {
        memory_bytes_max: memory_max
            .as_ref()
            .map_or_else(|| fit::memory_bytes_max(uplinks.len()), |max| max.0),
        memory_said: memory_max.is_some(),
        file_bytes_max: store.settings.file_bytes_max,
        broker: broker.as_ref().map(|broker| broker.limits),
        said: said.iter().map(|(key, _)| *key).collect(),
        tls_listeners: count(broker.as_deref(), |listener| listener.tls.is_some()),
        handshaking_listeners: count(broker.as_deref(), |l| l.tls.is_some() || l.websocket.is_some()),
        hash_bytes: broker.as_deref().map_or(0, hash_bytes),
        uplinks: uplinks.iter().map(share).collect(),
        buses: file.tables_below("bus") as u64,
    };
    let mut fitted = plan.clone();
    fitted.lower(false, &Stored::default());
    let mut places: Places = said.iter().map(|(key, at)| (format!("`{key}`"), at.clone())).collect();
    for uplink in uplinks.iter() {
        let name = &uplink.settings.name;
        places.extend(uplink.bytes_at.clone().map(|at| (format!("`bytes_max` of uplink `{name}`"), at)));
    }
    let memory_at = memory_max.map_or_else(|| file.here(), |max| max.1);
    for (sum, at) in [(fitted.memory(), memory_at), (fitted.disk(), store.file_max_at.clone())] {
        if !sum.fits() {
            cx.found.unfit(&place(&sum, &places).unwrap_or(at), sum.to_string());
        }
    }
    if let Some(broker) = broker
        && let Some(limits) = fitted.broker
    {
        broker.limits = limits;
        warn_session(cx, &limits, &places);
    }
    for (uplink, fitted) in uplinks.iter_mut().zip(&fitted.uplinks) {
        uplink.settings.limits.bytes_max = fitted.bytes_max;
        if uplink.bytes_at.is_none() && fitted.bytes_max < BYTES_MAX {
            let text = format!(
                "the queue of uplink `{}` may have {} and not {} as by default, because all uplinks and local sessions share `file_max` in [store]: \
                 raise that, or write `bytes_max` into its queue",
                uplink.settings.name,
                shown(fitted.bytes_max),
                shown(BYTES_MAX),
            );
            cx.found.warn(&uplink.span, text);
        }
    }
    plan
}

/// Bytes as a person says them.
fn shown(bytes: u64) -> String {
    if bytes < 1_000_000 { format!("{} kB", bytes / 1000) } else { format!("{} MB", bytes / 1_000_000) }
}

fn share(uplink: &Uplink) -> UplinkShare {
    UplinkShare {
        name: uplink.settings.name.to_string(),
        bytes_max: uplink.settings.limits.bytes_max,
        said: uplink.bytes_at.is_some(),
        packet_bytes_max: uplink.link.packet_bytes_max.into(),
    }
}

fn count(
    broker: Option<&Settings>,
    which: impl Fn(&gateway_core::settings::ListenerSettings) -> bool,
) -> u64 {
    broker.map_or(0, |broker| broker.listeners.iter().filter(|listener| which(listener)).count() as u64)
}

/// Memory that the comparison of the costliest password takes.
fn hash_bytes(broker: &Settings) -> u64 {
    let hashes = broker.access.users.values().filter_map(|user| user.hash.as_deref());
    let costs = hashes.filter_map(|hash| phc::parse(hash).ok()).map(|hash| u64::from(hash.m) << 10);
    costs.fold(if broker.access.users.is_empty() { 0 } else { fit::HASH_BYTES_MIN }, u64::max)
}

/// Where the largest limit of a sum stands in the file.
fn place(sum: &Sum, places: &Places) -> Option<Range<usize>> {
    let mut parts: Vec<_> = sum.parts.iter().collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    parts.iter().find_map(|part| {
        places.iter().find(|(key, _)| part.what.starts_with(key.as_str())).map(|(_, at)| at.clone())
    })
}

/// A session's own limit that can never be reached, because all sessions together have less: files of versions in which the defaults were larger.
fn warn_session(cx: &Context<'_, '_>, limits: &Limits, places: &Places) {
    for (key, one, total_key, total) in [
        (
            "`queued_bytes_max`",
            limits.queued_bytes_max as u64,
            "queued_bytes_total_max",
            limits.queued_bytes_total_max as u64,
        ),
        (
            "`stored_bytes_max`",
            limits.stored_bytes_max,
            "stored_bytes_total_max",
            limits.stored_bytes_total_max,
        ),
    ] {
        if let Some((_, at)) = places.iter().find(|(place, _)| place == key)
            && one > total
        {
            let text = format!(
                "{key} is more than all sessions may have together, which is {}: set `{total_key}`, or lower {key}",
                format_args!("{} MB", total.div_ceil(1_000_000))
            );
            cx.found.warn(at, text);
        }
    }
}

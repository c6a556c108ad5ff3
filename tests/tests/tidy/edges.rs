//! Who may import whom.

use crate::source::Source;
use crate::{check, finds};

const CORE: &str = "gateway-daemon/core/src/";
const DAEMON: &str = "gateway-daemon/src/";

/// Edges between rooms of the core beside those that every room has: `tag`, and the plain `settings` of any room.
const CORE_EDGES: [(&str, &str); 19] = [
    // The vocabulary of a line's conversation is part of the settings of devices.
    ("poll", "process::settings"),
    ("process", "poll::request"),
    // A draft is a row without its number.
    ("payload", "uplink::row"),
    ("broker", "payload"),
    ("broker", "uplink::pace"),
    ("broker", "uplink::row"),
    // Its doors are listeners, whose settings the hand of that name has too.
    ("broker", "settings"),
    // The way down gives back the numbers of the link.
    ("broker", "uplink::link"),
    ("uplink", "payload"),
    ("uplink", "settings"),
    // The password of a radio network is a secret as any other.
    ("network", "settings"),
    // Which clock is believed is said in the configuration.
    ("wall", "settings"),
    // What the update tool says is shown to a person.
    ("update", "text"),
    // The way in for the fuzzers.
    ("fuzzing", "payload"),
    ("fuzzing", "broker"),
    ("fuzzing", "uplink"),
    ("fuzzing", "update"),
    ("fuzzing", "poll"),
    ("fuzzing", "process"),
];

/// Crates that only one room of the daemon may speak to, and which.
const FOREIGN: [(&str, &[&str]); 9] = [
    ("argon2", &["login"]),
    ("ring", &["provision"]),
    ("rusqlite", &["store"]),
    ("rumqttc", &["link"]),
    ("gateway_certificates", &["app", "link", "listen"]),
    ("gateway_config", &["app", "main.rs"]),
    ("drivers", &["app"]),
    ("sd_notify", &["status", "app"]),
    ("systemd_journal_logger", &["status", "app"]),
];

/// Rooms of the daemon that wire the others together.
const FRAME: [&str; 4] = ["app", "cli", "lib.rs", "main.rs"];

/// Rooms of the daemon that every hand may import, because they know nothing of any: what becomes of a panic, and how a file is replaced.
const SHARED: [&str; 2] = ["panics", "replace"];

/// The room that a path below `base` belongs to.
fn room<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    let below = path.strip_prefix(base)?;
    match below.split_once('/') {
        Some((room, _)) => Some(room),
        None if matches!(below, "lib.rs" | "main.rs") => Some(below),
        None => below.strip_suffix(".rs"),
    }
}

/// Every path that begins with `start` in the code, with its place, up to two segments after it; groups in braces are opened.
fn paths(code: &str, start: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            None => found.push((at, segments(rest))),
            Some(group) => {
                let mut depth = 0usize;
                let mut item = 0;
                for (place, byte) in group.bytes().enumerate() {
                    match byte {
                        b'{' => depth += 1,
                        b',' | b'}' if depth == 0 => {
                            let text = group[item..place].trim();
                            if !text.is_empty() {
                                found.push((at, segments(text)));
                            }
                            item = place + 1;
                            if byte == b'}' {
                                break;
                            }
                        }
                        b'}' => depth -= 1,
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

/// The first two segments of a path.
fn segments(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    text[..end].trim_end_matches(':').split("::").take(2).collect::<Vec<_>>().join("::")
}

fn core_edges(source: &Source) -> Vec<String> {
    let Some(from) = room(&source.path, CORE).filter(|room| *room != "lib.rs") else { return Vec::new() };
    let mut complaints = Vec::new();
    for (at, to) in paths(&source.product, "crate::") {
        let (first, second) = to.split_once("::").unwrap_or((&to, ""));
        let free = first == from || (first == "tag" && from != "tag");
        let settings = second == "settings" && from != "tag";
        let listed = CORE_EDGES.iter().any(|(a, b)| *a == from && (*b == first || *b == to));
        if !(free || settings || listed) {
            complaints.push(source.at(&source.product, at, &format!("core room {from} may not import {to}")));
        }
    }
    complaints
}

fn hand_edges(source: &Source) -> Vec<String> {
    let Some(from) = room(&source.path, DAEMON) else { return Vec::new() };
    let mut complaints = Vec::new();
    if !FRAME.contains(&from) {
        for (at, to) in paths(&source.product, "crate::") {
            let first = to.split("::").next().unwrap_or_default();
            if first != from && !first.is_empty() && !SHARED.contains(&first) {
                complaints.push(source.at(
                    &source.product,
                    at,
                    &format!("hand {from} may not import {first}"),
                ));
            }
        }
    }
    for (name, homes) in FOREIGN {
        for (at, _) in paths(&source.product, &format!("{name}::")) {
            if !homes.contains(&from) {
                let what = format!("{from} may not import {name}; {} does", homes.join(" or "));
                complaints.push(source.at(&source.product, at, &what));
            }
        }
    }
    complaints
}

#[test]
fn rooms_of_the_core_import_only_what_they_may() {
    check(core_edges);
}

#[test]
fn a_forbidden_edge_of_the_core_is_found() {
    let poll = "gateway-daemon/core/src/poll/plan.rs";
    finds(core_edges, poll, "use crate::broker::Broker;", 1);
    finds(core_edges, poll, "fn f() { crate::uplink::row::Seq(1); }", 1);
    finds(core_edges, poll, "use crate::{broker, tag, uplink::{row, x}};", 2);
    finds(core_edges, poll, "use crate::tag::Name;\nuse crate::poll::request::Query;", 0);
    finds(core_edges, poll, "use crate::uplink::settings::Drain;", 0);
    finds(core_edges, poll, "#[cfg(test)]\nmod tests { use crate::broker::Broker; }", 0);
    finds(core_edges, "gateway-daemon/core/src/payload/mod.rs", "use crate::uplink::row::Row;", 0);
    finds(core_edges, "gateway-daemon/core/src/payload/mod.rs", "use crate::uplink::queue::Queue;", 1);
    finds(core_edges, "gateway-daemon/core/src/tag.rs", "use crate::poll::settings::Tag;", 1);
    finds(core_edges, "gateway-daemon/core/src/process/mod.rs", "use crate::payload::Draft;", 1);
}

#[test]
fn hands_import_no_other_hands() {
    check(hand_edges);
}

#[test]
fn a_forbidden_edge_of_a_hand_is_found() {
    let store = "gateway-daemon/src/store/writer.rs";
    finds(hand_edges, store, "use crate::link::Link;", 1);
    finds(hand_edges, store, "use crate::{link::Link, store::Store};", 1);
    finds(hand_edges, store, "use crate::store::schema;\nuse rusqlite::Connection;", 0);
    finds(hand_edges, store, "use rumqttc::Client;", 1);
    finds(hand_edges, "gateway-daemon/src/link/mod.rs", "use rusqlite::Connection;", 1);
    finds(hand_edges, "gateway-daemon/src/link/mod.rs", "use gateway_config::load;", 1);
    finds(hand_edges, "gateway-daemon/src/link/mod.rs", "use drivers::clock;", 1);
    finds(hand_edges, "gateway-daemon/src/link.rs", "use drivers::clock;", 1);
    finds(hand_edges, "gateway-daemon/src/app/run.rs", "use crate::{link, store}; use drivers::clock;", 0);
}

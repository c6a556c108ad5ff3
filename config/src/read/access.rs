//! Users and rules of the broker.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use gateway_core::broker::access::phc::{self, PhcError};
use gateway_core::broker::access::{Access, Client, RULES_MAX, Rule, RuleError, User};

use super::{Context, topic};
use crate::reader::Reader;
use crate::words;

/// Most users, and most client ids with rules: far more than machines around one gateway.
const NAMES_MAX: usize = 2000;

const DEEDS: [&str; 3] = ["publish", "subscribe", "any"];

/// Users and rules; `None` when one of them is wrong.
pub(crate) fn access(cx: &Context<'_, '_>, broker: &Reader<'_, '_>) -> Option<Access> {
    let everybody = rules(cx, broker);
    let mut whole = true;
    let mut users = BTreeMap::new();
    let tables = broker.quoted("user");
    within(cx, broker, "user");
    for (name, _, reader) in tables.into_iter().take(NAMES_MAX) {
        let user = user(cx, &reader, &name);
        whole &= user.is_some();
        users.extend(user.map(|user| (name, user)));
    }
    let mut clients = BTreeMap::new();
    let mut owners = Vec::new();
    let tables = broker.quoted("client");
    within(cx, broker, "client");
    for (id, _, reader) in tables.into_iter().take(NAMES_MAX) {
        let client = client(cx, &reader, &id, &mut owners);
        whole &= client.is_some();
        clients.extend(client.map(|client| (id, client)));
    }
    for (owner, span) in owners.iter().filter(|(owner, _)| whole && !users.contains_key(owner)) {
        let near = words::nearest_name(owner, users.keys().map(AsRef::as_ref));
        let fix = near.map_or_else(String::new, |near| format!(", did you mean \"{}\"?", words::shown(near)));
        let text = format!(
            "there is no [broker.user.\"{}\"] in this file, so only its certificate can come in{fix}",
            words::shown(owner)
        );
        cx.found.warn(span, text);
    }
    if !whole {
        return None;
    }
    Some(Access { users, clients, everybody: everybody? })
}

fn within(cx: &Context<'_, '_>, broker: &Reader<'_, '_>, key: &str) {
    let count = broker.written(key);
    if count > NAMES_MAX {
        let count = cx.found.amount(count, NAMES_MAX);
        let text = format!("{count} tables below `{key}`, expected at most {NAMES_MAX}");
        cx.found.misfit(&broker.key_at(key), text);
    }
}

fn user(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, name: &str) -> Option<User> {
    let rules = rules(cx, reader);
    // Whoever writes the password itself has been told so, and means a user that can log in.
    let none = reader.lacks("password_hash") && !reader.has("password") && !reader.has("password_file");
    let hash = if none { None } else { Some(hash(cx, reader, name)?) };
    Some(User { hash, rules: rules? })
}

/// What config/gateway.example.toml had as a hash of a password that stood beside it.
const PUBLISHED: &str =
    "$argon2id$v=19$m=7168,t=5,p=1$Woh1EV0peoOTL4ifvrHmzA$sls78NcPC6cQB+YB8voUmeody4SPN9ri1sa/58u1Ihs";

/// What is wrong with a hash is said without repeating it: it may be the password itself.
fn hash(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, name: &str) -> Option<Arc<str>> {
    let text = reader.text("password_hash")?;
    let error = match phc::parse(&text) {
        Ok(_) => {
            if text == PUBLISHED {
                let warning = format!(
                    "this is the hash of the example of version 0.1, whose password everybody can read: make another one with `gateway-daemon passwd {}`",
                    words::shown(name)
                );
                cx.found.warn(&reader.at("password_hash"), warning);
            }
            return Some(text.into());
        }
        Err(error) => error,
    };
    let fix = match error {
        PhcError::Cost { .. } => format!(
            ", expected m up to {} (64 MiB), m times t up to {} and p up to {}: make it",
            phc::MEMORY_KIB_MAX,
            phc::WORK_KIB_MAX,
            phc::LANES_MAX
        ),
        _ => ", expected $argon2id$v=19$m=...,t=...,p=...$SALT$HASH: make it".to_owned(),
    };
    let text = format!(
        "`password_hash` is not a hash that can be used: {error}{fix} with `gateway-daemon passwd {}`",
        words::shown(name)
    );
    cx.found.wrong(&reader.at("password_hash"), text);
    None
}

fn client(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    id: &str,
    owners: &mut Vec<(Arc<str>, Range<usize>)>,
) -> Option<Client> {
    let rules = rules(cx, reader);
    let users = if reader.lacks("users") { None } else { Some(reader.texts("users")?) };
    match &users {
        Some(users) if users.is_empty() => {
            let text = "`users` is an empty list, so nobody can use this client id: name its users, or remove `users` for everybody";
            cx.found.warn(&reader.at("users"), text);
        }
        None if reader.has("allow") => {
            let text = format!(
                "everybody who is let in may call itself \"{}\" and has these rules then: say with `users` to whom the client id belongs",
                words::shown(id)
            );
            cx.found.warn(&reader.key_at("allow"), text);
        }
        _ => {}
    }
    let users =
        users.map(|users| users.into_iter().map(|(name, span)| (Arc::from(name), span)).collect::<Vec<_>>());
    owners.extend(users.iter().flatten().cloned());
    Some(Client {
        users: users.map(|users| users.into_iter().map(|(name, _)| name).collect()),
        rules: rules?,
    })
}

/// `deny`, then `allow`.
fn rules(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<Vec<Rule>> {
    let mut list = Vec::new();
    let mut whole = true;
    for (key, allow) in [("deny", false), ("allow", true)] {
        if reader.lacks(key) {
            continue;
        }
        let Some(texts) = reader.texts(key) else {
            whole = false;
            continue;
        };
        if reader.written(key) > RULES_MAX {
            let text = format!(
                "`{key}` has {} rules, expected at most {RULES_MAX}: each message is held against them",
                reader.written(key)
            );
            cx.found.wrong(&reader.at(key), text);
            whole = false;
        }
        for (text, span) in texts.into_iter().take(RULES_MAX) {
            match Rule::parse(allow, &text) {
                Ok(rule) => list.push(rule),
                Err(error) => {
                    cx.found.wrong(&span, sentence(key, &text, &error));
                    whole = false;
                }
            }
        }
    }
    whole.then_some(list)
}

fn sentence(key: &str, text: &str, error: &RuleError) -> String {
    let shown = words::shown(text);
    match error {
        RuleError::Alone => {
            format!(
                "`{key}` holds \"{shown}\" without a topic filter, expected such as \"{shown} sensor/%c/#\""
            )
        }
        RuleError::Deed(word) => {
            let filter = text.trim().strip_prefix(word.as_str()).unwrap_or("").trim();
            let deed = match word.to_lowercase().as_str() {
                "read" | "sub" | "receive" => Some("subscribe"),
                "write" | "pub" | "send" => Some("publish"),
                "readwrite" | "all" | "both" | "pubsub" => Some("any"),
                word => words::nearest(word, DEEDS.into_iter()),
            };
            let fix = match (deed, filter) {
                (Some(deed), filter) if !filter.is_empty() => format!("{deed} {filter}"),
                (None, "") => format!("any {text}"),
                _ => "publish sensor/%c/#".to_owned(),
            };
            format!(
                "`{key}` holds \"{shown}\", expected \"publish FILTER\", \"subscribe FILTER\" or \"any FILTER\": write \"{}\"",
                words::shown(&fix)
            )
        }
        RuleError::Placeholder(what) => format!(
            "`{key}` holds \"{shown}\" with the unknown placeholder {}, expected %c (client id), %u (user) or %% (a %)",
            words::shown(what)
        ),
        RuleError::Filter(error) => {
            let filter = text.trim().split_once(char::is_whitespace).map_or("", |(_, filter)| filter.trim());
            topic::filter_problem(filter).unwrap_or_else(|| format!("`{key}` holds \"{shown}\": {error}"))
        }
    }
}

//! Keys that are not known, and keys that are missing: what was probably meant.

use toml::de::DeTable;

use crate::keys::{Key, Section, board, broker, field, network, top, update, uplink};
use crate::problem::Findings;
use crate::reader::Entry;
use crate::words::{example, list, nearest, plain, shown};

/// Keys of a section that are listed in a message; more of them hide the answer.
const KEYS_SHOWN_MAX: usize = 8;

/// What an unknown key was probably meant to be, so that it is not reported as missing too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meant {
    Key(&'static str),
    /// The table itself is under a wrong name: nothing can be said about what it lacks.
    Anything,
    Nothing,
}

/// How the table is called in a message: its header as the file has it, or what it is.
pub(crate) fn title(section: &'static Section, header: &str) -> String {
    match section.title {
        _ if header.starts_with('[') => shown(header.lines().next().unwrap_or("").trim()),
        "tags.NAME" => "a tag".to_owned(),
        title if title.starts_with('[') || title.contains(' ') => title.to_owned(),
        title => format!("`{title}`"),
    }
}

/// A key that the section does not have.
pub(crate) fn unknown_key(
    section: &'static Section,
    header: &str,
    entry: &Entry<'_, '_>,
    table: &DeTable<'_>,
    found: &Findings<'_>,
) -> Meant {
    let name = entry.name;
    let title = title(section, header);
    let span = &entry.name_span;
    if let Some((_, sentence)) = section.refused.iter().find(|(word, _)| *word == name) {
        found.wrong(span, format!("`{name}` in {title}: {sentence}"));
        return Meant::Nothing;
    }
    let has_name = section.title.contains("NAME]") && !section.title.starts_with("[[");
    if has_name && entry.value.get_ref().as_table().is_some() {
        found.wrong(span, dotted_name(name, found.text(&entry.value.span())));
        return Meant::Anything;
    }
    let key = shown(name);
    let alias = section.aliases.iter().find(|(word, _)| plain(word) == plain(name)).map(|(_, key)| *key);
    let near = nearest(name, section.keys.iter().map(|k| k.name));
    let elsewhere = ALL.iter().filter(|s| s.title != section.title).find(|s| s.key(name).is_some());
    let (text, meant) = match (near, alias, elsewhere) {
        (_, Some(alias), _) => (
            format!("unknown key `{key}` in {title}, expected `{alias}`: write `{alias}` instead"),
            Meant::Key(alias),
        ),
        (Some(near), None, _) if !table.contains_key(near) || elsewhere.is_none() => {
            (format!("unknown key `{key}` in {title}, did you mean `{near}`?"), Meant::Key(near))
        }
        (_, None, Some(other)) => {
            let place = other.title.replace("tags.NAME", "a tag, tags.NAME = { ... }");
            (
                format!("`{key}` does not belong in {title}, expected in {place}: move it there"),
                Meant::Nothing,
            )
        }
        _ if section.keys.len() <= KEYS_SHOWN_MAX => {
            let keys = list(section.keys.iter().map(|k| format!("`{}`", k.name)), "or");
            (format!("unknown key `{key}` in {title}, expected {keys}: correct or remove it"), Meant::Nothing)
        }
        _ => (
            format!(
                "unknown key `{key}` in {title}, docs/config.md lists what it knows: correct or remove it"
            ),
            Meant::Nothing,
        ),
    };
    found.wrong(span, text);
    meant
}

/// `[device.meter.1]`, which is a table in a table.
fn dotted_name(name: &str, header: &str) -> String {
    let inner = header.trim_start_matches('[').split(']').next().unwrap_or("");
    // The name begins after the first dot, after the second one below [broker].
    let start = if inner.starts_with("broker.") { "broker.".len() } else { 0 };
    let split = inner[start..].split_once('.').map(|(kind, rest)| (&inner[..start + kind.len()], rest));
    let fix = match split {
        Some((kind, rest)) if !rest.contains(['"', '\'']) => shown(&format!("[{kind}.\"{rest}\"]")),
        _ => "[device.\"meter.1\"]".to_owned(),
    };
    format!(
        "`{}` is no table that is known here: if the dot belongs to the name, write {fix} in quotes",
        shown(name)
    )
}

/// A required key that is not there.
pub(crate) fn missing(section: &'static Section, header: &str, key: &Key) -> String {
    format!("`{}` is missing in {}: write {}", key.name, title(section, header), example(key))
}

const ALL: &[&Section] = &[
    &top::FILE,
    &top::GATEWAY,
    &top::STORE,
    &top::MESSAGE,
    &uplink::UPLINK,
    &uplink::RULE,
    &uplink::QUEUE,
    &broker::BROKER,
    &broker::LISTENER,
    &broker::USER,
    &broker::CLIENT,
    &broker::LIMITS,
    &field::BUS,
    &field::RS485,
    &field::DEVICE,
    &field::POLL,
    &field::TAG,
    &board::BOARD,
    &network::NETWORK,
    &network::ETHERNET,
    &network::WIFI,
    &update::UPDATE,
];

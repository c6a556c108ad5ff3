//! Names and filters that need quotes and have none: client ids, users, topic filters. TOML takes letters, digits, '_' and '-' without quotes, and what stands
//! behind a '#' for a comment.

use crate::keys::{Kind, broker::BROKER};
use crate::source::Source;
use crate::words::shown;

/// How far back the header of a line is looked for.
const LINES_BACK_MAX: usize = 1000;

/// Keys whose values are lists of topic filters, or of rules with one each.
const LISTS: [&str; 4] = ["forward", "accept", "allow", "deny"];

/// Whether a key takes a list of texts.
pub(super) fn takes_list(key: &str) -> bool {
    LISTS.contains(&key)
}

/// Whether a key takes topic filters.
pub(super) fn takes_filters(key: &str) -> bool {
    key == "filter" || takes_list(key)
}

/// How a key that takes filters is written for all topics.
pub(super) fn everything(key: &str) -> String {
    match key {
        "filter" => "filter = \"#\"".to_owned(),
        "forward" | "accept" => format!("{key} = [\"#\"]"),
        _ => format!("{key} = [\"any #\"]"),
    }
}

/// Where a value ends: before a comment or the end of its table. A '#' behind a '/' is the end of a filter.
pub(super) fn value_end(value: &str) -> usize {
    let ends = |(at, c): &(usize, char)| match c {
        '}' => true,
        '#' => !value[..*at].ends_with('/'),
        _ => false,
    };
    value.char_indices().find(ends).map_or(value.len(), |(at, _)| at)
}

/// A list of one line with each of its texts in quotes; `None` when it is none, or holds more than texts.
pub(super) fn list(value: &str) -> Option<String> {
    let inner = value.trim().strip_prefix('[')?.trim_end().strip_suffix(']')?;
    let texts: Vec<&str> = inner.split(',').map(|text| text.trim().trim_matches(['"', '\''])).collect();
    let plain = !inner.contains(['[', '{', '=']) && texts.iter().all(|text| !text.is_empty());
    plain.then(|| {
        let texts: Vec<String> = texts.into_iter().map(|text| format!("\"{}\"", shown(text))).collect();
        format!("[{}]", texts.join(", "))
    })
}

/// The same for a list whose end stands in a comment, because a filter in it ends in '#': `[#]`, `[sensor/#, lamp]`. `text` begins with its bracket.
pub(super) fn hidden_list(text: &str) -> Option<String> {
    let (_, behind) = text.split_once('#')?;
    if !behind.trim_start().starts_with([']', ',', '"', '\'']) {
        return None;
    }
    list(&text[..=text.rfind(']')?])
}

/// What is wrong with a line in which a user, a client id or a topic filter is a name without quotes.
pub(super) fn name(source: &Source<'_>, start: usize, line: &str) -> Option<String> {
    let line = line.trim();
    let (what, name, fix) = match line.strip_prefix('[') {
        Some(header) if !header.starts_with('[') => in_header(header)?,
        Some(_) => return None,
        None => in_key(source, start, line)?,
    };
    Some(format!(
        "the {what} {} has no quotes, expected them where a name holds more than letters, digits, '_' and '-': write {}",
        shown(name),
        shown(&fix)
    ))
}

/// `[broker.client.a b]`.
fn in_header(header: &str) -> Option<(&'static str, &str, String)> {
    let (table, rest) = header.split_once('.')?;
    let (kind, rest) = rest.split_once('.')?;
    let what = (table.trim() == "broker").then(|| what_is(kind)).flatten()?;
    let name = needs_quotes(rest.split(']').next()?)?;
    Some((what, name, format!("[broker.{}.\"{name}\"]", kind.trim())))
}

/// `a b = { ... }` below `[broker.client]`, or `client.a b = { ... }` below `[broker]`.
fn in_key<'l>(source: &Source<'_>, start: usize, line: &'l str) -> Option<(&'static str, &'l str, String)> {
    let (names, _) = line.split_once('=')?;
    // Looked at first: the way back to the header is long.
    needs_quotes(names)?;
    let header = header_of(source, start)?;
    let (what, before, names) = match header.strip_prefix("broker") {
        Some("") => {
            let (kind, rest) = names.split_once('.')?;
            (what_is(kind)?, format!("{}.", kind.trim()), rest)
        }
        Some(kind) => (what_is(kind.strip_prefix('.')?)?, String::new(), names),
        None => return None,
    };
    // `"sensor/#".expiry`: the last part may be a key of the table.
    let (name, key) = match names.trim().rsplit_once('.') {
        Some((name, key)) if is_key(key.trim()) => (name, format!(".{}", key.trim())),
        _ => (names, String::new()),
    };
    let name = needs_quotes(name)?;
    Some((what, name, format!("{before}\"{name}\"{key} = ...")))
}

/// A name that cannot stand without quotes and does.
fn needs_quotes(name: &str) -> Option<&str> {
    let name = name.trim();
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!name.is_empty() && !name.contains(['"', '\'']) && !name.chars().all(bare)).then_some(name)
}

/// What the names below a table of `[broker]` are, if they may have any characters.
fn what_is(kind: &str) -> Option<&'static str> {
    let kind = kind.trim();
    let quoted = |key: &&crate::keys::Key| matches!(key.kind, Kind::Quoted(..));
    BROKER.keys.iter().filter(quoted).find(|key| key.name == kind)?;
    Some(match kind {
        "user" => "user name",
        "client" => "client id",
        _ => "topic filter",
    })
}

fn is_key(name: &str) -> bool {
    BROKER.keys.iter().any(|key| match &key.kind {
        Kind::Quoted(section, _) => section.key(name).is_some(),
        _ => false,
    })
}

/// The table in which a line stands, without spaces.
fn header_of(source: &Source<'_>, start: usize) -> Option<String> {
    let mut end = start;
    for _ in 0..LINES_BACK_MAX {
        let (start, line) = source.line_at(end.checked_sub(1)?);
        if let Some(header) = line.trim_start().strip_prefix('[') {
            return Some(header.split(']').next()?.chars().filter(|c| !c.is_whitespace()).collect());
        }
        end = start;
    }
    None
}

//! The sentences of the problems that any key can have. What, expected, what to do; read aloud before changed.

use std::fmt::Write as _;

use gateway_core::tag::{NAME_LEN_MAX, NameError};
use gateway_core::text::marked;
use toml::de::DeValue;

use crate::amount::{self, AmountError};
use crate::keys::{Key, Kind, Need, Section, Word};
use crate::none::{fits, instead_of_none, is_amount, means_none, with_likely_units};
use crate::reader::Entry;

/// Longest piece of the user's text that is repeated in a message.
const SHOWN_CHARS_MAX: usize = 60;

/// Choices that are listed although the right one is known.
const CHOICES_SHOWN_MAX: usize = 6;

/// A piece of the user's text, cut and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let out: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let mut out = marked(&out, &[]).into_owned();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out.push_str("...");
    }
    out
}

/// "a, b and c".
pub(crate) fn list(items: impl Iterator<Item = String>, and: &str) -> String {
    let items: Vec<_> = items.collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {and} {last}", first.join(", ")),
    }
}

/// The word that a mistyped one was probably meant to be. A guess that is wrong costs more than none, so only slips of the fingers count.
pub fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_lowercase();
    known
        .map(|k| (strsim::damerau_levenshtein(&word, &k.to_lowercase()), k))
        .filter(|(distance, k)| is_slip(&word, &k.to_lowercase(), *distance))
        .min_by_key(|(distance, k)| (!begins(&word, k), *distance))
        .map(|(_, k)| k)
}

/// The name in this file that a mistyped one was probably meant to be: names are few and made by whoever writes the file, so one letter may always be wrong.
pub fn nearest_name<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_lowercase();
    known
        .map(|k| (strsim::damerau_levenshtein(&word, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= (k.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// Whether one word is the beginning of the other.
fn begins(one: &str, other: &str) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Whether a word is a known one with a slip of the fingers. In three letters another letter makes another word (`map` is no `max`): only letters that are
/// left out, added at the end or exchanged with their neighbours are slips there. In longer ones a third of the letters may be wrong, the first of them only
/// when it is the only one.
fn is_slip(word: &str, known: &str, distance: usize) -> bool {
    const SHORT: usize = 3;
    let (shorter, longer) = (word.len().min(known.len()), word.len().max(known.len()));
    if distance <= longer / 3 && begins(word, known) {
        return true;
    }
    if shorter <= SHORT {
        let letters = |word: &str| {
            let mut letters: Vec<char> = word.chars().collect();
            letters.sort_unstable();
            letters
        };
        return distance <= 1 && (word.len() != known.len() || letters(word) == letters(known));
    }
    distance <= 1 || (distance <= longer / 3 && word.chars().next() == known.chars().next())
}

/// Letters only, as aliases are compared: `Baud-Rate` and `baud_rate` are one word.
pub(crate) fn plain(word: &str) -> String {
    word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// How a key is written, for somebody who has not written it.
pub(crate) fn example(key: &Key) -> String {
    let value = match (key.name, &key.kind) {
        ("gateway", _) => return "[gateway] and below it id = \"plant7-line2\"".to_owned(),
        ("tags", _) => return "tags.voltage = { holding = 0, type = \"u16\" }".to_owned(),
        ("id", _) => "\"plant7-line2\"",
        ("filter", _) => "\"field/#\"",
        ("url", _) => "\"mqtts://broker.example.com\"",
        ("bus", _) => "\"rs485\" for a device on [bus.rs485]",
        ("unit", _) => "1",
        ("address", _) if matches!(key.kind, Kind::Text { .. }) => "\"127.0.0.1:1883\"",
        ("baud", _) => "19200",
        ("driver", _) => "\"modbus-rtu\", or \"modbus-tcp\", \"modbus-rtu-over-tcp\", \"sim\"",
        ("thin_bucket", _) => "\"1m\"",
        (_, Kind::Duration { .. } | Kind::Endless { .. }) => "\"1s\"",
        (_, Kind::Int { .. }) => "8",
        _ => "\"...\"",
    };
    format!("{} = {value}", key.name)
}

/// What a key wants, after "expected".
pub(crate) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false without quotes".to_owned(),
        Kind::Int { min, max, unit } => with_unit(format!("a whole number from {min} to {max}"), unit),
        Kind::Float { min, max } if max.abs() >= 1e15 => {
            let _ = min;
            "a number with a point, such as 0.1".to_owned()
        }
        Kind::Float { min, max } => format!("a number from {min} to {max}"),
        Kind::Duration { min, max } => format!(
            "a duration in quotes from \"{}\" to \"{}\"",
            amount::duration_text(*min),
            amount::duration_text(*max)
        ),
        Kind::Endless { min, max } => format!(
            "a duration in quotes from \"{}\" to \"{}\", or \"never\"",
            amount::duration_text(*min),
            amount::duration_text(*max)
        ),
        Kind::Size { min, max } => {
            format!(
                "a size in quotes from \"{}\" to \"{}\"",
                amount::size_text(*min),
                amount::size_text(*max)
            )
        }
        Kind::Text { .. } | Kind::Name => "text in quotes".to_owned(),
        Kind::Flagged { .. } => "true, false or a path in quotes".to_owned(),
        Kind::Choice(words, _) => list(words.iter().map(|w| format!("\"{}\"", w.word)), "or"),
        Kind::File | Kind::Path => "a path in quotes".to_owned(),
        Kind::Texts => "a list of texts, [\"...\", \"...\"]".to_owned(),
        Kind::Ints { min, max } => format!("a list of whole numbers from {min} to {max}, [{min}, {max}]"),
        Kind::Rules(_) => "a list of topic filters, [\"...\", \"...\"]".to_owned(),
        Kind::Deadband => "a number, or a percentage in quotes such as \"1%\"".to_owned(),
        Kind::Port => "a device path or a port number".to_owned(),
        Kind::Table(section) | Kind::Named(section) | Kind::Quoted(section, _) | Kind::List(section) => {
            match section.keys.first() {
                Some(first) => format!("a table, {{ {} = ... }}", first.name),
                None => "a table".to_owned(),
            }
        }
    }
}

fn with_unit(mut text: String, unit: &str) -> String {
    if !unit.is_empty() {
        let _ = write!(text, " {unit}");
    }
    text
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text in quotes",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list in [ ]",
        DeValue::Table(_) => "a table in { }",
    }
}

/// A value of another type than the key's.
pub(crate) fn wrong_type(key: &Key, value: &DeValue<'_>, source: &str) -> String {
    let name = key.name;
    let mut text = format!("`{name}` is {}, expected {}", kind_of(value), expected(&key.kind));
    let secret = name.contains("password");
    let none = is_amount(&key.kind) && means_none(value.as_str().unwrap_or(source));
    if let Some(advice) = none.then(|| instead_of_none(key)).flatten() {
        text.push_str(&advice);
    // A number in quotes is still no address and no country.
    } else if let Some(fix) =
        corrected(&key.kind, value, source).filter(|_| !secret && !matches!(name, "address" | "country"))
    {
        let _ = write!(text, ": write {name} = {}", shown(&fix));
    }
    text
}

/// Something else in a list of texts, or of numbers.
pub(crate) fn no_text(key: &Key, value: &DeValue<'_>) -> String {
    let what = if matches!(key.kind, Kind::Ints { .. }) { "whole numbers" } else { "texts in quotes" };
    format!("`{}` holds {}, expected only {what}", key.name, kind_of(value))
}

/// The same value as it should be written, when that can be told.
fn corrected(kind: &Kind, value: &DeValue<'_>, source: &str) -> Option<String> {
    let text = value.as_str().map(str::trim);
    match (kind, value) {
        (Kind::Bool, DeValue::String(_) | DeValue::Integer(_)) => {
            match text.unwrap_or(source).to_lowercase().as_str() {
                "true" | "yes" | "on" | "1" | "ja" => Some("true".to_owned()),
                "false" | "no" | "off" | "0" | "nein" => Some("false".to_owned()),
                _ => None,
            }
        }
        (Kind::Int { .. }, DeValue::String(_)) => {
            text.filter(|t| t.parse::<i64>().is_ok()).map(ToOwned::to_owned)
        }
        (Kind::Int { .. }, DeValue::Float(float)) => float.as_str().strip_suffix(".0").map(ToOwned::to_owned),
        (Kind::Float { .. } | Kind::Deadband, DeValue::String(_)) => {
            text.map(|t| t.replace(',', ".")).filter(|t| t.parse::<f64>().is_ok())
        }
        (Kind::Duration { .. } | Kind::Endless { .. } | Kind::Size { .. }, DeValue::Integer(int)) => {
            with_likely_units(kind, int.as_str())
        }
        (Kind::Duration { .. } | Kind::Endless { .. }, DeValue::Float(float)) => {
            Some(format!("{}s", float.as_str()))
                .filter(|text| fits(kind, text))
                .map(|text| format!("\"{text}\""))
        }
        (Kind::Text { .. } | Kind::Name, DeValue::Integer(_) | DeValue::Float(_)) => {
            Some(format!("\"{source}\""))
        }
        (Kind::Texts | Kind::Rules(_), DeValue::String(_)) | (Kind::Ints { .. }, DeValue::Integer(_)) => {
            Some(format!("[{source}]"))
        }
        _ => None,
    }
}

/// A number, duration or size beyond its key's limits.
pub(crate) fn out_of_range(key: &Key, source: &str) -> String {
    let source = shown(source);
    let range = match &key.kind {
        Kind::Int { .. } if key.name == "qos" => {
            "0 or 1 (2 adds nothing: messages carry numbers by which duplicates are dropped)".to_owned()
        }
        Kind::Int { min, max, unit } => with_unit(format!("{min} to {max}"), unit),
        Kind::Ints { min, max } => format!("only numbers from {min} to {max}"),
        Kind::Duration { min, max } => {
            format!("\"{}\" to \"{}\"", amount::duration_text(*min), amount::duration_text(*max))
        }
        Kind::Size { min, max } => {
            format!("\"{}\" to \"{}\"", amount::size_text(*min), amount::size_text(*max))
        }
        Kind::Float { .. } if source.contains("nan") || source.contains("inf") => {
            "a finite number".to_owned()
        }
        Kind::Float { min, max } if max.abs() >= 1e15 => format!("{min:e} to {max:e}"),
        Kind::Float { min, max } => format!("{min} to {max}"),
        kind => expected(kind),
    };
    let none = is_amount(&key.kind) && means_none(&source);
    let advice = none.then(|| instead_of_none(key)).flatten().unwrap_or_default();
    format!("`{}` = {source} is out of range, expected {range}{advice}", key.name)
}

/// A duration or size that cannot be read.
pub(crate) fn no_amount(key: &Key, text: &str, error: AmountError) -> String {
    let (name, text) = (key.name, shown(text.trim()));
    let is_time = matches!(key.kind, Kind::Duration { .. } | Kind::Endless { .. });
    let (what, units) =
        if is_time { ("a duration", "ms, s, m, h or d") } else { ("a size", "kB, MB, GB or TB") };
    let example = if is_time { "\"1s\"" } else { "\"256MB\"" };
    let none = means_none(&text).then(|| instead_of_none(key)).flatten();
    match error {
        AmountError::NoUnit => {
            let fix = || with_likely_units(&key.kind, &text).map(|fix| format!(": write {name} = {fix}"));
            let advice = none.or_else(fix).unwrap_or_default();
            format!("`{name}` = \"{text}\" has no unit, expected {units} after the number{advice}")
        }
        AmountError::NoNumber if none.is_some() => {
            let advice = none.unwrap_or_default();
            format!("`{name}` = \"{text}\" is not known, expected {}{advice}", expected(&key.kind))
        }
        AmountError::UnknownUnit => {
            let number = text.trim_end_matches(|c: char| !c.is_ascii_digit()).to_owned();
            let fix = known_unit(text[number.len()..].trim(), is_time);
            let fix = fix.map_or_else(String::new, |unit| format!(": write {name} = \"{number}{unit}\""));
            format!("`{name}` = \"{text}\" has an unknown unit, expected {units}{fix}")
        }
        AmountError::Comma => format!(
            "`{name}` = \"{text}\" has a comma, expected a decimal point: write {name} = \"{}\"",
            text.replace(',', ".")
        ),
        AmountError::NoNumber => {
            format!("`{name}` = \"{text}\" is not {what}, expected a number and a unit such as {example}")
        }
        AmountError::TooLarge => {
            format!("`{name}` = \"{text}\" is out of range, expected {}", expected(&key.kind))
        }
    }
}

/// Units as people also write them.
fn known_unit(word: &str, is_time: bool) -> Option<&'static str> {
    let word = word.to_lowercase();
    let known: &[(&str, &[&str])] = if is_time {
        &[
            ("ms", &["msec", "millis", "millisecond", "milliseconds"]),
            ("s", &["sec", "secs", "second", "seconds", "sek", "sekunde", "sekunden"]),
            ("m", &["mins", "minute", "minutes", "minuten"]),
            ("h", &["hr", "hrs", "hour", "hours", "std", "stunde", "stunden"]),
            ("d", &["day", "days", "tag", "tage"]),
        ]
    } else {
        &[
            ("kB", &["k", "kb"]),
            ("MB", &["m", "mb", "mbyte", "megabyte"]),
            ("GB", &["g", "gb", "gbyte", "gigabyte"]),
            ("TB", &["t", "tb"]),
            ("MiB", &["mib"]),
            ("GiB", &["gib"]),
        ]
    };
    known.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(unit, _)| *unit)
}

/// Why a text cannot be taken, if so.
pub(crate) fn bad_text(key: &Key, text: &str, max: usize) -> Option<String> {
    let name = key.name;
    if text.trim().is_empty() {
        let fix = if key.need == Need::Required { "" } else { ": fill it or remove the line" };
        return Some(format!("`{name}` is empty, expected {}{fix}", expected(&key.kind)));
    }
    if text.len() > max {
        return Some(format!("`{name}` has {} bytes, expected at most {max}", text.len()));
    }
    let c = text.chars().find(|c| c.is_control())?;
    let hint = match c {
        '\t' => "a tab",
        '\n' | '\r' => "a line break",
        _ => "an invisible character",
    };
    let code = u32::from(c);
    let paths = if matches!(key.kind, Kind::File | Kind::Path | Kind::Port) {
        "; a backslash in quotes begins such a character: write / instead"
    } else {
        ": remove it"
    };
    Some(format!("`{name}` holds {hint} (U+{code:04X}), expected plain text{paths}"))
}

/// A word that is not among the choices.
pub(crate) fn unknown_word(key: &Key, text: &str) -> String {
    let Kind::Choice(words, aliases) = key.kind else { return String::new() };
    let same = words.iter().find(|w| plain(w.word) == plain(text)).map(|w| w.word);
    let alias = aliases.iter().find(|(word, _)| plain(word) == plain(text)).map(|(_, word)| *word);
    let near = same.or(alias).or_else(|| nearest(text, words.iter().map(|w| w.word)));
    let (name, text) = (key.name, shown(text));
    let near = near.and_then(|near| words.iter().find(|w| w.word == near));
    match near {
        // A long list hides the answer.
        Some(Word { word, doc }) if words.len() > CHOICES_SHOWN_MAX => {
            format!(
                "`{name}` = \"{text}\" is not known, expected \"{word}\" ({doc}): write {name} = \"{word}\""
            )
        }
        Some(Word { word, .. }) => {
            format!(
                "`{name}` = \"{text}\" is not known, expected {}: write {name} = \"{word}\"",
                expected(&key.kind)
            )
        }
        None => format!("`{name}` = \"{text}\" is not known, expected {}", expected(&key.kind)),
    }
}

/// A name with characters that names do not have.
pub(crate) fn bad_name(text: &str, error: &NameError) -> String {
    let name = shown(text);
    match error {
        NameError::Empty => "a name is empty, expected letters, digits, '_', '-' or '.'".to_owned(),
        NameError::TooLong(len) => {
            format!("the name \"{name}\" has {len} bytes, expected at most {NAME_LEN_MAX}: shorten it")
        }
        NameError::Character(c) => {
            let what = if *c == ' ' { "a space".to_owned() } else { format!("'{}'", c.escape_debug()) };
            format!(
                "the name \"{name}\" holds {what}, expected only letters a to z, digits, '_', '-' and '.': write \"{}\"",
                shown(&as_name(text))
            )
        }
    }
}

/// A name that looks like a text.
pub(crate) fn as_name(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim().chars() {
        match c {
            'ä' => out.push_str("ae"),
            'ö' => out.push_str("oe"),
            'ü' => out.push_str("ue"),
            'Ä' => out.push_str("Ae"),
            'Ö' => out.push_str("Oe"),
            'Ü' => out.push_str("Ue"),
            'ß' => out.push_str("ss"),
            'é' | 'è' | 'ê' => out.push('e'),
            'à' | 'á' | 'â' => out.push('a'),
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') => out.push(c),
            _ => out.push('_'),
        }
    }
    out
}

/// `[[bus]]`, or `bus = "x"`, where `[bus.NAME]` is expected.
pub(crate) fn not_named(key: &Key, section: &Section, value: &DeValue<'_>) -> String {
    let found = if value.is_array() {
        format!("[[{}]] is a list", key.name)
    } else {
        format!("`{}` is {}", key.name, kind_of(value))
    };
    format!("{found}, expected a table with a name: write {}", section_example(key, section))
}

/// Something that is not a table among named tables.
pub(crate) fn not_a_table(key: &Key, section: &Section, entry: &Entry<'_, '_>) -> String {
    let name = shown(entry.name);
    if key.name == "tags" {
        return format!(
            "`tags.{name}` is {}, expected where it is and how it is read: write tags.{name} = {{ holding = 0, type = \"u16\" }}",
            kind_of(entry.value.get_ref())
        );
    }
    if entry.value.get_ref().is_array() {
        return format!("[[{}.{name}]] is a list, expected a table: write [{}.{name}]", key.name, key.name);
    }
    if section.key(entry.name).is_some() {
        return format!(
            "[{}] needs a name before `{name}` can stand in it, expected {}",
            key.name,
            section_example(key, section)
        );
    }
    format!(
        "`{name}` in [{}] is {}, expected {}",
        key.name,
        kind_of(entry.value.get_ref()),
        section_example(key, section)
    )
}

fn section_example(key: &Key, section: &Section) -> String {
    match key.name {
        "uplink" => "[uplink.cloud]".to_owned(),
        "bus" => "[bus.rs485]".to_owned(),
        "device" => "[device.meter1]".to_owned(),
        "listener" => "[broker.listener.local]".to_owned(),
        "user" => "[broker.user.plc]".to_owned(),
        "client" => "[broker.client.plc]".to_owned(),
        "tags" => "tags.voltage = { holding = 0, type = \"u16\" }".to_owned(),
        _ => section.title.to_owned(),
    }
}

/// `[device.NAME.poll]` where `[[device.NAME.poll]]` is expected.
pub(crate) fn not_a_list(key: &Key, section: &Section, value: &DeValue<'_>) -> String {
    if value.is_table() {
        return format!(
            "`{}` stands in single brackets, expected double ones because a device may have several: write {}",
            key.name, section.title
        );
    }
    format!("`{}` is {}, expected tables: write {}", key.name, kind_of(value), section.title)
}

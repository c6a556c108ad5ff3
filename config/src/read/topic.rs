//! Topics: templates, filters, and which messages go where.

use std::collections::BTreeMap;
use std::ops::Range;

use gateway_core::payload::settings::{Settings as MessageSettings, Shape};
use gateway_core::poll::settings::Settings as FieldSettings;
use gateway_core::tag::Name;

use super::Context;
use crate::reader::Reader;
use crate::words;

/// Longest topic and filter ("MQTT Version 3.1.1", 1.5.3).
const TOPIC_BYTES_MAX: usize = 65_535;

/// Placeholders of `topic` in [message].
const MESSAGE_WORDS: &[&str] = &["gateway", "bus", "device", "group", "tag"];
/// Placeholders of `status_topic` and `ledger_topic`.
pub(crate) const UPLINK_WORDS: &[&str] = &["gateway", "uplink"];

/// Splits a template into (is a placeholder, text); reports braces that do not match.
fn parts(template: &str) -> Result<Vec<(bool, &str)>, &'static str> {
    let mut list = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        if before.contains('}') {
            return Err("a '}' without its '{'");
        }
        let close = after.find('}').ok_or("a '{' without its '}'")?;
        list.push((false, before));
        list.push((true, &after[1..close]));
        rest = &after[close + 1..];
    }
    if rest.contains('}') {
        return Err("a '}' without its '{'");
    }
    list.push((false, rest));
    Ok(list)
}

/// The template with its placeholders filled in; unknown ones stay.
pub(crate) fn render(template: &str, values: &[(&str, &str)]) -> String {
    let Ok(parts) = parts(template) else { return template.to_owned() };
    let mut out = String::new();
    for (is_word, text) in parts {
        match values.iter().find(|(word, _)| is_word && *word == text) {
            Some((_, value)) => out.push_str(value),
            None => out.push_str(text),
        }
    }
    out
}

/// Checks `key`'s template: braces, placeholders and what a topic may not hold.
pub(crate) fn template_problem(key: &str, template: &str, known: &[&str]) -> Option<String> {
    let shown = words::shown(template);
    let parts = match parts(template) {
        Ok(parts) => parts,
        Err(what) => {
            return Some(format!("`{key}` = \"{shown}\" has {what}, expected pairs such as {{gateway}}"));
        }
    };
    let words = || words::list(known.iter().map(|w| format!("{{{w}}}")), "or");
    for (is_word, text) in parts {
        if is_word && !known.contains(&text) {
            let near = words::nearest(text, known.iter().copied());
            let fix = near.map_or_else(String::new, |near| format!(": did you mean {{{near}}}?"));
            return Some(format!(
                "`{key}` has the unknown placeholder {{{}}}, expected {}{fix}",
                words::shown(text),
                words()
            ));
        }
        if !is_word && text.contains(['+', '#']) {
            return Some(format!(
                "`{key}` = \"{shown}\" holds a wildcard, expected one plain topic without + and #: remove it"
            ));
        }
    }
    if template.starts_with('$') {
        return Some(format!(
            "`{key}` = \"{shown}\" begins with $, which brokers keep for themselves: remove it"
        ));
    }
    None
}

/// Checks and reports `topic` of [message].
pub(crate) fn template_is_good(template: &str, shape: Option<Shape>, reader: &Reader<'_, '_>) -> bool {
    let problem = template_problem("topic", template, MESSAGE_WORDS).or_else(|| {
        let has_tag = template.contains("{tag}");
        match shape {
            Some(Shape::Group) if has_tag => Some(
                "`topic` has {tag}, expected only with shape = \"tag\": a message of a group holds many tags, remove {tag} or set the shape"
                    .to_owned(),
            ),
            Some(Shape::Tag) if !has_tag => {
                Some("`topic` lacks {tag}, expected with shape = \"tag\" where every tag has a topic of its own: add /{tag}".to_owned())
            }
            _ => None,
        }
    });
    if let Some(text) = &problem {
        reader.found().wrong(&reader.at("topic"), text.as_str());
    }
    problem.is_none()
}

/// Why a text is no topic filter ("MQTT Version 3.1.1", 4.7), if so.
pub(crate) fn filter_problem(filter: &str) -> Option<String> {
    let shown = words::shown(filter);
    if filter.len() > TOPIC_BYTES_MAX {
        return Some(format!(
            "a topic filter has {} bytes, expected at most {TOPIC_BYTES_MAX}",
            filter.len()
        ));
    }
    if filter.starts_with("$share/") {
        return Some(format!(
            "the topic filter \"{shown}\" is a shared one, expected a plain one: remove $share/NAME/"
        ));
    }
    let levels: Vec<_> = filter.split('/').collect();
    for (at, level) in levels.iter().enumerate() {
        if level.contains('#') && (*level != "#" || at + 1 != levels.len()) {
            return Some(format!(
                "the topic filter \"{shown}\" has # in the wrong place, expected it alone in the last level, as in \"plant7/#\""
            ));
        }
        if level.contains('+') && *level != "+" {
            return Some(format!(
                "the topic filter \"{shown}\" has + beside other characters, expected it alone in its level, as in \"plant7/+/1\""
            ));
        }
    }
    None
}

/// Whether a topic filter takes a topic; topics that begin with $ are not taken by a wildcard in the first level.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let mut topic_levels = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match topic_levels.next() {
            Some(other) if level == "+" || level == other => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

/// Where buses, groups and tags stand in the file, by their index in the settings.
#[derive(Debug, Default)]
pub(crate) struct FieldPlaces {
    pub(crate) buses: Vec<Range<usize>>,
    /// The groups' scan intervals.
    pub(crate) every: Vec<Range<usize>>,
    pub(crate) groups: Vec<Range<usize>>,
    pub(crate) tags: Vec<Range<usize>>,
}

/// All topics of readings, with their places in the file; reports groups or tags that would share one.
pub(crate) fn topics(
    cx: &Context<'_, '_>,
    gateway: &str,
    message: &MessageSettings,
    field: &FieldSettings,
    places: &FieldPlaces,
) -> Vec<(String, Range<usize>)> {
    let mut seen: BTreeMap<String, (Range<usize>, (usize, String))> = BTreeMap::new();
    let mut add = |values: &[(&str, &str)], place: &Range<usize>, what: &str, owner: (usize, &Name)| {
        let topic = render(&message.topic, values);
        if topic.len() > TOPIC_BYTES_MAX {
            cx.found.misfit(
                place,
                format!("the topic has {} bytes, expected at most {TOPIC_BYTES_MAX}", topic.len()),
            );
        }
        match seen.get(&topic) {
            // Two of one name in one device are reported as that.
            Some((_, (device, name))) if *device == owner.0 && name == owner.1.as_str() => {}
            Some((first, _)) => {
                let text = format!(
                    "this goes to the topic \"{}\" like line {}, expected a topic of its own: add {{{what}}} to `topic` in [message]",
                    words::shown(&topic),
                    cx.found.line(first)
                );
                cx.found.misfit(place, text);
            }
            None => {
                seen.insert(topic, (place.clone(), (owner.0, owner.1.as_str().to_owned())));
            }
        }
    };
    for (at, group) in field.groups.iter().enumerate() {
        let (Some(device), Some(place)) = (field.devices.get(group.device), places.groups.get(at)) else {
            continue;
        };
        let bus = field.buses.get(device.bus).map_or("", |b| b.name.as_str());
        let mut values = vec![
            ("gateway", gateway),
            ("bus", bus),
            ("device", device.name.as_str()),
            ("group", group.name.as_str()),
        ];
        if message.shape == Shape::Group {
            let missing = if message.topic.contains("{device}") { "group" } else { "device" };
            add(&values, place, missing, (group.device, &group.name));
            continue;
        }
        for index in group.tags() {
            let (Some(tag), Some(place)) = (field.tags.get(index), places.tags.get(index)) else { continue };
            values.truncate(4);
            values.push(("tag", tag.name.as_str()));
            let missing = if message.topic.contains("{device}") { "group" } else { "device" };
            add(&values, place, missing, (group.device, &tag.name));
        }
    }
    seen.into_iter().map(|(topic, (place, _))| (topic, place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_take_what_the_standard_says() {
        for (filter, topic, taken) in [
            ("#", "a/b", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("+/b", "a/b", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
        ] {
            assert_eq!(matches(filter, topic), taken, "{filter} {topic}");
        }
    }

    #[test]
    fn templates_are_filled_in() {
        let values = [("gateway", "g"), ("device", "d")];
        assert_eq!(render("{gateway}/{device}/x", &values), "g/d/x");
        assert_eq!(render("plain", &values), "plain");
    }
}

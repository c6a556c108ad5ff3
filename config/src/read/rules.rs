//! Rules of an uplink: `forward` and `accept`.

use std::ops::Range;
use std::sync::Arc;

use gateway_core::broker::bridge::loops::{Risk, Side, risks};
use gateway_core::broker::bridge::{BridgeRule, BridgeRules, RuleFault};
use gateway_core::uplink::row::{Priority, Qos};
use gateway_core::uplink::settings::{RULES_MAX, Retain, Rule};

use super::uplink::Uplink;
use super::{Context, topic};
use crate::reader::{Item, Reader};
use crate::words;

/// A rule and where its filter stands.
pub(crate) type Placed = (Rule, Range<usize>);

/// The rules below a key; `None` when one of them is wrong. `qos` is that of a rule that does not say it.
pub(crate) fn rules(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    key: &str,
    qos: Qos,
) -> Option<Vec<Placed>> {
    let (items, mut whole) = reader.mixed(key)?;
    if reader.written(key) > RULES_MAX {
        let text = format!(
            "`{key}` has {} rules, expected at most {RULES_MAX}: each message is held against them",
            reader.written(key)
        );
        cx.found.wrong(&reader.at(key), text);
        return None;
    }
    let mut list: Vec<Placed> = Vec::new();
    for item in items {
        let rule = match item {
            Item::Text(text, span) => Some((Rule::plain(text.as_str(), qos), span)),
            Item::Table(table) => rule(cx, &table, key, qos),
        };
        let Some((rule, span)) = rule.filter(|(rule, span)| is_good(cx, key, rule, span)) else {
            whole = false;
            continue;
        };
        if let Some((_, first)) = list.iter().find(|(other, _)| other.filter == rule.filter) {
            let text = format!(
                "the filter \"{}\" stands in line {} already, where it decides for all its topics, so that this rule does nothing: remove one",
                words::shown(&rule.filter),
                cx.found.line(first)
            );
            cx.found.warn(&span, text);
        }
        list.push((rule, span));
    }
    whole.then_some(list)
}

fn rule(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, key: &str, qos: Qos) -> Option<Placed> {
    let filter = reader.text("filter");
    let part =
        |key: &str| if reader.lacks(key) { Some(Arc::from("")) } else { reader.text(key).map(Arc::from) };
    let (strip, add) = (part("strip"), part("add"));
    let qos_max = match (!reader.lacks("qos")).then(|| reader.int("qos")) {
        None => Some(qos),
        Some(Some(0)) => Some(Qos::AtMostOnce),
        Some(Some(_)) => Some(Qos::AtLeastOnce),
        Some(None) => None,
    };
    if qos_max.is_some_and(|rule| rule > qos) {
        let text = "`qos` of this rule is 1 and `qos` of the uplink is 0, expected none above that of the uplink: remove one of the two";
        cx.found.misfit(&reader.at("qos"), text);
    }
    let retain = match reader.choice("retain") {
        Some("drop") => Some(Retain::Drop),
        Some(_) => Some(Retain::Keep),
        None => None,
    };
    let priority = match (!reader.lacks("priority")).then(|| reader.choice("priority")) {
        None => Some(None),
        Some(word) => word.map(|word| Some(if word == "high" { Priority::High } else { Priority::Normal })),
    };
    if key == "accept" && reader.has("priority") {
        let text = "`priority` means nothing in `accept`, only in `forward` where messages wait in a queue: remove it";
        cx.found.wrong(&reader.key_at("priority"), text);
    }
    let rule = Rule {
        filter: filter?.into(),
        qos_max: qos_max?,
        strip: strip?,
        add: add?,
        retain: retain?,
        priority: priority?,
    };
    Some((rule, reader.at("filter")))
}

fn is_good(cx: &Context<'_, '_>, key: &str, rule: &Rule, span: &Range<usize>) -> bool {
    if let Some(text) = topic::filter_problem(&rule.filter) {
        cx.found.wrong(span, text);
        return false;
    }
    match BridgeRule::new(rule) {
        Ok(_) => true,
        Err(fault) => {
            let text = match fault {
                RuleFault::Filter(error) => {
                    format!(
                        "`{key}` holds \"{}\", which is no topic filter: {error}",
                        words::shown(&rule.filter)
                    )
                }
                fault => format!("the rule of \"{}\" cannot be kept: {fault}", words::shown(&rule.filter)),
            };
            cx.found.wrong(span, text);
            false
        }
    }
}

/// Rules that can send a message around for ever.
pub(crate) fn warn_circles(cx: &Context<'_, '_>, uplinks: &[Uplink]) {
    let checked: Option<Vec<_>> = uplinks
        .iter()
        .map(|u| {
            Some((BridgeRules::new(&u.settings.forward).ok()?, BridgeRules::new(&u.settings.accept).ok()?))
        })
        .collect();
    let Some(checked) = checked else { return };
    let servers: Vec<Vec<_>> = uplinks.iter().map(|u| u.link.places().collect()).collect();
    let sides: Vec<_> =
        checked.iter().zip(&servers).map(|((up, down), servers)| Side { up, down, servers }).collect();
    for risk in risks(&sides) {
        // What an uplink hears of its own messages is recognised and goes no further.
        let Risk::Circle { from, up, to, down } = risk else { continue };
        let (Some(from), Some(to)) = (uplinks.get(from), uplinks.get(to)) else { continue };
        let (Some((rule, at)), Some((heard, _))) = (from.forward.get(up), to.accept.get(down)) else {
            continue;
        };
        let text = format!(
            "what \"{}\" of uplink `{}` sends can come back by \"{}\" of uplink `{}` and go up again without end: narrow one of the filters, or give \
             the topics another beginning with `add`",
            words::shown(&rule.filter),
            from.settings.name,
            words::shown(&heard.filter),
            to.settings.name
        );
        cx.found.warn(at, text);
    }
}

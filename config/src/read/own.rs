//! Rules that have to do with topics on which the gateway itself sends: nobody else publishes there unless a rule names the topic.

use std::ops::Range;

use gateway_core::broker::access::{Access, Deed};
use gateway_core::broker::bridge::BridgeRule;
use gateway_core::broker::settings::Settings as BrokerSettings;
use gateway_core::update::settings::{INSTALL_LEVELS, STATE_LEVELS};

use super::uplink::Uplink;
use super::{Context, topic};
use crate::reader::Reader;
use crate::words;

/// Says of rules that cover such topics what they come to. `readings` are the topics of readings.
pub(crate) fn warn(
    cx: &Context<'_, '_>,
    file: &Reader<'_, '_>,
    gateway: &str,
    uplinks: &[Uplink],
    (broker, readings): (Option<&BrokerSettings>, Vec<String>),
) {
    let of_uplink =
        |u: &Uplink| [&u.settings.status_topic, &u.settings.ledger_topic].map(ToString::to_string);
    let own: Vec<String> = (uplinks.iter().flat_map(of_uplink))
        .chain([STATE_LEVELS, INSTALL_LEVELS].map(|levels| format!("{gateway}/{levels}")))
        .chain(readings)
        .collect();
    for uplink in uplinks {
        warn_accept(cx, uplink, &own);
        warn_forward(cx, uplink, &own);
    }
    if let Some(broker) = broker {
        warn_allow(cx, file, &broker.access, &own);
    }
}

/// One warning for each uplink.
fn warn_accept(cx: &Context<'_, '_>, uplink: &Uplink, own: &[String]) {
    let covered = uplink.accept.iter().find_map(|(rule, span)| {
        let image = BridgeRule::new(rule).ok()?.image()?;
        let topic = own.iter().find(|topic| topic::matches(image.as_str(), topic))?;
        Some((rule, span, topic))
    });
    let Some((rule, span, topic)) = covered else { return };
    let (filter, topic) = (words::shown(&rule.filter), words::shown(topic));
    let text = if is_wild(&rule.filter) {
        format!(
            "\"{filter}\" covers topics on which this gateway itself sends, such as \"{topic}\": what the cloud sends there is dropped; narrow the filter"
        )
    } else {
        format!("\"{filter}\" lets the cloud speak for this gateway, which itself sends on \"{topic}\"")
    };
    cx.found.warn(span, text);
}

/// One warning for each uplink: what a rule puts on a topic on which the gateway itself sends is dropped. A rule that moves nothing carries what the gateway says
/// itself, and the broker judges who may say it.
fn warn_forward(cx: &Context<'_, '_>, uplink: &Uplink, own: &[String]) {
    let covered = uplink.forward.iter().find_map(|(rule, span)| {
        (!rule.strip.is_empty() || !rule.add.is_empty()).then_some(())?;
        let image = BridgeRule::new(rule).ok()?.image()?;
        let topic = own.iter().find(|topic| topic::matches(image.as_str(), topic))?;
        Some((rule, span, topic))
    });
    let Some((rule, span, topic)) = covered else { return };
    let text = format!(
        "\"{}\" puts messages on topics on which this gateway itself sends, such as \"{}\": they are dropped there; give the topics another beginning with `add`",
        words::shown(&rule.filter),
        words::shown(topic)
    );
    cx.found.warn(span, text);
}

/// Where a rule of `allow` with this filter stands: in a user, in a client, or for everybody.
fn place(file: &Reader<'_, '_>, filter: &str) -> Option<Range<usize>> {
    let broker = file.table("broker")?;
    let tables = ["user", "client"].into_iter().flat_map(|key| broker.named(key));
    let inner = tables.filter_map(|(_, _, table)| find(&table, filter)).next();
    inner
        .or_else(|| broker.quoted("client").iter().find_map(|(_, _, table)| find(table, filter)))
        .or_else(|| find(&broker, filter))
}

fn find(table: &Reader<'_, '_>, filter: &str) -> Option<Range<usize>> {
    let rules = table.texts("allow")?.into_iter();
    let mut said = rules
        .filter(|(text, _)| text.split_once(char::is_whitespace).is_some_and(|(_, of)| of.trim() == filter));
    said.next().map(|(_, span)| span)
}

/// One warning for all rules of clients. A rule for everything is meant for everything else.
fn warn_allow(cx: &Context<'_, '_>, file: &Reader<'_, '_>, access: &Access, own: &[String]) {
    let users = access.users.values().map(|user| &user.rules);
    let clients = access.clients.values().map(|client| &client.rules);
    let rules = users.chain(clients).chain([&access.everybody]).flatten();
    let filters = rules
        .filter(|rule| rule.allow && rule.deed != Deed::Subscribe && !rule.filter.contains('%'))
        .map(|rule| &*rule.filter)
        .filter(|filter| !filter.starts_with(['+', '#']));
    let covered: Vec<(&str, &String)> = filters
        .filter_map(|filter| Some((filter, own.iter().find(|topic| topic::matches(filter, topic))?)))
        .collect();
    let named = covered.iter().find(|(filter, _)| !is_wild(filter));
    let Some((filter, topic)) = named.or(covered.first()) else { return };
    let (shown, topic) = (words::shown(filter), words::shown(topic));
    let text = if is_wild(filter) {
        format!(
            "\"{shown}\" in `allow` covers topics on which this gateway itself sends, such as \"{topic}\": clients may publish there only by a rule that names \
             the topic without a wildcard"
        )
    } else {
        format!("\"{shown}\" in `allow` lets clients speak for this gateway, which itself sends there")
    };
    let at = place(file, filter).unwrap_or_else(|| file.key_at("broker"));
    cx.found.warn(&at, text);
}

fn is_wild(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

//! Rules that have to do with topics on which the gateway itself sends: nobody else publishes there unless a rule names the topic.

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
    cx.found.warn(&file.key_at("broker"), text);
}

fn is_wild(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

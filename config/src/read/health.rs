//! The topics on which the gateway tells how its buses and devices are: nothing else of the gateway goes there.

use std::collections::BTreeMap;
use std::ops::Range;

use gateway_core::health::{bus_topic, device_topic};
use gateway_core::poll::settings::Settings as FieldSettings;
use gateway_core::settings::GatewaySettings;

use super::Context;
use super::uplink::Uplink;
use crate::words;

/// All of them; none where the file does not want any.
pub(crate) fn topics(gateway: &GatewaySettings, field: &FieldSettings) -> Vec<String> {
    named(gateway, field).map(|(topic, _)| topic).collect()
}

/// With what each is about.
fn named<'a>(
    gateway: &'a GatewaySettings,
    field: &'a FieldSettings,
) -> impl Iterator<Item = (String, String)> + 'a {
    let id = gateway.id.as_str();
    let buses =
        field.buses.iter().map(move |bus| (bus_topic(id, bus.name.as_str()), format!("bus `{}`", bus.name)));
    let devices = field
        .devices
        .iter()
        .map(move |device| (device_topic(id, device.name.as_str()), format!("device `{}`", device.name)));
    buses.chain(devices).filter(|_| gateway.health)
}

/// Refuses what coincides with one of them: readings, or the status and ledger of an uplink.
pub(crate) fn refuse(
    cx: &Context<'_, '_>,
    gateway: &GatewaySettings,
    readings: &[(String, Range<usize>)],
    field: &FieldSettings,
    uplinks: &[Uplink],
) {
    let health: BTreeMap<String, String> = named(gateway, field).collect();
    let of_uplinks = uplinks.iter().flat_map(|uplink| {
        let settings = &uplink.settings;
        [&settings.status_topic, &settings.ledger_topic]
            .map(|topic| (topic.as_ref(), &uplink.span, "`status_topic` or `ledger_topic`"))
    });
    let readings = readings.iter().map(|(topic, at)| (topic.as_str(), at, "`topic` in [message] or a name"));
    for (topic, at, what) in readings.chain(of_uplinks) {
        let Some(about) = health.get(topic) else { continue };
        let text = format!(
            "this goes to the topic \"{}\", on which the gateway tells how {about} is, expected a topic of its own: change {what}, or set `health = false` in [gateway]",
            words::shown(topic)
        );
        cx.found.unfit(at, text);
    }
}

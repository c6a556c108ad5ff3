//! Puts what `gateway_core::poll::changes` tells of a device into the log, with the device, its bus and the reason as fields.

use gateway_core::poll::Settings as Field;
use gateway_core::poll::changes::Line;

/// Puts a line about a device into the log.
pub(super) fn log(field: &Field, index: usize, line: &Line) {
    let Some(device) = field.devices.get(index) else { return };
    let name = device.name.as_str();
    let bus = field.buses.get(device.bus).map_or("?", |bus| bus.name.as_str());
    // Not "unit": that field of the journal means units of systemd.
    let unit_id = device.unit.get();
    let text = line.text.as_str();
    match (line.is_bad, &line.reason, line.down_s) {
        (true, Some(reason), _) => {
            log::warn!(device = name, bus, unit_id, reason = reason.as_str(); "device {name}: {text}");
        }
        (true, None, _) => log::warn!(device = name, bus, unit_id; "device {name}: {text}"),
        (false, _, Some(down_s)) => log::info!(device = name, bus, unit_id, down_s; "device {name}: {text}"),
        (false, _, None) => log::info!(device = name, bus, unit_id; "device {name}: {text}"),
    }
}

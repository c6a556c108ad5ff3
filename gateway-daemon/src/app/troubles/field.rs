//! What is wrong in the field: buses, devices and tags.

use std::collections::{BTreeMap, BTreeSet};

use super::{Subject, Trouble, parts, some};
use crate::app::snapshot::{Bus, BusKind, Device, Health, Snapshot, Tag};

/// A device that has not answered for so long is worth knowing of, although it is still polled. A lost answer now and then is life on a line.
pub const FAILING_MS: u64 = 10_000;
/// A line that is busy for so much of the time has no room left.
const BUSY: f64 = 0.95;

/// Buses that are not open, or have no time left.
pub(super) fn buses(snapshot: &Snapshot, found: &mut Vec<Trouble>) {
    for bus in &snapshot.buses {
        if is_down(bus) {
            found.push(down(bus));
        } else if bus.up && bus.busy >= BUSY && bus.overruns > 0 {
            let sentence = format!("bus {} is busy all the time and polls are skipped", bus.name);
            let remedy = "raise `every` of its groups, or its speed: `check` says what polling costs";
            found.push(Trouble::notable(Subject::Bus(bus.name.clone()), sentence).remedy(remedy));
        }
    }
}

/// Devices that do not answer. When none of several on one line does, the line is at fault.
pub(super) fn devices(snapshot: &Snapshot, found: &mut Vec<Trouble>) {
    let down: BTreeSet<&str> =
        snapshot.buses.iter().filter(|bus| !bus.up).map(|bus| bus.name.as_str()).collect();
    let mut lines: BTreeMap<&str, Vec<&Device>> = BTreeMap::new();
    for device in snapshot.devices.iter().filter(|device| !down.contains(device.bus.as_str())) {
        lines.entry(&device.bus).or_default().push(device);
    }
    let mut said = BTreeSet::new();
    for (bus, devices) in lines {
        if devices.len() > 1 && devices.iter().all(|device| device.health == Health::Dead) {
            found.push(silent_line(snapshot, bus, &devices));
            said.insert(bus);
        }
    }
    let rest = snapshot.devices.iter().filter(|device| !down.contains(device.bus.as_str()));
    for device in rest.filter(|device| !said.contains(device.bus.as_str())) {
        found.extend(silent_device(snapshot, device));
    }
}

/// Tags without a value although their device answers. The good ones need not be in the snapshot.
pub(super) fn tags(snapshot: &Snapshot, found: &mut Vec<Trouble>) {
    let down: BTreeSet<&str> =
        snapshot.buses.iter().filter(|bus| !bus.up).map(|bus| bus.name.as_str()).collect();
    let mut tags: BTreeMap<&str, Vec<&Tag>> = BTreeMap::new();
    for tag in snapshot.tags.iter().filter(|tag| is_wrong(&tag.quality) || is_lost(&tag.quality)) {
        tags.entry(&tag.device).or_default().push(tag);
    }
    for device in snapshot.devices.iter().filter(|device| !device.unproven) {
        let silent = matches!(device.health, Health::Unknown | Health::Dead);
        if !silent && !down.contains(device.bus.as_str()) && !device.wrong.is_empty() {
            found.extend(device.wrong.iter().map(|sentence| said(snapshot, device, sentence)));
            continue;
        }
        if let (false, Some(bad)) =
            (silent || down.contains(device.bus.as_str()), tags.get(device.name.as_str()))
        {
            found.extend(bad_tags(snapshot, device, bad));
        }
    }
}

fn is_down(bus: &Bus) -> bool {
    !bus.up && !bus.untried
}

fn down(bus: &Bus) -> Trouble {
    let (why, remedy) = bus.why.as_deref().map_or(("", None), parts);
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    let remedy = remedy.unwrap_or(match bus.kind {
        BusKind::ModbusTcp | BusKind::ModbusRtuOverTcp => {
            "check the network, and `host` and `port` of the bus"
        }
        BusKind::ModbusRtu | BusKind::Sim | BusKind::Unknown => {
            "check that the adapter is plugged in, and `port` of the bus"
        }
    });
    let sentence = format!("bus {} is not open{why}", bus.name);
    Trouble::wrong(Subject::Bus(bus.name.clone()), sentence).since(bus.since_ms).remedy(remedy)
}

fn silent_line(snapshot: &Snapshot, bus: &str, devices: &[&Device]) -> Trouble {
    let sentence = format!("bus {bus}: none of its {} devices answers", devices.len());
    let remedy = unproven_line(snapshot, bus).unwrap_or_else(|| {
        "check the power of the devices, and what lies between them and the gateway".to_owned()
    });
    let since = devices.iter().map(|device| device.since_ms).min().unwrap_or_default();
    Trouble::wrong(Subject::Bus(bus.to_owned()), sentence).since(since).remedy(remedy)
}

/// A device that does not answer, whatever is wrong with its line.
pub fn silent_device(snapshot: &Snapshot, device: &Device) -> Option<Trouble> {
    let subject = Subject::Device(device.name.clone());
    let why = device.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let place = format!("device {} (unit {} on bus {})", device.name, device.unit, device.bus);
    match device.health {
        Health::Dead => {
            let said = device.wrong.first();
            let sentence = said
                .map_or_else(|| format!("{place} does not answer{why}"), |said| format!("{place} {said}"));
            let remedy = unproven_line(snapshot, &device.bus)
                .unwrap_or_else(|| "check its power, its wires and its `unit`".to_owned());
            let remedy = format!("{remedy}; it is probed until it answers again");
            Some(Trouble::wrong(subject, sentence).since(device.since_ms).remedy(remedy))
        }
        Health::Failing if device.since_ms >= FAILING_MS => {
            let sentence = format!("{place} has not answered the last requests{why}");
            Some(Trouble::notable(subject, sentence).since(device.since_ms))
        }
        Health::Failing | Health::Unknown | Health::Good | Health::Down => None,
    }
}

/// What to do about a serial line on which nothing has answered since the start: then most often the line is set otherwise than its devices. `None` for
/// another line, or one that has worked.
fn unproven_line(snapshot: &Snapshot, bus: &str) -> Option<String> {
    let bus = snapshot.buses.iter().find(|seen| seen.name == bus && seen.answers == 0)?;
    let wires = "the `unit` of each device, its power, and the wires A and B";
    let place = &bus.place;
    match bus.kind {
        BusKind::ModbusRtu => Some(format!(
            "nothing has answered on this line since the start: check `baud` and `parity`, {wires}; \
             with the gateway stopped, `gateway-daemon scan --port {place}` finds out how the line is set"
        )),
        BusKind::ModbusRtuOverTcp => Some(format!(
            "nothing has answered on this line since the start: check the baud rate and parity in the serial server, {wires}; \
             with the gateway stopped, `gateway-daemon scan --rtu-over-tcp {place}` asks every unit"
        )),
        BusKind::ModbusTcp | BusKind::Sim | BusKind::Unknown => None,
    }
}

/// What the log says of a device that answers, and what to do about the first of its tags that shows it.
fn said(snapshot: &Snapshot, device: &Device, sentence: &str) -> Trouble {
    let subject = Subject::Device(device.name.clone());
    let trouble = Trouble::wrong(subject, format!("device {}: {sentence}", device.name));
    let refuses = sentence.starts_with("refuses");
    let fits = |tag: &&Tag| {
        tag.device == device.name
            && is_wrong(&tag.quality)
            && tag.quality.starts_with("exception-") == refuses
    };
    match snapshot.tags.iter().find(fits) {
        Some(tag) => trouble.remedy(mend(&tag.quality)),
        None => trouble,
    }
}

/// A device that answers and does not give everything.
fn bad_tags(snapshot: &Snapshot, device: &Device, tags: &[&Tag]) -> Option<Trouble> {
    let all = device.tags.max(tags.len() as u64);
    // Polls stop while the device fails, and while the connection is being opened again: then the device or the bus is at fault, not the polls.
    let polled = device.health == Health::Good
        && !snapshot.buses.iter().any(|bus| bus.name == device.bus && bus.reopening);
    let is_told = |tag: &&&Tag| is_wrong(&tag.quality) && (polled || tag.quality != "stale");
    let mut bad: Vec<&&Tag> = tags.iter().filter(is_told).collect();
    let lost = bad.is_empty();
    if lost {
        // While the device fails that is the trouble.
        let answers = device.health == Health::Good;
        bad = tags.iter().filter(|tag| answers && is_lost(&tag.quality)).collect();
    }
    let first = bad.first()?;
    let named: Vec<String> = bad.iter().map(|tag| format!("{} ({})", tag.tag, tag.quality)).collect();
    let named = some(named.iter().map(String::as_str));
    let sentence =
        format!("device {} gives no value for {} of its {} tags: {named}", device.name, bad.len(), all);
    let subject = Subject::Device(device.name.clone());
    Some(if lost {
        Trouble::notable(subject, sentence)
    } else {
        Trouble::wrong(subject, sentence).remedy(mend(&first.quality))
    })
}

/// The device has been asked, or was to be, and there is no value that can be used: this does not pass by itself.
fn is_wrong(quality: &str) -> bool {
    quality.starts_with("exception-") || matches!(quality, "out-of-range" | "not-a-number" | "stale")
}

/// An answer was lost; the next poll may bring it.
fn is_lost(quality: &str) -> bool {
    matches!(quality, "timeout" | "bad-answer")
}

pub(super) fn mend(quality: &str) -> &'static str {
    match quality {
        "exception-2" => "the device has no such address: check the tag's address against its manual",
        "out-of-range" => "check the sensor, `scale`, `type` and `order`, `min` and `max`",
        "not-a-number" => "check the sensor, `type` and `order`",
        "stale" => "the polls do not come round: `check` says what they cost on the wire",
        _ => "the device refuses: check the tag against its manual",
    }
}

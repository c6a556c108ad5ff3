//! `[device.NAME]` and its poll groups.

use std::collections::BTreeMap;
use std::ops::Range;

use gateway_core::poll::request::UnitId;
use gateway_core::poll::settings::{Device, Group, Settings};
use gateway_core::tag::Name;

use super::Context;
use super::bus::ReadBus;
use super::overlap::{self, Placed};
use super::tag::{self, Addressing};
use super::topic::FieldPlaces;
use crate::reader::Reader;
use crate::words;

/// Devices of one gateway: 256 buses of 247 units are beyond any cabinet.
pub(crate) const DEVICES_MAX: usize = 2000;
/// Tags of one gateway; about what fits a file of the largest size.
pub(crate) const TAGS_MAX: usize = 50_000;

/// The field side as far as it could be read.
#[derive(Default)]
pub(crate) struct Field {
    pub(crate) settings: Settings,
    pub(crate) places: FieldPlaces,
    /// Whether everything in the file is in the settings.
    pub(crate) whole: bool,
}

/// All devices, their groups and tags.
pub(crate) fn field<'a, 't>(cx: &Context<'a, 't>, file: &Reader<'a, 't>, buses: Vec<ReadBus>) -> Field {
    let mut field = Field { whole: true, ..Field::default() };
    let mut tables = file.named("device");
    super::at_most(cx, file, "device", &mut tables, DEVICES_MAX, "devices");
    let mut units: BTreeMap<(usize, i64), (Range<usize>, Name)> = BTreeMap::new();
    let mut used = vec![false; buses.len()];
    for (name, span, reader) in tables {
        let bus = bus_of(cx, file, &reader, &buses);
        if let Some(used) = bus.and_then(|b| used.get_mut(b)) {
            *used = true;
        }
        let is_serial = bus.and_then(|b| buses.get(b)).and_then(|b| b.is_serial);
        let unit = unit(&reader, is_serial);
        if let (Some(bus), Some(unit)) = (bus, unit) {
            if let Some((first, other)) = units.get(&(bus, unit)) {
                let text = format!(
                    "`unit` = {unit} on this bus is already device `{other}` in line {}, expected one device for each unit: correct one of them",
                    cx.found.line(first)
                );
                cx.found.misfit(&reader.at("unit"), text);
            } else {
                units.insert((bus, unit), (reader.at("unit"), name.clone()));
            }
        }
        let index = field.settings.devices.len();
        match device(&reader, name, bus.unwrap_or(0), unit.zip(is_serial)) {
            Some(device) => field.settings.devices.push(device),
            None => field.whole = false,
        }
        groups(cx, &reader, index, &span, &mut field);
    }
    let tags = tags_written(file);
    if tags > TAGS_MAX {
        let text = format!(
            "{} tags, expected at most {TAGS_MAX} for one gateway: move devices to a second one",
            cx.found.amount(tags, TAGS_MAX)
        );
        cx.found.too_many(&file.key_at("device"), text);
    }
    // A device whose bus is mistyped would be reported twice.
    let idle = if cx.found.has_errors() { Vec::new() } else { used };
    for (bus, _) in buses.iter().zip(idle).filter(|(_, used)| !used) {
        let text = format!(
            "no device is on bus `{}`: add `bus = \"{}\"` to a [device.NAME] or remove it",
            bus.name, bus.name
        );
        cx.found.warn(&bus.span, text);
    }
    for bus in buses {
        match bus.bus {
            Some(settings) => {
                field.settings.buses.push(settings);
                field.places.buses.push(bus.span);
            }
            None => field.whole = false,
        }
    }
    field
}

/// All tags that the file writes, also those that are wrong and those of devices that are not read: the number that a person can count.
fn tags_written(file: &Reader<'_, '_>) -> usize {
    let devices = file.raw("device").and_then(|(devices, _)| devices.as_table());
    let devices = devices.into_iter().flat_map(|devices| devices.values());
    let polls = devices.filter_map(|device| device.get_ref().as_table()?.get("poll")?.get_ref().as_array());
    let polls = polls.flat_map(|polls| polls.iter());
    let tags = polls.filter_map(|poll| poll.get_ref().as_table()?.get("tags")?.get_ref().as_table());
    tags.map(|tags| tags.values().filter(|tag| tag.get_ref().is_table()).count()).sum()
}

fn bus_of(
    cx: &Context<'_, '_>,
    file: &Reader<'_, '_>,
    reader: &Reader<'_, '_>,
    buses: &[ReadBus],
) -> Option<usize> {
    let text = reader.text("bus")?;
    let index = buses.iter().position(|b| b.name.as_str() == text);
    // A bus that is there and wrong is reported where it stands.
    let is_reported = || file.has_raw("bus", &text) || !file.has("bus") && !file.lacks("bus");
    if index.is_none() && !is_reported() {
        let near = words::nearest_name(&text, buses.iter().map(|b| b.name.as_str()));
        let fix = match (near, buses) {
            (Some(near), _) => format!(": did you mean \"{near}\"?"),
            (None, []) => format!(": add [bus.{}]", words::shown(&text)),
            (None, _) => {
                let names = words::list(buses.iter().take(8).map(|b| format!("\"{}\"", b.name)), "or");
                format!(", expected {names}: correct it or add [bus.{}]", words::shown(&text))
            }
        };
        cx.found.misfit(
            &reader.at("bus"),
            format!("there is no bus \"{}\" in this file{fix}", words::shown(&text)),
        );
    }
    index
}

fn unit(reader: &Reader<'_, '_>, is_serial: Option<bool>) -> Option<i64> {
    if is_serial == Some(true) {
        return reader.int_within("unit", 1, 247, "on a serial line");
    }
    reader.int("unit")
}

fn device(reader: &Reader<'_, '_>, name: Name, bus: usize, unit: Option<(i64, bool)>) -> Option<Device> {
    let timeout = reader.duration("timeout");
    let retries = reader.uint("retries");
    let delay_before = reader.duration("delay_before");
    let turnaround = reader.duration("turnaround");
    let dead_after = reader.uint("dead_after");
    let probe_max = reader.duration("probe_max");
    let registers_max = reader.uint("registers_max");
    let bits_max = reader.uint("bits_max");
    let gap_max = reader.uint("gap_max");
    let one_by_one = reader.bool("one_by_one");
    let base = reader.int("base").unwrap_or(0);
    let (unit, is_serial) = unit?;
    let unit = u8::try_from(unit).ok()?;
    Some(Device {
        name,
        bus,
        unit: if is_serial { UnitId::serial(unit)? } else { UnitId::tcp(unit) },
        timeout: timeout?,
        retries: retries?,
        delay_before: delay_before?,
        turnaround: turnaround?,
        dead_after: dead_after?,
        probe_max: probe_max?,
        registers_max: registers_max?,
        bits_max: bits_max?,
        gap_max: gap_max?,
        one_by_one: one_by_one?,
        base: u16::from(base == 1),
    })
}

fn groups(
    cx: &Context<'_, '_>,
    reader: &Reader<'_, '_>,
    device: usize,
    name_at: &Range<usize>,
    field: &mut Field,
) {
    let base = reader.int("base").unwrap_or(0);
    let addressing = Addressing {
        base,
        literal: reader.has("base") && base == 0,
        registers_max: reader.uint("registers_max"),
    };
    let polls = reader.list("poll");
    if polls.is_empty() && reader.lacks("poll") {
        let text = "this device has no poll group, so nothing is read from it: add [[device.NAME.poll]] with `every` and `tags`";
        cx.found.warn(name_at, text);
    }
    let mut seen = Seen::default();
    for (at, poll) in polls.iter().enumerate() {
        let every = poll.duration("every");
        let name = group_name(cx, poll, at, &mut seen);
        let (start, group) = (field.settings.tags.len(), field.settings.groups.len());
        for (tag_name, span, tag) in poll.named("tags") {
            seen.tag(cx, &tag_name, &span);
            let Some(tag) = tag::tag(cx, &tag, tag_name.clone(), group, every, &addressing) else {
                field.whole = false;
                continue;
            };
            seen.placed.push(Placed { name: tag_name, point: tag.point, span: span.clone() });
            field.settings.tags.push(tag);
            field.places.tags.push(span);
        }
        let tags_len = field.settings.tags.len() - start;
        if tags_len == 0 && poll.has("tags") && !cx.found.has_errors() {
            let text = "`tags` is empty, so nothing is read: add a tag or remove the poll group";
            cx.found.warn(&poll.at("tags"), text);
        }
        match (every, name) {
            (Some(every), Some(name)) => {
                field.settings.groups.push(Group { device, name, every, tags_start: start, tags_len });
                field.places.groups.push(poll.here());
                field.places.every.push(poll.at("every"));
            }
            _ => field.whole = false,
        }
    }
    overlap::report(cx, &seen.placed, addressing.base);
}

/// What a device has up to here.
#[derive(Default)]
struct Seen {
    groups: BTreeMap<Name, Range<usize>>,
    tags: BTreeMap<Name, Range<usize>>,
    placed: Vec<Placed>,
}

impl Seen {
    /// Reports a tag's name that another tag of the device has.
    fn tag(&mut self, cx: &Context<'_, '_>, name: &Name, span: &Range<usize>) {
        let Some(first) = self.tags.get(name) else {
            self.tags.insert(name.clone(), span.clone());
            return;
        };
        let text = format!(
            "tag `{name}` is already in line {}, expected a name only once in each device: rename one of them",
            cx.found.line(first)
        );
        cx.found.misfit(span, text);
    }
}

/// The group's name, or its number in the device; reports one that another group has.
fn group_name(cx: &Context<'_, '_>, poll: &Reader<'_, '_>, at: usize, seen: &mut Seen) -> Option<Name> {
    let name = if poll.has("name") { poll.name("name") } else { Name::new(&(at + 1).to_string()).ok() }?;
    if let Some(first) = seen.groups.get(&name) {
        let text = format!(
            "this poll group is called \"{name}\" like the one in line {}, expected different names: change `name`",
            cx.found.line(first)
        );
        cx.found.misfit(&poll.at("name"), text);
    }
    seen.groups.entry(name.clone()).or_insert_with(|| poll.here());
    Some(name)
}

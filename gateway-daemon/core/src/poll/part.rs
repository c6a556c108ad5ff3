//! One bus of a field by itself, with indices of its own.
//!
//! A bus at work knows only its own devices, groups and tags, numbered from zero. So its numbers stay what they are when another bus
//! comes or goes, and two configurations have the same bus when their parts are equal. [`Part::cycle`] translates what it read into the numbers of the
//! whole field.

use std::sync::Arc;

use crate::poll::settings::{Bus, Device, Group, Settings, Tag};
use crate::tag::{Cycle, GroupId, TagId};

/// A bus with everything on it, and where that is in the whole field.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The bus.
    pub bus: Bus,
    /// The bus and what is on it, as a field of its own: its only bus has index 0.
    pub field: Arc<Settings>,
    /// By own index: the index in the whole.
    devices: Vec<usize>,
    groups: Vec<GroupId>,
    tags: Vec<TagId>,
}

impl Part {
    /// Every bus of a field, in the order of [`Settings::buses`].
    #[must_use]
    pub fn all(whole: &Settings) -> Vec<Self> {
        whole.buses.iter().enumerate().map(|(index, bus)| Self::of(whole, index, bus)).collect()
    }

    fn of(whole: &Settings, bus: usize, line: &Bus) -> Self {
        let mut field = Settings { buses: vec![line.clone()], ..Settings::default() };
        let (mut devices, mut groups, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        for (index, device) in whole.devices.iter().enumerate().filter(|(_, device)| device.bus == bus) {
            devices.push(index);
            field.devices.push(Device { bus: 0, ..device.clone() });
        }
        for (id, group) in (0..).zip(&whole.groups) {
            let Ok(device) = devices.binary_search(&group.device) else { continue };
            let (own, tags_start) = (field.groups.len(), field.tags.len());
            groups.push(GroupId(id));
            field.groups.push(Group { device, tags_start, ..group.clone() });
            for (index, tag) in (0..).zip(&whole.tags).skip(group.tags_start).take(group.tags_len) {
                tags.push(TagId(index));
                field.tags.push(Tag { group: own, ..tag.clone() });
            }
        }
        Self { bus: line.clone(), field: Arc::new(field), devices, groups, tags }
    }

    /// Where a device of this bus is in the whole field.
    #[must_use]
    pub fn device(&self, own: usize) -> Option<usize> {
        self.devices.get(own).copied()
    }

    /// Where a tag of this bus is in the whole field.
    #[must_use]
    pub fn tag(&self, own: TagId) -> Option<TagId> {
        self.tags.get(own.0 as usize).copied()
    }

    /// The tags of a device of this bus, in own numbers.
    pub fn tags_of(&self, device: usize) -> impl Iterator<Item = TagId> + '_ {
        let groups = self.field.groups.iter().filter(move |group| group.device == device);
        groups
            .flat_map(|group| (0..).zip(&self.tags).skip(group.tags_start).take(group.tags_len))
            .map(|(own, _)| TagId(own))
    }

    /// A cycle of this bus in the numbers of the whole field; `None` if it is of another one.
    #[must_use]
    pub fn cycle(&self, cycle: Cycle) -> Option<Cycle> {
        let Cycle { group, due, mut readings } = cycle;
        let group = *self.groups.get(group.0 as usize)?;
        for reading in &mut readings {
            reading.tag = *self.tags.get(reading.tag.0 as usize)?;
        }
        Some(Cycle { group, due, readings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::request::{Table, UnitId};
    use crate::poll::settings::{Kind, Medium, Point};
    use crate::process::settings::{Deadband, Filter};
    use crate::tag::{BootNs, Name, Reading, Reason, Sample};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// Buses and devices in the order given, one group with two tags for each device.
    fn field(devices: &[(&str, &str)], buses: &[&str]) -> Settings {
        let mut field = Settings::default();
        for bus in buses {
            field.buses.push(Bus {
                name: name(bus),
                medium: Medium::Sim,
                probe_share: 0.05,
                fences: true,
                pause: std::time::Duration::ZERO,
            });
        }
        for (index, (device, bus)) in devices.iter().enumerate() {
            let bus = buses.iter().position(|known| known == bus).unwrap();
            field.devices.push(Device {
                name: name(device),
                bus,
                unit: UnitId::serial(1).unwrap(),
                timeout: std::time::Duration::from_secs(1),
                retries: 1,
                delay_before: std::time::Duration::ZERO,
                turnaround: std::time::Duration::ZERO,
                dead_after: 3,
                probe_max: std::time::Duration::from_secs(60),
                registers_max: 125,
                bits_max: 2000,
                gap_max: 0,
                one_by_one: false,
                base: 0,
            });
            field.groups.push(Group {
                device: index,
                name: name("1"),
                every: std::time::Duration::from_secs(1),
                tags_start: field.tags.len(),
                tags_len: 2,
            });
            for (tag, address) in [("a", 0), ("b", 1)] {
                field.tags.push(Tag {
                    name: name(tag),
                    group: index,
                    point: Point { table: Table::Holding, address, kind: Kind::U16 { swap: false } },
                    unit: None,
                    scale: None,
                    range: None,
                    filter: Filter { deadband: Deadband::Off, silence_max: None, stale_after: 0 },
                    writable: false,
                    alarm: false,
                });
            }
        }
        field
    }

    fn part(whole: &Settings, bus: usize) -> Part {
        Part::all(whole).swap_remove(bus)
    }

    #[test]
    fn a_bus_is_the_same_wherever_its_devices_stand_in_the_file() {
        let alone = part(&field(&[("m1", "b"), ("m2", "b")], &["b"]), 0);
        let among = part(&field(&[("x", "a"), ("m1", "b"), ("y", "a"), ("m2", "b")], &["a", "b"]), 1);
        assert_eq!(alone.field, among.field);
        assert_eq!((among.device(0), among.device(1), among.device(2)), (Some(1), Some(3), None));
    }

    #[test]
    fn another_device_or_another_line_makes_another_bus() {
        let one = part(&field(&[("m1", "b")], &["b"]), 0);
        assert_ne!(one.field, part(&field(&[("m2", "b")], &["b"]), 0).field);
        assert_ne!(one.field, part(&field(&[("m1", "b"), ("m2", "b")], &["b"]), 0).field);
        assert_ne!(one.field, part(&field(&[("m1", "c")], &["c"]), 0).field);
    }

    #[test]
    fn a_cycle_comes_out_in_the_numbers_of_the_whole_field() {
        let whole = field(&[("x", "a"), ("m1", "b"), ("y", "a"), ("m2", "b")], &["a", "b"]);
        let part = part(&whole, 1);
        let reading = |tag| Reading { tag: TagId(tag), at: BootNs(5), sample: Sample::Bad(Reason::Timeout) };
        let cycle = |group, tags: [u32; 2]| Cycle {
            group: GroupId(group),
            due: BootNs(4),
            readings: tags.map(reading).to_vec(),
        };
        assert_eq!(part.cycle(cycle(1, [2, 3])), Some(cycle(3, [6, 7])));
        assert_eq!(part.cycle(cycle(0, [0, 1])), Some(cycle(1, [2, 3])));
        assert_eq!(part.cycle(cycle(2, [0, 1])), None);
        assert_eq!(part.cycle(cycle(0, [0, 4])), None);
    }
}

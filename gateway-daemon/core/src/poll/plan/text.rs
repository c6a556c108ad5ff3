//! Plans as a person reads them.

use std::fmt::Write;
use std::time::Duration;

use super::advice::Advice;
use super::bus_plan::{BusPlan, GroupPlan, Problem, Remark};
use super::wire::Cost;
use crate::poll::settings::{Connection, Medium, Parity, Settings};
use crate::tag::GroupId;

const HEAD: [&str; 10] = [
    "bus",
    "device",
    "group",
    "every",
    "requests",
    "registers",
    "bytes out",
    "bytes in",
    "ms per cycle",
    "of period",
];

/// Columns from here on are numbers and stand to the right.
const NUMBERS_FROM: usize = 3;

impl BusPlan {
    /// All plans as one table, with the sum of each bus and what is wrong or worth knowing below it.
    #[must_use]
    pub fn render(plans: &[Self], settings: &Settings) -> String {
        let mut rows = vec![HEAD.map(str::to_owned)];
        for plan in plans {
            rows.extend(plan.groups.iter().map(|group| row(plan, group, settings)));
        }
        let mut text = align(&rows);
        for plan in plans {
            text.push('\n');
            text.push_str(&plan.summary(settings));
        }
        text
    }

    /// The sum of one bus, its problems and its remarks, a line each.
    #[must_use]
    pub fn summary(&self, settings: &Settings) -> String {
        let Some(bus) = settings.buses.get(self.bus) else { return String::new() };
        let mut text = format!("{}: {}, {:.1} requests/s", bus.name, line(&bus.medium), self.requests_per_s);
        match self.share {
            Some(share) => {
                let silent =
                    self.groups.iter().filter_map(|group| group.cost.silent).max().unwrap_or_default();
                let _ = write!(
                    text,
                    ", at least {} of the line (devices that answer at once; how long they really think is not known); \
                     while a device is silent, its cycle takes up to {} ms plus retries",
                    percent(share),
                    ms(silent)
                );
            }
            None => text.push_str(", time on the wire not known"),
        }
        text.push('\n');
        for problem in &self.problems {
            let _ = writeln!(text, "  does not fit: {}", problem.text(settings));
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "  note: {}", remark.text(settings));
        }
        text
    }
}

impl Problem {
    /// What is wrong, by how much, and what to do, for the person who wrote the file.
    #[must_use]
    pub fn text(&self, settings: &Settings) -> String {
        match self {
            Self::TooMuch { share, costliest, advice } => {
                let mut text = format!(
                    "the requests need {} of the time there is, {} too much; group {} costs most",
                    percent(*share),
                    percent(share - 1.0),
                    group_name(settings, *costliest)
                );
                let advice: Vec<String> = advice.iter().map(|advice| advice.text(settings)).collect();
                if !advice.is_empty() {
                    let _ = write!(text, "; to do: {}", advice.join(", or "));
                }
                text
            }
            Self::TooManyRequests { per_s, per_s_max, costliest } => format!(
                "{per_s:.0} requests/s are asked for, more than {per_s_max:.0}/s no network answers; group {} asks most; \
                 to do: a longer `every`, a larger `pipeline` or a larger `gap_max`",
                group_name(settings, *costliest)
            ),
            Self::PointTooLong { tag, registers, registers_max } => format!(
                "tag {} takes {registers} registers, its device allows {registers_max} per request; \
                 to do: raise `registers_max` if the device can, or shorten the tag",
                tag_name(settings, *tag)
            ),
            Self::PointBeyondEnd { tag } => {
                format!("tag {} runs over the highest address 65535", tag_name(settings, *tag))
            }
        }
    }
}

impl Remark {
    /// What to know.
    #[must_use]
    pub fn text(&self, settings: &Settings) -> String {
        match self {
            Self::Tight { share } => format!(
                "{} of the line is taken before any device has thought about its answer; expect skipped cycles",
                percent(*share)
            ),
            Self::Blocked { group, by, needs, every } => format!(
                "group {} is due every {} ms but may have to wait for a request of {}: together {} ms; expect skipped cycles",
                group_name(settings, *group),
                ms(*every),
                group_name(settings, *by),
                ms(*needs)
            ),
            Self::Connecting { group, every, pause } => format!(
                "group {} is due every {} ms, and connection = \"per-cycle\" opens a connection for each cycle and waits {} ms (`connect_pause`): \
                 poll it less often, or write connection = \"keep\"",
                group_name(settings, *group),
                ms(*every),
                ms(*pause)
            ),
        }
    }
}

impl Advice {
    /// What to change, in the words of the configuration file.
    #[must_use]
    pub fn text(&self, settings: &Settings) -> String {
        match self {
            Self::SlowerGroup { group, every } => {
                format!("every = \"{}ms\" for group {}", every.as_millis(), group_name(settings, *group))
            }
            Self::SlowerAll { factor } => {
                format!("make every interval of this bus {factor:.1} times as long")
            }
            Self::Baud { baud } => format!("baud = {baud}"),
            Self::Gap { device, gap_max, share } => {
                let name = settings.devices.get(*device).map_or("?", |device| device.name.as_str());
                format!("gap_max = {gap_max} for device {name} (then {})", percent(*share))
            }
        }
    }
}

fn row(plan: &BusPlan, group: &GroupPlan, settings: &Settings) -> [String; 10] {
    let of = settings.groups.get(group.group.0 as usize);
    let device = of.and_then(|of| settings.devices.get(of.device));
    let name = |name: Option<&crate::tag::Name>| name.map_or_else(String::new, ToString::to_string);
    [
        name(settings.buses.get(plan.bus).map(|bus| &bus.name)),
        name(device.map(|device| &device.name)),
        name(of.map(|of| &of.name)),
        format!("{} ms", ms(group.every)),
        group.cost.requests.to_string(),
        registers(&group.cost),
        group.cost.out_bytes.to_string(),
        group.cost.in_bytes.to_string(),
        group.cost.least.map_or_else(|| "-".to_owned(), ms),
        group.share.map_or_else(|| "-".to_owned(), percent),
    ]
}

fn registers(cost: &Cost) -> String {
    match (cost.registers, cost.bits) {
        (registers, 0) => registers.to_string(),
        (0, bits) => format!("{bits} bits"),
        (registers, bits) => format!("{registers} + {bits} bits"),
    }
}

fn line(medium: &Medium) -> String {
    match medium {
        Medium::Serial(serial) => {
            let parity = match serial.parity {
                Parity::None => 'N',
                Parity::Even => 'E',
                Parity::Odd => 'O',
            };
            format!("{} baud {}{parity}{}", serial.baud, serial.data_bits, serial.stop_bits)
        }
        Medium::Tcp { host, port, pipeline: 0 | 1, connection, .. } => {
            format!("Modbus TCP {host}:{port}{}", each_cycle(*connection))
        }
        Medium::Tcp { host, port, pipeline, connection, .. } => {
            format!("Modbus TCP {host}:{port}, {pipeline} requests at once{}", each_cycle(*connection))
        }
        Medium::RtuOverTcp { host, port, connection, .. } => {
            format!("RTU over TCP {host}:{port}{}", each_cycle(*connection))
        }
        Medium::Sim => "simulated".to_owned(),
    }
}

fn each_cycle(connection: Connection) -> &'static str {
    match connection {
        Connection::Keep => "",
        Connection::PerCycle => ", a connection for each cycle",
    }
}

fn group_name(settings: &Settings, group: GroupId) -> String {
    let Some(group) = settings.groups.get(group.0 as usize) else { return "?".to_owned() };
    match settings.devices.get(group.device) {
        Some(device) => format!("{}/{}", device.name, group.name),
        None => group.name.to_string(),
    }
}

fn tag_name(settings: &Settings, tag: usize) -> String {
    let Some(tag) = settings.tags.get(tag) else { return "?".to_owned() };
    let device = settings.groups.get(tag.group).and_then(|group| settings.devices.get(group.device));
    device.map_or_else(|| tag.name.to_string(), |device| format!("{}/{}", device.name, tag.name))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Milliseconds, with decimals only where they matter.
fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms >= 100.0 || ms.fract() == 0.0 { format!("{ms:.0}") } else { format!("{ms:.1}") }
}

fn align(rows: &[[String; 10]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            let _ = if column < NUMBERS_FROM {
                write!(line, "{cell:<width$}")
            } else {
                write!(line, "{cell:>width$}")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

//! Small configurations for the tests of this room.

use std::time::Duration;

use super::request::{Table, UnitId};
use super::settings::{Bus, Connection, Device, Group, Kind, Medium, Parity, Point, Serial, Settings, Tag};
use crate::process::settings::{Deadband, Filter};
use crate::tag::Name;

pub(crate) struct Build {
    pub(crate) settings: Settings,
}

/// An unsigned holding register.
pub(crate) fn holding(address: u16) -> Point {
    Point { table: Table::Holding, address, kind: Kind::U16 { swap: false } }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("test names are names")
}

impl Build {
    pub(crate) fn serial(baud: u32) -> Self {
        let port = "/dev/null".into();
        let parity = Parity::Even;
        Self::on(Medium::Serial(Serial { port, baud, parity, data_bits: 8, stop_bits: 1, rs485: None }))
    }

    pub(crate) fn tcp(pipeline: u8) -> Self {
        let connect_timeout = Duration::from_secs(1);
        Self::on(Medium::Tcp {
            host: "localhost".into(),
            port: 502,
            pipeline,
            connect_timeout,
            connect_pause: Duration::ZERO,
            connection: Connection::Keep,
        })
    }

    pub(crate) fn on(medium: Medium) -> Self {
        let bus =
            Bus { name: name("line-0"), medium, probe_share: 0.05, fences: true, pause: Duration::ZERO };
        Self { settings: Settings { buses: vec![bus], ..Settings::default() } }
    }

    /// Adds a device and returns its index.
    pub(crate) fn device(&mut self, unit: u8) -> usize {
        self.settings.devices.push(Device {
            name: name(&format!("unit-{unit}")),
            bus: 0,
            unit: UnitId::tcp(unit),
            timeout: Duration::from_millis(500),
            retries: 1,
            delay_before: Duration::ZERO,
            turnaround: Duration::from_millis(100),
            dead_after: 3,
            probe_max: Duration::from_secs(60),
            registers_max: 125,
            bits_max: 2000,
            gap_max: 8,
            one_by_one: false,
            base: 0,
        });
        self.settings.devices.len() - 1
    }

    /// Adds a group of points and returns its index.
    pub(crate) fn group(&mut self, device: usize, every_ms: u64, points: Vec<Point>) -> usize {
        let group = self.settings.groups.len();
        let number = self.settings.groups.iter().filter(|group| group.device == device).count() + 1;
        let tags_start = self.settings.tags.len();
        let tags_len = points.len();
        self.settings.tags.extend(points.into_iter().enumerate().map(|(index, point)| Tag {
            name: name(&format!("tag-{group}-{index}")),
            group,
            point,
            unit: None,
            scale: None,
            range: None,
            filter: Filter { deadband: Deadband::Off, silence_max: None, stale_after: 0 },
            writable: false,
            alarm: false,
        }));
        let every = Duration::from_millis(every_ms);
        self.settings.groups.push(Group {
            device,
            name: name(&number.to_string()),
            every,
            tags_start,
            tags_len,
        });
        group
    }
}

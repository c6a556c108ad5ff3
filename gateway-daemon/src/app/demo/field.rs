//! The pretend field: the simulated devices of a configuration behind loopback ports, so that one of them can lose its power.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use drivers::sim::model::Model;
use drivers::sim::serve::{self, Units};
use drivers::sim::slave::Tables;
use gateway_core::poll::request::Table;
use gateway_core::poll::settings::{Connection, Kind, Medium, Settings};
use gateway_core::tag::BootNs;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How long a connection to a loopback port may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The simulated devices; they are gone when this is dropped.
pub struct Field {
    /// The device that can lose its power, if there are others beside it.
    pub weak: Option<Weak>,
    /// What can be written.
    pub written: Option<Written>,
    _servers: JoinSet<()>,
}

/// A device that can lose its power.
pub struct Weak {
    /// Its name.
    pub device: String,
    power: Arc<AtomicBool>,
}

impl Weak {
    /// Switches its power.
    pub fn power(&self, on: bool) {
        self.power.store(on, Ordering::Relaxed);
    }
}

/// A tag of a simulated device that can be written, and the values that are written in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The device.
    pub device: String,
    /// The tag.
    pub tag: String,
    /// The values, as a person would write them.
    pub values: [String; 2],
}

/// A simulated device with a switch.
struct Switched {
    model: Model,
    power: Arc<AtomicBool>,
}

impl Tables for Switched {
    fn at(&mut self, now: BootNs) {
        self.model.at(now);
    }

    fn is_silent(&self) -> bool {
        !self.power.load(Ordering::Relaxed)
    }

    fn register(&mut self, table: Table, address: u16) -> Result<u16, u8> {
        self.model.register(table, address)
    }

    fn bit(&mut self, table: Table, address: u16) -> Result<bool, u8> {
        self.model.bit(table, address)
    }

    fn set_register(&mut self, address: u16, value: u16) -> Result<(), u8> {
        self.model.set_register(address, value)
    }

    fn set_coil(&mut self, address: u16, on: bool) -> Result<(), u8> {
        self.model.set_coil(address, on)
    }

    fn identity(&self, object: u8) -> Option<&str> {
        self.model.identity(object)
    }
}

impl Field {
    /// Puts the devices of every simulated bus behind a loopback port, and tells the configuration so. Other buses stay as they are, and nothing of
    /// them is touched.
    ///
    /// # Errors
    /// No port can be opened.
    pub async fn start(settings: &mut Settings) -> anyhow::Result<Self> {
        let simulated: Vec<usize> =
            (0..settings.buses.len()).filter(|bus| settings.buses[*bus].medium == Medium::Sim).collect();
        let mut servers = JoinSet::new();
        let mut weak = None;
        let written = written(settings, &simulated);
        for bus in simulated {
            let devices: Vec<usize> =
                (0..settings.devices.len()).filter(|device| settings.devices[*device].bus == bus).collect();
            let mut units = Units::new();
            for &number in &devices {
                let device = &settings.devices[number];
                let power = Arc::new(AtomicBool::new(true));
                let switched =
                    Switched { model: Model::of_device(settings, number), power: Arc::clone(&power) };
                units.insert(device.unit.get(), Box::new(switched));
                let name = device.name.to_string();
                let wanted = written.as_ref().is_some_and(|written| written.device == name);
                if devices.len() > 1 && !wanted {
                    weak = Some(Weak { device: name, power });
                }
            }
            let listener =
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot open a loopback port")?;
            let address = listener.local_addr().context("the port has no address")?;
            servers.spawn(async move {
                if let Err(fault) = serve::tcp(listener, units).await {
                    log::warn!("the simulated devices are gone: {fault}");
                }
            });
            settings.buses[bus].medium = Medium::Tcp {
                host: address.ip().to_string(),
                port: address.port(),
                pipeline: 1,
                connect_timeout: CONNECT_TIMEOUT,
                connect_pause: Duration::ZERO,
                connection: Connection::Keep,
            };
        }
        Ok(Self { weak, written, _servers: servers })
    }
}

/// The first number with a range that can be written on these buses.
fn written(settings: &Settings, buses: &[usize]) -> Option<Written> {
    settings.tags.iter().find_map(|tag| {
        let device = &settings.devices[settings.groups[tag.group].device];
        let is_number = !matches!(tag.point.kind, Kind::Bit | Kind::BitOf(_) | Kind::Text { .. });
        if !tag.writable || !is_number || !buses.contains(&device.bus) {
            return None;
        }
        let range = tag.range?;
        let (min, max) = (range.min?.to_f64(), range.max?.to_f64());
        let part = |share: f64| format!("{:.0}", min + (max - min) * share);
        Some(Written {
            device: device.name.to_string(),
            tag: tag.name.to_string(),
            values: [part(0.6), part(0.5)],
        })
    })
}

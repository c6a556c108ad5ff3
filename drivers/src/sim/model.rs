//! Believable devices: points whose values move like those of the real thing.
//!
//! A [`Model`] is a list of points, each with a wave, plus what was written to it. The same moment always gives the same
//! values, so a test can compute what it must read.

use std::collections::BTreeMap;

use gateway_core::poll::encode::{Raw, encode};
use gateway_core::poll::request::Table;
use gateway_core::poll::settings::{Kind, Order4, Point, Settings};
use gateway_core::tag::{BootNs, Value};

use super::mix;
use super::slave::{Tables, exception};

/// How a value moves with time.
#[derive(Debug, Clone, PartialEq)]
pub enum Wave {
    /// It stays.
    Fixed(Value),
    /// Around `mean`, `swing` up and down in `period_s`, with a little noise.
    Sine {
        /// Middle.
        mean: f64,
        /// Largest distance from the middle.
        swing: f64,
        /// Length of one oscillation, s.
        period_s: f64,
    },
    /// Counts up by `per_s` every second, from `start`.
    Counter {
        /// Value at boot.
        start: f64,
        /// Growth per second.
        per_s: f64,
    },
    /// On and off, each for `half_s`.
    Square {
        /// Length of one half, s.
        half_s: f64,
    },
}

/// One point of a model: a wave of engineering values behind a scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Spot {
    /// Where it is and how it is encoded.
    pub point: Point,
    /// Engineering value = raw * factor + offset.
    pub factor: f64,
    /// See `factor`.
    pub offset: f64,
    /// How its engineering value moves.
    pub wave: Wave,
}

/// A simulated device.
#[derive(Debug, Clone, Default)]
pub struct Model {
    product: String,
    spots: Vec<Spot>,
    written: BTreeMap<(Table, u16), u16>,
    now: BootNs,
}

impl Model {
    /// A device of these points.
    #[must_use]
    pub fn new(product: &str, spots: Vec<Spot>) -> Self {
        Self { product: product.to_owned(), spots, ..Self::default() }
    }

    /// Everything that the configuration polls from one device, with waves that fit units and types.
    #[must_use]
    pub fn of_device(settings: &Settings, device: usize) -> Self {
        let groups: Vec<usize> =
            (0..settings.groups.len()).filter(|g| settings.groups[*g].device == device).collect();
        let tags = settings.tags.iter().filter(|tag| groups.contains(&tag.group));
        let spots = tags.enumerate().map(|(number, tag)| {
            let scale = tag.scale.map_or((1.0, 0.0), |scale| (scale.factor, scale.offset));
            let wave = wave_for(tag.point, tag.unit.as_deref(), tag.name.as_str(), number);
            Spot { point: tag.point, factor: scale.0, offset: scale.1, wave }
        });
        let name = settings.devices.get(device).map_or("simulated device", |device| device.name.as_str());
        Self::new(name, spots.collect())
    }

    /// A three-phase power meter: voltages and currents as u16 (0.1 V, 0.01 A) at holding 0 to 5, power as f32 at 10, energy as
    /// u32 in Wh at 12, frequency (0.01 Hz) at 14.
    #[must_use]
    pub fn power_meter() -> Self {
        let mut spots = Vec::new();
        for phase in 0..3u16 {
            let period_s = 37.0 + f64::from(phase) * 5.0;
            let volt = Wave::Sine { mean: 230.0, swing: 4.0, period_s };
            let ampere = Wave::Sine { mean: 12.0, swing: 6.0, period_s: period_s * 1.7 };
            spots.push(spot(Table::Holding, phase, Kind::U16 { swap: false }, 0.1, volt));
            spots.push(spot(Table::Holding, 3 + phase, Kind::U16 { swap: false }, 0.01, ampere));
        }
        let watt = Wave::Sine { mean: 8300.0, swing: 4000.0, period_s: 60.0 };
        spots.push(spot(Table::Holding, 10, Kind::F32(Order4::Abcd), 1.0, watt));
        let watt_hour = Wave::Counter { start: 1_234_567.0, per_s: 2.3 };
        spots.push(spot(Table::Holding, 12, Kind::U32(Order4::Abcd), 1.0, watt_hour));
        let hertz = Wave::Sine { mean: 50.0, swing: 0.05, period_s: 11.0 };
        spots.push(spot(Table::Holding, 14, Kind::U16 { swap: false }, 0.01, hertz));
        Self::new("power meter", spots)
    }

    /// A temperature controller: actual value at input 0 (i16, 0.1 °C), set point at holding 0 (writable), output in % at input 1.
    #[must_use]
    pub fn temperature_controller() -> Self {
        let celsius = Wave::Sine { mean: 72.0, swing: 3.0, period_s: 90.0 };
        let percent = Wave::Sine { mean: 45.0, swing: 30.0, period_s: 45.0 };
        let set_point = Wave::Fixed(Value::Float(72.0));
        let kind = Kind::I16 { swap: false };
        Self::new(
            "temperature controller",
            vec![
                spot(Table::Input, 0, kind, 0.1, celsius),
                spot(Table::Input, 1, kind, 0.1, percent),
                spot(Table::Holding, 0, kind, 0.1, set_point),
            ],
        )
    }

    /// An IO module: eight discrete inputs that switch every few seconds, eight coils that keep what is written.
    #[must_use]
    pub fn io_module() -> Self {
        let inputs = (0..8u16)
            .map(|n| spot(Table::Discrete, n, Kind::Bit, 1.0, Wave::Square { half_s: 3.0 + f64::from(n) }));
        let coils = (0..8u16).map(|n| spot(Table::Coil, n, Kind::Bit, 1.0, Wave::Fixed(Value::Bool(false))));
        Self::new("io module", inputs.chain(coils).collect())
    }

    /// The spots that cover an address, from the one declared last.
    fn covering(&self, table: Table, address: u16) -> impl Iterator<Item = &Spot> {
        self.spots.iter().rev().filter(move |spot| {
            let behind = address.checked_sub(spot.point.address);
            spot.point.table == table && behind.is_some_and(|behind| behind < spot.point.kind.registers())
        })
    }
}

fn spot(table: Table, address: u16, kind: Kind, factor: f64, wave: Wave) -> Spot {
    Spot { point: Point { table, address, kind }, factor, offset: 0.0, wave }
}

impl Spot {
    /// Engineering value at `now`.
    #[must_use]
    pub fn value(&self, now: BootNs) -> Value {
        #[allow(clippy::cast_precision_loss, reason = "microseconds of a year have 45 bits")]
        let seconds = (now.0 / 1000) as f64 / 1e6;
        match &self.wave {
            Wave::Fixed(value) => value.clone(),
            Wave::Sine { mean, swing, period_s } => {
                let noise =
                    f64::from(u16::from_le_bytes(noise_bytes(now, self.point.address))) / 65_536.0 - 0.5;
                Value::Float(
                    mean + swing * (seconds / period_s * std::f64::consts::TAU).sin() + noise * swing * 0.02,
                )
            }
            Wave::Counter { start, per_s } => Value::Float(start + seconds * per_s),
            Wave::Square { half_s } => Value::Bool((seconds / half_s).rem_euclid(2.0) >= 1.0),
        }
    }

    /// Registers or bits at `now`; values that do not fit the type stay at zero.
    fn raw(&self, now: BootNs) -> Raw {
        let value = match self.value(now) {
            Value::Float(value) => scaled((value - self.offset) / self.factor, self.point.kind),
            other => other,
        };
        encode(self.point.kind, &value).unwrap_or(Raw::Registers(vec![
            0;
            usize::from(
                self.point.kind.registers()
            )
        ]))
    }
}

/// A raw value in the type of the point: whole numbers for everything but floats.
fn scaled(raw: f64, kind: Kind) -> Value {
    match kind {
        Kind::F32(_) | Kind::F64(_) => Value::Float(raw),
        Kind::Bit | Kind::BitOf(_) => Value::Bool(raw > 0.5),
        _ => Value::Float(raw.round()),
    }
}

/// Noise changes once a second, so that report by exception has something to do and something to skip.
fn noise_bytes(now: BootNs, address: u16) -> [u8; 2] {
    let bytes = mix((now.ms() / 1000) << 16 | u64::from(address)).to_le_bytes();
    [bytes[0], bytes[1]]
}

/// A wave that looks right for a unit.
fn wave_for(point: Point, unit: Option<&str>, name: &str, number: usize) -> Wave {
    let spread = 1.0 + f64::from(u8::try_from(number % 16).unwrap_or(0)) / 10.0;
    let sine = |mean: f64, swing: f64, period_s: f64| Wave::Sine { mean, swing, period_s: period_s * spread };
    match (point.kind, unit.unwrap_or_default()) {
        (Kind::Text { .. }, _) => Wave::Fixed(Value::Text(name.into())),
        (Kind::Bit | Kind::BitOf(_), _) if point.table == Table::Coil => Wave::Fixed(Value::Bool(false)),
        (Kind::Bit | Kind::BitOf(_), _) => Wave::Square { half_s: 5.0 * spread },
        (_, "Wh" | "kWh" | "varh" | "m³" | "m3" | "l") => Wave::Counter { start: 1000.0, per_s: spread },
        (_, "V") => sine(230.0, 4.0, 40.0),
        (_, "A") => sine(12.0, 5.0, 30.0),
        (_, "W" | "VA" | "var") => sine(2800.0, 900.0, 60.0),
        (_, "kW") => sine(2.8, 0.9, 60.0),
        (_, "Hz") => sine(50.0, 0.05, 15.0),
        (_, "°C" | "C") => sine(21.5, 2.0, 120.0),
        (_, "bar") => sine(3.2, 0.3, 50.0),
        _ => sine(50.0, 40.0, 30.0),
    }
}

impl Tables for Model {
    fn at(&mut self, now: BootNs) {
        self.now = now;
    }

    fn register(&mut self, table: Table, address: u16) -> Result<u16, u8> {
        if !matches!(table, Table::Holding | Table::Input) {
            return Err(exception::ADDRESS);
        }
        if let Some(written) = self.written.get(&(table, address)) {
            return Ok(*written);
        }
        let (mut found, mut register) = (false, 0);
        for spot in self.covering(table, address) {
            found = true;
            match spot.raw(self.now) {
                Raw::Registers(words) => {
                    return words
                        .get(usize::from(address - spot.point.address))
                        .copied()
                        .ok_or(exception::ADDRESS);
                }
                Raw::Masked { and, or } => register = (register & and) | (or & !and),
                Raw::Bit(on) => register = u16::from(on),
            }
        }
        if found { Ok(register) } else { Err(exception::ADDRESS) }
    }

    fn bit(&mut self, table: Table, address: u16) -> Result<bool, u8> {
        if let Some(written) = self.written.get(&(table, address)) {
            return Ok(*written != 0);
        }
        let raw = self.covering(table, address).next().map(|spot| spot.raw(self.now));
        match raw {
            Some(Raw::Bit(on)) => Ok(on),
            _ => Err(exception::ADDRESS),
        }
    }

    fn set_register(&mut self, address: u16, value: u16) -> Result<(), u8> {
        if self.covering(Table::Holding, address).next().is_none() {
            return Err(exception::ADDRESS);
        }
        self.written.insert((Table::Holding, address), value);
        Ok(())
    }

    fn set_coil(&mut self, address: u16, on: bool) -> Result<(), u8> {
        if self.covering(Table::Coil, address).next().is_none() {
            return Err(exception::ADDRESS);
        }
        self.written.insert((Table::Coil, address), u16::from(on));
        Ok(())
    }

    fn identity(&self, object: u8) -> Option<&str> {
        match object {
            0 => Some("Tidegate"),
            1 => Some(&self.product),
            2 => Some(env!("CARGO_PKG_VERSION")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::slave::answer;

    #[test]
    fn power_meter_shows_a_mains_voltage_and_a_growing_energy() {
        let mut meter = Model::power_meter();
        let mut energy = 0;
        for second in [1u64, 100, 10_000] {
            meter.at(BootNs(second * 1_000_000_000));
            let volt = meter.register(Table::Holding, 0).unwrap();
            assert!((2200..2400).contains(&volt), "{volt}");
            let words = [12, 13].map(|a| u32::from(meter.register(Table::Holding, a).unwrap()));
            let reading = words[0] << 16 | words[1];
            assert!(reading > energy, "{reading} after {energy}");
            energy = reading;
        }
    }

    #[test]
    fn written_values_stay_and_unknown_addresses_are_refused() {
        let mut module = Model::io_module();
        assert_eq!(answer(&mut module, &[5, 0, 3, 0xFF, 0]), [5, 0, 3, 0xFF, 0]);
        assert_eq!(answer(&mut module, &[1, 0, 0, 0, 8]), [1, 1, 0b1000]);
        assert_eq!(answer(&mut module, &[1, 0, 1, 0, 8]), [0x81, exception::ADDRESS]);
        let mut controller = Model::temperature_controller();
        assert_eq!(answer(&mut controller, &[6, 0, 0, 2, 0]), [6, 0, 0, 2, 0]);
        assert_eq!(answer(&mut controller, &[3, 0, 0, 0, 1]), [3, 2, 2, 0]);
        assert_eq!(answer(&mut controller, &[43, 14, 4, 1])[..4], [43, 14, 4, 0x81]);
    }
}

//! Words of the command line with a shape of their own.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use gateway_core::poll::request::{Table, UnitId};
use gateway_core::tag::Name;

use super::WriteTarget;

/// Longest time a command line may name: a day.
const DURATION_MAX: Duration = Duration::from_secs(86_400);

/// Longest name of a user that a configuration takes, bytes.
const USER_BYTES_MAX: usize = 256;

/// A name that a user of the local broker can have.
pub(super) fn user(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > USER_BYTES_MAX || text.contains(char::is_control) {
        return Err(format!("a user name has 1 to {USER_BYTES_MAX} bytes and no control characters"));
    }
    Ok(text.to_owned())
}

/// A tag of the configuration: `DEVICE/TAG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRef {
    /// The device.
    pub device: Name,
    /// The tag within the device.
    pub tag: Name,
}

impl FromStr for TagRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (device, tag) = text
            .split_once('/')
            .ok_or_else(|| format!("{text:?} is not DEVICE/TAG, such as meter1/voltage"))?;
        let name = |part| Name::new(part).map_err(|error| format!("{text:?} is not DEVICE/TAG: {error}"));
        Ok(Self { device: name(device)?, tag: name(tag)? })
    }
}

impl fmt::Display for TagRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.tag)
    }
}

/// Registers or bits of a unit, whether the configuration knows them or not: `BUS:UNIT:TABLE:ADDRESS[:COUNT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawPoint {
    /// Bus of the configuration.
    pub bus: Name,
    /// Unit on that bus, 0 to 255; whether the bus can have it is for the gateway to say.
    pub unit: UnitId,
    /// Table.
    pub table: Table,
    /// Zero-based address.
    pub address: u16,
    /// How many, 1 to 125 registers or 2000 bits ("MODBUS Application Protocol V1.1b3", 6.1 and 6.3).
    pub count: u16,
}

impl FromStr for RawPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (bus, unit, table, address, count) = match parts[..] {
            [bus, unit, table, address] => (bus, unit, table, address, "1"),
            [bus, unit, table, address, count] => (bus, unit, table, address, count),
            _ => {
                return Err(
                    "BUS:UNIT:TABLE:ADDRESS[:COUNT] is expected, such as rs485-1:17:holding:0:10".into()
                );
            }
        };
        let table = match table {
            "coil" => Table::Coil,
            "discrete" => Table::Discrete,
            "holding" => Table::Holding,
            "input" => Table::Input,
            other => return Err(format!("{other:?} is no table: coil, discrete, holding or input")),
        };
        let most = if matches!(table, Table::Coil | Table::Discrete) { 2000 } else { 125 };
        let address: u16 = number(address, "address", 0, u16::MAX)?;
        let count = number(count, "count", 1, most)?;
        if u32::from(address) + u32::from(count) > 65_536 {
            return Err(format!("{count} from address {address} on go beyond address 65535"));
        }
        let bus = Name::new(bus).map_err(|error| format!("{bus:?} is no bus: {error}"))?;
        Ok(Self { bus, unit: UnitId::tcp(unit_number(unit)?), table, address, count })
    }
}

/// Baud rates that UARTs and converters have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Baud(pub u32);

impl FromStr for Baud {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(baud @ 300..=4_000_000) => Ok(Self(baud)),
            _ => Err("a baud rate of 300 to 4000000 is expected, such as 9600".into()),
        }
    }
}

/// A range of units, first and last included, within 0 to 255; what the line can have is for the command to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Units {
    /// First unit.
    pub first: u8,
    /// Last unit.
    pub last: u8,
}

impl FromStr for Units {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err("units are 1 to 247, with --tcp 0 to 255, such as 17 or 1-32".into()),
        }
    }
}

/// A host with a port, if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, without the brackets of an IPv6 address.
    pub host: String,
    /// TCP port.
    pub port: Option<u16>,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "HOST or HOST:PORT is expected, such as 192.168.1.20:502 or [fe80::1]:502".to_owned();
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, tail) = rest.split_once(']').ok_or_else(wrong)?;
                (host, tail.strip_prefix(':'))
            }
            None => match text.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(wrong()),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let port = port.map(|port| number(port, "port", 1, u16::MAX)).transpose()?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// A time with its unit: `500ms`, `20s`, `5m`, `1h`; at most a day.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a time with its unit is expected, such as 500ms, 20s, 5m or 1h (at most 24h)".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let count: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let time = Duration::from_millis(count.checked_mul(unit_ms).ok_or_else(wrong)?);
    if time.is_zero() || time > DURATION_MAX { Err(wrong()) } else { Ok(time) }
}

/// Values after `--raw`: registers or coils by the table of the point.
pub(super) fn raw_values(point: &RawPoint, words: &[String]) -> Result<WriteTarget, String> {
    if point.count != 1 {
        return Err("a raw write has no COUNT: as many are written as values are given".into());
    }
    let most = match point.table {
        Table::Coil => 1968,
        Table::Holding => 123,
        Table::Discrete | Table::Input => {
            return Err(format!("table {} is read-only", super::table_word(point.table)));
        }
    };
    if words.len() > most || usize::from(point.address) + words.len() > 65_536 {
        return Err(format!("at most {most} values fit into one request, and the last address is 65535"));
    }
    if point.table == Table::Coil {
        let on = |word: &String| match word.as_str() {
            "1" | "on" | "true" => Ok(true),
            "0" | "off" | "false" => Ok(false),
            other => Err(format!("{other:?} is no coil value: on or off")),
        };
        return Ok(WriteTarget::Coils(point.clone(), words.iter().map(on).collect::<Result<_, _>>()?));
    }
    let value = |word: &String| number(word, "register value", 0, u16::MAX);
    Ok(WriteTarget::Registers(point.clone(), words.iter().map(value).collect::<Result<_, _>>()?))
}

fn unit_number(text: &str) -> Result<u8, String> {
    text.parse().map_err(|_| format!("unit {text:?} is not 0 to 255"))
}

/// A decimal number, or a hexadecimal one with `0x` as device manuals print them.
fn number(text: &str, what: &str, least: u16, most: u16) -> Result<u16, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    match parsed {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("{what} {text:?} is not {least} to {most}")),
    }
}

//! `[bus.NAME]`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use gateway_core::poll::settings::{Bus, Connection, Medium, Parity, Rs485, Serial};
use gateway_core::tag::Name;
use toml::de::DeValue;

use super::{Context, url};
use crate::keys::field::{RTU, RTU_OVER_TCP, SIM, TCP};
use crate::reader::Reader;
use crate::words;

/// Buses of one gateway: a site of 200 devices with Modbus TCP has 200. Each has a task, a timer and a connection, which was measured with so many
/// (docs/hardware.md).
pub(crate) const BUSES_MAX: usize = 256;

/// Speeds that UARTs and devices are made for.
const USUAL_BAUDS: &[i64] = &[
    110, 300, 600, 1200, 2400, 4800, 9600, 14_400, 19_200, 28_800, 38_400, 56_000, 57_600, 76_800, 115_200,
    128_000, 187_500, 230_400, 250_000, 256_000, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000,
    1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
];

/// A bus as far as it could be read: devices refer to it even when something in it is wrong.
pub(crate) struct ReadBus {
    pub(crate) name: Name,
    /// Whether unit ids are those of a serial line; `None` while the driver is not known.
    pub(crate) is_serial: Option<bool>,
    pub(crate) bus: Option<Bus>,
    /// Where its name stands.
    pub(crate) span: Range<usize>,
}

/// All buses.
pub(crate) fn buses<'a, 't>(cx: &Context<'a, 't>, file: &Reader<'a, 't>) -> Vec<ReadBus> {
    let mut tables = file.named("bus");
    super::at_most(cx, file, "bus", &mut tables, BUSES_MAX, "buses");
    let mut lines: BTreeMap<String, (Range<usize>, Name)> = BTreeMap::new();
    let mut list = Vec::new();
    for (name, span, reader) in tables {
        let driver = reader.choice("driver");
        let medium = match driver {
            Some(driver) => medium(cx, &reader, driver),
            None => {
                look_without_driver(cx, &reader);
                None
            }
        };
        let pause = reader.duration("pause");
        let probe_share = reader.float("probe_share");
        let fences = match driver {
            Some(RTU | RTU_OVER_TCP) => reader.bool("fences"),
            _ => Some(true),
        };
        if let Some(line) = medium.as_ref().and_then(line_of) {
            if let Some((first, other)) = lines.get(&line) {
                let text = format!(
                    "bus `{name}` uses {} like bus `{other}` in line {}, expected one bus for each line: put the devices of both on one bus",
                    words::shown(&line),
                    cx.found.line(first)
                );
                let at = reader.at(if reader.has("host") { "host" } else { "port" });
                cx.found.misfit(&at, text);
            } else {
                lines.insert(line, (reader.here(), name.clone()));
            }
        }
        let bus = match (medium, pause, probe_share, fences) {
            (Some(medium), Some(pause), Some(probe_share), Some(fences)) => {
                Some(Bus { name: name.clone(), medium, probe_share, fences, pause })
            }
            _ => None,
        };
        let is_serial = driver.map(|d| d == RTU || d == SIM);
        list.push(ReadBus { name, is_serial, bus, span });
    }
    list
}

/// Reports what is wrong in a bus whose driver is missing or mistyped, as far as its other keys show what it is.
fn look_without_driver<'a, 't>(cx: &Context<'a, 't>, reader: &Reader<'a, 't>) {
    if reader.has("baud") && reader.has("port") {
        let _ = serial(cx, reader);
    } else if reader.has("host") {
        let _ = (host(cx, reader, TCP), tcp_port(cx, reader), reader.duration("connect_timeout"));
        let _ = (reader.duration("connect_pause"), connection(reader));
    }
}

/// What two buses cannot share.
fn line_of(medium: &Medium) -> Option<String> {
    match medium {
        Medium::Serial(serial) => Some(serial.port.display().to_string()),
        Medium::Tcp { host, port, .. } | Medium::RtuOverTcp { host, port, .. } => {
            Some(format!("{host}:{port}"))
        }
        Medium::Sim => None,
    }
}

fn medium<'a, 't>(cx: &Context<'a, 't>, reader: &Reader<'a, 't>, driver: &'static str) -> Option<Medium> {
    reader.only("driver", driver);
    match driver {
        RTU => serial(cx, reader).map(Medium::Serial),
        TCP => {
            let (host, port) = (host(cx, reader, driver), tcp_port(cx, reader));
            let (pipeline, connect_timeout) = (reader.uint("pipeline"), reader.duration("connect_timeout"));
            let (connect_pause, connection) = (reader.duration("connect_pause"), connection(reader));
            Some(Medium::Tcp {
                host: host?,
                port: port?,
                pipeline: pipeline?,
                connect_timeout: connect_timeout?,
                connect_pause: connect_pause?,
                connection: connection?,
            })
        }
        RTU_OVER_TCP => {
            let (host, port) = (host(cx, reader, driver), tcp_port(cx, reader));
            let (connect_timeout, frame_silence) =
                (reader.duration("connect_timeout"), reader.duration("frame_silence"));
            let (connect_pause, connection) = (reader.duration("connect_pause"), connection(reader));
            Some(Medium::RtuOverTcp {
                host: host?,
                port: port?,
                connect_timeout: connect_timeout?,
                connect_pause: connect_pause?,
                connection: connection?,
                frame_silence: frame_silence?,
            })
        }
        _ => Some(Medium::Sim),
    }
}

fn connection(reader: &Reader<'_, '_>) -> Option<Connection> {
    Some(if reader.choice("connection")? == "per-cycle" { Connection::PerCycle } else { Connection::Keep })
}

fn lacks(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, driver: &str, key: &str, example: &str) {
    if reader.lacks(key) {
        let text = format!("driver = \"{driver}\" needs `{key}` in the same table: write {key} = {example}");
        cx.found.misfit(&reader.here(), text);
    }
}

fn serial<'a, 't>(cx: &Context<'a, 't>, reader: &Reader<'a, 't>) -> Option<Serial> {
    lacks(cx, reader, RTU, "port", "\"/dev/serial/by-id/...\"");
    lacks(cx, reader, RTU, "baud", "19200, or what the device's display says");
    let port = serial_port(cx, reader);
    let baud = reader.int("baud");
    if let Some(baud) = baud.filter(|b| !USUAL_BAUDS.contains(b)) {
        let near = USUAL_BAUDS.iter().min_by_key(|usual| usual.abs_diff(baud)).copied().unwrap_or(19_200);
        cx.found.warn(&reader.at("baud"), format!("`baud` = {baud} is unusual, did you mean {near}?"));
    }
    let parity = match reader.choice("parity") {
        Some("none") => Some(Parity::None),
        Some("odd") => Some(Parity::Odd),
        Some(_) => Some(Parity::Even),
        None => None,
    };
    let stop_bits = if reader.lacks("stop_bits") {
        // Every character has 11 bits ("MODBUS over Serial Line V1.02", 2.5.1).
        parity.map(|parity| if parity == Parity::None { 2 } else { 1 })
    } else {
        reader.uint("stop_bits")
    };
    let rs485 = if reader.has("rs485") { Some(rs485(reader)?) } else { None };
    Some(Serial {
        port: port?,
        baud: u32::try_from(baud?).ok()?,
        parity: parity?,
        data_bits: 8,
        stop_bits: stop_bits?,
        rs485,
    })
}

fn rs485(reader: &Reader<'_, '_>) -> Option<Rs485> {
    let reader = reader.table("rs485")?;
    let ms = |d: Duration| u32::try_from(d.as_millis()).ok();
    let (before, after) = (reader.duration("delay_before"), reader.duration("delay_after"));
    let (rts_on_send, rx_during_tx) = (reader.bool("rts_on_send"), reader.bool("rx_during_tx"));
    Some(Rs485 {
        rts_on_send: rts_on_send?,
        delay_before_ms: ms(before?)?,
        delay_after_ms: ms(after?)?,
        rx_during_tx: rx_during_tx?,
    })
}

fn serial_port(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<PathBuf> {
    let (value, span) = reader.raw("port")?;
    if !value.is_str() {
        let text = "`port` is a number, expected the path of the serial device: write port = \"/dev/serial/by-id/...\"";
        cx.found.wrong(&span, text);
        return None;
    }
    let text = reader.text("port")?;
    let upper = text.to_uppercase();
    if upper.starts_with("COM") || text.contains('\\') {
        let text = format!(
            "`port` = \"{}\" is a Windows name, expected a Linux device: `ls /dev/serial/by-id` shows what is plugged in",
            words::shown(&text)
        );
        cx.found.wrong(&span, text);
        return None;
    }
    if !text.starts_with('/') {
        let text = format!(
            "`port` = \"{}\" is not a full path, expected one that begins with /: write port = \"/dev/{}\"",
            words::shown(&text),
            words::shown(text.trim_start_matches("dev/"))
        );
        cx.found.wrong(&span, text);
        return None;
    }
    if text.starts_with("/dev/ttyUSB") || text.starts_with("/dev/ttyACM") {
        let text = format!(
            "{} may get another number after an unplug or a restart: take its name from `ls -l /dev/serial/by-id`",
            words::shown(&text)
        );
        cx.found.warn(&span, text);
    }
    Some(PathBuf::from(text))
}

fn tcp_port(cx: &Context<'_, '_>, reader: &Reader<'_, '_>) -> Option<u16> {
    let Some((value, span)) = reader.raw("port") else { return Some(502) };
    let DeValue::Integer(int) = value else {
        let text = match value.as_str().map(|t| (t, t.parse::<u16>())) {
            Some((_, Ok(port))) => format!(
                "`port` is text in quotes, expected a whole number from 1 to 65535: write port = {port}"
            ),
            _ => "`port` is not a port number, expected a whole number from 1 to 65535: write port = 502"
                .to_owned(),
        };
        cx.found.wrong(&span, text);
        return None;
    };
    let port = u16::from_str_radix(int.as_str(), int.radix()).ok().filter(|p| *p > 0);
    if port.is_none() {
        let source = words::shown(cx.found.text(&span));
        cx.found.wrong(&span, format!("`port` = {source} is out of range, expected 1 to 65535"));
    }
    port
}

fn host(cx: &Context<'_, '_>, reader: &Reader<'_, '_>, driver: &str) -> Option<String> {
    lacks(cx, reader, driver, "host", "\"192.168.1.20\"");
    let host = reader.text("host")?;
    if let Some((place, port)) = host.rsplit_once(':').filter(|(place, _)| !place.contains(':')) {
        let text = format!(
            "`host` holds a port, expected the name or address alone: write host = \"{}\" and port = {}",
            words::shown(place),
            words::shown(port)
        );
        cx.found.wrong(&reader.at("host"), text);
        return None;
    }
    if !url::host_is_good(&host) {
        let text = format!(
            "`host` = \"{}\" is neither a host name nor an address, expected for example \"192.168.1.20\"",
            words::shown(&host)
        );
        cx.found.wrong(&reader.at("host"), text);
        return None;
    }
    Some(host)
}

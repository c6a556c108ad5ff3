//! The configuration of a bench: some buses with equal devices on each, every register a tag.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use gateway_daemon::app::snapshot::{Link, Snapshot};
use tidegate_tests::fast_device::FastDevice;

/// A number of equal devices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plant {
    /// Connections, each to an endpoint of its own.
    pub buses: u16,
    /// Devices behind each of them.
    pub devices: u16,
    /// Registers of each device, every one a tag.
    pub registers: u16,
    /// Scan interval.
    pub every: &'static str,
    /// Requests in flight per connection.
    pub pipeline: u8,
    /// One message per device and poll, or one per tag.
    pub shape: &'static str,
}

impl Plant {
    /// Starts the devices.
    pub(crate) async fn devices(&self) -> Result<Vec<FastDevice>> {
        let mut devices = Vec::new();
        for _ in 0..self.buses {
            devices.push(FastDevice::start().await?);
        }
        Ok(devices)
    }

    /// The configuration, with `uplink` as the lines of `[uplink.cloud]`. Tags report on change, and every value changes in every poll:
    /// so each poll is a full message as long as the devices are there, and there is silence once they are gone.
    pub(crate) fn config(&self, dir: &Path, uplink: &str, devices: &[FastDevice]) -> Result<String> {
        let mut text = frame(dir, uplink, self.shape);
        for (bus, device) in devices.iter().enumerate() {
            bus_lines(&mut text, &format!("plc{bus}"), device.port, self.pipeline)?;
            for unit in 1..=self.devices {
                let name = format!("device{bus}-{unit}");
                writeln!(text, "[device.{name}]\nbus = \"plc{bus}\"\nunit = {unit}")?;
                writeln!(text, "[[device.{name}.poll]]\nevery = \"{}\"", self.every)?;
                for register in 0..self.registers {
                    let tag = format!("{{ holding = {register}, type = \"u16\", on_change = true }}");
                    writeln!(text, "tags.r{register} = {tag}")?;
                }
            }
        }
        Ok(text)
    }
}

/// Gateway, store, message and uplink.
pub(crate) fn frame(dir: &Path, uplink: &str, shape: &str) -> String {
    let dir = dir.display();
    let tag = if shape == "tag" { "/{tag}" } else { "" };
    format!(
        "[gateway]\nid = \"gw\"\nsocket = \"{dir}/control.sock\"\n[store]\npath = \"{dir}/queue.db\"\n\
         [message]\nshape = \"{shape}\"\ntopic = \"{{gateway}}/{{device}}/{{group}}{tag}\"\n\
         [uplink.cloud]\n{uplink}\nbackoff_min = \"100ms\"\nbackoff_max = \"1s\"\n"
    )
}

/// One bus.
pub(crate) fn bus_lines(text: &mut String, name: &str, port: u16, pipeline: u8) -> Result<()> {
    writeln!(
        text,
        "[bus.{name}]\ndriver = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {port}\npipeline = {pipeline}"
    )?;
    Ok(())
}

/// The uplink lines of a plain broker on this machine.
pub(crate) fn plain(port: u16) -> String {
    format!("url = \"mqtt://127.0.0.1:{port}\"")
}

/// Whether everything works and messages are acknowledged.
pub(crate) fn works(now: &Snapshot) -> bool {
    now.buses.iter().all(|bus| bus.up)
        && now.uplinks[0].link == Link::Up
        && now.uplinks[0].ledger.acknowledged.rows > 0
}

/// A number for a table.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn real(number: u64) -> f64 {
    number as f64
}

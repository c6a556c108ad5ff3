//! What is around the machine: a device and a cloud on the host, and the configuration that leads to both.

use anyhow::Result;
use tempfile::TempDir;
use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::machine::{Card, Image};
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::Office;
use tidegate_tests::site::PERSISTENT;

/// A card somewhat larger than the image, so that the first boot has something to grow.
const CARD_MIB: u64 = 1024;

/// Device, cloud, office, and a place for cards.
pub(crate) struct World {
    pub(crate) device: CounterDevice,
    pub(crate) cloud: Mosquitto,
    pub(crate) office: Office,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        let device = CounterDevice::start().await?;
        let cloud =
            Mosquitto::start(&Options { extra: PERSISTENT, quiet: true, ..Options::default() }).await?;
        let office = Office::open(cloud.port(), "#").await?;
        let dir = tempfile::Builder::new().prefix("tidegate-card-").tempdir()?;
        Ok(Self { device, cloud, office, dir })
    }

    /// A fresh card without a configuration.
    pub(crate) fn card(&self, image: &Image) -> Result<Card> {
        let mut card = Card::flash(&image.card(), self.dir.path().join("card.img"), CARD_MIB)?;
        if image.is_product() {
            card.open_to_tests()?;
        }
        Ok(card)
    }

    /// The file of a gateway whose device and cloud are on the host. Every poll is a message of its own and every value a number of its own.
    pub(crate) fn config(&self, every: &str) -> String {
        self.config_through(self.cloud.port(), every)
    }

    /// The same with `cloud` as the port of the cloud.
    pub(crate) fn config_through(&self, cloud: u16, every: &str) -> String {
        let device = self.device.port;
        format!(
            r#"[gateway]
id = "gw"
[store]
commit_interval = "500ms"
[broker]
[broker.listener.lan]
address = "0.0.0.0:1883"
allow_plain = true
anonymous = true
[uplink.cloud]
url = "mqtt://10.0.2.2:{cloud}"
forward = ["gw/#", "plant/#"]
backoff_min = "500ms"
backoff_max = "2s"
ack_timeout = "10s"
[update]
uplink = "cloud"
allow_http = true
[bus.plc]
driver = "modbus-tcp"
host = "10.0.2.2"
port = {device}
[device.meter]
bus = "plc"
unit = 1
timeout = "5s"
[[device.meter.poll]]
every = "{every}"
tags.count0 = {{ holding = 0, type = "u32" }}
"#
        )
    }
}

//! What the gateway tells of its buses and devices, to local clients and to the cloud: with real peers on all sides.
//!
//! ```text
//! CounterDevice one <--Modbus TCP--+
//!                                  +-- Gateway --> FaultProxy --> Mosquitto --> Office
//! CounterDevice two <--Modbus TCP--+      ^
//!                                         +-- mosquitto_sub (local client)
//! ```

use anyhow::{Context as _, Result, ensure};
use gateway_daemon::app::snapshot::{Link, Snapshot};
use serde_json::Value;
use tidegate_tests::account::{balanced, uplink};
use tidegate_tests::clients::Sub;
use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{Arrival, Office};
use tidegate_tests::proxy::{Fault, FaultProxy};

const FIRST: &str = "gw/health/device/first";

/// A device on each of two buses, and a cloud.
struct Plant {
    dir: tempfile::TempDir,
    one: CounterDevice,
    two: CounterDevice,
    // Gone with the value.
    _cloud: Mosquitto,
    network: FaultProxy,
    office: Office,
}

impl Plant {
    async fn new() -> Result<Self> {
        let cloud = Mosquitto::start(&Options::default()).await?;
        Ok(Self {
            dir: tempfile::Builder::new().prefix("tidegate-health-").tempdir()?,
            one: CounterDevice::start().await?,
            two: CounterDevice::start().await?,
            network: FaultProxy::to_port(cloud.port()).await?,
            office: Office::open(cloud.port(), "gw/#").await?,
            _cloud: cloud,
        })
    }

    /// Both devices.
    fn config(&self) -> String {
        self.without_first() + &self.first()
    }

    fn first(&self) -> String {
        device("one", "first", self.one.port)
    }

    fn without_first(&self) -> String {
        let (dir, cloud) = (self.dir.path().display(), self.network.port());
        let head = format!(
            "[gateway]\nid = \"gw\"\nsocket = \"{dir}/control.sock\"\n[store]\npath = \"{dir}/queue.db\"\ncommit_interval = \"200ms\"\n\
             [uplink.cloud]\nurl = \"mqtt://127.0.0.1:{cloud}\"\nclient_id = \"gw\"\nbackoff_min = \"100ms\"\nbackoff_max = \"1s\"\n\
             [broker.listener.local]\naddress = \"127.0.0.1:0\"\n"
        );
        head + &device("two", "second", self.two.port)
    }

    /// A gateway that has told the cloud that the second device is good.
    async fn gateway(&self, config: &str) -> Result<Gateway> {
        let gateway = Gateway::start(self.dir.path(), config)?;
        self.hears("gw/health/device/second", "good").await?;
        Ok(gateway)
    }

    /// Waits until the last word of the cloud on a topic has this state; gives it back.
    async fn hears(&self, topic: &str, state: &str) -> Result<Value> {
        let wanted = |all: &[Arrival]| last(all, topic).is_some_and(|json| json["state"] == state);
        let all = self.office.wait_for(&format!("{topic} {state}"), wanted).await?;
        last(&all, topic).context("it was there")
    }

    /// Waits until a topic is cleared at the cloud.
    async fn hears_nothing_more_of(&self, topic: &str) -> Result<()> {
        let gone = |all: &[Arrival]| last(all, topic) == Some(Value::Null);
        self.office.wait_for(&format!("the end of {topic}"), gone).await.map(drop)
    }

    /// Waits until the status message names a fault; gives its sentence back.
    async fn hears_fault(&self, name: &str) -> Result<String> {
        let sentence = |all: &[Arrival]| last(all, "gw/status")?["faults"][name].as_str().map(str::to_owned);
        let all = self.office.wait_for(&format!("the fault {name}"), |all| sentence(all).is_some()).await?;
        let status = last(&all, "gw/status").context("it was there")?;
        ensure!(status["state"] == "online", "{status}");
        sentence(&all).context("it was there")
    }
}

fn device(bus: &str, device: &str, port: u16) -> String {
    format!(
        "[bus.{bus}]\ndriver = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         [device.{device}]\nbus = \"{bus}\"\nunit = 1\ntimeout = \"200ms\"\nretries = 0\ndead_after = 2\nprobe_max = \"1s\"\n\
         [[device.{device}.poll]]\nevery = \"100ms\"\ntags.count = {{ holding = 0, type = \"u32\" }}\n"
    )
}

fn last(all: &[Arrival], topic: &str) -> Option<Value> {
    all.iter().rev().find(|arrival| arrival.topic == topic).map(|arrival| arrival.json.clone())
}

fn count(all: &[Arrival], topic: &str) -> usize {
    all.iter().filter(|arrival| arrival.topic == topic).count()
}

/// A local client that has just subscribed to everything about health.
async fn local(gateway: &Gateway) -> Result<Sub> {
    let now: Snapshot = gateway.snapshot().await?;
    let address = &now.broker.context("a broker")?.listeners[0].address;
    let port = address.rsplit(':').next().context("a port")?.parse()?;
    Sub::start(port, &["-q", "1", "-t", "gw/health/#"]).await
}

/// The next state that a local client hears on a topic; an empty payload is an empty text.
async fn next(sub: &mut Sub, topic: &str) -> Result<String> {
    loop {
        let heard = sub.next().await?;
        if heard.topic == topic {
            let json: Value = serde_json::from_str(&heard.payload).unwrap_or_default();
            return Ok(json["state"].as_str().unwrap_or_default().to_owned());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_wrong_serial_port_the_cloud_hears_which_ports_there_are() -> Result<()> {
    let plant = Plant::new().await?;
    let wrong = "[bus.line]\ndriver = \"modbus-rtu\"\nport = \"/dev/ttyNOPE7\"\nbaud = 9600\nparity = \"none\"\n\
                 [device.meter]\nbus = \"line\"\nunit = 1\n[[device.meter.poll]]\nevery = \"1s\"\ntags.v = { holding = 0, type = \"u16\" }\n";
    let gateway = plant.gateway(&(plant.config() + wrong)).await?;
    let said = plant.hears("gw/health/bus/line", "down").await?;
    let reason = said["reason"].as_str().unwrap_or_default();
    ensure!(reason.starts_with("no port /dev/ttyNOPE7: "), "{said}");
    ensure!(reason.contains("the ports there are: ") || reason.contains("there is no serial port"), "{said}");
    ensure!(
        said["text"].as_str().is_some_and(|text| text.contains("bus line is not open: no port")),
        "{said}"
    );
    let fault = plant.hears_fault("bus/line").await?;
    ensure!(fault.contains("no port /dev/ttyNOPE7: "), "{fault}");
    plant.hears("gw/health/device/meter", "down").await?;
    plant.hears("gw/health/bus/two", "up").await?;
    let mut late = local(&gateway).await?;
    ensure!(next(&mut late, "gw/health/bus/line").await? == "down");
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_dies_and_comes_back_is_told_to_the_cloud_and_to_local_clients() -> Result<()> {
    let plant = Plant::new().await?;
    let gateway = plant.gateway(&plant.config()).await?;
    plant.hears(FIRST, "good").await?;
    let mut client = local(&gateway).await?;
    ensure!(next(&mut client, FIRST).await? == "good", "it is retained");
    plant.one.set_mute(true);
    let dead = plant.hears(FIRST, "dead").await?;
    ensure!(dead["reason"] == "timeout" && dead["v"] == 1, "{dead}");
    ensure!(dead["text"].as_str().is_some_and(|text| text.contains("does not answer")), "{dead}");
    ensure!(dead["since"].is_string() != dead["since_boot_ms"].is_u64(), "{dead}");
    plant.hears_fault("device/first").await?;
    ensure!(next(&mut client, FIRST).await? == "dead");
    plant.one.set_mute(false);
    plant.hears(FIRST, "good").await?;
    ensure!(next(&mut client, FIRST).await? == "good");
    let well = |all: &[Arrival]| last(all, "gw/status").is_some_and(|status| status["faults"].is_null());
    plant.office.wait_for("a status without faults", well).await?;
    balanced(&gateway.snapshot().await?)?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_leaves_only_the_newest_state_of_a_device() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(&plant.config()).await?;
    plant.hears(FIRST, "good").await?;
    let mut client = local(&gateway).await?;
    ensure!(next(&mut client, FIRST).await? == "good");
    plant.network.set(Fault::AcceptAndClose);
    gateway.wait_for("the outage", |now| uplink(now).link != Link::Up).await?;
    let before = count(&plant.office.arrivals(), FIRST);
    for state in ["dead", "good", "dead"] {
        plant.one.set_mute(state == "dead");
        let heard = next(&mut client, FIRST).await?;
        ensure!(heard == state, "{heard} instead of {state}");
    }
    plant.network.set(Fault::None);
    plant.hears(FIRST, "dead").await?;
    gateway.wait_for("an empty queue", |now| uplink(now).ledger.stored.rows == 0).await?;
    ensure!(count(&plant.office.arrivals(), FIRST) == before + 1, "one message for the whole outage");
    balanced(&gateway.snapshot().await?)?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reload_takes_away_is_cleared_at_the_cloud_and_for_local_clients() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(&plant.config()).await?;
    plant.hears(FIRST, "good").await?;
    plant.hears("gw/health/bus/one", "up").await?;
    let mut client = local(&gateway).await?;
    ensure!(next(&mut client, FIRST).await? == "good");
    let after = gateway.reload(&plant.without_first()).await?;
    ensure!(after.refused.is_none(), "{after:?}");
    plant.hears_nothing_more_of(FIRST).await?;
    plant.hears_nothing_more_of("gw/health/bus/one").await?;
    ensure!(next(&mut client, FIRST).await?.is_empty());
    // Retained messages come in the order of their topics.
    let mut late = local(&gateway).await?;
    ensure!(late.next().await?.topic == "gw/health/bus/two");
    ensure!(late.next().await?.topic == "gw/health/device/second");
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_restart_finds_taken_away_is_cleared_at_the_cloud() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(&plant.config()).await?;
    plant.hears(FIRST, "good").await?;
    plant.hears("gw/health/bus/one", "up").await?;
    // All that was read is delivered: nothing of the device lies in the database.
    gateway.wait_for("nothing waits", |now| uplink(now).ledger.stored.rows == 0).await?;
    gateway.stop().await?;
    let gateway = plant.gateway(&plant.without_first()).await?;
    plant.hears_nothing_more_of(FIRST).await?;
    plant.hears_nothing_more_of("gw/health/bus/one").await?;
    plant.hears("gw/health/device/second", "good").await?;
    gateway.stop().await?;
    let gateway = plant
        .gateway(&plant.without_first().replacen("id = \"gw\"\n", "id = \"gw\"\nhealth = false\n", 1))
        .await?;
    plant.hears_nothing_more_of("gw/health/device/second").await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_while_the_cloud_was_away_is_cleared_by_the_first_run_that_reaches_it() -> Result<()> {
    let plant = Plant::new().await?;
    let gateway = plant.gateway(&plant.config()).await?;
    plant.hears(FIRST, "good").await?;
    plant.hears("gw/health/bus/one", "up").await?;
    plant.network.set(Fault::AcceptAndClose);
    gateway.stop().await?;
    // Two runs cannot tell; the third can.
    for _ in 0..2 {
        let mut gateway = Gateway::start(plant.dir.path(), &plant.without_first())?;
        gateway.wait_for("polls", |now| now.devices.iter().all(|device| device.requests > 0)).await?;
        gateway.stop().await?;
    }
    plant.network.set(Fault::None);
    let gateway = plant.gateway(&plant.without_first()).await?;
    plant.hears_nothing_more_of(FIRST).await?;
    plant.hears_nothing_more_of("gw/health/bus/one").await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reload_takes_away_during_an_outage_is_cleared_by_the_uplink_of_the_next_reload() -> Result<()>
{
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(&plant.config()).await?;
    plant.hears(FIRST, "good").await?;
    plant.hears("gw/health/bus/one", "up").await?;
    plant.network.set(Fault::AcceptAndClose);
    gateway.wait_for("the outage", |now| uplink(now).link != Link::Up).await?;
    for config in [plant.without_first(), plant.without_first().replace("[uplink.cloud]", "[uplink.renamed]")]
    {
        let after = gateway.reload(&config).await?;
        ensure!(after.refused.is_none(), "{after:?}");
    }
    plant.network.set(Fault::None);
    plant.hears_nothing_more_of(FIRST).await?;
    plant.hears_nothing_more_of("gw/health/bus/one").await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_health_the_topics_are_silent_and_the_status_message_still_says_what_is_wrong() -> Result<()>
{
    let plant = Plant::new().await?;
    let config = plant.config().replacen("id = \"gw\"\n", "id = \"gw\"\nhealth = false\n", 1);
    let mut gateway = Gateway::start(plant.dir.path(), &config)?;
    plant.one.set_mute(true);
    plant.hears_fault("device/first").await?;
    ensure!(plant.office.arrivals().iter().all(|arrival| !arrival.topic.starts_with("gw/health/")));
    let after = gateway.reload(&plant.config()).await?;
    ensure!(after.refused.is_none(), "{after:?}");
    plant.hears(FIRST, "dead").await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uplink_hears_of_devices_where_its_rules_put_their_messages() -> Result<()> {
    let plant = Plant::new().await?;
    let rules = "forward = [{ filter = \"gw/health/#\", strip = \"gw\", add = \"gw/site\" }, \"gw/second/#\"]\nclient_id = \"gw\"\n";
    let config = plant.config().replace("client_id = \"gw\"\n", rules);
    let mut gateway = Gateway::start(plant.dir.path(), &config)?;
    plant.hears("gw/site/health/device/first", "good").await?;
    let after = gateway.reload(&config.replace("gw/site", "gw/plant")).await?;
    ensure!(after.refused.is_none(), "{after:?}");
    plant.hears("gw/plant/health/device/first", "good").await?;
    plant.hears_nothing_more_of("gw/site/health/device/first").await?;
    ensure!(count(&plant.office.arrivals(), FIRST) == 0);
    gateway.stop().await
}

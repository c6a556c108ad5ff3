//! `systemctl reload`: a changed file under a running gateway, with real peers on all sides.
//!
//! ```text
//! CounterDevice one <--Modbus TCP--+
//!                                  +-- Gateway --> FaultProxy --> Mosquitto --> Office
//! CounterDevice two <--Modbus TCP--+      ^
//!                                         +-- mosquitto_sub (local client)
//! ```

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use gateway_daemon::app::snapshot::{Bus, Link, Snapshot};
use tidegate_tests::account::{self, balanced, uplink};
use tidegate_tests::clients::{Sub, mosquitto_pub};
use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{self, Office};
use tidegate_tests::proxy::FaultProxy;

#[path = "e2e_reload/access.rs"]
mod access;
#[path = "e2e_reload/faults.rs"]
mod faults;
#[path = "e2e_reload/notify.rs"]
mod notify;
#[path = "e2e_reload/storm.rs"]
mod storm;
#[path = "e2e_reload/uplinks.rs"]
mod uplinks;

/// A device on each of two buses, and a cloud.
struct Plant {
    dir: tempfile::TempDir,
    one: CounterDevice,
    two: CounterDevice,
    cloud: Mosquitto,
    network: FaultProxy,
    office: Office,
}

impl Plant {
    async fn new() -> Result<Self> {
        let cloud =
            Mosquitto::start(&Options { extra: "max_queued_messages 1000000\n", ..Options::default() })
                .await?;
        Ok(Self {
            dir: tempfile::Builder::new().prefix("tidegate-reload-").tempdir()?,
            one: CounterDevice::start().await?,
            two: CounterDevice::start().await?,
            network: FaultProxy::to_port(cloud.port()).await?,
            office: Office::open(cloud.port(), "gw/#").await?,
            cloud,
        })
    }

    /// Everything but the tags of the first device, which the tests change.
    fn config(&self, one: &str) -> String {
        let dir = self.dir.path().display();
        let (cloud, first, second) = (self.network.port(), self.one.port, self.two.port);
        format!(
            r#"[gateway]
id = "gw"
socket = "{dir}/control.sock"
[store]
path = "{dir}/queue.db"
commit_interval = "200ms"
[uplink.cloud]
url = "mqtt://127.0.0.1:{cloud}"
client_id = "gw"
backoff_min = "100ms"
backoff_max = "1s"
[broker.listener.local]
address = "127.0.0.1:0"
[bus.one]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {first}
[device.first]
bus = "one"
unit = 1
{one}
[bus.two]
driver = "modbus-tcp"
host = "127.0.0.1"
port = {second}
[device.second]
bus = "two"
unit = 1
[[device.second.poll]]
every = "25ms"
tags.count = {{ holding = 0, type = "u32" }}
"#
        )
    }

    /// A gateway that has delivered something.
    async fn gateway(&self, one: &str) -> Result<Gateway> {
        let mut gateway = Gateway::start(self.dir.path(), &self.config(one))?;
        gateway.wait_for("a few acknowledged", |now| uplink(now).ledger.acknowledged.rows >= 5).await?;
        Ok(gateway)
    }
}

const PLAIN: &str = "[[device.first.poll]]\nevery = \"25ms\"\ntags.count = { holding = 0, type = \"u32\" }";
const MORE: &str = "[[device.first.poll]]\nevery = \"25ms\"\ntags.count = { holding = 0, type = \"u32\" }\ntags.other = { holding = 7, type = \"u16\" }";

fn bus<'a>(now: &'a Snapshot, name: &str) -> Result<&'a Bus> {
    now.buses.iter().find(|bus| bus.name == name).with_context(|| format!("no bus {name}"))
}

fn tags(now: &Snapshot) -> BTreeSet<String> {
    now.tags.iter().map(|tag| format!("{}/{}", tag.device, tag.tag)).collect()
}

/// Waits until every answer of a device has arrived.
async fn whole(plant: &Plant, device: &str, answered: u32) -> Result<()> {
    let topic = format!("gw/{device}/");
    let there = |all: &[office::Arrival]| {
        let own = all.iter().filter(|arrival| arrival.topic.starts_with(&topic));
        let numbers: BTreeSet<u64> = own.filter_map(|arrival| arrival.value("count")).collect();
        (1..=u64::from(answered)).all(|number| numbers.contains(&number))
    };
    plant.office.wait_for("every answer", there).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_on_one_bus_does_not_disturb_the_other_nor_the_connection_to_the_cloud() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    let before = gateway.snapshot().await?;
    let after = gateway.reload(&plant.config(MORE)).await?;
    ensure!(after.reloads == 1 && after.refused.is_none() && after.config != before.config, "{after:?}");
    ensure!(bus(&after, "two")?.requests >= bus(&before, "two")?.requests, "its counter began anew");
    plant.two.wait_for(plant.two.answered() + 40).await?;
    ensure!(plant.two.connections() == 1, "the other bus was opened {} times", plant.two.connections());
    ensure!(plant.one.connections() == 2, "the changed bus was opened {} times", plant.one.connections());
    ensure!(plant.network.accepted() == 1, "{} connections to the cloud", plant.network.accepted());
    let later = gateway.snapshot().await?;
    ensure!(bus(&later, "two")?.errors == 0, "{later:?}");
    ensure!(uplink(&later).connects == 1 && uplink(&later).link == Link::Up, "{later:?}");
    whole(&plant, "second", plant.two.answered()).await?;
    let births: Vec<_> = account::states(&plant.office.arrivals());
    ensure!(births.iter().all(|(state, _)| state == "online") && births.len() == 2, "{births:?}");
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_come_and_go_and_the_others_keep_their_values() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    ensure!(tags(&gateway.snapshot().await?) == ["first/count", "second/count"].map(str::to_owned).into());
    let after = gateway.reload(&plant.config(MORE)).await?;
    ensure!(tags(&after) == ["first/count", "first/other", "second/count"].map(str::to_owned).into());
    // Its number has shifted and its value is there at once.
    let second = after.tags.iter().find(|tag| tag.device == "second").context("no tag")?;
    ensure!(second.is_good(), "{second:?}");
    gateway
        .wait_for("the added tag", |now| now.tags.iter().any(|tag| tag.tag == "other" && tag.is_good()))
        .await?;
    let again = gateway.reload(&plant.config(PLAIN)).await?;
    ensure!(tags(&again) == ["first/count", "second/count"].map(str::to_owned).into());
    plant.one.wait_for(plant.one.answered() + 5).await?;
    whole(&plant, "second", plant.two.answered()).await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_is_added_and_taken_away_beside_one_that_goes_on() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    let all = plant.config(PLAIN);
    let (head, tail) = (all.find("[bus.one]").context("one")?, all.find("[bus.two]").context("two")?);
    let without = format!("{}{}", &all[..head], &all[tail..]);
    let after = gateway.reload(&without).await?;
    ensure!(after.buses.len() == 1 && after.devices.len() == 1 && after.tags.len() == 1, "{after:?}");
    let silent = plant.one.quiet().await?;
    plant.two.wait_for(plant.two.answered() + 20).await?;
    ensure!(plant.one.answered() == silent, "a bus that is gone is still polled");
    gateway.reload(&all).await?;
    plant.one.wait_for(silent + 5).await?;
    ensure!(plant.two.connections() == 1, "the other bus was opened {} times", plant.two.connections());
    whole(&plant, "second", plant.two.answered()).await?;
    balanced(&gateway.snapshot().await?)?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_is_refused_with_every_problem_and_the_gateway_goes_on() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    let before = gateway.snapshot().await?;
    let bad =
        plant.config(PLAIN).replace("unit = 1", "unit = 300").replace("every = \"25ms\"", "every = \"soon\"");
    let after = gateway.reload(&bad).await?;
    let refused = after.refused.as_ref().context("it was taken")?;
    // The warnings about the port and the end of sessions are no reason.
    ensure!(refused.problems.len() == 4, "{refused:?}");
    let place = |problem: &String| problem.contains("gateway.toml:") && problem.split(':').count() > 3;
    ensure!(refused.problems.iter().all(place), "{refused:?}");
    ensure!(after.config == before.config && after.reloads == 0 && after.refusals == 1, "{after:?}");
    let log = gateway.log();
    ensure!(refused.problems.iter().all(|problem| log.contains(problem)), "{log}");
    plant.one.wait_for(plant.one.answered() + 10).await?;
    ensure!((plant.one.connections(), plant.two.connections(), plant.network.accepted()) == (1, 1, 1));
    let moved = plant.config(PLAIN).replace("id = \"gw\"", "id = \"other\"");
    let after = gateway.reload(&moved).await?;
    let refused = after.refused.context("it was taken")?;
    ensure!(
        refused.problems.len() == 1 && refused.problems[0].contains("systemctl restart tidegate"),
        "{refused:?}"
    );
    let after = gateway.reload(&plant.config(MORE)).await?;
    ensure!(after.refused.is_none() && after.reloads == 1, "{after:?}");
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_client_stays_connected() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    let door = |now: &Snapshot| now.broker.as_ref().map(|broker| broker.listeners[0].clone());
    let door = door(&gateway.snapshot().await?).context("no door")?;
    let port = door.address.parse::<std::net::SocketAddr>()?.port();
    let mut sub = Sub::start(port, &["-t", "hall/#", "-q", "1", "-i", "panel"]).await?;
    for round in 0..5 {
        gateway.reload(&plant.config(if round % 2 == 0 { MORE } else { PLAIN })).await?;
        mosquitto_pub(port, &["-t", "hall/light", "-m", &round.to_string(), "-q", "1"]).await?;
        ensure!(sub.next().await?.payload == round.to_string());
    }
    let broker = gateway.snapshot().await?.broker.context("no broker")?;
    ensure!(
        broker.listeners[0].connections == 1 && broker.listeners[0].address == door.address,
        "{broker:?}"
    );
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_or_counted_over_fifty_reloads() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    let window = |one: &str, window: u16| {
        plant.config(one).replace("[uplink.cloud]\n", &format!("[uplink.cloud]\nwindow = {window}\n"))
    };
    for round in 0..50_u16 {
        let one = if round % 2 == 0 { MORE } else { PLAIN };
        // Every fifth of them has to connect anew, with rows in flight.
        let after = gateway.reload(&window(one, 20 + round / 5)).await?;
        ensure!(after.refused.is_none() && after.reloads == u64::from(round) + 1, "{after:?}");
        balanced(&after)?;
    }
    ensure!(plant.two.connections() == 1, "the other bus was opened {} times", plant.two.connections());
    ensure!(plant.network.accepted() == 11, "{} connections to the cloud", plant.network.accepted());
    whole(&plant, "second", plant.two.answered()).await?;
    let produced = gateway.snapshot().await?;
    gateway
        .wait_for("everything acknowledged", |now| {
            uplink(now).ledger.acknowledged.rows >= uplink(&produced).ledger.produced.rows
        })
        .await?;
    let last = gateway.snapshot().await?;
    balanced(&last)?;
    ensure!(uplink(&last).ledger.dropped_total().rows == 0, "{last:?}");
    let holes = office::holes(&plant.office.arrivals());
    ensure!(holes.is_empty(), "{holes:?}");
    ensure!(plant.cloud.pid().is_some());
    gateway.stop().await
}

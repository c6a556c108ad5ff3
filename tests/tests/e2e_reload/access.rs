//! Users and rules of the local broker, exchanged under clients that stay.

use anyhow::{Context as _, Result, ensure};
use tidegate_tests::clients::{Sub, mosquitto_pub};
use tidegate_tests::gateway::{Gateway, password_hash};

use super::{PLAIN, Plant};

const CHIEF: [&str; 4] = ["-u", "chief", "-P", "chiefword"];
const PRESS: [&str; 4] = ["-u", "press", "-P", "pressword"];

async fn publish(port: u16, who: &[&str], topic: &str, text: &str) -> Result<String> {
    mosquitto_pub(port, &[who, &["-t", topic, "-m", text, "-q", "1"]].concat()).await
}

async fn port(gateway: &Gateway) -> Result<u16> {
    let broker = gateway.snapshot().await?.broker.context("no broker")?;
    Ok(broker.listeners[0].address.parse::<std::net::SocketAddr>()?.port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_rules_change_under_clients_that_stay_and_who_is_taken_out_has_to_go() -> Result<()> {
    let plant = Plant::new().await?;
    let chief = format!("[broker.user.chief]\npassword_hash = {}\n", password_hash("chiefword")?);
    let press = format!("[broker.user.press]\npassword_hash = {}\n", password_hash("pressword")?);
    let with = |users: &[&str]| format!("{}{}", plant.config(PLAIN), users.concat());
    let narrow = format!("{press}allow = [\"publish hall/a\", \"subscribe note/#\"]\n");
    let wide = format!("{press}allow = [\"publish hall/#\", \"subscribe note/#\"]\n");
    let mut gateway = Gateway::start(plant.dir.path(), &with(&[&chief, &narrow]))?;
    gateway.wait_for("its first answers", |now| now.tags.iter().any(|tag| tag.is_good())).await?;
    let door = port(&gateway).await?;
    let mut office = Sub::start(door, &[&CHIEF[..], &["-t", "hall/#", "-q", "1"]].concat()).await?;
    let mut machine = Sub::start(door, &[&PRESS[..], &["-t", "note/#", "-q", "1"]].concat()).await?;
    // What no rule allows is given to nobody; the next message shows that it is not merely late.
    publish(door, &PRESS, "hall/b", "too early").await?;
    publish(door, &PRESS, "hall/a", "1").await?;
    ensure!(office.next().await?.payload == "1");

    let after = gateway.reload(&with(&[&chief, &wide])).await?;
    ensure!(after.refused.is_none() && after.reloads == 1, "{after:?}");
    publish(door, &PRESS, "hall/b", "2").await?;
    ensure!(office.next().await?.payload == "2");
    publish(door, &CHIEF, "note/x", "3").await?;
    ensure!(machine.next().await?.payload == "3");
    let broker = gateway.snapshot().await?.broker.context("no broker")?;
    ensure!(broker.listeners[0].connections == 2, "{broker:?}");

    gateway.reload(&with(&[&chief])).await?;
    let gone = |now: &gateway_daemon::app::snapshot::Snapshot| {
        now.broker.as_ref().is_some_and(|broker| broker.listeners[0].connections == 1)
    };
    gateway.wait_for("the end of who was taken out", gone).await?;
    let fault = publish(door, &PRESS, "hall/b", "too late").await.err().context("it was let in")?.to_string();
    ensure!(fault.contains("not authorised") || fault.contains("user name or password"), "{fault}");
    publish(door, &CHIEF, "hall/c", "4").await?;
    ensure!(office.next().await?.payload == "4", "the one who stays was not disturbed");
    ensure!((plant.one.connections(), plant.two.connections(), plant.network.accepted()) == (1, 1, 1));
    gateway.stop().await
}

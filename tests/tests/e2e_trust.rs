//! Clocks that the file trusts, and certificates that end, with the real daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::path::{Path, PathBuf};

use anyhow::Result;
use gateway_daemon::app::control::{Ask, Reply};
use gateway_daemon::app::picture::{Ink, status};
use tidegate_tests::certs::{Authority, KeyFormat, Leaf, Validity};
use tidegate_tests::clients::Sub;
use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::wait::within;

/// A gateway whose clock nobody has set, or somebody has.
fn start(dir: &Path, config: &str, is_set: bool) -> Result<Gateway> {
    let file: PathBuf = dir.join("clock-is-set");
    if is_set {
        std::fs::write(&file, "")?;
    }
    Gateway::start_with(dir, config, &[("TIDEGATE_TIMESYNC_FILE", file.as_os_str())])
}

fn base(dir: &Path, trust: &str) -> String {
    let dir = dir.display();
    format!(
        "[gateway]\nid = \"gw\"\nsocket = \"{dir}/control.sock\"\n{trust}[store]\npath = \"{dir}/queue.db\"\n"
    )
}

/// A listener with this certificate, on any port.
fn listener(leaf: &Leaf) -> String {
    let (cert, key) = (leaf.cert.display(), leaf.key.display());
    format!(
        "[broker.listener.plant]\naddress = \"127.0.0.1:0\"\ncert = \"{cert}\"\nkey = \"{key}\"\nanonymous = true\n"
    )
}

#[tokio::test]
async fn a_plant_without_internet_gets_time_stamps_by_the_clock_that_its_file_trusts_and_the_birth_names_it()
-> Result<()> {
    let dir = tempfile::tempdir()?;
    let (device, cloud) = (CounterDevice::start().await?, Mosquitto::start(&Options::default()).await?);
    let mut readings = Sub::start(cloud.port(), &["-t", "gw/meter/#", "-q", "1"]).await?;
    let field = format!(
        "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\n[bus.tcp]\ndriver = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {}\n[device.meter]\nbus = \"tcp\"\n\
         unit = 1\n[[device.meter.poll]]\nevery = \"200ms\"\ntags.counter = {{ holding = 0, type = \"u16\" }}\n",
        cloud.port(),
        device.port
    );
    let stamped = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap().get("t").is_some();

    let mut gateway = start(dir.path(), &format!("{}{field}", base(dir.path(), "")), false)?;
    assert!(!stamped(&within("a reading", readings.payloads(1)).await?[0]));
    let picture = gateway.wait_for("a doubt", |now| now.clock.doubt.is_some()).await?;
    assert!(!picture.clock_trusted && picture.clock.source.is_none(), "{picture:?}");
    let shown = status(&picture, Ink::Plain);
    assert!(shown.contains("no time server has answered:\n  give it a time server"), "{shown}");
    assert!(shown.contains("trust_clock = \"rtc\""), "{shown}");
    gateway.stop().await?;

    let system = format!("{}{field}", base(dir.path(), "trust_clock = \"system\"\n"));
    let mut gateway = start(dir.path(), &system, false)?;
    let picture = gateway.wait_for("the time", |now| now.clock_trusted).await?;
    assert_eq!(picture.clock.source.as_deref(), Some("system"));
    assert!(status(&picture, Ink::Plain).contains("as the system has it"), "{picture:?}");
    let mut birth = Sub::start(cloud.port(), &["-t", "gw/status", "-q", "1"]).await?;
    within("a birth with the clock", async {
        while !birth.payloads(1).await.unwrap()[0].contains(r#""trust_clock":"system""#) {}
    })
    .await;
    within("a reading with its time", async { while !stamped(&readings.payloads(1).await.unwrap()[0]) {} })
        .await;
    gateway.stop().await
}

#[tokio::test]
async fn a_certificate_that_ended_stops_no_start_and_no_reload_and_is_told_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new("plant")?;
    let leaf = authority.server(&["localhost"], Validity::Expired)?;
    let config = format!("{}{}", base(dir.path(), ""), listener(&leaf));
    let mut gateway = start(dir.path(), &config, true)?;
    let picture = gateway
        .wait_for("the certificate", |now| now.certificates.iter().any(|shown| shown.remark.is_some()))
        .await?;
    let shown = &picture.certificates[0];
    assert_eq!(
        (shown.room.as_str(), shown.name.as_str(), shown.ends.as_str()),
        ("listener", "plant", "2002-01-01")
    );
    assert!(shown.urgent && shown.left_s.is_some_and(|left| left < 0), "{shown:?}");
    let said = |log: &str| log.matches("listener plant: `cert` = ").count();
    assert!(status(&picture, Ink::Plain).contains("ended on 2002-01-01, so peers refuse it"));
    let Reply::Text(metrics) = gateway.ask(&Ask::Metrics).await? else { panic!("no metrics") };
    let metric = "gateway_certificate_left_seconds{room=\"listener\",name=\"plant\"} -";
    assert!(metrics.contains(metric), "{metrics}");
    for units in ["true", "false"] {
        let after = gateway.reload(&format!("{config}[message]\nunits = {units}\n")).await?;
        assert_eq!(after.refusals, 0, "{}", gateway.log());
    }
    let after = gateway.snapshot().await?;
    assert_eq!((after.reloads, said(&gateway.log())), (2, 1), "{}", gateway.log());
    // Renewed in its place: without a restart.
    let fresh = authority.server(&["localhost"], Validity::Good)?;
    let other = config.replace(&leaf.cert.display().to_string(), &fresh.cert.display().to_string());
    let other = other.replace(&leaf.key.display().to_string(), &fresh.key.display().to_string());
    gateway.stop().await?;
    let mut gateway = start(dir.path(), &other, true)?;
    let picture = gateway.wait_for("the certificate", |now| !now.certificates.is_empty()).await?;
    assert_eq!(picture.certificates[0].remark, None);
    gateway.stop().await
}

#[tokio::test]
async fn without_a_clock_that_can_be_believed_no_certificate_is_called_ended() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new("plant")?;
    let leaf = authority.server(&["localhost"], Validity::Expired)?;
    let mut gateway = start(dir.path(), &format!("{}{}", base(dir.path(), ""), listener(&leaf)), false)?;
    let picture = gateway.wait_for("the certificate", |now| !now.certificates.is_empty()).await?;
    let shown = &picture.certificates[0];
    assert_eq!((shown.left_s, shown.remark.clone(), shown.ends.as_str()), (None, None, "2002-01-01"));
    let Reply::Text(metrics) = gateway.ask(&Ask::Metrics).await? else { panic!("no metrics") };
    assert!(!metrics.contains("gateway_certificate_left_seconds{"), "{metrics}");
    gateway.stop().await
}

#[tokio::test]
async fn a_gateway_that_ran_before_starts_with_the_key_of_another_and_a_reload_refuses_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new("plant")?;
    let one = authority.device("one", Validity::Good, KeyFormat::Pkcs8)?;
    let two = authority.device("two", Validity::Good, KeyFormat::Pkcs8)?;
    let (cert, key) = (one.cert.display(), two.key.display());
    let uplink = format!(
        "[uplink.cloud]\nurl = \"mqtts://127.0.0.1:1\"\nclient_cert = \"{cert}\"\nclient_key = \"{key}\"\n"
    );
    let config = format!("{}{uplink}", base(dir.path(), ""));
    let mut gateway = start(dir.path(), &config, false)?;
    let down = |now: &gateway_daemon::app::snapshot::Snapshot| {
        now.uplinks[0].loss.as_deref().is_some_and(|loss| loss.contains("does not belong to the certificate"))
    };
    gateway.wait_for("the reason why the link is down", down).await?;
    assert!(gateway.log().contains("`client_key` = "), "{}", gateway.log());
    let after = gateway.reload(&format!("{config}[message]\nunits = true\n")).await?;
    assert_eq!((after.reloads, after.refusals), (0, 1), "{}", gateway.log());
    gateway.stop().await
}

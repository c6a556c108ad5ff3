//! The gateway as a service.

use tidegate_tests::container::{Container, Setting};

use super::{able, config};

/// Most exposure of the gateway, as `systemd-analyze security` counts it: 0 is a process that can do nothing, 10 one that can do everything.
const EXPOSURE_MAX: f64 = 1.5;

async fn with_config() -> Container {
    Container::boot(&Setting { config: Some(config("")), ..Setting::default() }).await.unwrap()
}

#[tokio::test]
async fn the_gateway_publishes_from_a_sandbox_with_nothing_to_reach() {
    if !able("the_gateway_publishes_from_a_sandbox_with_nothing_to_reach") {
        return;
    }
    let machine = with_config().await;
    assert_eq!(machine.property("tidegate.service", "ActiveState").await.unwrap(), "active");
    let listening = machine.read(&["ss", "-Hltnu"]).await.unwrap();
    assert_eq!(listening, "", "no port is open that was not asked for");
    machine.broker("").await.unwrap();
    let reading = machine.message("+/meter/power").await.unwrap();
    assert!(reading.contains("voltage"), "{reading}");

    let id = machine.property("tidegate.service", "MainPID").await.unwrap();
    let status = machine.read(&["cat", &format!("/proc/{id}/status")]).await.unwrap();
    for line in ["CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line:?} is not in {status}");
    }
    let user = machine.read(&["id", "-u", "tidegate"]).await.unwrap();
    assert!(status.contains(&format!("Uid:\t{user}\t{user}\t{user}\t{user}")), "{status}");
    // As root, but in the daemon's tree: what root cannot write there, the daemon cannot either.
    let inside = async |words: &[&str]| {
        let mut all = vec!["nsenter", "--target", &id, "--mount", "--"];
        all.extend(words);
        machine.run(&all).await.unwrap().status.success()
    };
    for path in ["/etc/tidegate/x", "/usr/x", "/run/x", "/run/lock/x", "/var/x", "/var/lib/x"] {
        assert!(!inside(&["touch", path]).await, "{path} can be written");
    }
    assert!(inside(&["touch", "/var/lib/tidegate/x"]).await, "the state directory can be written");
    let homes = r#"test -z "$(ls -A /root)$(ls -A /home)""#;
    assert!(inside(&["sh", "-c", homes]).await, "homes can be seen");
}

#[tokio::test]
async fn its_exposure_is_low() {
    if !able("its_exposure_is_low") {
        return;
    }
    let machine = with_config().await;
    let text = machine.read(&["systemd-analyze", "security", "--json=short", "--no-pager"]).await.unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let exposure = |unit: &str| {
        let row = rows.iter().find(|row| row["unit"] == unit);
        row.and_then(|row| row["exposure"].as_str()?.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("{rows:#?}"))
    };
    let found = exposure("tidegate.service");
    assert!(found <= EXPOSURE_MAX, "the gateway is exposed by {found}, at most {EXPOSURE_MAX} is allowed");
}

#[tokio::test]
async fn the_journal_can_be_asked_by_bus_device_and_uplink() {
    if !able("the_journal_can_be_asked_by_bus_device_and_uplink") {
        return;
    }
    let machine = with_config().await;
    for (field, text) in [
        ("BUS=field", "bus up"),
        ("DEVICE=meter", "answers"),
        ("UPLINK=cloud", "cannot connect"),
        ("REASON=tcp-refused", "cannot connect"),
    ] {
        let words = ["journalctl", "--no-pager", "--output=cat", "_SYSTEMD_UNIT=tidegate.service", field];
        machine.until(field, &words, |lines| lines.contains(text)).await.unwrap();
    }
}

#[tokio::test]
async fn a_gateway_that_dies_or_hangs_is_started_again() {
    if !able("a_gateway_that_dies_or_hangs_is_started_again") {
        return;
    }
    let setting = Setting {
        config: Some(config("")),
        units: vec![("tidegate.service", "[Service]\nWatchdogSec=3\n".to_owned())],
        ..Setting::default()
    };
    let machine = Container::boot(&setting).await.unwrap();
    machine.broker("").await.unwrap();
    let mut before = machine.property("tidegate.service", "MainPID").await.unwrap();
    for (signal, count, result) in [("KILL", "1", "status=9/KILL"), ("STOP", "2", "Watchdog timeout")] {
        let kill = format!("--signal={signal}");
        machine.read(&["systemctl", "kill", "--kill-whom=main", &kill, "tidegate.service"]).await.unwrap();
        machine.until_property("tidegate.service", "NRestarts", |text| text == count).await.unwrap();
        machine.until_property("tidegate.service", "ActiveState", |text| text == "active").await.unwrap();
        let after = machine.property("tidegate.service", "MainPID").await.unwrap();
        assert_ne!(before, after, "after SIG{signal}");
        let words = ["journalctl", "--no-pager", "--output=cat", "--unit=tidegate.service"];
        machine.until(result, &words, |lines| lines.contains(result)).await.unwrap();
        machine.message("+/meter/power").await.unwrap();
        before = after;
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_not_tried_again_until_it_changes() {
    if !able("a_wrong_configuration_is_not_tried_again_until_it_changes") {
        return;
    }
    let setting = Setting { config: Some(config("nonsense = 1\n")), ..Setting::default() };
    let machine = Container::boot(&setting).await.unwrap();
    machine.until_property("tidegate.service", "ActiveState", |text| text == "failed").await.unwrap();
    assert_eq!(machine.property("tidegate.service", "ExecMainStatus").await.unwrap(), "78");
    assert_eq!(machine.property("tidegate.service", "NRestarts").await.unwrap(), "0");
    // What a person does with an editor, and provisioning by renaming.
    let file = machine.config().join("gateway.toml");
    std::fs::write(&file, config("")).unwrap();
    machine.until_property("tidegate.service", "ActiveState", |text| text == "active").await.unwrap();
    assert_eq!(machine.property("tidegate.service", "NRestarts").await.unwrap(), "0");
}

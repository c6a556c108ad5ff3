//! The gateway as a service.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use drivers::sim::line::{FarEnd, Line, Settings as LineSettings};
use tidegate_tests::certs::{Authority, KeyFormat, Validity};
use tidegate_tests::container::{Container, Setting};

use super::{able, config};

/// The group of serial ports: the same number on every Debian.
const DIALOUT: u32 = 20;

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
    machine.broker("", &[]).await.unwrap();
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

/// `--threshold` counts in tenths and fails above it.
#[tokio::test]
async fn the_units_of_updates_are_exposed_by_at_most_three() {
    if !able("the_units_of_updates_are_exposed_by_at_most_three") {
        return;
    }
    let machine = with_config().await;
    for unit in ["update", "health", "mark-good", "roll-back"] {
        let unit = format!("tidegate-{unit}.service");
        let words = ["systemd-analyze", "security", "--no-pager", "--threshold=30", &unit];
        let judged = machine.run(&words).await.unwrap();
        assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    }
}

#[tokio::test]
async fn every_unit_is_in_order_for_the_systemd_of_the_image() {
    if !able("every_unit_is_in_order_for_the_systemd_of_the_image") {
        return;
    }
    let machine = with_config().await;
    let units = machine.read(&["sh", "-c", "ls /usr/lib/systemd/system | grep ^tidegate"]).await.unwrap();
    for unit in units.lines() {
        let checked = machine.run(&["systemd-analyze", "verify", "--man=no", unit]).await.unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && said.is_empty(), "{unit}: {said}");
    }
}

#[tokio::test]
async fn the_gateway_waits_for_what_it_needs_and_is_stopped_before_its_file_systems_go() {
    if !able("the_gateway_waits_for_what_it_needs_and_is_stopped_before_its_file_systems_go") {
        return;
    }
    let machine = with_config().await;
    let list = async |unit: &str, name: &str| -> Vec<String> {
        let text = machine.property(unit, name).await.unwrap();
        text.split_whitespace().map(str::to_owned).collect()
    };
    // systemd adds each of them to a service, a path or a socket that does not say otherwise.
    for unit in ["tidegate.service", "tidegate.path", "tidegate-update.socket"] {
        let after = list(unit, "After").await;
        for other in
            ["sysinit.target", "basic.target", "time-set.target", "nss-lookup.target", "network.target"]
        {
            assert!(!after.contains(&other.to_owned()), "{unit} waits for {other}: {after:?}");
        }
        for name in ["Conflicts", "Before"] {
            let others = list(unit, name).await;
            assert!(others.contains(&"shutdown.target".to_owned()), "{unit}, {name}: {others:?}");
        }
    }
    let after = list("tidegate.service", "After").await;
    for other in [
        "local-fs.target",
        "systemd-tmpfiles-setup.service",
        "systemd-modules-load.service",
        "tidegate-storage.service",
        "tidegate-provision.service",
        "tidegate-update.socket",
        "var.mount",
    ] {
        assert!(after.contains(&other.to_owned()), "it does not wait for {other}: {after:?}");
    }
    // What is masked is there for nobody else either.
    for unit in ["systemd-journal-flush.service", "systemd-update-done.service", "dev-mqueue.mount"] {
        assert_eq!(machine.property(unit, "LoadState").await.unwrap(), "masked", "{unit}");
    }
}

#[tokio::test]
async fn the_journal_can_be_asked_by_bus_device_and_uplink() {
    if !able("the_journal_can_be_asked_by_bus_device_and_uplink") {
        return;
    }
    let machine = with_config().await;
    for (field, text) in [
        ("BUS=field", "bus field: up"),
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
    machine.broker("", &[]).await.unwrap();
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
    let machine = with_config().await;
    let file = machine.config().join("gateway.toml");
    std::fs::write(&file, config("nonsense = 1\n")).unwrap();
    // Not a reload, which would refuse it and go on.
    machine.run(&["systemctl", "restart", "tidegate.service"]).await.unwrap();
    machine.until_property("tidegate.service", "ActiveState", |text| text == "failed").await.unwrap();
    assert_eq!(machine.property("tidegate.service", "ExecMainStatus").await.unwrap(), "78");
    assert_eq!(machine.property("tidegate.service", "NRestarts").await.unwrap(), "0");
    // What a person does with an editor.
    std::fs::write(&file, config("")).unwrap();
    machine.until_property("tidegate.service", "ActiveState", |text| text == "active").await.unwrap();
    assert_eq!(machine.property("tidegate.service", "NRestarts").await.unwrap(), "0");
}

#[tokio::test]
async fn a_key_for_root_alone_reaches_the_gateway_and_the_broker_knows_it_by_its_certificate() {
    if !able("a_key_for_root_alone_reaches_the_gateway_and_the_broker_knows_it_by_its_certificate") {
        return;
    }
    let authority = Authority::new("plant").unwrap();
    let server = authority.server(&["localhost"], Validity::Good).unwrap();
    let device = authority.device("nest", Validity::Good, KeyFormat::Pkcs8).unwrap();
    let file = |path: &Path| std::fs::read(path).unwrap();
    let tls = "ca = \"ca.pem\"\nclient_cert = \"device.pem\"\nclient_key = \"device.key\"\n";
    let secure = config("").replace("mqtt://127.0.0.1:1883\"\n", &format!("mqtts://localhost:8883\"\n{tls}"));
    let setting = Setting {
        config: Some(secure),
        files: vec![
            ("ca.pem".to_owned(), file(authority.ca()), 0o644),
            ("device.pem".to_owned(), file(&device.cert), 0o644),
            ("keys/device.key".to_owned(), file(&device.key), 0o600),
        ],
        ..Setting::default()
    };
    let machine = Container::boot(&setting).await.unwrap();
    let folder = "/boot/firmware";
    let name = |path: &Path| format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
    let lines = format!(
        "listener 8883 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n\
         require_certificate true\nuse_identity_as_username true\n",
        name(authority.ca()),
        name(&server.cert),
        name(&server.key)
    );
    machine.broker(&lines, &[authority.ca(), &server.cert, &server.key]).await.unwrap();
    machine.message("+/meter/power").await.unwrap();
    let words = ["journalctl", "--no-pager", "--output=cat", "--unit=broker"];
    machine.until("the name in the certificate", &words, |lines| lines.contains("u'nest'")).await.unwrap();
    // The file itself stays out of reach of everybody else.
    let stolen = machine
        .run(&[
            "setpriv",
            "--reuid=tidegate",
            "--regid=tidegate",
            "--clear-groups",
            "cat",
            "/etc/tidegate/keys/device.key",
        ])
        .await
        .unwrap();
    assert!(!stolen.status.success(), "the gateway's user reads the file");
}

#[tokio::test]
async fn the_gateway_polls_a_serial_port_that_belongs_to_its_group() {
    if !able("the_gateway_polls_a_serial_port_that_belongs_to_its_group") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // One register with 2301, whoever asks for what.
    let slave = Box::new(|_, _: &[u8]| Some(vec![3, 2, 0x08, 0xfd]));
    let line = Line::open(folder.path(), LineSettings::clean(19_200), FarEnd::Slave(slave)).unwrap();
    let port = line.port().canonicalize().unwrap();
    std::os::unix::fs::chown(&port, Some(0), Some(DIALOUT)).unwrap();
    std::fs::set_permissions(&port, std::fs::Permissions::from_mode(0o660)).unwrap();
    let serial = config("")
        .replace("driver = \"sim\"", "driver = \"modbus-rtu\"\nport = \"/dev/ttyUSB0\"\nbaud = 19200");
    let setting = Setting {
        config: Some(serial.replace("unit = 1\n", "unit = 17\n")),
        devices: vec![(port, "/dev/ttyUSB0".into())],
        ..Setting::default()
    };
    let machine = Container::boot(&setting).await.unwrap();
    machine.broker("", &[]).await.unwrap();
    let reading = machine.message("+/meter/power").await.unwrap();
    assert!(reading.contains("230.1"), "{reading}");
}

#[tokio::test]
async fn a_reload_takes_a_right_file_and_refuses_a_wrong_one_in_the_same_process() {
    if !able("a_reload_takes_a_right_file_and_refuses_a_wrong_one_in_the_same_process") {
        return;
    }
    let machine = with_config().await;
    machine.broker("", &[]).await.unwrap();
    machine.message("+/meter/power").await.unwrap();
    let before = machine.property("tidegate.service", "MainPID").await.unwrap();
    let file = machine.config().join("gateway.toml");
    let current = "tags.current = { holding = 1, type = \"u16\", unit = \"A\" }\n";

    std::fs::write(&file, config(&format!("{current}nonsense = 1\n"))).unwrap();
    machine.run(&["systemctl", "reload", "tidegate.service"]).await.unwrap();
    machine.until_property("tidegate.service", "ActiveState", |text| text == "active").await.unwrap();
    let words = ["journalctl", "--no-pager", "--output=cat", "--unit=tidegate.service"];
    machine.until("the refusal", &words, |lines| lines.contains("nonsense")).await.unwrap();
    let reading = machine.message("+/meter/power").await.unwrap();
    assert!(!reading.contains("current"), "{reading}");

    std::fs::write(&file, config(current)).unwrap();
    machine.read(&["systemctl", "reload", "tidegate.service"]).await.unwrap();
    // What was on its way may still be of the old file.
    let first = ["mosquitto_sub", "-h", "127.0.0.1", "-t", "+/meter/power", "-C", "1", "-W", "5"];
    machine.until("the added tag", &first, |text| text.contains("current")).await.unwrap();

    assert_eq!(machine.property("tidegate.service", "MainPID").await.unwrap(), before);
    assert_eq!(machine.property("tidegate.service", "NRestarts").await.unwrap(), "0");
}

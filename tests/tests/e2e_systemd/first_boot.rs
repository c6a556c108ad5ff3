//! Provisioning as a unit: before the network and the gateway, in its own sandbox.

use tidegate_tests::certs::{Authority, KeyFormat, Validity};
use tidegate_tests::container::{Container, Setting};

use super::{able, config};

#[tokio::test]
async fn what_was_dropped_is_in_use_after_the_boot_and_its_key_is_gone_from_the_drop_zone() {
    if !able("what_was_dropped_is_in_use_after_the_boot_and_its_key_is_gone_from_the_drop_zone") {
        return;
    }
    let authority = Authority::new("plant").unwrap();
    let device = authority.device("nest", Validity::Good, KeyFormat::Pkcs8).unwrap();
    let file = |path: &std::path::Path| std::fs::read(path).unwrap();
    let tls = "ca = \"ca.pem\"\nclient_cert = \"device.pem\"\nclient_key = \"device.key\"\n";
    let secure = config("").replace("mqtt://127.0.0.1:1883\"\n", &format!("mqtts://localhost:8883\"\n{tls}"));
    let setting = Setting {
        drop: vec![
            ("gateway.toml".to_owned(), secure.into_bytes()),
            ("ca.pem".to_owned(), file(authority.ca())),
            ("device.pem".to_owned(), file(&device.cert)),
            ("device.key".to_owned(), file(&device.key)),
        ],
        ..Setting::default()
    };
    let machine = Container::boot(&setting).await.unwrap();
    machine.until_property("tidegate.service", "ActiveState", |text| text == "active").await.unwrap();
    assert_eq!(machine.property("tidegate-provision.service", "Result").await.unwrap(), "success");
    assert!(!machine.drop_zone().join("device.key").exists(), "the key is on the drop zone");
    let modes = machine.read(&[
        "stat",
        "-L",
        "-c",
        "%a %U:%G",
        "/etc/tidegate/keys",
        "/etc/tidegate/keys/device.key",
    ]);
    assert_eq!(modes.await.unwrap(), "700 root:root\n600 root:root");
    let status = machine.read(&["gateway-daemon", "status"]).await.unwrap();
    assert!(status.contains("nest"), "{status}");
}

#[tokio::test]
async fn without_a_configuration_the_gateway_has_a_name_of_its_own_and_no_open_port() {
    if !able("without_a_configuration_the_gateway_has_a_name_of_its_own_and_no_open_port") {
        return;
    }
    let machine = Container::boot(&Setting::default()).await.unwrap();
    machine.until_property("tidegate.service", "ActiveState", |text| text == "active").await.unwrap();
    let made = machine.read(&["cat", "/etc/tidegate/gateway.toml"]).await.unwrap();
    assert!(made.contains("id = \"tidegate-"), "{made}");
    let listening = machine.read(&["ss", "-Hltnu"]).await.unwrap();
    assert_eq!(listening, "");
    assert!(machine.console().contains("gateway.toml"), "the console says what to do: {}", machine.console());
    let shadow = machine.read(&["cat", "/etc/shadow"]).await.unwrap();
    let open = |line: &&str| line.split(':').nth(1).is_none_or(|hash| !hash.starts_with(['!', '*']));
    assert_eq!(shadow.lines().find(open), None, "somebody can log in");
}

#[tokio::test]
async fn what_is_wrong_is_written_back_and_the_gateway_runs_with_what_it_has() {
    if !able("what_is_wrong_is_written_back_and_the_gateway_runs_with_what_it_has") {
        return;
    }
    let setting = Setting {
        drop: vec![("gateway.toml".to_owned(), config("nonsense = 1\n").into_bytes())],
        ..Setting::default()
    };
    let machine = Container::boot(&setting).await.unwrap();
    machine.until_property("tidegate.service", "ActiveState", |text| text == "active").await.unwrap();
    let errors = std::fs::read_to_string(machine.drop_zone().join("gateway-errors.txt")).unwrap();
    assert!(errors.contains("nonsense"), "{errors}");
}

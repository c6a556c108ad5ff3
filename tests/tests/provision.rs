//! First boot as a person meets it: files on a drive, and what becomes of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

#[path = "provision/board.rs"]
mod board;
#[path = "provision/card.rs"]
mod card;
#[path = "provision/cuts.rs"]
mod cuts;
#[path = "provision/hostile.rs"]
mod hostile;
#[path = "provision/texts.rs"]
mod texts;

use std::fs;

use card::{Card, MINIMAL, Pki, TLS};

#[test]
fn a_gateway_without_a_file_comes_up_under_a_name_of_its_hardware_and_says_what_to_do() {
    let card = Card::new();
    fs::write(card.root("proc/device-tree/serial-number"), "10000000d8a1b2c3\0").unwrap();
    let outcome = card.provision();
    assert!(outcome.usable, "{:?}", outcome.told);
    assert_eq!(card.judged().id, "tidegate-10000000d8a1b2c3");
    assert_eq!(card.fault(), None);
    assert_eq!(
        fs::read_to_string(card.root("proc/sys/kernel/hostname")).unwrap(),
        "tidegate-10000000d8a1b2c3"
    );
    for text in [
        fs::read_to_string(card.root("dev/console")).unwrap(),
        fs::read_to_string(card.run("issue.d/tidegate.issue")).unwrap(),
    ] {
        assert!(
            text.contains("tidegate-10000000d8a1b2c3")
                && text.contains("write gateway.toml to the drive TIDEGATE"),
            "{text}"
        );
    }
    let network = fs::read_to_string(card.run("systemd/network/10-tidegate-ethernet.network")).unwrap();
    assert!(network.contains("DHCP=yes"), "{network}");
    assert_eq!(card.on_drive(), [] as [&str; 0]);
    // Again at the next boot, and in another machine.
    let before = card.tree();
    assert!(card.provision().usable);
    assert_eq!(card.tree(), before);
    fs::write(card.root("proc/device-tree/serial-number"), "10000000ffffffff\0").unwrap();
    assert!(card.provision().usable);
    assert_eq!(card.judged().id, "tidegate-10000000ffffffff");
}

#[test]
fn a_dropped_configuration_moves_with_its_certificates_and_keys_are_for_root_alone() {
    let card = Card::new();
    let pki = Pki::new();
    card.drop("gateway.toml", TLS.replace('\n', "\r\n").as_bytes());
    pki.drop(&card);
    let outcome = card.provision();
    assert!(outcome.usable, "{:?}", outcome.told);
    assert_eq!(card.fault(), None, "{:?}", outcome.told);
    assert_eq!(card.judged().id, "plant7-line2");
    for (path, mode) in [
        ("gateway.toml", 0o640),
        ("ca.pem", 0o640),
        ("device.pem", 0o640),
        ("keys", 0o700),
        ("keys/device.key", 0o600),
        ("keys/password.txt", 0o600),
    ] {
        assert_eq!(card.mode(path), mode, "{path}");
    }
    assert_eq!(card.on_drive(), ["gateway-applied.txt"]);
    let text = card.read_drop("gateway-applied.txt");
    assert!(text.contains("id:      plant7-line2\r\n") && text.contains("2026-11-27T02:00:00Z"), "{text}");
    assert!(text.contains("hash:    ") && text.contains("device.key"), "{text}");
    assert!(!card.run("issue.d/tidegate.issue").exists());
    // The next boot finds nothing to do.
    let before = card.tree();
    let outcome = card.provision();
    assert_eq!((outcome.usable, outcome.told), (true, Vec::new()));
    assert_eq!(card.tree(), before);
}

#[test]
fn a_wrong_configuration_changes_nothing_and_every_problem_is_on_the_drive_with_its_place() {
    let card = Card::new();
    card.drop("gateway.toml", MINIMAL.as_bytes());
    assert!(card.provision().usable);
    let before = card.config_tree();
    let wrong = TLS.replace("id = \"plant7-line2\"", "id = \"Plant 7 \u{b0}\"").replace("mqtts", "https");
    card.drop("gateway.toml", wrong.as_bytes());
    let pki = Pki::new();
    card.drop("device.key", pki.key.as_bytes());
    let outcome = card.provision();
    assert!(outcome.usable);
    assert_eq!(card.config_tree(), before);
    let text = card.read_drop("gateway-errors.txt");
    assert!(text.starts_with('\u{feff}'), "Notepad needs a mark to show what is not ASCII");
    assert!(text.lines().all(|line| !line.contains('\r')) && text.contains("\r\n"));
    for line in [
        "gateway.toml:2:6: the name \"Plant 7",
        "gateway.toml:4:7: `url` begins with https://",
        "`ca` = ca.pem does not exist",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.contains("configuration that it had before"), "{text}");
    assert_eq!(card.on_drive(), ["device.key", "gateway-errors.txt", "gateway.toml"]);
    let fault = card.fault().unwrap();
    assert!(fault.contains("refused: gateway.toml:2:6") && fault.lines().count() == 1, "{fault}");
    // The repaired file is taken, and what was said about the wrong one is gone.
    card.drop("gateway.toml", TLS.as_bytes());
    pki.drop(&card);
    assert!(card.provision().usable);
    assert_eq!(card.on_drive(), ["gateway-applied.txt"]);
    assert_eq!((card.fault(), card.judged().id.as_str()), (None, "plant7-line2"));
}

#[test]
fn errors_disappear_when_the_wrong_files_are_taken_away() {
    let card = Card::new();
    card.drop("gateway.toml", b"[gateway]\nid = 7\n");
    assert!(card.provision().usable);
    assert!(card.fault().is_some());
    fs::remove_file(card.drop.join("gateway.toml")).unwrap();
    assert!(card.provision().usable);
    assert_eq!((card.on_drive(), card.fault()), (Vec::new(), None));
}

#[test]
fn a_renewed_certificate_is_taken_without_a_configuration_and_one_of_another_key_is_not() {
    let card = Card::new();
    let (first, second) = (Pki::new(), Pki::new());
    card.drop("gateway.toml", TLS.as_bytes());
    first.drop(&card);
    assert!(card.provision().usable);
    card.drop("DEVICE.PEM", second.cert.as_bytes());
    let before = card.config_tree();
    assert!(card.provision().usable);
    let text = card.read_drop("gateway-errors.txt");
    assert!(
        text.contains("`client_key` = device.key does not belong to the certificate beside it"),
        "{text}"
    );
    assert_eq!(card.config_tree(), before);
    card.drop("device.key", second.key.as_bytes());
    assert!(card.provision().usable);
    assert_eq!(card.fault(), None);
    assert_eq!(card.installed("device.pem"), second.cert.as_bytes());
    assert_eq!(card.installed("keys/device.key"), second.key.as_bytes());
    assert_eq!(card.installed("ca.pem"), first.ca.as_bytes());
    assert_eq!(card.on_drive(), ["gateway-applied.txt"]);
    card.drop("other.pem", second.cert.as_bytes());
    assert!(card.provision().usable);
    let text = card.read_drop("gateway-errors.txt");
    assert!(text.contains("other.pem:1:1: the installed configuration does not name this file, expected one of ca.pem, device.key"), "{text}");
}

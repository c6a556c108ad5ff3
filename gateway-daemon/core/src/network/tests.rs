use super::settings::*;
use super::*;
use crate::tag::Name;

fn base() -> Settings {
    Settings {
        hostname: Host::new("line2").unwrap(),
        announced: false,
        ntp: Vec::new(),
        ethernet: Ethernet { card: None, addressing: Addressing::Automatic { dns: Vec::new() } },
        wifi: None,
    }
}

fn wifi(ssid: &str, password: &str) -> Wifi {
    Wifi {
        ssid: Ssid::new(ssid).unwrap(),
        password: WifiPassword::new(password).unwrap(),
        country: Country::new("DE").unwrap(),
        hidden: false,
        addressing: Addressing::Automatic { dns: Vec::new() },
    }
}

fn key(_: &str, _: &str) -> [u8; WIFI_KEY_BYTES] {
    [0xAB; WIFI_KEY_BYTES]
}

fn text(settings: &Settings, index: usize) -> String {
    rendered(settings, key)[index].text.clone().unwrap_or_default()
}

#[test]
fn without_settings_every_wired_card_asks_by_dhcp_and_nothing_else_is_there() {
    let files = rendered(&base(), key);
    assert!(text(&base(), 0).contains("[Match]\nType=ether\nKind=!*\n\n[Network]"));
    assert!(text(&base(), 0).contains("DHCP=yes\n"));
    assert!(files[1..].iter().all(|file| file.text.is_none()), "{files:?}");
}

#[test]
fn a_name_of_a_radio_network_cannot_break_out_of_its_line() {
    let evil = "a\"\n}\nnetwork={\n ssid=\"b";
    let settings = Settings { wifi: Some(wifi(evil, "a \"good\" #password")), ..base() };
    let conf = text(&settings, 2);
    assert_eq!(conf.matches("network={").count(), 1, "{conf}");
    assert_eq!(conf.lines().filter(|line| line.trim().starts_with("ssid=")).count(), 1);
    assert!(conf.ends_with(&format!("\n    psk={}\n}}\n", "ab".repeat(WIFI_KEY_BYTES))), "{conf}");
    assert!(!conf.contains("good"), "{conf}");
    assert!(rendered(&settings, key)[2].secret);
}

#[test]
fn passwords_of_radio_networks_are_8_to_63_printable_characters() {
    for (password, good) in [
        ("1234567", false),
        ("12345678", true),
        (&"x".repeat(63), true),
        (&"x".repeat(64), false),
        ("12345678\n}", false),
        ("passw\u{f6}rter", false),
        ("12345678\0", false),
    ] {
        assert_eq!(WifiPassword::new(password).is_some(), good, "{password:?}");
    }
    assert!(!format!("{:?}", WifiPassword::new("hunter2hunter2")).contains("hunter2"));
}

#[test]
fn names_admit_nothing_with_a_meaning_in_a_unit_file() {
    for text in ["", "a b", "a\nDHCP=no", "a\r", "-a", "a-", "\u{e4}", "a;b", "a#", "%n", &"x".repeat(64)] {
        assert!(Host::new(text).is_none(), "{text:?}");
        assert!(Server::new(text).is_none(), "{text:?}");
    }
    for text in ["", "eth0 eth1", "!eth0", "eth*", "eth0\n", "0123456789abcdef", "..", "a/b"] {
        assert!(Card::new(text).is_none(), "{text:?}");
    }
    for text in ["pool.ntp.org", "10.0.0.1", "fe80::1", "ntp-1"] {
        assert!(Server::new(text).is_some(), "{text:?}");
    }
    for text in ["D", "DEU", "D1", "\u{e4}\u{e4}", "D\n", ""] {
        assert!(Country::new(text).is_none(), "{text:?}");
    }
}

#[test]
fn the_name_of_the_machine_is_made_of_the_id() {
    for (id, host) in
        [("plant7-line2", "plant7-line2"), ("Plant_7.Line", "plant-7-line"), ("_", "tidegate"), ("-a-", "a")]
    {
        assert_eq!(Host::of_gateway(&Name::new(id).unwrap()).as_str(), host);
    }
    let long = "x".repeat(crate::tag::NAME_LEN_MAX);
    assert!(Host::of_gateway(&Name::new(&long).unwrap()).as_str().len() <= LABEL_BYTES_MAX);
}

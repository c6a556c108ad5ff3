//! Pictures against golden files; `cargo xtask golden` writes them anew.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::app::snapshot::{BusKind, Certificate, Clock, Count, Listener, Store};

/// Compares with a golden file beside this module, or writes it when asked to.
pub(crate) fn check_golden(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/app/picture/golden").join(name);
    if std::env::var_os("TIDEGATE_GOLDEN").is_some_and(|what| what == "write") {
        std::fs::write(&path, got).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, wanted, "{name} differs; `cargo xtask golden` writes it anew");
}

pub(crate) fn healthy() -> Snapshot {
    let rows = |rows: u64| Count { rows, readings: rows * 4, bytes: rows * 150 };
    Snapshot {
        config: "9f2c".into(),
        reloads: 0,
        refusals: 0,
        refused: None,
        faults: Default::default(),
        gateway: "plant7-line2".into(),
        version: "0.1.0".into(),
        boot: "0123456789abcdef-5000".into(),
        uptime_ms: 754_000,
        clock_trusted: true,
        clock: Clock { trust: "ntp".into(), source: Some("ntp".into()), doubt: None, remedy: None },
        certificates: Vec::new(),
        buses: vec![
            Bus {
                name: "rs485-1".into(),
                medium: "modbus-rtu /dev/ttyUSB0 19200 8E1".into(),
                kind: BusKind::ModbusRtu,
                place: "/dev/ttyUSB0".into(),
                up: true,
                polls_per_s: 11.96,
                busy: 0.41,
                requests: 9000,
                answers: 8990,
                ..Bus::default()
            },
            Bus {
                name: "plc".into(),
                medium: "modbus-tcp 192.168.1.20:502".into(),
                kind: BusKind::ModbusTcp,
                place: "192.168.1.20:502".into(),
                up: true,
                polls_per_s: 250.4,
                busy: 0.02,
                requests: 188_000,
                answers: 188_000,
                ..Bus::default()
            },
        ],
        devices: vec![
            Device {
                name: "meter1".into(),
                bus: "rs485-1".into(),
                unit: 17,
                tags: 5,
                health: Health::Good,
                polls_per_s: 1.0,
                requests: 754,
                answered: true,
                ..Device::default()
            },
            Device {
                name: "plc".into(),
                bus: "plc".into(),
                unit: 1,
                health: Health::Unknown,
                ..Device::default()
            },
        ],
        tags: vec![
            tag("meter1", "voltage", json!(230.1), Some("V"), 350),
            tag("meter1", "energy", json!(1_234_567), Some("Wh"), 350),
            tag("meter1", "relay", json!(true), None, 350),
            tag("meter1", "temperature", json!(-4.5), Some("°C"), 12_000),
            tag("meter1", "serial", json!("SN-0815"), None, 60_000),
        ],
        uplinks: vec![Uplink {
            name: "cloud".into(),
            url: "mqtts://broker.example.com:8883".into(),
            link: Link::Up,
            since_ms: 700_000,
            connects: 1,
            in_flight: 2,
            window: 100,
            acks_per_s: 12.0,
            rows_max: 1_000_000,
            ledger: Ledger {
                produced: rows(9000),
                in_memory: rows(2),
                acknowledged: rows(8998),
                ..Ledger::default()
            },
            ..Uplink::default()
        }],
        broker: Some(Broker {
            listeners: vec![
                listener("local", "mqtt://127.0.0.1:1883", 1),
                listener("machines", "mqtts://0.0.0.0:8883", 11),
            ],
            clients: 12,
            sessions: 14,
            subscriptions: 37,
            retained: 120,
            received: 7_540,
            received_per_s: 10.0,
            sent: 22_620,
            sent_per_s: 30.0,
            ..Broker::default()
        }),
        store: Store {
            path: "/var/lib/tidegate/queue.db".into(),
            file_bytes: 49_152,
            file_bytes_max: 512_000_000,
            ..Store::default()
        },
    }
}

fn listener(name: &str, url: &str, connections: u64) -> Listener {
    let address = url.split_once("://").unwrap().1.into();
    Listener { name: name.into(), url: url.into(), address, connections }
}

fn tag(device: &str, name: &str, value: serde_json::Value, unit: Option<&str>, age_ms: u64) -> Tag {
    Tag {
        device: device.into(),
        tag: name.into(),
        value: Some(value),
        unit: unit.map(Into::into),
        quality: "good".into(),
        age_ms: Some(age_ms),
    }
}

pub(crate) fn troubled() -> Snapshot {
    let mut snapshot = healthy();
    snapshot.clock_trusted = false;
    snapshot.clock = Clock {
        trust: "rtc".into(),
        source: None,
        doubt: Some("no time server has answered, and the battery of the clock chip failed or is low".into()),
        remedy: Some(
            "change its battery, then set it: date -u -s \"2026-11-30 12:00:00\" and hwclock -w".into(),
        ),
    };
    snapshot.certificates = vec![Certificate {
        room: "listener".into(),
        name: "plant".into(),
        key: "cert".into(),
        path: "/etc/tidegate/gateway.pem".into(),
        ends: "2026-11-29".into(),
        left_s: Some(-86_400),
        remark: Some("ended on 2026-11-29, so peers refuse it: ask the authority for the next one".into()),
        urgent: true,
    }];
    let rows = |rows: u64| Count { rows, readings: rows * 4, bytes: rows * 150 };
    let bus = &mut snapshot.buses[0];
    (bus.up, bus.polls_per_s, bus.busy, bus.errors, bus.overruns) = (false, 0.0, 0.0, 12, 3);
    bus.since_ms = 200_000;
    bus.why = Some("the port is gone; waiting for it to be plugged in again".into());
    let device = &mut snapshot.devices[0];
    (device.health, device.errors, device.polls_per_s) = (Health::Down, 1234, 0.0);
    (device.since_ms, device.why) = (200_000, Some("bus-down".into()));
    for (tag, reason) in snapshot.tags.iter_mut().zip(["timeout", "bus-down", "exception-2"]) {
        (tag.value, tag.quality) = (None, reason.into());
    }
    snapshot.tags[4] =
        Tag { value: None, quality: "not-polled".into(), age_ms: None, ..snapshot.tags[4].clone() };
    let uplink = &mut snapshot.uplinks[0];
    (uplink.link, uplink.since_ms, uplink.retry_in_ms) = (Link::Waiting, 93_000, Some(2_300));
    uplink.loss = Some("tcp: connection refused".into());
    (uplink.in_flight, uplink.acks_per_s, uplink.rows_max) = (0, 0.0, 1000);
    uplink.ledger = Ledger {
        restored: rows(10),
        produced: rows(2000),
        in_memory: rows(12),
        stored: rows(950),
        acknowledged: rows(1000),
        dropped: [
            ("oldest".to_owned(), rows(47)),
            ("age".to_owned(), rows(1)),
            ("newest".to_owned(), rows(0)),
        ]
        .into(),
    };
    let broker = snapshot.broker.get_or_insert_default();
    (broker.waiting, broker.stored, broker.dropped, broker.logins_refused) = (1200, 1100, 3, 5);
    snapshot.store.fault = Some("disk full".into());
    (snapshot.store.moved_aside, snapshot.store.lost_rows) = (1, 7);
    snapshot
}

fn all_tags(snapshot: &Snapshot, paper: impl Into<Paper>) -> String {
    tags(&snapshot.tags.iter().collect::<Vec<_>>(), paper)
}

#[test]
fn golden_status_of_a_healthy_gateway() {
    check_golden("status-healthy.txt", &status(&healthy(), Ink::Plain));
}

#[test]
fn golden_status_of_a_gateway_in_trouble() {
    check_golden("status-troubled.txt", &status(&troubled(), Ink::Plain));
}

#[test]
fn golden_status_with_colours() {
    check_golden("status-colours.txt", &status(&troubled(), Ink::Ansi).replace('\x1b', "ESC"));
}

#[test]
fn golden_tags_in_good_and_in_bad_times() {
    check_golden("tags-healthy.txt", &all_tags(&healthy(), Ink::Plain));
    check_golden("tags-troubled.txt", &all_tags(&troubled(), Ink::Plain));
}

#[test]
fn a_broken_ledger_is_shouted_about() {
    let mut snapshot = healthy();
    snapshot.uplinks[0].ledger.acknowledged.readings -= 1;
    assert!(status(&snapshot, Ink::Plain).contains("DOES NOT BALANCE"));
    assert!(!status(&healthy(), Ink::Plain).contains("DOES NOT BALANCE"));
}

#[test]
fn what_is_wrong_with_a_device_stands_in_the_verdict_and_how_it_is_asked_below_the_table() {
    let mut snapshot = healthy();
    snapshot.devices[0].wrong = vec!["refuses 1 of 12 requests".into()];
    snapshot.devices[0].notes = vec!["is asked in 4 requests instead of 1".into()];
    let text = status(&snapshot, Ink::Plain);
    assert!(text.starts_with("not well: device meter1: refuses 1 of 12 requests"), "{text}");
    assert!(text.ends_with("device meter1: is asked in 4 requests instead of 1\n"), "{text}");
}

#[test]
fn an_empty_snapshot_can_be_drawn() {
    let empty = Snapshot::default();
    for text in [status(&empty, Ink::Ansi), all_tags(&empty, Ink::Ansi), one_line(&empty)] {
        assert!(!text.is_empty());
    }
}

#[test]
fn golden_line_of_good_and_of_bad_times() {
    check_golden("one-line.txt", &format!("{}\n{}\n", one_line(&healthy()), one_line(&troubled())));
}

#[test]
fn golden_status_on_a_terminal_of_80_columns() {
    check_golden("status-80.txt", &status(&troubled(), Paper::scroll(Ink::Plain, 80)));
}

#[test]
fn text_on_a_terminal_is_as_narrow_as_the_terminal_and_loses_no_word() {
    let (wide, narrow) =
        (status(&troubled(), Ink::Plain), status(&troubled(), Paper::scroll(Ink::Plain, 80)));
    assert!(wide.lines().any(|line| paper::width(line) > 80), "{wide}");
    assert!(narrow.lines().all(|line| paper::width(line) <= 80), "{narrow}");
    // Columns of tables may be shortened, sentences are not.
    let wide = wide.split("BUS  ").next().unwrap().to_owned()
        + "the port is gone; waiting for it to be plugged in again";
    let lost = wide.split_whitespace().filter(|word| !narrow.split_whitespace().any(|kept| kept == *word));
    assert_eq!(lost.collect::<Vec<_>>(), [""; 0], "{narrow}");
}

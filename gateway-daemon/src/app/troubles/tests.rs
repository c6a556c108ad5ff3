//! What is told of which snapshot; the sentences against a golden file.

use super::*;
use crate::app::picture::tests::{check_golden, healthy, troubled};
use crate::app::snapshot::{
    Bus, BusKind, Certificate, Device, Dropping, Health, Link, Refused, SetAside, Tag,
};

/// A change of a gateway that is well.
type Change = fn(&mut Snapshot);

fn after(change: impl Fn(&mut Snapshot)) -> Vec<Trouble> {
    let mut snapshot = healthy();
    change(&mut snapshot);
    troubles(&snapshot)
}

/// What is found, as keys.
fn keys(found: &[Trouble]) -> Vec<String> {
    found.iter().map(|trouble| trouble.subject.to_string()).collect()
}

fn kill(snapshot: &mut Snapshot, place: usize) {
    let device = &mut snapshot.devices[place];
    (device.health, device.since_ms, device.why) = (Health::Dead, 90_000, Some("timeout".into()));
    let name = device.name.clone();
    for tag in snapshot.tags.iter_mut().filter(|tag| tag.device == name) {
        (tag.value, tag.quality) = (None, "device-down".into());
    }
}

fn close(snapshot: &mut Snapshot, place: usize, why: &str) {
    let bus = &mut snapshot.buses[place];
    (bus.up, bus.since_ms, bus.why) = (false, 200_000, Some(why.into()));
}

fn quality(snapshot: &mut Snapshot, place: usize, quality: &str) {
    (snapshot.tags[place].value, snapshot.tags[place].quality) = (None, quality.into());
}

fn second_device(snapshot: &mut Snapshot) {
    let meter2 = Device { name: "meter2".into(), unit: 18, ..snapshot.devices[0].clone() };
    snapshot.devices.push(meter2);
}

fn certificate(remark: &str, urgent: bool) -> Certificate {
    Certificate {
        room: "listener".into(),
        name: "plant".into(),
        key: "cert".into(),
        path: "/etc/tidegate/gateway.pem".into(),
        remark: Some(remark.into()),
        urgent,
        ..Certificate::default()
    }
}

const NO_PORT: &str =
    "no port /dev/ttyUSB7: the ports there are: /dev/serial/by-id/usb-FTDI_A10-if00-port0, /dev/ttyUSB0";

const SITUATIONS: [(&str, Change); 33] = [
    ("a wrong port", |s| close(s, 0, NO_PORT)),
    ("no permission", |s| {
        close(s, 0, "no permission to open /dev/ttyUSB0: it belongs to group dialout; add the user")
    }),
    ("a TCP device that is off", |s| close(s, 1, "connection to 192.168.1.20:502: no answer")),
    ("a dead device", |s| kill(s, 0)),
    ("a dead device on a line that never answered", |s| {
        kill(s, 0);
        s.buses[0].answers = 0;
    }),
    ("a dead device behind a serial server that never answered", |s| {
        kill(s, 0);
        s.buses[0].answers = 0;
        (s.buses[0].kind, s.buses[0].place) = (BusKind::ModbusRtuOverTcp, "10.0.0.7:4001".into());
    }),
    ("a whole line silent", |s| {
        second_device(s);
        kill(s, 0);
        kill(s, 2);
    }),
    ("a device that fails", |s| {
        (s.devices[0].health, s.devices[0].since_ms, s.devices[0].why) =
            (Health::Failing, 65_000, Some("timeout".into()));
        quality(s, 0, "timeout");
    }),
    ("a wrong register", |s| quality(s, 1, "exception-2")),
    ("many bad tags", |s| (0..5).for_each(|place| quality(s, place, "out-of-range"))),
    ("a lost answer", |s| quality(s, 1, "timeout")),
    ("a loaded line", |s| (s.buses[0].busy, s.buses[0].overruns) = (0.99, 7)),
    ("an uplink that is down", |s| {
        let uplink = &mut s.uplinks[0];
        (uplink.link, uplink.since_ms) = (Link::Waiting, 93_000);
        uplink.loss = Some("TCP connection with 10.0.0.1:8883: refused, nothing listens there; check the port and whether the broker runs".into());
    }),
    ("an uplink that never came up", |s| {
        let uplink = &mut s.uplinks[0];
        (uplink.link, uplink.since_ms, uplink.connects) = (Link::Connecting, 61_000, 0);
    }),
    ("a queue that fills", |s| {
        s.uplinks[0].rows_max = 1000;
        let rows = crate::app::snapshot::Count { rows: 800, readings: 3200, bytes: 1 };
        (s.uplinks[0].ledger.stored, s.uplinks[0].ledger.restored) = (rows, rows);
    }),
    ("a queue that fills with bytes", |s| {
        (s.uplinks[0].bytes_max, s.uplinks[0].ledger.stored.bytes) = (1000, 801);
    }),
    ("a queue that drops", |s| {
        s.uplinks[0].dropping = Some(Dropping { since_ms: 5000, reason: "drop-oldest".into() });
    }),
    ("a queue that has dropped", |s| {
        let dropped = crate::app::snapshot::Count { rows: 2, readings: 8, bytes: 9 };
        (s.uplinks[0].ledger.produced.rows, s.uplinks[0].ledger.produced.readings) = (9002, 36_008);
        s.uplinks[0].ledger.dropped = [("drop-oldest".to_owned(), dropped)].into();
    }),
    ("set aside", |s| {
        let newest = Some("plant/x by 10.0.0.1:8883".to_owned());
        s.uplinks[0].set_aside = SetAside { messages: 3, bytes: 100, newest, reason: None };
    }),
    ("refused filters", |s| s.uplinks[0].refused = ["a/#", "b", "c", "d"].map(String::from).into()),
    ("a ledger that does not balance", |s| s.uplinks[0].ledger.acknowledged.readings -= 1),
    ("a store that takes nothing", |s| s.store.fault = Some("full: database or disk is full".into())),
    ("a database that is nearly full", |s| {
        (s.store.file_bytes_max, s.uplinks[0].ledger.stored.bytes) = (1000, 810);
    }),
    ("a database that was damaged", |s| (s.store.moved_aside, s.store.lost_rows) = (1, 7)),
    ("a database that was deleted while it was open", |s| {
        s.store.notice = Some("the queue database /data/queue.db was deleted or moved away while it was open: 390 rows and 0 facts were saved, nothing is lost".into());
    }),
    ("a fault of the machine", |s| {
        s.faults = [("data-partition".to_owned(), "the data partition cannot be used".to_owned())].into();
    }),
    ("a refused configuration", |s| {
        let problems =
            ["gateway.toml:3:1: error: unknown key `prot`".to_owned(), "another".to_owned()].into();
        s.refused = Some(Refused { since_ms: 4000, problems });
    }),
    ("no time", |s| {
        s.clock_trusted = false;
        s.clock.doubt = Some("no time server has answered".into());
        s.clock.remedy = Some("give it a time server that it can reach (`network.ntp`)".into());
    }),
    ("a clock that nobody has checked", |s| s.clock.source = Some("system".into())),
    ("a certificate that ends soon", |s| {
        s.certificates =
            vec![certificate("ends on 2026-12-24, in less than 30 days: put the next one there", false)];
    }),
    ("a certificate that has ended", |s| {
        s.certificates =
            vec![certificate("ended on 2026-11-29, so peers refuse it: put the next one there", true)];
    }),
    ("clients that lose messages", |s| s.broker.get_or_insert_default().dropped = 3),
    ("several at once", |s| *s = troubled()),
];

#[test]
fn golden_what_is_wrong_in_each_situation() {
    let mut text = String::new();
    for (name, change) in SITUATIONS {
        let found = after(change);
        assert!(!found.is_empty(), "nothing is told of {name}");
        text.push_str(&format!("# {name}\n{}\n", verdict(&found)));
        for trouble in &found {
            let severity = if trouble.severity == Severity::Wrong { "wrong" } else { "notable" };
            text.push_str(&format!("  {severity} {}: {trouble}\n", trouble.subject));
        }
    }
    check_golden("troubles.txt", &text);
}

#[test]
fn a_healthy_gateway_is_well() {
    let found = troubles(&healthy());
    assert_eq!(found, []);
    assert_eq!(verdict(&found), "all is well");
    assert!(is_well(&found));
    assert_eq!(troubles(&Snapshot::default()), [], "an empty one too");
}

#[test]
fn what_has_just_started_is_no_trouble() {
    let fresh: [Change; 6] = [
        |s| (s.uptime_ms, s.clock_trusted) = (CLOCK_GRACE_MS - 1, false),
        |s| {
            let bus = &mut s.buses[0];
            (bus.up, bus.untried, bus.why) = (false, true, Some("not opened yet".into()));
        },
        |s| s.devices.iter_mut().for_each(|device| device.health = Health::Unknown),
        |s| s.tags.iter_mut().for_each(|tag| (tag.value, tag.quality) = (None, "not-polled".into())),
        |s| (s.uplinks[0].link, s.uplinks[0].connects, s.uplinks[0].since_ms) = (Link::Connecting, 0, 59_999),
        |s| s.uplinks[0].link = Link::Stopped,
    ];
    for change in fresh {
        assert_eq!(after(change), []);
    }
}

#[test]
fn what_follows_from_something_else_is_not_told_again() {
    let down = after(|s| {
        kill(s, 0);
        close(s, 0, "the port is gone");
    });
    assert_eq!(keys(&down), ["bus/rs485-1"], "the device and its tags are silent with their bus");
    assert_eq!(keys(&after(|s| kill(s, 0))), ["device/meter1"], "tags of a device that does not answer");
    let line = after(|s| {
        second_device(s);
        kill(s, 0);
        kill(s, 2);
    });
    assert_eq!(keys(&line), ["bus/rs485-1"]);
    let one = after(|s| {
        second_device(s);
        kill(s, 0);
    });
    assert_eq!(keys(&one), ["device/meter1"], "the other one answers, so the line is good");
}

#[test]
fn a_tag_that_waits_for_the_next_poll_is_no_trouble() {
    for word in ["bus-down", "device-down", "not-polled"] {
        let mut snapshot = healthy();
        quality(&mut snapshot, 0, word);
        assert_eq!(troubles(&snapshot), [], "{word}");
    }
}

#[test]
fn a_serial_line_that_never_answered_is_perhaps_set_wrong_and_one_that_has_answered_is_not() {
    let remedy = |answers: u64, kind: BusKind, place: &str| {
        let found = after(|s| {
            kill(s, 0);
            let bus = &mut s.buses[0];
            // What a person reads is not gone by.
            (bus.answers, bus.kind, bus.place, bus.medium) = (answers, kind, place.to_owned(), String::new());
        });
        found[0].remedy.clone().unwrap()
    };
    let never = remedy(0, BusKind::ModbusRtu, "/dev/my port");
    assert!(never.contains("`baud` and `parity`"), "{never}");
    assert!(never.contains("`gateway-daemon scan --port /dev/my port`"), "{never}");
    let worked = remedy(1, BusKind::ModbusRtu, "/dev/ttyUSB0");
    assert!(worked.starts_with("check its power, its wires and its `unit`"), "{worked}");
    let tcp = remedy(0, BusKind::ModbusTcp, "10.0.0.1:502");
    assert!(!tcp.contains("baud"), "{tcp}");
}

#[test]
fn a_connection_that_is_being_opened_again_is_no_fault_of_the_polls() {
    let stale = |health: Health, reopening: bool| {
        after(|s| {
            quality(s, 0, "stale");
            s.buses[0].reopening = reopening;
            (s.devices[0].health, s.devices[0].since_ms) = (health, 1);
        })
    };
    assert_eq!(stale(Health::Good, true), [], "its bus may be down in a moment");
    assert_eq!(stale(Health::Failing, false), [], "that the device fails is told of it");
    let found = stale(Health::Good, false);
    assert!(found[0].remedy.as_ref().unwrap().contains("the polls do not come round"), "{found:?}");
}

#[test]
fn the_verdict_names_the_worst_first_and_counts_the_others() {
    let found = troubles(&troubled());
    assert!(!is_well(&found));
    assert_eq!(found[0].subject, Subject::Store, "messages are lost there first");
    let wrong = found.iter().filter(|trouble| trouble.severity == Severity::Wrong).count();
    let said = verdict(&found);
    assert!(said.starts_with("not well: the store takes no messages: disk full"), "{said}");
    assert!(said.ends_with(&format!("and {} other things are wrong", wrong - 1)), "{said}");
    assert!(found.is_sorted_by_key(|trouble| trouble.severity));
}

#[test]
fn what_is_only_worth_knowing_leaves_the_gateway_well() {
    let found = after(|s| (s.clock_trusted, s.store.moved_aside) = (false, 1));
    assert!(is_well(&found));
    let said = verdict(&found);
    assert!(said.starts_with("all is well; worth knowing: ") && said.ends_with("; and 1 more"), "{said}");
}

#[test]
fn a_sentence_stays_the_same_while_time_and_counts_go_on() {
    for (name, change) in SITUATIONS {
        let mut snapshot = healthy();
        change(&mut snapshot);
        let before: Vec<String> = troubles(&snapshot).iter().map(Trouble::lasting).collect();
        snapshot.uptime_ms += 1000;
        snapshot
            .buses
            .iter_mut()
            .for_each(|bus| (bus.since_ms, bus.errors) = (bus.since_ms + 1000, bus.errors + 1));
        snapshot
            .devices
            .iter_mut()
            .for_each(|device| (device.since_ms, device.errors) = (device.since_ms + 1000, 99));
        for uplink in &mut snapshot.uplinks {
            (uplink.since_ms, uplink.set_aside.messages) =
                (uplink.since_ms + 1000, uplink.set_aside.messages.saturating_mul(2));
            if let Some(dropping) = &mut uplink.dropping {
                dropping.since_ms += 1000;
            }
        }
        snapshot.store.lost_rows += 1;
        let later: Vec<String> = troubles(&snapshot).iter().map(Trouble::lasting).collect();
        assert_eq!(before, later, "{name}");
    }
}

#[test]
fn what_a_device_refuses_or_answers_wrongly_is_said_as_in_the_log() {
    let sentence = "refuses 1 of 12 requests: holding 610 (energy): exception 2 (no such address)";
    let mut snapshot = Snapshot {
        buses: vec![Bus { name: "line".into(), up: true, ..Bus::default() }],
        devices: vec![Device {
            name: "meter".into(),
            bus: "line".into(),
            health: Health::Good,
            wrong: vec![sentence.into()],
            ..Device::default()
        }],
        tags: vec![Tag {
            device: "meter".into(),
            tag: "energy".into(),
            quality: "exception-2".into(),
            ..Tag::default()
        }],
        clock_trusted: true,
        ..Snapshot::default()
    };
    let found = troubles(&snapshot);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].sentence, format!("device meter: {sentence}"));
    assert_eq!(found[0].remedy.as_deref(), Some(super::field::mend("exception-2")));

    snapshot.devices[0].health = Health::Dead;
    snapshot.devices[0].wrong = vec!["answers wrongly (answer of unit 5 instead of unit 0)".into()];
    let found = troubles(&snapshot);
    let said = "device meter (unit 0 on bus line) answers wrongly (answer of unit 5 instead of unit 0)";
    assert_eq!(found.iter().map(|trouble| trouble.sentence.as_str()).collect::<Vec<_>>(), [said]);
}

#[test]
fn what_failed_when_a_device_went_away_is_no_trouble_of_one_that_is_back_until_it_was_asked_again() {
    let back = |unproven: bool| {
        after(|s| {
            s.devices[0].wrong = vec!["does not answer 1 of 2 requests: holding 600".to_owned()];
            s.devices[0].unproven = unproven;
        })
    };
    assert!(is_well(&back(true)), "{:?}", back(true));
    assert!(!is_well(&back(false)));
}

#[test]
fn a_store_whose_folder_belongs_to_somebody_else_is_not_sent_to_the_disk() {
    let remedy = |kind: Option<StoreFaultKind>| {
        let mut snapshot = healthy();
        (snapshot.store.fault, snapshot.store.fault_kind) = (Some("whatever is said".to_owned()), kind);
        troubles(&snapshot)[0].to_string()
    };
    let said = remedy(Some(StoreFaultKind::Forbidden));
    assert!(said.contains("`path` in [store]") && !said.contains("free space"), "{said}");
    assert!(remedy(Some(StoreFaultKind::Full)).contains("free space"));
    assert!(remedy(None).contains("free space"), "a gateway of an earlier version");
}

#[test]
fn a_sentence_is_parted_from_its_remedy_outside_of_brackets_only() {
    assert_eq!(parts("refused; check the port"), ("refused", Some("check the port")));
    let port = "closed (its port for TLS is mostly 8883; without TLS write mqtt://)";
    assert_eq!(parts(port), (port, None));
    assert_eq!(parts(&format!("{port}; check the URL")), (port, Some("check the URL")));
    assert_eq!(parts("a;b) is odd; look"), ("a;b) is odd", Some("look")));
    assert_eq!(parts("an (open bracket; look"), ("an (open bracket; look", None));
}

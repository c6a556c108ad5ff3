use std::path::Path;

use gateway_config::{Environment, parse};

use super::*;

const BASE: &str = r#"
[gateway]
id = "gw"
socket = "/run/gw/control.sock"
[store]
path = "/var/lib/gw/queue.db"
[uplink.cloud]
url = "mqtt://cloud.example:1883"
client_id = "gw-cloud"
[uplink.office]
url = "mqtt://office.example:1883"
client_id = "gw-office"
[bus.one]
driver = "sim"
[bus.two]
driver = "sim"
[device.m1]
bus = "one"
unit = 1
[[device.m1.poll]]
every = "1s"
tags.a = { holding = 0, type = "u16" }
[device.m2]
bus = "two"
unit = 1
[[device.m2.poll]]
every = "1s"
tags.a = { holding = 0, type = "u16" }
"#;

fn config(text: &str) -> Config {
    let parsed = parse(text, "a.toml", Path::new("/"), &Environment::default());
    parsed.unwrap_or_else(|problems| panic!("{problems}")).0
}

fn delta(after: &str) -> Result<Delta, Vec<String>> {
    Delta::between(&config(BASE), &config(after))
}

fn same() -> Delta {
    Delta {
        kept: vec![Some(0), Some(1)],
        uplinks: vec![Course::Keep(0), Course::Keep(1)],
        ..Delta::default()
    }
}

#[test]
fn the_same_configuration_changes_nothing() {
    assert_eq!(delta(BASE), Ok(same()));
    assert_eq!(delta(&format!("# a remark\n{BASE}")), Ok(same()));
}

#[test]
fn a_changed_tag_restarts_its_bus_alone() {
    let after = BASE.replacen("type = \"u16\"", "type = \"i16\"", 1);
    assert_eq!(delta(&after), Ok(Delta { kept: vec![None, Some(1)], ended: vec![0], ..same() }));
}

#[test]
fn a_changed_life_of_connections_or_pause_after_connecting_restarts_its_bus_alone() {
    let bus = "[bus.one]\ndriver = \"modbus-tcp\"\nhost = \"10.0.0.8\"\n";
    let with = |keys: &str| BASE.replacen("[bus.one]\ndriver = \"sim\"\n", &format!("{bus}{keys}"), 1);
    let between = |before: &str, after: &str| Delta::between(&config(&with(before)), &config(&with(after)));
    let written_down = "connection = \"keep\"\nconnect_pause = \"0ms\"\n";
    assert_eq!(between("", written_down), Ok(same()), "the defaults");
    for keys in ["connection = \"per-cycle\"\n", "connect_pause = \"100ms\"\n"] {
        let one = Ok(Delta { kept: vec![None, Some(1)], ended: vec![0], ..same() });
        assert_eq!(between("", keys), one, "{keys}");
        assert_eq!(between(keys, ""), one, "{keys}");
    }
}

#[test]
fn a_device_more_on_one_bus_leaves_the_other_alone_although_its_numbers_shift() {
    let more = "[device.m0]\nbus = \"one\"\nunit = 9\n[[device.m0.poll]]\nevery = \"1s\"\ntags.b = { coil = 0 }\n[device.m1]";
    let after = BASE.replacen("[device.m1]", more, 1);
    assert_eq!(delta(&after), Ok(Delta { kept: vec![None, Some(1)], ended: vec![0], ..same() }));
}

#[test]
fn a_bus_more_or_less_leaves_the_others_alone() {
    let (one, two) = ("[bus.one]\ndriver = \"sim\"\n", "[bus.two]\ndriver = \"sim\"\n");
    let zero = "[bus.zero]\ndriver = \"sim\"\n";
    let after = BASE.replacen(one, &format!("{zero}{one}"), 1);
    assert_eq!(delta(&after), Ok(Delta { kept: vec![None, Some(0), Some(1)], ..same() }));
    let gone = BASE
        .replacen(one, "", 1)
        .replacen("bus = \"one\"", "bus = \"two\"", 1)
        .replacen("unit = 1", "unit = 2", 1);
    assert_eq!(delta(&gone), Ok(Delta { kept: vec![None], ended: vec![0, 1], ..same() }));
    let turned = BASE.replacen(one, "", 1).replacen(two, &format!("{two}{one}"), 1);
    assert_eq!(delta(&turned), Ok(Delta { kept: vec![Some(1), Some(0)], ..same() }));
}

#[test]
fn an_uplink_reconnects_only_for_what_its_connection_is_made_of() {
    let with = |lines: &str| BASE.replacen("client_id = \"gw-cloud\"", lines, 1);
    let course = |reconnect, forward| Course::Change(Changed { from: 0, forward, reconnect });
    for (line, expected) in [
        ("client_id = \"gw-cloud\"\nkeep_alive = \"77s\"", course(true, false)),
        ("client_id = \"other\"", course(true, false)),
        ("client_id = \"gw-cloud\"\nwindow = 7", course(true, false)),
        ("client_id = \"gw-cloud\"\naccept = [\"cmd/#\"]", course(true, false)),
        ("client_id = \"gw-cloud\"\nforward = [\"gw/m1/#\"]", course(false, true)),
        ("client_id = \"gw-cloud\"\ndrain = \"fifo\"", course(false, false)),
        ("client_id = \"gw-cloud\"\nqueue = { rows_max = 100 }", course(false, false)),
        ("client_id = \"gw-cloud\"\nbackoff_max = \"7s\"", course(false, false)),
    ] {
        let delta = delta(&with(line)).unwrap();
        assert_eq!(delta, Delta { uplinks: vec![expected, Course::Keep(1)], ..same() }, "{line}");
    }
}

#[test]
fn an_uplink_more_is_opened_and_one_less_is_gone() {
    let cloud = "[uplink.cloud]\nurl = \"mqtt://cloud.example:1883\"\nclient_id = \"gw-cloud\"\n";
    let gone = BASE.replacen(cloud, "", 1);
    // The one that stays has the share of the database of the other as well, and goes on otherwise.
    let grown = Course::Change(Changed { from: 1, forward: false, reconnect: false });
    assert_eq!(delta(&gone), Ok(Delta { uplinks: vec![grown], gone: vec![0], ..same() }));
    let renamed = BASE.replacen("[uplink.cloud]", "[uplink.sky]", 1);
    let expected = Delta { uplinks: vec![Course::Open, Course::Keep(1)], gone: vec![0], ..same() };
    assert_eq!(delta(&renamed), Ok(expected));
}

#[test]
fn limits_that_give_way_to_another_uplink_need_no_restart_and_those_of_the_file_do() {
    let broker = |text: &str| format!("{BASE}[broker]\n{text}");
    let before = config(&broker(""));
    let between = |after: &str| Delta::between(&before, &config(after));
    let third = "[uplink.third]\nurl = \"mqtt://third.example\"\n";
    let delta = between(&broker(third)).unwrap();
    let gives_way = |from| Course::Change(Changed { from, forward: false, reconnect: false });
    assert_eq!(delta.uplinks, [gives_way(0), gives_way(1), Course::Open]);
    for (text, key) in [
        (broker("[broker.limits]\nconnections_max = 10\n"), "the limits of `[broker]`"),
        (
            broker("").replacen("id = \"gw\"", "id = \"gw\"\nmemory_max = \"200MiB\"", 1),
            "`gateway.memory_max`",
        ),
    ] {
        let sentences = between(&text).unwrap_err();
        assert!(sentences.len() == 1 && sentences[0].starts_with(key), "{sentences:?}");
    }
}

#[test]
fn other_messages_are_noticed() {
    let after = format!("{BASE}[message]\nshape = \"tag\"\n");
    assert_eq!(delta(&after), Ok(Delta { message: true, ..same() }));
}

#[test]
fn what_needs_a_restart_is_refused_with_all_reasons() {
    let after = BASE
        .replacen("id = \"gw\"", "id = \"other\"", 1)
        .replacen("control.sock", "c.sock", 1)
        .replacen("queue.db", "q.db", 1);
    let after = format!("{after}[broker.listener.plain]\naddress = \"127.0.0.1:1883\"\nanonymous = true\n");
    let sentences = delta(&after).unwrap_err();
    let keys = ["`gateway.id`", "`gateway.socket`", "`[store]`", "a `[broker]`"];
    assert_eq!(sentences.len(), keys.len(), "{sentences:?}");
    for (sentence, key) in sentences.iter().zip(keys) {
        assert!(sentence.starts_with(key) && sentence.ends_with("systemctl restart tidegate"), "{sentence}");
    }
}

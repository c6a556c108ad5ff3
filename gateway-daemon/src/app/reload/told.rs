//! What a changed file changes, in the words of the file: which tables, and what the polling of the buses in question comes to. Pure.

use std::collections::BTreeMap;
use std::fmt::Debug;

use gateway_config::Config;
use gateway_core::poll::plan::BusPlan;
use gateway_core::poll::settings::Settings as Field;

/// Tables named in one line; more of them hide the rest.
const TABLES_MAX: usize = 12;

/// `changed [device.meter1], new [bus.b]; polling: bus b 12.0 requests/s, 31 % of the line`.
pub(super) fn sentence(before: &Config, after: &Config) -> String {
    let (before_tables, after_tables) = (tables(before), tables(after));
    let named = |word: &str, names: Vec<&String>| {
        if names.is_empty() {
            return None;
        }
        let more = names.len().saturating_sub(TABLES_MAX);
        let mut list: Vec<&str> = names.iter().take(TABLES_MAX).map(|name| name.as_str()).collect();
        let rest = format!("{more} more");
        if more > 0 {
            list.push(&rest);
        }
        Some(format!("{word} {}", list.join(", ")))
    };
    let changed =
        after_tables.iter().filter(|(name, what)| before_tables.get(*name).is_some_and(|was| was != *what));
    let fresh = after_tables.keys().filter(|name| !before_tables.contains_key(*name));
    let gone = before_tables.keys().filter(|name| !after_tables.contains_key(*name));
    let parts: Vec<String> = [
        named("changed", changed.map(|(name, _)| name).collect()),
        named("new", fresh.collect()),
        named("gone", gone.collect()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let parts =
        if parts.is_empty() { "nothing that it sets is different".to_owned() } else { parts.join(", ") };
    let mut said = parts;
    if before.board != after.board {
        said.push_str("; [board] takes effect when the machine restarts");
    }
    if let Some(polling) = polling(before, after) {
        said.push_str("; polling: ");
        said.push_str(&polling);
    }
    said
}

/// Each table of the file with everything that it says. Devices hold their poll groups and tags, and name their bus.
fn tables(config: &Config) -> BTreeMap<String, String> {
    let mut tables = BTreeMap::new();
    let mut add = |name: String, what: &dyn Debug| drop(tables.insert(name, format!("{what:?}")));
    add("[gateway]".to_owned(), &config.gateway);
    add("[store]".to_owned(), &config.store);
    add("[message]".to_owned(), &config.message);
    add("[network]".to_owned(), &config.network);
    if let Some(board) = &config.board {
        add("[board]".to_owned(), board);
    }
    if let Some(update) = &config.update {
        add("[update]".to_owned(), update);
    }
    if let Some(broker) = &config.broker {
        add("[broker]".to_owned(), broker);
    }
    for uplink in &config.uplinks {
        add(format!("[uplink.{}]", uplink.0.name), uplink);
    }
    let field = &config.field;
    for bus in &field.buses {
        add(format!("[bus.{}]", bus.name), bus);
    }
    for (index, device) in field.devices.iter().enumerate() {
        let groups: Vec<_> = field.groups.iter().filter(|group| group.device == index).collect();
        // Places in the lists of the whole file differ when something before them has changed.
        let groups: Vec<_> = groups
            .into_iter()
            .map(|group| {
                let tags = field.tags.get(group.tags()).unwrap_or_default();
                let tags: Vec<_> = tags
                    .iter()
                    .map(|tag| {
                        (
                            &tag.name,
                            tag.point,
                            &tag.unit,
                            tag.scale,
                            tag.range,
                            &tag.filter,
                            tag.writable,
                            tag.alarm,
                        )
                    })
                    .collect();
                format!("{} {:?} {tags:?}", group.name, group.every)
            })
            .collect();
        let own = gateway_core::poll::settings::Device { bus: 0, ..device.clone() };
        add(format!("[device.{}]", device.name), &(own, bus_of(field, device.bus), groups));
    }
    tables
}

fn bus_of(field: &Field, bus: usize) -> &str {
    field.buses.get(bus).map_or("", |bus| bus.name.as_str())
}

/// What the polling of the buses comes to whose plan is another.
fn polling(before: &Config, after: &Config) -> Option<String> {
    let plans = |field: &Field| -> BTreeMap<String, String> {
        let plans = BusPlan::all(field).into_iter();
        plans.map(|plan| (bus_of(field, plan.bus).to_owned(), words(&plan))).collect()
    };
    let (was, is) = (plans(&before.field), plans(&after.field));
    let differs = is.iter().filter(|(bus, plan)| was.get(*bus) != Some(*plan));
    let list: Vec<String> = differs.take(TABLES_MAX).map(|(bus, plan)| format!("bus {bus} {plan}")).collect();
    (!list.is_empty()).then(|| list.join(", "))
}

fn words(plan: &BusPlan) -> String {
    let share = plan.share.map_or_else(String::new, |share| format!(" ({:.0} % of the line)", share * 100.0));
    format!("{:.1} requests/s{share}", plan.requests_per_s)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gateway_config::{Environment, parse};

    use super::*;

    const FILE: &str = r#"
[gateway]
id = "g"
[uplink.cloud]
url = "mqtts://broker.example.com"
[bus.a]
driver = "sim"
[bus.b]
driver = "modbus-rtu"
port = "/dev/ttyUSB0"
baud = 9600
[device.m1]
bus = "a"
unit = 1
[[device.m1.poll]]
every = "1s"
tags.t = { holding = 0, type = "u16" }
[device.m2]
bus = "b"
unit = 2
[[device.m2.poll]]
every = "1s"
tags.t = { holding = 0, type = "u16" }
"#;

    fn change(from: &str, to: &str) -> String {
        let config = |text: &str| parse(text, "a.toml", Path::new("/"), &Environment::default()).unwrap().0;
        assert!(FILE.contains(from), "{from}");
        sentence(&config(FILE), &config(&FILE.replacen(from, to, 1)))
    }

    #[test]
    fn a_changed_configuration_says_which_tables_and_what_polling_comes_to() {
        assert_eq!(change("id = \"g\"", "id = \"g\""), "nothing that it sets is different");
        assert_eq!(change("unit = 1", "unit = 3"), "changed [device.m1]");
        let faster = change(
            "unit = 2\n[[device.m2.poll]]\nevery = \"1s\"",
            "unit = 2\n[[device.m2.poll]]\nevery = \"500ms\"",
        );
        assert!(faster.starts_with("changed [device.m2]; polling: bus b 2.0 requests/s ("), "{faster}");
        let renamed = change("[uplink.cloud]", "[uplink.office]");
        assert_eq!(renamed, "new [uplink.office], gone [uplink.cloud]");
    }

    #[test]
    fn a_changed_board_says_that_it_takes_effect_at_a_restart() {
        let said = change("[bus.a]", "[board]\nuart = [5]\n[bus.a]");
        assert_eq!(said, "new [board]; [board] takes effect when the machine restarts");
    }

    #[test]
    fn a_device_before_others_does_not_change_them() {
        let extra = "[device.m0]\nbus = \"a\"\nunit = 9\n[[device.m0.poll]]\nevery = \"10s\"\ntags.t = { holding = 0, type = \"u16\" }\n[device.m1]";
        let said = change("[device.m1]", extra);
        assert!(said.starts_with("new [device.m0]; polling: bus a 1.1 requests/s"), "{said}");
    }
}

//! The schema, the example and the reader describe the same keys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::path::Path;

use gateway_config::{Environment, parse, schema};
use serde_json::Value;

/// Every key of the schema with the section it is in.
fn keys(section: &Value, list: &mut Vec<(String, String)>) {
    let title = section.get("title").and_then(Value::as_str).unwrap_or("").to_owned();
    for (name, key) in section.get("properties").and_then(Value::as_object).into_iter().flatten() {
        list.push((title.clone(), name.clone()));
        keys(key, list);
        for inner in key.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
            keys(inner.1, list);
        }
        if let Some(items) = key.get("items") {
            keys(items, list);
        }
    }
}

fn schema_keys() -> Vec<(String, String)> {
    let mut list = Vec::new();
    keys(&schema(), &mut list);
    list
}

fn example() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.example.toml")).unwrap()
}

#[test]
fn every_key_of_the_schema_appears_in_the_example() {
    let example = example();
    let words: Vec<_> = example
        .split(|c: char| !(c.is_alphanumeric() || "_=[".contains(c)))
        .filter(|w| !w.is_empty())
        .collect();
    let appears = |name: &str| {
        words.windows(2).any(|pair| pair[0] == name && pair[1].starts_with('=')) // name = value
            || words.iter().any(|w| w.trim_start_matches('[') == name) // [name.NAME]
    };
    let missing: Vec<_> = schema_keys().into_iter().filter(|(_, name)| !appears(name)).collect();
    assert!(missing.is_empty(), "not in config/gateway.example.toml: {missing:?}");
    assert!(schema_keys().len() > 90);
}

#[test]
fn the_reader_knows_exactly_the_keys_of_the_schema() {
    for (title, name) in schema_keys() {
        let table = match title.as_str() {
            "Tidegate configuration" => continue, // the tables themselves
            "a rule of forward or accept" => "[[uplink.NAME.forward]]".to_owned(),
            "queue" => "[uplink.NAME.queue]".to_owned(),
            "rs485" => "[bus.NAME]\ndriver = \"modbus-rtu\"\n[bus.NAME.rs485]".to_owned(),
            "tags.NAME" => "[[device.NAME.poll]]\n[device.NAME.poll.tags.NAME]".to_owned(),
            title => title.to_owned(),
        };
        for (key, known) in [(name.as_str(), true), ("no_key_at_all", false)] {
            let text = format!("{}\n{key} = 1979-05-27\n", table.replace("NAME", "x"));
            let problems =
                parse(&text, "x.toml", Path::new("/nonexistent"), &Environment::default()).unwrap_err();
            let line = u32::try_from(text.lines().count()).unwrap();
            let unknown = problems.list.iter().any(|p| p.line == line && p.text.contains("unknown key"));
            assert_eq!(unknown, !known, "{text}{problems}");
        }
    }
}

#[test]
fn every_value_has_a_type_a_description_and_its_range() {
    fn look(section: &Value) {
        for (name, key) in section.get("properties").and_then(Value::as_object).into_iter().flatten() {
            assert!(
                key.get("description").is_some_and(|d| d.as_str().is_some_and(|d| d.len() > 8)),
                "{name}"
            );
            assert!(["type", "enum", "anyOf"].iter().any(|word| key.get(*word).is_some()), "{name}: {key}");
            if key.get("pattern").is_some() && name.ends_with("timeout") {
                assert!(key.get("x-range").is_some(), "{name}");
            }
            if key.get("type").and_then(Value::as_str) == Some("integer") {
                assert!(key.get("minimum").is_some() && key.get("maximum").is_some(), "{name}");
            }
            look(key);
            for inner in key.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
                look(inner.1);
            }
            key.get("items").into_iter().for_each(look);
        }
    }
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    look(&schema);
}

#[test]
fn what_the_example_says_as_a_default_is_the_default() {
    // Leaving out every optional key of the example's device changes nothing.
    let whole = "[gateway]\nid = \"g\"\n[uplink.u]\nurl = \"mqtt://h\"\n[bus.b]\ndriver = \"sim\"\n";
    let example = example();
    let device: String = example
        .lines()
        .skip_while(|l| *l != "[device.meter1]")
        .take_while(|l| !l.starts_with("[["))
        .map(|l| format!("{}\n", l.replace("rs485-1", "b")))
        .collect();
    let uplink: String = example
        .lines()
        .skip_while(|l| *l != "[uplink.cloud]")
        .skip(2)
        .take_while(|l| !l.starts_with("[bus"))
        .filter(|l| !["ca ", "client_cert", "client_key"].iter().any(|k| l.starts_with(k)))
        .map(|l| format!("{l}\n"))
        .collect();
    let poll = "[[device.meter1.poll]]\nevery = \"1s\"\ntags.a = { coil = 0 }\n";
    let long = whole.replace("[bus.b]", &format!("{uplink}[bus.b]")) + &device + poll;
    let short = format!("{whole}[device.meter1]\nbus = \"b\"\nunit = 17\n{poll}");
    let read = |text: &str| {
        let (mut config, _) =
            parse(text, "x.toml", Path::new("/x"), &Environment::default()).unwrap_or_else(|p| panic!("{p}"));
        config.hash.clear();
        // That the file says it makes a difference only where limits do not fit.
        config.plan.uplinks.iter_mut().for_each(|uplink| uplink.said = false);
        config
    };
    assert_eq!(read(&long), read(&short));
}

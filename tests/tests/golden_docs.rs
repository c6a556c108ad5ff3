//! Pages of `docs/` that are generated or hold examples: they must be what the program does.
//!
//! `cargo xtask golden` rewrites them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_core::payload::settings::Shape;
use gateway_core::payload::{Encoder, Entry, Head, PLACEHOLDERS, Record, Schema, SchemaTag, render};
use gateway_core::tag::{BootId, BootNs, Name, Reason, RunId, Sample, Value, WallClock, WallMs};
use gateway_core::uplink::row::Seq;

#[path = "golden_docs/json.rs"]
mod json_page;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the root").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Compares a page with what it should be, or writes it.
#[track_caller]
fn golden(path: &str, expected: &str) {
    if std::env::var("TIDEGATE_GOLDEN").is_ok_and(|word| word == "write") {
        fs::write(root().join(path), expected).expect("the page can be written");
    }
    assert!(read(path) == expected, "{path} is stale: run `cargo xtask golden` and look at the difference");
}

struct Clock(Option<WallMs>);

impl WallClock for Clock {
    fn boot_wall(&self, _: BootId) -> Option<WallMs> {
        self.0
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// One message, as the page shows it.
fn message(shape: Shape, seq: u64, samples: &[(u64, Sample)], wall: Option<i64>, units: bool) -> String {
    let tag = |(tag, unit): (&str, &str)| SchemaTag { name: name(tag), unit: Some(Arc::from(unit)) };
    let tags = [("voltage", "V"), ("energy", "Wh"), ("relay", ""), ("power", "W")].map(tag);
    let schema = Schema::new(name("rs485-1"), name("meter1"), name("1"), tags.into()).expect("four tags");
    let entries = (0..).zip(samples).map(|(index, (offset_us, sample))| Entry {
        index,
        offset_us: *offset_us,
        sample: sample.clone(),
    });
    let head = Head { schema: schema.id(), shape, thinned: false, base: BootNs(3_456_000_000) };
    let record = Record { head, entries: entries.collect() };
    let run = RunId { boot: BootId(0xfeed_beef_0000_0001), start_ms: 7000 };
    let json = render(&record, &schema, (run, Seq(seq)), &Clock(wall.map(WallMs)), units)
        .expect("the record is whole");
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// The page with the line after each `<!-- example: NAME -->` and its fence replaced.
fn with_example(page: &str, name: &str, json: &str) -> String {
    let mark = format!("<!-- example: {name} -->\n```json\n");
    let (before, after) = page.split_once(&mark).expect("the page has this example");
    let (_, after) = after.split_once('\n').expect("the example is one line");
    format!("{before}{mark}{json}\n{after}")
}

#[test]
fn golden_examples_of_messages_are_what_is_sent() {
    /// 2026-11-21T01:02:00Z
    const BOOT: Option<i64> = Some(1_795_222_920_000);
    let good = Sample::Good;
    let group = [
        (0, good(Value::Float(230.1))),
        (0, good(Value::UInt(u64::MAX))),
        (0, good(Value::Bool(true))),
        (12_000, Sample::Bad(Reason::Timeout)),
    ];
    let page = read("docs/payload.md");
    let page = with_example(&page, "group", &message(Shape::Group, 42, &group, BOOT, true));
    let page = with_example(&page, "tag", &message(Shape::Tag, 43, &group[..1], BOOT, true));
    let bad = [(0, Sample::Bad(Reason::Exception(2)))];
    let page = with_example(&page, "tag-bad", &message(Shape::Tag, 44, &bad, None, false));
    golden("docs/payload.md", &page);
}

/// The example configuration without the files that it names, which are not there.
fn example() -> gateway_config::Config {
    let text = read("config/gateway.example.toml");
    let file =
        |line: &&str| !["ca =", "client_cert =", "client_key ="].iter().any(|key| line.starts_with(key));
    let text: String = text.lines().filter(file).map(|line| format!("{line}\n")).collect();
    let parsed = gateway_config::parse(&text, "example", &root(), &gateway_config::Environment::default());
    match parsed {
        Ok((config, _)) => config,
        Err(problems) => unreachable!("the example configuration is whole: {problems}"),
    }
}

fn topics() -> String {
    let config = example();
    let mut page = String::from(
        "# Topics\n\nGenerated from the placeholders that the program knows and from config/gateway.example.toml; `cargo xtask golden` rewrites it.\n\n\
         `message.topic` is the template of messages of readings ([payload.md](payload.md)); default `{gateway}/{device}/{group}`.\n\n\
         | placeholder | stands for |\n| --- | --- |\n",
    );
    for (word, meaning) in PLACEHOLDERS {
        page.push_str(&format!("| `{{{word}}}` | {meaning} |\n"));
    }
    page.push_str("\nWith the example configuration the gateway publishes:\n\n| topic | what | QoS | retained |\n| --- | --- | --- | --- |\n");
    let encoder = Encoder::new(&config.gateway.id, &config.message, &config.field)
        .expect("the example's topic is whole");
    for topic in encoder.topics() {
        page.push_str(&format!(
            "| `{topic}` | readings of a poll group | `uplink.qos`, 1 by default | no |\n"
        ));
    }
    for (uplink, _) in &config.uplinks {
        page.push_str(&format!(
            "| `{}` | birth, last will and clean stop of uplink `{}` | 1 | yes |\n| `{}` | its ledger, every {} s | `uplink.qos` | no |\n",
            uplink.status_topic, uplink.name, uplink.ledger_topic, uplink.ledger_every.as_secs()
        ));
    }
    for topic in config.health_topics() {
        let what = if topic.contains("/health/bus/") { "bus" } else { "device" };
        page.push_str(&format!(
            "| `{topic}` | how the {what} is ([payload.md](payload.md)); `health = false` in [gateway] turns it off | 1 | yes |\n"
        ));
    }
    if let Some(update) = &config.update {
        page.push_str(&format!(
            "| `{}` | how the last update of the system is ([update.md](update.md)), to uplink `{}` only | 1 | yes |\n\n\
             and from uplink `{}` it takes:\n\n| topic | what | QoS | retained |\n| --- | --- | --- | --- |\n\
             | `{}` | commands to update the system | 1 | never: retained ones are refused |\n",
            update.state_topic, update.uplink, update.uplink, update.install_topic
        ));
    }
    page.push_str(
        "\nAll of these are the gateway's own: neither local clients nor clouds publish there, unless a rule names the topic without a wildcard \
         ([broker.md](broker.md)).\n",
    );
    page
}

#[test]
fn golden_list_of_topics_is_what_is_published() {
    golden("docs/topics.md", &topics());
}

#[test]
fn a_changed_example_makes_its_page_stale() {
    let page = "a\n<!-- example: x -->\n```json\n{\"old\":1}\n```\nb\n";
    assert_eq!(with_example(page, "x", "{}"), "a\n<!-- example: x -->\n```json\n{}\n```\nb\n");
}

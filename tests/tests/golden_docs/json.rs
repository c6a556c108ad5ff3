//! `docs/json.md`: what the commands print as JSON, from the structs that they print and the remarks at their fields.

use std::collections::BTreeMap;

use gateway_daemon::app::aside::{Message, Payload, Queued};
use gateway_daemon::app::report::Report;
use gateway_daemon::app::snapshot::{
    Broker, Bus, Count, Device, Ledger, Listener, Refused, Session, SetAside, Snapshot, Store, Tag, Uplink,
};
use serde_json::{Value, json};

use super::{golden, read};

const HEAD: &str = "\
# JSON

Generated from the structs that are printed and from the remarks at their fields; `cargo xtask golden` rewrites it.

What a command prints with `--json` goes to standard output, without colours, in UTF-8; errors go to standard error, and the exit codes are those of
[commands.md](commands.md). Fields are added in later versions and keep their names and meanings: read those that you need and leave out what you do not know.
A value that is not known is `null`. Times are ages or lengths in milliseconds, sizes are bytes.

| command | prints |
| --- | --- |
| `status --json` | one object: all fields of [Snapshot](#snapshot) and of [Report](#report) |
| `status --check --json` | one [Report](#report); exit code 0 all is well, 1 not, 69 no gateway, 75 it is busy |
| `tags --json`, `tags meter1 meter2/voltage --json` | `{ \"tags\": [...] }`: a [Tag](#tag) for each that was named, or for all, in the order of the configuration |
| `read meter1/voltage meter1/energy --json` | a [Tag](#tag) a line, in the order of the names; `{ \"device\", \"tag\", \"error\" }` for one that could not be read |
| `read --raw BUS:UNIT:TABLE:ADDRESS:COUNT --json` | a list of numbers: registers, or bits as 0 and 1 |
| `write meter1/relay on --json` | a [Tag](#tag): the value as it was written; `{ \"device\", \"tag\", \"error\" }` when it was refused |
| `write --raw BUS:UNIT:TABLE:ADDRESS VALUES --json` | an empty list |
| `scan --json` | a [Unit](#unit) a line, as soon as it was heard |
| `sessions list --json` | a [Session](#session) a line |
| `queue list --json`, `queue show --json` and others | one [Queued](#queued) |

```sh
gateway-daemon status --check || gateway-daemon status --check --json | jq -r '.troubles[].sentence'
gateway-daemon tags --json | jq -r '.tags[] | select(.quality != \"good\") | \"\\(.device)/\\(.tag) \\(.quality)\"'
gateway-daemon scan --tcp 192.168.1.20 --json | jq -r 'select(.device) | .unit'
```
";

const SOURCES: [&str; 5] = ["report.rs", "snapshot.rs", "snapshot/kinds.rs", "scan/json.rs", "aside.rs"];

/// What is printed only by the control socket.
const OTHERS: [&str; 2] = ["SessionPage", "Wanted"];

/// A struct or enum with its remark, and its fields or words with theirs.
#[derive(Debug, Default)]
struct Shape {
    name: String,
    remark: String,
    fields: Vec<(String, String, String)>,
    is_enum: bool,
}

/// The public structs and enums of a source.
fn shapes(source: &str) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    let (mut remark, mut inside) = (String::new(), false);
    for line in source.lines() {
        let line = line.trim();
        if let Some(more) = line.strip_prefix("/// ") {
            remark = format!("{remark} {more}").trim().to_owned();
            continue;
        }
        let kind = [("pub struct ", false), ("pub enum ", true)];
        let begun = kind.iter().find_map(|(word, is_enum)| Some((line.strip_prefix(word)?, *is_enum)));
        if let Some((name, is_enum)) = begun.filter(|(name, _)| name.ends_with(" {")) {
            let (name, remark) = (name.trim_end_matches(" {").to_owned(), std::mem::take(&mut remark));
            shapes.push(Shape { name, remark, is_enum, ..Shape::default() });
            inside = true;
        } else if line == "}" {
            inside = false;
        } else if let (true, Some(shape)) = (inside, shapes.last_mut()) {
            let field = line.strip_prefix("pub ").and_then(|field| field.strip_suffix(',')?.split_once(": "));
            match field {
                Some((name, kind)) => {
                    shape.fields.push((name.to_owned(), shown(kind), std::mem::take(&mut remark)));
                }
                None if shape.is_enum && line.ends_with(',') => {
                    let word = kebab(line.trim_end_matches(','));
                    shape.fields.push((word, String::new(), std::mem::take(&mut remark)));
                }
                None => {}
            }
        }
        if !line.starts_with("#[") {
            remark.clear();
        }
    }
    shapes
}

fn kebab(name: &str) -> String {
    let mut word = String::new();
    for char in name.chars() {
        if char.is_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.extend(char.to_lowercase());
    }
    word
}

/// A type in words.
fn shown(kind: &str) -> String {
    let inner = |prefix: &str| kind.strip_prefix(prefix)?.strip_suffix('>').map(shown);
    if let Some(inner) = inner("Option<") {
        return format!("{inner} or `null`");
    }
    if let Some(inner) = inner("Vec<") {
        return format!("list of {inner}");
    }
    if let Some(inner) = inner("BTreeMap<String, ") {
        return format!("{inner} by name");
    }
    match kind {
        "u64" | "u32" | "u16" | "u8" => "whole number".into(),
        "f64" => "number".into(),
        "bool" => "`true` or `false`".into(),
        "String" | "&'static str" => "text".into(),
        "serde_json::Value" => "boolean, number or text".into(),
        other => format!("[{other}](#{})", other.to_lowercase()),
    }
}

fn all_shapes() -> Vec<Shape> {
    let read = |file: &&str| shapes(&read(&format!("gateway-daemon/src/app/{file}")));
    let all = SOURCES.iter().flat_map(read);
    all.filter(|shape| !OTHERS.contains(&shape.name.as_str()) && !shape.fields.is_empty()).collect()
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for shape in all_shapes() {
        page.push_str(&format!("\n## {}\n\n{}\n\n", shape.name, shape.remark));
        page.push_str(if shape.is_enum {
            "| word | meaning |\n| --- | --- |\n"
        } else {
            "| field | type | meaning |\n| --- | --- | --- |\n"
        });
        for (name, kind, remark) in &shape.fields {
            let kind = if shape.is_enum { String::new() } else { format!(" {kind} |") };
            page.push_str(&format!("| `{name}` |{kind} {} |\n", remark.trim_end_matches('.')));
        }
    }
    page
}

#[test]
fn golden_list_of_what_is_printed_as_json() {
    golden("docs/json.md", &page());
}

/// A renamed or hidden field would be documented under a name that nobody prints.
#[test]
fn every_documented_field_is_printed_and_every_printed_field_is_documented() {
    let printed: BTreeMap<&str, Value> = [
        ("Snapshot", json!(Snapshot::default())),
        ("Report", json!(Report::of(&Snapshot::default()))),
        ("Refused", json!(Refused::default())),
        ("Bus", json!(Bus::default())),
        ("Device", json!(Device::default())),
        ("Tag", json!(Tag::default())),
        ("Uplink", json!(Uplink::default())),
        ("SetAside", json!(SetAside::default())),
        ("Count", json!(Count::default())),
        ("Ledger", json!(Ledger::default())),
        ("Broker", json!(Broker::default())),
        ("Listener", json!(Listener::default())),
        ("Session", json!(Session::default())),
        ("Store", json!(Store::default())),
        ("Queued", json!(Queued::default())),
        ("Message", json!(Message::default())),
        ("Payload", json!(Payload::default())),
    ]
    .into();
    let shapes = all_shapes();
    for (name, value) in printed {
        let shape = shapes.iter().find(|shape| shape.name == name);
        let mut documented: Vec<&str> = shape
            .map(|shape| shape.fields.iter().map(|(field, ..)| field.as_str()).collect())
            .unwrap_or_default();
        documented.sort_unstable();
        let keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(documented, keys, "{name}");
    }
    assert!(shapes.iter().all(|shape| !shape.remark.is_empty()), "{shapes:?}");
    assert!(
        shapes.iter().flat_map(|shape| &shape.fields).all(|(.., remark)| !remark.is_empty()),
        "{shapes:?}"
    );
}

#[test]
fn a_struct_becomes_a_table_of_its_fields() {
    let source = "/// A thing.\n#[derive(Debug)]\npub struct Thing {\n    /// How many\n    /// there are.\n    pub all: Option<Vec<u64>>,\n}\n\n/// A mood.\npub enum Mood {\n    /// Fine.\n    #[default]\n    VeryWell,\n}\n";
    let shapes = shapes(source);
    assert_eq!((shapes[0].name.as_str(), shapes[0].remark.as_str()), ("Thing", "A thing."));
    let field =
        ("all".to_owned(), "list of whole number or `null`".to_owned(), "How many there are.".to_owned());
    assert_eq!(shapes[0].fields, [field]);
    assert_eq!(shapes[1].fields[0].0, "very-well");
}

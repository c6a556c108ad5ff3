//! The JSON Schema of the file, for editors that complete and check TOML while it is written.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use crate::amount;
use crate::keys::{Key, Kind, Need, Section, top};
use crate::reader::NEVER;
use gateway_core::tag::NAME_LEN_MAX;

/// The schema of the configuration file, JSON Schema 2020-12, made from the tables that the reader uses.
#[must_use]
pub fn schema() -> Value {
    let mut root = section_schema(&top::FILE);
    if let Some(object) = root.as_object_mut() {
        object.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        object.insert("title".to_owned(), json!("Tidegate configuration"));
    }
    root
}

fn section_schema(section: &Section) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in section.keys {
        properties.insert(key.name.to_owned(), key_schema(key));
        if key.need == Need::Required {
            required.push(json!(key.name));
        }
    }
    let mut schema = json!({
        "type": "object",
        "title": section.title,
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if let (Some(object), false) = (schema.as_object_mut(), required.is_empty()) {
        object.insert("required".to_owned(), Value::Array(required));
    }
    if let (Some(object), "tags.NAME") = (schema.as_object_mut(), section.title) {
        let tables = ["holding", "input", "coil", "discrete"].map(|key| json!({ "required": [key] }));
        object.insert("oneOf".to_owned(), json!(tables));
    }
    if let (Some(object), "[uplink.NAME]") = (schema.as_object_mut(), section.title) {
        let keys = ["url", "urls"].map(|key| json!({ "required": [key] }));
        object.insert("oneOf".to_owned(), json!(keys));
    }
    schema
}

fn key_schema(key: &Key) -> Value {
    let mut schema = kind_schema(&key.kind);
    let Some(object) = schema.as_object_mut() else { return schema };
    let mut doc = key.doc.to_owned();
    if !key.only.is_empty() {
        doc = format!("{doc} Only with {}.", key.only.join(", "));
    }
    if let Kind::Int { unit, .. } = key.kind
        && !unit.is_empty()
    {
        object.insert("x-unit".to_owned(), json!(unit));
    }
    object.insert("description".to_owned(), json!(doc));
    if let Need::Default(literal) = key.need {
        object.insert("default".to_owned(), default_json(literal));
    }
    schema
}

fn kind_schema(kind: &Kind) -> Value {
    let duration = "^[0-9]+([.][0-9]+)? ?(us|µs|ms|s|m|min|h|d)$";
    let size = "^[0-9]+([.][0-9]+)? ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$";
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int { min, max, .. } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Float { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Duration { min, max } => json!({
            "type": "string", "pattern": duration,
            "x-range": [amount::duration_text(*min), amount::duration_text(*max)],
        }),
        Kind::Endless { min, max } => json!({
            "anyOf": [{ "type": "string", "pattern": duration }, { "const": NEVER }],
            "x-range": [amount::duration_text(*min), amount::duration_text(*max)],
        }),
        Kind::Size { min, max } => json!({
            "type": "string", "pattern": size,
            "x-range": [amount::size_text(*min), amount::size_text(*max)],
        }),
        Kind::Text { max } => json!({ "type": "string", "minLength": 1, "maxLength": max }),
        Kind::Flagged { max } => json!({ "anyOf": [
            { "type": "boolean" },
            { "type": "string", "minLength": 1, "maxLength": max },
        ] }),
        Kind::Name => json!({ "type": "string", "pattern": name_pattern() }),
        Kind::Choice(words, _) => {
            json!({ "enum": words.iter().map(|w| w.word).collect::<Vec<_>>() })
        }
        Kind::File | Kind::Path => json!({ "type": "string", "minLength": 1 }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string", "minLength": 1 } }),
        Kind::Ints { min, max } => {
            json!({ "type": "array", "items": { "type": "integer", "minimum": min, "maximum": max } })
        }
        Kind::Rules(section) => json!({ "type": "array", "items": { "anyOf": [
            { "type": "string", "minLength": 1 },
            section_schema(section),
        ] } }),
        Kind::Deadband => json!({ "anyOf": [
            { "type": "number", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+([.][0-9]+)? ?%$" },
        ] }),
        Kind::Port => json!({ "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": "integer", "minimum": 1, "maximum": 65535 },
        ] }),
        Kind::Table(section) => section_schema(section),
        Kind::Named(section) => json!({
            "type": "object",
            "patternProperties": { name_pattern(): section_schema(section) },
            "additionalProperties": false,
        }),
        Kind::Quoted(section, max) => json!({
            "type": "object",
            "propertyNames": { "minLength": 1, "maxLength": max },
            "patternProperties": { "": section_schema(section) },
        }),
        Kind::List(section) => json!({ "type": "array", "items": section_schema(section) }),
    }
}

fn name_pattern() -> String {
    format!("^[A-Za-z0-9_.-]{{1,{NAME_LEN_MAX}}}$")
}

/// A default as JSON.
fn default_json(literal: &str) -> Value {
    let value = DeValue::parse(literal).expect("defaults of the key tables are TOML").into_inner();
    match &value {
        DeValue::String(text) => json!(text),
        DeValue::Boolean(flag) => json!(flag),
        DeValue::Integer(int) => json!(int.as_str().parse::<i64>().unwrap_or_default()),
        DeValue::Float(float) => json!(float.as_str().parse::<f64>().unwrap_or_default()),
        DeValue::Array(items) => {
            json!(items.iter().filter_map(|i| i.get_ref().as_str()).collect::<Vec<_>>())
        }
        _ => json!({}),
    }
}

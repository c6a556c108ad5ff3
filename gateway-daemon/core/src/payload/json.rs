//! Just enough JSON writing: an object into bytes, without building a tree.

use crate::tag::Value;

/// Writes one JSON object, member by member.
#[derive(Debug)]
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    pub(super) fn close(self) {
        self.out.push(b'}');
    }

    /// Writes the key; the value must follow.
    pub(super) fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        text(self.out, key);
        self.out.push(b':');
        self.out
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        text(self.key(key), value);
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        number(self.key(key), value);
    }

    pub(super) fn value(&mut self, key: &str, sample: &Value) {
        value(self.key(key), sample);
    }
}

/// A value as JSON: exact integers of any size, floats in the shortest form that reads back as the same f64.
pub(super) fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(value) => number(out, *value),
        Value::UInt(value) => number(out, *value),
        Value::Float(value) => number(out, *value),
        Value::Text(value) => text(out, value),
    }
}

/// Serializing a number or a text into a `Vec` cannot fail: there is no I/O and no map key involved.
fn number(out: &mut Vec<u8>, value: impl serde::Serialize) {
    serde_json::to_writer(out, &value).expect("a number has a JSON form");
}

fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a text has a JSON form");
}

//! Records to JSON, at the moment they are sent.

use std::sync::Arc;

use super::json::Object;
use super::record::{Entry, Record};
use super::schema::{Schema, SchemaId, SchemaTag, Schemas};
use super::settings::Shape;
use super::wall::iso8601;
use super::{DecodeError, peek};
use crate::tag::{BootNs, RunId, Sample, Stamp, WallClock};
use crate::uplink::row::{Body, Row, Seq};

/// Version of the JSON shapes, their member `v`. It grows when a member changes its meaning, not when one is added.
const JSON_VERSION: u64 = 1;

/// Why a record has no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The bytes are not a record.
    #[error("damaged record: {0}")]
    Damaged(#[from] DecodeError),
    /// Nobody knows what the indices mean.
    #[error("schema {0} is not known")]
    UnknownSchema(SchemaId),
    /// The schema given is not the one of the record.
    #[error("record of schema {record} read with schema {schema}")]
    OtherSchema {
        /// Schema named in the record.
        record: SchemaId,
        /// Schema given.
        schema: SchemaId,
    },
    /// The record refers to a tag that its schema does not have.
    #[error("tag {index} is not among the {tags} tags of its schema")]
    NoSuchTag {
        /// Index in the record.
        index: u16,
        /// Tags of the schema.
        tags: usize,
    },
}

/// What is sent for a row: raw bytes as they are, a record as JSON. `units` repeats the units in every message.
///
/// # Errors
/// The record is damaged or its schema is lost; the row can never be sent and must be dropped and counted.
pub fn render_row(
    row: &Row,
    schemas: &(impl Schemas + ?Sized),
    clock: &(impl WallClock + ?Sized),
    units: bool,
) -> Result<Arc<[u8]>, RenderError> {
    match &row.body {
        Body::Raw(bytes) => Ok(Arc::clone(bytes)),
        Body::Record(bytes) => {
            let id = peek(bytes)?.schema;
            let schema = schemas.schema(id).ok_or(RenderError::UnknownSchema(id))?;
            let record = Record::decode(bytes)?;
            Ok(render(&record, &schema, (row.run, row.seq), clock, units)?.into())
        }
    }
}

/// A record as JSON, in the shape it was made for; `docs/payload.md` explains every member.
///
/// # Errors
/// The schema is not the one of the record, or has fewer tags than the record names.
pub fn render(
    record: &Record,
    schema: &Schema,
    number: (RunId, Seq),
    clock: &(impl WallClock + ?Sized),
    units: bool,
) -> Result<Vec<u8>, RenderError> {
    if record.head.schema != schema.id() {
        return Err(RenderError::OtherSchema { record: record.head.schema, schema: schema.id() });
    }
    let mut out = Vec::with_capacity(128 + 32 * record.entries.len());
    match (record.head.shape, record.entries.as_slice()) {
        (Shape::Tag, [entry]) => tag_shape(&mut out, record, entry, schema, (number, clock, units))?,
        _ => group_shape(&mut out, record, schema, (number, clock, units))?,
    }
    Ok(out)
}

type Context<'a, C> = ((RunId, Seq), &'a C, bool);

fn group_shape<C: WallClock + ?Sized>(
    out: &mut Vec<u8>,
    record: &Record,
    schema: &Schema,
    (number, clock, units): Context<'_, C>,
) -> Result<(), RenderError> {
    let mut object = Object::open(out);
    origin(&mut object, number, record.head.base, clock);
    let span_us = record.entries.iter().map(|entry| entry.offset_us).max().unwrap_or(0);
    if span_us >= 1000 {
        object.number("span_ms", span_us / 1000);
    }
    let mut values = Object::open(object.key("values"));
    for entry in &record.entries {
        if let Sample::Good(value) = &entry.sample {
            values.value(named(schema, entry)?.name.as_str(), value);
        }
    }
    values.close();
    let bad = |entry: &&Entry| matches!(entry.sample, Sample::Bad(_));
    if record.entries.iter().any(|entry| bad(&entry)) {
        let mut object = Object::open(object.key("bad"));
        for entry in &record.entries {
            if let Sample::Bad(reason) = entry.sample {
                object.text(named(schema, entry)?.name.as_str(), &reason.to_string());
            }
        }
        object.close();
    }
    if record.head.thinned {
        object.key("thinned").extend_from_slice(b"true");
        let mut offsets = Object::open(object.key("offset_ms"));
        for entry in record.entries.iter().filter(|entry| entry.offset_us >= 1000) {
            offsets.number(named(schema, entry)?.name.as_str(), entry.offset_us / 1000);
        }
        offsets.close();
    }
    if units {
        let mut object = Object::open(object.key("units"));
        for entry in &record.entries {
            let tag = named(schema, entry)?;
            if let Some(unit) = &tag.unit {
                object.text(tag.name.as_str(), unit);
            }
        }
        object.close();
    }
    object.close();
    Ok(())
}

fn tag_shape<C: WallClock + ?Sized>(
    out: &mut Vec<u8>,
    record: &Record,
    entry: &Entry,
    schema: &Schema,
    (number, clock, units): Context<'_, C>,
) -> Result<(), RenderError> {
    let tag = named(schema, entry)?;
    let mut object = Object::open(out);
    let at = BootNs(record.head.base.0.saturating_add(entry.offset_us.saturating_mul(1000)));
    origin(&mut object, number, at, clock);
    object.text("tag", tag.name.as_str());
    match &entry.sample {
        Sample::Good(value) => object.value("value", value),
        Sample::Bad(reason) => object.text("bad", &reason.to_string()),
    }
    if record.head.thinned {
        object.key("thinned").extend_from_slice(b"true");
    }
    if let Some(unit) = tag.unit.as_ref().filter(|_| units) {
        object.text("unit", unit);
    }
    object.close();
    Ok(())
}

/// The members that every message begins with: format, number and time.
fn origin(object: &mut Object<'_>, (run, seq): (RunId, Seq), at: BootNs, clock: &(impl WallClock + ?Sized)) {
    object.number("v", JSON_VERSION);
    object.text("boot", &run.to_string());
    object.number("seq", seq.0);
    match clock.wall(Stamp { boot: run.boot, at }).and_then(iso8601) {
        Some(text) => object.text("t", &text),
        None => object.number("t_boot_ms", at.ms()),
    }
}

fn named<'a>(schema: &'a Schema, entry: &Entry) -> Result<&'a SchemaTag, RenderError> {
    let tags = schema.tags();
    tags.get(usize::from(entry.index)).ok_or(RenderError::NoSuchTag { index: entry.index, tags: tags.len() })
}

//! Entry points of the fuzz targets in `tests/fuzz`: bytes in, promises checked, nothing returned. Not part of the API.

mod broker;
mod update;

pub use broker::fuzz_broker;
pub use update::fuzz_update;

use std::sync::Arc;
use std::time::Duration;

use crate::payload::{Record, Schema, SchemaTag, render, thin};
use crate::tag::{BootId, BootNs, Name, RunId, WallClock, WallMs};
use crate::uplink::row::{Body, Priority, Qos, Row, Seq};

/// A clock that knows every boot.
struct Clock;

impl WallClock for Clock {
    fn boot_wall(&self, boot: BootId) -> Option<WallMs> {
        Some(WallMs(boot.0.cast_signed()))
    }
}

/// Bytes that decode must be exactly the bytes that encode again, otherwise two rows could mean the same and damage could
/// pass as a value; and what decodes can be rendered as valid JSON and thinned out.
///
/// # Panics
/// A promise does not hold.
pub fn fuzz_record(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(record.encode(), bytes, "a record has two encodings");
        thin_two(&record, bytes);
        render_json(record);
    }
    if let Ok(schema) = Schema::decode(bytes) {
        assert_eq!(schema.encode(), bytes, "a schema has two encodings");
    }
}

fn render_json(mut record: Record) {
    let tags: Option<Vec<SchemaTag>> = (0..record.entries.len())
        .map(|n| Some(SchemaTag { name: Name::new(&format!("t{n}")).ok()?, unit: Some("V".into()) }))
        .collect();
    let (Some(tags), Ok(name)) = (tags, Name::new("n")) else { return };
    let Ok(schema) = Schema::new(name.clone(), name.clone(), name, tags) else { return };
    record.head.schema = schema.id();
    let run = RunId { boot: BootId(record.head.base.0), start_ms: 0 };
    // A record that names a tag which the schema does not have is an error, everything else is JSON.
    if let Ok(json) = render(&record, &schema, (run, Seq(1)), &Clock, true) {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok(), "a record is not JSON");
    }
}

fn thin_two(record: &Record, bytes: &[u8]) {
    let row = |seq: u64| {
        Arc::new(Row {
            seq: Seq(seq),
            priority: Priority::Normal,
            topic: "t".into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            body: Body::Record(bytes.into()),
            readings: u32::try_from(record.entries.len()).unwrap_or(u32::MAX),
            run: RunId { boot: BootId(1), start_ms: 0 },
            at: BootNs(0),
            expiry_s: None,
        })
    };
    let thinned = thin(&[row(1), row(2)], Duration::from_secs(60));
    assert!(thinned.after.rows <= thinned.before.rows, "thinning out makes more rows");
    for row in &thinned.rows {
        assert!(Record::decode(row.body.bytes()).is_ok(), "thinning out writes what cannot be read");
    }
}

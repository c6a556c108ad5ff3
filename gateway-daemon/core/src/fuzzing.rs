//! Entry points of the fuzz targets in `tests/fuzz`: bytes in, promises checked, nothing returned. Not part of the API.

use crate::payload::{Record, Schema};

/// Bytes that decode must be exactly the bytes that encode again: otherwise two rows could mean the same and damage could
/// pass as a value.
pub fn fuzz_record(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(record.encode(), bytes, "a record has two encodings");
    }
    if let Ok(schema) = Schema::decode(bytes) {
        assert_eq!(schema.encode(), bytes, "a schema has two encodings");
    }
}

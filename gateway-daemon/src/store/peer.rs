//! What the benchmark compares with: SQLite as one would write it in an afternoon. Not part of the product.

use std::path::Path;

use gateway_core::uplink::row::Row;
use rusqlite::{Connection, params};

/// One table, text topics, one transaction per row, synced. Returns how many rows were stored.
///
/// # Errors
/// SQLite's own, as text.
pub fn one_transaction_per_row<'a>(path: &Path, rows: impl Iterator<Item = &'a Row>) -> Result<u64, String> {
    let store = || {
        let conn = Connection::open(path)?;
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        conn.execute_batch(
            "CREATE TABLE queue(seq INTEGER PRIMARY KEY, topic TEXT, qos INTEGER, body BLOB, at INTEGER)",
        )?;
        let mut insert = conn.prepare("INSERT INTO queue VALUES (?1, ?2, ?3, ?4, ?5)")?;
        let mut count = 0;
        for row in rows {
            let (seq, at) = (row.seq.0.cast_signed(), row.at.0.cast_signed());
            insert.execute(params![seq, &*row.topic, row.qos as u8, &**row.body.bytes(), at])?;
            count += 1;
        }
        Ok::<u64, rusqlite::Error>(count)
    };
    store().map_err(|error| error.to_string())
}

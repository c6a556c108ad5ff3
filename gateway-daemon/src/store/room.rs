//! What the disk has for the database, and whether a fault that nobody meets any more has passed.
//!
//! A database that fills its disk by itself could not be emptied any more: a deletion is written to the log first, the log could not grow, and it could not be copied
//! into a database that could not grow either. Nor could a long one be emptied at once. So the database is kept to what the disk has, log included, as to the limit of its file, which leaves the log its part. Looked at
//! when the database is opened, and every 20 seconds: others share the disk.

use std::path::Path;
use std::sync::Arc;

use gateway_core::uplink::row::{Seq, StoreEvent, StoreFault, StoreOp, Tally};

use super::ask::{Ask, Reply};
use super::db::Db;
use super::engine::Engine;
use super::fault::Trouble;
use super::health::Counters;
use super::layout::{self, Budget};
use super::transact::{Done, Learned};
use super::{aside, ops};

/// Part of the disk that is left alone: what other small files of the gateway and the file system itself take.
const SPARE_PART: u64 = 16;
/// Least room for the database with its log: below it messages are kept for minutes, if at all.
const USEFUL_BYTES_MIN: u64 = 256 << 10;
/// Free bytes with which a disk, or a database at its limit, is not called full any more.
const FREE_BYTES_MIN: u64 = 64 << 10;

/// Rows that go in one transaction where there is no room for all at once: what they change fits into the least log.
const PORTION_ROWS: u32 = 200;

/// Free bytes of the disk on which the database is; none where it does not say.
fn free(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(aside::folder(path)).ok().filter(|found| found.f_blocks > 0)?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Bytes that database and log may have together, by what they have and what is free.
fn allowed(own_bytes: u64, free_bytes: u64) -> u64 {
    let all = own_bytes.saturating_add(free_bytes);
    let kept = all - all / SPARE_PART;
    // What is there may be rewritten in its place while the disk has some room.
    if free_bytes >= FREE_BYTES_MIN { kept.max(own_bytes) } else { kept }
}

impl Db {
    /// Keeps the database to the limit of its file or to what the disk has, whichever is less; how many bytes.
    fn fit_disk(&mut self, path: &Path, file_bytes_max: u64) -> Result<u64, Trouble> {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let own = size(path).saturating_add(size(&aside::beside(path, "-wal")));
        let bytes = free(path).map_or(file_bytes_max, |free| allowed(own, free)).min(file_bytes_max);
        let budget = Budget::of(bytes);
        if budget != self.budget {
            layout::limit(&self.conn, budget)?;
            layout::limit_log(&self.conn, budget)?;
            self.budget = budget;
        }
        Ok(bytes)
    }

    /// Deletes what a commit deletes in portions, each in a transaction of its own, and then carries it out: one transaction over most of a database needs as much of a
    /// log, which a small disk does not have. What was acknowledged may go at any time. `None` if it does not help.
    pub(super) fn serve_in_portions(
        &mut self,
        ask: &Ask,
        learned: &Learned,
        counters: &mut Counters,
    ) -> Option<Done> {
        let Ask::Op(name, StoreOp::Commit { op, acked, .. }) = ask else { return None };
        let mut before = Tally::default();
        for (from, to) in acked {
            let mut from = *from;
            while let Some(last) = self.end_of_portion(name, from, *to) {
                let rows = Vec::new();
                let portion = StoreOp::Commit { op: *op, rows, acked: vec![(from, last)] };
                let portion = [Ask::Op(Arc::clone(name), portion)];
                let (reply, tallied) = self.transact(&portion, learned, counters).pop()?.ok()?;
                tallied.count(counters);
                if let Reply::Event(StoreEvent::Committed { deleted, .. }) = reply {
                    before.add(deleted);
                }
                self.make_room(counters);
                from = Seq(last.0.saturating_add(1));
            }
        }
        let mut done = self.transact(std::slice::from_ref(ask), learned, counters).pop()?;
        if let Ok((Reply::Event(StoreEvent::Committed { deleted, .. }), _)) = &mut done {
            deleted.add(before);
        }
        Some(done)
    }

    /// The last of the next rows of a range that make a portion; `None` if there are no more.
    fn end_of_portion(&self, name: &str, from: Seq, to: Seq) -> Option<Seq> {
        let key = self.queues.get(name)?.key?;
        let sql = format!(
            "SELECT max(seq) FROM (SELECT seq FROM q{key} WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq LIMIT {PORTION_ROWS})"
        );
        let range = [from, to].map(ops::key_near);
        let last: Option<i64> = self.conn.query_row(&sql, range, |row| row.get(0)).ok()?;
        last.map(|seq| Seq(seq.cast_unsigned()))
    }

    /// Writes something that changes nothing.
    fn probe(&mut self) -> Result<(), Trouble> {
        self.sync_commits(true)?;
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        let written = self
            .conn
            .pragma_update(None, "user_version", layout::USER_VERSION)
            .and_then(|()| self.conn.execute_batch("COMMIT"));
        if written.is_err() && !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        Ok(written?)
    }
}

impl Engine {
    /// The database was opened: a disk that is smaller than the limit of the file is named.
    pub(super) fn enter_disk(&mut self) {
        let wanted = self.settings.file_bytes_max;
        let Some(bytes) = self.fit_disk().filter(|bytes| *bytes < wanted) else { return };
        let path = self.settings.path.display();
        let (wanted_kb, bytes_kb) = (wanted / 1000, bytes / 1000);
        let least = if bytes < USEFUL_BYTES_MIN {
            format!(", which is too little: {} kB are needed at least", USEFUL_BYTES_MIN / 1000)
        } else {
            String::new()
        };
        log::warn!(path:%, file_max_kb = wanted_kb, room_kb = bytes_kb; "the disk has room for {bytes_kb} kB of the queue database, not for the {wanted_kb} kB of [store] file_max{least}: it is kept to what there is; make room, or lower file_max");
    }

    /// Every 20 seconds: the disk may have more room or less, and a fault may have passed that nobody meets, because all that waited is acknowledged.
    pub(super) fn look_again(&mut self) {
        self.fit_disk();
        let tried = std::mem::take(&mut self.wrote);
        let Some((fault, _)) = self.fault.as_ref().filter(|_| !tried) else { return };
        let is_full = *fault == StoreFault::Full;
        if is_full && free(&self.settings.path).is_some_and(|free| free < FREE_BYTES_MIN) {
            return;
        }
        let Some(db) = &mut self.db else { return };
        if is_full && db.free_pages().is_none_or(|pages| pages < FREE_BYTES_MIN / layout::PAGE_BYTES) {
            return;
        }
        match db.probe() {
            Ok(()) => self.takes_again(),
            Err(trouble) => return self.meet(trouble.fault(), trouble.to_string()),
        }
        self.log_grew = true;
        self.tidy();
    }

    fn fit_disk(&mut self) -> Option<u64> {
        let fitted = self.db.as_mut()?.fit_disk(&self.settings.path, self.settings.file_bytes_max);
        fitted.map_err(|trouble| self.meet(trouble.fault(), trouble.to_string())).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn a_database_that_has_all_of_its_disk_is_allowed_no_more_than_before_it_grew() {
        assert_eq!(allowed(0, 400_000), 375_000);
        assert_eq!(allowed(400_000, 0), 375_000);
        assert_eq!(allowed(480_000_000, 20_000_000), 480_000_000);
        assert_eq!(allowed(u64::MAX, u64::MAX), u64::MAX);
    }
}

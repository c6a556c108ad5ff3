//! What the store tells about itself.

use std::path::PathBuf;

use gateway_core::uplink::row::StoreFault;

/// Counts since the daemon started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Transactions that wrote and were committed.
    pub commits: u64,
    /// Rows stored.
    pub rows_written: u64,
    /// Rows removed: acknowledged, trimmed or replaced.
    pub rows_removed: u64,
    /// Rows read for sending.
    pub rows_fetched: u64,
    /// Encoded bytes of the rows stored.
    pub row_bytes: u64,
    /// Times the log was copied into the database.
    pub checkpoints: u64,
    /// Ops that failed because the disk or the file limit was full.
    pub faults_full: u64,
    /// Ops that failed because file or file system were read-only.
    pub faults_read_only: u64,
    /// Ops that failed because the user of the gateway may not write there.
    pub faults_forbidden: u64,
    /// Ops that failed with an I/O error, or that could not be carried out.
    pub faults_io: u64,
    /// Ops that failed because the database is damaged.
    pub faults_corrupt: u64,
    /// Ops that failed because another process holds the database.
    pub faults_locked: u64,
    /// Tries to open the database that failed.
    pub opens_failed: u64,
    /// Database files moved aside.
    pub moved_aside: u64,
    /// Rows copied out of a damaged database.
    pub rows_salvaged: u64,
    /// Rows that were lost with a damaged database or did not decode: exact for a database that was counted before it was damaged, else what did not decode
    /// and as many as fit into holes between readable rows.
    pub rows_lost: u64,
    /// Times nobody can say how much is lost: files that were damaged before they were counted, empty, without their log, or whose log ends in the middle. More
    /// may be lost than `rows_lost` says.
    pub losses_unknown: u64,
    /// Times the database or its log was deleted, replaced or cut short while it was open.
    pub vanished: u64,
    /// Rows saved from damaged databases of which nobody can say to which queue they belong: they are kept and not sent.
    pub rows_unowned: u64,
    /// Schemas, topics, runs and clock entries that did not decode.
    pub words_lost: u64,
    /// Schemas that were not stored because there were too many.
    pub schemas_refused: u64,
    /// Turns of the local broker that were committed.
    pub turns: u64,
    /// Facts of the local broker stored or replaced.
    pub facts_written: u64,
    /// Facts removed by the local broker.
    pub facts_removed: u64,
    /// Encoded bytes of the facts stored.
    pub fact_bytes: u64,
    /// Facts copied out of a damaged database.
    pub facts_salvaged: u64,
    /// Facts that were lost with a damaged database or did not decode; counted as `rows_lost` is.
    pub facts_lost: u64,
}

impl Counters {
    /// Counts a failed op.
    pub(super) fn count_fault(&mut self, fault: StoreFault) {
        let counter = match fault {
            StoreFault::Full => &mut self.faults_full,
            StoreFault::ReadOnly => &mut self.faults_read_only,
            StoreFault::Forbidden => &mut self.faults_forbidden,
            StoreFault::Io => &mut self.faults_io,
            StoreFault::Corrupt => &mut self.faults_corrupt,
            StoreFault::Locked => &mut self.faults_locked,
        };
        *counter = counter.saturating_add(1);
    }
}

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// The database file.
    pub path: PathBuf,
    /// What stands in the way of storing, and in words what it is about; `None` when the last write, or opening, worked.
    pub fault: Option<(StoreFault, String)>,
    /// Whether the database is open: with a fault it may still be read.
    pub open: bool,
    /// Where the last unusable file was moved.
    pub aside: Option<PathBuf>,
    /// What was last found wrong with the files since the start, what was saved, what is lost, and where the damaged file is.
    pub notice: Option<String>,
    /// Rows stored in all queues.
    pub rows: u64,
    /// Of them, rows in the queues of local sessions.
    pub local_rows: u64,
    /// Facts of the local broker: sessions, subscriptions, retained messages, packet identifiers.
    pub facts: u64,
    /// Size of the database with its log, bytes.
    pub file_bytes: u64,
    /// Counts since start.
    pub counters: Counters,
}

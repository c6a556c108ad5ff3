//! The files of an open database, held by themselves: whether their paths still lead to them, and what is in them when they do not.

use std::cell::Cell;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::aside::{Lock, beside};
use super::pages::Disk;

/// The database and its log, whatever their paths lead to.
#[derive(Debug)]
pub(super) struct Held {
    lock: Lock,
    log: File,
    /// Bytes of the database when it was last looked at: it never shrinks by itself.
    bytes: Cell<u64>,
    /// Bytes of a page of the log with what stands before it.
    frame_bytes: u64,
}

/// Bytes before the first frame of a log.
const LOG_HEADER_BYTES: u64 = 32;
/// Bytes of a frame before its page.
const FRAME_HEADER_BYTES: u64 = 24;

/// How the files stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// As they should.
    Well,
    /// The database is in no folder any more, or elsewhere; or another file has its place.
    DatabaseGone(Gone),
    /// The log is gone, and the database is not.
    LogGone(Gone),
    /// The database is shorter than it was.
    Cut,
    /// The log is shorter than what is in it.
    LogCut,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    Deleted,
    Replaced,
}

impl Gone {
    /// For a sentence.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Deleted => "deleted or moved away",
            Self::Replaced => "replaced by another file",
        }
    }
}

impl Held {
    /// Holds the files of a database that SQLite has just opened, so that its log is there.
    pub(super) fn new(lock: Lock, path: &Path, page_bytes: u64) -> io::Result<Self> {
        let log = File::open(beside(path, "-wal"))?;
        let bytes = Cell::new(lock.file().metadata()?.len());
        let frame_bytes = page_bytes.saturating_add(FRAME_HEADER_BYTES);
        Ok(Self { lock, log, bytes, frame_bytes })
    }

    /// Whether the log is shorter than the pages that SQLite counts in it. It never is by itself: SQLite cuts a log back when it has begun it anew, and to no less
    /// than what it holds.
    pub(super) fn log_is_cut(&self, pages: u64) -> bool {
        let least = match pages {
            0 => 0,
            pages => pages.saturating_mul(self.frame_bytes).saturating_add(LOG_HEADER_BYTES),
        };
        self.log.metadata().is_ok_and(|found| found.len() < least)
    }

    /// Looks whether the paths still lead to the files, and whether these are as long as they should be with so many pages in the log. Costs six calls of the
    /// system and writes nothing.
    pub(super) fn standing(&self, path: &Path, log_pages: u64) -> Standing {
        if let Some(gone) = gone(self.lock.file(), path) {
            return Standing::DatabaseGone(gone);
        }
        if let Some(gone) = gone(&self.log, &beside(path, "-wal")) {
            return Standing::LogGone(gone);
        }
        let bytes = self.lock.file().metadata().map_or(u64::MAX, |found| found.len());
        if bytes < self.bytes.get() {
            return Standing::Cut;
        }
        self.bytes.set(bytes);
        if self.log_is_cut(log_pages) {
            return Standing::LogCut;
        }
        Standing::Well
    }

    /// Database and log, to be read.
    pub(super) fn disks(&self) -> (Disk<'_>, Disk<'_>) {
        (Disk::of(Some(self.lock.file())), Disk::of(Some(&self.log)))
    }
}

/// What became of a file, if its path does not lead to it. When nobody can say, it is still there: the disk has a fault, which will show.
fn gone(file: &File, path: &Path) -> Option<Gone> {
    let held = file.metadata().ok()?;
    let same = |found: &Metadata| (found.dev(), found.ino()) == (held.dev(), held.ino());
    match std::fs::metadata(path) {
        Ok(found) if same(&found) => None,
        Ok(_) => Some(Gone::Replaced),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Some(Gone::Deleted)
        }
        Err(_) => None,
    }
}

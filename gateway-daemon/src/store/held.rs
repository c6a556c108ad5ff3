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
}

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
    pub(super) fn new(lock: Lock, path: &Path) -> io::Result<Self> {
        let log = File::open(beside(path, "-wal"))?;
        let bytes = Cell::new(lock.file().metadata()?.len());
        Ok(Self { lock, log, bytes })
    }

    /// Looks whether the paths still lead to the files. Costs four calls of the system and writes nothing.
    pub(super) fn standing(&self, path: &Path) -> Standing {
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

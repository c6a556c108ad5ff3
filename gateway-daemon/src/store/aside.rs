//! Files around the database: the lock, and moving a file aside that cannot be used.
//!
//! A file that cannot be used is renamed to `<file>.<why>-<n>`, with n one above the highest there is: no clock is needed, and the order
//! is visible. At most [`ASIDES_MAX`] are kept; the oldest goes first.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Most files kept aside: enough to look at what happened, bounded because each may be as large as the file limit.
pub(super) const ASIDES_MAX: usize = 3;

/// Most links that lead to a database: as the kernel follows.
const LINKS_MAX: usize = 40;

/// The file that a path leads to: SQLite keeps its companions beside that one and not beside a link to it. It need not be there. A link into a folder that is
/// not there stays what it is: no folder is made where a disk is missing.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let mut real = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = std::fs::read_link(&real) else { break };
        real = real.parent().unwrap_or(Path::new("")).join(target);
    }
    let there = real == path || real.parent().is_some_and(Path::is_dir);
    if there { real } else { path.to_owned() }
}

/// Files SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// An exclusive lock on the database file, held for as long as it is open. SQLite's own lock comes too late: two gateways that both find
/// a damaged file must not both move it aside.
///
/// It is a `flock` on the file itself, which does not mix with SQLite's POSIX locks. Closing any descriptor of a file drops all POSIX locks
/// of the process on it, so a lock must be dropped after the connection.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A child that is being started holds copies of all descriptors until it runs its program; unlocking ends the lock for them, too.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Lock {
    /// The file that is locked, whatever its path leads to.
    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Locks the file, which is made if there is none; also says whether it is empty.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it.
    pub(super) fn take(path: &Path) -> io::Result<(Self, bool)> {
        let open = |write: bool| {
            OpenOptions::new().read(true).write(write).create(write).truncate(false).mode(0o640).open(path)
        };
        let file = open(true).or_else(|error| if path.exists() { open(false) } else { Err(error) })?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let empty = file.metadata()?.len() == 0;
        Ok((Self(file), empty))
    }
}

/// The path with something after its last character.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Where a database is built anew before it takes the place of a damaged one.
pub(super) fn salvage_path(path: &Path) -> PathBuf {
    beside(path, ".salvage")
}

/// Where a database is put that was saved from files which are gone: it comes before whatever is at the path.
pub(super) fn rescue_path(path: &Path) -> PathBuf {
    beside(path, ".rescue")
}

/// Removes a database and its companions; absent files are fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    remove_companions(path)?;
    remove_file(path)
}

/// Removes what SQLite keeps beside a database; absent files are fine.
pub(super) fn remove_companions(path: &Path) -> io::Result<()> {
    COMPANIONS.iter().try_for_each(|suffix| remove_file(&beside(path, suffix)))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames the file and its companions; absent companions are fine.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    // The companions first: a database that is found without its log looks older than it is.
    for suffix in COMPANIONS {
        match std::fs::rename(beside(from, suffix), beside(to, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(from, to)?;
    sync_folder(to)
}

/// Makes renames in the folder of `path` durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// The folder a path is in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Moves the file aside and returns its place; drops the oldest when there are too many.
pub(super) fn move_aside(path: &Path, why: &str) -> io::Result<PathBuf> {
    let mut kept = asides(path)?;
    let number = kept.last().map_or(1, |(number, _)| number.saturating_add(1));
    let place = beside(path, &format!(".{why}-{number}"));
    rename(path, &place)?;
    kept.push((number, place.clone()));
    let surplus = kept.len().saturating_sub(ASIDES_MAX);
    for (_, old) in kept.iter().take(surplus) {
        remove(old)?;
    }
    Ok(place)
}

/// The files kept aside, oldest first.
pub(super) fn asides(path: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder(path))? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|other| aside_number(name, other));
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn aside_number(name: &str, other: &str) -> Option<u32> {
    let (why, number) = other.strip_prefix(name)?.strip_prefix('.')?.split_once('-')?;
    if !["damaged", "foreign", "newer", "replaced"].contains(&why) || number.starts_with('0') {
        return None;
    }
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_its_file_also_when_that_is_not_there_and_a_circle_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("card/queue.db", at("queue.db")).unwrap();
        std::os::unix::fs::symlink(at("queue.db"), at("again.db")).unwrap();
        std::os::unix::fs::symlink("circle", at("circle")).unwrap();
        assert_eq!(resolved(&at("again.db")), at("again.db"), "the disk is not there");
        std::fs::create_dir(at("card")).unwrap();
        assert_eq!(resolved(&at("again.db")), at("card/queue.db"));
        assert_eq!(resolved(&at("plain.db")), at("plain.db"));
        assert_eq!(resolved(&at("circle")), at("circle"));
    }

    #[test]
    fn only_so_many_files_are_kept_aside_and_the_oldest_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        for round in 1..=5_u8 {
            std::fs::write(&path, [round]).unwrap();
            std::fs::write(beside(&path, "-wal"), [round]).unwrap();
            move_aside(&path, if round % 2 == 0 { "foreign" } else { "damaged" }).unwrap();
            assert!(!path.exists());
        }
        let kept = asides(&path).unwrap();
        let contents: Vec<u8> = kept.iter().map(|(_, file)| std::fs::read(file).unwrap()[0]).collect();
        assert_eq!(contents, [3, 4, 5]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 6, "each with its log");
    }

    #[test]
    fn a_file_is_locked_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let (lock, empty) = Lock::take(&path).unwrap();
        assert!(empty);
        assert_eq!(Lock::take(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        Lock::take(&path).unwrap();
    }
}

//! Every change of a file that provisioning makes, each announced before it is made, so that a test can cut the power there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
};
use std::path::Path;

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

use crate::replace::{Steps, replace};

/// A change that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'p> {
    /// A file gets its bytes, which a power cut may still lose.
    Write(&'p Path),
    /// What a file or folder holds becomes durable.
    Sync(&'p Path),
    /// Names change: a folder or link is made, something is renamed or removed.
    Name(&'p Path),
}

/// Who may read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Root alone: 0600, folders 0700.
    Secret,
    /// Root, and the group of the gateway reads: 0640, folders 0750.
    Group,
    /// Everybody reads: 0644, folders 0755.
    Open,
}

impl Mode {
    fn file(self) -> u32 {
        match self {
            Self::Secret => 0o600,
            Self::Group => 0o640,
            Self::Open => 0o644,
        }
    }

    fn folder(self) -> u32 {
        match self {
            Self::Secret => 0o700,
            Self::Group => 0o750,
            Self::Open => 0o755,
        }
    }
}

/// Changes files.
pub(super) struct Disk<'a> {
    /// Asked before every change; an error stands for a power cut.
    pub(super) before: &'a dyn Fn(Step<'_>) -> io::Result<()>,
    /// Number of the gateway's group; `None` leaves groups alone.
    pub(super) group: Option<u32>,
}

impl Disk<'_> {
    /// Makes a folder; one that is there stays as it is.
    pub(super) fn folder(&self, path: &Path, mode: Mode) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        (self.before)(Step::Name(path))?;
        fs::DirBuilder::new().mode(mode.folder()).create(path)?;
        self.own(path, mode, mode.folder())
    }

    /// Writes a whole file; durable only after [`Disk::sync`].
    pub(super) fn write(&self, path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
        (self.before)(Step::Write(path))?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode.file()).custom_flags(no_follow());
        options.open(path)?.write_all(bytes)?;
        self.own(path, mode, mode.file())
    }

    /// Owner and mode, whatever the umask was. FAT has neither, which is no fault.
    fn own(&self, path: &Path, mode: Mode, bits: u32) -> io::Result<()> {
        if fs::symlink_metadata(path)?.mode() & 0o7777 != bits {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(bits));
        }
        match (mode, self.group) {
            (Mode::Group, Some(group)) => std::os::unix::fs::chown(path, Some(0), Some(group)),
            _ => Ok(()),
        }
    }

    /// Makes a file, or the names in a folder, durable.
    pub(super) fn sync(&self, path: &Path) -> io::Result<()> {
        (self.before)(Step::Sync(path))?;
        File::open(path)?.sync_all()
    }

    /// Writes a file that is whole at every moment: beside it first, then over it.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
        replace(&Announced { disk: self, mode }, path, &beside(path), bytes)
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.before)(Step::Name(to))?;
        fs::rename(from, to)
    }

    /// A link, over a file or link of that name if there is one; a folder of that name is exchanged for it and removed.
    pub(super) fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        let part = beside(path);
        self.remove(&part)?;
        (self.before)(Step::Name(&part))?;
        symlink(target, &part)?;
        if fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
            (self.before)(Step::Name(path))?;
            renameat_with(CWD, &part, CWD, path, RenameFlags::EXCHANGE)?;
            return self.remove(&part);
        }
        self.rename(&part, path)
    }

    /// Removes a file, link or folder with all that is in it; nothing there is no error. Links are not followed.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
        (self.before)(Step::Name(path))?;
        if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
    }

    /// Writes zeros over a file, which may keep the memory cells of a card from telling it, and may not: see docs/first-boot.md.
    pub(super) fn wipe(&self, path: &Path) -> io::Result<()> {
        (self.before)(Step::Write(path))?;
        let mut file = OpenOptions::new().write(true).custom_flags(no_follow()).open(path)?;
        let bytes = file.metadata()?.len();
        io::copy(&mut io::repeat(0).take(bytes), &mut file)?;
        self.sync(path)
    }
}

/// The steps of [`Disk`], with what may be read by whom.
struct Announced<'a> {
    disk: &'a Disk<'a>,
    mode: Mode,
}

impl Steps for Announced<'_> {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(path, bytes, self.mode)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.disk.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
}

/// Name of a file while it is made. Eight letters and three, so that a full FAT needs no further entry for it.
fn beside(path: &Path) -> std::path::PathBuf {
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("x");
    let stem: String = stem.chars().filter(char::is_ascii_alphanumeric).take(7).collect();
    path.with_file_name(format!("~{stem}.tmp"))
}

/// Whether a name is one that [`beside`] makes: the rest of a write that a power cut ended. Word processors have such names as well,
/// and theirs are rests too.
pub(super) fn is_part(name: &str) -> bool {
    name.starts_with('~') && name.to_ascii_lowercase().ends_with(".tmp")
}

fn no_follow() -> i32 {
    // A pipe in place of a file must not hold us up either.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    i32::try_from(flags.bits()).unwrap_or(0)
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("is a folder, expected a file")]
    Folder,
    #[error("is no plain file")]
    Special,
    #[error("has {bytes} bytes, expected at most {max}")]
    Large { bytes: u64, max: u64 },
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads a regular file, not through a link, and never more than `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>, Unread> {
    let file = match OpenOptions::new().read(true).custom_flags(no_follow()).open(path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(Unread::Special);
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(Unread::Folder);
    }
    if !metadata.is_file() {
        return Err(Unread::Special);
    }
    let bytes = metadata.len();
    if bytes > max {
        return Err(Unread::Large { bytes, max });
    }
    let mut text = Vec::new();
    file.take(max).read_to_end(&mut text)?;
    Ok(text)
}

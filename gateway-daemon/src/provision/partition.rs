//! Partitions that are read-only but while they are changed: a power cut at any other moment finds them clean.

use std::io;
use std::path::Path;

/// What can be asked of mounted file systems.
pub trait Mounts {
    /// Whether the file system below this folder is read-only.
    ///
    /// # Errors
    /// The folder cannot be looked at.
    fn is_read_only(&self, folder: &Path) -> io::Result<bool>;

    /// Makes the file system that is mounted at this folder writable, or read-only with everything written.
    ///
    /// # Errors
    /// It is not a mount point, or the system refuses.
    fn remount(&self, folder: &Path, writable: bool) -> io::Result<()>;
}

/// The system's own, by the program `mount`, which keeps the other options of a mount.
#[derive(Debug, Clone, Copy)]
pub struct SystemMounts;

impl Mounts for SystemMounts {
    fn is_read_only(&self, folder: &Path) -> io::Result<bool> {
        let flags = rustix::fs::statvfs(folder)?.f_flag;
        Ok(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    fn remount(&self, folder: &Path, writable: bool) -> io::Result<()> {
        if !writable {
            rustix::fs::syncfs(std::fs::File::open(folder)?)?;
        }
        let options = if writable { "remount,rw" } else { "remount,ro" };
        let output = std::process::Command::new("mount").args(["-o", options]).arg(folder).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(said.trim().to_owned()))
    }
}

/// A folder that can be written while this lives. Read-only before is read-only after.
pub(super) struct Writable<'a> {
    folder: &'a Path,
    mounts: &'a dyn Mounts,
    remounted: bool,
}

impl<'a> Writable<'a> {
    pub(super) fn open(folder: &'a Path, mounts: &'a dyn Mounts) -> io::Result<Self> {
        let remounted = mounts.is_read_only(folder)?;
        if remounted {
            mounts.remount(folder, true)?;
        }
        Ok(Self { folder, mounts, remounted })
    }

    /// Read-only again, if it was.
    pub(super) fn close(mut self) -> io::Result<()> {
        if std::mem::take(&mut self.remounted) { self.mounts.remount(self.folder, false) } else { Ok(()) }
    }
}

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        if self.remounted {
            // On the way out after an error that is reported already.
            let _ = self.mounts.remount(self.folder, false);
        }
    }
}

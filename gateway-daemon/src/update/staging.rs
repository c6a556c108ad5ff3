//! A file that others can change is copied into the agent's own folder before anybody checks it: what RAUC has verified is what it installs.
//!
//! Bounds: [`BYTES_MAX`], and [`BYTES_LEFT`] stay free on the partition, which is that of the readings. There is one copy at a time; it is gone
//! with the installation, and what a cut has left is removed before the next.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use gateway_core::update::{Failure, Reason};

/// Largest bundle that is copied: twice what a slot with its boot partition holds.
const BYTES_MAX: u64 = 1 << 30;

/// What stays free where the copy lies: readings are kept there.
const BYTES_LEFT: u64 = 64 << 20;

/// Name of the copy in the agent's folder.
const COPY: &str = "bundle.raucb";

/// Write permission of the group and of everybody.
const OTHERS_WRITE: u32 = 0o022;
/// In such a folder everybody may add files, and only the owner of a file may replace it.
const STICKY: u32 = 0o1000;

/// A file that nobody but root, and whom the agent runs as, can change while it is installed.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    copied: bool,
}

impl Staged {
    /// Its full path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself where only root can change it, else a copy below `folder`.
    ///
    /// # Errors
    /// It cannot be read, is no file, or does not fit.
    pub(super) fn of(path: &Path, folder: &Path) -> Result<Self, Failure> {
        let copy = folder.join(COPY);
        remove(&copy).map_err(|fault| unread(&copy, &fault))?;
        let real = path.canonicalize().map_err(|fault| unread(path, &fault))?;
        // A pipe would be waited for, for ever.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&real);
        let file = file.map_err(|fault| unread(path, &fault))?;
        let found = file.metadata().map_err(|fault| unread(path, &fault))?;
        if !found.is_file() {
            return Err(Failure::with(Reason::BadSource, &format!("{} is no file", path.display())));
        }
        if found.len() == 0 || is_of_the_kernel(&file) {
            let words = format!("{} is empty, or the kernel makes it while it is read", path.display());
            return Err(Failure::with(Reason::BadSource, &words));
        }
        if is_ours_alone(&real) {
            return Ok(Self { path: real, copied: false });
        }
        log::info!("{} can be changed by others than root: a copy is checked and installed", path.display());
        let staged = Self { path: copy, copied: true };
        staged.fill(file, found.len(), folder)?;
        Ok(staged)
    }

    fn fill(&self, file: File, bytes: u64, folder: &Path) -> Result<(), Failure> {
        let free = rustix::fs::statvfs(folder)
            .map_err(|fault| unread(folder, &fault.into()))
            .map(|room| room.f_bavail.saturating_mul(room.f_frsize))?;
        if bytes > BYTES_MAX.min(free.saturating_sub(BYTES_LEFT)) {
            let words = format!(
                "the file has {} MB, and {} MB of {} are free, of which {} MB stay free for readings",
                bytes / 1_000_000,
                free / 1_000_000,
                folder.display(),
                BYTES_LEFT / 1_000_000
            );
            return Err(Failure::with(Reason::NoSpace, &words));
        }
        let copy = || {
            let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
            // A file that grows meanwhile is cut: it is no bundle then.
            io::copy(&mut file.take(bytes), &mut copy)?;
            copy.sync_all()
        };
        copy().map_err(|fault: io::Error| match fault.kind() {
            io::ErrorKind::StorageFull => Failure::with(Reason::NoSpace, &fault.to_string()),
            _ => unread(&self.path, &fault),
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.copied
            && let Err(fault) = remove(&self.path)
        {
            log::warn!("{} stays until the next update: {fault}", self.path.display());
        }
    }
}

/// Whether a file is on no disk: one of proc or sysfs ("statfs(2)"), which says something else each time.
fn is_of_the_kernel(file: &File) -> bool {
    const PROC: i128 = 0x9fa0;
    const SYSFS: i128 = 0x6265_6572;
    rustix::fs::fstatfs(file).is_ok_and(|found| [PROC, SYSFS].contains(&i128::from(found.f_type)))
}

/// Whether nobody but root and this process's own user can change what is found at a path.
pub(crate) fn is_ours_alone(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    path.ancestors().all(|part| {
        let Ok(found) = fs::symlink_metadata(part) else { return false };
        let safe = found.mode() & OTHERS_WRITE == 0 || found.is_dir() && found.mode() & STICKY != 0;
        (found.uid() == 0 || found.uid() == own) && safe
    })
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

fn unread(path: &Path, fault: &io::Error) -> Failure {
    Failure::with(Reason::BadSource, &format!("{}: {fault}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn bundle(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("update.raucb");
        fs::write(&path, "a bundle").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_that_only_root_can_change_is_installed_where_it_is() {
        let (dir, path) = bundle(0o644);
        let staged = Staged::of(&path, dir.path()).unwrap();
        assert_eq!(staged.path(), path.canonicalize().unwrap());
        drop(staged);
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_others_can_change_is_copied_before_it_is_checked() {
        for mode in [0o664, 0o646] {
            let (dir, path) = bundle(mode);
            let staged = Staged::of(&path, dir.path()).unwrap();
            fs::write(&path, "another one").unwrap();
            assert_eq!(fs::read_to_string(staged.path()).unwrap(), "a bundle", "{mode:o}");
            assert_eq!(fs::metadata(staged.path()).unwrap().mode() & 0o777, 0o600);
            let copy = staged.path().to_owned();
            drop(staged);
            assert!(!copy.exists() && path.exists());
        }
    }

    #[test]
    fn a_file_in_a_folder_that_others_can_change_is_copied_too() {
        let (dir, path) = bundle(0o644);
        let folder = dir.path().join("shared");
        fs::create_dir(&folder).unwrap();
        fs::rename(&path, folder.join("update.raucb")).unwrap();
        let link = dir.path().join("link.raucb");
        std::os::unix::fs::symlink(folder.join("update.raucb"), &link).unwrap();
        for (mode, copied) in [(0o755, false), (0o777, true), (0o1777, false)] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Staged::of(&link, dir.path()).unwrap().copied, copied, "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_at_once_and_a_leftover_is_removed() {
        let (dir, _path) = bundle(0o644);
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fs::write(dir.path().join(COPY), "of a cut installation").unwrap();
        let empty = dir.path().join("empty");
        fs::write(&empty, "").unwrap();
        let of_the_kernel =
            ["/proc/self/environ", "/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"];
        let of_the_kernel = of_the_kernel.map(Path::new);
        for path in [&pipe, dir.path(), Path::new("/nowhere"), &empty].into_iter().chain(of_the_kernel) {
            assert_eq!(Staged::of(path, dir.path()).unwrap_err().reason, Reason::BadSource);
        }
        assert!(!dir.path().join(COPY).exists());
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused_before_anything_is_written() {
        let (dir, path) = bundle(0o666);
        File::options().write(true).open(&path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        let failure = Staged::of(&path, dir.path()).unwrap_err();
        assert_eq!(failure.reason, Reason::NoSpace, "{}", failure.text);
        assert!(!dir.path().join(COPY).exists());
    }
}

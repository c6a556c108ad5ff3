//! A file that is whole at every moment: written beside its place, synced, renamed over it, and its folder synced. After a power cut there is the old file or
//! the new one.
//!
//! The order stands here, once; what each step does is the room's ([`Steps`]): plain, or announced so that a test can cut the power there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// What is done to files.
pub(crate) trait Steps {
    /// Writes a whole file; durable only after [`Steps::sync`].
    ///
    /// # Errors
    /// It cannot be written.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Makes a file, or the names in a folder, durable.
    ///
    /// # Errors
    /// It cannot be synced.
    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Gives a file another name, over the one that has it.
    ///
    /// # Errors
    /// It cannot be renamed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

/// Replaces `path` by way of `beside`, a name in the same folder that nobody else uses.
///
/// # Errors
/// A step fails; what was there is untouched, except where only the folder could not be synced.
pub(crate) fn replace(steps: &impl Steps, path: &Path, beside: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = steps.write(beside, bytes).and_then(|()| steps.sync(beside));
    if let Err(fault) = written.and_then(|()| steps.rename(beside, path)) {
        // What stays is written over the next time.
        let _ = fs::remove_file(beside);
        return Err(fault);
    }
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => steps.sync(Path::new(".")),
        Some(folder) => steps.sync(folder),
        None => Ok(()),
    }
}

/// A file that everybody may read, as far as the umask lets them, and only its owner write.
pub(crate) struct Plain;

impl Steps for Plain {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644).open(path)?.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Notes each step, and fails at one.
    struct Cut {
        at: usize,
        done: RefCell<Vec<&'static str>>,
    }

    impl Cut {
        fn step(&self, name: &'static str) -> io::Result<()> {
            let mut done = self.done.borrow_mut();
            if done.len() == self.at {
                return Err(io::Error::other("cut"));
            }
            done.push(name);
            Ok(())
        }
    }

    impl Steps for Cut {
        fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
            self.step("write").and_then(|()| Plain.write(path, bytes))
        }

        fn sync(&self, path: &Path) -> io::Result<()> {
            self.step(if path.is_dir() { "sync folder" } else { "sync" }).and_then(|()| Plain.sync(path))
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.step("rename").and_then(|()| Plain.rename(from, to))
        }
    }

    #[test]
    fn wherever_it_is_cut_there_is_the_old_file_or_the_new_one_and_nothing_beside() {
        for at in 0..=4 {
            let dir = tempfile::tempdir().unwrap();
            let (path, beside) = (dir.path().join("a"), dir.path().join("a.part"));
            fs::write(&path, "old").unwrap();
            let cut = Cut { at, done: RefCell::default() };
            let outcome = replace(&cut, &path, &beside, b"new");
            assert_eq!(outcome.is_ok(), at == 4);
            let expected = if at < 3 { "old" } else { "new" };
            assert_eq!(fs::read_to_string(&path).unwrap(), expected, "cut after {:?}", cut.done);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            assert_eq!(cut.done.into_inner(), ["write", "sync", "rename", "sync folder"][..at]);
        }
    }

    #[test]
    fn a_file_that_others_could_write_is_replaced_by_one_that_they_cannot() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        replace(&Plain, &path, &dir.path().join("a.part"), b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o022, 0);
    }
}

//! The configurations on their partition, and the one step that puts another into use.
//!
//! ```text
//! current -> version.7          the link that is exchanged: before that step the old configuration is in use, whole, after it the new one
//! version.6/                    the one before, for the day on which 7 cannot be read
//! version.7/gateway.toml        0640 root:tidegate, as the certificates beside it
//! version.7/keys/device.key     0600, in a folder 0700
//! gateway.toml -> current/gateway.toml, ca.pem -> current/ca.pem, keys -> current/keys
//! ```
//!
//! A version is made beside the others as `.staged` and gets its number by one rename when every byte of it is durable. The valid version with the
//! highest number is the one that should be in use: whatever a power cut ended is brought to its end by the next start. Version 0 is what
//! the gateway wrote itself because it had nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{self, Disk, Mode};
use super::drop::{CONFIG, FILE_BYTES_MAX};
use super::{Judge, Named};

/// The configuration that the gateway makes for itself.
pub(super) const OWN: u32 = 0;

/// Names in the folder.
const CURRENT: &str = "current";
pub(super) const STAGED: &str = ".staged";
pub(super) const ADOPTED: &str = ".adopted";
pub(super) const KEYS: &str = "keys";

/// A file of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) secret: bool,
}

/// A configuration with all its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) config: Vec<u8>,
    /// By name.
    pub(super) pieces: Vec<Piece>,
}

/// The folder of the configuration.
pub(super) struct Versions<'a> {
    pub(super) folder: &'a Path,
    pub(super) disk: &'a Disk<'a>,
}

impl Versions<'_> {
    /// Every version, the newest first.
    pub(super) fn list(&self) -> Vec<u32> {
        let names = fs::read_dir(self.folder).into_iter().flatten().flatten();
        let number = |name: &std::ffi::OsStr| name.to_str()?.strip_prefix("version.")?.parse().ok();
        let mut list: Vec<u32> = names.filter_map(|entry| number(&entry.file_name())).collect();
        list.sort_unstable_by(|a, b| b.cmp(a));
        list
    }

    pub(super) fn path(&self, version: u32) -> PathBuf {
        self.folder.join(format!("version.{version}"))
    }

    /// Whether the configuration lies here as plain files: a person has put them here, not we.
    pub(super) fn is_by_hand(&self) -> bool {
        fs::symlink_metadata(self.folder.join(CONFIG)).is_ok_and(|m| !m.is_symlink())
    }

    /// The version in use.
    pub(super) fn current(&self) -> Option<u32> {
        let target = fs::read_link(self.folder.join(CURRENT)).ok()?;
        target.to_str()?.strip_prefix("version.")?.parse().ok()
    }

    /// Whether this version is in use with all that belongs to it, and nothing is left to do.
    pub(super) fn is_settled(&self, version: u32) -> bool {
        let linked = |name: &String| {
            fs::read_link(self.folder.join(name)).is_ok_and(|target| target == Path::new(CURRENT).join(name))
        };
        self.current() == Some(version) && self.names(version).iter().all(linked)
    }

    /// What a version has at its top: every file, and the folder of keys.
    fn names(&self, version: u32) -> Vec<String> {
        let entries = fs::read_dir(self.path(version)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        // The file that makes it a configuration comes last.
        names.sort_by_key(|name| (name == CONFIG, name.clone()));
        names
    }

    /// Lays a set down beside the versions, durable; the folder it is in.
    pub(super) fn stage(&self, name: &str, set: &Set) -> io::Result<PathBuf> {
        let folder = self.folder.join(name);
        let keys = folder.join(KEYS);
        self.disk.remove(&folder)?;
        self.disk.folder(&folder, Mode::Group)?;
        self.disk.folder(&keys, Mode::Secret)?;
        for piece in &set.pieces {
            let (folder, mode) = if piece.secret { (&keys, Mode::Secret) } else { (&folder, Mode::Group) };
            let path = folder.join(&piece.name);
            self.disk.write(&path, &piece.bytes, mode)?;
            self.disk.sync(&path)?;
        }
        let path = folder.join(CONFIG);
        self.disk.write(&path, &set.config, Mode::Group)?;
        for path in [&path, &keys, &folder] {
            self.disk.sync(path)?;
        }
        Ok(folder)
    }

    /// Removes what was laid down and is not wanted.
    pub(super) fn unstage(&self) -> io::Result<()> {
        [STAGED, ADOPTED].iter().try_for_each(|name| self.disk.remove(&self.folder.join(name)))
    }

    /// Gives what is staged its number. From here on it is the configuration, as soon as somebody looks.
    pub(super) fn number(&self, name: &str, version: u32) -> io::Result<()> {
        let path = self.path(version);
        self.disk.remove(&path)?;
        self.disk.rename(&self.folder.join(name), &path)?;
        self.disk.sync(self.folder)
    }

    /// Puts a version into use. Files that lie here by hand must be in a version before: they are replaced by links.
    pub(super) fn activate(&self, version: u32) -> io::Result<()> {
        let names = self.names(version);
        // Links to what only the next version has lead nowhere until the step below.
        for name in names.iter().filter(|name| fs::symlink_metadata(self.folder.join(name)).is_err()) {
            self.disk.link(&Path::new(CURRENT).join(name), &self.folder.join(name))?;
        }
        self.disk.sync(self.folder)?;
        if self.current() != Some(version) {
            self.disk.link(Path::new(&format!("version.{version}")), &self.folder.join(CURRENT))?;
            self.disk.sync(self.folder)?;
        }
        for name in names {
            let (path, target) = (self.folder.join(&name), Path::new(CURRENT).join(&name));
            if fs::read_link(&path).ok() != Some(target.clone()) {
                self.disk.link(&target, &path)?;
            }
        }
        self.disk.sync(self.folder)
    }

    /// The number of the next version.
    pub(super) fn next(&self) -> u32 {
        self.list().first().map_or(1, |newest| newest.saturating_add(1))
    }

    /// Removes what is neither in use nor the one before.
    pub(super) fn forget_all_but(&self, before: Option<u32>) -> io::Result<()> {
        let current = self.current();
        for version in self.list() {
            if Some(version) != current && Some(version) != before {
                self.disk.remove(&self.path(version))?;
            }
        }
        self.tidy_links()
    }

    /// Removes links that lead nowhere, and rests of writes.
    pub(super) fn tidy_links(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder)?.flatten() {
            let path = entry.path();
            let ours = fs::read_link(&path).is_ok_and(|target| target.starts_with(CURRENT));
            let part = entry.file_name().to_str().is_some_and(disk::is_part);
            if part || ours && !path.exists() {
                self.disk.remove(&path)?;
            }
        }
        self.disk.sync(self.folder)
    }
}

/// Reads the configuration in a folder with the files that it names there; `None` without a readable one. Files that are missing or
/// elsewhere are left out: the judge says so.
pub(super) fn read_set(folder: &Path, judge: &dyn Judge) -> Option<Set> {
    let config = read(&folder.join(CONFIG))?;
    let mut pieces = Vec::new();
    for Named { path, secret, .. } in judge.named(&config) {
        if let Some(bytes) = installed(folder, &path, secret) {
            pieces.push(Piece { name: path, bytes, secret });
        }
    }
    Some(Set { config, pieces })
}

/// A file of the configuration in a folder: keys and passwords beside it or in `keys`, others beside it.
pub(super) fn installed(folder: &Path, name: &str, secret: bool) -> Option<Vec<u8>> {
    if !super::drop::is_plain(name) {
        return None;
    }
    let beside = read(&folder.join(name));
    if secret { beside.or_else(|| read(&folder.join(KEYS).join(name))) } else { beside }
}

/// Reads through our own links; only root writes here.
fn read(path: &Path) -> Option<Vec<u8>> {
    disk::read(&fs::canonicalize(path).ok()?, FILE_BYTES_MAX).ok()
}

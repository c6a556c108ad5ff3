//! What of an update survives: the files of [`gateway_core::update::record`].
//!
//! Each is written beside its place, synced and renamed, and its folder is synced: after a power cut there is the old file or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use gateway_core::os::{self, Doing};
use gateway_core::update::reason::Reason;
use gateway_core::update::record::{FILE_BYTES_MAX, History, Last, Trial};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::replace::{Plain, replace};

/// Where the records are: on the partition that both systems share.
pub const FOLDER_PATH: &str = "/var/lib/tidegate-update";

/// Where sentences for the daemon to publish are, unless `TIDEGATE_FAULTS_DIR` says otherwise.
const FAULTS_PATH: &str = "/run/tidegate-faults";

/// Name of the sentence that says that an update was undone.
const FAULT: &str = "update-rolled-back";

/// Names of sentences that say that no update can be tried on this board: `rauc/tryboot-backend.sh look` leaves them at each start.
const OBSTACLES: [(&str, Reason); 2] =
    [("eeprom-too-old", Reason::EepromTooOld), ("boot-choice", Reason::BootChoice)];

const BEFORE: &str = "before.json";
const LAST: &str = "last.json";
const HISTORY: &str = "history.json";
const ROLLED_BACK: &str = "rolled-back";

/// A history that could not be read, after another has begun.
const BROKEN: &str = "history.broken";

/// Write permission of the group and of everybody.
const OTHERS_WRITE: u32 = 0o022;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), os::sentence(source, *doing))]
pub struct FolderError {
    /// The file.
    pub path: PathBuf,
    /// What was wanted of it.
    pub doing: Doing,
    /// The cause.
    pub source: io::Error,
}

/// The folder of the records.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    faults: PathBuf,
}

impl Folder {
    /// The records below `root`; sentences go where the environment says.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let faults =
            std::env::var_os("TIDEGATE_FAULTS_DIR").map_or_else(|| FAULTS_PATH.into(), PathBuf::from);
        Self { root: root.into(), faults }
    }

    /// Where they are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// `before.json`, if there is one.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn trial(&self) -> Result<Option<Trial>, FolderError> {
        self.read(BEFORE)
    }

    /// Writes `before.json`. A system that was installed, and replaced before it was started, has changed something: its command is remembered first.
    ///
    /// # Errors
    /// It cannot be written; what was there is untouched.
    pub fn set_trial(&self, trial: &Trial) -> Result<(), FolderError> {
        let replaced =
            self.trial().ok().flatten().filter(|before| before.installed && before.key != trial.key);
        if let Some(key) = replaced.and_then(|before| before.key) {
            self.remember(|history| {
                history.remember(&key);
                true
            })?;
        }
        self.write(BEFORE, trial)
    }

    /// `last.json`, if there is one.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn last(&self) -> Result<Option<Last>, FolderError> {
        self.read(LAST)
    }

    /// What earlier updates have left; an empty one where there has been none.
    ///
    /// # Errors
    /// It is there and cannot be read, or somebody else than root may have written it: then what ran here is not known.
    pub fn history(&self) -> Result<History, FolderError> {
        let path = self.root.join(HISTORY);
        let read = read_ours(&path).and_then(|bytes| {
            bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other)).transpose()
        });
        Ok(read.map_err(unread(&path))?.unwrap_or_default())
    }

    /// The system that runs has passed its test: older ones than it are installed only where root says so. A history that cannot be read begins anew
    /// with it and lies beside. Where nobody knows which version it is, what is known stays, and what is not known stays unknown.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_passed(&self, version: Option<String>) -> Result<(), FolderError> {
        match (self.history(), version) {
            (Ok(history), version) => {
                let version = version.or(history.version);
                self.write(HISTORY, &History { version, keys: history.keys })
            }
            (Err(fault), Some(version)) => {
                log::warn!("{fault}; it begins anew with version {version}, and the former lies in {BROKEN}");
                self.set_aside(HISTORY, BROKEN)?;
                self.write(HISTORY, &History { version: Some(version), keys: Vec::new() })
            }
            (Err(fault), None) => {
                log::warn!("{fault}; no version is known that could take its place");
                Ok(())
            }
        }
    }

    /// The outcome is known: writes it and takes `before.json` away, in this order, so that a power cut in between finds the trial again.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn settle(&self, last: &Last) -> Result<(), FolderError> {
        self.remember(|history| history.add(last))?;
        self.write(LAST, last)?;
        self.remove(&self.root.join(BEFORE))
    }

    /// Why the last updated system had to go, if none was installed since.
    #[must_use]
    pub fn why_back(&self) -> Option<String> {
        let bytes = read_bounded(&self.root.join(ROLLED_BACK)).ok()??;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Writes down why the updated system has to go.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_why_back(&self, why: &str) -> Result<(), FolderError> {
        self.replace(&self.root.join(ROLLED_BACK), format!("{why}\n").as_bytes())
    }

    /// Forgets why the last updated system had to go.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn clear_why_back(&self) -> Result<(), FolderError> {
        self.remove(&self.root.join(ROLLED_BACK))
    }

    /// Says for the daemon to publish, or takes back, that an update was undone.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_fault(&self, why: Option<&str>) -> Result<(), FolderError> {
        let path = self.faults.join(FAULT);
        match why {
            None => self.remove(&path),
            Some(why) => {
                self.replace(&path, format!("the last update was undone: {why}\n").as_bytes())?;
                // The daemon is somebody else.
                readable(&self.faults, 0o755).and_then(|()| readable(&path, 0o644)).map_err(at(&path))
            }
        }
    }

    /// Why no update can be tried on this board, if so.
    #[must_use]
    pub fn obstacle(&self) -> Option<Reason> {
        OBSTACLES.into_iter().find(|(name, _)| self.faults.join(name).exists()).map(|(_, reason)| reason)
    }

    /// Changes the history, if there is something to change. One that cannot be read is not written over: an empty one in its place would say that no
    /// version is known to have run here.
    fn remember(&self, change: impl FnOnce(&mut History) -> bool) -> Result<(), FolderError> {
        let mut history = match self.history() {
            Ok(history) => history,
            Err(fault) => {
                log::warn!("{fault}; which commands were carried out is not known");
                return Ok(());
            }
        };
        if change(&mut history) { self.write(HISTORY, &history) } else { Ok(()) }
    }

    /// Keeps a record by another name: by a second one, so that no power cut leaves a moment without it. A folder can have one name only, and so can a file of
    /// another owner, or one where the file system knows no second names.
    fn set_aside(&self, name: &str, aside: &str) -> Result<(), FolderError> {
        let (place, aside) = (self.root.join(name), self.root.join(aside));
        let is_folder = fs::symlink_metadata(&place).is_ok_and(|found| found.is_dir());
        // Of an earlier time; a folder, too.
        let removed = match fs::symlink_metadata(&aside) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&aside),
            Ok(_) => fs::remove_file(&aside),
            Err(_) => Ok(()),
        };
        let named_twice = || {
            if is_folder { Err(io::ErrorKind::IsADirectory.into()) } else { fs::hard_link(&place, &aside) }
        };
        let keep = || named_twice().or_else(|_| fs::rename(&place, &aside));
        removed.and_then(|()| keep()).map_err(at(&aside))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FolderError> {
        let path = self.root.join(name);
        let read = read_bounded(&path).and_then(|bytes| {
            bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other)).transpose()
        });
        read.map_err(unread(&path))
    }

    fn write(&self, name: &str, record: &impl Serialize) -> Result<(), FolderError> {
        let path = self.root.join(name);
        let bytes = serde_json::to_vec(record).map_err(io::Error::other).map_err(at(&path))?;
        self.replace(&path, &bytes)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
        let folder = path.parent().unwrap_or(&self.root);
        let made = fs::create_dir_all(folder);
        made.and_then(|()| replace(&Plain, path, &path.with_extension("part"), bytes)).map_err(at(path))
    }

    fn remove(&self, path: &Path) -> Result<(), FolderError> {
        match fs::remove_file(path) {
            Ok(()) => File::open(path.parent().unwrap_or(&self.root))
                .and_then(|folder| folder.sync_all())
                .map_err(at(path)),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(at(path)(source)),
        }
    }
}

/// The version of the running system, as its os-release says: `IMAGE_VERSION=1.2`. A distribution's may have none.
///
/// # Errors
/// The file is not there, cannot be read, is no os-release, or somebody else than root may have written it.
pub fn system_version(os_release: &Path) -> Result<Option<String>, FolderError> {
    let text = || {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let bytes = read_ours(os_release)?.ok_or_else(missing)?;
        let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is no text"))?;
        // An empty one, or the rest of one, says nothing of the system (os-release(5)).
        match text.lines().any(|line| line.starts_with("ID=") || line.starts_with("NAME=")) {
            true => Ok(text),
            false => Err(io::Error::other("it is empty or cut: it does not name the system")),
        }
    };
    let text = text().map_err(unread(os_release))?;
    // As a shell reads it: the last one counts.
    let value = text.lines().filter_map(|line| line.strip_prefix("IMAGE_VERSION=")).next_back();
    let value = value.map(|value| value.trim().trim_matches('"').trim_matches('\'').to_owned());
    Ok(value.filter(|value| !value.is_empty()))
}

/// This boot, as the kernel names it.
///
/// # Errors
/// The kernel does not say.
pub fn boot_id() -> Result<String, FolderError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(unread(path))
}

/// Whether the boot loader says that it started this system as a try: U-Boot on the kernel's command line (`buildroot/board/tidegate/uboot`), the
/// firmware of a Raspberry Pi in the device tree.
#[must_use]
pub fn is_try() -> bool {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let firmware = fs::read("/proc/device-tree/chosen/bootloader/tryboot").unwrap_or_default();
    line.split_whitespace().any(|word| word == "tidegate.trial") || firmware == 1u32.to_be_bytes()
}

fn at(path: &Path) -> impl Fn(io::Error) -> FolderError + '_ {
    |source| FolderError { path: path.into(), doing: Doing::Writing, source }
}

fn unread(path: &Path) -> impl Fn(io::Error) -> FolderError + '_ {
    |source| FolderError { path: path.into(), doing: Doing::Reading, source }
}

/// The beginning of a regular file, if there is one. Waits for nobody, whatever lies there.
fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    open_file(path)?.map(read_open).transpose()
}

/// The same of a file that only root, and whom this runs as, can have written.
fn read_ours(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open_file(path)? else { return Ok(None) };
    let (found, own) = (file.metadata()?, rustix::process::geteuid().as_raw());
    if found.uid() != 0 && found.uid() != own {
        return Err(io::Error::other(format!("it belongs to user {}, expected root", found.uid())));
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Err(io::Error::other("others than root can write it; chmod go-w, if it is right"));
    }
    read_open(file).map(Some)
}

/// A regular file, unless there is nothing at all.
fn open_file(path: &Path) -> io::Result<Option<File>> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(io::Error::other("it is a link to nothing")),
                Err(_) => Ok(None),
            };
        }
        Err(fault) => return Err(fault),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(Some(file))
}

fn read_open(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn readable(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests;

//! What of an update survives: the files of [`gateway_core::update::record`].
//!
//! Each is written beside its place, synced and renamed, and its folder is synced: after a power cut there is the old file or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gateway_core::os::{self, Doing};
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

const BEFORE: &str = "before.json";
const LAST: &str = "last.json";
const HISTORY: &str = "history.json";
const ROLLED_BACK: &str = "rolled-back";

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), os::sentence(source, Doing::Writing))]
pub struct FolderError {
    /// The file.
    pub path: PathBuf,
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
            let mut history = self.history();
            history.remember(&key);
            self.write(HISTORY, &history)?;
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

    /// What earlier updates have left; nothing where it cannot be read.
    #[must_use]
    pub fn history(&self) -> History {
        self.read(HISTORY)
            .unwrap_or_else(|fault| {
                log::warn!("which versions ran here is not known: {fault}");
                None
            })
            .unwrap_or_default()
    }

    /// The system that runs has passed its test: older ones than it are installed only where root says so.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn set_passed(&self, version: Option<String>) -> Result<(), FolderError> {
        self.write(HISTORY, &History { version, ..self.history() })
    }

    /// The outcome is known: writes it and takes `before.json` away, in this order, so that a power cut in between finds the trial again.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn settle(&self, last: &Last) -> Result<(), FolderError> {
        let mut history = self.history();
        if history.add(last) {
            self.write(HISTORY, &history)?;
        }
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

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FolderError> {
        let path = self.root.join(name);
        let read = read_bounded(&path).and_then(|bytes| {
            bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other)).transpose()
        });
        read.map_err(at(&path))
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

/// The version of the running system, as its os-release says: `IMAGE_VERSION=1.2`. A distribution's has none.
#[must_use]
pub fn system_version(os_release: &Path) -> Option<String> {
    let text = String::from_utf8(read_bounded(os_release).ok()??).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION="))?;
    let value = value.trim().trim_matches('"').trim_matches('\'');
    (!value.is_empty()).then(|| value.to_owned())
}

/// This boot, as the kernel names it.
///
/// # Errors
/// The kernel does not say.
pub fn boot_id() -> Result<String, FolderError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(at(path))
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
    |source| FolderError { path: path.into(), source }
}

/// The beginning of a regular file, if there is one. Waits for nobody, whatever lies there.
fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(fault) => return Err(fault),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn readable(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use gateway_core::update::record::repeated;
    use gateway_core::update::wire::{State, Status};

    use super::*;

    fn trial() -> Trial {
        Trial {
            boot: "one".into(),
            slot: "rootfs.0".into(),
            before: Default::default(),
            installed: false,
            reboot: true,
            version: None,
            key: None,
            downgrade: false,
        }
    }

    #[test]
    fn a_record_is_there_wholly_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(&dir.path().join("not/yet/there"));
        assert_eq!(folder.trial().unwrap(), None);
        folder.set_trial(&trial()).unwrap();
        assert_eq!(folder.trial().unwrap(), Some(trial()));
        let last = Last { status: Status::of(State::Good), key: Some("42".into()) };
        folder.settle(&last).unwrap();
        assert_eq!((folder.trial().unwrap(), folder.last().unwrap()), (None, Some(last)));
        assert_eq!(folder.history().keys, ["42"]);
        folder.set_passed(Some("1.2".into())).unwrap();
        assert_eq!(folder.history().version.as_deref(), Some("1.2"));
        // Nothing is left beside them.
        assert_eq!(fs::read_dir(dir.path().join("not/yet/there")).unwrap().count(), 2);
    }

    #[test]
    fn the_version_of_the_running_system_is_that_of_its_image() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("os-release");
        assert_eq!(system_version(&path), None);
        for (text, version) in [
            ("NAME=Tidegate\nIMAGE_VERSION=1.2\n", Some("1.2")),
            ("IMAGE_VERSION=\"1.2-rc1\"\nVERSION_ID=9\n", Some("1.2-rc1")),
            ("NAME=Debian\nVERSION_ID=\"12\"\n", None),
            ("IMAGE_VERSION=\n", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(system_version(&path).as_deref(), version, "{text}");
        }
    }

    #[test]
    fn a_pipe_in_the_place_of_a_record_is_an_error_and_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        for name in [BEFORE, LAST, HISTORY] {
            let status = std::process::Command::new("mkfifo").arg(dir.path().join(name)).status();
            assert!(status.unwrap().success());
        }
        assert!(folder.trial().is_err() && folder.last().is_err());
        assert_eq!(folder.history(), History::default());
    }

    #[test]
    fn the_command_of_a_system_that_waits_for_its_start_is_remembered_when_another_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let of = |key: &str, installed| Trial { installed, key: Some(key.into()), ..trial() };
        let put = |trial: &Trial| {
            folder.set_trial(trial).unwrap();
            folder.history().keys
        };
        assert_eq!(put(&of("A", false)), Vec::<String>::new());
        assert_eq!(put(&of("A", true)), Vec::<String>::new(), "the same command goes on");
        assert_eq!(put(&of("B", false)), ["A"]);
        assert_eq!(put(&of("C", false)), ["A"], "B has changed nothing");
        let repeated = |key: &str| {
            repeated(
                key,
                folder.trial().unwrap().as_ref(),
                folder.last().unwrap().as_ref(),
                &folder.history(),
            )
        };
        assert_eq!([repeated("A"), repeated("B"), repeated("C")], [true, false, true]);
    }

    #[test]
    fn a_torn_or_foreign_record_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        for bytes in [&b"{"[..], b"", b"\xff", b"[]", b"null"] {
            fs::write(dir.path().join(BEFORE), bytes).unwrap();
            assert!(folder.trial().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn why_an_update_was_undone_is_kept_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        folder.clear_why_back().unwrap();
        folder.set_why_back("bus line: silent").unwrap();
        assert_eq!(folder.why_back().as_deref(), Some("bus line: silent"));
        folder.clear_why_back().unwrap();
        assert_eq!(folder.why_back(), None);
    }
}

//! A card as folders: the drive, the partition of the configuration, and the pieces of the system that provisioning touches.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use gateway_daemon::app::provision::Reader;
use gateway_daemon::provision::{
    BootPartition, Judge as _, Judged, Mounts, Outcome, Places, Step, World, provision,
};

pub(crate) const MINIMAL: &str = "[gateway]\nid = \"before\"\n";

/// A configuration with a certificate, its key and a password.
pub(crate) const TLS: &str = "[gateway]\nid = \"plant7-line2\"\n[uplink.cloud]\nurl = \"mqtts://broker.example.com\"\nca = \"ca.pem\"\n\
    client_cert = \"device.pem\"\nclient_key = \"device.key\"\nusername = \"me\"\npassword_file = \"password.txt\"\n";

/// Folders that stand for a card in a gateway.
pub(crate) struct Card {
    folder: tempfile::TempDir,
    pub(crate) drop: PathBuf,
    pub(crate) config: PathBuf,
}

/// Partitions that are always writable.
pub(crate) struct Plain;

impl Mounts for Plain {
    fn is_read_only(&self, folder: &Path) -> io::Result<bool> {
        fs::metadata(folder).map(|_| false)
    }

    fn remount(&self, _: &Path, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// No boot partition: nobody asks for one as long as there is no `[board]`.
struct NoBoot;

impl BootPartition for NoBoot {
    fn check(&self, _: &Path) -> io::Result<()> {
        Err(io::Error::other("there is none"))
    }

    fn mount(&self, _: &Path, _: &Path, _: bool) -> io::Result<()> {
        Err(io::Error::other("there is none"))
    }

    fn unmount(&self, _: &Path) -> io::Result<()> {
        Err(io::Error::other("there is none"))
    }

    fn stays(&self, _: &Path) -> bool {
        false
    }
}

impl Card {
    pub(crate) fn new() -> Self {
        // Thousands of boots make tens of thousands of files durable: in memory that costs nothing.
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let path = folder.path();
        for name in
            ["drop", "config", "run", "root/proc/device-tree", "root/proc/sys/kernel", "root/dev", "root/etc"]
        {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        for name in ["root/dev/console", "root/proc/sys/kernel/hostname"] {
            fs::write(path.join(name), "").unwrap();
        }
        fs::write(path.join("root/proc/device-tree/serial-number"), "10000000d8a1b2c3\0").unwrap();
        let (drop, config) = (path.join("drop"), path.join("config"));
        Self { folder, drop, config }
    }

    pub(crate) fn places(&self) -> Places {
        let path = self.folder.path();
        Places {
            drop: self.drop.clone(),
            config: self.config.clone(),
            run: path.join("run"),
            root: path.join("root"),
        }
    }

    pub(crate) fn root(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    pub(crate) fn run(&self, path: &str) -> PathBuf {
        self.folder.path().join("run").join(path)
    }

    pub(crate) fn drop(&self, name: &str, bytes: &[u8]) {
        fs::write(self.drop.join(name), bytes).unwrap();
    }

    pub(crate) fn read_drop(&self, name: &str) -> String {
        fs::read_to_string(self.drop.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// What lies on the drive beside the text that explains it, sorted.
    pub(crate) fn on_drive(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.drop)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "README.txt")
            .collect();
        names.sort();
        names
    }

    /// A boot.
    pub(crate) fn provision(&self) -> Outcome {
        self.provision_with(&Plain, &|_| Ok(()))
    }

    /// A boot with other partitions, or with a power cut.
    pub(crate) fn provision_with(
        &self,
        mounts: &dyn Mounts,
        before: &dyn Fn(Step<'_>) -> io::Result<()>,
    ) -> Outcome {
        self.provision_on(&NoBoot, mounts, before)
    }

    /// A boot of a Raspberry Pi.
    pub(crate) fn provision_on(
        &self,
        boot: &dyn BootPartition,
        mounts: &dyn Mounts,
        before: &dyn Fn(Step<'_>) -> io::Result<()>,
    ) -> Outcome {
        let time = Some("2026-11-27T02:00:00Z".to_owned());
        provision(&self.places(), &World { judge: &Reader, mounts, boot, before, time })
    }

    /// The configuration as the daemon would read it.
    pub(crate) fn judged(&self) -> Judged {
        Reader.judge(&self.config).unwrap()
    }

    pub(crate) fn fault(&self) -> Option<String> {
        fs::read_to_string(self.run("tidegate-faults/provision")).ok()
    }

    pub(crate) fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.config.join(path)).unwrap().permissions().mode() & 0o7777
    }

    pub(crate) fn installed(&self, path: &str) -> Vec<u8> {
        fs::read(self.config.join(path)).unwrap()
    }

    /// Every file below the whole card, with its bytes or its target.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        tree(self.folder.path(), &["console"])
    }

    /// Every file of the configuration's partition.
    pub(crate) fn config_tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        tree(&self.config, &[])
    }
}

fn tree(folder: &Path, but: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.insert(path, target.into_os_string().into_encoded_bytes());
            } else if metadata.is_dir() {
                folders.push(path);
            } else if !but.iter().any(|name| path.ends_with(name)) {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// An authority, and a certificate with its key.
pub(crate) struct Pki {
    pub(crate) ca: String,
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        let device = rcgen::generate_simple_self_signed(["device".to_owned()]).unwrap();
        Self { ca: ca.cert.pem(), cert: device.cert.pem(), key: device.signing_key.serialize_pem() }
    }

    /// Lays all of it on the drive, with a password.
    pub(crate) fn drop(&self, card: &Card) {
        card.drop("ca.pem", self.ca.as_bytes());
        card.drop("device.pem", self.cert.as_bytes());
        card.drop("device.key", self.key.as_bytes());
        card.drop("password.txt", b"hunter2\r\n");
    }
}

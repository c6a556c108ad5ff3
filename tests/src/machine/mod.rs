//! The QEMU test machine, seen from outside: a card image whose files the host can read and write, the serial console, a root shell on a
//! virtual console, ports of the host, and the power switch.
//!
//! `cargo xtask qemu image` makes the image ([`Image`]); the programs in `tests/src/bin/qemu_machine` use all this. What the guest does is
//! told by the host's mosquitto, by the console and by the card, not by the guest's own tests.

mod card;
mod console;
mod disk;
mod qemu;
mod shell;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

pub use card::{Card, Partition};
pub use console::Console;
pub use disk::{Disk, Loss};
pub use qemu::{Kernel, Machine, Start};
pub use shell::{Said, Shell};

/// Long enough for a boot under emulation on a machine that does other things, too; a green test never waits for it.
pub const BOOT_MAX: Duration = Duration::from_secs(900);

/// Long enough for anything that a running guest does.
pub const STEP_MAX: Duration = Duration::from_secs(240);

/// What `cargo xtask qemu image` made.
#[derive(Debug, Clone)]
pub struct Image {
    dir: PathBuf,
}

impl Image {
    /// The image in `dir`.
    ///
    /// # Errors
    /// There is none.
    pub fn at(dir: &Path) -> Result<Self> {
        ensure!(
            dir.join("card.img").is_file(),
            "{} holds no image; make it: cargo xtask qemu image",
            dir.display()
        );
        Ok(Self { dir: dir.to_owned() })
    }

    /// The folder itself, with all that was made.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// The card as flashed.
    #[must_use]
    pub fn card(&self) -> PathBuf {
        self.dir.join("card.img")
    }

    /// The folder with what goes into the boot partition.
    #[must_use]
    pub fn boot(&self) -> PathBuf {
        self.dir.join("boot")
    }

    /// What its update bundles are for.
    #[must_use]
    pub fn machine(&self) -> &'static str {
        let has = |name: &str| self.boot().join(name).is_file();
        if has("kernel_2712.img") {
            "rpi5"
        } else if has("kernel8.img") {
            "rpi64"
        } else {
            "qemu"
        }
    }

    /// Whether it is Buildroot's, for gateways: without a shell for tests, its journal to itself, and with a health gate of minutes.
    #[must_use]
    pub fn is_product(&self) -> bool {
        !self.files().join("usr/lib/tidegate-test").is_dir()
    }

    /// The root file system: ext4 of the test machine's own image, EROFS of Buildroot's.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        let ext4 = self.dir.join("rootfs.ext4");
        if ext4.is_file() { ext4 } else { self.dir.join("rootfs.erofs") }
    }

    /// The files of the root, where they were kept.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.dir.join("root")
    }
}

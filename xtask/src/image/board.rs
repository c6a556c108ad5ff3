//! The boards that there are images for.

use std::fmt;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::steps::root;

/// A board, or a family that one image starts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Board {
    /// Raspberry Pi 3, 4, 400, Zero 2 W, Compute Module 3 and 4
    Rpi64,
    /// Raspberry Pi 5, 500, Compute Module 5
    Rpi5,
    /// QEMU's "virt" for arm64, with the same userland
    Qemu,
}

impl Board {
    pub(super) const ALL: [Self; 3] = [Self::Rpi64, Self::Rpi5, Self::Qemu];

    /// The name of its configuration in buildroot/configs.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Rpi64 => "tidegate_rpi64_defconfig",
            Self::Rpi5 => "tidegate_rpi5_defconfig",
            Self::Qemu => "tidegate_qemu_aarch64_defconfig",
        }
    }

    /// Its configuration.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn defconfig(self) -> Result<String> {
        let path = root().join("buildroot/configs").join(self.file());
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rpi64 => "rpi64",
            Self::Rpi5 => "rpi5",
            Self::Qemu => "qemu",
        })
    }
}

//! The boards' processors, and what the tools of Debian call them.

/// A processor that the daemon is shipped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// 64 bit: Raspberry Pi 3, 4, 5, Zero 2 W
    Aarch64,
    /// 32 bit with hard floats: the older systems of these boards, and the Raspberry Pi 2
    Armv7,
}

impl Target {
    /// What rustc calls it.
    pub(super) fn triple(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Armv7 => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// What Debian calls it.
    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }

    /// What gcc and the binutils call it.
    pub(super) fn gnu(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-linux-gnu",
            Self::Armv7 => "arm-linux-gnueabihf",
        }
    }

    /// A tool of gcc or the binutils for it.
    pub(super) fn tool(self, name: &str) -> String {
        format!("{}-{name}", self.gnu())
    }

    /// Its triple as a part of the name of a variable.
    pub(super) fn variable(self) -> String {
        self.triple().replace('-', "_")
    }

    /// The emulator of QEMU for single programs.
    pub(super) fn emulator(self) -> &'static str {
        match self {
            Self::Aarch64 => "qemu-aarch64-static",
            Self::Armv7 => "qemu-arm-static",
        }
    }
}

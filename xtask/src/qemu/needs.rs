//! What the test machine needs from this one.

use std::path::Path;

use anyhow::{Result, bail};

use crate::peers::{self, on_path};
use crate::steps::{command, run, succeeds};

/// U-Boot as Debian builds it for QEMU.
pub(super) const U_BOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";

/// Programs and their Debian packages.
const PROGRAMS: [(&str, &str); 14] = [
    ("mosquitto_sub", "mosquitto-clients"),
    ("qemu-system-aarch64", "qemu-system-arm"),
    ("mmdebstrap", "mmdebstrap"),
    ("mkimage", "u-boot-tools"),
    ("rauc", "rauc"),
    ("mksquashfs", "squashfs-tools"),
    ("openssl", "openssl"),
    ("depmod", "kmod"),
    ("systemd-sysusers", "systemd"),
    ("mcopy", "mtools"),
    ("mkfs.vfat", "dosfstools"),
    ("debugfs", "e2fsprogs"),
    ("sfdisk", "fdisk"),
    ("python3", "python3"),
];

/// Where a machine with a QEMU from backports has to take the rest of QEMU from.
const BACKPORTS: &str = "/etc/apt/sources.list.d/tidegate-backports.list";

/// Whether everything is there.
///
/// # Errors
/// It is not; the error is what is missing.
pub(super) fn present() -> Result<()> {
    let missing = missing();
    if !missing.is_empty() {
        bail!(
            "the QEMU test machine needs {}: `cargo xtask qemu image` installs it as root",
            missing.join(", ")
        );
    }
    if !peers::is_root() {
        bail!("only root can unpack packages with the owners of their files: run this as root, as CI does");
    }
    Ok(())
}

/// Installs what is missing.
///
/// # Errors
/// It cannot be installed here.
pub(super) fn set_up() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return present();
    }
    if missing.contains(&"qemu-system-arm") && peers::is_root() {
        backports()?;
    }
    peers::install(&missing)?;
    present()
}

fn missing() -> Vec<&'static str> {
    let there = |program: &str| {
        on_path(program) || ["/sbin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(program).is_file())
    };
    let mut missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    if !Path::new(U_BOOT).is_file() {
        missing.push("u-boot-qemu");
    }
    missing
}

/// QEMU's packages must all be of one version: where some came from backports, the rest has to come from there, too.
fn backports() -> Result<()> {
    let mut query = command("dpkg-query", &["-W", "-f", "${Version} ", "qemu-utils", "qemu-system-common"]);
    let versions =
        query.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if !versions.contains("~bpo12")
        || succeeds(command("sh", &["-c", "apt-cache policy | grep -q bookworm-backports"]))
    {
        return Ok(());
    }
    let line = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main\n";
    std::fs::write(BACKPORTS, line)?;
    run(command("apt-get", &["update", "--quiet"]))?;
    let mut install = command("apt-get", &["install", "--quiet", "--yes", "--no-install-recommends"]);
    install.args(["-t", "bookworm-backports", "qemu-system-arm"]).env("DEBIAN_FRONTEND", "noninteractive");
    run(install)
}

//! What the test machine needs from this one.

use anyhow::{Result, bail};

use crate::peers::{self, By};
use crate::steps::{command, run, succeeds};

/// Where a machine with a QEMU from backports has to take the rest of QEMU from.
const BACKPORTS: &str = "/etc/apt/sources.list.d/tidegate-backports.list";

/// Whether everything is there.
///
/// # Errors
/// It is not; the error is what is missing.
pub(super) fn present() -> Result<()> {
    let missing = peers::missing(By::Qemu);
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
    let missing = peers::missing(By::Qemu);
    if missing.is_empty() {
        return present();
    }
    if missing.contains(&peers::QEMU) && peers::is_root() {
        backports()?;
    }
    peers::install(&missing)?;
    present()
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
    install.args(["-t", "bookworm-backports", peers::QEMU]).env("DEBIAN_FRONTEND", "noninteractive");
    run(install)
}

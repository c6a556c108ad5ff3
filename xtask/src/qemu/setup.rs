//! What the test machine needs from this one.

use anyhow::{Result, bail};

use crate::apt::{self, Apt, Install};
use crate::needs::{self, By};
use crate::peers;
use crate::steps::{command, succeeds};

/// Where a machine with a QEMU from backports has to take the rest of QEMU from.
const BACKPORTS: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main\n";

/// Whether everything is there.
///
/// # Errors
/// It is not; the error is what is missing.
pub(super) fn present() -> Result<()> {
    if let Some(complaint) = complaint(needs::missing(By::Qemu), peers::missing_for_qemu()) {
        bail!(complaint);
    }
    if !needs::is_root() {
        bail!("only root can unpack packages with the owners of their files: run this as root, as CI does");
    }
    Ok(())
}

/// What is missing, and what installs it: packages of Debian, and a program of PyPI.
fn complaint(mut missing: Vec<&str>, of_pypi: Option<&'static str>) -> Option<String> {
    missing.extend(of_pypi);
    (!missing.is_empty()).then(|| {
        format!(
            "the QEMU test machine needs {}: `cargo xtask qemu image` installs it as root",
            missing.join(", ")
        )
    })
}

/// Installs what is missing.
///
/// # Errors
/// It cannot be installed here.
pub(super) fn set_up(install: Install) -> Result<()> {
    if install == Install::Never {
        return present();
    }
    let missing = needs::missing(By::Qemu);
    if missing.contains(&needs::QEMU) && needs::is_root() {
        backports()?;
    }
    let missing = needs::missing(By::Qemu);
    if !missing.is_empty() {
        apt::install(&missing, install)?;
    }
    if peers::missing_for_qemu().is_some() {
        peers::set_up_for_qemu(install)?;
    }
    present()
}

/// QEMU's packages must all be of one version: where some came from backports, the rest has to come from there, too. Of that source nothing stays behind.
fn backports() -> Result<()> {
    let mut query = command("dpkg-query", &["-W", "-f", "${Version} ", "qemu-utils", "qemu-system-common"]);
    let versions =
        query.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if !versions.contains("~bpo12")
        || succeeds(command("sh", &["-c", "apt-cache policy | grep -q bookworm-backports"]))
    {
        return Ok(());
    }
    let apt = Apt::with_source(BACKPORTS)?;
    apt.update()?;
    let package = format!("{}/bookworm-backports", needs::QEMU);
    apt.install(&[&package], &format!("sudo apt-get install --yes -t bookworm-backports {}", needs::QEMU))
}

#[cfg(test)]
mod tests {
    use super::complaint;

    /// A fresh machine passed this look, and the test of the serial line failed a quarter of an hour later.
    #[test]
    fn a_machine_without_pymodbus_is_not_ready_for_the_system_tests() {
        let said = complaint(vec!["qemu-system-arm"], Some("pymodbus==1.2.3")).unwrap_or_default();
        assert!(said.contains("qemu-system-arm, pymodbus==1.2.3") && said.contains("cargo xtask"), "{said}");
        assert!(complaint(Vec::new(), Some("pymodbus==1.2.3")).is_some());
        assert_eq!(complaint(Vec::new(), None), None);
    }
}

//! The real peers of the tests: set up where that is allowed, otherwise named in one line.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::steps::{command, root, run, succeeds};

/// The pymodbus that the tests were written against: its API changes between minor versions.
const PYMODBUS: &str = "pymodbus==3.16.1";
/// Serial lines of pymodbus.
const PYSERIAL: &str = "pyserial==3.5";
/// The Paho client of the broker's tests: MQTT 3.1, 3.1.1 and 5.0.
const PAHO: &str = "paho-mqtt==2.1.0";
/// Where the npm client of the broker's tests is named, with everything that it needs, by version and checksum.
const MQTT_JS: &str = "tests/peers/mqtt-js";

/// What something here needs from the system: how it is recognised, and its Debian package.
struct Need {
    package: &'static str,
    present: Present,
    by: By,
}

/// How a need is recognised.
enum Present {
    /// By these programs, which administrators may have outside of the path of users.
    Programs(&'static [&'static str]),
    /// In another way.
    Other(fn() -> bool),
}

/// Who has a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The tests that run on this machine.
    Tests,
    /// The QEMU test machine.
    Qemu,
    /// Either.
    Both,
}

use Present::{Other, Programs};

const NEEDS: [Need; 26] = [
    Need { package: "mosquitto", present: Programs(&["mosquitto"]), by: By::Both },
    Need {
        package: "mosquitto-clients",
        present: Programs(&["mosquitto_pub", "mosquitto_sub"]),
        by: By::Both,
    },
    Need { package: "pkg-config", present: Programs(&["pkg-config"]), by: By::Tests },
    Need {
        package: "libmodbus-dev",
        present: Other(|| succeeds(command("pkg-config", &["--exists", "libmodbus"]))),
        by: By::Tests,
    },
    Need { package: "strace", present: Programs(&["strace"]), by: By::Tests },
    Need { package: "gcc", present: Programs(&["cc"]), by: By::Tests },
    Need { package: "shellcheck", present: Programs(&["shellcheck"]), by: By::Tests },
    Need {
        package: "python3-venv",
        present: Other(|| succeeds(command("python3", &["-c", "import venv, ensurepip"]))),
        by: By::Both,
    },
    Need { package: "nodejs", present: Programs(&["node"]), by: By::Tests },
    Need { package: "npm", present: Programs(&["npm"]), by: By::Tests },
    // A Debian with systemd, in a container and in QEMU, and cards on loop devices.
    Need { package: "mmdebstrap", present: Programs(&["mmdebstrap"]), by: By::Both },
    Need { package: "systemd-container", present: Programs(&["systemd-nspawn"]), by: By::Tests },
    Need { package: "mount", present: Programs(&["losetup"]), by: By::Tests },
    Need { package: "fdisk", present: Programs(&["sfdisk"]), by: By::Both },
    Need { package: "e2fsprogs", present: Programs(&["mkfs.ext4", "debugfs"]), by: By::Both },
    Need { package: "dosfstools", present: Programs(&["mkfs.vfat"]), by: By::Both },
    Need { package: "mtools", present: Programs(&["mcopy"]), by: By::Both },
    // Card images and updates as Buildroot's last steps make them.
    Need { package: "openssl", present: Programs(&["openssl"]), by: By::Both },
    Need { package: "rauc", present: Programs(&["rauc"]), by: By::Both },
    Need { package: "squashfs-tools", present: Programs(&["mksquashfs"]), by: By::Both },
    Need { package: "xz-utils", present: Programs(&["xz"]), by: By::Tests },
    Need { package: QEMU, present: Programs(&["qemu-system-aarch64"]), by: By::Qemu },
    Need { package: "u-boot-qemu", present: Other(|| Path::new(U_BOOT).is_file()), by: By::Qemu },
    Need { package: "u-boot-tools", present: Programs(&["mkimage"]), by: By::Qemu },
    Need { package: "kmod", present: Programs(&["depmod", "modprobe"]), by: By::Qemu },
    Need { package: "systemd", present: Programs(&["systemd-sysusers"]), by: By::Qemu },
];

/// The emulator of whole machines.
pub(crate) const QEMU: &str = "qemu-system-arm";

/// U-Boot as Debian builds it for QEMU.
pub(crate) const U_BOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";

/// The packages that are not there.
pub(crate) fn missing(by: By) -> Vec<&'static str> {
    let needed = NEEDS.iter().filter(|need| need.by == by || need.by == By::Both);
    needed.filter(|need| !need.present.check()).map(|need| need.package).collect()
}

impl Present {
    fn check(&self) -> bool {
        let beside =
            |program: &str| ["/sbin", "/usr/sbin"].iter().any(|dir| Path::new(dir).join(program).is_file());
        match self {
            Programs(programs) => programs.iter().all(|program| on_path(program) || beside(program)),
            Other(check) => check(),
        }
    }
}

/// Sets up all peers.
///
/// # Errors
/// Something is missing and cannot be installed here; the error is the line that installs it.
pub(crate) fn set_up() -> Result<()> {
    let missing = missing(By::Tests);
    if missing.is_empty() {
        println!("    system packages are there");
    } else {
        install(&missing)?;
        // An install that changes nothing must not pass as one.
        if let Some(package) = self::missing(By::Tests).first() {
            bail!("apt-get installed {package}, but it is still not found");
        }
    }
    python("pymodbus", &[PYMODBUS, PYSERIAL], "import pymodbus, serial; version = pymodbus.__version__")?;
    python(
        "paho",
        &[PAHO],
        "import paho.mqtt.client, importlib.metadata; version = importlib.metadata.version('paho-mqtt')",
    )?;
    mqtt_js()
}

/// Installs packages of the system.
///
/// # Errors
/// That takes root and apt-get; the error is the line to type.
pub(crate) fn install(missing: &[&str]) -> Result<()> {
    let line = format!("sudo apt-get install --yes {}", missing.join(" "));
    if !(is_root() && on_path("apt-get")) {
        bail!("this needs {}; install with:\n\n    {line}\n", missing.join(", "));
    }
    let apt = |args: &[&str]| {
        let mut apt = command("apt-get", args);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        run(apt)
    };
    apt(&["update", "--quiet"])?;
    let mut args = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    args.extend(missing);
    apt(&args)
}

/// Packages of PyPI in an environment of their own, where tests find them: `target/peers/NAME/bin/python`. `check` sets `version` to that of the
/// first one.
fn python(name: &str, packages: &[&str], check: &str) -> Result<()> {
    let dir = root().join("target/peers").join(name);
    let python = dir.join("bin/python");
    let python = python.to_str().context("the path of the workspace is not UTF-8")?;
    let first = packages.first().context("nothing to install")?;
    let version = first.split("==").nth(1).unwrap_or_default();
    let check = format!("{check}; assert version == {version:?}");
    if succeeds(command(python, &["-c", &check])) {
        println!("    {first} is there");
        return Ok(());
    }
    let target = dir.to_str().context("the path of the workspace is not UTF-8")?;
    run(command("python3", &["-m", "venv", "--clear", target]))?;
    let mut args = vec!["-m", "pip", "install", "--quiet"];
    args.extend(packages);
    run(command(python, &args))?;
    run(command(python, &["-c", &check]))
        .with_context(|| format!("{first} is installed and cannot be imported"))
}

/// The npm client, where tests find it: `target/peers/mqtt-js/node_modules/mqtt`.
fn mqtt_js() -> Result<()> {
    let dir = root().join("target/peers/mqtt-js");
    let here = dir.to_str().context("the path of the workspace is not UTF-8")?;
    let same = |file: &str| {
        let read = |path: PathBuf| std::fs::read(path).ok();
        read(root().join(MQTT_JS).join(file)).is_some_and(|wanted| read(dir.join(file)) == Some(wanted))
    };
    let check = || {
        let mut node = command("node", &["-e", "require('mqtt')"]);
        node.current_dir(&dir);
        dir.is_dir() && succeeds(node)
    };
    if ["package.json", "package-lock.json"].into_iter().all(same) && check() {
        println!("    mqtt of npm is there");
        return Ok(());
    }
    std::fs::create_dir_all(&dir)?;
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(root().join(MQTT_JS).join(file), dir.join(file))?;
    }
    run(command("npm", &["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", here]))?;
    if check() { Ok(()) } else { bail!("mqtt of npm is installed and cannot be loaded") }
}

/// Whether this user is root.
pub(crate) fn is_root() -> bool {
    let user = std::process::Command::new("id").arg("-u").output();
    user.is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// Whether a program would be found.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::{NEEDS, on_path};

    #[test]
    fn a_program_is_found_on_the_path_or_not() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-program-here"));
    }

    #[test]
    fn every_need_names_one_package() {
        assert!(NEEDS.iter().all(|need| !need.package.contains(' ')));
    }
}

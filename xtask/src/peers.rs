//! The real peers of the tests: set up where that is allowed, otherwise named in one line.

use std::path::PathBuf;

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

/// What the tests need from the system: how it is recognised, and its Debian package.
struct Need {
    package: &'static str,
    present: fn() -> bool,
}

const NEEDS: [Need; 21] = [
    Need { package: "mosquitto", present: mosquitto },
    Need { package: "mosquitto-clients", present: || on_path("mosquitto_pub") && on_path("mosquitto_sub") },
    Need { package: "pkg-config", present: || on_path("pkg-config") },
    Need {
        package: "libmodbus-dev",
        present: || succeeds(command("pkg-config", &["--exists", "libmodbus"])),
    },
    Need { package: "strace", present: || on_path("strace") },
    Need { package: "gcc", present: || on_path("cc") },
    Need { package: "shellcheck", present: || on_path("shellcheck") },
    Need {
        package: "python3-venv",
        present: || succeeds(command("python3", &["-c", "import venv, ensurepip"])),
    },
    Need { package: "nodejs", present: || on_path("node") },
    Need { package: "npm", present: || on_path("npm") },
    // A Debian with systemd in a container, and cards on loop devices.
    Need { package: "mmdebstrap", present: || on_path("mmdebstrap") },
    Need { package: "systemd-container", present: || on_path("systemd-nspawn") },
    Need { package: "mount", present: || on_path("losetup") },
    Need { package: "fdisk", present: || on_path("sfdisk") },
    Need { package: "e2fsprogs", present: || on_path("mkfs.ext4") },
    Need { package: "dosfstools", present: || on_path("mkfs.vfat") },
    Need { package: "mtools", present: || on_path("mcopy") },
    // Card images and updates as Buildroot's last steps make them.
    Need { package: "openssl", present: || on_path("openssl") },
    Need { package: "rauc", present: || on_path("rauc") },
    Need { package: "squashfs-tools", present: || on_path("mksquashfs") },
    Need { package: "xz-utils", present: || on_path("xz") },
];

/// Sets up all peers.
///
/// # Errors
/// Something is missing and cannot be installed here; the error is the line that installs it.
pub(crate) fn set_up() -> Result<()> {
    let missing: Vec<&str> = NEEDS.iter().filter(|need| !(need.present)()).map(|need| need.package).collect();
    if missing.is_empty() {
        println!("    system packages are there");
    } else {
        install(&missing)?;
        // An install that changes nothing must not pass as one.
        if let Some(need) = NEEDS.iter().find(|need| !(need.present)()) {
            bail!("apt-get installed {}, but it is still not found", need.package);
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

fn mosquitto() -> bool {
    on_path("mosquitto") || std::path::Path::new("/usr/sbin/mosquitto").exists()
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

//! The real peers of the tests: set up where that is allowed, otherwise named in one line.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::steps::{command, root, run, succeeds};

/// The pymodbus that the tests were written against: its API changes between minor versions.
const PYMODBUS: &str = "pymodbus==3.16.1";
/// Serial lines of pymodbus.
const PYSERIAL: &str = "pyserial==3.5";

/// What the tests need from the system: how it is recognised, and its Debian package.
struct Need {
    package: &'static str,
    present: fn() -> bool,
}

const NEEDS: [Need; 8] = [
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
    pymodbus()
}

fn install(missing: &[&str]) -> Result<()> {
    let line = format!("sudo apt-get install --yes {}", missing.join(" "));
    let root_user = std::process::Command::new("id").arg("-u").output();
    let is_root = root_user.is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    if !(is_root && on_path("apt-get")) {
        bail!("the tests need {}; install with:\n\n    {line}\n", missing.join(", "));
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

/// Where tests find pymodbus: `target/peers/pymodbus/bin/python`.
fn pymodbus_dir() -> PathBuf {
    root().join("target/peers/pymodbus")
}

fn pymodbus() -> Result<()> {
    let dir = pymodbus_dir();
    let python = dir.join("bin/python");
    let python = python.to_str().context("the path of the workspace is not UTF-8")?;
    let version = PYMODBUS.split("==").nth(1).unwrap_or_default();
    let check = format!("import pymodbus, serial; assert pymodbus.__version__ == {version:?}");
    if succeeds(command(python, &["-c", &check])) {
        println!("    {PYMODBUS} is there");
        return Ok(());
    }
    let target = dir.to_str().context("the path of the workspace is not UTF-8")?;
    run(command("python3", &["-m", "venv", "--clear", target]))?;
    run(command(python, &["-m", "pip", "install", "--quiet", PYMODBUS, PYSERIAL]))?;
    run(command(python, &["-c", &check])).context("pymodbus is installed and cannot be imported")
}

fn mosquitto() -> bool {
    on_path("mosquitto") || std::path::Path::new("/usr/sbin/mosquitto").exists()
}

fn on_path(program: &str) -> bool {
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

//! The real peers of the tests: set up where that is allowed, otherwise named in one line.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt::{self, Install};
use crate::needs::{By, missing};
use crate::steps::{command, root, run, succeeds};

/// The pymodbus that the tests were written against: its API changes between minor versions.
const PYMODBUS: &str = "pymodbus==3.16.1";
/// Serial lines of pymodbus.
const PYSERIAL: &str = "pyserial==3.5";
/// The Paho client of the broker's tests: MQTT 3.1, 3.1.1 and 5.0.
const PAHO: &str = "paho-mqtt==2.1.0";
/// Where the npm client of the broker's tests is named, with everything that it needs, by version and checksum.
const MQTT_JS: &str = "tests/peers/mqtt-js";

/// Programs of PyPI, in an environment of their own below `target/peers`, where tests find them.
struct OfPypi {
    /// The folder of the environment.
    name: &'static str,
    /// What is installed, the one that matters first.
    packages: &'static [&'static str],
    /// Imports all of it and sets `version` to that of the first one.
    check: &'static str,
}

/// A Modbus server, for TCP and for serial lines.
const PYMODBUS_SERVER: OfPypi = OfPypi {
    name: "pymodbus",
    packages: &[PYMODBUS, PYSERIAL],
    check: "import pymodbus, serial; version = pymodbus.__version__",
};

const PAHO_CLIENT: OfPypi = OfPypi {
    name: "paho",
    packages: &[PAHO],
    check: "import paho.mqtt.client, importlib.metadata; version = importlib.metadata.version('paho-mqtt')",
};

/// Sets up all peers.
///
/// # Errors
/// Something is missing and cannot be installed here; the error is the line that installs it.
pub(crate) fn set_up(install: Install) -> Result<()> {
    let lacking = missing(By::Tests);
    if lacking.is_empty() {
        println!("    system packages are there");
    } else {
        apt::install(&lacking, install)?;
        // An install that changes nothing must not pass as one.
        if let Some(package) = missing(By::Tests).first() {
            bail!("apt-get installed {package}, but it is still not found");
        }
    }
    PYMODBUS_SERVER.set_up(install)?;
    PAHO_CLIENT.set_up(install)?;
    mqtt_js(install)
}

/// What the system tests of the QEMU machine need of this; `None` when it is there.
pub(crate) fn missing_for_qemu() -> Option<&'static str> {
    (!PYMODBUS_SERVER.is_there()).then_some(PYMODBUS)
}

/// Sets up what the system tests of the QEMU machine need.
///
/// # Errors
/// It is missing and cannot be installed here.
pub(crate) fn set_up_for_qemu(install: Install) -> Result<()> {
    PYMODBUS_SERVER.set_up(install)
}

impl OfPypi {
    fn folder(&self) -> PathBuf {
        root().join("target/peers").join(self.name)
    }

    fn first(&self) -> &'static str {
        self.packages.first().copied().unwrap_or_default()
    }

    /// The environment's own Python, that imports all of it and finds the version that was asked for.
    fn look(&self) -> Command {
        let version = self.first().split("==").nth(1).unwrap_or_default();
        let check = format!("{}; assert version == {version:?}", self.check);
        command(&self.folder().join("bin/python").to_string_lossy(), &["-c", &check])
    }

    fn is_there(&self) -> bool {
        succeeds(self.look())
    }

    fn set_up(&self, install: Install) -> Result<()> {
        let first = self.first();
        if self.is_there() {
            println!("    {first} is there");
            return Ok(());
        }
        install.ask(&format!("{first} of PyPI"))?;
        let folder = self.folder();
        let folder = folder.to_str().context("the path of the workspace is not UTF-8")?;
        run(command("python3", &["-m", "venv", "--clear", folder]))?;
        let mut pip = command(&format!("{folder}/bin/python"), &["-m", "pip", "install", "--quiet"]);
        pip.args(self.packages);
        run(pip)?;
        run(self.look()).with_context(|| format!("{first} is installed and cannot be imported"))
    }
}

/// The npm client, where tests find it: `target/peers/mqtt-js/node_modules/mqtt`.
fn mqtt_js(install: Install) -> Result<()> {
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
    install.ask("mqtt of npm")?;
    std::fs::create_dir_all(&dir)?;
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(root().join(MQTT_JS).join(file), dir.join(file))?;
    }
    run(command("npm", &["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", here]))?;
    if check() { Ok(()) } else { bail!("mqtt of npm is installed and cannot be loaded") }
}

//! The real peers of the tests: set up where that is allowed, otherwise named in one line.

use std::path::PathBuf;

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
    python(
        "pymodbus",
        &[PYMODBUS, PYSERIAL],
        "import pymodbus, serial; version = pymodbus.__version__",
        install,
    )?;
    python(
        "paho",
        &[PAHO],
        "import paho.mqtt.client, importlib.metadata; version = importlib.metadata.version('paho-mqtt')",
        install,
    )?;
    mqtt_js(install)
}

/// Packages of PyPI in an environment of their own, where tests find them: `target/peers/NAME/bin/python`. `check` sets `version` to that of the
/// first one.
fn python(name: &str, packages: &[&str], check: &str, install: Install) -> Result<()> {
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
    install.ask(&format!("{first} of PyPI"))?;
    let target = dir.to_str().context("the path of the workspace is not UTF-8")?;
    run(command("python3", &["-m", "venv", "--clear", target]))?;
    let mut args = vec!["-m", "pip", "install", "--quiet"];
    args.extend(packages);
    run(command(python, &args))?;
    run(command(python, &["-c", &check]))
        .with_context(|| format!("{first} is installed and cannot be imported"))
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

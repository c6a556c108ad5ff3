//! The built program under the user mode emulation of QEMU, in place of the native one in the end-to-end tests.
//!
//! The emulator needs the foreign C library: without `-L` it ends with 255 and one line on standard error, because the program's loader
//! (/lib/ld-linux-aarch64.so.1) is not on this machine, and whoever looks at standard output alone sees nothing at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::Target;
use crate::apt::{self, Install};
use crate::needs::on_path;
use crate::steps::{self, PROGRAM, Steps, cargo, command};

/// The tests that start the program and nothing that would have to be emulated, too: its commands, the way of a reading from a Modbus device to
/// mosquitto, and kill -9 with SQLite's locks and syncs.
const TESTS: [&str; 3] = ["cli", "first_path", "e2e_kill"];

/// The test that types at a terminal. Emulators before [`TERMINALS_SINCE`] do not know the call that asks for its settings (`TCGETS2`).
const AT_A_TERMINAL: &str = "passwd_asks_twice_on_a_terminal_and_shows_nothing_of_it";

/// The step that is left out with an older one.
pub(crate) const OLD_EMULATOR: &str = "passwd at a terminal, emulated";

/// 7.2 of Debian 12 does not know it, 10.0 of its backports does; none between was tried.
const TERMINALS_SINCE: u32 = 10;

/// The emulator and the foreign C library.
///
/// # Errors
/// They are missing and cannot be installed here; the error is the line that installs them.
pub(super) fn tools(target: Target, install: Install) -> Result<()> {
    let there = || on_path(target.emulator()) && sysroot(target).is_dir();
    if !there() {
        apt::install(&packages(target).each_ref().map(String::as_str), install)?;
    }
    if there() {
        Ok(())
    } else {
        bail!("apt-get installed qemu-user-static, but {} is still not found", target.emulator())
    }
}

/// The emulator and the foreign C library in Debian.
pub(super) fn packages(target: Target) -> [String; 3] {
    let architecture = target.architecture();
    [
        "qemu-user-static".to_owned(),
        format!("libc6-{architecture}-cross"),
        format!("libgcc-s1-{architecture}-cross"),
    ]
}

fn sysroot(target: Target) -> PathBuf {
    Path::new("/usr").join(target.gnu())
}

/// Runs it: by hand first, so that a program that does not even start says so in one line, then the tests.
///
/// # Errors
/// A tool is missing, or the program does not do what it does on its own machine.
pub(super) fn run(target: Target, program: &Path, install: Install) -> Result<()> {
    tools(target, install)?;
    let emulated = wrapper(target, program)?;
    let emulated = emulated.to_str().context("the path of the workspace is not UTF-8")?;
    let version = said(emulated, &["--version"])?;
    if version.trim() != concat!("gateway-daemon ", env!("CARGO_PKG_VERSION")) {
        bail!("--version says {version:?}");
    }
    let demo = said(emulated, &["demo", "--seconds", "3"])?;
    if !demo.contains(", 0 missing after ") {
        bail!("the demo does not say that every reading arrived: {demo}");
    }
    let mut test = cargo(&["test", "--quiet", "--locked", "--package", "tidegate-tests"]);
    for name in TESTS {
        test.args(["--test", name]);
    }
    if !at_terminals(target) {
        test.args(["--", "--skip", AT_A_TERMINAL]);
    }
    test.env(PROGRAM, emulated);
    steps::run(test)
}

/// Says which test this emulator cannot run.
pub(super) fn left_out(steps: &mut Steps, target: Target) {
    if !at_terminals(target) {
        steps.skip(
            OLD_EMULATOR,
            &format!("the emulator is older than {TERMINALS_SINCE}.0 and asks no terminal for its settings"),
        );
    }
}

/// Whether the emulator can run a program at a terminal.
fn at_terminals(target: Target) -> bool {
    let version = command(target.emulator(), &["--version"]).output();
    version.is_ok_and(|output| knows_terminals(&String::from_utf8_lossy(&output.stdout)))
}

/// From what an emulator says of itself: `qemu-aarch64 version 7.2.22 (Debian ...)`.
fn knows_terminals(version: &str) -> bool {
    let number = version.split_once("version ").and_then(|(_, rest)| rest.split('.').next());
    number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|major| major >= TERMINALS_SINCE)
}

/// What it says on a pipe.
fn said(program: &str, args: &[&str]) -> Result<String> {
    let output = command(program, args).output().with_context(|| format!("cannot start {program}"))?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = args.join(" ");
    if !output.status.success() {
        bail!("`{line}` ended with {} and said {text:?}", output.status);
    }
    println!("    {line}: {}", text.lines().last().unwrap_or_default());
    Ok(text)
}

/// A script that starts the emulated program under its own name: tests start one file, and what it is called is part of what it says.
fn wrapper(target: Target, program: &Path) -> Result<PathBuf> {
    let path = program.with_file_name("gateway-daemon.emulated");
    let line = format!(
        "#!/bin/sh\nexec {} -L {} -0 gateway-daemon {} \"$@\"\n",
        target.emulator(),
        sysroot(target).display(),
        program.display()
    );
    fs::write(&path, line)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::knows_terminals;

    #[test]
    fn an_emulator_is_known_by_its_version() {
        assert!(knows_terminals("qemu-aarch64 version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n"));
        assert!(!knows_terminals("qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\n"));
        assert!(!knows_terminals("no version"));
    }
}

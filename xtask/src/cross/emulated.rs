//! The built program under the user mode emulation of QEMU, in place of the native one in the end-to-end tests.
//!
//! The emulator needs the foreign C library: without `-L` it ends with 255 and one line on standard error, because the program's loader
//! (/lib/ld-linux-aarch64.so.1) is not on this machine, and whoever looks at standard output alone sees nothing at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::Target;
use crate::peers::{install, on_path};
use crate::steps::{self, cargo, command};

/// The tests that start the program and nothing that would have to be emulated, too: its commands, the way of a reading from a Modbus device to
/// mosquitto, and kill -9 with SQLite's locks and syncs.
const TESTS: [&str; 3] = ["cli", "first_path", "e2e_kill"];

/// The emulator and the foreign C library.
///
/// # Errors
/// They are missing and cannot be installed here; the error is the line that installs them.
pub(super) fn tools(target: Target) -> Result<()> {
    let library = format!("libc6-{}-cross", target.architecture());
    let gcc = format!("libgcc-s1-{}-cross", target.architecture());
    let there = || on_path(target.emulator()) && sysroot(target).is_dir();
    if !there() {
        install(&["qemu-user-static", &library, &gcc])?;
    }
    if there() {
        Ok(())
    } else {
        bail!("apt-get installed qemu-user-static, but {} is still not found", target.emulator())
    }
}

fn sysroot(target: Target) -> PathBuf {
    Path::new("/usr").join(target.gnu())
}

/// Runs it: by hand first, so that a program that does not even start says so in one line, then the tests.
///
/// # Errors
/// A tool is missing, or the program does not do what it does on its own machine.
pub(super) fn run(target: Target, program: &Path) -> Result<()> {
    tools(target)?;
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
    test.env("TIDEGATE_PROGRAM", emulated);
    steps::run(test)
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

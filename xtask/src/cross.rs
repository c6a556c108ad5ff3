//! `cargo xtask cross`: the daemon for the boards that it is shipped on, and a look at what came out.

mod debian;
mod emulated;
mod product;
mod target;
mod way;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt::Install;
use crate::args::Cross;
use crate::steps::{self, FIRMWARE, Steps, cargo, command, root};
pub(crate) use emulated::OLD_EMULATOR;
use product::Product;
pub(crate) use target::Target;
use way::Way;
pub(crate) use way::WayChoice;

/// Most bytes of the stripped program: the firmware holds two copies of it, and an update carries one over a mobile network.
const SIZE_MAX: u64 = 8 << 20;

/// Builds, and says what was built.
///
/// # Errors
/// A tool is missing and cannot be installed here, the build failed, or the program asks for a newer C library than the boards have.
pub(crate) fn run(args: &Cross) -> Result<()> {
    let target = args.target;
    let mut steps = Steps::default();
    let mut product = None;
    steps.run(&format!("build for {}", target.triple()), || {
        product = Some(build(target, args.debug, args.with, Install::Allowed)?);
        Ok(())
    });
    if let Some(product) = product {
        println!("{product}");
        steps.run("what it asks of a board", || product.check((!args.debug).then_some(SIZE_MAX)));
        if args.emulated {
            steps.run("emulated", || emulated::run(target, &product.path, Install::Allowed));
        }
    }
    steps.finish()
}

/// The steps of `cargo xtask test`: build, look, and run a part of the tests with an emulated program in place of the native one.
pub(crate) fn test(steps: &mut Steps, install: Install) {
    const BUILD: &str = "the program for aarch64";
    const STEP: &str = "the program for aarch64, emulated";
    let target = Target::Aarch64;
    let ready = ready(target, install);
    if let (Err(why), Install::Never) = (&ready, install) {
        steps.skip(BUILD, &format!("{why:#}"));
        steps.skip(STEP, "it is not built");
        return;
    }
    let mut product = None;
    steps.run(BUILD, || {
        ready?;
        let built = build(target, false, None, install)?;
        println!("{built}");
        built.check(Some(SIZE_MAX))?;
        product = Some(built);
        Ok(())
    });
    if let Some(product) = product {
        steps.run(STEP, || emulated::run(target, &product.path, install));
        emulated::left_out(steps, target);
    }
}

/// The tools to build and to emulate.
fn ready(target: Target, install: Install) -> Result<()> {
    let way = way::choose(target, None, install)?;
    if way == Way::Debian && !debian::is_there(target) {
        install.ask("Debian's compiler for the boards")?;
    }
    emulated::tools(target, install)
}

/// The packages of a Debian machine that builds for a processor and emulates it.
#[cfg(test)]
pub(crate) fn packages(target: Target) -> Vec<String> {
    [way::packages(target).to_vec(), emulated::packages(target).to_vec()].concat()
}

/// The program for the QEMU test machine.
///
/// # Errors
/// It cannot be built here.
pub(crate) fn daemon_for_qemu() -> Result<PathBuf> {
    Ok(build(Target::Aarch64, false, None, Install::Allowed)?.path)
}

fn build(target: Target, debug: bool, with: Option<WayChoice>, install: Install) -> Result<Product> {
    let way = way::choose(target, with, install)?;
    println!("    with {way}");
    let (profile, folder, shipped) =
        if debug { ("dev", "debug", "debug") } else { (FIRMWARE, FIRMWARE, "release") };
    let built = PathBuf::from("target/cross/build").join(target.triple()).join(folder);
    let mut build = match &way {
        Way::Docker => command("cross", &["build"]),
        Way::Rustup | Way::Debian => cargo(&["build"]),
    };
    if let Way::Debian = way {
        debian::set_up(target, install)?.name_to(&mut build);
    }
    build.args(["--quiet", "--locked", "--package", "gateway-daemon", "--target", target.triple()]);
    build.args(["--profile", profile]);
    environment(&mut build, target, &way)?;
    steps::run(build)?;
    let shipped = root().join("target/cross").join(target.triple()).join(shipped);
    product::ship(target, &root().join(built).join("gateway-daemon"), &shipped)
}

/// What every way of building has in common. `LIBSQLITE3_FLAGS` comes from .cargo/config.toml, which cargo reads wherever it runs.
fn environment(build: &mut Command, target: Target, way: &Way) -> Result<()> {
    build.env("CARGO_TARGET_DIR", "target/cross/build");
    if !matches!(way, Way::Docker) {
        let gcc = target.tool("gcc");
        build.env(format!("CARGO_TARGET_{}_LINKER", target.variable().to_uppercase()), &gcc);
        build.env(format!("CC_{}", target.variable()), &gcc);
        build.env(format!("AR_{}", target.variable()), target.tool("ar"));
    }
    let flags = short_paths(way)?.join(" ");
    build.env(format!("CARGO_TARGET_{}_RUSTFLAGS", target.variable().to_uppercase()), flags);
    Ok(())
}

/// Each place that can panic names its source file: without the folders of whoever built it, the program is the same for all and smaller.
fn short_paths(way: &Way) -> Result<Vec<String>> {
    let registry = match way {
        // Where `cross` mounts them in its container.
        Way::Docker => PathBuf::from("/cargo/registry/src"),
        Way::Rustup | Way::Debian => {
            cargo_home().context("neither CARGO_HOME nor HOME is set")?.join("registry/src")
        }
    };
    let mut flags = Vec::new();
    let folders = std::fs::read_dir(&registry).into_iter().flatten().filter_map(Result::ok);
    for folder in folders.map(|entry| entry.path()).chain([registry]) {
        flags.push(format!("--remap-path-prefix={}=", folder_with_slash(&folder)));
    }
    // rustc takes the last that fits: the inner folder goes last.
    flags.reverse();
    Ok(flags)
}

fn folder_with_slash(folder: &Path) -> String {
    format!("{}/", folder.display())
}

fn cargo_home() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

//! `cargo xtask cross`: the daemon for the boards that it is shipped on, and a look at what came out.

mod debian;
mod emulated;
mod product;
mod target;
mod way;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::args::Cross;
use crate::steps::{self, FIRMWARE, Steps, cargo, command, root};
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
        product = Some(build(target, args.debug, args.with)?);
        Ok(())
    });
    if let Some(product) = product {
        println!("{product}");
        steps.run("what it asks of a board", || product.check((!args.debug).then_some(SIZE_MAX)));
        if args.emulated {
            steps.run("emulated", || emulated::run(target, &product.path));
        }
    }
    steps.finish()
}

/// The steps of `cargo xtask test`: build, look, and run a part of the tests with an emulated program in place of the native one.
pub(crate) fn test(steps: &mut Steps, install: bool) {
    const STEP: &str = "the program for aarch64, emulated";
    let target = Target::Aarch64;
    let ready = way::choose(target, None).and_then(|_| emulated::tools(target));
    if let (Err(why), false) = (&ready, install) {
        steps.skip(STEP, &format!("{why:#}"));
        return;
    }
    let mut product = None;
    steps.run("the program for aarch64", || {
        ready?;
        let built = build(target, false, None)?;
        println!("{built}");
        built.check(Some(SIZE_MAX))?;
        product = Some(built);
        Ok(())
    });
    if let Some(product) = product {
        steps.run(STEP, || emulated::run(target, &product.path));
    }
}

/// The program for the QEMU test machine.
///
/// # Errors
/// It cannot be built here.
pub(crate) fn daemon_for_qemu() -> Result<PathBuf> {
    Ok(build(Target::Aarch64, false, None)?.path)
}

fn build(target: Target, debug: bool, with: Option<WayChoice>) -> Result<Product> {
    let way = way::choose(target, with)?;
    println!("    with {way}");
    let (profile, folder, shipped) =
        if debug { ("dev", "debug", "debug") } else { (FIRMWARE, FIRMWARE, "release") };
    let built = PathBuf::from("target/cross/build").join(target.triple()).join(folder);
    let mut build = match &way {
        Way::Docker => command("cross", &["build"]),
        Way::Rustup | Way::Debian => cargo(&["build"]),
    };
    if let Way::Debian = way {
        debian::set_up(target)?.name_to(&mut build);
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

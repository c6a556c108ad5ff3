//! `cargo xtask image`: the card image by Buildroot, the checks of its configuration, and its figures.

mod board;
mod check;
mod kconfig;
mod notices;
mod report;
mod sbom;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use crate::apt::Install;
use crate::args::Image;
use crate::qemu;
use crate::steps::{Steps, command, root, run as run_command};
pub(crate) use board::Board;

/// The release that the configurations are made for and were tried with.
const BUILDROOT: &str = "2026.05.1";

/// The step that needs Buildroot.
pub(crate) const CONFIGURATIONS: &str = "image: configurations in Buildroot";

/// The licence texts of the crates: post-build.sh lays them into the image.
const NOTICES: &str = "crates.txt";

/// The program that `cargo xtask cross` leaves; the image takes it unless another is named.
const PREBUILT: &str = "target/cross/aarch64-unknown-linux-gnu/release/gateway-daemon";

/// Builds the image, checks what came out, and prints its figures.
///
/// # Errors
/// Buildroot is not there, the build failed, an option that was asked for is missing, or the image is too large.
pub(crate) fn run(args: &Image) -> Result<()> {
    let board = args.board;
    let mut steps = Steps::default();
    if args.check {
        check::all(&mut steps, &buildroot()?, Install::Allowed);
        return steps.finish();
    }
    if !args.report {
        let buildroot = buildroot()?;
        build(&mut steps, &buildroot, args)?;
    }
    steps.run(&format!("figures of {board}"), || report::print(board, &output(board)));
    if board == Board::Qemu {
        qemu::report(&mut steps, &output(board).join("images"));
    }
    steps.finish()
}

/// The checks of `cargo xtask test` that need Buildroot and no network.
pub(crate) fn test(steps: &mut Steps, install: Install) {
    match buildroot() {
        Ok(buildroot) => check::all(steps, &buildroot, install),
        Err(why) if std::env::var_os("BUILDROOT_DIR").is_some_and(|dir| !dir.is_empty()) => {
            steps.run(CONFIGURATIONS, || Err(why))
        }
        Err(_) => steps.skip(
            CONFIGURATIONS,
            "BUILDROOT_DIR is not set; `cargo xtask image` says where to get Buildroot",
        ),
    }
}

fn build(steps: &mut Steps, buildroot: &Path, args: &Image) -> Result<()> {
    let board = args.board;
    let mut asked = board.defconfig()?;
    asked.push_str(&format!("BR2_JLEVEL={}\n", args.jobs));
    if let Some(daemon) = daemon(args)? {
        asked.push_str("BR2_PACKAGE_TIDEGATE_PREBUILT=y\n");
        asked.push_str(&format!("BR2_PACKAGE_TIDEGATE_PREBUILT_BINARY=\"{}\"\n", daemon.display()));
    }
    let out = output(board);
    steps.run(&format!("licences of the crates of {board}"), || notices::write(&out.join(NOTICES)));
    steps.run(&format!("configuration of {board}"), || configure(buildroot, &asked, &out));
    if args.from_sources {
        let mut source = make(buildroot, &out);
        source.arg("source");
        steps.run(&format!("sources of {board}"), || run_command(source));
    }
    steps.run(&format!("image of {board}"), || run_command(make(buildroot, &out)));
    steps.run(&format!("kernel options of {board}"), || check::kernel(buildroot, board, &out));
    steps.run(&format!("licences and parts of {board}"), || report::parts(buildroot, &out));
    Ok(())
}

/// Loads a configuration and sees that Buildroot took all of it.
fn configure(buildroot: &Path, asked: &str, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let file = out.join("asked.config");
    std::fs::write(&file, asked).with_context(|| format!("cannot write {}", file.display()))?;
    let mut make = make(buildroot, out);
    make.arg(format!("BR2_DEFCONFIG={}", file.display())).args(["--silent", "defconfig"]);
    run_command(make)?;
    check::lost("Buildroot", asked, &out.join(".config"))
}

/// A make of Buildroot for our tree, with its output in `out`.
fn make(buildroot: &Path, out: &Path) -> Command {
    let mut make = command("make", &["--no-print-directory"]);
    make.current_dir(buildroot);
    make.arg(format!("O={}", out.display()));
    // All files of the root have this time, and a clock that was never set shows it: that of these sources, where Buildroot would take its own.
    if std::env::var_os("SOURCE_DATE_EPOCH").is_none() {
        make.env("SOURCE_DATE_EPOCH", epoch().to_string());
    }
    make.env("TIDEGATE_NOTICES", out.join(NOTICES));
    make.arg(format!("BR2_EXTERNAL={}", root().join("buildroot").display()));
    make
}

/// When the sources are from, in seconds since 1970: their commit, or now.
fn epoch() -> u64 {
    let told = command("git", &["log", "-1", "--format=%ct"]).stderr(Stdio::null()).output();
    let told = told.ok().and_then(|told| String::from_utf8(told.stdout).ok()?.trim().parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    told.unwrap_or_else(now)
}

fn output(board: Board) -> PathBuf {
    root().join("target/image").join(board.to_string())
}

/// The program to install; none means that Buildroot builds it.
fn daemon(args: &Image) -> Result<Option<PathBuf>> {
    if args.from_sources {
        return Ok(None);
    }
    let path = args.daemon.clone().unwrap_or_else(|| root().join(PREBUILT));
    match path.canonicalize() {
        Ok(path) => Ok(Some(path)),
        Err(error) => bail!(
            "{}: {error}; build it with `cargo xtask cross`, name another by --daemon, or let Buildroot build it: --from-sources",
            path.display()
        ),
    }
}

/// Where Buildroot lies.
fn buildroot() -> Result<PathBuf> {
    let Some(dir) = std::env::var_os("BUILDROOT_DIR").filter(|dir| !dir.is_empty()) else {
        bail!(
            "BUILDROOT_DIR is not set: it names a checkout of Buildroot {BUILDROOT} or a later one of the same series\n\n    \
             git clone --branch {BUILDROOT} https://gitlab.com/buildroot.org/buildroot.git\n    \
             export BUILDROOT_DIR=$PWD/buildroot\n\n\
             The first build fetches about 1 GB of sources and takes an hour or two."
        )
    };
    let dir = PathBuf::from(dir);
    if !dir.join("support/scripts/mkmakefile").exists() {
        bail!("BUILDROOT_DIR is {}, where no Buildroot is", dir.display());
    }
    dir.canonicalize().with_context(|| format!("cannot read {}", dir.display()))
}

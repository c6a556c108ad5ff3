//! The version before: what this one writes, that one delivers after a roll-back, and the other way round after the update.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::steps::{cargo, command, root, run};

/// The last commit of the version before. Moved by whoever begins the next one.
const COMMIT: &str = "bbb9c2fb55356332d6859958b3ee4a3ad40b73b0";
/// The variable that names its program to the test.
const PROGRAM: &str = "TIDEGATE_BEFORE";

/// Builds the program of another commit, and runs the test of a roll-back with it and the present one.
///
/// # Errors
/// The history does not have the commit, it does not build, or what one of the two has written the other does not deliver.
pub(crate) fn roll_back(commit: Option<&str>) -> Result<()> {
    let program = program(commit.unwrap_or(COMMIT))?;
    let mut test = cargo(&["test", "--quiet", "--workspace", "--locked", "--test", "e2e_rollback"]);
    test.env(PROGRAM, program);
    run(test)
}

/// The program of a commit, kept from one run to the next. It is built in a folder of its own: cargo tells the crates of a workspace apart by their place in it
/// and by their times, and would take those of the present one for the same.
fn program(commit: &str) -> Result<PathBuf> {
    let folder = root().join("target/before").join(commit);
    let program = folder.join("gateway-daemon");
    if program.is_file() {
        return Ok(program);
    }
    let sources = folder.join("sources");
    std::fs::create_dir_all(&sources).with_context(|| format!("cannot make {}", sources.display()))?;
    let mut archive = command("git", &["archive", "--format", "tar", commit]);
    let mut archive = archive.stdout(Stdio::piped()).spawn().context("cannot start git")?;
    let mut unpack = command("tar", &["-x", "-C"]);
    unpack.arg(&sources).stdin(archive.stdout.take().context("git writes to a pipe")?);
    let unpacked = run(unpack);
    // Without the commit git writes nothing, and tar complains of that.
    if !archive.wait()?.success() {
        bail!("git does not have commit {commit}: the whole history is needed, not a shallow copy of it");
    }
    unpacked?;
    let target = folder.join("target");
    let mut build =
        cargo(&["build", "--quiet", "--locked", "--package", "gateway-daemon", "--bin", "gateway-daemon"]);
    build.arg("--manifest-path").arg(sources.join("Cargo.toml")).arg("--target-dir").arg(&target);
    // Nobody looks into it: without, it is built in half the time.
    build.env("CARGO_PROFILE_DEV_DEBUG", "none");
    run(build)?;
    std::fs::copy(target.join("debug/gateway-daemon"), &program)
        .with_context(|| format!("cannot keep {}", program.display()))?;
    for folder in [sources, target] {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(program)
}

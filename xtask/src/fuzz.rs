//! The fuzz targets, with cargo-fuzz on nightly.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::args::Fuzz;
use crate::steps::{Steps, command, root, succeeds};

/// The targets, by the files they are in.
fn names() -> Result<Vec<String>> {
    let dir = root().join("tests/fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "rs") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Runs one target or all of them.
///
/// # Errors
/// A tool is missing (with the line that installs it), the target is not known, or a target crashed.
pub(crate) fn run(args: &Fuzz) -> Result<()> {
    let all = names()?;
    let chosen: Vec<String> = match &args.target {
        None => all,
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => bail!("no fuzz target is called {name}; there are: {}", all.join(", ")),
    };
    tools()?;
    let mut steps = Steps::default();
    for name in chosen {
        steps.run(&format!("fuzz {name}, {} s", args.seconds), || target(&name, args.seconds));
    }
    steps.finish()
}

fn tools() -> Result<()> {
    if !succeeds(command("cargo", &["+nightly", "--version"])) {
        bail!("cargo-fuzz needs a nightly toolchain:\n\n    rustup toolchain install nightly\n");
    }
    if !succeeds(command("cargo", &["+nightly", "fuzz", "--version"])) {
        bail!("cargo-fuzz is missing:\n\n    cargo install cargo-fuzz --locked\n");
    }
    Ok(())
}

/// What the fuzzer finds goes to target/, so that the committed corpus stays small and chosen.
fn target(name: &str, seconds: u32) -> Result<()> {
    let found = root().join("target/fuzz-corpus").join(name);
    fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    let committed = root().join("tests/fuzz/corpus").join(name);
    let mut fuzz = command("cargo", &["+nightly", "fuzz", "run", "--fuzz-dir", "tests/fuzz", name]);
    // `cargo xtask` pins the toolchain in the environment; cargo-fuzz needs nightly all the way down.
    fuzz.env("RUSTUP_TOOLCHAIN", "nightly");
    fuzz.arg(found).arg(committed).arg("--").arg(format!("-max_total_time={seconds}"));
    fuzz.args(["-timeout=10", "-rss_limit_mb=512", "-print_final_stats=1"]);
    crate::steps::run(fuzz)
}

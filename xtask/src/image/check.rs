//! Checks of the Buildroot tree that need Buildroot itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Board, configure, kconfig, output};
use crate::apt::Install;
use crate::steps::{Steps, command, root, run, succeeds};

const FRAGMENTS: &str = "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES";

/// All that needs no network and no build.
pub(super) fn all(steps: &mut Steps, buildroot: &Path, install: Install) {
    for board in Board::ALL {
        steps.run(&format!("image: configuration of {board} in Buildroot"), || {
            configure(
                buildroot,
                &board.defconfig()?,
                &root().join("target/image-check").join(board.to_string()),
            )
        });
    }
    match check_package_python(install) {
        Ok(python) => steps.run("image: check-package", || check_package(buildroot, &python)),
        Err(why) => steps.skip("image: check-package", &format!("{why:#}")),
    }
    for board in Board::ALL {
        if linux(&output(board)).is_ok() {
            steps.run(&format!("image: kernel options of {board}"), || {
                kernel(buildroot, board, &output(board))
            });
        }
    }
}

/// Whether everything that `wanted` asks for is in the file of a built configuration.
///
/// # Errors
/// The file cannot be read, or options are missing; all of them are named.
pub(super) fn lost(whose: &str, wanted: &str, built: &Path) -> Result<()> {
    let built_text = fs::read_to_string(built).with_context(|| format!("cannot read {}", built.display()))?;
    let lost = kconfig::lost(wanted, &built_text);
    if lost.is_empty() {
        return Ok(());
    }
    bail!(
        "{} options are not as asked for in the configuration of {whose} ({}):\n    {}",
        lost.len(),
        built.display(),
        lost.join("\n    ")
    )
}

/// Whether the kernel was built with every option of the board's fragments.
///
/// # Errors
/// An option is missing, or no kernel was built.
pub(super) fn kernel(buildroot: &Path, board: Board, out: &Path) -> Result<()> {
    let mut wanted = String::new();
    for fragment in fragments(buildroot, &board.defconfig()?) {
        let text = fs::read_to_string(&fragment);
        wanted.push_str(&text.with_context(|| format!("cannot read {}", fragment.display()))?);
        wanted.push('\n');
    }
    println!("    {} options asked for", kconfig::asked(&wanted).len());
    lost("the kernel", &wanted, &linux(out)?.join(".config"))
}

/// The fragments that a configuration names: ours, and those of Buildroot.
fn fragments(buildroot: &Path, defconfig: &str) -> Vec<PathBuf> {
    let line = defconfig.lines().find_map(|line| line.strip_prefix(FRAGMENTS)?.strip_prefix('='));
    let files = line.unwrap_or_default().trim_matches('"').split(' ').filter(|file| !file.is_empty());
    files
        .map(|file| match file.strip_prefix("$(BR2_EXTERNAL_TIDEGATE_PATH)/") {
            Some(ours) => root().join("buildroot").join(ours),
            None => buildroot.join(file),
        })
        .collect()
}

/// The folder of the built kernel.
fn linux(out: &Path) -> Result<PathBuf> {
    let dir = out.join("build");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("linux-") && !name.starts_with("linux-headers") && path.join(".config").exists() {
            return Ok(path);
        }
    }
    bail!("no kernel was built in {}", dir.display())
}

/// A Python that can run Buildroot's check-package, which needs packages of PyPI.
fn check_package_python(install: Install) -> Result<String> {
    const PACKAGES: [&str; 2] = ["python-magic==0.4.27", "flake8==7.3.0"];
    let dir = root().join("target/peers/check-package");
    let python = dir.join("bin/python").to_string_lossy().into_owned();
    let ready = || succeeds(command(&python, &["-c", "import magic, flake8"]));
    if ready() {
        return Ok(python);
    }
    install.ask(PACKAGES[0])?;
    let dir = dir.to_string_lossy().into_owned();
    run(command("python3", &["-m", "venv", "--clear", &dir]))?;
    run(command(&python, &["-m", "pip", "install", "--quiet", PACKAGES[0], PACKAGES[1]]))?;
    if ready() {
        return Ok(python);
    }
    bail!("python-magic cannot be imported; it needs libmagic: sudo apt-get install --yes libmagic1")
}

/// The style of package files, as Buildroot's own.
fn check_package(buildroot: &Path, python: &str) -> Result<()> {
    let script = buildroot.join("utils/check-package");
    let mut check = command(python, &[]);
    check.arg(script).arg("--br2-external");
    let tree = root().join("buildroot");
    for file in ["Config.in", "external.mk", "package/tidegate/Config.in", "package/tidegate/tidegate.mk"] {
        check.arg(tree.join(file));
    }
    for board in Board::ALL {
        check.arg(tree.join("configs").join(board.file()));
    }
    run(check)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{fragments, lost};
    use crate::steps::root;

    #[test]
    fn fragments_are_found_in_either_tree() {
        let text = "A=y\nBR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES=\"board/x.fragment $(BR2_EXTERNAL_TIDEGATE_PATH)/board/y.config\"\n";
        let expected =
            [Path::new("/br/board/x.fragment").to_owned(), root().join("buildroot/board/y.config")];
        assert_eq!(fragments(Path::new("/br"), text), expected);
    }

    #[test]
    fn a_lost_option_fails_and_is_named() {
        let dir = root().join("target/xtask-tests");
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("built.config");
        std::fs::write(&file, "CONFIG_A=y\n").unwrap();
        assert!(lost("a test", "CONFIG_A=y\n", &file).is_ok());
        let complaint = lost("a test", "CONFIG_A=y\nCONFIG_B=y\n", &file).unwrap_err().to_string();
        assert!(complaint.contains("CONFIG_B: asked for =y, built not set"), "{complaint}");
    }
}

//! The image, made anew when something that goes into it has changed.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cross;
use crate::steps::{command, root, run};

/// Boots from an NVMe disk without an initramfs, and has gpio-sim, which 6.12 of trixie itself has not.
const KERNEL: &str = "linux-image-cloud-arm64/backports";

/// Whose card is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Board {
    /// QEMU's own machine, with U-Boot.
    Qemu,
    /// Raspberry Pi 3 and 4, with the firmware of the player.
    Rpi64,
    /// Raspberry Pi 5.
    Rpi5,
}

impl Board {
    /// Its word for the scripts, and how the names of its folders begin.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Qemu => ("qemu", "image-"),
            Self::Rpi64 => ("rpi64", "pi-"),
            Self::Rpi5 => ("rpi5", "pi5-"),
        }
    }
}

/// The folder with card image, boot files, root and update bundle.
///
/// # Errors
/// It cannot be made.
pub(super) fn make(board: Board, daemon: Option<&Path>, fresh: bool) -> Result<PathBuf> {
    let folder = root().join("target/qemu");
    fs::create_dir_all(&folder)?;
    let scripts = root().join("tests/qemu");
    let inputs = [scripts.join("packages"), scripts.join("mkbase.sh")];
    let base = made(&folder, "base-", &inputs, fresh, command("tests/qemu/mkbase.sh", &[KERNEL]), &[])?;
    let daemon = match daemon {
        Some(daemon) => daemon.to_owned(),
        None => cross::daemon_for_qemu()?,
    };
    ensure!(daemon.is_file(), "{} is no file", daemon.display());
    let inputs = [
        base.clone(),
        scripts,
        root().join("buildroot/board/tidegate"),
        root().join("systemd"),
        daemon.clone(),
    ];
    let (machine, prefix) = board.words();
    let mut mkroot = command("tests/qemu/mkroot.sh", &[]);
    mkroot.arg(&base).arg(&daemon);
    made(&folder, prefix, &inputs, fresh, mkroot, &[machine])
}

/// Buildroot's image with what tests need on its root.
///
/// # Errors
/// There is none, or it cannot be opened.
pub(super) fn open(images: &Path, fresh: bool) -> Result<PathBuf> {
    let erofs = images.join("rootfs.erofs");
    ensure!(
        erofs.is_file(),
        "{} holds no image of Buildroot: `cargo xtask image --board qemu` builds it",
        images.display()
    );
    let folder = root().join("target/qemu");
    fs::create_dir_all(&folder)?;
    let inputs = [
        erofs,
        images.join("boot"),
        images.join("drop"),
        root().join("tests/qemu"),
        root().join("buildroot/board/tidegate"),
    ];
    let mut script = command("tests/qemu/open.sh", &[]);
    script.arg(images);
    made(&folder, "opened-", &inputs, fresh, script, &[])
}

/// The folder named after what goes into it; `script`, with that folder as its next word and `more` behind it, makes it when it is not there.
fn made(
    folder: &Path,
    prefix: &str,
    inputs: &[PathBuf],
    fresh: bool,
    mut script: Command,
    more: &[&str],
) -> Result<PathBuf> {
    let out = folder.join(format!("{prefix}{:016x}", hash(inputs)?));
    if fresh || !out.exists() {
        remove_others(folder, prefix)?;
        script.arg(&out).args(more);
        run(script)?;
    }
    Ok(out)
}

/// Images and bases are hundreds of megabytes: only the last of each stays.
fn remove_others(folder: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// A number for the names and contents of all files below `paths`; of what a base holds its name says everything.
fn hash(paths: &[PathBuf]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("base-")) {
            path.hash(&mut hasher);
        } else {
            hash_into(path, &mut hasher)?;
        }
    }
    Ok(hasher.finish())
}

fn hash_into(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    path.hash(hasher);
    if path.is_symlink() {
        fs::read_link(path)?.hash(hasher);
        return Ok(());
    }
    if path.is_file() {
        fs::read(path).with_context(|| path.display().to_string())?.hash(hasher);
        return Ok(());
    }
    let mut inside: Vec<PathBuf> = fs::read_dir(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    inside.sort();
    inside.iter().try_for_each(|path| hash_into(path, hasher))
}

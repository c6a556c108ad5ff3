//! Updates that do not work, made by the project's own script.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tidegate_tests::machine::Image;

use crate::update::{broken, bundle, sh};

/// One whose gateway ends at once.
pub(super) fn gateway_fails(image: &Image, out: &Path) -> Result<()> {
    let root = out.with_extension("root");
    broken(image, &root)?;
    bundle(&root, image, out, &[])
}

/// One without anything on its root: the kernel finds no program to start, and panics.
pub(super) fn kernel_panics(image: &Image, out: &Path) -> Result<()> {
    let root = out.with_extension("root");
    std::fs::File::create(&root)?.set_len(8 << 20)?;
    sh(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096"]).arg(&root))?;
    bundle(&root, image, out, &[])
}

/// One whose kernel does nothing, for ever.
pub(super) fn kernel_hangs(image: &Image, out: &Path) -> Result<()> {
    let boot = out.with_extension("boot");
    sh(Command::new("cp").arg("-r").arg(image.boot()).arg(&boot))?;
    let kernel = boot.join(if image.machine() == "rpi5" { "kernel_2712.img" } else { "kernel8.img" });
    ensure!(kernel.is_file(), "the kernel has another name");
    std::fs::write(kernel, hanging_kernel())?;
    let root = out.with_extension("root");
    std::fs::write(&root, vec![0; 1 << 20])?;
    let mut mkbundle = Command::new(format!("{}/rauc/mkbundle.sh", crate::update::BOARD));
    mkbundle.args(["--machine", image.machine(), "--boot"]).arg(boot).arg("--root").arg(root);
    sh(mkbundle.arg("--out").arg(out))
}

/// The header of a 64-bit kernel (Documentation/arch/arm64/booting.rst) whose first instruction jumps to itself.
fn hanging_kernel() -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[0..4].copy_from_slice(&0x1400_0000_u32.to_le_bytes());
    image[16..24].copy_from_slice(&4096_u64.to_le_bytes());
    // Little endian, pages of 4 KiB, anywhere in memory.
    image[24..32].copy_from_slice(&0b1010_u64.to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

//! The shipped program: stripped, with what was stripped beside it, its size and what it asks of a board.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::Target;
use crate::steps::{command, run};

/// The newest C library that the program may ask for: that of Debian 12, the oldest system that Raspberry Pi OS is still built on.
const GLIBC_MAX: Version = Version(2, 36);

/// A version of the C library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// A built program.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) path: PathBuf,
    bytes: u64,
    glibc: Version,
    libraries: Vec<String>,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes as f64 / f64::from(1 << 20);
        let Version(major, minor) = self.glibc;
        writeln!(f, "    {}", self.path.display())?;
        writeln!(f, "    {} bytes ({mib:.2} MiB), glibc {major}.{minor} or newer", self.bytes)?;
        write!(f, "    libraries: {}", self.libraries.join(", "))
    }
}

impl Product {
    /// Whether the boards can run it, and whether it is small enough if that is asked.
    ///
    /// # Errors
    /// Not so.
    pub(super) fn check(&self, size_max: Option<u64>) -> Result<()> {
        let (Version(major, minor), Version(most_major, most_minor)) = (self.glibc, GLIBC_MAX);
        if self.glibc > GLIBC_MAX {
            bail!(
                "it asks for glibc {major}.{minor}, the boards have {most_major}.{most_minor}: build on an older system"
            );
        }
        match size_max {
            Some(most) if self.bytes > most => bail!("{} bytes, at most {most}", self.bytes),
            _ => Ok(()),
        }
    }
}

/// Puts the built program into its place. A crash on a board is read with the `.debug` file, which carries names and line numbers.
pub(super) fn ship(target: Target, built: &Path, dir: &Path) -> Result<Product> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let (path, debug) = (dir.join("gateway-daemon"), dir.join("gateway-daemon.debug"));
    let objcopy = |options: &[&str], from: &Path, to: &Path| {
        let mut objcopy = command(&target.tool("objcopy"), options);
        objcopy.arg(from).arg(to).current_dir(dir);
        run(objcopy)
    };
    objcopy(&["--only-keep-debug", "--compress-debug-sections"], built, &debug)?;
    let fresh = dir.join("gateway-daemon.new");
    objcopy(&["--strip-all", "--add-gnu-debuglink=gateway-daemon.debug"], built, &fresh)?;
    // Whoever runs the old one keeps it.
    fs::rename(&fresh, &path)?;
    let dump = dump(target, &path)?;
    let glibc = dump.lines().filter_map(glibc).max().context("it asks for no glibc at all")?;
    let libraries = dump.lines().filter_map(|line| line.trim().strip_prefix("NEEDED"));
    let libraries = libraries.map(|name| name.trim().to_owned()).collect();
    Ok(Product { bytes: fs::metadata(&path)?.len(), path, glibc, libraries })
}

fn dump(target: Target, path: &Path) -> Result<String> {
    let mut objdump = command(&target.tool("objdump"), &["--private-headers"]);
    let output = objdump.arg(path).output().context("cannot start objdump")?;
    if !output.status.success() {
        bail!("objdump cannot read {}", path.display());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The version in a line of the version references, as in `0x069691b4 0x00 07 GLIBC_2.34`.
fn glibc(line: &str) -> Option<Version> {
    let (_, version) = line.rsplit_once(" GLIBC_")?;
    let mut parts = version.trim().split('.').map(|part| part.parse().ok());
    Some(Version(parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::{GLIBC_MAX, Version, glibc};

    #[test]
    fn versions_of_the_c_library_are_read_from_the_dump_and_compared_as_numbers() {
        assert_eq!(glibc("    0x069691b4 0x00 07 GLIBC_2.34"), Some(Version(2, 34)));
        assert_eq!(glibc("    0x06969197 0x00 06 GLIBC_2.17.1"), Some(Version(2, 17)));
        assert_eq!(glibc("    0x0b792650 0x00 05 GCC_3.0"), None);
        assert_eq!(glibc("  NEEDED               libc.so.6"), None);
        assert!(Version(2, 4) < GLIBC_MAX && Version(2, 37) > GLIBC_MAX && Version(3, 0) > GLIBC_MAX);
    }
}

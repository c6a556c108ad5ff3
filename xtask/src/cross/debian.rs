//! Debian's compiler with the standard library of another processor, unpacked below target/cross/debian.
//!
//! Nothing is installed: rustc-web conflicts with rustup and with rustc, and a foreign architecture would stay in the machine's package
//! database. apt gets a database of its own instead, which knows the machine's packages but those of Rust, so it fetches what rustc needs
//! and the machine lacks (four packages on bookworm). No part of this needs root.
//! The cargo that runs us drives that rustc; a second cargo would bring nothing but its libraries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Target;
use crate::apt::Install;
use crate::steps::{command, root, run, succeeds};

/// The packages of Rust itself, which a machine's database must not count as there.
const RUST: [&str; 4] = ["rustc", "cargo", "libstd-rust", "rust-"];

/// An unpacked compiler.
#[derive(Debug)]
pub(super) struct Compiler {
    usr: PathBuf,
}

impl Compiler {
    fn rustc(&self) -> PathBuf {
        self.usr.join("bin/rustc")
    }

    fn libraries(&self) -> PathBuf {
        self.usr.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH))
    }

    /// Makes a cargo use it.
    pub(super) fn name_to(&self, cargo: &mut Command) {
        cargo.env("RUSTC", self.rustc()).env("LD_LIBRARY_PATH", self.libraries());
    }

    fn knows(&self, target: Target) -> bool {
        let mut rustc = Command::new(self.rustc());
        rustc.arg("--version").env("LD_LIBRARY_PATH", self.libraries());
        let library = self.usr.join("lib/rustlib").join(target.triple()).join("lib");
        library.is_dir() && succeeds(rustc)
    }
}

/// The compiler; fetched and unpacked where it is not there.
///
/// # Errors
/// The packages cannot be fetched, are too old, or do not start.
pub(super) fn set_up(target: Target, install: Install) -> Result<Compiler> {
    let dir = folder();
    let compiler = found(target);
    if compiler.knows(target) {
        return Ok(compiler);
    }
    install.ask("Debian's compiler for the boards")?;
    let apt = Apt::new(&dir.join("apt"), target)?;
    apt.get(&["update", "--quiet"])?;
    let foreign = format!("libstd-rust-web-dev:{}", target.architecture());
    apt.get(&["install", "--quiet", "--yes", "--no-install-recommends", "--download-only", "rustc-web"])?;
    apt.get(&["download", "--quiet", &foreign])?;
    // What is half unpacked must not be taken for a compiler: the folder gets its name when all is in it.
    let fresh = dir.join("root.new");
    remove(&fresh)?;
    for package in apt.packages()? {
        let mut unpack = command("dpkg-deb", &["--extract"]);
        unpack.arg(package).arg(&fresh);
        run(unpack)?;
    }
    let place = dir.join("root").join(target.architecture());
    remove(&place)?;
    fs::create_dir_all(dir.join("root"))?;
    fs::rename(&fresh, &place)?;
    if compiler.knows(target) {
        return Ok(compiler);
    }
    bail!("Debian's packages are unpacked in {}, but its rustc does not start", place.display())
}

/// Whether it needs no fetching.
pub(super) fn is_there(target: Target) -> bool {
    found(target).knows(target)
}

fn found(target: Target) -> Compiler {
    Compiler { usr: folder().join("root").join(target.architecture()).join("usr") }
}

fn folder() -> PathBuf {
    root().join("target/cross/debian")
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// An apt with a database of its own.
struct Apt {
    archives: PathBuf,
    config: PathBuf,
}

impl Apt {
    fn new(dir: &Path, target: Target) -> Result<Self> {
        let archives = dir.join("cache/archives");
        // Packages of an earlier try may be of another version.
        remove(&archives)?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let own = command("dpkg", &["--print-architecture"]).output().context("cannot start dpkg")?;
        let own = String::from_utf8_lossy(&own.stdout).trim().to_owned();
        let status =
            fs::read_to_string("/var/lib/dpkg/status").context("cannot read /var/lib/dpkg/status")?;
        fs::write(dir.join("status"), without_rust(&status))?;
        let shown = dir.display();
        let config = dir.join("apt.conf");
        // It runs as whoever calls it: the folder may be closed to apt's own user.
        fs::write(
            &config,
            format!(
                "Dir::State::lists \"{shown}/lists\";\nDir::State::status \"{shown}/status\";\nDir::Cache \"{shown}/cache\";\n\
                 APT::Architectures {{\"{own}\";\"{}\";}};\nAPT::Sandbox::User \"root\";\n",
                target.architecture()
            ),
        )?;
        Ok(Self { archives, config })
    }

    fn get(&self, args: &[&str]) -> Result<()> {
        let mut apt = command("apt-get", args);
        apt.env("APT_CONFIG", &self.config)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .current_dir(&self.archives);
        run(apt)
    }

    fn packages(&self) -> Result<Vec<PathBuf>> {
        let mut packages = Vec::new();
        for entry in fs::read_dir(&self.archives)? {
            let path = entry?.path();
            if path.extension().is_some_and(|ext| ext == "deb") {
                packages.push(path);
            }
        }
        packages.sort_unstable();
        Ok(packages)
    }
}

/// dpkg's database without the packages of Rust: paragraphs, divided by empty lines.
fn without_rust(status: &str) -> String {
    let is_rust = |paragraph: &&str| {
        let name = paragraph.lines().find_map(|line| line.strip_prefix("Package: "));
        name.is_some_and(|name| RUST.iter().any(|start| name.starts_with(start)))
    };
    let kept = status.split("\n\n").filter(|paragraph| !is_rust(paragraph) && !paragraph.trim().is_empty());
    kept.map(|paragraph| format!("{}\n\n", paragraph.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::without_rust;

    #[test]
    fn the_packages_of_rust_do_not_count_as_installed() {
        let status = "Package: gcc\nStatus: ok\n\nPackage: rustc-web\nVersion: 1\n\nPackage: libc6\nDescription: C\n rust\n";
        assert_eq!(
            without_rust(status),
            "Package: gcc\nStatus: ok\n\nPackage: libc6\nDescription: C\n rust\n\n"
        );
        assert_eq!(without_rust(""), "");
    }
}

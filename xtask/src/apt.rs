//! Packages of the system by apt-get, kindly: what is asked for and what that depends on, and nothing that is installed is upgraded.
//!
//! Some packages have to be of one version with others: systemd-container with systemd. Of such the version beside the installed one is taken, by preferences
//! that count for this one command. Where the archive has it no more, nothing is done and the packages that would be upgraded are named, except on a machine of
//! CI, which is nobody's.
//!
//! Another package manager at work is waited for, up to [`LOCK_S_MAX`].

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::needs::{is_root, on_path};
use crate::steps::{command, in_ci, root, run};

/// How long another package manager is waited for: the unattended upgrades of a machine that was switched on after months.
const LOCK_S_MAX: u64 = 900;
/// How often a list that is locked is asked for.
const LOCK_EVERY: Duration = Duration::from_secs(5);
/// Rounds of finding what must keep its version: each may show a package that depends on those of the round before.
const ROUNDS_MAX: usize = 6;

/// Whether something may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    /// It may; that is what the command is for, or `--install` says so.
    Allowed,
    /// Nothing is installed, fetched or written outside of what the build writes.
    Never,
}

impl Install {
    /// From a flag of the command line.
    pub(crate) fn from_flag(install: bool) -> Self {
        if install { Self::Allowed } else { Self::Never }
    }

    /// Fails with what to do where nothing may be installed.
    ///
    /// # Errors
    /// Nothing may.
    pub(crate) fn ask(self, what: &str) -> Result<()> {
        match self {
            Self::Allowed => Ok(()),
            Self::Never => bail!("{what} is missing; `cargo xtask test --install` sets it up"),
        }
    }
}

/// Installs packages of the system.
///
/// # Errors
/// That takes root and apt-get, or it would upgrade something; the error is the line to type.
pub(crate) fn install(missing: &[&str], install: Install) -> Result<()> {
    let line = format!("sudo apt-get install --yes --no-install-recommends {}", missing.join(" "));
    if install == Install::Never {
        bail!("this needs {}: run it with --install, or install with:\n\n    {line}\n", missing.join(", "));
    }
    if !(is_root() && on_path("apt-get")) {
        bail!("this needs {}, which only root can install:\n\n    {line}\n", missing.join(", "));
    }
    let apt = Apt::default();
    apt.update()?;
    apt.install(missing, &line)
}

/// apt-get with options that count for these calls only.
#[derive(Debug, Default)]
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// One that also knows what this line of a list of sources names; nothing of it stays in the machine's configuration.
    ///
    /// # Errors
    /// The lists of sources cannot be copied.
    pub(crate) fn with_source(line: &str) -> Result<Self> {
        let parts = folder()?.join("sources.list.d");
        let _ = fs::remove_dir_all(&parts);
        fs::create_dir_all(&parts)?;
        for entry in fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten() {
            fs::copy(entry.path(), parts.join(entry.file_name()))?;
        }
        fs::write(parts.join("tidegate-extra.list"), line)?;
        let parts = format!("Dir::Etc::sourceparts={}", parts.display());
        // The lists of the other sources stay.
        Ok(Self { options: vec![parts, "APT::Get::List-Cleanup=0".to_owned()] })
    }

    /// Brings the lists of packages up to date.
    ///
    /// # Errors
    /// They cannot be fetched.
    pub(crate) fn update(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(LOCK_S_MAX);
        let mut told = false;
        loop {
            let output = self.get(&["update", "--quiet"]).output().context("cannot start apt-get")?;
            if output.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            if !is_locked(&said) || Instant::now() > until {
                bail!("`apt-get update` ended with {}:\n{}", output.status, said.trim());
            }
            if !told {
                println!("    another package manager is at work: waiting for it, at most {LOCK_S_MAX} s");
                told = true;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "no other thread is here, and a lock of apt tells nobody when it is free"
            )]
            std::thread::sleep(LOCK_EVERY);
        }
    }

    /// Installs packages without upgrading any; `line` is what a person would type instead.
    ///
    /// # Errors
    /// They cannot be installed, or only with an upgrade of others.
    pub(crate) fn install(&self, packages: &[&str], line: &str) -> Result<()> {
        let words = [&["install", "--quiet", "--yes", "--no-install-recommends"], packages].concat();
        match self.keeping(packages)? {
            Kept::All(pins) => {
                let mut get = self.get(&words);
                if !pins.is_empty() {
                    let names: Vec<&str> = pins.iter().map(|(name, _)| name.as_str()).collect();
                    println!("    these keep their versions: {}", names.join(", "));
                    get.args(["-o", &preferences(&pins)?]);
                }
                run(get)
            }
            Kept::Not(upgraded) if in_ci() => {
                println!("    the archive has no version without these upgrades: {}", upgraded.join(", "));
                run(self.get(&words))
            }
            Kept::Not(upgraded) => bail!(
                "installing {} would upgrade {}, which is for you to decide:\n\n    {line}\n",
                packages.join(", "),
                upgraded.join(", ")
            ),
        }
    }

    /// What has to be pinned so that nothing is upgraded.
    fn keeping(&self, packages: &[&str]) -> Result<Kept> {
        let mut pins: Vec<(String, String)> = Vec::new();
        let mut upgraded = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let mut get = self.get(&["install", "--simulate", "--no-install-recommends"]);
            get.args(packages);
            if !pins.is_empty() {
                get.args(["-o", &preferences(&pins)?]);
            }
            let output = get.output().context("cannot start apt-get")?;
            if !output.status.success() {
                if pins.is_empty() {
                    let said = String::from_utf8_lossy(&output.stderr);
                    bail!("apt-get cannot install {}:\n{}", packages.join(", "), said.trim());
                }
                return Ok(Kept::Not(upgraded));
            }
            let found = upgrades(&String::from_utf8_lossy(&output.stdout));
            if found.is_empty() {
                return Ok(Kept::All(pins));
            }
            for (name, version) in found {
                upgraded.push(name.clone());
                pins.push((source(&name), version));
            }
            pins.sort();
            pins.dedup();
        }
        Ok(Kept::Not(upgraded))
    }

    fn get(&self, words: &[&str]) -> Command {
        let mut apt = command("apt-get", words);
        for option in &self.options {
            apt.args(["-o", option]);
        }
        apt.args(["-o", &format!("DPkg::Lock::Timeout={LOCK_S_MAX}")]);
        apt.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        apt
    }
}

/// What can be kept at its version.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    /// Everything, with these versions of these sources.
    All(Vec<(String, String)>),
    /// These packages cannot.
    Not(Vec<String>),
}

/// What `apt-get --simulate` would upgrade: name and installed version. A line of an upgrade is `Inst NAME [INSTALLED] (CANDIDATE ...)`; the same version once
/// more, from another archive, is none.
fn upgrades(simulation: &str) -> Vec<(String, String)> {
    let upgrade = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" [")?;
        let (installed, candidate) = rest.split_once(']')?;
        let candidate = candidate.trim_start().strip_prefix('(')?.split_whitespace().next()?;
        (candidate != installed).then(|| (name.to_owned(), installed.to_owned()))
    };
    simulation.lines().filter_map(upgrade).collect()
}

/// Whether apt-get ended because another one holds a lock.
fn is_locked(said: &str) -> bool {
    said.contains("Could not get lock") || said.contains("Unable to lock")
}

/// The source that a package is built from: packages of one source are of one version.
fn source(package: &str) -> String {
    let query = command("dpkg-query", &["--show", "--showformat=${source:Package}", package]).output();
    let name = query.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    name.ok().filter(|name| !name.is_empty()).unwrap_or_else(|| package.to_owned())
}

/// The option that makes apt keep these versions of everything built from these sources, beside what the machine prefers.
fn preferences(pins: &[(String, String)]) -> Result<String> {
    let file = folder()?.join("preferences");
    let mut text = fs::read_to_string("/etc/apt/preferences").unwrap_or_default();
    text.push_str(&pinned(pins));
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(format!("Dir::Etc::preferences={}", file.display()))
}

/// Pins as apt_preferences(5) writes them; more than 1000 also takes a version that is older than the candidate.
fn pinned(pins: &[(String, String)]) -> String {
    let pin = |(source, version): &(String, String)| {
        format!("\nPackage: src:{source}\nPin: version {version}\nPin-Priority: 1001\n")
    };
    pins.iter().map(pin).collect()
}

fn folder() -> Result<PathBuf> {
    let folder = root().join("target/apt");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::{Install, install, is_locked, pinned, upgrades};

    #[test]
    fn what_would_be_upgraded_is_told_from_what_is_only_installed() {
        let simulation = "NOTE: This is only a simulation!\nReading package lists...\n\
            Inst libsystemd-shared [252.38-1~deb12u1] (252.39-1~deb12u2 Debian:12.13/oldstable [amd64]) []\n\
            Inst systemd [252.38-1~deb12u1] (252.39-1~deb12u2 Debian:12.13/oldstable [amd64])\n\
            Inst systemd-container (252.39-1~deb12u2 Debian:12.13/oldstable [amd64])\n\
            Conf systemd (252.39-1~deb12u2 Debian:12.13/oldstable [amd64])\nRemv old [1.0]\n";
        let expected = [("libsystemd-shared", "252.38-1~deb12u1"), ("systemd", "252.38-1~deb12u1")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(upgrades(simulation), expected);
        assert_eq!(upgrades("Inst mosquitto (2.0.11 Debian:12 [amd64])\n"), []);
        assert_eq!(upgrades("Inst libudev1 [252.38-1] (252.38-1 Debian-Security:12 [amd64])\n"), []);
    }

    #[test]
    fn a_pin_counts_for_all_packages_of_a_source() {
        let pins = [("systemd".to_owned(), "252.38-1~deb12u1".to_owned())];
        assert_eq!(
            pinned(&pins),
            "\nPackage: src:systemd\nPin: version 252.38-1~deb12u1\nPin-Priority: 1001\n"
        );
    }

    #[test]
    fn a_lock_is_told_from_other_failures() {
        assert!(is_locked(
            "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)\n\
             E: Unable to lock directory /var/lib/apt/lists/"
        ));
        assert!(!is_locked("E: Unable to locate package nonsense"));
    }

    #[test]
    fn without_install_nothing_is_installed_and_the_line_is_said() {
        let said = install(&["no-such-package"], Install::Never).unwrap_err().to_string();
        assert!(said.contains("--install"), "{said}");
        assert!(said.contains("apt-get install --yes --no-install-recommends no-such-package"), "{said}");
    }
}

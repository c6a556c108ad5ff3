//! With what the daemon is built: the first of three ways that this machine has.

use std::fmt;

use anyhow::{Result, bail};

use super::Target;
use crate::apt::{self, Install};
use crate::needs::on_path;
use crate::steps::{command, succeeds};

/// A way to build, as it is asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WayChoice {
    /// The running toolchain of rustup, where it has the target, and Debian's cross gcc
    Rustup,
    /// The program `cross` and a Docker engine
    Docker,
    /// Debian's compiler and foreign standard library, unpacked below target/
    Debian,
}

pub(super) use self::WayChoice as Way;

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rustup => "the toolchain of rustup and the distribution's cross gcc",
            Self::Docker => "cross, in a container",
            Self::Debian => "the compiler of Debian, unpacked below target/cross, and its cross gcc",
        })
    }
}

/// What a machine has.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    rustup_target: bool,
    docker: bool,
    apt: bool,
}

/// The way to go, with its tools at hand.
///
/// # Errors
/// There is none, or a tool is missing and cannot be installed here; the error is what to type.
pub(super) fn choose(target: Target, asked: Option<Way>, install: Install) -> Result<Way> {
    let Some(way) = asked.or_else(|| first(found(target))) else {
        bail!(
            "nothing here builds for {0}; one of these will do:\n\n    rustup target add {0}\n    \
             cargo install cross --locked    (and a Docker engine)\n    a Debian machine: its packages are used\n",
            target.triple()
        );
    };
    // The binutils look at the product whichever way it was built.
    let binutils = || on_path(&target.tool("objcopy"));
    let gcc = || on_path(&target.tool("gcc")) && binutils();
    let [compiler, library, tools] = packages(target);
    let (there, package): (&dyn Fn() -> bool, String) = match way {
        Way::Docker => (&binutils, tools),
        Way::Rustup | Way::Debian => (&gcc, compiler),
    };
    if !there() {
        apt::install(&[&package, &library], install)?;
        if !there() {
            bail!("apt-get installed {package}, but its programs are still not found");
        }
    }
    Ok(way)
}

/// The C compiler, the C library with its headers, which the compiler only recommends, and the binutils alone.
pub(super) fn packages(target: Target) -> [String; 3] {
    [
        format!("gcc-{}", target.gnu()),
        format!("libc6-dev-{}-cross", target.architecture()),
        format!("binutils-{}", target.gnu()),
    ]
}

/// The quickest that there is: nothing to fetch, then everything in one container, then packages.
fn first(found: Found) -> Option<Way> {
    match found {
        Found { rustup_target: true, .. } => Some(Way::Rustup),
        Found { docker: true, .. } => Some(Way::Docker),
        Found { apt: true, .. } => Some(Way::Debian),
        _ => None,
    }
}

fn found(target: Target) -> Found {
    let targets = command("rustup", &["target", "list", "--installed"]).output();
    let targets =
        targets.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    Found {
        rustup_target: targets.lines().any(|line| line.trim() == target.triple()),
        // The client alone answers `docker --version`; an engine is asked for its own version.
        docker: on_path("cross")
            && succeeds(command("docker", &["version", "--format", "{{.Server.Version}}"])),
        apt: on_path("apt-get") && on_path("dpkg-deb"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Way, first};

    #[test]
    fn what_needs_no_download_comes_first_and_nothing_is_nothing() {
        let all = Found { rustup_target: true, docker: true, apt: true };
        assert_eq!(first(all), Some(Way::Rustup));
        assert_eq!(first(Found { rustup_target: false, ..all }), Some(Way::Docker));
        assert_eq!(first(Found { apt: true, ..Found::default() }), Some(Way::Debian));
        assert_eq!(first(Found::default()), None);
    }
}

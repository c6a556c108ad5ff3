//! A Debian root with systemd, and in it the `systemd/` tree of this repository: made once and kept below `target/nspawn`.
//!
//! `base-KEY` is Debian alone, `root-KEY` has units, scripts and settings installed by `systemd/install.sh`; each key is a hash of what it was
//! made from, so a change makes another one and the older one goes. Nobody writes into them: containers and cards see them read-only.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

/// The Debian whose systemd is at least the image's.
const SUITE: &str = "trixie";

/// What the units need, and a broker for the gateway to talk to.
const PACKAGES: [&str; 11] = [
    "dbus",
    "e2fsprogs",
    "fdisk",
    "iproute2",
    "mosquitto",
    "mosquitto-clients",
    "mount",
    "systemd-resolved",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
];

/// Not needed to run anything.
const LEFT_OUT: [&str; 3] = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*"];

/// Tools of this machine, with the package of each.
const TOOLS: [(&str, &str); 3] =
    [("mmdebstrap", "mmdebstrap"), ("systemd-nspawn", "systemd-container"), ("losetup", "mount")];

/// Why containers cannot run here, if so. Only root may make and enter them.
#[must_use]
pub fn unable() -> Option<String> {
    let root = rustix::process::geteuid().is_root();
    (!root).then(|| "only root can boot a container; run the tests as root".to_owned())
}

/// The root with everything installed.
///
/// # Errors
/// A tool is missing (the error is the line that installs it), or Debian's packages cannot be had.
pub fn root() -> Result<&'static Path> {
    static ROOT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = ROOT.get_or_init(|| make().map_err(|fault| format!("{fault:#}")));
    made.as_deref().map_err(|fault| anyhow::anyhow!("{fault}"))
}

fn make() -> Result<PathBuf> {
    for (tool, package) in TOOLS {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&paths).any(|folder| folder.join(tool).is_file());
        ensure!(found, "{tool} is missing; install it: apt-get install -y {package}");
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let shelf = workspace.join("target/nspawn");
    std::fs::create_dir_all(&shelf)?;
    // Another test program may be at it; the lock goes with the file.
    let lock = std::fs::File::create(shelf.join("lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;

    let base = kept(&shelf, "base", key(&(SUITE, PACKAGES, LEFT_OUT)), debian)?;
    let tree = workspace.join("systemd");
    let mut sources = String::new();
    read_all(&tree, &mut sources)?;
    kept(&shelf, "root", key(&(&base, sources)), |to| installed(&base, &tree, to))
}

fn key(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Everything that `install.sh` reads, names and contents.
fn read_all(folder: &Path, into: &mut String) -> Result<()> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_all(&path, into)?;
        } else {
            into.push_str(&format!("{}\n{}", path.display(), std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// The folder of this key, made if it is not there; those of other keys are removed.
fn kept(shelf: &Path, name: &str, key: u64, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let wanted = shelf.join(format!("{name}-{key:016x}"));
    if wanted.is_dir() {
        return Ok(wanted);
    }
    for entry in std::fs::read_dir(shelf)? {
        let path = entry?.path();
        if path.is_dir()
            && path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&format!("{name}-")))
        {
            std::fs::remove_dir_all(path)?;
        }
    }
    let part = shelf.join(format!("{name}-part"));
    make(&part)?;
    // mmdebstrap and cp leave a root that belongs to root; a half-made one keeps its other name.
    std::fs::rename(&part, &wanted)?;
    Ok(wanted)
}

fn debian(to: &Path) -> Result<()> {
    let mirror = mirror();
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=minbase", "--format=directory"]);
    make.arg(format!("--include={}", PACKAGES.join(",")));
    for pattern in LEFT_OUT {
        make.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    make.arg(SUITE).arg(to).arg(&mirror);
    run(&mut make).with_context(|| format!("no Debian {SUITE} from {mirror}"))
}

/// Where this machine itself gets its Debian from.
fn mirror() -> String {
    const USUAL: &str = "http://deb.debian.org/debian";
    let folder = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let files = folder.map(|entry| entry.path()).chain([PathBuf::from("/etc/apt/sources.list")]);
    let texts: Vec<String> = files.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let mut words = texts.iter().flat_map(|text| text.split_whitespace());
    let ours = |word: &&str| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian");
    words.find(ours).unwrap_or(USUAL).to_owned()
}

fn installed(base: &Path, tree: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(base).arg(to))?;
    run(Command::new(tree.join("install.sh")).arg(to))?;
    // Where the daemon under test is mounted, and what stands in for RAUC.
    for program in ["gateway-daemon", "rauc"] {
        let path = to.join("usr/bin").join(program);
        std::fs::write(&path, "#!/bin/sh\nexit 1\n")?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

//! The memory limit around the gateway: the best that this machine has.
//!
//! Whatever it is, the sampler of [`crate::watch`] also looks every few milliseconds and kills the gateway that is over the limit, so that a
//! machine where none can be had still shows who would have been killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How the limit is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// A scope of systemd.
    Scope,
    /// A cgroup of version 2 in this folder.
    Cgroup(PathBuf),
    /// `RLIMIT_DATA`: private memory that can be written, which is a little more than what is resident.
    Data,
    /// Only the sampler.
    Sampler,
}

impl Way {
    /// The first that works here.
    pub(crate) fn find() -> Self {
        let quiet = |command: &mut Command| {
            let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let scope = ["--scope", "--quiet", "-p", "MemoryMax=64M", "true"];
        if Path::new("/run/systemd/system").is_dir() && quiet(Command::new("systemd-run").args(scope)) {
            return Self::Scope;
        }
        if let Some(folder) = own_cgroup() {
            return Self::Cgroup(folder);
        }
        // dd takes its block from the heap: 64 MiB must not fit into 30 MB.
        let block = "ulimit -d 30000 || exit 0; exec dd if=/dev/zero of=/dev/null bs=64M count=1";
        if quiet(Command::new("sh").args(["-c", block])) { Self::Sampler } else { Self::Data }
    }

    /// What the report calls it.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Scope => "systemd-run --scope with MemoryMax".into(),
            Self::Cgroup(folder) => format!("cgroup v2 {}", folder.display()),
            Self::Data => {
                "RLIMIT_DATA (no systemd and no writable cgroup v2 with a memory controller here)".into()
            }
            Self::Sampler => "none can be had here; the sampler kills a gateway that is over it".into(),
        }
    }

    /// `program` within the limit; its process is the one that is started, whatever stands in between.
    pub(crate) fn command(&self, program: &Path, limit_mib: u64, files: Option<u64>) -> Command {
        let mut script = String::new();
        if let Some(files) = files {
            script.push_str(&format!("ulimit -n {files}; "));
        }
        let mut command = match self {
            Self::Scope => {
                let mut scope = Command::new("systemd-run");
                scope.args(["--scope", "--quiet", "-p", &format!("MemoryMax={limit_mib}M")]);
                scope.args(["-p", "MemorySwapMax=0", "sh"]);
                scope
            }
            Self::Cgroup(folder) => {
                // A limit that cannot be written is noticed by the sampler only.
                let _ = fs::write(folder.join("memory.max"), format!("{limit_mib}M"));
                let _ = fs::write(folder.join("memory.swap.max"), "0");
                script.push_str(&format!("echo $$ > {}/cgroup.procs; ", folder.display()));
                Command::new("sh")
            }
            Self::Data => {
                script.push_str(&format!("ulimit -d {}; ", limit_mib << 10));
                Command::new("sh")
            }
            Self::Sampler => Command::new("sh"),
        };
        command.arg("-c").arg(script + "exec \"$0\" \"$@\"").arg(program);
        command
    }
}

/// A fresh cgroup below our own, if the kernel lets us make one that limits memory.
fn own_cgroup() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    let folder = Path::new("/sys/fs/cgroup").join(path).join("tidegate-attack");
    if fs::create_dir(&folder).is_err() && !folder.is_dir() {
        return None;
    }
    // A folder is a cgroup only where the kernel has put its files.
    let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    if controllers.split_whitespace().any(|name| name == "memory") {
        return Some(folder);
    }
    // Nothing is in it: it goes as it came.
    let _ = fs::remove_dir(&folder);
    None
}

//! A machine as the image makes it, at full speed: systemd as process 1 of a container, the root read-only, the real units, and the daemon of
//! this build.
//!
//! `/etc/tidegate`, `/var` and `/boot/firmware` are folders of the test, as if `tidegate-storage.service` had mounted them. The network is its
//! own and has nothing but the loopback. Everything ends with the value.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::Command;

use crate::wait::{DEADLINE, within};
use crate::{gateway, trixie};

/// How long between two looks at something that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A killed process that is not gone by then waits for a disk, and the next test need not.
const GONE_WITHIN: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// What is in the machine before it boots.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// `/etc/tidegate/gateway.toml`.
    pub config: Option<String>,
    /// More files below `/etc/tidegate`, with mode; folders are made.
    pub files: Vec<(String, Vec<u8>, u32)>,
    /// Files on the drop zone.
    pub drop: Vec<(String, Vec<u8>)>,
    /// Lines that are added to a unit, as (unit, lines).
    pub units: Vec<(&'static str, String)>,
    /// Device nodes of this machine, and where they are in the container.
    pub devices: Vec<(PathBuf, PathBuf)>,
    /// What stands in for programs that the root has not: name of `/usr/bin`, and the script.
    pub programs: Vec<(&'static str, String)>,
    /// Files below `/var`.
    pub var: Vec<(&'static str, String)>,
    /// Leave the folders for `tidegate-storage.service` to mount.
    pub bare: bool,
}

/// A booted container; gone when dropped.
#[derive(Debug)]
pub struct Container {
    child: Child,
    leader: u32,
    dir: TempDir,
    groups: Groups,
}

impl Container {
    /// Boots and waits until systemd has started everything that it wants to start.
    ///
    /// # Errors
    /// A tool is missing, or it does not boot; the error holds its console.
    pub async fn boot(setting: &Setting) -> Result<Self> {
        let root = tokio::task::spawn_blocking(trixie::root).await??;
        let dir = tempfile::Builder::new().prefix("tidegate-container-").tempdir()?;
        furnish(dir.path(), root, setting)?;
        let word = UnixDatagram::bind(dir.path().join("notify"))?;
        let name = dir.path().file_name().context("a name")?.to_string_lossy().into_owned();
        let groups = Groups::new(&name)?;
        let child = launch(root, dir.path(), setting, &groups)?;
        let mut container = Self { child, leader: 0, dir, groups };
        container.leader = match tokio::time::timeout(DEADLINE, leader(&word)).await {
            Ok(leader) => leader?,
            Err(_) => bail!("the container does not start; console:\n{}", container.console()),
        };
        // Says "degraded" when a unit failed, which is for the test to judge.
        container.until("boot", &["systemctl", "is-system-running", "--wait"], is_up).await?;
        Ok(container)
    }

    /// What systemd wrote to its console.
    #[must_use]
    pub fn console(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("console")).unwrap_or_default()
    }

    /// The folder behind `/boot/firmware`.
    #[must_use]
    pub fn drop_zone(&self) -> PathBuf {
        self.dir.path().join("boot")
    }

    /// The folder behind `/etc/tidegate`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// Runs a program in it, as root.
    ///
    /// # Errors
    /// It cannot be started or takes too long.
    pub async fn run(&self, words: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.leader)).args(["--all", "--"]).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin").stdin(Stdio::null()).kill_on_drop(true);
        within(&words.join(" "), command.output()).await.with_context(|| format!("{words:?}"))
    }

    /// The output of a program that must succeed.
    ///
    /// # Errors
    /// It fails; the error holds what it said.
    pub async fn read(&self, words: &[&str]) -> Result<String> {
        let output = self.run(words).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?} ended with {}: {said}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Looks until the output of a program is as wanted, whatever its exit code.
    ///
    /// # Errors
    /// Not within [`DEADLINE`]; the error holds the last output and the journal of the gateway.
    pub async fn until(&self, what: &str, words: &[&str], wanted: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + DEADLINE;
        let mut text = String::new();
        while Instant::now() < end {
            let output = self.run(words).await?;
            text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
            if wanted(&text) {
                return Ok(text);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let journal = self.run(&["journalctl", "--no-pager", "--lines=60"]).await?;
        let journal = String::from_utf8_lossy(&journal.stdout).into_owned();
        bail!("waited in vain for {what}; {words:?} says {text:?}; journal:\n{journal}")
    }

    /// The folder behind `/var`.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.dir.path().join("var")
    }

    /// Looks until a file below `/var` has the wanted content; also while the machine goes down.
    ///
    /// # Errors
    /// Not within [`DEADLINE`]; the error holds the last content.
    pub async fn until_file(&self, name: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        self.until_text(&self.disk().join(name), wanted).await
    }

    /// Looks until the console shows something.
    ///
    /// # Errors
    /// Not within [`DEADLINE`]; the error holds the console.
    pub async fn until_console(&self, wanted: &str) -> Result<()> {
        self.until_text(&self.dir.path().join("console"), |text| text.contains(wanted)).await
    }

    async fn until_text(&self, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        loop {
            let text = std::fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            if wanted(&text) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{} has only {text:?}", path.display());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A property of a unit.
    ///
    /// # Errors
    /// systemd does not answer.
    pub async fn property(&self, unit: &str, name: &str) -> Result<String> {
        self.read(&["systemctl", "show", "--value", "--property", name, unit]).await
    }

    /// Waits until a property of a unit is as wanted.
    ///
    /// # Errors
    /// As [`Container::until`].
    pub async fn until_property(
        &self,
        unit: &str,
        name: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let words = ["systemctl", "show", "--value", "--property", name, unit];
        self.until(&format!("{name} of {unit}"), &words, wanted).await
    }

    /// Starts mosquitto in it, with more lines for its configuration and the files that they name in `/boot/firmware`, and waits until it
    /// listens on 127.0.0.1:1883.
    ///
    /// # Errors
    /// It does not start.
    pub async fn broker(&self, lines: &str, files: &[&Path]) -> Result<()> {
        for file in files {
            std::fs::copy(file, self.drop_zone().join(file.file_name().context("a name")?))?;
        }
        let text = format!("user root\nlistener 1883 127.0.0.1\nallow_anonymous true\n{lines}");
        std::fs::write(self.drop_zone().join("broker.conf"), text)?;
        self.read(&[
            "systemd-run",
            "--quiet",
            "--unit=broker",
            "mosquitto",
            "-c",
            "/boot/firmware/broker.conf",
        ])
        .await?;
        self.until("mosquitto to listen", &["ss", "-Hltn", "sport = :1883"], |text| !text.is_empty()).await?;
        Ok(())
    }

    /// The next message on a topic.
    ///
    /// # Errors
    /// None comes.
    pub async fn message(&self, topic: &str) -> Result<String> {
        self.read(&["mosquitto_sub", "-h", "127.0.0.1", "-t", topic, "-C", "1", "-W", "50"]).await
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // nspawn first: it starts a container again that wanted to restart. The end of process 1 is the end of all the others.
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?));
        let children: Vec<OwnedFd> =
            children.filter_map(|child| pidfd_open(child, PidfdFlags::empty()).ok()).collect();
        let _ = self.child.kill();
        let _ = self.child.wait();
        for child in children {
            let _ = pidfd_send_signal(&child, Signal::KILL);
            let _ = poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&GONE_WITHIN));
        }
        // What nspawn itself would have put away.
        for folder in ["propagate", "unix-export"] {
            let _ = std::fs::remove_dir(format!("/run/systemd/nspawn/{folder}/{}", self.groups.machine()));
        }
    }
}

fn is_up(state: &str) -> bool {
    state == "running" || state == "degraded"
}

/// The process id of the container's process 1, which nspawn tells.
async fn leader(word: &UnixDatagram) -> Result<u32> {
    const SAYS: &str = "X_NSPAWN_LEADER_PID=";
    let mut buffer = [0; 4096];
    loop {
        let length = word.recv(&mut buffer).await?;
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        if let Some(id) = text.lines().find_map(|line| line.strip_prefix(SAYS)) {
            return Ok(id.parse()?);
        }
    }
}

/// Writes the folders that the container sees.
fn furnish(dir: &Path, root: &Path, setting: &Setting) -> Result<()> {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let config = dir.join("config");
    for folder in ["config/keys", "var", "boot"] {
        std::fs::create_dir_all(dir.join(folder))?;
    }
    let groups = std::fs::read_to_string(root.join("etc/group"))?;
    let group = groups.lines().find_map(|line| line.strip_prefix("tidegate:x:")?.split(':').next());
    let group: u32 = group.context("no group tidegate")?.parse()?;
    // As tmpfiles.d/tidegate-plain.conf has it.
    chown(&config, Some(0), Some(group))?;
    std::fs::set_permissions(&config, Permissions::from_mode(0o750))?;
    std::fs::set_permissions(config.join("keys"), Permissions::from_mode(0o700))?;
    let main = setting.config.iter().map(|text| ("gateway.toml", text.as_bytes(), 0o640));
    let more = setting.files.iter().map(|(name, bytes, mode)| (name.as_str(), bytes.as_slice(), *mode));
    for (name, bytes, mode) in main.chain(more) {
        let path = config.join(name);
        std::fs::write(&path, bytes)?;
        chown(&path, Some(0), Some(if name.starts_with("keys/") { 0 } else { group }))?;
        std::fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    for (name, text) in &setting.var {
        let path = dir.join("var").join(name);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(path, text)?;
    }
    for (name, text) in &setting.programs {
        let path = dir.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    for (name, bytes) in &setting.drop {
        std::fs::write(dir.join("boot").join(name), bytes)?;
    }
    Ok(())
}

fn launch(root: &Path, dir: &Path, setting: &Setting, groups: &Groups) -> Result<Child> {
    let console: OwnedFd = std::fs::File::create(dir.join("console"))?.into();
    // A container that keeps its caller's control group would share it with the next one: the shell moves itself first.
    let mut command = std::process::Command::new("sh");
    let script = "for group in $GROUPS_OF_TEST; do echo $$ >\"$group/cgroup.procs\"; done; exec \"$@\"";
    command.args(["-c", script, "sh"]);
    command.env("GROUPS_OF_TEST", groups.words()).env("NOTIFY_SOCKET", dir.join("notify"));
    command.args(["systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--private-network"]);
    command.args([
        "--read-only",
        "--console=read-only",
        "--settings=no",
        "--resolv-conf=off",
        "--timezone=off",
    ]);
    command.arg(format!("--machine={}", groups.machine()));
    command.arg(format!("--directory={}", root.display()));
    command.arg(format!("--bind-ro={}:/usr/bin/gateway-daemon", gateway::binary()?.display()));
    for (name, _) in &setting.programs {
        command.arg(format!("--bind-ro={}:/usr/bin/{name}", dir.join(name).display()));
    }
    if !setting.bare {
        for (folder, place) in [("config", "/etc/tidegate"), ("var", "/var"), ("boot", "/boot/firmware")] {
            command.arg(format!("--bind={}:{place}", dir.join(folder).display()));
        }
    }
    for (device, place) in &setting.devices {
        command.arg(format!("--bind={}:{}", device.display(), place.display()));
    }
    for (unit, lines) in &setting.units {
        let lines = lines.replace('\\', "\\\\").replace('\n', "\\n");
        command.arg(format!("--set-credential=systemd.unit-dropin.{unit}:{lines}"));
    }
    command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
    command.spawn().context("systemd-nspawn does not start; install it: apt-get install -y systemd-container")
}

/// A control group of the container's own in every hierarchy of this machine.
#[derive(Debug)]
struct Groups {
    name: String,
    folders: Vec<PathBuf>,
}

impl Groups {
    fn new(name: &str) -> Result<Self> {
        let top = Path::new("/sys/fs/cgroup");
        let unified = top.join("cgroup.procs").exists();
        let hierarchies: Vec<PathBuf> = if unified {
            vec![top.to_owned()]
        } else {
            std::fs::read_dir(top)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?
        };
        // cpuset takes nobody before it was told which processors there are, and nobody asks it.
        let usable = |path: &PathBuf| path.is_dir() && !path.is_symlink() && !path.ends_with("cpuset");
        let folders: Vec<PathBuf> =
            hierarchies.into_iter().filter(usable).map(|path| path.join(name)).collect();
        for folder in &folders {
            std::fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Self { name: name.to_owned(), folders })
    }

    /// Names of machines have no points.
    fn machine(&self) -> String {
        self.name.replace('.', "")
    }

    fn words(&self) -> String {
        let words: Vec<String> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        words.join(" ")
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for folder in &self.folders {
            remove_group(folder);
        }
    }
}

/// Control groups are removed from below, and their files go with them.
fn remove_group(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    // One that is still in use stays behind and hurts nobody.
    let _ = std::fs::remove_dir(folder);
}

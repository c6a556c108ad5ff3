//! An update agent with a RAUC that does as it is told: what it prints, how it ends, and when.
//!
//! The pretend `rauc` is a shell script in a folder of its own, first in the agent's PATH. `install` runs the lines of [`Workshop::install`];
//! `status` prints what [`Workshop::slots`] says. Every call is noted with its arguments. `systemctl` is pretended, too.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};
use gateway_core::update::wire::{Reply, Request, Status};
use gateway_daemon::update::{Client, Folder};
use tempfile::TempDir;

use crate::gateway::{DEADLINE, binary};

/// A running agent, or none; everything is gone with the value.
pub struct Workshop {
    dir: TempDir,
    agent: Option<Child>,
}

impl Workshop {
    /// Starts an agent whose RAUC runs slot `rootfs.0` and installs whatever it is given.
    ///
    /// # Errors
    /// The agent does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let mut workshop = Self::without_agent()?;
        workshop.start_agent().await?;
        Ok(workshop)
    }

    /// The folder alone.
    ///
    /// # Errors
    /// The folder cannot be filled.
    pub fn without_agent() -> anyhow::Result<Self> {
        let workshop = Self { dir: tempfile::tempdir()?, agent: None };
        std::fs::create_dir(workshop.path("bin"))?;
        workshop.program(
            "rauc",
            "echo \"$*\" >>\"$HERE/calls\"\ncase $1 in\ninstall) . \"$HERE/install\" ;;\nstatus) \
             if [ \"$2\" = --detailed ]; then cat \"$HERE/slots\"; fi ;;\ninfo) . \"$HERE/info\" ;;\nesac",
        )?;
        workshop.program("systemctl", "echo \"$*\" >>\"$HERE/reboots\"")?;
        workshop.slots("rootfs.0", "rootfs.0")?;
        workshop.install("echo '100% Installing done.'")?;
        workshop.says_no_version()?;
        workshop.runs("1.0")?;
        std::fs::write(workshop.path("update.raucb"), "a bundle")?;
        Ok(workshop)
    }

    /// A place in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its records.
    #[must_use]
    pub fn folder(&self) -> Folder {
        Folder::new(&self.path("state"))
    }

    /// What the pretend RAUC says of its slots: which one runs, and which one starts next.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn slots(&self, booted: &str, primary: &str) -> anyhow::Result<()> {
        self.slots_with(booted, primary, "1.2")
    }

    /// The running slot is `rootfs.0`, and the other one, which starts next, has a bundle of this version.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn bundle_in_slots(&self, version: &str) -> anyhow::Result<()> {
        self.slots_with("rootfs.0", "rootfs.1", version)
    }

    fn slots_with(&self, booted: &str, primary: &str, version: &str) -> anyhow::Result<()> {
        let slot = |name: &str, bootname: &str| {
            let state = if name == booted { "booted" } else { "inactive" };
            format!(
                r#"{{"{name}":{{"class":"rootfs","bootname":"{bootname}","state":"{state}","boot_status":"good","slot_status":{{"bundle":{{"version":"{version}"}}}}}}}}"#
            )
        };
        let slots = [slot("rootfs.0", "A"), slot("rootfs.1", "B")].join(",");
        let json = format!(r#"{{"booted":"A","boot_primary":"{primary}","slots":[{slots}]}}"#);
        Ok(std::fs::write(self.path("slots"), json)?)
    }

    /// The version of the running system.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn runs(&self, version: &str) -> anyhow::Result<()> {
        self.own("os-release", &format!("NAME=Tidegate\nIMAGE_VERSION={version}\n"))
    }

    /// Writes a file of its folder that only its owner can write, whatever the umask is.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn own(&self, name: &str, text: &str) -> anyhow::Result<()> {
        std::fs::write(self.path(name), text)?;
        Ok(std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o644))?)
    }

    /// What the pretend RAUC says of a bundle before it is installed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn says_version(&self, version: &str) -> anyhow::Result<()> {
        let line = format!("echo '{{\"compatible\":\"tidegate-qemu-arm64\",\"version\":\"{version}\"}}'\n");
        Ok(std::fs::write(self.path("info"), line)?)
    }

    /// The pretend RAUC cannot look at a bundle.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn says_no_version(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(self.path("info"), "exit 1\n")?)
    }

    /// Lets everybody ask the agent, as a socket's mode may.
    ///
    /// # Errors
    /// There is none.
    pub fn open_to_all(&self) -> anyhow::Result<()> {
        for path in [self.dir.path().to_owned(), self.socket()] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
        }
        Ok(())
    }

    /// What the pretend RAUC does on `install`: lines of shell.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn install(&self, lines: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.path("install"), format!("{lines}\n"))?)
    }

    /// An installation that says so in `installing` and then goes on only when somebody opens `go`.
    ///
    /// # Errors
    /// The pipe cannot be made.
    pub fn install_slowly(&self, then: &str) -> anyhow::Result<()> {
        let made = Command::new("mkfifo").arg(self.path("go")).status()?;
        if !made.success() {
            bail!("mkfifo: {made}");
        }
        let here = self.dir.path().display();
        self.install(&format!(
            "echo ' 40% Copying image to rootfs.1'\n: >\"{here}/installing\"\nread -r _ <\"{here}/go\"\n{then}"
        ))
    }

    /// Lets a slow installation go on.
    ///
    /// # Errors
    /// There is none.
    pub async fn go(&self) -> anyhow::Result<()> {
        Ok(tokio::fs::write(self.path("go"), "go\n").await?)
    }

    /// Waits until a file of the folder is there, with or without a text.
    ///
    /// # Errors
    /// Not within the deadline of all tests.
    pub async fn appears(&self, name: &str) -> anyhow::Result<()> {
        self.once(name, |_| true).await.map(drop)
    }

    /// Waits until a file of the folder is written to the end of its last line; its text. It is there before anything stands in it.
    ///
    /// # Errors
    /// Not within the deadline of all tests.
    pub async fn written(&self, name: &str) -> anyhow::Result<String> {
        self.once(name, |text| text.ends_with('\n')).await
    }

    /// The text of a file of the folder, once it is as it should be.
    async fn once(&self, name: &str, done: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            match std::fs::read_to_string(self.path(name)) {
                Ok(text) if done(&text) => return Ok(text),
                _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
        bail!("no {name} within {DEADLINE:?}; the agent said:\n{}", self.log())
    }

    /// What the pretend RAUC was called with, one line a call.
    #[must_use]
    pub fn calls(&self) -> String {
        std::fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    /// What the agent has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    /// Where the agent listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("update.sock")
    }

    /// Starts the agent and waits until it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn start_agent(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.path("agent.log"))?;
        let mut command = self.command()?;
        command.arg("update-agent").arg("--socket").arg(self.socket());
        command.arg("--state").arg(self.path("state")).arg("--control").arg(self.path("control.sock"));
        command
            .arg("--config")
            .arg(self.path("gateway.toml"))
            .arg("--os-release")
            .arg(self.path("os-release"));
        self.agent = Some(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if self.status().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        bail!("the agent does not answer; it said:\n{}", self.log())
    }

    /// kill -9.
    ///
    /// # Errors
    /// It is not there.
    pub fn kill_agent(&mut self) -> anyhow::Result<()> {
        let mut agent = self.agent.take().context("an agent runs")?;
        agent.kill()?;
        agent.wait()?;
        Ok(())
    }

    /// The agent's process id, while it runs.
    #[must_use]
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Child::id)
    }

    /// How the update is, as the agent says.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self) -> anyhow::Result<Status> {
        match Client::ask(&self.socket(), &Request::Status).await?.reply().await? {
            Reply::Status(status) => Ok(status),
            other => bail!("not a status: {other:?}"),
        }
    }

    /// The program, with the pretend ones before the real ones.
    ///
    /// # Errors
    /// It was not built.
    pub fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(binary()?);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("bin").display()));
        command.env("TIDEGATE_FAULTS_DIR", self.path("faults")).current_dir(self.dir.path());
        Ok(command)
    }

    /// Runs a command of the program to its end, with the agent's socket for `update`.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.command()?;
        command.args(args);
        match args.first() {
            Some(&"update") => command.arg("--socket").arg(self.socket()),
            _ => {
                command.arg("--state").arg(self.path("state")).arg("--control").arg(self.path("control.sock"))
            }
        };
        Ok(tokio::process::Command::from(command).stdin(Stdio::null()).output().await?)
    }

    /// Pretends a program: lines of shell, with this folder as `$HERE`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn program(&self, name: &str, lines: &str) -> anyhow::Result<()> {
        let path = self.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\nHERE={}\n{lines}\n", self.dir.path().display()))?;
        Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            // It may have ended by itself.
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

//! The real `gateway-daemon` as a child process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use gateway_daemon::app::control::{Ask, Client, Reply};
use gateway_daemon::app::snapshot::Snapshot;

/// Every wait of an end-to-end test ends here; a loaded two-core machine needs seconds, not a minute.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The daemon as a program of this package (`src/bin/gateway.rs`), which cargo builds before the tests that start it, so it is never
/// an older one. `TIDEGATE_PROGRAM` names another, as `cargo xtask cross --emulated` does.
///
/// # Errors
/// It was not built: the test does not run under cargo.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(other) = std::env::var_os("TIDEGATE_PROGRAM") {
        return Ok(other.into());
    }
    let exe = std::env::current_exe()?;
    let profile = exe.ancestors().find(|dir| dir.ends_with("debug") || dir.ends_with("release"));
    let path = profile.context("the test does not run from a target folder")?.join("gateway");
    if path.is_file() { Ok(path) } else { bail!("{} was not built", path.display()) }
}

/// What `gateway-daemon passwd` makes of a password, with its quotes.
///
/// # Errors
/// It does not take it.
pub fn password_hash(password: &str) -> anyhow::Result<String> {
    use std::io::Write as _;
    let mut child = Command::new(binary()?)
        .args(["passwd", "someone", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("standard input is piped")?.write_all(format!("{password}\n").as_bytes())?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("password_hash = "));
    line.map(str::to_owned).with_context(|| format!("no hash, {}: {text}", output.status))
}

/// The daemon, started by the program and the arguments before it.
fn command(words: &[&str]) -> anyhow::Result<Command> {
    let Some((first, rest)) = words.split_first() else { return Ok(Command::new(binary()?)) };
    let mut command = Command::new(first);
    command.args(rest).arg(binary()?);
    Ok(command)
}

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Gateway {
    /// Writes `config` into `dir` and starts a gateway on it. The configuration must put its socket at `dir/control.sock`.
    ///
    /// # Errors
    /// The binary does not build or does not start.
    pub fn start(dir: &Path, config: &str) -> anyhow::Result<Self> {
        Self::start_with(dir, config, &[])
    }

    /// As [`Gateway::start`], with more variables in its environment.
    ///
    /// # Errors
    /// The binary does not build or does not start.
    pub fn start_with(
        dir: &Path,
        config: &str,
        variables: &[(&str, &std::ffi::OsStr)],
    ) -> anyhow::Result<Self> {
        Self::spawn(dir, config, &mut command(&[])?, variables)
    }

    /// As [`Gateway::start`], of another version: its program.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_program(program: &Path, dir: &Path, config: &str) -> anyhow::Result<Self> {
        Self::spawn(dir, config, &mut Command::new(program), &[])
    }

    /// As [`Gateway::start`], by another program whose last argument is to be the command: `["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""]`.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn start_by(dir: &Path, config: &str, words: &[&str]) -> anyhow::Result<Self> {
        Self::spawn(dir, config, &mut command(words)?, &[])
    }

    fn spawn(
        dir: &Path,
        config: &str,
        command: &mut Command,
        variables: &[(&str, &std::ffi::OsStr)],
    ) -> anyhow::Result<Self> {
        let file = dir.join("gateway.toml");
        std::fs::write(&file, config)?;
        let log = dir.join("gateway.log");
        let output = std::fs::File::options().create(true).append(true).open(&log)?;
        let child = command
            .arg("run")
            .arg(file)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        Ok(Self { child, socket: dir.join("control.sock"), log })
    }

    /// What it has logged, of all runs in the same folder.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where the log is, for after its end.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// What a counter or gauge of the gateway stands at, by its name and labels.
    ///
    /// # Errors
    /// The gateway does not answer, or has no such whole number.
    pub async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let Reply::Text(text) = self.ask(&Ask::Metrics).await? else { bail!("no metrics") };
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {name} in {text}"))?.parse()?)
    }

    /// One answer of the control socket.
    ///
    /// # Errors
    /// The socket does not answer.
    pub async fn ask(&self, ask: &Ask) -> std::io::Result<Reply> {
        let mut client = Client::connect(&self.socket).await?;
        client.ask(ask).await?;
        client.reply().await
    }

    /// The picture at this moment.
    ///
    /// # Errors
    /// The socket does not answer.
    pub async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        match self.ask(&Ask::Status).await? {
            Reply::Status(snapshot) => Ok(*snapshot),
            other => bail!("not a status: {other:?}"),
        }
    }

    /// Waits until the picture satisfies `want`.
    ///
    /// # Errors
    /// Not within [`DEADLINE`]; the error holds the last picture and the log.
    pub async fn wait_for(
        &mut self,
        what: &str,
        want: impl Fn(&Snapshot) -> bool,
    ) -> anyhow::Result<Snapshot> {
        let end = Instant::now() + DEADLINE;
        let mut last = None;
        while Instant::now() < end {
            if let Ok(snapshot) = self.snapshot().await {
                if want(&snapshot) {
                    return Ok(snapshot);
                }
                last = Some(snapshot);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the gateway ended with {status} while waiting for {what}; log:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("no {what} within {DEADLINE:?}; last picture: {last:#?}\nlog:\n{}", self.log())
    }

    /// Puts another configuration in place, whole, as an installer would, asks for a reload, and waits until it was taken or refused.
    ///
    /// # Errors
    /// No end of it within [`DEADLINE`].
    pub async fn reload(&mut self, config: &str) -> anyhow::Result<Snapshot> {
        let before = self.snapshot().await?;
        let (file, fresh) =
            (self.socket.with_file_name("gateway.toml"), self.socket.with_file_name("fresh.toml"));
        std::fs::write(&fresh, config)?;
        std::fs::rename(fresh, file)?;
        self.hang_up()?;
        let ended = before.reloads + before.refusals;
        self.wait_for("the end of a reload", |now| now.reloads + now.refusals > ended).await
    }

    /// SIGHUP.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::HUP)?)
    }

    /// kill -9: what a power cut is to the process.
    ///
    /// # Errors
    /// It is not there any more.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It does not end within [`DEADLINE`], or not with success.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let end = Instant::now() + DEADLINE;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("ended with {status}; log:\n{}", self.log()),
                None if Instant::now() > end => bail!("does not stop; log:\n{}", self.log()),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, KiB.
    ///
    /// # Errors
    /// The process is gone.
    pub fn rss_kib(&self) -> anyhow::Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// The part of the resident memory that no file stands behind, KiB.
    ///
    /// # Errors
    /// The process is gone.
    pub fn rss_anon_kib(&self) -> anyhow::Result<u64> {
        self.status_kib("RssAnon:")
    }

    fn status_kib(&self, field: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
    }

    /// CPU time used so far, in clock ticks of 10 ms.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu_ticks(&self) -> anyhow::Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after = stat.rsplit_once(") ").context("no name")?.1;
        let fields: Vec<&str> = after.split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        Ok(ticks(11).context("no utime")? + ticks(12).context("no stime")?)
    }

    /// Bytes the process caused to be written to storage so far.
    ///
    /// # Errors
    /// The process is gone, or the kernel does not account I/O.
    pub fn written_bytes(&self) -> anyhow::Result<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let line = io.lines().find(|line| line.starts_with("write_bytes:")).context("no write_bytes")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing more to stop then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

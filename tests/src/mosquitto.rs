//! A real mosquitto on a free port, with a configuration of its own, gone with the value.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::certs::Leaf;
use crate::wait::within;

/// The one line that installs the peer.
pub const INSTALL: &str = "mosquitto is missing; install it: apt-get install -y mosquitto";

/// Configuration of the OpenSSL inside mosquitto.
const OPENSSL_CONF: &str = "openssl.cnf";

/// Attempts to find a port that nobody takes between looking and listening.
const PORT_ATTEMPTS_MAX: usize = 20;

/// TLS of a listener.
#[derive(Debug, Clone)]
pub struct TlsListener {
    /// Authority of device certificates.
    pub ca: PathBuf,
    /// The server's own.
    pub server: Leaf,
    /// Devices must show a certificate; its common name is their user name.
    pub require_certificate: bool,
    /// "tlsv1.2" or "tlsv1.3": the only version spoken.
    pub version: Option<&'static str>,
}

/// What a mosquitto should be like.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// TLS, or plain bytes.
    pub tls: Option<TlsListener>,
    /// WebSocket instead of plain MQTT.
    pub websockets: bool,
    /// The only user who may come in.
    pub password: Option<(&'static str, &'static str)>,
    /// No line per packet in its log, for measuring.
    pub quiet: bool,
    /// More lines of the configuration.
    pub extra: &'static str,
}

/// A running mosquitto.
pub struct Mosquitto {
    child: Child,
    dir: TempDir,
    port: u16,
    log: Log,
}

impl Mosquitto {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When it is missing ([`INSTALL`]) or does not start.
    pub async fn start(options: &Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tidegate-mosquitto-").tempdir()?;
        for _ in 0..PORT_ATTEMPTS_MAX {
            let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            write_config(dir.path(), port, options)?;
            let (child, log) = launch(dir.path())?;
            if log
                .wait("mosquitto to listen", |line| line.contains(" running") || line.contains("Error"))
                .await
                .contains(" running")
            {
                return Ok(Self { child, dir, port, log });
            }
            if !log.lines().iter().any(|line| line.contains("Address already in use")) {
                bail!("mosquitto did not start: {:?}", log.lines());
            }
        }
        bail!("no free port in {PORT_ATTEMPTS_MAX} attempts")
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id, unless it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The version that it says it is.
    #[must_use]
    pub fn version(&self) -> String {
        let lines = self.log.lines();
        lines
            .iter()
            .find_map(|line| Some(line.split_once("mosquitto version ")?.1.split(' ').next()?.to_owned()))
            .unwrap_or_default()
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Where it keeps its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops it from doing anything while its sockets stay open: the nearest thing to a hung server.
    ///
    /// # Errors
    /// When it is gone.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills it at once, as a power cut would.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Stops it in order: it says goodbye to nobody, and writes down what it keeps.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        within("mosquitto to stop", self.child.wait()).await?;
        Ok(())
    }

    /// Starts it again on the same port with the same configuration.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&mut self) -> Result<()> {
        let (child, log) = launch(self.dir.path())?;
        (self.child, self.log) = (child, log);
        let line = self
            .log
            .wait("mosquitto to listen again", |line| line.contains(" running") || line.contains("Error"))
            .await;
        if line.contains(" running") { Ok(()) } else { bail!("{line}") }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id().context("mosquitto is gone")?)?;
        Ok(kill_process(Pid::from_raw(id).context("no process id")?, signal)?)
    }
}

fn program() -> PathBuf {
    // Not in the PATH of ordinary users on Debian.
    let path = PathBuf::from("/usr/sbin/mosquitto");
    if path.exists() { path } else { "mosquitto".into() }
}

fn write_config(dir: &Path, port: u16, options: &Options) -> Result<()> {
    // Started by root it becomes this user; otherwise the line is ignored.
    let mut text = "user root\nlog_dest stderr\nconnection_messages true\n".to_owned();
    text.push_str(if options.quiet { "log_type information\nlog_type error\n" } else { "log_type all\n" });
    if options.websockets {
        // 2.0.11 does not start without a plain listener ("Unable to start any listening sockets").
        writeln!(text, "listener 0 {}", dir.join("plain.sock").display())?;
    }
    writeln!(text, "listener {port} 127.0.0.1")?;
    if options.websockets {
        text.push_str("protocol websockets\n");
    }
    if let Some(tls) = &options.tls {
        writeln!(text, "cafile {}", tls.ca.display())?;
        writeln!(text, "certfile {}\nkeyfile {}", tls.server.cert.display(), tls.server.key.display())?;
        writeln!(text, "require_certificate {0}\nuse_identity_as_username {0}", tls.require_certificate)?;
        if let Some(version) = tls.version {
            writeln!(text, "tls_version {version}")?;
            // For mosquitto that is the lowest version; the highest is OpenSSL's affair.
            let highest = version.replace("tlsv", "TLSv");
            let lines = ["openssl_conf=a", "[a]", "ssl_conf=b", "[b]", "system_default=c", "[c]"].join("\n");
            std::fs::write(dir.join(OPENSSL_CONF), format!("{lines}\nMaxProtocol={highest}\n"))?;
        }
    }
    match options.password {
        None => text.push_str("allow_anonymous true\n"),
        Some((user, password)) => {
            let file = dir.join("passwords");
            std::fs::write(&file, format!("{user}:{password}\n"))?;
            // Turns plain passwords into hashes in place.
            let done = std::process::Command::new("mosquitto_passwd")
                .arg("-U")
                .arg(&file)
                .output()
                .context(INSTALL)?;
            if !done.status.success() {
                bail!("mosquitto_passwd: {}", String::from_utf8_lossy(&done.stderr));
            }
            writeln!(text, "allow_anonymous false\npassword_file {}", file.display())?;
        }
    }
    text.push_str(options.extra);
    Ok(std::fs::write(dir.join("mosquitto.conf"), text)?)
}

fn launch(dir: &Path) -> Result<(Child, Log)> {
    let mut child = Command::new(program())
        .arg("-c")
        .arg(dir.join("mosquitto.conf"))
        .current_dir(dir)
        .env("OPENSSL_CONF", dir.join(OPENSSL_CONF))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context(INSTALL)?;
    let errors = child.stderr.take().context("no stderr")?;
    Ok((child, Log::of(errors)))
}

/// Lines that a peer logged, kept for looking and waiting.
#[derive(Clone)]
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    count: watch::Receiver<usize>,
}

impl Log {
    fn of(stream: impl tokio::io::AsyncRead + Send + Unpin + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, count) = watch::channel(0);
        let kept = lines.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(stream).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                sender.send_modify(|count| *count += 1);
            }
        });
        Self { lines, count }
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line, also among those already logged; the end of the log gives the text "Error: log ended".
    pub async fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut count = self.count.clone();
        within(what, async {
            loop {
                count.borrow_and_update();
                if let Some(line) = self.lines().into_iter().find(|line| wanted(line)) {
                    return line;
                }
                if count.changed().await.is_err() {
                    return "Error: log ended".to_owned();
                }
            }
        })
        .await
    }
}

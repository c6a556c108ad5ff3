//! MQTT clients of others in front of the gateway's own broker: mosquitto's programs, Paho of PyPI, mqtt of npm.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::wait::within;

/// The one line that installs mosquitto's clients.
const INSTALL: &str =
    "mosquitto_pub and mosquitto_sub are missing; install them: apt-get install -y mosquitto-clients";

/// How `mosquitto_sub` is told to print a message: [`Heard`] without blanks in its topic.
const FORMAT: &str = "MSG %t %q %r %p";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a client to its end; gives what it printed.
///
/// # Errors
/// It is missing, or it fails; the error holds what it printed.
async fn finish(mut command: Command, missing: &str) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let shown = format!("{:?}", command.as_std());
    let child = command.spawn().with_context(|| missing.to_owned())?;
    let output = within(&shown, child.wait_with_output()).await?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { bail!("{shown} ended with {}: {text}", output.status) }
}

/// Publishes as `mosquitto_pub` does with these arguments; its end says that it was acknowledged.
///
/// # Errors
/// It is missing, or it fails; the error holds what it said.
pub async fn mosquitto_pub(port: u16, args: &[&str]) -> Result<String> {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-p", &port.to_string()]).args(args);
    finish(command, INSTALL).await
}

/// Runs one scenario of `tests/peers/paho_client.py`.
///
/// # Errors
/// Paho is missing, or the scenario failed; the error holds its traceback.
pub async fn paho(port: u16, scenario: &[&str]) -> Result<()> {
    const MISSING: &str = "Paho is missing; install it: cargo xtask peers";
    let python = root().join("target/peers/paho/bin/python");
    if !python.exists() {
        bail!(MISSING);
    }
    let mut command = Command::new(python);
    command.arg(root().join("tests/peers/paho_client.py")).arg(port.to_string());
    // A name first, then its own arguments: the port stands before both.
    command.args(scenario);
    ok(&finish(command, MISSING).await?)
}

/// Runs `tests/peers/mqtt_js_client.js` against an URL.
///
/// # Errors
/// The mqtt package is missing, or the client failed; the error holds what it printed.
pub async fn mqtt_js(url: &str, version: &str, ca: Option<&Path>) -> Result<()> {
    const MISSING: &str = "mqtt of npm is missing; install it: cargo xtask peers";
    let modules = std::path::absolute(root().join("target/peers/mqtt-js/node_modules"))?;
    if !modules.join("mqtt").exists() {
        bail!(MISSING);
    }
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(root().join("tests/peers/mqtt_js_client.js")).args([url, version]);
    command.args(ca);
    ok(&finish(command, "node is missing; install it: apt-get install -y nodejs npm").await?)
}

/// A script that did not reach its end must not pass.
fn ok(output: &str) -> Result<()> {
    if output.lines().any(|line| line == "ok") { Ok(()) } else { bail!("no `ok` at the end: {output}") }
}

/// A message as `mosquitto_sub` heard it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heard {
    /// Topic.
    pub topic: String,
    /// QoS with which it came.
    pub qos: u8,
    /// Retain flag with which it came.
    pub retain: bool,
    /// Payload.
    pub payload: String,
}

/// A running `mosquitto_sub`; gone with the value, without a goodbye.
pub struct Sub {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Lines with messages that came before SUBACK, as those of a session do.
    early: VecDeque<String>,
    complaints: Arc<Mutex<String>>,
}

/// Subscribes as `mosquitto_sub` does with these arguments, and says goodbye once that is acknowledged. (Told to end by a signal, mosquitto_sub may
/// lock itself up, and with 5.0 it asks for its will.)
///
/// # Errors
/// It is missing, or it is refused; the error holds what it said.
pub async fn subscribe_and_leave(port: u16, args: &[&str]) -> Result<String> {
    let mut command = Command::new("mosquitto_sub");
    command.args(["-E", "-p", &port.to_string()]).args(args);
    finish(command, INSTALL).await
}

impl Sub {
    /// Starts one with these arguments and waits until it is subscribed.
    ///
    /// # Errors
    /// It is missing, or it is refused; the error holds what it said.
    pub async fn start(port: u16, args: &[&str]) -> Result<Self> {
        let mut sub = Self::spawn(port, args)?;
        loop {
            let line = sub.line().await?;
            // `Client NAME received SUBACK`, then `Subscribed (mid: 1): 1`.
            if line.starts_with("Subscribed (") {
                return Ok(sub);
            }
            if line.starts_with("MSG ") {
                sub.early.push_back(line);
            }
        }
    }

    /// Starts one and waits for nothing.
    ///
    /// # Errors
    /// It is missing.
    pub fn spawn(port: u16, args: &[&str]) -> Result<Self> {
        // Line by line: with a pipe behind it, it would keep what it says to itself until there are 4 KiB.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-d", "-F", FORMAT, "-p", &port.to_string()]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context(INSTALL)?;
        let lines = BufReader::new(child.stdout.take().context("standard output is piped")?).lines();
        let mut errors = child.stderr.take().context("standard error is piped")?;
        let complaints = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&complaints);
        tokio::spawn(async move {
            let mut text = String::new();
            // What cannot be read cannot be shown.
            let _ = errors.read_to_string(&mut text).await;
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = text;
        });
        Ok(Self { child, lines, early: VecDeque::new(), complaints })
    }

    async fn line(&mut self) -> Result<String> {
        match within("a line of mosquitto_sub", self.lines.next_line()).await? {
            Some(line) => Ok(line),
            None => {
                let status = self.child.wait().await?;
                tokio::task::yield_now().await;
                let said = self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone();
                bail!("mosquitto_sub ended with {status}: {said}")
            }
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// It has ended.
    pub async fn next(&mut self) -> Result<Heard> {
        loop {
            let line = match self.early.pop_front() {
                Some(line) => line,
                None => self.line().await?,
            };
            let Some(message) = line.strip_prefix("MSG ") else { continue };
            let mut parts = message.splitn(4, ' ');
            let mut part = || parts.next().map(str::to_owned).with_context(|| line.clone());
            let (topic, qos, retain, payload) = (part()?, part()?, part()?, part()?);
            return Ok(Heard { topic, qos: qos.parse()?, retain: retain == "1", payload });
        }
    }

    /// The payloads of the next messages.
    ///
    /// # Errors
    /// It has ended.
    pub async fn payloads(&mut self, number: usize) -> Result<Vec<String>> {
        let mut payloads = Vec::with_capacity(number);
        for _ in 0..number {
            payloads.push(self.next().await?.payload);
        }
        Ok(payloads)
    }

    /// Ends it with SIGKILL: it says nothing.
    ///
    /// # Errors
    /// It is gone already.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Arguments from a path.
#[must_use]
pub fn text(path: &Path) -> &str {
    OsStr::to_str(path.as_os_str()).unwrap_or_default()
}

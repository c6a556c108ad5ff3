//! Modbus programs of others: pymodbus in its virtual environment, and libmodbus's own unit-test server.
//!
//! Each tells by a line `port ...` when it can be asked, and ends with the value that holds it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::wait::within;

/// Where the Debian package keeps the server's source.
const LIBMODBUS_SERVER: &str = "/usr/share/doc/libmodbus-dev/examples/unit-test-server.c";

/// A running Modbus server.
pub struct Server {
    /// TCP port, or path of the serial port.
    pub port: String,
    child: Child,
    /// Kept open and read: a server that cannot print stops answering.
    _output: tokio::task::JoinHandle<()>,
    _folder: Option<TempDir>,
}

impl Server {
    /// Ends the server.
    ///
    /// # Errors
    /// It was gone already.
    pub async fn stop(mut self) -> Result<()> {
        self.child.kill().await.context("the server had ended by itself")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The python that has pymodbus.
///
/// # Errors
/// It is not installed; the error is the line that installs it.
pub fn pymodbus_python() -> Result<PathBuf> {
    let python = root().join("target/peers/pymodbus/bin/python");
    if !python.exists() {
        bail!("pymodbus is missing; install it: cargo xtask peers");
    }
    Ok(python)
}

/// Starts pymodbus on a free TCP port, or on the serial port `serial`.
///
/// # Errors
/// It is not installed or does not start.
pub async fn pymodbus(serial: Option<&Path>) -> Result<Server> {
    let mut command = Command::new(pymodbus_python()?);
    command.arg(root().join("tests/peers/pymodbus_server.py"));
    match serial {
        None => command.arg("tcp"),
        Some(port) => command.arg("rtu").arg(port),
    };
    start(command, None).await
}

/// Compiles libmodbus's unit-test server and starts it on a free TCP port, or on the serial port `serial`.
///
/// # Errors
/// libmodbus or a C compiler is not installed, or it does not start.
pub async fn libmodbus(serial: Option<&Path>) -> Result<Server> {
    if !Path::new(LIBMODBUS_SERVER).exists() {
        bail!("{LIBMODBUS_SERVER} is missing; install it: apt-get install --reinstall -y libmodbus-dev");
    }
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("unit-test-server");
    let compiled = Command::new("cc")
        .args(["-w", "-I", "/usr/include/modbus", "-include"])
        .arg(root().join("tests/peers/libmodbus_server.h"))
        .arg(LIBMODBUS_SERVER)
        .arg("-o")
        .arg(&program)
        .arg("-lmodbus")
        .output()
        .await
        .context("cc is missing; install it: apt-get install -y gcc libmodbus-dev")?;
    if !compiled.status.success() {
        bail!("libmodbus's server does not compile: {}", String::from_utf8_lossy(&compiled.stderr));
    }
    let mut command = Command::new(program);
    match serial {
        None => command.arg("tcp"),
        Some(port) => command.arg("rtu").env("MODBUS_PORT", port),
    };
    start(command, Some(folder)).await
}

async fn start(mut command: Command, folder: Option<TempDir>) -> Result<Server> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child = command.spawn().context("the server does not start")?;
    let output = child.stdout.take().context("standard output is piped")?;
    let mut lines = BufReader::new(output).lines();
    let port = within("a Modbus server to be ready", port(&mut lines)).await?;
    let rest = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(Server { port, child, _output: rest, _folder: folder })
}

async fn port(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    while let Some(line) = lines.next_line().await? {
        if let Some(port) = line.strip_prefix("port ") {
            return Ok(port.to_owned());
        }
    }
    bail!("the server ended before it was ready")
}

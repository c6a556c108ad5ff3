//! The two brokers: the daemon with the configuration of a user, and mosquitto with the same bounds.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tidegate_tests::gateway::{DEADLINE, Gateway};
use tidegate_tests::mosquitto::{Mosquitto, Options};

/// The broker under measurement or the one beside it.
pub(crate) enum Peer {
    /// The daemon, with nothing but a broker.
    Ours { gateway: Option<Gateway>, dir: TempDir, port: u16 },
    /// mosquitto.
    Mosquitto(Box<Mosquitto>),
}

impl Peer {
    /// The daemon, on a fresh database.
    pub(crate) fn ours() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let gateway = Some(start(dir.path(), port)?);
        Ok(Self::Ours { gateway, dir, port })
    }

    /// mosquitto. `durable`: what is queued is on disk within a second at the latest.
    pub(crate) async fn mosquitto(durable: bool) -> Result<Self> {
        let extra = if durable {
            "max_inflight_messages 100\nmax_queued_messages 0\npersistence true\nautosave_on_changes true\nautosave_interval 1\n"
        } else {
            "max_inflight_messages 100\nmax_queued_messages 0\n"
        };
        let options = Options { quiet: true, extra, ..Options::default() };
        Ok(Self::Mosquitto(Box::new(Mosquitto::start(&options).await?)))
    }

    /// What the table calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours { .. } => "ours",
            Self::Mosquitto(_) => "mosquitto",
        }
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Ours { port, .. } => *port,
            Self::Mosquitto(broker) => broker.port(),
        }
    }

    /// Kills the daemon as a power cut would, and starts it again on what is on disk.
    pub(crate) fn crash(&mut self) -> Result<()> {
        let Self::Ours { gateway, dir, port } = self else { bail!("only ours is crashed") };
        if let Some(running) = gateway.take() {
            running.kill()?;
        }
        *gateway = Some(start(dir.path(), *port)?);
        Ok(())
    }

    fn pid(&self) -> Result<u32> {
        match self {
            Self::Ours { gateway, .. } => Ok(gateway.as_ref().context("it runs")?.pid()),
            Self::Mosquitto(broker) => broker.pid().context("mosquitto is gone"),
        }
    }

    /// CPU time of all its threads so far; the kernel counts in steps of 10 ms.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        let after = stat.rsplit_once(") ").context("no name")?.1;
        let fields: Vec<&str> = after.split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        Ok(Duration::from_millis(10 * (ticks(11).context("no utime")? + ticks(12).context("no stime")?)))
    }

    /// Resident memory, MiB, and the part of it that no file stands behind.
    pub(crate) fn memory(&self) -> Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let field = |name: &str| -> Result<f64> {
            let line = status.lines().find(|line| line.starts_with(name)).context("no such field")?;
            Ok(line.split_whitespace().nth(1).context("no number")?.parse::<f64>()? / 1024.0)
        };
        Ok((field("VmRSS:")?, field("RssAnon:")?))
    }
}

fn start(dir: &Path, port: u16) -> Result<Gateway> {
    let folder = dir.display();
    let config = format!(
        "[gateway]\nid = \"gw\"\nmemory_max = \"3GB\"\nsocket = \"{folder}/control.sock\"\n[store]\npath = \"{folder}/queue.db\"\nfile_max = \"2GB\"\n\
         [broker.listener.local]\naddress = \"127.0.0.1:{port}\"\n\
         [broker.limits]\nconnections_per_address_max = 1000\nqueued_max = 1_000_000\nqueued_bytes_max = \"1GB\"\nqueued_bytes_total_max = \"1GB\"\n\
         stored_max = 10_000_000\nstored_bytes_max = \"1GB\"\nstored_total_max = 10_000_000\nstored_bytes_total_max = \"1GB\"\n"
    );
    let gateway = Gateway::start(dir, &config)?;
    let end = Instant::now() + DEADLINE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > end {
            bail!("the gateway does not listen; log:\n{}", gateway.log());
        }
        std::thread::yield_now();
    }
    Ok(gateway)
}

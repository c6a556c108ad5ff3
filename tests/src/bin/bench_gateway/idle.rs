//! What 1,000 tags per second cost while all is well: CPU, memory, and not one byte on the card.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidegate_tests::bench::{Goal, Measured};
use tidegate_tests::certs::{Authority, KeyFormat, Validity};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options, TlsListener};
use tokio::time::sleep;

use super::plant::{Plant, plain, real, works};

/// 1,000 tags per second as an installer would group them.
pub(crate) const PLANT: Plant =
    Plant { buses: 1, devices: 10, registers: 100, every: "1s", pipeline: 1, shape: "group" };

/// Share of one core, percent.
const CPU_GOAL_PERCENT: f64 = 0.5;
const RSS_GOAL_MIB: f64 = 12.0;

/// First connections, first files, first growth of buffers.
const SETTLE: Duration = Duration::from_secs(5);
/// The kernel counts CPU time in steps of 10 ms: this long, one step is 0.03 %.
const MEASURE: Duration = Duration::from_secs(30);

pub(crate) async fn run() -> Result<()> {
    let broker = Mosquitto::start(&Options { quiet: true, ..Options::default() }).await?;
    measure("plain", &plain(broker.port())).await?;
    drop(broker);
    let pki = Authority::new("bench")?;
    let server = pki.server(&["localhost"], Validity::Good)?;
    let device = pki.device("gw", Validity::Good, KeyFormat::Pkcs8)?;
    let listener = TlsListener { ca: pki.ca().to_owned(), server, require_certificate: true, version: None };
    let broker =
        Mosquitto::start(&Options { quiet: true, tls: Some(listener), ..Options::default() }).await?;
    let uplink = format!(
        "url = \"mqtts://localhost:{}\"\nca = \"{}\"\nclient_cert = \"{}\"\nclient_key = \"{}\"",
        broker.port(),
        pki.ca().display(),
        device.cert.display(),
        device.key.display()
    );
    measure("TLS", &uplink).await
}

async fn measure(how: &str, uplink: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let devices = PLANT.devices().await?;
    let config = PLANT.config(dir.path(), uplink, &devices)?;
    let mut gateway = Gateway::start(dir.path(), &config)?;
    gateway.wait_for("the plant at work", works).await?;
    sleep(SETTLE).await;
    let (began, cpu, written) = (Instant::now(), gateway.cpu_ticks()?, gateway.written_bytes()?);
    sleep(MEASURE).await;
    let took = began.elapsed().as_secs_f64();
    let percent = real(gateway.cpu_ticks()? - cpu) / took;
    let (rss, written) = (real(gateway.rss_kib()?) / 1024.0, real(gateway.written_bytes()? - written));
    println!(
        "{how}: {:.1} MiB of it anonymous, the rest is the program itself",
        real(gateway.rss_anon_kib()?) / 1024.0
    );
    // Looked at after the measurement, because looking costs.
    let end = gateway.snapshot().await?;
    ensure!(end.uplinks[0].connects == 1, "the link was lost in between");
    let what = |what: &str| format!("{what} at 1,000 tags/s, {how}");
    let limit = |what: &str, value: f64, reference: f64, unit: &str, most: f64| {
        Measured { what, value, reference, unit, goal: Goal::AtMost(most) }.print();
    };
    limit(&what("CPU"), percent, CPU_GOAL_PERCENT, "% of a core", 1.0);
    limit(&what("resident memory"), rss, RSS_GOAL_MIB, "MiB", 1.0);
    limit(&what("bytes written while healthy"), written, 1.0, "B", 0.0);
    gateway.stop().await
}

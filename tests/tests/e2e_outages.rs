//! Promise 1 from end to end: whatever happens between the gateway and the cloud, every poll arrives.
//!
//! The real daemon with a client certificate, a real mosquitto that demands one, and a network in between that goes wrong on purpose.
//! Each test ends with [`Site::settle`]: every answer of the device is at the office, in order, and the ledger balances.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use gateway_daemon::app::snapshot::{Link, Snapshot};
use tidegate_tests::account::{self, Order, states, uplink};
use tidegate_tests::certs::{Authority, KeyFormat, Validity};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::office::{self, Office};
use tidegate_tests::proxy::Fault;
use tidegate_tests::site::{FORGETFUL, Papers, Plan, Site};

fn acknowledged(rows: u64) -> impl Fn(&Snapshot) -> bool {
    move |now| uplink(now).ledger.acknowledged.rows >= rows
}

fn on_disk(rows: u64) -> impl Fn(&Snapshot) -> bool {
    move |now| uplink(now).ledger.stored.rows >= rows
}

fn reason(word: &'static str) -> impl Fn(&Snapshot) -> bool {
    move |now| uplink(now).reason.as_deref() == Some(word)
}

/// A site whose gateway has delivered something.
async fn working(plan: Plan) -> Result<(Site, Gateway)> {
    let site = Site::new(plan).await?;
    let mut gateway = site.gateway()?;
    gateway.wait_for("a few acknowledged", acknowledged(5)).await?;
    Ok((site, gateway))
}

/// Reasons that births have given for the end of the connection before.
fn births(office: &Office) -> Vec<String> {
    let births = states(&office.arrivals()).into_iter().filter(|(state, _)| state == "online");
    births.filter_map(|(_, reason)| reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_server_is_stopped_and_started_again() -> Result<()> {
    let (mut site, mut gateway) = working(Plan::default()).await?;
    for _ in 0..2 {
        site.broker.stop().await?;
        gateway.wait_for("rows on disk", on_disk(20)).await?;
        site.broker.start_again().await?;
        site.settle(&gateway, Order::PerLane).await?;
    }
    let births = births(&site.office);
    ensure!(births.len() >= 2, "{births:?}");
    ensure!(
        births.iter().all(|word| ["closed-by-server", "tcp-reset"].contains(&word.as_str())),
        "{births:?}"
    );
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_connection_is_cut_again_and_again() -> Result<()> {
    let (site, mut gateway) = working(Plan::default()).await?;
    for cuts in 1..=8_u64 {
        site.network.cut();
        gateway.wait_for("the link again", |now| uplink(now).connects > cuts).await?;
        let before = uplink(&gateway.snapshot().await?).ledger.acknowledged.rows;
        gateway.wait_for("progress", acknowledged(before + 3)).await?;
    }
    site.settle(&gateway, Order::PerLane).await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_is_noticed_by_its_missing_acknowledgements_and_nothing_is_lost() -> Result<()> {
    for fault in [Fault::BlackHole, Fault::HalfOpenUp, Fault::HalfOpenDown] {
        let plan = Plan { ack_timeout: "1s", ..Plan::default() };
        let (site, mut gateway) = working(plan).await?;
        site.network.set(fault);
        gateway.wait_for("ack-timeout", reason("ack-timeout")).await?;
        site.network.set(Fault::None);
        // An attempt made inside the hole would only end by its own timeout.
        site.network.cut();
        site.settle(&gateway, Order::PerLane).await?;
        ensure!(
            births(&site.office).contains(&"ack-timeout".to_owned()),
            "{fault:?}: {:?}",
            births(&site.office)
        );
        gateway.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_a_server_accepts_connections_and_closes_them() -> Result<()> {
    let (site, mut gateway) = working(Plan::default()).await?;
    let before = site.network.accepted();
    site.network.set(Fault::AcceptAndClose);
    gateway.wait_for("rows on disk", on_disk(10)).await?;
    while site.network.accepted() < before + 3 {
        site.polled(1).await?;
    }
    site.network.set(Fault::None);
    site.settle(&gateway, Order::PerLane).await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_on_a_slow_line_and_on_one_with_long_delays() -> Result<()> {
    for fault in [Fault::Throttle(3_000), Fault::Delay(Duration::from_millis(150))] {
        let (site, gateway) = working(Plan::default()).await?;
        site.network.set(fault);
        let answered = site.polled(60).await?;
        let half = u64::from(answered / 2);
        site.office
            .wait_for("something through the narrow line", |all| account::numbers(all).contains(&half))
            .await?;
        site.network.set(Fault::None);
        site.settle(&gateway, Order::PerLane).await?;
        ensure!(
            uplink(&gateway.snapshot().await?).connects == 1,
            "{fault:?} cost the connection: {}",
            gateway.log()
        );
        gateway.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_server_has_forgotten_the_session() -> Result<()> {
    let plan = Plan { broker: FORGETFUL, ..Plan::default() };
    let (mut site, mut gateway) = working(plan).await?;
    site.network.set(Fault::AcceptAndClose);
    gateway.wait_for("rows on disk", on_disk(10)).await?;
    // What the broker has acknowledged it has to have delivered before it forgets; that is its part, not the gateway's.
    let acked = uplink(&gateway.snapshot().await?).ledger.acknowledged.rows;
    site.office.wait_for("what was acknowledged", |all| account::numbers(all).len() as u64 >= acked).await?;
    site.broker.stop().await?;
    site.broker.start_again().await?;
    site.broker.log().wait("the office again", |line| line.contains("Sending SUBACK to office")).await;
    site.network.set(Fault::None);
    site.settle(&gateway, Order::PerLane).await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rival_with_the_same_client_id_is_named_and_nothing_is_lost() -> Result<()> {
    let (site, mut gateway) = working(Plan::default()).await?;
    let rival = site.papers.device(Validity::Good)?;
    let port = site.broker.port().to_string();
    while !births(&site.office).contains(&"taken-over".to_owned()) {
        let connects = uplink(&gateway.snapshot().await?).connects;
        // It ends with success or not: the gateway comes back and kicks it out in its turn.
        let _ = tokio::process::Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1"])
            .args(["-i", "gw", "-t", "rival", "-m", "mine"])
            .args(office::tls_words(site.papers.authority.ca(), &rival))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await?;
        gateway.wait_for("the link again", |now| uplink(now).connects > connects).await?;
        ensure!(connects < 20, "kicked out 20 times and does not know: {:?}", births(&site.office));
        site.settle(&gateway, Order::PerLane).await?;
    }
    gateway.stop().await
}

/// The link fails with `word` while the gateway collects; after `repair` everything arrives.
async fn repaired(
    site: &mut Site,
    word: &'static str,
    repair: impl AsyncFnOnce(&mut Site) -> Result<()>,
) -> Result<()> {
    let mut gateway = site.gateway()?;
    let failed = gateway.wait_for(word, reason(word)).await?;
    ensure!(uplink(&failed).link != Link::Up && uplink(&failed).connects == 0);
    gateway.wait_for("rows on disk", on_disk(10)).await?;
    repair(site).await?;
    site.settle(&gateway, Order::PerLane).await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_authority_is_named_and_its_file_can_be_replaced_while_it_collects() -> Result<()> {
    let mut site = Site::new(Plan::default()).await?;
    let other = Authority::new("other ca")?;
    site.papers.trust(other.ca())?;
    repaired(&mut site, "certificate-unknown-authority", async |site| {
        site.papers.trust(site.papers.authority.ca())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_certificate_that_the_server_rejects_is_named_and_can_be_replaced_while_it_collects()
-> Result<()> {
    let other = Authority::new("other ca")?;
    for foreign in [false, true] {
        let mut site = Site::new(Plan::default()).await?;
        let bad = match foreign {
            true => other.device("gw", Validity::Good, KeyFormat::Pkcs8)?,
            false => site.papers.device(Validity::Expired)?,
        };
        site.papers.show(&bad)?;
        let good = site.papers.device(Validity::Good)?;
        repaired(&mut site, "own-certificate-rejected", async |site| site.papers.show(&good)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_server_is_named_and_everything_arrives_once_it_is_renewed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let papers = Papers::new(dir.path())?;
    let names = ["localhost", "127.0.0.1"];
    let (old, renewed) =
        (papers.authority.server(&names, Validity::Good)?, papers.authority.server(&names, Validity::Good)?);
    let expired = papers.authority.server(&names, Validity::Expired)?;
    let mut site = Site::with_server(Plan::default(), dir, papers, old.clone()).await?;
    let swap = |from: &tidegate_tests::certs::Leaf| -> Result<()> {
        std::fs::copy(&from.cert, &old.cert)?;
        std::fs::copy(&from.key, &old.key)?;
        Ok(())
    };
    swap(&expired)?;
    site.broker.stop().await?;
    site.broker.start_again().await?;
    repaired(&mut site, "certificate-expired", async |site| {
        swap(&renewed)?;
        site.broker.stop().await?;
        site.broker.start_again().await
    })
    .await
}

//! A gateway that goes back to the version before, and forward again, on one set of files: nothing that was stored is lost, sent twice or out of order.
//!
//! `cargo xtask rollback` builds the program of the commit before and names it in `TIDEGATE_BEFORE`; without that there is nothing to go back to.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use gateway_daemon::app::snapshot::Snapshot;
use tidegate_tests::account::{self, Order, uplink};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::office;
use tidegate_tests::proxy::Fault;
use tidegate_tests::site::{Plan, Site};

/// Polls of one life.
const POLLS: u32 = 60;

/// Polls that were under way when a gateway was stopped: the device has answered, and perhaps nobody heard it.
type AtStops = Vec<std::ops::RangeInclusive<u64>>;

/// Ends a life, and notes what it was about.
async fn stops(site: &Site, gateway: Gateway, at_stops: &mut AtStops) -> Result<()> {
    let groups = u64::try_from(site.plan.groups)?;
    let heard = u64::from(site.device.answered()).saturating_sub(2 * groups);
    gateway.stop().await?;
    at_stops.push(heard..=u64::from(site.device.quiet().await?));
    Ok(())
}

/// One life of a gateway without a cloud: what it reads is stored.
async fn collects(site: &Site, mut gateway: Gateway, at_stops: &mut AtStops) -> Result<()> {
    site.polled(POLLS).await?;
    // Readings with a reason instead of a value.
    site.device.set_mute(true);
    let is_bad = |now: &Snapshot| now.tags.iter().all(|tag| tag.quality != "good");
    gateway.wait_for("readings without a value", is_bad).await?;
    site.device.set_mute(false);
    site.polled(POLLS).await?;
    stops(site, gateway, at_stops).await
}

/// The cloud is there again: everything arrives, once and in order.
async fn delivers(site: &Site, mut gateway: Gateway, at_stops: &mut AtStops) -> Result<()> {
    let answered = site.device.answered();
    site.network.set(Fault::None);
    let at_a_stop = |number: &u64| at_stops.iter().any(|range| range.contains(number));
    let whole = |all: &[office::Arrival]| {
        account::missing(all, answered).iter().all(at_a_stop) && office::holes(all).is_empty()
    };
    let all = site.office.wait_for("everything that was stored", whole).await.with_context(|| {
        format!("missing {:?}, at stops {at_stops:?}", account::missing(&site.office.arrivals(), answered))
    })?;
    account::check(&all, Order::PerLane)?;
    gateway.wait_for("nothing on disk", |now| uplink(now).ledger.stored.rows == 0).await?;
    let dropped = uplink(&gateway.snapshot().await?).ledger.dropped_total().rows;
    ensure!(dropped == 0, "{dropped} rows were dropped");
    site.network.set(Fault::AcceptAndClose);
    gateway.wait_for("the outage", |now| uplink(now).in_flight == 0).await?;
    stops(site, gateway, at_stops).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_version_has_stored_the_version_before_delivers_and_the_other_way_round() -> Result<()> {
    let Some(before) = std::env::var_os("TIDEGATE_BEFORE").map(PathBuf::from) else {
        eprintln!("skipped: TIDEGATE_BEFORE names no program; `cargo xtask rollback` builds one");
        return Ok(());
    };
    let site = Site::new(Plan { groups: 2, ..Plan::default() }).await?;
    site.network.set(Fault::AcceptAndClose);
    let mut at_stops = AtStops::new();
    collects(&site, site.gateway()?, &mut at_stops).await?;
    // The update is taken back.
    delivers(&site, site.gateway_of(&before)?, &mut at_stops).await?;
    collects(&site, site.gateway_of(&before)?, &mut at_stops).await?;
    // And comes again.
    delivers(&site, site.gateway()?, &mut at_stops).await?;
    let log = std::fs::read_to_string(site.dir.path().join("gateway.log"))?;
    for word in ["newer", "damaged", "moved aside"] {
        ensure!(!log.contains(word), "{word}: {log}");
    }
    Ok(())
}

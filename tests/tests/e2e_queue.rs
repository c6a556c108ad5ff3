//! What becomes of a backlog, from end to end: its order, its limits, a clean stop, and no wear of the disk when there is none.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use gateway_daemon::app::snapshot::{Link, Snapshot};
use tidegate_tests::account::{self, Order, states, uplink};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::office::{self, Arrival};
use tidegate_tests::proxy::Fault;
use tidegate_tests::site::{Plan, Site};

fn acknowledged(rows: u64) -> impl Fn(&Snapshot) -> bool {
    move |now| uplink(now).ledger.acknowledged.rows >= rows
}

fn on_disk(rows: u64) -> impl Fn(&Snapshot) -> bool {
    move |now| uplink(now).ledger.stored.rows >= rows
}

/// A site whose gateway has delivered something.
async fn working(plan: Plan) -> Result<(Site, Gateway)> {
    let site = Site::new(plan).await?;
    let mut gateway = site.gateway()?;
    gateway.wait_for("a few acknowledged", acknowledged(5)).await?;
    Ok((site, gateway))
}

/// Position of the first number that `wanted` accepts.
fn first(arrivals: &[Arrival], wanted: impl Fn(u64) -> bool) -> Result<usize> {
    account::numbers(arrivals).into_iter().position(wanted).context("no such number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifo_keeps_strict_order_through_a_long_outage() -> Result<()> {
    let (site, mut gateway) = working(Plan { drain: "fifo", ..Plan::default() }).await?;
    for _ in 0..2 {
        site.network.set(Fault::AcceptAndClose);
        gateway.wait_for("rows on disk", on_disk(60)).await?;
        site.network.set(Fault::None);
        site.settle(&gateway, Order::Strict).await?;
    }
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_value_overtakes_the_backlog_after_an_outage() -> Result<()> {
    let (site, mut gateway) = working(Plan { window: 4, ..Plan::default() }).await?;
    site.network.set(Fault::AcceptAndClose);
    gateway.wait_for("rows on disk", on_disk(80)).await?;
    // Two or three rows of the backlog per round trip from here on: it takes many polls to drain, however fast the machine is.
    let old = u64::from(site.device.answered());
    site.network.set(Fault::Delay(Duration::from_millis(20)));
    gateway.wait_for("the link", |now| uplink(now).connects == 2).await?;
    site.settle(&gateway, Order::PerLane).await?;
    let arrivals = site.office.arrivals();
    let fresh = first(&arrivals, |number| number > old)?;
    let left = account::numbers(&arrivals)[fresh..].iter().filter(|number| **number <= old).count();
    ensure!(left >= 40, "only {left} old values were still to come when the first fresh one came");
    gateway.stop().await
}

/// An outage in which `polls` messages come to a queue of 100, and what is missing afterwards. Gives the last poll before it as well.
async fn overflow(plan: Plan, polls: u32, reason: &str) -> Result<(Site, Vec<u64>, u64)> {
    let window = u64::from(plan.window);
    let (site, mut gateway) = working(plan).await?;
    let before = u64::from(site.device.answered());
    site.network.set(Fault::AcceptAndClose);
    site.polled(polls).await?;
    site.network.set(Fault::None);
    gateway
        .wait_for("the end of the backlog", |now| {
            uplink(now).link == Link::Up && uplink(now).connects == 2 && uplink(now).ledger.stored.rows == 0
        })
        .await?;
    // The last drop may be a moment ago; of what is polled from here on nothing is.
    let answered = site.polled(20).await?;
    let recent =
        |all: &[Arrival]| account::missing(all, answered).last().is_none_or(|n| *n + 4 < u64::from(answered));
    site.office.wait_for("fresh values", recent).await?;
    let picture = gateway.snapshot().await?;
    account::balanced(&picture)?;
    let dropped = &uplink(&picture).ledger.dropped;
    ensure!(dropped.len() == 1, "{dropped:?}");
    let count = dropped.get(reason).with_context(|| format!("{dropped:?}"))?;
    let arrivals = site.office.arrivals();
    account::check(&arrivals, Order::PerLane)?;
    let missing: Vec<u64> = account::missing(&arrivals, answered).into_iter().collect();
    let lost = missing.len() as u64;
    // What was under way when the link was lost has arrived, and may have been dropped after that for want of an acknowledgement.
    ensure!(
        (lost..=lost + window).contains(&count.readings),
        "{lost} are missing, {count:?} are counted: {missing:?}"
    );
    ensure!(lost >= 100, "{missing:?}");
    // Hundreds were dropped: one line says that it began, and which policy it is.
    let log = gateway.log();
    let begun: Vec<&str> = log.lines().filter(|line| line.contains("drops messages since")).collect();
    ensure!(
        begun.len() == 1 && begun[0].contains(" WARN  ") && begun[0].contains(&format!("({reason})")),
        "{begun:?}"
    );
    gateway.stop().await?;
    Ok((site, missing, before))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_drops_its_oldest_and_counts_every_one() -> Result<()> {
    let plan = Plan { queue: "rows_max = 100, when_full = \"drop-oldest\"", groups: 4, ..Plan::default() };
    let window = usize::from(plan.window);
    let (_site, missing, before) = overflow(plan, 300, "drop-oldest").await?;
    let (first, last) = (missing[0], missing[missing.len() - 1]);
    ensure!(first <= before + 30, "{first} is not the oldest after {before}");
    // The queue stays full for a moment when the link is back: what is under way or acknowledged just then is older than what is
    // dropped.
    let kept = usize::try_from(last - first + 1)? - missing.len();
    ensure!(kept <= 3 * window, "{kept} older ones were kept: {missing:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_the_newest_and_counts_every_one() -> Result<()> {
    let plan = Plan { queue: "rows_max = 100, when_full = \"drop-newest\"", groups: 4, ..Plan::default() };
    let (_site, missing, before) = overflow(plan, 300, "drop-newest").await?;
    ensure!(missing[0] >= before + 70, "{} came before the queue can have been full: {before}", missing[0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_thinned_out_and_counts_every_reading() -> Result<()> {
    // 50 polls per bucket: the queue holds two buckets as they are, and many more of two or three readings.
    let queue = "rows_max = 100, when_full = \"thin-out\", thin_bucket = \"1s\"";
    let (site, missing, _) =
        overflow(Plan { queue, every_ms: 20, ..Plan::default() }, 250, "thin-out").await?;
    let thinned =
        site.office.arrivals().iter().filter(|arrival| arrival.json.get("thinned").is_some()).count();
    ensure!(thinned > 0, "nothing says that it was thinned: {missing:?}");
    // Something of every stretch is kept: the ends of each bucket of at most 50 polls.
    let gap = missing.chunk_by(|a, b| a + 1 == *b).map(<[u64]>::len).max().unwrap_or(0);
    ensure!(gap <= 50, "a gap of {gap}: {missing:?}");
    Ok(())
}

/// Mutes the device and waits until the gateway has taken note of it, so that it has seen every answer before.
async fn silence(site: &Site, gateway: &mut Gateway) -> Result<u32> {
    site.device.set_mute(true);
    gateway
        .wait_for("a bad value", |now| now.tags[0].quality != "good" && now.tags[0].age_ms.is_some())
        .await?;
    Ok(site.device.answered())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_in_an_outage_loses_nothing_at_all() -> Result<()> {
    // With an interval this long nothing would be on disk by itself.
    let (site, mut gateway) = working(Plan { commit_ms: 60_000, ..Plan::default() }).await?;
    site.network.set(Fault::BlackHole);
    site.polled(40).await?;
    let answered = silence(&site, &mut gateway).await?;
    let before = gateway.snapshot().await?;
    account::balanced(&before)?;
    ensure!(uplink(&before).ledger.stored.rows == 0, "{:?}", uplink(&before).ledger);
    gateway.stop().await?;
    site.network.set(Fault::None);
    site.device.set_mute(false);
    let mut gateway = site.gateway()?;
    let after = gateway.wait_for("an answer", |_| true).await?;
    ensure!(uplink(&after).ledger.restored.rows >= uplink(&before).ledger.in_memory.rows, "{after:?}");
    site.office.wait_for("all of it", |all| account::missing(all, answered).is_empty()).await?;
    site.settle(&gateway, Order::PerLane).await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_while_connected_leaves_nothing_behind() -> Result<()> {
    let (site, mut gateway) = working(Plan::default()).await?;
    let answered = silence(&site, &mut gateway).await?;
    gateway.stop().await?;
    site.office.wait_for("all of it", |all| account::missing(all, answered).is_empty()).await?;
    site.office
        .wait_for("its goodbye", |all| states(all).last().is_some_and(|last| last.0 == "stopped"))
        .await?;
    let gateway = site.gateway()?;
    let mut again = gateway;
    let picture = again.wait_for("an answer", |_| true).await?;
    ensure!(uplink(&picture).ledger.restored.rows == 0, "{:?}", uplink(&picture).ledger);
    again.stop().await
}

/// What a subscriber finds who comes only now.
async fn retained(site: &Site) -> Result<String> {
    let own = site.papers.device(tidegate_tests::certs::Validity::Good)?;
    let output = tokio::process::Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &site.broker.port().to_string(), "-i", "late"])
        .args(["-q", "1", "-C", "1", "-W", "30", "-t", "gw/status"])
        .args(office::tls_words(site.papers.authority.ca(), &own))
        .stdin(Stdio::null())
        .output()
        .await?;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(json["state"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_office_always_knows_whether_the_gateway_is_there() -> Result<()> {
    let (site, gateway) = working(Plan::default()).await?;
    let told = |words: &'static [&'static str]| {
        move |all: &[Arrival]| states(all).iter().map(|(state, _)| state.as_str()).eq(words.iter().copied())
    };
    site.office.wait_for("online", told(&["online"])).await?;
    ensure!(retained(&site).await? == "online");
    gateway.kill()?;
    site.office.wait_for("the last will", told(&["online", "offline"])).await?;
    ensure!(retained(&site).await? == "offline");
    let mut gateway = site.gateway()?;
    site.office.wait_for("online again", told(&["online", "offline", "online"])).await?;
    ensure!(retained(&site).await? == "online");
    gateway.wait_for("the link", |now| uplink(now).link == Link::Up).await?;
    gateway.stop().await?;
    site.office.wait_for("a goodbye", told(&["online", "offline", "online", "stopped"])).await?;
    ensure!(retained(&site).await? == "stopped");
    let births = states(&site.office.arrivals());
    ensure!(
        births.iter().all(|(_, reason)| reason.is_none()),
        "a first connection has lost nothing: {births:?}"
    );
    Ok(())
}

/// Name, length and time of the last change of every file of the database.
fn database(dir: &Path) -> Result<Vec<(String, u64, SystemTime)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("queue.db") {
            let meta = entry.metadata()?;
            files.push((name, meta.len(), meta.modified()?));
        }
    }
    ensure!(!files.is_empty(), "there is no database");
    files.sort();
    Ok(files)
}

/// 100 polls during which nothing is written.
async fn unworn(site: &Site, gateway: &mut Gateway) -> Result<()> {
    let (log, written, files) = (gateway.log(), gateway.written_bytes()?, database(site.dir.path())?);
    let counted = gateway.snapshot().await?.store.written_bytes;
    let rows = uplink(&gateway.snapshot().await?).ledger.acknowledged.rows;
    gateway.wait_for("100 polls acknowledged", acknowledged(rows + 100)).await?;
    // Its log is a file here, and a line may dirty two pages; on a gateway it goes to the journal.
    let (written, logged) = (gateway.written_bytes()? - written, gateway.log().split_off(log.len()));
    let pages = 2 * logged.lines().count() as u64;
    ensure!(written <= pages * 4096, "{written} bytes were written, and logged: {logged:?}");
    ensure!(
        database(site.dir.path())? == files,
        "the database changed: {files:?}, {:?}",
        database(site.dir.path())?
    );
    ensure!(gateway.snapshot().await?.store.written_bytes == counted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wear_when_all_is_well_before_an_outage_and_after_it() -> Result<()> {
    // Long enough for acknowledgements on any machine: what is promised is for those that come in time.
    let (site, mut gateway) = working(Plan { commit_ms: 3_000, ..Plan::default() }).await?;
    unworn(&site, &mut gateway).await?;
    let before = gateway.snapshot().await?.store.written_bytes;
    site.network.set(Fault::AcceptAndClose);
    gateway.wait_for("rows on disk", on_disk(20)).await?;
    ensure!(gateway.snapshot().await?.store.written_bytes > before, "the check above cannot fail");
    site.network.set(Fault::None);
    site.settle(&gateway, Order::PerLane).await?;
    gateway.wait_for("an empty disk", |now| uplink(now).ledger.stored.rows == 0).await?;
    // Deletions follow within one interval of the last acknowledgement of the backlog.
    let mut files = Vec::new();
    while files != database(site.dir.path())? {
        files = database(site.dir.path())?;
        site.polled(130).await?;
    }
    unworn(&site, &mut gateway).await?;
    gateway.stop().await
}

//! Uplinks that are changed, taken away and put back under a running gateway.

use anyhow::{Result, ensure};
use tidegate_tests::account::{balanced, states, uplink};
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{self, Office};
use tidegate_tests::proxy::Fault;

use super::{PLAIN, Plant, whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_or_counted_when_an_uplink_goes_to_another_server_with_a_backlog() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    plant.network.set(Fault::AcceptAndClose);
    gateway.wait_for("rows on disk", |now| uplink(now).ledger.stored.rows > 40).await?;
    let other = Mosquitto::start(&Options::default()).await?;
    let branch = Office::open(other.port(), "gw/#").await?;
    let from = format!("mqtt://127.0.0.1:{}", plant.network.port());
    let moved = plant.config(PLAIN).replace(&from, &format!("mqtt://127.0.0.1:{}", other.port()));
    let before = gateway.snapshot().await?;
    let after = gateway.reload(&moved).await?;
    ensure!(
        after.refused.is_none()
            && uplink(&after).ledger.produced.rows >= uplink(&before).ledger.produced.rows
    );
    gateway.wait_for("an empty queue", |now| uplink(now).ledger.stored.rows == 0).await?;
    let goal = plant.two.answered();
    let there = |arrivals: &[office::Arrival]| {
        let of_second: Vec<_> =
            arrivals.iter().filter(|a| a.topic.starts_with("gw/second/")).cloned().collect();
        office::counts(&of_second, "count").last().is_some_and(|last| *last >= u64::from(goal))
    };
    branch.wait_for("what waited", there).await?;
    let mut all = plant.office.arrivals();
    all.extend(branch.arrivals());
    ensure!(office::holes(&all).is_empty(), "{:?}", office::holes(&all));
    let last = gateway.snapshot().await?;
    balanced(&last)?;
    ensure!(uplink(&last).ledger.dropped_total().rows == 0, "{last:?}");
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uplink_that_is_taken_away_says_goodbye_and_numbers_on_when_it_comes_back() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    let with = plant.config(PLAIN);
    let (head, tail) = (with.find("[uplink.cloud]").unwrap_or(0), with.find("[broker.").unwrap_or(0));
    let without = format!("{}{}", &with[..head], &with[tail..]);
    let after = gateway.reload(&without).await?;
    ensure!(after.uplinks.is_empty() && after.refused.is_none(), "{after:?}");
    plant
        .office
        .wait_for("the goodbye", |all| states(all).iter().any(|(state, _)| state == "stopped"))
        .await?;
    // Of what is read meanwhile nobody wants to know.
    let silent = plant.two.answered();
    plant.two.wait_for(silent + 10).await?;
    gateway.reload(&with).await?;
    let goal = plant.two.answered() + 10;
    plant.two.wait_for(goal).await?;
    let fresh = |all: &[office::Arrival]| office::counts(all, "count").last() >= Some(&u64::from(goal));
    let all = plant.office.wait_for("fresh readings", fresh).await?;
    ensure!(office::holes(&all).is_empty(), "{:?}", office::holes(&all));
    ensure!(office::out_of_order(&all).is_empty(), "{:?}", office::out_of_order(&all));
    let numbers: Vec<_> = all.iter().filter_map(office::Arrival::number).collect();
    let distinct: std::collections::BTreeSet<_> = numbers.iter().collect();
    ensure!(distinct.len() == numbers.len(), "a number was given out twice");
    balanced(&gateway.snapshot().await?)?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_uplink_more_gets_what_is_read_from_then_on() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    let other = Mosquitto::start(&Options::default()).await?;
    let branch = Office::open(other.port(), "gw/#").await?;
    let more = format!(
        "[uplink.branch]\nurl = \"mqtt://127.0.0.1:{}\"\nbackoff_min = \"100ms\"\n[broker.",
        other.port()
    );
    let after = gateway.reload(&plant.config(PLAIN).replacen("[broker.", &more, 1)).await?;
    ensure!(after.uplinks.len() == 2 && after.refused.is_none(), "{after:?}");
    branch.wait_for("readings", |all| office::counts(all, "count").len() > 20).await?;
    // Its client id is written down; the one by default would be another beside a second uplink.
    ensure!(plant.network.accepted() == 1, "{} connections to the cloud", plant.network.accepted());
    whole(&plant, "second", plant.two.answered()).await?;
    for uplink in gateway.snapshot().await?.uplinks {
        ensure!(uplink.ledger.balanced(), "{uplink:?}");
    }
    gateway.stop().await
}

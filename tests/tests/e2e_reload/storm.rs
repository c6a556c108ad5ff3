//! Reloads at bad moments: with a queue that is too full for its new limits, and while another one is under way.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidegate_tests::account::{balanced, uplink};
use tidegate_tests::office;
use tidegate_tests::proxy::Fault;

use super::{MORE, PLAIN, Plant, whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_or_counted_when_a_reload_narrows_a_full_queue_and_widens_it_again() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    let limited = |rows: u32| format!("{}[uplink.cloud.queue]\nrows_max = {rows}\n", plant.config(PLAIN));
    plant.network.set(Fault::AcceptAndClose);
    gateway.wait_for("rows on disk", |now| uplink(now).ledger.stored.rows > 250).await?;
    let after = gateway.reload(&limited(100)).await?;
    ensure!(after.refused.is_none(), "{after:?}");
    let narrow = gateway
        .wait_for("a queue within its limit", |now| {
            let ledger = &uplink(now).ledger;
            ledger.queued().rows <= 100 && ledger.dropped_total().rows >= 150
        })
        .await?;
    balanced(&narrow)?;
    ensure!(uplink(&narrow).ledger.dropped.keys().all(|reason| reason == "drop-oldest"), "{narrow:?}");
    gateway.reload(&limited(100_000)).await?;
    let before = gateway.snapshot().await?;
    let dropped = uplink(&before).ledger.dropped_total().rows;
    gateway.wait_for("more than it could hold", |now| uplink(now).ledger.queued().rows > 200).await?;
    plant.network.set(Fault::None);
    gateway.wait_for("an empty queue", |now| uplink(now).ledger.stored.rows == 0).await?;
    let last = gateway.snapshot().await?;
    balanced(&last)?;
    ensure!(uplink(&last).ledger.dropped_total().rows == dropped, "dropped in the wide queue: {last:?}");
    ensure!(plant.two.connections() == 1, "the bus was opened {} times", plant.two.connections());
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_file_is_in_force_after_a_storm_of_reloads() -> Result<()> {
    let plant = Plant::new().await?;
    let mut gateway = plant.gateway(PLAIN).await?;
    let files = [plant.config(PLAIN), plant.config(MORE), plant.config("[[device.first.poll]\n")];
    let more = gateway.reload(&files[1]).await?.config;
    let plain = gateway.reload(&files[0]).await?.config;
    ensure!(more != plain);
    let path = plant.dir.path().join("gateway.toml");
    for round in 0..60_usize {
        let fresh = plant.dir.path().join("fresh.toml");
        std::fs::write(&fresh, &files[round % 3])?;
        std::fs::rename(&fresh, &path)?;
        gateway.hang_up()?;
        tokio::time::sleep(Duration::from_millis([0, 1, 3, 12][round % 4])).await;
    }
    // Broken is what the storm ends with; a file that is good comes as one signal more, while the last of the storm may be under way.
    std::fs::write(plant.dir.path().join("fresh.toml"), &files[1])?;
    std::fs::rename(plant.dir.path().join("fresh.toml"), &path)?;
    gateway.hang_up()?;
    let settled =
        gateway.wait_for("the last file", |now| now.config == more && now.refused.is_none()).await?;
    plant.two.wait_for(plant.two.answered() + 20).await?;
    let last = gateway.snapshot().await?;
    ensure!(last.config == more && last.refused.is_none(), "{last:?}");
    ensure!(last.reloads >= 3 && last.reloads + last.refusals <= 63, "{last:?}");
    ensure!(last.tags.len() == 3, "{settled:?}");
    ensure!(plant.two.connections() == 1, "the other bus was opened {} times", plant.two.connections());
    whole(&plant, "second", plant.two.answered()).await?;
    balanced(&last)?;
    ensure!(
        office::holes(&plant.office.arrivals()).is_empty(),
        "{:?}",
        office::holes(&plant.office.arrivals())
    );
    gateway.stop().await
}

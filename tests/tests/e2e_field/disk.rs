//! Collection goes on whatever the disk does; the fault is visible in words, the ledger stays balanced, and it recovers.

use std::path::Path;

use gateway_daemon::app::snapshot::Snapshot;
use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{self, Office};
use tidegate_tests::proxy::{Fault, FaultProxy};

use crate::{assert_balanced, counter, dead_port, head};

fn fault(now: &Snapshot) -> &str {
    now.store.fault.as_deref().unwrap_or_default()
}

/// Ten more polls were made and are kept somewhere.
async fn goes_on(gateway: &mut Gateway, device: &CounterDevice) {
    let (polls, rows) =
        (device.answered(), gateway.snapshot().await.unwrap().uplinks[0].ledger.produced.rows);
    gateway
        .wait_for("ten more polls", |now| {
            device.answered() >= polls + 10 && now.uplinks[0].ledger.produced.rows >= rows + 9
        })
        .await
        .unwrap();
    assert_balanced(gateway).await;
}

fn with_path(config: &str, dir: &Path, path: &str) -> String {
    let old = format!("path = \"{}/queue.db\"", dir.display());
    assert!(config.contains(&old));
    config.replace(&old, &format!("path = \"{}/{path}\"", dir.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_made_is_told_and_made_when_that_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let device = CounterDevice::start().await.unwrap();
    // A file where the folder should be stops root as well.
    std::fs::write(dir.path().join("place"), "not a folder").unwrap();
    let config =
        with_path(&(head(dir.path(), dead_port()) + &counter(device.port)), dir.path(), "place/queue.db");
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    let now = gateway.wait_for("the fault", |now| !fault(now).is_empty()).await.unwrap();
    assert!(now.store.path.ends_with("place/queue.db"), "{:?}", now.store);
    goes_on(&mut gateway, &device).await;
    assert_eq!(gateway.snapshot().await.unwrap().uplinks[0].ledger.stored.rows, 0);

    std::fs::remove_file(dir.path().join("place")).unwrap();
    gateway
        .wait_for("rows on disk", |now| fault(now).is_empty() && now.uplinks[0].ledger.stored.rows >= 10)
        .await
        .unwrap();
    assert_balanced(&gateway).await;
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_queue_database_are_moved_aside_and_kept() {
    let device = CounterDevice::start().await.unwrap();
    let foreign = b"SQLite format 3\0".iter().copied().chain(std::iter::repeat_n(7, 8000)).collect();
    for content in [b"these are no rows\n".repeat(1000), foreign] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("queue.db"), &content).unwrap();
        let config = head(dir.path(), dead_port()) + &counter(device.port);
        let mut gateway = Gateway::start(dir.path(), &config).unwrap();
        gateway.wait_for("rows on disk", |now| now.uplinks[0].ledger.stored.rows >= 5).await.unwrap();
        goes_on(&mut gateway, &device).await;
        let log = gateway.log();
        assert!(log.contains("ERROR the queue database is"), "{log}");
        gateway.stop().await.unwrap();
        let kept = std::fs::read_dir(dir.path())
            .unwrap()
            .filter_map(|entry| std::fs::read(entry.unwrap().path()).ok())
            .any(|bytes| bytes == content);
        assert!(kept, "the file that was there is gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_another_gateway_holds_is_taken_over_when_that_one_stops() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let device = CounterDevice::start().await.unwrap();
    let config = head(dir.path(), dead_port()) + &counter(device.port);
    let mut holder = Gateway::start(dir.path(), &config).unwrap();
    holder.wait_for("rows on disk", |now| now.uplinks[0].ledger.stored.rows >= 3).await.unwrap();
    let socket = |dir: &Path| format!("socket = \"{}/control.sock\"", dir.display());
    let second = config.replace(&socket(dir.path()), &socket(other.path()));
    let mut gateway = Gateway::start(other.path(), &second).unwrap();
    gateway.wait_for("the fault", |now| fault(now).contains("another gateway")).await.unwrap();
    goes_on(&mut gateway, &device).await;

    holder.stop().await.unwrap();
    gateway
        .wait_for("rows on disk", |now| fault(now).is_empty() && now.uplinks[0].ledger.stored.rows >= 10)
        .await
        .unwrap();
    assert_balanced(&gateway).await;
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_database_drops_by_policy_counts_and_drains_when_the_cloud_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let device = CounterDevice::start().await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "gw/#").await.unwrap();
    let proxy = FaultProxy::to_port(broker.port()).await.unwrap();
    proxy.set(Fault::Reset);
    // The smallest file, and rows of some 3 kB that fill it soon.
    let mut config =
        head(dir.path(), proxy.port()).replace("queue.db\"\n", "queue.db\"\nfile_max = \"1MB\"\n");
    config += &counter(device.port).replace("100ms", "20ms");
    for number in 1..=310 {
        config += &format!("tags.f{number} = {{ holding = {}, type = \"f64\" }}\n", 4 * number);
    }
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    let now = gateway
        .wait_for("a full database", |now| {
            fault(now).contains("full") || now.uplinks[0].ledger.dropped_total().rows > 0
        })
        .await
        .unwrap();
    assert!(now.store.file_bytes <= now.store.file_bytes_max, "{:?}", now.store);
    goes_on(&mut gateway, &device).await;

    proxy.set(Fault::None);
    let last = u64::from(device.answered());
    gateway
        .wait_for("a drained queue", |now| fault(now).is_empty() && now.uplinks[0].ledger.stored.rows < 20)
        .await
        .unwrap();
    office.wait_for("live values", |all| office::counts(all, "count").last() > Some(&last)).await.unwrap();
    assert_balanced(&gateway).await;
    gateway.stop().await.unwrap();
}

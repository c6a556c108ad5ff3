//! Full and read-only disks, and the limit of the file.

use std::process::Command;

use super::*;

/// A small disk of its own; `None`, printed, where mounting is not allowed.
pub(super) struct Disk(tempfile::TempDir);

impl Disk {
    pub(super) fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        println!("not tested here: mounting a tmpfs needs root");
        None
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn remount(&self, mode: &str) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{mode}")])
            .arg(self.0.path())
            .status()
            .unwrap();
        assert!(done.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Commits batches until one fails; returns the fault and how many rows were stored.
async fn fill(store: &Store, queue: QueueId, from: u64) -> (StoreFault, u64) {
    for first in (from..from + 1_000_000).step_by(50) {
        if let StoreEvent::Failed { fault, .. } = store.apply(queue, commit(rows(first..first + 50))).await {
            return (fault, first - 1);
        }
    }
    panic!("never full");
}

#[tokio::test]
async fn the_file_limit_holds_and_a_full_database_still_takes_deletions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let limit = 1_000_000;
    let store = Store::open(&StoreSettings { path: path.clone(), file_bytes_max: limit }).await;
    let (queue, _) = store.open_queue("cloud").await;
    let (other, _) = store.open_queue("other").await;
    committed(&store, other, commit(rows(1..=200))).await;
    let (fault, last) = fill(&store, queue, 1).await;
    assert_eq!(fault, StoreFault::Full);
    assert!(last > 4000, "{last} rows of about 100 bytes in {limit}");
    let health = store.health();
    assert!(health.file_bytes <= limit, "{}", health.file_bytes);
    assert_eq!(health.fault.unwrap().0, StoreFault::Full);
    // In one transaction: one queue has no room, the other deletes.
    let (full, freed) = tokio::join!(
        store.apply(queue, commit(rows(last + 1..last + 500))),
        store.apply(other, acked(1, 200))
    );
    assert_eq!(failed(&full), StoreFault::Full);
    assert!(matches!(freed, StoreEvent::Committed { deleted: Tally { rows: 200, .. }, .. }), "{freed:?}");
    assert_eq!(fetched(&store, queue).await.len() as u64, last);
    committed(&store, queue, commit(rows(last + 1..=last + 50))).await;
    assert_eq!(store.health().fault, None);
    let trim = StoreOp::Trim { op: 1, rows: 1000, bytes: 0, priority_max: Priority::High, keep: Vec::new() };
    assert!(matches!(
        store.apply(queue, trim).await,
        StoreEvent::Trimmed { dropped: Tally { rows: 1000, .. }, .. }
    ));
    committed(&store, queue, commit(rows(last + 51..=last + 800))).await;
    assert!(store.health().file_bytes <= limit);
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_works_again_when_there_is_room() {
    let Some(disk) = Disk::mount("1500k") else { return };
    let path = disk.0.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, commit(rows(1..=500))).await;
    // Others fill the disk to the last block.
    let ballast = disk.0.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![7; 2_000_000]);
    let (fault, last) = fill(&store, queue, 501).await;
    assert_eq!(fault, StoreFault::Full);
    assert_eq!(fetched(&store, queue).await, rows(1..=last));
    std::fs::remove_file(&ballast).unwrap();
    committed(&store, queue, commit(rows(last + 1..=last + 500))).await;
    assert_eq!(store.health().fault, None);
    assert_eq!(fetched(&store, queue).await, rows(1..=last + 500));
    assert_eq!(store.health().counters.moved_aside, 0);
}

#[tokio::test]
async fn on_a_full_disk_rows_still_fit_where_older_ones_were_deleted() {
    let Some(disk) = Disk::mount("1500k") else { return };
    let path = disk.0.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    for first in (1..=3000).step_by(100) {
        committed(&store, queue, commit(rows(first..first + 100))).await;
    }
    store.close().await.unwrap();
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, acked(1, 2900)).await;
    let _ = std::fs::write(disk.0.path().join("ballast"), vec![7; 2_000_000]);
    for first in (3001..=5000).step_by(20) {
        committed(&store, queue, commit(rows(first..first + 20))).await;
    }
    assert_eq!(fetched(&store, queue).await, rows(2901..=5000));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_at_the_start_is_a_fault_that_passes() {
    let Some(disk) = Disk::mount("64k") else { return };
    let path = disk.0.path().join("queue.db");
    let ballast = disk.0.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![7; 200_000]);
    let store = Store::open(&settings(&path)).await;
    assert_eq!(store.health().fault.unwrap().0, StoreFault::Full);
    let (queue, stored) = store.open_queue("cloud").await;
    assert_eq!(failed(&store.apply(queue, commit(rows(1..=1))).await), StoreFault::Full);
    std::fs::remove_file(&ballast).unwrap();
    disk.remount("size=1m");
    assert_eq!(store.next_reset().await.0, queue);
    committed(&store, queue, commit(rows(stored.last.0 + 1..=stored.last.0 + 3))).await;
}

#[tokio::test]
async fn a_database_that_fills_its_disk_by_itself_takes_deletions_and_rows_again() {
    for size in ["400k", "700k", "1500k"] {
        let Some(disk) = Disk::mount(size) else { return };
        let path = disk.0.path().join("queue.db");
        let store = Store::open(&settings(&path)).await;
        let (queue, _) = store.open_queue("cloud").await;
        let (fault, last) = fill(&store, queue, 1).await;
        assert_eq!(fault, StoreFault::Full, "{size}");
        assert!(last >= 500, "{size}: {last}");
        // As the cloud acknowledges, and all at once.
        for first in (1..last - 300).step_by(100) {
            committed(&store, queue, acked(first, first + 99)).await;
        }
        committed(&store, queue, acked(1, last)).await;
        assert_eq!(fetched(&store, queue).await, [], "{size}");
        let (fault, again) = fill(&store, queue, last + 1).await;
        assert_eq!(fault, StoreFault::Full, "{size}");
        assert!(again - last >= last * 9 / 10, "{size}: {last} rows, then {}", again - last);
        committed(&store, queue, acked(1, again)).await;
        committed(&store, queue, commit(rows(again + 1..=again + 50))).await;
        assert_eq!(store.health().fault, None, "{size}");
        store.close().await.unwrap();
        let store = Store::open(&settings(&path)).await;
        assert_eq!(store.open_queue("cloud").await.1.normal.rows, 50, "{size}: nothing comes back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_full_by_its_own_limit_stays_full_until_something_goes() {
    let Some(disk) = Disk::mount("1500k") else { return };
    let store = Store::open(&settings(&disk.0.path().join("queue.db"))).await;
    let (queue, _) = store.open_queue("cloud").await;
    let (_, last) = fill(&store, queue, 1).await;
    for _ in 0..10 {
        tokio::time::sleep(std::time::Duration::from_secs(21)).await;
        assert_eq!(store.health().fault.map(|(fault, _)| fault), Some(StoreFault::Full));
    }
    committed(&store, queue, acked(1, last / 2)).await;
    committed(&store, queue, commit(rows(last + 1..=last + 20))).await;
    assert_eq!(store.health().fault, None);
}

/// Waits until the store has no fault, by its own looks.
async fn passes(store: &Store) {
    for _ in 0..60 {
        if store.health().fault.is_none() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    panic!("after a minute: {:?}", store.health().fault);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_that_nobody_writes_to_any_more_is_looked_at_again_and_its_fault_passes() {
    let Some(disk) = Disk::mount("1500k") else { return };
    let store = Store::open(&settings(&disk.0.path().join("queue.db"))).await;
    let (queue, _) = store.open_queue("cloud").await;
    let ballast = disk.0.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![7; 2_000_000]);
    let (_, last) = fill(&store, queue, 1).await;
    assert_eq!(store.health().fault.unwrap().0, StoreFault::Full);
    tokio::time::sleep(std::time::Duration::from_secs(90)).await;
    assert_eq!(store.health().fault.unwrap().0, StoreFault::Full, "it is full");
    std::fs::remove_file(&ballast).unwrap();
    // The rows that did not fit were acknowledged from memory: nothing is left to be written.
    passes(&store).await;
    assert_eq!(store.health().rows, last);
    committed(&store, queue, commit(rows(last + 1..=last + 500))).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_without_room_for_one_more_file_is_a_fault_that_passes() {
    let Some(disk) = Disk::mount("1500k,nr_inodes=2") else { return };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, "the last file").unwrap();
    let store = Store::open(&settings(&disk.0.path().join("queue.db"))).await;
    assert_eq!(store.health().fault.unwrap().0, StoreFault::Full);
    let (queue, stored) = store.open_queue("cloud").await;
    std::fs::remove_file(&ballast).unwrap();
    disk.remount("nr_inodes=20");
    assert_eq!(store.next_reset().await.0, queue);
    committed(&store, queue, commit(rows(stored.last.0 + 1..=stored.last.0 + 3))).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_only_disk_is_a_fault_that_passes_and_nothing_is_moved() {
    let Some(disk) = Disk::mount("2m") else { return };
    let path = disk.0.path().join("queue.db");
    filled(&path, 30).await;
    disk.remount("ro");
    let store = Store::open(&settings(&path)).await;
    let health = store.health();
    assert_eq!((health.fault.unwrap().0, health.counters.moved_aside), (StoreFault::ReadOnly, 0));
    let (queue, _) = store.open_queue("cloud").await;
    assert_eq!(failed(&store.apply(queue, commit(rows(1..=1))).await), StoreFault::ReadOnly);
    disk.remount("rw");
    let (_, event) = store.next_reset().await;
    let StoreEvent::Reset { salvaged, .. } = event else { panic!("{event:?}") };
    assert_eq!((salvaged.normal, salvaged.last), (tally(&rows(1..=30)), Seq(30)));
    assert_eq!(fetched(&store, queue).await, rows(1..=30));
}

/// Percent of the bytes of rows, as limits count them, that the file has more than an empty one.
async fn percent_of_file(body: usize, topic: impl Fn(u64) -> String) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&StoreSettings { path: path.clone(), file_bytes_max: 1 << 30 }).await;
    let (queue, _) = store.open_queue("cloud").await;
    let number = (400_000 / (body as u64 + 100)).clamp(20, 2000);
    let mut held = 0;
    for from in (1..=number).step_by(100) {
        let rows: Vec<_> = (from..(from + 100).min(number + 1))
            .map(|seq| {
                let row = row_of(seq, Priority::Normal, body);
                Arc::new(Row { topic: topic(seq).into(), ..(*row).clone() })
            })
            .collect();
        held += rows.iter().map(|row| row.size()).sum::<u64>();
        committed(&store, queue, commit(rows)).await;
    }
    store.close().await.unwrap();
    let empty = 20 * layout::PAGE_BYTES;
    std::fs::metadata(&path).unwrap().len().saturating_sub(empty) * 100 / held
}

#[tokio::test]
async fn rows_of_any_size_take_no_more_of_the_file_than_limits_count_for_them() {
    let mut worst = (0, 0);
    let sizes = [
        0, 10, 50, 80, 110, 130, 150, 160, 180, 200, 215, 225, 230, 235, 240, 245, 250, 260, 280, 300, 330,
        400, 430, 445, 450, 460, 470, 480, 500, 600, 700, 900, 950, 1000, 1500, 3000, 20_000, 100_000,
    ];
    for body in sizes {
        let same = percent_of_file(body, |_| "t".to_owned()).await;
        let other = percent_of_file(body, |seq| format!("t/{seq:030}")).await;
        worst = worst.max((same, body)).max((other, body));
    }
    println!("worst: {} % with {} bytes", worst.0, worst.1);
    assert!(worst.0 <= gateway_core::fit::FILE_PERCENT, "{worst:?}");
}

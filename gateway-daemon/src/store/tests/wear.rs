//! No wear when all is well.

use super::*;

/// Names, sizes and modification times in a folder, and bytes this thread's process has caused to be written.
fn files(folder: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let found = entry.metadata().unwrap();
            (entry.file_name().into_string().unwrap(), found.len(), found.modified().unwrap())
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn nothing_is_written_when_nothing_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 100).await;
    let before = (files(folder.path()), std::fs::metadata(folder.path()).unwrap().modified().unwrap());
    for _ in 0..2 {
        let store = Store::open(&settings(&path)).await;
        let (queue, _) = store.open_queue("cloud").await;
        store.open_queue("another").await;
        store.learn_schema(1, b"schema").await;
        store.note_boot(BootId(5), WallMs(1)).await;
        assert_eq!(fetched(&store, queue).await.len(), 100);
        committed(&store, queue, StoreOp::Commit { op: 1, rows: Vec::new(), acked: Vec::new() }).await;
        committed(&store, queue, acked(1000, 2000)).await;
        assert_eq!(store.schemas().await.len(), 1);
        assert_eq!(store.health().counters.checkpoints, 0);
        store.close().await.unwrap();
    }
    let after = (files(folder.path()), std::fs::metadata(folder.path()).unwrap().modified().unwrap());
    assert_eq!(before, after);
    let names: Vec<_> = after.0.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["queue.db", "queue.db-wal"], "no memory-mapped index");
    assert_eq!(after.0[1].1, 0, "an empty log stays");
}

#[tokio::test]
async fn the_log_is_copied_only_when_it_is_long_and_stays_short() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    for first in (1..=4000).step_by(100) {
        committed(&store, queue, commit(rows(first..first + 100))).await;
    }
    let health = store.health();
    assert!((1..20).contains(&health.counters.checkpoints), "{}", health.counters.checkpoints);
    assert_eq!(health.counters.commits, 40);
    let log = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    assert!(log < 512 * 1024, "{log}");
    assert_eq!(
        health.counters.row_bytes / health.counters.rows_written,
        94,
        "a row of 80 bytes with its columns"
    );
}

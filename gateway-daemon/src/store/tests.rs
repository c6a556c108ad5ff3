//! Promises of the store, on real files.

mod crash;
mod damage;
mod damages;
mod gone;
mod limits;
mod marks;
mod model;
mod sieve;
mod turn_crash;
mod turn_faults;
mod turn_model;
mod turns;
mod wear;

use std::path::Path;
use std::sync::Arc;

use gateway_core::broker::{Found, Limits, Sieve};
use gateway_core::settings::StoreSettings;
use gateway_core::tag::{BootId, BootNs, RunId, WallMs};
use gateway_core::uplink::row::{
    Body, Priority, Qos, QueueId, Row, Seq, StoreEvent, StoreFault, StoreOp, Stored, Tally,
};
use rusqlite::Connection;

pub(super) use self::damage::random;
use super::Store;
use super::layout;

pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;

pub(super) fn settings(path: &Path) -> StoreSettings {
    StoreSettings { path: path.to_owned(), file_bytes_max: FILE_BYTES_MAX }
}

pub(super) fn sieve() -> Sieve {
    Sieve::new(&Limits::default())
}

pub(super) fn row(seq: u64) -> Arc<Row> {
    row_of(seq, Priority::Normal, 80)
}

pub(super) fn row_of(seq: u64, priority: Priority, body: usize) -> Arc<Row> {
    Arc::new(Row {
        seq: Seq(seq),
        priority,
        topic: format!("plant/meter{}/1", seq % 5).into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        body: Body::Record(
            (0..body).map(|index| seq.wrapping_mul(31).wrapping_add(index as u64).to_le_bytes()[0]).collect(),
        ),
        readings: 10,
        run: RunId { boot: BootId(0xB007), start_ms: 1234 },
        at: BootNs(seq.wrapping_mul(1_000_000_000)),
        expiry_s: None,
    })
}

pub(super) fn rows(range: impl Iterator<Item = u64>) -> Vec<Arc<Row>> {
    range.map(row).collect()
}

pub(super) fn tally(rows: &[Arc<Row>]) -> Tally {
    let mut tally = Tally::default();
    rows.iter().for_each(|row| tally.add_row(row));
    tally
}

pub(super) fn commit(rows: Vec<Arc<Row>>) -> StoreOp {
    StoreOp::Commit { op: 1, rows, acked: Vec::new() }
}

pub(super) fn acked(from: u64, to: u64) -> StoreOp {
    StoreOp::Commit { op: 2, rows: Vec::new(), acked: vec![(Seq(from), Seq(to))] }
}

pub(super) fn fetch_all() -> StoreOp {
    StoreOp::Fetch { op: 3, after: Seq(0), until: Seq(u64::MAX), rows_max: 1_000_000, bytes_max: u64::MAX }
}

pub(super) async fn fetched(store: &Store, queue: QueueId) -> Vec<Arc<Row>> {
    match store.apply(queue, fetch_all()).await {
        StoreEvent::Fetched { rows, more: false, .. } => rows,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn committed(store: &Store, queue: QueueId, op: StoreOp) -> Tally {
    match store.apply(queue, op).await {
        StoreEvent::Committed { deleted, .. } => deleted,
        other => panic!("{other:?}"),
    }
}

pub(super) fn failed(event: &StoreEvent) -> StoreFault {
    match event {
        StoreEvent::Failed { fault, .. } => *fault,
        other => panic!("{other:?}"),
    }
}

/// Opens a store in which `count` rows of queue "cloud" are stored and checkpointed, and closes it.
pub(super) async fn filled(path: &Path, count: u64) {
    let store = Store::open(&settings(path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, commit(rows(1..=count))).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_stored_row_is_deleted_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let all = rows(1..=300);
    {
        let store = Store::open(&settings(&path)).await;
        let (queue, stored) = store.open_queue("cloud").await;
        assert_eq!(stored, Stored::default());
        assert_eq!(committed(&store, queue, commit(all.clone())).await, Tally::default());
        assert_eq!(fetched(&store, queue).await, all);
        assert_eq!(committed(&store, queue, acked(11, 20)).await, tally(&all[10..20]));
        assert_eq!(
            committed(&store, queue, acked(11, 20)).await,
            Tally::default(),
            "absent rows are no error"
        );
        store.close().await.unwrap();
    }
    let store = Store::open(&settings(&path)).await;
    assert_eq!(store.health().fault, None);
    let (queue, stored) = store.open_queue("cloud").await;
    let left: Vec<_> = all[..10].iter().chain(&all[20..]).cloned().collect();
    assert_eq!(
        stored,
        Stored { normal: tally(&left), high: Tally::default(), first: Seq(1), last: Seq(300) }
    );
    assert_eq!(fetched(&store, queue).await, left);
}

#[tokio::test]
async fn a_seq_is_not_used_again_while_older_rows_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, commit(rows(1..=10))).await;
    committed(&store, queue, acked(8, 10)).await;
    store.close().await.unwrap();
    let store = Store::open(&settings(&path)).await;
    let (_, stored) = store.open_queue("cloud").await;
    assert_eq!((stored.normal.rows, stored.first, stored.last), (7, Seq(1), Seq(10)));
}

#[tokio::test]
async fn queues_are_apart_and_each_can_be_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (one, _) = store.open_queue("one").await;
    let (two, _) = store.open_queue("two").await;
    assert_ne!(one, two);
    let both = tokio::join!(store.apply(one, commit(rows(1..=3))), store.apply(two, commit(rows(1..=5))));
    assert!(matches!(both, (StoreEvent::Committed { .. }, StoreEvent::Committed { .. })));
    let names: Vec<_> = store
        .queues()
        .await
        .into_iter()
        .map(|(name, stored)| (name.to_string(), stored.normal.rows))
        .collect();
    assert_eq!(names, [("one".to_owned(), 3), ("two".to_owned(), 5)]);
    assert_eq!(store.drop_queue("one").await, Ok(3));
    assert_eq!(store.drop_queue("one").await, Ok(0));
    assert_eq!(fetched(&store, two).await.len(), 5);
    // A queue that was dropped is an empty one, and may be used again.
    assert_eq!(fetched(&store, one).await.len(), 0);
    committed(&store, one, commit(rows(1..=1))).await;
    store.close().await.unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!(store.open_queue("one").await.1.normal.rows, 1);
}

#[tokio::test]
async fn schemas_and_clock_survive_with_the_rows_that_need_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    store.learn_schema(u64::MAX, b"schema").await;
    store.note_boot(BootId(u64::MAX), WallMs(-5)).await;
    committed(&store, queue, commit(rows(1..=1))).await;
    store.learn_schema(7, b"later").await;
    // Rows of this boot are stored: its wall time is written at once.
    store.note_boot(BootId(0xB007), WallMs(1_700_000_000_000)).await;
    store.note_boot(BootId(0xB007), WallMs(1_700_000_000_050)).await;
    assert_eq!(store.schemas().await, [(7, b"later".to_vec()), (u64::MAX, b"schema".to_vec())]);
    store.close().await.unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!(store.schemas().await, [(u64::MAX, b"schema".to_vec())]);
    assert_eq!(
        store.clock_history().await,
        [(BootId(0xB007), WallMs(1_700_000_000_000)), (BootId(u64::MAX), WallMs(-5))]
    );
}

#[tokio::test]
async fn requests_that_wait_together_share_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&settings(&folder.path().join("queue.db"))).await);
    let mut queues = Vec::new();
    for index in 0..20 {
        queues.push(store.open_queue(&format!("queue{index}")).await.0);
    }
    let before = store.health().counters.commits;
    let events = queues.iter().map(|queue| {
        let (store, queue) = (Arc::clone(&store), *queue);
        tokio::spawn(async move { store.apply(queue, commit(rows(1..=2))).await })
    });
    for event in events.collect::<Vec<_>>() {
        assert!(matches!(event.await.unwrap(), StoreEvent::Committed { .. }));
    }
    let commits = store.health().counters.commits - before;
    assert!((1..20).contains(&commits), "{commits} transactions for 20 ops");
    assert_eq!(store.health().rows, 40);
}

#[tokio::test]
async fn one_queue_that_fails_takes_no_other_along() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(&folder.path().join("queue.db"))).await;
    let (good, _) = store.open_queue("good").await;
    let (bad, _) = store.open_queue("bad").await;
    let mut wrong = rows(1..=3);
    wrong.push(row(0));
    let (first, second, third) = tokio::join!(
        store.apply(good, commit(rows(1..=3))),
        store.apply(bad, commit(wrong)),
        store.apply(good, commit(rows(4..=6)))
    );
    assert!(matches!(first, StoreEvent::Committed { .. }));
    assert_eq!(failed(&second), StoreFault::Io);
    assert!(matches!(third, StoreEvent::Committed { .. }));
    assert_eq!(fetched(&store, good).await.len(), 6);
    assert_eq!(fetched(&store, bad).await.len(), 0, "all or nothing");
    assert_eq!(store.health().counters.faults_io, 1);
    committed(&store, bad, commit(rows(1..=3))).await;
    assert_eq!(fetched(&store, bad).await, rows(1..=3));
}

#[tokio::test]
async fn a_trim_takes_the_oldest_of_the_lowest_priority_and_spares_what_is_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(&folder.path().join("queue.db"))).await;
    let (queue, _) = store.open_queue("cloud").await;
    let mixed: Vec<_> = (1..=10)
        .map(|seq| row_of(seq, if seq % 2 == 0 { Priority::High } else { Priority::Normal }, 50))
        .collect();
    committed(&store, queue, commit(mixed)).await;
    let trim = |rows, priority_max, keep: &[u64]| StoreOp::Trim {
        op: 9,
        rows,
        bytes: 0,
        priority_max,
        keep: keep.iter().map(|seq| Seq(*seq)).collect(),
    };
    let left = async || fetched(&store, queue).await.iter().map(|row| row.seq.0).collect::<Vec<_>>();
    let dropped = store.apply(queue, trim(2, Priority::High, &[1])).await;
    assert!(
        matches!(dropped, StoreEvent::Trimmed { op: 9, dropped: Tally { rows: 2, readings: 20, .. } }),
        "{dropped:?}"
    );
    assert_eq!(left().await, [1, 2, 4, 6, 7, 8, 9, 10]);
    store.apply(queue, trim(100, Priority::Normal, &[9])).await;
    assert_eq!(left().await, [2, 4, 6, 8, 9, 10]);
    store.apply(queue, trim(2, Priority::High, &[2])).await;
    assert_eq!(left().await, [2, 6, 8, 10]);
    store.apply(queue, trim(100, Priority::High, &[])).await;
    assert_eq!(left().await, [0; 0]);
}

#[tokio::test]
async fn a_newer_format_is_kept_aside_with_its_rows_copied() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 20).await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", layout::USER_VERSION + 1).unwrap();
    let store = Store::open(&settings(&path)).await;
    let health = store.health();
    assert_eq!((health.counters.moved_aside, health.counters.rows_salvaged, health.fault), (1, 20, None));
    assert!(health.aside.unwrap().to_str().unwrap().ends_with("queue.db.newer-1"));
    assert_eq!(store.open_queue("cloud").await.1.normal, tally(&rows(1..=20)));
}

#[tokio::test]
async fn a_file_of_version_1_is_migrated_in_place_with_its_rows() {
    // Written by the program as it was before it kept facts: queues "cloud" with rows 1 to 12, of which 11 and 12 were acknowledged, and "other"
    // with rows 5 to 7.
    let bytes = include_bytes!("tests/files/version-1.db");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open(&settings(&path)).await;
    let health = store.health();
    assert_eq!((health.fault, health.counters.moved_aside, health.rows), (None, 0, 13));
    let (cloud, stored) = store.open_queue("cloud").await;
    assert_eq!((stored.normal, stored.last), (tally(&rows(1..=10)), Seq(12)));
    assert_eq!(fetched(&store, cloud).await, rows(1..=10));
    let (other, _) = store.open_queue("other").await;
    assert_eq!(fetched(&store, other).await, rows(5..=7));
    assert_eq!(store.schemas().await, [(7, b"schema".to_vec())]);
    assert_eq!(store.clock_history().await, [(BootId(0xB007), WallMs(1_700_000_000_000))]);
    assert_eq!(store.found(sieve()).await, Found::default());
    store.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    assert_eq!(before[60..64], layout::USER_VERSION.to_be_bytes());
    Store::open(&settings(&path)).await.close().await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before, "once");
}

#[tokio::test]
async fn an_older_format_is_migrated_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let old = Connection::open(&path).unwrap();
    old.pragma_update(None, "application_id", layout::APPLICATION_ID).unwrap();
    drop(old);
    let store = Store::open(&settings(&path)).await;
    assert_eq!((store.health().fault, store.health().counters.moved_aside), (None, 0));
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, commit(rows(1..=3))).await;
    store.close().await.unwrap();
    let version: i32 =
        Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, layout::USER_VERSION);
}

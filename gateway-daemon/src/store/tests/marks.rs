//! Marks of rows that are set aside.

use gateway_core::uplink::row::{Blame, Mark};

use super::*;

fn mark(row: &Row) -> Arc<Mark> {
    Arc::new(Mark::of(row, Blame::Cut, &"cloud.example:8883".into()))
}

fn set(rows: &[Arc<Row>]) -> StoreOp {
    StoreOp::Mark { op: 4, set: rows.iter().map(|row| mark(row)).collect(), clear: Vec::new() }
}

async fn marked(store: &Store) -> Vec<u64> {
    store.set_aside("cloud").await.iter().map(|mark| mark.seq.0).collect()
}

#[tokio::test]
async fn what_is_set_aside_is_found_again_after_a_restart_with_all_that_is_known_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let all = rows(1..=30);
    {
        let store = Store::open(&settings(&path)).await;
        let (queue, _) = store.open_queue("cloud").await;
        committed(&store, queue, commit(all.clone())).await;
        assert_eq!(marked(&store).await, [0; 0]);
        committed(&store, queue, set(&[all[2].clone(), all[7].clone(), all[9].clone()])).await;
        let clear = StoreOp::Mark { op: 5, set: Vec::new(), clear: vec![Seq(8), Seq(20)] };
        committed(&store, queue, clear).await;
        assert_eq!(marked(&store).await, [3, 10]);
        store.close().await.unwrap();
    }
    let store = Store::open(&settings(&path)).await;
    let (queue, stored) = store.open_queue("cloud").await;
    assert_eq!(stored.normal, tally(&all), "marks change nothing of what is stored");
    assert_eq!(store.set_aside("cloud").await, [mark(&all[2]), mark(&all[9])]);
    assert_eq!(store.set_aside("other").await, []);
    assert_eq!(fetched(&store, queue).await, all);
}

#[tokio::test]
async fn a_mark_goes_with_its_row_and_never_counts_for_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let all = rows(1..=10);
    {
        let store = Store::open(&settings(&path)).await;
        let (queue, _) = store.open_queue("cloud").await;
        committed(&store, queue, commit(all.clone())).await;
        committed(&store, queue, set(&all)).await;
        committed(&store, queue, acked(1, 4)).await;
        let replace =
            StoreOp::Replace { op: 6, remove: vec![Seq(5)], rows: vec![row_of(5, Priority::High, 7)] };
        committed(&store, queue, replace).await;
        assert_eq!(marked(&store).await, [6, 7, 8, 9, 10]);
        store.close().await.unwrap();
    }
    // A version that knows no marks deletes rows and uses their numbers again, for others.
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "DELETE FROM q1 WHERE seq = 6; UPDATE q1 SET row = (SELECT row FROM q1 WHERE seq = 9) WHERE seq = 7",
    )
    .unwrap();
    drop(old);
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    assert_eq!(marked(&store).await, [8, 9, 10]);
    committed(&store, queue, set(&all[7..8])).await;
    store.close().await.unwrap();
    let conn = Connection::open(&path).unwrap();
    let left: i64 = conn.query_row("SELECT count(*) FROM aside", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 3, "stale marks are gone with the next one that is written");
}

#[tokio::test]
async fn a_database_in_which_nothing_was_set_aside_looks_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 20).await;
    let tables = |path: &Path| {
        let conn = Connection::open(path).unwrap();
        let mut statement =
            conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
        let names = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(tables(&path), ["facts", "q1", "queues", "words"]);
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, set(&[row(3)])).await;
    store.close().await.unwrap();
    assert_eq!(tables(&path), ["aside", "facts", "q1", "queues", "words"]);
    let version: i32 =
        Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, layout::USER_VERSION);
}

#[tokio::test]
async fn marks_of_whole_rows_are_copied_out_of_a_damaged_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let all = rows(1..=400);
    {
        let store = Store::open(&settings(&path)).await;
        let (queue, _) = store.open_queue("cloud").await;
        committed(&store, queue, commit(all.clone())).await;
        committed(&store, queue, set(&[all[0].clone(), all[398].clone()])).await;
        store.close().await.unwrap();
    }
    {
        use std::os::unix::fs::FileExt;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let pages = file.metadata().unwrap().len() / layout::PAGE_BYTES;
        file.write_all_at(&[0xA5; 1024], pages / 2 * layout::PAGE_BYTES).unwrap();
    }
    let store = Store::open(&settings(&path)).await;
    store.open_queue("cloud").await;
    assert_eq!(store.health().counters.moved_aside, 1);
    let found = marked(&store).await;
    assert!(found.contains(&1) || found.contains(&399), "{found:?}");
}

#[tokio::test]
async fn a_table_of_this_name_that_is_not_ours_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 20).await;
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE aside(what TEXT); INSERT INTO aside VALUES ('x')")
        .unwrap();
    let store = Store::open(&settings(&path)).await;
    let (queue, stored) = store.open_queue("cloud").await;
    assert_eq!((stored.normal.rows, marked(&store).await), (20, Vec::new()));
    // It cannot be remembered, and that is no reason to fail.
    committed(&store, queue, set(&[row(3)])).await;
    assert_eq!(marked(&store).await, [0; 0]);
    assert_eq!(committed(&store, queue, acked(1, 20)).await.rows, 20);
    assert_eq!(store.health().counters.moved_aside, 0);
}

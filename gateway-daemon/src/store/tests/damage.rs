//! Files that cannot be used: damaged, foreign, in the way, held by others.

use super::*;
use crate::store::aside;

/// Overwrites bytes of a file in place.
pub(super) fn scribble(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Splitmix64: a seed names a damage.
pub(in crate::store) fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// After a file was found unusable: the store takes rows and gives them back.
async fn collection_goes_on(store: &Store, whole: &[Arc<Row>]) -> Stored {
    let (queue, stored) = store.open_queue("cloud").await;
    let fresh = rows(stored.last.0.max(1_000_000) + 1..stored.last.0.max(1_000_000) + 4);
    // A damage that shows only in use makes this op fail, and the next one work.
    let mut tries = 0;
    while let StoreEvent::Failed { fault, .. } = store.apply(queue, commit(fresh.clone())).await {
        assert_eq!(fault, StoreFault::Corrupt);
        store.next_reset().await;
        tries += 1;
        assert!(tries < 5, "a database that was replaced works");
    }
    let mut all = match store.apply(queue, fetch_all()).await {
        StoreEvent::Fetched { rows, .. } => rows,
        StoreEvent::Failed { .. } => {
            store.next_reset().await;
            fetched(store, queue).await
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(all.split_off(all.len() - 3), fresh);
    for row in &all {
        assert!(whole.contains(row), "a damaged row is never given out: {row:?}");
    }
    let (_, stored) = store.open_queue("cloud").await;
    assert_eq!(stored.normal.rows, all.len() as u64 + 3);
    stored
}

#[tokio::test]
async fn a_foreign_file_is_moved_aside_whole_and_collection_goes_on() {
    let foreign = |path: &Path| {
        let conn = Connection::open(path).unwrap();
        conn.execute_batch("CREATE TABLE words(id INTEGER PRIMARY KEY); INSERT INTO words VALUES (7)")
            .unwrap();
    };
    let text = |path: &Path| std::fs::write(path, "shopping list\n".repeat(1000)).unwrap();
    let short = |path: &Path| std::fs::write(path, "x").unwrap();
    for make in [&foreign as &dyn Fn(&Path), &text, &short] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        make(&path);
        let before = std::fs::read(&path).unwrap();
        let store = Store::open(&settings(&path)).await;
        let health = store.health();
        assert_eq!((health.fault, health.counters.moved_aside), (None, 1));
        let place = health.aside.unwrap();
        assert!(place.ends_with("queue.db.foreign-1"), "{place:?}");
        assert_eq!(std::fs::read(place).unwrap(), before);
        assert_eq!(collection_goes_on(&store, &[]).await.normal.rows, 3);
    }
}

#[tokio::test]
async fn an_empty_file_becomes_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/queue.db");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "").unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!((store.health().fault, store.health().counters.moved_aside), (None, 0));
    collection_goes_on(&store, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_in_the_way_is_a_visible_fault_until_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    std::fs::create_dir(&path).unwrap();
    let store = Store::open(&settings(&path)).await;
    let (fault, text) = store.health().fault.unwrap();
    assert_eq!(fault, StoreFault::Io);
    assert!(text.contains("is not a file"), "{text}");
    let (queue, stored) = store.open_queue("cloud").await;
    assert_eq!(stored.normal.rows, 0);
    assert_eq!(failed(&store.apply(queue, commit(rows(1..=1))).await), StoreFault::Io);
    std::fs::remove_dir(&path).unwrap();
    let (reset, event) = store.next_reset().await;
    assert_eq!((reset, event), (queue, StoreEvent::Reset { salvaged: Stored::default(), aside: Vec::new() }));
    assert_eq!(store.health().fault, None);
    committed(&store, queue, commit(rows(1..=1))).await;
}

#[tokio::test(start_paused = true)]
async fn rows_found_after_a_fault_stay_older_than_those_made_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let hidden = folder.path().join("hidden.db");
    let mut expected = rows(1..=3);
    filled(&path, 3).await;
    for round in 0..3_u64 {
        aside::rename(&path, &hidden).unwrap();
        std::fs::create_dir(&path).unwrap();
        let store = Store::open(&settings(&path)).await;
        let (queue, stored) = store.open_queue("cloud").await;
        std::fs::remove_dir(&path).unwrap();
        aside::rename(&hidden, &path).unwrap();
        let (_, event) = store.next_reset().await;
        let StoreEvent::Reset { salvaged, .. } = event else { panic!("{event:?}") };
        assert_eq!((salvaged.normal.rows, salvaged.last <= stored.last), (3 + round, true), "{salvaged:?}");
        let fresh = row(stored.last.0 + 1);
        committed(&store, queue, commit(vec![Arc::clone(&fresh)])).await;
        expected.push(fresh);
        let found = fetched(&store, queue).await;
        assert_eq!(
            found.iter().map(|row| row.at).collect::<Vec<_>>(),
            expected.iter().map(|row| row.at).collect::<Vec<_>>()
        );
        assert!(found.windows(2).all(|pair| pair[0].seq < pair[1].seq));
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn another_gateway_on_the_same_database_is_told_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let first = Store::open(&settings(&path)).await;
    let (queue, _) = first.open_queue("cloud").await;
    committed(&first, queue, commit(rows(1..=3))).await;
    let second = Store::open(&settings(&path)).await;
    let health = second.health();
    assert_eq!(
        health.fault.map(|(fault, _)| fault.to_string()).unwrap(),
        "another gateway is running on this database"
    );
    assert_eq!((health.open, health.counters.moved_aside), (false, 0));
    let (other, _) = second.open_queue("cloud").await;
    assert_eq!(failed(&second.apply(other, fetch_all()).await), StoreFault::Locked);
    committed(&first, queue, commit(rows(4..=6))).await;
    assert_eq!(fetched(&first, queue).await.len(), 6);
}

#[tokio::test]
async fn kept_or_counted_after_corruption() {
    let rounds: u64 = std::env::var("TIDEGATE_ROUNDS").map_or(30, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("origin.db");
    let whole = rows(1..=1500);
    filled(&origin, 1500).await;
    let pristine = std::fs::read(&origin).unwrap();
    let pages = pristine.len() as u64 / layout::PAGE_BYTES;
    let (mut salvaged, mut replaced) = (0, 0);
    for round in 0..rounds {
        println!("seed {round}");
        let mut seed = round;
        let path = folder.path().join(format!("{round}.db"));
        std::fs::write(&path, &pristine).unwrap();
        match round % 4 {
            // A page of zeros, of noise, single bits, a file cut short.
            0 => scribble(&path, random(&mut seed) % pages * layout::PAGE_BYTES, &[0; 2048]),
            1 => {
                let noise: Vec<u8> =
                    (0..layout::PAGE_BYTES).map(|_| random(&mut seed).to_le_bytes()[0]).collect();
                scribble(&path, random(&mut seed) % pages * layout::PAGE_BYTES, &noise);
            }
            2 => {
                for _ in 0..5 {
                    let at = random(&mut seed) % pristine.len() as u64;
                    scribble(&path, at, &[pristine[usize::try_from(at).unwrap()] ^ 0x10]);
                }
            }
            _ => {
                let length = random(&mut seed) % pristine.len() as u64;
                std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
            }
        }
        let store = Store::open(&settings(&path)).await;
        let stored = collection_goes_on(&store, &whole).await;
        let counters = store.health().counters;
        let kept = stored.normal.rows - 3;
        assert!(
            kept + counters.rows_lost >= 1500 || counters.losses_unknown > 0 || counters.words_lost > 0,
            "{kept} kept and not counted: {counters:?}"
        );
        salvaged += counters.rows_salvaged;
        replaced += counters.moved_aside;
        assert_eq!(store.health().fault, None);
        store.close().await.unwrap();
        aside::remove(&path).unwrap();
    }
    assert!(replaced > rounds / 4 && salvaged > replaced * 100, "{salvaged} rows from {replaced} files");
}

#[tokio::test]
async fn damage_met_while_running_is_told_to_the_queue_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 6000).await;
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    let (other, _) = store.open_queue("other").await;
    store.learn_schema(5, b"learned").await;
    committed(&store, other, commit(rows(1..=7))).await;
    // Three pages of rows early in the file, long gone from the page cache.
    scribble(&path, 20 * layout::PAGE_BYTES, &[0xA5; 3 * 2048]);
    let first = store.apply(queue, fetch_all()).await;
    assert_eq!(failed(&first), StoreFault::Corrupt);
    assert_eq!(failed(&store.apply(queue, commit(rows(6001..=6001))).await), StoreFault::Corrupt);
    let mut resets = [store.next_reset().await, store.next_reset().await];
    resets.sort_by_key(|(queue, _)| *queue);
    let [(one, StoreEvent::Reset { salvaged: here, .. }), (two, StoreEvent::Reset { salvaged: there, .. })] =
        resets
    else {
        panic!("{resets:?}")
    };
    assert_eq!((one, two, there.normal.rows), (queue, other, 7));
    assert!((5800..6000).contains(&here.normal.rows), "{here:?}");
    let counters = store.health().counters;
    assert_eq!(
        (here.normal.rows + 7, 6000 - here.normal.rows),
        (counters.rows_salvaged, counters.rows_lost),
        "exact"
    );
    assert_eq!(here.last, Seq(6000));
    let left = fetched(&store, queue).await;
    assert_eq!(left.len() as u64, here.normal.rows);
    let whole = rows(1..=6000);
    assert!(left.iter().all(|row| whole[usize::try_from(row.seq.0).unwrap() - 1] == *row));
    committed(&store, queue, commit(rows(6001..=6001))).await;
    assert_eq!(store.schemas().await, [(5, b"learned".to_vec())]);
    let leftovers = std::fs::read_dir(folder.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        ![".building", ".salvage"].iter().all(|end| !name.to_str().unwrap().contains(end))
    });
    assert_eq!((leftovers.count(), aside::asides(&path).unwrap().len()), (0, 1));
}

#[tokio::test]
async fn a_row_that_does_not_decode_is_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 100).await;
    let flip = |seq: u64| {
        let conn = Connection::open(&path).unwrap();
        let mut blob: Vec<u8> = conn
            .query_row("SELECT row FROM q1 WHERE seq = ?1", [seq.cast_signed()], |row| row.get(0))
            .unwrap();
        blob[30] ^= 1;
        conn.execute("UPDATE q1 SET row = ?1 WHERE seq = ?2", rusqlite::params![blob, seq.cast_signed()])
            .unwrap();
    };
    flip(10);
    flip(100);
    let store = Store::open(&settings(&path)).await;
    let (queue, stored) = store.open_queue("cloud").await;
    assert_eq!((stored.normal.rows, stored.last), (98, Seq(100)));
    let counters = store.health().counters;
    assert_eq!((counters.rows_lost, counters.moved_aside), (2, 0));
    assert_eq!(fetched(&store, queue).await.len(), 98);
    assert_eq!(committed(&store, queue, acked(1, 20)).await.rows, 19);
    store.close().await.unwrap();
    let left: i64 =
        Connection::open(&path).unwrap().query_row("SELECT count(*) FROM q1", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 79, "both are gone from the file with the first write");
}

#[tokio::test]
async fn a_crash_between_salvage_and_replacement_is_finished_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 10).await;
    aside::rename(&path, &aside::salvage_path(&path)).unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!(store.open_queue("cloud").await.1.normal.rows, 10);
    store.close().await.unwrap();
    // A leftover beside a database that works is not ours to use.
    std::fs::write(aside::salvage_path(&path), "leftover").unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!(store.open_queue("cloud").await.1.normal.rows, 10);
    assert!(!aside::salvage_path(&path).exists());
}

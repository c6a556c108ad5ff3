//! Files that are deleted, replaced or cut short while the database is open.

use super::*;

/// What is done to the files, and whether the database moves to a fresh file because of it.
async fn kept_after(name: &str, act: impl Fn(&Path)) -> (Store, QueueId, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store/queue.db");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    filled(&path, 300).await;
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, commit(rows(301..=387))).await;
    act(&path);
    // Nobody has noticed yet: these rows are stored, too.
    committed(&store, queue, commit(rows(388..=390))).await;
    let (reset, event) = tokio::time::timeout(std::time::Duration::from_secs(60), store.next_reset())
        .await
        .unwrap_or_else(|_| panic!("{name}: not noticed within a minute"));
    let StoreEvent::Reset { salvaged, .. } = event else { panic!("{event:?}") };
    assert_eq!((reset, salvaged.normal.rows, salvaged.last), (queue, 390, Seq(390)), "{name}");
    let health = store.health();
    println!("{name}: {}", health.notice.clone().unwrap());
    assert_eq!((health.fault, health.counters.vanished), (None, 1), "{name}");
    assert_eq!((health.counters.rows_lost, health.counters.losses_unknown), (0, 0), "{name}");
    assert_eq!(fetched(&store, queue).await, rows(1..=390), "{name}");
    committed(&store, queue, commit(rows(391..=395))).await;
    store.close().await.unwrap();
    let again = Store::open(&settings(&path)).await;
    let (queue, stored) = again.open_queue("cloud").await;
    assert_eq!((stored.normal.rows, again.health().counters.losses_unknown), (395, 0), "{name}");
    (again, queue, folder)
}

fn log_of(path: &Path) -> std::path::PathBuf {
    crate::store::aside::beside(path, "-wal")
}

#[tokio::test(start_paused = true)]
async fn a_database_deleted_while_it_is_open_is_noticed_within_a_minute_and_its_rows_are_saved() {
    kept_after("deleted", |path| std::fs::remove_file(path).unwrap()).await;
    kept_after("deleted with its log", |path| {
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(log_of(path)).unwrap();
    })
    .await;
    kept_after("deleted with its folder", |path| std::fs::remove_dir_all(path.parent().unwrap()).unwrap())
        .await;
    kept_after("moved away", |path| std::fs::rename(path, path.with_extension("old")).unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_deleted_or_replaced_while_it_is_open_is_noticed_and_nothing_is_lost() {
    kept_after("log deleted", |path| std::fs::remove_file(log_of(path)).unwrap()).await;
    // An older state of the log, as of a restored backup, would put older pages over those of the database.
    kept_after("log replaced", |path| {
        let bytes = std::fs::read(log_of(path)).unwrap();
        std::fs::remove_file(log_of(path)).unwrap();
        std::fs::write(log_of(path), bytes).unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_file_put_in_the_place_of_an_open_database_is_moved_aside() {
    let (store, _, _folder) = kept_after("replaced by text", |path| {
        std::fs::write(path.with_extension("new"), "shopping list").unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    })
    .await;
    let folder = store.health().path.parent().unwrap().to_owned();
    assert_eq!(std::fs::read(folder.join("queue.db.replaced-1")).unwrap(), b"shopping list");
    kept_after("replaced by a copy", |path| {
        std::fs::copy(path, path.with_extension("new")).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_database_cut_short_while_it_is_open_is_noticed_within_a_minute_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 387).await;
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    let half = std::fs::metadata(&path).unwrap().len() / 2;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(half).unwrap();
    let noticed = tokio::time::timeout(std::time::Duration::from_secs(60), store.next_reset()).await;
    let (_, StoreEvent::Reset { salvaged, .. }) = noticed.unwrap() else { panic!("no reset") };
    let counters = store.health().counters;
    assert_eq!(salvaged.normal.rows + counters.rows_lost, 387, "exact");
    assert!(salvaged.normal.rows > 100, "{salvaged:?}");
    assert_eq!((counters.vanished, counters.losses_unknown), (1, 0));
    assert_eq!(fetched(&store, queue).await.len() as u64, salvaged.normal.rows);
}

#[tokio::test(start_paused = true)]
async fn a_log_cut_or_emptied_while_it_is_open_is_noticed_within_a_minute_and_its_loss_is_exact() {
    for (share, busy) in [(0, false), (0, true), (1, false), (1, true), (2, false), (2, true)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        filled(&path, 300).await;
        let store = Store::open(&settings(&path)).await;
        let (queue, _) = store.open_queue("cloud").await;
        for first in (301..=500).step_by(20) {
            committed(&store, queue, commit(rows(first..first + 20))).await;
        }
        let log = std::fs::OpenOptions::new().write(true).open(log_of(&path)).unwrap();
        log.set_len(log.metadata().unwrap().len() * share / 3).unwrap();
        if busy {
            // It would have gone behind the end of the log, which hides the cut.
            assert_eq!(failed(&store.apply(queue, commit(rows(501..=510))).await), StoreFault::Io);
        }
        let noticed = tokio::time::timeout(std::time::Duration::from_secs(60), store.next_reset()).await;
        let (_, StoreEvent::Reset { salvaged, .. }) = noticed.unwrap() else { panic!("no reset") };
        let health = store.health();
        println!("{}", health.notice.unwrap());
        assert_eq!(salvaged.normal.rows + health.counters.rows_lost, 500, "exact");
        assert_eq!((health.fault, health.counters.vanished, health.counters.losses_unknown), (None, 1, 0));
        let least = if share == 0 { 300 } else { 300 + 30 * share };
        assert!((least..480).contains(&salvaged.normal.rows), "{share}: {salvaged:?}");
        committed(&store, queue, commit(rows(501..=510))).await;
        assert_eq!(fetched(&store, queue).await.len() as u64, salvaged.normal.rows + 10);
        store.close().await.unwrap();
        let again = Store::open(&settings(&path)).await.health();
        assert_eq!((again.rows, again.counters.losses_unknown), (salvaged.normal.rows + 10, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_come_back_with_a_cut_log_hide_none_that_were_lost_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 300).await;
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, acked(1, 200)).await;
    committed(&store, queue, commit(rows(301..=500))).await;
    std::fs::OpenOptions::new().write(true).open(log_of(&path)).unwrap().set_len(0).unwrap();
    let noticed = tokio::time::timeout(std::time::Duration::from_secs(60), store.next_reset()).await;
    let (_, StoreEvent::Reset { salvaged, .. }) = noticed.unwrap() else { panic!("no reset") };
    assert_eq!((salvaged.normal.rows, salvaged.last), (300, Seq(300)), "as many as before, and others");
    let health = store.health();
    let notice = health.notice.unwrap();
    assert_eq!(health.counters.losses_unknown, 1, "{notice}");
    assert!(notice.contains("how many are lost is unknown"), "{notice}");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_copied_begun_anew_and_cut_back_by_ourselves_is_no_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    let (mut next, mut before, mut shrunk) = (1, 0, 0);
    for round in 0..120_u64 {
        // One in ten is longer than a log may stay.
        let count = if round % 10 == 9 { 8000 } else { 4 + round * 7 % 90 };
        committed(&store, queue, commit(rows(next..next + count))).await;
        if round % 3 == 0 {
            committed(&store, queue, acked(next, next + count / 2)).await;
        }
        if round % 4 == 0 {
            store.note_boot(BootId(round), WallMs(1 << 40)).await;
            assert!(!fetched(&store, queue).await.is_empty());
        }
        if round % 20 == 19 {
            committed(&store, queue, acked(1, next)).await;
        }
        next += count;
        let length = std::fs::metadata(log_of(&path)).unwrap().len();
        shrunk += u32::from(length < before);
        before = length;
        tokio::time::sleep(std::time::Duration::from_secs(21)).await;
        let health = store.health();
        assert_eq!((health.counters.vanished, health.fault, health.notice), (0, None, None), "round {round}");
    }
    assert!(shrunk > 5 && store.health().counters.checkpoints > 10, "{shrunk} times cut back");
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_while_there_is_no_room_to_save_it_is_saved_when_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store/queue.db");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    filled(&path, 387).await;
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path.parent().unwrap(), "in the way").unwrap();
    let mut noticed = false;
    for _ in 0..60 {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        noticed |= matches!(store.apply(queue, fetch_all()).await, StoreEvent::Failed { .. });
    }
    assert!(noticed && !store.health().open);
    assert!(store.health().fault.is_some());
    std::fs::remove_file(path.parent().unwrap()).unwrap();
    let (_, StoreEvent::Reset { salvaged, .. }) = store.next_reset().await else { panic!("no reset") };
    assert_eq!((salvaged.normal, store.health().fault), (tally(&rows(1..=387)), None));
}

#[tokio::test]
async fn a_database_deleted_just_before_the_end_is_saved_by_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, commit(rows(1..=387))).await;
    std::fs::remove_file(&path).unwrap();
    store.close().await.unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!(store.open_queue("cloud").await.1.normal, tally(&rows(1..=387)));
}

#[tokio::test]
async fn an_empty_file_where_a_database_was_is_told_and_a_first_start_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let health = store.health();
    assert_eq!((health.counters.losses_unknown, health.notice), (0, None), "a first start");
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, commit(rows(1..=387))).await;
    store.close().await.unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!((store.health().counters.losses_unknown, store.health().notice), (0, None), "a second");
    store.close().await.unwrap();
    std::fs::write(&path, "").unwrap();
    let store = Store::open(&settings(&path)).await;
    let health = store.health();
    assert_eq!((health.fault, health.counters.losses_unknown), (None, 1));
    assert!(health.notice.unwrap().contains("was empty"), "it says so");
    store.close().await.unwrap();
    // The log that every end leaves behind tells of a database that was deleted.
    std::fs::remove_file(&path).unwrap();
    let health = Store::open(&settings(&path)).await.health();
    assert_eq!(health.counters.losses_unknown, 1);
    assert!(health.notice.unwrap().contains("was gone"));
}

#[tokio::test]
async fn a_log_alone_gives_back_what_is_in_it_and_sqlite_would_delete_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (queue, _) = store.open_queue("cloud").await;
    committed(&store, queue, commit(rows(1..=387))).await;
    let alone = folder.path().join("alone.db");
    std::fs::copy(log_of(&path), log_of(&alone)).unwrap();
    for content in [None, Some(&b""[..]), Some(b"x"), Some(b"xy")] {
        let log = std::fs::read(log_of(&path)).unwrap();
        std::fs::write(log_of(&alone), log).unwrap();
        if let Some(content) = content {
            std::fs::write(&alone, content).unwrap();
        }
        let left = Store::open(&settings(&alone)).await;
        let health = left.health();
        assert_eq!((health.fault, health.counters.rows_salvaged), (None, 387), "{content:?}");
        let (queue, _) = left.open_queue("cloud").await;
        assert_eq!(fetched(&left, queue).await, rows(1..=387));
        left.close().await.unwrap();
        std::fs::remove_file(&alone).unwrap();
    }
}

#[tokio::test]
async fn the_sentence_says_what_was_saved_what_is_lost_and_where_the_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    filled(&path, 387).await;
    let half = std::fs::metadata(&path).unwrap().len() / 2;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(half).unwrap();
    let health = Store::open(&settings(&path)).await.health();
    let (notice, counters) = (health.notice.unwrap(), health.counters);
    println!("{notice}");
    assert!(notice.contains(&format!("{} rows and 0 facts were saved", counters.rows_salvaged)), "{notice}");
    assert!(notice.contains("unknown") && counters.losses_unknown == 1, "{notice}");
    assert!(notice.ends_with("queue.db.damaged-1"), "{notice}");
    assert!(counters.rows_salvaged > 150, "{counters:?}");
}

#[tokio::test]
async fn rows_of_two_uplinks_are_never_mixed_when_nobody_can_say_whose_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (one, _) = store.open_queue("one").await;
    let (two, _) = store.open_queue("two").await;
    // The same numbers in both; a row of the second says so.
    let second = |seq: u64| Arc::new(Row { at: BootNs(seq + 7), ..(*row(seq)).clone() });
    for first in (1..=300).step_by(10) {
        committed(&store, one, commit(rows(first..first + 10))).await;
        committed(&store, two, commit((first..first + 10).map(second).collect())).await;
    }
    store.close().await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    let (mut unowned, mut sent) = (0, 0);
    for page in 1..whole.len() / 512 {
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        // Two pages at once: the second is where roots and inner pages are.
        let mut hurt = whole.clone();
        hurt[page * 512..][..512].fill(0);
        hurt[page % 12 * 512..][..512].fill(0);
        std::fs::write(&path, hurt).unwrap();
        std::fs::write(log_of(&path), "").unwrap();
        let store = Store::open(&settings(&path)).await;
        let (one, _) = store.open_queue("one").await;
        let (two, _) = store.open_queue("two").await;
        for found in fetched(&store, one).await {
            assert_eq!(*found, *row(found.seq.0), "page {page}");
            sent += 1;
        }
        for found in fetched(&store, two).await {
            assert_eq!(*found, *second(found.seq.0), "page {page}");
            sent += 1;
        }
        let counters = store.health().counters;
        unowned += counters.rows_unowned;
        assert!(
            sent + unowned > 0
                && (store.health().rows + counters.rows_lost >= 600 || counters.losses_unknown > 0),
            "page {page}: {counters:?}"
        );
        store.close().await.unwrap();
    }
    println!("{sent} rows under their own name, {unowned} kept without one");
    assert!(sent > 10 * unowned && unowned > 0);
}

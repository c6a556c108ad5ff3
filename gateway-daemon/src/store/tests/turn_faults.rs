//! Turns where files are damaged, full, read-only, or not there.

use gateway_core::broker::{Answer, Change, FactKind};
use rusqlite::params;

use super::damage::scribble;
use super::limits::Disk;
use super::turns::{delete, done, fact, facts, insert, local_row, put, queue, read_all, seqs, turn_fails};
use super::*;
use crate::store::aside;

fn large(client: &str, seq: u64) -> Change {
    Change::Insert { queue: queue(client), row: local_row(seq, 20_000) }
}

/// Takes turns of one large row until one fails; says why, and how many rows there are.
async fn fill(store: &Store, client: &str, from: u64) -> (StoreFault, u64) {
    for seq in from..from + 10_000 {
        let changes = vec![large(client, seq), put(FactKind::Session, client, &seq.to_le_bytes())];
        match store.turn(gateway_core::broker::Turn { number: seq, changes }).await {
            Answer::Done { .. } => {}
            Answer::Failed { fault, .. } => return (fault, seq - 1),
            other => panic!("{other:?}"),
        }
    }
    panic!("never full");
}

#[tokio::test]
async fn a_full_file_takes_a_turn_whose_deletions_make_room_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let limit = 1_000_000;
    let store = Store::open(&StoreSettings { path: path.clone(), file_bytes_max: limit }).await;
    let (fault, last) = fill(&store, "hmi", 1).await;
    assert_eq!(fault, StoreFault::Full);
    assert!(store.health().file_bytes <= limit);
    assert_eq!(seqs(&store, "hmi").await, (1..=last).collect::<Vec<_>>());
    assert_eq!(facts(&store).await, [(fact(FactKind::Session, "hmi"), last.to_le_bytes().to_vec())]);
    // The insert stands before the deletion that makes room for it.
    assert_eq!(turn_fails(&store, vec![large("plc", 1), large("plc", 2)]).await, StoreFault::Full);
    done(&store, vec![large("plc", 1), large("plc", 2), delete("hmi", 1, 5)]).await;
    done(
        &store,
        vec![large("plc", 3), large("plc", 4), large("plc", 5), Change::Drop { queue: queue("hmi") }],
    )
    .await;
    assert_eq!(store.health().fault, None);
    assert_eq!(seqs(&store, "hmi").await, [0; 0]);
    assert_eq!(seqs(&store, "plc").await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn removals_come_first_but_the_outcome_is_that_of_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(&folder.path().join("queue.db"))).await;
    let removed = |key: &str| Change::Remove { fact: fact(FactKind::Retained, key) };
    done(&store, vec![insert("a", 1), insert("b", 1), insert("c", 1), put(FactKind::Retained, "x", b"1")])
        .await;
    let changes = vec![
        insert("a", 2),
        delete("a", 1, 2),
        insert("a", 3),
        Change::Drop { queue: queue("b") },
        insert("b", 7),
        insert("c", 2),
        Change::Drop { queue: queue("c") },
        put(FactKind::Retained, "x", b"2"),
        removed("x"),
        removed("y"),
        put(FactKind::Retained, "y", b"3"),
    ];
    done(&store, changes).await;
    assert_eq!(seqs(&store, "a").await, [3]);
    assert_eq!(seqs(&store, "b").await, [7]);
    assert_eq!(seqs(&store, "c").await, [0; 0]);
    assert_eq!(facts(&store).await, [(fact(FactKind::Retained, "y"), b"3".to_vec())]);
    let queues: Vec<_> = store.found(sieve()).await.queues.into_iter().map(|(name, _)| name).collect();
    assert_eq!(queues, [queue("a"), queue("b")]);
}

#[tokio::test]
async fn a_turn_that_finds_the_disk_full_leaves_no_half_and_works_when_there_is_room() {
    let Some(disk) = Disk::mount("1500k") else { return };
    let path = disk.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (cloud, _) = store.open_queue("cloud").await;
    done(&store, vec![insert("hmi", 1), put(FactKind::Session, "hmi", &1_u64.to_le_bytes())]).await;
    let ballast = disk.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![7; 2_000_000]);
    let (fault, last) = fill(&store, "hmi", 2).await;
    assert_eq!(fault, StoreFault::Full);
    assert_eq!(seqs(&store, "hmi").await, (1..=last).collect::<Vec<_>>());
    let is = |last: u64| vec![(fact(FactKind::Session, "hmi"), last.to_le_bytes().to_vec())];
    assert_eq!(facts(&store).await, is(last));
    std::fs::remove_file(&ballast).unwrap();
    let again = vec![large("hmi", last + 1), put(FactKind::Session, "hmi", &(last + 1).to_le_bytes())];
    let ((), event) = tokio::join!(done(&store, again), store.apply(cloud, commit(rows(1..=3))));
    assert!(matches!(event, StoreEvent::Committed { .. }));
    assert_eq!(store.health().fault, None);
    store.close().await.unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!(seqs(&store, "hmi").await, (1..=last + 1).collect::<Vec<_>>());
    assert_eq!(facts(&store).await, is(last + 1));
    assert_eq!(store.health().counters.moved_aside, 0);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_starts_blind_is_told_what_is_stored_when_the_disk_may_be_written() {
    let Some(disk) = Disk::mount("2m") else { return };
    let path = disk.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    done(&store, vec![insert("hmi", 1), put(FactKind::Session, "hmi", b"here")]).await;
    store.close().await.unwrap();
    disk.remount("ro");
    let store = Store::open(&settings(&path)).await;
    let found = store.found(sieve()).await;
    assert!(found.blind && found.facts.is_empty() && found.queues.is_empty());
    assert_eq!(turn_fails(&store, vec![insert("hmi", 2)]).await, StoreFault::ReadOnly);
    assert_eq!(store.read(read_all("hmi")).await, Answer::Unread { number: 9, fault: StoreFault::ReadOnly });
    disk.remount("rw");
    let Answer::Reset { found } = store.next_broker_reset().await else { panic!("no reset") };
    assert!(!found.blind);
    assert_eq!(found.facts, [(fact(FactKind::Session, "hmi"), b"here".as_slice().into())]);
    let names: Vec<_> = found.queues.iter().map(|(name, stored)| (Arc::clone(name), stored.last)).collect();
    assert_eq!(names, [(queue("hmi"), Seq(1))]);
    done(&store, vec![insert("hmi", 2)]).await;
    assert_eq!(seqs(&store, "hmi").await, [1, 2]);
}

#[tokio::test]
async fn until_a_reset_is_taken_turns_and_reads_fail_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (cloud, _) = store.open_queue("cloud").await;
    let mut changes: Vec<_> = (1..=4000).map(|seq| insert("hmi", seq)).collect();
    changes.extend((0..300).map(|topic| put(FactKind::Retained, &format!("t/{topic}"), &[5; 50])));
    done(&store, changes).await;
    committed(&store, cloud, commit(rows(1..=5))).await;
    store.close().await.unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!(store.found(sieve()).await.facts.len(), 300);
    let (cloud, _) = store.open_queue("cloud").await;
    // Pages of rows in the middle of the file, long gone from the page cache.
    scribble(&path, 300 * layout::PAGE_BYTES, &[0xA5; 2048]);
    let Answer::Unread { fault, .. } = store.read(read_all("hmi")).await else { panic!("read") };
    assert_eq!(fault, StoreFault::Corrupt);
    assert_eq!(turn_fails(&store, vec![insert("hmi", 4001)]).await, StoreFault::Corrupt);
    assert_eq!(store.next_reset().await.0, cloud);
    committed(&store, cloud, commit(rows(6..=6))).await;
    assert_eq!(turn_fails(&store, vec![insert("hmi", 4001)]).await, StoreFault::Corrupt, "not yet taken");
    let Answer::Reset { found } = store.next_broker_reset().await else { panic!("no reset") };
    let counters = store.health().counters;
    let left = found.queues[0].1.normal.rows;
    assert!((3900..4000).contains(&left), "{left}");
    assert_eq!((found.facts.len() as u64, counters.facts_salvaged), (300, 300));
    assert_eq!((counters.rows_lost, counters.facts_lost), (4000 - left, 0), "exact");
    done(&store, vec![insert("hmi", 4001), put(FactKind::Retained, "t/7", b"after")]).await;
    assert_eq!(seqs(&store, "hmi").await.len() as u64, left + 1);
    assert_eq!(facts(&store).await.len(), 300);
}

#[tokio::test]
async fn facts_of_a_damaged_file_are_salvaged_or_counted_and_never_wrong() {
    let rounds: u64 = std::env::var("TIDEGATE_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let origin = folder.path().join("origin.db");
    let store = Store::open(&settings(&origin)).await;
    let value = |topic: u64| vec![topic.to_le_bytes()[0]; 30 + usize::try_from(topic % 90).unwrap()];
    let mut changes: Vec<_> =
        (0..600).map(|topic| put(FactKind::Retained, &format!("plant/{topic:03}"), &value(topic))).collect();
    changes.extend((1..=100).map(|seq| insert("hmi", seq)));
    done(&store, changes).await;
    let whole = facts(&store).await;
    store.close().await.unwrap();
    let pristine = std::fs::read(&origin).unwrap();
    let pages = pristine.len() as u64 / layout::PAGE_BYTES;
    let (mut salvaged, mut whole_rounds) = (0, 0);
    for round in 0..rounds {
        println!("round {round}");
        let path = folder.path().join(format!("{round}.db"));
        std::fs::write(&path, &pristine).unwrap();
        let at = (3 + round * 7919 % (pages - 3)) * layout::PAGE_BYTES;
        match round % 3 {
            0 => scribble(&path, at, &[0; 512]),
            1 => scribble(&path, at + 100, &[0xEE; 3]),
            _ => scribble(&path, at, &[0x5A; 1024]),
        }
        let store = Store::open(&settings(&path)).await;
        let found = facts(&store).await;
        let counters = store.health().counters;
        assert!(found.iter().all(|fact| whole.contains(fact)), "a damaged fact is never given out");
        assert!(
            found.len() as u64 + counters.facts_lost >= 600 || counters.losses_unknown > 0,
            "{} kept and not counted: {counters:?}",
            found.len()
        );
        // A page at the root of the table hides all of it.
        whole_rounds += u64::from(found.len() > 500);
        salvaged += counters.facts_salvaged;
        done(&store, vec![put(FactKind::Retained, "plant/001", b"anew"), insert("hmi", 1000)]).await;
        assert!(facts(&store).await.contains(&(fact(FactKind::Retained, "plant/001"), b"anew".to_vec())));
        store.close().await.unwrap();
        aside::remove(&path).unwrap();
    }
    assert!(
        salvaged > 600 * rounds / 4 && whole_rounds > rounds / 2,
        "{salvaged} facts of {rounds} files, {whole_rounds}"
    );
}

#[tokio::test]
async fn a_fact_or_a_row_that_does_not_decode_is_left_out_counted_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let mut changes: Vec<_> = (1..=10).map(|seq| insert("hmi", seq)).collect();
    changes.extend((0..10).map(|topic| put(FactKind::Retained, &format!("t/{topic}"), &[5; 50])));
    done(&store, changes).await;
    store.close().await.unwrap();
    {
        let conn = Connection::open(&path).unwrap();
        // A value that belongs to another fact, a kind that is another's, and a row under another seq.
        conn.execute("UPDATE facts SET value = (SELECT value FROM facts WHERE id = 4) WHERE id = 3", [])
            .unwrap();
        conn.execute("UPDATE facts SET kind = 4 WHERE id = 7", []).unwrap();
        conn.execute("UPDATE q1 SET row = (SELECT row FROM q1 WHERE seq = 9) WHERE seq = 2", params![])
            .unwrap();
    }
    let store = Store::open(&settings(&path)).await;
    assert_eq!((store.health().fault, store.health().counters.moved_aside), (None, 0));
    assert_eq!((store.health().counters.facts_lost, store.health().counters.rows_lost), (2, 1));
    assert_eq!(facts(&store).await.len(), 8);
    assert_eq!(seqs(&store, "hmi").await, [1, 3, 4, 5, 6, 7, 8, 9, 10]);
    // Removed again when the turn that removed them failed.
    turn_fails(&store, vec![delete("hmi", 5, 5), insert("hmi", 0)]).await;
    done(&store, vec![delete("hmi", 5, 5)]).await;
    store.close().await.unwrap();
    let conn = Connection::open(&path).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((count("SELECT count(*) FROM facts"), count("SELECT count(*) FROM q1")), (8, 8));
}

#[tokio::test]
async fn endless_topics_of_clients_do_not_push_readings_out_of_the_word_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (cloud, _) = store.open_queue("cloud").await;
    let words = || {
        let conn = Connection::open(&path).unwrap();
        conn.query_row("SELECT count(*) FROM words WHERE kind = 1", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    // Local sessions bear their topics.
    for first in (1..=6000).step_by(1000) {
        done(&store, (first..first + 1000).map(|seq| insert("hmi", seq)).collect()).await;
    }
    // Messages of clients for the uplink take half of the table at most.
    for first in (1..=5000).step_by(1000) {
        let rows = (first..first + 1000).map(|seq| local_row(seq, 10)).collect();
        committed(&store, cloud, commit(rows)).await;
    }
    committed(&store, cloud, commit(rows(5001..=5100))).await;
    store.close().await.unwrap();
    assert_eq!(words(), 2048 + 5, "readings have theirs");
    // The uplink drains, while the local session stays away: its rows hold no topic of the table.
    let store = Store::open(&settings(&path)).await;
    let (cloud, _) = store.open_queue("cloud").await;
    committed(&store, cloud, acked(1, 5100)).await;
    committed(&store, cloud, commit(rows(5101..=5103))).await;
    assert_eq!(seqs(&store, "hmi").await.len(), 6000);
    store.close().await.unwrap();
    assert_eq!(words(), 3);
    let store = Store::open(&settings(&path)).await;
    let (cloud, _) = store.open_queue("cloud").await;
    assert_eq!(fetched(&store, cloud).await, rows(5101..=5103));
    assert_eq!(seqs(&store, "hmi").await.len(), 6000);
    assert_eq!((store.health().counters.rows_lost, store.health().counters.words_lost), (0, 0));
}

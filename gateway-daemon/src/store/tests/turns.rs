//! Turns of the local broker.

use gateway_core::broker::{Answer, Change, FactKey, FactKind, Read, Turn};

use super::*;

pub(super) fn local_row(seq: u64, body: usize) -> Arc<Row> {
    let Row { run, at, .. } = *row(seq);
    let body =
        Body::Raw((0..body).map(|index| (seq.wrapping_mul(13) ^ index as u64).to_le_bytes()[0]).collect());
    Arc::new(Row {
        seq: Seq(seq),
        priority: Priority::Normal,
        topic: format!("sensor/{seq}/ключ").into(),
        qos: Qos::ExactlyOnce,
        retain: seq.is_multiple_of(2),
        body,
        readings: 0,
        run,
        at,
        expiry_s: seq.is_multiple_of(3).then_some(60),
    })
}

pub(super) fn insert(client: &str, seq: u64) -> Change {
    Change::Insert { queue: queue(client), row: local_row(seq, 60) }
}

pub(super) fn delete(client: &str, from: u64, to: u64) -> Change {
    Change::Delete { queue: queue(client), seqs: (Seq(from), Seq(to)) }
}

pub(super) fn queue(client: &str) -> Arc<str> {
    format!("local/{client}").into()
}

pub(super) fn fact(kind: FactKind, key: &str) -> FactKey {
    FactKey { kind, key: key.as_bytes().into() }
}

pub(super) fn put(kind: FactKind, key: &str, value: &[u8]) -> Change {
    Change::Put { fact: fact(kind, key), value: value.into() }
}

pub(super) async fn done(store: &Store, changes: Vec<Change>) {
    assert_eq!(store.turn(Turn { number: 7, changes }).await, Answer::Done { number: 7 });
}

pub(super) async fn turn_fails(store: &Store, changes: Vec<Change>) -> StoreFault {
    match store.turn(Turn { number: 8, changes }).await {
        Answer::Failed { number: 8, fault } => fault,
        other => panic!("{other:?}"),
    }
}

pub(super) fn read_all(client: &str) -> Read {
    Read {
        number: 9,
        queue: queue(client),
        after: Seq(0),
        until: Seq(u64::MAX),
        rows_max: 1_000_000,
        bytes_max: u64::MAX,
    }
}

pub(super) async fn seqs(store: &Store, client: &str) -> Vec<u64> {
    match store.read(read_all(client)).await {
        Answer::Rows { number: 9, rows, more: false } => {
            rows.iter().for_each(|row| assert_eq!(*row, local_row(row.seq.0, row.body.bytes().len())));
            rows.iter().map(|row| row.seq.0).collect()
        }
        other => panic!("{other:?}"),
    }
}

pub(super) async fn facts(store: &Store) -> Vec<(FactKey, Vec<u8>)> {
    let mut facts: Vec<_> =
        store.found(sieve()).await.facts.into_iter().map(|(fact, value)| (fact, value.to_vec())).collect();
    facts.sort();
    facts
}

#[tokio::test]
async fn a_turn_is_found_again_with_its_rows_and_facts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let mut store = Store::open(&settings(&path)).await;
    assert_eq!(store.found(sieve()).await, Found::default());
    let mut changes: Vec<_> = (1..=20).map(|seq| insert("plc/1", seq)).collect();
    changes.push(put(FactKind::Session, "plc/1", b"present"));
    changes.push(put(FactKind::Retained, "a/b", &[9; 3000]));
    changes.push(put(FactKind::Retained, "", b""));
    done(&store, changes).await;
    done(&store, vec![delete("plc/1", 1, 5), put(FactKind::Retained, "a/b", b"later")]).await;
    done(&store, vec![Change::Remove { fact: fact(FactKind::Retained, "never was") }]).await;
    for _ in 0..2 {
        assert_eq!(seqs(&store, "plc/1").await, (6..=20).collect::<Vec<_>>());
        assert_eq!(seqs(&store, "nobody").await, [0; 0]);
        assert_eq!(
            facts(&store).await,
            [
                (fact(FactKind::Session, "plc/1"), b"present".to_vec()),
                (fact(FactKind::Retained, ""), Vec::new()),
                (fact(FactKind::Retained, "a/b"), b"later".to_vec()),
            ]
        );
        store.close().await.unwrap();
        store = Store::open(&settings(&path)).await;
        let found = store.found(sieve()).await;
        let left: Vec<_> = (6..=20).map(|seq| local_row(seq, 60)).collect();
        let stored = Stored { normal: tally(&left), high: Tally::default(), first: Seq(6), last: Seq(20) };
        assert_eq!(found.queues, [(queue("plc/1"), stored)]);
        assert_eq!(store.health().fault, None);
    }
}

#[tokio::test]
async fn a_turn_and_an_op_that_wait_together_do_not_fail_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (cloud, _) = store.open_queue("cloud").await;
    done(&store, vec![insert("hmi", 1), put(FactKind::Session, "hmi", b"1")]).await;
    // A seq of 0 is refused; what came before it in the turn must be gone, too.
    let bad = vec![
        delete("hmi", 1, 1),
        insert("fresh", 1),
        put(FactKind::Session, "hmi", b"2"),
        put(FactKind::Session, "other", b"3"),
        insert("hmi", 0),
    ];
    let uplink = vec![Change::Insert { queue: "cloud".into(), row: local_row(50, 10) }];
    let (one, two, three, four) = tokio::join!(
        store.apply(cloud, commit(rows(1..=3))),
        turn_fails(&store, bad),
        turn_fails(&store, uplink),
        done(&store, vec![insert("hmi", 2)])
    );
    assert!(matches!(one, StoreEvent::Committed { .. }), "{one:?}");
    assert_eq!((two, three, four), (StoreFault::Io, StoreFault::Io, ()));
    let (wrong, right) =
        tokio::join!(store.apply(cloud, commit(vec![row(0)])), done(&store, vec![insert("hmi", 3)]));
    assert_eq!((failed(&wrong), right), (StoreFault::Io, ()));
    for _ in 0..2 {
        assert_eq!(seqs(&store, "hmi").await, [1, 2, 3]);
        assert_eq!(seqs(&store, "fresh").await, [0; 0]);
        assert_eq!(facts(&store).await, [(fact(FactKind::Session, "hmi"), b"1".to_vec())]);
        // Numbers that were undone may be used again.
        done(&store, vec![insert("fresh", 1), Change::Drop { queue: queue("fresh") }]).await;
    }
    assert_eq!(fetched(&store, cloud).await, rows(1..=3));
    store.close().await.unwrap();
    let store = Store::open(&settings(&path)).await;
    assert_eq!(seqs(&store, "hmi").await, [1, 2, 3]);
    assert_eq!(facts(&store).await.len(), 1);
}

#[tokio::test]
async fn queues_of_uplinks_and_of_local_sessions_are_not_confused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    let (cloud, _) = store.open_queue("cloud").await;
    committed(&store, cloud, commit(rows(1..=3))).await;
    let long = "ü/".repeat(21_845);
    assert_eq!(long.len(), 65_535);
    for client in ["cloud", "", &long] {
        done(&store, vec![insert(client, 1)]).await;
    }
    let names: Vec<_> = store.queues().await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["cloud".into()]);
    assert_eq!(store.drop_queue("local/cloud").await, Ok(0));
    let queues: Vec<_> = store.found(sieve()).await.queues.into_iter().map(|(name, _)| name).collect();
    assert_eq!(queues, [queue(""), queue("cloud"), queue(&long)]);
    let health = store.health();
    assert_eq!((health.rows, health.local_rows), (6, 3));
    done(&store, vec![Change::Drop { queue: queue("cloud") }, Change::Drop { queue: queue("cloud") }]).await;
    assert_eq!(seqs(&store, "cloud").await, [0; 0]);
    assert_eq!(seqs(&store, &long).await, [1]);
    assert_eq!(fetched(&store, cloud).await, rows(1..=3));
}

/// After a roll-back: a version to come remembers things of a kind that this one does not know.
#[tokio::test]
async fn a_fact_of_a_kind_that_a_newer_version_has_stored_is_left_alone() {
    const NEWER: i64 = 77;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let store = Store::open(&settings(&path)).await;
    done(&store, vec![put(FactKind::Session, "plc/1", b"present")]).await;
    store.close().await.unwrap();
    let conn = Connection::open(&path).unwrap();
    let (key, content): (&[u8], &[u8]) = (b"key", b"content");
    for (id, spoilt) in [(100_i64, false), (101, true)] {
        let length = (key.len() as u64).to_le_bytes();
        let crc = crate::store::crc::crc32(&[&id.to_le_bytes(), &NEWER.to_le_bytes(), &length, key, content]);
        let value = [content, &crc.wrapping_add(spoilt.into()).to_le_bytes()].concat();
        let columns = rusqlite::params![id, NEWER, key, value];
        conn.execute("INSERT INTO facts(id, kind, key, value) VALUES (?1, ?2, ?3, ?4)", columns).unwrap();
    }
    drop(conn);
    let store = Store::open(&settings(&path)).await;
    assert_eq!(store.health().counters.facts_lost, 1, "the one that is spoilt");
    done(&store, vec![put(FactKind::Retained, "a/b", b"new")]).await;
    let found = facts(&store).await;
    assert_eq!(found.len(), 2, "{found:?}");
    store.close().await.unwrap();
    let conn = Connection::open(&path).unwrap();
    let mut statement = conn.prepare("SELECT id FROM facts ORDER BY id").unwrap();
    let ids: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(ids, [1, 100, 102]);
}

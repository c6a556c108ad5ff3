//! Facts that do not fit into memory: left out while they are read, and still there afterwards.

use gateway_core::broker::{Change, FactKind, LeftOut, Limits, Sieve};

use super::turns::{done, fact, put};
use super::*;

/// A retained message as version 0.1 wrote it, which took any number of properties: so many user properties without name and value.
fn retained(topic: &str, pairs: u16) -> Change {
    let mut value = vec![1, 4];
    value.extend([0xb0; 16]);
    value.extend(u16::try_from(topic.len()).unwrap().to_le_bytes());
    value.extend(topic.as_bytes());
    value.push(if pairs == 0 { 0 } else { 16 });
    if pairs > 0 {
        value.extend(pairs.to_le_bytes());
        value.extend([0; 4].repeat(pairs.into()));
    }
    value.push(b'1');
    put(FactKind::Retained, topic, &value)
}

fn small() -> Sieve {
    Sieve::new(&Limits { retained_bytes_max: 1 << 20, ..Limits::default() })
}

#[tokio::test]
async fn what_does_not_fit_into_memory_is_left_out_while_it_is_read_and_is_still_stored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let mut store = Store::open(&settings(&path)).await;
    for number in 0..60 {
        done(&store, vec![retained(&format!("large/{number}"), 15_000)]).await;
    }
    done(&store, vec![retained("small", 0)]).await;
    for _ in 0..2 {
        let found = store.found(small()).await;
        let bytes: usize = found.facts.iter().map(|(_, value)| value.len()).sum();
        assert!(bytes <= 1 << 20, "{bytes}");
        assert!(found.facts.iter().any(|(key, _)| *key == fact(FactKind::Retained, "small")));
        assert_eq!(found.left_out.count() + found.facts.len() as u64, 61);
        assert!(found.left_out.retained.bytes > 3_000_000, "{:?}", found.left_out);
        store.close().await.unwrap();
        store = Store::open(&settings(&path)).await;
    }
    let found = store.found(Sieve::new(&Limits { retained_bytes_max: 16 << 20, ..Limits::default() })).await;
    assert_eq!((found.facts.len(), found.left_out), (61, LeftOut::default()), "with more room they are back");
}

//! Starts over what an earlier version stored, and retained messages that the broker lets expire.

use gateway_core::broker::{Change, FactKey, FactKind, Turn};
use gateway_core::settings::StoreSettings;
use gateway_daemon::store::Store;
use tidegate_tests::clients::{Sub, mosquitto_pub};
use tidegate_tests::yard::{OPEN, Yard};

/// A message as version 0.1 wrote it into its facts, with so many user properties without name and value.
fn message(topic: &str, body: &[u8], pairs: u16) -> Vec<u8> {
    let mut value = vec![1, 4 | 1];
    value.extend([0xb0; 16]);
    value.extend(u16::try_from(topic.len()).unwrap().to_le_bytes());
    value.extend(topic.as_bytes());
    value.push(16);
    value.extend(pairs.to_le_bytes());
    value.extend([0; 4].repeat(pairs.into()));
    value.extend(body);
    value
}

fn fact(kind: FactKind, key: &str, value: Vec<u8>) -> Change {
    Change::Put { fact: FactKey { kind, key: key.as_bytes().into() }, value: value.into() }
}

/// What 385 publishes and 400 clients with delayed wills left in the database of version 0.1: 46 MB, which cost it ten times that in memory at each start.
async fn fill(path: &std::path::Path) {
    let store = Store::open(&StoreSettings { path: path.to_owned(), file_bytes_max: 512 << 20 }).await;
    let mut number = 0;
    let mut turn = async |changes: Vec<Change>| {
        number += 1;
        let answer = store.turn(Turn { number, changes }).await;
        assert_eq!(answer, gateway_core::broker::Answer::Done { number });
    };
    for index in 0..385 {
        let topic = format!("r/{index}");
        turn(vec![fact(FactKind::Retained, &topic, message(&topic, b"1", 15_000))]).await;
    }
    for index in 0..400 {
        // Version 5, a session that never expires, ended, and a will that speaks an hour later.
        let mut value = vec![1, 5, 1 | 4];
        value.extend(u32::MAX.to_le_bytes());
        value.extend([0; 8]);
        value.extend([0xb0; 16]);
        value.extend(3600_u32.to_le_bytes());
        value.extend(message("w", b"gone", 15_000));
        turn(vec![fact(FactKind::Session, &format!("client{index}"), value)]).await;
    }
    turn(vec![fact(FactKind::Retained, "small", message("small", b"here", 1))]).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_start_over_what_version_0_1_stored_needs_little_memory_and_says_what_it_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("queue.db");
    fill(&path).await;
    let mut yard = Yard::with_files(OPEN, |folder| {
        std::fs::copy(&path, folder.join("queue.db"))?;
        Ok(())
    })
    .await
    .unwrap();
    for _ in 0..2 {
        assert!(yard.gateway.metric("broker_retained_bytes").await.unwrap() <= 8 << 20);
        assert!(yard.gateway.metric("broker_wills_bytes").await.unwrap() <= 2 << 20);
        let left_out = yard.gateway.metric("broker_left_out_facts_total").await.unwrap();
        assert!(left_out > 500, "{left_out}: {}", yard.gateway.log());
        assert_eq!(yard.gateway.metric("broker_damaged_facts_total").await.unwrap(), 0);
        let log = yard.gateway.log();
        assert!(log.contains("stay on disk and are not handed on"), "{log}");
        let rss = yard.gateway.rss_anon_kib().unwrap();
        assert!(rss < 64 << 10, "{rss} KiB");
        let port = yard.port("local").await.unwrap();
        let mut reader = Sub::start(port, &["-t", "small"]).await.unwrap();
        assert_eq!(reader.payloads(1).await.unwrap(), ["here"]);
        // A restart is as good as the first start.
        yard = yard.crash().await.unwrap();
    }
}

#[tokio::test]
async fn a_retained_message_of_a_publisher_of_3_1_1_expires_also_over_a_restart() {
    let doors = format!(
        "{OPEN}[broker.limits]\nretained_expiry = \"2s\"\nretained_interval = \"1s\"\n[broker.retained.\"kept/#\"]\n"
    );
    let mut yard = Yard::start(&doors).await.unwrap();
    let port = yard.port("local").await.unwrap();
    for topic in ["t", "kept/t"] {
        mosquitto_pub(port, &["-V", "311", "-q", "1", "-r", "-t", topic, "-m", topic]).await.unwrap();
    }
    let mut yard = {
        yard.wait_for("both", |broker| broker.retained == 2).await.unwrap();
        yard.crash().await.unwrap()
    };
    yard.wait_for("the end of one", |broker| broker.retained == 1).await.unwrap();
    assert_eq!(yard.gateway.metric("broker_expired_retained_total").await.unwrap(), 1);
    let port = yard.port("local").await.unwrap();
    let mut reader = Sub::start(port, &["-t", "#", "-T", "$SYS/#", "-T", "gw/#"]).await.unwrap();
    assert_eq!(reader.payloads(1).await.unwrap(), ["kept/t"]);
}

//! Shapes, qualities of service, and more than one uplink.

use std::collections::BTreeSet;

use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{self, Office};

use crate::{assert_balanced, counter, dead_port, head};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_message_per_tag_goes_to_a_topic_per_tag() {
    let dir = tempfile::tempdir().unwrap();
    let device = CounterDevice::start().await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "site/#").await.unwrap();
    let message = "[message]\nshape = \"tag\"\ntopic = \"site/{device}/{tag}\"\n";
    let config = head(dir.path(), broker.port())
        + message
        + &counter(device.port)
        + "tags.again = { holding = 2, type = \"u16\", unit = \"1\" }\n";
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    let all = office.wait_for("20 messages", |all| all.len() >= 20).await.unwrap();
    let topics: BTreeSet<&str> = all.iter().map(|one| one.topic.as_str()).collect();
    assert_eq!(topics, BTreeSet::from(["site/meter/again", "site/meter/count"]));
    for one in &all {
        assert_eq!(one.topic.rsplit('/').next(), one.json["tag"].as_str(), "{one:?}");
        assert!(one.json["value"].is_u64() && one.json.get("values").is_none(), "{one:?}");
    }
    gateway.wait_for("acks", |now| now.uplinks[0].ledger.acknowledged.rows >= 20).await.unwrap();
    assert_balanced(&gateway).await;
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_at_qos_0_is_served_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let device = CounterDevice::start().await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "gw/#").await.unwrap();
    let config = head(dir.path(), broker.port()) + "qos = 0\n" + &counter(device.port);
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    office.wait_for("20 values", |all| office::counts(all, "count").len() >= 20).await.unwrap();
    gateway.wait_for("20 sent", |now| now.uplinks[0].ledger.acknowledged.rows >= 20).await.unwrap();
    assert_balanced(&gateway).await;
    gateway.stop().await.unwrap();
    let publishes = broker.log().lines();
    let readings = |line: &&String| line.contains("Received PUBLISH") && line.contains("gw/meter/");
    assert!(publishes.iter().filter(readings).all(|line| line.contains(", q0,")), "{publishes:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_uplink_does_not_touch_the_other_one() {
    let dir = tempfile::tempdir().unwrap();
    let device = CounterDevice::start().await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "gw/meter/#").await.unwrap();
    let other = format!(
        "[uplink.backup]\nurl = \"mqtt://127.0.0.1:{}\"\nbackoff_min = \"100ms\"\nbackoff_max = \"1s\"\n\
         status_topic = \"{{gateway}}/{{uplink}}/status\"\nledger_topic = \"{{gateway}}/{{uplink}}/ledger\"\n",
        dead_port()
    );
    let config = head(dir.path(), broker.port()) + &other + &counter(device.port);
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    let by_name = |now: &gateway_daemon::app::snapshot::Snapshot, name: &str| {
        now.uplinks.iter().find(|uplink| uplink.name == name).unwrap().ledger.clone()
    };
    let now = gateway
        .wait_for("30 on one side, stored on the other", |now| {
            by_name(now, "cloud").acknowledged.rows >= 30 && by_name(now, "backup").stored.rows >= 20
        })
        .await
        .unwrap();
    assert_eq!(by_name(&now, "backup").acknowledged.rows, 0);
    assert_eq!(by_name(&now, "cloud").dropped_total().rows, 0);
    assert_balanced(&gateway).await;
    gateway.stop().await.unwrap();
    let counts = office::counts(&office.arrivals(), "count");
    assert_eq!(counts, (1..=counts.len() as u64).collect(), "a value is missing");
    let log = std::fs::read_to_string(dir.path().join("gateway.log")).unwrap();
    let complaints = log.lines().filter(|line| line.contains("WARN  uplink backup: cannot connect")).count();
    assert!((1..=5).contains(&complaints), "repeats are limited: {complaints} lines\n{log}");
    assert!(!log.contains("rumqttc"), "{log}");
}

//! Messages that a real cloud will not take: set aside, shown, sent again and deleted, while everything else flows.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use gateway_core::settings::StoreSettings;
use gateway_core::tag::{BootId, BootNs, RunId};
use gateway_core::uplink::row::{Body, Priority, Qos, Row, Seq, StoreOp};
use gateway_daemon::app::snapshot::{Link, Snapshot, Uplink};
use gateway_daemon::store::Store;
use tidegate_tests::gateway::{self, Gateway};
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::watcher::Watcher;

fn config(dir: &Path, cloud: u16) -> String {
    let dir = dir.display();
    format!(
        r#"[gateway]
id = "gw"
socket = "{dir}/control.sock"
[store]
path = "{dir}/queue.db"
commit_interval = "200ms"
[broker.listener.local]
address = "127.0.0.1:0"
anonymous = true
[uplink.cloud]
url = "mqtt://127.0.0.1:{cloud}"
client_id = "gw"
backoff_min = "100ms"
backoff_max = "1s"
drain = "fifo"
forward = ["plant/#"]
"#
    )
}

fn only(now: &Snapshot) -> &Uplink {
    &now.uplinks[0]
}

fn row(seq: u64, topic: &str) -> Arc<Row> {
    Arc::new(Row {
        seq: Seq(seq),
        priority: Priority::Normal,
        topic: topic.into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        body: Body::Raw(format!("number {seq}").into_bytes().into()),
        readings: 0,
        run: RunId { boot: BootId(7), start_ms: 1 },
        at: BootNs(seq),
        expiry_s: None,
    })
}

/// Rows in the database as a version before has left them there.
async fn leave_rows(dir: &Path, topics: &[&str]) -> Result<()> {
    let settings = StoreSettings { path: dir.join("queue.db"), file_bytes_max: 64 << 20 };
    let store = Store::open(&settings).await;
    let (queue, _) = store.open_queue("cloud").await;
    let rows = (1..).zip(topics).map(|(seq, topic)| row(seq, topic)).collect();
    store.apply(queue, StoreOp::Commit { op: 1, rows, acked: Vec::new() }).await;
    Ok(store.close().await?)
}

/// `gateway-daemon queue` as a person calls it.
fn queue(dir: &Path, words: &[&str]) -> Result<Output> {
    let socket = dir.join("control.sock");
    let words = ["queue"].iter().chain(words).copied();
    let mut command = std::process::Command::new(gateway::binary()?);
    Ok(command.args(words).arg("--socket").arg(socket).output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn client(gateway: &mut Gateway, id: &str) -> Result<Watcher> {
    let open = gateway.wait_for("an open listener", |now| now.broker.is_some()).await?;
    let broker = open.broker.context("a local broker")?;
    let address = &broker.listeners.first().context("a listener")?.address;
    Watcher::start(address.rsplit_once(':').context("a port")?.1.parse()?, id, true, "none").await
}

#[tokio::test]
async fn stored_rows_with_control_characters_in_their_topics_are_set_aside_and_those_behind_them_arrive()
-> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let mut office = Watcher::start(cloud.port(), "office", true, "plant/#").await?;
    let dir = tempfile::tempdir()?;
    leave_rows(dir.path(), &["plant/1", "plant/\u{1}y", "plant/2", "plant/\u{FFFE}", "plant/3"]).await?;
    let mut gateway = Gateway::start(dir.path(), &config(dir.path(), cloud.port()))?;
    for topic in ["plant/1", "plant/2", "plant/3"] {
        assert_eq!(office.next().await?.topic, topic);
    }
    let now = gateway
        .wait_for("two set aside and three acknowledged", |now| {
            only(now).set_aside.messages == 2 && only(now).ledger.acknowledged.rows == 3
        })
        .await?;
    ensure!(only(&now).link == Link::Up && only(&now).connects == 1, "{now:?}");
    ensure!(only(&now).ledger.stored.rows == 2 && only(&now).ledger.balanced(), "{now:?}");
    ensure!(gateway.log().contains(r"plant/\u{1}y"), "{}", gateway.log());

    let list = queue(dir.path(), &["list", "cloud"])?;
    ensure!(list.status.success() && said(&list).contains(r"plant/\u{1}y"), "{}", said(&list));
    ensure!(!said(&list).contains('\u{1}'));
    let show = queue(dir.path(), &["show", "cloud", "2", "--json"])?;
    let shown: serde_json::Value = serde_json::from_slice(&show.stdout)?;
    ensure!(shown["messages"][0]["payload"]["text"] == "number 2", "{shown}");
    ensure!(shown["messages"][0]["reason"] == "topic", "{shown}");
    for words in [&["show", "cloud", "1"][..], &["delete", "cloud", "99"], &["list", "moon"]] {
        let refused = queue(dir.path(), words)?;
        ensure!(refused.status.code() == Some(1), "{words:?}: {}", said(&refused));
    }
    let deleted = queue(dir.path(), &["delete", "cloud", "2"])?;
    ensure!(deleted.status.success(), "{}", said(&deleted));
    let now = gateway.wait_for("one left", |now| only(now).set_aside.messages == 1).await?;
    ensure!(
        only(&now).ledger.dropped["refused-by-cloud"].rows == 1 && only(&now).ledger.balanced(),
        "{now:?}"
    );

    gateway.stop().await?;
    let mut gateway = Gateway::start(dir.path(), &config(dir.path(), cloud.port()))?;
    let now = gateway.wait_for("the link", |now| only(now).link == Link::Up).await?;
    ensure!(
        only(&now).set_aside.messages == 1 && only(&now).set_aside.reason.as_deref() == Some("topic"),
        "{now:?}"
    );
    gateway.stop().await
}

#[tokio::test]
async fn a_message_larger_than_the_cloud_takes_is_set_aside_survives_kill_9_and_arrives_when_the_limit_is_raised()
-> Result<()> {
    let strict = Options { extra: "max_packet_size 131072\n", ..Options::default() };
    let mut cloud = Mosquitto::start(&strict).await?;
    let mut office = Watcher::start(cloud.port(), "office", true, "plant/small").await?;
    let dir = tempfile::tempdir()?;
    let mut gateway = Gateway::start(dir.path(), &config(dir.path(), cloud.port()))?;
    let mut camera = client(&mut gateway, "camera").await?;
    camera.publish("plant/small", b"before").await?;
    camera.publish("plant/large", &vec![b'x'; 140_000]).await?;
    for number in 0..20 {
        camera.publish("plant/small", format!("{number}").as_bytes()).await?;
    }
    gateway.wait_for("it is set aside", |now| only(now).set_aside.messages == 1).await?;
    let expected: Vec<String> =
        ["before".to_owned()].into_iter().chain((0..20).map(|number| number.to_string())).collect();
    let mut heard: Vec<String> = Vec::new();
    while heard.len() < expected.len() {
        let payload = String::from_utf8(office.next().await?.payload)?;
        // What was under way when a connection ended comes twice.
        if !heard.contains(&payload) {
            heard.push(payload);
        }
    }
    assert_eq!(heard, expected);
    let settled = |now: &Snapshot| only(now).ledger.queued().rows == 1 && only(now).link == Link::Up;
    let now = gateway.wait_for("everything else acknowledged", settled).await?;
    ensure!(only(&now).set_aside.reason.as_deref() == Some("cut") && only(&now).ledger.balanced(), "{now:?}");

    gateway.kill()?;
    let mut gateway = Gateway::start(dir.path(), &config(dir.path(), cloud.port()))?;
    let now = gateway.wait_for("the link", |now| only(now).link == Link::Up).await?;
    ensure!(only(&now).set_aside.messages == 1 && only(&now).connects == 1, "{now:?}");
    let show = queue(dir.path(), &["show", "cloud", "2", "--json"])?;
    let shown: serde_json::Value = serde_json::from_slice(&show.stdout).with_context(|| said(&show))?;
    ensure!(shown["messages"][0]["payload"]["bytes"] == 140_000, "{}", shown["messages"][0]["topic"]);

    // The server's limit is raised.
    let port = cloud.port();
    cloud.stop().await?;
    let file = cloud.dir().join("mosquitto.conf");
    let text = std::fs::read_to_string(&file)?.replace("max_packet_size 131072", "");
    std::fs::write(&file, text)?;
    cloud.start_again().await?;
    drop(office);
    let mut office = Watcher::start(port, "office2", true, "plant/large").await?;
    let sent = queue(dir.path(), &["send", "cloud", "--all"])?;
    ensure!(sent.status.success(), "{}", said(&sent));
    assert_eq!(office.next().await?.payload.len(), 140_000);
    let done = |now: &Snapshot| only(now).ledger.queued().rows == 0 && only(now).set_aside.messages == 0;
    let now = gateway.wait_for("an empty queue", done).await?;
    ensure!(only(&now).ledger.balanced() && only(&now).ledger.dropped.is_empty(), "{now:?}");
    gateway.stop().await
}

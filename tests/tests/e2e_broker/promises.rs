//! The promises of design.md where local clients are concerned.

use std::os::unix::fs::symlink;
use std::time::Duration;

use tidegate_tests::clients::{Sub, mosquitto_pub, subscribe_and_leave};
use tidegate_tests::yard::{OPEN, Yard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A port of this machine where nobody listens.
fn dead_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn kept_or_counted_holds_for_messages_of_local_clients() {
    let yard = Yard::start(&format!("{OPEN}[broker]\nlimits = {{ stored_max = 10 }}\n")).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let reader = ["-c", "-i", "reader", "-q", "1", "-t", "k/#"];
    subscribe_and_leave(port, &reader).await.unwrap();
    for number in 0..15 {
        mosquitto_pub(port, &["-q", "1", "-t", "k/x", "-m", &number.to_string()]).await.unwrap();
    }
    let broker = yard.broker().await.unwrap();
    assert_eq!(
        (broker.received, broker.stored + broker.dropped),
        (15, 15),
        "acknowledged = on disk + dropped"
    );
    assert!((1..=10).contains(&broker.stored), "{broker:?}");
    assert_eq!(
        yard.gateway.metric("broker_dropped_messages_total{reason=\"full\"}").await.unwrap(),
        broker.dropped
    );
    let mut yard = yard.crash().await.unwrap();
    let port = yard.port("local").await.unwrap();
    let kept = yard.broker().await.unwrap().stored;
    assert!(kept >= broker.stored, "what was counted as kept is kept: {kept} of {}", broker.stored);
    let mut sub = Sub::start(port, &reader).await.unwrap();
    let mut heard = sub.payloads(usize::try_from(kept).unwrap()).await.unwrap();
    yard.wait_for("an empty queue", |broker| broker.waiting == 0).await.unwrap();
    mosquitto_pub(port, &["-q", "1", "-t", "k/x", "-m", "15"]).await.unwrap();
    heard.extend(sub.payloads(1).await.unwrap());
    let numbers: Vec<u32> = heard.iter().map(|payload| payload.parse().unwrap()).collect();
    assert!(
        numbers.is_sorted_by(|a, b| a < b) && numbers.last() == Some(&15),
        "in order, each once: {numbers:?}"
    );
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn an_acknowledgement_means_safe_so_there_is_none_while_disk_and_cloud_are_away() {
    let doors = format!("{OPEN}[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\n", dead_port());
    // A name that leads nowhere until somebody makes the folder.
    let prepare = |dir: &std::path::Path| Ok(symlink(dir.join("card/queue.db"), dir.join("queue.db"))?);
    let mut yard = Yard::with_files(&doors, prepare).await.unwrap();
    let port = yard.port("local").await.unwrap();
    yard.gateway.wait_for("the fault of the disk", |now| now.store.fault.is_some()).await.unwrap();
    let publish =
        tokio::spawn(async move { mosquitto_pub(port, &["-q", "1", "-t", "a/x", "-m", "safe?"]).await });
    yard.wait_for("the message", |broker| broker.received == 1).await.unwrap();
    // Ten more cycles of the field: the loop has gone round and round, and said nothing to the publisher.
    let produced = yard.gateway.snapshot().await.unwrap().uplinks[0].ledger.produced.rows;
    let now = yard
        .gateway
        .wait_for("ten cycles", |now| now.uplinks[0].ledger.produced.rows >= produced + 10)
        .await
        .unwrap();
    assert!(!publish.is_finished(), "acknowledged, and nowhere safe: {:?}", now.store);
    assert_eq!(now.uplinks[0].ledger.stored.rows, 0);
    std::fs::create_dir(yard.dir().join("card")).unwrap();
    publish.await.unwrap().unwrap();
    let now = yard.gateway.snapshot().await.unwrap();
    assert!(now.uplinks[0].ledger.stored.rows > 0, "{:?}", now.uplinks[0].ledger);
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn the_field_never_waits_for_a_flood_of_messages() {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0123456789\n".repeat(100_000)).unwrap();
    let flood = tokio::process::Command::new("mosquitto_pub")
        .args(["-p", &port.to_string(), "-t", "f/x", "-q", "0", "-l"])
        .stdin(std::fs::File::open(file.path()).unwrap())
        .kill_on_drop(true)
        .status();
    assert!(tokio::time::timeout(Duration::from_secs(60), flood).await.unwrap().unwrap().success());
    let mut yard = yard;
    yard.wait_for("the flood", |broker| broker.received == 100_000).await.unwrap();
    assert_eq!(yard.gateway.snapshot().await.unwrap().buses[0].overruns, 0);
    assert_eq!(yard.gateway.metric("bus_cycles_dropped_total{bus=\"line\"}").await.unwrap(), 0);
    yard.gateway.stop().await.unwrap();
}

/// CONNECT of 3.1.1 without keep-alive, and whether it was accepted.
async fn connect(port: u16, name: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let length = u8::try_from(name.len()).unwrap();
    let mut hello = vec![0x10, 12 + length];
    hello.extend_from_slice(b"\x00\x04MQTT\x04\x02\x00\x00\x00");
    hello.push(length);
    hello.extend_from_slice(name.as_bytes());
    // One that is turned away may be closed before it has said a word.
    let _ = stream.write_all(&hello).await;
    let mut answer = [0; 4];
    match stream.read_exact(&mut answer).await {
        Ok(_) if answer == [0x20, 2, 0, 0] => Some(stream),
        _ => None,
    }
}

#[tokio::test]
async fn bounded_everything_holds_for_connections() {
    let mut yard =
        Yard::start(&format!("{OPEN}[broker]\nlimits = {{ connections_max = 5 }}\n")).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut inside = Vec::new();
    for number in 0..5 {
        inside.push(connect(port, &format!("c{number}")).await.expect("there is room"));
    }
    for number in 5..8 {
        assert!(connect(port, &format!("c{number}")).await.is_none(), "more than five");
    }
    assert_eq!(yard.gateway.metric("broker_connections_refused_total").await.unwrap(), 3);
    assert_eq!(yard.broker().await.unwrap().clients, 5);
    for stream in &mut inside {
        stream.write_all(&[0xc0, 0]).await.unwrap();
        let mut pong = [0; 2];
        stream.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0xd0, 0], "whoever is inside is not disturbed");
    }
    inside.pop();
    yard.wait_for("a free place", |broker| broker.clients == 4).await.unwrap();
    assert!(connect(port, "late").await.is_some());
    yard.gateway.stop().await.unwrap();
}

//! mosquitto_pub and mosquitto_sub, with the options of their manuals.

use std::time::{Duration, Instant};

use tidegate_tests::clients::{Heard, Sub, mosquitto_pub, subscribe_and_leave};
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::watcher::Watcher;
use tidegate_tests::yard::{OPEN, Yard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

fn heard(topic: &str, qos: u8, retain: bool, payload: &str) -> Heard {
    Heard { topic: topic.into(), qos, retain, payload: payload.into() }
}

#[tokio::test]
async fn messages_of_clients_and_readings_reach_each_other_and_the_cloud() {
    let cloud = Mosquitto::start(&Options::default()).await.unwrap();
    let mut office = Watcher::start(cloud.port(), "office", true, "plc/#").await.unwrap();
    let mut readings = Watcher::start(cloud.port(), "readings", true, "gw/meter/#").await.unwrap();
    let yard = Yard::with_cloud(cloud.port()).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut hmi = Sub::start(port, &["-t", "#", "-q", "1", "-i", "hmi"]).await.unwrap();
    mosquitto_pub(port, &["-t", "plc/press", "-m", "42", "-q", "1"]).await.unwrap();
    let arrived = office.next().await.unwrap();
    assert_eq!((arrived.topic.as_str(), arrived.payload.as_slice()), ("plc/press", b"42".as_slice()));
    assert_eq!(readings.next().await.unwrap().topic, "gw/meter/1");
    let (mut press, mut readings) = (false, Vec::new());
    while !press || readings.len() < 3 {
        let message = hmi.next().await.unwrap();
        match message.topic.as_str() {
            "plc/press" => press = message == heard("plc/press", 1, false, "42"),
            "gw/meter/1" => readings.push(message),
            // How the bus and the device are.
            other if other.starts_with("gw/health/") => {}
            other => panic!("unexpected {other}"),
        }
    }
    let json: serde_json::Value = serde_json::from_str(&readings[0].payload).unwrap();
    assert!(json["values"]["count"].is_number() && json["seq"].is_number(), "{json}");
    assert!(json["t"].is_string() || json["t_boot_ms"].is_number(), "{json}");
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn every_version_and_qos_of_mosquitto_hears_every_other() {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut readers = Vec::new();
    for version in VERSIONS {
        for qos in 0..3 {
            let text = qos.to_string();
            readers.push((qos, Sub::start(port, &["-V", version, "-q", &text, "-t", "x/#"]).await.unwrap()));
        }
    }
    for version in VERSIONS {
        for qos in 0..3_u8 {
            let topic = format!("x/{version}/{qos}");
            let said = qos.to_string();
            mosquitto_pub(port, &["-V", version, "-q", &said, "-t", &topic, "-m", "a b"]).await.unwrap();
            for (wanted, reader) in &mut readers {
                assert_eq!(reader.next().await.unwrap(), heard(&topic, qos.min(*wanted), false, "a b"));
            }
        }
    }
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn retained_messages_of_mosquitto_are_set_and_cleared() {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    mosquitto_pub(port, &["-t", "r/a", "-m", "kept", "-q", "1", "-r"]).await.unwrap();
    for version in VERSIONS {
        let mut reader = Sub::start(port, &["-V", version, "-t", "r/#", "-q", "2"]).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), heard("r/a", 1, true, "kept"));
    }
    mosquitto_pub(port, &["-t", "r/a", "-n", "-r", "-q", "1"]).await.unwrap();
    let mut reader = Sub::start(port, &["-t", "r/#"]).await.unwrap();
    mosquitto_pub(port, &["-t", "r/b", "-m", "live"]).await.unwrap();
    assert_eq!(reader.next().await.unwrap(), heard("r/b", 0, false, "live"));
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_will_of_mosquitto_comes_when_it_is_killed() {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut reader = Sub::start(port, &["-t", "w/#", "-q", "2"]).await.unwrap();
    for version in VERSIONS {
        let will = |topic| {
            [
                "-V",
                version,
                "-t",
                "x",
                "--will-topic",
                topic,
                "--will-payload",
                "gone",
                "--will-qos",
                "2",
                "--will-retain",
            ]
        };
        subscribe_and_leave(port, &will("w/polite")).await.unwrap();
        let topic = format!("w/{version}");
        let killed = Sub::start(port, &will(&topic)).await.unwrap();
        killed.kill().await.unwrap();
        assert_eq!(reader.next().await.unwrap(), heard(&topic, 2, false, "gone"));
        let mut late = Sub::start(port, &["-t", &topic, "-q", "1"]).await.unwrap();
        assert_eq!(late.next().await.unwrap(), heard(&topic, 1, true, "gone"));
    }
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_session_of_mosquitto_misses_nothing_across_a_restart() {
    for version in VERSIONS {
        let yard = Yard::start(OPEN).await.unwrap();
        let port = yard.port("local").await.unwrap();
        let mut args = vec!["-V", version, "-c", "-i", "logger", "-t", "s/#", "-q", "1"];
        if version == "mqttv5" {
            args.extend(["-x", "3600"]);
        }
        subscribe_and_leave(port, &args).await.unwrap();
        for number in 0..20 {
            let payload = number.to_string();
            mosquitto_pub(port, &["-V", version, "-t", "s/x", "-q", "1", "-m", &payload]).await.unwrap();
        }
        let yard = yard.restart().await.unwrap();
        let port = yard.port("local").await.unwrap();
        assert_eq!(yard.broker().await.unwrap().stored, 20, "{version}");
        let mut reader = Sub::start(port, &args).await.unwrap();
        let numbers: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        assert_eq!(reader.payloads(20).await.unwrap(), numbers, "{version}");
        yard.gateway.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_shared_subscription_of_mosquitto_gives_each_message_to_one_member() {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut members = Vec::new();
    for version in ["mqttv311", "mqttv5"] {
        members.push(Sub::start(port, &["-V", version, "-t", "$share/g/m/#", "-q", "1"]).await.unwrap());
    }
    for number in 0..20 {
        mosquitto_pub(port, &["-t", "m/x", "-q", "1", "-m", &number.to_string()]).await.unwrap();
    }
    // The end of the line for each of them.
    for _ in &members {
        mosquitto_pub(port, &["-t", "m/x", "-q", "1", "-m", "end"]).await.unwrap();
    }
    let mut all = Vec::new();
    for member in &mut members {
        let before = all.len();
        loop {
            match member.next().await.unwrap().payload.as_str() {
                "end" => break,
                number => all.push(number.parse::<u32>().unwrap()),
            }
        }
        assert!(all.len() > before, "a member heard nothing");
    }
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    const MESSAGES: usize = 2000;
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    // CONNECT of 3.1.1 without keep-alive, SUBSCRIBE to everything with QoS 0; then it reads CONNACK and SUBACK and nothing more.
    let mut deaf = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    deaf.write_all(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04deaf").await.unwrap();
    deaf.write_all(b"\x82\x06\x00\x01\x00\x01#\x00").await.unwrap();
    deaf.read_exact(&mut [0; 9]).await.unwrap();
    let mut fast = Sub::start(port, &["-t", "f/#", "-q", "1"]).await.unwrap();
    let started = Instant::now();
    let (large, small) = ("x".repeat(10_000) + "\n", "x\n".to_owned());
    let publish = |topic: &'static str, line: String| async move {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), line.repeat(MESSAGES)).unwrap();
        let mut command = tokio::process::Command::new("mosquitto_pub");
        command.args(["-p", &port.to_string(), "-t", topic, "-q", "1", "-l"]).kill_on_drop(true);
        command.stdin(std::fs::File::open(file.path()).unwrap()).status().await.unwrap()
    };
    // 20 MB that only the deaf one wants.
    let (loud, quiet, heard) =
        tokio::join!(publish("d/x", large), publish("f/x", small), fast.payloads(MESSAGES));
    assert!(loud.success() && quiet.success());
    assert_eq!(heard.unwrap().len(), MESSAGES);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let broker = yard.broker().await.unwrap();
    assert!(broker.dropped > 0, "20 MB for the deaf one were dropped and counted: {broker:?}");
    assert!(yard.gateway.rss_kib().unwrap() < 64 << 10, "{} KiB", yard.gateway.rss_kib().unwrap());
    yard.gateway.stop().await.unwrap();
}

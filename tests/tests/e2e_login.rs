//! Strangers, guesses and log-ins in front of the real daemon: what they cost, whom they delay, and what is left behind.
//!
//! Source addresses 127.0.0.2, 127.0.0.3 and so on serve as other hosts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tidegate_tests::certs::{Authority, Validity};
use tidegate_tests::clients::{Sub, mosquitto_pub};
use tidegate_tests::gateway::password_hash;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::wait::within;
use tidegate_tests::yard::{OPEN, Yard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

fn users(doors: &str) -> String {
    format!("{doors}[broker.user.press]\npassword_hash = {}\n", password_hash("pressword").unwrap())
}

/// A connection from 127.0.0.0/8.
async fn connect_from(host: &str, port: u16) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(host.parse()?, 0))?;
    Ok(socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await?)
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first], varint(body.len()).as_slice(), body].concat()
}

fn varint(mut left: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while left > 0x7f {
        bytes.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    bytes.push(u8::try_from(left).unwrap());
    bytes
}

/// CONNECT of 3.1.1.
fn login(client: &str, user: &str, password: &str) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04\xc2\0\0".to_vec();
    for part in [client, user, password] {
        text(&mut body, part);
    }
    packet(0x10, &body)
}

/// CONNECT of 5.0 with a wrong password and a will: with as many empty user properties as fit (79 kB), or with a large body (66 kB).
fn heavy(properties: usize) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x05\xc6\0\0\0".to_vec();
    text(&mut body, "heavy");
    let will = if properties > 1000 { "x".to_owned() } else { "x".repeat(65_000) };
    let properties = [0x26, 0, 0, 0, 0].repeat(properties);
    let len = properties.len();
    body.extend(varint(len));
    body.extend(properties);
    for part in ["w", &will, "press", "wrong"] {
        text(&mut body, part);
    }
    packet(0x10, &body)
}

/// The answer to CONNECT: its reason code.
async fn answer(stream: &mut TcpStream) -> Result<u8> {
    let mut bytes = [0; 4];
    within("CONNACK", stream.read_exact(&mut bytes)).await?;
    Ok(bytes[3])
}

async fn try_login(host: &str, port: u16, user: &str, password: &str) -> Result<(TcpStream, u8)> {
    let mut stream = connect_from(host, port).await?;
    stream.write_all(&login(host, user, password)).await?;
    let code = answer(&mut stream).await?;
    Ok((stream, code))
}

/// Highest anonymous memory while something goes on, KiB.
async fn peak(yard: &Yard, time: Duration) -> u64 {
    let end = tokio::time::Instant::now() + time;
    let mut peak = 0;
    while tokio::time::Instant::now() < end {
        peak = peak.max(yard.gateway.rss_anon_kib().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    peak
}

/// Memory that is back to `wanted` at last, KiB: giving back takes a moment.
async fn settled(yard: &Yard, wanted: u64) -> u64 {
    for _ in 0..300 {
        let now = yard.gateway.rss_anon_kib().unwrap();
        if now <= wanted {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    yard.gateway.rss_anon_kib().unwrap()
}

/// A thousand strangers say something large each; one honest client logs in meanwhile. Gives memory before and at most, KiB.
async fn besiege(yard: &Yard, port: u16, bytes: [Vec<u8>; 2]) -> (u64, u64) {
    let bytes = bytes.map(Arc::<[u8]>::from);
    let before = yard.gateway.rss_anon_kib().unwrap();
    let mut crowd = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let bytes = Arc::clone(&bytes[n % 2]);
        crowd.spawn(async move {
            let mut stream = connect_from(&format!("127.0.{}.{}", 1 + n / 20, 1 + n % 20), port).await?;
            stream.write_all(&bytes).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            anyhow::Ok(())
        });
    }
    let highest = peak(yard, Duration::from_secs(4)).await;
    crowd.shutdown().await;
    (before, highest)
}

#[tokio::test]
async fn a_thousand_strangers_with_large_connects_cost_little_and_delay_nobody() {
    let yard = Yard::start(&users(OPEN)).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let honest = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        try_login("127.0.0.9", port, "press", "pressword").await.unwrap().1
    };
    let ((before, highest), code) = tokio::join!(besiege(&yard, port, [heavy(15_800), heavy(20)]), honest);
    assert_eq!(code, 0);
    assert!(highest < before + (40 << 10), "{before} KiB before, {highest} at most");
    let after = settled(&yard, before + (8 << 10)).await;
    assert!(after <= before + (8 << 10), "{before} KiB before, {after} after");
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn the_same_by_websocket_costs_as_little() {
    let doors = users("[broker.listener.web]\naddress = \"127.0.0.1:0\"\nwebsocket = true\n");
    let yard = Yard::start(&doors).await.unwrap();
    let port = yard.port("web").await.unwrap();
    let mut bytes = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \
                      dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        .to_vec();
    let connect = heavy(20);
    // One binary frame, masked with zeros.
    bytes.extend([0x82, 0xff]);
    bytes.extend((connect.len() as u64).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(connect);
    let (before, highest) = besiege(&yard, port, [bytes.clone(), bytes]).await;
    assert!(highest < before + (48 << 10), "{before} KiB before, {highest} at most");
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn large_connects_by_tls_cost_little_too() {
    let mut authority = None;
    let doors = users(
        "[broker.listener.tls]\naddress = \"127.0.0.1:0\"\ncert = \"server.pem\"\nkey = \"server.key\"\n",
    );
    let yard = Yard::with_files(&doors, |dir| {
        let plant = Authority::new("plant ca")?;
        let server = plant.server(&["localhost"], Validity::Good)?;
        std::fs::copy(&server.cert, dir.join("server.pem"))?;
        std::fs::copy(&server.key, dir.join("server.key"))?;
        authority = Some(plant);
        Ok(())
    })
    .await
    .unwrap();
    let port = yard.port("tls").await.unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let authority = authority.unwrap();
    for cert in rustls::pki_types::pem::PemObject::pem_file_iter(authority.ca()).unwrap() {
        roots.add(cert.unwrap()).unwrap();
    }
    let config = Arc::new(
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    );
    let before = yard.gateway.rss_anon_kib().unwrap();
    let mut crowd = Vec::new();
    for n in 0..300 {
        let stream =
            connect_from(&format!("127.0.{}.1", 1 + n % 100), port).await.unwrap().into_std().unwrap();
        let config = Arc::clone(&config);
        // What a thread gives back stays open until all are joined.
        crowd.push(std::thread::spawn(move || -> Result<_> {
            use std::io::Write as _;
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(Duration::from_secs(3)))?;
            stream.set_read_timeout(Some(Duration::from_secs(3)))?;
            let name = "localhost".try_into()?;
            let mut tls = rustls::StreamOwned::new(rustls::ClientConnection::new(config, name)?, stream);
            tls.write_all(&heavy(if n % 2 == 0 { 15_800 } else { 20 }))?;
            tls.flush()?;
            Ok(tls)
        }));
    }
    let highest = peak(&yard, Duration::from_secs(5)).await;
    let through = crowd.into_iter().map(|one| one.join().unwrap().is_ok()).filter(|ok| *ok).count();
    assert!(through > 20, "{through} of 300 were read in five seconds");
    assert!(highest < before + (56 << 10), "{before} KiB before, {highest} at most, {through} were read");
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn two_hundred_log_ins_leave_no_memory_behind() {
    let yard = Yard::start(&users(OPEN)).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let before = yard.gateway.rss_anon_kib().unwrap();
    for round in 0..10 {
        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..20 {
            let host = format!("127.0.{}.{}", 1 + round, 1 + n);
            crowd.spawn(
                async move { try_login(&host, port, "press", "pressword").await.map(|(_, code)| code) },
            );
        }
        while let Some(code) = crowd.join_next().await {
            assert_eq!(code.unwrap().unwrap(), 0);
        }
    }
    let after = settled(&yard, before + (3 << 10)).await;
    assert!(after <= before + (3 << 10), "{before} KiB before, {after} after");
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_thousand_connections_that_came_and_went_leave_no_memory_behind() {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let before = yard.gateway.rss_anon_kib().unwrap();
    let mut open = Vec::new();
    for n in 0..900 {
        let mut stream = connect_from(&format!("127.0.{}.1", 1 + n % 100), port).await.unwrap();
        let mut body = b"\0\x04MQTT\x04\x02\0\0".to_vec();
        text(&mut body, &format!("c{n}"));
        stream.write_all(&packet(0x10, &body)).await.unwrap();
        assert_eq!(answer(&mut stream).await.unwrap(), 0);
        let mut body = vec![0, 1];
        text(&mut body, &format!("wanted/by/{n}/#"));
        body.push(1);
        stream.write_all(&packet(0x82, &body)).await.unwrap();
        open.push(stream);
    }
    let between = yard.gateway.rss_anon_kib().unwrap();
    drop(open);
    let after = settled(&yard, before + (3 << 10)).await;
    assert!(after <= before + (3 << 10), "{before} KiB before, {between} with them, {after} after");
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn guesses_lock_their_address_out_with_a_line_in_the_log_and_nobody_elsewhere() {
    let yard = Yard::start(&users(OPEN)).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut codes = Vec::new();
    let mut guesses = tokio::task::JoinSet::new();
    for n in 0..60 {
        guesses.spawn(async move {
            tokio::time::sleep(Duration::from_millis(50 * n)).await;
            try_login("127.0.0.2", port, "press", "guess").await.map(|(_, code)| code)
        });
    }
    for _ in 0..5 {
        assert_eq!(try_login("127.0.0.3", port, "press", "pressword").await.unwrap().1, 0, "from elsewhere");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    while let Some(code) = guesses.join_next().await {
        codes.extend(code.unwrap().ok());
    }
    assert!(codes.iter().filter(|code| **code == 4).count() >= 10, "compared and refused: {codes:?}");
    assert!(codes.iter().filter(|code| **code == 3).count() >= 20, "not compared any more: {codes:?}");
    assert_eq!(
        try_login("127.0.0.2", port, "press", "pressword").await.unwrap().1,
        3,
        "the address is locked out"
    );
    let log = yard.gateway.log();
    for line in [
        "WARN  log-in: user press as client 127.0.0.2 from 127.0.0.2 is refused: wrong user name or password",
        "WARN  log-in: 127.0.0.2 is locked out for 300 s after",
        "INFO  log-in: user press as client 127.0.0.3 from 127.0.0.3 is let in",
        "is let in (listener=local)",
    ] {
        assert!(log.contains(line), "no {line:?} in\n{log}");
    }
    assert!(!log.contains("guess"), "a password in the log");
    assert!(log.matches("log-in: ").count() < 20, "limited and counted:\n{log}");
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn idle_connections_of_one_address_lock_nobody_out() {
    let limits = "[broker.limits]\nconnections_max = 200\n";
    let yard = Yard::start(&format!("{OPEN}{limits}")).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(connect_from("127.0.0.2", port).await.unwrap());
    }
    // At the same address as well: those that say nothing give way.
    mosquitto_pub(port, &["-t", "x", "-m", "x", "-q", "1"]).await.unwrap();
    mosquitto_pub(port, &["-A", "127.0.0.2", "-t", "x", "-m", "x", "-q", "1"]).await.unwrap();
    let broker = yard.broker().await.unwrap();
    assert!(broker.listeners[0].connections <= 101, "{broker:?}");
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_user_name_and_a_password_are_ignored_where_the_file_has_no_user() {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    let mut reader = Sub::start(port, &["-u", "admin", "-P", "admin", "-t", "x"]).await.unwrap();
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        mosquitto_pub(port, &["-V", version, "-u", "a", "-P", "b", "-t", "x", "-m", version, "-q", "1"])
            .await
            .unwrap();
        assert_eq!(reader.next().await.unwrap().payload, version);
    }
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_bridge_of_mosquitto_gets_in_at_its_first_try() {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    mosquitto_pub(port, &["-t", "down/kept", "-m", "kept", "-q", "1", "-r"]).await.unwrap();
    let extra = format!(
        "connection tidegate\naddress 127.0.0.1:{port}\ntopic up/# out 1\ntopic down/# in 1\ntopic both/# both 1\nnotifications false\nremote_clientid bridge\n"
    );
    let options = Options { extra: Box::leak(extra.into_boxed_str()), ..Options::default() };
    let mosquitto = Mosquitto::start(&options).await.unwrap();
    let mut here = Sub::start(port, &["-t", "up/#", "-t", "both/#", "-q", "1"]).await.unwrap();
    let mut there = Sub::start(mosquitto.port(), &["-t", "down/#", "-t", "both/#", "-q", "1"]).await.unwrap();
    let first = there.next().await.unwrap();
    assert_eq!((first.topic.as_str(), first.payload.as_str()), ("down/kept", "kept"));
    mosquitto_pub(mosquitto.port(), &["-t", "both/x", "-m", "from there", "-q", "1"]).await.unwrap();
    assert_eq!(here.next().await.unwrap().payload, "from there");
    mosquitto_pub(port, &["-t", "both/x", "-m", "from here", "-q", "1"]).await.unwrap();
    assert_eq!(there.next().await.unwrap().payload, "from there");
    assert_eq!(there.next().await.unwrap().payload, "from here", "and no echo before it");
    // The retain flag was kept: it is retained there.
    let mut late = Sub::start(mosquitto.port(), &["-t", "down/#", "-q", "1"]).await.unwrap();
    let kept = late.next().await.unwrap();
    assert!(kept.retain && kept.payload == "kept", "{kept:?}");
    let broker = yard.broker().await.context("no broker").unwrap();
    assert_eq!(broker.logins_refused, 0, "at its first try");
    yard.gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_of_small_packets_is_told_or_closed_and_never_left_waiting() {
    let yard = Yard::start(OPEN).await.unwrap();
    let port = yard.port("local").await.unwrap();
    for max in [2_u32, 4, 10, 15, 100] {
        let mut stream = connect_from("127.0.0.2", port).await.unwrap();
        let mut body = b"\0\x04MQTT\x05\x02\0\0\x05\x27".to_vec();
        body.extend(max.to_be_bytes());
        text(&mut body, "small");
        stream.write_all(&packet(0x10, &body)).await.unwrap();
        let mut told = [0; 100];
        let read = within("an answer or the end", stream.read(&mut told)).await.unwrap();
        assert_eq!((read > 0, read <= max as usize), (max >= 5, true), "{max}: {:?}", &told[..read]);
    }
    yard.gateway.stop().await.unwrap();
}

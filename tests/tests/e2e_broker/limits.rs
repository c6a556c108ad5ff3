//! Limits that hold together: descriptors, memory, the database file.

use std::sync::Arc;
use std::time::Duration;

use gateway_daemon::app::snapshot::{Link, Snapshot};
use rumqttc::tokio_rustls::TlsConnector;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tidegate_tests::clients::{mosquitto_pub, subscribe_and_leave};
use tidegate_tests::gateway::{Gateway, binary};
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::yard::{OPEN, Yard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn config(dir: &std::path::Path, store: &str, rest: &str) -> String {
    let place = dir.display();
    format!(
        "[gateway]\nid = \"gw\"\nsocket = \"{place}/control.sock\"\n[store]\npath = \"{place}/queue.db\"\n{store}\
         [bus.line]\ndriver = \"sim\"\n[device.meter]\nbus = \"line\"\nunit = 1\n[[device.meter.poll]]\nevery = \"100ms\"\n\
         tags.count = {{ holding = 0, type = \"u16\" }}\n{rest}"
    )
}

fn uplink(port: u16) -> String {
    format!(
        "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{port}\"\nbackoff_min = \"100ms\"\nbackoff_max = \"1s\"\n"
    )
}

fn port(now: &Snapshot) -> u16 {
    let address = &now.broker.as_ref().unwrap().listeners[0].address;
    address.parse::<std::net::SocketAddr>().unwrap().port()
}

#[tokio::test]
async fn with_few_descriptors_clients_wait_and_the_store_the_cloud_and_people_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut cloud = Mosquitto::start(&Options::default()).await.unwrap();
    cloud.kill().await.unwrap();
    let config = config(dir.path(), "", &format!("{}{OPEN}", uplink(cloud.port())));
    let mut gateway =
        Gateway::start_by(dir.path(), &config, &["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""]).unwrap();
    let now = gateway.wait_for("the listener", |now| now.broker.is_some()).await.unwrap();
    let port = port(&now);
    assert!(gateway.log().contains("this process may have 64 file descriptors"), "{}", gateway.log());
    let mut crowd = Vec::new();
    for _ in 0..150 {
        crowd.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    // Everybody waits who is too many; the readings go to disk, people are answered, and the cloud is reached when it is back.
    let stored = |now: &Snapshot| now.uplinks[0].ledger.stored.rows;
    let before = stored(&gateway.snapshot().await.unwrap());
    gateway.wait_for("rows on disk", |now| stored(now) > before + 5).await.unwrap();
    cloud.start_again().await.unwrap();
    let now = gateway.wait_for("the cloud", |now| now.uplinks[0].link == Link::Up).await.unwrap();
    assert_eq!(now.store.fault, None);
    drop(crowd);
    let said = || mosquitto_pub(port, &["-t", "x", "-m", "x", "-q", "1"]);
    let mut last = said().await;
    for _ in 0..100 {
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        last = said().await;
    }
    last.unwrap_or_else(|fault| panic!("{fault}\n{}", gateway.log()));
    assert_eq!(
        gateway.metric("listen_accept_failed_total").await.unwrap(),
        0,
        "the kernel never had to refuse one"
    );
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_local_session_that_is_full_keeps_no_reading_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens at port 1; rows of some 3 kB, fifty a second.
    let mut rest = String::new();
    for number in 1..=310 {
        rest += &format!("tags.f{number} = {{ holding = {}, type = \"f64\" }}\n", 4 * number);
    }
    rest += &format!("{}{OPEN}[broker.limits]\nstored_max = 1_000_000\n", uplink(1));
    let config =
        config(dir.path(), "file_max = \"8MB\"\n", &rest).replace("every = \"100ms\"", "every = \"20ms\"");
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    let now = gateway.wait_for("the listener", |now| now.broker.is_some()).await.unwrap();
    let port = port(&now);
    subscribe_and_leave(port, &["-i", "away", "-c", "-q", "1", "-t", "bulk/#"]).await.unwrap();
    // More than the whole file, and sizes of which few fit on a page.
    let body = "x".repeat(290);
    let lines: String = std::iter::repeat_n(format!("{body}\n"), 2000).collect();
    std::fs::write(dir.path().join("bulk"), lines).unwrap();
    let full = |now: &Snapshot| now.broker.as_ref().is_some_and(|broker| broker.dropped > 100);
    for _ in 0..20 {
        let bulk = std::fs::File::open(dir.path().join("bulk")).unwrap();
        let mut publisher = tokio::process::Command::new("mosquitto_pub")
            .args(["-p", &port.to_string(), "-t", "bulk/x", "-q", "1", "-l"])
            .stdin(bulk)
            .spawn()
            .unwrap();
        tokio::time::timeout(Duration::from_secs(60), publisher.wait()).await.unwrap().unwrap();
        if full(&gateway.snapshot().await.unwrap()) {
            break;
        }
    }
    gateway.wait_for("a full session", full).await.unwrap();
    let now = gateway
        .wait_for("a full queue of the uplink", |now| {
            now.store.fault.is_some() || now.uplinks[0].ledger.dropped_total().rows > 0
        })
        .await
        .unwrap();
    assert_eq!(now.store.fault, None, "the file is full: {:?}", now.store);
    assert!(now.store.file_bytes <= now.store.file_bytes_max, "{:?}", now.store);
    // Of a file as small as this the uplink has a small share, and that is its own.
    assert!(now.uplinks[0].ledger.stored.readings > 0, "{:?}", now.uplinks[0].ledger);
    assert_eq!(gateway.metric("store_faults_total{fault=\"full\"}").await.unwrap(), 0);
    gateway.stop().await.unwrap();
}

#[tokio::test]
async fn a_file_whose_limits_cannot_hold_is_refused_when_it_is_new_and_runs_lowered_when_it_ran_before() {
    let dir = tempfile::tempdir().unwrap();
    let good = config(dir.path(), "", &format!("{}{OPEN}", uplink(1)));
    let limits = "[broker.limits]\npacket_max = \"200MB\"\nstored_bytes_total_max = \"537MB\"\n";
    let unfit = good.clone() + limits;
    let mut gateway = Gateway::start(dir.path(), &unfit).unwrap();
    let now = gateway.wait_for("the listener", |now| now.broker.is_some()).await.unwrap();
    let fault = now.faults.get("limits").unwrap_or_else(|| panic!("no fault: {now:?}"));
    for part in ["`packet_max` in [broker.limits]", "`stored_bytes_total_max` in [broker.limits]"] {
        assert!(fault.contains(part), "{fault}");
        assert!(gateway.log().lines().any(|line| line.contains(part)), "{}", gateway.log());
    }
    // What still fits works.
    mosquitto_pub(port(&now), &["-t", "x", "-m", "x", "-q", "1"]).await.unwrap();
    let check = |file: &str| {
        let path = dir.path().join("checked.toml");
        std::fs::write(&path, file).unwrap();
        std::process::Command::new(binary().unwrap()).arg("check").arg(&path).output().unwrap()
    };
    let refused = check(&unfit);
    assert_eq!(refused.status.code(), Some(78));
    let text = String::from_utf8(refused.stderr).unwrap();
    for part in ["memory_max", "file_max", "`packet_max` takes"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(check(&good).status.code(), Some(0));
    let now = gateway.reload(&(unfit.clone() + "retained_max = 5\n")).await.unwrap();
    assert_eq!((now.reloads, now.refusals), (0, 1));
    assert!(now.faults.contains_key("limits"));
    gateway.stop().await.unwrap();
    let mut gateway = Gateway::start(dir.path(), &good).unwrap();
    let now = gateway.wait_for("the listener", |now| now.broker.is_some()).await.unwrap();
    assert!(!now.faults.contains_key("limits"), "{:?}", now.faults);
    let now = gateway.reload(&unfit).await.unwrap();
    assert_eq!((now.reloads, now.refusals), (0, 1), "a reload refuses what a start would lower");
    gateway.stop().await.unwrap();
}

/// Memory of so many connections at rest, KiB, by the way they come in.
async fn at_rest(listener: &str, tls: bool) -> u64 {
    const CLIENTS: usize = 500;
    let mut authority = None;
    let listener = format!("{listener}[broker.limits]\nconnections_per_address_max = 1000\n");
    let yard = Yard::with_files(&listener, |dir| {
        authority = Some(super::doors::papers(dir)?);
        Ok(())
    })
    .await
    .unwrap();
    let port =
        yard.broker().await.unwrap().listeners[0].address.parse::<std::net::SocketAddr>().unwrap().port();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.unwrap().ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));
    let (mut clients, mut plain) = (Vec::new(), Vec::new());
    let mut before = 0;
    for number in 0..CLIENTS + 50 {
        if number == 50 {
            // What the first ones cost is paid once.
            before = yard.gateway.rss_anon_kib().unwrap();
        }
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let id = format!("c{number:05}");
        let mut hello = vec![0x10, 18, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 6];
        hello.extend(id.as_bytes());
        let mut answer = [0; 4];
        if tls {
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = connector.connect(name, stream).await.unwrap();
            stream.write_all(&hello).await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
            clients.push(stream);
        } else {
            stream.write_all(&hello).await.unwrap();
            stream.read_exact(&mut answer).await.unwrap();
            plain.push(stream);
        }
        assert_eq!(answer, [0x20, 2, 0, 0]);
    }
    let each = yard.gateway.rss_anon_kib().unwrap().saturating_sub(before) * 1024 / CLIENTS as u64;
    println!("{each} bytes for each connection at rest, tls: {tls}");
    yard.gateway.stop().await.unwrap();
    each
}

#[tokio::test]
async fn a_connection_at_rest_takes_no_more_memory_than_limits_count_for_it() {
    let plain = at_rest(OPEN, false).await;
    // Each has a session as well.
    assert!(plain <= (3 + 1) << 10, "{plain} bytes for each plain connection");
    let listener = "[broker.listener.tls]\naddress = \"127.0.0.1:0\"\ncert = \"server.pem\"\nkey = \"server.key\"\nanonymous = true\n";
    let tls = at_rest(listener, true).await;
    assert!(tls <= (3 + 1 + 9) << 10, "{tls} bytes for each connection with TLS");
}

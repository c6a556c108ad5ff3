//! TLS listeners: who gets in, as whom, and with which files.

use gateway_core::broker::{Broker, ConnId, Limits, Origin};
use gateway_core::settings::CertificateIdentity::{self, AlternativeName, CommonName};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::pki::{Authority, Files, client, connect, der, text};
use super::{Doors, Incoming, PATIENCE, Server, Sub, clock, publish};
use crate::listen::identity;

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A plant: one authority, the files of its gateway.
fn plant() -> (Authority, Files) {
    let ca = Authority::new("plant");
    let files = Files::new(&ca.leaf(&["localhost"], 2090), &ca);
    (ca, files)
}

fn doors(files: &Files, required: Option<bool>, identity: CertificateIdentity) -> (Doors, u16) {
    let doors = Doors::open(&[files.listener(required, identity)], &Limits::default()).unwrap();
    let port = doors.addresses()[0].port();
    (doors, port)
}

async fn next(doors: &mut Doors) -> Incoming {
    timeout(PATIENCE, doors.next()).await.expect("in time")
}

async fn open(doors: &mut Doors) -> (ConnId, Origin) {
    match next(doors).await {
        Incoming::Open(conn, origin) => (conn, origin),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bytes_pass_both_ways_through_both_versions_of_tls_however_large_they_are() {
    let (ca, files) = plant();
    let (mut doors, port) = doors(&files, None, CertificateIdentity::None);
    for version in BOTH {
        let sent: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let back: Vec<u8> = sent.iter().rev().copied().collect();
        let (expected, connector) = (back.clone(), client(&ca, None, &[version]));
        let bytes = sent.clone();
        let peer = tokio::spawn(async move {
            let mut stream = connect(&connector, port).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).await.unwrap();
            assert!(got == expected);
            stream.shutdown().await.unwrap();
        });
        let (conn, origin) = open(&mut doors).await;
        assert_eq!((origin.listener, origin.peer.as_str(), origin.certificate), (0, "127.0.0.1", None));
        let mut got = Vec::new();
        while got.len() < sent.len() {
            let Incoming::Bytes(from, bytes) = next(&mut doors).await else { panic!("bytes") };
            assert_eq!(from, conn);
            got.extend(bytes);
        }
        assert!(got == sent);
        doors.send(conn, back);
        doors.flush();
        let mut written = 0;
        loop {
            match next(&mut doors).await {
                Incoming::Sent(_, bytes) => written += bytes,
                Incoming::Closed(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(written, sent.len(), "sizes are those of MQTT, whatever TLS makes of them");
        peer.await.unwrap();
    }
}

#[tokio::test]
async fn mosquitto_clients_come_in_by_tls_with_a_certificate() {
    let (ca, files) = plant();
    let device = ca.leaf(&["plc-1"], 2090);
    files.write("device.pem", &device.cert);
    files.write("device.key", &device.key);
    let (doors, _) = doors(&files, Some(true), CommonName);
    let server = Server::over(doors, Broker::in_memory(Limits::default()), clock, Box::new(|_, _, _| {}));
    let (ca, cert, key) = (files.path("client_ca.pem"), files.path("device.pem"), files.path("device.key"));
    let tls = ["--cafile", text(&ca), "--cert", text(&cert), "--key", text(&key)];
    let host = ["-h", "localhost"];
    let args = |more: &[&'static str]| [&host[..], &tls[..], more].concat();
    let mut sub = Sub::start(&server, &args(&["-t", "a", "-q", "1"])).await;
    publish(&server, &args(&["-t", "a", "-m", "safe", "-q", "1"])).await;
    assert_eq!(sub.line().await, "a safe 0 1");
}

#[tokio::test]
async fn a_verified_certificate_names_its_user() {
    let (ca, files) = plant();
    let device = ca.leaf(&["plc-1", "10.0.0.7"], 2090);
    for (identity, name) in
        [(CommonName, Some("plc-1")), (AlternativeName, Some("plc-1")), (CertificateIdentity::None, None)]
    {
        for version in BOTH {
            let (mut doors, port) = doors(&files, Some(true), identity);
            let (entered, stream) = tokio::join!(open(&mut doors), async {
                connect(&client(&ca, Some(&device), &[version]), port).await.unwrap()
            });
            assert_eq!(entered.1.certificate.as_deref(), name);
            drop(stream);
        }
    }
}

#[tokio::test]
async fn where_certificates_are_optional_a_client_without_one_is_nobody() {
    let (ca, files) = plant();
    let (mut doors, port) = doors(&files, Some(false), CommonName);
    let (entered, _stream) =
        tokio::join!(open(&mut doors), async { connect(&client(&ca, None, &BOTH), port).await.unwrap() });
    assert_eq!(entered.1.certificate, None);
}

#[tokio::test]
async fn clients_without_a_good_certificate_stay_outside() {
    let (ca, files) = plant();
    let stranger = Authority::new("elsewhere").leaf(&["plc-1"], 2090);
    let expired = ca.leaf(&["plc-1"], 2001);
    for version in BOTH {
        for (what, leaf) in [("none", None), ("stranger", Some(&stranger)), ("expired", Some(&expired))] {
            // Optional or not: a bad certificate is never taken for none.
            for required in [true, false] {
                if leaf.is_none() && !required {
                    continue;
                }
                let (mut doors, port) = doors(&files, Some(required), CommonName);
                let refused = async {
                    // With TLS 1.3 the client learns of it when it reads.
                    let connector = client(&ca, leaf, &[version]);
                    match connect(&connector, port).await {
                        Err(_) => true,
                        Ok(mut stream) => !matches!(stream.read(&mut [0; 1]).await, Ok(1..)),
                    }
                };
                tokio::select! {
                    entered = open(&mut doors) => panic!("{what} got in as {:?}", entered.1.certificate),
                    refused = timeout(PATIENCE, refused) => assert!(refused.expect("in time"), "{what}"),
                }
                assert_eq!(doors.counts().handshakes_failed_total, 1, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn changed_files_are_used_without_a_restart_and_broken_ones_are_not() {
    let (ca, files) = plant();
    let (mut doors, port) = doors(&files, Some(false), CommonName);
    let enter = async |doors: &mut Doors, ca: &Authority| {
        let connector = client(ca, None, &BOTH);
        let connected = connect(&connector, port);
        // A client that refuses our certificate does not get in.
        tokio::select! {
            biased;
            stream = connected => stream.ok(),
            other = async { loop { doors.next().await; } } => other,
        }
    };
    let mut early = enter(&mut doors, &ca).await.expect("the first file is good");
    // A key without its certificate, as halfway through a renewal.
    let other = Authority::new("renewed");
    let renewed = other.leaf(&["localhost"], 2090);
    files.write("key.pem", &renewed.key);
    assert!(enter(&mut doors, &ca).await.is_some(), "the files before are still in use");
    files.write("cert.pem", &renewed.cert);
    timeout(PATIENCE, async { while enter(&mut doors, &other).await.is_none() {} })
        .await
        .expect("the changed files are in use");
    assert!(enter(&mut doors, &ca).await.is_none(), "the files before are not");
    files.write("cert.pem", "-----BEGIN CERTIFICATE-----\nnonsense");
    assert!(enter(&mut doors, &other).await.is_some(), "a broken file changes nothing");
    // Who is in stays in.
    early.write_all(b"still here").await.unwrap();
    let said = timeout(PATIENCE, async {
        loop {
            if let Incoming::Bytes(_, bytes) = doors.next().await {
                break bytes;
            }
        }
    });
    assert_eq!(said.await.expect("in time"), b"still here");
}

#[test]
fn a_bad_file_is_named_with_what_to_do() {
    let (ca, files) = plant();
    let check = |name: &str, content: &str, expected: &str| {
        let before = std::fs::read_to_string(files.path(name)).unwrap();
        files.write(name, content);
        let settings = files.listener(Some(true), CommonName);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fault = runtime.block_on(async { Doors::open(&[settings], &Limits::default()).map(|_| ()) });
        let fault = fault.unwrap_err().to_string();
        let role = name.strip_suffix(".pem").unwrap();
        let start = format!("listener plant: {role} {}: ", files.path(name).display());
        assert!(fault.starts_with(&start) && fault.contains(expected), "{fault}");
        files.write(name, &before);
    };
    check("cert.pem", "", "it is empty, expected PEM text");
    check(
        "cert.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA",
        "it ends in the middle, expected a line -----END: copy it again",
    );
    check("key.pem", "", "it is empty, expected PEM text");
    check("key.pem", &ca.leaf(&["localhost"], 2090).key, "it does not belong to the certificate beside it");
    let secret = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    check("key.pem", secret, "it holds a key with a passphrase, expected one without: run openssl pkey");
    check("client_ca.pem", "", "it is empty, expected PEM text");
    std::fs::remove_file(files.path("key.pem")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = files.listener(None, CommonName);
    let fault = runtime.block_on(async { Doors::open(&[settings], &Limits::default()).map(|_| ()) });
    let fault = fault.unwrap_err().to_string();
    assert!(fault.contains("key.pem: it does not exist, expected a PEM file: check the path"), "{fault}");
}

#[test]
fn names_in_certificates_are_read_and_odd_ones_are_none() {
    let ca = Authority::new("plant");
    let check = |names: &[&str], common: Option<&str>, alternative: Option<&str>| {
        let der = der(&ca.leaf(names, 2090));
        assert_eq!(identity::name(&der, CommonName).as_deref(), common);
        assert_eq!(identity::name(&der, AlternativeName).as_deref(), alternative);
    };
    check(&["plc-1"], Some("plc-1"), Some("plc-1"));
    check(&["10.0.0.7", "plc-1"], Some("10.0.0.7"), Some("10.0.0.7"));
    check(&["fe80::1"], Some("fe80::1"), Some("fe80::1"));
    check(&["tech@plant.example"], Some("tech@plant.example"), Some("tech@plant.example"));
    let good = der(&ca.leaf(&["plc-1"], 2090));
    // Whatever is cut off or turned over, nothing panics, and a cut certificate has no name that it did not have.
    for end in 0..good.len() {
        for wanted in [CommonName, AlternativeName] {
            assert!(identity::name(&good[..end], wanted).is_none());
        }
    }
    for at in 0..good.len() {
        let mut odd = good.clone();
        odd[at] ^= 0xff;
        let _ = (identity::name(&odd, CommonName), identity::name(&odd, AlternativeName));
    }
}

//! Certificates that were called back.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::broker::{ConnId, Limits};
use gateway_core::settings::{CertificateIdentity, ListenerSettings};
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pki::{Authority, Files, Leaf, client, connect, der, text};
use super::{Doors, Incoming, PATIENCE};
use crate::listen::identity::issuer_and_serial;
use crate::listen::tls::{Keys, LOOK_INTERVAL, called_back};

type Stream = rumqttc::tokio_rustls::client::TlsStream<TcpStream>;

const BOTH: [&rustls::SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A listener that holds certificates against a list, a file of serial numbers, or both.
fn strict(files: &Files, crl: bool, serials: bool) -> ListenerSettings {
    let mut settings = files.listener(Some(true), CertificateIdentity::CommonName);
    let tls = settings.tls.as_mut().unwrap();
    tls.crl = crl.then(|| files.path("crl.pem"));
    tls.revoked = serials.then(|| files.path("revoked.txt"));
    settings
}

fn serial(leaf: &Leaf) -> Vec<u8> {
    issuer_and_serial(&der(leaf)).unwrap().1.to_vec()
}

fn hex(serial: &[u8]) -> String {
    serial.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn plant() -> (Authority, Files) {
    let ca = Authority::new("plant");
    let files = Files::new(&ca.leaf(&["localhost"], 2090), &ca);
    files.write("crl.pem", &ca.crl(&[], 2090));
    files.write("revoked.txt", "# nobody yet\n");
    (ca, files)
}

async fn next(doors: &mut Doors) -> Incoming {
    timeout(PATIENCE, doors.next()).await.expect("in time")
}

/// A client that gets in.
async fn come(doors: &mut Doors, ca: &Authority, leaf: &Leaf) -> (ConnId, Stream) {
    let (port, connector) = (doors.addresses()[0].port(), client(ca, Some(leaf), &BOTH));
    let (incoming, stream) = tokio::join!(next(doors), connect(&connector, port));
    match incoming {
        Incoming::Open(conn, _) => (conn, stream.unwrap()),
        other => panic!("{other:?}"),
    }
}

/// A client that does not.
async fn is_refused(doors: &mut Doors, ca: &Authority, leaf: &Leaf) {
    let port = doors.addresses()[0].port();
    for version in BOTH {
        let before = doors.counts().handshakes_failed_total;
        let refused = async {
            match connect(&client(ca, Some(leaf), &[version]), port).await {
                Err(_) => {}
                // TLS 1.3 tells the client with its first bytes.
                Ok(mut stream) => assert!(!matches!(stream.read(&mut [0; 8]).await, Ok(1..)), "data"),
            }
        };
        tokio::select! {
            incoming = doors.next() => panic!("{incoming:?}"),
            () = async { timeout(PATIENCE, refused).await.expect("in time") } => {}
        }
        assert_eq!(doors.counts().handshakes_failed_total, before + 1);
    }
}

#[tokio::test]
async fn who_was_called_back_by_a_list_or_by_its_serial_number_does_not_get_in_and_others_do() {
    for (crl, serials) in [(true, false), (false, true), (true, true)] {
        let (ca, files) = plant();
        let (good, bad) = (ca.leaf(&["good"], 2090), ca.leaf(&["bad"], 2090));
        if crl {
            // Of two authorities in one file.
            let other = Authority::new("other plant");
            files.write("crl.pem", &(other.crl(&[serial(&good)], 2090) + &ca.crl(&[serial(&bad)], 2090)));
        }
        if serials && !crl {
            files.write("revoked.txt", &format!("{}\n", hex(&serial(&bad))));
        }
        let mut doors = Doors::open(&[strict(&files, crl, serials)], &Limits::default()).unwrap();
        is_refused(&mut doors, &ca, &bad).await;
        come(&mut doors, &ca, &good).await;
    }
}

#[tokio::test]
async fn a_client_that_is_connected_is_cut_when_its_certificate_is_called_back() {
    for by_list in [true, false] {
        let (ca, files) = plant();
        let (good, bad) = (ca.leaf(&["good"], 2090), ca.leaf(&["bad"], 2090));
        let mut doors = Doors::open(&[strict(&files, true, true)], &Limits::default()).unwrap();
        let (_, _good) = come(&mut doors, &ca, &good).await;
        let (conn, mut stream) = come(&mut doors, &ca, &bad).await;
        if by_list {
            files.write("crl.pem", &ca.crl(&[serial(&bad)], 2090));
        } else {
            files.write("revoked.txt", &hex(&serial(&bad)));
        }
        // Nobody else has to come for that.
        assert_eq!(next(&mut doors).await, Incoming::Closed(conn));
        let mut bytes = [0; 8];
        let ended = tokio::select! {
            incoming = doors.next() => panic!("{incoming:?}"),
            read = timeout(PATIENCE, stream.read(&mut bytes)) => read.expect("in time"),
        };
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
        assert_eq!(doors.counts().revoked_total, 1);
        is_refused(&mut doors, &ca, &bad).await;
        come(&mut doors, &ca, &good).await;
    }
}

#[tokio::test]
async fn a_list_that_is_past_its_time_still_counts_and_turns_nobody_else_away() {
    let (ca, files) = plant();
    let (good, bad) = (ca.leaf(&["good"], 2090), ca.leaf(&["bad"], 2090));
    files.write("crl.pem", &ca.crl(&[serial(&bad)], 2001));
    let mut doors = Doors::open(&[strict(&files, true, false)], &Limits::default()).unwrap();
    is_refused(&mut doors, &ca, &bad).await;
    come(&mut doors, &ca, &good).await;
}

#[test]
fn lists_of_somebody_else_and_late_ones_are_told_by_name_and_right_ones_are_not() {
    let (ca, files) = plant();
    let other = Authority::new("other plant");
    let settings = strict(&files, true, false);
    let told = |list: &str| {
        files.write("crl.pem", list);
        called_back(settings.tls.as_ref().unwrap()).unwrap().remarks
    };
    assert_eq!(told(&ca.crl(&[], 2090)), [""; 0]);
    let foreign = told(&(other.crl(&[], 2090) + &ca.crl(&[], 2090)));
    assert_eq!(foreign.len(), 1, "{foreign:?}");
    assert!(foreign[0].contains("crl.pem has a list that was issued by \"CN=other plant\""), "{foreign:?}");
    assert!(foreign[0].contains("`client_ca` holds \"CN=plant\": it calls nobody back"), "{foreign:?}");
    let late = told(&ca.crl(&[], 2001));
    assert_eq!(late.len(), 1, "{late:?}");
    let renew_by = called_back(settings.tls.as_ref().unwrap()).unwrap().renew_by;
    assert_eq!(renew_by, None, "it has been told");
    files.write("crl.pem", &(ca.crl(&[], 2001) + &ca.crl(&[], 2090)));
    let renew_by = called_back(settings.tls.as_ref().unwrap()).unwrap().renew_by;
    assert_eq!(
        renew_by.map(|seconds| seconds / 86_400 / 365),
        Some(121),
        "the next one is told when its time has come"
    );
    assert!(late[0].contains("a list of \"CN=plant\" that should have been renewed by 2001-"), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_becomes_late_is_looked_at_again_once_although_its_file_is_the_same() {
    let (_ca, files) = plant();
    let mut keys = Keys::read(strict(&files, true, false).tls.as_ref().unwrap()).unwrap();
    let before = keys.config();
    tokio::time::advance(LOOK_INTERVAL).await;
    keys.look("door").await;
    assert!(Arc::ptr_eq(&before, &keys.config()), "nothing has changed");
    keys.renew_by = Some(1);
    tokio::time::advance(LOOK_INTERVAL).await;
    keys.look("door").await;
    assert!(!Arc::ptr_eq(&before, &keys.config()), "the files are read, and what is late is told");
    assert!(keys.renew_by > Some(1), "once");
}

#[tokio::test]
async fn damaged_files_are_refused_at_the_start_and_not_taken_later() {
    let (ca, files) = plant();
    for (name, content) in [
        ("crl.pem", "nothing"),
        ("crl.pem", "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n"),
        ("revoked.txt", "press 3\n"),
    ] {
        let before = std::fs::read_to_string(files.path(name)).unwrap();
        files.write(name, content);
        let fault = Doors::open(&[strict(&files, true, true)], &Limits::default()).err().unwrap();
        assert!(fault.to_string().contains(text(&files.path(name))), "{fault}");
        files.write(name, &before);
    }
    let leaf = ca.leaf(&["bad"], 2090);
    files.write("revoked.txt", &hex(&serial(&leaf)));
    let mut doors = Doors::open(&[strict(&files, true, true)], &Limits::default()).unwrap();
    files.write("revoked.txt", "an editor's accident\n");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    is_refused(&mut doors, &ca, &leaf).await;
}

#[tokio::test]
async fn lists_of_openssl_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let script = "set -eu\n\
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj '/CN=plant authority' -keyout ca.key -out ca.pem\n\
        for who in gateway good bad; do\n\
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj \"/CN=$who\" -keyout $who.key -out $who.csr\n\
        printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\nextendedKeyUsage=clientAuth,serverAuth\\n' > ext\n\
        openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -extfile ext -out $who.pem\n\
        done\n\
        printf '[ca]\\ndefault_ca=c\\n[c]\\ndatabase=index\\ncrlnumber=number\\ndefault_md=sha256\\ndefault_crl_days=30\\n' > cnf\n\
        : > index; echo 01 > number\n\
        openssl ca -config cnf -cert ca.pem -keyfile ca.key -revoke bad.pem\n\
        openssl ca -config cnf -cert ca.pem -keyfile ca.key -gencrl -out crl.pem\n\
        openssl x509 -noout -serial -in bad.pem > revoked.txt\n";
    let made = Command::new("sh").arg("-c").arg(script).current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let leaf = |who: &str| Leaf { cert: read(&format!("{who}.pem")), key: read(&format!("{who}.key")) };
    let ca = Authority::of_pem(read("ca.pem"));
    for (crl, serials) in [(true, false), (false, true)] {
        let files = Files::new(&leaf("gateway"), &ca);
        files.write("crl.pem", &read("crl.pem"));
        files.write("revoked.txt", &read("revoked.txt"));
        let mut doors = Doors::open(&[strict(&files, crl, serials)], &Limits::default()).unwrap();
        is_refused(&mut doors, &ca, &leaf("bad")).await;
        come(&mut doors, &ca, &leaf("good")).await;
    }
}

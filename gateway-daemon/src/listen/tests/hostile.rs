//! Clients that mean no good, and clients beside them.

use gateway_core::broker::{Broker, CloseReason, Limits};
use gateway_core::settings::CertificateIdentity;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, timeout};

use super::pki::{Authority, Files, client, connect, plain};
use super::{Doors, Incoming, PATIENCE, Server, clock};

fn secure() -> (Authority, Files) {
    let ca = Authority::new("plant");
    let files = Files::new(&ca.leaf(&["localhost"], 2090), &ca);
    (ca, files)
}

async fn ends(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("cut in time");
    said
}

#[tokio::test]
async fn more_stalled_handshakes_than_there_are_places_hold_up_nobody() {
    const STALLED: usize = 100;
    let (ca, files) = secure();
    let tls = files.listener(None, CertificateIdentity::None);
    let mut doors = Doors::open(&[tls, plain(Some("/mqtt"))], &Limits::default()).unwrap();
    let [tls, websocket] = doors.addresses()[..] else { panic!("two listeners") };
    let mut stalled = Vec::new();
    for addr in [tls, websocket] {
        for _ in 0..STALLED {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            // The beginning of a handshake, and of a request that looks like one.
            stream.write_all(if addr == tls { b"\x16\x03\x01\x02" } else { b"GET " }).await.unwrap();
            stalled.push(stream);
        }
    }
    let entered = async {
        let connector = client(&ca, None, &[&TLS13]);
        let (incoming, stream) = tokio::join!(doors.next(), connect(&connector, tls.port()));
        assert!(matches!(incoming, Incoming::Open(_, _)) && stream.is_ok());
        let mut stream = TcpStream::connect(websocket).await.unwrap();
        stream.write_all(b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n").await.unwrap();
        assert!(matches!(doors.next().await, Incoming::Open(_, _)));
    };
    timeout(Limits::default().handshake_max, entered).await.expect("before any stalled handshake is due");
    assert!(doors.counts().handshakes_cut_total > 0);
}

#[tokio::test]
async fn one_address_with_handshakes_that_never_end_keeps_no_other_out() {
    let (ca, files) = secure();
    let tls = files.listener(None, CertificateIdentity::None);
    let mut doors = Doors::open(&[tls, plain(Some("/mqtt"))], &Limits::default()).unwrap();
    let addresses = doors.addresses();
    let mut idle = Vec::new();
    for addr in &addresses {
        for _ in 0..300 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.20:0".parse().unwrap()).unwrap();
            idle.push(socket.connect(*addr).await.unwrap());
        }
    }
    let connector = client(&ca, None, &[&TLS13]);
    let mut inside = Vec::new();
    let entered = async {
        for _ in 0..3 {
            let (incoming, stream) = tokio::join!(doors.next(), connect(&connector, addresses[0].port()));
            let Incoming::Open(_, origin) = incoming else { panic!("open first") };
            assert_eq!(origin.peer, "127.0.0.1");
            inside.push(stream.unwrap());
        }
    };
    timeout(Duration::from_secs(3), entered).await.expect("without waiting for anybody's time");
    // All but the sixteen that one address may have.
    assert!(doors.counts().handshakes_cut_total >= 300 - 16, "{:?}", doors.counts());
}

#[tokio::test]
async fn a_handshake_that_drips_is_cut_when_its_time_is_over() {
    let (_, files) = secure();
    let limits = Limits { handshake_max: Duration::from_millis(50), ..Limits::default() };
    let settings = [files.listener(None, CertificateIdentity::None), plain(Some("/mqtt"))];
    let doors = Doors::open(&settings, &limits).unwrap();
    for (addr, start) in doors.addresses().into_iter().zip([&b"\x16\x03\x01"[..], b"GET /mqtt HT"]) {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(start).await.unwrap();
        ends(stream).await;
    }
    assert_eq!(doors.counts().handshakes_failed_total, 2);
}

#[tokio::test]
async fn garbage_and_the_wrong_protocol_end_with_an_alert_or_a_word_of_http() {
    let (_, files) = secure();
    let settings = [files.listener(None, CertificateIdentity::None), plain(Some("/mqtt"))];
    let doors = Doors::open(&settings, &Limits::default()).unwrap();
    let [tls, websocket] = doors.addresses()[..] else { panic!("two listeners") };
    let talks: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0",
        &[0xff; 5000],
        b"\x16\x03\x01\xff\xff\x01\0\0\0",
    ];
    for said in talks {
        let mut stream = TcpStream::connect(tls).await.unwrap();
        stream.write_all(said).await.unwrap();
        let answer = ends(stream).await;
        assert!(answer.is_empty() || answer.starts_with(&[0x15, 3, 3]), "{answer:?}");
    }
    for said in [&[0xff; 100_000][..], b"\x16\x03\x01\x02\0\x01\0\r\n\r\n"] {
        let mut stream = TcpStream::connect(websocket).await.unwrap();
        // It may be cut before all is written.
        let _ = stream.write_all(said).await;
        let answer = ends(stream).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_closes_during_its_handshake_leaves_nothing_behind() {
    let (_, files) = secure();
    let tls = files.listener(None, CertificateIdentity::None);
    let mut doors = Doors::open(&[tls, plain(None)], &Limits::default()).unwrap();
    let [tls, bare] = doors.addresses()[..] else { panic!("two listeners") };
    drop(TcpStream::connect(tls).await.unwrap());
    let _peer = TcpStream::connect(bare).await.unwrap();
    let first = timeout(PATIENCE, doors.next()).await.expect("in time");
    assert!(matches!(first, Incoming::Open(_, origin) if origin.listener == 1));
}

#[tokio::test]
async fn the_last_bytes_reach_a_client_whose_own_are_thrown_away() {
    let mut doors = Doors::open(&[plain(None)], &Limits::default()).unwrap();
    let mut peer = TcpStream::connect(doors.addresses()[0]).await.unwrap();
    let Incoming::Open(conn, _) = doors.next().await else { panic!("open first") };
    peer.write_all(&[7; 100_000]).await.unwrap();
    let last: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
    doors.send(conn, last.clone());
    doors.close(conn, &CloseReason::Malformed("x"));
    let read = tokio::spawn(async move {
        let mut said = Vec::new();
        peer.read_to_end(&mut said).await.map(|_| said)
    });
    timeout(PATIENCE, doors.stop(PATIENCE)).await.expect("in time");
    assert!(timeout(PATIENCE, read).await.expect("in time").unwrap().unwrap() == last);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_written_to_is_still_heard() {
    let mut doors = Doors::open(&[plain(None)], &Limits::default()).unwrap();
    let mut peer = TcpStream::connect(doors.addresses()[0]).await.unwrap();
    let Incoming::Open(conn, _) = doors.next().await else { panic!("open first") };
    peer.write_all(b"goodbye").await.unwrap();
    drop(peer);
    // The second write meets a closed socket.
    for _ in 0..2 {
        doors.send(conn, vec![7; 1000]);
        doors.flush();
    }
    let mut heard = Vec::new();
    loop {
        match timeout(PATIENCE, doors.next()).await.expect("in time") {
            Incoming::Bytes(_, bytes) => heard.extend(bytes),
            Incoming::Closed(_) => break,
            _ => {}
        }
    }
    assert_eq!(heard, b"goodbye");
}

#[tokio::test]
async fn a_held_connection_is_read_when_it_is_let_go_on() {
    let mut doors = Doors::open(&[plain(None)], &Limits::default()).unwrap();
    let addr = doors.addresses()[0];
    let (mut held, mut free) = (TcpStream::connect(addr).await.unwrap(), None);
    let Incoming::Open(conn, _) = doors.next().await else { panic!("open first") };
    doors.hold(conn, true);
    held.write_all(b"waits").await.unwrap();
    // Whoever comes later is served before.
    while free.is_none() {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"passes").await.unwrap();
        free = Some(stream);
    }
    let Incoming::Open(other, _) = doors.next().await else { panic!("the other one comes in") };
    assert_eq!(doors.next().await, Incoming::Bytes(other, b"passes".to_vec()));
    assert_eq!(doors.try_next(), None);
    doors.hold(conn, false);
    let next = timeout(PATIENCE, doors.next()).await.expect("in time");
    assert_eq!(next, Incoming::Bytes(conn, b"waits".to_vec()));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_what_to_do() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = plain(None);
    settings.address = other.local_addr().unwrap();
    let fault = Doors::open(&[settings], &Limits::default()).map(|_| ()).unwrap_err().to_string();
    let start = format!("listener plant: cannot listen on {}: ", other.local_addr().unwrap());
    assert!(fault.starts_with(&start), "{fault}");
    assert!(fault.ends_with("; another program listens there: stop it, or choose another port"), "{fault}");
}

#[tokio::test]
async fn a_thousand_connections_that_come_at_once_are_all_served() {
    const CLIENTS: usize = 900;
    let limits = Limits { connections_per_address_max: CLIENTS, ..Limits::default() };
    let doors = Doors::open(&[plain(None)], &limits).unwrap();
    let addr = doors.addresses()[0];
    let server = Server::over(doors, Broker::in_memory(limits), clock, Box::new(|_, _, _| {}));
    let mut peers = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        peers.spawn(async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0\xc0\0").await.unwrap();
            let mut said = [0; 6];
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"\x20\x02\0\0\xd0\0");
            stream
        });
    }
    let all = timeout(PATIENCE, peers.join_all()).await.expect("in time");
    assert_eq!(server.look().await.1.connections, all.len());
}

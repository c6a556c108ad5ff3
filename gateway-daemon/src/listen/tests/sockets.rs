//! What the kernel keeps for connections, and who is closed for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use gateway_core::broker::{ConnId, Limits};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::pki::plain;
use super::{Doors, Incoming, PATIENCE};
use crate::listen::SocketMemory;

/// Listeners whose kernel says what the test wants.
struct Told {
    doors: Doors,
    memory: BTreeMap<SocketAddr, SocketMemory>,
}

struct Peer {
    stream: TcpStream,
    conn: ConnId,
}

impl Told {
    fn new(bytes_max: u64) -> Self {
        let mut doors = Doors::open(&[plain(None)], &Limits::default()).unwrap();
        doors.bound_sockets(bytes_max);
        Self { doors, memory: BTreeMap::new() }
    }

    async fn come(&mut self, from: &str) -> Peer {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let stream = socket.connect(self.doors.addresses()[0]).await.unwrap();
        match timeout(PATIENCE, self.doors.next()).await.expect("in time") {
            Incoming::Open(conn, _) => Peer { stream, conn },
            other => panic!("{other:?}"),
        }
    }

    fn keeps(&mut self, peer: &Peer, received: u64, to_send: u64) {
        self.memory.insert(peer.stream.local_addr().unwrap(), SocketMemory { received, to_send });
    }

    fn look(&mut self) {
        let memory = &self.memory;
        self.doors.look_at_sockets(|socket| {
            let peer = rustix::net::getpeername(socket).unwrap().unwrap();
            memory.get(&SocketAddr::try_from(peer).unwrap()).copied().unwrap_or_default()
        });
    }

    /// A client sends so many bytes, and they are read.
    async fn reads(&mut self, peer: &mut Peer, bytes: usize) {
        peer.stream.write_all(&vec![7; bytes]).await.unwrap();
        let mut read = 0;
        while read < bytes {
            match timeout(PATIENCE, self.doors.next()).await.expect("in time") {
                Incoming::Bytes(conn, got) if conn == peer.conn => read += got.len(),
                Incoming::Closed(conn) if conn != peer.conn => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn is_inside(&self, peer: &Peer) -> bool {
        self.doors.connections().any(|conn| conn == peer.conn)
    }
}

#[tokio::test]
async fn above_the_bound_the_address_that_keeps_most_is_taken_first_and_only_as_far_as_needed() {
    let mut told = Told::new(1_000_000);
    let mut many = Vec::new();
    for bytes in [90_000, 100_000, 110_000, 120_000] {
        let peer = told.come("127.0.0.20").await;
        told.keeps(&peer, 0, bytes);
        many.push(peer);
    }
    let large = told.come("127.0.0.21").await;
    told.keeps(&large, 0, 250_000);
    for _ in 0..5 {
        told.look();
    }
    assert_eq!((told.doors.socket_bytes(), told.doors.counts().relieved_total), (670_000, 0));
    told.doors.bound_sockets(500_000);
    told.look();
    let left: Vec<bool> = many.iter().map(|peer| told.is_inside(peer)).collect();
    // 420,000 against 250,000: 120,000 go. Then 300,000 against 250,000: 110,000 go, and that is enough.
    assert_eq!(left, [true, true, false, false]);
    assert!(told.is_inside(&large));
}

#[tokio::test]
async fn a_trickle_does_not_protect_what_is_kept() {
    let mut told = Told::new(1_000_000);
    let (mut trickle, mut busy) = (told.come("127.0.0.20").await, told.come("127.0.0.21").await);
    told.keeps(&trickle, 100_000, 0);
    told.keeps(&busy, 100_000, 0);
    for _ in 0..4 {
        told.look();
        told.reads(&mut trickle, 1000).await;
        told.reads(&mut busy, 60_000).await;
    }
    told.doors.bound_sockets(150_000);
    told.look();
    assert!(!told.is_inside(&trickle) && told.is_inside(&busy));
}

#[tokio::test]
async fn what_is_unread_because_the_broker_holds_it_counts_against_nobody() {
    let mut told = Told::new(150_000);
    let (held, stuck) = (told.come("127.0.0.20").await, told.come("127.0.0.21").await);
    told.doors.hold(held.conn, true);
    told.keeps(&held, 120_000, 0);
    told.keeps(&stuck, 0, 100_000);
    for _ in 0..6 {
        told.look();
    }
    assert!(told.is_inside(&held) && !told.is_inside(&stuck));
    // Nor in the second after it was let go on.
    told.doors.bound_sockets(1000);
    told.doors.hold(held.conn, false);
    told.look();
    assert!(told.is_inside(&held));
}

#[tokio::test]
async fn the_only_client_of_an_address_may_pause_while_another_address_keeps_more() {
    let mut told = Told::new(100_000);
    let panel = told.come("127.0.0.1").await;
    told.keeps(&panel, 0, 60_000);
    let mut busy = told.come("127.0.0.20").await;
    told.keeps(&busy, 90_000, 0);
    for _ in 0..10 {
        told.look();
        told.reads(&mut busy, 60_000).await;
    }
    assert!(told.is_inside(&panel) && told.is_inside(&busy));
    for _ in 0..5 {
        told.look();
        told.reads(&mut busy, 60_000).await;
    }
    assert!(!told.is_inside(&panel), "not for ever");
}

#[tokio::test]
async fn what_has_just_come_is_not_meant() {
    let mut told = Told::new(100);
    let peer = told.come("127.0.0.1").await;
    told.keeps(&peer, 100_000, 100_000);
    told.look();
    told.look();
    assert!(told.is_inside(&peer));
    told.look();
    assert!(!told.is_inside(&peer));
    let told = std::iter::from_fn(|| told.doors.try_next()).find(|told| matches!(told, Incoming::Closed(_)));
    assert_eq!(told, Some(Incoming::Closed(peer.conn)));
}

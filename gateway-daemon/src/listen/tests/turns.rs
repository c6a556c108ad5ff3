//! Clients that send without pause, and clients beside them.

use std::io::Write as _;

use gateway_core::broker::{ConnId, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::frames::frame;
use super::pki::plain;
use super::{Doors, Incoming, PATIENCE};

/// Those who want one byte heard each.
const OTHERS: usize = 8;

/// Most looks at the connections until all of them are heard.
const LOOKS_MAX: usize = 40;

/// A client that sends the same without pause.
struct Flood {
    socket: std::net::TcpStream,
    bytes: Vec<u8>,
    written: usize,
}

impl Flood {
    fn new(stream: TcpStream, piece: &[u8]) -> Self {
        // Whole pieces, more than one read takes.
        Self { socket: stream.into_std().unwrap(), bytes: piece.repeat(64 << 10), written: 0 }
    }

    /// Fills what the kernel takes.
    fn fill(&mut self) {
        loop {
            match self.socket.write(&self.bytes[self.written..]) {
                Ok(written) => self.written = (self.written + written) % self.bytes.len(),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    return;
                }
            }
        }
    }
}

async fn next(doors: &mut Doors) -> Incoming {
    timeout(PATIENCE, doors.next()).await.expect("in time")
}

async fn come(doors: &mut Doors, listener: usize) -> (TcpStream, ConnId) {
    let stream = TcpStream::connect(doors.addresses()[listener]).await.unwrap();
    match next(doors).await {
        Incoming::Open(conn, _) => (stream, conn),
        other => panic!("{other:?}"),
    }
}

/// A client of the WebSocket listener that is number 0.
async fn come_by_websocket(doors: &mut Doors) -> (TcpStream, ConnId) {
    let mut stream = TcpStream::connect(doors.addresses()[0]).await.unwrap();
    stream
        .write_all(
            b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
        )
        .await
        .unwrap();
    let Incoming::Open(conn, _) = next(doors).await else { panic!("open first") };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.expect("in time").unwrap());
    }
    (stream, conn)
}

/// Lets the runtime learn which sockets are ready.
async fn breathe() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// Looks until every one of them is heard once. How many looks that took, and how many of them had nothing to tell.
fn looks(doors: &mut Doors, floods: &mut [Flood], mut wanted: Vec<ConnId>) -> (usize, usize) {
    let (mut looks, mut silent) = (0, 0);
    while !wanted.is_empty() {
        floods.iter_mut().for_each(Flood::fill);
        looks += 1;
        assert!(looks <= LOOKS_MAX, "{} are not heard after {looks} looks", wanted.len());
        match doors.try_next() {
            Some(Incoming::Bytes(conn, _)) => wanted.retain(|other| *other != conn),
            Some(other) => panic!("{other:?}"),
            None => {
                silent += 1;
                doors.flush();
            }
        }
    }
    (looks, silent)
}

/// Clients that have sent a byte each, of which the runtime knows.
async fn others(doors: &mut Doors, listener: usize) -> (Vec<TcpStream>, Vec<ConnId>) {
    let (mut streams, mut conns) = (Vec::new(), Vec::new());
    for _ in 0..OTHERS {
        let (stream, conn) = come(doors, listener).await;
        streams.push(stream);
        conns.push(conn);
    }
    // All of them are looked at once, and wait.
    while timeout(std::time::Duration::from_millis(1), doors.next()).await.is_ok() {}
    (streams, conns)
}

#[tokio::test]
async fn one_that_sends_without_pause_takes_its_turn_like_the_others() {
    let mut doors = Doors::open(&[plain(None)], &Limits::default()).unwrap();
    let (mut streams, conns) = others(&mut doors, 0).await;
    let (stream, flooder) = come(&mut doors, 0).await;
    let mut flood = [Flood::new(stream, b"\xc0\0")];
    flood[0].fill();
    // It is the only one to be looked at when the others come.
    assert!(matches!(next(&mut doors).await, Incoming::Bytes(conn, _) if conn == flooder));
    for round in 0..3 {
        for stream in &mut streams {
            stream.write_all(b"x").await.unwrap();
        }
        breathe().await;
        let (looks, _) = looks(&mut doors, &mut flood, conns.clone());
        assert!(looks <= OTHERS + 2, "{looks} looks in round {round}");
    }
}

#[tokio::test]
async fn one_that_sends_without_pause_does_not_keep_the_runtime_from_learning_of_the_others() {
    let mut doors = Doors::open(&[plain(None)], &Limits::default()).unwrap();
    let (mut streams, mut wanted) = others(&mut doors, 0).await;
    let (stream, _) = come(&mut doors, 0).await;
    let mut flood = Flood::new(stream, b"\xc0\0");
    flood.fill();
    assert!(matches!(next(&mut doors).await, Incoming::Bytes(..)));
    for stream in &mut streams {
        stream.write_all(b"x").await.unwrap();
    }
    for _ in 0..LOOKS_MAX {
        flood.fill();
        // There is no other moment for the runtime than this one.
        if let Incoming::Bytes(conn, _) = next(&mut doors).await {
            wanted.retain(|other| *other != conn);
        }
    }
    assert!(wanted.is_empty(), "{} are not heard", wanted.len());
}

#[tokio::test]
async fn frames_that_carry_nothing_keep_nobody_from_its_turn() {
    const FLOODS: usize = 16;
    let mut doors = Doors::open(&[plain(Some("/mqtt")), plain(None)], &Limits::default()).unwrap();
    let (mut streams, conns) = others(&mut doors, 1).await;
    let mut floods = Vec::new();
    for _ in 0..FLOODS {
        let (stream, _) = come_by_websocket(&mut doors).await;
        floods.push(Flood::new(stream, &frame(0x82, b"")));
    }
    floods.iter_mut().for_each(Flood::fill);
    breathe().await;
    assert_eq!(doors.try_next(), None, "it reads, and there is nothing to tell");
    doors.flush();
    for stream in &mut streams {
        stream.write_all(b"x").await.unwrap();
    }
    breathe().await;
    let (looks, silent) = looks(&mut doors, &mut floods, conns);
    // Four of them are read in one look, which is then over: 64 KiB of nothing.
    assert!((FLOODS / 4 - 2..=FLOODS / 4 + 1).contains(&silent), "{looks} looks, {silent} without anything");
}

#[tokio::test]
async fn listeners_stop_in_time_though_a_client_sends_without_pause() {
    let mut doors = Doors::open(&[plain(None)], &Limits::default()).unwrap();
    let (_silent, closed) = come(&mut doors, 0).await;
    let (stream, _) = come(&mut doors, 0).await;
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let sender = std::thread::spawn(move || while stream.write_all(&[0xc0; 64 << 10]).is_ok() {});
    // One that does not take its leave: the time decides.
    doors.close(closed, &gateway_core::broker::CloseReason::Malformed("x"));
    let stop = doors.stop(std::time::Duration::from_millis(100));
    timeout(PATIENCE, stop).await.expect("in time");
    sender.join().unwrap();
}

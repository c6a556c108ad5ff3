//! Clients that go while nothing is read from them, and descriptors.

use gateway_core::broker::{ConnId, Limits};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pki::plain;
use super::{Doors, Incoming, PATIENCE};

fn few(connections_max: usize) -> Limits {
    Limits { connections_max, ..Limits::default() }
}

async fn next(doors: &mut Doors) -> Incoming {
    timeout(PATIENCE, doors.next()).await.expect("in time")
}

/// A client, and its number.
async fn come(doors: &mut Doors) -> (TcpStream, ConnId) {
    let stream = TcpStream::connect(doors.addresses()[0]).await.unwrap();
    match next(doors).await {
        Incoming::Open(conn, _) => (stream, conn),
        other => panic!("{other:?}"),
    }
}

/// How a client goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    HalfClosed,
    Closed,
    Reset,
}

const WAYS: [Way; 3] = [Way::HalfClosed, Way::Closed, Way::Reset];

/// A client that is held, has sent something, and goes; what is left of it.
async fn goes_while_held(doors: &mut Doors, way: Way) -> (ConnId, Option<TcpStream>) {
    let (mut stream, conn) = come(doors).await;
    doors.hold(conn, true);
    stream.write_all(b"the last words").await.unwrap();
    match way {
        Way::HalfClosed => {
            stream.shutdown().await.unwrap();
            (conn, Some(stream))
        }
        Way::Closed => (conn, None),
        Way::Reset => {
            rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
            (conn, None)
        }
    }
}

#[tokio::test]
async fn what_a_client_said_before_it_went_is_still_heard_when_it_is_let_go_on() {
    for way in [Way::HalfClosed, Way::Closed] {
        let mut doors = Doors::open(&[plain(None)], &few(10)).unwrap();
        let (conn, _rest) = goes_while_held(&mut doors, way).await;
        // Longer than it takes to notice that it went.
        timeout(std::time::Duration::from_millis(1500), doors.next()).await.expect_err("nothing is told");
        doors.hold(conn, false);
        assert_eq!(next(&mut doors).await, Incoming::Bytes(conn, b"the last words".to_vec()), "{way:?}");
        assert_eq!(next(&mut doors).await, Incoming::Closed(conn), "{way:?}");
        assert_eq!(doors.counts().reaped_total, 0);
    }
}

#[tokio::test]
async fn a_client_that_has_gone_while_it_was_held_makes_way_for_one_that_comes() {
    for way in WAYS {
        let mut doors = Doors::open(&[plain(None)], &few(3)).unwrap();
        let (_waits, held) = come(&mut doors).await;
        doors.hold(held, true);
        let (gone, _rest) = goes_while_held(&mut doors, way).await;
        let (_stream, third) = come(&mut doors).await;
        // Noticed at once when a place is needed, and who only waits keeps it.
        let _fourth = TcpStream::connect(doors.addresses()[0]).await.unwrap();
        assert_eq!(next(&mut doors).await, Incoming::Closed(gone), "{way:?}");
        assert!(matches!(next(&mut doors).await, Incoming::Open(..)));
        assert_eq!(doors.counts().reaped_total, 1);
        let open: Vec<ConnId> = doors.connections().collect();
        assert!(open.contains(&held) && open.contains(&third) && !open.contains(&gone), "{open:?}");
    }
}

#[tokio::test]
async fn a_thousand_that_went_while_the_store_was_full_let_a_thousand_others_in() {
    const CLIENTS: usize = 200;
    let mut doors = Doors::open(&[plain(None)], &few(CLIENTS)).unwrap();
    for _ in 0..CLIENTS {
        goes_while_held(&mut doors, Way::Closed).await;
    }
    let (mut streams, mut closed, mut opened) = (Vec::new(), 0, 0);
    for _ in 0..CLIENTS {
        streams.push(TcpStream::connect(doors.addresses()[0]).await.unwrap());
        while opened < streams.len() {
            match next(&mut doors).await {
                Incoming::Open(..) => opened += 1,
                Incoming::Closed(_) => closed += 1,
                other => panic!("{other:?}"),
            }
            assert!(doors.connections().count() <= CLIENTS);
        }
    }
    assert_eq!((opened, closed, doors.counts().reaped_total), (CLIENTS, CLIENTS, CLIENTS as u64));
}

#[tokio::test]
async fn a_client_that_has_gone_is_not_kept_for_ever_though_nobody_needs_its_place() {
    for way in WAYS {
        let mut doors = Doors::open(&[plain(None)], &few(10)).unwrap();
        let (_waits, held) = come(&mut doors).await;
        doors.hold(held, true);
        let (gone, _rest) = goes_while_held(&mut doors, way).await;
        // The clock jumps to whatever is due next.
        tokio::time::pause();
        let told = tokio::time::timeout(PATIENCE * 10, doors.next()).await.expect("in time");
        tokio::time::resume();
        assert_eq!(told, Incoming::Closed(gone), "{way:?}");
        assert_eq!(doors.connections().collect::<Vec<_>>(), [held]);
    }
}

#[tokio::test]
async fn clients_wait_in_the_kernel_while_all_descriptors_are_taken_and_come_in_when_one_is_free() {
    let mut doors = Doors::open_within(&[plain(None)], &few(10), 3).unwrap();
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(come(&mut doors).await);
    }
    let mut late = Vec::new();
    for _ in 0..2 {
        late.push(TcpStream::connect(doors.addresses()[0]).await.unwrap());
    }
    // Those who are inside are served meanwhile.
    let (stream, conn) = &mut inside[0];
    stream.write_all(b"x").await.unwrap();
    assert_eq!(next(&mut doors).await, Incoming::Bytes(*conn, b"x".to_vec()));
    assert_eq!((doors.counts().accepted_total, doors.counts().paused_total), (3, 1));
    for _ in 0..2 {
        let (stream, conn) = inside.remove(0);
        drop(stream);
        assert_eq!(next(&mut doors).await, Incoming::Closed(conn));
        assert!(matches!(next(&mut doors).await, Incoming::Open(..)));
    }
    assert_eq!(doors.counts().accepted_total, 5);
}

#[tokio::test]
async fn the_kernel_keeps_a_bounded_number_of_bytes_for_each_connection() {
    let mut doors = Doors::open(&[plain(None)], &few(10)).unwrap();
    let (stream, conn) = come(&mut doors).await;
    doors.hold(conn, true);
    // As much as the kernel takes: its own buffer, and ours for this connection.
    let own = rustix::net::sockopt::socket_send_buffer_size(&stream).unwrap();
    let mut taken = 0;
    while let Ok(Ok(bytes)) = timeout(std::time::Duration::from_millis(200), async {
        stream.writable().await?;
        match stream.try_write(&[0; 16 << 10]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    })
    .await
    {
        taken += bytes;
        assert!(taken < 64 << 20, "no bound");
    }
    let kept = taken.saturating_sub(own);
    assert!(kept as u64 <= 2 * gateway_core::fit::SOCKET_BYTES, "{kept} bytes beside {own} of the client");
}

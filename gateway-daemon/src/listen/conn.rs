//! One connection: bytes in, bytes out.

use std::io;

use gateway_core::broker::ConnId;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{FLUSH_MAX, Input, READ_BYTES_MAX};

/// What a connection is told. At most one of each is under way, so that telling never waits.
pub(super) enum Order {
    /// Write, and say when it is done.
    Write(Vec<u8>),
    /// Write, and close.
    Close(Vec<u8>),
}

/// Orders under way for one connection: a write and a close.
pub(super) const ORDERS_MAX: usize = 2;

/// Moves bytes until either side ends. Tells the broker's task once that it has ended.
pub(super) async fn run(
    conn: ConnId,
    stream: TcpStream,
    mut orders: mpsc::Receiver<Order>,
    inputs: mpsc::Sender<Input>,
) {
    // Small packets must not wait for an acknowledgement of TCP; without it they are only slower.
    let _ = stream.set_nodelay(true);
    if let Err(error) = converse(conn, &stream, &mut orders, &inputs).await {
        log::debug!(conn = conn.0; "connection of a client ended: {error}");
    }
    let _ = inputs.send(Input::Closed(conn)).await;
}

async fn converse(
    conn: ConnId,
    stream: &TcpStream,
    orders: &mut mpsc::Receiver<Order>,
    inputs: &mpsc::Sender<Input>,
) -> io::Result<()> {
    let mut unwritten: Vec<u8> = Vec::new();
    let mut written = 0;
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Write(bytes)) => (unwritten, written) = (bytes, 0),
                Some(Order::Close(last)) => {
                    let rest = async {
                        write_all(stream, &unwritten[written..]).await?;
                        write_all(stream, &last).await
                    };
                    return timeout(FLUSH_MAX, rest).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                }
                None => return Ok(()),
            },
            ready = stream.writable(), if written < unwritten.len() => {
                ready?;
                written += some(stream.try_write(&unwritten[written..]))?;
                if written == unwritten.len() {
                    let bytes = std::mem::take(&mut unwritten).len();
                    written = 0;
                    tell(inputs, Input::Sent(conn, bytes)).await?;
                }
            }
            ready = stream.readable() => {
                ready?;
                let mut bytes = Vec::with_capacity(READ_BYTES_MAX);
                match stream.try_read_buf(&mut bytes) {
                    Ok(0) => return Ok(()),
                    read => {
                        if some(read)? > 0 {
                            tell(inputs, Input::Bytes(conn, bytes)).await?;
                        }
                    }
                }
            }
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        bytes = &bytes[some(stream.try_write(bytes))?..];
    }
    Ok(())
}

/// A socket that was ready and is not after all is no error.
fn some(moved: io::Result<usize>) -> io::Result<usize> {
    match moved {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        moved => moved,
    }
}

async fn tell(inputs: &mpsc::Sender<Input>, input: Input) -> io::Result<()> {
    inputs.send(input).await.map_err(|_| io::ErrorKind::ConnectionAborted.into())
}

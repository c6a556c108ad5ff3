//! TCP in front of a [`Broker`]: one task owns the broker, one small task per connection moves bytes.
//!
//! The broker's task never waits for a connection: at most one write and one close are under way for each, everything else waits in an
//! outbox whose size the broker bounds ([`gateway_core::broker::Limits::outbox_bytes_max`] and its neighbours). Connections wait for
//! the broker, which never waits: a slow or silent client holds up nobody.
//!
//! Bounds: `INPUTS_MAX` inputs of at most `READ_BYTES_MAX` bytes; connections, sessions, queues and handshake time by the
//! broker; the last words of a closed connection by `FLUSH_MAX`.
//!
//! It never interprets a byte, and it decides nothing about messages.

mod conn;
mod task;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use gateway_core::broker::{Broker, Counters, Gauges, SessionId};
use gateway_core::payload::Draft;
use gateway_core::tag::BootNs;
use gateway_core::uplink::row::Qos;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Most inputs waiting for the broker's task; with [`READ_BYTES_MAX`] at most 4 MiB.
const INPUTS_MAX: usize = 256;

/// Most bytes read from a connection at once.
const READ_BYTES_MAX: usize = 16 << 10;

/// How long a closed connection may take to accept its last bytes.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Pause after a failed accept: without it, being out of file descriptors would be a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where [`serve`] puts messages for bridge sessions. Called in the broker's task: it must not block.
pub type Enqueue = Box<dyn FnMut(SessionId, Qos, Draft) + Send>;

/// What the broker's task is told, in order.
enum Input {
    Bytes(gateway_core::broker::ConnId, Vec<u8>),
    Sent(gateway_core::broker::ConnId, usize),
    Closed(gateway_core::broker::ConnId),
    Publish(Draft, Qos),
    Look(oneshot::Sender<(Counters, Gauges)>),
    Stop,
}

/// A broker behind a listening socket. Dropping it stops both.
pub struct Server {
    addr: SocketAddr,
    inputs: mpsc::Sender<Input>,
    task: JoinHandle<Broker>,
}

/// Serves a broker on a listening socket. `clock` gives the time since boot.
///
/// # Errors
/// The socket has no local address.
pub fn serve(
    listener: TcpListener,
    broker: Broker,
    clock: fn() -> BootNs,
    enqueue: Enqueue,
) -> io::Result<Server> {
    let addr = listener.local_addr()?;
    let (inputs, inbox) = mpsc::channel(INPUTS_MAX);
    let task = tokio::spawn(task::Task::new(broker, clock, enqueue, inputs.clone()).run(listener, inbox));
    Ok(Server { addr, inputs, task })
}

impl Server {
    /// Where clients connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Publishes a message of this process; its body must be ready for the wire.
    pub async fn publish(&self, draft: Draft, qos: Qos) {
        // The task ends only by `stop` or with this server.
        let _ = self.inputs.send(Input::Publish(draft, qos)).await;
    }

    /// What the broker has done and how large it is, after everything said before.
    pub async fn look(&self) -> (Counters, Gauges) {
        let (answer, answered) = oneshot::channel();
        let _ = self.inputs.send(Input::Look(answer)).await;
        answered.await.unwrap_or_default()
    }

    /// Closes the socket and cuts every connection without a word. Gives the broker back, its sessions intact, unless its
    /// task has panicked.
    pub async fn stop(mut self) -> Option<Broker> {
        let _ = self.inputs.send(Input::Stop).await;
        (&mut self.task).await.ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;

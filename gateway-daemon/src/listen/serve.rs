//! A broker with one plain listener in a task of its own, for the pretend cloud of the demo and for tests.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use gateway_core::broker::{Action, Broker, ConnId, Counters, Fate, Gauges, Limits, Local, SessionId};
use gateway_core::payload::Draft;
use gateway_core::tag::BootNs;
use gateway_core::uplink::row::Qos;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Doors, Incoming};

/// Most orders of this process that wait for the task; whoever gives one more waits.
const ORDERS_MAX: usize = 256;

/// Most of what has happened that is dealt with before the answers are written.
const BATCH_MAX: usize = 256;

/// Longest sleep without looking at the broker's clock: the time since boot and the runtime's clock may drift apart in
/// a suspended machine.
const NAP_MAX: Duration = Duration::from_secs(60);

/// Where [`serve`] puts messages for bridge sessions. Called in the broker's task: it must not block.
pub type Enqueue = Box<dyn FnMut(SessionId, Qos, Draft) + Send>;

/// What the task is told, in order.
enum Order {
    Publish(Draft, Qos),
    Look(oneshot::Sender<(Counters, Gauges)>),
    Stop,
}

/// A broker behind a listening socket. Dropping it stops both.
pub struct Server {
    addrs: Vec<SocketAddr>,
    orders: mpsc::Sender<Order>,
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
    let doors = Doors::plain(listener, &Limits::default())?;
    Ok(Server::over(doors, broker, clock, enqueue))
}

impl Server {
    /// Serves a broker behind these doors, at least one.
    pub(super) fn over(doors: Doors, broker: Broker, clock: fn() -> BootNs, enqueue: Enqueue) -> Self {
        let addrs = doors.addresses();
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let task = tokio::spawn(Task { broker, doors, clock, enqueue }.run(inbox));
        Self { addrs, orders, task }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Publishes a message of this process; its body must be ready for the wire.
    pub async fn publish(&self, draft: Draft, qos: Qos) {
        // The task ends only by `stop` or with this server.
        let _ = self.orders.send(Order::Publish(draft, qos)).await;
    }

    /// What the broker has done and how large it is, after everything said before.
    pub async fn look(&self) -> (Counters, Gauges) {
        let (answer, answered) = oneshot::channel();
        let _ = self.orders.send(Order::Look(answer)).await;
        answered.await.unwrap_or_default()
    }

    /// Closes the socket and cuts every connection without a word. Gives the broker back, its sessions intact, unless its
    /// task has panicked.
    pub async fn stop(mut self) -> Option<Broker> {
        let _ = self.orders.send(Order::Stop).await;
        (&mut self.task).await.ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    broker: Broker,
    doors: Doors,
    clock: fn() -> BootNs,
    enqueue: Enqueue,
}

impl Task {
    /// Runs until it is told to stop.
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) -> Broker {
        // The order of the branches is random on purpose: neither a flood of bytes nor one of orders starves the other, nor the clock.
        loop {
            let nap = self.nap();
            tokio::select! {
                () = sleep(nap) => self.broker.timeout((self.clock)()),
                incoming = self.doors.next(), if self.broker.takes_more() => self.handle(incoming),
                order = inbox.recv() => match order {
                    Some(Order::Stop) | None => break,
                    Some(order) => self.obey(order),
                },
            }
            self.act();
            for _ in 0..BATCH_MAX {
                if !self.broker.takes_more() {
                    break;
                }
                let Some(incoming) = self.doors.try_next() else { break };
                self.handle(incoming);
                self.act();
            }
            self.doors.flush();
            // The next turn has a full budget; it goes on with what was put down when nothing else is to do.
            if self.broker.is_spent() {
                self.broker.timeout((self.clock)());
                self.act();
            }
        }
        let conns: Vec<ConnId> = self.doors.connections().collect();
        for conn in conns {
            self.broker.handle_closed((self.clock)(), conn);
        }
        self.act();
        self.broker
    }

    fn nap(&self) -> Duration {
        if self.broker.has_work() {
            return Duration::ZERO;
        }
        let due = self.broker.poll_timeout().map(|at| at.since((self.clock)()));
        // A millisecond more, because the runtime's clock is that coarse.
        due.map_or(NAP_MAX, |nap| (nap + Duration::from_millis(1)).min(NAP_MAX))
    }

    fn handle(&mut self, incoming: Incoming) {
        let now = (self.clock)();
        match incoming {
            Incoming::Open(conn, origin) => self.broker.handle_open(now, conn, origin),
            Incoming::Bytes(conn, bytes) => self.broker.handle_bytes(now, conn, &bytes),
            Incoming::Sent(conn, bytes) => self.broker.handle_sent(now, conn, bytes),
            Incoming::Closed(conn) => self.broker.handle_closed(now, conn),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Publish(draft, qos) => {
                let local = Local { draft: &draft, qos, from: None, want: false };
                if let Err(error) = self.broker.publish((self.clock)(), &local, || None) {
                    log::error!("a message of this process cannot be published: {error}");
                }
            }
            Order::Look(answer) => {
                // Whoever asked may have gone.
                let _ = answer.send((self.broker.counters(), self.broker.gauges()));
            }
            Order::Stop => {}
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.broker.poll_action() {
            match action {
                Action::Send { conn, bytes } => self.doors.send(conn, bytes),
                Action::Close { conn, reason } => self.doors.close(conn, &reason),
                Action::Hold { conn, held } => self.doors.hold(conn, held),
                Action::Enqueue { session, qos, draft, ticket } => {
                    (self.enqueue)(session, qos, draft);
                    if let Some(ticket) = ticket {
                        self.broker.handle_receipt((self.clock)(), ticket, Fate::Safe);
                    }
                }
                _ => {}
            }
        }
    }
}

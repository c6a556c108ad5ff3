//! The task that owns the broker.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::broker::{Action, Broker, CloseReason, ConnId, Local, Origin};
use gateway_core::tag::BootNs;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::conn::{self, ORDERS_MAX, Order};
use super::{ACCEPT_PAUSE, Enqueue, Input};

/// Longest sleep without looking at the broker's clock: the time since boot and the runtime's clock may drift apart in
/// a suspended machine.
const NAP_MAX: Duration = Duration::from_secs(60);

/// One connection as the broker's task sees it.
struct Peer {
    orders: mpsc::Sender<Order>,
    /// What waits while a write is under way; bounded by the broker.
    outbox: Vec<u8>,
    writing: bool,
}

pub(super) struct Task {
    broker: Broker,
    clock: fn() -> BootNs,
    enqueue: Enqueue,
    inputs: mpsc::Sender<Input>,
    peers: BTreeMap<ConnId, Peer>,
    last_conn: u64,
    conns: JoinSet<()>,
}

impl Task {
    pub(super) fn new(
        broker: Broker,
        clock: fn() -> BootNs,
        enqueue: Enqueue,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        Self { broker, clock, enqueue, inputs, peers: BTreeMap::new(), last_conn: 0, conns: JoinSet::new() }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self, listener: TcpListener, mut inbox: mpsc::Receiver<Input>) -> Broker {
        let mut accept_pause = false;
        // The order of the branches is random on purpose: neither a flood of bytes nor one of connections starves the
        // other, nor the clock.
        loop {
            let nap = self.nap();
            tokio::select! {
                () = sleep(nap) => {
                    accept_pause = false;
                    self.broker.timeout((self.clock)());
                }
                accepted = listener.accept(), if !accept_pause => match accepted {
                    Ok((stream, peer)) => self.open(stream, peer.ip().to_string()),
                    Err(error) => {
                        log::warn!("cannot accept a connection: {error}");
                        accept_pause = true;
                    }
                },
                () = sleep(ACCEPT_PAUSE), if accept_pause => accept_pause = false,
                input = inbox.recv() => match input {
                    Some(Input::Stop) | None => break,
                    Some(input) => self.handle(input),
                },
                Some(_) = self.conns.join_next() => {}
            }
            self.act();
        }
        drop(listener);
        self.conns.shutdown().await;
        let peers: Vec<ConnId> = std::mem::take(&mut self.peers).into_keys().collect();
        for conn in peers {
            self.broker.handle_closed((self.clock)(), conn);
        }
        self.act();
        self.broker
    }

    fn nap(&self) -> Duration {
        let due = self.broker.poll_timeout().map(|at| at.since((self.clock)()));
        // A millisecond more, because the runtime's clock is that coarse.
        due.map_or(NAP_MAX, |nap| (nap + Duration::from_millis(1)).min(NAP_MAX))
    }

    fn open(&mut self, stream: TcpStream, peer: String) {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        self.peers.insert(conn, Peer { orders, outbox: Vec::new(), writing: false });
        self.conns.spawn(conn::run(conn, stream, received, self.inputs.clone()));
        self.broker.handle_open((self.clock)(), conn, Origin { peer, ..Origin::default() });
    }

    fn handle(&mut self, input: Input) {
        let now = (self.clock)();
        match input {
            Input::Bytes(conn, bytes) => self.broker.handle_bytes(now, conn, &bytes),
            Input::Sent(conn, bytes) => {
                if let Some(peer) = self.peers.get_mut(&conn) {
                    peer.writing = false;
                    peer.write();
                }
                self.broker.handle_sent(now, conn, bytes);
            }
            Input::Closed(conn) => {
                self.peers.remove(&conn);
                self.broker.handle_closed(now, conn);
            }
            Input::Publish(draft, qos) => {
                let local = Local { draft: &draft, qos, from: None, want: false };
                if let Err(error) = self.broker.publish(now, &local, || None) {
                    log::error!("a message of this process cannot be published: {error}");
                }
            }
            Input::Look(answer) => {
                // Whoever asked may have gone.
                let _ = answer.send((self.broker.counters(), self.broker.gauges()));
            }
            Input::Stop => {}
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.broker.poll_action() {
            match action {
                Action::Send { conn, mut bytes } => {
                    if let Some(peer) = self.peers.get_mut(&conn) {
                        peer.outbox.append(&mut bytes);
                        peer.write();
                    }
                }
                Action::Close { conn, reason } => {
                    match reason {
                        CloseReason::Goodbye => log::debug!(conn = conn.0; "client disconnected"),
                        reason => log::info!(conn = conn.0; "connection of a client closed: {reason}"),
                    }
                    if let Some(peer) = self.peers.remove(&conn) {
                        // Full or gone means that the connection has ended by itself.
                        let _ = peer.orders.try_send(Order::Close(peer.outbox));
                    }
                }
                Action::Enqueue { session, qos, draft, .. } => (self.enqueue)(session, qos, draft),
                _ => {}
            }
        }
    }
}

impl Peer {
    /// Starts the next write unless one is under way.
    fn write(&mut self) {
        if !self.writing && !self.outbox.is_empty() {
            self.writing = true;
            // There is room: one write at a time. A connection that has ended says so by itself.
            let _ = self.orders.try_send(Order::Write(std::mem::take(&mut self.outbox)));
        }
    }
}

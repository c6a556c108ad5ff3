//! The connections of all listeners, looked at by one loop.

mod held;
mod sockets;

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake as _};
use std::time::Duration;

use gateway_core::broker::{CloseReason, ConnId, Limits};
use gateway_core::fit;
use gateway_core::settings::ListenerSettings;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, Sleep, timeout};

use self::held::Deaf;
use self::sockets::Sockets;
use super::accept::{self, Arrived, Listener, Shared, Tally};
use super::conn::{Conn, SocketMemory, Step};
use super::ready::Ready;
use super::revoked::Revoked;
use super::{CLOSING_BYTES_MAX, CLOSING_MAX, Counts, FLUSH_MAX, Incoming, OpenError, READ_BYTES_MAX};

/// Descriptors that connections may take with limits as they are: those of the broker, those that say goodbye, and handshakes.
#[must_use]
pub fn places(limits: &Limits) -> usize {
    limits.connections_max.saturating_add(CLOSING_MAX).saturating_add(PLACES_BESIDE)
}

/// Descriptors of handshakes, and of connections that the broker does not know yet.
const PLACES_BESIDE: usize = 192;

/// Most bytes read in one round of the loop that hold nothing for the broker, such as empty frames of WebSocket: a fraction of a millisecond. The broker,
/// which charges the others, does not see them.
const EMPTY_BYTES_MAX: usize = 64 << 10;

/// Most that happens at once while the listeners stop.
const STOP_POLLS_MAX: usize = 256;

/// Every listener and every connection. Dropping it closes all of them without a word.
pub struct Doors {
    listeners: Vec<Listener>,
    tally: Arc<Tally>,
    arrivals: mpsc::Receiver<Arrived>,
    conns: BTreeMap<ConnId, Conn>,
    last_conn: u64,
    ready: Ready,
    /// To be looked at, in this order: those taken from `ready`, and those that may have more.
    turn: VecDeque<ConnId>,
    /// Bytes read since [`Doors::flush`] that held nothing for the broker.
    empty_bytes: usize,
    /// Whether the runtime had the thread since connections were left in `turn`.
    has_yielded: bool,
    /// With bytes to write; each at most once.
    unwritten: Vec<ConnId>,
    /// With written bytes to tell of; each at most once.
    sent: VecDeque<ConnId>,
    /// Closed by the broker, and when they are cut at the latest.
    closing: VecDeque<(Instant, ConnId)>,
    cut: Option<Pin<Box<Sleep>>>,
    /// What is to be said before anything else.
    told: VecDeque<Incoming>,
    deaf: Deaf,
    /// Connections that the broker takes.
    connections_max: usize,
    /// Descriptors for connections that nobody has.
    places: Arc<Semaphore>,
    /// Certificates that were called back, as the listeners read it.
    revocations: mpsc::Receiver<(usize, Arc<Revoked>)>,
    /// By listener, what it said last.
    revoked: BTreeMap<usize, Arc<Revoked>>,
    reaped_total: u64,
    revoked_total: u64,
    sockets: Sockets,
    /// For reading, shared by all: an idle connection has none.
    buffer: Box<[u8]>,
}

impl Doors {
    /// Opens every listener. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// The first listener that cannot be opened, and what to do about it; none is open then.
    pub fn open(settings: &[ListenerSettings], limits: &Limits) -> Result<Self, OpenError> {
        Self::open_within(settings, limits, places(limits))
    }

    /// As [`Doors::open`], with at most so many descriptors for connections, those under way and those that end included.
    ///
    /// # Errors
    /// As [`Doors::open`].
    pub fn open_within(
        settings: &[ListenerSettings],
        limits: &Limits,
        places: usize,
    ) -> Result<Self, OpenError> {
        let bound = settings.iter().map(accept::bind).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::over(bound, limits, places))
    }

    /// Serves a listening socket of someone else as plain MQTT.
    ///
    /// # Errors
    /// The socket has no local address.
    pub(super) fn plain(listener: TcpListener, limits: &Limits) -> std::io::Result<Self> {
        Ok(Self::over(vec![accept::plain(listener)?], limits, places(limits)))
    }

    fn over(bound: Vec<accept::Bound>, limits: &Limits, places: usize) -> Self {
        let (arrived, arrivals) = mpsc::channel(accept::ARRIVALS_MAX);
        let (revoke, revocations) = mpsc::channel(bound.len().max(1));
        let tally = Arc::new(Tally::default());
        let places = Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS)));
        let handshaking = bound.iter().filter(|bound| bound.has_handshakes()).count();
        let handshakes_max = fit::handshakes_max(handshaking as u64);
        let shared = Shared {
            arrived,
            revoke,
            tally: Arc::clone(&tally),
            places: Arc::clone(&places),
            handshakes_max: usize::try_from(handshakes_max).unwrap_or(1).max(1),
        };
        let listeners = bound
            .into_iter()
            .enumerate()
            .map(|(index, bound)| bound.listen(index, limits, shared.clone()))
            .collect();
        Self {
            listeners,
            tally,
            arrivals,
            conns: BTreeMap::new(),
            last_conn: 0,
            ready: Ready::default(),
            turn: VecDeque::new(),
            empty_bytes: 0,
            has_yielded: false,
            unwritten: Vec::new(),
            sent: VecDeque::new(),
            closing: VecDeque::new(),
            cut: None,
            told: VecDeque::new(),
            deaf: Deaf::default(),
            connections_max: limits.connections_max,
            places,
            revocations,
            revoked: BTreeMap::new(),
            reaped_total: 0,
            revoked_total: 0,
            sockets: Sockets::default(),
            buffer: vec![0; READ_BYTES_MAX].into(),
        }
    }

    /// Where the listeners listen, in the order of their settings.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Whether the task of a listener has ended by itself: a fault of this program.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.listeners.iter().any(Listener::has_ended)
    }

    /// What happened at the listeners so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            accepted_total: read(&self.tally.accepted),
            accept_failed_total: read(&self.tally.accept_failed),
            handshakes_failed_total: read(&self.tally.handshakes_failed),
            handshakes_cut_total: read(&self.tally.handshakes_cut),
            paused_total: read(&self.tally.paused),
            pages_refused_total: read(&self.tally.pages_refused),
            reaped_total: self.reaped_total,
            revoked_total: self.revoked_total,
            relieved_total: self.sockets.relieved_total,
        }
    }

    /// Every connection that the broker knows.
    pub fn connections(&self) -> impl Iterator<Item = ConnId> {
        self.conns.iter().filter(|(_, open)| open.is_open()).map(|(conn, _)| *conn)
    }

    /// Waits for the next thing that happens. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Incoming {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// The next thing that has happened already.
    pub fn try_next(&mut self) -> Option<Incoming> {
        if let Some(told) = self.told.pop_front() {
            return Some(told);
        }
        match self.arrivals.try_recv() {
            Ok(arrived) => Some(self.enter(arrived)),
            Err(_) => self.look(),
        }
    }

    /// Takes bytes for a connection; [`Doors::flush`] writes them. Bytes for one that is gone are dropped.
    pub fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        if let Some(open) = self.conns.get_mut(&conn)
            && open.push(bytes)
        {
            self.unwritten.push(conn);
        }
    }

    /// Closes a connection once what was sent before is written, or [`FLUSH_MAX`] has passed.
    pub fn close(&mut self, conn: ConnId, reason: &CloseReason) {
        match reason {
            CloseReason::Goodbye => log::debug!(conn = conn.0; "client disconnected"),
            // Said by a note of the broker, which counts them.
            CloseReason::Login | CloseReason::Full | CloseReason::GaveWay => {
                log::debug!(conn = conn.0, reason:% = reason; "connection of a client closed: {reason}");
            }
            // With the names of its client, as well.
            reason if reason.is_told() => {
                log::debug!(conn = conn.0, reason:% = reason; "connection of a client closed: {reason}");
            }
            reason => {
                log::info!(conn = conn.0, reason:% = reason; "connection of a client closed: {reason}");
            }
        }
        if *reason == CloseReason::Stalled {
            // It reads nothing: there is nobody to say goodbye to.
            self.conns.remove(&conn);
        }
        if let Some(open) = self.conns.get_mut(&conn).filter(|open| open.is_open()) {
            open.close();
            self.part(conn);
        }
    }

    /// What is left of a connection that the broker has forgotten.
    fn part(&mut self, conn: ConnId) {
        self.unwritten.push(conn);
        self.closing.push_back((Instant::now() + FLUSH_MAX, conn));
        let waiting = |conn: &ConnId| self.conns.get(conn).map_or(0, Conn::waiting);
        let mut bytes: usize = self.closing.iter().map(|(_, conn)| waiting(conn)).sum();
        while self.closing.len() > CLOSING_MAX || (bytes > CLOSING_BYTES_MAX && self.closing.len() > 1) {
            let Some((_, oldest)) = self.closing.pop_front() else { break };
            bytes -= self.conns.remove(&oldest).map_or(0, |open| open.waiting());
        }
    }

    /// Stops reading from a connection, or reads again. What the client has sent stays in the kernel, and its sender waits. That it has gone is
    /// told when it is let go on, or when its place is needed (see `held`).
    pub fn hold(&mut self, conn: ConnId, held: bool) {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.hold(held);
            if open.is_deaf() {
                self.deaf.add(conn);
            }
        }
        if !held {
            self.list(conn);
        }
    }

    /// Makes sure that a connection is looked at, after all that are ready by now: one that sends without pause takes its turn like the others.
    fn list(&mut self, conn: ConnId) {
        self.ready.take(&mut self.turn);
        if self.conns.get(&conn).is_some_and(|open| open.slot().claim()) {
            self.turn.push_back(conn);
        }
    }

    /// Writes what was given to [`Doors::send`], as far as the sockets take it at once; the rest follows by itself. To be called when all
    /// that has happened is dealt with, and before waiting: the bytes of one connection leave in one system call.
    pub fn flush(&mut self) {
        self.empty_bytes = 0;
        for conn in std::mem::take(&mut self.unwritten) {
            let Some(open) = self.conns.get_mut(&conn) else { continue };
            let told = open.has_sent();
            open.write();
            if !told && open.has_sent() && open.is_open() {
                self.sent.push_back(conn);
            }
        }
    }

    /// What [`Doors::flush`] wrote, connection by connection; otherwise [`Doors::next`] tells it as [`Incoming::Sent`]. Asking at once saves the
    /// loop a round.
    pub fn take_sent(&mut self) -> Option<(ConnId, usize)> {
        while let Some(conn) = self.sent.pop_front() {
            if let Some(open) = self.conns.get_mut(&conn) {
                return Some((conn, open.take_sent()));
            }
        }
        None
    }

    /// Stops accepting, waits until what was sent is written and closed connections are closed by the clients too, at most for
    /// `limit`, and closes everything.
    pub async fn stop(mut self, limit: Duration) {
        self.listeners.clear();
        self.flush();
        let quiet = poll_fn(|cx| {
            // What else happens concerns nobody any more. A client that never stops sending must not keep us from the time.
            if (0..STOP_POLLS_MAX).all(|_| self.poll(cx).is_ready()) {
                cx.waker().wake_by_ref();
            }
            self.closing.retain(|(_, conn)| self.conns.contains_key(conn));
            if self.closing.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        // What is not written by then stays unwritten.
        let _ = timeout(limit, quiet).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        self.empty_bytes = 0;
        // First the waiter, then the look: what becomes ready between them wakes us.
        self.ready.wait(cx.waker());
        while let Poll::Ready(Some((listener, revoked))) = self.revocations.poll_recv(cx) {
            self.revoke(listener, revoked);
        }
        self.look_at_deaf(cx);
        if let Some(told) = self.told.pop_front() {
            return Poll::Ready(told);
        }
        if let Poll::Ready(Some(arrived)) = self.arrivals.poll_recv(cx) {
            return Poll::Ready(self.enter(arrived));
        }
        self.cut_late(cx);
        // One that sends without pause is always ready; without this, the runtime would never learn which others are.
        if !self.turn.is_empty() && !std::mem::replace(&mut self.has_yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_yielded = false;
        let found = self.look();
        if found.is_none() && !self.turn.is_empty() {
            cx.waker().wake_by_ref();
        }
        found.map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes a client in. Somebody else may have to go before.
    fn enter(&mut self, arrived: Arrived) -> Incoming {
        self.make_place();
        self.last_conn += 1;
        let id = ConnId(self.last_conn);
        let origin = arrived.origin.clone();
        let revoked = self.is_revoked(origin.listener, arrived.coat.certificate());
        let conn = Conn::new(id, arrived, &self.ready);
        // It is looked at once, so that its waker is known to its socket; behind all that are ready, so that the DISCONNECT of a client
        // that comes back at once is read before its CONNECT.
        conn.slot().wake_by_ref();
        self.conns.insert(id, conn);
        self.told.push_back(Incoming::Open(id, origin.clone()));
        if revoked {
            self.cut_revoked(id);
        }
        self.told.pop_front().unwrap_or(Incoming::Open(id, origin))
    }

    /// Looks at every connection that is listed, until one has something to say or enough was read that says nothing.
    fn look(&mut self) -> Option<Incoming> {
        if let Some((conn, bytes)) = self.take_sent() {
            return Some(Incoming::Sent(conn, bytes));
        }
        self.ready.take(&mut self.turn);
        for _ in 0..self.turn.len() {
            if self.empty_bytes >= EMPTY_BYTES_MAX {
                break;
            }
            let Some(conn) = self.turn.pop_front() else { break };
            let Some(open) = self.conns.get_mut(&conn) else { continue };
            let told = open.has_sent();
            let step = open.step(&mut self.buffer);
            let known = open.is_open();
            if !told && known && open.has_sent() {
                self.sent.push_back(conn);
            }
            match step {
                Step::Rest if open.is_deaf() => self.deaf.add(conn),
                Step::Rest => {}
                Step::Again(bytes) => {
                    self.empty_bytes += bytes;
                    self.list(conn);
                }
                Step::Bytes(bytes) => {
                    self.list(conn);
                    return Some(Incoming::Bytes(conn, bytes));
                }
                Step::Failed(fault) => {
                    log::info!(conn = conn.0, reason:% = fault; "connection of a client ended: {fault}");
                    open.fail();
                    self.part(conn);
                    return Some(Incoming::Closed(conn));
                }
                Step::Ended => {
                    self.conns.remove(&conn);
                    if known {
                        return Some(Incoming::Closed(conn));
                    }
                }
            }
        }
        None
    }

    /// Whether no descriptor is left for one more client.
    fn short_of_places(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// Cuts closed connections whose clients do not take the last bytes.
    fn cut_late(&mut self, cx: &mut Context<'_>) {
        while let Some((at, conn)) = self.closing.front() {
            if !self.conns.contains_key(conn) || *at <= Instant::now() {
                self.conns.remove(conn);
                self.closing.pop_front();
                continue;
            }
            let at = *at;
            let cut = self.cut.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if cut.deadline() != at {
                cut.as_mut().reset(at);
            }
            if cut.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }
}

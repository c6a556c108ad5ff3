//! One connection: bytes in, bytes out, never waiting.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gateway_core::broker::ConnId;
use gateway_core::broker::access::Peer;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::unconstrained;

use super::accept::Arrived;
use super::coat::{Coat, CoatFault};
use super::ready::{Ready, Slot};

/// What came of looking at a connection.
pub(super) enum Step {
    /// The client sent these bytes; there may be more.
    Bytes(Vec<u8>),
    /// So many bytes were read, with nothing for the broker in them; there may be more.
    Again(usize),
    /// Nothing to do until its waker says otherwise.
    Rest,
    /// Its coat came apart; the client is to be told, and the broker.
    Failed(CoatFault),
    /// It is over.
    Ended,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The broker has closed it; the last bytes are on their way.
    Closing,
    /// So are the goodbyes of its coat.
    Parting,
    /// We have said all; what the client still says is thrown away until it closes too. Closing at once with unread bytes would make the
    /// kernel reset the connection, and the client would never read why it was closed.
    Shut,
}

/// Most bytes of answers of a coat, such as pongs, that wait to be written while reading goes on.
const ANSWERS_BYTES_MAX: usize = 4 << 10;

/// Most bytes of MQTT dressed at once: what is dressed is in memory twice.
const DRESS_BYTES_MAX: usize = 64 << 10;

/// Bytes that come in small pieces are put together up to this size; larger ones are not copied.
const PIECE_BYTES_MAX: usize = 16 << 10;

pub(super) struct Conn {
    stream: TcpStream,
    /// Index of its listener.
    listener: usize,
    /// Its place among the descriptors of all listeners.
    _place: OwnedSemaphorePermit,
    coat: Coat,
    /// Bytes of MQTT that came with the handshake.
    early: Vec<u8>,
    /// Found while there were still bytes to hand on.
    fault: Option<CoatFault>,
    slot: Arc<Slot>,
    waker: Waker,
    stage: Stage,
    held: bool,
    /// The client takes nothing any more.
    mute: bool,
    /// What the broker wants written and is not in `wire` yet, in pieces: what is written is given back at once. Bounded by the broker.
    outbox: VecDeque<Vec<u8>>,
    /// What goes to the socket, from `written` on.
    wire: Vec<u8>,
    written: usize,
    /// Bytes of the broker that are in `wire` in their coat.
    dressed: usize,
    /// Bytes in `wire` that the broker does not know of.
    answers: usize,
    /// Bytes of the broker written since it was last told.
    sent: usize,
    /// Where it comes from.
    peer: Peer,
    /// Whether the broker held it at any moment since [`Conn::look_at_socket`].
    was_held: bool,
    /// Bytes read from it, and written to it, since then.
    read: u64,
    put: u64,
    /// What the kernel kept for it at that moment.
    memory: SocketMemory,
    /// What it kept there by its own fault at the last looks, and what of it had moved since the one before.
    looks: [Kept; KEPT_LOOKS],
    /// Looks in a row at which it did not move what it keeps.
    stuck_looks: u32,
}

/// Looks by which a connection is judged: a pause of a second or two is nothing.
const KEPT_LOOKS: usize = 3;

/// What a connection keeps in the kernel by its own fault at one look, bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    bytes: u64,
    moved: u64,
}

/// What became of a connection's bytes in the kernel over the last looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Still {
    /// What it keeps by its own fault, bytes: not what is unread because the broker holds it.
    pub(super) kept: u64,
    /// What of that moved over the last looks, bytes.
    pub(super) moved: u64,
    /// Looks in a row at which less than half of it moved; 0 for one that moves.
    pub(super) stuck_looks: u32,
}

/// Memory of the kernel for one connection, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SocketMemory {
    /// Of what came and is not read.
    pub received: u64,
    /// Of what is not sent, or not acknowledged by the client's machine.
    pub to_send: u64,
}

impl SocketMemory {
    /// Both.
    #[must_use]
    pub fn total(self) -> u64 {
        self.received.saturating_add(self.to_send)
    }
}

impl Conn {
    pub(super) fn new(id: ConnId, arrived: Arrived, ready: &Ready) -> Self {
        let Arrived { stream, origin, coat, early, place } = arrived;
        let slot = ready.slot(id);
        let waker = Waker::from(Arc::clone(&slot));
        Self {
            stream,
            listener: origin.listener,
            _place: place,
            coat,
            early,
            fault: None,
            slot,
            waker,
            stage: Stage::Open,
            held: false,
            mute: false,
            outbox: VecDeque::new(),
            wire: Vec::new(),
            written: 0,
            dressed: 0,
            answers: 0,
            sent: 0,
            peer: Peer::of(&origin.peer),
            was_held: false,
            read: 0,
            put: 0,
            memory: SocketMemory::default(),
            looks: [Kept::default(); KEPT_LOOKS],
            stuck_looks: 0,
        }
    }

    /// Takes note of what the kernel keeps for it.
    pub(super) fn look_at_socket(&mut self, memory: SocketMemory) -> Still {
        let before = std::mem::replace(&mut self.memory, memory);
        let held = std::mem::replace(&mut self.was_held, self.held) || self.held;
        let (read, put) = (std::mem::take(&mut self.read), std::mem::take(&mut self.put));
        // Written is not taken: only what went from the kernel is.
        let taken = before.to_send.saturating_add(put).saturating_sub(memory.to_send);
        let received = if held { 0 } else { memory.received };
        self.looks.rotate_left(1);
        self.looks[KEPT_LOOKS - 1] =
            Kept { bytes: received.saturating_add(memory.to_send), moved: read.saturating_add(taken) };
        // All the time, so that what has just come is not meant.
        let kept = self.looks.iter().map(|look| look.bytes).min().unwrap_or(0);
        let moved = self.looks[1..].iter().fold(0, |sum: u64, look| sum.saturating_add(look.moved));
        let is_stuck = kept > 0 && moved < kept / 2 + kept % 2;
        self.stuck_looks = if is_stuck { self.stuck_looks.saturating_add(1) } else { 0 };
        Still { kept, moved, stuck_looks: self.stuck_looks }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Whether the broker still knows it.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    pub(super) fn listener(&self) -> usize {
        self.listener
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The certificate that the client showed.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        self.coat.certificate()
    }

    /// Whether nothing is read from it, so that nobody would see the client go.
    pub(super) fn is_deaf(&self) -> bool {
        self.is_open() && (self.held || self.answers > ANSWERS_BYTES_MAX)
    }

    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
        self.was_held |= held;
    }

    /// Takes bytes for the next [`Conn::write`]. Whether that call became necessary by them.
    pub(super) fn push(&mut self, mut bytes: Vec<u8>) -> bool {
        if self.stage != Stage::Open || self.mute {
            return false;
        }
        let first = self.outbox.is_empty();
        match self.outbox.back_mut() {
            Some(last) if last.len() + bytes.len() <= PIECE_BYTES_MAX => last.append(&mut bytes),
            _ => self.outbox.push_back(bytes),
        }
        first
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        let outbox: usize = self.outbox.iter().map(Vec::len).sum();
        outbox + self.wire.len() - self.written
    }

    /// No more bytes will come from the broker.
    pub(super) fn close(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Closing;
        }
    }

    /// As [`Conn::close`], and what the broker wanted written is dropped: the coat has said its last word.
    pub(super) fn fail(&mut self) {
        self.outbox = VecDeque::new();
        self.close();
    }

    /// Bytes written since the last call.
    pub(super) fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.sent)
    }

    /// Whether [`Conn::take_sent`] has something to give.
    pub(super) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Writes what the socket takes at once. What a client does not take any more is dropped: what it said before it left is still to be read,
    /// its goodbye above all.
    pub(super) fn write(&mut self) {
        while !self.mute && self.refill() {
            match self.stream.try_write(&self.wire[self.written..]) {
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut cx = Context::from_waker(&self.waker);
                    if self.stream.poll_write_ready(&mut cx).is_pending() {
                        // It may wait for long: what was grown for more is given back.
                        self.outbox.iter_mut().for_each(Vec::shrink_to_fit);
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.mute = true;
                    self.wire = Vec::new();
                    self.outbox = VecDeque::new();
                }
            }
        }
        if self.stage == Stage::Parting {
            self.stage = Stage::Shut;
            let mut cx = Context::from_waker(&self.waker);
            // Never waits for TCP; an error is found by reading.
            let _ = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
        }
    }

    fn advance(&mut self, written: usize) {
        self.put += written as u64;
        self.written += written;
        if self.coat.is_bare() {
            self.sent += written;
        }
        if self.written == self.wire.len() {
            // An idle connection keeps no buffer.
            self.wire = Vec::new();
            self.written = 0;
            self.answers = 0;
            self.sent += std::mem::take(&mut self.dressed);
        }
    }

    /// Puts what comes next into `wire` if it is empty. Whether there is something to write.
    fn refill(&mut self) -> bool {
        if self.wire.is_empty()
            && let Some(mut bytes) = self.outbox.pop_front()
        {
            if self.coat.is_bare() {
                self.wire = bytes;
            } else {
                if bytes.len() > DRESS_BYTES_MAX {
                    self.outbox.push_front(bytes.split_off(DRESS_BYTES_MAX));
                }
                self.dressed = bytes.len();
                self.coat.dress(bytes, &mut self.wire);
            }
        }
        if self.wire.is_empty() && self.stage == Stage::Closing {
            self.stage = Stage::Parting;
            self.coat.farewell(&mut self.wire);
        }
        !self.wire.is_empty()
    }

    /// Writes what waits, and reads once.
    pub(super) fn step(&mut self, buffer: &mut [u8]) -> Step {
        self.slot.clear();
        self.write();
        let open = self.stage == Stage::Open;
        if self.mute && !open {
            return Step::Ended;
        }
        if open && let Some(fault) = self.fault.take() {
            return Step::Failed(fault);
        }
        if self.is_deaf() {
            return Step::Rest;
        }
        if open && !self.early.is_empty() {
            return Step::Bytes(std::mem::take(&mut self.early));
        }
        let mut space = ReadBuf::new(buffer);
        match self.read(&mut space) {
            Poll::Pending => Step::Rest,
            Poll::Ready(result) => self.take_read(result, space.filled(), open),
        }
    }

    fn take_read(&mut self, result: io::Result<()>, bytes: &[u8], open: bool) -> Step {
        if result.is_err() || bytes.is_empty() {
            return Step::Ended;
        }
        self.read += bytes.len() as u64;
        match open {
            false => Step::Again(bytes.len()),
            true if self.coat.is_bare() => Step::Bytes(bytes.to_vec()),
            true => self.undress(bytes),
        }
    }

    /// Reads what is there; after less than a bufferful the next call asks the runtime and not the kernel. The runtime's budget for one turn of a
    /// task does not count: the loop of the doors has its own.
    fn read(&mut self, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(&self.waker);
        let stream = &mut self.stream;
        let read = unconstrained(poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, space)));
        pin!(read).poll(&mut cx)
    }

    fn undress(&mut self, bytes: &[u8]) -> Step {
        let mut plain = Vec::new();
        let before = self.wire.len();
        self.fault = self.coat.take_off(bytes, &mut plain, &mut self.wire).err();
        self.answers += self.wire.len() - before;
        // A fault and the answers are dealt with in the next turn, after the bytes that came before them.
        if plain.is_empty() { Step::Again(bytes.len()) } else { Step::Bytes(plain) }
    }
}

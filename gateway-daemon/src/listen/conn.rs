//! One connection: bytes in, bytes out, never waiting.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gateway_core::broker::ConnId;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::ready::{Ready, Slot};

/// What came of looking at a connection.
pub(super) enum Step {
    /// The client sent these bytes; there may be more.
    Bytes(Vec<u8>),
    /// Nothing to do until its waker says otherwise.
    Rest,
    /// It is over.
    Ended,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The broker has closed it; the last bytes are on their way.
    Closing,
    /// We have said all; what the client still says is thrown away until it closes too. Closing at once with unread bytes would make the
    /// kernel reset the connection, and the client would never read why it was closed.
    Shut,
}

pub(super) struct Conn {
    stream: TcpStream,
    slot: Arc<Slot>,
    waker: Waker,
    stage: Stage,
    held: bool,
    /// What the broker wants written and is not in `wire` yet; bounded by the broker.
    outbox: Vec<u8>,
    /// What goes to the socket, from `written` on.
    wire: Vec<u8>,
    written: usize,
    /// Bytes of the broker written since it was last told.
    sent: usize,
}

impl Conn {
    pub(super) fn new(id: ConnId, stream: TcpStream, ready: &Ready) -> Self {
        let slot = ready.slot(id);
        let waker = Waker::from(Arc::clone(&slot));
        Self {
            stream,
            slot,
            waker,
            stage: Stage::Open,
            held: false,
            outbox: Vec::new(),
            wire: Vec::new(),
            written: 0,
            sent: 0,
        }
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Whether the broker still knows it.
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Takes bytes for the next [`Conn::write`]. Whether that call became necessary by them.
    pub(super) fn push(&mut self, mut bytes: Vec<u8>) -> bool {
        if self.stage != Stage::Open {
            return false;
        }
        let first = self.outbox.is_empty();
        if first {
            self.outbox = bytes;
        } else {
            self.outbox.append(&mut bytes);
        }
        first
    }

    /// No more bytes will come from the broker.
    pub(super) fn close(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Closing;
        }
    }

    /// Bytes written since the last call.
    pub(super) fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.sent)
    }

    /// Whether [`Conn::take_sent`] has something to give.
    pub(super) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Writes what the socket takes at once.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let mut cx = Context::from_waker(&self.waker);
        loop {
            if self.wire.is_empty() {
                if self.outbox.is_empty() {
                    break;
                }
                self.wire = std::mem::take(&mut self.outbox);
            }
            let Poll::Ready(written) =
                Pin::new(&mut self.stream).poll_write(&mut cx, &self.wire[self.written..])
            else {
                return Ok(());
            };
            let written = written?;
            self.written += written;
            self.sent += written;
            if self.written == self.wire.len() {
                // An idle connection keeps no buffer.
                self.wire = Vec::new();
                self.written = 0;
            }
        }
        if self.stage == Stage::Closing {
            self.stage = Stage::Shut;
            // Never waits for TCP; an error is found by reading.
            let _ = Pin::new(&mut self.stream).poll_shutdown(&mut cx);
        }
        Ok(())
    }

    /// Writes what waits, and reads once.
    pub(super) fn step(&mut self, buffer: &mut [u8]) -> Step {
        self.slot.clear();
        if self.write().is_err() {
            return Step::Ended;
        }
        if self.held && self.stage == Stage::Open {
            return Step::Rest;
        }
        let mut cx = Context::from_waker(&self.waker);
        let mut space = ReadBuf::new(buffer);
        match Pin::new(&mut self.stream).poll_read(&mut cx, &mut space) {
            Poll::Pending => Step::Rest,
            Poll::Ready(Ok(())) if !space.filled().is_empty() => Step::Bytes(space.filled().to_vec()),
            Poll::Ready(_) => Step::Ended,
        }
    }
}

//! What of a queue is on disk and not in memory: counts, not messages.
//!
//! Rows are counted in chunks, so that the oldest can be dropped without reading them: 100,000 rows cost some ten kilobytes.

use std::collections::VecDeque;

use crate::uplink::row::Seq;

/// Most rows of a chunk: as coarse as dropping the oldest may be.
const CHUNK_ROWS_MAX: u64 = 64;

/// Rows and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::broker) struct Held {
    /// Messages.
    pub(in crate::broker) rows: u64,
    /// Their [`crate::uplink::row::Row::size`].
    pub(in crate::broker) bytes: u64,
}

impl Held {
    pub(in crate::broker) fn add(&mut self, rows: u64, bytes: u64) {
        self.rows = self.rows.saturating_add(rows);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(in crate::broker) fn take(&mut self, rows: u64, bytes: u64) {
        self.rows = self.rows.saturating_sub(rows);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// A stretch of stored rows; absent seqs in between are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) held: Held,
}

/// The stored rows of one queue, oldest first.
#[derive(Debug)]
pub(super) struct Shelf {
    chunks: VecDeque<Chunk>,
    chunk_rows: u64,
    held: Held,
}

impl Shelf {
    /// An empty shelf of a queue of at most so many rows.
    pub(super) fn new(rows_max: u64) -> Self {
        let chunk_rows = (rows_max / 64).clamp(1, CHUNK_ROWS_MAX);
        Self { chunks: VecDeque::new(), chunk_rows, held: Held::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many chunks there are.
    #[cfg(test)]
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// First and last seq.
    pub(super) fn span(&self) -> Option<(Seq, Seq)> {
        Some((self.chunks.front()?.first, self.chunks.back()?.last))
    }

    /// Whether the oldest rows can be dropped as they are; otherwise [`Shelf::split`] has to learn their sizes first.
    pub(super) fn is_split(&self) -> bool {
        self.chunks.front().is_none_or(|chunk| chunk.held.rows <= self.chunk_rows)
    }

    /// Forgets everything and takes so much for granted.
    pub(super) fn replace(&mut self, span: Option<(Seq, Seq)>, held: Held) {
        self.chunks.clear();
        self.held = Held::default();
        if let Some((first, last)) = span.filter(|_| held.rows > 0) {
            self.chunks.push_back(Chunk { first, last, held });
            self.held = held;
        }
    }

    /// A row behind all others.
    pub(super) fn push_back(&mut self, seq: Seq, bytes: u64) {
        self.held.add(1, bytes);
        match self.chunks.back_mut() {
            Some(chunk) if chunk.held.rows < self.chunk_rows => {
                chunk.last = seq;
                chunk.held.add(1, bytes);
            }
            _ => self.chunks.push_back(Chunk { first: seq, last: seq, held: Held { rows: 1, bytes } }),
        }
    }

    /// A row before all others.
    pub(super) fn push_front(&mut self, seq: Seq, bytes: u64) {
        self.held.add(1, bytes);
        match self.chunks.front_mut() {
            Some(chunk) if chunk.held.rows < self.chunk_rows => {
                chunk.first = seq;
                chunk.held.add(1, bytes);
            }
            _ => self.chunks.push_front(Chunk { first: seq, last: seq, held: Held { rows: 1, bytes } }),
        }
    }

    /// The newest chunk leaves, if its rows can be dropped as they are and none of them has a seq up to `sent`.
    pub(super) fn pop_back_after(&mut self, sent: Seq) -> Option<Chunk> {
        let droppable = |chunk: &mut Chunk| chunk.held.rows <= self.chunk_rows && chunk.first > sent;
        let chunk = self.chunks.pop_back_if(droppable)?;
        self.held.take(chunk.held.rows, chunk.held.bytes);
        Some(chunk)
    }

    /// The oldest chunk leaves.
    pub(super) fn pop_front(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.held.take(chunk.held.rows, chunk.held.bytes);
        Some(chunk)
    }

    /// A row was read and leaves the shelf.
    pub(super) fn take(&mut self, seq: Seq, bytes: u64) {
        if let Some(chunk) = self.chunks.iter_mut().find(|chunk| chunk.last >= seq) {
            let (rows, bytes) = (chunk.held.rows.min(1), chunk.held.bytes.min(bytes));
            chunk.held.take(rows, bytes);
            self.held.take(rows, bytes);
        }
    }

    /// Nothing up to `until` is left: what was still counted vanished, and is given back.
    pub(super) fn cut(&mut self, until: Seq) -> Held {
        let mut vanished = Held::default();
        while let Some(chunk) = self.chunks.front_mut() {
            if chunk.last <= until {
                vanished.add(chunk.held.rows, chunk.held.bytes);
                self.pop_front();
                continue;
            }
            chunk.first = chunk.first.max(Seq(until.0.saturating_add(1)));
            if chunk.held.rows == 0 {
                self.pop_front();
            }
            break;
        }
        vanished
    }
}

//! Whether the writer has something to do, and how often it has come round: what its watchdog wants to know.

use std::sync::atomic::{AtomicU64, Ordering};

/// How the writer is getting on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Somebody waits for an answer.
    pub busy: bool,
    /// Rounds of the writer so far.
    pub rounds: u64,
}

/// Counted by everybody who asks, and by the writer.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    asked: AtomicU64,
    done: AtomicU64,
    rounds: AtomicU64,
}

/// A question that waits for its answer; it waits no more when this is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Pulse);

impl Pulse {
    /// Somebody begins to wait.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// The writer has come round.
    pub(super) fn round(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pace(&self) -> Pace {
        let done = self.done.load(Ordering::Relaxed);
        Pace { busy: self.asked.load(Ordering::Relaxed) > done, rounds: self.rounds.load(Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }
}

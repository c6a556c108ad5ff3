//! Bytes of one burst between two silences, each with the moment by which it had arrived.

use std::time::Duration;

use gateway_core::tag::BootNs;

use super::{FRAME_BYTES_MAX, JUNK_BYTES_MAX};

/// A frame, its echo and noise around it; what comes beyond is only counted until the line is silent.
const BURST_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX + 2 * JUNK_BYTES_MAX;

/// Collects a burst.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    bytes: Vec<u8>,
    /// For each byte the latest moment at which it can have arrived.
    arrived: Vec<BootNs>,
    /// Bytes of this burst that are thrown away.
    discarded: usize,
    discarding: bool,
}

impl Receiver {
    /// Takes bytes that were read together at `now`; on a line with a character time they arrived one after the other.
    pub(super) fn push(&mut self, now: BootNs, bytes: &[u8], character: Duration) {
        if self.discarding || self.bytes.len() + bytes.len() > BURST_BYTES_MAX {
            self.discard();
            self.discarded = self.discarded.saturating_add(bytes.len());
            return;
        }
        let character = u64::try_from(character.as_nanos()).unwrap_or(u64::MAX);
        for (behind, byte) in (0..bytes.len() as u64).rev().zip(bytes) {
            self.bytes.push(*byte);
            self.arrived.push(BootNs(now.0.saturating_sub(behind.saturating_mul(character))));
        }
    }

    /// The burst so far; empty while it is being thrown away.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// By when the first byte was there.
    pub(super) fn first_arrived(&self) -> Option<BootNs> {
        self.arrived.first().copied()
    }

    /// Whether nothing has come since the last silence.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.discarded == 0
    }

    /// Whether the burst is thrown away until the line is silent.
    pub(super) fn is_discarding(&self) -> bool {
        self.discarding
    }

    /// Throws the burst away, and what follows until [`Self::clear`].
    pub(super) fn discard(&mut self) {
        self.discarding = true;
        self.discarded = self.discarded.saturating_add(self.bytes.len());
        self.bytes.clear();
        self.arrived.clear();
    }

    /// Takes the first `count` bytes off.
    pub(super) fn strip(&mut self, count: usize) {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count);
        self.arrived.drain(..count);
    }

    /// Begins anew after a silence.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.arrived.clear();
        self.discarded = 0;
        self.discarding = false;
    }
}

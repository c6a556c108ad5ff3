//! What is known about a device, for status pages and logs.

use crate::tag::BootNs;

use super::counters::Counters;
use super::failures::{Cause, Requests};

/// Whether a device answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceState {
    /// Nothing was asked yet.
    Unknown,
    /// The last request was answered.
    Alive,
    /// The last try failed, but the device is still polled.
    Failing {
        /// Requests in a row that failed with all their retries.
        failures: u32,
    },
    /// Given up: only probed.
    Dead {
        /// Earliest moment of the next probe; the bus's share of probe time may put it off further.
        next_probe: BootNs,
    },
}

impl DeviceState {
    /// The word used in payloads, metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Failing { .. } => "failing",
            Self::Dead { .. } => "dead",
        }
    }
}

/// One device as its schedule sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceHealth<'a> {
    /// Index in [`crate::poll::Settings::devices`].
    pub device: usize,
    /// Whether it answers.
    pub state: DeviceState,
    /// Since when it is alive or not: the moment of the last death, of the first answer after requests that failed, or at which the bus was opened again;
    /// else the start of the schedule.
    pub since: BootNs,
    /// When it last answered anything, exceptions included.
    pub last_answer: Option<BootNs>,
    /// Why the last failed request failed.
    pub last_failure: Option<Cause>,
    /// What it is asked, and what of it fails.
    pub requests: Requests,
    /// What was counted for this device.
    pub counters: &'a Counters,
}

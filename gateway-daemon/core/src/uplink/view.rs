//! What is seen of an uplink from outside.

use std::time::Duration;

use super::action::{Counters, State};
use super::link::Epoch;
use super::loss::Loss;
use super::machine::Uplink;
use crate::tag::{BootNs, Name};

impl Uplink {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.settings.name
    }

    /// Where the connection is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// When the link came up, or was lost; the start, where neither has happened. Attempts to connect change nothing.
    #[must_use]
    pub fn link_since(&self) -> BootNs {
        self.link_since
    }

    /// The current or last connection attempt.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Why the last attempt failed or the last connection was lost.
    #[must_use]
    pub fn last_loss(&self) -> Option<&Loss> {
        self.last_loss.as_ref()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Messages in flight, those of the uplink itself included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// The server of the current or last attempt, by its index.
    #[must_use]
    pub fn server(&self) -> usize {
        self.servers.current()
    }

    /// The longest pause the next failure may cause.
    #[must_use]
    pub fn backoff_ceiling(&self) -> Duration {
        self.backoff.ceiling()
    }
}

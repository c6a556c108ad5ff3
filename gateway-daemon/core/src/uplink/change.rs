//! What a running uplink takes on from a changed configuration, and what it must say anew.

use super::action::State;
use super::backoff::Backoff;
use super::flights::Flights;
use super::machine::Uplink;
use super::queue::QueueSettings;
use super::row::Seq;
use super::servers::Servers;
use super::settings::Settings;
use super::status::Identity;
use crate::tag::BootNs;

impl Uplink {
    /// Other settings hold from here on, for the queue as well. Those that a connection is made with hold from the next one on: see [`Self::reconnect`].
    pub fn replace_settings(&mut self, now: BootNs, settings: Settings) {
        self.at(now);
        self.queue.replace_settings(self.now, QueueSettings::from(&settings));
        if (settings.backoff_min, settings.backoff_max)
            != (self.settings.backoff_min, self.settings.backoff_max)
        {
            self.backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
        }
        self.ledger_at = self.ledger_at.min(self.now.plus(settings.ledger_every));
        self.settings = settings;
    }

    /// Gives the connection up on purpose and makes another one at once, the first of `servers` first. The connection is cut without a goodbye, so
    /// that the server left behind publishes the last will. Rows in flight are sent again.
    pub fn reconnect(&mut self, now: BootNs, servers: usize) {
        self.at(now);
        self.servers = Servers::new(servers);
        if self.stop.is_some() || self.state == State::Idle {
            return;
        }
        if matches!(self.state, State::Up { .. } | State::Connecting { .. }) {
            self.ending = (!std::mem::take(&mut self.connect_due)).then_some((self.epoch, false));
            self.queue.detach(self.now);
            self.flights = Flights::default();
            self.birth_due = false;
        }
        self.state = State::BackingOff { until: self.now };
    }

    /// What the birth message says has changed: while connected it is published again.
    pub fn replace_identity(&mut self, identity: Identity) {
        if identity != self.identity {
            self.identity = identity;
            self.birth_due |= matches!(self.state, State::Up { .. }) && self.stop.is_none();
        }
    }

    /// Its identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Numbers go on where an earlier uplink of this name in this run has stopped.
    pub fn continue_at(&mut self, next: Seq) {
        self.queue.continue_at(next);
    }
}

//! What a running uplink takes on from a changed configuration, and what it must say anew.

use std::sync::Arc;

use super::action::State;
use super::backoff::Backoff;
use super::flights::Flights;
use super::machine::Uplink;
use super::queue::QueueSettings;
use super::row::{Mark, Seq};
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
        self.suspects.other_servers();
        self.bulletins.other_servers();
        if self.stop.is_some() || self.state == State::Idle {
            return;
        }
        if matches!(self.state, State::Up { .. } | State::Connecting { .. }) {
            self.ending = (!std::mem::take(&mut self.connect_due)).then_some((self.epoch, false));
            self.queue.detach(self.now);
            self.flights = Flights::default();
            self.birth_due = false;
        }
        self.enter(State::BackingOff { until: self.now });
    }

    /// What the birth message says has changed: while connected it is published again.
    pub fn replace_identity(&mut self, identity: Identity) {
        if identity != self.identity {
            self.identity = identity;
            self.birth_due |= matches!(self.state, State::Up { .. }) && self.stop.is_none();
        }
    }

    /// The same, without saying it at once: it is said with the next birth.
    pub fn refresh_identity(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Says the birth message again, while connected.
    pub fn say_birth(&mut self) {
        self.birth_due |= matches!(self.state, State::Up { .. }) && self.stop.is_none();
    }

    /// Host and port of each server, for what is said to people.
    pub fn name_servers(&mut self, names: Vec<Arc<str>>) {
        self.server_names = names;
    }

    /// Says which of the stored rows are set aside; see [`super::queue::Queue::restore_aside`].
    pub fn restore_aside(&mut self, marks: &[Arc<Mark>]) {
        self.queue.restore_aside(marks);
    }

    /// Puts a row back that was set aside, to be sent as if nothing had been. Says whether it was set aside.
    pub fn put_back(&mut self, now: BootNs, seq: Seq) -> bool {
        self.at(now);
        let was = self.queue.put_back(seq);
        if was {
            self.suspects.forgive(seq);
        }
        was
    }

    /// Deletes a row that was set aside, which counts as dropped. Says whether it was set aside.
    pub fn delete_aside(&mut self, now: BootNs, seq: Seq) -> bool {
        self.at(now);
        self.queue.delete_aside(self.now, seq)
    }

    /// The present connection ends for a reason of its own: no message is suspected.
    pub fn excuse(&mut self) {
        self.excused = true;
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

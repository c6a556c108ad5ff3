//! Running time: how long the broker has run, all runs together. Sessions end by it, so that a gateway that was off for a month keeps them, and one that is switched
//! off every night ends them all the same.
//!
//! The fact of a session that was left holds the running time of that moment; running time itself is written once in [`CLOCK_INTERVAL`] while a session waits for its
//! end, and at a clean stop. A crash sets it back to what was written last, or to the last moment at which a session was left: a session never ends too early.

use std::time::Duration;

use super::Broker;
use super::expiry::Alarm;
use crate::broker::SessionId;
use crate::broker::facts;
use crate::broker::journal::Due;
use crate::tag::BootNs;

/// How often running time is written: one fact of some sixty bytes an hour, and a crash makes sessions live an hour longer.
pub(super) const CLOCK_INTERVAL: Duration = Duration::from_secs(3600);

impl Broker {
    /// Running time at a moment of this run.
    pub(super) fn running(&self, now: BootNs) -> Duration {
        self.ran.saturating_add(now.since(self.started))
    }

    /// Earlier runs have come to this.
    pub(super) fn recover_clock(&mut self, ran: Duration) {
        self.ran = ran;
        // Without a store to read, clients may have come before this was known.
        for session in self.sessions.values_mut() {
            session.since = session.since.saturating_add(ran);
        }
    }

    /// A session ends at this moment if its client does not come.
    pub(super) fn set_end(&mut self, now: BootNs, id: SessionId, at: BootNs) {
        self.clear_end(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.ends_at = Some(at);
        self.ending += 1;
        self.alarms.insert((at, Alarm::End(id)));
        if self.store && self.clock_due.is_none() {
            self.clock_due = Some(now.plus(CLOCK_INTERVAL));
        }
    }

    /// A session has no end for the time being.
    pub(super) fn clear_end(&mut self, id: SessionId) {
        let Some(at) = self.sessions.get_mut(&id).and_then(|session| session.ends_at.take()) else { return };
        self.alarms.remove(&(at, Alarm::End(id)));
        self.ending = self.ending.saturating_sub(1);
        if self.ending == 0 {
            self.clock_due = None;
        }
    }

    /// Writes running time when it is due.
    pub(super) fn tell_clock(&mut self, now: BootNs) {
        if self.clock_due.is_some_and(|due| due <= now) {
            self.clock_due = Some(now.plus(CLOCK_INTERVAL));
            self.write_clock(now);
        }
    }

    /// Writes running time, if a session waits for its end.
    pub(super) fn write_clock(&mut self, now: BootNs) {
        if self.store && self.ending > 0 {
            let value = facts::clock(self.running(now));
            self.journal.put(now, facts::clock_key(), value, None, Due::Soon);
        }
    }
}

//! The health gate: whether an updated system may stay.
//!
//! ```text
//!            healthy for `steady` without a break
//!  Pending ----------------------------------------> Good
//!     |   deadline passed and not healthy, or more than `restarts_max` restarts of the daemon
//!     +---------------------------------------------------------------------------------------> Bad
//! ```
//! Healthy is a daemon that answers and of which nothing is [missing](super::trial::Before::missing). Any break starts the count again, and so
//! does a restart of the daemon. A gateway that is healthy at the deadline gets the rest of its time, so a verdict falls by
//! `deadline + steady` at the latest. Once fallen, a verdict stays.
//!
//! A daemon that has no place for one more client is alive, so that breaks nothing, but nothing is seen of its state: it is asked again until there is a
//! place. One whose state cannot be seen to the end has to go, with that reason: who stays must have been seen to work, for an update that cut the
//! gateway off from its cloud could not be replaced from afar.
//!
//! It never acts: marking the slot and going back are for others.

use std::time::Duration;

use super::trial::{Before, Observation, Sight};
use crate::tag::BootNs;

/// A daemon that does not answer for this long is not healthy: a busy one answers within a second, and more than one question goes by.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Of a daemon that has no place for the one who looks.
const BUSY: &str = "the gateway runs, but nobody could see how: every place for a command at its control socket is taken; end what is connected to it all the time, \
                    such as a `status --watch`, and install the update again";

/// Limits of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long everything has to work without a break.
    pub steady: Duration,
    /// When it has to have begun to.
    pub deadline: Duration,
    /// Most restarts of the daemon meanwhile.
    pub restarts_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        // Five minutes see each poll group of an ordinary plant and several ledger messages; a modem needs some minutes to find its network.
        Self { steady: Duration::from_secs(300), deadline: Duration::from_secs(900), restarts_max: 3 }
    }
}

/// The outcome so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not decided.
    Pending {
        /// What is waited for.
        why: String,
    },
    /// The system may stay.
    Good,
    /// The system has to go.
    Bad {
        /// What did not work.
        why: String,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    before: Before,
    began: BootNs,
    now: BootNs,
    run: Option<String>,
    /// When its state was seen.
    answered: Option<BootNs>,
    /// When it gave any answer.
    alive: Option<BootNs>,
    healthy_since: Option<BootNs>,
    why: String,
    restarts: u32,
    fallen: Option<Verdict>,
}

impl Gate {
    /// A gate that opens its eyes at `now`.
    #[must_use]
    pub fn new(now: BootNs, limits: Limits, before: Before) -> Self {
        let why = "the gateway does not answer".to_owned();
        Self {
            limits,
            before,
            began: now,
            now,
            run: None,
            answered: None,
            alive: None,
            healthy_since: None,
            why,
            restarts: 0,
            fallen: None,
        }
    }

    /// Takes a look.
    pub fn handle(&mut self, now: BootNs, sight: &Sight) {
        self.now = self.now.max(now);
        match sight {
            Sight::State(seen) => self.look(seen),
            Sight::Busy => {
                self.alive = Some(self.now);
                BUSY.clone_into(&mut self.why);
            }
            Sight::Silent => {
                let silent = self.alive.is_none_or(|at| self.now >= at.plus(SILENCE_MAX));
                if silent {
                    self.broken("the gateway does not answer".to_owned());
                }
            }
        }
        self.fall();
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.fallen.clone().unwrap_or_else(|| Verdict::Pending {
            why: match self.healthy_since {
                Some(since) => {
                    let (healthy, steady) = (self.now.since(since).as_secs(), self.limits.steady.as_secs());
                    format!("everything works, for {healthy} of {steady} s")
                }
                None => self.why.clone(),
            },
        })
    }

    /// Whether everything works at this moment.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy_since.is_some()
    }

    fn look(&mut self, seen: &Observation) {
        (self.answered, self.alive) = (Some(self.now), Some(self.now));
        if self.run.as_ref().is_some_and(|run| *run != seen.run) {
            self.restarts = self.restarts.saturating_add(1);
            self.broken("the gateway was started again".to_owned());
        }
        self.run = Some(seen.run.clone());
        match self.before.missing(seen) {
            Some(missing) => self.broken(missing),
            None => _ = self.healthy_since.get_or_insert(self.now),
        }
    }

    fn broken(&mut self, why: String) {
        self.healthy_since = None;
        self.why = why;
    }

    fn fall(&mut self) {
        if self.fallen.is_some() {
            return;
        }
        // Only what was seen counts: a silence that is not yet one proves nothing.
        let proven = self.healthy_since.zip(self.answered).map(|(since, seen)| seen.since(since));
        self.fallen = if self.restarts > self.limits.restarts_max {
            Some(Verdict::Bad { why: format!("the gateway was started again {} times", self.restarts) })
        } else if proven.is_some_and(|time| time >= self.limits.steady) {
            Some(Verdict::Good)
        } else if self.is_late() {
            Some(Verdict::Bad { why: self.why.clone() })
        } else {
            None
        };
    }

    fn is_late(&self) -> bool {
        let deadline = self.began.plus(self.limits.deadline);
        let last = deadline.plus(self.limits.steady).plus(SILENCE_MAX);
        self.now >= last || (self.now >= deadline && self.healthy_since.is_none())
    }
}

#[cfg(test)]
mod tests;

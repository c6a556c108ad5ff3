//! The whole broker with many clients, a disk and everything that goes wrong, in virtual time and repeatable by a seed.
//!
//! Clients speak bytes of 3.1.1 and 5.0 over connections that are cut at any byte; the daemon is killed at any moment and finds on its disk what its turns
//! wrote; turns and reads fail, late or after they reached the disk; the database is replaced; a cloud behind a bridge takes messages late, never, or
//! drops them, and sends its own; queues are small in some runs; attackers do on other connections whatever they like. [`oracle`] follows every message:
//! what was acknowledged arrives at every durable subscriber, at one member of a group and in the uplink's queue, or was counted as dropped; QoS 2 exactly once, in
//! the order of its publisher and QoS; acknowledged subscriptions, sessions and retained messages survive; wills speak when a connection was lost and not
//! otherwise; nobody gets what was not published or what it unsubscribed from; no honest client is ever cut; in the end nothing is left on disk that
//! nobody is owed. Named mutants ([`Mutant`]) prove that it would notice.
//!
//! Bounds: [`world::EVENTS_MAX`] events, [`world::QUIET_MAX`] of virtual time to become quiet.

pub mod attacker;
pub mod client;
pub mod disk;
pub mod oracle;
pub mod shared;
pub mod uplink;
pub mod wills;
pub mod wire;
pub mod world;

use std::fmt;

use gateway_core::broker::Mutant;
use gateway_core::broker::settings::WhenFull;

/// What one run has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Virtual minutes.
    pub minutes: u64,
    /// Events.
    pub events: u64,
    /// Messages taken by subscribers.
    pub received: u64,
    /// Taken again, as QoS 1 allows.
    pub repeated: u64,
    /// Acknowledged to publishers.
    pub acknowledged: u64,
    /// Kills of the daemon.
    pub crashes: u64,
    /// Connections cut.
    pub cuts: u64,
    /// Turns of the store, and how many of them failed.
    pub turns: (u64, u64),
    /// Rows written and never written, as far as the disk knows.
    pub rows_written: u64,
    /// Messages that the uplink's queue took.
    pub forwarded: u64,
    /// Messages of the shared subscription that a member took.
    pub shared: u64,
    /// Last wills heard.
    pub wills: u64,
    /// Times the database was replaced.
    pub resets: u64,
    /// Connections of attackers, and how many of them the broker ended.
    pub attacks: u64,
    /// See `attacks`.
    pub ended: u64,
    /// Times a connection was held.
    pub holds: u64,
}

/// What to run; the same case always runs the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Where everything random comes from.
    pub seed: u64,
    /// Virtual minutes before everything heals.
    pub minutes: u64,
    /// A deliberate fault of the broker.
    pub mutant: Option<Mutant>,
    /// Nothing goes wrong.
    pub calm: bool,
    /// A subscriber stops acknowledging now and then, and no publisher may notice. Only in a calm world.
    pub silent: bool,
    /// Others do on their connections whatever they like.
    pub attackers: bool,
    /// Queues are small, and this happens when they are full.
    pub tight: Option<WhenFull>,
    /// Units of work of a turn of the loop; so few that nearly everything is put down once, or as many as usual.
    pub turn_work_max: Option<u64>,
    /// Prints every event on standard error.
    pub trace: bool,
}

impl Case {
    /// A seed as it comes: two of five have small queues.
    #[must_use]
    pub fn of(seed: u64, minutes: u64) -> Self {
        let tight = match seed % 5 {
            3 => Some(WhenFull::DropNewest),
            4 => Some(WhenFull::DropOldest),
            _ => None,
        };
        let (mutant, calm, silent, attackers, trace, turn_work_max) = (None, false, false, true, false, None);
        Self { seed, minutes, mutant, calm, silent, attackers, tight, turn_work_max, trace }
    }

    /// The same seed with a deliberate fault, in the world that shows it.
    #[must_use]
    pub fn with(self, mutant: Mutant) -> Self {
        if mutant == Mutant::SlowLate {
            return Self { mutant: Some(mutant), ..Self::silent(self.seed, self.minutes) };
        }
        Self { mutant: Some(mutant), ..self }
    }

    /// A seed with which nothing goes wrong.
    #[must_use]
    pub fn calm(seed: u64, minutes: u64) -> Self {
        Self { calm: true, attackers: false, tight: None, ..Self::of(seed, minutes) }
    }

    /// A calm world with a subscriber that stops acknowledging now and then.
    #[must_use]
    pub fn silent(seed: u64, minutes: u64) -> Self {
        Self { silent: true, ..Self::calm(seed, minutes) }
    }

    /// The command that runs it again, with every event.
    #[must_use]
    pub fn replay(&self) -> String {
        let Self { seed, minutes, mutant, calm, silent, .. } = *self;
        let command = format!("cargo xtask sim broker --seed {seed} --minutes {minutes} --trace");
        match mutant {
            // It brings its own world.
            Some(mutant) => format!("{command} --mutant {}", mutant.name()),
            None if silent => command + " --silent",
            None if calm => command + " --calm",
            None => command,
        }
    }

    /// Runs the world and waits until it is quiet.
    ///
    /// # Errors
    /// The promise that was broken, and how to see it again.
    pub fn run(self) -> Result<Report, Failure> {
        let mut world = world::World::new(self);
        world.run().map_err(|what| Failure { case: self, at_ms: world.now() / world::MS, what })
    }
}

/// A promise was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was run.
    pub case: Case,
    /// Virtual time of the failure, ms.
    pub at_ms: u64,
    /// What was broken.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { seed, mutant, .. } = self.case;
        let mutant = mutant.map_or("none", Mutant::name);
        writeln!(f, "seed {seed}, mutant {mutant}: after {} ms of virtual time: {}", self.at_ms, self.what)?;
        write!(f, "replay: {}", self.case.replay())
    }
}

impl std::error::Error for Failure {}

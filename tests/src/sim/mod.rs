//! The uplink with a fake store, network and cloud in virtual time: days of outages in a second, repeatable by a seed.
//!
//! [`plan`] draws settings and a world from the seed, [`world`] runs it, `faults` break it, and [`oracle`] checks the promises of the design
//! after every step. On a failure the report names the seed and the command that replays it. Named mutants of the machine
//! ([`Mutant`]) prove that the oracle would notice.
//!
//! Bounds: [`world::EVENTS_MAX`] events, [`world::STEPS_PER_MOMENT_MAX`] steps at one moment, [`world::QUIET_MAX`] of virtual time to become quiet.

pub mod chance;
pub mod disk;
pub mod facts;
mod faults;
mod line;
pub mod net;
pub mod oracle;
pub mod pace;
pub mod plan;
pub mod world;

use std::fmt;

use gateway_core::uplink::Mutant;
use gateway_core::uplink::queue::DropReason;

use self::plan::{Plan, Variant};
use self::world::World;

/// What one run has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Virtual hours, those until quiet included.
    pub hours: u64,
    /// Events.
    pub events: u64,
    /// Rows that arrived at the cloud.
    pub received: u64,
    /// Arrivals of rows the cloud had already.
    pub repeated: u64,
    /// Ops asked of the store.
    pub store_ops: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Ends of the process, clean or not.
    pub crashes: u64,
    /// Rows set aside because the cloud will not take them.
    pub asides: u64,
    /// Rows dropped, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
}

/// What to run; the same case always runs the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Where everything random comes from.
    pub seed: u64,
    /// Virtual hours before everything heals.
    pub hours: u64,
    /// Which promise the plan is bent towards.
    pub variant: Variant,
    /// A deliberate fault of the machine.
    pub mutant: Option<Mutant>,
    /// Prints every event from this moment on, in milliseconds of virtual time, on standard error.
    pub trace: Option<u64>,
}

impl Case {
    /// A seed as it comes, without a mutant.
    #[must_use]
    pub fn of(seed: u64, hours: u64) -> Self {
        Self { seed, hours, variant: Variant::Any, mutant: None, trace: None }
    }

    /// The command that runs it again, with every event.
    #[must_use]
    pub fn replay(&self) -> String {
        let mut command = format!("cargo xtask sim --seed {} --hours {} --trace", self.seed, self.hours);
        if self.variant != Variant::Any {
            command += &format!(" --plan {}", self.variant.name());
        }
        if let Some(mutant) = self.mutant {
            command += &format!(" --mutant {}", mutant.name());
        }
        command
    }

    /// Runs the world and waits until it is quiet.
    ///
    /// # Errors
    /// The promise that was broken, and how to see it again.
    pub fn run(self) -> Result<Report, Failure> {
        let mut world = World::new(Plan::bent(self.variant, self.seed), self.seed, self.mutant);
        world.trace = self.trace;
        let began = world.now;
        let verdict = world.run(self.hours);
        let ran = world.now - began;
        verdict.map_err(|what| Failure { case: self, at_ms: ran / plan::MS, what })?;
        Ok(Report {
            hours: ran / plan::HOUR,
            events: world.count,
            received: world.oracle.received,
            repeated: world.oracle.repeated,
            store_ops: world.oracle.ops,
            faults: world.faults,
            crashes: world.crashes,
            asides: world.oracle.asides,
            dropped: world.dropped,
        })
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
        writeln!(f, "seed {}: after {} ms of virtual time: {}", self.case.seed, self.at_ms, self.what)?;
        write!(f, "replay: {}", self.case.replay())
    }
}

impl std::error::Error for Failure {}

//! Many seeds of both simulations on all processors. What fails is printed at once, with the command that replays it, and the others still run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sim::plan::Variant;
use crate::{sim, sim_broker};

/// Seeds between two lines that say how far a batch has come.
const PROGRESS_EVERY: u64 = 1000;
/// The first seed where no commit is known that could choose one.
pub const SEED_WITHOUT_COMMIT: u64 = 1_000_000_000_000;
/// Seeds between those of two commits that follow one another: more than one run takes of a commit.
const SEEDS_PER_COMMIT: u64 = 1000;

/// What is simulated, and for how long each seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// The uplink, store and network.
    Uplink {
        /// What its plan is bent towards.
        variant: Variant,
        /// Virtual hours before everything heals.
        hours: u64,
    },
    /// The local broker.
    Broker {
        /// Virtual minutes before everything heals.
        minutes: u64,
        /// A calm world with a subscriber that stops acknowledging now and then.
        silent: bool,
    },
}

impl World {
    /// What it is, for a person.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Uplink { variant, hours } => format!("uplink, plan {}, {hours} h each", variant.name()),
            Self::Broker { minutes, silent: false } => format!("broker, {minutes} min each"),
            Self::Broker { minutes, silent: true } => {
                format!("broker, silent subscriber, {minutes} min each")
            }
        }
    }

    fn uplink(seed: u64, variant: Variant, hours: u64) -> sim::Case {
        sim::Case { variant, ..sim::Case::of(seed, hours) }
    }

    fn broker(seed: u64, minutes: u64, silent: bool) -> sim_broker::Case {
        if silent { sim_broker::Case::silent(seed, minutes) } else { sim_broker::Case::of(seed, minutes) }
    }

    /// The command that runs one seed again.
    #[must_use]
    pub fn replay(self, seed: u64) -> String {
        match self {
            Self::Uplink { variant, hours } => Self::uplink(seed, variant, hours).replay(),
            Self::Broker { minutes, silent } => Self::broker(seed, minutes, silent).replay(),
        }
    }

    /// Runs one seed: its events, or what was broken and the command that replays it.
    fn run(self, seed: u64) -> Result<u64, String> {
        match self {
            Self::Uplink { variant, hours } => {
                let case = Self::uplink(seed, variant, hours);
                let failure = |what| sim::Failure { case, at_ms: 0, what };
                let ran = caught(|| case.run()).map_err(|what| failure(what).to_string())?;
                ran.map(|report| report.events).map_err(|failure| failure.to_string())
            }
            Self::Broker { minutes, silent } => {
                let case = Self::broker(seed, minutes, silent);
                let failure = |what| sim_broker::Failure { case, at_ms: 0, what };
                let ran = caught(|| case.run()).map_err(|what| failure(what).to_string())?;
                ran.map(|report| report.events).map_err(|failure| failure.to_string())
            }
        }
    }
}

/// A panic of what is tested is a failure like any other.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| "panicked; the message is printed above".to_owned())
}

/// Seeds of one world that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// What is simulated.
    pub world: World,
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was run.
    pub batch: Batch,
    /// Events of all seeds that kept their promises.
    pub events: u64,
    /// What was broken, by seed, with the command that replays each.
    pub failures: Vec<(u64, String)>,
    /// How long it took.
    pub took: Duration,
}

impl Batch {
    /// Runs all seeds on `jobs` threads; `say` gets each failure as it comes, and a line now and then.
    #[must_use]
    pub fn run(self, jobs: usize, say: impl Fn(&str) + Sync) -> Outcome {
        self.run_each(jobs, say, |seed| self.world.run(seed))
    }

    fn run_each(
        self,
        jobs: usize,
        say: impl Fn(&str) + Sync,
        run: impl Fn(u64) -> Result<u64, String> + Sync,
    ) -> Outcome {
        let (began, next, done, events) =
            (Instant::now(), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        // Threads contend only when a seed fails.
        let failures = Mutex::new(Vec::new());
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= self.seeds {
                    return;
                }
                let seed = self.first.wrapping_add(index);
                match run(seed) {
                    Ok(seen) => {
                        events.fetch_add(seen, Ordering::Relaxed);
                    }
                    Err(failure) => {
                        say(&failure);
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push((seed, failure));
                    }
                }
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                if done.is_multiple_of(PROGRESS_EVERY) {
                    let took = began.elapsed().as_secs();
                    say(&format!("{}: {done} of {} seeds, {took} s", self.world.name(), self.seeds));
                }
            }
        };
        std::thread::scope(|scope| (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
        let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        failures.sort_unstable();
        Outcome { batch: self, events: events.into_inner(), failures, took: began.elapsed() }
    }
}

impl Outcome {
    /// One row of a table in Markdown: world, seeds, events, seconds, failures.
    #[must_use]
    pub fn row(&self) -> String {
        let Batch { world, first, seeds } = self.batch;
        let last = first.wrapping_add(seeds.saturating_sub(1));
        let failed: Vec<String> = self.failures.iter().map(|(seed, _)| seed.to_string()).collect();
        let failed = if failed.is_empty() { "none".to_owned() } else { failed.join(", ") };
        let (events, took) = (self.events, self.took.as_secs());
        format!("| {} | {seeds} | {first} to {last} | {events} | {took} | {failed} |", world.name())
    }
}

/// The first seed that a commit chooses: nobody has run it before, and the same commit chooses it again.
#[must_use]
pub fn first_seed(commit: &str) -> u64 {
    let digits = commit.get(..8).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    digits.map_or(SEED_WITHOUT_COMMIT, |digits| digits * SEEDS_PER_COMMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Batch = Batch { world: World::Broker { minutes: 1, silent: true }, first: 40, seeds: 100 };

    #[test]
    fn every_seed_runs_once_and_what_fails_is_said_and_named() {
        let seen = Mutex::new(Vec::new());
        let told = Mutex::new(Vec::new());
        let run = |seed| {
            seen.lock().unwrap().push(seed);
            if seed % 50 == 7 { Err(format!("seed {seed} is broken")) } else { Ok(2) }
        };
        let outcome = BATCH.run_each(3, |line| told.lock().unwrap().push(line.to_owned()), run);
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, (40..140).collect::<Vec<u64>>());
        let failed = [57, 107].map(|seed| (seed, format!("seed {seed} is broken")));
        assert_eq!((outcome.failures.as_slice(), outcome.events), (failed.as_slice(), 2 * 98));
        assert_eq!(told.into_inner().unwrap().len(), 2);
        assert!(outcome.row().ends_with("| 57, 107 |"), "{}", outcome.row());
    }

    #[test]
    fn a_panic_is_a_failure_with_the_command_that_replays_it() {
        let failure = sim_broker::Failure {
            case: World::broker(3, 20, true),
            at_ms: 0,
            what: caught(|| panic!("on purpose")).unwrap_err(),
        };
        let text = failure.to_string();
        assert!(text.contains("panicked"), "{text}");
        assert!(
            text.ends_with("replay: cargo xtask sim broker --seed 3 --minutes 20 --trace --silent"),
            "{text}"
        );
    }

    #[test]
    fn a_commit_chooses_its_seeds_and_another_commit_others() {
        let first = first_seed("71ee55e3419080f7900cc7a0dcdec6b642cbb684");
        assert_eq!(first, 0x71ee_55e3 * SEEDS_PER_COMMIT);
        assert_eq!(first, first_seed("71ee55e3"));
        assert!(first.abs_diff(first_seed("71ee55e4")) >= SEEDS_PER_COMMIT);
        for no_commit in ["", "main", "71ee55", "zzzzzzzzzz"] {
            assert_eq!(first_seed(no_commit), SEED_WITHOUT_COMMIT);
        }
    }
}

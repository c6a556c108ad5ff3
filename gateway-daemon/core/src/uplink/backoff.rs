//! Pauses between connection attempts: full jitter under a doubling ceiling.
//!
//! "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015) measures full jitter as the way to spread a fleet of clients with the
//! least work for the server. Only an acknowledged publish ends the doubling: a broker that accepts a connection and then fails has not
//! recovered.

use std::time::Duration;

use super::mutant::{Faults, Mutant};

/// Doublings after which the ceiling cannot grow in 64 bits of nanoseconds; a bound of the counter, not of the pause.
const DOUBLINGS_MAX: u32 = 63;

/// A small generator of jitter (SplitMix64, Steele, Lea, Flood, 2014). Its seed is an argument, so that a simulation repeats.
#[derive(Debug, Clone)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform from zero to `ceiling`, both included.
    pub(super) fn below(&mut self, ceiling: Duration) -> Duration {
        let ceiling = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        let drawn = (u128::from(self.next()) * (u128::from(ceiling) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(drawn).unwrap_or(ceiling))
    }
}

/// The doubling ceiling.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    /// Failures before the last reset, in case the reset turns out to mean nothing.
    before: u32,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0, before: 0 }
    }

    /// The longest pause that [`Self::pause`] may draw next.
    pub(super) fn ceiling(&self) -> Duration {
        let factor = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        let ceiling = self.min.as_nanos().saturating_mul(u128::from(factor)).min(self.max.as_nanos());
        Duration::from_nanos(u64::try_from(ceiling).unwrap_or(u64::MAX))
    }

    /// Draws the pause after a failed attempt or a lost link.
    pub(super) fn pause(&mut self, jitter: &mut Jitter, faults: Faults) -> Duration {
        let ceiling = self.ceiling();
        if !faults.has(Mutant::BackoffWithoutGrowth) {
            self.failures = (self.failures + 1).min(DOUBLINGS_MAX);
        }
        let drawn = jitter.below(ceiling);
        if faults.has(Mutant::BackoffWithoutJitter) { ceiling } else { drawn }
    }

    /// A publish was acknowledged: the next pause starts small.
    pub(super) fn reset(&mut self) {
        if self.failures > 0 {
            self.before = self.failures;
            self.failures = 0;
        }
    }

    /// The acknowledgements meant nothing, because a rival with our client id gets them in turn: go on where the doubling was.
    pub(super) fn undo_reset(&mut self) {
        self.failures = self.failures.max(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(120))
    }

    #[test]
    fn the_ceiling_doubles_up_to_its_maximum_and_every_pause_is_below_it() {
        let (mut backoff, mut jitter) = (backoff(), Jitter::new(7));
        let mut ceilings = Vec::new();
        for _ in 0..100 {
            let ceiling = backoff.ceiling();
            assert!(backoff.pause(&mut jitter, Faults::default()) <= ceiling);
            ceilings.push(ceiling.as_secs());
        }
        assert_eq!(ceilings[..9], [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(ceilings[99], 120);
    }

    #[test]
    fn pauses_are_spread_over_the_whole_range() {
        let mut jitter = Jitter::new(1);
        let ceiling = Duration::from_secs(100);
        let mut tenths = [0_u32; 10];
        for _ in 0..1000 {
            let tenth = jitter.below(ceiling).as_secs() / 10;
            tenths[usize::try_from(tenth).unwrap().min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| *count > 60), "{tenths:?}");
    }

    #[test]
    fn a_reset_that_meant_nothing_is_undone() {
        let (mut backoff, mut jitter) = (backoff(), Jitter::new(1));
        let mut ceilings = Vec::new();
        for _ in 0..4 {
            backoff.pause(&mut jitter, Faults::default());
            backoff.reset();
            assert_eq!(backoff.ceiling(), Duration::from_secs(1));
            backoff.undo_reset();
            ceilings.push(backoff.ceiling().as_secs());
        }
        assert_eq!(ceilings, [2, 4, 8, 16]);
    }

    #[test]
    fn absurd_limits_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::ZERO);
        let mut jitter = Jitter::new(3);
        for _ in 0..200 {
            backoff.pause(&mut jitter, Faults::default());
        }
    }
}

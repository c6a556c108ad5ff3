//! Everything random in the simulation comes from here, so that a seed repeats a run.

use std::ops::RangeInclusive;

/// A stream of numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x6a09_e667_f3bc_c909)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of a range, all equally likely.
    pub fn of(&mut self, range: RangeInclusive<u64>) -> u64 {
        let span = (range.end() - range.start()).saturating_add(1).max(1);
        range.start() + self.draw() % span
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.of(1..=n.max(1)) == 1
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let last = choices.len().saturating_sub(1) as u64;
        choices[usize::try_from(self.of(0..=last)).unwrap_or(0)]
    }

    /// A time around `mean`, from a tenth to three times as long, short ones more often.
    pub fn around(&mut self, mean: u64) -> u64 {
        let (a, b) = (self.of(100..=3000), self.of(100..=3000));
        mean / 1000 * a.min(b)
    }
}

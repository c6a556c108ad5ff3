//! What happens to the field in a demo: a tag is written, a device loses its power and gets it back. Pure, by the time since the start; again and again.

use std::time::Duration;

/// After so long everything happens once more.
const ROUND: Duration = Duration::from_secs(40);
/// What happens when in a round.
const ACTS: [(Duration, Act); 4] = [
    (Duration::from_secs(3), Act::Write(0)),
    (Duration::from_secs(7), Act::PowerOff),
    (Duration::from_secs(20), Act::Write(1)),
    (Duration::from_secs(25), Act::PowerOn),
];

/// One thing that happens to the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A tag gets one of two values.
    Write(usize),
    /// A device loses its power.
    PowerOff,
    /// It gets it back.
    PowerOn,
}

/// Which acts are done.
#[derive(Debug, Default)]
pub struct Acts {
    done: u32,
}

impl Acts {
    /// The next act at `now` after the start; call again until there is none.
    pub fn due(&mut self, now: Duration) -> Option<Act> {
        let length = u32::try_from(ACTS.len()).unwrap_or(u32::MAX);
        let (at, act) = ACTS[usize::try_from(self.done % length).unwrap_or(0)];
        let round = ROUND.saturating_mul(self.done / length);
        if now < round.saturating_add(at) {
            return None;
        }
        self.done = self.done.saturating_add(1);
        Some(act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_writes_twice_and_takes_the_power_once_for_longer_than_a_device_needs_to_be_dead() {
        let mut acts = Acts::default();
        let mut seen = Vec::new();
        for second in 0..80 {
            while let Some(act) = acts.due(Duration::from_secs(second)) {
                seen.push((second, act));
            }
        }
        let round = [(3, Act::Write(0)), (7, Act::PowerOff), (20, Act::Write(1)), (25, Act::PowerOn)];
        assert_eq!(seen[..4], round);
        assert_eq!(seen[4..], round.map(|(second, act)| (second + 40, act)));
    }

    #[test]
    fn acts_that_are_late_are_done_one_after_the_other() {
        let mut acts = Acts::default();
        let late = Duration::from_secs(21);
        let done: Vec<Act> = std::iter::from_fn(|| acts.due(late)).collect();
        assert_eq!(done, [Act::Write(0), Act::PowerOff, Act::Write(1)]);
    }
}

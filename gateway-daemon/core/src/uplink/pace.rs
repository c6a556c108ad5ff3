//! How fast a reader usually answers, and when it counts as slow.
//!
//! A message is safe when its reader has acknowledged it or when it is on disk. While the reader answers as usual its answer is waited for, and nothing
//! is written; once its oldest message is older than [`Pace::patience`], whoever waits for a message behind it is told by the disk.

use std::time::Duration;

/// Nobody counts as slow before: a round trip through a mobile network, or a machine that is busy with something else.
pub const SLOW_MIN: Duration = Duration::from_millis(50);

/// So many times the usual answer time is slow.
const SLOW_TIMES: u32 = 4;

/// An answer moves the usual time by this part of the difference: a dozen answers make a habit, a single late one does not.
const SMOOTHING: u32 = 8;

/// The habits of one reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// `None` before the first answer.
    usual: Option<Duration>,
}

impl Pace {
    /// A message was answered so long after it was sent.
    pub fn answered(&mut self, took: Duration) {
        let usual = self.usual.unwrap_or(took);
        self.usual = Some((usual.saturating_mul(SMOOTHING - 1).saturating_add(took)) / SMOOTHING);
    }

    /// How old the oldest message may become before its reader counts as slow. A reader whose answers come after rows are written anyway
    /// counts as slow at once: waiting for it saves nothing.
    #[must_use]
    pub fn patience(&self, commit_interval: Duration) -> Duration {
        match self.usual {
            None => SLOW_MIN,
            Some(usual) if usual >= commit_interval => Duration::ZERO,
            Some(usual) => usual.saturating_mul(SLOW_TIMES).max(SLOW_MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn after(answers_ms: &[u64]) -> Duration {
        let mut pace = Pace::default();
        answers_ms.iter().for_each(|ms| pace.answered(Duration::from_millis(*ms)));
        pace.patience(INTERVAL)
    }

    #[test]
    fn a_reader_is_slow_after_four_times_its_usual_answer_and_never_before_50_ms() {
        assert_eq!(after(&[]), SLOW_MIN);
        assert_eq!(after(&[1; 10]), SLOW_MIN);
        assert_eq!(after(&[100; 10]), Duration::from_millis(400));
    }

    #[test]
    fn one_late_answer_is_no_habit_and_a_dozen_are() {
        assert!(after(&[[20; 12].as_slice(), &[400]].concat()) < Duration::from_millis(300));
        assert!(after(&[[20; 12].as_slice(), &[200; 12]].concat()) > Duration::from_millis(600));
    }

    #[test]
    fn waiting_saves_nothing_when_answers_come_after_the_commit() {
        assert_eq!(after(&[1100; 10]), Duration::ZERO);
    }
}

//! How fast a reader usually answers, and when it counts as slow.
//!
//! A message is safe when its reader has acknowledged it or when it is on disk. While the reader answers as usual its answer is waited for, and nothing
//! is written; once its oldest message is older than [`Pace::patience`], whoever waits for a message behind it is told by the disk.
//!
//! Of the answers of one round trip the first counts, and none for more than the patience of then: a reader that is silent for a while and then
//! answers everything at once is as fast as before.

use std::time::Duration;

use crate::tag::BootNs;

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
    /// When an answer counted last: those to what was sent before say nothing new.
    counted_at: BootNs,
}

impl Pace {
    /// A message that was sent then is answered now.
    pub fn answered(&mut self, now: BootNs, sent: BootNs) {
        let took = now.since(sent);
        let Some(usual) = self.usual else {
            (self.usual, self.counted_at) = (Some(took), now);
            return;
        };
        if sent < self.counted_at {
            return;
        }
        let took = took.min(Self::patience_of(usual));
        self.usual = Some((usual.saturating_mul(SMOOTHING - 1).saturating_add(took)) / SMOOTHING);
        self.counted_at = now;
    }

    /// How old the oldest message may become before its reader counts as slow. A reader whose answers come after rows are written anyway
    /// counts as slow at once: waiting for it saves nothing.
    #[must_use]
    pub fn patience(&self, commit_interval: Duration) -> Duration {
        match self.usual {
            None => SLOW_MIN,
            Some(usual) if usual >= commit_interval => Duration::ZERO,
            Some(usual) => Self::patience_of(usual),
        }
    }

    fn patience_of(usual: Duration) -> Duration {
        usual.saturating_mul(SLOW_TIMES).max(SLOW_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    /// Messages one after the other, each answered after so long.
    fn after(answers_ms: &[u64]) -> Duration {
        let (mut pace, mut now) = (Pace::default(), BootNs(0));
        for ms in answers_ms {
            let sent = now;
            now = now.plus(Duration::from_millis(*ms));
            pace.answered(now, sent);
        }
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
    fn a_silence_that_ends_with_a_hundred_answers_at_once_is_no_habit() {
        let (mut pace, ms) = (Pace::default(), |ms: u64| BootNs(ms * 1_000_000));
        for now in 0..20 {
            pace.answered(ms(now * 10 + 5), ms(now * 10));
        }
        for sent in 200..300 {
            pace.answered(ms(60_000), ms(sent));
        }
        assert_eq!(pace.patience(INTERVAL), SLOW_MIN);
    }

    #[test]
    fn waiting_saves_nothing_when_answers_come_after_the_commit() {
        assert_eq!(after(&[1100; 10]), Duration::ZERO);
    }
}

//! How fast a reader usually answers, and when it counts as slow.
//!
//! A message is safe when its reader has acknowledged it or when it is on disk. While the reader answers as usual its answer is waited for, and nothing
//! is written; once its oldest message is older than [`Pace::patience`], whoever waits for a message behind it is told by the disk.
//!
//! A silence is no habit: of the answers to what was sent before it ended the first counts, and for no more than the patience of then. A reader that
//! answers a hundred messages at once after a minute would otherwise count as one that takes a minute, and the next silence would cost its publishers
//! the commit interval. For the same reason an answer says nothing when a message that was sent later has been answered before.

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
    /// When it answered last.
    answered_at: BootNs,
    /// Answers to what was sent before say nothing: when its last silence ended, or the latest message that it has answered was sent.
    counts_from: BootNs,
}

impl Pace {
    /// A message that was sent then is answered now.
    pub fn answered(&mut self, now: BootNs, sent: BootNs) {
        let took = now.since(sent);
        let usual = self.usual.unwrap_or(took);
        let limit = patience(usual);
        let silent = self.usual.is_some() && now.since(self.answered_at.max(sent)) > limit;
        self.answered_at = now;
        if sent < self.counts_from {
            return;
        }
        self.counts_from = if silent { now } else { sent };
        let counted = if silent { limit } else { took };
        self.usual = Some((usual.saturating_mul(SMOOTHING - 1).saturating_add(counted)) / SMOOTHING);
    }

    /// How old the oldest message may become before its reader counts as slow. A reader whose answers come after rows are written anyway
    /// counts as slow at once: waiting for it saves nothing.
    #[must_use]
    pub fn patience(&self, commit_interval: Duration) -> Duration {
        match self.usual {
            None => SLOW_MIN,
            Some(usual) if usual >= commit_interval => Duration::ZERO,
            Some(usual) => patience(usual),
        }
    }
}

fn patience(usual: Duration) -> Duration {
    usual.saturating_mul(SLOW_TIMES).max(SLOW_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    /// Messages one after the other, each sent when the one before was answered.
    fn after(answers_ms: &[u64]) -> Duration {
        let (mut pace, mut now) = (Pace::default(), BootNs(0));
        for ms in answers_ms {
            let sent = now;
            now = sent.plus(Duration::from_millis(*ms));
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
    fn waiting_saves_nothing_when_answers_come_after_the_commit() {
        assert_eq!(after(&[1100; 10]), Duration::ZERO);
    }

    #[test]
    fn a_silence_that_ends_with_a_hundred_answers_at_once_is_no_habit() {
        let (mut pace, at) = (Pace::default(), |ms: u64| BootNs(ms * 1_000_000));
        (0..20).for_each(|n| pace.answered(at(n * 10 + 5), at(n * 10)));
        (200..300).for_each(|sent| pace.answered(at(60_000), at(sent)));
        assert_eq!(pace.patience(INTERVAL), SLOW_MIN);
    }

    #[test]
    fn an_answer_that_comes_after_those_to_later_messages_is_no_habit() {
        let (mut pace, at) = (Pace::default(), |ms: u64| BootNs(ms * 1_000_000));
        (0..20).for_each(|n| pace.answered(at(n * 10 + 5), at(n * 10)));
        // What was sent in a minute of silence is answered last, and one by one.
        pace.answered(at(60_005), at(60_000));
        (1..=100).for_each(|n| pace.answered(at(60_005 + n * 30), at(200 + n)));
        assert_eq!(pace.patience(INTERVAL), SLOW_MIN);
    }

    #[test]
    fn a_reader_that_takes_its_time_with_each_of_a_full_window_is_not_silent() {
        let (mut pace, at) = (Pace::default(), |ms: u64| BootNs(ms * 1_000_000));
        (0..20).for_each(|n| pace.answered(at(n * 10 + 5), at(n * 10)));
        // Twenty at once, and it needs 20 ms for each: the last is answered after 400 ms.
        (1..=20).for_each(|n| pace.answered(at(1000 + n * 20), at(1000)));
        assert!(pace.patience(INTERVAL) > Duration::from_millis(400));
    }
}

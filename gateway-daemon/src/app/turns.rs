//! How long the core loop is busy at once, in processor time of its thread: what others on the machine take is no fault of ours.
//!
//! A turn is everything between two waits of the loop. One in which the loop waited for something itself (a reload, the end) is not measured: other tasks
//! of the thread have run meanwhile. Asking for the processor time of a thread is a call of the kernel, so it is asked every [`SAMPLE`] and at the end of turns
//! that took long by the clock: what is measured may be too much by what the thread did in one such interval before, and is never too little.

use std::time::Duration;

use gateway_core::tag::BootNs;

/// How far back the shorter of the two figures looks, between this and twice this.
const WINDOW: Duration = Duration::from_secs(60);

/// How old a reading of the processor time may be when a turn begins.
const SAMPLE: Duration = Duration::from_millis(2);

/// A turn that took less by the clock is short enough.
const SHORT: Duration = Duration::from_millis(1);

/// The longest turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    began: Option<BootNs>,
    /// Processor time of the thread, and when that was read.
    sample: Option<(BootNs, Duration)>,
    longest: Duration,
    /// In this window and in the one before.
    windows: [Duration; 2],
    window_ends: Option<BootNs>,
}

impl Turns {
    /// A turn begins.
    pub(super) fn begin(&mut self, now: BootNs) {
        self.began = Some(now);
        if self.sample.is_none_or(|(at, _)| now.since(at) >= SAMPLE) {
            self.sample = Some((now, processor_time()));
        }
    }

    /// This one does not count.
    pub(super) fn forget(&mut self) {
        self.began = None;
    }

    /// The turn ends.
    pub(super) fn end(&mut self, now: BootNs) {
        let Some(began) = self.began.take() else { return };
        let mut took = now.since(began);
        if took >= SHORT {
            let read = processor_time();
            let worked = self.sample.map_or(took, |(_, before)| read.saturating_sub(before));
            took = took.min(worked);
            self.sample = Some((now, read));
        }
        self.note(now, took);
    }

    fn note(&mut self, now: BootNs, took: Duration) {
        self.pass(now);
        self.longest = self.longest.max(took);
        self.windows[0] = self.windows[0].max(took);
    }

    /// Ends windows that are over.
    fn pass(&mut self, now: BootNs) {
        let ends = *self.window_ends.get_or_insert(now.plus(WINDOW));
        if now >= ends {
            let next = now >= ends.plus(WINDOW);
            self.windows = [Duration::ZERO, if next { Duration::ZERO } else { self.windows[0] }];
            self.window_ends = Some(now.plus(WINDOW));
        }
    }

    /// The longest since the start.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// The longest of the last minute or two.
    pub(super) fn longest_lately(&self) -> Duration {
        self.windows[0].max(self.windows[1])
    }
}

/// Processor time of this thread so far.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> BootNs {
        BootNs(s * 1_000_000_000)
    }

    #[test]
    fn the_longest_turn_stays_and_the_longest_of_lately_passes() {
        let mut turns = Turns::default();
        let ms = Duration::from_millis;
        turns.note(at(0), ms(5));
        turns.note(at(10), ms(40));
        turns.note(at(20), ms(1));
        assert_eq!((turns.longest(), turns.longest_lately()), (ms(40), ms(40)));
        turns.note(at(65), ms(2));
        assert_eq!(turns.longest_lately(), ms(40), "a minute ago at most two");
        turns.note(at(130), ms(3));
        assert_eq!((turns.longest(), turns.longest_lately()), (ms(40), ms(3)));
        turns.note(at(1000), ms(1));
        assert_eq!(turns.longest_lately(), ms(1));
    }

    #[test]
    fn a_turn_that_waited_is_not_measured_and_one_that_worked_is() {
        let mut turns = Turns::default();
        turns.begin(at(0));
        turns.forget();
        turns.end(at(1));
        assert_eq!(turns.longest(), Duration::ZERO);
        turns.begin(at(1));
        let sum = (0..100_000_u64).fold(0, |sum: u64, n| std::hint::black_box(sum.wrapping_add(n)));
        assert!(sum > 0);
        // A minute by the clock, in which the thread was hardly at work.
        turns.end(at(61));
        assert!(turns.longest() > Duration::ZERO && turns.longest() < Duration::from_secs(50));
    }
}

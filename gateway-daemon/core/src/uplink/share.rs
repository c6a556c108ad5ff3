//! How the window is divided while there is a backlog: never less than half for the backlog, always a reserve for fresh rows.
//!
//! The backlog's share grows by one slot per acknowledged share while acknowledgements come as fast as they can, and shrinks by an eighth when
//! they come late, because then the backlog fills a queue somewhere on the way in which fresh rows have to wait too.

use std::time::Duration;

use super::mutant::{Faults, Mutant};
use super::queue::Lane;

/// Acknowledgements slower than this and than twice the fastest are late: a person watching live values sees no delay below it.
const LATE_MIN: Duration = Duration::from_millis(250);

/// Division of one connection's window.
#[derive(Debug, Clone)]
pub(super) struct Share {
    window: usize,
    /// Slots the backlog may use.
    backlog: usize,
    /// Fastest acknowledgement of this connection.
    fastest: Option<Duration>,
    /// Acknowledgements in time since the last step.
    in_time: usize,
    /// Acknowledgements to wait for before the share shrinks again: those under way were sent before the last step.
    settle: usize,
    /// With a window of one: whose turn it is.
    last: Lane,
}

impl Share {
    pub(super) fn new(window: u16) -> Self {
        let window = usize::from(window.max(1));
        let mut share =
            Self { window, backlog: 0, fastest: None, in_time: 0, settle: 0, last: Lane::Backlog };
        share.backlog = share.floor();
        share
    }

    /// Slots for the backlog at least: half, rounded up.
    fn floor(&self) -> usize {
        self.window.div_ceil(2)
    }

    /// Slots for the backlog at most: all but a tenth, at least one, for fresh rows.
    fn ceiling(&self) -> usize {
        (self.window - (self.window / 10).max(1)).max(self.floor()).min(self.window.saturating_sub(1).max(1))
    }

    /// The lane whose row is sent next, given what is in flight and what waits. `backlog_exists` keeps the backlog's half free while
    /// its rows are still being read from disk.
    pub(super) fn pick(&mut self, flight: Lanes, waiting: Waiting, faults: Faults) -> Option<Lane> {
        let total = flight.live + flight.backlog;
        if total >= self.window {
            return None;
        }
        if faults.has(Mutant::StarveLive) && waiting.backlog_exists {
            return waiting.backlog.then_some(Lane::Backlog);
        }
        if faults.has(Mutant::StarveBacklog) && waiting.live {
            return Some(Lane::Live);
        }
        let kept_free = if waiting.backlog_exists { self.floor() } else { 0 };
        let mut live = waiting.live && flight.live < (self.window - kept_free).max(1);
        let backlog = waiting.backlog && flight.backlog < self.backlog;
        if self.window == 1 && live && waiting.backlog {
            // One slot for both: they take turns. A backlog that is still on disk misses its turn, because that disk may be broken.
            live = self.last == Lane::Backlog;
        }
        let lane = if live { Some(Lane::Live) } else { backlog.then_some(Lane::Backlog) };
        if let Some(lane) = lane {
            self.last = lane;
        }
        lane
    }

    /// Learns from the time between a send and its acknowledgement.
    pub(super) fn acknowledged(&mut self, latency: Duration) {
        let fastest = self.fastest.map_or(latency, |fastest| fastest.min(latency));
        self.fastest = Some(fastest);
        let late = latency > LATE_MIN && latency > fastest.saturating_mul(2);
        self.settle = self.settle.saturating_sub(1);
        if late && self.settle == 0 {
            let step = (self.backlog / 8).max(1);
            self.backlog = self.backlog.saturating_sub(step).max(self.floor());
            self.settle = self.window;
            self.in_time = 0;
        } else if !late {
            self.in_time += 1;
            if self.in_time >= self.backlog {
                self.in_time = 0;
                self.backlog = (self.backlog + 1).min(self.ceiling());
            }
        }
    }
}

/// Rows in flight per lane.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lanes {
    pub(super) live: usize,
    pub(super) backlog: usize,
}

impl Lanes {
    pub(super) fn of(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        }
    }
}

/// What waits to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) live: bool,
    pub(super) backlog: bool,
    pub(super) backlog_exists: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::*;

    const ALL: Waiting = Waiting { live: true, backlog: true, backlog_exists: true };

    fn fill(share: &mut Share, waiting: Waiting) -> Lanes {
        let mut flight = Lanes::default();
        while let Some(lane) = share.pick(flight, waiting, Faults::default()) {
            *flight.of(lane) += 1;
        }
        flight
    }

    #[test]
    fn live_and_backlog_each_get_half_of_a_window_that_both_want() {
        for window in [2, 3, 10, 100, 1000] {
            let flight = fill(&mut Share::new(window), ALL);
            assert!(flight.backlog >= usize::from(window) / 2, "window {window}: {flight:?}");
            assert!(flight.live >= 1, "window {window}: {flight:?}");
        }
    }

    #[test]
    fn a_window_of_one_is_shared_in_turns() {
        let mut share = Share::new(1);
        let turns: Vec<_> = (0..4).map(|_| share.pick(Lanes::default(), ALL, Faults::default())).collect();
        assert_eq!(turns, [Lane::Live, Lane::Backlog, Lane::Live, Lane::Backlog].map(Some));
        let unreadable = Waiting { live: true, backlog: false, backlog_exists: true };
        for _ in 0..3 {
            assert_eq!(share.pick(Lanes::default(), unreadable, Faults::default()), Some(Lane::Live));
        }
    }

    #[test]
    fn the_backlog_never_takes_the_reserve_of_live_rows() {
        let mut share = Share::new(100);
        for _ in 0..10_000 {
            share.acknowledged(Duration::from_millis(20));
        }
        assert_eq!(share.backlog, 90);
        let flight = fill(&mut share, Waiting { live: false, ..ALL });
        assert_eq!((flight.live, flight.backlog), (0, 90));
    }

    #[test]
    fn late_acknowledgements_shrink_the_share_to_half_and_no_further() {
        let mut share = Share::new(100);
        share.acknowledged(Duration::from_millis(20));
        for _ in 0..10_000 {
            share.acknowledged(Duration::from_secs(2));
        }
        assert_eq!(share.backlog, 50);
    }

    proptest! {
        #[test]
        fn the_share_stays_between_half_and_all_but_the_reserve(
            window in 1_u16..=1000,
            latencies in prop::collection::vec(any::<u32>(), 0..300),
        ) {
            let mut share = Share::new(window);
            for latency in latencies {
                share.acknowledged(Duration::from_micros(u64::from(latency)));
                prop_assert!(share.backlog >= usize::from(window).div_ceil(2).min(usize::from(window)));
                prop_assert!(window == 1 || share.backlog < usize::from(window));
            }
        }
    }
}

//! Whether every room of the gateway goes round: what the watchdog is fed for.
//!
//! Pure: a look is given a sign of each room, and tells which one has shown no progress for longer than its bound while it had something to do. Silence of
//! a device, a slow disk or a cloud that is away are no such thing: a bus task comes round after its longest timeout, the store's writer answers
//! with a fault, a link has timeouts of its own. The bounds are far beyond all of these.
//!
//! Time in which nobody looked does not count: after a suspend, or when the core loop itself was held up (then the watchdog was not fed anyway), every room
//! gets its whole bound again. Bounded by the rooms of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_core::tag::BootNs;

/// Beyond the longest timeouts of a bus: opening a port, writing into a full one (5 s), a report (0.5 s), and the scheduling of a busy machine.
pub(super) const LINE_GUARD: Duration = Duration::from_secs(60);
/// For one transaction. A damaged database of the largest default size (256 MB) is copied within it from a card that does 1 MB/s; a disk that takes longer
/// does not come back without a restart.
pub(super) const STORE_MAX: Duration = Duration::from_secs(900);
/// For a task that has ended: what it said last may still be on its way.
pub(super) const ENDED_MAX: Duration = Duration::from_secs(60);
/// Between two looks; beyond that nobody has looked.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// What a room shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sign {
    /// Which room, for a person: `bus rs485-1`.
    pub room: String,
    /// Whether it has anything to do, so that its mark has to change.
    pub busy: bool,
    /// Changes whenever it goes round.
    pub mark: u64,
    /// How long its mark may stay the same.
    pub bound: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    mark: u64,
    since: BootNs,
}

/// What was seen of the rooms.
#[derive(Debug, Default)]
pub(super) struct Progress {
    seen: BTreeMap<String, Seen>,
    looked: BootNs,
}

impl Progress {
    /// Takes a look: the room that is stuck, and for how long it has not gone round.
    pub(super) fn look(
        &mut self,
        now: BootNs,
        signs: impl IntoIterator<Item = Sign>,
    ) -> Option<(String, Duration)> {
        if now.since(self.looked) > LOOK_MAX {
            self.seen.clear();
        }
        self.looked = now;
        let mut stuck = None;
        let mut seen = BTreeMap::new();
        for Sign { room, busy, mark, bound } in signs {
            let before = self.seen.get(&room).filter(|before| busy && before.mark == mark);
            let since = before.map_or(now, |before| before.since);
            let silent = now.since(since);
            if silent > bound && stuck.is_none() {
                stuck = Some((room.clone(), silent));
            }
            seen.insert(room, Seen { mark, since });
        }
        self.seen = seen;
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootNs {
        BootNs(seconds * 1_000_000_000)
    }

    fn sign(room: &str, busy: bool, mark: u64, bound: Duration) -> Sign {
        Sign { room: room.into(), busy, mark, bound }
    }

    /// Looks once a second for so long; the first second in which something was stuck.
    fn first(seconds: u64, sign: impl Fn(u64) -> Sign) -> Option<u64> {
        let mut progress = Progress::default();
        (0..seconds).find(|second| progress.look(at(*second), [sign(*second)]).is_some())
    }

    #[test]
    fn a_room_that_goes_round_is_never_stuck() {
        assert_eq!(first(10_000, |second| sign("bus a", true, second / 50, LINE_GUARD)), None);
    }

    #[test]
    fn a_bus_that_does_not_come_round_is_stuck_after_its_bound() {
        assert_eq!(first(1000, |_| sign("bus a", true, 7, LINE_GUARD)), Some(61));
        let halts = |second: u64| sign("bus a", true, second.min(100), LINE_GUARD);
        assert_eq!(first(1000, halts), Some(161));
    }

    #[test]
    fn a_disk_is_waited_for_and_one_that_answers_nothing_for_a_quarter_of_an_hour_is_stuck() {
        let slow = |second: u64| sign("store", true, second / 600, STORE_MAX);
        assert_eq!(first(10_000, slow), None);
        assert_eq!(first(10_000, |_| sign("store", true, 1, STORE_MAX)), Some(901));
    }

    #[test]
    fn a_room_without_anything_to_do_may_rest_for_ever() {
        assert_eq!(first(100_000, |_| sign("store", false, 1, STORE_MAX)), None);
    }

    #[test]
    fn rest_does_not_count_when_there_is_something_to_do_again() {
        let busy = |second: u64| sign("store", second >= 5000, 1, STORE_MAX);
        assert_eq!(first(10_000, busy), Some(5900));
    }

    #[test]
    fn a_task_that_has_ended_is_stuck_and_one_that_is_started_again_in_time_is_not() {
        assert_eq!(first(1000, |_| sign("uplink a", true, 0, ENDED_MAX)), Some(61));
        let again = |second: u64| sign("uplink a", second % 100 < 50, 0, ENDED_MAX);
        assert_eq!(first(1000, again), None);
    }

    #[test]
    fn a_suspended_machine_finds_nobody_stuck_when_it_wakes() {
        let mut progress = Progress::default();
        assert_eq!(progress.look(at(1), [sign("bus a", true, 7, LINE_GUARD)]), None);
        for second in 8000..8060 {
            assert_eq!(progress.look(at(second), [sign("bus a", true, 7, LINE_GUARD)]), None);
        }
        assert!(progress.look(at(8061), [sign("bus a", true, 7, LINE_GUARD)]).is_some());
    }

    #[test]
    fn one_stuck_room_among_many_is_named() {
        let mut progress = Progress::default();
        let look = |progress: &mut Progress, second: u64| {
            let signs = ["a", "b", "c"].map(|name| {
                sign(&format!("bus {name}"), true, if name == "b" { 0 } else { second }, LINE_GUARD)
            });
            progress.look(at(second), signs)
        };
        let found: Vec<_> = (0..62).filter_map(|second| look(&mut progress, second)).collect();
        assert_eq!(found, [("bus b".to_owned(), Duration::from_secs(61))]);
    }

    #[test]
    fn a_room_that_is_gone_is_forgotten() {
        let mut progress = Progress::default();
        progress.look(at(0), [sign("bus a", true, 7, LINE_GUARD)]);
        progress.look(at(1), []);
        for second in 2..62 {
            assert_eq!(progress.look(at(second), [sign("bus a", true, 7, LINE_GUARD)]), None);
        }
    }
}

//! What is known about wall time: the beginning of each boot, from the store's history and from the running clock.
//!
//! Bounded by [`BOOTS_MAX`]; the oldest boot goes first. Never guesses: a boot whose clock was never trusted has no wall time.

use std::collections::BTreeMap;

use gateway_core::tag::{BootId, BootNs, WallClock, WallMs};
use gateway_core::uplink::queue::Queue;

/// Most boots remembered; the store keeps rows of far fewer.
pub(super) const BOOTS_MAX: usize = 256;

/// A step of the trusted clock below this is drift that NTP is slewing away and not worth a new history entry.
const DRIFT_MAX_MS: i64 = 500;

/// Wall times of boots.
#[derive(Debug, Clone, Default)]
pub(super) struct WallTimes {
    boots: BTreeMap<BootId, WallMs>,
}

impl WallTimes {
    /// Starts with what the store remembers.
    #[must_use]
    pub(super) fn new(history: impl IntoIterator<Item = (BootId, WallMs)>) -> Self {
        Self { boots: history.into_iter().take(BOOTS_MAX).collect() }
    }

    /// Takes a look at the trusted clock: `wall` is the wall time at `now` of boot `boot`. Returns the beginning of the boot if that is
    /// news: the first time, or because somebody set the clock.
    pub(super) fn observe(&mut self, boot: BootId, now: BootNs, wall: WallMs) -> Option<WallMs> {
        let began = WallMs(wall.0.saturating_sub(i64::try_from(now.ms()).unwrap_or(i64::MAX)));
        let known = self.boots.get(&boot).copied();
        if known.is_some_and(|known| known.0.saturating_sub(began.0).saturating_abs() < DRIFT_MAX_MS) {
            return None;
        }
        if known.is_none() && self.boots.len() >= BOOTS_MAX {
            let oldest = self.boots.iter().min_by_key(|(_, wall)| wall.0).map(|(boot, _)| *boot);
            oldest.and_then(|boot| self.boots.remove(&boot));
        }
        self.boots.insert(boot, began);
        Some(began)
    }

    /// How long before the present boot another boot began, if both are known.
    #[must_use]
    fn began_before(&self, earlier: BootId, present: BootId) -> Option<std::time::Duration> {
        let ms = self.boots.get(&present)?.0.checked_sub(self.boots.get(&earlier)?.0)?;
        u64::try_from(ms).ok().map(std::time::Duration::from_millis)
    }

    /// Tells a queue how long before the present boot the others began.
    pub(super) fn tell(&self, present: BootId, queue: &mut Queue) {
        for boot in self.boots() {
            if let Some(before) = self.began_before(boot, present) {
                queue.boot_began(boot, before);
            }
        }
    }

    /// Every boot that is known.
    fn boots(&self) -> impl Iterator<Item = BootId> + '_ {
        self.boots.keys().copied()
    }
}

impl WallClock for WallTimes {
    fn boot_wall(&self, boot: BootId) -> Option<WallMs> {
        self.boots.get(&boot).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: BootId = BootId(7);
    const SECOND: BootNs = BootNs(1_000_000_000);

    #[test]
    fn an_unknown_boot_has_no_wall_time() {
        assert_eq!(WallTimes::default().boot_wall(BOOT), None);
    }

    #[test]
    fn the_first_trusted_look_repairs_the_whole_boot() {
        let mut times = WallTimes::default();
        assert_eq!(times.observe(BOOT, SECOND, WallMs(1_700_000_001_000)), Some(WallMs(1_700_000_000_000)));
        assert_eq!(times.boot_wall(BOOT), Some(WallMs(1_700_000_000_000)));
    }

    #[test]
    fn drift_is_no_news_and_a_set_clock_is() {
        let mut times = WallTimes::new([(BOOT, WallMs(1_000_000))]);
        assert_eq!(times.observe(BOOT, SECOND, WallMs(1_001_499)), None);
        assert_eq!(times.observe(BOOT, SECOND, WallMs(5_001_000)), Some(WallMs(5_000_000)));
    }

    #[test]
    fn old_boots_make_room_for_the_present_one() {
        let history = (0..BOOTS_MAX as u64).map(|n| (BootId(100 + n), WallMs(1000 + n as i64)));
        let mut times = WallTimes::new(history);
        assert!(times.observe(BOOT, SECOND, WallMs(9_000_000)).is_some());
        assert_eq!(times.boot_wall(BootId(100)), None);
        assert_eq!(times.boots().count(), BOOTS_MAX);
    }
}

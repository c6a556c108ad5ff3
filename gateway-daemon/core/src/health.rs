//! How the gateway tells how its buses and devices are: on which topics, and how often.
//!
//! The first change is told at once. What goes on changing is told less and less often, from [`PAUSE_MIN`] to [`PAUSE_MAX`], and always as it is by then; what
//! has held for [`QUIET`] is told at once again. So a device that comes and goes costs a slow line some twenty messages in the first hour and twelve in each further one, and none of its changes that
//! last is told late by more than a few minutes.

use std::time::Duration;

use crate::tag::{BootNs, Name};

/// Least time between two tellings.
pub const PAUSE_MIN: Duration = Duration::from_secs(2);
/// Most time between two tellings of something that goes on changing.
pub const PAUSE_MAX: Duration = Duration::from_secs(300);
/// What has not changed for so long has come to rest.
pub const QUIET: Duration = Duration::from_secs(600);

/// The topic on which the gateway tells how a bus is.
#[must_use]
pub fn bus_topic(gateway: &str, bus: &str) -> String {
    format!("{gateway}/health/bus/{bus}")
}

/// The topic on which the gateway tells how a device is.
#[must_use]
pub fn device_topic(gateway: &str, device: &str) -> String {
    format!("{gateway}/health/device/{device}")
}

/// Whether it is the topic of a bus or a device of this gateway, of whatever name.
#[must_use]
pub fn is_topic(gateway: &str, topic: &str) -> bool {
    let below = topic.strip_prefix(gateway).and_then(|rest| rest.strip_prefix("/health/"));
    let name = below.and_then(|rest| rest.strip_prefix("bus/").or_else(|| rest.strip_prefix("device/")));
    name.is_some_and(|name| Name::new(name).is_ok())
}

/// Something that is told when it changes.
#[derive(Debug, Clone)]
pub struct Told<T> {
    told: Option<(BootNs, T)>,
    pause: Duration,
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self { told: None, pause: PAUSE_MIN }
    }
}

impl<T: PartialEq> Told<T> {
    /// Whether `present` is to be told now; then it counts as told.
    pub fn tell(&mut self, now: BootNs, present: T) -> bool {
        if let Some((at, told)) = &self.told {
            let rested = now.since(*at) >= QUIET;
            if *told == present || now < at.plus(self.pause) {
                return false;
            }
            self.pause = if rested { PAUSE_MIN } else { self.pause.saturating_mul(2).min(PAUSE_MAX) };
        }
        self.told = Some((now, present));
        true
    }

    /// What was told last.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.told.as_ref().map(|(_, told)| told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootNs {
        BootNs(seconds * 1_000_000_000)
    }

    /// Looks once a second; when something was told, and what.
    fn tellings(seconds: std::ops::Range<u64>, state: impl Fn(u64) -> u64) -> Vec<(u64, u64)> {
        let mut told = Told::default();
        seconds
            .filter(|second| told.tell(at(*second), state(*second)))
            .map(|second| (second, state(second)))
            .collect()
    }

    #[test]
    fn a_change_is_told_at_once_and_only_once() {
        assert_eq!(tellings(0..5000, |second| u64::from(second >= 1000)), [(0, 0), (1000, 1)]);
    }

    #[test]
    fn what_changes_and_changes_back_before_it_could_be_told_is_not_told() {
        assert_eq!(tellings(0..100, |second| u64::from(second == 1)), [(0, 0)]);
    }

    #[test]
    fn a_device_that_comes_and_goes_is_told_a_dozen_times_an_hour_and_in_the_end_as_it_is() {
        let flaps = |second: u64| if second < 36_000 { second / 3 % 2 } else { 7 };
        let told = tellings(0..40_000, flaps);
        assert!((100..150).contains(&told.len()), "{}", told.len());
        let first_hour = told.iter().filter(|(second, _)| *second < 3600).count();
        assert!(first_hour <= 22, "{first_hour}");
        let last = told.last().copied().unwrap();
        assert!(last.1 == 7 && last.0 < 36_000 + 300, "{last:?}");
    }

    #[test]
    fn what_has_come_to_rest_is_told_at_once_again() {
        let state = |second: u64| {
            if second < 2000 { second / 3 % 2 } else { u64::from(second >= 4000) + u64::from(second >= 4005) }
        };
        let told: Vec<_> =
            tellings(0..5000, state).into_iter().filter(|(second, _)| *second >= 3000).collect();
        assert_eq!(told, [(4000, 1), (4005, 2)]);
    }
}

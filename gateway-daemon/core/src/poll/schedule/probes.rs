//! How much of a bus's time goes to dead devices.
//!
//! After a probe that took `t`, no other begins before `t / share` has passed since it began. So over any stretch of
//! time the probes take at most their share plus one probe, and a long healthy time saves up no credit for a storm.

use std::time::Duration;

use crate::tag::BootNs;

/// Least share of bus time for probes, whatever the settings say: a dead device would never be found again without.
pub const PROBE_SHARE_MIN: f64 = 0.001;

/// How long a probe waits for a gap between cycles that it does not disturb, before it takes its turn anyway.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Probes {
    share: f64,
    /// No probe begins before.
    free_at: BootNs,
    /// The device whose turn it is and when it wants to be probed.
    pub(super) turn: Option<(usize, BootNs)>,
    pub(super) in_flight: bool,
    /// Whether a probe took the share the last time, and not a failing device.
    pub(super) was_probe: bool,
}

impl Probes {
    pub(super) fn new(share: f64) -> Self {
        let share = if share.is_finite() { share.clamp(PROBE_SHARE_MIN, 1.0) } else { PROBE_SHARE_MIN };
        Self { share, free_at: BootNs(0), turn: None, in_flight: false, was_probe: false }
    }

    /// Accounts for a probe, or for a failed request to a failing device, and for what was `owed` before it.
    pub(super) fn spent(&mut self, asked_at: BootNs, now: BootNs, owed: Duration) {
        let pause = now.since(asked_at).saturating_add(owed).as_secs_f64() / self.share;
        self.free_at = asked_at.plus(Duration::try_from_secs_f64(pause).unwrap_or(Duration::MAX));
    }

    /// Their share of the bus's time.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// When a request that fails may take time from others again.
    pub(super) fn free_at(&self) -> BootNs {
        self.free_at
    }

    /// Whether a probe is due and has not had the share the last time.
    pub(super) fn comes_first(&self, now: BootNs) -> bool {
        !self.was_probe && self.due().is_some_and(|(_, at)| at <= now)
    }

    /// The device whose turn it is and the earliest moment of its probe.
    pub(super) fn due(&self) -> Option<(usize, BootNs)> {
        let (device, at) = self.turn?;
        (!self.in_flight).then_some((device, at.max(self.free_at)))
    }
}

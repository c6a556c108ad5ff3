//! One device: alive, failing, or dead and probed.

use std::time::Duration;

use crate::poll::request::UnitId;
use crate::poll::settings::Device as Settings;
use crate::tag::BootNs;

use super::counters::Counters;
use super::failures::{Cause, Requests};
use super::health::{DeviceHealth, DeviceState};

/// Pause before the first probe of a dead device; doubles up to the device's `probe_max`.
pub const PROBE_PAUSE_MIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum Life {
    /// Polled. So many requests failed in a row, retries included.
    Polled { failures: u32 },
    /// Only probed; so many probes failed.
    Dead { next_probe: BootNs, pause: Duration, probes: usize },
}

/// One device of the bus.
#[derive(Debug)]
pub(super) struct Device {
    /// Index in the settings.
    pub(super) index: usize,
    pub(super) unit: UnitId,
    pub(super) timeout: Duration,
    pub(super) delay_before: Duration,
    pub(super) turnaround: Duration,
    pub(super) retries: u8,
    dead_after: u32,
    probe_max: Duration,
    /// Its groups in the schedule's own list.
    pub(super) groups: Vec<usize>,
    /// Its orders on the line.
    pub(super) in_flight: usize,
    /// Groups that wait until its only order is answered.
    pub(super) parked: Vec<usize>,
    /// Groups that wait behind all others because it is failing.
    pub(super) behind: Vec<usize>,
    /// Tries that failed since its last answer.
    pub(super) misses: u32,
    /// Time on the line of a request that it does not answer: its time-out, or longer where a gateway waits for it.
    pub(super) silence: Duration,
    /// Time on the line of a request that it answers: a moving mean. `None` before its first answer.
    pub(super) usual: Option<Duration>,
    /// Time that its first failure took.
    pub(super) owed: Duration,
    /// When it last failed.
    pub(super) failed_at: BootNs,
    life: Life,
    /// It was dead when the bus came back at this moment, and has not answered since: it is polled and still counts as dead.
    trial: Option<BootNs>,
    /// Whether the last try failed, even if a retry may still succeed.
    last_try_failed: bool,
    since: BootNs,
    last_answer: Option<BootNs>,
    last_failure: Option<Cause>,
    pub(super) counters: Counters,
}

impl Device {
    pub(super) fn new(index: usize, settings: &Settings, pause: Duration, now: BootNs) -> Self {
        Self {
            index,
            unit: settings.unit,
            timeout: settings.timeout,
            delay_before: pause.saturating_add(settings.delay_before),
            turnaround: settings.turnaround,
            retries: settings.retries,
            dead_after: settings.dead_after.max(1),
            probe_max: settings.probe_max.max(PROBE_PAUSE_MIN),
            groups: Vec::new(),
            in_flight: 0,
            parked: Vec::new(),
            behind: Vec::new(),
            misses: 0,
            silence: settings.timeout,
            usual: None,
            owed: Duration::ZERO,
            failed_at: BootNs(0),
            life: Life::Polled { failures: 0 },
            trial: None,
            last_try_failed: false,
            since: now,
            last_answer: None,
            last_failure: None,
            counters: Counters::default(),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.life, Life::Dead { .. })
    }

    /// Whether it may have several orders on the line: it has answered, and its last try did not fail.
    pub(super) fn is_trusted(&self) -> bool {
        self.last_answer.is_some() && !self.is_failing()
    }

    /// Whether its last try failed.
    pub(super) fn is_failing(&self) -> bool {
        self.last_try_failed || !matches!(self.life, Life::Polled { failures: 0 })
    }

    /// Whether its next failure gives it up, and is not the one chance that it gets when its bus comes back.
    pub(super) fn is_last_chance(&self) -> bool {
        let Life::Polled { failures } = self.life else { return false };
        self.trial.is_none() && failures.saturating_add(1) >= self.dead_after
    }

    /// When it wants to be probed, if it is dead.
    pub(super) fn next_probe(&self) -> Option<BootNs> {
        match self.life {
            Life::Dead { next_probe, .. } => Some(next_probe),
            Life::Polled { .. } => None,
        }
    }

    /// How many probes failed since it died.
    pub(super) fn probes(&self) -> usize {
        match self.life {
            Life::Dead { probes, .. } => probes,
            Life::Polled { .. } => 0,
        }
    }

    /// It answered after so long.
    pub(super) fn took(&mut self, time: Duration) {
        self.usual =
            Some(self.usual.map_or(time, |usual| (usual.saturating_mul(7).saturating_add(time)) / 8));
    }

    /// It answered. True if it was dead.
    pub(super) fn answered(&mut self, now: BootNs) -> bool {
        let was_dead = self.trial.take().is_some() || self.is_dead();
        // A try that a retry made good is no failure. One that is dead is polled without a failure after its bus came back if the first one kills it.
        if was_dead || !matches!(self.life, Life::Polled { failures: 0 }) {
            self.since = now;
        }
        self.last_answer = Some(now);
        (self.last_try_failed, self.misses) = (false, 0);
        self.life = Life::Polled { failures: 0 };
        if was_dead {
            self.counters.recoveries += 1;
        }
        was_dead
    }

    /// One try failed; a retry may follow.
    pub(super) fn missed(&mut self, cause: Cause, now: BootNs) {
        self.last_try_failed = true;
        self.failed_at = now;
        self.misses = self.misses.saturating_add(1);
        self.last_failure = Some(cause);
    }

    /// A request failed with all its retries. True if it is given up by that.
    pub(super) fn failed(&mut self, now: BootNs) -> bool {
        let Life::Polled { failures } = self.life else { return false };
        let failures = failures.saturating_add(1);
        if failures < self.dead_after {
            self.life = Life::Polled { failures };
            return false;
        }
        self.life = Life::Dead { next_probe: now.plus(PROBE_PAUSE_MIN), pause: PROBE_PAUSE_MIN, probes: 0 };
        if self.trial.take().is_none() {
            self.since = now;
            self.counters.deaths += 1;
        }
        true
    }

    /// A probe failed: the next one waits twice as long.
    pub(super) fn probe_failed(&mut self, now: BootNs) {
        if let Life::Dead { pause, probes, .. } = self.life {
            let pause = pause.saturating_mul(2).min(self.probe_max);
            self.life = Life::Dead { next_probe: now.plus(pause), pause, probes: probes.wrapping_add(1) };
        }
    }

    /// The bus came back: whoever was dead gets one chance, for a cable may have been mended. Until it answers it counts as dead.
    pub(super) fn bus_up(&mut self, now: BootNs) {
        self.last_try_failed = false;
        if self.is_dead() || self.trial.is_some() {
            self.trial = Some(now);
            self.last_try_failed = true;
            self.life = Life::Polled { failures: self.dead_after - 1 };
        } else {
            self.since = now;
        }
    }

    /// Why its last try failed.
    pub(super) fn last_failure(&self) -> Option<Cause> {
        self.last_failure
    }

    pub(super) fn health(&self, requests: Requests) -> DeviceHealth<'_> {
        let state = match (self.life, self.trial) {
            (Life::Dead { next_probe, .. }, _) | (Life::Polled { .. }, Some(next_probe)) => {
                DeviceState::Dead { next_probe }
            }
            (Life::Polled { failures }, None) if failures > 0 || self.last_try_failed => {
                DeviceState::Failing { failures }
            }
            (Life::Polled { .. }, None) if self.last_answer.is_none() => DeviceState::Unknown,
            (Life::Polled { .. }, None) => DeviceState::Alive,
        };
        DeviceHealth {
            device: self.index,
            state,
            since: self.since,
            last_answer: self.last_answer,
            last_failure: self.last_failure,
            requests,
            counters: &self.counters,
        }
    }
}

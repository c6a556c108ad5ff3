//! Time that the polls of those who answer leave on the line.
//!
//! A request to a failing device may hold the line for its whole time-out. Where everybody who answers is still asked within the interval afterwards, that makes
//! polls late and costs nobody a value, so it need not wait for the share of dead devices: a device that lost one answer to noise is back
//! within a moment, whoever else is dying. What such requests take is at most half of what is left over: the rest works off what they have made late.

use std::time::Duration;

use crate::tag::BootNs;

use super::Schedule;
use super::device::Device;
use super::group::Group;

/// Share of what is left over that such requests may take.
const PART: f64 = 0.5;

impl Schedule {
    /// Groups of devices that answer which sleep until they are due, with that moment.
    pub(super) fn sleepers(&self) -> impl Iterator<Item = (BootNs, &Group)> {
        self.asleep.iter().filter_map(|entry| {
            let (at, index, nap) = entry.0;
            let group = &self.groups[index];
            (group.nap == nap && answers(&self.devices[group.device])).then_some((at, group))
        })
    }

    /// Whether everybody who answers is still asked within the interval if a request to this device takes its whole time-out from now on.
    pub(super) fn costs_no_poll(&self, own: usize, now: BootNs) -> bool {
        if !self.ready.is_empty() || now < self.slack_at {
            return false;
        }
        let mut sleepers: Vec<_> = self.sleepers().collect();
        sleepers.sort_unstable_by_key(|(at, _)| *at);
        let mut free = now.plus(self.devices[own].silence);
        for (at, group) in sleepers {
            if at >= free {
                break;
            }
            free = free.plus(self.usual(group));
            if free > group.one_interval_after(at) {
                return false;
            }
        }
        true
    }

    /// Such a request has failed: the next one waits until it is worth its time.
    pub(super) fn took_slack(&mut self, asked_at: BootNs, now: BootNs) {
        let polled = self.groups.iter().filter(|group| answers(&self.devices[group.device]));
        let load: f64 =
            polled.map(|group| self.usual(group).as_secs_f64() / group.every().as_secs_f64()).sum();
        let share = ((1.0 - load) * PART).max(self.probes.share());
        let pause = now.since(asked_at).as_secs_f64() / share;
        self.slack_at = asked_at.plus(Duration::try_from_secs_f64(pause).unwrap_or(Duration::MAX));
    }

    /// How long one cycle of a group holds the line as a rule.
    fn usual(&self, group: &Group) -> Duration {
        let device = &self.devices[group.device];
        let each = device.usual.unwrap_or(device.timeout);
        each.saturating_mul(u32::try_from(group.requests()).unwrap_or(u32::MAX))
    }
}

fn answers(device: &Device) -> bool {
    !device.is_dead() && !device.is_failing()
}

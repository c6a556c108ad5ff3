//! Devices whose last try failed: they are asked behind all who answer.
//!
//! A request to such a device may hold the line for its whole time-out. It goes out only when nobody who answers is due, and then either because nobody
//! will be due within that time, or because nobody loses a poll by it ([`super::slack`]), or at the cost of the share of time that dead devices may take as well ([`super::probes`]); where the line is never free, that
//! share is taken after [`PROBE_PATIENCE`]. One is on the line at a time. Probes and failing devices take the share in turns, and what costs nobody any time is
//! not counted: a device that never answers one of its requests must not keep others from being found again.

use std::cmp::Reverse;
use std::time::Duration;

use crate::tag::{BootNs, Reason};

use super::device::Device;
use super::failures::Cause;
use super::{Order, PROBE_PATIENCE, Schedule};

/// So many tries have to fail before a cycle that could not be asked counts as a failure.
const MISSES_MIN: u32 = 2;

/// So long a device may wait for the try that decides whether it is given up; where there is no time for it, it is given up unasked.
const LAST_CHANCE: Duration = Duration::from_secs(30);

impl Schedule {
    /// Ends cycles of failing devices that could not be asked within their interval.
    pub(super) fn expire_failing(&mut self, now: BootNs) {
        for own in 0..self.devices.len() {
            if self.devices[own].behind.is_empty() {
                continue;
            }
            let groups = &self.groups;
            let late = |group: &mut usize| groups[*group].overdue_at().is_none_or(|at| at <= now);
            let device = &mut self.devices[own];
            let reason = device.last_failure().map_or(Reason::Timeout, Cause::reason);
            let late: Vec<usize> = device.behind.extract_if(.., late).collect();
            for group in late {
                // What was tried in vain has failed, although there was no time for all of its retries; and of a device that did not answer twice, so has
                // what there was no time for at all: how soon it is given up hardly depends on how busy the line is. But that gives it up only after
                // some time: it may have lost two answers to noise.
                let device = &self.devices[own];
                let cause = device.last_failure();
                let waits = device.is_last_chance() && now < device.failed_at.plus(LAST_CHANCE);
                let unasked_counts = device.misses >= MISSES_MIN && !waits;
                let tried = self.groups[group].is_retrying() || unasked_counts;
                if let Some(run) = &mut self.groups[group].run {
                    run.queued = false;
                }
                if let Some(cause) = cause {
                    self.groups[group].give_up_retries(cause, now);
                }
                self.give_up(group, reason, now);
                if tried {
                    self.failed(own, now);
                }
            }
            if self.devices[own].is_dead() {
                self.call_up(own, now);
            }
        }
    }

    /// The next request to a failing device: to the one that has failed least, and of those the latest, which most likely was noise. With `patient` only of those that have
    /// waited for [`PROBE_PATIENCE`] although there was time to spend.
    pub(super) fn poll_failing(&mut self, now: BootNs, patient: bool) -> Option<Order> {
        if self.in_flight.iter().any(|flight| flight.failing) {
            return None;
        }
        let free_at = self.probes.free_at();
        let has_waited = |device: &Device| now >= free_at.max(device.failed_at).plus(PROBE_PATIENCE);
        let waiting = self.devices.iter().enumerate().filter(|(_, device)| {
            !device.behind.is_empty() && device.in_flight == 0 && (!patient || has_waited(device))
        });
        let (own, device) = waiting.min_by_key(|(_, device)| (device.misses, Reverse(device.failed_at)))?;
        let costs_nobody = self.costs_nobody(own, now);
        let slack = !costs_nobody && self.costs_no_poll(own, now);
        let its_turn = device.misses <= 1 || !self.probes.comes_first(now);
        let has_share = self.ready.is_empty() && free_at <= now && its_turn;
        let allowed = patient || costs_nobody || slack || has_share;
        if !allowed {
            return None;
        }
        let index = self.devices[own].behind.remove(0);
        if let Some(run) = &mut self.groups[index].run {
            run.queued = false;
        }
        let order = self.ask_next_block(index, now)?;
        if let Some(flight) = self.in_flight.last_mut() {
            (flight.costs, flight.slack) = (!costs_nobody && !slack, slack);
        }
        Some(order)
    }

    /// When a cycle of a failing device ends unasked, or one may be asked.
    pub(super) fn next_failing(&self, now: BootNs) -> BootNs {
        let waiting = || self.devices.iter().flat_map(|device| &device.behind);
        let late = waiting().filter_map(|group| self.groups[*group].overdue_at()).min();
        let waits = waiting().next().is_some();
        let free = |at: BootNs| (at > now && waits).then_some(at);
        let moments = [late, free(self.probes.free_at()), free(self.slack_at)];
        moments.into_iter().flatten().min().unwrap_or(BootNs(u64::MAX))
    }

    /// When the next group of a device that answers is due.
    pub(super) fn next_healthy(&self) -> BootNs {
        self.sleepers().map(|(at, _)| at).min().unwrap_or(BootNs(u64::MAX))
    }
}

//! What an answer, or none, means for the group that asked and for its device.

use std::time::Duration;

use crate::poll::request::{Answer, LineFault};
use crate::tag::{BootNs, Reason};

use super::failures::Cause;
use super::group::Again;
use super::{BUSY_PAUSE, Flight, Schedule, Ticket, nanos};

/// What came back, as far as it makes a difference.
enum Outcome {
    /// The block's registers or bits.
    Values(Answer),
    /// The device may know some of the addresses of the block, but not all (exceptions 2 and 3).
    Illegal(u8),
    /// The device wants to be asked again later (exceptions 5 and 6).
    Busy(u8),
    /// Any other exception of the device itself.
    Refused(u8),
    /// No answer of the device.
    Failed(Cause),
}

impl Schedule {
    /// The answer to an order, or why there is none, at the moment its last byte arrived or the failure was known.
    ///
    /// [`LineFault::Down`] means [`Schedule::bus_down`] as well. An order that is void is counted and otherwise ignored.
    pub fn answered(&mut self, now: BootNs, ticket: Ticket, outcome: Result<Answer, LineFault>) {
        let Some(at) = self.in_flight.iter().position(|flight| flight.ticket == ticket) else {
            self.counters.strays += 1;
            return;
        };
        if outcome == Err(LineFault::Down) {
            self.bus_down(now);
            return;
        }
        let flight = self.in_flight.swap_remove(at);
        self.account(&flight, now);
        if self.in_flight.is_empty() {
            self.counters.busy_ns += self.busy_since.take().map_or(0, |since| nanos(now.since(since)));
        }
        let outcome = self.sort(&flight, outcome);
        if matches!(outcome, Outcome::Failed(_)) && flight.poll.is_some() {
            let time = now.since(flight.asked_at);
            let device = &mut self.devices[flight.device];
            device.silence = device.timeout.max(time);
            // The first failure is only paid for when another follows: most answers that are lost are lost to noise.
            let owed = &mut device.owed;
            let owed_before = std::mem::take(owed);
            if flight.costs {
                self.probes.spent(flight.asked_at, now, owed_before);
                self.probes.was_probe = false;
            } else if flight.slack {
                self.took_slack(flight.asked_at, now);
            } else if !flight.failing && !flight.known {
                *owed = time;
            }
        }
        match flight.poll {
            Some((group, block, attempt)) => self.settle(&flight, (group, block, attempt), outcome, now),
            None => self.settle_probe(&flight, &outcome, now),
        }
        self.call_up(flight.device, now);
    }

    /// Whoever waits for an answer of a device, or because it is failing, finds its place anew.
    pub(super) fn call_up(&mut self, device: usize, now: BootNs) {
        let device = &mut self.devices[device];
        let waiting = [std::mem::take(&mut device.parked), std::mem::take(&mut device.behind)];
        for group in waiting.into_iter().flatten() {
            if let Some(run) = &mut self.groups[group].run {
                run.queued = false;
                self.enqueue(group, now);
            }
        }
    }

    /// Takes an order off the line and counts its time.
    pub(super) fn account(&mut self, flight: &Flight, now: BootNs) {
        let time = nanos(now.since(flight.asked_at));
        let device = &mut self.devices[flight.device];
        device.in_flight = device.in_flight.saturating_sub(1);
        device.counters.busy_ns += time;
        if flight.poll.is_none() {
            self.probes.in_flight = false;
            self.probes.spent(flight.asked_at, now, Duration::ZERO);
            self.probes.was_probe = true;
            self.counters.probe_ns += time;
            device.counters.probe_ns += time;
        }
    }

    /// Counts an outcome and says what it means.
    fn sort(&mut self, flight: &Flight, outcome: Result<Answer, LineFault>) -> Outcome {
        let outcome = outcome.and_then(|answer| match (&answer, flight.poll) {
            (Answer::Exception(_), _) | (_, None) => Ok(answer),
            (_, Some((group, block, _))) if self.groups[group].answers(block, &answer) => Ok(answer),
            _ => Err(LineFault::Mismatch),
        });
        for counters in [&mut self.counters, &mut self.devices[flight.device].counters] {
            match &outcome {
                Ok(answer) => {
                    counters.answers += 1;
                    if let Answer::Exception(code) = answer {
                        counters.exceptions.add(*code);
                    }
                }
                Err(fault) => counters.faults.add(*fault),
            }
        }
        match outcome {
            Ok(Answer::Exception(code @ (2 | 3))) => Outcome::Illegal(code),
            Ok(Answer::Exception(code @ (5 | 6))) => Outcome::Busy(code),
            Ok(Answer::Exception(code @ (10 | 11))) => Outcome::Failed(Cause::Exception(code)),
            Ok(Answer::Exception(code)) => Outcome::Refused(code),
            Ok(answer) => Outcome::Values(answer),
            Err(fault) => Outcome::Failed(Cause::Line(fault)),
        }
    }

    fn settle(&mut self, flight: &Flight, poll: (usize, usize, u8), outcome: Outcome, now: BootNs) {
        let (index, block, attempt) = poll;
        self.groups[index].landed();
        if !matches!(outcome, Outcome::Failed(_)) {
            self.devices[flight.device].took(now.since(flight.asked_at));
            self.came_to_life(flight.device, now);
        }
        let may_retry =
            attempt < self.devices[flight.device].retries && !self.devices[flight.device].is_dead();
        let group = &mut self.groups[index];
        match outcome {
            Outcome::Values(answer) => group.fill(block, &answer, now),
            Outcome::Illegal(code) => {
                if group.split(block, now) {
                    self.counters.splits += 1;
                    self.devices[flight.device].counters.splits += 1;
                } else {
                    let cause = Cause::Exception(code);
                    group.mark(block, cause, now);
                    group.refuse(block, cause.reason(), now);
                }
            }
            Outcome::Busy(_) if may_retry => {
                group.ask_again(Again { block, attempt: attempt + 1, after: now.plus(BUSY_PAUSE) });
            }
            Outcome::Busy(code) | Outcome::Refused(code) => group.mark(block, Cause::Exception(code), now),
            Outcome::Failed(cause) if flight.known => group.mark(block, cause, now),
            Outcome::Failed(cause) => {
                self.devices[flight.device].missed(cause, now);
                if may_retry {
                    group.ask_again(Again { block, attempt: attempt + 1, after: now });
                } else {
                    group.mark(block, cause, now);
                    self.failed(flight.device, now);
                }
            }
        }
        if self.devices[flight.device].is_dead() {
            self.give_up(index, Reason::DeviceDown, now);
        } else {
            self.enqueue(index, now);
        }
    }

    fn settle_probe(&mut self, flight: &Flight, outcome: &Outcome, now: BootNs) {
        if let Outcome::Failed(cause) = outcome {
            self.devices[flight.device].missed(*cause, now);
            self.devices[flight.device].probe_failed(now);
            self.choose_probe();
        } else {
            self.came_to_life(flight.device, now);
        }
    }

    fn came_to_life(&mut self, device: usize, now: BootNs) {
        if self.devices[device].answered(now) {
            self.counters.recoveries += 1;
            self.forget_refusals(device);
            self.choose_probe();
            self.refresh(device, now);
        }
    }

    pub(super) fn failed(&mut self, device: usize, now: BootNs) {
        let before = self.devices[device].counters.deaths;
        if self.devices[device].failed(now) {
            self.counters.deaths += self.devices[device].counters.deaths - before;
            self.choose_probe();
        }
    }
}

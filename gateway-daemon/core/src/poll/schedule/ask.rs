//! Which request goes on the line next.

use std::cmp::Reverse;

use crate::poll::request::Request;
use crate::tag::{BootNs, Reason};

use super::failures::Turn;
use super::group::Sign;
use super::{Flight, Order, PROBE_PATIENCE, Schedule, Ticket};

impl Schedule {
    /// The next request of the group with the earliest deadline.
    pub(super) fn poll(&mut self, now: BootNs) -> Option<Order> {
        while let Some(Reverse((_, index, nap))) = self.ready.pop() {
            let group = &mut self.groups[index];
            let Some(run) = group.run.as_mut().filter(|_| group.nap == nap) else { continue };
            run.queued = false;
            let own = group.device;
            let device = &mut self.devices[own];
            if device.is_dead() {
                self.give_up(index, Reason::DeviceDown, now);
                continue;
            }
            if device.is_failing() {
                run.queued = true;
                device.behind.push(index);
                continue;
            }
            if device.in_flight > 0 && !device.is_trusted() {
                run.queued = true;
                device.parked.push(index);
                continue;
            }
            if let Some(order) = self.ask_next_block(index, now) {
                return Some(order);
            }
        }
        None
    }

    /// The next request of a group whose turn it is.
    pub(super) fn ask_next_block(&mut self, index: usize, now: BootNs) -> Option<Order> {
        let group = &mut self.groups[index];
        let own = group.device;
        let skipped = group.begin(now);
        self.count_overruns(own, skipped);
        let (picked, known) = self.pick(index, now);
        let unit = self.devices[own].unit;
        let request = picked.and_then(|(block, _)| Some(self.groups[index].block(block)?.request(unit)));
        let costs_nobody = known && self.costs_nobody(own, now);
        self.enqueue(index, now);
        let ((block, attempt), request) = (picked?, request?);
        let order = self.order(own, request, Some((index, block, attempt)), now);
        if let Some(flight) = self.in_flight.last_mut().filter(|_| known) {
            (flight.known, flight.costs) = (true, !costs_nobody);
        }
        Some(order)
    }

    /// The next block to ask of a group with the number of its try, and whether it is known to give no answer. Those that would cost too much are passed
    /// over: their tags keep their reason.
    fn pick(&mut self, index: usize, now: BootNs) -> (Option<(usize, u8)>, bool) {
        let own = self.groups[index].device;
        loop {
            let picked = self.groups[index].pick(now);
            let known = picked.and_then(|(block, _)| self.groups[index].known(block));
            let Some(((block, _), (cause, turn))) =
                picked.zip(known).filter(|_| !self.devices[own].is_failing())
            else {
                return (picked, false);
            };
            // Where nothing else would tell that the device is dead, its failure does.
            let (asks, known) = match turn {
                Turn::Later => (false, true),
                Turn::Next => (self.may_cost(own, now), true),
                Turn::Again { .. } if !self.may_answer(own) => (true, false),
                Turn::Again { is_next } => (is_next && self.may_cost(own, now), true),
                Turn::AtOnce => (true, self.may_answer(own)),
            };
            if asks {
                self.groups[index].tried(block);
                return (picked, known);
            }
            self.groups[index].pass_over(block, cause, now);
        }
    }

    /// Whether a device has a request that is not known to give no answer.
    fn may_answer(&self, own: usize) -> bool {
        self.devices[own].groups.iter().any(|group| self.groups[*group].may_answer())
    }

    /// Whether a request to a device that may well hold the line for its time-out may go out although its device answers.
    fn may_cost(&self, own: usize, now: BootNs) -> bool {
        let is_first = !self.in_flight.iter().any(|flight| flight.failing || flight.known);
        let share = self.probes.free_at() <= now && !self.probes.comes_first(now);
        is_first && (share || self.costs_nobody(own, now))
    }

    /// Whether nobody who answers is due within the time-out of a device.
    pub(super) fn costs_nobody(&self, own: usize, now: BootNs) -> bool {
        self.ready.is_empty() && self.next_healthy() >= now.plus(self.devices[own].silence)
    }

    /// A request to a dead device, if one is due and disturbs nobody or has waited long enough.
    pub(super) fn probe(&mut self, now: BootNs) -> Option<Order> {
        let (own, at) = self.probes.due().filter(|(_, at)| *at <= now)?;
        let device = self.devices.get(own)?;
        let undisturbed = self.in_flight_max > 1
            || (self.ready.is_empty() && self.next_waking() >= now.plus(device.timeout));
        if !undisturbed && now < at.plus(PROBE_PATIENCE) {
            return None;
        }
        let request = self.sign_of_life(own)?;
        self.probes.in_flight = true;
        Some(self.order(own, request, None, now))
    }

    /// What to ask a dead device: one point of each of its requests in turn, first of those that did not fail, short ones first. A single one might be
    /// what it never answers. Those of which that is known get every second probe only, so that many of them do not put off the sign of life for long; without
    /// any a device would never be found that answers nothing else by now.
    fn sign_of_life(&self, own: usize) -> Option<Request> {
        let device = &self.devices[own];
        let signs = device.groups.iter().flat_map(|group| {
            self.groups[*group].signs().map(move |(kind, length, point)| (kind, length, *group, point))
        });
        let mut signs: Vec<_> = signs.collect();
        signs.sort_unstable();
        let (mute, others): (Vec<_>, Vec<_>) = signs.into_iter().partition(|(kind, ..)| *kind == Sign::Mute);
        let probes = device.probes();
        let (list, number) = match (mute.is_empty(), others.is_empty()) {
            (true, _) => (others, probes),
            (false, true) => (mute, probes),
            (false, false) if probes.is_multiple_of(2) => (others, probes / 2),
            (false, false) => (mute, probes / 2),
        };
        let (_, _, group, point) = *list.get(number.checked_rem(list.len())?)?;
        Some(self.groups[group].around(point)?.request(device.unit))
    }

    fn order(
        &mut self,
        own: usize,
        request: Request,
        poll: Option<(usize, usize, u8)>,
        now: BootNs,
    ) -> Order {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let attempt = poll.map_or(0, |(_, _, attempt)| attempt);
        let device = &mut self.devices[own];
        device.in_flight += 1;
        for counters in [&mut self.counters, &mut device.counters] {
            counters.requests += 1;
            counters.retries += u64::from(attempt > 0);
            counters.probes += u64::from(poll.is_none());
        }
        let failing = device.is_failing();
        self.in_flight.push(Flight {
            ticket,
            device: own,
            asked_at: now,
            failing,
            costs: failing,
            slack: false,
            known: false,
            poll,
        });
        self.busy_since.get_or_insert(now);
        Order {
            ticket,
            device: device.index,
            request,
            timeout: device.timeout,
            delay_before: device.delay_before,
            turnaround: device.turnaround,
            attempt,
            probe: poll.is_none(),
        }
    }

    /// Whose turn it is to be probed: whoever has waited longest.
    pub(super) fn choose_probe(&mut self) {
        let dead = self.devices.iter().enumerate();
        self.probes.turn =
            dead.filter_map(|(own, device)| Some((own, device.next_probe()?))).min_by_key(|(_, at)| *at);
    }
}

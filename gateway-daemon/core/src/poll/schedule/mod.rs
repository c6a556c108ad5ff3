//! When each poll group of one bus is asked, and what its tags become when the answers fail.
//!
//! The task that owns the line drives a schedule like this, and never waits for anything else:
//!
//! ```text
//! loop {
//!     step = schedule.next(now)                 Ask: put it on the line and call next again; Wait: until then
//!     cycles = schedule.take_cycles()           after every call
//!     wait for an answer, the moment, or a change of the bus:
//!         schedule.answered(now, ticket, outcome)
//!         schedule.bus_down(now) | schedule.bus_up(now)
//! }
//! ```
//!
//! **Grid.** Each group is due at fixed moments that never drift: a first one within [`SPREAD_MAX`] of the start, spread so that
//! groups of one interval do not fall due together, and one every interval after it. A due cycle is delivered or counted
//! as an overrun; late ones are never queued up. Between two requests the group with the earliest deadline goes first.
//!
//! **Failures.** A request is tried `1 + retries` times. A device whose last try failed is failing and waits behind all due polls of those that
//! answer: its next request goes out when no poll of theirs is lost by it (see `slack`), or within the bus's share of probe time (see `failing`). A cycle that
//! could not be asked until its interval was over reports what the last try failed of. So of many devices that die together each costs the others one
//! time-out, its first. After
//! `dead_after` failed requests in a row the device is dead: the failing poll reports its own reason, whatever is due afterwards
//! is [`Reason::DeviceDown`] at once and costs no bus time. A dead device is probed with one point, each time of another of its requests (every second time
//! of one that is not known to give no answer), at doubling pauses and within the bus's share of probe time, and is polled again after any answer. An exception is an answer; only codes
//! 10 and 11 are not, because a gateway sends them on behalf of a device that is silent.
//!
//! **Unanswered addresses.** A request that is not answered while others of its device are is tried again within the same share, and does not make a failing
//! device of it: see `failures`.
//!
//! **Illegal addresses.** A block refused with exception 2 or 3 is cut in two within the same cycle until the bad points stand
//! alone. They are still asked, alone, so that they come back by themselves, and cut blocks are tried joined again: see `refusals`.
//!
//! **Bus down.** Orders on the line are void, cycles stay due on the grid and turn [`Reason::BusDown`].
//!
//! **In between.** When a device or the bus comes back, groups that are not due within [`REFRESH_AFTER`] get one cycle off the grid.
//!
//! Bounds: one cycle per group is running, [`PIPELINE_MAX`] orders are on the line, one probe at a time, a device that is not
//! known to answer has one order on the line. The list of delivered cycles is taken after every call and holds at most one
//! cycle per group.

mod answers;
mod ask;
mod counters;
mod device;
mod failing;
mod failures;
mod group;
mod health;
mod order;
mod probes;
mod refusals;
mod slack;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::poll::settings::{Medium, Settings};
use crate::tag::{BootNs, Cycle, GroupId, Reason};

pub use counters::{Counters, EXCEPTION_CODE_MAX, Exceptions, Faults, GroupCounters};
pub use device::PROBE_PAUSE_MIN;
pub use failures::{Cause, Failure, NAMED_MAX, NAMED_TAGS_MAX, Requests, Sort};
pub use health::{DeviceHealth, DeviceState};
pub use order::{Order, Step, Ticket};
pub use probes::{PROBE_PATIENCE, PROBE_SHARE_MIN};

use device::Device;
use group::{Again, Group};
use probes::Probes;

/// Longest time from the start to the first poll of a group, if the bus has time.
pub const SPREAD_MAX: Duration = Duration::from_secs(1);

/// A group that is due sooner than this anyway gets no cycle in between when its device comes back.
pub const REFRESH_AFTER: Duration = Duration::from_secs(2);

/// Pause before a device that answered "acknowledge" or "busy" (exceptions 5 and 6) is asked again.
pub const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Most orders on the line, whatever the settings say: the answers of more would wait in the device.
pub const PIPELINE_MAX: u8 = 16;

/// An order on the line.
#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    /// Index in the schedule's own list.
    device: usize,
    asked_at: BootNs,
    /// Its device was failing.
    failing: bool,
    /// It is failing and was asked at the cost of those that answer.
    costs: bool,
    /// It is failing and was asked although polls of those that answer become late, none of them too late.
    slack: bool,
    /// It asks for what gave no answer before, although its device does.
    known: bool,
    /// Group, block and number of the try; `None` for a probe.
    poll: Option<(usize, usize, u8)>,
}

/// The schedule of one bus.
#[derive(Debug)]
pub struct Schedule {
    groups: Vec<Group>,
    devices: Vec<Device>,
    /// Groups that sleep until their next due moment or a retry: moment, group, nap.
    asleep: BinaryHeap<Reverse<(BootNs, usize, u32)>>,
    /// Groups that have something to ask: key, group, nap.
    ready: BinaryHeap<Reverse<(BootNs, usize, u32)>>,
    in_flight: Vec<Flight>,
    in_flight_max: usize,
    next_ticket: u64,
    down: bool,
    probes: Probes,
    /// No request that makes polls late begins before.
    slack_at: BootNs,
    cycles: Vec<Cycle>,
    counters: Counters,
    busy_since: Option<BootNs>,
}

impl Schedule {
    /// A schedule for the bus at `bus` of [`Settings::buses`], taken as up. An index that does not exist has nothing to do.
    #[must_use]
    pub fn new(settings: &Settings, bus: usize, now: BootNs) -> Self {
        let line = settings.buses.get(bus);
        let pipeline = match line.map(|line| &line.medium) {
            Some(Medium::Tcp { pipeline, .. }) => (*pipeline).clamp(1, PIPELINE_MAX),
            _ => 1,
        };
        let mut schedule = Self {
            groups: Vec::new(),
            devices: Vec::new(),
            asleep: BinaryHeap::new(),
            ready: BinaryHeap::new(),
            in_flight: Vec::new(),
            in_flight_max: usize::from(pipeline),
            next_ticket: 0,
            down: false,
            probes: Probes::new(line.map_or(0.0, |line| line.probe_share)),
            slack_at: BootNs(0),
            cycles: Vec::new(),
            counters: Counters::default(),
            busy_since: None,
        };
        let pause = line.map_or(Duration::ZERO, |line| line.pause);
        let on_bus = settings.devices.iter().enumerate().filter(|(_, device)| device.bus == bus);
        schedule.devices = on_bus.map(|(index, device)| Device::new(index, device, pause, now)).collect();
        schedule.add_groups(settings, now);
        schedule
    }

    fn add_groups(&mut self, settings: &Settings, now: BootNs) {
        let own = |device: usize| self.devices.binary_search_by_key(&device, |own| own.index).ok();
        let groups: Vec<_> = (0..)
            .zip(&settings.groups)
            .filter_map(|(id, group)| Some((GroupId(id), group, own(group.device)?)))
            .collect();
        let len = u32::try_from(groups.len()).unwrap_or(u32::MAX);
        for (position, (id, group, own)) in (0..).zip(groups) {
            let first_due = now.plus(group.every.min(SPREAD_MAX) / len * position);
            let tags = settings.tags.get(group.tags()).unwrap_or_default();
            let mut added = Group::new(id, group, tags, &settings.devices[group.device], first_due);
            added.device = own;
            let index = self.groups.len();
            self.groups.push(added);
            self.devices[own].groups.push(index);
            self.asleep.push(Reverse((first_due, index, 0)));
        }
    }

    /// What to do at this moment. Also delivers the cycles that need no bus time, so take them afterwards.
    pub fn next(&mut self, now: BootNs) -> Step {
        loop {
            self.wake(now);
            if self.down {
                return Step::Wait(self.next_waking());
            }
            self.expire_failing(now);
            let has_room = self.in_flight.len() < self.in_flight_max;
            if let Some(order) = has_room.then(|| self.choose(now)).flatten() {
                return Step::Ask(order);
            }
            // A late cycle that was given up may leave a group that is due again, and one that was ready may have to end.
            let until = self.next_waking().min(self.next_failing(now));
            if until > now {
                return Step::Wait(until.min(self.next_probing(now)));
            }
        }
    }

    fn choose(&mut self, now: BootNs) -> Option<Order> {
        self.probe(now)
            .or_else(|| self.poll_failing(now, true))
            .or_else(|| self.poll(now))
            .or_else(|| self.poll_failing(now, false))
    }

    /// The cycles delivered since the last call, in the order of their delivery.
    pub fn take_cycles(&mut self) -> Vec<Cycle> {
        std::mem::take(&mut self.cycles)
    }

    /// The line cannot be used: outstanding orders are void, running cycles end with [`Reason::BusDown`] and so does every
    /// cycle that falls due until [`Schedule::bus_up`]. Nothing happens if it is down already.
    pub fn bus_down(&mut self, now: BootNs) {
        if std::mem::replace(&mut self.down, true) {
            return;
        }
        for flight in std::mem::take(&mut self.in_flight) {
            self.account(&flight, now);
            self.counters.faults.down += 1;
            self.devices[flight.device].counters.faults.down += 1;
            if let Some((group, block, attempt)) = flight.poll {
                self.groups[group].landed();
                self.groups[group].ask_again(Again { block, attempt, after: now });
            }
        }
        if let Some(since) = self.busy_since.take() {
            self.counters.busy_ns += nanos(now.since(since));
        }
        self.ready.clear();
        for device in &mut self.devices {
            device.parked.clear();
            device.behind.clear();
        }
        for group in 0..self.groups.len() {
            if let Some(run) = &mut self.groups[group].run {
                run.queued = false;
                self.give_up(group, Reason::BusDown, now);
            }
        }
    }

    /// The line can be used again. Dead devices get one chance at once.
    pub fn bus_up(&mut self, now: BootNs) {
        if !std::mem::replace(&mut self.down, false) {
            return;
        }
        for device in 0..self.devices.len() {
            self.devices[device].bus_up(now);
            self.forget_refusals(device);
            self.refresh(device, now);
        }
        self.choose_probe();
    }

    /// Whether the bus was said to be down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down
    }

    /// What was counted for the bus.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The devices of the bus, in the order of [`Settings::devices`].
    pub fn devices(&self) -> impl Iterator<Item = DeviceHealth<'_>> {
        self.devices.iter().map(|device| {
            let mut requests = Requests::default();
            for group in &device.groups {
                self.groups[*group].count_requests(&mut requests);
            }
            device.health(requests)
        })
    }

    /// What was counted for a group; `None` if it is not on this bus.
    #[must_use]
    pub fn group_counters(&self, group: GroupId) -> Option<GroupCounters> {
        let at = self.groups.binary_search_by_key(&group, |own| own.id).ok()?;
        Some(self.groups[at].counters)
    }

    fn next_waking(&self) -> BootNs {
        self.asleep.peek().map_or(BootNs(u64::MAX), |Reverse((at, ..))| *at)
    }

    fn next_probing(&self, now: BootNs) -> BootNs {
        match self.probes.due() {
            Some((_, at)) if at > now => at,
            Some((_, at)) if at.plus(PROBE_PATIENCE) > now => at.plus(PROBE_PATIENCE),
            // Due and only waiting for a free place on the line, which an answer brings.
            _ => BootNs(u64::MAX),
        }
    }

    /// Starts the cycles that are due and takes up retries whose pause is over.
    fn wake(&mut self, now: BootNs) {
        while let Some(&Reverse((at, index, nap))) = self.asleep.peek() {
            if at > now {
                break;
            }
            self.asleep.pop();
            let group = &mut self.groups[index];
            if group.nap != nap {
                continue;
            }
            match &mut group.run {
                Some(run) => {
                    run.queued = false;
                    self.enqueue(index, now);
                }
                None => self.start(index, now, false),
            }
        }
    }

    fn start(&mut self, index: usize, now: BootNs, in_between: bool) {
        let group = &mut self.groups[index];
        let skipped = group.start(now, in_between);
        let device = group.device;
        self.count_overruns(device, skipped);
        if self.down {
            self.give_up(index, Reason::BusDown, now);
        } else if self.devices[device].is_dead() {
            self.give_up(index, Reason::DeviceDown, now);
        } else {
            self.enqueue(index, now);
        }
    }

    /// What a device refused is tried again.
    fn forget_refusals(&mut self, device: usize) {
        for &group in &self.devices[device].groups {
            self.groups[group].forget_refusals();
        }
    }

    /// One cycle at once for each group of a device that came back, unless it is due soon anyway.
    fn refresh(&mut self, device: usize, now: BootNs) {
        for at in 0..self.devices[device].groups.len() {
            let index = self.devices[device].groups[at];
            let group = &mut self.groups[index];
            if group.run.is_none() && group.next_due() > now.plus(REFRESH_AFTER) {
                group.nap = group.nap.wrapping_add(1);
                self.start(index, now, true);
            }
        }
    }

    /// Puts a group where it belongs: ready, behind the others, asleep until a retry, waiting for answers, or finished.
    fn enqueue(&mut self, index: usize, now: BootNs) {
        let group = &mut self.groups[index];
        if group.is_done() {
            self.finish(index);
            return;
        }
        let wants_at = group.wants_at();
        let Some(run) = group.run.as_mut().filter(|run| !run.queued) else { return };
        match wants_at {
            Some(at) if at <= now => {
                if self.devices[group.device].is_dead() {
                    self.give_up(index, Reason::DeviceDown, now);
                    return;
                }
                run.queued = true;
                let device = &mut self.devices[group.device];
                if device.is_failing() {
                    device.behind.push(index);
                } else {
                    self.ready.push(Reverse((run.key, index, group.nap)));
                }
            }
            Some(at) => {
                run.queued = true;
                self.asleep.push(Reverse((at, index, group.nap)));
            }
            None => {}
        }
    }

    /// Marks what a cycle has not asked yet; it ends when its last order is answered.
    fn give_up(&mut self, index: usize, reason: Reason, now: BootNs) {
        self.groups[index].abandon(reason, now);
        if self.groups[index].is_done() {
            self.finish(index);
        }
    }

    fn finish(&mut self, index: usize) {
        let group = &mut self.groups[index];
        let on_grid = group.runs_on_grid();
        let answers = !self.down && !self.devices[group.device].is_failing();
        let Some(cycle) = group.finish(answers) else { return };
        group.nap = group.nap.wrapping_add(1);
        self.asleep.push(Reverse((group.next_due(), index, group.nap)));
        for counters in [&mut self.counters, &mut self.devices[group.device].counters] {
            if on_grid {
                counters.cycles += 1;
            } else {
                counters.refreshes += 1;
            }
        }
        self.cycles.push(cycle);
    }

    fn count_overruns(&mut self, device: usize, skipped: u64) {
        self.counters.overruns += skipped;
        self.devices[device].counters.overruns += skipped;
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

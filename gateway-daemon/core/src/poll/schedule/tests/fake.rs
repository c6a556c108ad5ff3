//! A bus in virtual time whose devices do as they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::poll::Settings;
use crate::poll::request::{Answer, LineFault, Query, Table};
use crate::poll::schedule::{Order, Schedule, Step, Ticket};
use crate::poll::testing::Build;
use crate::tag::{BootNs, Cycle, GroupId, Reading, Reason, Sample, TagId};

/// When every test bus starts; not zero, as on a real machine.
pub(super) const START: BootNs = BootNs(77_000_000_123);

/// Steps after which a simulation without progress is called endless.
const STEPS_MAX: usize = 2_000_000;

/// How a device behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Manner {
    /// Answers after its latency.
    Answers,
    /// Says nothing.
    Silent,
    /// Fails this many of 256 requests, in different ways.
    Flaky(u8),
    /// Gives this instead of any answer.
    Says(LineFault),
    /// Answers everything with this exception.
    Refuses(u8),
}

/// One fake device.
#[derive(Debug, Clone)]
pub(super) struct Fake {
    pub(super) manner: Manner,
    pub(super) latency: Duration,
    /// Addresses it answers with exception 2, in any table.
    pub(super) illegal: BTreeSet<u16>,
    /// Addresses to which it says nothing.
    pub(super) mute: BTreeSet<u16>,
    /// Requests for more registers than this are refused with exception 3.
    pub(super) length_max: u16,
}

/// A schedule with its bus.
pub(super) struct Simulation {
    pub(super) settings: Settings,
    pub(super) schedule: Schedule,
    pub(super) now: BootNs,
    pub(super) fakes: Vec<Fake>,
    pub(super) orders: Vec<(BootNs, Order)>,
    /// Delivered cycles with the moment of delivery.
    pub(super) cycles: Vec<(BootNs, Cycle)>,
    outstanding: BTreeMap<(BootNs, Ticket), Result<Answer, LineFault>>,
    random: u64,
    pub(super) outstanding_max: usize,
}

/// Time on the wire of a request and its answer, whatever their length.
pub(super) const WIRE: Duration = Duration::from_millis(5);

impl Simulation {
    pub(super) fn new(build: Build) -> Self {
        let settings = build.settings;
        let fake = Fake {
            manner: Manner::Answers,
            latency: Duration::from_millis(5),
            illegal: BTreeSet::new(),
            mute: BTreeSet::new(),
            length_max: u16::MAX,
        };
        Self {
            schedule: Schedule::new(&settings, 0, START),
            fakes: vec![fake; settings.devices.len()],
            settings,
            now: START,
            orders: Vec::new(),
            cycles: Vec::new(),
            outstanding: BTreeMap::new(),
            random: 0x9E37_79B9_7F4A_7C15,
            outstanding_max: 0,
        }
    }

    pub(super) fn seed(&mut self, seed: u64) {
        self.random = seed | 1;
    }

    pub(super) fn at(ms: u64) -> BootNs {
        START.plus(Duration::from_millis(ms))
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Runs until so many ms after the start.
    pub(super) fn run_until(&mut self, ms: u64) {
        // Off every grid, so that what a test does next is told apart from what was due.
        let end = Self::at(ms).plus(Duration::from_nanos(1));
        for _ in 0..STEPS_MAX {
            let step = self.schedule.next(self.now);
            self.collect();
            match step {
                Step::Ask(order) => self.ask(order),
                Step::Wait(until) => {
                    assert!(until > self.now, "a wait for the past never ends");
                    let landing = self.outstanding.keys().next().map_or(BootNs(u64::MAX), |(at, _)| *at);
                    let next = until.min(landing).max(self.now);
                    if next > end {
                        self.now = end;
                        return;
                    }
                    self.now = next;
                    self.land();
                }
            }
        }
        panic!("{STEPS_MAX} steps in {ms} ms");
    }

    fn land(&mut self) {
        while let Some(entry) = self.outstanding.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let ((_, ticket), outcome) = entry.remove_entry();
            self.schedule.answered(self.now, ticket, outcome);
            self.collect();
        }
    }

    fn collect(&mut self) {
        let now = self.now;
        self.cycles.extend(self.schedule.take_cycles().into_iter().map(|cycle| (now, cycle)));
    }

    fn ask(&mut self, order: Order) {
        let (outcome, time) = self.outcome(&order);
        self.outstanding.insert((self.now.plus(order.delay_before + time), order.ticket), outcome);
        self.outstanding_max = self.outstanding_max.max(self.outstanding.len());
        self.orders.push((self.now, order));
    }

    fn outcome(&mut self, order: &Order) -> (Result<Answer, LineFault>, Duration) {
        let Query::Read { table, address, count } = order.request.query else { panic!("{order:?}") };
        let fake = self.fakes[order.device].clone();
        let roll = self.random();
        let silence = (Err(LineFault::Silence), WIRE + order.timeout);
        let spoken = WIRE + fake.latency;
        match fake.manner {
            Manner::Silent => return silence,
            Manner::Says(fault) => return (Err(fault), spoken),
            Manner::Refuses(code) => return (Ok(Answer::Exception(code)), spoken),
            Manner::Flaky(share) if roll.to_le_bytes()[0] < share => {
                let faults =
                    [LineFault::Short, LineFault::Checksum, LineFault::Mismatch, LineFault::ForeignUnit(9)];
                return match roll.to_le_bytes()[1] % 8 {
                    pick @ 0..4 => (Err(faults[usize::from(pick)]), spoken),
                    4 => (Ok(Answer::Exception(6)), spoken),
                    5 => (Ok(Answer::Exception(4)), spoken),
                    _ => silence,
                };
            }
            Manner::Answers | Manner::Flaky(_) => {}
        }
        if (address..address + count).any(|address| fake.mute.contains(&address)) {
            return silence;
        }
        if (address..address + count).any(|address| fake.illegal.contains(&address)) {
            return (Ok(Answer::Exception(2)), spoken);
        }
        if count > fake.length_max {
            return (Ok(Answer::Exception(3)), spoken);
        }
        let answer = match table {
            Table::Coil | Table::Discrete => {
                Answer::Bits((address..address + count).map(|a| a % 2 == 1).collect())
            }
            Table::Holding | Table::Input => Answer::Registers((address..address + count).collect()),
        };
        (Ok(answer), spoken)
    }

    pub(super) fn bus_down(&mut self) {
        self.schedule.bus_down(self.now);
        self.outstanding.clear();
        self.collect();
    }

    pub(super) fn bus_up(&mut self) {
        self.schedule.bus_up(self.now);
        self.collect();
    }

    /// The reasons of a group's cycles that were delivered after so many ms, `None` for a cycle that is good throughout.
    pub(super) fn reasons(&self, group: usize, after_ms: u64) -> Vec<Option<Reason>> {
        let cycles = self.cycles_of(group).filter(|(at, _)| *at > Self::at(after_ms));
        cycles.map(|(_, cycle)| cycle.readings.iter().find_map(reason)).collect()
    }

    pub(super) fn cycles_of(&self, group: usize) -> impl Iterator<Item = &(BootNs, Cycle)> {
        let id = GroupId(u32::try_from(group).unwrap());
        self.cycles.iter().filter(move |(_, cycle)| cycle.group == id)
    }

    /// What must hold at any time on any bus.
    pub(super) fn check_promises(&self) {
        let (mut cycles, mut overruns, mut refreshes) = (0, 0, 0);
        for (index, group) in self.settings.groups.iter().enumerate() {
            let mut on_grid = Vec::new();
            let every = group.every.as_nanos();
            let first = self.first_due(index);
            for (at, cycle) in self.cycles_of(index) {
                assert!(cycle.due <= *at);
                let tags: Vec<TagId> = cycle.readings.iter().map(|reading| reading.tag).collect();
                let expected: Vec<TagId> =
                    group.tags().map(|tag| TagId(u32::try_from(tag).unwrap())).collect();
                assert_eq!(tags, expected, "a reading for every tag in order");
                for reading in &cycle.readings {
                    assert!(reading.at >= cycle.due && reading.at <= *at);
                    assert_ne!(reading.sample, Sample::Bad(Reason::NotPolled));
                }
                if u128::from(cycle.due.0 - first.0).is_multiple_of(every) {
                    on_grid.push(cycle.due);
                }
            }
            assert!(on_grid.is_sorted_by(|a, b| a < b), "no grid moment twice, none out of order");
            let counters = self.schedule.group_counters(GroupId(u32::try_from(index).unwrap())).unwrap();
            let total = usize::try_from(counters.cycles + counters.refreshes).unwrap();
            assert_eq!(total, self.cycles_of(index).count());
            let passed = u64::try_from(u128::from(self.now.0.saturating_sub(first.0)) / every).unwrap();
            let moments = if self.now < first { 0 } else { passed + 1 };
            let known = counters.cycles + counters.overruns;
            let open = moments.saturating_sub(known);
            assert!(known <= moments, "group {index}: {counters:?} of {moments} moments");
            // Up to the last delivered moment everything is known; the others belong to the running cycle.
            let running = on_grid
                .last()
                .map_or(moments, |due| u64::try_from(u128::from(self.now.0 - due.0) / every).unwrap());
            assert!(open <= running, "group {index}: {open} moments are neither delivered nor counted");
            cycles += counters.cycles;
            overruns += counters.overruns;
            refreshes += counters.refreshes;
        }
        let counters = self.schedule.counters();
        assert_eq!((counters.cycles, counters.overruns, counters.refreshes), (cycles, overruns, refreshes));
        assert_eq!(counters.requests, u64::try_from(self.orders.len()).unwrap());
        let ended = counters.answers + counters.faults.total();
        assert_eq!(ended + u64::try_from(self.schedule.in_flight.len()).unwrap(), counters.requests);
        let devices: Vec<_> = self.schedule.devices().collect();
        assert_eq!(devices.iter().map(|device| device.counters.requests).sum::<u64>(), counters.requests);
        assert_eq!(devices.iter().map(|device| device.counters.cycles).sum::<u64>(), counters.cycles);
        assert!(u128::from(counters.busy_ns) <= self.now.since(START).as_nanos());
    }

    /// The first grid moment of a group: spread over at most a second.
    pub(super) fn first_due(&self, group: usize) -> BootNs {
        let len = u32::try_from(self.settings.groups.len()).unwrap();
        let window = self.settings.groups[group].every.min(crate::poll::schedule::SPREAD_MAX);
        START.plus(window / len * u32::try_from(group).unwrap())
    }
}

pub(super) fn reason(reading: &Reading) -> Option<Reason> {
    match reading.sample {
        Sample::Good(_) => None,
        Sample::Bad(reason) => Some(reason),
    }
}

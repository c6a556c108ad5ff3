//! Any devices, any faults: the promises hold.

use std::time::Duration;

use proptest::prelude::*;

use super::fake::{Manner, Simulation, reason};
use crate::poll::testing::{Build, holding};
use crate::tag::{GroupId, Reason};

/// What may happen in the middle of a simulation.
#[derive(Debug, Clone)]
enum Event {
    Behave(usize, Manner),
    BusDown,
    BusUp,
    Illegal(usize, u16),
    Length(usize, u16),
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        4 => Just(Manner::Answers),
        2 => Just(Manner::Silent),
        2 => (1_u8..200).prop_map(Manner::Flaky),
        1 => (1_u8..13).prop_map(Manner::Refuses),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0_usize..5, manner()).prop_map(|(device, manner)| Event::Behave(device, manner)),
        1 => Just(Event::BusDown),
        2 => Just(Event::BusUp),
        1 => (0_usize..5, 0_u16..60).prop_map(|(device, address)| Event::Illegal(device, address)),
        1 => (0_usize..5, 1_u16..30).prop_map(|(device, length)| Event::Length(device, length)),
    ]
}

/// Groups as (device, interval in ms, addresses).
fn groups() -> impl Strategy<Value = Vec<(usize, u64, Vec<u16>)>> {
    prop::collection::vec((0_usize..5, 20_u64..3000, prop::collection::vec(0_u16..60, 1..12)), 1..8)
}

fn build(pipeline: u8, groups: &[(usize, u64, Vec<u16>)]) -> Build {
    let mut build = if pipeline == 0 { Build::serial(19_200) } else { Build::tcp(pipeline) };
    for unit in 1..=5 {
        let device = build.device(unit);
        build.settings.devices[device].timeout = Duration::from_millis(100 * u64::from(unit));
    }
    for (device, every, addresses) in groups {
        build.group(*device, *every, addresses.iter().map(|address| holding(*address)).collect());
    }
    build
}

fn apply(sim: &mut Simulation, event: Event) {
    match event {
        Event::Behave(device, manner) => sim.fakes[device].manner = manner,
        Event::BusDown => sim.bus_down(),
        Event::BusUp if sim.schedule.is_down() => sim.bus_up(),
        Event::BusUp => {}
        Event::Illegal(device, address) => {
            sim.fakes[device].illegal.insert(address);
        }
        Event::Length(device, length) => sim.fakes[device].length_max = length,
    }
}

proptest! {
    #[test]
    fn every_due_cycle_is_delivered_or_counted_whatever_happens(
        seed: u64,
        pipeline in 0_u8..5,
        groups in groups(),
        events in prop::collection::vec((0_u64..15_000, event()), 0..12),
    ) {
        let mut sim = Simulation::new(build(pipeline, &groups));
        sim.seed(seed);
        let mut end = 0;
        for (pause, event) in events {
            end += pause;
            sim.run_until(end);
            sim.check_promises();
            apply(&mut sim, event);
            sim.check_promises();
        }
        sim.bus_up();
        sim.run_until(end + 10_000);
        sim.check_promises();
        prop_assert!(sim.outstanding_max <= usize::from(pipeline.max(1)));
    }

    #[test]
    fn whatever_was_broken_is_read_again_after_it_is_mended(
        seed: u64,
        pipeline in 0_u8..5,
        groups in groups(),
        events in prop::collection::vec((0_u64..15_000, event()), 0..12),
    ) {
        let mut sim = Simulation::new(build(pipeline, &groups));
        sim.seed(seed);
        let mut end = 0;
        for (pause, event) in events {
            end += pause;
            sim.run_until(end);
            apply(&mut sim, event);
        }
        sim.bus_up();
        for fake in &mut sim.fakes {
            fake.manner = Manner::Answers;
            fake.illegal.clear();
            fake.length_max = u16::MAX;
        }
        // Five dead devices of at most half a second each in 5 % of the time, pauses of a minute between their probes.
        sim.run_until(end + 5 * 10_000 + 61_000);
        let mended = end + 111_000;
        sim.run_until(mended + 7_000);
        sim.check_promises();
        for group in 0..groups.len() {
            let reasons = sim.reasons(group, mended);
            prop_assert!(!reasons.is_empty() && reasons.iter().all(Option::is_none), "group {}: {:?}", group, reasons);
        }
    }

    #[test]
    fn with_time_to_spare_no_group_is_starved_and_none_skipped(
        latency_ms in 0_u64..20,
        intervals in prop::collection::vec(1_u64..20, 1..10),
    ) {
        // Each poll takes its latency and 5 ms on the wire; intervals are long enough for half of the bus's time, and
        // longer than all polls together.
        let work = (latency_ms + 5) * u64::try_from(intervals.len()).unwrap();
        let mut build = Build::serial(19_200);
        for (unit, interval) in (1..).zip(&intervals) {
            let device = build.device(unit);
            build.group(device, 2 * work * interval, vec![holding(0)]);
        }
        let mut sim = Simulation::new(build);
        for fake in &mut sim.fakes {
            fake.latency = Duration::from_millis(latency_ms);
        }
        sim.run_until(100 * work);
        sim.check_promises();
        prop_assert_eq!(sim.schedule.counters().overruns, 0);
        let late = sim.cycles.iter().map(|(at, cycle)| at.since(cycle.due)).max();
        prop_assert!(late.is_none_or(|late| late <= Duration::from_millis(work)), "{:?} of {} ms", late, work);
    }

    #[test]
    fn dead_devices_never_slow_their_neighbours(
        seed: u64,
        dead in prop::collection::vec(any::<bool>(), 10),
        every in prop::collection::vec(800_u64..3000, 10),
        timeout_ms in 50_u64..500,
    ) {
        let mut build = Build::serial(19_200);
        for (unit, every) in (1..).zip(&every) {
            let device = build.device(unit);
            build.settings.devices[device].timeout = Duration::from_millis(timeout_ms);
            build.group(device, *every, (0..4).map(holding).collect());
        }
        let mut sim = Simulation::new(build);
        sim.seed(seed);
        sim.run_until(4_000);
        for (fake, dead) in sim.fakes.iter_mut().zip(&dead) {
            fake.manner = if *dead { Manner::Silent } else { Manner::Answers };
        }
        // While they die, each of them may cost a timeout before each neighbour.
        sim.run_until(60_000);
        let probed_before = sim.schedule.counters().probe_ns;
        let overruns = |sim: &Simulation, group: usize| {
            sim.schedule.group_counters(GroupId(u32::try_from(group).unwrap())).unwrap().overruns
        };
        let overruns_before: Vec<u64> = (0..10).map(|group| overruns(&sim, group)).collect();
        sim.run_until(360_000);
        sim.check_promises();
        let bound = Duration::from_millis(10 * 10 + timeout_ms + 5);
        for group in (0..10).filter(|group| !dead[*group]) {
            for (at, cycle) in sim.cycles_of(group).filter(|(at, _)| *at > Simulation::at(60_000)) {
                prop_assert!(at.since(cycle.due) <= bound, "late by {:?}", at.since(cycle.due));
                prop_assert!(cycle.readings.iter().all(|reading| reason(reading).is_none()));
            }
            prop_assert_eq!(overruns(&sim, group), overruns_before[group]);
        }
        let probed = Duration::from_nanos(sim.schedule.counters().probe_ns - probed_before);
        let allowed = Duration::from_secs(300 / 20) + Duration::from_millis(timeout_ms + 5);
        prop_assert!(probed <= allowed, "{:?} of {:?}", probed, allowed);
        for group in (0..10).filter(|group| dead[*group]) {
            let last = sim.reasons(group, 359_000 - every[group]).last().copied();
            prop_assert_eq!(last, Some(Some(Reason::DeviceDown)));
        }
    }
}

//! Requests that are known to be never answered although others of their device are, when the device or the bus was away.

use std::collections::BTreeSet;

use super::fake::{Manner, Simulation, reason};
use crate::poll::request::Query;
use crate::poll::schedule::DeviceState;
use crate::poll::testing::{Build, holding};
use crate::tag::Reason;

/// What is never answered is known within this time.
const KNOWN_MS_MAX: u64 = 3 * 3_600_000;

/// The address of a request by its number.
fn address(number: u16) -> u16 {
    600 + number * 20
}

/// Six devices with one group of twelve requests each. The first never answers those of `mute`, and that is known by the moment that is returned too.
fn known_mute(every_ms: u64, mute: impl Iterator<Item = u16>) -> (Simulation, u64) {
    let mut build = Build::serial(19_200);
    for unit in 1..=6 {
        let device = build.device(unit);
        build.group(device, every_ms, (0..12).map(|number| holding(address(number))).collect());
    }
    let mut sim = Simulation::new(build);
    sim.run_until(10_000);
    sim.fakes[0].mute.extend(mute.map(address));
    let mut ms = 310_000;
    loop {
        sim.run_until(ms);
        let health = sim.schedule.devices().next().unwrap();
        if (health.state, health.requests.unanswered) == (DeviceState::Alive, sim.fakes[0].mute.len()) {
            // And some time that is as any other.
            sim.run_until(ms + 300_000);
            return (sim, ms + 300_000);
        }
        ms += 10_000;
        assert!(ms < KNOWN_MS_MAX, "{health:?}");
    }
}

/// The addresses that the first device was asked for from an order on.
fn asked(sim: &Simulation, from: usize) -> Vec<u16> {
    let of_first = sim.orders[from..].iter().filter(|(_, order)| order.device == 0);
    let address = |query: &Query| match query {
        Query::Read { address, .. } => *address,
        _ => panic!("{query:?}"),
    };
    of_first.map(|(_, order)| address(&order.request.query)).collect()
}

fn away(sim: &mut Simulation, ms: u64) {
    sim.bus_down();
    sim.run_until(ms + 2000);
    sim.bus_up();
}

#[test]
fn a_bus_that_comes_back_asks_again_for_what_is_never_answered_only_within_the_share() {
    let (mut sim, known_ms) = known_mute(900, 2..10);
    let mute = sim.fakes[0].mute.clone();
    let mut seen = BTreeSet::new();
    for round in 0..12 {
        let ms = known_ms + round * 20_000;
        away(&mut sim, ms);
        let (back_ms, from) = (ms + 2000, sim.orders.len());
        sim.run_until(back_ms + 9000);
        let of_mute = |sim: &Simulation| -> Vec<u16> {
            asked(sim, from).into_iter().filter(|at| mute.contains(at)).collect()
        };
        let in_vain = of_mute(&sim);
        assert!((1..=2).contains(&in_vain.len()), "round {round}: {in_vain:?} within 9 s");
        for group in 1..6 {
            let good = sim.reasons(group, back_ms).iter().filter(|found| found.is_none()).count();
            assert!(good >= 9, "round {round}, device {group}: {good} of 10 polls");
        }
        for (_, cycle) in sim.cycles_of(0).filter(|(at, _)| *at > Simulation::at(back_ms)) {
            for (number, reading) in (0..).zip(&cycle.readings) {
                let expected = mute.contains(&address(number)).then_some(Reason::Timeout);
                assert_eq!(reason(reading), expected, "round {round}, request {number}");
            }
        }
        let health = sim.schedule.devices().next().unwrap();
        assert_eq!((health.counters.deaths, health.requests.unanswered), (deaths(&sim), 8));
        sim.run_until(ms + 20_000);
        seen.extend(of_mute(&sim));
    }
    assert_eq!(seen, mute, "each has its turn");
    sim.check_promises();
}

fn deaths(sim: &Simulation) -> u64 {
    sim.schedule.devices().next().unwrap().counters.deaths
}

#[test]
fn what_is_answered_since_the_bus_was_away_is_found_in_the_first_cycles() {
    let (mut sim, known_ms) = known_mute(900, 2..10);
    sim.bus_down();
    sim.fakes[0].mute.clear();
    sim.run_until(known_ms + 30_000);
    sim.bus_up();
    sim.run_until(known_ms + 60_000);
    let after = sim.reasons(0, known_ms + 33_000);
    assert!(after.len() > 20 && after.iter().all(Option::is_none), "{after:?}");
    assert_eq!(sim.schedule.devices().next().unwrap().requests.unanswered, 0);
    sim.check_promises();
}

#[test]
fn each_request_that_is_never_answered_is_asked_once_before_one_is_asked_twice_after_the_bus_was_away() {
    let (mut sim, known_ms) = known_mute(900, 2..10);
    away(&mut sim, known_ms);
    let from = sim.orders.len();
    sim.run_until(known_ms + 110_000);
    let mute = sim.fakes[0].mute.clone();
    let in_vain: Vec<u16> = asked(&sim, from).into_iter().filter(|at| mute.contains(at)).collect();
    let first: BTreeSet<u16> = in_vain.iter().take(8).copied().collect();
    assert_eq!(first, mute, "{in_vain:?}");
}

#[test]
fn a_device_of_which_no_request_is_known_to_answer_is_given_up_soon_after_one_sign_of_life() {
    let (mut sim, known_ms) = known_mute(5000, 0..10);
    let mut ms = known_ms;
    for round in 1..=5 {
        let found = deaths(&sim);
        sim.fakes[0].manner = Manner::Silent;
        ms += 200_000;
        sim.run_until(ms);
        assert_eq!(deaths(&sim), found + 1, "round {round}");
        sim.fakes[0].manner = Manner::Answers;
        let recovered = sim.schedule.counters().recoveries;
        while sim.schedule.counters().recoveries == recovered {
            ms += 1;
            sim.run_until(ms);
        }
        sim.fakes[0].manner = Manner::Silent;
        ms += 30_000;
        sim.run_until(ms);
        let health = sim.schedule.devices().next().unwrap();
        assert!(matches!(health.state, DeviceState::Dead { .. }), "round {round}: {health:?}");
        sim.fakes[0].manner = Manner::Answers;
        ms += 200_000;
        sim.run_until(ms);
    }
    sim.check_promises();
}

/// How many probes it takes until the device, which died and was probed so often before, is found again.
fn probes_until_found(probed: u64, back: impl Fn(&mut Simulation)) -> u64 {
    let (mut sim, known_ms) = known_mute(5000, 0..10);
    let count = |sim: &Simulation| sim.schedule.devices().next().unwrap().counters.probes;
    let recoveries = |sim: &Simulation| sim.schedule.devices().next().unwrap().counters.recoveries;
    sim.fakes[0].manner = Manner::Silent;
    let (before, recovered, mut ms) = (count(&sim), recoveries(&sim), known_ms);
    while count(&sim) < before + probed {
        ms += 1000;
        sim.run_until(ms);
    }
    ms += 1000;
    sim.run_until(ms);
    sim.fakes[0].manner = Manner::Answers;
    back(&mut sim);
    let dead = count(&sim);
    while recoveries(&sim) == recovered {
        ms += 1000;
        assert!(count(&sim) < dead + 100, "after {probed} probes: never found");
        sim.run_until(ms);
    }
    sim.run_until(ms + 5000);
    sim.check_promises();
    count(&sim) - dead
}

#[test]
fn a_device_with_ten_of_twelve_requests_mute_is_found_by_its_second_probe() {
    for probed in 1..=14 {
        let probes = probes_until_found(probed, |_| ());
        assert!(probes <= 2, "after {probed} probes in vain it took {probes}");
    }
}

#[test]
fn a_dead_device_is_found_although_it_answers_only_what_it_never_answered_before() {
    for probed in [1, 2, 7] {
        let probes = probes_until_found(probed, |sim| {
            sim.fakes[0].mute = [address(10), address(11)].into();
        });
        assert!(probes <= 2, "after {probed} probes in vain it took {probes}");
        let probes = probes_until_found(probed, |sim| {
            sim.fakes[0].mute = (0..12).filter(|number| *number != 6).map(address).collect();
        });
        assert!(probes <= 20, "after {probed} probes in vain it took {probes}");
    }
}

//! Devices that lose an answer while others die or are dead.

use std::time::Duration;

use super::dying;
use super::fake::{Manner, START, Simulation, reason};
use crate::poll::schedule::DeviceState;
use crate::poll::testing::{Build, holding};
use crate::tag::BootNs;

/// Twenty devices on a line that they keep busy for 60 % of the time, each asked every 870 ms, with time-outs of 500 ms; `dead` of them are silent from 10 s on.
fn shared_line(dead: usize) -> Simulation {
    let mut sim = dying(0, 0.23, Duration::from_millis(500), None);
    for fake in &mut sim.fakes {
        fake.latency = Duration::from_millis(21);
    }
    for fake in sim.fakes.iter_mut().take(dead) {
        fake.manner = Manner::Silent;
    }
    sim
}

/// Share of its polls that a group got between two moments, ms, and the longest time between two of them.
fn got(sim: &Simulation, group: usize, from: u64, until: u64) -> (f64, Duration) {
    let (start, end) = (Simulation::at(from), Simulation::at(until));
    let good = sim.cycles_of(group).filter(|(at, cycle)| {
        *at > start && *at <= end && cycle.readings.iter().all(|r| reason(r).is_none())
    });
    let moments: Vec<BootNs> = std::iter::once(start).chain(good.map(|(at, _)| *at)).chain([end]).collect();
    let longest = moments.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
    let wanted = end.since(start).as_secs_f64() / sim.settings.groups[group].every.as_secs_f64();
    ((moments.len() - 2) as f64 / wanted, longest)
}

/// Loses the next `count` answers of a device, and runs until the last of them was asked for.
fn lose(sim: &mut Simulation, device: usize, count: usize) {
    let from = sim.orders.len();
    sim.fakes[device].manner = Manner::Silent;
    for _ in 0..100_000 {
        if sim.orders[from..].iter().filter(|(_, order)| order.device == device).count() == count {
            break;
        }
        let next = sim.now.plus(Duration::from_millis(1)).since(START);
        sim.run_until(u64::try_from(next.as_millis()).unwrap());
    }
    sim.fakes[device].manner = Manner::Answers;
}

#[test]
fn a_device_that_loses_one_or_two_answers_while_others_die_is_asked_again_within_some_seconds() {
    for dead in [1, 5, 10] {
        for (lost_at, count) in
            [(12_000, 1), (14_100, 1), (25_000, 1), (100_000, 1), (25_000, 2), (31_300, 2), (100_000, 2)]
        {
            let mut sim = shared_line(dead);
            sim.run_until(lost_at);
            lose(&mut sim, 19, count);
            sim.run_until(lost_at + 60_000);
            sim.check_promises();
            let (share, longest) = got(&sim, 19, lost_at, lost_at + 60_000);
            // While they die each costs one time-out, which nobody can avoid.
            let dying =
                if lost_at < 15_000 { Duration::from_millis(500 * dead as u64) } else { Duration::ZERO };
            // Each try that fails takes a pause of some time-outs.
            let pause = if count == 2 { Duration::from_secs(5) } else { Duration::ZERO };
            let stale = sim.settings.groups[19].every * 7 / 2 + dying + pause;
            assert!(
                longest < stale,
                "{dead} dead, {count} lost at {lost_at}: {share} of its polls, silent for {longest:?}"
            );
        }
    }
}

#[test]
fn devices_that_lose_answers_now_and_then_are_not_starved_by_dead_ones() {
    for dead in [0, 1, 5] {
        let mut sim = shared_line(dead);
        for fake in sim.fakes.iter_mut().skip(dead) {
            fake.manner = Manner::Flaky(3);
        }
        sim.run_until(400_000);
        for group in dead..20 {
            let (share, longest) = got(&sim, group, 40_000, 400_000);
            assert!(
                share >= 0.95 && longest < Duration::from_secs(5),
                "{dead} dead: {group} got {share}, {longest:?}"
            );
        }
    }
}

#[test]
fn on_a_line_that_is_never_free_the_failures_of_others_do_not_put_off_a_failing_device_for_ever() {
    // A hundred devices that want twice the time that there is, and one that is asked every ten seconds.
    let mut build = Build::serial(19_200);
    for unit in 1..=101 {
        let device = build.device(unit);
        build.settings.devices[device].timeout = Duration::from_millis(100);
        build.group(device, if unit <= 100 { 500 } else { 10_000 }, vec![holding(7)]);
    }
    let mut sim = Simulation::new(build);
    sim.run_until(5_000);
    sim.fakes[100].manner = Manner::Silent;
    sim.run_until(15_000);
    let failures = sim.schedule.devices().nth(100).unwrap();
    assert_eq!(
        failures.state,
        DeviceState::Failing { failures: 1 },
        "it lost an answer and that to the retry"
    );
    sim.fakes[100].manner = Manner::Answers;
    // Every 0.9 s another device loses one answer.
    for round in 0..16 {
        sim.run_until(15_000 + round * 900);
        lose(&mut sim, usize::try_from(round).unwrap(), 1);
    }
    sim.run_until(29_400);
    let good: Vec<BootNs> = sim
        .cycles_of(100)
        .filter(|(at, cycle)| *at > Simulation::at(15_000) && reason(&cycle.readings[0]).is_none())
        .map(|(at, cycle)| BootNs(at.0 - cycle.due.0))
        .collect();
    assert!(good.first().is_some_and(|late| late.0 < 5_000_000_000), "{good:?}");
    sim.check_promises();
}

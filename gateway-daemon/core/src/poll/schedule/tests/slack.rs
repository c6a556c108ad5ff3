//! Devices that lose an answer while others die or are dead.

use std::time::Duration;

use super::dying;
use super::fake::{Manner, Simulation, reason};
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

#[test]
fn a_device_that_loses_one_answer_while_others_die_is_asked_again_before_it_is_stale() {
    for dead in [1, 5, 10] {
        for lost_at in [12_000, 14_100, 25_000, 100_000] {
            let mut sim = shared_line(dead);
            sim.run_until(lost_at);
            sim.fakes[19].manner = Manner::Silent;
            sim.run_until(lost_at + 870);
            sim.fakes[19].manner = Manner::Answers;
            sim.run_until(lost_at + 60_000);
            sim.check_promises();
            let (share, longest) = got(&sim, 19, lost_at, lost_at + 60_000);
            // While they die each costs one time-out, which nobody can avoid.
            let dying =
                if lost_at < 15_000 { Duration::from_millis(500 * dead as u64) } else { Duration::ZERO };
            let stale = sim.settings.groups[19].every * 7 / 2 + dying;
            assert!(
                longest < stale,
                "{dead} dead, lost at {lost_at}: {share} of its polls, silent for {longest:?}"
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

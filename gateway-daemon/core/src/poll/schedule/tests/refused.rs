//! What trials of refused and cut blocks cost, and when they are counted.

use super::fake::{Manner, Simulation};
use super::{asked_after, one_group};
use crate::poll::testing::holding;
use crate::poll::words;

#[test]
fn a_trial_of_a_block_in_many_pieces_costs_a_twentieth_of_the_requests() {
    for length_max in [1, 2, 7, 20, 30] {
        let mut sim = Simulation::new(one_group(1000, (0..60).map(holding).collect()));
        sim.fakes[0].length_max = length_max;
        sim.run_until(990);
        let (asked, cut) = (sim.orders.len(), sim.schedule.counters().splits);
        // From the end of the cycle that cut it until behind the first trial, and behind each later one.
        let mut cuts = cut;
        for second in 1..2000 {
            sim.run_until(second * 1000 + 990);
            let now = sim.schedule.counters().splits;
            if now > cuts {
                cuts = now;
                let (asked, extra) = (sim.orders.len() - asked, usize::try_from(now - cut).unwrap());
                assert!(
                    extra * 20 <= asked,
                    "at most {length_max}: {extra} of {asked} after {second} cycles"
                );
            }
        }
        assert!(cuts > cut, "nothing was tried");
        sim.check_promises();
    }
}

#[test]
fn cycles_in_which_nothing_was_asked_bring_no_trial_nearer() {
    let mut sim = Simulation::new(one_group(1000, (0..60).map(holding).collect()));
    sim.fakes[0].length_max = 20;
    sim.run_until(4990);
    let cut = sim.schedule.counters().splits;
    sim.fakes[0].manner = Manner::Silent;
    // It dies; no cycle asks anything for a minute and a half.
    sim.run_until(94_990);
    assert_eq!(sim.schedule.counters().splits, cut);
    let mut refusals = super::super::refusals::Refusals::new(
        (0..4).map(|at| (&holding(at)).into()).collect(),
        crate::poll::plan::Limits { registers_max: 125, bits_max: 2000, gap_max: 8, one_by_one: false },
    );
    let whole = refusals.plan();
    assert!(!refusals.begin());
    for _ in 0..3 {
        refusals.asked();
    }
    refusals.cut();
    assert_eq!(refusals.end(), None);
    for _ in 0..10_000 {
        assert!(!refusals.begin(), "a cycle without a request brought a trial");
        assert_eq!(refusals.end(), None);
    }
    let asked = (0..10_000).take_while(|_| {
        let tried = refusals.begin();
        refusals.asked();
        refusals.end();
        !tried
    });
    assert_eq!(asked.count(), 16, "one cut of two requests, and the least pause");
    assert_eq!(refusals.plan(), whole);
}

#[test]
fn a_device_that_is_asked_in_pieces_says_so_until_they_are_joined_again() {
    let mut sim = Simulation::new(one_group(1000, (0..60).map(holding).collect()));
    let note = |sim: &Simulation| words::apart(&sim.schedule.devices().next().unwrap().requests);
    sim.run_until(2990);
    assert_eq!(note(&sim), None);
    sim.fakes[0].length_max = 20;
    sim.run_until(4990);
    let said = note(&sim).unwrap();
    assert!(
        said.starts_with("is asked in 4 requests instead of 1, because it refuses longer ones"),
        "{said}"
    );
    sim.fakes[0].length_max = 125;
    sim.run_until(99_990);
    assert_eq!((note(&sim), asked_after(&sim, 90_000)), (None, 10));
}

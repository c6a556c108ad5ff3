mod away;
mod fake;
mod hour;
mod mute;
mod random;
mod refused;
mod since;
mod slack;

use std::time::Duration;

use fake::{Manner, START, Simulation, reason};

use super::{BUSY_PAUSE, Cause, DeviceState, PROBE_PATIENCE, REFRESH_AFTER, SPREAD_MAX, Step, Ticket};
use crate::poll::request::{Answer, LineFault, Query, Table, UnitId};
use crate::poll::settings::{Kind, Point};
use crate::poll::testing::{Build, holding};
use crate::tag::{BootNs, GroupId, Reason, Sample, Value};

/// So many devices with one group of four registers each.
fn devices(count: u8, every_ms: u64) -> Build {
    let mut build = Build::serial(19_200);
    for unit in 1..=count {
        let device = build.device(unit);
        build.group(device, every_ms, (0..4).map(holding).collect());
    }
    build
}

/// One device with one group of these points.
fn one_group(every_ms: u64, points: Vec<Point>) -> Build {
    let mut build = Build::serial(19_200);
    let device = build.device(1);
    build.group(device, every_ms, points);
    build
}

#[test]
fn every_group_is_polled_soon_after_the_start_and_then_on_its_grid() {
    let mut sim = Simulation::new(devices(10, 60_000));
    sim.run_until(130_000);
    sim.check_promises();
    for group in 0..10 {
        let dues: Vec<BootNs> = sim.cycles_of(group).map(|(_, cycle)| cycle.due).collect();
        assert_eq!(dues.len(), 3);
        assert!(dues[0] < START.plus(SPREAD_MAX));
        assert_eq!(dues[2].since(dues[0]), Duration::from_secs(120));
    }
    assert_eq!(sim.schedule.counters().overruns, 0);
}

#[test]
fn an_answer_becomes_readings_with_their_own_time() {
    let point = |table, address, kind| Point { table, address, kind };
    let points = vec![
        point(Table::Input, 300, Kind::I16 { swap: false }),
        point(Table::Coil, 7, Kind::Bit),
        point(Table::Holding, 258, Kind::U8 { high: true }),
        point(Table::Holding, 258, Kind::BitOf(1)),
    ];
    let mut sim = Simulation::new(one_group(1000, points));
    sim.run_until(900);
    let (_, cycle) = &sim.cycles[0];
    let samples: Vec<&Sample> = cycle.readings.iter().map(|reading| &reading.sample).collect();
    let values = [Value::Int(300), Value::Bool(true), Value::UInt(1), Value::Bool(true)].map(Sample::Good);
    assert_eq!(samples, values.iter().collect::<Vec<_>>());
    assert_eq!(sim.orders.len(), 3);
    assert!(cycle.readings[1].at < cycle.readings[2].at && cycle.readings[2].at < cycle.readings[0].at);
}

#[test]
fn a_group_that_cannot_keep_up_skips_and_counts() {
    let mut sim = Simulation::new(devices(1, 4));
    sim.run_until(1000);
    sim.check_promises();
    let counters = *sim.schedule.group_counters(GroupId(0)).as_ref().unwrap();
    assert!(counters.cycles >= 99 && counters.overruns >= 148, "{counters:?}");
}

#[test]
fn a_slow_group_is_not_starved_by_a_fast_one_on_a_full_bus() {
    let mut build = devices(1, 2);
    let device = build.device(2);
    build.group(device, 1000, (0..20).map(|n| holding(n * 50)).collect());
    let mut sim = Simulation::new(build);
    sim.run_until(60_000);
    sim.check_promises();
    let slow = sim.schedule.group_counters(GroupId(1)).unwrap();
    assert!(slow.cycles >= 25, "the bus has a fifth of the time it needs: {slow:?}");
}

#[test]
fn a_failed_request_is_tried_again() {
    let mut sim = Simulation::new(devices(1, 10_000));
    sim.fakes[0].manner = Manner::Silent;
    sim.run_until(300);
    sim.fakes[0].manner = Manner::Answers;
    sim.run_until(2000);
    assert_eq!(sim.reasons(0, 0), [None]);
    let counters = sim.schedule.counters();
    assert_eq!((counters.retries, counters.faults.silence, counters.answers), (1, 1, 1));
}

#[test]
fn the_poll_that_kills_a_device_reports_its_own_reason_and_the_next_ones_say_device_down() {
    let mut sim = Simulation::new(devices(1, 2000));
    sim.fakes[0].manner = Manner::Silent;
    sim.run_until(13_000);
    sim.check_promises();
    let (timeout, dead) = (Some(Reason::Timeout), Some(Reason::DeviceDown));
    assert_eq!(sim.reasons(0, 0)[..6], [timeout, timeout, timeout, dead, dead, dead]);
    let health = sim.schedule.devices().next().unwrap();
    assert!(matches!(health.state, DeviceState::Dead { .. }));
    assert_eq!((health.last_answer, health.last_failure), (None, Some(Cause::Line(LineFault::Silence))));
    assert_eq!(health.counters.deaths, 1);
}

#[test]
fn a_dead_device_recovers_by_itself_and_its_slow_groups_are_read_at_once() {
    let mut build = devices(1, 1000);
    build.group(0, 3_600_000, vec![holding(9)]);
    let mut sim = Simulation::new(build);
    sim.run_until(5_000);
    sim.fakes[0].manner = Manner::Silent;
    sim.run_until(100_000);
    assert_eq!(sim.reasons(0, 50_000).last(), Some(&Some(Reason::DeviceDown)));
    sim.fakes[0].manner = Manner::Refuses(1);
    sim.run_until(100_000 + 61_000);
    sim.fakes[0].manner = Manner::Answers;
    sim.run_until(170_000);
    sim.check_promises();
    assert_eq!(sim.reasons(0, 168_000), [None, None]);
    assert_eq!(sim.schedule.counters().recoveries, 1);
    assert_eq!(sim.reasons(1, 100_000), [Some(Reason::Exception(1))], "read when the device came back");
}

#[test]
fn probes_back_off_and_stay_within_their_share() {
    let mut sim = Simulation::new(devices(1, 1000));
    sim.fakes[0].manner = Manner::Silent;
    sim.run_until(600_000);
    sim.check_promises();
    let probes: Vec<BootNs> = sim.orders.iter().filter(|(_, order)| order.probe).map(|(at, _)| *at).collect();
    let pauses: Vec<u64> = probes.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert!(pauses.is_sorted() && pauses[0] >= 10, "a probe of half a second in 5 % of the time: {pauses:?}");
    assert!(pauses.last().is_some_and(|pause| (60..=61).contains(pause)), "{pauses:?}");
    let counters = sim.schedule.counters();
    assert!(counters.probe_ns <= 600_000_000_000 / 20 && counters.probes >= 10);
}

#[test]
fn one_dead_device_never_slows_its_neighbours() {
    let mut sim = Simulation::new(devices(20, 1000));
    sim.run_until(10_000);
    let healthy = sim.schedule.counters().overruns;
    sim.fakes[7].manner = Manner::Silent;
    sim.run_until(310_000);
    sim.check_promises();
    assert_eq!(healthy, 0);
    // Twenty polls of 10 ms and one timeout fit into every second, so that no neighbour ever misses its turn.
    let bound = Duration::from_millis(20 * 10 + 505);
    for group in (0..20).filter(|group| *group != 7) {
        assert_eq!(sim.schedule.group_counters(GroupId(group)).unwrap().overruns, 0);
        for (at, cycle) in sim.cycles_of(group as usize) {
            assert!(at.since(cycle.due) <= bound, "{:?}", at.since(cycle.due));
            assert!(cycle.readings.iter().all(|reading| reason(reading).is_none()));
        }
    }
    let counters = sim.schedule.counters();
    assert!(counters.probe_ns <= (310_000_000_000 / 20) + 505_000_000, "{}", counters.probe_ns);
    assert_eq!(counters.deaths, 1);
}

#[test]
fn a_probe_goes_where_it_disturbs_nobody_if_there_is_such_a_gap() {
    let mut build = devices(1, 1000);
    let dead = build.device(2);
    build.group(dead, 700, vec![holding(0)]);
    let mut sim = Simulation::new(build);
    sim.fakes[1].manner = Manner::Silent;
    sim.run_until(300_000);
    sim.check_promises();
    assert!(sim.schedule.counters().probes >= 5);
    for (at, cycle) in sim.cycles_of(0).filter(|(at, _)| *at > Simulation::at(10_000)) {
        assert!(at.since(cycle.due) <= Duration::from_millis(15), "{:?}", at.since(cycle.due));
    }
}

#[test]
fn a_probe_waits_for_a_gap_but_not_for_ever() {
    // A cycle of 10 ms every 300 ms leaves no gap as long as the timeout of 500 ms.
    let mut build = devices(1, 300);
    let dead = build.device(2);
    build.group(dead, 1000, vec![holding(0)]);
    let mut sim = Simulation::new(build);
    sim.fakes[1].manner = Manner::Silent;
    sim.run_until(60_000);
    sim.check_promises();
    assert!(sim.schedule.counters().probes >= 3);
    assert!(PROBE_PATIENCE < Duration::from_secs(10));
}

#[test]
fn a_bad_point_alone_is_marked_and_the_cuts_are_remembered() {
    let mut sim = Simulation::new(one_group(1000, (0..64).map(holding).collect()));
    sim.fakes[0].illegal.insert(21);
    sim.run_until(990);
    let (_, first) = &sim.cycles[0];
    for (index, reading) in first.readings.iter().enumerate() {
        let expected = (index == 21).then_some(Reason::Exception(2));
        assert_eq!(reason(reading), expected, "point {index}");
    }
    let (splits, asked) = (sim.schedule.counters().splits, sim.orders.len());
    assert!((6..=7).contains(&splits), "{splits}");
    sim.run_until(1990);
    sim.check_promises();
    assert_eq!(sim.schedule.counters().splits, splits);
    assert_eq!(sim.orders.len() - asked, 3, "before the bad point, the bad point, after it");
    sim.fakes[0].illegal.clear();
    sim.run_until(2990);
    assert_eq!(sim.reasons(0, 2000), [None], "the bad point comes back by itself");
}

#[test]
fn an_unreadable_gap_marks_no_point() {
    let points = [0, 1, 2, 5, 6, 10].map(holding).to_vec();
    let mut sim = Simulation::new(one_group(1000, points));
    sim.fakes[0].illegal.extend([3, 4]);
    sim.run_until(2990);
    assert_eq!(sim.reasons(0, 0), [None, None, None]);
    assert!(sim.schedule.counters().splits <= 2);
    sim.check_promises();
}

#[test]
fn bits_of_a_refused_register_are_all_marked_and_cut_no_further() {
    let bits = (0..16).map(|bit| Point { kind: Kind::BitOf(bit), ..holding(4) });
    let mut sim = Simulation::new(one_group(1000, bits.chain([holding(5)]).collect()));
    sim.fakes[0].illegal.insert(4);
    sim.run_until(1990);
    for (_, cycle) in &sim.cycles {
        let bad = cycle.readings.iter().filter(|reading| reason(reading) == Some(Reason::Exception(2)));
        assert_eq!(bad.count(), 16);
    }
    assert_eq!(sim.schedule.counters().splits, 1);
}

#[test]
fn a_busy_device_is_asked_again_after_a_pause() {
    let mut sim = Simulation::new(devices(1, 10_000));
    sim.fakes[0].manner = Manner::Refuses(6);
    sim.run_until(50);
    sim.fakes[0].manner = Manner::Answers;
    sim.run_until(1000);
    assert_eq!(sim.reasons(0, 0), [None]);
    assert!(sim.orders[1].0.since(sim.orders[0].0) >= BUSY_PAUSE);
    sim.fakes[0].manner = Manner::Refuses(5);
    sim.run_until(11_000);
    assert_eq!(sim.reasons(0, 1000), [Some(Reason::Exception(5))]);
}

#[test]
fn exceptions_keep_a_device_alive_except_those_of_a_gateway_that_found_nobody() {
    let deaths = |code| {
        let mut sim = Simulation::new(devices(1, 1000));
        sim.fakes[0].manner = Manner::Refuses(code);
        sim.run_until(20_000);
        sim.check_promises();
        assert_eq!(sim.reasons(0, 0)[0], Some(Reason::Exception(code)));
        sim.schedule.counters().deaths
    };
    let codes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 200];
    assert_eq!(codes.map(deaths), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0]);
}

#[test]
fn a_bus_that_is_down_yields_bad_cycles_on_the_grid_and_fresh_ones_when_it_is_back() {
    let mut build = devices(1, 1000);
    build.group(0, 60_000, vec![holding(9)]);
    let mut sim = Simulation::new(build);
    sim.run_until(3_505);
    sim.bus_down();
    sim.run_until(9_900);
    let down = Some(Reason::BusDown);
    assert_eq!(sim.reasons(0, 3_505), [down; 6]);
    sim.bus_up();
    sim.run_until(10_400);
    sim.check_promises();
    assert_eq!(sim.reasons(0, 9_950), [None]);
    assert_eq!(sim.reasons(1, 9_900), [None], "not due for {REFRESH_AFTER:?}, so read at once");
}

#[test]
fn a_fault_that_says_the_bus_is_down_ends_the_running_cycle() {
    let mut build = devices(1, 1000);
    build.settings.devices[0].registers_max = 1;
    let mut schedule = super::Schedule::new(&build.settings, 0, START);
    let Step::Ask(first) = schedule.next(START) else { panic!() };
    schedule.answered(START, first.ticket, Ok(Answer::Registers(vec![7])));
    let Step::Ask(second) = schedule.next(START) else { panic!() };
    schedule.answered(START, second.ticket, Err(LineFault::Down));
    let cycle = schedule.take_cycles().pop().unwrap();
    let reasons: Vec<_> = cycle.readings.iter().map(reason).collect();
    assert_eq!(reasons, [None, Some(Reason::BusDown), Some(Reason::BusDown), Some(Reason::BusDown)]);
    assert!(schedule.is_down() && matches!(schedule.next(START), Step::Wait(_)));
    schedule.answered(START, second.ticket, Ok(Answer::Registers(vec![7])));
    schedule.answered(START, Ticket(99), Err(LineFault::Silence));
    assert_eq!((schedule.counters().strays, schedule.counters().faults.down), (2, 1));
    assert_eq!(schedule.take_cycles(), []);
}

#[test]
fn an_answer_of_the_wrong_size_is_a_bad_answer_and_never_a_value() {
    let mut build = devices(1, 1000);
    build.settings.devices[0].retries = 0;
    for wrong in [Answer::Registers(vec![1, 2, 3]), Answer::Bits(vec![true; 4]), Answer::Done] {
        let mut schedule = super::Schedule::new(&build.settings, 0, START);
        let Step::Ask(order) = schedule.next(START) else { panic!() };
        schedule.answered(START, order.ticket, Ok(wrong));
        let cycle = schedule.take_cycles().pop().unwrap();
        assert!(cycle.readings.iter().all(|reading| reason(reading) == Some(Reason::BadAnswer)));
        assert_eq!((schedule.counters().faults.mismatch, schedule.counters().answers), (1, 0));
    }
}

#[test]
fn a_pipeline_is_filled_only_for_a_device_that_has_answered() {
    let mut build = Build::tcp(4);
    let device = build.device(1);
    build.group(device, 1000, (0..8).map(|n| holding(n * 100)).collect());
    let mut sim = Simulation::new(build);
    sim.run_until(900);
    sim.check_promises();
    assert_eq!(sim.outstanding_max, 4);
    assert_eq!(
        sim.orders[1].0.since(sim.orders[0].0),
        Duration::from_millis(10),
        "the second waits for an answer"
    );
    assert_eq!(sim.orders[4].0, sim.orders[1].0, "and then four go at once");
    sim.fakes[0].manner = Manner::Silent;
    sim.outstanding_max = 0;
    sim.run_until(30_000);
    sim.check_promises();
    assert_eq!(sim.schedule.counters().deaths, 1);
}

#[test]
fn a_dead_unit_behind_a_pipelined_gateway_takes_one_place_only() {
    let mut build = Build::tcp(2);
    for unit in 1..=4 {
        let device = build.device(unit);
        build.group(device, 100, vec![holding(0), holding(500)]);
    }
    let mut sim = Simulation::new(build);
    sim.fakes[2].manner = Manner::Silent;
    sim.run_until(60_000);
    sim.check_promises();
    for group in [0, 1, 3] {
        let counters = sim.schedule.group_counters(GroupId(group)).unwrap();
        assert_eq!(counters.overruns, 0, "group {group}: {counters:?}");
    }
}

#[test]
fn an_order_carries_what_the_device_needs() {
    let mut build = devices(1, 1000);
    build.settings.buses[0].pause = Duration::from_millis(3);
    build.settings.devices[0].delay_before = Duration::from_millis(4);
    let mut schedule = super::Schedule::new(&build.settings, 0, START);
    let Step::Ask(order) = schedule.next(START) else { panic!() };
    assert_eq!(order.delay_before, Duration::from_millis(7));
    assert_eq!((order.timeout, order.device, order.attempt), (Duration::from_millis(500), 0, 0));
    assert_eq!(order.request.unit, UnitId::tcp(1));
    assert_eq!(order.request.query, Query::Read { table: Table::Holding, address: 0, count: 4 });
}

#[test]
fn a_suspended_machine_counts_what_it_missed_and_catches_up_on_nothing() {
    let mut sim = Simulation::new(devices(2, 1000));
    sim.run_until(5_000);
    sim.now = Simulation::at(8 * 3_600_000);
    sim.run_until(8 * 3_600_000 + 10_000);
    sim.check_promises();
    assert!(sim.schedule.counters().overruns > 2 * 28_000);
    assert!(sim.cycles_of(0).count() < 20);
}

#[test]
fn a_bus_without_groups_waits_for_ever() {
    let mut schedule = super::Schedule::new(&Build::serial(9600).settings, 0, START);
    assert_eq!(schedule.next(START), Step::Wait(BootNs(u64::MAX)));
    let mut nowhere = super::Schedule::new(&devices(1, 1000).settings, 7, START);
    assert_eq!(nowhere.next(START), Step::Wait(BootNs(u64::MAX)));
}

/// Requests that began at so many ms or later.
fn asked_after(sim: &Simulation, ms: u64) -> usize {
    sim.orders.iter().filter(|(at, _)| *at >= Simulation::at(ms)).count()
}

#[test]
fn a_device_that_refuses_everything_while_it_boots_is_read_in_one_request_afterwards() {
    for code in [1, 2, 3] {
        for known in [false, true] {
            let mut sim = Simulation::new(one_group(1000, (0..60).map(holding).collect()));
            let boots_at = if known { 2500 } else { 0 };
            sim.run_until(boots_at);
            sim.fakes[0].manner = Manner::Refuses(code);
            sim.run_until(boots_at + 5000);
            sim.fakes[0].manner = Manner::Answers;
            sim.run_until(boots_at + 6990);
            sim.check_promises();
            let settled = boots_at + 7000;
            sim.run_until(settled + 9_990);
            assert_eq!(asked_after(&sim, settled), 10, "exception {code}, known before: {known}");
            assert!(sim.reasons(0, settled).iter().all(Option::is_none), "{code}");
            if known && code != 1 {
                // The first refused poll finds three bad points, each later one asks for all and for one.
                let booting = sim.orders.iter().filter(|(at, _)| {
                    *at > Simulation::at(boots_at) && *at <= Simulation::at(boots_at + 5000)
                });
                assert!(booting.count() <= 30, "{code}");
            }
        }
    }
}

#[test]
fn of_a_device_that_boots_and_has_a_bad_point_only_that_one_stays_apart() {
    let mut sim = Simulation::new(one_group(1000, (0..60).map(holding).collect()));
    sim.fakes[0].illegal.insert(21);
    sim.run_until(2500);
    sim.fakes[0].manner = Manner::Refuses(2);
    sim.run_until(7500);
    sim.fakes[0].manner = Manner::Answers;
    sim.run_until(20_900);
    for (_, cycle) in sim.cycles_of(0).filter(|(at, _)| *at > Simulation::at(11_000)) {
        let bad: Vec<usize> = (0..60).filter(|point| reason(&cycle.readings[*point]).is_some()).collect();
        assert_eq!(bad, [21]);
    }
    assert_eq!(asked_after(&sim, 11_000), 10 * 3, "before the bad point, the bad point, after it");
    sim.check_promises();
}

#[test]
fn an_unknown_device_whose_first_points_are_bad_gives_all_others_in_its_first_poll() {
    let mut sim = Simulation::new(one_group(2000, (0..60).map(holding).collect()));
    sim.fakes[0].illegal.extend(0..10);
    sim.run_until(1990);
    let (_, first) = &sim.cycles[0];
    assert!((10..60).all(|point| reason(&first.readings[point]).is_none()));
}

#[test]
fn a_point_that_comes_back_is_read_with_its_neighbours_and_one_that_comes_and_goes_more_and_more_seldom() {
    let mut sim = Simulation::new(one_group(1000, (0..60).map(holding).collect()));
    let splits = |sim: &Simulation| sim.schedule.counters().splits;
    sim.fakes[0].illegal.insert(30);
    sim.run_until(1990);
    sim.fakes[0].illegal.clear();
    sim.run_until(3990);
    assert_eq!(asked_after(&sim, 3000), 1);
    let before = splits(&sim);
    for round in 0..500 {
        sim.fakes[0].illegal.insert(30);
        sim.run_until(5990 + round * 4000);
        sim.fakes[0].illegal.clear();
        sim.run_until(7990 + round * 4000);
    }
    sim.check_promises();
    let again = splits(&sim) - before;
    assert!(again < 10 * 7, "{again} requests were cut in 500 rounds");
}

#[test]
fn blocks_that_were_cut_for_their_length_are_tried_joined_seldom_and_stay_joined_when_that_works() {
    let mut sim = Simulation::new(one_group(1000, (0..60).map(holding).collect()));
    sim.fakes[0].length_max = 20;
    sim.run_until(4990);
    assert_eq!(sim.reasons(0, 0), [None; 5]);
    let (asked, cut) = (sim.orders.len(), sim.schedule.counters().splits);
    sim.run_until(1_004_990);
    let (asked, cut) = (sim.orders.len() - asked, sim.schedule.counters().splits - cut);
    assert!(cut > 3 && asked - 4000 <= 4000 / 20, "{cut} cuts, {asked} requests");
    sim.fakes[0].length_max = 125;
    sim.run_until(3_099_990);
    assert_eq!(asked_after(&sim, 3_090_000), 10, "joined again");
    sim.check_promises();
}

#[test]
fn after_the_device_or_the_bus_was_away_everything_is_tried_as_planned() {
    let mut sim = Simulation::new(one_group(1000, (0..60).map(holding).collect()));
    sim.fakes[0].illegal.extend([10, 11, 30]);
    sim.run_until(3990);
    sim.fakes[0].illegal.clear();
    sim.bus_down();
    sim.run_until(5990);
    sim.bus_up();
    sim.run_until(7990);
    assert_eq!(asked_after(&sim, 7000), 1, "after the bus");
    sim.fakes[0].length_max = 20;
    sim.run_until(9990);
    assert_eq!(asked_after(&sim, 9000), 4);
    sim.fakes[0].manner = Manner::Silent;
    sim.run_until(30_000);
    sim.fakes[0].length_max = 125;
    sim.fakes[0].manner = Manner::Answers;
    sim.run_until(99_990);
    assert_eq!(asked_after(&sim, 90_000), 10, "after the device");
    sim.check_promises();
}

#[test]
fn exceptions_that_say_nothing_about_addresses_never_cut_a_block() {
    for code in [1, 4, 5, 6, 10, 11] {
        let mut sim = Simulation::new(one_group(1000, (0..60).map(holding).collect()));
        sim.fakes[0].manner = Manner::Refuses(code);
        sim.run_until(20_000);
        assert_eq!(sim.schedule.counters().splits, 0, "{code}");
        sim.check_promises();
    }
}

/// Twenty devices that keep the line busy for `load` of the time, of which so many die after ten seconds.
fn dying(count: usize, load: f64, timeout: Duration, codes: Option<u8>) -> Simulation {
    let mut build = Build::serial(19_200);
    // 5 ms on the wire and 5 ms of latency.
    let every = Duration::from_millis(10 * 20).div_f64(load);
    for unit in 1..=20 {
        let device = build.device(unit);
        build.settings.devices[device].timeout = timeout;
        build.group(device, u64::try_from(every.as_millis()).unwrap(), (0..4).map(holding).collect());
    }
    let mut sim = Simulation::new(build);
    sim.run_until(10_000);
    for fake in sim.fakes.iter_mut().take(count) {
        match codes {
            Some(code) => (fake.manner, fake.latency) = (Manner::Refuses(code), timeout),
            None => fake.manner = Manner::Silent,
        }
    }
    sim
}

#[test]
fn devices_that_die_together_cost_the_others_their_first_time_outs_and_no_more() {
    for (timeout_ms, code) in [(300, None), (1000, None), (1000, Some(11))] {
        for count in [1, 5, 10, 15] {
            let timeout = Duration::from_millis(timeout_ms);
            let mut sim = dying(count, 0.6, timeout, code);
            let every = sim.settings.groups[0].every;
            let lost = (timeout + Duration::from_millis(5)) * u32::try_from(count).unwrap();
            // One retry at once is worth its time-out: most answers that are lost are lost to noise.
            for seconds in [30, 60] {
                let end = Duration::from_secs(10 + seconds) + lost;
                sim.run_until(u64::try_from(end.as_millis()).unwrap());
                for group in count..20 {
                    let good: Vec<BootNs> = sim
                        .cycles_of(group)
                        .filter(|(at, cycle)| {
                            *at > Simulation::at(10_000) && cycle.readings.iter().all(|r| reason(r).is_none())
                        })
                        .map(|(at, _)| *at)
                        .collect();
                    let wanted = Duration::from_secs(seconds).as_secs_f64() / every.as_secs_f64();
                    let share = good.len() as f64 / wanted;
                    assert!(
                        share >= 0.95,
                        "{count} of 20, {timeout:?}, {code:?}, {seconds} s: group {group} {share}"
                    );
                    let longest = good.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
                    assert!(longest <= lost + every * 2, "{count} of 20: stale for {longest:?}");
                }
            }
            sim.check_promises();
            let dead =
                sim.schedule.devices().filter(|device| matches!(device.state, DeviceState::Dead { .. }));
            assert!(dead.count() > 0, "{count} of 20, {timeout:?}");
            for fake in &mut sim.fakes {
                (fake.manner, fake.latency) = (Manner::Answers, Duration::from_millis(5));
            }
            // All probes of one round, one in twenty of the time, pauses of a minute.
            let from = (sim.now.0 - START.0) / 1_000_000;
            sim.run_until(from + 15 * 20 * timeout_ms + 130_000);
            let alive = sim.schedule.devices().filter(|device| device.state == DeviceState::Alive);
            assert_eq!(alive.count(), 20, "{count} of 20, {timeout:?}");
        }
    }
}

#[test]
fn a_failing_device_reports_its_last_failure_each_interval_while_it_waits_for_its_turn() {
    let mut sim = dying(10, 0.9, Duration::from_secs(1), None);
    sim.run_until(40_000);
    for group in 0..10 {
        let reasons = sim.reasons(group, 22_000);
        assert!(reasons.len() >= 60, "a cycle for each interval: {}", reasons.len());
        let expected = [Some(Reason::Timeout), Some(Reason::DeviceDown)];
        assert!(reasons.iter().all(|reason| expected.contains(reason)), "{reasons:?}");
    }
    sim.check_promises();
}

#[test]
fn a_single_lost_answer_is_asked_for_again_at_once_where_the_line_has_time() {
    let mut build = Build::serial(19_200);
    for unit in 1..=2 {
        let device = build.device(unit);
        build.group(device, 5000, vec![holding(0)]);
    }
    let mut sim = Simulation::new(build);
    let timeout = sim.settings.devices[0].timeout;
    sim.fakes[0].manner = Manner::Silent;
    sim.run_until(10);
    sim.fakes[0].manner = Manner::Answers;
    sim.run_until(5010);
    let first: Vec<BootNs> =
        sim.orders.iter().filter(|(_, order)| order.device == 0).map(|(at, _)| *at).collect();
    assert!(first[1].since(first[0]) <= timeout + fake::WIRE + Duration::from_millis(20), "{first:?}");
    assert_eq!(sim.reasons(0, 0).first(), Some(&None));
}

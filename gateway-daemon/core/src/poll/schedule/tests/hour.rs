//! What the log says of devices that are ill in different ways, hour by hour.

use std::time::Duration;

use super::fake::{Manner, START, Simulation, reason};
use crate::poll::changes::{About, Changes, LINES_PER_HOUR_MAX, Line};
use crate::poll::request::LineFault;
use crate::poll::schedule::DeviceState;
use crate::poll::testing::{Build, holding};
use crate::tag::{BootNs, Cycle};

const HOUR_S: u64 = 3600;

/// One device of each kind, each with twelve requests per cycle.
const KINDS: [&str; 8] =
    ["well", "flapping", "dead", "refusing", "wrong unit", "noise", "mute in part", "refuses more and more"];

struct Plant {
    sim: Simulation,
    changes: Changes,
    /// When, of which device, what.
    lines: Vec<(u64, usize, Line)>,
    second: u64,
}

impl Plant {
    fn new() -> Self {
        let mut build = Build::tcp(8);
        for unit in 1..=u8::try_from(KINDS.len()).unwrap() {
            let device = build.device(unit);
            build.settings.devices[device].probe_max = Duration::from_secs(5);
            build.group(device, 5000, (0..12).map(|at| holding(600 + at * 20)).collect());
        }
        let sim = Simulation::new(build);
        let changes = Changes::new(&sim.settings);
        Self { sim, changes, lines: Vec::new(), second: 0 }
    }

    fn of(kind: &str) -> usize {
        KINDS.iter().position(|known| *known == kind).unwrap()
    }

    fn run(&mut self, seconds: u64, mut each: impl FnMut(u64, &mut Simulation)) {
        for _ in 0..seconds {
            self.second += 1;
            each(self.second, &mut self.sim);
            self.sim.run_until(self.second * 1000);
            for health in self.sim.schedule.devices() {
                let now: BootNs = self.sim.now;
                for line in self.changes.observe(now, &self.sim.settings, &health, None) {
                    self.lines.push((self.second, health.device, line));
                }
            }
        }
    }

    fn said(&self, kind: &str) -> Vec<&Line> {
        let own = Self::of(kind);
        self.lines.iter().filter(|(_, device, _)| *device == own).map(|(.., line)| line).collect()
    }

    fn texts(&self, kind: &str) -> Vec<&str> {
        self.said(kind).into_iter().map(|line| line.text.as_str()).collect()
    }
}

fn fall_ill(second: u64, sim: &mut Simulation) {
    let mut manner = |kind: &str, manner| sim.fakes[Plant::of(kind)].manner = manner;
    manner("flapping", if second % 120 < 60 { Manner::Answers } else { Manner::Silent });
    manner("dead", if second >= 60 { Manner::Silent } else { Manner::Answers });
    manner(
        "wrong unit",
        if second >= 60 { Manner::Says(LineFault::ForeignUnit(9)) } else { Manner::Answers },
    );
    manner("noise", if second >= 60 { Manner::Flaky(235) } else { Manner::Answers });
    if second == 60 {
        sim.fakes[Plant::of("refusing")].illegal.insert(620);
        sim.fakes[Plant::of("mute in part")].mute.insert(640);
    }
    if second % 120 == 60 {
        sim.fakes[Plant::of("refuses more and more")]
            .illegal
            .insert(600 + 20 * u16::try_from(second / 120 % 12).unwrap());
    }
}

#[test]
fn an_hour_with_a_bad_device_of_each_kind_fills_no_log_and_every_change_is_told_or_counted() {
    let mut plant = Plant::new();
    plant.run(2 * HOUR_S, fall_ill);
    for (own, kind) in KINDS.iter().enumerate() {
        for from in (0..HOUR_S).step_by(60) {
            for about in [About::Answers, About::Requests] {
                let hour = plant.lines.iter().filter(|(second, device, line)| {
                    *device == own && line.about == about && (from..from + HOUR_S).contains(second)
                });
                let lines = hour.count();
                assert!(lines <= LINES_PER_HOUR_MAX as usize, "{kind}: {lines} lines from second {from}");
            }
        }
        let total = plant.said(kind).len();
        assert!(total <= 2 * 8, "{kind}: {total} lines in two hours: {:#?}", plant.texts(kind));
    }
    let flaps = plant.sim.schedule.devices().nth(Plant::of("flapping")).unwrap().counters.deaths;
    assert!(flaps >= 40, "it was given up {flaps} times only");
    // All are well for an hour, so that what was counted is told.
    for fake in &mut plant.sim.fakes {
        fake.manner = Manner::Answers;
        fake.illegal.clear();
        fake.mute.clear();
    }
    plant.run(HOUR_S + 700, |_, _| ());
    for (kind, health) in KINDS.iter().zip(plant.sim.schedule.devices()) {
        let answers = plant.said(kind).into_iter().filter(|line| line.about == About::Answers);
        let told: u64 = answers.map(|line| if line.left_out > 0 { line.left_out } else { 1 }).sum();
        let changes = 1 + health.counters.deaths + health.counters.recoveries;
        assert_eq!(told, changes, "{kind}: {:#?}", plant.texts(kind));
        let last = |about| plant.said(kind).into_iter().rfind(|line| line.about == about);
        assert!(!last(About::Answers).unwrap().is_bad, "{kind}");
        assert!(last(About::Requests).is_none_or(|line| !line.is_bad), "{kind}: {:#?}", plant.texts(kind));
    }
    assert_eq!(plant.texts("well"), ["answers"]);
}

#[test]
fn the_log_says_what_was_wrong_with_the_answers_and_does_not_call_it_no_answer() {
    let mut plant = Plant::new();
    plant.run(600, fall_ill);
    let down = "; its tags are bad and it is only probed until it answers again";
    assert_eq!(plant.texts("dead"), ["answers".to_owned(), format!("does not answer (timeout){down}")]);
    let unit = Plant::of("wrong unit") + 1;
    assert_eq!(
        plant.texts("wrong unit"),
        ["answers".to_owned(), format!("answers wrongly (answer of unit 9 instead of unit {unit}){down}")]
    );
    for (fault, words) in [
        (LineFault::Short, "answers wrongly (answer too short)"),
        (LineFault::Long, "answers wrongly (answer too long)"),
        (LineFault::Checksum, "answers wrongly (checksum wrong)"),
        (LineFault::Garbage, "answers wrongly (bytes that are no Modbus frame)"),
        (LineFault::Function(4), "answers wrongly (answer of function 4, which was not asked for)"),
        (LineFault::Transaction(7), "answers wrongly (answer with transaction id 7, which no request had)"),
        (LineFault::Mismatch, "answers wrongly (answer to another request)"),
    ] {
        let mut plant = Plant::new();
        plant.sim.fakes[2].manner = Manner::Says(fault);
        plant.run(120, |_, _| ());
        assert_eq!(plant.texts("dead"), [words.to_owned() + down], "{fault:?}");
    }
    plant = Plant::new();
    plant.sim.fakes[2].manner = Manner::Refuses(11);
    plant.run(120, |_, _| ());
    assert_eq!(
        plant.texts("dead"),
        [format!("does not answer (exception 11 (the gateway before it got no answer)){down}")]
    );
}

#[test]
fn a_wrong_register_is_told_once_with_its_address_and_tag_and_so_is_its_end() {
    let mut plant = Plant::new();
    plant.run(HOUR_S, fall_ill);
    assert_eq!(
        plant.texts("refusing"),
        ["answers", "refuses 1 of 12 requests: holding 620 (tag-3-1): exception 2 (no such address)"]
    );
    assert_eq!(
        plant.texts("mute in part"),
        ["answers", "does not answer 1 of 12 requests: holding 640 (tag-6-2): no answer within 500 ms"]
    );
    plant.sim.fakes[Plant::of("refusing")].illegal.clear();
    plant.run(60, |_, _| ());
    assert_eq!(plant.texts("refusing").last(), Some(&"answers all of its requests again"));
}

#[test]
fn what_was_not_asked_is_never_said_to_be_answered_again() {
    let mut plant = Plant::new();
    plant.run(1200, |second, sim| {
        fall_ill(second, sim);
        match second % 50 {
            20 => sim.bus_down(),
            40 => sim.bus_up(),
            _ => (),
        }
    });
    for kind in ["dead", "refusing", "wrong unit", "mute in part"] {
        let texts = plant.texts(kind);
        assert!(texts.len() >= 2, "{kind}: {texts:#?}");
        assert!(
            !texts.iter().any(|text| text.contains("again") && !text.contains("until it")),
            "{kind}: {texts:#?}"
        );
    }
    assert_eq!(plant.said("dead").len(), 2, "{:#?}", plant.texts("dead"));
    // A device that dies before it has ever answered, as well.
    let mut plant = Plant::new();
    plant.run(600, |second, sim| {
        sim.fakes[2].manner = Manner::Silent;
        match second % 50 {
            20 => sim.bus_down(),
            40 => sim.bus_up(),
            _ => (),
        }
    });
    assert!(plant.said("dead").iter().all(|line| line.is_bad), "{:#?}", plant.texts("dead"));
}

#[test]
fn a_state_that_holds_is_told_however_often_it_changed_before() {
    let mut plant = Plant::new();
    plant.run(900, fall_ill);
    let before = plant.said("flapping").len();
    plant.run(1200, |second, sim| {
        fall_ill(second, sim);
        sim.fakes[Plant::of("flapping")].manner = Manner::Answers;
    });
    let after = &plant.said("flapping")[before..];
    assert!(after.len() == 1 && !after[0].is_bad && after[0].left_out == 0, "{after:#?}");
}

#[test]
fn noise_that_spoils_an_answer_now_and_then_is_no_fault_of_an_address() {
    let mut plant = Plant::new();
    plant.run(HOUR_S, |_, sim| sim.fakes[0].manner = Manner::Flaky(8));
    assert_eq!(plant.texts("well"), ["answers"]);
}

#[test]
fn addresses_are_counted_as_the_file_counts_them_and_long_lists_are_cut() {
    let mut build = Build::tcp(1);
    let device = build.device(1);
    build.settings.devices[device].base = 1;
    build.settings.devices[device].dead_after = 100;
    build.group(device, 1000, (0..60).map(|at| holding(at * 20)).collect());
    let mut sim = Simulation::new(build);
    sim.fakes[0].illegal.extend((0..60).filter(|at| at % 2 == 1).map(|at| at * 20));
    sim.run_until(3000);
    let health = sim.schedule.devices().next().unwrap();
    assert_eq!(
        crate::poll::words::failing(&sim.settings, 0, &health.requests),
        ["refuses 30 of 60 requests: holding 21 (tag-0-1), holding 61 (tag-0-3), holding 101 (tag-0-5): \
          exception 2 (no such address); and 27 more"]
    );
}

#[test]
fn a_request_that_is_never_answered_costs_neither_its_device_nor_the_others_their_values() {
    for (every_ms, mute) in [(900, 1), (900, 3), (1500, 1), (5000, 2)] {
        let mut build = Build::serial(19_200);
        for unit in 1..=6 {
            let device = build.device(unit);
            build.group(device, every_ms, (0..12).map(|at| holding(600 + at * 20)).collect());
        }
        let mut sim = Simulation::new(build);
        sim.run_until(10_000);
        sim.fakes[0].mute.extend((0..mute).map(|at| 640 + at * 20));
        // A minute in which it is found out what gives no answer.
        sim.run_until(70_000);
        sim.run_until(370_000);
        for group in 0..6 {
            let good = |cycle: &Cycle| cycle.readings.iter().filter(|at| reason(at).is_none()).count();
            let of_group = sim.cycles_of(group).filter(|(at, _)| *at > Simulation::at(70_000));
            let good: usize = of_group.map(|(_, cycle)| good(cycle)).sum();
            // Its own cycles end late when a time-out falls into them: once within ten seconds.
            let (points, share) = if group == 0 { (12 - usize::from(mute), 90) } else { (12, 95) };
            let wanted = 300_000 / usize::try_from(every_ms).unwrap() * points;
            let what = format!("every {every_ms} ms, {mute} mute, device {group}");
            assert!(good * 100 >= wanted * share, "{what}: {good} of {wanted}");
        }
        let health = sim.schedule.devices().next().unwrap();
        assert_eq!((health.counters.deaths, health.requests.unanswered), (0, usize::from(mute)));
        sim.fakes[0].mute.clear();
        sim.run_until(500_000);
        assert!(sim.reasons(0, 480_000).iter().all(Option::is_none), "they are found again");
        sim.check_promises();
    }
}

/// A device with one group of twelve requests every 5 s, and five others that answer all; from 10 s on it never answers those to `mute`.
fn mute_in_part(mute: impl Iterator<Item = u16>) -> Simulation {
    let mut build = Build::serial(19_200);
    for unit in 1..=6 {
        let device = build.device(unit);
        build.group(device, 5000, (0..12).map(|at| holding(600 + at * 20)).collect());
    }
    let mut sim = Simulation::new(build);
    sim.run_until(10_000);
    sim.fakes[0].mute.extend(mute.map(|at| 600 + at * 20));
    sim
}

#[test]
fn requests_in_a_row_that_are_never_answered_kill_their_device_a_few_times_and_then_it_lives_with_them() {
    for mute in [2..5, 2..6, 0..3, 0..8, 9..12] {
        let mut sim = mute_in_part(mute.clone());
        let deaths = |sim: &Simulation| sim.schedule.devices().next().unwrap().counters.deaths;
        sim.run_until(310_000);
        let found = deaths(&sim);
        // Three in a row kill it, once to be noticed and once to be believed; more often where all of them together take longer than an interval.
        assert!((1..=mute.len() as u64).contains(&found), "{mute:?}: died {found} times");
        sim.run_until(610_000);
        assert_eq!(deaths(&sim), found, "{mute:?}: it lives and dies");
        let is_good = |cycle: &Cycle, at: usize| reason(&cycle.readings[at]).is_none();
        let cycles: Vec<&Cycle> = sim
            .cycles_of(0)
            .filter(|(at, _)| *at > Simulation::at(310_000))
            .map(|(_, cycle)| cycle)
            .collect();
        for at in (0..12).filter(|at| !mute.contains(&u16::try_from(*at).unwrap())) {
            let good = cycles.iter().filter(|cycle| is_good(cycle, at)).count();
            assert!(good * 100 >= 60 * 90, "{mute:?}: point {at} good in {good} of 60 polls");
        }
        assert_eq!(sim.schedule.devices().next().unwrap().requests.unanswered, mute.len(), "{mute:?}");
        // Its bus comes and goes: that kills it no more.
        for second in (620..=680).step_by(20) {
            sim.bus_down();
            sim.run_until(second * 1000);
            sim.bus_up();
            sim.run_until(second * 1000 + 10_000);
        }
        assert_eq!(deaths(&sim), found, "{mute:?}: after the bus was away");
        sim.fakes[0].mute.clear();
        sim.run_until(900_000);
        assert!(sim.reasons(0, 880_000).iter().all(Option::is_none), "{mute:?}: they are found again");
        sim.check_promises();
    }
}

#[test]
fn a_device_that_gives_one_sign_of_life_and_is_silent_again_is_given_up_and_read_at_once_when_it_is_back() {
    let mut build = Build::serial(19_200);
    let device = build.device(1);
    build.group(device, 1000, vec![holding(7)]);
    build.group(device, 3_600_000, vec![holding(900)]);
    let mut sim = Simulation::new(build);
    sim.run_until(10_000);
    let mut ms = 10_000;
    for round in 1..=5 {
        sim.fakes[0].manner = Manner::Silent;
        sim.run_until(ms + 100_000);
        assert_eq!(sim.schedule.counters().deaths, round);
        // It answers one probe and nothing else.
        let asked = sim.orders.len();
        sim.fakes[0].manner = Manner::Answers;
        while sim.orders.len() == asked {
            ms = u64::try_from(sim.now.plus(Duration::from_millis(1)).since(START).as_millis()).unwrap();
            sim.run_until(ms);
        }
    }
    sim.fakes[0].manner = Manner::Silent;
    ms += 100_000;
    sim.run_until(ms);
    sim.fakes[0].manner = Manner::Answers;
    sim.run_until(ms + 61_000);
    assert_eq!(sim.reasons(1, ms), [None], "read when the device came back");
    assert!(sim.reasons(0, ms + 59_000).iter().all(Option::is_none));
    sim.check_promises();
}

#[test]
fn a_device_that_never_answers_one_request_keeps_no_dead_device_from_being_found_again() {
    // Behind a gateway, and on a line that is never free for a whole time-out.
    for (build, every_ms) in [(Build::tcp(8), 5000), (Build::serial(19_200), 900)] {
        let mut build = build;
        for unit in 1..=6 {
            let device = build.device(unit);
            build.group(device, every_ms, (0..12).map(|at| holding(600 + at * 20)).collect());
        }
        let mut sim = Simulation::new(build);
        sim.run_until(10_000);
        sim.fakes[0].mute.insert(640);
        sim.fakes[1].manner = Manner::Silent;
        sim.run_until(120_000);
        assert!(matches!(sim.schedule.devices().nth(1).unwrap().state, DeviceState::Dead { .. }));
        sim.fakes[1].manner = Manner::Answers;
        sim.run_until(400_000);
        let found = sim.schedule.devices().nth(1).unwrap();
        assert_eq!(found.counters.recoveries, 1, "every {every_ms} ms: {} probes", found.counters.probes);
        sim.check_promises();
    }
}

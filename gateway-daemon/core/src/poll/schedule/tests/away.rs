//! A bus or a device that was away: what is wrong stays wrong until it is answered.

use std::time::Duration;

use super::fake::{Manner, Simulation};
use crate::poll::changes::{About, Changes};
use crate::poll::schedule::DeviceState;
use crate::poll::testing::{Build, holding};

#[test]
fn a_dead_device_stays_dead_while_its_bus_comes_and_goes_and_until_it_answers() {
    for (first_ms, dead_after) in [(0, 3), (5000, 3), (0, 1), (5000, 1)] {
        let mut build = Build::tcp(4);
        let device = build.device(1);
        build.settings.devices[device].dead_after = dead_after;
        build.group(device, 1000, vec![holding(7)]);
        let mut sim = Simulation::new(build);
        sim.run_until(first_ms);
        sim.fakes[0].manner = Manner::Silent;
        sim.run_until(20_000);
        let since = sim.schedule.devices().next().unwrap().since;
        let mut ms = 20_000;
        for _ in 0..20 {
            sim.bus_down();
            ms += 1000;
            sim.run_until(ms);
            sim.bus_up();
            let asked = sim.orders.len();
            for _ in 0..40 {
                let health = sim.schedule.devices().next().unwrap();
                assert!(matches!(health.state, DeviceState::Dead { .. }), "{health:?}");
                assert_eq!((health.since, health.counters.deaths), (since, 1));
                ms += 100;
                sim.run_until(ms);
            }
            assert!(sim.orders.len() > asked, "it gets one chance at once");
        }
        assert_eq!(sim.schedule.counters().deaths, 1);
        sim.bus_down();
        sim.fakes[0].manner = Manner::Answers;
        sim.bus_up();
        sim.run_until(ms + 2000);
        let health = sim.schedule.devices().next().unwrap();
        assert_eq!((health.state, health.counters.recoveries), (DeviceState::Alive, 1));
        assert!(health.since > since.plus(Duration::from_secs(20)));
        assert_eq!(sim.schedule.counters().recoveries, 1);
    }
}

#[test]
fn addresses_that_are_refused_instead_of_not_answered_are_not_said_to_be_answered_in_between() {
    let mut build = Build::tcp(1);
    let device = build.device(1);
    build.settings.devices[device].dead_after = 100;
    let near = (600..610).chain([700]).map(holding).collect();
    build.group(device, 1000, near);
    let mut sim = Simulation::new(build);
    let mut changes = Changes::new(&sim.settings);
    let mut texts = Vec::new();
    for second in 1..=120 {
        if second == 10 {
            sim.fakes[0].mute.insert(605);
        }
        if second == 60 {
            sim.fakes[0].mute.clear();
            sim.fakes[0].illegal.insert(605);
        }
        sim.run_until(second * 1000);
        let health = sim.schedule.devices().next().unwrap();
        texts
            .extend(changes.observe(sim.now, &sim.settings, &health, None).into_iter().map(|line| line.text));
    }
    assert!(!texts.iter().any(|text| text.contains("requests again")), "{texts:#?}");
    assert!(texts[1].starts_with("does not answer 1 of 2 requests: holding 600 to 609"), "{texts:#?}");
    assert!(texts.last().unwrap().contains("holding 605 (tag-0-5): exception 2"), "{texts:#?}");
}

#[test]
fn a_failure_from_when_a_device_went_away_is_unproven_until_it_is_asked_again() {
    let mut build = Build::tcp(4);
    let device = build.device(1);
    build.settings.devices[device].dead_after = 3;
    build.group(device, 1000, vec![holding(7), holding(700)]);
    let mut sim = Simulation::new(build);
    sim.run_until(5000);
    // One that is never answered, and that is known before its device goes away.
    sim.fakes[0].mute.insert(700);
    sim.run_until(20_000);
    let seen = |sim: &Simulation| {
        let health = sim.schedule.devices().next().unwrap();
        (health.state, health.requests.unanswered, health.requests.unproven)
    };
    assert_eq!(seen(&sim), (DeviceState::Alive, 1, 0));
    sim.fakes[0].manner = Manner::Silent;
    sim.run_until(60_000);
    assert!(matches!(seen(&sim), (DeviceState::Dead { .. }, 2, _)), "{:?}", seen(&sim));
    sim.fakes[0].manner = Manner::Answers;
    let mut ms = 60_000;
    let mut back = Vec::new();
    while ms < 90_000 {
        ms += 10;
        sim.run_until(ms);
        let now = seen(&sim);
        if now.0 == DeviceState::Alive && back.last() != Some(&now) {
            back.push(now);
        }
    }
    let alive = |unanswered, unproven| (DeviceState::Alive, unanswered, unproven);
    assert_eq!(back, [alive(2, 1), alive(1, 0)]);
}

#[test]
fn a_device_that_dies_and_comes_back_is_told_with_the_reason_and_the_seconds_it_was_away() {
    let mut build = Build::tcp(1);
    let device = build.device(1);
    build.settings.devices[device].dead_after = 3;
    build.group(device, 1000, vec![holding(7)]);
    let mut sim = Simulation::new(build);
    let mut changes = Changes::new(&sim.settings);
    let mut lines = Vec::new();
    for second in 1..=300 {
        match second {
            100 => sim.fakes[0].manner = Manner::Silent,
            200 => sim.fakes[0].manner = Manner::Answers,
            _ => {}
        }
        sim.run_until(second * 1000);
        let health = sim.schedule.devices().next().unwrap();
        let told = changes.observe(sim.now, &sim.settings, &health, None);
        lines.extend(told.into_iter().filter(|line| line.about == About::Answers));
    }
    let told: Vec<_> = lines.iter().map(|line| (line.is_bad, line.reason.as_deref())).collect();
    assert_eq!(told, [(false, None), (true, Some("timeout")), (false, None)], "{lines:#?}");
    assert_eq!((lines[0].down_s, lines[1].down_s), (None, None));
    let away = lines[2].down_s.unwrap();
    assert!((90..=150).contains(&away), "{away}");
    assert_eq!(lines[2].text, format!("answers again after {away} s"));
}

//! Since when a device is as it is.

use super::*;

fn since(sim: &Simulation) -> (DeviceState, u64) {
    let health = sim.schedule.devices().next().unwrap();
    (health.state, u64::try_from(health.since.since(START).as_millis()).unwrap())
}

#[test]
fn a_device_is_alive_since_its_bus_was_opened_again_and_not_since_the_start() {
    let mut sim = Simulation::new(devices(1, 1000));
    sim.run_until(3_505);
    assert_eq!(since(&sim), (DeviceState::Alive, 0));
    sim.bus_down();
    sim.run_until(9_900);
    sim.bus_up();
    let up = since(&sim).1;
    sim.run_until(12_000);
    assert_eq!(since(&sim), (DeviceState::Alive, up));
    assert!(up >= 9_000, "{up}");
}

#[test]
fn a_device_is_alive_since_the_first_answer_after_requests_that_failed() {
    let mut sim = Simulation::new(devices(1, 1000));
    sim.run_until(3_505);
    sim.fakes[0].manner = Manner::Silent;
    while !matches!(since(&sim).0, DeviceState::Failing { failures: 1.. }) {
        let next = u64::try_from(sim.now.plus(Duration::from_millis(100)).since(START).as_millis()).unwrap();
        sim.run_until(next);
    }
    sim.fakes[0].manner = Manner::Answers;
    sim.run_until(60_000);
    let (state, at) = since(&sim);
    assert_eq!(state, DeviceState::Alive);
    assert!(at > 3_505, "{at}");
}

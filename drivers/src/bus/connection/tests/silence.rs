//! Devices that say nothing, or nothing that is of use, on a connection that stays open.

use gateway_core::poll::schedule::DeviceState;

use super::*;

/// So much of 1820 s a bus may spend on a device that is dead: 5 % of probes, and what it costs to find out that it is.
const BUSY_MAX: Duration = Duration::from_secs(95);

fn line_since(rig: &Rig) -> BootNs {
    match rig.report().line {
        LineState::Up { since } => since,
        LineState::Down { since, why } => panic!("down since {since:?}: {why}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_device_alone_on_its_bus_leaves_the_bus_up_and_stays_dead() {
    for pipeline in [1, 4] {
        let manners = Manners { silent_when: Some(|_| true), ..Manners::default() };
        let mut rig = Rig::start(&field(keep(pipeline), SECOND), manners);
        rig.pass(20 * SECOND).await;
        let (line, device) = (line_since(&rig), rig.report().schedule.devices[0].since);
        for _ in 0..1800 {
            rig.pass(SECOND).await;
            let report = rig.report();
            let seen = &report.schedule.devices[0];
            assert!(matches!(seen.state, DeviceState::Dead { .. }), "{seen:?}");
            assert_eq!((line_since(&rig), seen.since), (line, device));
        }
        assert_eq!(lines(), ["bus line: up"]);
        let report = rig.report();
        assert_eq!((report.task.losses, report.schedule.counters.deaths), (0, 1));
        assert!(report.task.closes > 10, "a fresh connection is tried now and then: {:?}", report.task);
        let busy = Duration::from_nanos(report.schedule.counters.busy_ns);
        assert!(busy < BUSY_MAX, "busy for {busy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_comes_and_goes_takes_its_bus_nowhere() {
    let manners = Manners { silent_when: Some(|now| now.ms() / 20_000 % 2 == 1), ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), SECOND), manners);
    let readings = rig.pass(HOUR / 2).await;
    assert_eq!(lines(), ["bus line: up"]);
    assert_eq!(rig.report().task.losses, 0);
    let good = readings.len() - bad(&readings).len();
    assert!(good > 700, "{good} good readings in half of 30 minutes");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_brings_nothing_any_more_is_replaced_and_the_device_answers_on_the_next() {
    let manners = Manners { mute_after: Some(20), ..Manners::default() };
    let mut field = field(keep(4), SECOND);
    add_device(&mut field, 1, SECOND);
    let mut rig = Rig::start(&field, manners);
    let readings = rig.pass(600 * SECOND).await;
    let good = readings.len() - bad(&readings).len();
    assert!(good > 500, "{good} good readings; {:?}", locked(&rig.facts));
    assert_eq!(lines(), ["bus line: up"]);
    let facts = locked(&rig.facts);
    assert!(facts.connections > 20, "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_another_protocol_makes_no_line_for_each_connection() {
    let manners = Manners { says: Some(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ..Manners::default() };
    let mut rig = Rig::start(&field(keep(1), SECOND), manners);
    rig.pass(HOUR).await;
    assert_eq!(lines(), ["bus line: up"]);
    assert!(locked(&rig.facts).connections > 2);
    assert!(matches!(rig.report().schedule.devices[0].state, DeviceState::Dead { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_went_down_after_a_silence_is_up_in_the_log_when_something_answers() {
    // Silent for half an hour, and slow to take the next connection.
    let manners = Manners {
        silent_when: Some(|now| now.ms() < 2_800_000),
        refuses_for: 15 * SECOND,
        ..Manners::default()
    };
    let mut rig = Rig::start(&field(keep(1), SECOND), manners);
    rig.pass(HOUR / 2 - 60 * SECOND).await;
    let refused = "bus line: down: cannot connect: connection refused";
    assert_eq!(lines(), ["bus line: up", refused]);
    rig.pass(HOUR / 2).await;
    assert_eq!(lines(), ["bus line: up", refused, "bus line: up"]);
    assert!(matches!(rig.report().schedule.devices[0].state, DeviceState::Alive));
}

//! Promise 5: every value carries time and quality, and wall time is repaired, never guessed.

use std::time::{SystemTime, UNIX_EPOCH};

use gateway_core::payload::iso8601;
use gateway_core::tag::WallMs;
use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{Arrival, Office};
use tidegate_tests::proxy::{Fault, FaultProxy};

use crate::{assert_balanced, counter, head};

/// Rounding to ms, and a clock that NTP is slewing.
const SLACK_MS: i64 = 500;

/// The wall time of this machine, moved by `ms`, as payloads print it.
fn wall(ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    iso8601(WallMs(i64::try_from(now).unwrap() + ms)).unwrap()
}

fn time(arrival: &Arrival) -> Option<&str> {
    arrival.json.get("t")?.as_str()
}

fn boot_ms(arrival: &Arrival) -> Option<u64> {
    arrival.json.get("t_boot_ms")?.as_u64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_carries_time_and_quality_and_wall_time_is_repaired_across_an_outage_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let synchronized = dir.path().join("synchronized");
    let variables = [("TIDEGATE_TIMESYNC_FILE", synchronized.as_os_str())];
    let device = CounterDevice::start().await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "gw/meter/#").await.unwrap();
    let proxy = FaultProxy::to_port(broker.port()).await.unwrap();
    let config = head(dir.path(), proxy.port()) + &counter(device.port);

    let began = wall(-SLACK_MS);
    let mut gateway = Gateway::start_with(dir.path(), &config, &variables).unwrap();
    let early = office.wait_for("values without a clock", |all| all.len() >= 5).await.unwrap();
    for arrival in &early {
        assert_eq!(time(arrival), None, "a time was guessed: {arrival:?}");
        assert!(boot_ms(arrival).is_some() && arrival.value("count").is_some(), "{arrival:?}");
    }
    assert!(early.windows(2).all(|pair| boot_ms(&pair[0]) < boot_ms(&pair[1])), "{early:?}");

    proxy.set(Fault::Reset);
    let stored = |now: &gateway_daemon::app::snapshot::Snapshot| now.uplinks[0].ledger.stored.rows;
    let snapshot = gateway.wait_for("rows on disk", |now| stored(now) >= 5).await.unwrap();
    assert!(!snapshot.clock_trusted);
    gateway.stop().await.unwrap();
    let last_of_first_run = u64::from(device.answered());
    let stopped = wall(SLACK_MS);

    let restarted = wall(-SLACK_MS);
    let mut gateway = Gateway::start_with(dir.path(), &config, &variables).unwrap();
    gateway
        .wait_for("rows of both runs", |now| {
            let ledger = &now.uplinks[0].ledger;
            !now.clock_trusted && ledger.restored.rows >= 5 && ledger.produced.rows >= 5
        })
        .await
        .unwrap();
    std::fs::write(&synchronized, "").unwrap();
    gateway.wait_for("a trusted clock", |now| now.clock_trusted).await.unwrap();
    proxy.set(Fault::None);
    let last = u64::from(device.answered());
    let all = office
        .wait_for("everything", |all| all.iter().any(|one| one.value("count") > Some(last)))
        .await
        .unwrap();
    let all = gateway
        .wait_for("an empty queue", |now| now.uplinks[0].ledger.queued().rows < 5)
        .await
        .map(|_| if office.arrivals().len() > all.len() { office.arrivals() } else { all })
        .unwrap();

    let (mut of_first, mut of_second) = (0, 0);
    for arrival in &all[early.len()..] {
        // Rows that were on their way when the link was cut may have been rendered before the clock was known.
        let Some(time) = time(arrival) else { continue };
        let count = arrival.value("count").unwrap();
        if count <= last_of_first_run {
            of_first += 1;
            assert!(*began <= *time && *time <= *stopped, "{began} <= {time} <= {stopped}: {arrival:?}");
        } else {
            of_second += 1;
            assert!(*restarted <= *time && *time <= *wall(SLACK_MS), "{restarted} <= {time}: {arrival:?}");
        }
    }
    assert!(of_first >= 5 && of_second >= 5, "{of_first} and {of_second} repaired: {all:#?}");
    assert_balanced(&gateway).await;
    gateway.stop().await.unwrap();
}

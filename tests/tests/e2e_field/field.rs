//! Promise 3: the field never waits for the network, and one dead device never slows its neighbours.

use gateway_daemon::app::snapshot::Health;
use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{self, Office};
use tidegate_tests::panel::Panel;
use tidegate_tests::proxy::{Fault, FaultProxy};

use crate::{assert_balanced, counter, dead_port, head};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_field_never_waits_for_the_network_and_nothing_is_missing_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let device = CounterDevice::start().await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "gw/#").await.unwrap();
    let proxy = FaultProxy::to_port(broker.port()).await.unwrap();
    let config = head(dir.path(), proxy.port()) + &counter(device.port);
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    gateway.wait_for("acks", |now| now.uplinks[0].ledger.acknowledged.rows >= 5).await.unwrap();

    proxy.set(Fault::BlackHole);
    let before = gateway.snapshot().await.unwrap();
    let (counted, overruns) = (device.answered(), before.buses[0].overruns);
    let produced = before.uplinks[0].ledger.produced.rows;
    let far = u64::from(counted) + 30;
    let during = gateway
        .wait_for("30 polls into the black hole", |now| {
            u64::from(device.answered()) >= far && now.uplinks[0].ledger.produced.rows >= produced + 29
        })
        .await
        .unwrap();
    assert!(during.buses[0].overruns - overruns <= 10, "polls were skipped: {:#?}", during.buses[0]);
    assert!(during.devices[0].health == Health::Good, "{:#?}", during.devices);
    assert_balanced(&gateway).await;

    proxy.set(Fault::None);
    proxy.cut();
    let last = u64::from(device.answered());
    let arrivals =
        office.wait_for("all values", |all| office::counts(all, "count").contains(&last)).await.unwrap();
    gateway.wait_for("an empty queue", |now| now.uplinks[0].ledger.queued().rows < 5).await.unwrap();
    let counts = office::counts(&office.arrivals(), "count");
    assert_eq!(counts, (1..=counts.len() as u64).collect(), "a value is missing");
    assert!(office::out_of_order(&arrivals).len() < arrivals.len());
    gateway.stop().await.unwrap();
}

/// strace, which holds every sync of a process up for five seconds; let go when dropped.
struct SlowDisk(std::process::Child);

impl SlowDisk {
    fn of(pid: u32) -> Self {
        let strace = std::process::Command::new("strace")
            .args(["-f", "-q", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"])
            .args(["-e", "inject=fsync,fdatasync:delay_enter=5000000", "-p", &pid.to_string()])
            .stderr(std::process::Stdio::null())
            .spawn();
        Self(strace.expect("strace is missing; install it: apt-get install -y strace"))
    }

    fn has(&mut self, pid: u32) -> bool {
        assert!(self.0.try_wait().unwrap().is_none(), "strace may not look at process {pid}");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("TracerPid:\t{}", self.0.id()))
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // The kernel lets the traced process go on.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_field_never_waits_for_a_slow_disk() {
    let dir = tempfile::tempdir().unwrap();
    let device = CounterDevice::start().await.unwrap();
    let config = head(dir.path(), dead_port()) + &counter(device.port);
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    gateway.wait_for("rows on disk", |now| now.uplinks[0].ledger.stored.rows >= 5).await.unwrap();
    let pid = gateway.pid();
    let mut disk = SlowDisk::of(pid);
    while !disk.has(pid) {
        gateway.snapshot().await.unwrap();
    }
    let before = gateway.snapshot().await.unwrap();
    let counted = device.answered();
    let during = gateway
        .wait_for("rows that the disk does not take", |now| {
            now.uplinks[0].ledger.in_memory.rows >= 25 && device.answered() >= counted + 30
        })
        .await
        .unwrap();
    let skipped = during.buses[0].overruns - before.buses[0].overruns;
    let polls = u64::from(device.answered() - counted);
    assert!(skipped * 2 <= polls, "{skipped} polls were skipped, {polls} made: {:#?}", during.buses[0]);
    assert_balanced(&gateway).await;

    drop(disk);
    let produced = during.uplinks[0].ledger.produced.rows;
    gateway
        .wait_for("everything on disk", |now| now.uplinks[0].ledger.stored.rows >= produced)
        .await
        .unwrap();
    assert_balanced(&gateway).await;
    gateway.stop().await.unwrap();
}

fn line(port: u16) -> String {
    let mut text = format!(
        r#"
[bus.line]
driver = "modbus-rtu-over-tcp"
host = "127.0.0.1"
port = {port}
frame_silence = "5ms"
"#
    );
    for (name, unit) in [("one", 1), ("two", 2), ("three", 3)] {
        text += &format!(
            r#"
[device.{name}]
bus = "line"
unit = {unit}
timeout = "150ms"
retries = 0
dead_after = 2
probe_max = "2s"
[[device.{name}.poll]]
every = "200ms"
tags.count_{name} = {{ holding = 0, type = "u32" }}
"#
        );
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dead_device_on_a_line_slows_nobody_says_why_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let panel = Panel::start(&[1, 2, 3]).await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "gw/#").await.unwrap();
    let mut gateway =
        Gateway::start(dir.path(), &(head(dir.path(), broker.port()) + &line(panel.port))).unwrap();
    gateway
        .wait_for("three good devices", |now| now.tags.iter().filter(|tag| tag.is_good()).count() == 3)
        .await
        .unwrap();

    panel.set_mute(3, true);
    let dead = gateway
        .wait_for("a dead device", |now| {
            now.devices[2].health == Health::Dead && now.tags[2].quality == "device-down"
        })
        .await
        .unwrap();
    assert_eq!(dead.devices[2].why.as_deref(), Some("timeout"));
    assert!(dead.tags[..2].iter().all(|tag| tag.is_good()), "{:#?}", dead.tags);
    let (neighbour, asked) = (panel.answered(1), panel.asked(3));
    gateway.wait_for("40 polls of a neighbour", |_| panel.answered(1) >= neighbour + 40).await.unwrap();
    let probes = panel.asked(3) - asked;
    assert!(probes <= 20, "a dead device was asked {probes} times in 40 polls of its neighbour");
    let reasons: Vec<String> = office
        .wait_for("the end of the reasons", |all| bad(all, "count_three").contains(&"device-down".into()))
        .await
        .map(|all| bad(&all, "count_three"))
        .unwrap();
    assert_eq!(reasons.first().map(String::as_str), Some("timeout"), "{reasons:?}");

    panel.set_mute(3, false);
    gateway
        .wait_for("a recovered device", |now| {
            now.devices[2].health == Health::Good && now.tags.iter().all(|tag| tag.is_good())
        })
        .await
        .unwrap();
    for name in ["one", "two"] {
        let tag = format!("count_{name}");
        let arrivals = office.arrivals();
        assert!(bad(&arrivals, &tag).is_empty(), "the neighbour {name} was bad: {:?}", bad(&arrivals, &tag));
    }
    gateway
        .wait_for("the recovery in the log", |_| log_has(dir.path(), "device three: answers again after"))
        .await
        .unwrap();
    let log = gateway.log();
    assert!(log.contains(": device three: does not answer (timeout)"), "{log}");
    assert!(log.contains("bus line: device three"), "{log}");
    gateway.stop().await.unwrap();
}

fn log_has(dir: &std::path::Path, words: &str) -> bool {
    std::fs::read_to_string(dir.join("gateway.log")).is_ok_and(|log| log.contains(words))
}

/// The reasons with which a tag was bad, in their order.
fn bad(arrivals: &[office::Arrival], tag: &str) -> Vec<String> {
    let reason = |arrival: &office::Arrival| Some(arrival.json.get("bad")?.get(tag)?.as_str()?.to_owned());
    arrivals.iter().filter_map(reason).collect()
}

fn filtered(port: u16) -> String {
    format!(
        r#"
[bus.line]
driver = "modbus-rtu-over-tcp"
host = "127.0.0.1"
port = {port}
frame_silence = "5ms"
[device.panel]
bus = "line"
unit = 1
timeout = "30s"
retries = 0
[[device.panel.poll]]
every = "100ms"
tags.level = {{ holding = 2, type = "u16", deadband = 10, stale_after = 5 }}
tags.door = {{ holding = 3, type = "u16", on_change = true, stale_after = 5 }}
tags.pulse = {{ holding = 4, type = "u16", on_change = true, silence_max = "1s", stale_after = 5 }}
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_by_exception_silence_and_staleness_go_all_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let panel = Panel::start(&[1]).await.unwrap();
    panel.set(1, 2, 100);
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let office = Office::open(broker.port(), "gw/panel/#").await.unwrap();
    let mut gateway =
        Gateway::start(dir.path(), &(head(dir.path(), broker.port()) + &filtered(panel.port))).unwrap();
    let first = office.wait_for("the first report", |all| !all.is_empty()).await.unwrap();
    let values = first[0].json["values"].as_object().unwrap();
    assert_eq!(values.len(), 3, "the first report has everything: {values:?}");

    panel.set(1, 2, 105);
    panel.set(1, 3, 7);
    office.wait_for("the door", |all| all.iter().any(|one| one.value("door") == Some(7))).await.unwrap();
    panel.set(1, 2, 111);
    let all = office
        .wait_for("the level", |all| all.iter().any(|one| one.value("level") == Some(111)))
        .await
        .unwrap();
    assert!(!all.iter().any(|one| one.value("level") == Some(105)), "within the deadband: {all:#?}");
    let all = office.wait_for("three signs of life", |all| counted(all, "pulse") >= 4).await.unwrap();
    let polls = panel.answered(1);
    assert!(counted(&all, "door") == 2 && counted(&all, "level") == 2, "{all:#?}");
    assert!((counted(&all, "pulse") as u64) < u64::from(polls) / 2, "silence_max reports every poll");

    panel.set_mute(1, true);
    for tag in ["level", "door", "pulse"] {
        office
            .wait_for("the stale mark", |all| bad(all, tag) == ["stale"])
            .await
            .unwrap_or_else(|fault| panic!("{tag}: {fault}"));
    }
    assert_balanced(&gateway).await;
    gateway
        .wait_for("stale in the picture", |now| now.tags.iter().all(|tag| tag.quality == "stale"))
        .await
        .unwrap();
    gateway.stop().await.unwrap();
}

fn counted(arrivals: &[office::Arrival], tag: &str) -> usize {
    arrivals.iter().filter(|arrival| arrival.value(tag).is_some()).count()
}

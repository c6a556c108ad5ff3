//! Devices that refuse while they boot, die together, answer wrongly or send what no limit lets through, each with the real program.

use std::time::Duration;

use gateway_daemon::app::picture::{self, Ink};
use gateway_daemon::app::snapshot::{Health, Snapshot};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::panel::Panel;
use tidegate_tests::proxy::{Fault, FaultProxy};
use tidegate_tests::units::{Manner, Units};

use crate::{counter, dead_port, head};

/// A bus behind a Modbus TCP gateway.
fn bus(port: u16) -> String {
    format!("[bus.plc]\ndriver = \"modbus-tcp\"\nhost = \"127.0.0.1\"\nport = {port}\n")
}

/// A device with a register of 16 bits at each of these addresses.
fn device(name: &str, unit: u8, keys: &str, every_ms: u64, addresses: impl Iterator<Item = u16>) -> String {
    let tags = addresses.map(|at| format!("tags.r{at} = {{ holding = {at}, type = \"u16\" }}\n"));
    let tags: String = tags.collect();
    format!(
        "[device.{name}]\nbus = \"plc\"\nunit = {unit}\n{keys}\n[[device.{name}.poll]]\nevery = \"{every_ms}ms\"\n{tags}"
    )
}

fn all_good(now: &Snapshot) -> bool {
    now.tags.iter().all(|tag| tag.is_good())
}

fn times(log: &str, words: &str) -> usize {
    log.matches(words).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_refuses_while_it_boots_is_read_in_one_request_again() {
    let dir = tempfile::tempdir().unwrap();
    let units = Units::start().await.unwrap();
    units.set_manner(1, Manner::Refuses(2));
    let config = head(dir.path(), dead_port()) + &bus(units.port) + &device("meter", 1, "", 50, 0..60);
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    // At the start, and in the middle of its work with the other code.
    for code in [2, 3] {
        units.set_manner(1, Manner::Refuses(code));
        let quality = format!("exception-{code}");
        gateway
            .wait_for("refused tags", |now| {
                now.tags.iter().all(|tag| tag.quality == quality)
                    && now.devices[0]
                        .wrong
                        .iter()
                        .any(|said| said.starts_with("refuses its only request: holding 0 to 59"))
            })
            .await
            .unwrap();
        units.set_manner(1, Manner::Answers);
        gateway
            .wait_for("good tags in one request", |now| {
                let requests = units.requests(1);
                all_good(now)
                    && now.devices[0].wrong.is_empty()
                    && requests.iter().rev().take(20).all(|count| *count == 60)
            })
            .await
            .unwrap();
    }
    gateway.stop().await.unwrap();
}

fn gateway_log(dir: &std::path::Path) -> String {
    std::fs::read_to_string(dir.join("gateway.log")).unwrap()
}

/// Eight devices, of which four die at once; how is up to the test.
async fn four_of_eight_die(
    config: String,
    dir: &std::path::Path,
    die: impl FnOnce(),
    asked: impl Fn(u8) -> usize,
) {
    // Longer than all time-outs together.
    let config = config.replace("type = \"u16\"", "type = \"u16\", stale_after = 200");
    let mut gateway = Gateway::start(dir, &(head(dir, dead_port()) + &config)).unwrap();
    gateway.wait_for("eight devices", |now| now.tags.len() == 8 && all_good(now)).await.unwrap();
    let before: Vec<usize> = (1..=8).map(&asked).collect();
    die();
    let since = |unit: u8| asked(unit) - before[usize::from(unit) - 1];
    let during = gateway
        .wait_for("forty polls of each that answers", |_| (5..=8).all(|unit| since(unit) >= 40))
        .await
        .unwrap();
    let (dying, others): (usize, usize) = ((1..=4).map(since).sum(), (5..=8).map(since).sum());
    // One time-out of each, and then a twentieth of the time.
    assert!(dying * 10 <= others, "{dying} requests to those that died, {others} to the others");
    assert!(during.tags[4..].iter().all(|tag| tag.is_good()), "{:#?}", during.tags);
    let ill = |health: Health| matches!(health, Health::Failing | Health::Dead);
    assert!(during.devices[..4].iter().all(|device| ill(device.health)), "{:#?}", during.devices);
    assert!(during.devices[4..].iter().all(|device| device.health == Health::Good), "{:#?}", during.devices);
    assert_eq!(gateway.metric("process_stale_readings_total").await.unwrap(), 0);
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_behind_a_tcp_gateway_that_die_together_leave_the_others_their_polls() {
    let dir = tempfile::tempdir().unwrap();
    let units = Units::start().await.unwrap();
    let devices = (1..=8).map(|unit| device(&format!("d{unit}"), unit, "timeout = \"1s\"", 50, 0..1));
    let config = bus(units.port) + &devices.collect::<String>();
    let die =
        || (1..=4).for_each(|unit| units.set_manner(unit, Manner::Lost(0x0B, Duration::from_millis(300))));
    four_of_eight_die(config, dir.path(), die, |unit| units.requests(unit).len()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_on_a_line_that_die_together_leave_the_others_their_polls() {
    let dir = tempfile::tempdir().unwrap();
    let panel = Panel::start(&[1, 2, 3, 4, 5, 6, 7, 8]).await.unwrap();
    let devices = (1..=8).map(|unit| device(&format!("d{unit}"), unit, "timeout = \"300ms\"", 100, 0..1));
    let config = bus(panel.port).replace("modbus-tcp", "modbus-rtu-over-tcp")
        + "frame_silence = \"2ms\"\n"
        + &devices.collect::<String>();
    let die = || (1..=4).for_each(|unit| panel.set_mute(unit, true));
    four_of_eight_die(config, dir.path(), die, |unit| panel.asked(unit) as usize).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_register_is_told_once_in_the_log_and_stands_in_status_while_it_lasts() {
    let dir = tempfile::tempdir().unwrap();
    let units = Units::start().await.unwrap();
    units.set_illegal(1, 609, true);
    let meter = device("meter", 1, "base = 1", 50, (0..12).map(|at| 610 + at * 20)).replace("r610", "energy");
    let mut gateway =
        Gateway::start(dir.path(), &(head(dir.path(), dead_port()) + &bus(units.port) + &meter)).unwrap();
    let sentence = "refuses 1 of 12 requests: holding 610 (energy): exception 2";
    let is_said = |now: &Snapshot| now.devices[0].wrong.iter().any(|said| said.starts_with(sentence));
    let now = gateway.wait_for("the refusal", is_said).await.unwrap();
    assert_eq!(now.devices[0].health, Health::Good);
    let status = picture::status(&now, Ink::Plain);
    assert!(status.contains(&format!("device meter: {sentence}")), "{status}");
    let polled = units.requests(1).len();
    gateway
        .wait_for("twenty polls more and the line in the log", |_| {
            units.requests(1).len() >= polled + 240 && times(&gateway_log(dir.path()), sentence) > 0
        })
        .await
        .unwrap();
    units.set_illegal(1, 609, false);
    gateway
        .wait_for("its end", |now| {
            now.devices[0].wrong.is_empty()
                && times(&gateway_log(dir.path()), "device meter: answers all of its requests again") == 1
        })
        .await
        .unwrap();
    gateway.stop().await.unwrap();
    assert_eq!(times(&gateway_log(dir.path()), sentence), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_whose_answers_are_wrong_is_not_said_to_give_none() {
    for (manner, sentence) in [
        (Manner::As(5), "answers wrongly (answer of unit 5 instead of unit 1)"),
        (Manner::Cut(1), "answers wrongly (answer too short)"),
        (Manner::Id(700), "answers wrongly (answer with transaction id "),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let units = Units::start().await.unwrap();
        units.set_manner(1, manner);
        let keys = "timeout = \"100ms\"\nretries = 0\ndead_after = 2";
        let config = head(dir.path(), dead_port()) + &bus(units.port) + &device("meter", 1, keys, 50, 0..2);
        let mut gateway = Gateway::start(dir.path(), &config).unwrap();
        let said = |now: &Snapshot| now.devices[0].wrong.iter().any(|said| said.starts_with(sentence));
        gateway
            .wait_for("a dead device and the line in the log", |now| {
                now.devices[0].health == Health::Dead
                    && said(now)
                    && gateway_log(dir.path()).contains(sentence)
            })
            .await
            .unwrap();
        gateway.stop().await.unwrap();
        assert_eq!(times(&gateway_log(dir.path()), "does not answer"), 0, "{manner:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_64_bits_hold_to_the_last_digit_and_status_names_who_breaks_them() {
    let dir = tempfile::tempdir().unwrap();
    let units = Units::start().await.unwrap();
    units.set(1, 0, &[0xFFFF; 4]);
    units.set(1, 4, &[0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE]);
    units.set(1, 8, &[0x8000, 0, 0, 0]);
    units.set(1, 12, &[0x8000, 0, 0, 1]);
    let tags = r#"
tags.above = { holding = 0, type = "u64", max = 18446744073709551614 }
tags.highest = { holding = 4, type = "u64", max = 18446744073709551614 }
tags.below = { holding = 8, type = "i64", min = -9223372036854775807 }
tags.lowest = { holding = 12, type = "i64", min = -9223372036854775807 }
"#;
    let config = head(dir.path(), dead_port()) + &bus(units.port) + &device("meter", 1, "", 50, 0..0) + tags;
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    let now = gateway
        .wait_for("readings and their sentence", |now| {
            now.tags.iter().all(|tag| tag.age_ms.is_some()) && !now.devices[0].wrong.is_empty()
        })
        .await
        .unwrap();
    let quality: Vec<&str> = now.tags.iter().map(|tag| tag.quality.as_str()).collect();
    assert_eq!(quality, ["out-of-range", "good", "out-of-range", "good"]);
    assert_eq!(now.tags[1].value, Some(18_446_744_073_709_551_614_u64.into()));
    assert_eq!(now.tags[3].value, Some((-9_223_372_036_854_775_807_i64).into()));
    let sentence =
        "2 of 4 tags are bad: above (holding 0): outside its limits, below (holding 8): outside its limits";
    assert_eq!(now.devices[0].wrong, [sentence]);
    gateway.wait_for("the log", |_| gateway_log(dir.path()).contains(sentence)).await.unwrap();
    gateway.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_up_or_down_since_its_last_change_and_only_connections_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let units = Units::start().await.unwrap();
    let broker = Mosquitto::start(&Options::default()).await.unwrap();
    let proxy = FaultProxy::to_port(broker.port()).await.unwrap();
    proxy.set(Fault::AcceptAndClose);
    let config = head(dir.path(), proxy.port()) + &counter(units.port);
    let mut gateway = Gateway::start(dir.path(), &config).unwrap();
    gateway.wait_for("three attempts", |_| proxy.accepted() >= 3).await.unwrap();
    proxy.set(Fault::None);
    let is_up = |now: &Snapshot| now.uplinks[0].link == gateway_daemon::app::snapshot::Link::Up;
    let up = gateway.wait_for("a link", is_up).await.unwrap();
    // It was down for some attempts: it cannot have been up since the start.
    assert!(up.uplinks[0].since_ms < up.uptime_ms && up.uplinks[0].connects == 1, "{:#?}", up.uplinks);
    let later = gateway.wait_for("a second", |now| now.uptime_ms >= up.uptime_ms + 1000).await.unwrap();
    assert!(later.uplinks[0].since_ms >= 999, "up since it came up: {:#?}", later.uplinks);
    proxy.set(Fault::AcceptAndClose);
    proxy.cut();
    let attempts = proxy.accepted();
    let down = gateway
        .wait_for("three attempts more", |now| !is_up(now) && proxy.accepted() >= attempts + 3)
        .await
        .unwrap();
    let (since, at_most) = (down.uplinks[0].since_ms, down.uptime_ms - later.uptime_ms);
    assert!(since <= at_most + 1, "down for {since} ms, it was up {at_most} ms ago");
    let longer = gateway.wait_for("another attempt", |_| proxy.accepted() >= attempts + 4).await.unwrap();
    let passed = longer.uptime_ms - down.uptime_ms;
    assert!(
        longer.uplinks[0].since_ms + 100 >= since + passed,
        "an attempt is no change: {:#?}",
        longer.uplinks
    );
    assert_eq!(longer.uplinks[0].connects, 1);
    proxy.set(Fault::None);
    gateway.wait_for("a second link", |now| is_up(now) && now.uplinks[0].connects == 2).await.unwrap();
    gateway.stop().await.unwrap();
}

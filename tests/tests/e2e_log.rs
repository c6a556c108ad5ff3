//! What the log of a running gateway tells of the deeds of people: outside the journal, line by line.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::process::Command;

use gateway_daemon::app::control::{Ask, RawAt, Reply};
use tidegate_tests::gateway::{Gateway, binary};

fn config(dir: &Path, unit: u8) -> String {
    format!(
        "[gateway]\nid = \"gw\"\nsocket = \"{place}/control.sock\"\n[store]\npath = \"{place}/queue.db\"\n[bus.line]\ndriver = \"sim\"\n[device.boiler]\nbus = \"line\"\n\
         unit = {unit}\n[[device.boiler.poll]]\nevery = \"100ms\"\ntags.setpoint = {{ holding = 0, type = \"i16\", writable = true }}\ntags.pump = {{ coil = 3, writable = true }}\n",
        place = dir.display()
    )
}

/// The only line of the log with this in it.
fn line(log: &str, part: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(part)).collect();
    assert_eq!(lines.len(), 1, "{part}: {lines:#?}\n{log}");
    lines[0].to_owned()
}

#[tokio::test]
async fn writes_reloads_and_restarts_leave_one_line_each_with_time_and_the_bus_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(dir.path(), &config(dir.path(), 17)).unwrap();
    gateway
        .wait_for("polled tags", |picture| picture.tags.iter().all(|tag| tag.value.is_some()))
        .await
        .unwrap();
    for value in ["20", "21"] {
        let ask = Ask::Write { device: "boiler".into(), tag: "setpoint".into(), value: value.into() };
        assert!(matches!(gateway.ask(&ask).await.unwrap(), Reply::Written(_)));
        let polled = |picture: &gateway_daemon::app::snapshot::Snapshot| {
            picture
                .tags
                .iter()
                .any(|tag| tag.tag == "setpoint" && tag.value == Some(value.parse::<i64>().unwrap().into()))
        };
        gateway.wait_for("the written value", polled).await.unwrap();
    }
    // More than the log allows of one kind: each is a deed of its own.
    for count in 1..10 {
        let at = RawAt { bus: "line".into(), unit: 17, table: "holding".into(), address: 40 };
        gateway.ask(&Ask::WriteRaw { at, values: vec![count] }).await.unwrap();
    }
    // Faster than people: counted, and told at the end.
    for count in 0..100 {
        let ask = Ask::Write { device: "boiler".into(), tag: "pump".into(), value: (count % 2).to_string() };
        assert!(matches!(gateway.ask(&ask).await.unwrap(), Reply::Written(_)));
    }
    let no = Ask::Write { device: "boiler".into(), tag: "nothing".into(), value: "1".into() };
    assert!(matches!(gateway.ask(&no).await.unwrap(), Reply::Refused(_)));
    gateway.reload(&config(dir.path(), 18)).await.unwrap();

    let log = gateway.log();
    let by = format!("by uid {}, pid {}", rustix::process::getuid().as_raw(), std::process::id());
    let write = line(&log, "boiler/setpoint = 21 ");
    assert!(
        write.contains(&format!("INFO  bus line: write of boiler/setpoint = 21 (was 20), {by}: done")),
        "{write}"
    );
    assert_eq!(log.matches("bus line: write of unit 17 holding 40 = ").count(), 9, "{log}");
    assert_eq!(log.matches("bus line: write of boiler/pump = ").count(), 20, "{log}");
    let refused = line(&log, "boiler/nothing = 1");
    assert!(refused.contains(&by) && refused.contains("refused: boiler has no tag"), "{refused}");
    let reload = line(&log, "reload: done");
    assert!(reload.contains("changed [device.boiler]"), "{reload}");
    let start = line(&log, "running: ");
    assert!(start.contains("1 bus, 2 tags; nothing had to be restored"), "{start}");
    for line in log.lines() {
        let time = line.split(' ').next().unwrap();
        assert!(time.len() == 20 && time.ends_with('Z') && time.starts_with("20"), "no time: {line}");
        assert!(!line.contains("bus=line"), "said twice: {line}");
    }
    let file = gateway.log_file();
    gateway.stop().await.unwrap();
    let more = line(&std::fs::read_to_string(file).unwrap(), "80 more lines within 10 minutes");
    assert!(more.contains("like this one: bus line: write of boiler/pump = 1 (was off), by uid"), "{more}");
}

#[tokio::test]
async fn signals_that_mean_nothing_end_no_gateway_and_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start(dir.path(), &config(dir.path(), 17)).unwrap();
    gateway.wait_for("an answer", |_| true).await.unwrap();
    let signals = ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "XFSZ"];
    // The last of the real-time signals cannot be heard; SIGPIPE is not told.
    let numbers = ["16", "34", "37", "63", "64", "13"];
    for signal in signals.iter().chain(&numbers) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {}", gateway.pid())]).status();
        assert!(sent.unwrap().success(), "{signal}");
    }
    let told = signals.map(|name| format!("signal SIG{name} is ignored"));
    let real_time = [0, 3, 29].map(|number| format!("signal SIGRTMIN+{number} is ignored"));
    let all: Vec<String> = told.into_iter().chain(real_time).collect();
    let end = std::time::Instant::now() + tidegate_tests::gateway::DEADLINE;
    while let Some(missing) = all.iter().find(|line| !gateway.log().contains(*line)) {
        assert!(std::time::Instant::now() < end, "not told: {missing}\n{}", gateway.log());
        // It answers.
        gateway.wait_for("an answer", |_| true).await.unwrap();
    }
    gateway.stop().await.unwrap();
}

#[test]
fn a_wrong_level_of_the_log_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gateway.toml"), config(dir.path(), 1)).unwrap();
    let mut run = Command::new(binary().unwrap());
    run.args(["run", "gateway.toml"]).current_dir(dir.path()).env("TIDEGATE_LOG", "loud");
    let output = run.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.contains("TIDEGATE_LOG=\"loud\"") && said.contains("error, warn, info, debug, trace"),
        "{said}"
    );
}

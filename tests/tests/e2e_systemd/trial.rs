//! What systemd makes of an update: the gate, the mark, the way back. RAUC is a script that writes down what it is told.

use tidegate_tests::container::{Container, Setting};

use super::{able, config};

/// The system in the second slot runs, and was not marked good.
const RAUC: &str = r#"#!/bin/sh
case "$*" in
*json*) echo '{"boot_primary":"rootfs.1","slots":[{"rootfs.0":{"state":"inactive","bootname":"A","boot_status":"good"}},{"rootfs.1":{"state":"booted","bootname":"B","boot_status":"bad"}}]}' ;;
*) echo "$*" >>/var/lib/tidegate-update/rauc.log ;;
esac
"#;

/// The first slot ran before, and in it this bus polled.
fn on_trial(bus: &str) -> Setting {
    let before = format!(
        r#"{{"boot":"another","slot":"rootfs.0","installed":true,"before":{{"buses":{{"{bus}":["meter"]}},"uplinks":[],"store_faulty":false}}}}"#
    );
    let gate = "[Service]\nExecStart=\nExecStart=/usr/bin/gateway-daemon health --for 1s --deadline 8s\n";
    Setting {
        config: Some(config("")),
        programs: vec![("rauc", RAUC.to_owned())],
        var: vec![("lib/tidegate-update/before.json", before)],
        units: vec![("tidegate-health.service", gate.to_owned())],
        ..Setting::default()
    }
}

#[tokio::test]
async fn a_system_that_passes_its_trial_is_marked_good_and_the_target_is_reached() {
    if !able("a_system_that_passes_its_trial_is_marked_good_and_the_target_is_reached") {
        return;
    }
    let machine = Container::boot(&on_trial("field")).await.unwrap();
    machine.until_file("lib/tidegate-update/rauc.log", |text| text == "status mark-good\n").await.unwrap();
    machine.until_property("tidegate-healthy.target", "ActiveState", |text| text == "active").await.unwrap();
    machine.until_property("tidegate-mark-good.service", "Result", |text| text == "success").await.unwrap();
    let look = ["sh", "-c", "test -e /var/lib/tidegate-update/before.json || echo gone"];
    machine.until("the record to go", &look, |text| text == "gone").await.unwrap();
    // Nothing is asked twice: the next boot finds no trial.
    machine.read(&["systemctl", "start", "tidegate-health.service"]).await.unwrap();
    assert_eq!(machine.property("tidegate-health.service", "Result").await.unwrap(), "exec-condition");
}

#[tokio::test]
async fn a_system_that_fails_its_trial_is_marked_bad_and_the_machine_restarts() {
    if !able("a_system_that_fails_its_trial_is_marked_bad_and_the_machine_restarts") {
        return;
    }
    // The machine may be gone at any moment from here on: only its disk is looked at.
    let machine = Container::boot(&on_trial("no-such-bus")).await.unwrap();
    machine.until_file("lib/tidegate-update/rauc.log", |text| text == "status mark-bad\n").await.unwrap();
    machine.until_file("lib/tidegate-update/rolled-back", |text| text.contains("no-such-bus")).await.unwrap();
    let kept = machine.disk().join("lib/tidegate-update").read_dir().unwrap();
    let journal = |file: &std::path::Path| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("journal-"))
    };
    let journal = kept.map(|file| file.unwrap().path()).find(|file| journal(file)).unwrap();
    assert!(
        std::fs::read_to_string(journal).unwrap().contains("has to go"),
        "the journal of the failed boot is kept"
    );
    machine.until_console("is being rebooted").await.unwrap();
}

#[tokio::test]
async fn without_an_update_there_is_no_trial() {
    if !able("without_an_update_there_is_no_trial") {
        return;
    }
    let setting =
        Setting { config: Some(config("")), programs: vec![("rauc", RAUC.to_owned())], ..Setting::default() };
    let machine = Container::boot(&setting).await.unwrap();
    machine
        .until_property("tidegate-health.service", "Result", |text| text == "exec-condition")
        .await
        .unwrap();
    assert_eq!(machine.property("tidegate-healthy.target", "ActiveState").await.unwrap(), "inactive");
    let marks = machine.run(&["cat", "/var/lib/tidegate-update/rauc.log"]).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&marks.stdout), "", "nothing is marked");
}

#[tokio::test]
async fn the_update_agent_starts_when_the_gateway_asks_and_answers_nobody_else() {
    if !able("the_update_agent_starts_when_the_gateway_asks_and_answers_nobody_else") {
        return;
    }
    let setting =
        Setting { config: Some(config("")), programs: vec![("rauc", RAUC.to_owned())], ..Setting::default() };
    let machine = Container::boot(&setting).await.unwrap();
    assert_eq!(machine.property("tidegate-update.service", "ActiveState").await.unwrap(), "inactive");
    let ask = async |user: &str, group: &str| {
        let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
        machine.run(&["setpriv", &user, &group, "--clear-groups", "gateway-daemon", "update"]).await.unwrap()
    };
    let refused = ask("nobody", "nogroup").await;
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(machine.property("tidegate-update.service", "ActiveState").await.unwrap(), "inactive");
    let answered = ask("tidegate", "tidegate").await;
    assert!(answered.status.success(), "{answered:?}");
    assert_eq!(machine.property("tidegate-update.service", "ActiveState").await.unwrap(), "active");
}

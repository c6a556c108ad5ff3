//! The health gate after the reboot: what stays, what has to go, and what is said about it.

use anyhow::{Result, ensure};
use gateway_core::update::record::Trial;
use gateway_core::update::trial::Before;
use gateway_core::update::wire::State;
use gateway_daemon::app::control::{Ask, CLIENTS_MAX, Client, Reply};
use gateway_daemon::app::snapshot::{Health, Snapshot};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::workshop::Workshop;

use super::said;

/// A gateway with a simulated bus that can always be polled.
pub(crate) const SIMULATED: &str = r#"
[gateway]
id = "gw"
socket = "control.sock"
[store]
path = "queue.db"
[bus.line]
driver = "sim"
[device.boiler]
bus = "line"
unit = 17
[[device.boiler.poll]]
every = "200ms"
tags.actual = { input = 0, type = "i16" }
"#;

pub(crate) fn polls(now: &Snapshot) -> bool {
    now.devices.iter().all(|device| device.health == Health::Good)
}

/// The system was updated and started again: slot 1 runs, and 0 ran before.
pub(crate) fn on_trial(workshop: &Workshop, installed: bool) -> Result<()> {
    let before =
        Before { buses: [("line".to_owned(), vec!["boiler".to_owned()])].into(), ..Before::default() };
    workshop.slots("rootfs.1", "rootfs.1")?;
    Ok(workshop.folder().set_trial(&Trial {
        boot: "the boot before".into(),
        slot: "rootfs.0".into(),
        before,
        installed,
        reboot: true,
        version: Some("1.2".into()),
        key: Some("42".into()),
        downgrade: false,
    })?)
}

fn fault(workshop: &Workshop) -> Option<String> {
    std::fs::read_to_string(workshop.path("faults/update-rolled-back")).ok()
}

#[tokio::test]
async fn a_system_that_is_not_on_trial_is_let_alone() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    let (code, text) = said(&workshop.run(&["health"]).await?);
    assert_eq!((code, text.as_str()), (Some(0), ""));
    assert_eq!((workshop.folder().trial()?, workshop.folder().last()?, fault(&workshop)), (None, None, None));
    Ok(())
}

#[tokio::test]
async fn an_updated_system_on_which_everything_works_stays_and_the_outcome_is_kept() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    on_trial(&workshop, true)?;
    workshop.folder().set_why_back("an older one")?;
    let _gateway = Gateway::start(workshop.dir(), SIMULATED)?;
    let (code, text) = said(&workshop.run(&["health", "--for", "2s", "--deadline", "60s"]).await?);
    assert_eq!(code, Some(0), "{text}");
    ensure!(text.contains("has passed its test"), "{text}");
    // Until the slot is marked the trial goes on.
    ensure!(workshop.folder().trial()?.is_some());
    let (code, text) = said(&workshop.run(&["health", "--passed"]).await?);
    assert_eq!(code, Some(0), "{text}");
    let last = workshop.folder().last()?.unwrap_or_default();
    assert_eq!(
        (last.status.state, last.status.version.as_deref(), last.key.as_deref()),
        (State::Good, Some("1.2"), Some("42"))
    );
    assert_eq!(
        (workshop.folder().trial()?, workshop.folder().why_back(), fault(&workshop)),
        (None, None, None)
    );
    Ok(())
}

#[tokio::test]
async fn an_updated_system_whose_gateway_does_not_run_has_to_go_and_the_old_one_says_why() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    on_trial(&workshop, true)?;
    let (code, text) = said(&workshop.run(&["health", "--for", "1s", "--deadline", "1s"]).await?);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(workshop.folder().why_back().as_deref(), Some("the gateway does not answer"));
    // The old one starts again.
    workshop.slots("rootfs.0", "rootfs.0")?;
    let (code, text) = said(&workshop.run(&["health"]).await?);
    assert_eq!(code, Some(0), "{text}");
    let last = workshop.folder().last()?.unwrap_or_default();
    assert_eq!((last.status.state, last.status.id.as_deref()), (State::RolledBack, Some("42")));
    assert_eq!(
        fault(&workshop).as_deref(),
        Some("the last update was undone: the gateway does not answer\n")
    );
    assert_eq!(workshop.folder().trial()?, None);
    // It is said again at each boot.
    std::fs::remove_dir_all(workshop.path("faults"))?;
    let (code, text) = said(&workshop.run(&["health"]).await?);
    assert_eq!((code, text.as_str()), (Some(0), ""));
    ensure!(fault(&workshop).is_some());
    Ok(())
}

#[tokio::test]
async fn an_updated_system_that_nobody_could_look_at_is_not_said_to_give_no_answer() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    on_trial(&workshop, true)?;
    let mut gateway = Gateway::start(workshop.dir(), SIMULATED)?;
    gateway.wait_for("an answer", polls).await?;
    let mut guests = Vec::new();
    while guests.len() < CLIENTS_MAX {
        let mut guest = Client::connect(&workshop.path("control.sock")).await?;
        guest.ask(&Ask::Status).await?;
        // Until those who asked before have left it may be full.
        if matches!(guest.reply().await, Ok(Reply::Status(_))) {
            guests.push(guest);
        }
    }
    let (code, text) = said(&workshop.run(&["health", "--for", "1s", "--deadline", "2s"]).await?);
    assert_eq!(code, Some(1), "{text}");
    let why = workshop.folder().why_back().unwrap_or_default();
    ensure!(why.starts_with("the gateway runs, but nobody could see how"), "{why}");
    // One leaves, and it is seen that all is well.
    guests.pop();
    let (code, text) = said(&workshop.run(&["health", "--for", "1s", "--deadline", "60s"]).await?);
    assert_eq!(code, Some(0), "{text}");
    Ok(())
}

#[tokio::test]
async fn an_updated_system_that_does_not_poll_a_bus_has_to_go() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    on_trial(&workshop, true)?;
    let other = SIMULATED.replace("bus.line", "bus.other").replace("bus = \"line\"", "bus = \"other\"");
    let mut gateway = Gateway::start(workshop.dir(), &other)?;
    gateway.wait_for("an answer", polls).await?;
    let (code, text) = said(&workshop.run(&["health", "--for", "1s", "--deadline", "3s"]).await?);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(
        workshop.folder().why_back().as_deref(),
        Some("bus line polled before the update and is gone")
    );
    Ok(())
}

#[tokio::test]
async fn a_boot_loader_that_went_back_by_itself_is_a_roll_back_too() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    on_trial(&workshop, true)?;
    workshop.slots("rootfs.0", "rootfs.0")?;
    let (code, text) = said(&workshop.run(&["health"]).await?);
    assert_eq!(code, Some(0), "{text}");
    ensure!(fault(&workshop).is_some_and(|text| text.contains("did not start")));
    Ok(())
}

#[tokio::test]
async fn a_power_cut_while_installing_is_a_failed_update_and_no_fault_of_the_system() -> Result<()> {
    let workshop = Workshop::without_agent()?;
    on_trial(&workshop, false)?;
    workshop.slots("rootfs.0", "rootfs.0")?;
    let (code, text) = said(&workshop.run(&["health"]).await?);
    assert_eq!(code, Some(0), "{text}");
    let last = workshop.folder().last()?.unwrap_or_default();
    assert_eq!((last.status.state, fault(&workshop)), (State::Failed, None));
    Ok(())
}

//! Updates by command of a real cloud.

use anyhow::{Context as _, Result, ensure};
use gateway_core::update::reason::Reason;
use gateway_core::update::wire::{State, Status};
use gateway_daemon::app::snapshot::{Link, Snapshot};
use rustix::process::{Pid, Signal, kill_process};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::watcher::Watcher;
use tidegate_tests::workshop::Workshop;

const INSTALL: &str = "gw/update/install";

const STREAMED: &str =
    "echo ' 20% Checking bundle'\necho ' 40% Copying image to rootfs.1'\necho '100% Installing done.'";

fn config(workshop: &Workshop, cloud: &Mosquitto) -> String {
    format!(
        r#"[gateway]
id = "gw"
socket = "control.sock"
[store]
path = "queue.db"
[broker.listener.local]
address = "127.0.0.1:0"
anonymous = true
[uplink.cloud]
url = "mqtt://127.0.0.1:{}"
backoff_min = "100ms"
backoff_max = "1s"
[update]
uplink = "cloud"
socket = "{}"
"#,
        cloud.port(),
        workshop.socket().display()
    )
}

fn up(now: &Snapshot) -> bool {
    now.uplinks.iter().all(|uplink| uplink.link == Link::Up)
}

async fn start(workshop: &Workshop, cloud: &Mosquitto) -> Result<Gateway> {
    let mut gateway = Gateway::start(workshop.dir(), &config(workshop, cloud))?;
    gateway.wait_for("the cloud", up).await?;
    Ok(gateway)
}

/// What the cloud is told, until it is what is wanted.
async fn told(operator: &mut Watcher, wanted: impl Fn(&Status) -> bool) -> Result<Vec<Status>> {
    let mut all = Vec::new();
    loop {
        let message = operator.next().await?;
        if message.topic != "gw/update" {
            continue;
        }
        let status: Status = serde_json::from_slice(&message.payload)?;
        all.push(status.clone());
        if wanted(&status) {
            return Ok(all);
        }
    }
}

fn installs(workshop: &Workshop) -> usize {
    workshop.calls().lines().filter(|call| call.starts_with("install")).count()
}

/// The system was started again, into slot 1, as far as anybody can tell here.
fn reboot(workshop: &Workshop) -> Result<()> {
    let mut trial = workshop.folder().trial()?.context("a record")?;
    trial.boot = "the boot before".into();
    workshop.slots("rootfs.1", "rootfs.1")?;
    Ok(workshop.folder().set_trial(&trial)?)
}

#[tokio::test]
async fn the_cloud_commands_an_update_and_hears_of_it_to_the_end() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let workshop = Workshop::start().await?;
    workshop.install(STREAMED)?;
    let gateway = start(&workshop, &cloud).await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "gw/update").await?;
    operator.publish(INSTALL, br#"{"url":"https://example.com/x.raucb","id":"42"}"#).await?;
    let all = told(&mut operator, |status| status.state == State::Rebooting).await?;
    let mut states: Vec<&str> = all.iter().map(|status| status.state.word()).collect();
    states.dedup();
    assert_eq!(states, ["idle", "downloading", "installing", "rebooting"]);
    let last = all.last().context("a status")?;
    assert_eq!((last.version.as_deref(), last.id.as_deref()), (Some("1.2"), Some("42")));
    ensure!(all.iter().any(|status| status.text.as_deref() == Some("Copying image to rootfs.1")));
    assert_eq!(workshop.written("reboots").await?, "reboot\n");
    // The gateway goes down with its system, and comes back with the updated one.
    gateway.stop().await?;
    reboot(&workshop)?;
    let gateway = start(&workshop, &cloud).await?;
    told(&mut operator, |status| status.state == State::Testing).await?;
    workshop.run(&["health", "--passed"]).await?;
    let all = told(&mut operator, |status| status.state == State::Good).await?;
    assert_eq!(all.last().and_then(|status| status.id.as_deref()), Some("42"));
    // Whoever comes later hears it, too.
    let mut late = Watcher::start(cloud.port(), "late", true, "gw/update").await?;
    assert_eq!(told(&mut late, |_| true).await?.last().map(|status| status.state), Some(State::Good));
    assert_eq!(installs(&workshop), 1);
    gateway.stop().await
}

#[tokio::test]
async fn a_failed_update_is_told_with_its_reason_and_may_be_commanded_again() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let workshop = Workshop::start().await?;
    workshop.install("echo 'LastError: signature verification failed: self-signed'\nexit 1")?;
    let _gateway = start(&workshop, &cloud).await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "gw/update").await?;
    for time in 1..=2 {
        operator.publish(INSTALL, br#"{"url":"https://example.com/x.raucb","id":"42"}"#).await?;
        let all =
            told(&mut operator, |status| status.state == State::Failed && status.percent.is_none()).await?;
        let last = all.last().context("a status")?;
        assert_eq!((last.reason, last.id.as_deref()), (Some(Reason::BadSignature), Some("42")));
        ensure!(last.text.as_deref().is_some_and(|text| text.contains("not signed by anybody whom")));
        if time == 1 {
            workshop.written("calls").await?;
        }
    }
    assert_eq!(installs(&workshop), 2);
    ensure!(!workshop.path("reboots").exists());
    Ok(())
}

/// It would come again after each start, for ever.
#[tokio::test]
async fn a_retained_command_is_refused_whenever_it_comes() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let workshop = Workshop::start().await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "gw/update").await?;
    operator.retain(INSTALL, br#"{"url":"https://example.com/x.raucb","id":"7"}"#).await?;
    let gateway = start(&workshop, &cloud).await?;
    let refused = |status: &Status| status.reason == Some(Reason::Retained);
    let all = told(&mut operator, refused).await?;
    assert_eq!(all.last().and_then(|status| status.id.as_deref()), Some("7"));
    gateway.stop().await?;
    let gateway = start(&workshop, &cloud).await?;
    told(&mut operator, refused).await?;
    assert_eq!(installs(&workshop), 0);
    gateway.stop().await
}

/// QoS 1 is at least once, and the PUBACK of a command that starts the system again is the one that gets lost.
#[tokio::test]
async fn a_command_that_comes_again_after_the_reboot_is_not_carried_out_again() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let workshop = Workshop::start().await?;
    let gateway = start(&workshop, &cloud).await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "gw/update").await?;
    let command = br#"{"url":"https://example.com/x.raucb"}"#;
    operator.publish(INSTALL, command).await?;
    told(&mut operator, |status| status.state == State::Rebooting).await?;
    gateway.kill()?;
    reboot(&workshop)?;
    let _gateway = start(&workshop, &cloud).await?;
    operator.publish(INSTALL, command).await?;
    let all = told(&mut operator, |status| status.reason == Some(Reason::AlreadyDone)).await?;
    // What is told about the system is not changed by a refusal.
    let last = all.last().context("a status")?;
    assert_eq!((last.state, last.id.as_deref()), (State::Testing, None));
    assert_eq!(installs(&workshop), 1);
    Ok(())
}

#[tokio::test]
async fn an_acknowledgement_means_that_the_agent_has_the_command() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let workshop = Workshop::start().await?;
    let gateway = start(&workshop, &cloud).await?;
    let agent = Pid::from_raw(i32::try_from(workshop.agent_pid().context("an agent")?)?).context("a pid")?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "gw/update").await?;
    told(&mut operator, |status| status.state == State::Idle).await?;
    // The agent hangs, so the command is in nobody's hands but the cloud's; then the power goes.
    kill_process(agent, Signal::STOP)?;
    operator.publish(INSTALL, br#"{"url":"https://example.com/x.raucb","id":"42"}"#).await?;
    cloud
        .log()
        .wait("the command on its way", |line| {
            line.contains("Sending PUBLISH to gw ") && line.contains(INSTALL)
        })
        .await;
    gateway.kill()?;
    ensure!(!cloud.log().lines().iter().any(|line| line.contains("Received PUBACK from gw ")));
    kill_process(agent, Signal::CONT)?;
    // It comes again, and is carried out once, whichever of the two the agent saw first.
    let _gateway = start(&workshop, &cloud).await?;
    told(&mut operator, |status| status.state == State::Rebooting).await?;
    cloud.log().wait("the acknowledgement", |line| line.contains("Received PUBACK from gw ")).await;
    assert_eq!(installs(&workshop), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_no_command_is_refused_with_words_and_changes_nothing() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let workshop = Workshop::start().await?;
    let _gateway = start(&workshop, &cloud).await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "gw/update").await?;
    for (command, reason) in [
        (&b"update now"[..], Reason::BadCommand),
        (br#"{"url":"https://h/x","force":true}"#, Reason::BadCommand),
        (b"\xff\0", Reason::BadCommand),
        (br#"{"url":"--ignore-compatible"}"#, Reason::BadSource),
        (br#"{"url":"/etc/shadow"}"#, Reason::BadSource),
        (br#"{"url":"http://example.com/x.raucb"}"#, Reason::BadSource),
    ] {
        operator.publish(INSTALL, command).await?;
        let all = told(&mut operator, |status| status.reason == Some(reason)).await?;
        ensure!(all.iter().all(|status| status.state == State::Idle), "{all:?}");
    }
    assert_eq!(installs(&workshop), 0);
    Ok(())
}

/// A cloud that sends it back would command in the name of the plant.
#[tokio::test]
async fn what_local_clients_say_on_the_topic_of_commands_is_not_carried_out_and_does_not_go_up() -> Result<()>
{
    let cloud = Mosquitto::start(&Options::default()).await?;
    let workshop = Workshop::start().await?;
    let mut gateway = start(&workshop, &cloud).await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "#").await?;
    let open = gateway.wait_for("an open door", |now| now.broker.is_some()).await?;
    let address = open.broker.and_then(|broker| broker.listeners.first().map(|door| door.address.clone()));
    let port =
        address.as_deref().and_then(|address| address.rsplit_once(':')).context("a port")?.1.parse()?;
    let mut local = Watcher::start(port, "press", true, "none").await?;
    local.publish(INSTALL, br#"{"url":"https://example.com/x.raucb","id":"1"}"#).await?;
    local.publish("end", b"").await?;
    loop {
        let message = operator.next().await?;
        ensure!(message.topic != INSTALL, "it went up");
        if message.topic == "end" {
            break;
        }
    }
    assert_eq!(installs(&workshop), 0);
    Ok(())
}

#[tokio::test]
async fn without_an_agent_a_command_is_refused_and_acknowledged() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let workshop = Workshop::without_agent()?;
    let _gateway = start(&workshop, &cloud).await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "gw/update").await?;
    operator.publish(INSTALL, br#"{"url":"https://example.com/x.raucb","id":"1"}"#).await?;
    told(&mut operator, |status| status.reason == Some(Reason::NoAgent)).await?;
    cloud.log().wait("the acknowledgement", |line| line.contains("Received PUBACK from gw ")).await;
    Ok(())
}

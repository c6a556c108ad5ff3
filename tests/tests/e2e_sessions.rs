//! Sessions of local clients, their wills and the gateway's own topics, with real clients: reload, kill -9 and the commands for sessions.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use gateway_daemon::app::control::{Ask, Reply};
use gateway_daemon::app::snapshot::{Link, Snapshot};
use tidegate_tests::clients::{Heard, Sub, mosquitto_pub, subscribe_and_leave};
use tidegate_tests::gateway::{Gateway, binary, password_hash};
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::wait::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

const OPEN: &str = "";
/// Alice may publish `alarm/fire` no more, which nobody else could.
const CLOSED: &str = "deny = [\"publish alarm/#\"]\n";

/// A gateway with the users alice and bob, and whoever comes without a name.
struct Plant {
    dir: tempfile::TempDir,
    hash: String,
    /// More tables.
    more: String,
}

impl Plant {
    fn new(more: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tidegate-sessions-").tempdir()?;
        Ok(Self { dir, hash: password_hash("tidegate")?, more: more.into() })
    }

    /// `rules` are those of everybody.
    fn config(&self, rules: &str) -> String {
        let (dir, hash, more) = (self.dir.path().display(), &self.hash, &self.more);
        format!(
            r#"[gateway]
id = "gw"
socket = "{dir}/control.sock"
[store]
path = "{dir}/queue.db"
commit_interval = "100ms"
[broker]
{rules}
[broker.listener.local]
address = "127.0.0.1:0"
anonymous = true
[broker.user.alice]
password_hash = {hash}
[broker.user.bob]
password_hash = {hash}
[bus.line]
driver = "sim"
[device.meter]
bus = "line"
unit = 1
[[device.meter.poll]]
every = "100ms"
tags.count = {{ holding = 0, type = "u16" }}
{more}
"#
        )
    }

    async fn start(&self, rules: &str) -> Result<(Gateway, u16)> {
        let mut gateway = Gateway::start(self.dir.path(), &self.config(rules))?;
        let there = |picture: &Snapshot| picture.broker.is_some();
        let picture = gateway.wait_for("a broker", there).await?;
        let broker = picture.broker.context("it has a broker")?;
        let address = &broker.listeners.first().context("it has a listener")?.address;
        let port = address.rsplit_once(':').context("an address has a port")?.1.parse()?;
        Ok((gateway, port))
    }

    /// A command of this gateway: exit code, standard output and standard error.
    fn command(&self, args: &[&str]) -> Result<(i32, String, String)> {
        let socket = self.dir.path().join("control.sock");
        let output = Command::new(binary()?).args(args).arg("--socket").arg(&socket).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }
}

/// Waits until a metric has this value.
async fn metric(gateway: &Gateway, line: &str) -> Result<()> {
    within(line, async {
        loop {
            if let Ok(Reply::Text(text)) = gateway.ask(&Ask::Metrics).await
                && text.lines().any(|found| found == line)
            {
                return anyhow::Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .with_context(|| gateway.log())
}

/// Alice with a durable session of 5.0 and a will.
async fn alice(port: u16, delay_s: &str) -> Result<Sub> {
    let who = ["-V", "mqttv5", "-c", "-x", "3600", "-i", "panel", "-u", "alice", "-P", "tidegate"];
    let will =
        ["--will-topic", "alarm/fire", "--will-payload", "burning", "--will-qos", "1", "--will-retain"];
    let delay = ["-D", "will", "will-delay-interval", delay_s];
    Sub::start(port, &[&who[..], &will, &delay, &["-t", "ok/#", "-q", "1"]].concat()).await
}

/// What is retained below `alarm`.
async fn retained(port: u16) -> Result<Vec<Heard>> {
    let mut reader = Sub::start(port, &["-t", "alarm/#", "-t", "end", "-q", "1"]).await?;
    mosquitto_pub(port, &["-t", "end", "-m", "-", "-q", "1"]).await?;
    let mut all = Vec::new();
    loop {
        let heard = reader.next().await?;
        if heard.topic == "end" {
            return Ok(all);
        }
        all.push(heard);
    }
}

#[tokio::test]
async fn a_will_of_before_kill_9_does_not_speak_where_its_user_may_not_publish() -> Result<()> {
    for (rules, speaks) in [(CLOSED, false), (OPEN, true)] {
        let plant = Plant::new("")?;
        let (gateway, port) = plant.start(OPEN).await?;
        let client = alice(port, "0").await?;
        gateway.kill()?;
        client.kill().await?;
        let (gateway, port) = plant.start(rules).await?;
        let counter = if speaks { "broker_wills_total 1" } else { "broker_wills_refused_total 1" };
        metric(&gateway, counter).await?;
        assert_eq!(retained(port).await?.len(), usize::from(speaks));
        if !speaks {
            let line = "rules: user alice as client panel may not leave a will for alarm/fire";
            ensure!(gateway.log().contains(line), gateway.log());
        }
        gateway.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_delayed_will_does_not_speak_after_a_reload_that_forbids_it() -> Result<()> {
    let plant = Plant::new("")?;
    let (mut gateway, port) = plant.start(OPEN).await?;
    alice(port, "1").await?.kill().await?;
    gateway.reload(&plant.config(CLOSED)).await?;
    metric(&gateway, "broker_wills_refused_total 1").await?;
    assert_eq!(retained(port).await?, []);
    // And she cannot come with it again.
    let refused = alice(port, "0").await.err().context("she is refused")?;
    ensure!(format!("{refused:#}").to_lowercase().contains("not authorized"), "{refused:#}");
    gateway.stop().await
}

#[tokio::test]
async fn a_session_is_its_user_s_alone_also_after_kill_9() -> Result<()> {
    let plant = Plant::new("")?;
    let (gateway, port) = plant.start(OPEN).await?;
    let own = ["-c", "-i", "panel", "-t", "ok", "-q", "1", "-u", "alice", "-P", "tidegate"];
    subscribe_and_leave(port, &own).await?;
    mosquitto_pub(port, &["-t", "ok", "-m", "for alice", "-q", "1"]).await?;
    gateway.kill()?;
    let (gateway, port) = plant.start(OPEN).await?;
    for stranger in [&["-u", "bob", "-P", "tidegate"][..], &[]] {
        for start in [&["-c"][..], &[]] {
            let args = [&["-i", "panel", "-t", "ok", "-q", "1"], stranger, start].concat();
            let refused = subscribe_and_leave(port, &args).await.err().context("a stranger is refused")?;
            ensure!(format!("{refused:#}").contains("not authorised"), "{refused:#}");
        }
    }
    metric(&gateway, "broker_foreign_sessions_total 4").await?;
    let mut there = Sub::start(port, &own).await?;
    assert_eq!(there.next().await?.payload, "for alice");
    mosquitto_pub(port, &["-i", "panel", "-t", "ok", "-m", "x", "-u", "bob", "-P", "tidegate"])
        .await
        .unwrap_err();
    mosquitto_pub(port, &["-t", "ok", "-m", "still there", "-q", "1"]).await?;
    assert_eq!(there.next().await?.payload, "still there");
    gateway.stop().await
}

#[tokio::test]
async fn sessions_are_listed_and_dropped_by_command() -> Result<()> {
    let plant = Plant::new("")?;
    assert_eq!(plant.command(&["sessions", "list"])?.0, 69, "no gateway is running");
    let (gateway, port) = plant.start(OPEN).await?;
    assert_eq!(plant.command(&["sessions", "list"])?, (0, "no sessions\n".into(), String::new()));
    let alices = ["-c", "-i", "panel", "-t", "ok", "-t", "fine", "-q", "1", "-u", "alice", "-P", "tidegate"];
    subscribe_and_leave(port, &alices).await?;
    mosquitto_pub(port, &["-t", "ok", "-m", "waits", "-q", "1"]).await?;
    let there = Sub::start(port, &["-i", "hmi", "-t", "never", "-q", "1"]).await?;
    // No client of others says such an id.
    assert_eq!(lasting("127.0.0.1", port, "x\u{1b}[2J\"y").await?, 0);
    let (code, text, _) = plant.command(&["sessions", "list"])?;
    ensure!(code == 0 && !text.contains('\u{1b}'), "{text:?}");
    ensure!(text.lines().count() == 4 && text.contains("panel") && text.contains("alice"), "{text}");
    let (_, json, _) = plant.command(&["sessions", "list", "--json"])?;
    let all: Vec<serde_json::Value> =
        json.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(json.clone())?;
    let of = |client: &str| all.iter().find(|session| session["client"] == client).cloned();
    let panel = of("panel").context("the session of the panel")?;
    assert_eq!((panel["user"].as_str(), panel["connected"].as_bool()), (Some("alice"), Some(false)));
    assert_eq!((panel["subscriptions"].as_u64(), panel["messages"].as_u64()), (Some(2), Some(1)));
    let left = panel["expires_in_ms"].as_u64().context("it ends some day")?;
    ensure!((600_000_000..=604_800_000).contains(&left), "{left}");
    let other = of("x\u{1b}[2J\"y").context("the hostile session, whole")?;
    let hmi = of("hmi").context("the session of the hmi")?;
    let connected = [&other, &hmi].map(|session| session["connected"].as_bool());
    assert_eq!(connected, [Some(false), Some(true)]);
    let number = other["number"].to_string();
    let (code, said, _) = plant.command(&["sessions", "drop", "panel"])?;
    assert_eq!(
        (code, said.as_str()),
        (0, "dropped: client panel, 2 subscriptions, 1 messages that waited\n")
    );
    let (code, said, _) = plant.command(&["sessions", "drop", "--number", &number])?;
    ensure!(code == 0 && !said.contains('\u{1b}'), "{said:?}");
    assert_eq!(plant.command(&["sessions", "drop", "hmi"])?.0, 0);
    let (code, _, why) = plant.command(&["sessions", "drop", "panel"])?;
    ensure!(code == 1 && why.contains("there is no such session"), "{why}");
    assert_eq!(plant.command(&["sessions", "drop"])?.0, 64);
    metric(&gateway, "broker_removed_sessions_total 3").await?;
    metric(&gateway, "broker_dropped_messages_total{reason=\"session\"} 1").await?;
    // mosquitto_sub comes again by itself, so it does not say that it was disconnected.
    ensure!(gateway.log().contains("its session was dropped by command"), gateway.log());
    there.kill().await?;
    // It is gone from the disk, too.
    gateway.kill()?;
    let (gateway, port) = plant.start(OPEN).await?;
    let mut again = Sub::start(port, &alices).await?;
    mosquitto_pub(port, &["-t", "ok", "-m", "first", "-q", "1"]).await?;
    assert_eq!(again.next().await?.payload, "first");
    gateway.stop().await
}

/// CONNECT of 3.1.1 without clean session from an address, and a subscription; the code of CONNACK.
async fn lasting(from: &str, port: u16, id: &str) -> Result<u8> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse()?)?;
    let mut stream = within("a connection", socket.connect(([127, 0, 0, 1], port).into())).await?;
    let mut connect = b"\x10\0\0\x04MQTT\x04\0\0\0\0".to_vec();
    connect.push(u8::try_from(id.len())?);
    connect.extend(id.bytes());
    connect[1] = u8::try_from(connect.len() - 2)?;
    stream.write_all(&connect).await?;
    let mut connack = [0; 4];
    within("CONNACK", stream.read_exact(&mut connack)).await?;
    if connack[3] == 0 {
        stream.write_all(b"\x82\x06\0\x01\0\x01t\x01").await?;
        within("SUBACK", stream.read_exact(&mut [0; 5])).await?;
    }
    Ok(connack[3])
}

#[tokio::test]
async fn one_address_does_not_take_all_sessions() -> Result<()> {
    let plant = Plant::new("[broker.limits]\nsessions_max = 40\n")?;
    let (gateway, port) = plant.start(OPEN).await?;
    let mut codes = Vec::new();
    for number in 0..60 {
        codes.push(lasting("127.0.0.1", port, &format!("flood{number}")).await?);
    }
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 10, "a quarter of all: {codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 3).count(), 50);
    assert_eq!(lasting("127.0.0.2", port, "another").await?, 0);
    mosquitto_pub(port, &["-t", "x", "-m", "whoever keeps nothing gets in", "-q", "1"]).await?;
    metric(&gateway, "broker_sessions_refused_total 50").await?;
    ensure!(gateway.log().contains("`gateway-daemon sessions list`"), gateway.log());
    gateway.stop().await
}

#[tokio::test]
async fn neither_a_client_nor_the_cloud_speaks_for_the_gateway() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let uplink = format!(
        "[uplink.cloud]\nurl = \"mqtt://127.0.0.1:{}\"\nforward = [{{ filter = \"x/#\", strip = \"x\", add = \"gw\" }}, \"#\"]\naccept = [\"#\"]\n",
        cloud.port()
    );
    let plant = Plant::new(&uplink)?;
    let mut office = Sub::start(cloud.port(), &["-t", "gw/#", "-q", "1"]).await?;
    let (mut gateway, port) = plant.start(OPEN).await?;
    let up = |picture: &Snapshot| picture.uplinks.iter().all(|uplink| uplink.link == Link::Up);
    gateway.wait_for("the link", up).await?;
    let mut hmi = Sub::start(port, &["-t", "#", "-q", "1"]).await?;
    for topic in ["gw/status", "gw/ledger", "gw/update", "gw/meter/1", "x/status", "x/meter/1"] {
        mosquitto_pub(port, &["-t", topic, "-m", "forged", "-q", "1", "-r"]).await?;
    }
    mosquitto_pub(port, &["-t", "x/last", "-m", "by a client", "-q", "1"]).await?;
    loop {
        let heard = office.next().await?;
        ensure!(heard.payload != "forged", "{heard:?}");
        if (heard.topic.as_str(), heard.payload.as_str()) == ("gw/last", "by a client") {
            break;
        }
    }
    metric(&gateway, "broker_own_topics_refused_total 4").await?;
    metric(&gateway, "uplink_forged_messages_total{uplink=\"cloud\"} 2").await?;
    for topic in ["gw/meter/1", "gw/status", "gw/ledger"] {
        mosquitto_pub(cloud.port(), &["-t", topic, "-m", "forged by the cloud", "-q", "1"]).await?;
    }
    mosquitto_pub(cloud.port(), &["-t", "cmd/go", "-m", "by the cloud", "-q", "1"]).await?;
    loop {
        let heard = hmi.next().await?;
        ensure!(!heard.payload.starts_with("forged by"), "{heard:?}");
        if heard.topic == "cmd/go" {
            break;
        }
    }
    metric(&gateway, "down_forged_messages_total{uplink=\"cloud\"} 3").await?;
    assert_eq!(gateway.log().matches("on which only this gateway sends").count(), 1, "told once");
    gateway.stop().await
}

//! The real gateway between local clients and real clouds: what comes down is kept, what goes up follows the rules, and nothing goes around.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use gateway_daemon::app::snapshot::{Link, Snapshot, Uplink};
use tempfile::TempDir;
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::watcher::Watcher;

/// A gateway without devices, with a door for local clients.
struct Plant {
    dir: TempDir,
    uplinks: String,
    gateway: Option<Gateway>,
}

impl Plant {
    /// Starts it and waits until all its uplinks are up.
    async fn start(uplinks: &[String]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut plant = Self { dir, uplinks: uplinks.concat(), gateway: None };
        plant.restart().await?;
        Ok(plant)
    }

    async fn restart(&mut self) -> Result<()> {
        self.gateway = Some(Gateway::start(self.dir.path(), &config(self.dir.path(), &self.uplinks))?);
        self.wait_for("all uplinks up", |now| now.uplinks.iter().all(|uplink| uplink.link == Link::Up))
            .await?;
        Ok(())
    }

    async fn wait_for(&mut self, what: &str, want: impl Fn(&Snapshot) -> bool) -> Result<Snapshot> {
        self.gateway.as_mut().context("a gateway runs")?.wait_for(what, want).await
    }

    fn kill(&mut self) -> Result<()> {
        self.gateway.take().context("a gateway runs")?.kill()
    }

    /// A local client.
    async fn client(&mut self, id: &str, clean: bool, filter: &str) -> Result<Watcher> {
        let open = self.wait_for("an open door", |now| now.broker.is_some()).await?;
        let broker = open.broker.context("a local broker")?;
        let address = &broker.listeners.first().context("a door")?.address;
        let port = address.rsplit_once(':').context("a port")?.1.parse()?;
        Watcher::start(port, id, clean, filter).await
    }
}

fn config(dir: &Path, uplinks: &str) -> String {
    let dir = dir.display();
    format!(
        r#"[gateway]
id = "gw"
socket = "{dir}/control.sock"
[store]
path = "{dir}/queue.db"
commit_interval = "200ms"
[broker.listener.local]
address = "127.0.0.1:0"
anonymous = true
{uplinks}"#
    )
}

fn uplink(name: &str, clouds: &[&Mosquitto], rules: &str) -> String {
    let urls: Vec<String> =
        clouds.iter().map(|cloud| format!("\"mqtt://127.0.0.1:{}\"", cloud.port())).collect();
    format!(
        r#"[uplink.{name}]
urls = [{}]
client_id = "gw-{name}"
backoff_min = "100ms"
backoff_max = "1s"
status_topic = "status/{{gateway}}/{{uplink}}"
ledger_topic = "ledger/{{gateway}}/{{uplink}}"
{rules}
"#,
        urls.join(", ")
    )
}

fn settled(uplink: &Uplink) -> bool {
    uplink.receiving == 0 && uplink.in_flight == 0 && uplink.ledger.queued().rows == 0
}

/// What a watcher hears until the last message, which is not part of it: topics and payloads.
async fn until(watcher: &mut Watcher, last: &str) -> Result<Vec<(String, String)>> {
    let mut heard = Vec::new();
    loop {
        let message = watcher.next().await?;
        if message.topic == last {
            return Ok(heard);
        }
        let own = message.topic.starts_with("status/") || message.topic.starts_with("ledger/");
        if !own {
            heard.push((message.topic, String::from_utf8(message.payload)?));
        }
    }
}

fn pair(topic: &str, payload: &str) -> (String, String) {
    (topic.to_owned(), payload.to_owned())
}

#[tokio::test]
async fn a_command_that_the_cloud_has_let_go_of_outlives_kill_9_for_a_client_that_is_away() -> Result<()> {
    let mut cloud = Mosquitto::start(&Options::default()).await?;
    let accept = "forward = []\naccept = [{ filter = \"plant7/cmd/#\", strip = \"plant7\" }]";
    let mut plant = Plant::start(&[uplink("cloud", &[&cloud], accept)]).await?;
    plant.client("plc", false, "cmd/#").await?.stop().await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "none").await?;
    for number in 0..20 {
        operator.publish("plant7/cmd/valve", format!("{number}").as_bytes()).await?;
    }
    plant
        .wait_for("20 commands taken over", |now| {
            now.uplinks.iter().all(|uplink| uplink.received == 20 && uplink.receiving == 0)
        })
        .await?;
    // Nobody else has them from here on.
    drop(operator);
    plant.kill()?;
    cloud.kill().await?;
    plant.gateway = Some(Gateway::start(plant.dir.path(), &config(plant.dir.path(), &plant.uplinks))?);
    let mut plc = plant.client("plc", false, "cmd/#").await?;
    for number in 0..20 {
        let heard = plc.next().await?;
        assert_eq!((heard.topic.as_str(), heard.payload), ("cmd/valve", format!("{number}").into_bytes()));
    }
    Ok(())
}

#[tokio::test]
async fn commands_of_an_outage_come_down_in_order_when_the_gateway_is_back() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let accept = "forward = [\"done\"]\naccept = [\"cmd/#\"]";
    let mut plant = Plant::start(&[uplink("cloud", &[&cloud], accept)]).await?;
    plant.client("plc", false, "cmd/#").await?.stop().await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "none").await?;
    operator.publish("cmd/a", b"0").await?;
    plant.wait_for("the first command", |now| now.uplinks.iter().all(|uplink| uplink.received == 1)).await?;
    plant.kill()?;
    for number in 1..=50 {
        operator.publish("cmd/a", format!("{number}").as_bytes()).await?;
    }
    plant.restart().await?;
    let mut plc = plant.client("plc", false, "cmd/#").await?;
    let mut last = None;
    // At least once: a repetition is allowed, a hole or a wrong order is not.
    while last != Some(50) {
        let number: u32 = String::from_utf8(plc.next().await?.payload)?.parse()?;
        let expected = last.map_or(0, |last: u32| last + 1);
        ensure!(number <= expected, "{number} came where {expected} was due");
        last = last.max(Some(number));
    }
    Ok(())
}

#[tokio::test]
async fn rules_map_topics_and_keep_or_drop_flags_both_ways() -> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "plant7/#").await?;
    operator.retain("plant7/cmd/kept", b"1").await?;
    operator.retain("plant7/once/dropped", b"2").await?;
    for _ in 0..2 {
        operator.next().await?;
    }
    let rules = r#"forward = [
  { filter = "line2/+/alarm", strip = "line2", add = "plant7/alarms", retain = "drop", priority = "high" },
  { filter = "line2/#", add = "plant7" },
]
accept = [
  { filter = "plant7/cmd/#", strip = "plant7" },
  { filter = "plant7/once/#", strip = "plant7/once", add = "here", retain = "drop" },
]"#;
    let mut plant = Plant::start(&[uplink("cloud", &[&cloud], rules)]).await?;
    plant
        .wait_for("what the cloud had retained", |now| now.uplinks.iter().all(|uplink| uplink.received == 2))
        .await?;
    let mut local = plant.client("hmi", true, "#").await?;
    let kept = local.next().await?;
    assert_eq!((kept.topic.as_str(), kept.retained), ("cmd/kept", true));
    operator.publish("plant7/once/dropped", b"3").await?;
    operator.next().await?;
    let live = local.next().await?;
    assert_eq!((live.topic.as_str(), live.payload.as_slice()), ("here/dropped", &b"3"[..]));
    for topic in ["line2/m1/alarm", "line2/m1/value", "elsewhere", "line2"] {
        local.retain(topic, b"x").await?;
    }
    for topic in ["plant7/alarms/m1/alarm", "plant7/line2/m1/value", "plant7/line2"] {
        assert_eq!(operator.next().await?.topic, topic);
    }
    let mut late = Watcher::start(cloud.port(), "late", true, "plant7/#").await?;
    let mut retained = Vec::new();
    for _ in 0..4 {
        retained.push(late.next().await?.topic);
    }
    retained.sort();
    assert_eq!(retained, ["plant7/cmd/kept", "plant7/line2", "plant7/line2/m1/value", "plant7/once/dropped"]);
    Ok(())
}

#[tokio::test]
async fn messages_do_not_go_around_between_two_uplinks_to_one_cloud_that_forward_and_accept_everything()
-> Result<()> {
    let cloud = Mosquitto::start(&Options::default()).await?;
    let all = "forward = [\"#\"]\naccept = [\"#\"]";
    let mut plant = Plant::start(&[uplink("a", &[&cloud], all), uplink("b", &[&cloud], all)]).await?;
    let mut operator = Watcher::start(cloud.port(), "operator", true, "#").await?;
    let mut local = plant.client("hmi", true, "#").await?;
    for number in 0..30 {
        local.publish("from/plant", format!("{number}").as_bytes()).await?;
    }
    for number in 0..30 {
        operator.publish("from/cloud", format!("{number}").as_bytes()).await?;
    }
    // Comes down twice, once by each uplink, and the second one finds nothing going around before it.
    plant.wait_for("silence", |now| now.uplinks.iter().all(settled)).await?;
    operator.publish("end", b"").await?;
    let mut above = until(&mut operator, "end").await?;
    let mut below = until(&mut local, "end").await?;
    above.sort();
    below.sort();
    let mut expected_above = Vec::new();
    let mut expected_below = Vec::new();
    for number in 0..30 {
        let number = number.to_string();
        // By both uplinks, and what the cloud said goes up once more by the other uplink of each.
        expected_above.extend([pair("from/plant", &number), pair("from/plant", &number)]);
        expected_above.extend([
            pair("from/cloud", &number),
            pair("from/cloud", &number),
            pair("from/cloud", &number),
        ]);
        expected_below.extend([
            pair("from/plant", &number),
            pair("from/cloud", &number),
            pair("from/cloud", &number),
        ]);
    }
    expected_above.sort();
    expected_below.sort();
    assert_eq!(above, expected_above);
    assert_eq!(below, expected_below);
    let end = plant.wait_for("silence", |now| now.uplinks.iter().all(settled)).await?;
    ensure!(end.uplinks.iter().all(|uplink| uplink.echoes >= 90), "{:?}", end.uplinks);
    Ok(())
}

#[tokio::test]
async fn a_message_goes_from_one_cloud_to_the_other_and_never_back() -> Result<()> {
    let (one, two) =
        (Mosquitto::start(&Options::default()).await?, Mosquitto::start(&Options::default()).await?);
    let uplinks = [
        uplink("one", &[&one], "forward = [\"chain/#\", \"mine/#\"]\naccept = [\"chain/#\"]"),
        uplink("two", &[&two], "forward = [{ filter = \"chain/#\", add = \"from-one\" }, \"yours/#\"]"),
    ];
    let mut plant = Plant::start(&uplinks).await?;
    let mut first = Watcher::start(one.port(), "first", true, "#").await?;
    let mut second = Watcher::start(two.port(), "second", true, "#").await?;
    first.publish("chain/x", b"1").await?;
    plant.wait_for("the message", |now| now.uplinks.iter().any(|uplink| uplink.received == 1)).await?;
    let mut local = plant.client("hmi", true, "none").await?;
    local.publish("mine/end", b"").await?;
    local.publish("yours/end", b"").await?;
    assert_eq!(until(&mut first, "mine/end").await?, [pair("chain/x", "1")]);
    assert_eq!(until(&mut second, "yours/end").await?, [pair("from-one/chain/x", "1")]);
    Ok(())
}

#[tokio::test]
async fn another_server_takes_over_and_is_asked_for_messages_too() -> Result<()> {
    let mut one = Mosquitto::start(&Options::default()).await?;
    let two = Mosquitto::start(&Options::default()).await?;
    let rules = "forward = [\"field/#\"]\naccept = [\"cmd/#\"]";
    let mut plant = Plant::start(&[uplink("cloud", &[&one, &two], rules)]).await?;
    let at = |cloud: &Mosquitto| {
        let port = format!(":{}", cloud.port());
        move |now: &Snapshot| {
            now.uplinks.iter().all(|uplink| uplink.link == Link::Up && uplink.url.ends_with(&port))
        }
    };
    plant.wait_for("the first server", at(&one)).await?;
    let mut local = plant.client("plc", true, "cmd/#").await?;
    let mut office = Watcher::start(two.port(), "office", true, "field/#").await?;
    one.kill().await?;
    local.publish("field/x", b"kept").await?;
    plant.wait_for("the second server", at(&two)).await?;
    plant
        .wait_for("an empty queue", |now| now.uplinks.iter().all(|uplink| uplink.ledger.queued().rows == 0))
        .await?;
    assert_eq!(office.next().await?.payload, b"kept");
    office.publish("cmd/valve", b"open").await?;
    assert_eq!(local.next().await?.payload, b"open");
    Ok(())
}

//! What the local broker has acknowledged survives kill -9: messages for the cloud, for a persistent subscriber that is away, and retained ones.
//!
//! ```text
//! publishers --\                                 /--> FaultProxy --> Mosquitto --> Office
//!               > gateway, killed and restarted <
//! subscribers -/                                 \--> its queue, sessions and retained messages on disk
//! ```
//! `TIDEGATE_ROUNDS` and `TIDEGATE_SEED` choose how often and when the last test kills.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tidegate_tests::careful::{Message, Publisher, Subscriber, WINDOW};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::mosquitto::{Mosquitto, Options};
use tidegate_tests::office::{Arrival, Office};
use tidegate_tests::proxy::{Fault, FaultProxy};
use tidegate_tests::sim::chance::Chance;
use tidegate_tests::wait::within;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Messages of a run.
const MESSAGES: u64 = 10_000;
/// Topics of retained messages.
const TOPICS: u64 = 1_000;
/// Kills without `TIDEGATE_ROUNDS`.
const ROUNDS: u64 = 5;

/// Everything around the gateway.
struct Plant {
    dir: tempfile::TempDir,
    /// Of the gateway's listener, the same in every run.
    port: u16,
    cloud: FaultProxy,
    office: Office,
    _broker: Mosquitto,
}

impl Plant {
    /// A plant whose cloud is not there.
    async fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("tidegate-plant-").tempdir()?;
        let extra = "max_queued_messages 1000000\nmax_inflight_messages 0\n";
        let broker = Mosquitto::start(&Options { quiet: true, extra, ..Options::default() }).await?;
        let cloud = FaultProxy::to_port(broker.port()).await?;
        cloud.set(Fault::Reset);
        let office = Office::open(broker.port(), "line/#").await?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        Ok(Self { dir, port, cloud, office, _broker: broker })
    }

    fn gateway(&self) -> Result<Gateway> {
        let (dir, port, cloud) = (self.dir.path().display(), self.port, self.cloud.port());
        let config = format!(
            r#"[gateway]
id = "gw"
socket = "{dir}/control.sock"
[store]
path = "{dir}/queue.db"
[broker.listener.plant]
address = "127.0.0.1:{port}"
[broker.limits]
queued_max = 100000
queued_bytes_max = "32MiB"
[uplink.cloud]
url = "mqtt://127.0.0.1:{cloud}"
forward = ["line/#"]
drain = "fifo"
backoff_min = "100ms"
backoff_max = "1s"
"#
        );
        Gateway::start(self.dir.path(), &config)
    }

    /// The numbers of a topic that have reached the cloud.
    fn arrived(all: &[Arrival], topic: &str) -> Vec<u64> {
        all.iter()
            .filter(|arrival| arrival.topic == topic)
            .filter_map(|arrival| arrival.json.as_u64())
            .collect()
    }

    /// Waits until the cloud has all numbers of a topic, and gives them as they came.
    async fn cloud_has(&self, topic: &str, count: u64) -> Result<Vec<u64>> {
        let whole = |all: &[Arrival]| all.len() as u64 >= count && Self::arrived(all, topic).contains(&count);
        let log = || std::fs::read_to_string(self.dir.path().join("gateway.log")).unwrap_or_default();
        let all = self.office.wait_for("the last number", whole).await.with_context(log)?;
        Ok(Self::arrived(&all, topic))
    }
}

/// Checks that 1 to `count` are there, each for the first time before all that are more than `slack` above it. Gives the number of
/// repetitions.
fn in_order(numbers: &[u64], count: u64, slack: u64) -> Result<u64> {
    let (mut lowest, mut early) = (1, BTreeSet::new());
    for (place, number) in numbers.iter().enumerate() {
        let around = || &numbers[place.saturating_sub(20)..(place + 20).min(numbers.len())];
        ensure!(*number <= lowest + slack, "{number} comes before {lowest}; around it: {:?}", around());
        if *number >= lowest {
            early.insert(*number);
        }
        while early.remove(&lowest) {
            lowest += 1;
        }
    }
    ensure!(lowest == count + 1 && early.is_empty(), "{lowest} is missing, of {count}");
    Ok(numbers.len() as u64 - count)
}

fn numbers(messages: &[Message]) -> Vec<u64> {
    messages.iter().filter_map(Message::number).collect()
}

/// Publishes numbers with mosquitto_pub, which ends when all of them are acknowledged.
async fn mosquitto_pub(port: u16, qos: u8, topic: &str, count: u64) -> Result<()> {
    let mut child = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-i", "pub", "-q", &qos.to_string()])
        .args(["-t", topic, "-l"])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("mosquitto_pub is missing; install it: apt-get install -y mosquitto-clients")?;
    let lines: String = (1..=count).map(|number| format!("{number}\n")).collect();
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(lines.as_bytes()).await?;
    drop(input);
    let status = within("mosquitto_pub", child.wait()).await?;
    ensure!(status.success(), "mosquitto_pub: {status}");
    Ok(())
}

/// The session of mosquitto_sub: makes it, or takes `count` messages from it.
async fn mosquitto_sub(port: u16, qos: u8, filter: &str, count: Option<u64>) -> Result<Vec<u64>> {
    let count = count.map(|count| count.to_string());
    let mut command = Command::new("mosquitto_sub");
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-i", "hmi", "-c", "-q", &qos.to_string()])
        .args(["-t", filter, "-W", "60"]);
    match &count {
        None => command.arg("-E"),
        Some(count) => command.args(["-C", count]),
    };
    let output = command.kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "mosquitto_sub: {output:?}");
    let lines = String::from_utf8(output.stdout)?;
    Ok(lines.lines().filter_map(|line| line.parse().ok()).collect())
}

/// The listener is open.
async fn listens(port: u16) -> Result<()> {
    ensure!(Subscriber::passing("knock", "nothing", 0).run(port, 0).await?, "the connection was lost");
    Ok(())
}

/// Ten thousand messages are acknowledged while the cloud is away and a persistent subscriber is offline; kill -9; both get all of them in order.
async fn ten_thousand(qos: u8) -> Result<()> {
    let plant = Plant::new().await?;
    let gateway = plant.gateway()?;
    listens(plant.port).await?;
    ensure!(mosquitto_sub(plant.port, qos, "line/#", None).await?.is_empty());
    mosquitto_pub(plant.port, qos, "line/one", MESSAGES).await?;
    gateway.kill()?;
    let gateway = plant.gateway()?;
    listens(plant.port).await?;
    let all: Vec<u64> = (1..=MESSAGES).collect();
    let found = mosquitto_sub(plant.port, qos, "line/#", Some(MESSAGES)).await?;
    ensure!(found == all, "the subscriber got {} messages; log:\n{}", found.len(), gateway.log());
    // Each exactly once: nothing is left, also not after another kill.
    gateway.kill()?;
    let gateway = plant.gateway()?;
    listens(plant.port).await?;
    mosquitto_pub(plant.port, qos, "line/two", 1).await?;
    ensure!(mosquitto_sub(plant.port, qos, "line/#", Some(1)).await? == [1], "something came twice");
    plant.cloud.set(Fault::None);
    let arrived = plant.cloud_has("line/one", MESSAGES).await?;
    ensure!(arrived == all, "the cloud got {} messages", arrived.len());
    ensure!(plant.cloud_has("line/two", 1).await? == [1]);
    gateway.stop().await
}

#[tokio::test]
async fn ten_thousand_publishes_of_qos_1_that_were_acknowledged_survive_kill_9() -> Result<()> {
    ten_thousand(1).await
}

#[tokio::test]
async fn ten_thousand_publishes_of_qos_2_that_were_acknowledged_survive_kill_9_and_come_once() -> Result<()> {
    ten_thousand(2).await
}

/// Publishes one retained message to each topic, QoS 1.
async fn retain(port: u16, payload: impl Fn(u64) -> String) -> Result<()> {
    use rumqttc::{AsyncClient, Broker, Event, Incoming, MqttOptions, PublishOptions};
    let mut options = MqttOptions::new("retainer", Broker::tcp("127.0.0.1", port));
    options.set_inflight(100);
    let (client, mut events) = AsyncClient::builder(options).capacity(100).build();
    let payloads: Vec<String> = (0..TOPICS).map(payload).collect();
    let feeding = tokio::spawn(async move {
        for (index, payload) in payloads.into_iter().enumerate() {
            let options = PublishOptions::at_least_once().retain(true);
            client.publish(format!("line/retained/{index}"), payload, options).await?;
        }
        // Its end would end the connection.
        anyhow::Ok(client)
    });
    let mut acknowledged = 0;
    while acknowledged < TOPICS {
        if let Event::Incoming(Incoming::PubAck(_)) = within("PUBACK", events.poll()).await? {
            acknowledged += 1;
        }
    }
    feeding.await??;
    Ok(())
}

#[tokio::test]
async fn a_thousand_retained_messages_that_were_acknowledged_survive_kill_9() -> Result<()> {
    let plant = Plant::new().await?;
    let gateway = plant.gateway()?;
    listens(plant.port).await?;
    retain(plant.port, |topic| format!("first {topic}")).await?;
    // Every third is replaced, every fifth is cleared.
    let left = |topic: u64| match topic {
        _ if topic.is_multiple_of(5) => String::new(),
        _ if topic.is_multiple_of(3) => format!("second {topic}"),
        _ => format!("first {topic}"),
    };
    retain(plant.port, left).await?;
    gateway.kill()?;
    let gateway = plant.gateway()?;
    let expected: BTreeMap<String, Vec<u8>> = (0..TOPICS)
        .filter(|topic| !topic.is_multiple_of(5))
        .map(|topic| (format!("line/retained/{topic}"), left(topic).into_bytes()))
        .collect();
    let mut hmi = Subscriber::passing("hmi", "line/retained/#", 1);
    let got_all = within("the retained messages", hmi.run(plant.port, expected.len())).await?;
    ensure!(got_all, "the connection was lost; log:\n{}", gateway.log());
    ensure!(hmi.messages.iter().all(|message| message.retain));
    let found: BTreeMap<_, _> =
        hmi.messages.into_iter().map(|message| (message.topic, message.payload)).collect();
    ensure!(found == expected, "others than were left");
    gateway.stop().await
}

/// Everybody around a gateway that is killed again and again.
struct Crowd {
    plant: Plant,
    one: Publisher,
    two: Publisher,
    hmi: Subscriber,
    logger: Subscriber,
}

impl Crowd {
    async fn new() -> Result<Self> {
        Ok(Self {
            plant: Plant::new().await?,
            one: Publisher::new("one", "line/one", 1),
            two: Publisher::new("two/2", "line/two", 2),
            hmi: Subscriber::new("hmi", "line/one", 1),
            logger: Subscriber::new("logger", "line/two", 2),
        })
    }

    /// Sessions of the subscribers are made before anything is published.
    async fn begin(&mut self) -> Result<()> {
        let gateway = self.plant.gateway()?;
        ensure!(self.hmi.run(self.plant.port, 0).await? && self.logger.run(self.plant.port, 0).await?);
        gateway.kill()
    }

    /// Publishes with some company until somebody has `more` acknowledgements more, and kills the gateway at that moment.
    async fn round(&mut self, chance: &mut Chance) -> Result<String> {
        let (more, of_two) = (chance.of(20..=700), chance.one_in(2));
        let (hmi_is_there, logger_is_there) = (chance.one_in(2), chance.one_in(2));
        let cloud = chance.pick(&[Fault::None, Fault::Reset, Fault::BlackHole]);
        self.plant.cloud.set(cloud);
        let gateway = self.plant.gateway()?;
        let Self { plant, one, two, hmi, logger } = self;
        let mut count = if of_two { two.acknowledged() } else { one.acknowledged() };
        let goal = *count.borrow() + more;
        let kill = async {
            within("acknowledgements", count.wait_for(|count| *count >= goal)).await?;
            gateway.kill()
        };
        let hmi = async { if hmi_is_there { hmi.run(plant.port, usize::MAX).await } else { Ok(false) } };
        let logger =
            async { if logger_is_there { logger.run(plant.port, usize::MAX).await } else { Ok(false) } };
        let (port, all) = (plant.port, u64::MAX);
        tokio::try_join!(one.run(port, all), two.run(port, all), hmi, logger, kill)?;
        Ok(format!(
            "killed at {goal} of {}, cloud {cloud:?}, subscribers {hmi_is_there} {logger_is_there}",
            if of_two { "two" } else { "one" }
        ))
    }

    /// Everything that was sent arrives.
    async fn settle(mut self) -> Result<()> {
        self.plant.cloud.set(Fault::None);
        let gateway = self.plant.gateway()?;
        let port = self.plant.port;
        let (sent_one, sent_two) = (self.one.sent(), self.two.sent());
        ensure!(self.one.run(port, sent_one).await? && self.two.run(port, sent_two).await?);
        let log = || format!("log:\n{}", gateway.log());
        // A number of its own ends each stream, so that nobody waits for repetitions that may or may not come.
        ensure!(self.one.run(port, sent_one + 1).await? && self.two.run(port, sent_two + 1).await?);
        let wait = async {
            while self.hmi.messages.last().and_then(Message::number) != Some(sent_one + 1) {
                let count = usize::try_from(sent_one + 1)?.max(self.hmi.messages.len() + 1);
                ensure!(self.hmi.run(port, count).await?, "the connection was lost");
            }
            let count = usize::try_from(sent_two + 1)?;
            ensure!(self.logger.run(port, count).await?, "the connection was lost");
            Ok(())
        };
        within("the subscribers", wait).await.with_context(log)?;
        let twice =
            in_order(&numbers(&self.hmi.messages), sent_one + 1, 0).context("hmi").with_context(log)?;
        let exact: Vec<u64> = (1..=sent_two + 1).collect();
        ensure!(numbers(&self.logger.messages) == exact, "QoS 2 is not exactly once; {}", log());
        // A message that was under way to the cloud at a kill is enqueued again by its publisher or its fact, behind later ones that were on disk
        // already: what is not acknowledged to the end may be overtaken by what was published before it was.
        let slack = WINDOW as u64;
        let up_one = in_order(&self.plant.cloud_has("line/one", sent_one + 1).await?, sent_one + 1, slack);
        let up_two = in_order(&self.plant.cloud_has("line/two", sent_two + 1).await?, sent_two + 1, slack);
        let (up_one, up_two) = (
            up_one.context("line/one in the cloud").with_context(log)?,
            up_two.context("line/two in the cloud").with_context(log)?,
        );
        println!(
            "{sent_one} of QoS 1 and {sent_two} of QoS 2; repeated: {twice} to the subscriber, {up_one} and {up_two} to the cloud"
        );
        gateway.stop().await
    }
}

#[tokio::test]
async fn kills_in_the_middle_of_publishing_lose_nothing_and_repeat_nothing_of_qos_2() -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("TIDEGATE_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("TIDEGATE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!(
        "seed {seed}; again: TIDEGATE_SEED={seed} TIDEGATE_ROUNDS={rounds} cargo test -p tidegate-tests --test e2e_broker_crash kills"
    );
    let mut chance = Chance::new(seed);
    let mut crowd = Crowd::new().await?;
    crowd.begin().await?;
    for round in 1..=rounds {
        let what = crowd.round(&mut chance).await;
        println!("round {round}: {}", what.with_context(|| format!("seed {seed}, round {round}"))?);
    }
    crowd.settle().await.with_context(|| format!("seed {seed}, after {rounds} rounds"))
}

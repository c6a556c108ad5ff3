//! The pretend cloud with a client of another make, and the demo around a gateway of a few lines.

use gateway_core::poll::settings::Medium;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::*;
use crate::app::snapshot::{Count, Ledger, Uplink};

/// A gateway that keeps what it produces and sends it in order, as simply as that can be done. A leaky one forgets a message.
struct Simple {
    produced: u64,
    producing: bool,
    wanted: watch::Sender<u64>,
    acknowledged: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Simple {
    fn start(config: &Config, leaky: bool) -> Self {
        let (wanted, goal) = watch::channel(0);
        let (acks, acknowledged) = watch::channel(0);
        let task = tokio::spawn(connect_for_ever(config.uplinks[0].1.port, leaky, goal, acks));
        Self { produced: 0, producing: true, wanted, acknowledged, task }
    }
}

/// One connection after another; each sends from the first unacknowledged message on.
async fn connect_for_ever(port: u16, leaky: bool, mut goal: watch::Receiver<u64>, acks: watch::Sender<u64>) {
    while goal.changed().await.is_ok() {
        let mut options = MqttOptions::new("simple", ("127.0.0.1", port));
        options.set_clean_session(false);
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        let mut sending = JoinSet::new();
        sending.spawn(send(client, leaky, goal.clone(), acks.subscribe()));
        while let Ok(event) = events.poll().await {
            if matches!(event, Event::Incoming(Incoming::PubAck(_))) {
                acks.send_modify(|acks| *acks += 1);
            }
        }
    }
}

async fn send(
    client: AsyncClient,
    leaky: bool,
    mut goal: watch::Receiver<u64>,
    mut acks: watch::Receiver<u64>,
) {
    loop {
        let next = *acks.borrow() + 1;
        if goal.wait_for(|goal| *goal >= next).await.is_err() {
            return;
        }
        let seq = if leaky && next == 3 { 2 } else { next };
        let body = format!(r#"{{"v":1,"boot":"x-1","seq":{seq},"values":{{"a":1}}}}"#);
        let sent = client.publish("t", body, PublishOptions::at_least_once()).await;
        if sent.is_err() || acks.wait_for(|acks| *acks >= next).await.is_err() {
            return;
        }
    }
}

impl Gateway for Simple {
    async fn snapshot(&mut self) -> Snapshot {
        self.produced += u64::from(self.producing);
        self.wanted.send_replace(self.produced);
        let acknowledged = *self.acknowledged.borrow();
        let rows = |rows: u64| Count { rows, readings: rows, bytes: 0 };
        let ledger = Ledger {
            produced: rows(self.produced),
            acknowledged: rows(acknowledged),
            in_memory: rows(self.produced - acknowledged),
            ..Ledger::default()
        };
        let link = if acknowledged > 0 { Link::Up } else { Link::Connecting };
        Snapshot {
            uplinks: vec![Uplink { link, in_flight: 1, ledger, ..Uplink::default() }],
            ..Snapshot::default()
        }
    }

    async fn write(&mut self, _: &str, _: &str, _: &str) -> Result<(), String> {
        Err("nothing can be written here".into())
    }

    async fn stop_field(&mut self) {
        self.producing = false;
    }

    async fn stop(self) {
        self.task.abort();
    }
}

async fn demo(leaky: bool) -> (u64, bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut cloud = Cloud::start().await.unwrap();
    let config = configure(None, folder.path(), cloud.addr().port()).unwrap();
    let mut gateway = Simple::start(&config, leaky);
    // The script of the demo in steps instead of seconds.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut again = interval(Duration::from_millis(5));
    while cloud.arrivals().messages < 5 {
        gateway.snapshot().await;
        again.tick().await;
        assert!(Instant::now() < deadline, "{:?}", cloud.arrivals());
    }
    cloud.cut().await;
    let before = cloud.arrivals();
    for _ in 0..20 {
        gateway.snapshot().await;
    }
    assert_eq!(cloud.arrivals(), before, "nothing arrives at a cloud that is away");
    cloud.restore().await.unwrap();
    gateway.stop_field().await;
    loop {
        let snapshot = gateway.snapshot().await;
        if snapshot.uplinks[0].ledger.queued().rows == 0 || Instant::now() > deadline {
            let verdict = picture::verdict(&snapshot.uplinks[0].ledger, &cloud.arrivals());
            gateway.stop().await;
            return (cloud.arrivals().readings, verdict.good);
        }
        again.tick().await;
    }
}

#[tokio::test]
async fn every_reading_reaches_the_pretend_cloud_through_an_outage() {
    let (readings, good) = demo(false).await;
    assert!(good && readings >= 25, "{readings}");
}

#[tokio::test]
async fn a_gateway_that_forgets_a_message_is_found_out() {
    let (_, good) = demo(true).await;
    assert!(!good);
}

#[test]
fn the_built_in_configuration_is_right_and_goes_to_the_pretend_cloud() {
    let config = configure(None, Path::new("/tmp/x"), 12_345).unwrap();
    assert_eq!(config.field.devices.len(), 4);
    let (_, link) = &config.uplinks[0];
    assert_eq!((link.host.as_str(), link.port, link.transport), ("127.0.0.1", 12_345, Transport::Tcp));
    assert_eq!(config.store.path, Path::new("/tmp/x/queue.db"));
}

#[tokio::test]
async fn a_simulated_device_can_lose_its_power_and_a_real_one_is_left_alone() {
    let mut config = configure(None, Path::new("/tmp/x"), 12_345).unwrap();
    let field = Field::start(&mut config.field).await.unwrap();
    assert_eq!(field.weak.as_ref().map(|weak| weak.device.as_str()), Some("cellar"));
    let written = field.written.clone().unwrap();
    assert_eq!((written.device.as_str(), written.tag.as_str()), ("oven", "setpoint"));
    assert_eq!(written.values, ["180", "150"], "within the range of the tag");
    assert!(
        config
            .field
            .buses
            .iter()
            .all(|bus| matches!(&bus.medium, Medium::Tcp { host, .. } if host == "127.0.0.1"))
    );

    let before = config.field.clone();
    let field = Field::start(&mut config.field).await.unwrap();
    assert!(
        field.weak.is_none() && field.written.is_none(),
        "this field is a real one as far as can be told"
    );
    assert_eq!(config.field, before);
}

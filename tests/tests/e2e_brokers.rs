//! Brokers that acknowledge late, out of order or never: every poll arrives all the same, and each message leaves the queue only by an
//! acknowledgement of the connection on which it was sent.
//!
//! The daemon speaks TLS with a broker that follows a script; the office is what that broker has read.

use std::future::Future;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use gateway_daemon::app::snapshot::{Link, Snapshot};
use tidegate_tests::account::{self, Order, states, uplink};
use tidegate_tests::certs::Validity;
use tidegate_tests::counter_device::CounterDevice;
use tidegate_tests::fake_broker::{FakeBroker, Packet, Peer};
use tidegate_tests::gateway::{DEADLINE, Gateway};
use tidegate_tests::office::{self, Arrival};
use tidegate_tests::site::{Papers, Plan};

/// So many messages wait for their acknowledgement before the first one gets it: more than `commit_interval`, less than the window.
const HELD: usize = 12;

struct Scripted {
    dir: tempfile::TempDir,
    device: CounterDevice,
    broker: FakeBroker,
    arrivals: Vec<Arrival>,
    plan: Plan,
}

impl Scripted {
    async fn new<F, R>(script: F) -> Result<Self>
    where
        F: Fn(Peer) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + Send + 'static,
    {
        let dir = tempfile::Builder::new().prefix("tidegate-site-").tempdir()?;
        let papers = Papers::new(dir.path())?;
        let server = papers.authority.server(&["localhost"], Validity::Good)?;
        let broker = FakeBroker::start_tls(&server, &[], script).await?;
        let plan = Plan { ack_timeout: "1s", ..Plan::default() };
        Ok(Self { dir, device: CounterDevice::start().await?, broker, arrivals: Vec::new(), plan })
    }

    fn gateway(&self) -> Result<Gateway> {
        let dir = self.dir.path();
        Gateway::start(dir, &self.plan.config(dir, self.device.port, self.broker.port()))
    }

    fn receive(&mut self) {
        for (_, packet) in self.broker.seen_so_far() {
            let Packet::Publish { topic, payload, .. } = packet else { continue };
            let json = serde_json::from_slice(&payload).unwrap_or(serde_json::Value::Null);
            self.arrivals.push(Arrival { topic, json });
        }
    }

    async fn wait_for(&mut self, what: &str, want: impl Fn(&[Arrival]) -> bool) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        loop {
            self.receive();
            if want(&self.arrivals) {
                return Ok(());
            }
            if Instant::now() > end {
                let missing = account::missing(&self.arrivals, self.device.answered());
                bail!("no {what}: {} messages, missing {missing:?}", self.arrivals.len());
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Everything polled up to here was read by the broker and is acknowledged, in order, and the ledger balances.
    async fn settle(&mut self, gateway: &mut Gateway) -> Result<Snapshot> {
        let answered = self.device.answered();
        let whole =
            |all: &[Arrival]| account::missing(all, answered).is_empty() && office::holes(all).is_empty();
        self.wait_for("every poll", whole).await?;
        account::check(&self.arrivals, Order::PerLane)?;
        let goal = u64::from(answered);
        let settled = |now: &Snapshot| {
            let ledger = &uplink(now).ledger;
            ledger.restored.rows + ledger.acknowledged.rows >= goal
        };
        let picture = gateway.wait_for("the last acknowledgement", settled).await?;
        account::balanced(&picture)?;
        ensure!(uplink(&picture).ledger.dropped.is_empty(), "{:?}", uplink(&picture).ledger);
        Ok(picture)
    }
}

/// Reads the next packet that wants an acknowledgement.
async fn next_publish(peer: &mut Peer) -> Result<Option<u16>> {
    loop {
        match peer.read().await? {
            Some(Packet::Publish { id, .. }) => return Ok(Some(id)),
            Some(Packet::Ping) => peer.raw(&[0xd0, 0]).await?,
            Some(Packet::Disconnect) | None => return Ok(None),
            Some(_) => {}
        }
    }
}

/// Acknowledges in groups of [`HELD`], each group in the order that `order` gives it.
async fn in_groups(mut peer: Peer, order: fn(&mut Vec<u16>)) -> Result<()> {
    peer.accept(false).await?;
    // The birth is acknowledged at once.
    let Some(birth) = next_publish(&mut peer).await? else { return Ok(()) };
    peer.puback(birth).await?;
    let mut held = Vec::new();
    while let Some(id) = next_publish(&mut peer).await? {
        held.push(id);
        if held.len() == HELD {
            order(&mut held);
            for id in held.drain(..) {
                peer.puback(id).await?;
            }
        }
    }
    Ok(())
}

/// Two hundred polls through a broker with such acknowledgements, without losing the connection or a message.
async fn survives(order: fn(&mut Vec<u16>)) -> Result<()> {
    let mut scripted = Scripted::new(move |peer| in_groups(peer, order)).await?;
    let mut gateway = scripted.gateway()?;
    scripted.device.wait_for(200).await?;
    let picture = scripted.settle(&mut gateway).await?;
    ensure!(uplink(&picture).connects == 1 && uplink(&picture).link == Link::Up, "{}", gateway.log());
    let repeated = account::numbers(&scripted.arrivals).len() as u64;
    ensure!(repeated <= u64::from(scripted.device.answered()), "something was sent twice without need");
    gateway.kill()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_acknowledgements_lose_and_repeat_nothing() -> Result<()> {
    survives(|_| {}).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_out_of_order_lose_and_repeat_nothing() -> Result<()> {
    survives(|held| held.reverse()).await?;
    survives(|held| held.rotate_left(5)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_never_acknowledges_is_left_and_everything_is_sent_again() -> Result<()> {
    let script = |mut peer: Peer| async move {
        peer.accept(true).await?;
        if peer.number <= 2 { peer.swallow().await } else { peer.behave().await }
    };
    let mut scripted = Scripted::new(script).await?;
    let mut gateway = scripted.gateway()?;
    gateway.wait_for("the third connection", |now| uplink(now).connects == 3).await?;
    scripted.settle(&mut gateway).await?;
    let births = states(&scripted.arrivals);
    let reasons: Vec<_> = births.iter().map(|(_, reason)| reason.as_deref()).collect();
    ensure!(reasons == [None, Some("ack-timeout"), Some("ack-timeout")], "{reasons:?}");
    gateway.kill()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_acknowledgement_that_never_comes_does_not_hold_a_message_for_ever() -> Result<()> {
    let script = |mut peer: Peer| async move {
        peer.accept(true).await?;
        let mut count = 0;
        while let Some(id) = next_publish(&mut peer).await? {
            count += 1;
            if peer.number > 1 || count != 5 {
                peer.puback(id).await?;
            }
        }
        Ok(())
    };
    let mut scripted = Scripted::new(script).await?;
    let mut gateway = scripted.gateway()?;
    gateway.wait_for("the second connection", |now| uplink(now).connects == 2).await?;
    scripted.settle(&mut gateway).await?;
    let births = states(&scripted.arrivals);
    ensure!(births.last().is_some_and(|(_, reason)| reason.as_deref() == Some("ack-timeout")), "{births:?}");
    gateway.kill()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_for_what_was_not_sent_ends_the_connection_and_loses_nothing() -> Result<()> {
    let script = |mut peer: Peer| async move {
        peer.accept(true).await?;
        if peer.number == 1 {
            next_publish(&mut peer).await?;
            peer.puback(40_000).await?;
            return peer.swallow().await;
        }
        peer.behave().await
    };
    let mut scripted = Scripted::new(script).await?;
    let mut gateway = scripted.gateway()?;
    gateway.wait_for("a second connection", |now| uplink(now).connects == 2).await?;
    scripted.settle(&mut gateway).await?;
    let births = states(&scripted.arrivals);
    ensure!(births.last().is_some_and(|(_, reason)| reason.as_deref() == Some("protocol")), "{births:?}");
    gateway.kill()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_durability_has_everything_on_disk_before_it_is_sent() -> Result<()> {
    let script = |mut peer: Peer| async move {
        peer.accept(true).await?;
        if peer.number == 1 { peer.swallow().await } else { peer.behave().await }
    };
    let mut scripted = Scripted::new(script).await?;
    scripted.plan = Plan { ack_timeout: "30s", strict: true, ..scripted.plan };
    let gateway = scripted.gateway()?;
    scripted.wait_for("messages under way", |all| account::numbers(all).len() >= 10).await?;
    gateway.kill()?;
    scripted.device.quiet().await?;
    let mut gateway = scripted.gateway()?;
    let after = gateway.wait_for("an answer", |_| true).await?;
    // Read after the kill: what was sent before it and is seen only by now counts as well, what comes again is no new number.
    scripted.receive();
    let run = scripted.arrivals.iter().find_map(|arrival| Some(arrival.number()?.0));
    let sent: std::collections::BTreeSet<u64> = scripted
        .arrivals
        .iter()
        .filter_map(Arrival::number)
        .filter(|id| Some(&id.0) == run.as_ref())
        .map(|id| id.1)
        .collect();
    let restored = uplink(&after).ledger.restored.rows;
    ensure!(restored >= sent.len() as u64, "{} were sent, {restored} were on disk", sent.len());
    gateway.kill()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_is_no_loss_when_the_gateway_is_killed_before_it_came() -> Result<()> {
    // The broker has read everything and acknowledged nothing: after the kill it gets everything once more that was on disk.
    let script = |mut peer: Peer| async move {
        peer.accept(true).await?;
        if peer.number == 1 { peer.swallow().await } else { peer.behave().await }
    };
    let mut scripted = Scripted::new(script).await?;
    scripted.plan.ack_timeout = "30s";
    let mut gateway = scripted.gateway()?;
    let before = gateway.wait_for("rows on disk", |now| uplink(now).ledger.stored.rows >= 10).await?;
    gateway.kill()?;
    let killed = scripted.device.quiet().await?;
    let mut gateway = scripted.gateway()?;
    let after = gateway.wait_for("an answer", |_| true).await?;
    let restored = uplink(&after).ledger.restored.rows;
    ensure!(restored >= uplink(&before).ledger.stored.rows, "{restored} rows");
    scripted.device.wait_for(killed + 20).await?;
    gateway
        .wait_for("an empty disk", |now| uplink(now).ledger.stored.rows == 0 && uplink(now).link == Link::Up)
        .await?;
    scripted.receive();
    account::check(&scripted.arrivals, Order::PerLane)?;
    let safe = u32::try_from(uplink(&before).ledger.stored.rows)?;
    ensure!(account::missing(&scripted.arrivals, safe).is_empty());
    gateway.kill()
}

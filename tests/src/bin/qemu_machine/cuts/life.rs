//! One gateway and what it lives through.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use gateway_daemon::app::snapshot::Snapshot;
use tidegate_tests::account;
use tidegate_tests::careful::Publisher;
use tidegate_tests::machine::{BOOT_MAX, Card, Image, Loss, Machine, STEP_MAX, Start};
use tidegate_tests::proxy::{Fault, FaultProxy};
use tidegate_tests::sim::chance::Chance;
use tokio::task::JoinHandle;

use super::round::{Kind, Row};
use super::verdict;
use crate::shelf::Shelf;
use crate::world::World;

/// The gateway says so when it is at work.
const RUNNING: &str = "uplink cloud: connected";

/// Between two polls of the device, ms.
const EVERY_MS: u64 = 200;

/// What may be only in memory when the power goes: `commit_interval` (500 ms), and how long a commit may take on an emulated machine that shares
/// its host, ms.
const MEMORY_MS_MAX: u64 = 500 + 10_000;

/// Messages between two breaks of the local client.
const BATCH: u64 = 10;

/// What a cut may have cost.
#[derive(Debug, Clone, Copy)]
struct Risk {
    after: u32,
    last: u32,
}

/// A gateway, and all that is around it.
pub(crate) struct Life {
    world: World,
    network: FaultProxy,
    shelf: Shelf,
    card: Card,
    port: u16,
    publisher: Option<Publisher>,
    /// How long the last boot took.
    boot: Duration,
    risks: Vec<Risk>,
    /// The last cut has not been looked at yet.
    open: Option<Risk>,
}

type Publishing = JoinHandle<(Publisher, Result<()>)>;

impl Life {
    pub(crate) async fn begin(image: &Image) -> Result<Self> {
        let world = World::new().await?;
        let network = FaultProxy::to_port(world.cloud.port()).await?;
        let shelf = Shelf::open(image.folder()).await?;
        let card = world.card(image)?;
        card.configure(&world.config_through(network.port(), &format!("{EVERY_MS}ms")))?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let publisher = Some(Publisher::passing("press", "plant/n", 1));
        let boot = Duration::from_secs(30);
        Ok(Self { world, network, shelf, card, port, publisher, boot, risks: Vec::new(), open: None })
    }

    /// Power on, something, power off.
    pub(crate) async fn round(&mut self, seed: u64, chance: &mut Chance) -> Result<Row> {
        let mut row = Row::new(seed, Kind::by_lot(chance));
        self.network.set(Fault::None);
        let mut machine = self.power().await?;
        let loss = chance.pick(&[Loss::Nothing, Loss::All, Loss::ByLot(seed), Loss::ByLot(seed)]);
        if row.kind == Kind::Booting {
            let most = u64::try_from(self.boot.as_millis())?;
            let pause = chance.of(0..=most);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            row.remark = format!(", after {pause} ms");
            row.sectors = Some(self.cut(machine, loss).await?);
            return Ok(row);
        }
        row.boot_s = Some(self.running(&machine).await?);
        row.lost = self.settle(&mut machine).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let publishing = self.publish(Arc::clone(&stop))?;
        let done = self.work(row.kind, &mut machine, chance).await;
        stop.store(true, Ordering::SeqCst);
        row.remark = done.with_context(|| machine.console.tail())?;
        row.sectors = Some(self.cut(machine, loss).await?);
        let (publisher, ended) = publishing.await.context("the local client broke off")?;
        row.acknowledged = *publisher.acknowledged().borrow();
        self.publisher = Some(publisher);
        ended?;
        Ok(row)
    }

    /// Boots once more and looks at what became of the last cut.
    pub(crate) async fn finish(&mut self) -> Result<String> {
        self.network.set(Fault::None);
        let mut machine = self.power().await?;
        let boot_s = self.running(&machine).await?;
        let lost = self.settle(&mut machine).await?.unwrap_or(0);
        machine.cut(Loss::Nothing).await?;
        let polls = self.world.device.answered();
        let published = verdict::published(&self.world.office.arrivals()).len();
        Ok(format!(
            "boot {boot_s} s, {lost} polls lost; {polls} polls and {published} local messages in this life"
        ))
    }

    async fn power(&self) -> Result<Machine> {
        let forward = Some((self.port, 1883));
        Machine::start(&self.card, &Start { forward, ..Start::default() }).await
    }

    async fn running(&mut self, machine: &Machine) -> Result<u64> {
        let (at, _) = machine.console.wait(RUNNING, BOOT_MAX).await?;
        let text = machine.console.text();
        for bad in ["beyond repair", "is corrupt", "moved aside"] {
            ensure!(!text.contains(bad), "the console says {bad:?}:\n{}", machine.console.tail());
        }
        self.boot = at - machine.began;
        Ok(self.boot.as_secs())
    }

    /// Takes the power, and looks at the card.
    async fn cut(&mut self, machine: Machine, loss: Loss) -> Result<u64> {
        let sectors = machine.cut(loss).await?;
        let after = self.risks.last().map_or(0, |risk| risk.last);
        let last = self.world.device.quiet().await?;
        let risk = Risk { after, last };
        self.risks.push(risk);
        self.open = Some(risk);
        verdict::card_is_whole(&self.card, self.world.dir.path())?;
        Ok(sectors as u64)
    }

    /// Waits until everything that was safe before the last cut has arrived. Gives how many polls it has cost.
    async fn settle(&mut self, machine: &mut Machine) -> Result<Option<u64>> {
        let Some(risk) = self.open.take() else { return Ok(None) };
        let acknowledged = self.publisher.as_ref().map_or(0, |publisher| *publisher.acknowledged().borrow());
        let most = MEMORY_MS_MAX / EVERY_MS + 1;
        let whole = |all: &[tidegate_tests::office::Arrival]| {
            let published = verdict::published(all);
            (1..=acknowledged).all(|number| published.contains(&number))
                && verdict::lost(all, risk.after, risk.last).is_ok_and(|lost| lost <= most)
        };
        let end = Instant::now() + STEP_MAX;
        let mut all = self.world.office.arrivals();
        while !whole(&all) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(200)).await;
            all = self.world.office.arrivals();
        }
        let published = verdict::published(&all);
        let gone: Vec<u64> = (1..=acknowledged).filter(|number| !published.contains(number)).collect();
        ensure!(gone.is_empty(), "acknowledged and lost: {gone:?}\n{}", machine.console.tail());
        let lost = verdict::lost(&all, risk.after, risk.last)?;
        ensure!(lost <= most, "{lost} polls are lost, at most {most} may be");
        let status = machine.shell.run("gateway-daemon status --json").await?;
        let snapshot: Snapshot = serde_json::from_str(&status).context("the status of the gateway")?;
        account::balanced(&snapshot)?;
        Ok(Some(lost))
    }

    /// Keeps a local client publishing until the machine ends.
    fn publish(&mut self, stop: Arc<AtomicBool>) -> Result<Publishing> {
        let mut publisher = self.publisher.take().context("no publisher")?;
        let port = self.port;
        Ok(tokio::spawn(async move {
            let acknowledged = publisher.acknowledged();
            while !stop.load(Ordering::SeqCst) {
                let total = *acknowledged.borrow() + BATCH;
                match publisher.run(port, total).await {
                    Ok(true) => tokio::time::sleep(Duration::from_millis(300)).await,
                    Ok(false) => break,
                    Err(error) => return (publisher, Err(error)),
                }
            }
            (publisher, Ok(()))
        }))
    }

    async fn work(&mut self, kind: Kind, machine: &mut Machine, chance: &mut Chance) -> Result<String> {
        let pause = |ms: u64| tokio::time::sleep(Duration::from_millis(ms));
        match kind {
            Kind::Draining => {
                let (outage, drain) = (chance.of(3_000..=9_000), chance.of(0..=3_000));
                let mark = machine.console.mark();
                self.network.set(Fault::AcceptAndClose);
                pause(outage).await;
                self.network.set(Fault::None);
                machine.console.wait_after(mark, RUNNING, STEP_MAX).await?;
                pause(drain).await;
                Ok(format!(", outage {outage} ms, drained for {drain} ms"))
            }
            Kind::Updating => {
                let url = format!("http://10.0.2.2:{}/update.raucb", self.shelf.port);
                machine
                    .shell
                    .run(&format!("gateway-daemon update --no-reboot {url} >/run/update.log 2>&1 &"))
                    .await?;
                let ms = chance.of(0..=60_000);
                pause(ms).await;
                let said = machine.shell.run("tail -n 1 /run/update.log").await?;
                Ok(format!(", {ms} ms after the command, which said last: {}", said.trim()))
            }
            _ => {
                let ms = chance.of(0..=6_000);
                pause(ms).await;
                Ok(format!(", after {ms} ms"))
            }
        }
    }
}

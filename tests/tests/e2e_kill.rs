//! kill -9 of the gateway, which is what a power cut is to a process: what is on disk or acknowledged is never lost, what was only in
//! memory is lost from its end and not by more than the promise allows.
//!
//! `cargo xtask e2e --rounds N` runs the tests at random moments with N rounds (`TIDEGATE_ROUNDS`); without it they run a few.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gateway_daemon::app::snapshot::Snapshot;
use tidegate_tests::account::{self, Order, uplink};
use tidegate_tests::gateway::Gateway;
use tidegate_tests::office::{self, Arrival};
use tidegate_tests::proxy::Fault;
use tidegate_tests::sim::chance::Chance;
use tidegate_tests::site::{Plan, Site};

/// Rounds without `TIDEGATE_ROUNDS`.
const ROUNDS: u64 = 4;

/// A commit may take this long on the disk of a loaded machine: what was polled meanwhile is only in memory too.
const DISK_MS_MAX: u64 = 2_000;

/// What a kill may have cost: numbers of polls.
#[derive(Debug, Clone, Copy)]
struct Risk {
    /// The highest number that was on disk or acknowledged for certain.
    safe: u64,
    /// The highest number that the device has given to the killed gateway.
    last: u64,
}

/// Which numbers of `risk` are lost, and that they are the last ones and not too many.
fn lost(all: &[Arrival], risk: Risk, plan: &Plan) -> Result<u64> {
    let answered = u32::try_from(risk.last)?;
    let lost: Vec<u64> = account::missing(all, answered).into_iter().filter(|n| *n > risk.safe).collect();
    let Some(first) = lost.first() else { return Ok(0) };
    let count = lost.len() as u64;
    ensure!(count == risk.last - first + 1, "{risk:?}: not only the last are lost: {lost:?}");
    let interval = if plan.strict { 0 } else { plan.commit_ms };
    // One poll more: the one under way, which the device has answered and the gateway has not heard.
    let most = (interval + DISK_MS_MAX) / plan.every_ms + 1;
    ensure!(count <= most, "{risk:?}: {count} polls are lost, at most {most} may be");
    Ok(count)
}

/// A site whose gateway is killed, and what that may have cost so far.
struct Round {
    site: Site,
    gateway: Option<Gateway>,
    began: u64,
    risks: Vec<Risk>,
}

impl Round {
    async fn new(plan: Plan) -> Result<Self> {
        let site = Site::new(plan).await?;
        let gateway = Some(site.gateway()?);
        Ok(Self { site, gateway, began: 0, risks: Vec::new() })
    }

    fn gateway(&mut self) -> Result<&mut Gateway> {
        self.gateway.as_mut().context("a gateway runs between kills")
    }

    /// Kills the gateway `polls` polls after a look at its ledger.
    async fn kill(&mut self, polls: u32, pause: Duration) -> Result<()> {
        let answered = u64::from(self.site.device.answered());
        let mut safe = self.began;
        // It may have been started a moment ago and not answer yet; then nothing of this run is certain.
        if let Ok(picture) = self.gateway()?.snapshot().await {
            account::balanced(&picture)?;
            // The newest rows are in memory, and the newest poll may be under way.
            let known = answered.saturating_sub(1 + uplink(&picture).ledger.in_memory.rows);
            safe = safe.max(known);
        }
        self.site.polled(polls).await?;
        tokio::time::sleep(pause).await;
        self.gateway.take().context("a gateway runs between kills")?.kill()?;
        self.risks.push(Risk { safe, last: u64::from(self.site.device.quiet().await?) });
        Ok(())
    }

    /// Starts the gateway on what the last one has left.
    fn restart(&mut self) -> Result<()> {
        self.began = u64::from(self.site.device.answered());
        self.gateway = Some(self.site.gateway()?);
        Ok(())
    }

    /// Waits until all that must not be missing has arrived, and checks all the rest. Gives what each kill so far has cost.
    async fn settle(&mut self) -> Result<Vec<u64>> {
        let answered = self.site.device.answered();
        let risks = self.risks.clone();
        let at_risk = |n: u64| risks.iter().any(|risk| n > risk.safe && n <= risk.last);
        let whole = |all: &[Arrival]| {
            account::missing(all, answered).into_iter().all(at_risk) && office::holes(all).is_empty()
        };
        let mut all = self.site.office.wait_for("everything that is safe", whole).await;
        if let Ok(all) = &mut all {
            // A queue whose backlog is delivered has nothing more to say about what looks lost. With strict durability the disk is hardly ever
            // empty: the newest poll is always on its way over it.
            let in_flight = |now: &Snapshot| uplink(now).ledger.stored.rows <= uplink(now).in_flight;
            let then = self.gateway()?.wait_for("nothing on disk but what is in flight", in_flight).await?;
            let enough = uplink(&then).ledger.acknowledged.rows + uplink(&then).window;
            let acknowledged = |now: &Snapshot| uplink(now).ledger.acknowledged.rows >= enough;
            self.gateway()?.wait_for("that to be acknowledged", acknowledged).await?;
            *all = self.site.office.wait_for("numbers without holes", whole).await?;
        }
        let log = self.gateway()?.log();
        let all = all.with_context(|| {
            let missing = account::missing(&self.site.office.arrivals(), answered);
            format!("{answered} polls, missing {missing:?}, risks {risks:?}; log:\n{log}")
        })?;
        account::check(&all, Order::PerLane)?;
        account::balanced(&self.gateway()?.snapshot().await?)?;
        self.risks.iter().map(|risk| lost(&all, *risk, &self.site.plan)).collect()
    }
}

/// Kills the gateway at random moments of random troubles, again and again; prints the seed and how to run it again.
async fn kill_again_and_again(plan: Plan, test: &str) -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("TIDEGATE_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("TIDEGATE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!(
        "seed {seed}; again: TIDEGATE_SEED={seed} TIDEGATE_ROUNDS={rounds} cargo test -p tidegate-tests --test e2e_kill {test}"
    );
    let mut chance = Chance::new(seed);
    let mut round = Round::new(plan).await?;
    let mut costs = Vec::new();
    for turn in 1..=rounds {
        let doing = trouble(&mut round, &mut chance).await;
        let doing = doing.with_context(|| format!("seed {seed}, round {turn} of {rounds}"))?;
        let settled = round.settle().await;
        costs = settled.with_context(|| format!("seed {seed}, round {turn} of {rounds}, {doing}"))?;
        println!("round {turn}: {doing}: lost {:?}", costs.last());
    }
    costs.sort_unstable();
    let polls = round.site.device.answered();
    println!(
        "{rounds} rounds, {} kills, {polls} polls: lost per kill at most {}, median {}, in all {}",
        round.risks.len(),
        costs.last().unwrap_or(&0),
        costs[costs.len() / 2],
        costs.iter().sum::<u64>()
    );
    round.gateway.take().context("a gateway runs between kills")?.stop().await
}

/// One round: something happens to the network, the gateway is killed at some moment of it and started again on a good network.
async fn trouble(round: &mut Round, chance: &mut Chance) -> Result<String> {
    const FAULTS: [Fault; 6] = [
        Fault::None,
        Fault::BlackHole,
        Fault::HalfOpenDown,
        Fault::HalfOpenUp,
        Fault::AcceptAndClose,
        Fault::Reset,
    ];
    let faults = [chance.pick(&FAULTS), chance.pick(&FAULTS)];
    let polls =
        [chance.of(1..=40), chance.of(0..=30), chance.of(0..=12)].map(|n| u32::try_from(n).unwrap_or(0));
    let pause = Duration::from_millis(chance.of(0..=25));
    for (fault, polls) in faults.into_iter().zip(polls) {
        round.site.network.set(fault);
        round.site.polled(polls).await?;
    }
    round.kill(polls[2], pause).await?;
    round.site.network.set(Fault::None);
    round.restart()?;
    // Sometimes power fails again while the gateway is still starting.
    let early = chance.one_in(4).then(|| Duration::from_millis(chance.of(0..=200)));
    if let Some(pause) = early {
        round.kill(0, pause).await?;
        round.restart()?;
    }
    Ok(format!("{faults:?}, polls {polls:?}, pause {pause:?}, killed while starting: {early:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_at_random_moments_loses_at_most_the_commit_interval() -> Result<()> {
    kill_again_and_again(Plan::default(), "kill_9_at_random_moments").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_with_strict_durability_loses_nothing_that_was_stored_or_sent() -> Result<()> {
    kill_again_and_again(Plan { strict: true, ..Plan::default() }, "kill_9_with_strict").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_the_middle_of_an_outage_keeps_what_is_on_disk() -> Result<()> {
    let mut round = Round::new(Plan::default()).await?;
    round.gateway()?.wait_for("a few acknowledged", |now| uplink(now).ledger.acknowledged.rows >= 5).await?;
    round.site.network.set(Fault::AcceptAndClose);
    for _ in 0..2 {
        let found = uplink(&round.gateway()?.snapshot().await?).ledger.stored.rows;
        round.gateway()?.wait_for("rows on disk", |now| uplink(now).ledger.stored.rows >= found + 20).await?;
        round.kill(0, Duration::ZERO).await?;
        round.restart()?;
        let again = round.gateway()?.wait_for("an answer", |_| true).await?;
        ensure!(uplink(&again).ledger.restored.rows >= found + 20, "{:?}", uplink(&again).ledger);
    }
    round.site.network.set(Fault::None);
    round.settle().await?;
    round.gateway.take().context("a gateway runs between kills")?.stop().await
}

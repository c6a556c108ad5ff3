//! The local broker beside mosquitto: speed, what it costs, durable publishes, memory.
//!
//! `cargo run --release -p tidegate-tests --bin bench_broker -- [speed|durable|memory]`, all of them without a word.
//!
//! Both brokers are processes of their own and take turns under the same clients, which are threads of this process and share the
//! machine with them. Medians of [`TURNS`] turns count.

mod load;
mod peer;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use load::{PAYLOAD_BYTES, TOPIC, Until};
use peer::Peer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_tests::bench::{Goal, Measured};

/// Turns of each broker; the median counts.
const TURNS: usize = 3;
/// Messages of a turn of the speed part.
const MESSAGES: u64 = 200_000;
/// Unacknowledged messages of a publisher: the default of mosquitto's and many other clients.
const WINDOW: u16 = 20;
/// Length of the durable part.
const DURABLE_FOR: Duration = Duration::from_secs(5);
/// Messages queued for the client that is away.
const QUEUED: u64 = 100_000;
/// Clients at rest.
const CLIENTS: usize = 1000;
/// Buffers are given back and threads end within this.
const SETTLE: Duration = Duration::from_secs(3);

const DURABLE_GOAL: f64 = 50.0;
const IDLE_GOAL_MIB: f64 = 10.0;
const QUEUED_GOAL_MIB: f64 = 16.0;
const CLIENTS_GOAL_MIB: f64 = 24.0;

fn main() -> Result<()> {
    let wanted = std::env::args().nth(1);
    let known = ["speed", "durable", "memory"];
    if let Some(name) = &wanted
        && !known.contains(&name.as_str())
    {
        bail!("{name:?} is none of {}", known.join(", "));
    }
    let wants = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(async {
        if wants("speed") {
            speed().await.context("speed")?;
        }
        if wants("durable") {
            durable().await.context("durable")?;
        }
        if wants("memory") {
            memory().await.context("memory")?;
        }
        Ok(())
    })
}

/// One turn: messages per second, and CPU seconds of the broker per 100,000.
#[derive(Debug, Clone, Copy)]
struct Turn {
    rate: f64,
    cost: f64,
}

async fn speed() -> Result<()> {
    for (publishers, window, goal) in [(1, WINDOW, true), (10, WINDOW, true), (1, 1, false), (10, 1, false)] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // Every message of a window of one is a round trip.
        let messages = if window == 1 { MESSAGES / 4 } else { MESSAGES };
        for _ in 0..TURNS {
            ours.push(turn(&Peer::ours()?, publishers, window, messages)?);
            theirs.push(turn(&Peer::mosquitto(false).await?, publishers, window, messages)?);
        }
        let (ours, theirs) = (median(&ours), median(&theirs));
        let plural = if publishers == 1 { "publisher" } else { "publishers" };
        let what = |what: &str| {
            format!("{what}, QoS 1, {PAYLOAD_BYTES} bytes, {publishers} {plural}, window {window}")
        };
        let goals = if goal { [Goal::AtLeast(1.0), Goal::AtMost(1.0)] } else { [Goal::Shown; 2] };
        beside(&what("broker beside mosquitto"), ours.rate, theirs.rate, "messages/s", goals[0]);
        beside(&what("its CPU for 100,000 messages"), ours.cost, theirs.cost, "s", goals[1]);
    }
    Ok(())
}

fn turn(peer: &Peer, publishers: u64, window: u16, messages: u64) -> Result<Turn> {
    let mut subscriber = load::connect(peer.port(), "subscriber", true)?;
    load::subscribe(&mut subscriber, TOPIC)?;
    let streams: Result<Vec<_>> =
        (0..publishers).map(|n| load::connect(peer.port(), &format!("publisher-{n}"), true)).collect();
    let (began, cpu) = (Instant::now(), peer.cpu()?);
    let ended = thread::scope(|scope| {
        let consumer = scope.spawn(|| load::consume(&mut subscriber, messages));
        let share = Until::Count(messages / publishers);
        let publishers: Vec<_> = streams?
            .into_iter()
            .map(|mut stream| scope.spawn(move || load::publish(&mut stream, share, window)))
            .collect();
        for publisher in publishers {
            joined(publisher)?;
        }
        joined(consumer)
    })?;
    let cpu = peer.cpu()? - cpu;
    let turn = Turn {
        rate: real(messages) / (ended - began).as_secs_f64(),
        cost: cpu.as_secs_f64() * 100_000.0 / real(messages),
    };
    println!(
        "{publishers} publishers, window {window}, {:9}: {:.0} messages/s, {:.2} s",
        peer.name(),
        turn.rate,
        turn.cost
    );
    Ok(turn)
}

/// PUBACKs per second of messages for a persistent session that is away.
async fn durable() -> Result<()> {
    for (publishers, goal) in [(1, Goal::AtLeast(DURABLE_GOAL)), (10, Goal::Shown)] {
        let mut ours = Peer::ours()?;
        let (acknowledged, rate) = away(&ours, publishers)?;
        // A figure of durable publishes is one only if they are there after a power cut.
        ours.crash()?;
        let mut subscriber = load::connect(ours.port(), "away", false)?;
        load::consume(&mut subscriber, acknowledged).context("after kill -9")?;
        println!("{publishers} publishers: all of {acknowledged} acknowledged messages came after kill -9");
        let (_, theirs) = away(&Peer::mosquitto(true).await?, publishers)?;
        let what = format!(
            "durable publishes for a client that is away, {publishers} x window {WINDOW}, beside mosquitto that saves on changes"
        );
        beside(&what, rate, theirs, "messages/s", goal);
    }
    Ok(())
}

/// Publishes for [`DURABLE_FOR`] what a persistent session wants that is away; acknowledged messages, and their rate.
fn away(peer: &Peer, publishers: usize) -> Result<(u64, f64)> {
    let mut subscriber = load::connect(peer.port(), "away", false)?;
    load::subscribe(&mut subscriber, TOPIC)?;
    drop(subscriber);
    let streams: Result<Vec<_>> =
        (0..publishers).map(|n| load::connect(peer.port(), &format!("publisher-{n}"), true)).collect();
    let began = Instant::now();
    let until = Until::Time(began + DURABLE_FOR);
    let acknowledged = thread::scope(|scope| {
        let publishers: Vec<_> = streams?
            .into_iter()
            .map(|mut stream| scope.spawn(move || load::publish(&mut stream, until, WINDOW)))
            .collect();
        publishers.into_iter().map(joined).sum::<Result<u64>>()
    })?;
    Ok((acknowledged, real(acknowledged) / began.elapsed().as_secs_f64()))
}

async fn memory() -> Result<()> {
    // A thousand sockets here and in each broker, which inherits the limit.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    for what in ["idle", "queued", "clients"] {
        let ours = rest(&Peer::ours()?, what)?;
        let theirs = rest(&Peer::mosquitto(false).await?, what)?;
        let (text, goal) = match what {
            "idle" => ("resident memory of a broker without clients".to_owned(), IDLE_GOAL_MIB),
            "queued" => (
                format!("resident memory, {QUEUED} messages of {PAYLOAD_BYTES} bytes wait for a client"),
                QUEUED_GOAL_MIB,
            ),
            _ => (format!("resident memory, {CLIENTS} clients at rest"), CLIENTS_GOAL_MIB),
        };
        beside(&text, ours, goal, "MiB", Goal::AtMost(1.0));
        beside(&format!("{text}, beside mosquitto"), ours, theirs, "MiB", Goal::Shown);
    }
    Ok(())
}

/// Resident memory, MiB.
fn rest(peer: &Peer, what: &str) -> Result<f64> {
    let mut clients = Vec::new();
    match what {
        "queued" => {
            let mut subscriber = load::connect(peer.port(), "away", false)?;
            load::subscribe(&mut subscriber, TOPIC)?;
            drop(subscriber);
            let mut publisher = load::connect(peer.port(), "publisher", true)?;
            let acknowledged = load::publish(&mut publisher, Until::Count(QUEUED), 1000)?;
            ensure!(acknowledged == QUEUED, "{acknowledged} of {QUEUED} were taken");
        }
        "clients" => {
            for n in 0..CLIENTS {
                let mut client = load::connect(peer.port(), &format!("client-{n}"), true)?;
                load::subscribe(&mut client, &format!("plant/{n}/command"))?;
                clients.push(client);
            }
        }
        _ => {}
    }
    let settled = Instant::now() + SETTLE;
    while Instant::now() < settled {
        thread::park_timeout(settled - Instant::now());
    }
    let (resident, anonymous) = peer.memory()?;
    println!("{what}, {:9}: {resident:.1} MiB, {anonymous:.1} MiB of it anonymous", peer.name());
    if what == "queued" {
        let mut subscriber = load::connect(peer.port(), "away", false)?;
        load::consume(&mut subscriber, QUEUED).context("what was queued")?;
    }
    drop(clients);
    Ok(resident)
}

fn beside(what: &str, value: f64, reference: f64, unit: &str, goal: Goal) {
    Measured { what, value, reference, unit, goal }.print();
}

fn median(turns: &[Turn]) -> Turn {
    let middle = |get: fn(&Turn) -> f64| {
        let mut all: Vec<f64> = turns.iter().map(get).collect();
        all.sort_unstable_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Turn { rate: middle(|turn| turn.rate), cost: middle(|turn| turn.cost) }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| bail!("a client panicked"))
}

#[allow(clippy::cast_precision_loss)]
fn real(count: u64) -> f64 {
    count as f64
}

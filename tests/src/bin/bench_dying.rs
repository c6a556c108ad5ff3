//! What the healthy devices of a bus get while others die together, second by second, in virtual time.
//!
//! `cargo run --release -p tidegate-tests --bin bench_dying -- [-v]`
//!
//! Twenty devices keep the line busy for 60 % of its time; after ten seconds 1, 5, 10 or 15 of them fall silent (behind a TCP gateway: they are answered
//! for with exception 11 after a second). The first time-out of each dying device cannot be avoided: together they are printed, and taken off the time.
//! Of the rest the others are to have 95 % of their polls from the first second on, and none may wait longer for a
//! value than those time-outs together and three intervals.
//! `-v` prints the share of each second. The times are those of the wire, so nothing here depends on the machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use gateway_config::Environment;
use gateway_core::poll::Settings;
use gateway_core::poll::plan::{Block, Cost};
use gateway_core::poll::request::{Answer, LineFault, Query};
use gateway_core::poll::schedule::{Order, Schedule, Step, Ticket};
use gateway_core::tag::{BootNs, Sample};
use tidegate_tests::bench::{Goal, Measured};

const DEVICES: usize = 20;
const REGISTERS: u16 = 10;
const LOAD: f64 = 0.6;
/// How long a healthy device thinks.
const LATENCY: Duration = Duration::from_millis(5);
/// What a request behind a TCP gateway takes, whose serial line is the one that counts.
const BEHIND: Duration = Duration::from_millis(40);
const DIE_AT: Duration = Duration::from_secs(10);
const LOOK_FOR: Duration = Duration::from_secs(60);
const GOAL: f64 = 0.95;

#[derive(Clone, Copy)]
enum Medium {
    Serial(u32),
    Tcp,
}

impl Medium {
    fn words(self) -> String {
        match self {
            Self::Serial(baud) => format!("{baud} baud"),
            Self::Tcp => "behind a TCP gateway".to_owned(),
        }
    }

    fn bus(self) -> String {
        match self {
            Self::Serial(baud) => {
                format!("driver = \"modbus-rtu\"\nport = \"/dev/ttyUSB0\"\nbaud = {baud}\n")
            }
            Self::Tcp => "driver = \"modbus-tcp\"\nhost = \"10.0.0.9\"\n".to_owned(),
        }
    }
}

fn main() -> Result<()> {
    let loud = std::env::args().any(|word| word == "-v");
    for medium in [Medium::Serial(9600), Medium::Serial(19_200), Medium::Serial(115_200), Medium::Tcp] {
        for dying in [1, 5, 10, 15] {
            let outcome = run(medium, dying)?;
            let lost = outcome.unavoidable.as_secs_f64();
            let what = format!("polls of the others, {}, {dying} of {DEVICES} die", medium.words());
            if loud {
                let seconds: Vec<String> =
                    outcome.seconds.iter().map(|share| format!("{share:.2}")).collect();
                println!("{what}, time-outs of {lost:.1} s: {}", seconds.join(" "));
            }
            let reference = outcome.wanted;
            Measured {
                what: &what,
                value: outcome.good,
                reference,
                unit: "polls",
                goal: Goal::AtLeast(GOAL),
            }
            .print();
            let what = format!("longest wait for a value of them, {}, {dying} of {DEVICES}", medium.words());
            let (value, reference) =
                (outcome.longest.as_secs_f64(), lost + 3.0 * outcome.every.as_secs_f64());
            Measured { what: &what, value, reference, unit: "s", goal: Goal::AtMost(1.0) }.print();
        }
    }
    Ok(())
}

fn settings(medium: Medium, every: Duration) -> Result<Settings> {
    let mut text = format!("[gateway]\nid = \"bench\"\n[broker]\n[bus.line]\n{}", medium.bus());
    for unit in 1..=DEVICES {
        let tags: Vec<String> =
            (0..REGISTERS).map(|n| format!("t{n} = {{ holding = {n}, type = \"u16\" }}")).collect();
        text.push_str(&format!(
            "[device.d{unit}]\nbus = \"line\"\nunit = {unit}\n[[device.d{unit}.poll]]\nevery = \"{}ms\"\ntags = {{ {} }}\n",
            every.as_millis(),
            tags.join(", "),
        ));
    }
    let env = Environment { credentials_dir: None };
    let (config, _) = gateway_config::parse(&text, "bench.toml", Path::new("."), &env)
        .map_err(|problems| anyhow::anyhow!("{problems}"))?;
    Ok(config.field)
}

struct Outcome {
    unavoidable: Duration,
    every: Duration,
    good: f64,
    wanted: f64,
    longest: Duration,
    /// Share of the polls of the healthy that came, for each second after the death.
    seconds: Vec<f64>,
}

fn run(medium: Medium, dying: usize) -> Result<Outcome> {
    let first = settings(medium, Duration::from_secs(60))?;
    let block = Block {
        table: gateway_core::poll::request::Table::Holding,
        address: 0,
        count: REGISTERS,
        points: Vec::new(),
    };
    let wire = Cost::of(&block, &first.buses[0], &first.devices[0]).least.unwrap_or(BEHIND);
    let every = ((wire + LATENCY) * u32::try_from(DEVICES)?).div_f64(LOAD);
    let settings = settings(medium, Duration::from_millis(u64::try_from(every.as_millis())?))?;
    let mut world = World::new(settings, wire, medium);
    world.run_to(DIE_AT)?;
    world.dead = dying;
    let timeout = world.settings.devices[0].timeout;
    let unavoidable = (wire + timeout) * u32::try_from(dying)?;
    let end = DIE_AT + unavoidable + LOOK_FOR;
    world.run_to(end)?;
    world.outcome(dying, unavoidable, end)
}

/// A line and its devices; times since the start.
struct World {
    settings: Settings,
    schedule: Schedule,
    now: BootNs,
    wire: Duration,
    medium: Medium,
    dead: usize,
    /// Answers by when they come.
    coming: BTreeMap<(BootNs, Ticket), Result<Answer, LineFault>>,
    /// Good cycles: when and of which device.
    good: Vec<(BootNs, usize)>,
}

const START: BootNs = BootNs(1_000_000_000);

impl World {
    fn new(settings: Settings, wire: Duration, medium: Medium) -> Self {
        let schedule = Schedule::new(&settings, 0, START);
        let (coming, good) = (BTreeMap::new(), Vec::new());
        Self { settings, schedule, now: START, wire, medium, dead: 0, coming, good }
    }

    fn run_to(&mut self, end: Duration) -> Result<()> {
        let end = START.plus(end);
        loop {
            let step = self.schedule.next(self.now);
            for cycle in self.schedule.take_cycles() {
                let device = self.settings.groups[cycle.group.0 as usize].device;
                if cycle.readings.iter().all(|reading| matches!(reading.sample, Sample::Good(_))) {
                    self.good.push((self.now, device));
                }
            }
            let until = match step {
                Step::Ask(order) => {
                    self.ask(order)?;
                    continue;
                }
                Step::Wait(until) => until,
            };
            let next = self.coming.keys().next().map_or(until, |(at, _)| until.min(*at));
            if next > end {
                self.now = end;
                return Ok(());
            }
            ensure!(next > self.now || !self.coming.is_empty(), "the schedule waits for the past");
            self.now = next.max(self.now);
            while let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let ((_, ticket), answer) = entry.remove_entry();
                self.schedule.answered(self.now, ticket, answer);
            }
        }
    }

    fn ask(&mut self, order: Order) -> Result<()> {
        let Query::Read { count, .. } = order.request.query else { bail!("{order:?} is no poll") };
        let (took, answer) = match (order.device < self.dead, self.medium) {
            (false, _) => (LATENCY, Ok(Answer::Registers(vec![0; usize::from(count)]))),
            (true, Medium::Serial(_)) => (order.timeout, Err(LineFault::Silence)),
            (true, Medium::Tcp) => (order.timeout, Ok(Answer::Exception(11))),
        };
        // One line serves one request after the other, also behind a gateway that takes several.
        let free = self.coming.keys().next_back().map_or(self.now, |(at, _)| *at);
        self.coming.insert((free.plus(self.wire + took), order.ticket), answer);
        Ok(())
    }

    fn outcome(&self, dying: usize, unavoidable: Duration, end: Duration) -> Result<Outcome> {
        let every = self.settings.groups[0].every;
        let healthy = f64::from(u32::try_from(DEVICES - dying)?);
        let died = START.plus(DIE_AT);
        let of_healthy = || self.good.iter().filter(|(_, device)| *device >= dying);
        let per_second = healthy / every.as_secs_f64();
        let wanted = LOOK_FOR.as_secs_f64() * per_second;
        let good = f64::from(u32::try_from(of_healthy().filter(|(at, _)| *at > died).count())?);
        let mut longest = Duration::ZERO;
        for device in dying..DEVICES {
            let times: Vec<BootNs> = of_healthy()
                .filter(|(_, of)| *of == device)
                .map(|(at, _)| *at)
                .chain([START.plus(end)])
                .collect();
            let gap = times.windows(2).map(|pair| pair[1].since(pair[0])).max();
            longest = longest.max(gap.context("a healthy device gave no value")?);
        }
        let seconds = (0..(unavoidable + LOOK_FOR).as_secs())
            .map(|second| {
                let from = died.plus(Duration::from_secs(second));
                let to = from.plus(Duration::from_secs(1));
                let came = of_healthy().filter(|(at, _)| *at > from && *at <= to).count();
                u32::try_from(came).map_or(0.0, f64::from) / per_second
            })
            .collect();
        Ok(Outcome { unavoidable, every, good, wanted, longest, seconds })
    }
}

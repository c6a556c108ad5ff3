//! `cargo xtask sim many`: seeds that nobody has run, of both simulations, on all processors.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tidegate_tests::command;
use tidegate_tests::many::{Batch, SEED_WITHOUT_COMMIT, World, first_seed};
use tidegate_tests::sim::plan::Variant;

const HELP: &str = "\
Runs many seeds of both simulations on all processors, and prints what fails with the command that replays it.

usage: sim many [--commit HASH] [--first N] [--any N] [--each N] [--broker N] [--silent N] [--hours H] [--minutes M] [--jobs N]
  --commit HASH  the commit that is tested: it stands in the summary and chooses the seeds (`cargo xtask` gives the one of the tree)
  --first N      the first seed of each world, in place of the one that the commit chooses
  --any N        seeds of the uplink's simulation as they come, plan any (default 20000)
  --each N       seeds of each other plan of the uplink's simulation (default 500)
  --broker N     seeds of the broker's simulation (default 2000)
  --silent N     seeds of the broker's simulation with a silent subscriber (default 500)
  --hours H      virtual hours of each seed of the uplink's simulation (default 100)
  --minutes M    virtual minutes of each seed of the broker's simulation (default 20)
  --jobs N       seeds that run at once (default: as many as there are processors)
exit codes: 0 all promises kept, 1 otherwise, 64 usage";

struct Args {
    commit: Option<String>,
    first: Option<u64>,
    any: u64,
    each: u64,
    broker: u64,
    silent: u64,
    hours: u64,
    minutes: u64,
    jobs: usize,
}

fn args() -> Result<Option<Args>> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let (any, each, broker, silent, hours, minutes) = (20_000, 500, 2000, 500, 100, 20);
    let mut args = Args { commit: None, first: None, any, each, broker, silent, hours, minutes, jobs };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        if matches!(name.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let value = given.next().with_context(|| format!("{name} needs a value"))?;
        let number = || -> Result<u64> {
            value.parse().with_context(|| format!("{name} needs a number, not `{value}`"))
        };
        match name.as_str() {
            "--commit" => args.commit = Some(value),
            "--first" => args.first = Some(number()?),
            "--any" => args.any = number()?,
            "--each" => args.each = number()?,
            "--broker" => args.broker = number()?,
            "--silent" => args.silent = number()?,
            "--hours" => args.hours = number()?,
            "--minutes" => args.minutes = number()?,
            "--jobs" => args.jobs = usize::try_from(number()?)?.max(1),
            other => bail!("unknown argument `{other}`"),
        }
    }
    Ok(Some(args))
}

fn main() -> ExitCode {
    command::with(args(), HELP, go)
}

impl Args {
    /// The worlds with how many seeds each gets.
    fn batches(&self) -> Vec<Batch> {
        let first = self.first.unwrap_or_else(|| first_seed(self.commit.as_deref().unwrap_or_default()));
        let (hours, minutes) = (self.hours, self.minutes);
        let uplink = Variant::ALL.into_iter().map(|(_, variant)| {
            let seeds = if variant == Variant::Any { self.any } else { self.each };
            Batch { world: World::Uplink { variant, hours }, first, seeds }
        });
        let broker = [(self.broker, false), (self.silent, true)].into_iter();
        let broker =
            broker.map(|(seeds, silent)| Batch { world: World::Broker { minutes, silent }, first, seeds });
        uplink.chain(broker).filter(|batch| batch.seeds > 0).collect()
    }
}

fn go(args: &Args) -> ExitCode {
    if args.commit.is_none() && args.first.is_none() {
        println!("no commit is known that could choose seeds: they begin with {SEED_WITHOUT_COMMIT}");
    }
    let mut table = Vec::new();
    let mut failed = 0;
    for batch in args.batches() {
        let Batch { world, first, seeds } = batch;
        println!("{}: {seeds} seeds from {first}; one by itself: {}", world.name(), world.replay(first));
        let outcome = batch.run(args.jobs, |line| println!("{line}"));
        failed += outcome.failures.len();
        table.push(outcome.row());
    }
    let commit = args.commit.as_deref().unwrap_or("unknown");
    println!("\ncommit {commit}\n\n| world | seeds | range | events | seconds | failed |");
    println!("| --- | --- | --- | --- | --- | --- |\n{}", table.join("\n"));
    if failed == 0 {
        println!("\nall promises kept");
        ExitCode::SUCCESS
    } else {
        println!("\n{failed} seeds failed; each stands above with the command that replays it");
        ExitCode::FAILURE
    }
}

//! `cargo xtask sim broker`: runs the simulation of the local broker for one seed or many.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use gateway_core::broker::Mutant;
use tidegate_tests::command;
use tidegate_tests::sim_broker::Case;

const HELP: &str = "\
Runs the local broker with honest clients, attackers, a cloud behind a bridge, a fake store and a fake network in virtual time.

usage: sim broker [--seed N] [--seeds N] [--minutes M] [--mutant NAME] [--calm] [--silent] [--trace]
  --seed N       first seed (default 1); the same seed repeats the same run
  --seeds N      how many seeds, one after the other (default 1)
  --minutes M    virtual minutes per seed before everything heals (default 20)
  --mutant NAME  switch a deliberate fault on; `--mutant list` names them, `--mutant all` runs each until a seed kills it
  --calm         nothing goes wrong, and nobody attacks
  --silent       the same, and a subscriber stops acknowledging now and then
  --trace        print every event to standard error
exit codes: 0 all promises kept (with a mutant: it was killed), 1 otherwise, 64 usage";

/// Seeds that a mutant gets unless told otherwise.
const MUTANT_SEEDS: u64 = 80;

struct Args {
    seed: u64,
    seeds: Option<u64>,
    minutes: u64,
    mutant: Option<String>,
    calm: bool,
    silent: bool,
    trace: bool,
}

fn args() -> Result<Option<Args>> {
    let mut args =
        Args { seed: 1, seeds: None, minutes: 20, mutant: None, calm: false, silent: false, trace: false };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut number = || -> Result<u64> {
            let text = given.next().with_context(|| format!("{name} needs a number"))?;
            text.parse().with_context(|| format!("{name} needs a number, not `{text}`"))
        };
        match name.as_str() {
            "--seed" => args.seed = number()?,
            "--seeds" => args.seeds = Some(number()?),
            "--minutes" => args.minutes = number()?,
            "--mutant" => args.mutant = Some(given.next().context("--mutant needs a name")?),
            "--calm" => args.calm = true,
            "--silent" => args.silent = true,
            "--trace" => args.trace = true,
            "--help" | "-h" => return Ok(None),
            other => bail!("unknown argument `{other}`"),
        }
    }
    Ok(Some(args))
}

fn main() -> ExitCode {
    command::with(args(), HELP, go)
}

impl Args {
    fn case(&self, seed: u64) -> Case {
        let case = match (self.silent, self.calm) {
            (true, _) => Case::silent(seed, self.minutes),
            (false, true) => Case::calm(seed, self.minutes),
            (false, false) => Case::of(seed, self.minutes),
        };
        Case { trace: self.trace, ..case }
    }
}

fn go(args: &Args) -> ExitCode {
    let named = |name: &str| Mutant::ALL.iter().find(|(other, _)| *other == name).map(|(_, mutant)| *mutant);
    match args.mutant.as_deref() {
        None => plain(args),
        Some("list") => {
            Mutant::ALL.iter().for_each(|(name, _)| println!("{name}"));
            ExitCode::SUCCESS
        }
        Some("all") => {
            let killed = Mutant::ALL.iter().filter(|(_, mutant)| hunt(args, *mutant)).count();
            println!("{killed} of {} mutants killed", Mutant::ALL.len());
            ExitCode::from(u8::from(killed < Mutant::ALL.len()))
        }
        Some(name) => match named(name) {
            Some(mutant) => ExitCode::from(u8::from(!hunt(args, mutant))),
            None => {
                eprintln!("there is no mutant `{name}`; `--mutant list` names them all");
                ExitCode::from(command::USAGE)
            }
        },
    }
}

/// Runs seeds until one fails.
fn plain(args: &Args) -> ExitCode {
    let (began, mut minutes, mut events) = (Instant::now(), 0, 0);
    let seeds = args.seeds.unwrap_or(1);
    for seed in args.seed..args.seed.saturating_add(seeds) {
        match args.case(seed).run() {
            Ok(report) => {
                minutes += report.minutes;
                events += report.events;
                println!("seed {seed}: {report:?}");
            }
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{seeds} seeds, {minutes} minutes, {events} events in {:.1} s", began.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

/// Runs seeds until one kills the mutant.
fn hunt(args: &Args, mutant: Mutant) -> bool {
    let seeds = args.seeds.unwrap_or(MUTANT_SEEDS);
    for seed in args.seed..args.seed.saturating_add(seeds) {
        if let Err(failure) = args.case(seed).with(mutant).run() {
            println!("{}: killed\n{failure}", mutant.name());
            return true;
        }
    }
    println!("{}: SURVIVED {seeds} seeds", mutant.name());
    false
}

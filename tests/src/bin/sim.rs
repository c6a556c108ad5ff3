//! `cargo xtask sim`: runs the simulation of the uplink for one seed or many.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use gateway_core::uplink::Mutant;
use tidegate_tests::command;
use tidegate_tests::sim::Case;
use tidegate_tests::sim::plan::Variant;

const HELP: &str = "\
Runs the uplink with a fake store, network and cloud in virtual time.

usage: sim [--seed N] [--seeds N] [--hours H] [--plan NAME] [--mutant NAME] [--trace] [--trace-from MS]
  --seed N       first seed (default 1); the same seed repeats the same run
  --seeds N      how many seeds, one after the other (default 1)
  --hours H      virtual hours per seed before everything heals (default 100)
  --plan NAME    bend the plan of the seed: any, calm, strict, tight, live, fifo, thin, hostile, flaky (default any)
  --mutant NAME  switch a deliberate fault on; `--mutant list` names them, `--mutant all` runs each until a seed kills it
  --trace        print every event to standard error
  --trace-from MS  only those from this moment of virtual time on
exit codes: 0 all promises kept (with a mutant: it was killed), 1 otherwise, 64 usage";

struct Args {
    /// The first case.
    case: Case,
    seeds: u64,
    mutant: Option<String>,
}

fn args() -> Result<Option<Args>> {
    let mut args = Args { case: Case::of(1, 100), seeds: 1, mutant: None };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut number = || -> Result<u64> {
            let text = given.next().with_context(|| format!("{name} needs a number"))?;
            text.parse().with_context(|| format!("{name} needs a number, not `{text}`"))
        };
        match name.as_str() {
            "--seed" => args.case.seed = number()?,
            "--seeds" => args.seeds = number()?,
            "--hours" => args.case.hours = number()?,
            "--plan" => {
                let name = given.next().context("--plan needs a name")?;
                let variant = Variant::from_name(&name);
                args.case.variant = variant.with_context(|| format!("there is no plan `{name}`"))?;
            }
            "--mutant" => args.mutant = Some(given.next().context("--mutant needs a name")?),
            "--trace" => args.case.trace = args.case.trace.or(Some(0)),
            "--trace-from" => args.case.trace = Some(number()?),
            "--help" | "-h" => return Ok(None),
            other => bail!("unknown argument `{other}`"),
        }
    }
    Ok(Some(args))
}

fn main() -> ExitCode {
    command::with(args(), HELP, go)
}

fn go(args: &Args) -> ExitCode {
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
        Some(name) => match Mutant::from_name(name) {
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
    let (began, mut hours, mut events) = (Instant::now(), 0, 0);
    let first = args.case.seed;
    for seed in first..first.saturating_add(args.seeds) {
        match (Case { seed, ..args.case }).run() {
            Ok(report) => {
                hours += report.hours;
                events += report.events;
                if args.seeds == 1 {
                    println!("seed {seed}: {report:?}");
                }
            }
            Err(failure) => {
                eprintln!("{failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    let spent = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate to read")]
    let rate = hours as f64 / spent;
    let seeds = args.seeds;
    println!("{seeds} seeds, {hours} hours, {events} events in {spent:.1} s: {rate:.0} hours per second");
    ExitCode::SUCCESS
}

/// Runs seeds until one kills the mutant.
fn hunt(args: &Args, mutant: Mutant) -> bool {
    let seeds = args.seeds.max(if args.seeds == 1 { 40 } else { 1 });
    let first = args.case.seed;
    for seed in first..first.saturating_add(seeds) {
        if let Err(failure) = (Case { seed, mutant: Some(mutant), ..args.case }).run() {
            println!("{}: killed\n{failure}", mutant.name());
            return true;
        }
    }
    println!("{}: SURVIVED {seeds} seeds", mutant.name());
    false
}

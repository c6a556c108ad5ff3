//! `cargo xtask attack`: everything that a stranger can do to the local broker, against the real program inside a memory limit. docs/attacks.md says
//! what each attack is, what is right, and what came of it.

mod attacks;
mod bystander;
mod client;
mod cloud;
mod judge;
mod limit;
mod stage;
mod table;
mod tls;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_tests::command;

use stage::Setup;

const HELP: &str = "\
Attacks a gateway with real sockets on this machine and prints what came of it.

usage: attack [--daemon PATH] [--limit MIB] [--short] [--judge-times] [--list] [KEY ...]
  --daemon PATH  not the program that was built with this one
  --limit MIB    memory limit around the gateway (default 600, a board of 1 GB)
  --short        the short form of CI: smaller attacks, counts and memory are judged
  --judge-times  a turn of the core loop above 50 ms misses its goal as well
  --list         names the attacks
  KEY            only attacks whose key begins so, as in `attack 4 18`
exit codes: 0 all goals reached, 1 otherwise, 64 usage";

#[derive(Default)]
struct Args {
    daemon: Option<PathBuf>,
    limit_mib: Option<u64>,
    short: bool,
    times: bool,
    list: bool,
    keys: Vec<String>,
}

fn args() -> Result<Option<Args>> {
    let mut args = Args::default();
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "--daemon" => args.daemon = Some(given.next().context("--daemon needs a path")?.into()),
            "--limit" => args.limit_mib = Some(given.next().context("--limit needs a number")?.parse()?),
            "--short" => args.short = true,
            "--judge-times" => args.times = true,
            "--list" => args.list = true,
            "--help" | "-h" => return Ok(None),
            other if other.starts_with('-') => bail!("unknown argument `{other}`"),
            key => args.keys.push(key.to_owned()),
        }
    }
    Ok(Some(args))
}

fn main() -> ExitCode {
    command::with(args(), HELP, |args| match go(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("attack: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn go(args: &Args) -> Result<bool> {
    // Thousands of sockets on this side.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let daemon = args.daemon.clone().map_or_else(tidegate_tests::gateway::binary, Ok)?;
    let way = limit::Way::find();
    let setup = Setup { daemon, way, limit_mib: args.limit_mib.unwrap_or(600), short: args.short };
    println!("{} within {} MiB: {}", setup.daemon.display(), setup.limit_mib, setup.way.words());
    let (mut rows, mut good) = (Vec::new(), true);
    for attack in attacks::all() {
        let starts = |key: &String| {
            attack
                .key
                .strip_prefix(key.as_str())
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        if !args.keys.is_empty() && !args.keys.iter().any(starts) || args.short && !attack.short {
            continue;
        }
        if args.list {
            println!("{:4} {}", attack.key, attack.name);
            continue;
        }
        let began = Instant::now();
        let outcome =
            judge::run(&attack, &setup).with_context(|| format!("{} {}", attack.key, attack.name))?;
        let missed = outcome.missed(args.short, args.times);
        println!("{} {}: {:.0} s", attack.key, attack.name, began.elapsed().as_secs_f64());
        outcome.notes.iter().for_each(|note| println!("    {note}"));
        missed.iter().for_each(|what| println!("    MISSED: {what}"));
        good &= missed.is_empty();
        rows.push(table::row(&attack, &outcome, &missed));
    }
    if !args.list {
        print!("\n{}", table::print(&rows));
    }
    Ok(good)
}

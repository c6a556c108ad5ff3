//! `check` and `schema`: what is wrong with a configuration, and what its polling costs on the wire.

use gateway_config::{Config, Environment, Problem};
use gateway_core::poll::plan::BusPlan;

use super::say;
use crate::cli;

/// Reads the configuration to start with; problems go to standard error. Limits that do not fit together are problems and no reason not to start.
///
/// # Errors
/// [`cli::exit::CONFIG`] after every problem has been printed.
pub fn load(path: &std::path::Path) -> Result<Config, u8> {
    match gateway_config::load_installed(path, &Environment::of_process()) {
        Ok((config, warnings)) => {
            print_all(&warnings);
            Ok(config)
        }
        Err(problems) => {
            say::complaint(problems);
            Err(cli::exit::CONFIG)
        }
    }
}

fn print_all(problems: &[Problem]) {
    for problem in problems {
        say::complaint(problem);
    }
}

/// `check`: the exit code; prints the plan unless told to be quiet.
#[must_use]
pub fn check(args: &cli::Check) -> u8 {
    let config = match gateway_config::load(&args.config, &Environment::of_process()) {
        Ok((config, warnings)) => {
            print_all(&warnings);
            config
        }
        Err(problems) => {
            say::complaint(&problems);
            if let (Some(plan), false) = (&problems.plan, args.quiet) {
                say::line(plan);
            }
            return cli::exit::CONFIG;
        }
    };
    let plans = BusPlan::all(&config.field);
    if !args.quiet {
        say::line(BusPlan::render(&plans, &config.field));
    }
    if plans.iter().all(BusPlan::fits) { cli::exit::OK } else { cli::exit::CONFIG }
}

/// `schema`: prints the JSON Schema of the configuration file.
#[must_use]
pub fn schema() -> u8 {
    say::line(format_args!("{:#}", gateway_config::schema()));
    cli::exit::OK
}

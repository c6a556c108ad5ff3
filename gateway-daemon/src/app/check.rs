//! `check` and `schema`: what is wrong with a configuration, and what its polling costs on the wire.

use std::path::Path;

use gateway_config::{Config, Environment, Problem};
use gateway_core::broker::Limits;
use gateway_core::poll::plan::BusPlan;

use super::picture::words;
use super::{certificates, clocks, say};
use crate::cli;

/// Reads the configuration to start with; what is wrong goes to standard error, and what a person should look at into the log. Limits that do not fit together and
/// certificates that cannot be used are problems and no reason not to start.
///
/// # Errors
/// [`cli::exit::CONFIG`] after every problem has been printed.
pub fn load(path: &Path) -> Result<Config, u8> {
    match gateway_config::load_installed(path, &Environment::of_process()) {
        Ok((config, warnings)) => {
            for warning in &warnings {
                log::warn!(event = "configuration"; "{warning}");
            }
            if let Some(warning) = board(&config) {
                log::warn!(event = "configuration"; "{warning}");
            }
            Ok(config)
        }
        Err(problems) => {
            say::complaint(problems);
            Err(cli::exit::CONFIG)
        }
    }
}

/// What is to be said of a `[board]` that nobody carries out here.
fn board(config: &Config) -> Option<&'static str> {
    let idle = config.board.is_some() && !crate::provision::board_is_read(Path::new("/"));
    idle.then_some("[board] has no effect on this system: only the image for Raspberry Pi makes the firmware's settings of it")
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
            print_all(&certificates::warnings(&config, clocks::trusted(config.gateway.trust_clock)));
            if let Some(warning) = board(&config) {
                say::complaint(format_args!("{}:1:1: warning: {warning}", args.config.display()));
            }
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
        if let Some(broker) = &config.broker {
            say::line(sessions_line(&broker.limits));
        }
    }
    if plans.iter().all(BusPlan::fits) { cli::exit::OK } else { cli::exit::CONFIG }
}

/// What the broker keeps for clients that stay away.
fn sessions_line(limits: &Limits) -> String {
    let end = match limits.session_expiry_max_s {
        u32::MAX => "does not end by itself unless its client said when".to_owned(),
        seconds => format!("ends after {} of running time", words::duration(u64::from(seconds) * 1000)),
    };
    format!(
        "broker: the session of a client that stays away {end}; at most {} sessions, {} of one user and {} of one address",
        words::count(limits.sessions_max as u64),
        words::count(limits.sessions_per_user_max as u64),
        words::count(limits.sessions_per_address_max as u64)
    )
}

/// `schema`: prints the JSON Schema of the configuration file.
#[must_use]
pub fn schema() -> u8 {
    say::line(format_args!("{:#}", gateway_config::schema()));
    cli::exit::OK
}

//! `provision`: the drop zone, the configuration and the network, at every boot.

use std::path::Path;
use std::time::{Duration, SystemTime};

use gateway_config::{Config, Environment, NamedFile, Problem, Problems};
use gateway_core::payload::iso8601;
use gateway_core::tag::WallMs;

use super::client::{NoAnswer, ask_all};
use super::control::{Ask, Reply};
use super::snapshot::Snapshot;
use super::troubles::{Severity, Trouble, troubles};
use super::{certificates, clocks, say};
use crate::cli::{self, exit};
use crate::provision::{
    Judge, Judged, Named, Now, Places, SystemBoot, SystemMounts, World, provision as run, tell,
};

/// Before this a clock has not been set: the year in which this program was written, 2026-01-01T00:00:00Z.
const CLOCK_MIN_MS: i64 = 1_767_225_600_000;

/// A gateway that does not answer within this is busy or stuck.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Carries the command out; the exit code.
#[must_use]
pub fn provision(args: &cli::Provision) -> u8 {
    let places = Places {
        drop: args.drop.clone(),
        config: args.config.clone(),
        run: args.run.clone(),
        root: args.root.clone(),
    };
    let world =
        World { judge: &Reader, mounts: &SystemMounts, boot: &SystemBoot, before: &|_| Ok(()), time: time() };
    if args.tell {
        let failed = tell(&places, &world, &now(&args.socket, &args.root));
        for sentence in &failed {
            say::complaint(sentence);
        }
        return if failed.is_empty() { exit::OK } else { exit::IO };
    }
    let outcome = run(&places, &world);
    for sentence in &outcome.told {
        say::complaint(sentence);
    }
    if outcome.restart {
        restart();
    }
    if outcome.usable { exit::OK } else { exit::CONFIG }
}

/// The boot goes on meanwhile.
fn restart() {
    let asked = std::process::Command::new("systemctl").args(["--no-block", "reboot"]).status();
    if !asked.is_ok_and(|status| status.success()) {
        say::complaint("the restart for [board] cannot be asked for; it takes effect at the next restart");
    }
}

/// How the running gateway is, with the ports of the system at `root`; one that does not answer is not well.
fn now(socket: &Path, root: &Path) -> Now {
    let ports = drivers::serial::existing_ports(root);
    let snapshot = match look(socket) {
        Ok(snapshot) => snapshot,
        Err(verdict) => return Now { id: None, verdict, wrong: Vec::new(), ports },
    };
    let found = troubles(&snapshot);
    let wrong =
        found.iter().filter(|trouble| trouble.severity == Severity::Wrong).map(Trouble::lasting).collect();
    let first = found.first();
    let verdict = match first {
        Some(first) if first.severity == Severity::Wrong => format!("not well: {}", first.lasting()),
        _ => "all is well".to_owned(),
    };
    Now { id: Some(snapshot.gateway), verdict, wrong, ports }
}

/// The picture of the running gateway, or the verdict without one.
fn look(socket: &Path) -> Result<Snapshot, String> {
    let none =
        || "not well: the gateway does not answer; its log says why: journalctl -u tidegate".to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|_| none())?;
    let answer = async { tokio::time::timeout(ANSWER_MAX, ask_all(socket, &[Ask::Status])).await };
    match runtime.block_on(answer) {
        Ok(Ok(mut replies)) => match replies.pop() {
            Some(Reply::Status(snapshot)) => Ok(*snapshot),
            _ => Err(none()),
        },
        Ok(Err(NoAnswer::Busy(sentence))) => Err(format!("not known: {sentence}")),
        _ => Err(none()),
    }
}

/// The time, when the clock can be believed.
fn time() -> Option<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let now = i64::try_from(now.as_millis()).ok().filter(|ms| *ms >= CLOCK_MIN_MS)?;
    iso8601(WallMs(now))
}

/// Reads configurations as `run` does.
#[derive(Debug, Clone, Copy)]
pub struct Reader;

impl Judge for Reader {
    fn named(&self, config: &[u8]) -> Vec<Named> {
        let files = gateway_config::named_files(config);
        let named = |file: NamedFile| {
            let NamedFile { path, secret, line, column } = file;
            Named { path, secret, line, column }
        };
        files.into_iter().map(named).collect()
    }

    fn judge(&self, folder: &Path) -> Result<Judged, Vec<String>> {
        judge(folder, gateway_config::load_installed)
    }

    fn judge_new(&self, folder: &Path) -> Result<Judged, Vec<String>> {
        judge(folder, gateway_config::load)
    }
}

type Load = fn(&Path, &Environment) -> Result<(Config, Vec<Problem>), Problems>;

fn judge(folder: &Path, load: Load) -> Result<Judged, Vec<String>> {
    // Problems name files by their whole paths, however the folder is called.
    let folder = &std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let path = folder.join("gateway.toml");
    // Credentials are the files in `keys`: `LoadCredential=keys:/etc/tidegate/keys`.
    let env = Environment { credentials_dir: Some(folder.join("keys")) };
    // A person knows the drive, and not where its files lie while they are read.
    let place = folder.display().to_string();
    let plain = |text: String| {
        let text = text.replace(&format!("{place}/keys/"), "").replace(&format!("{place}/"), "");
        text.replace(&place, "this folder")
    };
    match load(&path, &env) {
        Ok((config, mut warnings)) => {
            warnings.extend(certificates::warnings(&config, clocks::trusted(config.gateway.trust_clock)));
            Ok(judged(config, warnings.iter().map(|w| plain(w.to_string())).collect()))
        }
        Err(problems) => {
            let errors = problems.list.iter().filter(|problem| problem.severity.is_error());
            let mut texts: Vec<_> = errors.map(|problem| plain(problem.to_string())).collect();
            if problems.more > 0 {
                texts.push(format!("and {} more", problems.more));
            }
            Err(texts)
        }
    }
}

fn judged(config: Config, warnings: Vec<String>) -> Judged {
    Judged {
        id: config.gateway.id.to_string(),
        hash: config.hash,
        board: config.board,
        network: config.network,
        warnings,
    }
}

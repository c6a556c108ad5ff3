//! `provision`: the drop zone, the configuration and the network, at every boot.

use std::path::Path;
use std::time::SystemTime;

use gateway_config::{Config, Environment, Problem, Problems};
use gateway_core::payload::iso8601;
use gateway_core::tag::WallMs;

use super::{certificates, clocks, say};
use crate::cli::{self, exit};
use crate::provision::{Judge, Judged, Named, Places, SystemMounts, World, provision as run};

/// Before this a clock has not been set: the year in which this program was written, 2026-01-01T00:00:00Z.
const CLOCK_MIN_MS: i64 = 1_767_225_600_000;

/// Carries the command out; the exit code.
#[must_use]
pub fn provision(args: &cli::Provision) -> u8 {
    let places = Places {
        drop: args.drop.clone(),
        config: args.config.clone(),
        run: args.run.clone(),
        root: args.root.clone(),
    };
    let world = World { judge: &Reader, mounts: &SystemMounts, before: &|_| Ok(()), time: time() };
    let outcome = run(&places, &world);
    for sentence in &outcome.told {
        say::complaint(sentence);
    }
    if outcome.usable { exit::OK } else { exit::CONFIG }
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
        files.into_iter().map(|file| Named { path: file.path, secret: file.secret }).collect()
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
    Judged { id: config.gateway.id.to_string(), hash: config.hash, network: config.network, warnings }
}

//! `systemctl reload`: the changed file in place of the running configuration, without touching what stays the same.
//!
//! ```text
//! SIGHUP --> asked --> prepare (a task: reads the file, asks the store) --> apply (the core loop, in one round) --> ready
//!                          `--------------- refused: every problem is logged, nothing changes ------------------> ready
//! ```
//! Whatever can be refused is refused before anything changes. In between, the gateway works on. The service manager hears of the beginning and of the
//! end, a refusal included.
//!
//! Bounds: one reload at a time, and one more waits; [`RETIRED_MAX`] names of uplinks that are gone; [`PREPARE_MAX`] for the file and the store.

mod apply;
mod delta;
mod prepare;
mod told;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use drivers::clock;
use gateway_config::{Problem, Problems};
use gateway_core::tag::{BootNs, Name};
use gateway_core::uplink::row::Seq;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::prepare::Prepared;
use super::gateway::Gateway;

/// Uplinks that were taken out of the configuration in this run and whose numbers are remembered, so that one that comes back numbers on.
const RETIRED_MAX: usize = 256;
/// For reading the file and asking the store; a disk that takes longer must not leave the service manager without an answer (its limit is 90 s).
const PREPARE_MAX: Duration = Duration::from_secs(30);

/// Why a changed file is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It has errors.
    #[error("the file has errors")]
    File(Problems),
    /// It changes what only a restart can change.
    #[error("the file changes what needs a restart")]
    Restart(Vec<String>),
    /// The gateway cannot start with it, or has no room.
    #[error("{0}")]
    Start(#[from] super::start::StartError),
    /// The file or the store did not answer.
    #[error("not ready within {} s: is the disk at fault?", PREPARE_MAX.as_secs())]
    Late,
    /// Too many uplinks have come and gone.
    #[error(
        "{RETIRED_MAX} uplinks were taken out of the configuration in this run; restart with: systemctl restart tidegate"
    )]
    Retired,
    /// Too many poll groups have come and gone.
    #[error(
        "the reloads of this run have brought more poll groups than can be remembered; restart with: systemctl restart tidegate"
    )]
    Schemas,
    /// A fault of this program.
    #[error("reading it ended by a fault of the program: {0}")]
    Fault(tokio::task::JoinError),
}

impl Refusal {
    /// How many errors there are, in words.
    fn errors(&self) -> String {
        let errors = match self {
            Self::File(problems) => {
                let errors = problems.list.iter().filter(|problem| problem.severity.is_error());
                errors.count() + problems.more
            }
            Self::Restart(sentences) => sentences.len(),
            _ => 1,
        };
        if errors == 1 { "1 problem".to_owned() } else { format!("{errors} problems") }
    }

    /// What is worth knowing of the file and is not why it is refused.
    fn warnings(&self) -> Vec<Problem> {
        let Self::File(problems) = self else { return Vec::new() };
        problems.list.iter().filter(|problem| !problem.severity.is_error()).cloned().collect()
    }

    /// Everything that is wrong, for a person: why it is refused.
    fn sentences(&self) -> Vec<String> {
        match self {
            Self::File(problems) => {
                let more = (problems.more > 0).then(|| format!("and {} more", problems.more));
                let errors = problems.list.iter().filter(|problem| problem.severity.is_error());
                errors.map(ToString::to_string).chain(more).collect()
            }
            Self::Restart(sentences) => sentences.clone(),
            other => vec![other.to_string()],
        }
    }
}

/// A file that was refused, until another one is taken.
#[derive(Debug)]
pub(super) struct Refused {
    /// When.
    pub at: BootNs,
    /// What is wrong with it.
    pub sentences: Vec<String>,
}

/// Where the configuration comes from, and what became of changes.
#[derive(Debug)]
pub(super) struct Reload {
    file: Option<(PathBuf, mpsc::Receiver<()>)>,
    under_way: Option<JoinHandle<Result<Prepared, Refusal>>>,
    /// Number of the next uplink.
    next_uplink: u64,
    /// The next number of messages for uplinks that are gone.
    retired: BTreeMap<Name, Seq>,
    /// Files taken.
    pub applied_total: u64,
    /// Files refused.
    pub refused_total: u64,
    /// Whether the file on disk was refused.
    pub refused: Option<Refused>,
}

impl Reload {
    /// Nothing to reload from; the uplinks so far have the numbers below `uplinks`.
    pub(super) fn new(uplinks: u64) -> Self {
        Self {
            file: None,
            under_way: None,
            next_uplink: uplinks,
            retired: BTreeMap::new(),
            applied_total: 0,
            refused_total: 0,
            refused: None,
        }
    }
}

impl Gateway {
    /// Takes the file at `path` in place of the configuration whenever something comes by `asked`.
    #[must_use]
    pub fn with_file(mut self, path: PathBuf, asked: mpsc::Receiver<()>) -> Self {
        self.reload.file = Some((path, asked));
        self
    }

    /// A reload is asked for, or ready.
    pub(super) async fn heed(&mut self, news: News) {
        match news {
            News::Asked => self.begin_reload(),
            News::Read(outcome) => self.reloaded(*outcome).await,
        }
    }

    /// Begins to read the file.
    fn begin_reload(&mut self) {
        let Some((path, _)) = &self.reload.file else { return };
        self.notify.reloading();
        log::info!(event = "reload", path = path.display().to_string().as_str(); "reload: reading {}", path.display());
        let before = self.config.clone();
        let task = prepare::prepare(path.clone(), before, Arc::clone(&self.store));
        self.reload.under_way = Some(tokio::spawn(async move {
            tokio::time::timeout(PREPARE_MAX, task).await.unwrap_or(Err(Refusal::Late))
        }));
    }

    /// Takes what was prepared, or tells why not.
    async fn reloaded(&mut self, outcome: Result<Prepared, Refusal>) {
        let outcome = match outcome {
            Ok(prepared) => self.apply(prepared).await,
            Err(refusal) => Err(refusal),
        };
        let now = clock::now();
        let sentence = match outcome {
            Ok((warnings, changes)) => {
                self.reload.applied_total += 1;
                self.reload.refused = None;
                log_warnings(&warnings, self.number());
                let config = self.config.hash.as_str();
                log::info!(event = "reload", config; "reload: done, the file is in force as configuration {config}: {changes}");
                "the changed configuration is in force".to_owned()
            }
            Err(refusal) => {
                self.reload.refused_total += 1;
                let sentences = refusal.sentences();
                let reload = self.number();
                log_warnings(&refusal.warnings(), reload);
                for sentence in &sentences {
                    log::error!(event = "reload", reload, reason = "refused"; "{sentence}");
                }
                log::error!(event = "reload", reload, reason = "refused"; "reload: {refusal}; the configuration that was in force stays");
                let count = refusal.errors();
                self.reload.refused = Some(Refused { at: now, sentences });
                format!(
                    "the changed configuration is refused ({count}, see the journal); the former one stays in force"
                )
            }
        };
        self.notify.reloaded(sentence);
    }

    /// Tells the lines of one reload from those of another, so that none counts as a repetition.
    fn number(&self) -> u64 {
        self.reload.applied_total + self.reload.refused_total
    }
}

fn log_warnings(warnings: &[Problem], reload: u64) {
    for warning in warnings {
        log::warn!(event = "reload", reload; "{warning}");
    }
}

/// What happens to the configuration.
#[derive(Debug)]
pub(super) enum News {
    /// A reload is asked for.
    Asked,
    /// The file was read.
    Read(Box<Result<Prepared, Refusal>>),
}

/// Waits for news. Another reload may be asked for only while `free` and while none is under way.
pub(super) async fn news(reload: &mut Reload, free: bool) -> News {
    if let Some(task) = &mut reload.under_way {
        let outcome = task.await.unwrap_or_else(|fault| Err(Refusal::Fault(fault)));
        reload.under_way = None;
        return News::Read(Box::new(outcome));
    }
    if let (true, Some((_, asked))) = (free, &mut reload.file)
        && asked.recv().await.is_some()
    {
        return News::Asked;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use gateway_config::Severity;

    use super::*;

    #[test]
    fn a_refusal_names_what_is_wrong_and_not_the_warning_before_it() {
        let problem = |severity, line, text: &str| Problem {
            severity,
            file: "gateway.toml".into(),
            line,
            column: 1,
            text: text.to_owned(),
        };
        let list = vec![
            problem(Severity::Warning, 1, "harmless"),
            problem(Severity::Error, 2, "wrong"),
            problem(Severity::Warning, 3, "harmless, too"),
        ];
        let refusal = Refusal::File(Problems { list, more: 2, plan: None });
        assert_eq!(refusal.sentences(), ["gateway.toml:2:1: wrong", "and 2 more"]);
        assert_eq!(refusal.errors(), "3 problems");
        let lines: Vec<u32> = refusal.warnings().iter().map(|warning| warning.line).collect();
        assert_eq!(lines, [1, 3]);
    }
}

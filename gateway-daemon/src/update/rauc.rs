//! The program `rauc`: asked for the slots, told to install, to mark. Its texts are read in [`gateway_core::update`].

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use gateway_core::update::output::{COMPLAINTS_MAX, Exit, LINE_BYTES_MAX, Output, Step};
use gateway_core::update::slots::{Bundle, Slots};
use gateway_core::update::{Failure, Reason};
use tokio::io::BufReader;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::lines;

/// An answer to a question takes well under a second; a busy service on a slow card some.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// An installation that takes longer than this is given up: a whole system of a hundred megabytes over the slowest line, twice over.
pub(super) const INSTALL_MAX: Duration = Duration::from_secs(3 * 3600);

/// Why RAUC did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RaucError {
    /// It cannot be started.
    #[error("the program rauc cannot be started: {0}")]
    Start(io::Error),
    /// It takes too long.
    #[error("rauc {0} did not answer within {max} s", max = ANSWER_MAX.as_secs())]
    Late(&'static str),
    /// It failed.
    #[error("rauc {what} failed: {words}")]
    Failed {
        /// What was asked.
        what: &'static str,
        /// What it said.
        words: String,
    },
    /// Its answer is not understood.
    #[error("{0}")]
    Strange(String),
}

/// How RAUC is called.
#[derive(Debug, Clone)]
pub struct Rauc {
    program: OsString,
}

impl Default for Rauc {
    fn default() -> Self {
        Self { program: "rauc".into() }
    }
}

impl Rauc {
    /// Which slots there are.
    ///
    /// # Errors
    /// It does not say.
    pub async fn slots(&self) -> Result<Slots, RaucError> {
        const WHAT: &str = "status";
        let mut command = self.command();
        command.args(["status", "--detailed", "--output-format=json"]);
        let output = timeout(ANSWER_MAX, command.output()).await.map_err(|_| RaucError::Late(WHAT))?;
        let output = output.map_err(RaucError::Start)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(RaucError::Failed { what: WHAT, words });
        }
        Slots::parse(&String::from_utf8_lossy(&output.stdout)).map_err(RaucError::Strange)
    }

    /// The version of a bundle, if it has a right signature and says one. Of a URL only the signed part is fetched.
    pub(super) async fn version(&self, source: &OsStr) -> Option<String> {
        let mut command = self.command();
        command.args(["info", "--output-format=json"]).arg(source);
        let output = timeout(ANSWER_MAX, command.output()).await.ok()?.ok()?;
        if !output.status.success() {
            return None;
        }
        let info = serde_json::from_slice::<Bundle>(&output.stdout).ok()?;
        info.version.filter(|version| !version.is_empty())
    }

    /// The system that runs is the one that starts next, whatever was installed.
    ///
    /// # Errors
    /// RAUC cannot do that.
    pub(super) async fn take_back(&self) -> Result<(), RaucError> {
        const WHAT: &str = "status mark-active";
        let mut command = self.command();
        command.args(["status", "mark-active", "booted"]);
        let output = timeout(ANSWER_MAX, command.output()).await.map_err(|_| RaucError::Late(WHAT))?;
        let output = output.map_err(RaucError::Start)?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(RaucError::Failed { what: WHAT, words })
    }

    /// Installs; steps go to `steps` as long as there is room.
    ///
    /// # Errors
    /// Why nothing is installed.
    pub(super) async fn install(&self, source: &OsStr, steps: &mpsc::Sender<Step>) -> Result<(), Failure> {
        let mut command = self.command();
        command.arg("install").arg(source).stdout(Stdio::piped()).stderr(Stdio::piped());
        let unstarted =
            |fault: io::Error| Failure::with(Reason::NoAgent, &RaucError::Start(fault).to_string());
        let mut child = command.spawn().map_err(unstarted)?;
        let (out, errors) =
            (child.stdout.take().map(BufReader::new), child.stderr.take().map(BufReader::new));
        let mut output = Output::default();
        let said = async {
            let Some(mut out) = out else { return };
            while let Some(line) = lines::next(&mut out, LINE_BYTES_MAX).await {
                if let Some(step) = output.said(&String::from_utf8_lossy(&line)) {
                    // Progress that nobody has taken is no loss: the next one says more.
                    let _ = steps.try_send(step);
                }
            }
        };
        let complained = async {
            let mut complaints = VecDeque::new();
            let Some(mut errors) = errors else { return complaints };
            while let Some(line) = lines::next(&mut errors, LINE_BYTES_MAX).await {
                complaints.push_back(line);
                if complaints.len() > COMPLAINTS_MAX {
                    complaints.pop_front();
                }
            }
            complaints
        };
        let watch = async {
            let ((), complaints) = tokio::join!(said, complained);
            (child.wait().await, complaints)
        };
        match timeout(INSTALL_MAX, watch).await {
            Ok((Ok(status), complaints)) => {
                complaints.iter().for_each(|line| output.complained(&String::from_utf8_lossy(line)));
                output.end(exit(status))
            }
            Ok((Err(fault), _)) => Err(Failure::with(Reason::Interrupted, &fault.to_string())),
            Err(_) => {
                let hours = INSTALL_MAX.as_secs() / 3600;
                Err(Failure::with(Reason::Interrupted, &format!("not done within {hours} hours")))
            }
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // Its messages are read by their words.
        command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
        command
    }
}

fn exit(status: ExitStatus) -> Exit {
    status.code().map_or(Exit::Signal, Exit::Code)
}

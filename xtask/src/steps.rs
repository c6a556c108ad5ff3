//! Steps with a name, a time and a closing summary.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cross::OLD_EMULATOR;
use crate::image::CONFIGURATIONS;

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// Did not run, for a reason that is said.
    Skipped(String),
    Failed(String),
}

/// Runs steps one after the other and remembers how they went.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, Outcome)>,
}

impl Steps {
    /// Runs a step; a failure is remembered and the next steps still run, so that one run shows everything.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        println!("==> {name}");
        let start = Instant::now();
        let outcome = match step() {
            Ok(()) => Outcome::Passed,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        let took = start.elapsed();
        match &outcome {
            Outcome::Failed(why) => println!("==> {name}: FAILED after {}: {why}\n", seconds(took)),
            _ => println!("==> {name}: ok, {}\n", seconds(took)),
        }
        self.done.push((name.to_owned(), took, outcome));
    }

    /// Remembers a step that cannot run here. In CI that is a failure, except of [`NOT_IN_CI`].
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        let outcome = skipped(name, why, in_ci());
        println!("==> {name}: {outcome}\n");
        self.done.push((name.to_owned(), Duration::ZERO, outcome));
    }

    /// Prints the summary; its last line is `N passed, N failed, N skipped`.
    ///
    /// # Errors
    /// At least one step failed, or none ran.
    pub(crate) fn finish(self) -> Result<()> {
        print!("{}", self.summary());
        let ran = self.count(|outcome| *outcome == Outcome::Passed);
        let failed = self.count(|outcome| matches!(outcome, Outcome::Failed(_)));
        if failed > 0 || ran == 0 { Err(Failed.into()) } else { Ok(()) }
    }

    fn count(&self, like: impl Fn(&Outcome) -> bool) -> usize {
        self.done.iter().filter(|(_, _, outcome)| like(outcome)).count()
    }

    fn summary(&self) -> String {
        let width = self.done.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let mut text = String::from("Summary\n");
        let mut total = Duration::ZERO;
        for (name, took, outcome) in &self.done {
            let word = match outcome {
                Outcome::Passed => "ok",
                Outcome::Skipped(_) => "skipped",
                Outcome::Failed(_) => "FAILED",
            };
            text.push_str(&format!("  {name:width$}  {:>8}  {word}\n", seconds(*took)));
            total += *took;
        }
        text.push_str(&format!("  {:width$}  {:>8}\n", "all", seconds(total)));
        for (name, _, outcome) in self.done.iter().filter(|(_, _, outcome)| *outcome != Outcome::Passed) {
            text.push_str(&format!("{name}: {outcome}\n"));
        }
        text.push_str(&format!(
            "{} passed, {} failed, {} skipped\n",
            self.count(|outcome| *outcome == Outcome::Passed),
            self.count(|outcome| matches!(outcome, Outcome::Failed(_))),
            self.count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        ));
        text
    }
}

/// Steps that cannot run on CI's machines: Buildroot is no package and cannot be fetched there, and Debian 12 has an older emulator.
const NOT_IN_CI: [&str; 2] = [CONFIGURATIONS, OLD_EMULATOR];

fn skipped(name: &str, why: &str, in_ci: bool) -> Outcome {
    let why = one_line(why);
    if in_ci && !NOT_IN_CI.contains(&name) {
        Outcome::Failed(format!("it did not run, which is a failure in CI: {why}"))
    } else {
        Outcome::Skipped(why)
    }
}

/// What to type stands in lines of its own where it is said first; in a summary a reason is one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether this is a machine of CI: `CI=true`.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("ok"),
            Self::Skipped(why) => write!(f, "skipped: {why}"),
            Self::Failed(why) => write!(f, "FAILED: {}", one_line(why)),
        }
    }
}

/// Steps failed, and the summary has said which.
#[derive(Debug)]
pub(crate) struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step failed")
    }
}

impl std::error::Error for Failed {}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// A command that runs in the root of the workspace.
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// The cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), args)
}

/// The profile of what is shipped.
pub(crate) const FIRMWARE: &str = "firmware";
/// The variable that names the program which tests and benchmarks start.
pub(crate) const PROGRAM: &str = "TIDEGATE_PROGRAM";

/// Builds the program for this machine as it is shipped, which takes some minutes, and gives its path.
///
/// # Errors
/// It does not build.
pub(crate) fn firmware() -> Result<PathBuf> {
    run(cargo(&["build", "--quiet", "--locked", "--profile", FIRMWARE, "--package", "gateway-daemon"]))?;
    Ok(root().join("target").join(FIRMWARE).join("gateway-daemon"))
}

/// The commit of the sources; `None` outside of git.
pub(crate) fn commit() -> Option<String> {
    let output = command("git", &["rev-parse", "HEAD"]).stderr(Stdio::null()).output().ok()?;
    let hash = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !hash.is_empty()).then_some(hash)
}

/// Runs a command to its end, output as it comes.
///
/// # Errors
/// It cannot be started, or it fails.
pub(crate) fn run(mut command: Command) -> Result<()> {
    let shown = shown(&command);
    println!("    $ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if status.success() { Ok(()) } else { bail!("`{shown}` ended with {status}") }
}

/// Whether a command can be started and succeeds, without its output.
pub(crate) fn succeeds(mut command: Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The line that a person would type.
fn shown(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value?.to_str()?)))
        .collect();
    let program = Path::new(command.get_program());
    words.push(program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned());
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::bail;

    use super::{Failed, NOT_IN_CI, Outcome, Steps, command, run, skipped};

    #[test]
    fn one_failed_step_fails_the_whole_and_the_others_still_run() {
        let mut steps = Steps::default();
        let mut ran = false;
        steps.run("first", || bail!("broken"));
        steps.run("second", || {
            ran = true;
            Ok(())
        });
        steps.done.push(("third".into(), Duration::ZERO, skipped("third", "no tool", false)));
        assert!(ran);
        let summary = steps.summary();
        let lines: Vec<&str> = summary.lines().rev().take(3).collect();
        assert_eq!(
            lines,
            ["1 passed, 1 failed, 1 skipped", "third: skipped: no tool", "first: FAILED: broken"]
        );
        assert!(steps.finish().unwrap_err().is::<Failed>());
    }

    #[test]
    fn in_ci_a_step_that_did_not_run_is_a_failure_unless_it_is_on_the_list() {
        let failed = skipped("the program for aarch64", "apt is\n  locked", true);
        assert_eq!(failed.to_string(), "FAILED: it did not run, which is a failure in CI: apt is locked");
        assert_eq!(skipped("the program for aarch64", "no tool", false), Outcome::Skipped("no tool".into()));
        for name in NOT_IN_CI {
            assert!(matches!(skipped(name, "why", true), Outcome::Skipped(_)), "{name}");
        }
    }

    #[test]
    fn nothing_run_is_not_a_success() {
        assert!(Steps::default().finish().is_err());
        let mut steps = Steps::default();
        steps.done.push(("only".into(), Duration::ZERO, Outcome::Skipped("no tool".into())));
        assert!(steps.finish().is_err());
    }

    #[test]
    fn a_command_that_fails_or_is_missing_is_an_error() {
        assert!(run(command("true", &[])).is_ok());
        assert!(run(command("false", &[])).unwrap_err().to_string().contains("false"));
        assert!(run(command("no-such-program-here", &[])).is_err());
    }
}

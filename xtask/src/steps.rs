//! Steps with a name, a time and a closing summary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

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

    /// Remembers a step that cannot run here.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        println!("==> {name}: skipped: {why}\n");
        self.done.push((name.to_owned(), Duration::ZERO, Outcome::Skipped(why.to_owned())));
    }

    /// Prints the summary.
    ///
    /// # Errors
    /// At least one step failed, or none ran.
    pub(crate) fn finish(self) -> Result<()> {
        print!("{}", self.summary());
        let failed = self.done.iter().filter(|(_, _, outcome)| matches!(outcome, Outcome::Failed(_))).count();
        match failed {
            0 if self.done.is_empty() => bail!("nothing ran"),
            0 => Ok(()),
            1 => bail!("one step failed"),
            n => bail!("{n} steps failed"),
        }
    }

    fn summary(&self) -> String {
        let width = self.done.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let mut text = String::from("Summary\n");
        let mut total = Duration::ZERO;
        for (name, took, outcome) in &self.done {
            let (word, why) = match outcome {
                Outcome::Passed => ("ok", ""),
                Outcome::Skipped(why) => ("skipped", why.as_str()),
                Outcome::Failed(why) => ("FAILED", why.as_str()),
            };
            let line = format!("  {name:width$}  {:>8}  {word:7} {why}", seconds(*took));
            text.push_str(line.trim_end());
            text.push('\n');
            total += *took;
        }
        text.push_str(&format!("  {:width$}  {:>8}\n", "all", seconds(total)));
        text
    }
}

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
    use super::{Steps, command, run};
    use anyhow::bail;

    #[test]
    fn one_failed_step_fails_the_whole_and_the_others_still_run() {
        let mut steps = Steps::default();
        let mut ran = false;
        steps.run("first", || bail!("broken"));
        steps.run("second", || {
            ran = true;
            Ok(())
        });
        steps.skip("third", "no tool");
        assert!(ran);
        let summary = steps.summary();
        for expected in ["first", "FAILED  broken", "ok", "skipped no tool"] {
            assert!(summary.contains(expected), "{expected:?} is not in {summary}");
        }
        assert_eq!(steps.finish().unwrap_err().to_string(), "one step failed");
    }

    #[test]
    fn nothing_run_is_not_a_success() {
        assert!(Steps::default().finish().is_err());
    }

    #[test]
    fn a_command_that_fails_or_is_missing_is_an_error() {
        assert!(run(command("true", &[])).is_ok());
        assert!(run(command("false", &[])).unwrap_err().to_string().contains("false"));
        assert!(run(command("no-such-program-here", &[])).is_err());
    }
}

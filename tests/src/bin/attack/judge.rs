//! Runs one attack and says what it did: before it, during it, and after a restart.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::bystander::{Bystander, Seen};
use super::client::HOME;
use super::stage::{Needs, PASSWORD, POLLS, Setup, Stage};
use super::watch::Sampler;

/// `RssAnon` must stay below.
pub(crate) const MEMORY_MAX_MIB: u64 = 128;
/// Polls that may be skipped, of those that are due: one in a hundred, and two for the ends of the stretch.
const SKIPPED_MAX: f64 = 0.01;
const SKIPPED_ENDS: f64 = 2.0;
/// Longest stall of the bystander, where times are judged.
const STALL_MAX: Duration = Duration::from_secs(1);
/// Memory at rest after a restart, above that of a first start: one interval of allocator noise.
const RESTART_MORE_MIB: u64 = 8;
/// The longest turn of the core loop in processor time of its thread; 0fab01f has none.
const TURN: &str = "gateway_turn_cpu_seconds_max";
/// Longest turn of the core loop, ms, where times are judged.
const TURN_MAX_MS: f64 = 50.0;
/// How long the gateway is watched without an attack; a moment in the short form, which does not judge rates.
const CALM: Duration = Duration::from_secs(2);
const CALM_SHORT: Duration = Duration::from_millis(300);

/// One attack of the list.
pub(crate) struct Attack {
    /// The number of its promise in docs/attacks.md, and a letter.
    pub key: &'static str,
    pub name: &'static str,
    /// It is part of the short form.
    pub short: bool,
    pub needs: Needs,
    /// Longest time, s.
    pub seconds: u64,
    /// Restarts after it.
    pub restarts: usize,
    pub run: fn(&mut Stage) -> Result<()>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub first: Start,
    pub peak_mib: u64,
    pub end: Option<String>,
    pub stall: Duration,
    pub p99: Duration,
    pub calm_p99: Duration,
    pub cuts: u64,
    /// The attack killed the gateway itself.
    pub killed: bool,
    pub polls_kept: f64,
    pub polls_due: f64,
    pub polls_missing: f64,
    pub drain_kept: f64,
    pub turn_ms: Option<f64>,
    pub after_mib: u64,
    pub restarts: Vec<Start>,
    pub failures: Vec<String>,
    pub notes: Vec<String>,
}

/// A start of the gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    /// To the first poll.
    pub took: Duration,
    pub rest_mib: u64,
    pub peak_mib: u64,
    /// It did not come up, or ended again.
    pub failed: Option<String>,
}

/// Polls and readings of a stretch of time.
struct Rates {
    polls: f64,
    readings: f64,
}

struct Mark {
    at: Instant,
    polls: u32,
    readings: u64,
}

impl Mark {
    fn set(stage: &Stage) -> Self {
        Self { at: Instant::now(), polls: stage.device.answered(), readings: stage.cloud.readings() }
    }

    #[allow(clippy::cast_precision_loss)]
    fn rates(&self, stage: &Stage) -> Rates {
        let seconds = self.at.elapsed().as_secs_f64();
        Rates {
            polls: f64::from(stage.device.answered() - self.polls) / seconds,
            readings: (stage.cloud.readings() - self.readings) as f64 / seconds,
        }
    }
}

/// Runs it.
///
/// # Errors
/// The stage cannot be built, or the gateway does not start before the attack.
pub(crate) fn run(attack: &Attack, setup: &Setup) -> Result<Outcome> {
    let pause = if setup.short { CALM_SHORT } else { CALM };
    let mut stage = Stage::new(setup, attack.needs)?;
    let took = stage.start()?;
    let user = attack.needs.users.then_some(("bob", PASSWORD));
    let bystander = Bystander::start(HOME, stage.port, user);
    stage.rest(pause);
    let mark = Mark::set(&stage);
    bystander.take();
    stage.rest(pause);
    let calm = mark.rates(&stage);
    let mut outcome = Outcome { calm_p99: bystander.take().p99(), ..Outcome::default() };
    outcome.first = Start { took, ..at_rest(&stage) };

    let mark = Mark::set(&stage);
    stage.until = Instant::now() + Duration::from_secs(attack.seconds);
    if let Err(error) = (attack.run)(&mut stage)
        && !stage.is_gone()
    {
        stage.failures.push(format!("the attack broke off: {error:#}"));
    }
    let (rates, lasted) = (mark.rates(&stage), mark.at.elapsed());
    outcome.killed = stage.killed;
    outcome.see(&bystander.take(), calm, &rates, lasted);
    outcome.turn_ms = stage.metric(TURN).map(|seconds| seconds * 1000.0);
    // What attackers held is given back once they are gone.
    stage.rest(if setup.short { pause } else { Duration::from_secs(3) });
    if let Some(sampler) = &stage.sampler {
        (outcome.peak_mib, outcome.after_mib) = (sampler.peak_mib(), sampler.last_mib());
        outcome.end = match () {
            () if sampler.killed() => Some("killed at the limit".into()),
            () if sampler.ended() => Some("ended".into()),
            () => None,
        };
    }
    drop(bystander);
    let restarts = if setup.short { attack.restarts.min(1) } else { attack.restarts };
    for _ in 0..restarts {
        stage.kill();
        outcome.restarts.push(restart(&mut stage, 2 * pause));
    }
    outcome.failures.append(&mut stage.failures);
    outcome.notes.append(&mut stage.notes);
    Ok(outcome)
}

fn at_rest(stage: &Stage) -> Start {
    let memory = |get: fn(&Sampler) -> u64| stage.sampler.as_ref().map_or(0, get);
    Start { rest_mib: memory(Sampler::last_mib), peak_mib: memory(Sampler::peak_mib), ..Start::default() }
}

fn restart(stage: &mut Stage, pause: Duration) -> Start {
    match stage.start() {
        Err(error) => Start { failed: Some(format!("{error:#}")), ..at_rest(stage) },
        Ok(took) => {
            stage.rest(pause);
            let failed = stage.is_gone().then(|| "ended again".to_owned());
            Start { took, failed, ..at_rest(stage) }
        }
    }
}

impl Outcome {
    fn see(&mut self, seen: &Seen, calm: Rates, rates: &Rates, lasted: Duration) {
        (self.stall, self.p99, self.cuts) = (seen.longest(), seen.p99(), seen.cuts);
        self.polls_kept = rates.polls / calm.polls.min(POLLS);
        self.drain_kept = rates.readings / calm.readings.min(POLLS);
        self.polls_due = calm.polls.min(POLLS) * lasted.as_secs_f64();
        self.polls_missing = (self.polls_due - rates.polls * lasted.as_secs_f64()).max(0.0);
    }

    /// What missed its goal. Rates are judged in the full form only: a machine of CI does other things meanwhile.
    pub(crate) fn missed(&self, short: bool, times: bool) -> Vec<String> {
        let mut missed = self.failures.clone();
        missed.extend(self.end.iter().map(|end| format!("the gateway {end}")));
        if self.peak_mib >= MEMORY_MAX_MIB {
            missed.push(format!("{} MiB of RssAnon", self.peak_mib));
        }
        if !(short || self.killed) && self.polls_missing > SKIPPED_ENDS + SKIPPED_MAX * self.polls_due {
            missed.push(format!("{:.0} of {:.0} polls skipped", self.polls_missing, self.polls_due));
        }
        for (number, start) in self.restarts.iter().enumerate() {
            match &start.failed {
                Some(why) => missed.push(format!("restart {}: {why}", number + 1)),
                None if start.peak_mib >= MEMORY_MAX_MIB => {
                    missed.push(format!("restart {}: {} MiB", number + 1, start.peak_mib));
                }
                None => {}
            }
        }
        if times && self.stall > STALL_MAX {
            missed.push(format!("a stall of {:.1} s", self.stall.as_secs_f64()));
        }
        if times && self.turn_ms.is_some_and(|turn| turn > TURN_MAX_MS) {
            missed.push(format!("a turn of {:.0} ms", self.turn_ms.unwrap_or_default()));
        }
        missed
    }

    /// Memory at rest after the last restart, beside that of the first start, as a remark: what is kept by right takes memory, too.
    pub(crate) fn restart_words(&self) -> String {
        match self.restarts.last() {
            None => "-".into(),
            Some(start) if start.failed.is_some() => "failed".into(),
            Some(start) => {
                let more = start.rest_mib > self.first.rest_mib + RESTART_MORE_MIB;
                format!(
                    "{}{} MiB {:.1} s",
                    start.rest_mib,
                    if more { "!" } else { "" },
                    start.took.as_secs_f64()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Start};

    fn missed(change: impl FnOnce(&mut Outcome), short: bool, times: bool) -> usize {
        let mut outcome = Outcome { polls_due: 1000.0, ..Outcome::default() };
        change(&mut outcome);
        outcome.missed(short, times).len()
    }

    #[test]
    fn memory_ends_and_restarts_are_judged_always() {
        assert_eq!(missed(|_| (), false, true), 0);
        assert_eq!(missed(|outcome| outcome.peak_mib = 128, true, false), 1);
        assert_eq!(missed(|outcome| outcome.end = Some("ended".into()), true, false), 1);
        let lost = Start { failed: Some("out of memory".into()), ..Start::default() };
        let large = Start { peak_mib: 200, ..Start::default() };
        assert_eq!(missed(|outcome| outcome.restarts = vec![lost, large, Start::default()], true, false), 2);
    }

    #[test]
    fn polls_are_judged_in_the_full_form_and_times_when_asked_for() {
        assert_eq!(missed(|outcome| outcome.polls_missing = 12.0, false, false), 0);
        assert_eq!(missed(|outcome| outcome.polls_missing = 13.0, false, false), 1);
        assert_eq!(missed(|outcome| outcome.polls_missing = 13.0, true, false), 0);
        assert_eq!(missed(|outcome| (outcome.polls_missing, outcome.killed) = (13.0, true), false, false), 0);
        assert_eq!(missed(|outcome| outcome.turn_ms = Some(51.0), false, false), 0);
        assert_eq!(missed(|outcome| outcome.turn_ms = Some(51.0), false, true), 1);
    }
}

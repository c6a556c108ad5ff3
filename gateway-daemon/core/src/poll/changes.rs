//! What the log says of the devices of a bus: each change once, and of one that changes all the time a summary per hour.
//!
//! Three things of a device are followed: whether it answers, which of its requests fail, and which of its tags have no good value although it answers.
//! Of each the first [`BURST_MAX`] changes are told at once. Those beyond are counted, and the count is told at the end of the hour together with how it is
//! by then; a state that has held for [`HOLDS`] is told before. While an hour had changes that were counted, all changes of the next are counted.
//! `told at once or held + counted = changes`.
//!
//! So each of the three makes at most [`LINES_PER_HOUR_MAX`] lines in an hour, and one line an hour while it goes on quickly. Bounded by the devices of the
//! configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::poll::schedule::{DeviceHealth, DeviceState};
use crate::poll::settings::Settings;
use crate::poll::words;
use crate::tag::{BootNs, Reason, Sample, TagId};

/// Changes that are told at once: enough to see a pattern.
pub const BURST_MAX: u32 = 4;

/// A state that has held for so long is told, however often it changed before.
pub const HOLDS: Duration = Duration::from_secs(600);

/// After so long what was not told is summed up.
pub const HOUR: Duration = Duration::from_secs(3600);

/// Most lines of one thing of a device within an hour: [`BURST_MAX`], one each [`HOLDS`], and the summary.
pub const LINES_PER_HOUR_MAX: u32 = BURST_MAX + 6 + 1;

/// What of a device is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Whether it answers.
    Answers,
    /// Which of its requests fail.
    Requests,
    /// Which of its tags have no good value although it answers.
    Values,
}

/// One line about a device. The caller adds which device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it is about.
    pub about: About,
    /// Something got worse, or is bad at the end of an hour.
    pub is_bad: bool,
    /// A sentence whose subject is the device.
    pub text: String,
    /// The reason as tags carry it, if it does not answer.
    pub reason: Option<String>,
    /// How long it did not answer, if it answers again, s.
    pub down_s: Option<u64>,
    /// Changes that were counted and not told; 0 if this is a change itself.
    pub left_out: u64,
}

impl Line {
    fn new(about: About, is_bad: bool, text: String, left_out: u64) -> Self {
        Self { about, is_bad, text, reason: None, down_s: None, left_out }
    }
}

/// What is told of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Change,
    Summary(u64),
}

/// One thing that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Topic<S> {
    told: Option<S>,
    present: Option<S>,
    since: BootNs,
    /// When the hour began; `None` while nothing changes.
    hour: Option<BootNs>,
    lines: u32,
    left_out: u64,
    /// The hour before had changes that were counted.
    crowded: bool,
}

impl<S: Clone + PartialEq> Topic<S> {
    fn new(state: Option<S>) -> Self {
        let (told, present) = (state.clone(), state);
        Self { told, present, since: BootNs(0), hour: None, lines: 0, left_out: 0, crowded: false }
    }

    /// Takes a look. No state is no change; `unseen` changes happened between two looks.
    fn observe(&mut self, now: BootNs, state: Option<S>, unseen: u64) -> Option<Told> {
        let changed = state.is_some() && self.present != state;
        if changed {
            (self.present, self.since) = (state, now);
        }
        self.left_out = self.left_out.saturating_add(unseen).saturating_add(u64::from(changed));
        if self.hour.is_some_and(|began| now >= began.plus(HOUR)) {
            self.lines = 0;
            self.crowded = self.left_out > 0;
            self.hour = self.crowded.then_some(now);
            if self.crowded {
                self.told = self.present.clone();
                return Some(Told::Summary(std::mem::take(&mut self.left_out)));
            }
        }
        if self.left_out > 0 {
            self.hour.get_or_insert(now);
        }
        let at_once = changed && !self.crowded && self.lines < BURST_MAX;
        let held = now.since(self.since) >= HOLDS;
        if self.told == self.present || !(at_once || held) {
            return None;
        }
        self.lines += 1;
        self.left_out = self.left_out.saturating_sub(1);
        self.told = self.present.clone();
        Some(Told::Change)
    }
}

/// One device, as far as was said.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Followed {
    answers: Topic<bool>,
    failing: Topic<Vec<String>>,
    bad_values: Topic<Option<String>>,
    /// When it was given up the last time, and how often it was.
    dead_since: BootNs,
    deaths: u64,
}

/// Tags that were answered and have no good value. What brings no answer says nothing of a value: such a tag stays as it was. Bounded by the tags of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadValues(BTreeMap<TagId, Reason>);

impl BadValues {
    /// Takes the latest sample of a tag, and says what is known of its value.
    pub fn look(&mut self, tag: TagId, latest: Option<&Sample>) -> Option<(TagId, Reason)> {
        match latest {
            Some(Sample::Bad(reason @ (Reason::NotANumber | Reason::OutOfRange))) => {
                self.0.insert(tag, *reason);
            }
            Some(Sample::Good(_) | Sample::Bad(Reason::Exception(_))) => {
                self.0.remove(&tag);
            }
            Some(Sample::Bad(_)) | None => {}
        }
        self.0.get(&tag).map(|reason| (tag, *reason))
    }
}

/// The devices of a bus, as far as was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    devices: Vec<Followed>,
}

impl Changes {
    /// Nothing is known about any device.
    #[must_use]
    pub fn new(field: &Settings) -> Self {
        let followed = Followed {
            answers: Topic::new(None),
            failing: Topic::new(Some(Vec::new())),
            bad_values: Topic::new(Some(None)),
            dead_since: BootNs(0),
            deaths: 0,
        };
        Self { devices: vec![followed; field.devices.len()] }
    }

    /// Takes a look at a device: what is to be told. `bad_values` is of [`words::bad_values`].
    pub fn observe(
        &mut self,
        now: BootNs,
        field: &Settings,
        health: &DeviceHealth<'_>,
        bad_values: Option<String>,
    ) -> Vec<Line> {
        let Some(followed) = self.devices.get_mut(health.device) else { return Vec::new() };
        let is_alive = health.state == DeviceState::Alive;
        let answers = followed.answers(now, field, health);
        let failing = (!matches!(health.state, DeviceState::Dead { .. } | DeviceState::Unknown))
            .then(|| words::failing(field, health.device, &health.requests));
        let failing = followed.failing.observe(now, failing, 0).map(|told| {
            let sentences = followed.failing.present.clone().unwrap_or_default();
            let (left_out, subject) = summary(told, About::Requests);
            let text = match sentences.is_empty() {
                true => "answers all of its requests again".to_owned(),
                false => sentences.join("; "),
            };
            Line::new(About::Requests, !sentences.is_empty(), subject + &text, left_out)
        });
        let bad_values = followed.bad_values.observe(now, is_alive.then_some(bad_values), 0).map(|told| {
            let sentence = followed.bad_values.present.clone().flatten();
            let (left_out, subject) = summary(told, About::Values);
            let is_bad = sentence.is_some();
            let text = sentence.unwrap_or_else(|| "all of its tags are good again".to_owned());
            Line::new(About::Values, is_bad, subject + &text, left_out)
        });
        answers.into_iter().chain(failing).chain(bad_values).collect()
    }
}

impl Followed {
    fn answers(&mut self, now: BootNs, field: &Settings, health: &DeviceHealth<'_>) -> Option<Line> {
        let was_known = self.answers.told.is_some();
        let state = match health.state {
            DeviceState::Unknown | DeviceState::Failing { .. } => None,
            DeviceState::Alive => Some(true),
            DeviceState::Dead { .. } => Some(false),
        };
        let dead = state == Some(false);
        let deaths = health
            .counters
            .deaths
            .saturating_sub(std::mem::replace(&mut self.deaths, health.counters.deaths));
        // A death that was seen is the change to it; one that was not took its recovery with it.
        let seen = dead && self.answers.present != state;
        let unseen = deaths.saturating_sub(u64::from(seen)).saturating_mul(2);
        if dead {
            self.dead_since = health.since;
        }
        let told = self.answers.observe(now, state, unseen)?;
        let (left_out, subject) = summary(told, About::Answers);
        if self.answers.present == Some(true) {
            let after = was_known.then(|| health.since.since(self.dead_since).as_secs());
            let (text, down_s) = match (told, after) {
                (Told::Change, Some(s)) => (format!("answers again after {s} s"), Some(s)),
                _ => ("answers".to_owned(), None),
            };
            return Some(Line { down_s, ..Line::new(About::Answers, false, subject + &text, left_out) });
        }
        let device = field.devices.get(health.device)?;
        let text = words::given_up(device, health.last_failure);
        let text = match told {
            Told::Change => {
                format!("{text}; its tags are bad and it is only probed until it answers again")
            }
            Told::Summary(_) => subject + &text,
        };
        let reason =
            health.last_failure.map_or_else(|| "silent".to_owned(), |cause| cause.reason().to_string());
        Some(Line { reason: Some(reason), ..Line::new(About::Answers, true, text, left_out) })
    }
}

/// How many changes were left out, and how a line that says so begins.
fn summary(told: Told, about: About) -> (u64, String) {
    let what = match about {
        About::Answers => "whether it answers",
        About::Requests => "which of its requests fail",
        About::Values => "which of its tags are bad",
    };
    match told {
        Told::Change => (0, String::new()),
        Told::Summary(left_out) => {
            let times = if left_out == 1 { "once more".to_owned() } else { format!("{left_out} more times") };
            (left_out, format!("{what} changed {times} within the last hour; at present: "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tag::Value;

    #[test]
    fn a_value_that_was_bad_is_good_again_when_a_good_one_was_read_and_not_when_nothing_was() {
        let (mut values, tag) = (BadValues::default(), TagId(3));
        let good = Sample::Good(Value::UInt(1));
        assert_eq!(values.look(tag, None), None);
        assert_eq!(values.look(tag, Some(&Sample::Bad(Reason::Timeout))), None);
        for reason in [Reason::OutOfRange, Reason::NotANumber] {
            let bad = Some((tag, reason));
            assert_eq!(values.look(tag, Some(&Sample::Bad(reason))), bad);
            let lost =
                [Reason::Timeout, Reason::BadAnswer, Reason::DeviceDown, Reason::BusDown, Reason::Stale];
            for lost in lost {
                assert_eq!(values.look(tag, Some(&Sample::Bad(lost))), bad, "{lost}");
            }
            assert_eq!(values.look(TagId(4), Some(&good)), None);
            assert_eq!(values.look(tag, Some(&good)), None);
            assert_eq!(values.look(tag, Some(&Sample::Bad(Reason::BusDown))), None);
        }
    }
}

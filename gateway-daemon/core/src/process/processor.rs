//! The machine of all tags of one configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use super::filter::changed;
use super::limits::{self, Checked};
use super::scale::Scaler;
use super::settings::Filter;
use crate::poll::settings as poll;
use crate::tag::{BootNs, Cycle, GroupId, Reading, Reason, Sample, TagId};

/// Readings of one poll group that have to be published, in the group's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Which poll group.
    pub group: GroupId,
    /// What is published; may be empty.
    pub readings: Vec<Reading>,
}

/// What the processor has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Readings that came in.
    pub in_total: u64,
    /// Of those, readings that were reported.
    pub reported_total: u64,
    /// Of those, readings that changed too little to be reported.
    pub suppressed_total: u64,
    /// Of those, readings of tags that are not in the configuration; a fault of the caller.
    pub foreign_total: u64,
    /// Values set to the limit of their range.
    pub clamped_total: u64,
    /// Values marked bad because they were outside their range.
    pub out_of_range_total: u64,
    /// Tags marked [`Reason::Stale`] or [`Reason::NotPolled`] because their polls stopped or never came.
    pub stale_total: u64,
    /// Reports repeated by `silence_max` without a fresh reading, because polls stopped.
    pub repeated_total: u64,
}

/// What is fixed for a tag.
#[derive(Debug)]
struct Rule {
    group: GroupId,
    scaler: Scaler,
    range: Option<poll::Range>,
    filter: Filter,
    every: Duration,
    /// How long after the last reading it is stale; `None` never.
    stale: Option<Duration>,
    /// How long after the last report the reading of a poll is reported anyway: the poll nearest to `silence_max`.
    silence: Option<Duration>,
}

/// What changes for a tag.
#[derive(Debug, Clone, PartialEq)]
struct State {
    /// The last reading, processed, reported or not. [`Reason::NotPolled`] since the start until there is one.
    latest: Reading,
    /// What the consumer believes, and since when it has been told.
    reported: Option<(Sample, BootNs)>,
}

/// Processes the readings of all tags of one configuration.
#[derive(Debug)]
pub struct Processor {
    rules: Vec<Rule>,
    states: Vec<State>,
    /// No deadline is before this moment: deadlines only move away when readings come, so that looking at every tag is
    /// needed only here.
    check_at: Option<BootNs>,
    counters: Counters,
}

impl Processor {
    /// Prepares all tags; `now` is when polling begins. Tags whose group is missing in the settings report every reading and are never stale.
    #[must_use]
    pub fn new(settings: &poll::Settings, now: BootNs) -> Self {
        let rules: Vec<Rule> = settings.tags.iter().map(|tag| rule(settings, tag)).collect();
        let state = |tag| State {
            latest: Reading { tag: TagId(tag), at: now, sample: Sample::Bad(Reason::NotPolled) },
            reported: None,
        };
        let states: Vec<State> = (0..).zip(&rules).map(|(tag, _)| state(tag)).collect();
        let mut processor = Self { rules, states, check_at: None, counters: Counters::default() };
        processor.check_at = processor.earliest();
        processor
    }

    /// The processor of another configuration, which goes on with every tag that is in both under the same names and with the same settings: its
    /// last reading, and what its consumer believes. With `told` false the consumer is another one and believes nothing yet. Counters go on.
    #[must_use]
    pub fn succeed(&self, before: &poll::Settings, after: &poll::Settings, told: bool, now: BootNs) -> Self {
        let mut next = Self::new(after, now);
        next.counters = self.counters;
        let known: BTreeMap<_, _> = before
            .tags
            .iter()
            .zip(&self.states)
            .map(|(tag, state)| (place(before, tag), (tag, state)))
            .collect();
        for (tag, state) in after.tags.iter().zip(&mut next.states) {
            let Some((former, from)) = known.get(&place(after, tag)) else { continue };
            let same = poll::Tag { group: tag.group, ..(*former).clone() } == *tag;
            if same && every(before, former) == every(after, tag) {
                state.latest = Reading { tag: state.latest.tag, ..from.latest.clone() };
                state.reported = from.reported.clone().filter(|_| told);
            }
        }
        next.check_at = next.earliest();
        next
    }

    /// Processes one cycle and leaves in it what has to be published.
    pub fn cycle(&mut self, now: BootNs, cycle: Cycle) -> Report {
        let Cycle { group, mut readings, .. } = cycle;
        readings.retain_mut(|reading| self.reading(now, reading));
        Report { group, readings }
    }

    /// When [`Processor::timeout`] has to be called at the latest; `None` while no tag can become stale or silent.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNs> {
        self.check_at
    }

    /// Reports the tags whose polls stopped: stale ones once, and all again after their `silence_max`. Early calls do nothing.
    pub fn timeout(&mut self, now: BootNs) -> Vec<Report> {
        let mut reports: Vec<Report> = Vec::new();
        if self.check_at.is_none_or(|at| now < at) {
            return reports;
        }
        for (rule, state) in self.rules.iter().zip(&mut self.states) {
            let Some(reading) = overdue(rule, state, now, &mut self.counters) else { continue };
            match reports.last_mut() {
                Some(report) if report.group == rule.group => report.readings.push(reading),
                _ => reports.push(Report { group: rule.group, readings: vec![reading] }),
            }
        }
        self.check_at = self.earliest();
        reports
    }

    /// The last reading of a tag, processed, whether it was reported or not; [`Reason::NotPolled`] before the first.
    /// `None` for a tag that is not configured.
    #[must_use]
    pub fn latest(&self, tag: TagId) -> Option<&Reading> {
        self.states.get(tag.0 as usize).map(|state| &state.latest)
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Processes one reading in place; says whether it is reported.
    fn reading(&mut self, now: BootNs, reading: &mut Reading) -> bool {
        self.counters.in_total += 1;
        let index = reading.tag.0 as usize;
        let (Some(rule), Some(state)) = (self.rules.get(index), self.states.get_mut(index)) else {
            self.counters.foreign_total += 1;
            return false;
        };
        reading.at = reading.at.min(now);
        engineering(rule, reading, &mut self.counters);
        let report = match &state.reported {
            None => true,
            Some((last, at)) => {
                changed(rule.filter.deadband, last, &reading.sample)
                    || rule.silence.is_some_and(|silence| reading.at.since(*at) >= silence)
            }
        };
        state.latest.clone_from(reading);
        if report {
            state.reported = Some((reading.sample.clone(), reading.at));
            self.counters.reported_total += 1;
        } else {
            self.counters.suppressed_total += 1;
        }
        self.check_at = sooner(self.check_at, deadline(rule, state));
        report
    }

    fn earliest(&self) -> Option<BootNs> {
        let deadlines = self.rules.iter().zip(&self.states).filter_map(|(rule, state)| deadline(rule, state));
        deadlines.min()
    }
}

/// The names of bus, device, group and tag: what a consumer knows a tag by.
fn place<'a>(settings: &'a poll::Settings, tag: &'a poll::Tag) -> Option<[&'a str; 4]> {
    let group = settings.groups.get(tag.group)?;
    let device = settings.devices.get(group.device)?;
    let bus = settings.buses.get(device.bus)?;
    Some([bus.name.as_str(), device.name.as_str(), group.name.as_str(), tag.name.as_str()])
}

fn every(settings: &poll::Settings, tag: &poll::Tag) -> Option<Duration> {
    settings.groups.get(tag.group).map(|group| group.every)
}

fn rule(settings: &poll::Settings, tag: &poll::Tag) -> Rule {
    let group = settings.groups.get(tag.group);
    let every = group.map_or(Duration::ZERO, |group| group.every);
    let filter = if group.is_some() {
        tag.filter
    } else {
        Filter { deadband: super::settings::Deadband::Off, silence_max: None, stale_after: 0 }
    };
    Rule {
        group: GroupId(u32::try_from(tag.group).unwrap_or(u32::MAX)),
        scaler: Scaler::new(tag),
        range: tag.range,
        filter,
        every,
        // Half an interval more: a poll that is a little late has not been missed.
        stale: (filter.stale_after > 0)
            .then(|| every.saturating_mul(u32::from(filter.stale_after)).saturating_add(every / 2)),
        silence: filter.silence_max.map(|silence| silence.saturating_sub(every / 2)),
    }
}

/// Scale and range.
fn engineering(rule: &Rule, reading: &mut Reading, counters: &mut Counters) {
    let raw = std::mem::replace(&mut reading.sample, Sample::Bad(Reason::NotPolled));
    let scaled = match raw {
        Sample::Good(raw) => rule.scaler.apply(raw),
        bad @ Sample::Bad(_) => bad,
    };
    reading.sample = match scaled {
        Sample::Good(value) => {
            let checked = limits::check(rule.range.as_ref(), value);
            counters.clamped_total += u64::from(matches!(checked, Checked::Clamped(_)));
            counters.out_of_range_total += u64::from(checked == Checked::Outside);
            checked.sample()
        }
        Sample::Bad(reason) => {
            counters.out_of_range_total += u64::from(reason == Reason::OutOfRange);
            Sample::Bad(reason)
        }
    };
}

/// When a tag becomes stale: only a good value, or one that never came, goes bad by waiting.
fn stale_at(rule: &Rule, state: &State) -> Option<BootNs> {
    let waits = matches!(state.latest.sample, Sample::Good(_)) || state.reported.is_none();
    rule.stale.filter(|_| waits).map(|stale| state.latest.at.plus(stale))
}

/// When the consumer has to hear of a tag although no poll came: one interval after a poll should have done it.
fn silent_at(rule: &Rule, state: &State) -> Option<BootNs> {
    let (_, told) = state.reported.as_ref()?;
    rule.filter.silence_max.map(|silence| told.plus(silence).plus(rule.every.max(Duration::from_millis(1))))
}

fn deadline(rule: &Rule, state: &State) -> Option<BootNs> {
    sooner(stale_at(rule, state), silent_at(rule, state))
}

fn sooner(a: Option<BootNs>, b: Option<BootNs>) -> Option<BootNs> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The report of a tag that is past a deadline. A stale one is bad from this moment; a repeated value keeps the moment
/// it was sampled.
fn overdue(rule: &Rule, state: &mut State, now: BootNs, counters: &mut Counters) -> Option<Reading> {
    if stale_at(rule, state).is_some_and(|at| now >= at) {
        let never = state.reported.is_none();
        let reason = if never { Reason::NotPolled } else { Reason::Stale };
        state.latest.at = now;
        state.latest.sample = Sample::Bad(reason);
        counters.stale_total += 1;
    } else if silent_at(rule, state).is_some_and(|at| now >= at) {
        if matches!(state.latest.sample, Sample::Bad(Reason::Stale | Reason::NotPolled)) {
            state.latest.at = now;
        }
        counters.repeated_total += 1;
    } else {
        return None;
    }
    state.reported = Some((state.latest.sample.clone(), now));
    Some(state.latest.clone())
}

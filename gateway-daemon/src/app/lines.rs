//! The buses at work: the task of each, its place in the whole field, and what was seen of it.
//!
//! Every task has a number that no other task of this run has, and cycles carry it: so a cycle is read with the numbers of the bus that made it,
//! wherever that bus stands in the configuration by then.

use std::time::Duration;

use drivers::bus::{self, Asker, Bus, LineState, Report, WireCounters};
use drivers::clock;
use gateway_core::poll::changes::{BadValues, Changes};
use gateway_core::poll::schedule::Schedule;
use gateway_core::poll::settings::Medium;
use gateway_core::poll::{Part, Settings as Field, words};
use gateway_core::process::Processor;
use gateway_core::tag::{BootNs, Cycle, Reason, Sample};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::changes;
use super::progress::{LINE_GUARD, Sign};
use super::rate::Rate;
use crate::panics::Contained;

/// Number of the task of a bus; given out once in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineId(u64);

/// Cycles on their way to the core loop.
pub(super) type Cycles = mpsc::Sender<(LineId, Cycle)>;

struct Outlet {
    id: LineId,
    cycles: Cycles,
}

impl bus::Outlet for Outlet {
    fn hand_on(&self, cycle: Cycle) -> bool {
        self.cycles.try_send((self.id, cycle)).is_ok()
    }
}

/// One bus.
pub(super) struct Line {
    id: LineId,
    part: Part,
    bus: Option<Bus>,
    reports: watch::Receiver<Report>,
    /// Times its task was started again after a fault of this program.
    pub restarts: u64,
    /// Requests answered per second.
    pub answers: Rate,
    /// ns of busy line per second.
    pub busy: Rate,
    device_answers: Vec<Rate>,
    changes: Changes,
    bad_values: BadValues,
}

impl Line {
    /// Its latest report. Devices in it have the numbers of [`Part::device`].
    pub(super) fn report(&self) -> watch::Ref<'_, Report> {
        self.reports.borrow()
    }

    /// The bus with what is on it.
    pub(super) fn part(&self) -> &Part {
        &self.part
    }

    /// Answers per second of a device of this bus.
    pub(super) fn device_answers(&self, own: usize) -> f64 {
        self.device_answers.get(own).map_or(0.0, Rate::per_s)
    }

    /// The sentence about tags of a device that have no good value although it answers.
    pub(super) fn bad_values(&self, own: usize, processor: &Processor) -> Option<String> {
        let (mut bad, mut of) = (Vec::new(), 0);
        for tag in self.part.tags_of(own) {
            of += 1;
            let latest = self.part.tag(tag).and_then(|tag| processor.latest(tag));
            if let Some(Sample::Bad(reason @ (Reason::NotANumber | Reason::OutOfRange))) =
                latest.map(|latest| &latest.sample)
            {
                bad.push((tag, *reason));
            }
        }
        words::bad_values(&self.part.field, own, &bad, of)
    }

    fn observe(&mut self, now: BootNs, processor: &Processor) {
        let report = self.reports.borrow();
        self.answers.observe(now, report.schedule.counters.answers);
        self.busy.observe(now, report.schedule.counters.busy_ns);
        for device in &report.schedule.devices {
            if let Some(rate) = self.device_answers.get_mut(device.device) {
                rate.observe(now, device.counters.answers);
            }
            let (field, mut bad, mut of) = (&self.part.field, Vec::new(), 0);
            for tag in self.part.tags_of(device.device) {
                of += 1;
                let latest = self.part.tag(tag).and_then(|tag| processor.latest(tag));
                bad.extend(self.bad_values.look(tag, latest.map(|latest| &latest.sample)));
            }
            let bad_values = words::bad_values(field, device.device, &bad, of);
            for line in self.changes.observe(now, field, &device.health(), bad_values) {
                changes::log(field, device.device, &line);
            }
        }
    }
}

/// All buses, in the order of the configuration.
pub(super) struct Lines {
    list: Vec<Line>,
    cycles: Cycles,
    last: u64,
    stopped: bool,
}

impl Lines {
    /// Starts every bus of a field; cycles go to `cycles`.
    ///
    /// # Errors
    /// The name of the first bus that cannot be started, and why.
    pub(super) fn start(field: &Field, cycles: Cycles) -> Result<Self, (String, std::io::Error)> {
        let mut lines = Self { list: Vec::new(), cycles, last: 0, stopped: false };
        for part in Part::all(field) {
            let (line, fault) = lines.open(part);
            if let Some(fault) = fault {
                return Err((line.report().name.to_string(), fault));
            }
            lines.list.push(line);
        }
        Ok(lines)
    }

    /// Ends the tasks of the buses that `ends` picks by their index, and waits until their lines are closed. What they have read can still be
    /// translated.
    pub(super) async fn stop(&mut self, ends: impl Fn(usize) -> bool) {
        for (_, line) in self.list.iter_mut().enumerate().filter(|(index, _)| ends(*index)) {
            if let Some(bus) = line.bus.take() {
                bus.stop().await;
            }
        }
    }

    /// Ends all of them for good.
    pub(super) async fn stop_all(&mut self) {
        self.stopped = true;
        self.stop(|_| true).await;
    }

    /// Puts the buses of another field in place: `kept` says by their index there which of the present ones goes on, and the others are started.
    pub(super) fn replace(&mut self, field: &Field, kept: &[Option<usize>]) {
        let mut former: Vec<Option<Line>> = std::mem::take(&mut self.list).into_iter().map(Some).collect();
        for (part, kept) in Part::all(field).into_iter().zip(kept) {
            let line = match kept.and_then(|kept| former.get_mut(kept)?.take()) {
                Some(line) => Line { part, ..line },
                None => {
                    let (line, fault) = self.open(part);
                    if let Some(fault) = fault {
                        let name = line.report().name.to_string();
                        log::error!(bus = name.as_str(), reason:% = fault; "bus {name}: cannot be started, is tried again: {fault}");
                    }
                    line
                }
            };
            self.list.push(line);
        }
    }

    fn open(&mut self, part: Part) -> (Line, Option<std::io::Error>) {
        self.last += 1;
        let id = LineId(self.last);
        let (bus, fault) = match spawn(id, &part, &self.cycles) {
            Ok(bus) => (Some(bus), None),
            Err(fault) => (None, Some(fault)),
        };
        let reports = bus.as_ref().map_or_else(|| nothing_yet(&part), Bus::reports);
        let device_answers = vec![Rate::default(); part.field.devices.len()];
        let changes = Changes::new(&part.field);
        let (restarts, answers, busy, bad_values) = Default::default();
        (Line { id, part, bus, reports, restarts, answers, busy, device_answers, changes, bad_values }, fault)
    }

    /// A cycle in the numbers of the whole field; `None` if its bus is gone.
    pub(super) fn cycle(&self, id: LineId, cycle: Cycle) -> Option<Cycle> {
        self.list.iter().find(|line| line.id == id)?.part.cycle(cycle)
    }

    /// Every bus.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Line> {
        self.list.iter()
    }

    /// How many buses there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// A way to ask a bus something, while its task runs.
    pub(super) fn asker(&self, index: usize) -> Option<Asker> {
        self.list.get(index)?.bus.as_ref().map(Bus::asker)
    }

    /// Takes the present counters into the rates and tells changes of devices to the log.
    pub(super) fn observe(&mut self, now: BootNs, processor: &Processor) {
        for line in &mut self.list {
            line.observe(now, processor);
        }
    }

    /// What each bus task shows of itself: its reports tell that it comes round.
    pub(super) fn signs(&self) -> impl Iterator<Item = Sign> + '_ {
        self.list.iter().filter(|line| line.bus.is_some()).map(|line| {
            let report = line.report();
            Sign {
                room: format!("bus {}", report.name),
                busy: true,
                mark: report.at.0,
                bound: bound(&line.part),
            }
        })
    }

    /// A bus task that ended by itself has met a fault of this program: its line is polled again, and the fault stays visible.
    pub(super) fn revive(&mut self) {
        if self.stopped {
            return;
        }
        for line in self.list.iter_mut().filter(|line| line.bus.as_ref().is_none_or(Bus::has_ended)) {
            let name = line.report().name.to_string();
            match spawn(line.id, &line.part, &self.cycles) {
                Ok(fresh) => {
                    log::error!(bus = name.as_str(), reason = "panic"; "bus {name}: its task ended by a fault of the program and was started again");
                    line.restarts += 1;
                    line.reports = fresh.reports();
                    line.bus = Some(fresh);
                }
                Err(fault) => {
                    log::error!(bus = name.as_str(), reason:% = fault; "bus {name}: cannot be started again: {fault}");
                }
            }
        }
    }
}

/// How long a bus task may take to come round: a request with the silence that others before it are owed (decision 0021), a connection, and a pause before
/// the line is opened again.
fn bound(part: &Part) -> Duration {
    /// A request, its fence, and what a unit may still owe of both.
    const TIMEOUTS: u32 = 4;
    let times =
        part.field.devices.iter().map(|device| device.timeout + device.delay_before + device.turnaround);
    let connect = match &part.bus.medium {
        Medium::Tcp { connect_timeout, .. } | Medium::RtuOverTcp { connect_timeout, .. } => *connect_timeout,
        Medium::Serial(_) | Medium::Sim => Duration::ZERO,
    };
    times.max().unwrap_or_default().saturating_mul(TIMEOUTS) + connect + bus::REOPEN_MAX + LINE_GUARD
}

fn spawn(id: LineId, part: &Part, cycles: &Cycles) -> std::io::Result<Bus> {
    let schedule = Schedule::new(&part.field, 0, clock::now());
    bus::spawn_by(&part.field, 0, schedule, Outlet { id, cycles: cycles.clone() }, start)
}

/// A fault of the program in a bus task ends that task alone: [`Lines::revive`] starts it again.
fn start(task: bus::Task) -> JoinHandle<()> {
    tokio::spawn(Contained::new("a bus task", task))
}

/// The report of a bus whose task could not be started.
fn nothing_yet(part: &Part) -> watch::Receiver<Report> {
    let now = clock::now();
    let name = part.bus.name.clone();
    let line = LineState::Down { since: now, why: "cannot be started yet".into() };
    let (wire, task, schedule) =
        (WireCounters::Rtu(Default::default()), Default::default(), Default::default());
    watch::channel(Report { name, at: now, line, reopening: false, wire, task, schedule }).1
}

#[cfg(test)]
mod tests;

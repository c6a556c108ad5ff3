//! The task that owns one line: it drives the schedule of its bus, puts one-off commands between the polls, opens a lost line
//! again, and hands finished cycles on.
//!
//! Invariants:
//! - The line never waits for anybody: a cycle that the channel has no room for is dropped and counted.
//! - Whatever happens on the line ends within the timeouts of its request, behind a gateway that waits longer than those at most ten seconds
//!   later (decision 0056); a stop is obeyed at once, in the middle of a request too.
//! - Every command is answered exactly once: by the device, by a fault, or by the end of the task.
//!
//! Bounds: [`COMMANDS_MAX`] commands wait; at most one command goes between two polls, so that a scan cannot starve them;
//! the pause before a line is opened again grows from [`REOPEN_MIN`] to [`REOPEN_MAX`].
//!
//! It never decides what is asked when, and never interprets a value: that is `gateway_core::poll`.

mod connection;
mod desk;
mod history;
mod rtu;
mod tcp;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::poll::request::{Answer, LineFault, Request};
use gateway_core::poll::schedule::{self, DeviceState, Schedule, Step, Ticket};
use gateway_core::poll::settings::{self, Medium, Settings};
use gateway_core::tag::{BootNs, Cycle, Name};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::modbus::pdu::QueryError;
use crate::modbus::{mbap, rtu as rtu_line};

pub use rtu::exchange;
pub use wire::Wire;

/// Commands that wait for their turn; a person types one, a scan waits for each.
pub const COMMANDS_MAX: usize = 32;
/// First pause before a lost line is opened again.
pub const REOPEN_MIN: Duration = Duration::from_millis(250);
/// Longest pause before a lost line is opened again: a plugged-in adapter works within this time.
pub const REOPEN_MAX: Duration = Duration::from_secs(10);
/// A report is at most this old while anything happens.
pub const REPORT_EVERY: Duration = Duration::from_millis(500);

/// What a bus task needs of its schedule; see `gateway_core::poll::schedule` for what each call means.
pub trait Orders: Send + 'static {
    /// What to do next.
    fn next(&mut self, now: BootNs) -> Step;
    /// The end of an order.
    fn answered(&mut self, now: BootNs, ticket: Ticket, outcome: Result<Answer, LineFault>);
    /// The line is lost.
    fn bus_down(&mut self, now: BootNs);
    /// The line is open.
    fn bus_up(&mut self, now: BootNs);
    /// Finished cycles.
    fn take_cycles(&mut self) -> Vec<Cycle>;
    /// Counters and health for reports.
    fn view(&self) -> View {
        View::default()
    }
}

impl Orders for Schedule {
    fn next(&mut self, now: BootNs) -> Step {
        Self::next(self, now)
    }

    fn answered(&mut self, now: BootNs, ticket: Ticket, outcome: Result<Answer, LineFault>) {
        Self::answered(self, now, ticket, outcome);
    }

    fn bus_down(&mut self, now: BootNs) {
        Self::bus_down(self, now);
    }

    fn bus_up(&mut self, now: BootNs) {
        Self::bus_up(self, now);
    }

    fn take_cycles(&mut self) -> Vec<Cycle> {
        Self::take_cycles(self)
    }

    fn view(&self) -> View {
        let device = |health: schedule::DeviceHealth<'_>| DeviceView {
            device: health.device,
            state: health.state,
            since: health.since,
            last_answer: health.last_answer,
            last_failure: health.last_failure,
            requests: health.requests,
            counters: health.counters.clone(),
        };
        View { counters: self.counters().clone(), devices: self.devices().map(device).collect() }
    }
}

/// Where finished cycles go. It never waits: a line has no time for that.
pub trait Outlet: Send + Sync + 'static {
    /// Takes a cycle; `false` if there is no room, and then the cycle is dropped and counted.
    fn hand_on(&self, cycle: Cycle) -> bool;
}

impl Outlet for mpsc::Sender<Cycle> {
    fn hand_on(&self, cycle: Cycle) -> bool {
        self.try_send(cycle).is_ok()
    }
}

/// What a schedule shows of itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct View {
    /// Counters of the bus.
    pub counters: schedule::Counters,
    /// Its devices.
    pub devices: Vec<DeviceView>,
}

/// A device as its schedule sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceView {
    /// Index in [`Settings::devices`].
    pub device: usize,
    /// Whether it answers.
    pub state: DeviceState,
    /// Since when.
    pub since: BootNs,
    /// When it last answered anything.
    pub last_answer: Option<BootNs>,
    /// Why the last failed request failed.
    pub last_failure: Option<schedule::Cause>,
    /// What it is asked, and what of it fails.
    pub requests: schedule::Requests,
    /// What was counted for it.
    pub counters: schedule::Counters,
}

impl DeviceView {
    /// The same in the words of the schedule.
    #[must_use]
    pub fn health(&self) -> schedule::DeviceHealth<'_> {
        schedule::DeviceHealth {
            device: self.device,
            state: self.state,
            since: self.since,
            last_answer: self.last_answer,
            last_failure: self.last_failure,
            requests: self.requests.clone(),
            counters: &self.counters,
        }
    }
}

/// Whether the port or connection is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineState {
    /// It is open.
    Up {
        /// Since when.
        since: BootNs,
    },
    /// It is not.
    Down {
        /// Since when.
        since: BootNs,
        /// Why, in words for a person.
        why: String,
    },
}

/// Counters of the kind of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireCounters {
    /// RTU on a serial line, through TCP or simulated.
    Rtu(rtu_line::Counters),
    /// Modbus TCP.
    Tcp(mbap::Counters),
}

/// What the task itself counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Cycles handed on.
    pub cycles: u64,
    /// Cycles dropped because the channel was full.
    pub cycles_dropped: u64,
    /// Times the line was opened.
    pub opens: u64,
    /// Failed tries to open the line.
    pub open_failures: u64,
    /// Times an open line was lost.
    pub losses: u64,
    /// Times a connection ended in order or brought nothing any more, and was opened again when it was needed.
    pub closes: u64,
    /// Commands answered, by the device or by a fault.
    pub commands: u64,
}

/// State and counters of a bus.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The bus.
    pub name: Name,
    /// When this was written.
    pub at: BootNs,
    /// Whether the line is open.
    pub line: LineState,
    /// Whether the connection of an open line has ended and is being opened again, and nothing has answered since.
    pub reopening: bool,
    /// Counters of the line.
    pub wire: WireCounters,
    /// Counters of the task.
    pub task: Counters,
    /// Counters of the schedule and health of the devices.
    pub schedule: View,
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The request breaks a limit.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The device or the line failed.
    #[error(transparent)]
    Line(#[from] LineFault),
    /// The line is not open.
    #[error("bus down: {0}")]
    Down(String),
    /// The connection was closed after a request that changes something had been sent, and before its answer.
    #[error(
        "the connection was closed before the answer came: nobody knows whether it was written, so it was not sent again; read it before you write again"
    )]
    Unanswered,
    /// After a request that changes something had been sent, there was no answer, or one that does not belong to it.
    #[error(
        "{0}: nobody knows whether it was written, so it was not sent again; read it before you write again"
    )]
    Doubtful(LineFault),
    /// A request that changes something was not sent.
    #[error("{0}: the request was not sent, so nothing was written")]
    NotSent(LineFault),
    /// Too many commands are waiting.
    #[error("{COMMANDS_MAX} commands are waiting for this bus already; try again when they are done")]
    Full,
    /// The task has ended.
    #[error("the bus has been stopped")]
    Stopped,
    /// The task has ended, and the request, which changes something, may have been sent.
    #[error(
        "the bus was stopped before the answer came: nobody knows whether it was written; read it before you write again"
    )]
    StoppedMidway,
}

impl CommandError {
    /// Whether the device may have done what it was asked to change.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Doubtful(_) | Self::StoppedMidway)
    }
}

/// A request between the polls.
#[derive(Debug)]
pub(crate) struct Command {
    request: Request,
    times: Times,
    reply: oneshot::Sender<Result<Answer, CommandError>>,
}

/// Times of a one-off request, usually those of its device's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// From the end of the request to the first byte of the answer.
    pub timeout: Duration,
    /// Silence before the request beyond that of the line.
    pub delay_before: Duration,
    /// How long units need to act on a broadcast.
    pub turnaround: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(500),
            delay_before: Duration::ZERO,
            turnaround: Duration::from_millis(100),
        }
    }
}

/// A clonable way to ask a bus something between its polls.
#[derive(Debug, Clone)]
pub struct Asker {
    commands: mpsc::Sender<Command>,
}

impl Asker {
    /// Asks between two polls and waits for the answer.
    ///
    /// # Errors
    /// The request is impossible, the device or line failed, too many commands wait, or the bus was stopped.
    pub async fn ask(&self, request: Request, times: Times) -> Result<Answer, CommandError> {
        let (reply, answer) = oneshot::channel();
        let reads = desk::only_reads(&request);
        self.commands.try_send(Command { request, times, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Full,
            mpsc::error::TrySendError::Closed(_) => CommandError::Stopped,
        })?;
        answer.await.unwrap_or(Err(if reads { CommandError::Stopped } else { CommandError::StoppedMidway }))
    }
}

/// A running bus task. Dropping it stops the task.
#[derive(Debug)]
pub struct Bus {
    asker: Asker,
    reports: watch::Receiver<Report>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Bus {
    /// A way to ask this bus something between its polls.
    #[must_use]
    pub fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// State and counters; [`watch::Receiver::changed`] tells when there are fresh ones.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<Report> {
        self.reports.clone()
    }

    /// Whether the task has ended without being told to: a fault of this program. The bus is not polled any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops the task, in the middle of a request too, and waits until the line is closed.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            let bus = self.reports.borrow().name.to_string();
            log::error!(bus = bus.as_str(), reason = "panic"; "bus task ended badly: {error}");
        }
    }
}

/// Starts the task of one bus inside the current tokio runtime. `bus` is an index into [`Settings::buses`]; cycles go to
/// `cycles`, and are dropped and counted when it is full.
///
/// # Errors
/// `bus` is not in the settings, or the process has no file descriptor left for its timer.
pub fn spawn(
    settings: &Arc<Settings>,
    bus: usize,
    orders: impl Orders,
    cycles: impl Outlet,
) -> std::io::Result<Bus> {
    spawn_by(settings, bus, orders, cycles, |task| tokio::spawn(task))
}

/// A bus task that is not started yet.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// As [`spawn`], with the one who starts the task: whoever starts tasks again that have panicked can say so there.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_by(
    settings: &Arc<Settings>,
    bus: usize,
    orders: impl Orders,
    cycles: impl Outlet,
    start: impl FnOnce(Task) -> JoinHandle<()>,
) -> std::io::Result<Bus> {
    let Some(line) = settings.buses.get(bus).cloned() else {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            format!("there is no bus number {bus}"),
        ));
    };
    let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
    let (stop, stopped) = watch::channel(false);
    let (desk, reports) = desk::Desk::new(&line, orders, Box::new(cycles), waiting, stopped)?;
    let opener = wire::Opener::new(settings, bus, &line);
    let task = task(desk, opener, &line);
    Ok(Bus { asker: Asker { commands }, reports, stop, task: start(task) })
}

fn task<O: Orders>(desk: desk::Desk<O>, dial: impl wire::Dial + 'static, line: &settings::Bus) -> Task {
    let habits = connection::Habits::of(&line.medium);
    match &line.medium {
        Medium::Tcp { host, port, pipeline, .. } => {
            let talk = tcp::Line::new(host, *port, *pipeline, habits);
            Box::pin(connection::run(desk, dial, habits, talk))
        }
        Medium::Serial(_) | Medium::RtuOverTcp { .. } | Medium::Sim => {
            let talk = rtu::Line::new(wire::timing(&line.medium, line.fences), habits);
            Box::pin(connection::run(desk, dial, habits, talk))
        }
    }
}

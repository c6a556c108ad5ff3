//! What both kinds of bus tasks share: the schedule, the channels, the state of the line and its report.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use gateway_core::poll::request::{Answer, LineFault, Query, Request};
use gateway_core::poll::schedule::{Order, Step, Ticket};
use gateway_core::poll::settings::{self, Medium};
use gateway_core::tag::{BootNs, Name};
use tokio::sync::{mpsc, watch};

use super::connection::Waiting;
use super::history::History;
use super::{
    Command, CommandError, Counters, LineState, Orders, Outlet, REOPEN_MAX, REOPEN_MIN, REPORT_EVERY, Report,
};
use super::{View, WireCounters};
use crate::alarm::Alarm;
use crate::clock;
use crate::modbus::{mbap, rtu};

/// What is asked of a device: a poll or a command.
#[derive(Debug)]
pub(super) enum Question {
    /// An order of the schedule.
    Poll(Order),
    /// A request of a person or program.
    Command(Command),
}

impl Question {
    pub(super) fn request(&self) -> &Request {
        match self {
            Self::Poll(order) => &order.request,
            Self::Command(command) => &command.request,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Poll(order) => order.timeout,
            Self::Command(command) => command.times.timeout,
        }
    }

    pub(super) fn unit(&self) -> u8 {
        self.request().unit.get()
    }

    /// Whether it changes nothing in the device, so that it can be asked twice.
    pub(super) fn only_reads(&self) -> bool {
        only_reads(self.request())
    }
}

/// Whether a request changes nothing in its device.
pub(super) fn only_reads(request: &Request) -> bool {
    matches!(request.query, Query::Read { .. } | Query::Identify { .. })
}

/// The task was told to stop, or nobody is left to work for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// Orders answered in one go while the line is down: a schedule that goes on asking must not hold the task up.
const DOWN_ORDERS_MAX: usize = 1000;
/// Reasons why a bus is down of which the log has told since it was up; with more of them the oldest is told again.
const REASONS_MAX: usize = 8;

pub(super) struct Desk<O> {
    pub(super) name: Name,
    pub(super) pause: Duration,
    pub(super) orders: O,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) alarm: Alarm,
    /// Questions that were lost with a connection, or wait for one; at most as many as can be on the line, and one.
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) history: History,
    cycles: Box<dyn Outlet>,
    stop: watch::Receiver<bool>,
    reports: watch::Sender<Report>,
    counters: Counters,
    line: LineState,
    reported: BootNs,
    reopen_after: Duration,
    /// What the log says: that the bus is up, or why it is not.
    told_up: bool,
    told_down: VecDeque<String>,
    /// The line was lost soon after it was opened, or after a silence, and without an answer: that it is open again is no news before an answer comes.
    doubtful: bool,
    /// The connection has ended, the next one is not there at once, and nothing has answered since.
    reopening: bool,
}

impl<O: Orders> Desk<O> {
    pub(super) fn new(
        bus: &settings::Bus,
        orders: O,
        cycles: Box<dyn Outlet>,
        commands: mpsc::Receiver<Command>,
        stop: watch::Receiver<bool>,
    ) -> io::Result<(Self, watch::Receiver<Report>)> {
        let now = clock::now();
        let line = LineState::Down { since: now, why: "not opened yet".to_owned() };
        let wire = match bus.medium {
            Medium::Tcp { .. } => WireCounters::Tcp(mbap::Counters::default()),
            _ => WireCounters::Rtu(rtu::Counters::default()),
        };
        let (reports, report) = watch::channel(Report {
            name: bus.name.clone(),
            at: now,
            line: line.clone(),
            reopening: false,
            wire,
            task: Counters::default(),
            schedule: View::default(),
        });
        let desk = Self {
            name: bus.name.clone(),
            pause: bus.pause,
            orders,
            commands,
            alarm: Alarm::new()?,
            waiting: VecDeque::new(),
            history: History::default(),
            cycles,
            stop,
            reports,
            counters: Counters::default(),
            line,
            reported: now,
            reopen_after: REOPEN_MIN,
            told_up: false,
            told_down: VecDeque::new(),
            doubtful: false,
            reopening: false,
        };
        Ok((desk, report))
    }

    /// Resolves when the task has to end.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + use<O> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that the owner of the bus is gone.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// The line is open. Nobody hears of it when it was only closed meanwhile.
    pub(super) fn up(&mut self, now: BootNs) {
        self.counters.opens += 1;
        self.history.opened();
        if self.is_up() {
            return;
        }
        self.line = LineState::Up { since: now };
        if !self.doubtful {
            self.tell_up();
        }
        self.orders.bus_up(now);
        self.hand_on();
        self.reported = BootNs(0);
    }

    /// Whether the bus is up, with or without a connection at this moment.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.line, LineState::Up { .. })
    }

    /// A connection that is opened again is not there at once: told at once, for values grow old meanwhile.
    pub(super) fn reopening(&mut self) {
        if self.is_up() && !std::mem::replace(&mut self.reopening, true) {
            self.reported = BootNs(0);
        }
    }

    fn tell_up(&mut self) {
        if !std::mem::replace(&mut self.told_up, true) {
            self.told_down.clear();
            self.doubtful = false;
            let name = self.name.as_str();
            log::info!(bus = name; "bus {name}: up");
        }
    }

    /// The other side has closed the connection in order.
    pub(super) fn count_close(&mut self) {
        self.counters.closes += 1;
    }

    /// The connection brings nothing any more. Whether a device answers is told of the device: the bus stays up, and is opened again when it is needed.
    pub(super) fn give_up_silent(&mut self) {
        self.history.silent();
        self.counters.closes += 1;
    }

    /// The line is lost or could not be opened. Each reason is logged once until the bus is up again.
    pub(super) fn down(&mut self, now: BootNs, why: &str) {
        let proven = self.history.is_proven();
        self.history.down();
        self.reopening = false;
        let since = match &self.line {
            LineState::Up { since } => {
                self.counters.losses += 1;
                self.doubtful = self.history.is_silent() || (!proven && now.since(*since) < REOPEN_MAX);
                if !self.doubtful {
                    self.reopen_after = REOPEN_MIN;
                }
                now
            }
            LineState::Down { since, .. } => {
                self.counters.open_failures += 1;
                *since
            }
        };
        let level =
            if self.told_down.iter().any(|told| told == why) { log::Level::Debug } else { log::Level::Warn };
        self.told_up = false;
        if level == log::Level::Warn {
            if self.told_down.len() == REASONS_MAX {
                self.told_down.pop_front();
            }
            self.told_down.push_back(why.to_owned());
        }
        let retry_ms = self.reopen_after.as_millis();
        let name = self.name.as_str();
        log::log!(level, bus = name, reason = why, retry_ms = u64::try_from(retry_ms).unwrap_or(0); "bus {name}: down: {why}");
        self.line = LineState::Down { since, why: why.to_owned() };
        self.orders.bus_down(now);
        self.hand_on();
        self.reported = BootNs(0);
    }

    /// A question has ended; `sent` says whether the device may have got it.
    pub(super) fn finish(
        &mut self,
        now: BootNs,
        question: Question,
        sent: bool,
        outcome: Result<Answer, LineFault>,
    ) {
        if !matches!(outcome, Err(LineFault::Silence | LineFault::Down)) {
            self.history.answered(question.unit());
            if std::mem::take(&mut self.reopening) {
                self.reported = BootNs(0);
            }
            self.tell_up();
        }
        match question {
            Question::Poll(order) => self.answered(now, order.ticket, outcome),
            Question::Command(command) => {
                let reads = only_reads(&command.request);
                let error = |fault| match (reads, sent) {
                    (true, _) => CommandError::Line(fault),
                    (false, true) => CommandError::Doubtful(fault),
                    (false, false) => CommandError::NotSent(fault),
                };
                self.reply(command, outcome.map_err(error));
            }
        }
    }

    /// An order has ended.
    pub(super) fn answered(&mut self, now: BootNs, ticket: Ticket, outcome: Result<Answer, LineFault>) {
        self.orders.answered(now, ticket, outcome);
        self.hand_on();
    }

    /// Answers a command.
    pub(super) fn reply(&mut self, command: Command, answer: Result<Answer, CommandError>) {
        self.counters.commands += 1;
        // Nobody listens any more: the answer has no other use.
        let _ = command.reply.send(answer);
    }

    /// Asks the schedule.
    pub(super) fn next(&mut self, now: BootNs) -> Step {
        let step = self.orders.next(now);
        self.hand_on();
        step
    }

    /// Publishes a report if the last one is old.
    pub(super) fn report(&mut self, now: BootNs, wire: impl FnOnce() -> WireCounters) {
        let lasts = matches!(self.line, LineState::Up { since } if now.since(since) >= REOPEN_MAX);
        if lasts && !self.history.is_silent() {
            self.tell_up();
        }
        if now.since(self.reported) < REPORT_EVERY {
            return;
        }
        self.reported = now;
        let report = Report {
            name: self.name.clone(),
            at: now,
            line: self.line.clone(),
            reopening: self.reopening,
            wire: wire(),
            task: self.counters,
            schedule: self.orders.view(),
        };
        self.reports.send_replace(report);
    }

    /// Waits with the line down before it is opened again. The schedule goes on, so that its cycles tell that the bus is down.
    pub(super) async fn rest(&mut self, wire: impl Fn() -> WireCounters) -> Result<(), Stopped> {
        let until = clock::now().plus(self.reopen_after);
        self.reopen_after = (self.reopen_after * 2).min(REOPEN_MAX);
        loop {
            let now = clock::now();
            self.report(now, &wire);
            if now >= until {
                return Ok(());
            }
            let wake = self.refuse_orders(now).min(until);
            let stopped = self.stopped();
            tokio::select! {
                biased;
                () = stopped => return Err(Stopped),
                command = self.commands.recv() => match command {
                    Some(command) => self.refuse(command),
                    None => return Err(Stopped),
                },
                rung = self.alarm.until(wake) => rung.map_err(|_| Stopped)?,
            }
        }
    }

    /// Waits for something to ask while there is no connection, and the bus is not down.
    pub(super) async fn until_wanted(
        &mut self,
        wire: impl Fn() -> WireCounters,
    ) -> Result<Question, Stopped> {
        loop {
            let now = clock::now();
            self.report(now, &wire);
            let wake = match self.next(now) {
                Step::Ask(order) => return Ok(Question::Poll(order)),
                Step::Wait(moment) => moment.min(now.plus(REPORT_EVERY)),
            };
            let stopped = self.stopped();
            tokio::select! {
                biased;
                () = stopped => return Err(Stopped),
                command = self.commands.recv() => return command.map(Question::Command).ok_or(Stopped),
                rung = self.alarm.until(wake) => rung.map_err(|_| Stopped)?,
            }
        }
    }

    /// Asks nothing until `moment`.
    pub(super) async fn pause_until(
        &mut self,
        moment: BootNs,
        wire: impl Fn() -> WireCounters,
    ) -> Result<(), Stopped> {
        loop {
            let now = clock::now();
            self.report(now, &wire);
            if now >= moment {
                return Ok(());
            }
            let stopped = self.stopped();
            tokio::select! {
                biased;
                () = stopped => return Err(Stopped),
                rung = self.alarm.until(moment.min(now.plus(REPORT_EVERY))) => rung.map_err(|_| Stopped)?,
            }
        }
    }

    fn refuse_orders(&mut self, now: BootNs) -> BootNs {
        for _ in 0..DOWN_ORDERS_MAX {
            match self.next(now) {
                Step::Ask(order) => self.answered(now, order.ticket, Err(LineFault::Down)),
                Step::Wait(moment) => return moment,
            }
        }
        now.plus(REOPEN_MIN)
    }

    fn refuse(&mut self, command: Command) {
        let why = match &self.line {
            LineState::Down { why, .. } => why.clone(),
            LineState::Up { .. } => String::new(),
        };
        self.reply(command, Err(CommandError::Down(why)));
    }

    /// Hands finished cycles on; what finds no room is dropped, because the line must not wait.
    fn hand_on(&mut self) {
        for cycle in self.orders.take_cycles() {
            if self.cycles.hand_on(cycle) {
                self.counters.cycles += 1;
                continue;
            }
            if self.counters.cycles_dropped.is_power_of_two() || self.counters.cycles_dropped == 0 {
                let dropped = self.counters.cycles_dropped + 1;
                log::error!(bus = self.name.as_str(), reason = "channel-full", dropped; "readings lost: nobody took the cycle in time");
            }
            self.counters.cycles_dropped += 1;
        }
    }
}

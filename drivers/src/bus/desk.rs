//! What both kinds of bus tasks share: the schedule, the channels, the state of the line and its report.

use std::io;
use std::time::Duration;

use gateway_core::poll::request::{Answer, LineFault};
use gateway_core::poll::schedule::{Step, Ticket};
use gateway_core::poll::settings::{self, Medium};
use gateway_core::tag::{BootNs, Name};
use tokio::sync::{mpsc, watch};

use super::{
    Command, CommandError, Counters, LineState, Orders, Outlet, REOPEN_MAX, REOPEN_MIN, REPORT_EVERY, Report,
};
use super::{View, WireCounters};
use crate::alarm::Alarm;
use crate::clock;
use crate::modbus::{mbap, rtu};

/// The task was told to stop, or nobody is left to work for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// Orders answered in one go while the line is down: a schedule that goes on asking must not hold the task up.
const DOWN_ORDERS_MAX: usize = 1000;

pub(super) struct Desk<O> {
    pub(super) name: Name,
    pub(super) pause: Duration,
    pub(super) orders: O,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) alarm: Alarm,
    cycles: Box<dyn Outlet>,
    stop: watch::Receiver<bool>,
    reports: watch::Sender<Report>,
    counters: Counters,
    line: LineState,
    reported: BootNs,
    reopen_after: Duration,
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
            cycles,
            stop,
            reports,
            counters: Counters::default(),
            line,
            reported: now,
            reopen_after: REOPEN_MIN,
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

    /// The line is open.
    pub(super) fn up(&mut self, now: BootNs) {
        self.counters.opens += 1;
        self.line = LineState::Up { since: now };
        let name = self.name.as_str();
        log::info!(bus = name; "bus {name}: up");
        self.orders.bus_up(now);
        self.hand_on();
        self.reported = BootNs(0);
    }

    /// The line is lost or could not be opened. Repeated reasons are logged once.
    pub(super) fn down(&mut self, now: BootNs, why: &str) {
        let since = match &self.line {
            LineState::Up { since } => {
                self.counters.losses += 1;
                if now.since(*since) >= REOPEN_MAX {
                    self.reopen_after = REOPEN_MIN;
                }
                now
            }
            LineState::Down { since, .. } => {
                self.counters.open_failures += 1;
                *since
            }
        };
        let repeated = matches!(&self.line, LineState::Down { why: before, .. } if before == why);
        let level = if repeated { log::Level::Debug } else { log::Level::Warn };
        let retry_ms = self.reopen_after.as_millis();
        let name = self.name.as_str();
        log::log!(level, bus = name, reason = why, retry_ms = u64::try_from(retry_ms).unwrap_or(0); "bus {name}: down: {why}");
        self.line = LineState::Down { since, why: why.to_owned() };
        self.orders.bus_down(now);
        self.hand_on();
        self.reported = BootNs(0);
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
        if now.since(self.reported) < REPORT_EVERY {
            return;
        }
        self.reported = now;
        let report = Report {
            name: self.name.clone(),
            at: now,
            line: self.line.clone(),
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

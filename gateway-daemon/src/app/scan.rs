//! `scan`: who answers on a line, to what, at which baud rate. Asks and never writes.
//!
//! Each unit is asked with function 3, then 4, then 43/14; a refusal is an answer too. Exceptions 10 and 11 are not: with
//! them a TCP gateway says that nobody is there.

mod course;
mod json;
mod plan;
mod words;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use drivers::bus::{self, Asker, Bus, CommandError, LineState, Orders, Times};
use gateway_core::poll::request::{self, LineFault, Query, Request, Table, UnitId};
use gateway_core::poll::schedule::{Step, Ticket};
use gateway_core::poll::settings::{Medium, Settings};
use gateway_core::tag::{BootNs, Cycle};
use tokio::sync::mpsc;

use course::Course;
pub use json::{Answer, Unit};
pub use plan::{Attempt, attempts};

use super::picture::{Paper, paper};
use super::{say, terminal};
use crate::cli;

/// Longest wait for a line to open, DNS and connection included.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// "Gateway path unavailable" and "gateway target device failed to respond" ("MODBUS Application Protocol V1.1b3", 7).
const NOBODY_THERE: [u8; 2] = [10, 11];

/// Objects of a device's identity asked for at most: vendor, product, revision come in one or two answers.
const IDENTITY_ROUNDS_MAX: usize = 4;

/// Times a question is put again when its connection was lost. A connection over which nobody answers for a while is
/// closed by either side; on a line of absent units that is no fault.
const REASKS_MAX: usize = 2;

/// What a unit said to one kind of question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It gave a value.
    Value(u16),
    /// It refused, with an exception code.
    Refused(u8),
    /// Nothing came.
    Nothing,
    /// Something came that is no answer.
    Garbled(LineFault),
}

/// What was found out about one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The unit.
    pub unit: u8,
    /// Holding register 0.
    pub holding: Said,
    /// Input register 0.
    pub input: Said,
    /// Vendor, product, revision and whatever else it says about itself.
    pub identity: Vec<String>,
}

impl Found {
    /// Whether it said anything that proves a device.
    #[must_use]
    pub fn is_device(&self) -> bool {
        let speaks = |said: &Said| matches!(said, Said::Value(_) | Said::Refused(_));
        speaks(&self.holding) || speaks(&self.input) || !self.identity.is_empty()
    }

    fn is_garbled(&self) -> bool {
        [&self.holding, &self.input].into_iter().any(|said| matches!(said, Said::Garbled(_)))
    }
}

/// Where results go.
pub trait Show {
    /// A unit that said something.
    fn unit(&mut self, attempt: &Attempt, found: &Found);
    /// A line that stays.
    fn line(&mut self, text: &str);
    /// A line that the next one replaces.
    fn progress(&mut self, text: &str);
}

/// Why a scan ended early.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The line cannot be opened or was lost.
    #[error("{label}: {why}")]
    Line {
        /// Which line, how set.
        label: String,
        /// Why.
        why: String,
    },
}

/// Carries out the command. Gives the exit code: yes when a device was found.
#[must_use]
pub fn run(args: &cli::Scan) -> u8 {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(watched(args)),
        Err(error) => {
            say::error(error);
            cli::exit::IO
        }
    }
}

/// A scan that Ctrl-C ends.
async fn watched(args: &cli::Scan) -> u8 {
    let mut console = Console::new(args.json);
    let scan = scan(args, &mut console);
    let outcome = tokio::select! {
        outcome = scan => Some(outcome),
        _ = tokio::signal::ctrl_c() => None,
    };
    console.progress("");
    match outcome {
        Some(Ok(0)) => cli::exit::NO,
        Some(Ok(_)) => cli::exit::OK,
        Some(Err(error)) => {
            say::error(error);
            cli::exit::IO
        }
        None => {
            say::complaint("stopped; what is printed above was found");
            cli::exit::NO
        }
    }
}

/// Asks every unit with every setting of the line. Gives how many devices were found.
///
/// # Errors
/// The line cannot be opened, or was lost on the way.
pub async fn scan(args: &cli::Scan, show: &mut impl Show) -> Result<usize, ScanError> {
    let attempts = attempts(args);
    let units = args.units.first..=args.units.last;
    let asked = |attempt: &Attempt| units.clone().filter_map(|number| attempt.unit(number)).count();
    let mut course =
        Course::new(attempts.iter().map(|attempt| (asked(attempt), attempt.silent_max(args.timeout))));
    let mut found = 0;
    for attempt in &attempts {
        let mut line = Line::open(attempt, args.timeout).await?;
        let mut here = 0;
        for unit in units.clone().filter_map(|number| attempt.unit(number)) {
            show.progress(&words::progress(attempt, unit.get(), &course, found));
            let unit = line.ask_unit(unit).await?;
            course.asked(attempt.silent_max(args.timeout));
            if unit.is_device() {
                here += 1;
                found += 1;
            }
            if unit.is_device() || unit.is_garbled() {
                show.unit(attempt, &unit);
            }
        }
        if here > 10 && here == units.clone().count() {
            show.line(&words::all_answer(attempt));
        }
        line.bus.stop().await;
    }
    show.line(&words::summary(found, attempts.len(), units.count()));
    Ok(found)
}

/// An open line and how it is asked.
struct Line<'a> {
    attempt: &'a Attempt,
    bus: Bus,
    asker: Asker,
    times: Times,
    /// Nobody wants cycles, and there are none; the channel has to be there.
    _cycles: mpsc::Receiver<Cycle>,
}

impl<'a> Line<'a> {
    async fn open(attempt: &'a Attempt, timeout: Duration) -> Result<Self, ScanError> {
        let settings = Settings { buses: vec![attempt.bus.clone()], ..Settings::default() };
        let (cycles, received) = mpsc::channel(1);
        let bus = bus::spawn(&Arc::new(settings), 0, Silent, cycles)
            .map_err(|error| attempt.error(error.to_string()))?;
        let mut reports = bus.reports();
        let opened = tokio::time::timeout(
            OPEN_MAX,
            reports.wait_for(|report| {
                matches!(report.line, LineState::Up { .. }) || report.task.open_failures > 0
            }),
        );
        let why = match opened.await {
            Ok(Ok(report)) => match &report.line {
                LineState::Up { .. } => None,
                LineState::Down { why, .. } => Some(why.clone()),
            },
            Ok(Err(_)) => Some("the bus task has ended".to_owned()),
            Err(_) => Some(format!("not open after {} s", OPEN_MAX.as_secs())),
        };
        if let Some(why) = why {
            return Err(attempt.error(why));
        }
        let times = Times { timeout, ..Times::default() };
        Ok(Self { attempt, asker: bus.asker(), bus, times, _cycles: received })
    }

    async fn ask_unit(&mut self, unit: UnitId) -> Result<Found, ScanError> {
        let holding = self.read(unit, Table::Holding).await?;
        let input = self.read(unit, Table::Input).await?;
        let identity = self.identity(unit).await?;
        Ok(Found { unit: unit.get(), holding, input, identity })
    }

    async fn read(&mut self, unit: UnitId, table: Table) -> Result<Said, ScanError> {
        let query = Query::Read { table, address: 0, count: 1 };
        Ok(match self.ask(unit, query).await? {
            Ok(request::Answer::Registers(values)) => {
                Said::Value(values.first().copied().unwrap_or_default())
            }
            Ok(request::Answer::Exception(code)) if NOBODY_THERE.contains(&code) => Said::Nothing,
            Ok(request::Answer::Exception(code)) => Said::Refused(code),
            Ok(_) => Said::Garbled(LineFault::Mismatch),
            Err(LineFault::Silence) => Said::Nothing,
            Err(fault) => Said::Garbled(fault),
        })
    }

    /// What it says about itself; a device that does not know the question says nothing.
    async fn identity(&mut self, unit: UnitId) -> Result<Vec<String>, ScanError> {
        let mut texts = Vec::new();
        let mut object = 0;
        for _ in 0..IDENTITY_ROUNDS_MAX {
            match self.ask(unit, Query::Identify { code: 1, object }).await? {
                Ok(request::Answer::Identity { objects, more }) => {
                    texts.extend(objects.iter().map(|(_, bytes)| words::printable(bytes)));
                    match more {
                        Some(next) if next > object => object = next,
                        _ => break,
                    }
                }
                _ => break,
            }
        }
        texts.retain(|text| !text.is_empty());
        Ok(texts)
    }

    /// The outer error ends the scan: the line is gone, or the question is impossible.
    async fn ask(
        &mut self,
        unit: UnitId,
        query: Query,
    ) -> Result<Result<request::Answer, LineFault>, ScanError> {
        for _ in 0..=REASKS_MAX {
            match self.asker.ask(Request { unit, query: query.clone() }, self.times).await {
                Ok(answer) => return Ok(Ok(answer)),
                Err(CommandError::Line(LineFault::Down) | CommandError::Down(_)) => {
                    if let Medium::Serial(serial) = &self.attempt.bus.medium {
                        return Err(self.attempt.error(format!("{} was lost", serial.port.display())));
                    }
                    // A fresh line opens at once; the old one would wait longer and longer.
                    *self = Self::open(self.attempt, self.times.timeout).await?;
                }
                Err(CommandError::Line(fault)) => return Ok(Err(fault)),
                Err(error) => return Err(self.attempt.error(error.to_string())),
            }
        }
        Ok(Err(LineFault::Silence))
    }
}

/// A schedule that never asks anything.
struct Silent;

impl Orders for Silent {
    fn next(&mut self, _: BootNs) -> Step {
        Step::Wait(BootNs(u64::MAX))
    }

    fn answered(&mut self, _: BootNs, _: Ticket, _: Result<request::Answer, LineFault>) {}

    fn bus_down(&mut self, _: BootNs) {}

    fn bus_up(&mut self, _: BootNs) {}

    fn take_cycles(&mut self) -> Vec<Cycle> {
        Vec::new()
    }
}

/// Results on standard output, progress on standard error if that is a terminal. With JSON only units are results.
struct Console {
    json: bool,
    paper: Paper,
    terminal: bool,
    width: usize,
}

impl Console {
    fn new(json: bool) -> Self {
        Self { json, paper: terminal::paper(), terminal: terminal::can_overwrite_errors(), width: 0 }
    }
}

impl Show for Console {
    fn unit(&mut self, attempt: &Attempt, found: &Found) {
        self.progress("");
        if self.json {
            say::json(&serde_json::json!(Unit::new(attempt, found)));
        } else {
            say::text(&self.paper.wrap(&(words::unit(attempt, found) + "\n")));
        }
    }

    fn line(&mut self, text: &str) {
        self.progress("");
        if self.json {
            say::complaint(text);
        } else {
            say::text(&self.paper.wrap(&format!("{text}\n")));
        }
    }

    fn progress(&mut self, text: &str) {
        if self.terminal {
            let text = paper::cut(text, terminal::size().0.saturating_sub(1));
            let width = paper::width(&text);
            // Nobody looks if it cannot be written.
            let _ = write!(io::stderr(), "\r{text}{:1$}\r{text}", "", self.width.saturating_sub(width));
            self.width = width;
        }
    }
}

#[cfg(test)]
mod tests;

//! Modbus TCP on a connection: several requests in flight.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use gateway_core::os::{self, Doing};
use gateway_core::poll::request::LineFault;
use gateway_core::poll::schedule::Step;
use gateway_core::tag::BootNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{End, Habits, Lost, Talk, Waiting, is_close};
use super::desk::{Desk, Question};
use super::wire::Wire;
use super::{Orders, WireCounters};
use crate::clock;
use crate::modbus::mbap::{Client, PIPELINE_MAX};

/// Bytes read at once: several answers.
const READ_BYTES_MAX: usize = 4096;
/// Reads in a row before a request goes out; a device that babbles faster must not hold the task up.
const WAITING_READS_MAX: usize = 64;
/// A connection that takes no bytes for so long is dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeouts in a row, without any byte in between, after which a connection is given up: the other side may have forgotten it. It is asked nothing more, and ends
/// when nothing is on its way: then nothing is lost with it.
const SILENT_MAX: u32 = 5;

/// A request in flight.
struct Flight {
    waiting: Waiting,
    /// Bytes of this connection up to the end of its frame.
    ends_at: u64,
}

/// The requests of a bus and its connection.
pub(super) struct Line {
    /// HOST:PORT, for a person.
    place: String,
    habits: Habits,
    client: Client,
    flights: BTreeMap<u64, Flight>,
    next_key: u64,
    last_answer: BootNs,
    pipeline: usize,
    out: Vec<u8>,
    /// Bytes that were put into `out` since the connection was opened, and how many of them the kernel has taken.
    queued: u64,
    written: u64,
    command_was_last: bool,
}

impl<O: Orders> Talk<O> for Line {
    fn opened(&mut self, now: BootNs, _: bool) {
        self.client.abandon();
        self.out.clear();
        (self.queued, self.written) = (0, 0);
        self.last_answer = now;
    }

    async fn talk(&mut self, desk: &mut Desk<O>, wire: &mut dyn Wire) -> End {
        match self.turns(desk, wire).await {
            Ok(end) => end,
            Err(error) => {
                // What came before the end counts.
                if self.read_waiting(wire).is_err() {
                    log::debug!(bus = desk.name.as_str(); "the connection has ended: {error}");
                }
                self.settle(desk, clock::now());
                let why = format!("connection to {} lost: {}", self.place, words(&error));
                // Bytes that are no frames are the device's own fault, and a fresh connection is the only remedy.
                let ends = is_close(&error) || error.kind() == io::ErrorKind::InvalidData;
                if ends { End::Closed(why) } else { End::Broken(why) }
            }
        }
    }

    fn take_lost(&mut self) -> Vec<Lost> {
        self.client.abandon();
        let written = self.written;
        let lost = |flight: Flight| Lost { sent: flight.ends_at <= written, waiting: flight.waiting };
        std::mem::take(&mut self.flights).into_values().map(lost).collect()
    }

    fn counters(&self) -> WireCounters {
        WireCounters::Tcp(*self.client.counters())
    }
}

fn words(error: &io::Error) -> String {
    if is_close(error) { "closed by the device".to_owned() } else { os::sentence(error, Doing::Connecting) }
}

impl Line {
    pub(super) fn new(host: &str, port: u16, pipeline: u8, habits: Habits) -> Self {
        Self {
            place: format!("{host}:{port}"),
            habits,
            client: Client::new(),
            flights: BTreeMap::new(),
            next_key: 0,
            last_answer: clock::now(),
            pipeline: usize::from(pipeline).clamp(1, PIPELINE_MAX),
            out: Vec::new(),
            queued: 0,
            written: 0,
            command_was_last: false,
        }
    }

    /// Asks and answers until the connection is lost or its cycle is done.
    async fn turns<O: Orders>(&mut self, desk: &mut Desk<O>, wire: &mut dyn Wire) -> io::Result<End> {
        let mut buffer = [0; READ_BYTES_MAX];
        loop {
            let now = clock::now();
            desk.report(now, || WireCounters::Tcp(*self.client.counters()));
            let next = self.fill(desk, now);
            if !self.out.is_empty() {
                // A request is not given to a connection that has ended: then it surely was not sent.
                self.read_waiting(wire)?;
                self.settle(desk, clock::now());
                self.send(wire).await?;
            }
            if self.flights.is_empty() && desk.waiting.is_empty() && self.habits.cycle_is_done(now, next) {
                return Ok(End::CycleDone);
            }
            let wake =
                next.min(self.client.poll_timeout().unwrap_or(next)).min(now.plus(super::REPORT_EVERY));
            tokio::select! {
                biased;
                read = wire.read(&mut buffer) => self.take(&buffer, read?)?,
                command = desk.commands.recv(), if self.has_room(desk) => match command {
                    Some(command) => self.ask(desk, fresh(Question::Command(command)), clock::now()),
                    None => return Ok(End::Stopped),
                },
                rung = desk.alarm.until(wake) => {
                    rung?;
                    // An answer that is there is read before its timeout is judged, however late this thread runs.
                    self.read_waiting(wire)?;
                }
            }
            self.settle(desk, clock::now());
            if self.is_silent() && self.flights.is_empty() {
                log::debug!(bus = desk.name.as_str(); "{SILENT_MAX} requests in a row without an answer: the connection to {} is given up", self.place);
                return Ok(End::Silent);
            }
        }
    }

    fn take(&mut self, buffer: &[u8], bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = self.client.received(clock::now(), &buffer[..bytes]);
        taken.map_err(|lost| io::Error::new(io::ErrorKind::InvalidData, lost))
    }

    /// Takes what can be read at this moment.
    fn read_waiting(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES_MAX];
        for _ in 0..WAITING_READS_MAX {
            match wire.read_waiting(&mut buffer)? {
                Some(bytes) => self.take(&buffer, bytes)?,
                None => break,
            }
        }
        Ok(())
    }

    async fn send(&mut self, wire: &mut dyn Wire) -> io::Result<()> {
        while !self.out.is_empty() {
            let written = tokio::time::timeout(WRITE_TIMEOUT, wire.write(&self.out)).await;
            let bytes = written
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the device takes no bytes"))??;
            if bytes == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.out.drain(..bytes);
            self.written += bytes as u64;
        }
        Ok(())
    }

    /// Whether nothing comes on this connection any more.
    fn is_silent(&self) -> bool {
        self.client.silent_in_row() >= SILENT_MAX
    }

    /// Whether another request may go out. One that was lost with a connection is alone on the line.
    fn has_room<O>(&self, desk: &Desk<O>) -> bool {
        if self.is_silent() {
            return false;
        }
        let again = desk.waiting.front().is_some_and(|waiting| waiting.again)
            || self.flights.values().any(|flight| flight.waiting.again);
        self.flights.len() < if again { 1 } else { self.pipeline }
    }

    /// Fills the pipeline with what waits, and from the commands and the schedule in turn. Returns when there may be more to ask.
    fn fill<O: Orders>(&mut self, desk: &mut Desk<O>, now: BootNs) -> BootNs {
        while self.has_room(desk) {
            let waiting = match desk.waiting.pop_front() {
                Some(waiting) => waiting,
                None => match self.choose(desk, now) {
                    Ok(question) => fresh(question),
                    Err(moment) => return moment,
                },
            };
            let delay = match &waiting.question {
                Question::Poll(order) => order.delay_before,
                Question::Command(_) => Duration::ZERO,
            };
            let due = self.last_answer.plus(delay);
            if now < due {
                desk.waiting.push_front(waiting);
                return due;
            }
            self.ask(desk, waiting, now);
        }
        BootNs(u64::MAX)
    }

    /// The next command or order in turn, or when there may be one.
    fn choose<O: Orders>(&mut self, desk: &mut Desk<O>, now: BootNs) -> Result<Question, BootNs> {
        if !self.command_was_last
            && let Ok(command) = desk.commands.try_recv()
        {
            self.command_was_last = true;
            return Ok(Question::Command(command));
        }
        self.command_was_last = false;
        match desk.next(now) {
            Step::Ask(order) => Ok(Question::Poll(order)),
            Step::Wait(moment) => Err(moment),
        }
    }

    fn ask<O: Orders>(&mut self, desk: &mut Desk<O>, waiting: Waiting, now: BootNs) {
        self.next_key += 1;
        let (key, before) = (self.next_key, self.out.len());
        let question = &waiting.question;
        match self.client.send(now, key, question.request(), question.timeout(), &mut self.out) {
            Ok(()) => {
                self.queued += (self.out.len() - before) as u64;
                self.flights.insert(key, Flight { waiting, ends_at: self.queued });
            }
            Err(error) => match waiting.question {
                Question::Poll(order) => {
                    log::error!(bus = desk.name.as_str(); "a poll cannot be put on the wire: {error}");
                    desk.answered(now, order.ticket, Err(LineFault::Mismatch));
                }
                Question::Command(command) => desk.reply(command, Err(error.into())),
            },
        }
    }

    /// Hands out what has ended.
    fn settle<O: Orders>(&mut self, desk: &mut Desk<O>, now: BootNs) {
        while let Some((key, outcome)) = self.client.poll(now) {
            self.last_answer = now;
            if let Some(flight) = self.flights.remove(&key) {
                let sent = flight.ends_at <= self.written;
                desk.finish(now, flight.waiting.question, sent, outcome);
            }
        }
    }
}

fn fresh(question: Question) -> Waiting {
    Waiting { question, again: false }
}

//! The task of a Modbus TCP bus: several requests in flight on one connection.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use gateway_core::os::{self, Doing};
use gateway_core::poll::request::{Answer, LineFault};
use gateway_core::poll::schedule::{Order, Step, Ticket};
use gateway_core::poll::settings::Medium;
use gateway_core::tag::BootNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::desk::{Desk, Stopped};
use super::{Command, CommandError, Orders, WireCounters, wire};
use crate::clock;
use crate::modbus::mbap::{Client, PIPELINE_MAX};

/// Bytes read at once: several answers.
const READ_BYTES_MAX: usize = 4096;
/// A connection that takes no bytes for so long is dead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeouts in a row, without any byte in between, after which a connection is given up: the other side may have forgotten it.
const SILENT_MAX: u32 = 5;

/// Who asked for what is in flight.
enum Asker {
    Schedule(Ticket),
    Command(Command),
}

struct Line {
    client: Client,
    askers: BTreeMap<u64, Asker>,
    next_key: u64,
    /// An order whose delay is not over yet.
    held: Option<Order>,
    last_answer: BootNs,
    pipeline: usize,
    out: Vec<u8>,
    command_was_last: bool,
}

pub(super) async fn run<O: Orders>(mut desk: Desk<O>, medium: Medium) {
    let Medium::Tcp { host, port, pipeline, connect_timeout } = medium else { return };
    let mut line = Line {
        client: Client::new(),
        askers: BTreeMap::new(),
        next_key: 0,
        held: None,
        last_answer: clock::now(),
        pipeline: usize::from(pipeline).clamp(1, PIPELINE_MAX),
        out: Vec::new(),
        command_was_last: false,
    };
    loop {
        let stopped = desk.stopped();
        let connected = tokio::select! {
            biased;
            () = stopped => return,
            connected = wire::connect(&host, port, connect_timeout) => connected,
        };
        match connected {
            Ok(mut stream) => {
                desk.up(clock::now());
                let stopped = desk.stopped();
                let why = tokio::select! {
                    biased;
                    () = stopped => return,
                    error = talk(&mut desk, &mut stream, &mut line) => os::sentence(&error, Doing::Connecting),
                };
                line.lost(&mut desk);
                desk.down(clock::now(), &format!("connection to {host}:{port} lost: {why}"));
            }
            Err(why) => desk.down(clock::now(), &why),
        }
        if desk.rest(|| WireCounters::Tcp(*line.client.counters())).await == Err(Stopped) {
            return;
        }
    }
}

/// Asks and answers until the connection is lost.
async fn talk<O: Orders>(desk: &mut Desk<O>, stream: &mut TcpStream, line: &mut Line) -> io::Error {
    let mut buffer = [0; READ_BYTES_MAX];
    loop {
        let now = clock::now();
        desk.report(now, || WireCounters::Tcp(*line.client.counters()));
        let wake = line.fill(desk, now);
        if !line.out.is_empty() {
            if let Err(error) = send(stream, &line.out).await {
                return error;
            }
            line.out.clear();
        }
        let wake = wake.min(line.client.poll_timeout().unwrap_or(wake)).min(now.plus(super::REPORT_EVERY));
        tokio::select! {
            biased;
            read = stream.read(&mut buffer) => match read {
                Ok(0) => return io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the device"),
                Ok(bytes) => if let Err(lost) = line.client.received(&buffer[..bytes]) {
                    return io::Error::new(io::ErrorKind::InvalidData, lost);
                },
                Err(error) => return error,
            },
            command = desk.commands.recv(), if line.has_room() => match command {
                Some(command) => line.command(desk, command, now),
                None => return io::Error::other("nobody is left to work for"),
            },
            rung = desk.alarm.until(wake) => if let Err(error) = rung {
                return error;
            },
        }
        line.settle(desk, clock::now());
        if line.client.silent_in_row() >= SILENT_MAX {
            return io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{SILENT_MAX} requests in a row without an answer"),
            );
        }
    }
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    match tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(bytes)).await {
        Ok(written) => written,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the device takes no bytes")),
    }
}

impl Line {
    fn has_room(&self) -> bool {
        self.client.in_flight() < self.pipeline
    }

    /// Fills the pipeline from the commands and the schedule in turn. Returns when there may be more to ask.
    fn fill<O: Orders>(&mut self, desk: &mut Desk<O>, now: BootNs) -> BootNs {
        while self.has_room() {
            if !self.command_was_last
                && let Ok(command) = desk.commands.try_recv()
            {
                self.command_was_last = true;
                self.command(desk, command, now);
                continue;
            }
            self.command_was_last = false;
            let order = match self.held.take() {
                Some(order) => order,
                None => match desk.next(now) {
                    Step::Ask(order) => order,
                    Step::Wait(moment) => return moment,
                },
            };
            let due = self.last_answer.plus(order.delay_before);
            if now < due {
                self.held = Some(order);
                return due;
            }
            self.order(desk, order, now);
        }
        BootNs(u64::MAX)
    }

    fn order<O: Orders>(&mut self, desk: &mut Desk<O>, order: Order, now: BootNs) {
        let key = self.key();
        match self.client.send(now, key, &order.request, order.timeout, &mut self.out) {
            Ok(()) => {
                self.askers.insert(key, Asker::Schedule(order.ticket));
            }
            Err(error) => {
                log::error!(bus = desk.name.as_str(); "a poll cannot be put on the wire: {error}");
                desk.answered(now, order.ticket, Err(LineFault::Mismatch));
            }
        }
    }

    fn command<O: Orders>(&mut self, desk: &mut Desk<O>, command: Command, now: BootNs) {
        let key = self.key();
        match self.client.send(now, key, &command.request, command.times.timeout, &mut self.out) {
            Ok(()) => {
                self.askers.insert(key, Asker::Command(command));
            }
            Err(error) => desk.reply(command, Err(error.into())),
        }
    }

    /// Hands out what has ended.
    fn settle<O: Orders>(&mut self, desk: &mut Desk<O>, now: BootNs) {
        while let Some((key, outcome)) = self.client.poll(now) {
            self.last_answer = now;
            self.finish(desk, now, key, outcome);
        }
    }

    /// The connection is gone, and with it what was in flight or held.
    fn lost<O: Orders>(&mut self, desk: &mut Desk<O>) {
        let now = clock::now();
        self.client.abandon();
        self.out.clear();
        self.settle(desk, now);
        if let Some(order) = self.held.take() {
            desk.answered(now, order.ticket, Err(LineFault::Down));
        }
    }

    fn finish<O: Orders>(
        &mut self,
        desk: &mut Desk<O>,
        now: BootNs,
        key: u64,
        outcome: Result<Answer, LineFault>,
    ) {
        match self.askers.remove(&key) {
            Some(Asker::Schedule(ticket)) => desk.answered(now, ticket, outcome),
            Some(Asker::Command(command)) => desk.reply(command, outcome.map_err(CommandError::from)),
            None => {}
        }
    }

    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}

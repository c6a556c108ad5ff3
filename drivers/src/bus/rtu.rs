//! The task of an RTU bus: one exchange at a time.

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use gateway_core::os::{self, Doing};
use gateway_core::poll::request::{Answer, LineFault};
use gateway_core::poll::schedule::Step as ScheduleStep;
use gateway_core::tag::BootNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection::{End, Habits, Lost, Talk, Waiting, is_close};
use super::desk::{Desk, Question};
use super::wire::Wire;
use super::{Orders, WireCounters};
use crate::alarm::Alarm;
use crate::clock;
use crate::modbus::rtu::{Ask, Master, Step, Timing};

/// Bytes read at once: more than a frame and its echo.
const READ_BYTES_MAX: usize = 1024;
/// Reads in a row before a request goes out; a line that babbles faster must not hold the task up.
const DRAIN_READS_MAX: usize = 64;
/// A port that takes no bytes for so long is broken: the longest frame takes 2.4 s at 1200 baud, and buffers hold 4 kB.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// The master of a bus and what it is asked.
pub(super) struct Line {
    master: Master,
    habits: Habits,
    /// The question whose exchange the line did not survive, and whether its request had been sent.
    lost: Option<Lost>,
}

impl<O: Orders> Talk<O> for Line {
    fn opened(&mut self, now: BootNs, again: bool) {
        if again {
            self.master.resumed(now);
        } else {
            self.master.reopened(now);
        }
    }

    async fn talk(&mut self, desk: &mut Desk<O>, wire: &mut dyn Wire) -> End {
        match self.turns(desk, wire).await {
            Ok(end) => end,
            Err(error) if is_close(&error) => End::Closed("the line was closed by the other side".to_owned()),
            Err(error) => End::Broken(format!("the line broke: {}", os::sentence(&error, Doing::Device))),
        }
    }

    fn take_lost(&mut self) -> Vec<Lost> {
        self.lost.take().into_iter().collect()
    }

    fn counters(&self) -> WireCounters {
        WireCounters::Rtu(*self.master.counters())
    }
}

impl Line {
    pub(super) fn new(timing: Timing, habits: Habits) -> Self {
        Self { master: Master::new(timing, clock::now()), habits, lost: None }
    }

    /// What was lost with a connection, commands and polls in turn, until the line is lost or its cycle is done.
    async fn turns<O: Orders>(&mut self, desk: &mut Desk<O>, wire: &mut dyn Wire) -> io::Result<End> {
        let mut buffer = [0; READ_BYTES_MAX];
        loop {
            if let Some(waiting) = desk.waiting.pop_front() {
                self.serve(desk, wire, waiting).await?;
                continue;
            }
            if let Ok(command) = desk.commands.try_recv() {
                self.serve(desk, wire, fresh(Question::Command(command))).await?;
            }
            let now = clock::now();
            desk.report(now, || WireCounters::Rtu(*self.master.counters()));
            let moment = match desk.next(now) {
                ScheduleStep::Ask(order) => {
                    self.serve(desk, wire, fresh(Question::Poll(order))).await?;
                    continue;
                }
                ScheduleStep::Wait(moment) if self.habits.cycle_is_done(now, moment) => {
                    return Ok(End::CycleDone);
                }
                ScheduleStep::Wait(moment) => moment.min(now.plus(super::REPORT_EVERY)),
            };
            tokio::select! {
                biased;
                command = desk.commands.recv() => match command {
                    Some(command) => self.serve(desk, wire, fresh(Question::Command(command))).await?,
                    None => return Ok(End::Stopped),
                },
                read = wire.read(&mut buffer) => match read? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    bytes => self.master.received(clock::now(), &buffer[..bytes]),
                },
                rung = desk.alarm.until(moment) => rung?,
            }
        }
    }

    /// Carries one question to its end, or keeps it when the line does not survive it.
    async fn serve<O: Orders>(
        &mut self,
        desk: &mut Desk<O>,
        wire: &mut dyn Wire,
        waiting: Waiting,
    ) -> io::Result<()> {
        if let Err(error) = self.master.start(clock::now(), ask(&waiting.question, desk.pause)) {
            match waiting.question {
                Question::Poll(order) => {
                    log::error!(bus = desk.name.as_str(); "a poll cannot be put on the wire: {error}");
                    desk.answered(clock::now(), order.ticket, Err(LineFault::Mismatch));
                }
                Question::Command(command) => desk.reply(command, Err(error.into())),
            }
            return Ok(());
        }
        // Fences are not counted as requests.
        let before = self.master.counters().requests;
        match exchange(wire, &mut self.master, &mut desk.alarm).await {
            Ok(outcome) => {
                let sent = self.master.counters().requests > before;
                desk.finish(clock::now(), waiting.question, sent, outcome);
                Ok(())
            }
            Err(error) => {
                self.lost = Some(Lost { waiting, sent: self.master.request_is_out() });
                Err(error)
            }
        }
    }
}

fn ask(question: &Question, pause: Duration) -> Ask {
    let request = question.request().clone();
    match question {
        Question::Poll(order) => Ask {
            request,
            timeout: order.timeout,
            delay_before: order.delay_before,
            turnaround: order.turnaround,
        },
        Question::Command(command) => Ask {
            request,
            timeout: command.times.timeout,
            delay_before: command.times.delay_before + pause,
            turnaround: command.times.turnaround,
        },
    }
}

fn fresh(question: Question) -> Waiting {
    Waiting { question, again: false }
}

/// Carries the exchange that was started on `master` to its end. Dropping the future leaves the exchange unfinished; the next
/// [`Master::start`] gives it up.
///
/// # Errors
/// The line is gone.
pub async fn exchange(
    wire: &mut dyn Wire,
    master: &mut Master,
    alarm: &mut Alarm,
) -> io::Result<Result<Answer, LineFault>> {
    let mut buffer = [0; READ_BYTES_MAX];
    let (mut drained_until, mut begun) = (None, BootNs::default());
    loop {
        // Time alone judges only what had not arrived by then: the bytes are read first, however late this thread runs.
        let (now, lost) = match drain(wire, master, &mut buffer) {
            Ok(now) => (now, None),
            Err(error) => (clock::now(), Some(error)),
        };
        match (master.poll(now), lost) {
            // The answer may have come just before the end of the line.
            (Step::Done(outcome), _) => return Ok(outcome),
            (_, Some(error)) => return Err(error),
            (Step::Idle, None) => return Ok(Err(LineFault::Down)),
            (Step::Send, None) => {
                wire.flush_input()?;
                begun = clock::now();
                send(wire, master.frame()).await?;
                master.sent(begun, clock::now());
            }
            (Step::Wait(_), None) if wire.is_line() && master.whole_at().is_some_and(|whole| whole > now) => {
                alarm.until(master.whole_at().unwrap_or(now)).await?;
            }
            (Step::Wait(until), None) => {
                let end = master
                    .sending_until()
                    .filter(|_| wire.is_line() && drained_until != master.sending_until());
                let read = tokio::select! {
                    biased;
                    read = wire.read(&mut buffer) => read?,
                    rung = alarm.until(until.min(end.unwrap_or(until))) => {
                        rung?;
                        if let Some(end) = end
                            && clock::now() >= end
                        {
                            drained_until = Some(end);
                            let now = clock::now();
                            let unsent = wire.unsent_bytes();
                            if unsent > 0 && now.since(begun) > WRITE_TIMEOUT {
                                return Err(io::Error::new(io::ErrorKind::TimedOut, "the port sends no bytes"));
                            }
                            master.still_sending(now, unsent);
                        }
                        continue;
                    }
                };
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                master.received(clock::now(), &buffer[..read]);
            }
        }
    }
}

/// Gives the master what can be read. Returns a moment by which nothing else had arrived.
fn drain(wire: &mut dyn Wire, master: &mut Master, buffer: &mut [u8]) -> io::Result<BootNs> {
    for _ in 0..DRAIN_READS_MAX {
        let now = clock::now();
        match wire.read_waiting(buffer)? {
            None => return Ok(now),
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(bytes) => master.received(clock::now(), &buffer[..bytes]),
        }
    }
    // It babbles: the master sees that the line is never silent.
    Ok(clock::now())
}

async fn send(wire: &mut dyn Wire, frame: &[u8]) -> io::Result<()> {
    match tokio::time::timeout(WRITE_TIMEOUT, wire.write_all(frame)).await {
        Ok(written) => written,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the port takes no bytes")),
    }
}

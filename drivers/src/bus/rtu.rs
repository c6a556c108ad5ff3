//! The task of an RTU bus: one exchange at a time.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use gateway_core::os::{self, Doing};
use gateway_core::poll::request::{Answer, LineFault};
use gateway_core::poll::schedule::{Order, Step as ScheduleStep};
use gateway_core::tag::BootNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::desk::{Desk, Stopped};
use super::wire::{Opener, Wire};
use super::{Command, Orders, WireCounters};
use crate::alarm::Alarm;
use crate::clock;
use crate::modbus::rtu::{Ask, Master, Step};

/// Bytes read at once: more than a frame and its echo.
const READ_BYTES_MAX: usize = 1024;
/// Reads in a row before a request goes out; a line that babbles faster must not hold the task up.
const DRAIN_READS_MAX: usize = 64;
/// A port that takes no bytes for so long is broken: the longest frame takes 2.4 s at 1200 baud, and buffers hold 4 kB.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why talking ended.
enum End {
    Stopped,
    Lost(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

pub(super) async fn run<O: Orders>(mut desk: Desk<O>, opener: Opener) {
    let mut master = Master::new(opener.timing(), clock::now());
    loop {
        let stopped = desk.stopped();
        let opened = tokio::select! {
            biased;
            () = stopped => return,
            opened = opener.open() => opened,
        };
        match opened {
            Ok(mut wire) => {
                master.reopened(clock::now());
                desk.up(clock::now());
                match talk(&mut desk, wire.as_mut(), &mut master).await {
                    End::Stopped => return,
                    End::Lost(error) => desk.down(clock::now(), &words(&error)),
                }
            }
            Err(why) => desk.down(clock::now(), &why),
        }
        if desk.rest(|| WireCounters::Rtu(*master.counters())).await == Err(Stopped) {
            return;
        }
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the line was closed by the other side".to_owned(),
        _ => format!("the line broke: {}", os::sentence(error, Doing::Device)),
    }
}

/// Polls and commands in turn until the line is lost or the task is stopped.
async fn talk<O: Orders>(desk: &mut Desk<O>, wire: &mut dyn Wire, master: &mut Master) -> End {
    let stopped = desk.stopped();
    tokio::select! {
        biased;
        () = stopped => End::Stopped,
        end = turns(desk, wire, master) => end,
    }
}

async fn turns<O: Orders>(desk: &mut Desk<O>, wire: &mut dyn Wire, master: &mut Master) -> End {
    let mut buffer = [0; READ_BYTES_MAX];
    loop {
        if let Ok(command) = desk.commands.try_recv()
            && let Err(error) = serve(desk, wire, master, command).await
        {
            return error.into();
        }
        let now = clock::now();
        desk.report(now, || WireCounters::Rtu(*master.counters()));
        match desk.next(now) {
            ScheduleStep::Ask(order) => {
                if let Err(error) = poll_device(desk, wire, master, order).await {
                    return error.into();
                }
            }
            ScheduleStep::Wait(moment) => {
                let wake = moment.min(now.plus(super::REPORT_EVERY));
                tokio::select! {
                    biased;
                    command = desk.commands.recv() => match command {
                        Some(command) => {
                            if let Err(error) = serve(desk, wire, master, command).await {
                                return error.into();
                            }
                        }
                        None => return End::Stopped,
                    },
                    read = wire.read(&mut buffer) => match read {
                        Ok(0) => return End::Lost(io::ErrorKind::UnexpectedEof.into()),
                        Ok(bytes) => master.received(clock::now(), &buffer[..bytes]),
                        Err(error) => return error.into(),
                    },
                    rung = desk.alarm.until(wake) => if let Err(error) = rung {
                        return error.into();
                    },
                }
            }
        }
    }
}

async fn poll_device<O: Orders>(
    desk: &mut Desk<O>,
    wire: &mut dyn Wire,
    master: &mut Master,
    order: Order,
) -> io::Result<()> {
    let Order { ticket, request, timeout, delay_before, turnaround, .. } = order;
    let ask = Ask { request, timeout, delay_before, turnaround };
    let outcome = match master.start(clock::now(), ask) {
        Ok(()) => exchange(wire, master, &mut desk.alarm).await,
        Err(error) => {
            log::error!(bus = desk.name.as_str(); "a poll cannot be put on the wire: {error}");
            Ok(Err(LineFault::Mismatch))
        }
    };
    let now = clock::now();
    match outcome {
        Ok(outcome) => {
            desk.answered(now, ticket, outcome);
            Ok(())
        }
        Err(error) => {
            desk.answered(now, ticket, Err(LineFault::Down));
            Err(error)
        }
    }
}

async fn serve<O: Orders>(
    desk: &mut Desk<O>,
    wire: &mut dyn Wire,
    master: &mut Master,
    command: Command,
) -> io::Result<()> {
    let times = command.times;
    let ask = Ask {
        request: command.request.clone(),
        timeout: times.timeout,
        delay_before: times.delay_before + desk.pause,
        turnaround: times.turnaround,
    };
    if let Err(error) = master.start(clock::now(), ask) {
        desk.reply(command, Err(error.into()));
        return Ok(());
    }
    match exchange(wire, master, &mut desk.alarm).await {
        Ok(outcome) => {
            desk.reply(command, outcome.map_err(Into::into));
            Ok(())
        }
        Err(error) => {
            desk.reply(command, Err(LineFault::Down.into()));
            Err(error)
        }
    }
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
        let now = clock::now();
        match master.poll(now) {
            Step::Done(outcome) => return Ok(outcome),
            Step::Idle => return Ok(Err(LineFault::Down)),
            Step::Send => {
                if drain(wire, master, &mut buffer).await? {
                    continue;
                }
                wire.flush_input()?;
                begun = clock::now();
                send(wire, master.frame()).await?;
                master.sent(begun);
            }
            Step::Wait(_) if wire.is_line() && master.whole_at().is_some_and(|whole| whole > now) => {
                alarm.until(master.whole_at().unwrap_or(now)).await?;
                drain(wire, master, &mut buffer).await?;
            }
            Step::Wait(until) => {
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

/// Gives the master what can be read at this moment. Returns whether there was anything.
async fn drain(wire: &mut dyn Wire, master: &mut Master, buffer: &mut [u8]) -> io::Result<bool> {
    for reads in 0..DRAIN_READS_MAX {
        match read_at_once(wire, buffer).await {
            None => return Ok(reads > 0),
            Some(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Ok(bytes)) => master.received(clock::now(), &buffer[..bytes]),
            Some(Err(error)) => return Err(error),
        }
    }
    Ok(true)
}

async fn read_at_once(wire: &mut dyn Wire, buffer: &mut [u8]) -> Option<io::Result<usize>> {
    poll_fn(|cx| {
        let mut buffer = ReadBuf::new(buffer);
        Poll::Ready(match Pin::new(&mut *wire).poll_read(cx, &mut buffer) {
            Poll::Pending => None,
            Poll::Ready(read) => Some(read.map(|()| buffer.filled().len())),
        })
    })
    .await
}

async fn send(wire: &mut dyn Wire, frame: &[u8]) -> io::Result<()> {
    match tokio::time::timeout(WRITE_TIMEOUT, wire.write_all(frame)).await {
        Ok(written) => written,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the port takes no bytes")),
    }
}

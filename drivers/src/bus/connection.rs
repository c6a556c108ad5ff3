//! What the end of a connection means, and the life of a line around it: opened, talked on, lost or closed, opened again.
//!
//! Many devices and serial servers close a connection that they have answered on: after each answer, after some seconds without a request, after an hour. That is
//! no fault: the connection is opened again when it is needed, nothing is logged and nobody hears of it. A request that was lost with it is asked again on the
//! next one, first and alone, unless it may have written something. So is a connection on which nothing comes any more: it may be the connection that is dead, and whether
//! a device answers is told of the device. A bus is down when it cannot be opened, when connections in a row bring no
//! answer at all, or when the line broke in another way.
//!
//! Bounds: [`super::history::FRUITLESS_MAX`] connections without an answer in a row; a connection that was good is tried again for [`RECONNECT_FOR`].

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use gateway_core::poll::request::LineFault;
use gateway_core::poll::settings::{Connection, Medium};
use gateway_core::tag::BootNs;

use super::desk::{Desk, Question, Stopped, only_reads};
use super::wire::{Dial, Wire};
use super::{CommandError, Orders, REOPEN_MIN, WireCounters};
use crate::clock;

/// So long a device may refuse the connection after one on which it has answered, before its bus is down: small devices keep a place for
/// one connection, and free it some time after the last has ended.
pub(super) const RECONNECT_FOR: Duration = Duration::from_secs(2);
/// With a connection for each cycle: a pause within a cycle (a busy device, a delay before a request) is no end of it up to this length.
pub(super) const WITHIN_CYCLE: Duration = Duration::from_millis(250);
/// A connection that is not there after so long is told to be opening.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How a kind of line is opened and closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Habits {
    /// Whether an end is part of life. Serial ports do not close.
    closes: bool,
    /// How long a connection lives.
    pub(super) connection: Connection,
    /// Pause before the first request.
    pause: Duration,
}

impl Habits {
    pub(super) fn of(medium: &Medium) -> Self {
        match medium {
            Medium::Tcp { connection, connect_pause, .. }
            | Medium::RtuOverTcp { connection, connect_pause, .. } => {
                Self { closes: true, connection: *connection, pause: *connect_pause }
            }
            Medium::Serial(_) | Medium::Sim => {
                Self { closes: false, connection: Connection::Keep, pause: Duration::ZERO }
            }
        }
    }

    /// Whether a connection on which nothing is to be asked before `next` has done its work.
    pub(super) fn cycle_is_done(&self, now: BootNs, next: BootNs) -> bool {
        self.connection == Connection::PerCycle && next > now.plus(WITHIN_CYCLE)
    }
}

/// Why talking on a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The task has to end.
    Stopped,
    /// Its cycle is done.
    CycleDone,
    /// The other side has closed it, or what comes on it is of no use.
    Closed(String),
    /// Nothing comes on it any more, and nothing is on its way.
    Silent,
    /// It is of no use any more.
    Broken(String),
}

/// A question that was lost with its connection.
pub(super) struct Lost {
    pub(super) waiting: Waiting,
    /// The whole request was given to the kernel: the device may have got it.
    pub(super) sent: bool,
}

/// A question that waits for its turn on the line.
pub(super) struct Waiting {
    pub(super) question: Question,
    /// It was lost with a connection: it goes first and alone.
    pub(super) again: bool,
}

/// A protocol on a connection.
pub(super) trait Talk<O: Orders>: Send {
    /// A connection was opened; `again` if the one before it was only closed, and the bus was not down since.
    fn opened(&mut self, now: BootNs, again: bool);
    /// Asks and answers until it ends.
    fn talk(&mut self, desk: &mut Desk<O>, wire: &mut dyn Wire) -> impl Future<Output = End> + Send;
    /// What was on its way when the connection ended, oldest first.
    fn take_lost(&mut self) -> Vec<Lost>;
    /// Counters of the line.
    fn counters(&self) -> WireCounters;
}

/// Whether an error says that the other side has closed the connection, or does not know it any more.
pub(super) fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
    )
}

/// The life of a line, until the task is stopped.
pub(super) async fn run<O: Orders>(
    mut desk: Desk<O>,
    mut dial: impl Dial,
    habits: Habits,
    mut line: impl Talk<O>,
) {
    let mut wanted = true;
    loop {
        if !wanted && desk.waiting.is_empty() {
            match desk.until_wanted(|| line.counters()).await {
                Ok(question) => desk.waiting.push_back(Waiting { question, again: false }),
                Err(Stopped) => return,
            }
        }
        let why = match open(&mut desk, &mut dial, habits, || line.counters()).await {
            Err(Stopped) => return,
            Ok(Err(why)) => why,
            Ok(Ok(mut wire)) => {
                line.opened(clock::now(), desk.is_up());
                desk.up(clock::now());
                let stopped = desk.stopped();
                let end = tokio::select! {
                    biased;
                    () = stopped => End::Stopped,
                    end = line.talk(&mut desk, wire.as_mut()) => end,
                };
                drop(wire);
                wanted = false;
                match end {
                    End::Stopped => return,
                    End::CycleDone => continue,
                    End::Closed(why) => {
                        if habits.closes && goes_on(&mut desk, line.take_lost()) {
                            continue;
                        }
                        why
                    }
                    End::Silent => {
                        desk.give_up_silent();
                        continue;
                    }
                    End::Broken(why) => why,
                }
            }
        };
        for lost in line.take_lost() {
            give_up(&mut desk, lost, LineFault::Down);
        }
        while let Some(waiting) = desk.waiting.pop_front() {
            give_up(&mut desk, Lost { waiting, sent: false }, LineFault::Down);
        }
        desk.down(clock::now(), &why);
        if desk.rest(|| line.counters()).await == Err(Stopped) {
            return;
        }
        wanted = true;
    }
}

/// Opens a connection and waits for the pause after it. One that follows a good one is tried for [`RECONNECT_FOR`].
async fn open<O: Orders>(
    desk: &mut Desk<O>,
    dial: &mut impl Dial,
    habits: Habits,
    counters: impl Fn() -> WireCounters,
) -> Result<Result<Box<dyn Wire>, String>, Stopped> {
    let begun = clock::now();
    let patience = if habits.closes && desk.history.is_proven() { RECONNECT_FOR } else { Duration::ZERO };
    loop {
        let opened = dialled(desk, dial, &counters).await?;
        let next = clock::now().plus(REOPEN_MIN);
        match opened {
            Ok(wire) => {
                desk.pause_until(clock::now().plus(habits.pause), &counters).await?;
                return Ok(Ok(wire));
            }
            Err(_) if next < begun.plus(patience) => {
                desk.reopening();
                desk.pause_until(next, &counters).await?;
            }
            Err(why) => return Ok(Err(why)),
        }
    }
}

/// One try, of which the reports tell when it takes its time.
async fn dialled<O: Orders>(
    desk: &mut Desk<O>,
    dial: &mut impl Dial,
    counters: impl Fn() -> WireCounters,
) -> Result<Result<Box<dyn Wire>, String>, Stopped> {
    let slow = clock::now().plus(AT_ONCE);
    let mut dialling = std::pin::pin!(dial.dial());
    let stopped = desk.stopped();
    let mut stopped = std::pin::pin!(stopped);
    tokio::select! {
        biased;
        () = &mut stopped => return Err(Stopped),
        opened = &mut dialling => return Ok(opened),
        rung = desk.alarm.until(slow) => rung.map_err(|_| Stopped)?,
    }
    desk.reopening();
    desk.report(clock::now(), &counters);
    tokio::select! {
        biased;
        () = stopped => Err(Stopped),
        opened = dialling => Ok(opened),
    }
}

/// The other side has closed the connection. Puts what was lost with it where it belongs, and returns whether the bus goes on; if not, it is still to be given up.
fn goes_on<O: Orders>(desk: &mut Desk<O>, mut lost: Vec<Lost>) -> bool {
    if lost.is_empty() && !desk.history.has_answered() {
        // It was closed before the first request could go out.
        lost.extend(desk.waiting.pop_front().map(|waiting| Lost { waiting, sent: false }));
    }
    let units: Vec<u8> = lost.iter().map(|lost| lost.waiting.question.unit()).collect();
    let goes_on = desk.history.goes_on(&units);
    if goes_on {
        desk.count_close();
    }
    let (alone, answered) = (units.len() == 1, desk.history.has_answered());
    for Lost { mut waiting, sent } in lost.into_iter().rev() {
        let may_repeat = waiting.question.only_reads() || !sent;
        // Alone on a connection of its own, and again without an answer: more connections will not bring one.
        let hopeless = waiting.again && alone && !answered;
        if may_repeat && (!hopeless || !goes_on) {
            waiting.again = true;
            desk.waiting.push_front(waiting);
        } else {
            give_up(desk, Lost { waiting, sent }, LineFault::Silence);
        }
    }
    goes_on
}

/// Ends a question that is not asked again.
fn give_up<O: Orders>(desk: &mut Desk<O>, lost: Lost, fault: LineFault) {
    let Lost { waiting: Waiting { question, .. }, sent } = lost;
    match question {
        Question::Command(command) if sent && !only_reads(&command.request) => {
            desk.reply(command, Err(CommandError::Unanswered));
        }
        question => desk.finish(clock::now(), question, sent, Err(fault)),
    }
}

//! Signals that mean nothing to a program that runs for years, and whose default would end it: `kill -USR1` of somebody who takes it for another program, `SIGRTMIN+3` of a
//! container's tool, `SIGXFSZ` at a limit of the system. They are ignored, and each is told in the log.
//!
//! Left as they are: SIGTERM, SIGINT and SIGHUP, which have a meaning; SIGQUIT, which asks for the end; those of faults (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP,
//! SIGSYS); SIGXCPU, which a limit sends before it kills; and 32 and 33, which belong to the C library. SIGPIPE is ignored by Rust.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// By name and number ("signal(7)", the same on each architecture that we build for).
const NAMED: [(&str, i32); 9] = [
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGALRM", 14),
    ("SIGSTKFLT", 16),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGIO", 29),
    ("SIGPWR", 30),
];
/// Real-time signals. The last one of all, 64, cannot be heard.
const REAL_TIME: std::ops::Range<i32> = 34..64;
const LAST: i32 = 64;

/// From here on they are ignored. Call it within the runtime, which hears them.
///
/// # Errors
/// The system gives no signals.
pub(super) fn ignore() -> io::Result<()> {
    drivers::signals::ignore(LAST)?;
    let real_time = REAL_TIME.map(|number| (format!("SIGRTMIN+{}", number - REAL_TIME.start), number));
    let all = NAMED.map(|(name, number)| (name.to_owned(), number)).into_iter().chain(real_time);
    let mut heard: Vec<(String, Signal)> = all
        .map(|(name, number)| Ok((name, signal(SignalKind::from_raw(number))?)))
        .collect::<io::Result<_>>()?;
    tokio::spawn(poll_fn(move |cx| tell(&mut heard, cx)));
    Ok(())
}

/// Tells which have come; those that come while they are told are one.
fn tell(heard: &mut [(String, Signal)], cx: &mut Context<'_>) -> Poll<()> {
    for (name, signal) in heard {
        while signal.poll_recv(cx) == Poll::Ready(Some(())) {
            log::warn!(signal = name.as_str(); "signal {name} is ignored: it means nothing to this program");
        }
    }
    Poll::Pending
}

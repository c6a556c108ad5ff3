//! What becomes of a panic, which is always a fault of this program: it is told with its place, and then the process ends at once, so that the service
//! manager starts it again. Only work that somebody starts again, or whose end somebody takes as an answer, is contained: it alone ends.
//!
//! ```text
//! panic --> hook: log line --+-- within `contain` or `Contained` --> unwinds; whoever waits for the work hears of its end
//!                            `-- anywhere else ------------------> exit code 70, before anything is unwound
//! ```
//! So nothing has to be remembered where a task is started: one that nobody contains cannot be missing for a minute. Contained are bus tasks (started
//! again), the store's transactions (the database is opened again), and what an outsider's bytes could do only to his own connection.
//!
//! Never: takes a lock, or unwinds through the core loop, whose state would be half of two moments.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::future::Future;
use std::panic::PanicHookInfo;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    /// What this thread is at, if a panic in it ends that alone.
    static CONTAINED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// From here on a panic is logged with its place and ends the process with `code`, unless it is contained.
pub fn end_process_with(code: u8) {
    std::panic::set_hook(Box::new(move |info| {
        let contained = CONTAINED.try_with(Cell::get).ok().flatten();
        tell(info, contained);
        if contained.is_none() {
            std::process::exit(i32::from(code));
        }
    }));
}

fn tell(info: &PanicHookInfo<'_>, contained: Option<&'static str>) {
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let what = said(info);
    // With RUST_BACKTRACE=1 only.
    let trace = Backtrace::capture();
    let trace =
        if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
    match contained {
        Some(room) => {
            log::error!(event = "panic", room, place; "{room}: ended by a fault of this program at {place}: {what}; please report it{trace}");
        }
        None => {
            log::error!(event = "panic", place; "the program ends by a fault of its own at {place}: {what}; the service manager starts it again; please report it{trace}");
        }
    }
}

/// What the panic says of itself.
fn said(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no reason given".to_owned())
}

/// Puts the former word back, also when a panic unwinds through it.
struct Within(Option<&'static str>);

impl Within {
    fn enter(room: &'static str) -> Self {
        Self(CONTAINED.replace(Some(room)))
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        CONTAINED.set(self.0);
    }
}

/// Does something whose panic ends it alone; `room` says for a person what it is. The panic goes on to the caller, who has to have an answer to it.
pub fn contain<T>(room: &'static str, what: impl FnOnce() -> T) -> T {
    let _within = Within::enter(room);
    what()
}

/// A task whose panic ends it alone.
#[derive(Debug)]
pub struct Contained<F> {
    room: &'static str,
    task: Pin<Box<F>>,
}

impl<F: Future> Contained<F> {
    /// `room` says for a person what it is.
    pub fn new(room: &'static str, task: F) -> Self {
        Self { room, task: Box::pin(task) }
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _within = Within::enter(self.room);
        self.task.as_mut().poll(cx)
    }
}

#[cfg(test)]
pub(crate) mod tests;

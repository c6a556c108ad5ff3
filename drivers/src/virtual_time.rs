//! The clock of a test on tokio's paused clock, for the bus tasks as a whole: hours pass in milliseconds. Each thread has its own.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use gateway_core::tag::BootNs;
use tokio::time::Instant;

/// The moment at which every test begins.
const BEGUN_NS: u64 = 1_000_000_000_000;

thread_local! {
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// How far the clock has gone on while the thread was held up.
    static HELD_UP_NS: Cell<u64> = const { Cell::new(0) };
    static LATENESS: RefCell<Option<Box<dyn FnMut() -> Duration>>> = const { RefCell::new(None) };
}

/// Virtual time for this thread until it is dropped. Use it inside a runtime whose clock is paused.
pub(crate) struct VirtualTime;

impl VirtualTime {
    pub(crate) fn begin() -> Self {
        BEGUN.set(Some(Instant::now()));
        HELD_UP_NS.set(0);
        Self
    }

    /// After each sleep the thread runs so much later than it should: the clock has gone on, and the runtime has not looked at anything meanwhile.
    pub(crate) fn wake_late(&self, lateness: impl FnMut() -> Duration + 'static) {
        LATENESS.with_borrow_mut(|own| *own = Some(Box::new(lateness)));
    }
}

impl Drop for VirtualTime {
    fn drop(&mut self) {
        BEGUN.set(None);
        LATENESS.with_borrow_mut(|own| *own = None);
    }
}

pub(crate) fn is_on() -> bool {
    BEGUN.get().is_some()
}

pub(crate) fn now() -> Option<BootNs> {
    let passed = Instant::now().duration_since(BEGUN.get()?);
    let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
    Some(BootNs(BEGUN_NS.saturating_add(passed).saturating_add(HELD_UP_NS.get())))
}

pub(crate) async fn until(moment: BootNs) {
    while let Some(now) = now().filter(|now| *now < moment) {
        tokio::time::sleep(moment.since(now)).await;
    }
    let late = LATENESS.with_borrow_mut(|lateness| lateness.as_mut().map_or(Duration::ZERO, |next| next()));
    HELD_UP_NS.set(HELD_UP_NS.get().saturating_add(u64::try_from(late.as_nanos()).unwrap_or(0)));
}

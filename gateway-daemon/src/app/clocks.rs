//! What the clocks of this machine say, for [`gateway_core::wall`] to judge.

use std::time::Duration;

use drivers::{clock, rtc};
use gateway_core::settings::TrustClock;
use gateway_core::tag::{BootNs, WallMs};
use gateway_core::wall::{Doubt, Look, Rtc, Source, Trust};
use tokio::sync::watch;

/// How often the clock chip is read: its time goes on by the monotonic clock in between.
const EVERY: Duration = Duration::from_secs(60);

/// Clocks of a running gateway.
#[derive(Debug)]
pub(super) struct Clocks {
    trust: Trust,
    named: TrustClock,
    rtc: watch::Receiver<Reading>,
    /// Why no clock is believed, at the last look.
    doubt: Option<Doubt>,
}

impl Clocks {
    /// Starts to look at them.
    pub(super) fn new(trust: TrustClock) -> Self {
        Self { trust: Trust::new(trust, clock::built()), named: trust, rtc: watch(trust), doubt: None }
    }

    /// The wall time at this moment, if one of them is believed.
    pub(super) fn look(&mut self, now: BootNs) -> Option<WallMs> {
        let looked = self.trust.look(&look(now, self.named, *self.rtc.borrow()));
        self.doubt = looked.err();
        looked.ok()
    }

    /// The clock that wall time was taken from at last, in this run.
    pub(super) fn source(&self) -> Option<Source> {
        self.trust.source()
    }

    /// Why none is believed.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }
}

/// A reading of the clock chip, and when it was made.
type Reading = Option<(BootNs, Rtc)>;

/// Reads the clock chip from here on, until nobody wants to know; not at all where it would not be believed.
fn watch(clock: TrustClock) -> watch::Receiver<Reading> {
    let (tell, told) = watch::channel(first(clock));
    if clock == TrustClock::Rtc {
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tell.closed() => return,
                    () = tokio::time::sleep(EVERY) => {}
                }
                let Ok(reading) = tokio::task::spawn_blocking(read).await else { continue };
                tell.send_replace(Some(reading));
            }
        });
    }
    told
}

fn first(clock: TrustClock) -> Reading {
    (clock == TrustClock::Rtc).then(read)
}

fn read() -> (BootNs, Rtc) {
    (clock::now(), rtc::read())
}

/// What all clocks say at a moment.
fn look(now: BootNs, named: TrustClock, rtc: Reading) -> Look {
    let system = if named == TrustClock::System { clock::wall_raised() } else { clock::wall() };
    Look { now, synchronised: clock::wall_trusted(), system, rtc }
}

/// No clock is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown {
    /// Why.
    pub(super) doubt: Doubt,
    /// It is this late at least: the system was built then.
    pub(super) since: WallMs,
}

/// The wall time at this moment, if the clock that a configuration trusts says one: for commands that look once.
pub(super) fn trusted(trust: TrustClock) -> Result<WallMs, Unknown> {
    let look = look(clock::now(), trust, first(trust));
    let since = clock::built();
    Trust::new(trust, since).look(&look).map_err(|doubt| Unknown { doubt, since })
}

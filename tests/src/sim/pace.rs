//! Promises about time: back-off with jitter, half-open links noticed, live rows not starved.

use std::collections::VecDeque;
use std::time::Duration;

use gateway_core::uplink::row::Seq;
use gateway_core::uplink::settings::Settings;

use super::plan::{MS, S};

/// So many pauses before their mean is judged.
const PAUSES_MIN: u32 = 30;
/// The same for pauses after connections that came up and failed before any acknowledgement; fewer, because they are rare.
const FLAPS_MIN: u32 = 18;
/// A live row waits this long at most on a healthy link.
const LIVE_WAIT_MAX: u64 = 2 * S;

/// A mean of uniform numbers is judged after each of them, in thousands of runs: further off than this by chance in one look of 10 thousand million.
const DEVIATIONS_MAX: f64 = 6.5;
/// Of one uniform number.
const DEVIATION: f64 = 0.288_675;
/// What is no more than this off 0.5 is no fault, however many there are.
const OFF_MIN: f64 = 0.3;

/// A mean of pauses as parts of their ceilings.
#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, part: f64) {
        self.sum += part;
        self.count += 1;
    }

    fn judge(self, count_min: u32, what: &str) -> Result<(), String> {
        let mean = self.sum / f64::from(self.count.max(1));
        let off_max = (DEVIATIONS_MAX * DEVIATION / f64::from(self.count.max(1)).sqrt()).max(OFF_MIN);
        if self.count >= count_min && (mean - 0.5).abs() > off_max {
            let count = self.count;
            return Err(format!(
                "{what}: the mean of {count} pauses is {mean:.3} of their ceilings, not about 0.5"
            ));
        }
        Ok(())
    }
}

/// The oracle's own idea of when the gateway may reconnect.
#[derive(Debug)]
pub struct BackoffModel {
    min: u64,
    max: u64,
    failures: u32,
    /// A suspected take-over may have raised the ceiling beyond what is known here.
    raised: bool,
    first: bool,
    flap: bool,
    lost_at: Option<u64>,
    pauses: Mean,
    flaps: Mean,
}

impl BackoffModel {
    /// Before the first attempt.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            min: ns(settings.backoff_min),
            max: ns(settings.backoff_max),
            failures: 0,
            raised: false,
            first: true,
            flap: false,
            lost_at: None,
            pauses: Mean::default(),
            flaps: Mean::default(),
        }
    }

    /// A new run of the gateway knows nothing of former failures; its first pause ends at the smallest ceiling.
    pub fn restart(&mut self) {
        self.failures = 0;
        self.raised = false;
        self.lost_at = None;
        self.first = true;
    }

    /// The link was lost or the attempt failed. `flap`: it was up, and nothing was acknowledged.
    pub fn lost(&mut self, now: u64, flap: bool, taken_over: bool) {
        self.flap = flap;
        self.raised |= taken_over;
        self.lost_at = Some(now);
    }

    /// A publish was acknowledged.
    pub fn acknowledged(&mut self) {
        self.failures = 0;
        self.raised = false;
    }

    /// The clock jumped: the pause under way cannot be judged.
    pub fn jumped(&mut self) {
        if self.lost_at.take().is_some() {
            self.failures += u32::from(!std::mem::take(&mut self.first));
        }
    }

    /// The gateway connects.
    pub fn attempt(&mut self, now: u64) -> Result<(), String> {
        let Some(lost_at) = self.lost_at.take() else { return Ok(()) };
        let pause = now - lost_at;
        let known = self.min.saturating_mul(1 << self.failures.min(30)).min(self.max);
        let ceiling = if self.raised { self.max } else { known };
        if pause > ceiling + MS {
            return Err(format!("paused {pause} ns where the back-off ends at {ceiling} ns"));
        }
        let grown = self.failures >= 3;
        self.failures += u32::from(!std::mem::take(&mut self.first));
        if self.raised {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "a statistic")]
        let part = pause as f64 / ceiling.max(1) as f64;
        self.pauses.add(part);
        self.pauses.judge(PAUSES_MIN, "back-off")?;
        if self.flap && grown {
            self.flaps.add(part);
            self.flaps.judge(FLAPS_MIN, "back-off after connections without an acknowledgement")?;
        }
        Ok(())
    }
}

/// Rows that have to be sent soon, because all is well.
#[derive(Debug, Default)]
pub struct LiveWatch {
    waiting: VecDeque<(Seq, u64)>,
}

impl LiveWatch {
    /// A row was produced on a healthy link.
    pub fn produced(&mut self, seq: Seq, now: u64) {
        self.waiting.push_back((seq, now));
    }

    /// A row was sent or dropped.
    pub fn left(&mut self, seq: Seq) {
        if let Some(place) = self.waiting.iter().position(|(waiting, _)| *waiting == seq) {
            self.waiting.remove(place);
        }
    }

    /// Not all is well any more.
    pub fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Whether all rows were sent in time.
    pub fn check(&self, now: u64) -> Result<(), String> {
        match self.waiting.front() {
            Some((seq, at)) if now > at + LIVE_WAIT_MAX => {
                Err(format!("live row {} waits since {} ms on a healthy link", seq.0, (now - at) / MS))
            }
            _ => Ok(()),
        }
    }
}

/// A duration in ns.
#[must_use]
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

//! How fast somebody may go on: so much in a span of time, and as much at once.

use std::time::Duration;

use crate::tag::BootNs;

/// One bucket: the moment at which it is full again. Everything that is taken moves it further away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    full_at: BootNs,
}

impl Default for Pace {
    fn default() -> Self {
        Self { full_at: BootNs(0) }
    }
}

impl Pace {
    /// Takes `amount` where `max` are allowed in `span`; 0 is no limit. Gives when there is something in the bucket again, if it is empty.
    pub fn take(&mut self, now: BootNs, amount: u64, (max, span): (u64, Duration)) -> Option<BootNs> {
        if max == 0 {
            return None;
        }
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let cost = u128::from(amount) * u128::from(span_ns) / u128::from(max);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        self.full_at = BootNs(self.full_at.0.max(now.0).saturating_add(cost));
        self.empty_until(now, span)
    }

    /// When there is something in it again, if it is empty.
    #[must_use]
    pub fn empty_until(&self, now: BootNs, span: Duration) -> Option<BootNs> {
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let until = BootNs(self.full_at.0.saturating_sub(span_ns));
        (until > now).then_some(until)
    }

    /// Whether nothing is missing in it: to be forgotten.
    #[must_use]
    pub fn is_full(&self, now: BootNs) -> bool {
        self.full_at <= now
    }
}

//! Events per second lately, from a counter that only grows.

use gateway_core::tag::BootNs;

/// Remembers a counter to tell how fast it grows. The rate is smoothed over about [`Self::SPAN_S`] seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    last: Option<(BootNs, u64)>,
    per_s: f64,
}

impl Rate {
    /// Span of the smoothing, s: long enough to read, short enough to believe.
    const SPAN_S: f64 = 5.0;

    /// Takes the counter's present value and tells the rate.
    pub(super) fn observe(&mut self, now: BootNs, count: u64) -> f64 {
        if let Some((then, before)) = self.last {
            let span_s = now.since(then).as_secs_f64();
            if span_s > 0.0 {
                #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
                let fresh = count.saturating_sub(before) as f64 / span_s;
                let weight = (span_s / Self::SPAN_S).min(1.0);
                self.per_s += (fresh - self.per_s) * weight;
            }
        }
        self.last = Some((now, count));
        self.per_s
    }

    /// The rate as last told.
    #[must_use]
    pub(super) fn per_s(&self) -> f64 {
        self.per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_counter_has_its_own_rate() {
        let mut rate = Rate::default();
        for second in 0..30 {
            rate.observe(BootNs(second * 1_000_000_000), second * 10);
        }
        assert!((rate.per_s() - 10.0).abs() < 0.1, "{rate:?}");
    }

    #[test]
    fn the_same_moment_twice_changes_nothing() {
        let mut rate = Rate::default();
        rate.observe(BootNs(1), 5);
        assert_eq!(rate.observe(BootNs(1), 500), 0.0);
    }
}

//! How far a scan is, and how long it takes at most: counted from the start as if no unit said anything, so that it only falls.

use std::time::Duration;

/// The units that were asked, of all, each once with each setting of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Course {
    done: usize,
    total: usize,
    left_max: Duration,
}

impl Course {
    /// For each setting how many units are asked, and the longest that one takes.
    pub(super) fn new(settings: impl IntoIterator<Item = (usize, Duration)>) -> Self {
        let mut course = Self { done: 0, total: 0, left_max: Duration::ZERO };
        for (units, each_max) in settings {
            let units_max = each_max.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX));
            course.total = course.total.saturating_add(units);
            course.left_max = course.left_max.saturating_add(units_max);
        }
        course
    }

    /// One more was asked, which takes at most so long.
    pub(super) fn asked(&mut self, each_max: Duration) {
        self.done = self.done.saturating_add(1);
        self.left_max = self.left_max.saturating_sub(each_max);
    }

    /// 0 to 100.
    pub(super) fn percent(&self) -> usize {
        self.done.saturating_mul(100).checked_div(self.total).unwrap_or(0)
    }

    /// What the units that were not asked yet take at most.
    pub(super) fn left_max(&self) -> Duration {
        self.left_max
    }
}

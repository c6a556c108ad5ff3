//! Repeated log lines: the first few of a kind in an interval pass, the rest are counted, and one line says how many there were.
//! Pure: the time is an argument.
//!
//! A kind is a place in the source: the same sentence with other numbers is the same kind. Bounds: [`KINDS_MAX`] kinds are followed;
//! when there are more, the one seen longest ago makes room, after its count was told.

use std::collections::BTreeMap;
use std::time::Duration;

/// Lines of one kind that pass per [`INTERVAL`].
pub(super) const LINES_MAX: u32 = 10;
/// Over which lines are counted.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);
/// Kinds followed at once: more than there are log statements that fire in one trouble.
const KINDS_MAX: usize = 128;

/// Where a log line comes from.
pub(super) type Kind = (String, u32);

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes; before it, these counts of suppressed lines are told.
    Pass(Vec<(Kind, u64)>),
    /// It is left out and counted.
    Suppress,
}

#[derive(Debug)]
struct Run {
    since: Duration,
    last: Duration,
    passed: u32,
    suppressed: u64,
}

impl Run {
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) >= INTERVAL
    }
}

/// The kinds that were seen lately.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    kinds: BTreeMap<Kind, Run>,
}

impl Repeats {
    /// Judges a line at a moment, given as time since any fixed one.
    pub(super) fn judge(&mut self, now: Duration, kind: Kind) -> Verdict {
        if let Some(run) =
            self.kinds.get_mut(&kind).filter(|run| !run.is_over(now) && run.passed >= LINES_MAX)
        {
            run.suppressed = run.suppressed.saturating_add(1);
            run.last = now;
            return Verdict::Suppress;
        }
        let mut told = self.ended(now);
        let run = self.kinds.entry(kind).or_insert(Run { since: now, last: now, passed: 0, suppressed: 0 });
        run.last = now;
        run.passed = run.passed.saturating_add(1);
        if self.kinds.len() > KINDS_MAX {
            let oldest = self.kinds.iter().min_by_key(|(_, run)| run.last).map(|(kind, _)| kind.clone());
            if let Some((kind, run)) = oldest.and_then(|kind| self.kinds.remove_entry(&kind))
                && run.suppressed > 0
            {
                told.push((kind, run.suppressed));
            }
        }
        Verdict::Pass(told)
    }

    /// Ends the runs whose interval is over; those with suppressed lines are told.
    pub(super) fn ended(&mut self, now: Duration) -> Vec<(Kind, u64)> {
        let told = self.kinds.iter().filter(|(_, run)| run.is_over(now) && run.suppressed > 0);
        let told = told.map(|(kind, run)| (kind.clone(), run.suppressed)).collect();
        self.kinds.retain(|_, run| !run.is_over(now));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Kind {
        (name.to_owned(), 1)
    }

    #[test]
    fn repeats_are_left_out_and_counted_once_per_interval() {
        let mut repeats = Repeats::default();
        let second = Duration::from_secs;
        for _ in 0..LINES_MAX {
            assert_eq!(repeats.judge(second(0), kind("a")), Verdict::Pass(Vec::new()));
        }
        for _ in 0..7 {
            assert_eq!(repeats.judge(second(30), kind("a")), Verdict::Suppress);
        }
        assert_eq!(repeats.judge(second(31), kind("b")), Verdict::Pass(Vec::new()), "others are not touched");
        assert_eq!(repeats.judge(second(60), kind("a")), Verdict::Pass(vec![(kind("a"), 7)]));
        assert_eq!(repeats.ended(second(200)), []);
    }

    #[test]
    fn a_count_is_told_by_whoever_comes_next_and_never_lost() {
        let mut repeats = Repeats::default();
        let second = Duration::from_secs;
        for _ in 0..LINES_MAX + 5 {
            repeats.judge(second(0), kind("quiet later"));
        }
        for _ in 0..LINES_MAX {
            repeats.judge(second(50), kind("loud"));
        }
        assert_eq!(repeats.judge(second(70), kind("loud")), Verdict::Suppress);
        assert_eq!(repeats.judge(second(71), kind("other")), Verdict::Pass(vec![(kind("quiet later"), 5)]));
        assert_eq!(repeats.ended(second(200)), [(kind("loud"), 1)]);
    }

    #[test]
    fn kinds_are_bounded() {
        let mut repeats = Repeats::default();
        for index in 0..10_000 {
            repeats.judge(Duration::from_millis(index), kind(&index.to_string()));
        }
        assert!(repeats.kinds.len() <= KINDS_MAX);
    }
}

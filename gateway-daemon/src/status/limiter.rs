//! Repeated log records: the first [`BURST_MAX`] of a kind within [`INTERVAL`] pass, the rest is counted, and the count is told at the
//! end of the interval.
//!
//! Pure: the time is an argument. Bounded: [`KINDS_MAX`] kinds are watched; beyond, the one whose interval ends first is
//! forgotten after its count was told.

use std::time::Duration;

use gateway_core::tag::BootNs;

/// Records of one kind that pass within [`INTERVAL`]: enough to see a pattern.
pub(super) const BURST_MAX: u32 = 5;
/// How long records of a kind are counted together. With [`BURST_MAX`] a kind makes at most some 860 lines a day.
pub(super) const INTERVAL: Duration = Duration::from_secs(600);
/// Kinds watched at once: some situations for each of some dozens of devices, buses and uplinks.
pub(super) const KINDS_MAX: usize = 256;
/// Longest part of a kind that is compared and told, bytes.
const KIND_BYTES_MAX: usize = 240;
/// Longest part of a line that is kept to be named with its count, bytes.
const LAST_BYTES_MAX: usize = 300;
/// Words that make a kind: numbers and reasons that vary come later in a sentence.
const WORDS: usize = 4;

/// What is the same in records that repeat each other: where they come from, whom they are about, their first words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    level: log::Level,
    text: String,
}

impl Kind {
    /// `about` names device, bus or uplink.
    #[must_use]
    pub(super) fn new(level: log::Level, target: &str, about: &str, message: &str) -> Self {
        let words: Vec<&str> = message.split_whitespace().take(WORDS).collect();
        let mut text = format!("{} {}", words.join(" "), about);
        text.truncate(text.floor_char_boundary(KIND_BYTES_MAX));
        let text = format!("{target}\n{}", text.trim_end());
        Self { level, text }
    }

    /// Of which level.
    #[must_use]
    pub(super) fn level(&self) -> log::Level {
        self.level
    }

    /// Where they come from.
    #[must_use]
    pub(super) fn target(&self) -> &str {
        self.text.split_once('\n').map_or("", |(target, _)| target)
    }
}

/// A kind whose interval is over, and how many of it were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    /// The kind.
    pub(super) kind: Kind,
    /// Records left out, at least 1.
    pub(super) left_out: u64,
    /// The last of them, as a person reads it.
    pub(super) last: String,
}

/// How many records of a kind passed and were left out.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) kind: Kind,
    pub(super) passed: u32,
    left_out: u64,
    last: String,
}

impl Counted {
    /// One that has just passed.
    pub(super) fn first(kind: Kind) -> Self {
        Self { kind, passed: 1, left_out: 0, last: String::new() }
    }

    /// One more is left out, which says `sentence`.
    pub(super) fn leave_out(&mut self, sentence: &str) {
        self.left_out = self.left_out.saturating_add(1);
        self.last.clear();
        self.last.push_str(&sentence[..sentence.floor_char_boundary(LAST_BYTES_MAX)]);
    }

    /// What is to be told of it, if something was left out.
    pub(super) fn summary(self) -> Option<Summary> {
        let Self { kind, left_out, last, .. } = self;
        (left_out > 0).then_some(Summary { kind, left_out, last })
    }
}

#[derive(Debug)]
struct Watched {
    counted: Counted,
    ends: BootNs,
}

/// Counts of the kinds.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    watched: Vec<Watched>,
    summaries: Vec<Summary>,
}

impl Limiter {
    /// Whether a record of this kind may pass at this moment; `sentence` is what it says.
    pub(super) fn passes(&mut self, now: BootNs, kind: Kind, sentence: &str) -> bool {
        self.expire(now);
        let mut counts = self.watched.iter_mut().map(|known| &mut known.counted);
        if let Some(known) = counts.find(|known| known.kind == kind) {
            if known.passed >= BURST_MAX {
                known.leave_out(sentence);
                return false;
            }
            known.passed += 1;
            return true;
        }
        if self.watched.len() >= KINDS_MAX {
            let first = self.watched.iter().enumerate().min_by_key(|(_, known)| known.ends);
            if let Some((index, _)) = first {
                let gone = self.watched.swap_remove(index);
                self.tell(gone);
            }
        }
        self.watched.push(Watched { counted: Counted::first(kind), ends: now.plus(INTERVAL) });
        true
    }

    /// What is to be told: kinds whose interval is over and of which something was left out.
    pub(super) fn summaries(&mut self, now: BootNs) -> Vec<Summary> {
        self.expire(now);
        std::mem::take(&mut self.summaries)
    }

    fn expire(&mut self, now: BootNs) {
        let mut index = 0;
        while let Some(known) = self.watched.get(index) {
            if known.ends <= now {
                let gone = self.watched.swap_remove(index);
                self.tell(gone);
            } else {
                index += 1;
            }
        }
    }

    /// Bounded by the kinds: summaries are taken with every record.
    fn tell(&mut self, gone: Watched) {
        if self.summaries.len() < KINDS_MAX {
            self.summaries.extend(gone.counted.summary());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(about: &str) -> Kind {
        Kind::new(log::Level::Warn, "gateway_daemon::app", about, "uplink cloud: cannot connect: name 17")
    }

    fn at(seconds: u64) -> BootNs {
        BootNs(seconds * 1_000_000_000)
    }

    #[test]
    fn a_situation_that_repeats_for_a_day_fills_no_journal() {
        let mut limiter = Limiter::default();
        let (mut passed, mut told) = (0_u64, 0_u64);
        for second in 0..86_400 {
            passed += u64::from(limiter.passes(at(second), kind("cloud"), ""));
            told += limiter.summaries(at(second)).iter().map(|summary| summary.left_out).sum::<u64>();
        }
        assert_eq!(passed, 86_400 / 600 * u64::from(BURST_MAX));
        told += limiter.summaries(at(90_000)).iter().map(|summary| summary.left_out).sum::<u64>();
        assert_eq!(passed + told, 86_400, "every record passed or was counted");
    }

    #[test]
    fn the_count_is_told_even_if_the_situation_does_not_come_back() {
        let mut limiter = Limiter::default();
        for _ in 0..BURST_MAX + 3 {
            limiter.passes(at(1), kind("cloud"), "cannot connect: name 17");
        }
        assert_eq!(limiter.summaries(at(2)), []);
        let told = Summary { kind: kind("cloud"), left_out: 3, last: "cannot connect: name 17".into() };
        assert_eq!(limiter.summaries(at(601)), [told]);
        assert_eq!(limiter.summaries(at(602)), []);
    }

    #[test]
    fn situations_of_others_and_other_situations_pass() {
        let mut limiter = Limiter::default();
        for _ in 0..100 {
            limiter.passes(at(1), kind("cloud"), "");
        }
        assert!(limiter.passes(at(1), kind("office"), ""));
        let of = |level, message| Kind::new(level, "gateway_daemon::app", "cloud", message);
        assert!(limiter.passes(at(1), of(log::Level::Warn, "bus down: x"), ""));
        assert!(limiter.passes(at(1), of(log::Level::Error, "uplink cloud: cannot connect"), ""));
    }

    #[test]
    fn numbers_behind_the_first_words_do_not_make_another_kind() {
        let of = |message| Kind::new(log::Level::Warn, "t", "", message);
        assert_eq!(of("link lost after a 7 s"), of("link lost after a 9 s"));
        assert_eq!(of("a b c d e").target(), "t");
    }

    #[test]
    fn a_flood_of_kinds_stays_bounded_and_is_counted() {
        let mut limiter = Limiter::default();
        for _ in 0..BURST_MAX + 1 {
            limiter.passes(at(0), kind("first"), "the first");
        }
        for number in 0..10_000 {
            assert!(limiter.passes(at(1), kind(&number.to_string()), ""));
        }
        assert_eq!(limiter.watched.len(), KINDS_MAX);
        let told = Summary { kind: kind("first"), left_out: 1, last: "the first".into() };
        assert_eq!(limiter.summaries(at(1)), [told]);
    }

    #[test]
    fn a_long_kind_is_cut_between_characters() {
        let kind = Kind::new(log::Level::Info, "t", "", &"ä".repeat(200));
        assert_eq!(kind.text.len(), KIND_BYTES_MAX + "t\n".len());
        let mut limiter = Limiter::default();
        for _ in 0..=BURST_MAX {
            limiter.passes(at(1), kind.clone(), &"\u{e4}".repeat(200));
        }
        assert_eq!(limiter.summaries(at(700))[0].last.len(), LAST_BYTES_MAX);
    }
}

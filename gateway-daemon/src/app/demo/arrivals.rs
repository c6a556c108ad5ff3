//! What reached the pretend cloud, counted as a careful consumer would: by `(boot, seq)`, so that repetitions are recognised
//! and holes are seen.

use std::collections::BTreeMap;

use serde_json::Value;

/// Most ranges of seqs remembered per run; each is a hole that an honest gateway fills. Beyond, a message counts as unreadable, and
/// the verdict says so.
const RANGES_MAX: usize = 100_000;

/// Most runs remembered: a demo has one.
const RUNS_MAX: usize = 100;

/// Counts of what arrived.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arrivals {
    runs: BTreeMap<String, Ranges>,
    /// Messages of readings, repetitions not counted.
    pub messages: u64,
    /// Readings inside them.
    pub readings: u64,
    /// Messages that had arrived before.
    pub duplicates: u64,
    /// Birth, last will, ledger and the like.
    pub notices: u64,
    /// Messages of local clients: whatever is no JSON object.
    pub others: u64,
    /// Messages beyond what is remembered.
    pub unreadable: u64,
}

impl Arrivals {
    /// Takes the body of one message.
    pub fn take(&mut self, body: &[u8]) {
        let Ok(Value::Object(message)) = serde_json::from_slice::<Value>(body) else {
            self.others += 1;
            return;
        };
        let (Some(boot), Some(seq)) =
            (message.get("boot").and_then(Value::as_str), message.get("seq").and_then(Value::as_u64))
        else {
            self.notices += 1;
            return;
        };
        if !self.runs.contains_key(boot) && self.runs.len() >= RUNS_MAX {
            self.unreadable += 1;
            return;
        }
        match self.runs.entry(boot.to_owned()).or_default().insert(seq) {
            Seen::First => {
                let of = |key: &str| match message.get(key) {
                    Some(Value::Object(tags)) => tags.len() as u64,
                    _ => 0,
                };
                self.messages += 1;
                self.readings += if message.contains_key("tag") { 1 } else { of("values") + of("bad") };
            }
            Seen::Again => self.duplicates += 1,
            Seen::TooMany => self.unreadable += 1,
        }
    }

    /// Seqs that are missing below the highest one of their run. That is a hint and no loss: fresh messages may overtake a backlog, and messages of local
    /// clients take numbers of the same queue without carrying them.
    #[must_use]
    pub fn holes(&self) -> u64 {
        self.runs.values().map(Ranges::holes).sum()
    }
}

enum Seen {
    First,
    Again,
    TooMany,
}

/// Seqs as inclusive ranges: start to end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn insert(&mut self, seq: u64) -> Seen {
        let before = self.0.range(..=seq).next_back().map(|(start, end)| (*start, *end));
        if before.is_some_and(|(_, end)| end >= seq) {
            return Seen::Again;
        }
        let start = before.filter(|(_, end)| end.checked_add(1) == Some(seq)).map_or(seq, |(start, _)| start);
        let after = seq.checked_add(1).and_then(|next| self.0.remove(&next));
        if start == seq && after.is_none() && self.0.len() >= RANGES_MAX {
            return Seen::TooMany;
        }
        self.0.insert(start, after.unwrap_or(seq));
        Seen::First
    }

    fn holes(&self) -> u64 {
        let ends = self.0.values();
        let starts = self.0.keys().skip(1);
        ends.zip(starts).map(|(end, start)| start - end - 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn message(boot: &str, seq: u64) -> Vec<u8> {
        format!(r#"{{"v":1,"boot":"{boot}","seq":{seq},"values":{{"a":1,"b":2}},"bad":{{"c":"timeout"}}}}"#)
            .into()
    }

    #[test]
    fn readings_are_values_and_reasons_and_every_message_counts_once() {
        let mut arrivals = Arrivals::default();
        for seq in [1, 2, 5, 2, 4] {
            arrivals.take(&message("x-1", seq));
        }
        arrivals.take(&message("x-2", 9));
        arrivals.take(br#"{"v":1,"boot":"x-2","seq":10,"tag":"a","bad":"timeout"}"#);
        assert_eq!((arrivals.messages, arrivals.readings, arrivals.duplicates), (6, 16, 1));
        assert_eq!(arrivals.holes(), 1, "3 of x-1; what was before the first of a run is not known");
        arrivals.take(&message("x-1", 3));
        assert_eq!(arrivals.holes(), 0);
    }

    #[test]
    fn notices_and_foreign_bytes_are_no_readings() {
        let mut arrivals = Arrivals::default();
        for body in [
            &br#"{"state":"online","boot":"x-1"}"#[..],
            b"{}",
            b"[1]",
            b"\xff",
            b"",
            br#"{"boot":1,"seq":"1"}"#,
        ] {
            arrivals.take(body);
        }
        assert_eq!((arrivals.messages, arrivals.notices, arrivals.others), (0, 3, 3));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut arrivals = Arrivals::default();
        for run in 0..RUNS_MAX + 1 {
            arrivals.take(&message(&run.to_string(), 1));
        }
        assert_eq!((arrivals.messages, arrivals.unreadable), (RUNS_MAX as u64, 1));
    }

    proptest! {
        #[test]
        fn ranges_know_what_a_set_knows(seqs in prop::collection::vec(prop_oneof![0_u64..40, Just(u64::MAX)], 0..80)) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for seq in seqs {
                prop_assert_eq!(matches!(ranges.insert(seq), Seen::First), set.insert(seq));
            }
            let holes = match (set.first(), set.last()) {
                (Some(first), Some(last)) => last - first + 1_u64.min(u64::MAX - (last - first)) - set.len() as u64,
                _ => 0,
            };
            if set.contains(&u64::MAX) && set.contains(&0) {
                prop_assert!(ranges.holes() > 0);
            } else {
                prop_assert_eq!(ranges.holes(), holes);
            }
        }
    }
}

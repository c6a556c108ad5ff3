//! A set of seqs as inclusive ranges: rows on disk that are settled and wait for their deletion.

use std::collections::BTreeMap;

use crate::uplink::row::Seq;

/// Inclusive ranges that neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ranges {
    /// First seq of a range to its last.
    by_start: BTreeMap<u64, u64>,
    rows: u64,
}

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// How many ranges.
    pub(super) fn len(&self) -> usize {
        self.by_start.len()
    }

    /// How many seqs.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn contains(&self, seq: Seq) -> bool {
        self.by_start.range(..=seq.0).next_back().is_some_and(|(_, end)| seq.0 <= *end)
    }

    pub(super) fn insert(&mut self, seq: Seq) {
        if self.contains(seq) {
            return;
        }
        self.rows += 1;
        let mut start = seq.0;
        let mut end = seq.0;
        if let Some((&before, &before_end)) = self.by_start.range(..seq.0).next_back()
            && before_end.checked_add(1) == Some(seq.0)
        {
            start = before;
        }
        if let Some(after) = seq.0.checked_add(1)
            && let Some(after_end) = self.by_start.remove(&after)
        {
            end = after_end;
        }
        self.by_start.insert(start, end);
    }

    /// Takes out at most `ranges_max` ranges, lowest first.
    pub(super) fn split(&mut self, ranges_max: usize) -> Self {
        let mut taken = Self::default();
        while taken.len() < ranges_max
            && let Some((start, end)) = self.by_start.pop_first()
        {
            let rows = end - start + 1;
            taken.by_start.insert(start, end);
            taken.rows += rows;
            self.rows -= rows;
        }
        taken
    }

    /// Takes out those seqs that are wanted, at most `ranges_max` ranges, lowest first.
    pub(super) fn split_where(&mut self, ranges_max: usize, wanted: impl Fn(Seq) -> bool) -> Self {
        let (mut taken, mut left) = (Self::default(), Self::default());
        for (start, end) in std::mem::take(self).by_start {
            for seq in (start..=end).map(Seq) {
                let goes = taken.len() < ranges_max && wanted(seq);
                if goes { &mut taken } else { &mut left }.insert(seq);
            }
        }
        *self = left;
        taken
    }

    /// Puts ranges back that were split off.
    pub(super) fn join(&mut self, other: &Self) {
        for (start, end) in &other.by_start {
            for seq in *start..=*end {
                self.insert(Seq(seq));
            }
        }
    }

    pub(super) fn to_vec(&self) -> Vec<(Seq, Seq)> {
        self.by_start.iter().map(|(start, end)| (Seq(*start), Seq(*end))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{prop, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_exactly_what_was_put_in(seqs in prop::collection::vec(0u64..60, 0..80), split in 0usize..5) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for seq in seqs {
                ranges.insert(Seq(seq));
                model.insert(seq);
            }
            let taken = ranges.split(split);
            prop_assert_eq!(taken.rows() + ranges.rows(), model.len() as u64);
            ranges.join(&taken);
            let held: BTreeSet<u64> = (0..60).filter(|seq| ranges.contains(Seq(*seq))).collect();
            prop_assert_eq!(&held, &model);
            let listed: BTreeSet<u64> = ranges.to_vec().iter().flat_map(|(a, b)| a.0..=b.0).collect();
            prop_assert_eq!(&listed, &model);
            let apart = ranges.to_vec().windows(2).all(|pair| pair[0].1.0.saturating_add(1) < pair[1].0.0);
            prop_assert_eq!(apart, true);
        }
    }
}

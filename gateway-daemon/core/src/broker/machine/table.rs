//! Connections and sessions by their numbers.
//!
//! Each message asks for its sender and its receivers a dozen times, so a look-up has to cost next to nothing: entries lie side by side, and an index of
//! twice their number with open addressing says where. Numbers count up, so multiplied by an odd constant they spread by themselves. Whoever goes over
//! all of them goes in the order of their numbers, so that the same inputs have the same outcome.
//!
//! Bounds: about 40 bytes beside each entry; memory is given back when three quarters of the entries are gone.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::broker::{ConnId, SessionId};

/// Something that is a number.
pub(super) trait Number: Copy + Ord {
    fn number(self) -> u64;
}

impl Number for ConnId {
    fn number(self) -> u64 {
        self.0
    }
}

impl Number for SessionId {
    fn number(self) -> u64 {
        self.0.into()
    }
}

/// A place of the index where nothing is.
const FREE: u32 = u32::MAX;
/// Fewest places of the index.
const PLACES_MIN: usize = 16;
/// The golden ratio, as a fraction of 2^64: neighbouring numbers go far apart.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A map from numbers.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    entries: Vec<(K, V)>,
    /// Place in `entries`; a power of two of them, at least half of them free.
    index: Vec<u32>,
    order: BTreeSet<K>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), index: vec![FREE; PLACES_MIN], order: BTreeSet::new() }
    }
}

impl<K: Number, V> Table<K, V> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.place(*key).is_some()
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let entry = self.index[self.place(*key)?];
        self.entries.get(entry as usize).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.index[self.place(*key)?];
        self.entries.get_mut(entry as usize).map(|(_, value)| value)
    }

    /// Puts an entry in the place of the one before.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if let Some(known) = self.get_mut(&key) {
            *known = value;
            return;
        }
        self.order.insert(key);
        self.entries.push((key, value));
        if self.entries.len() * 2 > self.index.len() {
            self.build(self.index.len() * 2);
        } else {
            self.enter(key, self.entries.len() - 1);
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(*key)?;
        let entry = self.index[place] as usize;
        self.leave(place);
        self.order.remove(key);
        let (_, value) = self.entries.swap_remove(entry);
        // The last one has taken its place.
        if let Some((moved, _)) = self.entries.get(entry)
            && let Some(place) = self.place_of(*moved, self.entries.len())
        {
            self.index[place] = narrow(entry);
        }
        if self.index.len() > PLACES_MIN && self.entries.len() * 8 <= self.index.len() {
            self.entries.shrink_to_fit();
            self.build(self.index.len() / 4);
        }
        Some(value)
    }

    /// All of them, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.behind(None)
    }

    /// Those behind a number, in their order.
    pub(super) fn behind(&self, key: Option<K>) -> impl Iterator<Item = (&K, &V)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).filter_map(|key| Some((key, self.get(key)?)))
    }

    /// Their numbers, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.order.iter()
    }

    /// All of them, in the order of their numbers.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// All of them, in an order that depends on what came and went.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }

    /// Where the index has an entry.
    fn place(&self, key: K) -> Option<usize> {
        let mut place = self.first(key);
        loop {
            let (known, _) = self.entries.get(self.index[place] as usize)?;
            if *known == key {
                return Some(place);
            }
            place = self.next(place);
        }
    }

    /// Where the index has an entry that it believes to be at `entry`.
    fn place_of(&self, key: K, entry: usize) -> Option<usize> {
        let mut place = self.first(key);
        while self.index[place] != FREE {
            if self.index[place] as usize == entry {
                return Some(place);
            }
            place = self.next(place);
        }
        None
    }

    fn first(&self, key: K) -> usize {
        // The upper half is the better spread one.
        let spread = key.number().wrapping_mul(SPREAD) >> 32;
        usize::try_from(spread).unwrap_or_default() & (self.index.len() - 1)
    }

    fn next(&self, place: usize) -> usize {
        (place + 1) & (self.index.len() - 1)
    }

    fn enter(&mut self, key: K, entry: usize) {
        let mut place = self.first(key);
        while self.index[place] != FREE {
            place = self.next(place);
        }
        self.index[place] = narrow(entry);
    }

    /// Frees a place; those behind it that would not be found any more move up.
    fn leave(&mut self, mut free: usize) {
        let mut place = self.next(free);
        while let Some((key, _)) = self.entries.get(self.index[place] as usize) {
            let (from_first, from_free) =
                (self.distance(self.first(*key), place), self.distance(free, place));
            if from_first >= from_free {
                self.index[free] = self.index[place];
                free = place;
            }
            place = self.next(place);
        }
        self.index[free] = FREE;
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.index.len() - 1)
    }

    fn build(&mut self, places: usize) {
        self.index = vec![FREE; places.max(PLACES_MIN)];
        for entry in 0..self.entries.len() {
            self.enter(self.entries[entry].0, entry);
        }
    }
}

/// There are never as many connections or sessions.
fn narrow(entry: usize) -> u32 {
    u32::try_from(entry).unwrap_or(FREE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Move {
        Insert(u64, u16),
        Remove(u64),
        Change(u64, u16),
    }

    /// Few numbers, far apart and side by side, so that they meet again and get in each other's way.
    fn any_key() -> impl Strategy<Value = u64> {
        prop_oneof![0..40_u64, (0..40_u64).prop_map(|n| n << 32), (0..40_u64).prop_map(|n| n << 40 | n)]
    }

    fn any_move() -> impl Strategy<Value = Move> {
        prop_oneof![
            3 => (any_key(), any::<u16>()).prop_map(|(key, value)| Move::Insert(key, value)),
            2 => any_key().prop_map(Move::Remove),
            1 => (any_key(), any::<u16>()).prop_map(|(key, value)| Move::Change(key, value)),
        ]
    }

    proptest! {
        #[test]
        fn a_table_is_a_map_in_the_order_of_its_numbers(moves in prop::collection::vec(any_move(), 0..400)) {
            let mut table = Table::default();
            let mut model = BTreeMap::new();
            for step in moves {
                match step {
                    Move::Insert(key, value) => {
                        table.insert(ConnId(key), value);
                        model.insert(ConnId(key), value);
                    }
                    Move::Remove(key) => {
                        prop_assert_eq!(table.remove(&ConnId(key)), model.remove(&ConnId(key)));
                    }
                    Move::Change(key, value) => {
                        let (ours, theirs) = (table.get_mut(&ConnId(key)), model.get_mut(&ConnId(key)));
                        prop_assert_eq!(ours.is_some(), theirs.is_some());
                        ours.into_iter().chain(theirs).for_each(|known| *known = value);
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.iter().eq(model.iter()));
            }
            for key in model.keys().copied().chain((0..50).map(ConnId)) {
                prop_assert_eq!(table.get(&key), model.get(&key));
                prop_assert!(table.behind(Some(key)).eq(model.range((Bound::Excluded(key), Bound::Unbounded))));
            }
        }
    }

    #[test]
    fn a_look_up_takes_few_steps_and_memory_is_given_back() {
        let mut table = Table::default();
        for number in 0..100_000_u64 {
            table.insert(ConnId(number * 3), number);
        }
        let steps = |number: u64| {
            let place = table.place(ConnId(number * 3)).unwrap();
            table.distance(table.first(ConnId(number * 3)), place)
        };
        assert!((0..100_000).map(steps).max().unwrap() < 64);
        for number in 0..100_000_u64 {
            table.remove(&ConnId(number * 3));
        }
        assert!(table.entries.capacity() <= PLACES_MIN && table.index.len() <= 2 * PLACES_MIN);
    }
}

//! One level of the tree: what goes on from it and who holds it. Small, because there may be a million: nearly all levels are one of the short forms of
//! [`Child`], which take sixteen bytes beside their name of sixteen in their parent; what branches is a [`Node`] of 80 bytes.

use std::collections::BTreeMap;

use super::Matches;
use super::child::Child;
use super::holders::Holders;
use super::label::Label;

/// Most levels behind one that are kept in a list; above, in a map. A list of one is as large as its entry, a map is not.
const FEW_MAX: usize = 8;

/// What a level costs beside its name, bytes: a place in a map that is half full, or what goes on from it, or a part of what branches.
pub(super) const LEVEL_BYTES: usize = 72;

/// A level behind another one.
#[derive(Debug)]
pub(super) struct Edge<K> {
    pub(super) label: Label,
    pub(super) child: Child<K>,
}

/// A level that branches.
#[derive(Debug)]
pub(super) struct Node<K> {
    pub(super) literal: Edges<K>,
    pub(super) plus: Child<K>,
    /// Filters that end here.
    pub(super) here: Holders<K>,
    /// Filters that end with `#` below here.
    pub(super) below: Holders<K>,
    /// Most steps that any name can take from here on: nodes visited and subscriptions found.
    pub(super) steps: u32,
}

#[derive(Debug)]
pub(super) enum Edges<K> {
    Few(Vec<Edge<K>>),
    #[expect(clippy::box_collection, reason = "a node is small: most have few edges")]
    Many(Box<BTreeMap<Label, Child<K>>>),
}

impl<K> Default for Node<K> {
    fn default() -> Self {
        Self {
            literal: Edges::Few(Vec::new()),
            plus: Child::Bare,
            here: Holders::None,
            below: Holders::None,
            steps: 1,
        }
    }
}

/// `+` as the only way on: no name has such a level.
pub(super) const PLUS: &str = "+";

/// What came into being, or went, while a filter was entered or removed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Toll {
    /// Bytes of levels.
    pub(super) bytes: usize,
    /// Levels that were looked at beside those of the filter.
    pub(super) looked: usize,
}

impl Toll {
    pub(super) fn level(&mut self, level: &str) {
        self.bytes += LEVEL_BYTES + Label::cost(level);
    }
}

/// The first level of what is left of a topic, and what is left then.
pub(super) fn split(levels: &str) -> (&str, Option<&str>) {
    match levels.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (levels, None),
    }
}

impl<K: Ord + Copy> Node<K> {
    /// See the field.
    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    pub(super) fn has_literal(&self, level: &str) -> bool {
        self.literal.get(level).is_some()
    }

    /// `reserved` hides the wildcards of this level.
    pub(super) fn collect(&self, levels: Option<&str>, reserved: bool, found: &mut Matches<K>) {
        found.steps += 1;
        if !reserved {
            self.below.add_to(found);
        }
        let Some(levels) = levels else {
            self.here.add_to(found);
            return;
        };
        let (level, rest) = split(levels);
        if let Some(child) = self.literal.get(level) {
            child.collect(rest, found);
        }
        if !reserved {
            self.plus.collect(rest, found);
        }
    }

    /// Looks at the holders of a filter.
    pub(super) fn look<R>(&self, levels: Option<&str>, look: impl FnOnce(&Holders<K>) -> R) -> Option<R> {
        match levels.map(split) {
            None => Some(look(&self.here)),
            Some(("#", _)) => Some(look(&self.below)),
            Some((PLUS, rest)) => self.plus.look(rest, look),
            Some((literal, rest)) => self.literal.get(literal)?.look(rest, look),
        }
    }

    /// Goes to the holders of a filter, making the levels that are missing. `join` adds somebody to them.
    pub(super) fn insert(
        &mut self,
        levels: Option<&str>,
        toll: &mut Toll,
        join: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        let mut longest = self.longest_literal();
        let another = match levels.map(split) {
            None => join(&mut self.here),
            Some(("#", _)) => join(&mut self.below),
            Some((PLUS, rest)) => {
                if self.plus.is_bare() {
                    toll.level(PLUS);
                }
                self.plus.insert(rest, toll, join)
            }
            Some((literal, rest)) => self.literal.change(literal, |child| {
                if child.is_bare() {
                    toll.level(literal);
                }
                let another = child.insert(rest, toll, join);
                longest = longest.max(child.steps());
                another
            }),
        };
        self.count_steps(longest);
        another
    }

    /// Goes to the holders of a filter and removes the levels that served it alone.
    pub(super) fn remove(
        &mut self,
        levels: Option<&str>,
        toll: &mut Toll,
        leave: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        let mut longest = self.longest_literal();
        let removed = match levels.map(split) {
            None => leave(&mut self.here),
            Some(("#", _)) => leave(&mut self.below),
            Some((PLUS, rest)) => {
                let there = !self.plus.is_bare();
                let removed = self.plus.remove(rest, toll, leave);
                if there && self.plus.is_bare() {
                    toll.level(PLUS);
                }
                removed
            }
            Some((literal, rest)) => {
                let (mut before, mut after) = (0, 0);
                let removed = self.literal.reduce(literal, |child| {
                    before = child.steps();
                    let removed = child.remove(rest, toll, leave);
                    after = child.steps();
                    if child.is_bare() {
                        toll.level(literal);
                    }
                    removed
                });
                if before == longest && after < before {
                    longest = self.literal.longest(before, &mut toll.looked);
                }
                removed
            }
        };
        self.count_steps(longest);
        removed
    }

    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        self.steps == 1 && self.literal.len() == 0
    }

    /// Most steps of the literal levels behind this one.
    fn longest_literal(&self) -> u32 {
        self.steps.saturating_sub(self.other_steps())
    }

    fn other_steps(&self) -> u32 {
        let held = self.here.weight().saturating_add(self.below.weight());
        self.plus.steps().saturating_add(held).saturating_add(1)
    }

    pub(super) fn count_steps(&mut self, longest_literal: u32) {
        self.steps = self.other_steps().saturating_add(longest_literal);
    }
}

impl<K: Ord + Copy> Edges<K> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(map) => map.len(),
        }
    }

    fn get(&self, level: &str) -> Option<&Child<K>> {
        match self {
            Self::Few(list) => list.iter().find(|edge| edge.label.is(level)).map(|edge| &edge.child),
            Self::Many(map) => map.get(level.as_bytes()),
        }
    }

    /// The level is made if it is not there.
    fn change(&mut self, level: &str, change: impl FnOnce(&mut Child<K>) -> bool) -> bool {
        if let Self::Few(list) = self {
            if let Some(edge) = list.iter_mut().find(|edge| edge.label.is(level)) {
                return change(&mut edge.child);
            }
            if list.len() < FEW_MAX {
                let mut edge = Edge { label: Label::new(level), child: Child::Bare };
                let changed = change(&mut edge.child);
                list.reserve_exact(1);
                list.push(edge);
                return changed;
            }
            let list = std::mem::take(list).into_iter().map(|edge| (edge.label, edge.child));
            *self = Self::Many(Box::new(list.collect()));
        }
        match self {
            Self::Few(_) => false,
            Self::Many(map) => match map.get_mut(level.as_bytes()) {
                Some(child) => change(child),
                None => change(map.entry(Label::new(level)).or_insert(Child::Bare)),
            },
        }
    }

    /// The level goes if nothing is left of it.
    fn reduce(&mut self, level: &str, change: impl FnOnce(&mut Child<K>) -> bool) -> bool {
        match self {
            Self::Few(list) => {
                let Some(at) = list.iter().position(|edge| edge.label.is(level)) else { return false };
                let changed = change(&mut list[at].child);
                if list[at].child.is_bare() {
                    list.swap_remove(at);
                    list.shrink_to_fit();
                }
                changed
            }
            Self::Many(map) => {
                let Some(child) = map.get_mut(level.as_bytes()) else { return false };
                let changed = change(child);
                if child.is_bare() {
                    map.remove(level.as_bytes());
                    if map.len() <= FEW_MAX / 2 {
                        let map = std::mem::take(&mut **map).into_iter();
                        *self = Self::Few(map.map(|(label, child)| Edge { label, child }).collect());
                    }
                }
                changed
            }
        }
    }

    /// The only one there is, taken out.
    pub(super) fn take_only(&mut self) -> Option<Edge<K>> {
        match self {
            Self::Few(list) if list.len() == 1 => list.pop(),
            Self::Few(_) | Self::Many(_) => None,
        }
    }

    /// Most steps of any of them; `max` is known to be the most there can be, and ends the search.
    fn longest(&self, max: u32, looked: &mut usize) -> u32 {
        let mut longest = 0;
        let mut look = |child: &Child<K>| {
            *looked += 1;
            longest = longest.max(child.steps());
            longest == max
        };
        match self {
            Self::Few(list) => _ = list.iter().any(|edge| look(&edge.child)),
            Self::Many(map) => _ = map.values().any(look),
        }
        longest
    }
}

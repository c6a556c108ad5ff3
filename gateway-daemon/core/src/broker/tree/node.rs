//! One level of the tree: what goes on from it and who holds it. Small, because there may be a million: nearly all levels are one of the short forms of
//! [`Child`], which take sixteen bytes beside their name of sixteen in their parent; what branches is a [`Node`] of 80 bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::label::Label;
use super::{GroupId, Matches};
use crate::broker::packet::{Options, Replay};
use crate::uplink::row::Qos;

/// Most levels behind one that are kept in a list; above, in a map. A list of one is as large as its entry, a map is not.
const FEW_MAX: usize = 8;

/// What a level costs beside its name, bytes: a place in a map that is half full, or what goes on from it, or a part of what branches.
const LEVEL_BYTES: usize = 72;

/// A level, in the shortest of the forms that can say it: a filter that nobody shares a level with is a row of `Way` and a `Here` or `Below` at its end.
#[derive(Debug)]
pub(super) enum Child<K> {
    /// Nothing: about to be filled, or to be removed.
    Bare,
    /// One subscription ends here, and that is all.
    Here(Small, K),
    /// One subscription ends with `#` below here, and that is all.
    Below(Small, K),
    /// One level goes on from it, which may be `+`, and that is all. With its steps.
    Way(u32, Box<Edge<K>>),
    /// Everything else.
    Node(Box<Node<K>>),
}

/// A level behind another one.
#[derive(Debug)]
pub(super) struct Edge<K> {
    label: Label,
    child: Child<K>,
}

/// A level that branches.
#[derive(Debug)]
pub(super) struct Node<K> {
    literal: Edges<K>,
    plus: Child<K>,
    /// Filters that end here.
    here: Holders<K>,
    /// Filters that end with `#` below here.
    below: Holders<K>,
    /// Most steps that any name can take from here on: nodes visited and subscriptions found.
    steps: u32,
}

#[derive(Debug)]
enum Edges<K> {
    Few(Vec<Edge<K>>),
    #[expect(clippy::box_collection, reason = "a node is small: most have few edges")]
    Many(Box<BTreeMap<Label, Child<K>>>),
}

/// Who holds one filter.
#[derive(Debug)]
pub(super) enum Holders<K> {
    None,
    /// Nearly always.
    One(K, Small),
    Many(Box<Many<K>>),
}

#[derive(Debug)]
pub(super) struct Many<K> {
    /// Ascending by key; as a match gives them, to be copied at once.
    own: Vec<(K, Options)>,
    /// Ascending by share name, with the number of members.
    groups: Vec<(Arc<str>, GroupId, u32)>,
    /// Members of all groups.
    members: u32,
}

/// [`Options`] in eight bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Small {
    /// 0 is none.
    identifier: u32,
    flags: u8,
}

impl From<Options> for Small {
    fn from(options: Options) -> Self {
        let replay = match options.replay {
            Replay::Always => 0,
            Replay::IfNew => 1,
            Replay::Never => 2,
        };
        let flags = options.qos as u8
            | u8::from(options.no_local) << 2
            | u8::from(options.retain_as_published) << 3
            | replay << 4;
        Self { identifier: options.identifier.unwrap_or(0), flags }
    }
}

impl From<Small> for Options {
    fn from(small: Small) -> Self {
        Self {
            qos: match small.flags & 3 {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            },
            no_local: small.flags & 4 != 0,
            retain_as_published: small.flags & 8 != 0,
            replay: match small.flags >> 4 {
                0 => Replay::Always,
                1 => Replay::IfNew,
                _ => Replay::Never,
            },
            identifier: (small.identifier > 0).then_some(small.identifier),
        }
    }
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
const PLUS: &str = "+";

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
fn split(levels: &str) -> (&str, Option<&str>) {
    match levels.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (levels, None),
    }
}

impl<K: Ord + Copy> Child<K> {
    /// Most steps that any name can take from here on.
    fn steps(&self) -> u32 {
        match self {
            Self::Bare => 0,
            Self::Here(..) | Self::Below(..) => 2,
            Self::Way(steps, _) => *steps,
            Self::Node(node) => node.steps,
        }
    }

    fn is_bare(&self) -> bool {
        matches!(self, Self::Bare)
    }

    fn collect(&self, mut levels: Option<&str>, found: &mut Matches<K>) {
        let mut child = self;
        loop {
            match child {
                Self::Bare => return,
                Self::Node(node) => return node.collect(levels, false, found),
                _ => found.steps += 1,
            }
            match child {
                Self::Here(options, key) if levels.is_none() => found.own.push((*key, (*options).into())),
                Self::Below(options, key) => found.own.push((*key, (*options).into())),
                Self::Way(_, edge) => {
                    let Some((level, rest)) = levels.map(split) else { return };
                    if edge.label.is(level) || edge.label.is(PLUS) {
                        (child, levels) = (&edge.child, rest);
                        continue;
                    }
                }
                _ => {}
            }
            return;
        }
    }

    /// Looks at the holders of a filter.
    fn look<R>(&self, levels: Option<&str>, look: impl FnOnce(&Holders<K>) -> R) -> Option<R> {
        match (self, levels.map(split)) {
            (Self::Node(node), _) => node.look(levels, look),
            (Self::Here(options, key), None) | (Self::Below(options, key), Some(("#", _))) => {
                Some(look(&Holders::One(*key, *options)))
            }
            (Self::Way(_, edge), Some((level, rest))) if edge.label.is(level) => edge.child.look(rest, look),
            _ => None,
        }
    }

    /// See [`Node::insert`].
    fn insert(
        &mut self,
        levels: Option<&str>,
        toll: &mut Toll,
        join: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        match (&mut *self, levels.map(split)) {
            (Self::Bare, None) => return self.change(Self::of_here, join),
            (Self::Bare, Some(("#", _))) => return self.change(Self::of_below, join),
            (Self::Bare, Some((level, rest))) => {
                let mut edge = Box::new(Edge { label: Label::new(level), child: Self::Bare });
                let another = edge.child.insert(rest, toll, join);
                toll.level(level);
                *self = Self::Way(edge.child.steps().saturating_add(1), edge);
                return another;
            }
            (Self::Here(..), None) => return self.change(Self::of_here, join),
            (Self::Below(..), Some(("#", _))) => return self.change(Self::of_below, join),
            (Self::Way(steps, edge), Some((level, rest))) if edge.label.is(level) => {
                let another = edge.child.insert(rest, toll, join);
                *steps = edge.child.steps().saturating_add(1);
                return another;
            }
            (Self::Node(node), _) => return node.insert(levels, toll, join),
            _ => {}
        }
        let mut node = Box::new(std::mem::replace(self, Self::Bare).into_node());
        let another = node.insert(levels, toll, join);
        *self = Self::Node(node);
        another
    }

    /// See [`Node::remove`].
    fn remove(
        &mut self,
        levels: Option<&str>,
        toll: &mut Toll,
        leave: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        match (&mut *self, levels.map(split)) {
            (Self::Here(..), None) => self.change(Self::of_here, leave),
            (Self::Below(..), Some(("#", _))) => self.change(Self::of_below, leave),
            (Self::Way(steps, edge), Some((level, rest))) if edge.label.is(level) => {
                let removed = edge.child.remove(rest, toll, leave);
                *steps = edge.child.steps().saturating_add(1);
                if edge.child.is_bare() {
                    toll.level(level);
                    *self = Self::Bare;
                }
                removed
            }
            (Self::Node(node), _) => {
                let removed = node.remove(levels, toll, leave);
                if removed {
                    self.shorten();
                }
                removed
            }
            _ => false,
        }
    }

    /// Changes the only holders of this level.
    fn change(
        &mut self,
        form: fn(Holders<K>) -> Self,
        change: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        let mut holders = match self {
            Self::Here(options, key) | Self::Below(options, key) => Holders::One(*key, *options),
            _ => Holders::None,
        };
        let changed = change(&mut holders);
        *self = form(holders);
        changed
    }

    fn of_here(here: Holders<K>) -> Self {
        match here {
            Holders::None => Self::Bare,
            Holders::One(key, options) => Self::Here(options, key),
            Holders::Many(_) => Self::of_node(Node { here, ..Node::default() }),
        }
    }

    fn of_below(below: Holders<K>) -> Self {
        match below {
            Holders::None => Self::Bare,
            Holders::One(key, options) => Self::Below(options, key),
            Holders::Many(_) => Self::of_node(Node { below, ..Node::default() }),
        }
    }

    /// Without levels behind it.
    fn of_node(mut node: Node<K>) -> Self {
        node.count_steps(0);
        Self::Node(Box::new(node))
    }

    /// The same level in the form that can be anything.
    fn into_node(self) -> Node<K> {
        let mut node = Node::default();
        let mut longest = 0;
        match self {
            Self::Bare => {}
            Self::Here(options, key) => node.here = Holders::One(key, options),
            Self::Below(options, key) => node.below = Holders::One(key, options),
            Self::Way(_, edge) if edge.label.is(PLUS) => node.plus = edge.child,
            Self::Way(_, edge) => {
                longest = edge.child.steps();
                node.literal = Edges::Few(vec![*edge]);
            }
            Self::Node(node) => return *node,
        }
        node.count_steps(longest);
        node
    }

    /// Takes a shorter form if that is enough.
    fn shorten(&mut self) {
        let Self::Node(node) = self else { return };
        let ways = node.literal.len() + usize::from(!node.plus.is_bare());
        let form = match (ways, &node.here, &node.below) {
            (0, Holders::None, Holders::None) => Self::Bare,
            (0, Holders::One(key, options), Holders::None) => Self::Here(*options, *key),
            (0, Holders::None, Holders::One(key, options)) => Self::Below(*options, *key),
            (1, Holders::None, Holders::None) => {
                let plus = std::mem::replace(&mut node.plus, Self::Bare);
                let edge = match node.literal.take_only() {
                    Some(edge) => edge,
                    None => Edge { label: Label::new(PLUS), child: plus },
                };
                Self::Way(edge.child.steps().saturating_add(1), Box::new(edge))
            }
            _ => return,
        };
        *self = form;
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

    fn count_steps(&mut self, longest_literal: u32) {
        self.steps = self.other_steps().saturating_add(longest_literal);
    }
}

impl<K: Ord + Copy> Edges<K> {
    fn len(&self) -> usize {
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
    fn take_only(&mut self) -> Option<Edge<K>> {
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

impl<K: Ord + Copy> Holders<K> {
    /// How much a match finds here: subscriptions and members of groups.
    fn weight(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(many) => {
                many.members.saturating_add(u32::try_from(many.own.len()).unwrap_or(u32::MAX))
            }
        }
    }

    fn add_to(&self, found: &mut Matches<K>) {
        match self {
            Self::None => {}
            Self::One(key, options) => found.own.push((*key, (*options).into())),
            Self::Many(many) => {
                found.own.extend_from_slice(&many.own);
                found.groups.extend(many.groups.iter().map(|(_, id, _)| *id));
            }
        }
    }

    /// What a holder wants.
    pub(super) fn options(&self, key: K) -> Option<Options> {
        match self {
            Self::One(only, options) if *only == key => Some((*options).into()),
            Self::Many(many) => {
                let at = many.own.binary_search_by_key(&key, |(other, _)| *other).ok()?;
                Some(many.own[at].1)
            }
            _ => None,
        }
    }

    /// Adds a holder or replaces what it wants; says whether it is another one.
    pub(super) fn place(&mut self, key: K, options: Options) -> bool {
        match self {
            Self::None => *self = Self::One(key, options.into()),
            Self::One(only, old) if *only == key => {
                *old = options.into();
                return false;
            }
            Self::One(..) | Self::Many(_) => {
                let Some(Many { own, .. }) = self.many() else { return false };
                match own.binary_search_by_key(&key, |(other, _)| *other) {
                    Ok(at) => {
                        own[at].1 = options;
                        return false;
                    }
                    Err(at) => own.insert(at, (key, options)),
                }
            }
        }
        true
    }

    pub(super) fn take(&mut self, key: K) -> bool {
        match self {
            Self::One(only, _) if *only == key => {
                *self = Self::None;
                return true;
            }
            Self::Many(many) => {
                let found = many.own.binary_search_by_key(&key, |(other, _)| *other);
                if let Ok(at) = found {
                    many.own.remove(at);
                    self.shrink();
                }
                return found.is_ok();
            }
            _ => {}
        }
        false
    }

    /// The group of a share name.
    pub(super) fn group(&self, share: &str) -> Option<GroupId> {
        let Self::Many(many) = self else { return None };
        let at = many.groups.binary_search_by(|(name, _, _)| (**name).cmp(share)).ok()?;
        Some(many.groups[at].1)
    }

    /// A group has so many members; with none it goes.
    pub(super) fn set_group(&mut self, share: &Arc<str>, id: GroupId, members: usize) {
        let count = u32::try_from(members).unwrap_or(u32::MAX);
        let Some(many) = self.many() else { return };
        let place = many.groups.binary_search_by(|(name, _, _)| name.cmp(share));
        let before = place.map_or(0, |at| many.groups[at].2);
        many.members = many.members.saturating_sub(before).saturating_add(count);
        match place {
            Ok(at) if members == 0 => _ = many.groups.remove(at),
            Ok(at) => many.groups[at].2 = count,
            Err(at) if members > 0 => many.groups.insert(at, (Arc::clone(share), id, count)),
            Err(_) => {}
        }
        self.shrink();
    }

    /// Makes room for several; there is always a `Some`.
    fn many(&mut self) -> Option<&mut Many<K>> {
        if !matches!(self, Self::Many(_)) {
            let own = match self {
                Self::One(key, options) => vec![(*key, (*options).into())],
                _ => Vec::new(),
            };
            *self = Self::Many(Box::new(Many { own, groups: Vec::new(), members: 0 }));
        }
        match self {
            Self::Many(many) => Some(many),
            _ => None,
        }
    }

    /// Gives back what is not needed any more.
    fn shrink(&mut self) {
        let Self::Many(many) = self else { return };
        if many.groups.is_empty() && many.own.len() <= 1 {
            *self = many.own.first().map_or(Self::None, |(key, options)| Self::One(*key, (*options).into()));
        } else if many.own.len() * 4 < many.own.capacity() {
            many.own.shrink_to_fit();
        }
    }
}

//! One level of the tree: what goes on from it and who holds it. Small, because there may be a million: 72 bytes, beside its name in its parent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{GroupId, Matches};
use crate::broker::packet::{Options, Replay};
use crate::uplink::row::Qos;

/// Most levels behind one that are kept in a list; above, in a map. A list of one is as large as its entry, a map is not.
const FEW_MAX: usize = 8;

/// A level.
#[derive(Debug)]
pub(super) struct Node<K> {
    literal: Edges<K>,
    plus: Option<Box<Node<K>>>,
    /// Filters that end here.
    here: Holders<K>,
    /// Filters that end with `#` below here.
    below: Holders<K>,
    /// Most steps that any name can take from here on: nodes visited and subscriptions found.
    steps: u32,
}

#[derive(Debug)]
enum Edges<K> {
    Few(Vec<(Box<str>, Box<Node<K>>)>),
    #[expect(clippy::box_collection, reason = "a node is small: most have one edge")]
    Many(Box<BTreeMap<Box<str>, Box<Node<K>>>>),
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
            plus: None,
            here: Holders::None,
            below: Holders::None,
            steps: 1,
        }
    }
}

/// The first level of what is left of a topic, and what is left then.
fn split(levels: &str) -> (&str, Option<&str>) {
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
        if let Some(node) = self.literal.get(level) {
            node.collect(rest, false, found);
        }
        if let (Some(node), false) = (&self.plus, reserved) {
            node.collect(rest, false, found);
        }
    }

    /// The holders of a filter.
    pub(super) fn holders(&self, levels: Option<&str>) -> Option<&Holders<K>> {
        let Some(levels) = levels else { return Some(&self.here) };
        let (level, rest) = split(levels);
        match level {
            "#" => Some(&self.below),
            "+" => self.plus.as_ref()?.holders(rest),
            literal => self.literal.get(literal)?.holders(rest),
        }
    }

    /// Goes to the holders of a filter, making the levels that are missing. `join` adds somebody to them.
    pub(super) fn insert(
        &mut self,
        levels: Option<&str>,
        join: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        let mut longest = self.longest_literal();
        let another = match levels.map(split) {
            None => join(&mut self.here),
            Some(("#", _)) => join(&mut self.below),
            Some(("+", rest)) => self.plus.get_or_insert_default().insert(rest, join),
            Some((literal, rest)) => match self.literal.get_or_make(literal) {
                Some(node) => {
                    let another = node.insert(rest, join);
                    longest = longest.max(node.steps);
                    another
                }
                None => false,
            },
        };
        self.count_steps(longest);
        another
    }

    /// Goes to the holders of a filter and removes the levels that served it alone. `looked` counts the levels beside them that were looked at.
    pub(super) fn remove(
        &mut self,
        levels: Option<&str>,
        looked: &mut usize,
        leave: &mut impl FnMut(&mut Holders<K>) -> bool,
    ) -> bool {
        let mut longest = self.longest_literal();
        let removed = match levels.map(split) {
            None => leave(&mut self.here),
            Some(("#", _)) => leave(&mut self.below),
            Some(("+", rest)) => {
                let removed = self.plus.as_mut().is_some_and(|node| node.remove(rest, looked, leave));
                self.plus.take_if(|node| node.is_bare());
                removed
            }
            Some((literal, rest)) => {
                let Some(node) = self.literal.get_mut(literal) else { return false };
                let before = node.steps;
                let removed = node.remove(rest, looked, leave);
                let after = node.steps;
                let bare = node.is_bare();
                if bare {
                    self.literal.remove(literal);
                }
                if before == longest && (bare || after < before) {
                    longest = self.literal.longest(before, looked);
                }
                removed
            }
        };
        self.count_steps(longest);
        removed
    }

    pub(super) fn is_bare(&self) -> bool {
        self.here.is_empty() && self.below.is_empty() && self.literal.is_empty() && self.plus.is_none()
    }

    /// Most steps of the literal levels behind this one.
    fn longest_literal(&self) -> u32 {
        self.steps.saturating_sub(self.other_steps())
    }

    fn other_steps(&self) -> u32 {
        let plus = self.plus.as_ref().map_or(0, |node| node.steps);
        let held = self.here.weight().saturating_add(self.below.weight());
        plus.saturating_add(held).saturating_add(1)
    }

    fn count_steps(&mut self, longest_literal: u32) {
        self.steps = self.other_steps().saturating_add(longest_literal);
    }
}

impl<K> Edges<K> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(list) => list.is_empty(),
            Self::Many(map) => map.is_empty(),
        }
    }

    fn get(&self, level: &str) -> Option<&Node<K>> {
        match self {
            Self::Few(list) => list.iter().find(|(name, _)| **name == *level).map(|(_, node)| &**node),
            Self::Many(map) => map.get(level).map(|node| &**node),
        }
    }

    fn get_mut(&mut self, level: &str) -> Option<&mut Node<K>> {
        match self {
            Self::Few(list) => {
                list.iter_mut().find(|(name, _)| **name == *level).map(|(_, node)| &mut **node)
            }
            Self::Many(map) => map.get_mut(level).map(|node| &mut **node),
        }
    }

    fn get_or_make(&mut self, level: &str) -> Option<&mut Node<K>> {
        if self.get(level).is_none() {
            if let Self::Few(list) = self
                && list.len() >= FEW_MAX
            {
                *self = Self::Many(Box::new(std::mem::take(list).into_iter().collect()));
            }
            match self {
                Self::Few(list) => {
                    list.reserve_exact(1);
                    list.push((level.into(), Box::default()));
                }
                Self::Many(map) => _ = map.insert(level.into(), Box::default()),
            }
        }
        self.get_mut(level)
    }

    fn remove(&mut self, level: &str) {
        match self {
            Self::Few(list) => {
                list.retain(|(name, _)| **name != *level);
                list.shrink_to_fit();
            }
            Self::Many(map) => {
                map.remove(level);
                if map.len() <= FEW_MAX / 2 {
                    *self = Self::Few(std::mem::take(&mut **map).into_iter().collect());
                }
            }
        }
    }

    /// Most steps of any of them; `max` is known to be the most there can be, and ends the search.
    fn longest(&self, max: u32, looked: &mut usize) -> u32 {
        let mut longest = 0;
        let mut look = |node: &Node<K>| {
            *looked += 1;
            longest = longest.max(node.steps);
            longest == max
        };
        match self {
            Self::Few(list) => _ = list.iter().any(|(_, node)| look(node)),
            Self::Many(map) => _ = map.values().any(|node| look(node)),
        }
        longest
    }
}

impl<K: Ord + Copy> Holders<K> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

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

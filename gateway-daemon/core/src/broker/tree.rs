//! The subscription tree: from a topic name to the sessions that want it, at a cost that grows with the levels of the
//! name and not with the number of subscriptions.
//!
//! Shared subscriptions (4.8.2) are *groups*: of each the broker picks one member per message, in turn.
//!
//! Bounds: depth by [`super::topic::TOPIC_LEVELS_MAX`], size by what the broker lets sessions subscribe to. Removing a
//! subscription removes the branches that served it alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::packet::{Options, Subscription};
use super::topic::{TopicName, is_reserved};

/// Sessions and the options they subscribed with, by whatever identifies a session.
#[derive(Debug)]
pub struct Tree<K> {
    root: Node<K>,
    len: usize,
    groups: BTreeMap<GroupId, Group<K>>,
    last_group: u32,
    shared: usize,
}

/// A share name with its filter, as long as it has members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupId(u32);

#[derive(Debug)]
struct Group<K> {
    subscription: Subscription,
    /// Ascending by key.
    members: Vec<(K, Options)>,
    /// Whose turn it is.
    next: usize,
}

#[derive(Debug)]
struct Node<K> {
    literal: BTreeMap<Box<str>, Node<K>>,
    plus: Option<Box<Node<K>>>,
    /// Filters that end here.
    here: Holders<K>,
    /// Filters that end with `#` below here.
    below: Holders<K>,
}

#[derive(Debug)]
struct Holders<K> {
    /// Ascending by key.
    own: Vec<(K, Options)>,
    groups: Vec<(Arc<str>, GroupId)>,
}

/// What [`Tree::matching`] finds; kept by the caller, so that its memory is used again.
#[derive(Debug)]
pub struct Matches<K> {
    /// Every matching subscription that is not shared; a session with overlapping ones appears once for each.
    pub own: Vec<(K, Options)>,
    /// Every matching group.
    pub groups: Vec<GroupId>,
}

impl<K> Default for Holders<K> {
    fn default() -> Self {
        Self { own: Vec::new(), groups: Vec::new() }
    }
}

impl<K> Default for Matches<K> {
    fn default() -> Self {
        Self { own: Vec::new(), groups: Vec::new() }
    }
}

impl<K> Default for Node<K> {
    fn default() -> Self {
        Self { literal: BTreeMap::new(), plus: None, here: Holders::default(), below: Holders::default() }
    }
}

impl<K> Default for Tree<K> {
    fn default() -> Self {
        Self { root: Node::default(), len: 0, groups: BTreeMap::new(), last_group: 0, shared: 0 }
    }
}

impl<K: Ord + Copy> Tree<K> {
    /// How many subscriptions there are, shared ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many of them are shared.
    #[must_use]
    pub fn shared_len(&self) -> usize {
        self.shared
    }

    /// Whether nobody wants anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether some filter begins with this level, literally.
    #[must_use]
    pub fn begins_with(&self, level: &str) -> bool {
        self.root.literal.contains_key(level)
    }

    /// Subscribes; a subscription of the same session to the same filter is replaced. Says whether it is another one.
    pub fn insert(&mut self, subscription: &Subscription, key: K, options: Options) -> bool {
        let mut node = &mut self.root;
        let mut ends = false;
        for level in subscription.filter.levels() {
            match level {
                "#" => ends = true,
                "+" => node = node.plus.get_or_insert_default(),
                literal => {
                    if !node.literal.contains_key(literal) {
                        node.literal.insert(literal.into(), Node::default());
                    }
                    let Some(next) = node.literal.get_mut(literal) else { return false };
                    node = next;
                }
            }
        }
        let holders = if ends { &mut node.below } else { &mut node.here };
        let another = match &subscription.share {
            None => place(&mut holders.own, key, options),
            Some(share) => {
                let id = holders.group(share).unwrap_or_else(|| {
                    while self.groups.contains_key(&GroupId(self.last_group)) {
                        self.last_group = self.last_group.wrapping_add(1);
                    }
                    let id = GroupId(self.last_group);
                    let subscription = subscription.clone();
                    self.groups.insert(id, Group { subscription, members: Vec::new(), next: 0 });
                    holders.groups.push((Arc::clone(share), id));
                    id
                });
                self.groups.get_mut(&id).is_some_and(|group| place(&mut group.members, key, options))
            }
        };
        self.len += usize::from(another);
        self.shared += usize::from(another && subscription.share.is_some());
        another
    }

    /// Unsubscribes. Says whether there was such a subscription.
    pub fn remove(&mut self, subscription: &Subscription, key: K) -> bool {
        let groups = &mut self.groups;
        let removed = self.root.remove(Some(subscription.filter.as_str()), &mut |holders| {
            let Some(share) = &subscription.share else { return take(&mut holders.own, key) };
            let Some(id) = holders.group(share) else { return false };
            let Some(group) = groups.get_mut(&id) else { return false };
            let removed = take(&mut group.members, key);
            if group.members.is_empty() {
                groups.remove(&id);
                holders.groups.retain(|(_, other)| *other != id);
            }
            removed
        });
        self.len -= usize::from(removed);
        self.shared -= usize::from(removed && subscription.share.is_some());
        removed
    }

    /// Every subscription and every group that wants `name`, added to `found`.
    pub fn matching(&self, name: &TopicName, found: &mut Matches<K>) {
        self.root.collect(Some(name.as_str()), is_reserved(name.as_str()), found);
    }

    /// The member of a group whose turn it is: the next one that is `ready`, or the next one if none is.
    pub fn pick(&mut self, id: GroupId, ready: impl Fn(K) -> bool) -> Option<(K, Options)> {
        let group = self.groups.get_mut(&id)?;
        let count = group.members.len();
        let turns = (0..count).map(|turn| (group.next + turn) % count.max(1));
        let chosen = turns.clone().find(|at| group.members.get(*at).is_some_and(|(key, _)| ready(*key)));
        let at = chosen.or_else(|| turns.clone().next())?;
        group.next = at + 1;
        group.members.get(at).copied()
    }

    /// The share name and filter of a group.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Subscription> {
        self.groups.get(&id).map(|group| &group.subscription)
    }

    /// The group of a share name and filter, if it has members.
    #[must_use]
    pub fn group_of(&self, subscription: &Subscription) -> Option<GroupId> {
        self.groups.iter().find(|(_, group)| group.subscription == *subscription).map(|(id, _)| *id)
    }
}

/// Puts an entry into an ascending list; says whether it is another one.
fn place<K: Ord + Copy>(list: &mut Vec<(K, Options)>, key: K, options: Options) -> bool {
    match list.binary_search_by_key(&key, |(other, _)| *other) {
        Ok(at) => {
            list[at].1 = options;
            false
        }
        Err(at) => {
            list.insert(at, (key, options));
            true
        }
    }
}

fn take<K: Ord + Copy>(list: &mut Vec<(K, Options)>, key: K) -> bool {
    let found = list.binary_search_by_key(&key, |(other, _)| *other);
    if let Ok(at) = found {
        list.remove(at);
        if list.is_empty() {
            *list = Vec::new();
        }
    }
    found.is_ok()
}

impl<K> Holders<K> {
    fn group(&self, share: &str) -> Option<GroupId> {
        self.groups.iter().find(|(name, _)| **name == *share).map(|(_, id)| *id)
    }

    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.groups.is_empty()
    }
}

impl<K: Ord + Copy> Matches<K> {
    fn add(&mut self, holders: &Holders<K>) {
        self.own.extend_from_slice(&holders.own);
        self.groups.extend(holders.groups.iter().map(|(_, id)| *id));
    }

    /// Forgets what was found, not the memory.
    pub fn clear(&mut self) {
        self.own.clear();
        self.groups.clear();
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
    /// `reserved` hides the wildcards of this level.
    fn collect(&self, levels: Option<&str>, reserved: bool, found: &mut Matches<K>) {
        if !reserved {
            found.add(&self.below);
        }
        let Some(levels) = levels else {
            found.add(&self.here);
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

    fn remove(&mut self, levels: Option<&str>, leave: &mut impl FnMut(&mut Holders<K>) -> bool) -> bool {
        let Some(levels) = levels else { return leave(&mut self.here) };
        let (level, rest) = split(levels);
        match level {
            "#" => leave(&mut self.below),
            "+" => {
                let removed = self.plus.as_mut().is_some_and(|node| node.remove(rest, leave));
                self.plus.take_if(|node| node.is_bare());
                removed
            }
            literal => {
                let Some(node) = self.literal.get_mut(literal) else { return false };
                let removed = node.remove(rest, leave);
                if node.is_bare() {
                    self.literal.remove(literal);
                }
                removed
            }
        }
    }

    fn is_bare(&self) -> bool {
        self.here.is_empty() && self.below.is_empty() && self.literal.is_empty() && self.plus.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::topic::TopicFilter;
    use super::*;
    use crate::uplink::row::Qos;

    fn options(identifier: u32) -> Options {
        Options { identifier: Some(identifier), ..Options::plain(Qos::AtLeastOnce) }
    }

    fn subscription() -> impl Strategy<Value = Subscription> {
        let share = prop::option::of(prop::sample::select(vec!["x", "y"]));
        (share, filter()).prop_map(|(share, filter)| Subscription { share: share.map(Arc::from), filter })
    }

    /// Few words, so that names and filters meet; with empty and reserved levels.
    fn name() -> impl Strategy<Value = TopicName> {
        vec(prop::sample::select(vec!["", "a", "b", "$s", "ä"]), 1..5)
            .prop_filter_map("a topic has a character", |levels| TopicName::new(levels.join("/")).ok())
    }

    fn filter() -> impl Strategy<Value = TopicFilter> {
        let level = prop::sample::select(vec!["", "a", "b", "$s", "ä", "+", "+", "#"]);
        vec(level, 1..5).prop_filter_map("'#' is last", |levels| TopicFilter::new(levels.join("/")).ok())
    }

    fn naive(filter: &TopicFilter, name: &TopicName) -> bool {
        fn levels(filter: &[&str], name: &[&str]) -> bool {
            match (filter, name) {
                (["#"], _) | ([], []) => true,
                (["+", filter @ ..], [_, name @ ..]) => levels(filter, name),
                ([f, filter @ ..], [n, name @ ..]) => f == n && levels(filter, name),
                _ => false,
            }
        }
        let filter: Vec<&str> = filter.as_str().split('/').collect();
        let name: Vec<&str> = name.as_str().split('/').collect();
        let hidden = name[0].starts_with('$') && (filter[0] == "+" || filter[0] == "#");
        !hidden && levels(&filter, &name)
    }

    proptest! {
        #[test]
        fn a_filter_matches_what_a_naive_matcher_matches(filter in filter(), name in name()) {
            prop_assert_eq!(filter.matches(&name), naive(&filter, &name));
            if filter.matches(&name) {
                prop_assert!(name.as_str().starts_with(filter.literal_prefix()));
            }
        }

        #[test]
        fn the_tree_finds_what_a_naive_matcher_finds(
            steps in vec((any::<bool>(), subscription(), 0_u8..4, 0_u32..3), 0..40),
            names in vec(name(), 1..10),
        ) {
            let mut tree = Tree::default();
            let mut list: BTreeMap<(Subscription, u8), Options> = BTreeMap::new();
            for (subscribe, wanted, key, identifier) in steps {
                if subscribe {
                    let another = tree.insert(&wanted, key, options(identifier));
                    prop_assert_eq!(another, list.insert((wanted, key), options(identifier)).is_none());
                } else {
                    prop_assert_eq!(tree.remove(&wanted, key), list.remove(&(wanted, key)).is_some());
                }
            }
            prop_assert_eq!(tree.len(), list.len());
            prop_assert_eq!(tree.shared_len(), list.keys().filter(|(wanted, _)| wanted.share.is_some()).count());
            for name in &names {
                let (mut own, mut groups) = (Vec::new(), BTreeMap::<Subscription, Vec<(u8, Options)>>::new());
                for ((wanted, key), options) in list.iter().filter(|((wanted, _), _)| naive(&wanted.filter, name)) {
                    match &wanted.share {
                        None => own.push((*key, *options)),
                        Some(_) => groups.entry(wanted.clone()).or_default().push((*key, *options)),
                    }
                }
                let mut found = Matches::default();
                tree.matching(name, &mut found);
                let by = |entry: &(u8, Options)| (entry.0, entry.1.identifier);
                own.sort_by_key(by);
                found.own.sort_by_key(by);
                prop_assert_eq!(&found.own, &own);
                prop_assert_eq!(found.groups.len(), groups.len());
                for id in found.groups {
                    let members = &groups[tree.group(id).unwrap()];
                    prop_assert_eq!(tree.group_of(&tree.group(id).unwrap().clone()), Some(id));
                    let mut round: Vec<_> = members.iter().map(|_| tree.pick(id, |_| true).unwrap()).collect();
                    round.sort_by_key(by);
                    prop_assert_eq!(&round, members, "one round asks everybody once");
                    let last = members[members.len() - 1];
                    prop_assert_eq!(tree.pick(id, |key| key == last.0), Some(last), "only who is ready");
                    prop_assert!(tree.pick(id, |_| false).is_some(), "somebody, if nobody is ready");
                }
            }
            for (wanted, key) in list.keys() {
                tree.remove(wanted, *key);
            }
            prop_assert!(tree.is_empty() && tree.root.is_bare() && tree.groups.is_empty(), "nothing is left behind");
        }
    }
}

//! The subscription tree: from a topic name to the sessions that want it, at a cost that grows with the levels of the
//! name and not with the number of subscriptions.
//!
//! Bounds: depth by [`super::topic::TOPIC_LEVELS_MAX`], size by what the broker lets sessions subscribe to. Removing a
//! subscription removes the branches that served it alone.

use std::collections::BTreeMap;

use super::topic::{TopicFilter, TopicName, is_reserved};
use crate::uplink::row::Qos;

/// Sessions and the QoS they subscribed with, by whatever identifies a session.
#[derive(Debug)]
pub struct Tree<K> {
    root: Node<K>,
    len: usize,
}

#[derive(Debug)]
struct Node<K> {
    literal: BTreeMap<Box<str>, Node<K>>,
    plus: Option<Box<Node<K>>>,
    /// Filters that end here.
    here: BTreeMap<K, Qos>,
    /// Filters that end with `#` below here.
    below: BTreeMap<K, Qos>,
}

impl<K> Default for Node<K> {
    fn default() -> Self {
        Self { literal: BTreeMap::new(), plus: None, here: BTreeMap::new(), below: BTreeMap::new() }
    }
}

impl<K> Default for Tree<K> {
    fn default() -> Self {
        Self { root: Node::default(), len: 0 }
    }
}

impl<K: Ord + Copy> Tree<K> {
    /// How many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody wants anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Subscribes; a subscription of the same session to the same filter is replaced. Says whether it is another one.
    pub fn insert(&mut self, filter: &TopicFilter, key: K, qos: Qos) -> bool {
        let mut node = &mut self.root;
        let mut ends = None;
        for level in filter.levels() {
            match level {
                "#" => ends = Some(()),
                "+" => node = node.plus.get_or_insert_default(),
                literal => node = node.literal.entry(literal.into()).or_default(),
            }
        }
        let holders = if ends.is_some() { &mut node.below } else { &mut node.here };
        let another = holders.insert(key, qos).is_none();
        self.len += usize::from(another);
        another
    }

    /// Unsubscribes. Says whether there was such a subscription.
    pub fn remove(&mut self, filter: &TopicFilter, key: K) -> bool {
        let levels: Vec<&str> = filter.levels().collect();
        let removed = self.root.remove(&levels, key);
        self.len -= usize::from(removed);
        removed
    }

    /// Every session that wants `name`, once, with the highest QoS of its matching subscriptions ("MQTT Version 3.1.1", 3.3.5).
    #[must_use]
    pub fn matching(&self, name: &TopicName) -> BTreeMap<K, Qos> {
        let levels: Vec<&str> = name.levels().collect();
        let mut found = BTreeMap::new();
        self.root.collect(&levels, is_reserved(name.as_str()), &mut found);
        found
    }
}

impl<K: Ord + Copy> Node<K> {
    /// `reserved` hides the wildcards of this level.
    fn collect(&self, levels: &[&str], reserved: bool, found: &mut BTreeMap<K, Qos>) {
        if !reserved {
            merge(found, &self.below);
        }
        let Some((level, rest)) = levels.split_first() else {
            merge(found, &self.here);
            return;
        };
        if let Some(node) = self.literal.get(*level) {
            node.collect(rest, false, found);
        }
        if let (Some(node), false) = (&self.plus, reserved) {
            node.collect(rest, false, found);
        }
    }

    fn remove(&mut self, levels: &[&str], key: K) -> bool {
        let Some((level, rest)) = levels.split_first() else {
            return self.here.remove(&key).is_some();
        };
        match *level {
            "#" => self.below.remove(&key).is_some(),
            "+" => {
                let removed = self.plus.as_mut().is_some_and(|node| node.remove(rest, key));
                self.plus.take_if(|node| node.is_bare());
                removed
            }
            literal => {
                let Some(node) = self.literal.get_mut(literal) else { return false };
                let removed = node.remove(rest, key);
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

fn merge<K: Ord + Copy>(found: &mut BTreeMap<K, Qos>, holders: &BTreeMap<K, Qos>) {
    for (key, qos) in holders {
        found.entry(*key).and_modify(|best| *best = (*best).max(*qos)).or_insert(*qos);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

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
        fn the_tree_finds_whom_a_naive_matcher_finds(
            steps in vec((any::<bool>(), filter(), 0_u8..4, 0_usize..3), 0..40),
            names in vec(name(), 1..10),
        ) {
            let mut tree = Tree::default();
            let mut list: BTreeMap<(TopicFilter, u8), Qos> = BTreeMap::new();
            for (subscribe, filter, key, qos) in steps {
                if subscribe {
                    let another = tree.insert(&filter, key, QOS[qos]);
                    prop_assert_eq!(another, list.insert((filter, key), QOS[qos]).is_none());
                } else {
                    prop_assert_eq!(tree.remove(&filter, key), list.remove(&(filter, key)).is_some());
                }
            }
            prop_assert_eq!(tree.len(), list.len());
            for name in &names {
                let mut wanted: BTreeMap<u8, Qos> = BTreeMap::new();
                for ((filter, key), qos) in &list {
                    if naive(filter, name) {
                        wanted.entry(*key).and_modify(|best| *best = (*best).max(*qos)).or_insert(*qos);
                    }
                }
                prop_assert_eq!(tree.matching(name), wanted);
            }
            for (filter, key) in list.keys() {
                tree.remove(filter, *key);
            }
            prop_assert!(tree.is_empty() && tree.root.is_bare(), "no branch is left behind");
        }
    }
}

//! The subscription tree: from a topic name to the sessions that want it, at a cost that grows with the levels of the
//! name and not with the number of subscriptions.
//!
//! Shared subscriptions (4.8.2) are *groups*: of each the broker picks one member per message, in turn.
//!
//! Bounds: depth by [`super::topic::TOPIC_LEVELS_MAX`], size by what the broker lets sessions subscribe to. Each node knows how many steps a name can
//! take at most from there on ([`Tree::steps`]): a subscription that would make the worst name take more than `steps_max` is refused, so that no publish
//! costs more than that. Filters without `+` hardly count, however many there are; `+` in many levels beside names in the same levels doubles it with
//! each level. A subscription with which all of them would cost more memory than [`Bounds`] says is refused as well. Removing a subscription removes the
//! branches that served it alone, and their memory.

mod child;
mod holders;
mod label;
mod node;

use std::collections::BTreeMap;

use node::{Node, Toll};

use super::packet::{Options, Subscription};
use super::settings::{Limits, SUBSCRIPTION_BYTES};
use super::topic::{TopicName, is_reserved};

/// What a subscription costs that shares no level with another one, bytes: an ordinary one.
const ALONE_BYTES: usize = 512;

/// What is little for the subscriptions of one session, bytes: some dozens.
const LITTLE_BYTES: usize = 16 << 10;

/// However few there may be, they may cost this much: some long ones are no attack.
const BYTES_LEAST: usize = 64 << 10;

/// What a group costs beside its texts, bytes; for each of its members, so that it need not be known who is the first.
const GROUP_BYTES: usize = 200;

/// Sessions and the options they subscribed with, by whatever identifies a session.
#[derive(Debug)]
pub struct Tree<K> {
    root: Node<K>,
    len: usize,
    /// What it costs, see [`Tree::bytes`].
    bytes: usize,
    removed: u64,
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

/// What all subscriptions together may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most steps that any name may take.
    pub steps_max: usize,
    /// Most bytes of memory.
    pub bytes_max: usize,
}

impl Bounds {
    /// For those that are never refused.
    pub const NONE: Self = Self { steps_max: usize::MAX, bytes_max: usize::MAX };

    /// As the limits say it: what the ordinary ones cost that there may be.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        let bytes = SUBSCRIPTION_BYTES.saturating_mul(limits.subscriptions_max as u64);
        let bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX).max(BYTES_LEAST);
        Self { steps_max: limits.match_steps_max, bytes_max }
    }

    /// For a session whose subscriptions cost so much by themselves: an eighth beyond is for those that have little.
    #[must_use]
    pub fn for_session(self, cost: usize) -> Self {
        let beyond = if cost <= LITTLE_BYTES { self.bytes_max / 8 } else { 0 };
        Self { bytes_max: self.bytes_max.saturating_add(beyond), ..self }
    }

    /// What the subscriptions of one session may cost: with some dozens of long ones it must not have what there is for all.
    #[must_use]
    pub fn session_bytes_max(limits: &Limits) -> usize {
        limits.subscriptions_per_session_max.saturating_mul(ALONE_BYTES).max(BYTES_LEAST)
    }
}

/// What became of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It is another one.
    Another,
    /// The session had subscribed to the filter before.
    Replaced,
    /// A name could take too many steps with it, or it costs more memory than there is for all. With how much work it was to find that out, beside going there.
    Refused(usize),
}

/// What [`Tree::matching`] finds; kept by the caller, so that its memory is used again.
#[derive(Debug)]
pub struct Matches<K> {
    /// Every matching subscription that is not shared; a session with overlapping ones appears once for each.
    pub own: Vec<(K, Options)>,
    /// Every matching group.
    pub groups: Vec<GroupId>,
    /// Nodes of the tree that were visited.
    pub steps: usize,
}

impl<K> Default for Matches<K> {
    fn default() -> Self {
        Self { own: Vec::new(), groups: Vec::new(), steps: 0 }
    }
}

impl<K> Default for Tree<K> {
    fn default() -> Self {
        Self {
            root: Node::default(),
            len: 0,
            bytes: 0,
            removed: 0,
            groups: BTreeMap::new(),
            last_group: 0,
            shared: 0,
        }
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

    /// Bytes of memory that all of them cost, the texts that sessions keep included: computed and not measured, a little more than it is where filters
    /// are alike.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many have gone since the start.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// Whether nobody wants anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether some filter begins with this level, literally.
    #[must_use]
    pub fn begins_with(&self, level: &str) -> bool {
        self.root.has_literal(level)
    }

    /// Most steps that [`Tree::matching`] takes for any name: nodes visited, subscriptions and members of groups found.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.root.steps() as usize
    }

    /// Subscribes; a subscription of the same session to the same filter is replaced.
    pub fn insert(
        &mut self,
        subscription: &Subscription,
        key: K,
        options: Options,
        bounds: Bounds,
    ) -> Entered {
        let (groups, last_group) = (&mut self.groups, &mut self.last_group);
        let mut toll = Toll::default();
        let another = self.root.insert(Some(subscription.filter.as_str()), &mut toll, &mut |holders| {
            let Some(share) = &subscription.share else { return holders.place(key, options) };
            let id = holders.group(share).unwrap_or_else(|| {
                while groups.contains_key(&GroupId(*last_group)) {
                    *last_group = last_group.wrapping_add(1);
                }
                let id = GroupId(*last_group);
                let subscription = subscription.clone();
                groups.insert(id, Group { subscription, members: Vec::new(), next: 0 });
                id
            });
            let Some(group) = groups.get_mut(&id) else { return false };
            let another = place(&mut group.members, key, options);
            holders.set_group(share, id, group.members.len());
            another
        });
        self.len += usize::from(another);
        self.shared += usize::from(another && subscription.share.is_some());
        self.bytes += toll.bytes + if another { text_cost(subscription) } else { 0 };
        if another && (self.steps() > bounds.steps_max || self.bytes > bounds.bytes_max) {
            let (_, looked) = self.remove(subscription, key);
            return Entered::Refused(looked);
        }
        if another { Entered::Another } else { Entered::Replaced }
    }

    /// Unsubscribes. Says whether there was such a subscription, and how much work it was beside going there.
    pub fn remove(&mut self, subscription: &Subscription, key: K) -> (bool, usize) {
        let groups = &mut self.groups;
        let mut toll = Toll::default();
        let removed = self.root.remove(Some(subscription.filter.as_str()), &mut toll, &mut |holders| {
            let Some(share) = &subscription.share else { return holders.take(key) };
            let Some(id) = holders.group(share) else { return false };
            let Some(group) = groups.get_mut(&id) else { return false };
            let removed = take(&mut group.members, key);
            let left = group.members.len();
            if left == 0 {
                groups.remove(&id);
            }
            holders.set_group(share, id, left);
            removed
        });
        self.len -= usize::from(removed);
        self.shared -= usize::from(removed && subscription.share.is_some());
        self.bytes -= toll.bytes + if removed { text_cost(subscription) } else { 0 };
        self.removed += u64::from(removed);
        (removed, toll.looked)
    }

    /// What a session subscribed with.
    #[must_use]
    pub fn options(&self, subscription: &Subscription, key: K) -> Option<Options> {
        let levels = Some(subscription.filter.as_str());
        let Some(share) = &subscription.share else {
            return self.root.look(levels, |holders| holders.options(key))?;
        };
        let group = self.root.look(levels, |holders| holders.group(share))??;
        let members = &self.groups.get(&group)?.members;
        let at = members.binary_search_by_key(&key, |(other, _)| *other).ok()?;
        Some(members[at].1)
    }

    /// Every subscription and every group that wants `name`, added to `found`.
    pub fn matching(&self, name: &TopicName, found: &mut Matches<K>) {
        self.root.collect(Some(name.as_str()), is_reserved(name.as_str()), found);
    }

    /// The member of a group whose turn it is: the next one that is `ready`, or else the next one that `may` have it later.
    pub fn pick(
        &mut self,
        id: GroupId,
        mut ready: impl FnMut(K) -> bool,
        mut may: impl FnMut(K) -> bool,
    ) -> Option<(K, Options)> {
        let Group { members, next, .. } = self.groups.get_mut(&id)?;
        let (first, rest) = members.split_at_checked(*next).unwrap_or((members, &[]));
        let mut keys = rest.iter().chain(first).map(|(key, _)| *key);
        let key = keys.clone().find(|key| ready(*key)).or_else(|| keys.find(|key| may(*key)))?;
        let at = members.binary_search_by_key(&key, |(other, _)| *other).ok()?;
        *next = at + 1;
        members.get(at).copied()
    }

    /// How many members a group has.
    #[must_use]
    pub fn group_len(&self, id: GroupId) -> usize {
        self.groups.get(&id).map_or(0, |group| group.members.len())
    }

    /// The share name and filter of a group.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Subscription> {
        self.groups.get(&id).map(|group| &group.subscription)
    }

    /// The group of a share name and filter, if it has members.
    #[must_use]
    pub fn group_of(&self, subscription: &Subscription) -> Option<GroupId> {
        let share = subscription.share.as_deref()?;
        self.root.look(Some(subscription.filter.as_str()), |holders| holders.group(share))?
    }
}

impl<K> Matches<K> {
    /// Forgets what was found, not the memory.
    pub fn clear(&mut self) {
        self.own.clear();
        self.groups.clear();
        self.steps = 0;
    }
}

/// What a subscription costs if it shares no level with another one, bytes: reckoned from its length, because it is asked for at each SUBSCRIBE.
#[must_use]
pub fn cost_alone(subscription: &Subscription) -> usize {
    let filter = subscription.filter.as_str();
    let levels = 1 + filter.bytes().filter(|byte| *byte == b'/').count();
    text_cost(subscription) + levels * node::LEVEL_BYTES + filter.len() * 3 / 2
}

/// What the text of a subscription costs in its session and, if it is shared, in its group.
fn text_cost(subscription: &Subscription) -> usize {
    let filter = subscription.filter.as_str().len();
    let kept = filter + filter / 2 + 8;
    subscription.share.as_ref().map_or(kept, |share| kept + filter + 3 * share.len() + GROUP_BYTES)
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
    }
    found.is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::topic::TopicFilter;
    use super::*;
    use crate::uplink::row::Qos;

    fn options(identifier: u32) -> Options {
        Options { identifier: Some(identifier), ..Options::plain(Qos::AtLeastOnce) }
    }

    fn steps(steps_max: usize) -> Bounds {
        Bounds { steps_max, ..Bounds::NONE }
    }

    fn subscription() -> impl Strategy<Value = Subscription> {
        let share = prop::option::of(prop::sample::select(vec!["x", "y"]));
        (share, filter()).prop_map(|(share, filter)| Subscription { share: share.map(Arc::from), filter })
    }

    /// Names of levels of each length that is kept in another way.
    const MEDIUM: &str = "0f4c2b1e-temperature";
    const LONG: &str = "a-level-whose-name-is-longer-than-what-is-kept-in-one-piece";

    /// Few words, so that names and filters meet; with empty and reserved levels.
    fn name() -> impl Strategy<Value = TopicName> {
        vec(prop::sample::select(vec!["", "a", "b", "$s", "ä", MEDIUM, LONG]), 1..5)
            .prop_filter_map("a topic has a character", |levels| TopicName::new(levels.join("/")).ok())
    }

    fn filter() -> impl Strategy<Value = TopicFilter> {
        let level = prop::sample::select(vec!["", "a", "b", "$s", "ä", MEDIUM, LONG, "+", "+", "#"]);
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

    #[test]
    fn a_subscription_that_makes_a_name_take_too_many_steps_is_refused_and_leaves_nothing_behind() {
        let mut tree = Tree::default();
        let mut refused = 0;
        for bits in 0_u32..1 << 12 {
            let levels: Vec<_> = (0..12).map(|at| if bits >> at & 1 == 1 { "+" } else { "a" }).collect();
            let wanted = Subscription::own(TopicFilter::new(levels.join("/")).unwrap());
            let before = (tree.len(), tree.steps());
            if matches!(tree.insert(&wanted, 1_u8, options(1), steps(1000)), Entered::Refused(_)) {
                refused += 1;
                assert_eq!((tree.len(), tree.steps()), before);
            }
        }
        let mut found = Matches::default();
        tree.matching(&TopicName::new(["a"; 12].join("/")).unwrap(), &mut found);
        assert!(refused > 3000 && found.steps + found.own.len() <= 1000, "{refused} {}", found.steps);
        // Ten thousand machines with a filter each cost a name nothing.
        let mut tree = Tree::default();
        for machine in 0..10_000 {
            let wanted = Subscription::own(TopicFilter::new(format!("m/{machine}/+/#")).unwrap());
            assert_eq!(tree.insert(&wanted, 1_u8, options(1), steps(10)), Entered::Another);
        }
        assert_eq!((tree.len(), tree.steps()), (10_000, 5));
    }

    #[test]
    fn long_filters_and_deep_ones_have_no_more_memory_than_ordinary_ones() {
        let limits = Limits::default();
        let bounds = Bounds { steps_max: usize::MAX, ..Bounds::of(&limits) };
        let fill = |text: &dyn Fn(usize) -> String| {
            let mut tree = Tree::default();
            let granted = |number: &usize| {
                let wanted = Subscription::own(TopicFilter::new(text(*number)).unwrap());
                tree.insert(&wanted, 1_u8, options(1), bounds) == Entered::Another
            };
            let granted = (0..limits.subscriptions_max).take_while(granted).count();
            assert!(tree.bytes() <= bounds.bytes_max && tree.len() == granted, "{} bytes", tree.bytes());
            granted
        };
        let ordinary = |number| format!("plant/line{}/machine{}/temperature", number / 100, number % 100);
        assert_eq!(fill(&ordinary), limits.subscriptions_max);
        let deep = fill(&|number| format!("{number}{}", "/a".repeat(200)));
        let long = fill(&|number| format!("{number}/{}", "x".repeat(65_000)));
        assert!((100..400).contains(&deep) && (10..40).contains(&long), "{deep} and {long}");
    }

    #[test]
    fn what_is_left_after_a_removal_counts_and_not_what_was_there() {
        let mut tree = Tree::default();
        let own = |text: &str| Subscription::own(TopicFilter::new(text).unwrap());
        for name in 0..100 {
            tree.insert(&own(&format!("a/{name}")), 1_u8, options(1), Bounds::NONE);
        }
        tree.insert(&own("a/long/+/+/b"), 1, options(1), Bounds::NONE);
        assert_eq!(tree.steps(), 7);
        let (removed, looked) = tree.remove(&own("a/long/+/+/b"), 1);
        assert_eq!(
            (removed, tree.steps(), looked),
            (true, 4, 101),
            "every other level was looked at, once, and `a`"
        );
        let (_, looked) = tree.remove(&own("a/50"), 1);
        assert!(looked <= 2, "the first one that is as long ends the search: {looked}");
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
            steps in vec((any::<bool>(), subscription(), 0_u8..4, 1_u32..4), 0..40),
            names in vec(name(), 1..10),
        ) {
            let mut tree = Tree::default();
            let mut list: BTreeMap<(Subscription, u8), Options> = BTreeMap::new();
            for (subscribe, wanted, key, identifier) in steps {
                if subscribe {
                    let entered = tree.insert(&wanted, key, options(identifier), Bounds::NONE);
                    let before = list.insert((wanted, key), options(identifier));
                    prop_assert_eq!(entered == Entered::Another, before.is_none());
                } else {
                    prop_assert_eq!(tree.remove(&wanted, key).0, list.remove(&(wanted, key)).is_some());
                }
            }
            for ((wanted, key), options) in &list {
                prop_assert_eq!(tree.options(wanted, *key), Some(*options));
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
                let members: usize = groups.values().map(Vec::len).sum();
                prop_assert!(found.steps + found.own.len() + members <= tree.steps(), "no name takes more steps");
                let by = |entry: &(u8, Options)| (entry.0, entry.1.identifier);
                own.sort_by_key(by);
                found.own.sort_by_key(by);
                prop_assert_eq!(&found.own, &own);
                prop_assert_eq!(found.groups.len(), groups.len());
                for id in found.groups {
                    let members = &groups[tree.group(id).unwrap()];
                    prop_assert_eq!(tree.group_of(&tree.group(id).unwrap().clone()), Some(id));
                    let mut round: Vec<_> = members.iter().map(|_| tree.pick(id, |_| true, |_| false).unwrap()).collect();
                    round.sort_by_key(by);
                    prop_assert_eq!(&round, members, "one round asks everybody once");
                    let last = members[members.len() - 1];
                    prop_assert_eq!(tree.pick(id, |key| key == last.0, |_| true), Some(last), "only who is ready");
                    prop_assert!(tree.pick(id, |_| false, |_| true).is_some(), "somebody, if nobody is ready");
                    prop_assert_eq!(tree.pick(id, |_| false, |_| false), None, "nobody, if nobody may");
                }
            }
            for (wanted, key) in list.keys() {
                tree.remove(wanted, *key);
            }
            prop_assert!(tree.is_empty() && tree.root.is_bare() && tree.groups.is_empty(), "nothing is left behind");
            prop_assert_eq!((tree.steps(), tree.bytes()), (1, 0));
        }
    }
}

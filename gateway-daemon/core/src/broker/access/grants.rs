//! What one connection may do: its rules, filled in and sorted by deed.

use super::Identity;
use super::rule::{Deed, Rule};
use crate::broker::own::is_system;
use crate::broker::topic::{TopicFilter, TopicName, is_reserved};

/// Most looks at a rule to find out whether anything of a filter is allowed, some tens of microseconds: a SUBSCRIBE may ask for thousands. What needs
/// more is granted, which opens nothing: every message is asked for again when it is delivered.
pub const STEPS_MAX: usize = 2000;

/// What a connection may do. Made by [`super::Access::grants`]; asked on every publish and subscribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    publish: Ruling,
    subscribe: Ruling,
    /// Topics that allowing rules name; see [`Grants::names`].
    named: Box<[TopicFilter]>,
    unfit: usize,
}

/// Filters in the order in which they are asked, and what is so when none fits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ruling {
    filters: Box<[(bool, TopicFilter)]>,
    otherwise: bool,
}

impl Grants {
    pub(super) fn new<'r>(rules: impl Iterator<Item = &'r Rule>, who: &Identity) -> Self {
        let (mut publish, mut subscribe, mut named) = (Vec::new(), Vec::new(), Vec::new());
        let (mut unfit, mut otherwise) = (0, true);
        for rule in rules {
            otherwise &= !rule.allow;
            let (filter, fits) = rule.filled(who);
            unfit += usize::from(!fits);
            let Some(filter) = filter else { continue };
            if rule.deed != Deed::Subscribe {
                if rule.allow && rule.names_a_topic() {
                    named.push(filter.clone());
                }
                publish.push((rule.allow, filter.clone()));
            }
            if rule.deed != Deed::Publish {
                subscribe.push((rule.allow, filter));
            }
        }
        if !otherwise && let Ok(filter) = TopicFilter::new("$SYS/#") {
            subscribe.push((true, filter));
        }
        Self {
            publish: Ruling { filters: publish.into(), otherwise },
            subscribe: Ruling { filters: subscribe.into(), otherwise },
            named: named.into(),
            unfit,
        }
    }

    /// Whether the connection may publish to a topic. Costs a comparison with each rule, and nothing without rules.
    #[must_use]
    pub fn may_publish(&self, topic: &TopicName) -> bool {
        !is_system(topic.as_str()) && self.publish.of(topic)
    }

    /// Whether a rule that allows publishing names this topic, without wildcard or placeholder: what is asked for topics of the gateway itself, beside
    /// [`Grants::may_publish`].
    #[must_use]
    pub fn names(&self, topic: &TopicName) -> bool {
        self.named.iter().any(|filter| filter.as_str() == topic.as_str())
    }

    /// Whether the connection may be given a message: to be asked for every one, because a subscription is granted when anything of it is
    /// allowed, and may be older than the grants.
    #[must_use]
    pub fn may_receive(&self, topic: &TopicName) -> bool {
        self.subscribe.of(topic)
    }

    /// Whether the connection may subscribe to a filter: a topic that it takes must be allowed. `$share/NAME/` is not part of it.
    #[must_use]
    pub fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        self.subscribe_steps(filter).0
    }

    /// The same, with how many looks at rules it took.
    pub(in crate::broker) fn subscribe_steps(&self, filter: &TopicFilter) -> (bool, usize) {
        self.subscribe.has(filter)
    }

    /// How many rules are asked for a topic at most.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.publish.filters.len().max(self.subscribe.filters.len())
    }

    /// How many rules the names of the connection do not fit into (`+`, `#` or `/` in a client id, or no user): worth a count.
    #[must_use]
    pub fn unfit(&self) -> usize {
        self.unfit
    }
}

impl Ruling {
    fn of(&self, topic: &TopicName) -> bool {
        self.filters.iter().find(|(_, f)| f.matches(topic)).map_or(self.otherwise, |(allow, _)| *allow)
    }

    /// Whether anything that a filter takes is allowed, and how many looks that took.
    fn has(&self, filter: &TopicFilter) -> (bool, usize) {
        if self.filters.is_empty() {
            return (self.otherwise, 0);
        }
        let wanted: Vec<_> = filter.levels().collect();
        let rules = self.filters.iter().map(|(allow, f)| (*allow, f.levels().collect())).collect();
        let beginning: Vec<_> = (0..self.filters.len()).map(|rule| (rule, Place::At(0))).collect();
        let mut search = Search { rules, otherwise: self.otherwise, steps: 0 };
        (search.any(&wanted, (0, true), &beginning), search.steps)
    }
}

/// How far a rule's filter has come along a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// This level comes next; may be one past the last.
    At(usize),
    /// It fits, whatever follows and if nothing does.
    Open,
}

/// Rules that may still fit, in their order; none stands after an open one, which decides before them.
type Places = Vec<(usize, Place)>;

/// A walk through the topics that a filter takes, until one is allowed. Levels that no rule names are all alike, so one of them stands for the others.
struct Search<'a> {
    rules: Vec<(bool, Vec<&'a str>)>,
    otherwise: bool,
    steps: usize,
}

/// What a level of the topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level<'a> {
    Named(&'a str),
    /// None that a rule names, and it does not begin with `$`.
    Other,
}

impl<'a> Search<'a> {
    /// Whether a topic is allowed whose levels go on as `wanted`; `bare` if what stands before is no topic, because it has no character.
    fn any(&mut self, wanted: &[&'a str], (depth, bare): (usize, bool), places: &[(usize, Place)]) -> bool {
        if self.steps > STEPS_MAX {
            return true;
        }
        if bare && wanted.is_empty() {
            return false;
        }
        let settled = match places.first() {
            None => Some(self.otherwise),
            Some((rule, Place::Open)) => Some(self.rules[*rule].0),
            Some((_, Place::At(_))) => None,
        };
        match (settled, wanted.split_first()) {
            (Some(allowed), _) => allowed,
            (None, None) => self.ends(places),
            // `a/#` includes `a`, and `#` alone needs a level (4.7.1.2).
            (None, Some((&"#", _))) => (!bare && self.ends(places)) || self.branch(wanted, depth, places),
            (None, Some((&"+", rest))) => self.branch(rest, depth, places),
            (None, Some((level, rest))) => {
                let next = self.step(places, Level::Named(level), depth);
                self.any(rest, (depth + 1, bare && depth == 0 && level.is_empty()), &next)
            }
        }
    }

    /// Whether anything is allowed behind the levels that a wildcard stands for.
    fn branch(&mut self, rest: &[&'a str], depth: usize, places: &[(usize, Place)]) -> bool {
        let name_of = |(rule, place): &(usize, Place)| match place {
            Place::At(at) => self.rules[*rule].1.get(*at).copied(),
            Place::Open => None,
        };
        let is_hidden = |name: &str| depth == 0 && is_reserved(name);
        let is_meant = |name: &&str| !matches!(*name, "+" | "#") && !is_hidden(name);
        let mut names: Vec<&'a str> = places.iter().filter_map(name_of).filter(is_meant).collect();
        names.sort_unstable();
        names.dedup();
        let mut levels = [Level::Other].into_iter().chain(names.into_iter().map(Level::Named));
        levels.any(|level| {
            let next = self.step(places, level, depth);
            self.any(rest, (depth + 1, depth == 0 && level == Level::Named("")), &next)
        })
    }

    /// The rules that may still fit after one more level.
    fn step(&mut self, places: &[(usize, Place)], level: Level<'_>, depth: usize) -> Places {
        self.steps = self.steps.saturating_add(1 + places.len());
        // A wildcard in the first level does not include what begins with `$` (4.7.2).
        let hidden = depth == 0 && matches!(level, Level::Named(name) if is_reserved(name));
        let mut next = Places::new();
        for (rule, place) in places {
            let levels = &self.rules[*rule].1;
            let after = match *place {
                Place::Open => Some(Place::Open),
                Place::At(at) => match levels.get(at) {
                    None => None,
                    Some(&("+" | "#")) if hidden => None,
                    Some(&"#") => Some(Place::Open),
                    Some(&name) if name != "+" && level != Level::Named(name) => None,
                    Some(_) if levels.get(at + 1) == Some(&"#") => Some(Place::Open),
                    Some(_) => Some(Place::At(at + 1)),
                },
            };
            next.extend(after.map(|after| (*rule, after)));
            if after == Some(Place::Open) {
                break;
            }
        }
        next
    }

    /// What is so for the topic that ends here.
    fn ends(&self, places: &[(usize, Place)]) -> bool {
        let fits = |(rule, place): &&(usize, Place)| match place {
            Place::Open => true,
            Place::At(at) => self.rules[*rule].1.len() == *at,
        };
        places.iter().find(fits).map_or(self.otherwise, |(rule, _)| self.rules[*rule].0)
    }
}

//! How long the broker keeps retained messages, whatever their publisher says.

use crate::broker::topic::{TopicFilter, TopicName};

/// Most filters with an expiry of their own: each is compared with the topic of every retained message that comes.
pub const RETAINED_RULES_MAX: usize = 64;

/// How long retained messages of some topics are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedRule {
    /// Which topics.
    pub filter: TopicFilter,
    /// Seconds since the message came; `None` keeps it for ever.
    pub expiry_s: Option<u32>,
}

/// Rules by filter, the most specific first. Filters are compared level by level from the left: a name comes before `+`, and `+` before `#`; so
/// `a/b` is asked before `a/+`, that before `a/#`, and that before `+/b`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetainedRules(Vec<RetainedRule>);

impl RetainedRules {
    /// Takes rules in any order. Of those beyond [`RETAINED_RULES_MAX`], and of a second one with the same filter, nothing is kept.
    #[must_use]
    pub fn new(mut rules: Vec<RetainedRule>) -> Self {
        rules.truncate(RETAINED_RULES_MAX);
        rules.sort_by_cached_key(|rule| rank(&rule.filter));
        rules.dedup_by(|second, first| second.filter == first.filter);
        Self(rules)
    }

    /// Seconds after which a retained message of a topic is dropped; `otherwise` if no rule fits.
    pub(super) fn expiry_s(&self, topic: &TopicName, otherwise: Option<u32>) -> Option<u32> {
        let rule = self.0.iter().find(|rule| rule.filter.matches(topic));
        rule.map_or(otherwise, |rule| rule.expiry_s)
    }
}

/// What each level of a filter is.
fn rank(filter: &TopicFilter) -> Vec<u8> {
    let rank = |level: &str| match level {
        "+" => 1,
        "#" => 2,
        _ => 0,
    };
    filter.levels().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_filter_decides_in_whatever_order_they_stand() {
        let rule = |(filter, expiry_s): &(&str, Option<u32>)| RetainedRule {
            filter: TopicFilter::new(*filter).unwrap(),
            expiry_s: *expiry_s,
        };
        let mut rules = [("a/b", Some(1)), ("a/+", Some(2)), ("a/#", None), ("+/b", Some(4)), ("#", Some(5))];
        for _ in 0..rules.len() {
            rules.rotate_left(1);
            let sorted = RetainedRules::new(rules.iter().map(rule).collect());
            let expiry = |topic: &str| sorted.expiry_s(&TopicName::new(topic).unwrap(), Some(9));
            assert_eq!(
                ["a/b", "a/c", "a/c/d", "x/b", "x"].map(expiry),
                [Some(1), Some(2), None, Some(4), Some(5)]
            );
            assert_eq!(expiry("$SYS/a"), Some(9), "no rule fits");
        }
    }
}

//! Topics that the gateway itself sends on: readings, status, ledger, updates. Whoever hears one of them takes it for the word of the gateway, so nobody else
//! publishes there, neither a client nor a cloud, unless a rule names the topic.
//!
//! A rule names a topic when its filter is that topic: no wildcard, no placeholder. `allow = ["publish #"]` is meant for everything else.
//!
//! Bounds: as many topics as the configuration makes; their texts are shared with the encoder.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Most first levels that are looked at one by one: nearly always there is one, the gateway's id.
const ROOTS_MAX: usize = 8;

/// First level of the broker's own topics.
pub(super) const SYSTEM: &str = "$SYS";

/// A set of topics that asks little of topics that are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Own {
    /// First levels of all topics; empty when there are more than [`ROOTS_MAX`].
    roots: Vec<Box<str>>,
    topics: BTreeSet<Arc<str>>,
}

impl Own {
    /// The set of these topics.
    #[must_use]
    pub fn new(topics: impl IntoIterator<Item = Arc<str>>) -> Self {
        let topics: BTreeSet<Arc<str>> = topics.into_iter().collect();
        let mut roots: Vec<Box<str>> = Vec::new();
        // Neighbours in the set have the same first level.
        for topic in &topics {
            let root = topic.split('/').next().unwrap_or_default();
            if roots.last().is_none_or(|last| **last != *root) {
                roots.push(root.into());
            }
        }
        roots.dedup();
        if roots.len() > ROOTS_MAX {
            roots.clear();
        }
        Self { roots, topics }
    }

    /// Whether the gateway itself sends on a topic.
    #[must_use]
    pub fn holds(&self, topic: &str) -> bool {
        if self.topics.is_empty() {
            return false;
        }
        let below = |root: &str| {
            topic.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let near = self.roots.is_empty() || self.roots.iter().any(|root| below(root));
        near && self.topics.contains(topic)
    }

    /// Its topics, in order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.iter()
    }
}

/// Whether a topic is one of the broker's figures, which only the broker tells.
pub(super) fn is_system(topic: &str) -> bool {
    topic.strip_prefix(SYSTEM).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(topics: &[&str]) -> Own {
        Own::new(topics.iter().map(|topic| Arc::from(*topic)))
    }

    #[test]
    fn exactly_the_topics_that_were_named_are_held() {
        let own = own(&["plant7/status", "plant7/meter1/1", "plant7"]);
        for (topic, held) in [
            ("plant7/status", true),
            ("plant7/meter1/1", true),
            ("plant7", true),
            ("plant7/meter1", false),
            ("plant7/meter1/1/x", false),
            ("plant70/status", false),
            ("status", false),
            ("", false),
        ] {
            assert_eq!(own.holds(topic), held, "{topic}");
        }
        assert!(!Own::default().holds("plant7/status"));
    }

    #[test]
    fn many_first_levels_are_held_as_well() {
        let topics: Vec<String> = (0..100).map(|device| format!("device{device}/1")).collect();
        let own = Own::new(topics.iter().map(|topic| Arc::from(topic.as_str())));
        assert!(topics.iter().all(|topic| own.holds(topic)));
        assert!(!own.holds("device100/1") && !own.holds("device1"));
    }

    #[test]
    fn figures_are_known_by_their_whole_first_level() {
        assert!(is_system("$SYS") && is_system("$SYS/broker/uptime"));
        assert!(!is_system("$SYSTEM/x") && !is_system("a/$SYS"));
    }
}

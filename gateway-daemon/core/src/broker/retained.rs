//! The last retained message of each topic, bounded in number and bytes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::topic::{TopicFilter, TopicName};
use crate::uplink::row::Qos;

/// A retained message.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) body: Arc<[u8]>,
    pub(super) qos: Qos,
}

/// Retained messages by topic.
#[derive(Debug)]
pub(super) struct Retained {
    kept: BTreeMap<TopicName, Kept>,
    bytes: usize,
    rows_max: usize,
    bytes_max: usize,
}

impl Retained {
    pub(super) fn new(rows_max: usize, bytes_max: usize) -> Self {
        Self { kept: BTreeMap::new(), bytes: 0, rows_max, bytes_max }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Keeps a message in place of the topic's last one; an empty body clears the topic ("MQTT Version 3.1.1", 3.3.1.3). `false` when there
    /// is no room: the topic's last message stays then neither, because it is not the last one.
    pub(super) fn set(&mut self, topic: &TopicName, kept: Kept) -> bool {
        if let Some(old) = self.kept.remove(topic) {
            self.bytes -= size(topic, &old);
        }
        if kept.body.is_empty() {
            return true;
        }
        let bytes = self.bytes.saturating_add(size(topic, &kept));
        if self.kept.len() >= self.rows_max || bytes > self.bytes_max {
            return false;
        }
        self.bytes = bytes;
        self.kept.insert(topic.clone(), kept);
        true
    }

    /// Every kept message a filter asks for, by topic. Only topics with the filter's literal beginning are looked at.
    pub(super) fn matching<'a>(
        &'a self,
        filter: &'a TopicFilter,
    ) -> impl Iterator<Item = (&'a TopicName, &'a Kept)> {
        let prefix = filter.literal_prefix();
        self.kept
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(topic, _)| topic.as_str().starts_with(prefix))
            .filter(move |(topic, _)| filter.matches(topic))
    }
}

fn size(topic: &TopicName, kept: &Kept) -> usize {
    topic.as_str().len().saturating_add(kept.body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(retained: &mut Retained, topic: &str, body: &str) -> bool {
        let kept = Kept { body: body.as_bytes().into(), qos: Qos::AtMostOnce };
        retained.set(&TopicName::new(topic).unwrap(), kept)
    }

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        retained.matching(&TopicFilter::new(filter).unwrap()).map(|(topic, _)| topic.to_string()).collect()
    }

    #[test]
    fn filters_find_what_they_match_and_nothing_that_only_begins_alike() {
        let mut retained = Retained::new(10, 1000);
        for topic in ["a", "a/b", "a/b/c", "a-b", "ab", "b", "$SYS/a"] {
            assert!(set(&mut retained, topic, "1"));
        }
        assert_eq!(topics(&retained, "a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(topics(&retained, "a/+"), ["a/b"]);
        assert_eq!(topics(&retained, "+"), ["a", "a-b", "ab", "b"]);
        assert_eq!(topics(&retained, "#").len(), 6, "without $SYS");
        assert_eq!(topics(&retained, "$SYS/#"), ["$SYS/a"]);
        assert_eq!(topics(&retained, "a/b"), ["a/b"]);
    }

    #[test]
    fn an_empty_body_clears_and_room_is_reused() {
        let mut retained = Retained::new(2, 10);
        assert!(set(&mut retained, "a", "1234"));
        assert!(set(&mut retained, "b", "1234"));
        assert!(!set(&mut retained, "c", "1"), "two are kept");
        assert!(set(&mut retained, "c", ""), "nothing to clear is no refusal");
        assert!(set(&mut retained, "a", ""));
        assert!(set(&mut retained, "c", "1234"));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_an_outdated_message_is_not_kept() {
        let mut retained = Retained::new(2, 10);
        assert!(set(&mut retained, "a", "1234"));
        assert!(!set(&mut retained, "b", "123456"));
        assert!(!set(&mut retained, "a", "1234567890"));
        assert_eq!((retained.len(), retained.bytes), (0, 0));
    }
}

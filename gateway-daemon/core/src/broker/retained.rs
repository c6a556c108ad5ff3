//! The last retained message of each topic, bounded in number and bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::packet::Message;
use super::topic::{TopicFilter, TopicName};
use crate::tag::BootNs;

/// Retained messages by topic.
#[derive(Debug)]
pub(super) struct Retained {
    kept: BTreeMap<TopicName, Arc<Message>>,
    /// When those that expire do.
    expiries: BTreeSet<(BootNs, TopicName)>,
    bytes: usize,
    rows_max: usize,
    bytes_max: usize,
}

/// What a look at some topics found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Messages that the filter asks for, by topic.
    pub(super) found: Vec<Arc<Message>>,
    /// Topics looked at.
    pub(super) looks: usize,
    /// The last of them, if there may be more behind it.
    pub(super) last: Option<TopicName>,
}

/// What came of a retained message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retention {
    /// It is the last one of its topic.
    Kept,
    /// The topic has none any more: it was cleared.
    Cleared,
    /// Nothing was there to clear.
    Nothing,
    /// There is no room; what was there before is gone if `before`, because it is not the last one.
    Full {
        /// There was one.
        before: bool,
    },
}

impl Retained {
    pub(super) fn new(rows_max: usize, bytes_max: usize) -> Self {
        Self { kept: BTreeMap::new(), expiries: BTreeSet::new(), bytes: 0, rows_max, bytes_max }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether a topic has a message.
    pub(super) fn contains(&self, topic: &TopicName) -> bool {
        self.kept.contains_key(topic)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a message in place of the topic's last one; an empty body clears the topic ("MQTT Version 5.0", 3.3.1.3).
    pub(super) fn set(&mut self, message: Arc<Message>) -> Retention {
        let before = self.remove(&message.topic);
        if message.body.is_empty() {
            return if before { Retention::Cleared } else { Retention::Nothing };
        }
        let bytes = self.bytes.saturating_add(size(&message));
        if self.kept.len() >= self.rows_max || bytes > self.bytes_max {
            return Retention::Full { before };
        }
        self.bytes = bytes;
        if let Some(at) = message.expires_at() {
            self.expiries.insert((at, message.topic.clone()));
        }
        self.kept.insert(message.topic.clone(), message);
        Retention::Kept
    }

    /// When the next message expires.
    pub(super) fn next_expiry(&self) -> Option<BootNs> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Takes out a topic whose message has expired.
    pub(super) fn expire(&mut self, now: BootNs) -> Option<TopicName> {
        let (_, topic) = self.expiries.first().filter(|(at, _)| *at <= now)?;
        let topic = topic.clone();
        self.remove(&topic);
        Some(topic)
    }

    /// Kept messages that a filter asks for, by topic, beyond `after`: looks at `looks_max` topics at most and stops at `found_max`. Only topics
    /// with the filter's literal beginning are looked at.
    pub(super) fn look(
        &self,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        looks_max: usize,
        found_max: usize,
    ) -> Looked {
        let prefix = filter.literal_prefix();
        let from = after.map_or(Bound::Included(prefix), |topic| Bound::Excluded(topic.as_str()));
        let topics = self.kept.range::<str, _>((from, Bound::Unbounded));
        let mut looked = Looked::default();
        for (topic, message) in topics.take_while(|(topic, _)| topic.as_str().starts_with(prefix)) {
            looked.looks += 1;
            if filter.matches(topic) {
                looked.found.push(Arc::clone(message));
            }
            if looked.looks >= looks_max || looked.found.len() >= found_max {
                looked.last = Some(topic.clone());
                break;
            }
        }
        looked
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.kept.values()
    }

    fn remove(&mut self, topic: &TopicName) -> bool {
        let Some(old) = self.kept.remove(topic) else { return false };
        self.bytes -= size(&old);
        if let Some(at) = old.expires_at() {
            self.expiries.remove(&(at, topic.clone()));
        }
        true
    }
}

fn size(message: &Message) -> usize {
    message.topic.as_str().len().saturating_add(message.body.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::row::Qos;

    fn message(topic: &str, body: &str, expiry_s: Option<u32>) -> Arc<Message> {
        Arc::new(Message {
            topic: TopicName::new(topic).unwrap(),
            body: body.as_bytes().into(),
            qos: Qos::AtMostOnce,
            retain: true,
            properties: None,
            at: BootNs(0),
            expiry_s,
        })
    }

    fn set(retained: &mut Retained, topic: &str, body: &str) -> Retention {
        retained.set(message(topic, body, None))
    }

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        let filter = TopicFilter::new(filter).unwrap();
        let looked = retained.look(&filter, None, 100, 100);
        assert_eq!(looked.last, None);
        looked.found.iter().map(|message| message.topic.to_string()).collect()
    }

    #[test]
    fn filters_find_what_they_match_and_nothing_that_only_begins_alike() {
        let mut retained = Retained::new(10, 1000);
        for topic in ["a", "a/b", "a/b/c", "a-b", "ab", "b", "$SYS/a"] {
            assert_eq!(set(&mut retained, topic, "1"), Retention::Kept);
        }
        assert_eq!(topics(&retained, "a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(topics(&retained, "a/+"), ["a/b"]);
        assert_eq!(topics(&retained, "+"), ["a", "a-b", "ab", "b"]);
        assert_eq!(topics(&retained, "#").len(), 6, "without $SYS");
        assert_eq!(topics(&retained, "$SYS/#"), ["$SYS/a"]);
        assert_eq!(topics(&retained, "a/b"), ["a/b"]);
    }

    #[test]
    fn what_is_left_of_a_filter_is_found_beyond_a_topic() {
        let mut retained = Retained::new(10, 1000);
        for topic in ["a", "a/b", "a/c", "b"] {
            set(&mut retained, topic, "1");
        }
        let filter = TopicFilter::new("a/#").unwrap();
        let after = TopicName::new("a/b").unwrap();
        let looked = retained.look(&filter, Some(&after), 100, 100);
        let left: Vec<_> = looked.found.iter().map(|m| m.topic.to_string()).collect();
        assert_eq!(left, ["a/c"]);
    }

    #[test]
    fn topics_that_do_not_match_count_as_looks_and_the_search_goes_on_behind_them() {
        let mut retained = Retained::new(1000, 100_000);
        for number in 0..100 {
            set(&mut retained, &format!("t/{number:02}/{}", number % 50), "1");
        }
        let filter = TopicFilter::new("+/+/49").unwrap();
        let (mut after, mut looks, mut found) = (None, Vec::new(), 0);
        loop {
            let looked = retained.look(&filter, after.as_ref(), 40, 100);
            looks.push(looked.looks);
            found += looked.found.len();
            let Some(last) = looked.last else { break };
            after = Some(last);
        }
        assert_eq!((looks, found), (vec![40, 40, 20], 2));
    }

    #[test]
    fn an_empty_body_clears_and_room_is_reused() {
        let mut retained = Retained::new(2, 10);
        assert_eq!(set(&mut retained, "a", "1234"), Retention::Kept);
        assert_eq!(set(&mut retained, "b", "1234"), Retention::Kept);
        assert_eq!(set(&mut retained, "c", "1"), Retention::Full { before: false }, "two are kept");
        assert_eq!(set(&mut retained, "c", ""), Retention::Nothing, "nothing to clear is no refusal");
        assert_eq!(set(&mut retained, "a", ""), Retention::Cleared);
        assert_eq!(set(&mut retained, "c", "1234"), Retention::Kept);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_an_outdated_message_is_not_kept() {
        let mut retained = Retained::new(2, 10);
        assert_eq!(set(&mut retained, "a", "1234"), Retention::Kept);
        assert_eq!(set(&mut retained, "b", "123456"), Retention::Full { before: false });
        assert_eq!(set(&mut retained, "a", "1234567890"), Retention::Full { before: true });
        assert_eq!((retained.len(), retained.bytes), (0, 0));
    }

    #[test]
    fn a_message_expires_unless_another_one_takes_its_place() {
        let mut retained = Retained::new(5, 100);
        retained.set(message("a", "1", Some(10)));
        retained.set(message("b", "1", Some(5)));
        retained.set(message("a", "2", None));
        let s = |s: u64| BootNs(s * 1_000_000_000);
        assert_eq!(retained.next_expiry(), Some(s(5)));
        assert_eq!(retained.expire(s(4)), None);
        assert_eq!(retained.expire(s(5)).map(|topic| topic.to_string()), Some("b".into()));
        assert_eq!((retained.expire(s(100)), retained.len(), retained.bytes), (None, 1, 2));
    }
}

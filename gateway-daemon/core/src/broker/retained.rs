//! The last retained message of each topic, bounded in number and in the memory that they cost.
//!
//! A message goes when its publisher's expiry comes (5.0) or the broker's own, whichever is first; see [`expiry`].

pub(super) mod expiry;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::packet::{Message, shared_block};
use super::topic::{TopicFilter, TopicName};
use crate::tag::BootNs;
use expiry::RetainedRules;

/// Bytes of a message's places in the maps of the broker and of the store, which are half empty at worst.
const PLACES_BYTES: u64 = 160;

/// Retained messages by topic.
#[derive(Debug)]
pub(super) struct Retained {
    kept: BTreeMap<TopicName, Kept>,
    /// When those that expire do.
    expiries: BTreeSet<(BootNs, TopicName)>,
    bytes: u64,
    /// Those that are never stored, and what they cost of `bytes`: they are bounded by who says them, and take no room from others.
    passing: (usize, u64),
    /// Of their topics and bodies.
    plain_bytes: u64,
    settings: Settings,
    /// Messages are stored that did not fit into memory: a topic that has none here may have one there.
    left_out: bool,
}

/// Bounds of retained messages.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) rows_max: usize,
    /// Of what [`cost`] says.
    pub(super) bytes_max: u64,
    /// How long they are kept where no rule fits.
    pub(super) expiry_s: Option<u32>,
    pub(super) rules: RetainedRules,
}

#[derive(Debug)]
struct Kept {
    message: Arc<Message>,
    expires_at: Option<BootNs>,
    passing: bool,
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

/// Bytes of memory that a retained message costs: itself, its places, and its topic once more, as the store's name of it.
pub(super) fn cost(message: &Message) -> u64 {
    message.cost().saturating_add(PLACES_BYTES).saturating_add(shared_block(message.topic.as_str().len()))
}

/// Bytes of its topic and its body.
pub(super) fn plain(message: &Message) -> u64 {
    (message.topic.as_str().len() as u64).saturating_add(message.body.len() as u64)
}

impl Retained {
    pub(super) fn new(settings: Settings) -> Self {
        let (kept, expiries) = Default::default();
        Self { kept, expiries, bytes: 0, passing: (0, 0), plain_bytes: 0, settings, left_out: false }
    }

    /// Those that count for the limits.
    pub(super) fn len(&self) -> usize {
        self.kept.len() - self.passing.0
    }

    /// Whether a topic has a message.
    pub(super) fn contains(&self, topic: &TopicName) -> bool {
        self.kept.contains_key(topic)
    }

    /// Bytes of memory that those cost.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes - self.passing.1
    }

    /// Messages are stored that did not fit into memory.
    pub(super) fn leave_out(&mut self) {
        self.left_out = true;
    }

    /// Keeps a message in place of the topic's last one; an empty body clears the topic ("MQTT Version 5.0", 3.3.1.3).
    pub(super) fn set(&mut self, message: Arc<Message>) -> Retention {
        // What was left out is on disk all the same, and must go or be replaced there.
        let before = self.remove(&message.topic) || self.left_out;
        if message.body.is_empty() {
            return if before { Retention::Cleared } else { Retention::Nothing };
        }
        if !self.fits(&message) {
            return Retention::Full { before };
        }
        self.put(message);
        Retention::Kept
    }

    /// Keeps a message in place of the topic's last one, without a limit, an expiry or a place in the store; an empty body clears the topic. Whether something may be
    /// stored of this topic, which has to go.
    pub(super) fn set_passing(&mut self, message: Arc<Message>) -> bool {
        let stored = self.kept.get(&message.topic).is_some_and(|kept| !kept.passing) || self.left_out;
        self.remove(&message.topic);
        if !message.body.is_empty() {
            let cost = cost(&message);
            self.passing = (self.passing.0 + 1, self.passing.1.saturating_add(cost));
            self.bytes = self.bytes.saturating_add(cost);
            self.kept.insert(message.topic.clone(), Kept { message, expires_at: None, passing: true });
        }
        stored
    }

    /// Keeps a message that was stored, if the topic has none and there is room: also as the version before counted, which took topics and bodies for all
    /// that a message costs. What it kept within its limit is kept, apart from messages with properties.
    pub(super) fn recover(&mut self, message: Arc<Message>) -> Recovered {
        if self.contains(&message.topic) {
            return Recovered::Outdated;
        }
        let before = message.properties.is_none()
            && self.len() < self.settings.rows_max
            && self.plain_bytes.saturating_add(plain(&message)) <= self.settings.bytes_max;
        if !before && !self.fits(&message) {
            self.left_out = true;
            return Recovered::LeftOut;
        }
        self.put(message);
        Recovered::Kept
    }

    /// Whether [`Self::set`] would do what a message says.
    pub(super) fn takes(&self, message: &Message) -> bool {
        let old =
            self.kept.get(&message.topic).filter(|old| !old.passing).map_or(0, |old| cost(&old.message));
        let rows = self.len() - usize::from(old > 0);
        let bytes = (self.bytes() - old).saturating_add(cost(message));
        message.body.is_empty() || rows < self.settings.rows_max && bytes <= self.settings.bytes_max
    }

    fn fits(&self, message: &Message) -> bool {
        let bytes = self.bytes().saturating_add(cost(message));
        self.len() < self.settings.rows_max && bytes <= self.settings.bytes_max
    }

    fn put(&mut self, message: Arc<Message>) {
        self.bytes = self.bytes.saturating_add(cost(&message));
        self.plain_bytes = self.plain_bytes.saturating_add(plain(&message));
        let ours = self.settings.rules.expiry_s(&message.topic, self.settings.expiry_s);
        let ours = ours.map(|s| message.at.plus(Duration::from_secs(s.into())));
        let expires_at = [message.expires_at(), ours].into_iter().flatten().min();
        if let Some(at) = expires_at {
            self.expiries.insert((at, message.topic.clone()));
        }
        self.kept.insert(message.topic.clone(), Kept { message, expires_at, passing: false });
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

    /// Kept messages that a filter asks for and that have not expired, by topic, beyond `after`: looks at `looks_max` topics at most and stops at `found_max`. Only topics
    /// with the filter's literal beginning are looked at.
    pub(super) fn look(
        &self,
        now: BootNs,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        looks_max: usize,
        found_max: usize,
    ) -> Looked {
        let prefix = filter.literal_prefix();
        let from = after.map_or(Bound::Included(prefix), |topic| Bound::Excluded(topic.as_str()));
        let topics = self.kept.range::<str, _>((from, Bound::Unbounded));
        let mut looked = Looked::default();
        for (topic, kept) in topics.take_while(|(topic, _)| topic.as_str().starts_with(prefix)) {
            looked.looks += 1;
            let expired = kept.expires_at.is_some_and(|at| at <= now);
            if !expired && filter.matches(topic) {
                looked.found.push(Arc::clone(&kept.message));
            }
            if looked.looks >= looks_max || looked.found.len() >= found_max {
                looked.last = Some(topic.clone());
                break;
            }
        }
        looked
    }

    /// All that belong into the store.
    pub(super) fn stored(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.kept.values().filter(|kept| !kept.passing).map(|kept| &kept.message)
    }

    fn remove(&mut self, topic: &TopicName) -> bool {
        let Some(old) = self.kept.remove(topic) else { return false };
        self.bytes = self.bytes.saturating_sub(cost(&old.message));
        if old.passing {
            self.passing = (self.passing.0 - 1, self.passing.1.saturating_sub(cost(&old.message)));
            return true;
        }
        self.plain_bytes = self.plain_bytes.saturating_sub(plain(&old.message));
        if let Some(at) = old.expires_at {
            self.expiries.remove(&(at, topic.clone()));
        }
        true
    }
}

/// What came of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovered {
    /// It is the last one of its topic.
    Kept,
    /// The topic has a later one.
    Outdated,
    /// There is no room for it in memory.
    LeftOut,
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

    fn retained(rows_max: usize, bytes_max: u64) -> Retained {
        Retained::new(Settings { rows_max, bytes_max, expiry_s: None, rules: RetainedRules::default() })
    }

    fn set(retained: &mut Retained, topic: &str, body: &str) -> Retention {
        retained.set(message(topic, body, None))
    }

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        let filter = TopicFilter::new(filter).unwrap();
        let looked = retained.look(BootNs(0), &filter, None, 100, 100);
        assert_eq!(looked.last, None);
        looked.found.iter().map(|message| message.topic.to_string()).collect()
    }

    #[test]
    fn filters_find_what_they_match_and_nothing_that_only_begins_alike() {
        let mut retained = retained(10, u64::MAX);
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
        let mut retained = retained(10, u64::MAX);
        for topic in ["a", "a/b", "a/c", "b"] {
            set(&mut retained, topic, "1");
        }
        let filter = TopicFilter::new("a/#").unwrap();
        let after = TopicName::new("a/b").unwrap();
        let looked = retained.look(BootNs(0), &filter, Some(&after), 100, 100);
        let left: Vec<_> = looked.found.iter().map(|m| m.topic.to_string()).collect();
        assert_eq!(left, ["a/c"]);
    }

    #[test]
    fn topics_that_do_not_match_count_as_looks_and_the_search_goes_on_behind_them() {
        let mut retained = retained(1000, u64::MAX);
        for number in 0..100 {
            set(&mut retained, &format!("t/{number:02}/{}", number % 50), "1");
        }
        let filter = TopicFilter::new("+/+/49").unwrap();
        let (mut after, mut looks, mut found) = (None, Vec::new(), 0);
        loop {
            let looked = retained.look(BootNs(0), &filter, after.as_ref(), 40, 100);
            looks.push(looked.looks);
            found += looked.found.len();
            let Some(last) = looked.last else { break };
            after = Some(last);
        }
        assert_eq!((looks, found), (vec![40, 40, 20], 2));
    }

    #[test]
    fn an_empty_body_clears_and_room_is_reused() {
        let mut retained = retained(2, 2 * cost(&message("a", "1234", None)));
        assert_eq!(set(&mut retained, "a", "1234"), Retention::Kept);
        assert_eq!(set(&mut retained, "b", "1234"), Retention::Kept);
        assert_eq!(set(&mut retained, "c", "1"), Retention::Full { before: false }, "two are kept");
        assert_eq!(set(&mut retained, "c", ""), Retention::Nothing, "nothing to clear is no refusal");
        assert_eq!(set(&mut retained, "a", ""), Retention::Cleared);
        assert_eq!(set(&mut retained, "c", "1234"), Retention::Kept);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_an_outdated_message_is_not_kept() {
        let large = "x".repeat(100);
        let mut retained = retained(2, cost(&message("a", &large, None)));
        assert_eq!(set(&mut retained, "a", "1234"), Retention::Kept);
        assert_eq!(set(&mut retained, "b", &large), Retention::Full { before: false });
        assert_eq!(set(&mut retained, "a", &large.repeat(2)), Retention::Full { before: true });
        assert_eq!((retained.len(), retained.bytes), (0, 0));
    }

    #[test]
    fn properties_are_charged_as_bodies_are() {
        let mut writer = crate::broker::properties::Writer::default();
        writer.user(b"name", &[b'v'; 1000]);
        let plain = Message::clone(&message("a", "1", None));
        let rich = Message { properties: writer.finish(), ..plain.clone() };
        assert!(cost(&rich) > cost(&plain) + 1000);
        let mut retained = retained(2, cost(&plain));
        assert_eq!(retained.set(Arc::new(rich)), Retention::Full { before: false });
        assert_eq!(retained.set(Arc::new(plain)), Retention::Kept);
    }

    #[test]
    fn a_stored_message_that_does_not_fit_is_left_out_and_its_topic_can_be_cleared_all_the_same() {
        let mut retained = retained(1, u64::MAX);
        assert_eq!(retained.recover(message("a", "1", None)), Recovered::Kept);
        assert_eq!(retained.recover(message("a", "0", None)), Recovered::Outdated);
        assert_eq!(set(&mut retained, "b", ""), Retention::Nothing);
        assert_eq!(retained.recover(message("b", "1", None)), Recovered::LeftOut);
        assert_eq!(set(&mut retained, "b", ""), Retention::Cleared, "it goes from the disk");
        assert_eq!(set(&mut retained, "b", "2"), Retention::Full { before: true });
    }

    #[test]
    fn what_the_version_before_kept_within_the_same_limit_is_kept() {
        let mut retained = retained(10, 100);
        for topic in ["a", "b", "c", "d"] {
            assert_eq!(retained.recover(message(topic, &"x".repeat(24), None)), Recovered::Kept);
        }
        assert_eq!(retained.recover(message("e", "1", None)), Recovered::LeftOut);
        assert_eq!(
            set(&mut retained, "a", "1"),
            Retention::Full { before: true },
            "what comes is counted as it costs"
        );
    }

    #[test]
    fn the_shorter_of_the_two_expiries_counts() {
        let rule = expiry::RetainedRule { filter: TopicFilter::new("b/#").unwrap(), expiry_s: None };
        let rules = RetainedRules::new(vec![rule]);
        let mut retained =
            Retained::new(Settings { rows_max: 9, bytes_max: 9000, expiry_s: Some(10), rules });
        for (topic, own) in
            [("a", None), ("a/5", Some(5)), ("a/50", Some(50)), ("b/none", None), ("b/7", Some(7))]
        {
            assert_eq!(retained.set(message(topic, "1", own)), Retention::Kept);
        }
        let gone: Vec<_> = [5, 7, 10, 10]
            .map(|s: u64| {
                assert_eq!(retained.next_expiry(), Some(BootNs(s * 1_000_000_000)));
                retained.expire(BootNs(s * 1_000_000_000)).unwrap().to_string()
            })
            .into();
        assert_eq!(gone, ["a/5", "b/7", "a", "a/50"]);
        assert_eq!((retained.next_expiry(), topics(&retained, "#")), (None, vec!["b/none".to_owned()]));
    }

    #[test]
    fn a_message_expires_unless_another_one_takes_its_place() {
        let mut retained = retained(5, u64::MAX);
        retained.set(message("a", "1", Some(10)));
        retained.set(message("b", "1", Some(5)));
        retained.set(message("a", "2", None));
        let s = |s: u64| BootNs(s * 1_000_000_000);
        assert_eq!(retained.next_expiry(), Some(s(5)));
        assert_eq!(retained.expire(s(4)), None);
        assert_eq!(retained.expire(s(5)).map(|topic| topic.to_string()), Some("b".into()));
        assert_eq!((retained.expire(s(100)), retained.len()), (None, 1));
    }
}

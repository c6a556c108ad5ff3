//! What the gateway says of its buses and devices at the cloud: the newest of each topic, where the rules of the uplink put it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gateway_core::broker::TopicName;
use gateway_core::payload::Draft;
use gateway_core::tag::BootNs;
use gateway_core::uplink::bulletins::Bulletin;
use gateway_core::uplink::row::{Body, Priority, Qos};

use super::Upstream;

/// What was put to the uplink.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Topics at the cloud by those of this side.
    topics: BTreeMap<Arc<str>, Arc<str>>,
    /// Topics of former configurations are cleared, or will be.
    cleared: bool,
}

impl Upstream {
    /// Says these, and nothing else: what was said on other topics is cleared, and so is what `former` configurations left there.
    pub(in super::super) fn show(
        &mut self,
        now: BootNs,
        told: &BTreeMap<Arc<str>, Arc<[u8]>>,
        former: &[Arc<str>],
    ) {
        if !std::mem::replace(&mut self.shown.cleared, true) {
            for topic in former {
                if let Some((there, _)) = self.image(now, topic) {
                    self.put(there, Bulletin::nothing());
                }
            }
        }
        let mut topics = BTreeMap::new();
        for (topic, payload) in told {
            let Some((there, retain)) = self.image(now, topic) else { continue };
            self.put(Arc::clone(&there), Bulletin { payload: Arc::clone(payload), retain });
            topics.insert(Arc::clone(topic), there);
        }
        let present: BTreeSet<Arc<str>> = topics.values().cloned().collect();
        for there in std::mem::replace(&mut self.shown.topics, topics).into_values() {
            if !present.contains(&there) {
                self.put(there, Bulletin::nothing());
            }
        }
    }

    /// Whether all that this uplink was to clear is cleared.
    pub(in super::super) fn is_cleared(&self) -> bool {
        self.shown.cleared && !self.uplink.clears_bulletins()
    }

    fn put(&mut self, there: Arc<str>, bulletin: Bulletin) {
        if !self.uplink.put_bulletin(there, bulletin) {
            let uplink = self.name.as_str();
            log::warn!(uplink; "uplink {uplink}: too many topics of buses and devices come and go; some are not told there");
        }
    }

    /// The topic at the cloud, and whether it is retained there; `None` where `forward` does not take it.
    fn image(&self, now: BootNs, topic: &Arc<str>) -> Option<(Arc<str>, bool)> {
        let name = TopicName::new(Arc::clone(topic)).ok()?;
        let (body, priority) = (Body::Raw(Arc::from([])), Priority::High);
        let draft = Draft { topic: Arc::clone(topic), body, readings: 0, priority, retain: true, at: now };
        let (_, draft) = self.up.pass(&name, &draft, Qos::AtLeastOnce).ok()??;
        (!self.commands.are_on(&draft.topic)).then_some((draft.topic, draft.retain))
    }
}

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
    /// For some there was no room since topics of former configurations were last given.
    refused: bool,
}

/// How far an uplink has come with what it was given to clear, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Cleared {
    /// Something is still to be cleared.
    Waiting,
    /// For some there was no room. By now there is: they are to be given again.
    Refused,
    /// All is cleared.
    All,
}

impl Upstream {
    /// Says these, and nothing else: what was said on other topics is cleared, and so is what former configurations left on the topics `clearing`, if there
    /// are any to begin with.
    pub(in super::super) fn show(
        &mut self,
        now: BootNs,
        told: &BTreeMap<Arc<str>, Arc<[u8]>>,
        clearing: Option<&[Arc<str>]>,
    ) {
        if let Some(former) = clearing {
            self.shown.refused = false;
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

    /// How far it has come with what it was given to clear.
    pub(in super::super) fn cleared(&self) -> Cleared {
        if self.uplink.clears_bulletins() {
            Cleared::Waiting
        } else if self.shown.refused {
            Cleared::Refused
        } else {
            Cleared::All
        }
    }

    fn put(&mut self, there: Arc<str>, bulletin: Bulletin) {
        if self.uplink.put_bulletin(there, bulletin) {
            return;
        }
        if !std::mem::replace(&mut self.shown.refused, true) {
            let uplink = self.name.as_str();
            log::warn!(uplink; "uplink {uplink}: too many topics of buses and devices come and go; some are told or cleared there later");
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

#[cfg(test)]
mod tests {
    use gateway_config::{Environment, parse};
    use gateway_core::uplink::bulletins::BULLETINS_MAX;

    use super::*;
    use crate::app::gateway::Gateway;

    const NOW: BootNs = BootNs(1_000_000_000_000);

    #[tokio::test]
    async fn a_topic_for_which_there_was_no_room_counts_as_cleared_only_after_it_was_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let text = format!(
            "[gateway]\nid = \"gw\"\nsocket = \"{place}/c.sock\"\n[store]\npath = \"{place}/q.db\"\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1:1\"\n"
        );
        let (config, _) = parse(&text, "a.toml", folder.path(), &Environment::default()).unwrap();
        let mut gateway = Gateway::start(config).await.unwrap();
        let upstream = &mut gateway.upstreams[0];
        assert_eq!(upstream.cleared(), Cleared::All, "nothing is to be cleared");
        let payload: Arc<[u8]> = Arc::from(&b"{}"[..]);
        let told: BTreeMap<Arc<str>, Arc<[u8]>> = (0..BULLETINS_MAX)
            .map(|number| (format!("gw/health/device/d{number}").into(), Arc::clone(&payload)))
            .collect();
        upstream.show(NOW, &told, Some(&[]));
        assert_eq!(upstream.cleared(), Cleared::All);
        let former = [Arc::from("gw/health/device/former")];
        upstream.show(NOW, &told, Some(&former));
        assert_eq!(upstream.cleared(), Cleared::Refused);
        upstream.show(NOW, &told, None);
        assert_eq!(upstream.cleared(), Cleared::Refused, "it was not given again");
        // A told topic that goes is to be cleared, and that is not done before the server has it.
        upstream.show(NOW, &BTreeMap::new(), Some(&former));
        assert_eq!(upstream.cleared(), Cleared::Waiting);
    }
}

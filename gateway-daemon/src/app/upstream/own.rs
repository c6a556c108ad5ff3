//! Which topics are the gateway's own, on this side of each uplink and at its cloud, and what an uplink does with messages of others on them.

use std::sync::Arc;

use gateway_config::Config;
use gateway_core::broker::bridge::{BridgeRules, Way};
use gateway_core::broker::note::Shown;
use gateway_core::broker::{Broker, Own, TopicName};
use gateway_core::payload::Encoder;
use gateway_core::update::settings::{INSTALL_LEVELS, STATE_LEVELS};

use super::Upstream;

/// The own topics that one uplink has to do with.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnTopics {
    /// As local clients see them.
    pub(super) here: Arc<Own>,
    /// As its cloud sees them: what a client publishes must not become one of them by the mapping of a rule.
    pub(super) there: Own,
}

/// Tells the broker and all uplinks which topics are the gateway's own.
pub(in super::super) fn reserve_own(
    broker: &mut Broker,
    upstreams: &mut [Upstream],
    config: &Config,
    encoder: &Encoder,
) {
    let here = Arc::new(here(config, encoder));
    for upstream in upstreams {
        let there = there(config, encoder, &upstream.up);
        upstream.down.replace_own(Arc::clone(&here));
        upstream.own = OwnTopics { here: Arc::clone(&here), there };
    }
    broker.replace_own(here);
}

impl Upstream {
    /// Whether a rule puts a message of somebody else on a topic of the gateway itself at the cloud; counts it. Local topics of the gateway carry what the gateway
    /// says, or what a rule of the local broker lets others say.
    pub(super) fn is_forged(&mut self, here: &Arc<str>, there: &Arc<str>) -> bool {
        if self.own.here.holds(here) || !self.own.there.holds(there) {
            return false;
        }
        self.forged += 1;
        let (uplink, topic) = (self.name.as_str(), Shown::new(here));
        log::warn!(
            uplink, reason = "forged";
            "uplink {uplink}: messages on {topic} are dropped, because `forward` would put them on a topic that only this gateway sends on"
        );
        true
    }

    /// Says once that the cloud sends on topics of the gateway itself.
    pub(super) fn tell_forged(&mut self) {
        let Some(topic) = self.down.take_forged() else { return };
        let (uplink, topic) = (self.name.as_str(), Shown::new(topic.as_str()));
        log::warn!(
            uplink, reason = "forged";
            "uplink {uplink}: the cloud sent a message on {topic}, on which only this gateway sends: such messages are dropped and counted; narrow the filters of `accept`"
        );
    }
}

/// The gateway's own topics as local clients see them: readings, status and ledger of every uplink, those of updates, and those of buses and devices.
fn here(config: &Config, encoder: &Encoder) -> Own {
    let health = config.health_topics().into_iter().map(Arc::from);
    Own::new(said(config).chain(encoder.topics().cloned()).chain(health))
}

/// The same as the cloud of an uplink with these rules sees them.
fn there(config: &Config, encoder: &Encoder, up: &BridgeRules) -> Own {
    let mapped = |topic: &Arc<str>| match up.way(&TopicName::new(Arc::clone(topic)).ok()?) {
        Way::Open { topic, .. } => Some(Arc::clone(topic.shared())),
        Way::Closed | Way::Illegal => None,
    };
    let health: Vec<Arc<str>> = config.health_topics().into_iter().map(Arc::from).collect();
    Own::new(said(config).chain(encoder.topics().chain(&health).filter_map(mapped)))
}

/// What is said past the local broker, under the same topic on both sides. Updates have theirs whether the file allows them or not.
fn said(config: &Config) -> impl Iterator<Item = Arc<str>> {
    let of_uplinks = config
        .uplinks
        .iter()
        .flat_map(|(uplink, _)| [Arc::clone(&uplink.status_topic), Arc::clone(&uplink.ledger_topic)]);
    let of_updates =
        [STATE_LEVELS, INSTALL_LEVELS].map(|levels| format!("{}/{levels}", config.gateway.id).into());
    of_uplinks.chain(of_updates)
}

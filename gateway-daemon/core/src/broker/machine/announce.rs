//! What the gateway says about itself to local clients: retained, and never stored as that, because it is said again in every run.

use std::sync::Arc;

use super::Broker;
use super::route::Post;
use crate::broker::Local;
use crate::broker::packet::Message;
use crate::broker::topic::{TopicError, TopicName};
use crate::payload::Draft;
use crate::tag::BootNs;
use crate::uplink::row::{Body, Priority, Qos};

impl Broker {
    /// Says something on one of the gateway's own topics, to local clients with QoS 1 and to no uplink. It takes the place of what was said there before, takes no
    /// room from retained messages of others and does not expire; an empty payload clears the topic.
    ///
    /// # Errors
    /// The topic cannot be published to.
    pub fn announce(&mut self, now: BootNs, topic: Arc<str>, payload: Arc<[u8]>) -> Result<(), TopicError> {
        self.now = self.now.max(now);
        let name = TopicName::new(Arc::clone(&topic))?;
        self.counters.local_messages_total += 1;
        let (priority, body) = (Priority::High, Body::Raw(payload));
        let draft = Draft { topic, body, readings: 0, priority, retain: true, at: now };
        let local = Local { draft: &draft, qos: Qos::AtLeastOnce, from: None, want: false };
        self.route(now, Post { passing: true, ..Post::of_process(name, &local, None) }, || None);
        self.settle(now);
        Ok(())
    }

    /// Keeps such a message. What was stored of its topic, by a client when the topic was its own, goes.
    pub(super) fn retain_passing(&mut self, now: BootNs, message: Arc<Message>) -> bool {
        let topic = message.topic.clone();
        if self.retained.set_passing(message) {
            self.remove_retained(now, &topic, None);
        }
        true
    }
}

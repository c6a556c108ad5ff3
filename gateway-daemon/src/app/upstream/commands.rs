//! Commands for the gateway itself that come down an uplink: heard on a topic of their own, past the rules and the local broker.
//!
//! A command is acknowledged to the cloud when whoever carries it out has it, so it is [released](Upstream::release) by them. What is said on that
//! topic by anybody on this side never goes up: a cloud that sends it back would command in their name.
//!
//! Bounds: [`COMMANDS_MAX`] wait for the core loop, which takes them in the same round; those beyond are acknowledged and left out.

use std::collections::VecDeque;
use std::sync::Arc;

use gateway_core::broker::bridge::down::{Arrival, Came};
use gateway_core::broker::{TopicFilter, TopicName};
use gateway_core::tag::BootNs;
use gateway_core::uplink::link::{Delivery, Epoch};
use gateway_core::uplink::queue::{Message, Waiting};
use gateway_core::uplink::row::{Body, Priority, Qos};

use super::Upstream;

/// Commands that wait; nobody has use for more than one.
const COMMANDS_MAX: usize = 8;

/// Where a command came from, to acknowledge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Place {
    epoch: Epoch,
    delivery: Delivery,
}

/// A command.
#[derive(Debug)]
pub(in super::super) struct Command {
    /// To be released; none with QoS 0.
    pub place: Option<Place>,
    /// What it says.
    pub payload: Vec<u8>,
    /// It was there before we asked.
    pub retained: bool,
}

/// What an uplink knows of commands.
#[derive(Debug, Default)]
pub(super) struct Commands {
    topic: Option<TopicName>,
    heard: bool,
    waiting: VecDeque<Command>,
}

impl Commands {
    /// Whether this is the topic of commands, heard here or not.
    pub(super) fn are_on(&self, topic: &str) -> bool {
        self.topic.as_ref().is_some_and(|own| own.as_str() == topic)
    }

    /// What to subscribe to.
    pub(super) fn filter(&self) -> Option<(TopicFilter, Qos)> {
        let topic = self.topic.as_ref().filter(|_| self.heard)?;
        TopicFilter::new(Arc::clone(topic.shared())).ok().map(|filter| (filter, Qos::AtLeastOnce))
    }
}

impl Upstream {
    /// Names the topic of commands, which carries nothing up; `heard`: those of this uplink are carried out.
    pub(in super::super) fn reserve(&mut self, topic: Option<&Arc<str>>, heard: bool) {
        self.commands.topic = topic.and_then(|topic| TopicName::new(Arc::clone(topic)).ok());
        self.commands.heard = heard;
    }

    /// The next command.
    pub(in super::super) fn poll_command(&mut self) -> Option<Command> {
        self.commands.waiting.pop_front()
    }

    /// The command is in good hands. Of a connection that is gone nothing can be acknowledged; its cloud sends the command again.
    pub(in super::super) fn release(&mut self, place: Option<Place>) {
        let Some(place) = place else { return };
        if self.port.as_ref().is_some_and(|port| port.epoch == place.epoch) {
            self.down.release(place.delivery);
        }
    }

    /// Publishes what became of commands, past the rules: whoever commands hears of it.
    pub(in super::super) fn answer(&mut self, now: BootNs, topic: &Arc<str>, qos: Qos, payload: Vec<u8>) {
        let message = Message {
            topic: Arc::clone(topic),
            body: Body::Raw(payload.into()),
            readings: 0,
            priority: Priority::High,
            qos,
            retain: true,
            at: now,
            expiry_s: None,
            waiting: Waiting::Nobody,
        };
        self.uplink.publish(now, message);
    }

    /// Takes a command out of what comes down; gives back what is none.
    pub(super) fn command_of(&mut self, epoch: Epoch, arrival: Arrival) -> Result<Came, Arrival> {
        if !self.commands.heard || !self.commands.are_on(&arrival.topic) {
            return Err(arrival);
        }
        let Arrival { delivery, payload, retain, .. } = arrival;
        let came = self.down.withhold(delivery);
        if came == Came::Overrun {
            return Ok(came);
        }
        let place = delivery.map(|delivery| Place { epoch, delivery });
        if self.commands.waiting.len() < COMMANDS_MAX {
            self.commands.waiting.push_back(Command { place, payload, retained: retain });
        } else {
            self.release(place);
        }
        Ok(came)
    }
}

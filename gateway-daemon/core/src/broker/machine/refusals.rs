//! What a person reads about refusals: which rule of the house it was, and whose connection.

use super::Broker;
use crate::broker::note::{Attempt, Event, Keeper, Shown};
use crate::broker::own::is_system;
use crate::broker::{CloseReason, ConnId, TopicName};

impl Broker {
    /// Why somebody may not publish to a topic: it is one of the gateway's own, or a rule says so.
    pub(super) fn refusal(&self, attempt: Attempt, topic: &TopicName) -> Event {
        let shown = Shown::new(topic.as_str());
        let keeper = match topic.as_str() {
            text if self.own.holds(text) => Keeper::Gateway,
            text if is_system(text) => Keeper::Figures,
            _ => return Event::RuleRefused { attempt, topic: shown },
        };
        Event::OwnTopic { attempt, topic: shown, keeper }
    }

    /// Says whose connection is closed. To be called while it is known.
    pub(super) fn note_close(&mut self, conn: ConnId, reason: &CloseReason) {
        if reason.is_told() {
            self.note(Event::Closed(reason.clone()), self.who(conn));
        }
    }
}

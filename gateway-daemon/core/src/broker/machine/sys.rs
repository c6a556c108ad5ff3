//! `$SYS`: the broker's figures, for whoever asks.
//!
//! They are made when somebody subscribes to them, as retained messages, and told every [`INTERVAL`] as long as somebody does. They are never
//! stored, and clients cannot publish there. The topics are those of mosquitto where there is one.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use super::expiry::Alarm;
use super::route::Post;
use crate::broker::packet::Message;
use crate::broker::topic::TopicName;
use crate::tag::BootNs;
use crate::uplink::row::Qos;

/// First level of the broker's own topics.
pub(super) const ROOT: &str = crate::broker::own::SYSTEM;

/// How often figures are told.
const INTERVAL: Duration = Duration::from_secs(10);

impl Broker {
    /// Somebody may want figures from here on.
    pub(super) fn watch_figures(&mut self, now: BootNs) {
        if !self.watched && self.tree.begins_with(ROOT) {
            self.watched = true;
            self.alarms.insert((now.plus(INTERVAL), Alarm::Figures));
        }
    }

    /// Tells the figures to whoever wants them; the text that never changes is told to who subscribes only.
    pub(super) fn tell_figures(&mut self, now: BootNs) {
        self.watched = false;
        if !self.tree.begins_with(ROOT) {
            return;
        }
        for message in self.figures(now).into_iter().skip(1) {
            self.route(now, Post { retain: false, ..Post::of_broker(message) }, || None);
        }
        self.watch_figures(now);
    }

    /// The figures of this moment, the version first.
    pub(super) fn figures(&self, now: BootNs) -> Vec<Arc<Message>> {
        let (counters, gauges) = (self.counters(), self.gauges());
        let clients = self.clients.len();
        let connected = self.sessions.values().filter(|session| session.conn.is_some()).count();
        let uptime = format!("{} seconds", now.since(self.started).as_secs());
        let count = |number: u64| number.to_string();
        let size = |number: usize| number.to_string();
        let figures = [
            ("version", format!("tidegate {}", env!("CARGO_PKG_VERSION"))),
            ("uptime", uptime),
            ("clients/connected", size(connected)),
            ("clients/disconnected", size(clients.saturating_sub(connected))),
            ("clients/total", size(clients)),
            ("clients/maximum", size(self.connected_max.max(connected))),
            ("clients/expired", count(counters.expired_sessions_total)),
            ("messages/received", count(counters.received_packets_total)),
            ("messages/sent", count(counters.sent_packets_total)),
            ("messages/stored", count(gauges.held_messages)),
            ("publish/messages/received", count(counters.received_messages_total)),
            ("publish/messages/sent", count(counters.sent_messages_total)),
            ("publish/messages/dropped", count(counters.dropped())),
            ("bytes/received", count(counters.received_bytes_total)),
            ("bytes/sent", count(counters.sent_bytes_total)),
            ("subscriptions/count", size(gauges.subscriptions)),
            ("shared_subscriptions/count", size(gauges.shared_subscriptions)),
            ("retained messages/count", size(gauges.retained_messages)),
            ("store/messages/count", count(gauges.stored_messages)),
            ("store/messages/bytes", count(gauges.stored_bytes)),
            ("store/unwritten/bytes", count(gauges.dirty_bytes)),
        ];
        figures.into_iter().filter_map(|(name, text)| figure(now, name, &text)).collect()
    }
}

fn figure(now: BootNs, name: &str, text: &str) -> Option<Arc<Message>> {
    Some(Arc::new(Message {
        topic: TopicName::new(format!("{ROOT}/broker/{name}")).ok()?,
        body: text.as_bytes().into(),
        qos: Qos::AtMostOnce,
        retain: true,
        properties: None,
        at: now,
        expiry_s: None,
    }))
}

//! When freed memory goes back to the system: after much was freed, and seldom, because it takes some milliseconds.
//!
//! What comes and goes between two looks at the broker was never seen by either of them, so connections, subscriptions and
//! released identifiers are counted as they go.

use std::time::Duration;

use gateway_core::broker::{Broker, Gauges};
use gateway_core::tag::BootNs;

/// So many connections that have gone leave enough behind that it is worth a look.
const CONNECTIONS: u64 = 64;

/// So many subscriptions: a megabyte.
const SUBSCRIPTIONS: u64 = 10_000;

/// So many identifiers of QoS 2 messages: a megabyte. Plants that publish with QoS 2 all day release as many in minutes, and it takes some milliseconds then.
const RELEASES: u64 = 32_768;

/// So many bytes of messages and packets less than there were.
const BYTES: u64 = 4 << 20;

/// How often memory is given back at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// What is known of the broker at one look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    /// Connections that have gone since the start.
    connections_gone: u64,
    /// The same of subscriptions.
    subscriptions_gone: u64,
    /// The same of identifiers of QoS 2 messages.
    releases: u64,
    /// Bytes of messages and packets in memory.
    bytes: u64,
}

/// What was there when memory was given back last.
#[derive(Debug)]
pub(super) struct Freed {
    last: BootNs,
    before: Look,
    /// Most bytes at a look since then.
    most_bytes: u64,
}

impl Look {
    pub(super) fn at(broker: &Broker) -> Self {
        let gauges = broker.gauges();
        let Gauges { unsent_bytes, unread_bytes, hello_bytes, connections, .. } = gauges;
        let packets = unsent_bytes.saturating_add(unread_bytes).saturating_add(hello_bytes) as u64;
        let Gauges { retained_bytes, wills_bytes, received_bytes, held_bytes, .. } = gauges;
        let messages = [retained_bytes, wills_bytes, received_bytes, held_bytes, gauges.loaded_bytes];
        Self {
            connections_gone: broker.counters().connections_total.saturating_sub(connections as u64),
            subscriptions_gone: broker.subscriptions_gone(),
            releases: broker.releases(),
            bytes: messages.iter().fold(packets, |sum, bytes| sum.saturating_add(*bytes)),
        }
    }
}

impl Freed {
    pub(super) fn new(now: BootNs) -> Self {
        Self { last: now, before: Look::default(), most_bytes: 0 }
    }

    /// Whether memory is to be given back now. Call it about once a second.
    pub(super) fn is_due(&mut self, now: BootNs, look: Look) -> bool {
        self.most_bytes = self.most_bytes.max(look.bytes);
        let gone = |now: u64, before: u64, enough: u64| now.saturating_sub(before) >= enough;
        let much = gone(look.connections_gone, self.before.connections_gone, CONNECTIONS)
            || gone(look.subscriptions_gone, self.before.subscriptions_gone, SUBSCRIPTIONS)
            || gone(look.releases, self.before.releases, RELEASES)
            || gone(self.most_bytes, look.bytes, BYTES);
        let due = much && now.since(self.last) >= INTERVAL;
        if due {
            *self = Self { last: now, before: look, most_bytes: look.bytes };
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::{Freed, Look};
    use gateway_core::tag::BootNs;

    const SECOND: u64 = 1_000_000_000;

    /// The seconds at which memory is given back, with one look a second.
    fn due(look: impl Fn(u64) -> Look, seconds: u64) -> Vec<u64> {
        let mut freed = Freed::new(BootNs(0));
        (1..=seconds).filter(|second| freed.is_due(BootNs(second * SECOND), look(*second))).collect()
    }

    #[test]
    fn what_came_and_went_between_two_looks_is_given_back() {
        let subscriptions = |gone| Look { subscriptions_gone: gone, ..Look::default() };
        assert_eq!(due(|second| subscriptions(if second < 15 { 0 } else { 200_000 }), 40), [15]);
        let connections = |gone| Look { connections_gone: gone, ..Look::default() };
        assert_eq!(due(|second| connections(if second < 15 { 0 } else { 64 }), 40), [15]);
        let releases = |releases| Look { releases, ..Look::default() };
        assert_eq!(due(|second| releases(if second < 15 { 0 } else { 40_000 }), 40), [15]);
    }

    #[test]
    fn what_goes_on_and_on_is_given_back_every_ten_seconds_and_little_not_at_all() {
        let subscriptions = |gone| Look { subscriptions_gone: gone, ..Look::default() };
        assert_eq!(due(|second| subscriptions(second * 50_000), 35), [10, 20, 30]);
        assert_eq!(due(|second| subscriptions(second * 100), 35), [0; 0]);
    }

    #[test]
    fn messages_that_are_gone_are_given_back_once() {
        let bytes = |second| Look {
            bytes: if (3..20).contains(&second) { 16 << 20 } else { 1 << 20 },
            ..Look::default()
        };
        assert_eq!(due(bytes, 60), [20]);
        assert_eq!(
            due(|second| Look { bytes: second << 20, ..Look::default() }, 60),
            [0; 0],
            "it only grows"
        );
    }
}

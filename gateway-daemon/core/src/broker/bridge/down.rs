//! Messages of the cloud on their way into the broker: rules, order, and when each may be acknowledged to the cloud.
//!
//! ```text
//!           came                poll_entry            entered, safe
//!  cloud ---------> waiting ----------------> entering -------------> acknowledge, in the order in which they came
//!                   echo, no rule: dropped, counted, acknowledged with the others
//! ```
//! A message of QoS 1 is acknowledged when the broker says that it is safe: on disk for every durable session that wants it, or wanted by none. Until then the
//! cloud has it and delivers it again after a loss of the connection, so whatever is forgotten here is not lost ([`Down::lost`]).
//!
//! Bounds: [`ENTERING_MAX`] messages and [`ENTERING_BYTES_MAX`] are in the broker and not safe; then the others wait, at most
//! [`WAITING_MAX`] and [`WAITING_BYTES_MAX`]. Beyond that a message of QoS 0 is dropped and counted, and for one of QoS 1 the connection has to be cut
//! ([`Came::Overrun`]), so that the cloud keeps it. The link goes on reading and pinging all the while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::echo::{self, Echoes};
use super::{BridgeRules, Way};
use crate::broker::Ticket;
use crate::broker::own::{Own, is_system};
use crate::broker::topic::TopicName;
use crate::payload::Draft;
use crate::tag::BootNs;
use crate::uplink::link::Delivery;
use crate::uplink::row::{Body, Priority, Qos};

/// Most messages in the broker that are not safe: some commits full of them, little beside what local publishers may have under way.
pub const ENTERING_MAX: usize = 256;
/// Most bytes of them, beyond the first one.
pub const ENTERING_BYTES_MAX: usize = 1 << 20;
/// Most messages that wait to enter: more than a broker with an ordinary window ever sends without an acknowledgement.
pub const WAITING_MAX: usize = 4096;
/// Most bytes of them, beyond the first one.
pub const WAITING_BYTES_MAX: usize = 2 << 20;

/// A message of the cloud as the link gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// To be acknowledged; `None` with QoS 0.
    pub delivery: Option<Delivery>,
    /// Topic of the cloud.
    pub topic: Arc<str>,
    /// What was published.
    pub payload: Vec<u8>,
    /// QoS on the link.
    pub qos: Qos,
    /// Retain flag on the link.
    pub retain: bool,
}

/// What became of an arrival at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It is taken care of.
    Taken,
    /// Nothing more fits in: cut the connection, so that the cloud delivers it again.
    Overrun,
}

/// A message for [`crate::broker::Broker::publish`]; answer with [`Down::entered`] if it has a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// To be acknowledged.
    pub delivery: Option<Delivery>,
    /// The lower of the cloud's QoS and the rule's.
    pub qos: Qos,
    /// With the local topic.
    pub draft: Draft,
}

/// What came down, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages that came from the cloud.
    pub received_messages_total: u64,
    /// Those that entered the local broker.
    pub entered_messages_total: u64,
    /// Our own messages that came back.
    pub echo_messages_total: u64,
    /// Messages that no rule takes: subscriptions of an earlier configuration live on in the session at the cloud.
    pub unwanted_messages_total: u64,
    /// Messages on topics that only the gateway itself sends on.
    pub forged_messages_total: u64,
    /// Messages whose topic cannot be mapped to a local one.
    pub unmapped_messages_total: u64,
    /// Messages of QoS 0 for which there was no room.
    pub overrun_messages_total: u64,
    /// Connections cut because the disk was slower than the cloud for too long.
    pub overruns_total: u64,
    /// Messages acknowledged to the cloud.
    pub acknowledged_messages_total: u64,
}

/// A message that waits to enter, or only for its turn to be acknowledged.
#[derive(Debug)]
struct Waiting {
    delivery: Option<Delivery>,
    bytes: usize,
    entry: Option<Entry>,
    /// It does not enter, and somebody else says when it may be acknowledged.
    withheld: bool,
}

/// A message in the broker.
#[derive(Debug)]
struct Entering {
    delivery: Delivery,
    bytes: usize,
    safe: bool,
}

/// The way down of one uplink. See the module.
#[derive(Debug, Default)]
pub struct Down {
    rules: BridgeRules,
    echoes: Echoes,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    entering: VecDeque<Entering>,
    entering_bytes: usize,
    tickets: BTreeMap<Ticket, Delivery>,
    /// The last one that may be acknowledged, and the last one told.
    through: Delivery,
    told: Delivery,
    own: Arc<Own>,
    /// The first topic of the gateway itself that something came on.
    forged: Option<TopicName>,
    counters: Counters,
}

impl Down {
    /// A way down with these rules.
    #[must_use]
    pub fn new(rules: BridgeRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Its rules.
    #[must_use]
    pub fn rules(&self) -> &BridgeRules {
        &self.rules
    }

    /// Other rules hold for what comes from here on. What was acknowledged under the former ones stays so.
    pub fn replace_rules(&mut self, rules: BridgeRules) {
        self.rules = rules;
    }

    /// Topics that only the gateway itself sends on: nothing enters there, unless a rule names the topic without a wildcard.
    pub fn replace_own(&mut self, own: Arc<Own>) {
        self.own = own;
    }

    /// A topic of the gateway itself that something came on, once in a run.
    pub fn take_forged(&mut self) -> Option<TopicName> {
        self.forged.take()
    }

    /// What came down so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Messages that wait or are not safe.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.waiting.len().saturating_add(self.entering.len())
    }

    /// This gateway has sent a message that the cloud will send back here, if a rule takes its topic.
    pub fn expect_echo(&mut self, now: BootNs, topic: &TopicName, print: u64) {
        if self.rules.as_slice().iter().any(|rule| rule.filter().matches(topic)) {
            self.echoes.sent(now, print);
        }
    }

    /// A message came from the cloud.
    pub fn came(&mut self, now: BootNs, arrival: Arrival) -> Came {
        self.counters.received_messages_total += 1;
        let Arrival { delivery, topic, payload, qos, retain } = arrival;
        if self.echoes.came(now, echo::print(&topic, &payload)) {
            self.counters.echo_messages_total += 1;
            return self.pass_over(delivery);
        }
        let way = TopicName::new(topic).map(|topic| self.rules.way(&topic));
        let (rule, topic) = match way {
            Ok(Way::Open { rule, topic }) => (rule, topic),
            Ok(Way::Closed) => {
                self.counters.unwanted_messages_total += 1;
                return self.pass_over(delivery);
            }
            Ok(Way::Illegal) | Err(_) => {
                self.counters.unmapped_messages_total += 1;
                return self.pass_over(delivery);
            }
        };
        let named = !rule.filter().as_str().contains(['+', '#']);
        if is_system(topic.as_str()) || (self.own.holds(topic.as_str()) && !named) {
            if self.counters.forged_messages_total == 0 {
                self.forged = Some(topic);
            }
            self.counters.forged_messages_total += 1;
            return self.pass_over(delivery);
        }
        let bytes = payload.len().saturating_add(topic.as_str().len());
        let draft = Draft {
            topic: Arc::clone(topic.shared()),
            body: Body::Raw(payload.into()),
            readings: 0,
            priority: Priority::Normal,
            retain: rule.retain(retain),
            at: now,
        };
        let qos = qos.min(rule.qos_max());
        self.wait(Waiting { delivery, bytes, entry: Some(Entry { delivery, qos, draft }), withheld: false })
    }

    /// A message that does not enter is acknowledged in its turn.
    fn pass_over(&mut self, delivery: Option<Delivery>) -> Came {
        match delivery {
            Some(_) => self.wait(Waiting { delivery, bytes: 0, entry: None, withheld: false }),
            None => Came::Taken,
        }
    }

    /// A message that is not for the broker came; it is acknowledged in its turn once it was [released](Self::release).
    pub fn withhold(&mut self, delivery: Option<Delivery>) -> Came {
        self.counters.received_messages_total += 1;
        match delivery {
            Some(_) => self.wait(Waiting { delivery, bytes: 0, entry: None, withheld: true }),
            None => Came::Taken,
        }
    }

    /// A withheld message may be acknowledged.
    pub fn release(&mut self, delivery: Delivery) {
        match self.waiting.iter_mut().find(|waiting| waiting.delivery == Some(delivery)) {
            Some(waiting) => waiting.withheld = false,
            None => self.settle(delivery),
        }
    }

    fn wait(&mut self, waiting: Waiting) -> Came {
        let bytes = self.waiting_bytes.saturating_add(waiting.bytes);
        let full = self.waiting.len() >= WAITING_MAX || bytes > WAITING_BYTES_MAX;
        if full && !self.waiting.is_empty() {
            if waiting.delivery.is_none() {
                self.counters.overrun_messages_total += 1;
                return Came::Taken;
            }
            self.counters.overruns_total += 1;
            return Came::Overrun;
        }
        self.waiting_bytes = bytes;
        self.waiting.push_back(waiting);
        Came::Taken
    }

    /// The next message for the broker, if there is room. Publish it, and if it has a delivery say so with [`Self::entered`] before asking again.
    pub fn poll_entry(&mut self) -> Option<Entry> {
        loop {
            let full = self.entering.len() >= ENTERING_MAX || self.entering_bytes > ENTERING_BYTES_MAX;
            if full {
                return None;
            }
            let Waiting { delivery, bytes, entry, withheld } = self.waiting.pop_front()?;
            self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
            if let Some(delivery) = delivery {
                self.entering_bytes = self.entering_bytes.saturating_add(bytes);
                let safe = entry.is_none() && !withheld;
                self.entering.push_back(Entering { delivery, bytes, safe });
                self.advance();
            }
            if let Some(entry) = entry {
                self.counters.entered_messages_total += 1;
                return Some(entry);
            }
        }
    }

    /// The broker has a message; without a ticket it is safe already.
    pub fn entered(&mut self, delivery: Delivery, ticket: Option<Ticket>) {
        match ticket {
            Some(ticket) => {
                self.tickets.insert(ticket, delivery);
            }
            None => self.settle(delivery),
        }
    }

    /// [`crate::broker::Action::Safe`]: gives whether the ticket was one of these.
    pub fn safe(&mut self, ticket: Ticket) -> bool {
        let Some(delivery) = self.tickets.remove(&ticket) else { return false };
        self.settle(delivery);
        true
    }

    /// Up to which message the cloud may be told, if that has changed since it was said last.
    pub fn poll_acknowledge(&mut self) -> Option<Delivery> {
        let through = (self.through > self.told).then_some(self.through)?;
        self.told = through;
        Some(through)
    }

    /// The link could not take the last one; it is said again.
    pub fn untold(&mut self) {
        self.told = Delivery(0);
    }

    /// The connection is gone: what is not acknowledged will be delivered again on the next one, where deliveries count from one again. What waits to
    /// enter is forgotten; what entered stays in the broker.
    pub fn lost(&mut self) {
        let lost = self.waiting.iter().filter(|waiting| waiting.delivery.is_none()).count();
        self.counters.overrun_messages_total += lost as u64;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.entering.clear();
        self.entering_bytes = 0;
        self.tickets.clear();
        (self.through, self.told) = (Delivery(0), Delivery(0));
    }

    fn settle(&mut self, delivery: Delivery) {
        if let Some(entering) = self.entering.iter_mut().find(|entering| entering.delivery == delivery) {
            entering.safe = true;
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(done) = self.entering.pop_front_if(|entering| entering.safe) {
            self.entering_bytes = self.entering_bytes.saturating_sub(done.bytes);
            self.through = done.delivery;
            self.counters.acknowledged_messages_total += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::settings::{Retain, Rule};

    fn down(rules: &[Rule]) -> Down {
        Down::new(BridgeRules::new(rules).unwrap())
    }

    fn all() -> Down {
        down(&[Rule::plain("cmd/#", Qos::AtLeastOnce)])
    }

    fn arrival(number: u64, topic: &str) -> Arrival {
        let (delivery, qos) = match number {
            0 => (None, Qos::AtMostOnce),
            number => (Some(Delivery(number)), Qos::AtLeastOnce),
        };
        Arrival { delivery, topic: topic.into(), payload: b"on".to_vec(), qos, retain: true }
    }

    fn came(down: &mut Down, number: u64, topic: &str) {
        assert_eq!(down.came(BootNs(0), arrival(number, topic)), Came::Taken);
    }

    fn enter(down: &mut Down, ticket: Option<u64>) -> Entry {
        let entry = down.poll_entry().unwrap();
        if let Some(delivery) = entry.delivery {
            down.entered(delivery, ticket.map(Ticket));
        }
        entry
    }

    #[test]
    fn a_message_enters_under_its_local_name_with_the_lower_qos_and_what_the_rule_says_of_its_flag() {
        let rule = Rule {
            qos_max: Qos::AtMostOnce,
            strip: "cmd".into(),
            add: "local".into(),
            retain: Retain::Drop,
            ..Rule::plain("cmd/#", Qos::AtLeastOnce)
        };
        let mut down = down(&[rule]);
        came(&mut down, 1, "cmd/x");
        let Entry { delivery, qos, draft } = enter(&mut down, None);
        assert_eq!((delivery, qos), (Some(Delivery(1)), Qos::AtMostOnce));
        assert_eq!((&*draft.topic, draft.retain), ("local/x", false));
        assert_eq!(draft.body, Body::Raw((*b"on").into()));
        assert_eq!(down.poll_acknowledge(), Some(Delivery(1)));
    }

    #[test]
    fn acknowledgements_wait_for_the_disk_and_keep_the_order() {
        let mut down = all();
        for number in 1..=3 {
            came(&mut down, number, "cmd/x");
            enter(&mut down, Some(number));
        }
        assert_eq!(down.poll_acknowledge(), None);
        assert!(down.safe(Ticket(2)));
        assert_eq!(down.poll_acknowledge(), None);
        assert!(down.safe(Ticket(1)));
        assert_eq!(down.poll_acknowledge(), Some(Delivery(2)));
        assert!(!down.safe(Ticket(1)));
        assert!(down.safe(Ticket(3)));
        assert_eq!(down.poll_acknowledge(), Some(Delivery(3)));
        assert_eq!(down.poll_acknowledge(), None);
    }

    #[test]
    fn what_does_not_enter_is_acknowledged_in_its_turn_and_counted() {
        let mut down = all();
        came(&mut down, 1, "cmd/x");
        came(&mut down, 2, "other");
        came(&mut down, 3, "a/+");
        enter(&mut down, Some(1));
        assert!(down.poll_entry().is_none());
        assert_eq!(down.poll_acknowledge(), None);
        down.safe(Ticket(1));
        assert_eq!(down.poll_acknowledge(), Some(Delivery(3)));
        let counters = down.counters();
        assert_eq!((counters.unwanted_messages_total, counters.unmapped_messages_total), (1, 1));
        assert_eq!(counters.acknowledged_messages_total, 3);
        assert_eq!(down.pending(), 0);
    }

    #[test]
    fn a_slow_disk_holds_messages_back_without_losing_one_and_in_the_end_cuts_the_connection() {
        let mut down = all();
        let mut number = 0;
        let overrun = loop {
            number += 1;
            let came = down.came(BootNs(0), arrival(number, "cmd/x"));
            while let Some(Entry { delivery: Some(delivery), .. }) = down.poll_entry() {
                down.entered(delivery, Some(Ticket(delivery.0)));
            }
            if came == Came::Overrun {
                break number;
            }
        };
        assert_eq!(overrun, (ENTERING_MAX + WAITING_MAX) as u64 + 1);
        assert_eq!(down.came(BootNs(0), arrival(0, "cmd/x")), Came::Taken);
        assert_eq!((down.counters().overrun_messages_total, down.counters().overruns_total), (1, 1));
        down.lost();
        assert_eq!(down.pending(), 0);
        // The next connection counts from one again, and late words about the old one mean nothing.
        came(&mut down, 1, "cmd/x");
        enter(&mut down, Some(10_000));
        assert!(!down.safe(Ticket(1)));
        assert_eq!(down.poll_acknowledge(), None);
        assert!(down.safe(Ticket(10_000)));
        assert_eq!(down.poll_acknowledge(), Some(Delivery(1)));
    }

    #[test]
    fn bytes_bound_what_waits_and_one_large_message_always_fits() {
        let mut down = all();
        let large = |number| Arrival { payload: vec![0; WAITING_BYTES_MAX], ..arrival(number, "cmd/x") };
        assert_eq!(down.came(BootNs(0), large(1)), Came::Taken);
        assert_eq!(down.came(BootNs(0), large(2)), Came::Overrun);
        assert!(down.poll_entry().is_some());
        assert!(down.poll_entry().is_none());
    }

    #[test]
    fn our_own_message_that_comes_back_enters_nowhere_and_is_acknowledged() {
        let mut down = all();
        let topic = TopicName::new("cmd/x").unwrap();
        down.expect_echo(BootNs(0), &topic, echo::print("cmd/x", b"on"));
        down.expect_echo(BootNs(0), &TopicName::new("elsewhere").unwrap(), 1);
        came(&mut down, 1, "cmd/x");
        assert!(down.poll_entry().is_none());
        assert_eq!(down.poll_acknowledge(), Some(Delivery(1)));
        came(&mut down, 2, "cmd/x");
        assert!(down.poll_entry().is_some());
        assert_eq!(down.counters().echo_messages_total, 1);
    }

    #[test]
    fn a_withheld_message_holds_back_acknowledgements_until_it_is_released() {
        let mut down = all();
        assert_eq!(down.withhold(Some(Delivery(1))), Came::Taken);
        assert_eq!(down.withhold(None), Came::Taken);
        came(&mut down, 2, "cmd/x");
        assert_eq!(down.withhold(Some(Delivery(3))), Came::Taken);
        assert_eq!(enter(&mut down, None).delivery, Some(Delivery(2)));
        assert!(down.poll_entry().is_none());
        assert_eq!(down.poll_acknowledge(), None);
        down.release(Delivery(1));
        assert_eq!(down.poll_acknowledge(), Some(Delivery(2)));
        down.release(Delivery(3));
        assert_eq!(down.poll_acknowledge(), Some(Delivery(3)));
        // Also before its turn has come.
        assert_eq!(down.withhold(Some(Delivery(4))), Came::Taken);
        down.release(Delivery(4));
        assert!(down.poll_entry().is_none());
        assert_eq!(down.poll_acknowledge(), Some(Delivery(4)));
        assert_eq!(down.pending(), 0);
    }

    #[test]
    fn what_the_link_could_not_take_is_said_again() {
        let mut down = all();
        came(&mut down, 1, "cmd/x");
        enter(&mut down, None);
        assert!(down.poll_acknowledge().is_some());
        down.untold();
        assert_eq!(down.poll_acknowledge(), Some(Delivery(1)));
    }
}

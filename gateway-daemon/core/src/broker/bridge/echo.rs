//! Recognises what this gateway published itself when the cloud sends it back.
//!
//! MQTT 3.1.1 has no way to say "not my own messages". But it says that a subscriber gets each matching message once, so for each message that went
//! up to a topic that is subscribed too, one comes down: messages sent are counted by topic and body, and as many are taken out again. A message that
//! somebody else published stays one too many and passes. Repetitions after a lost connection are counted as they are sent.
//!
//! Bounds: [`ECHOES_MAX`] messages for [`ECHO_MAX`]; the oldest is forgotten first, and then its echo passes.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::tag::BootNs;

/// Most messages whose echo is awaited: a minute of a hundred per second, half a megabyte.
pub const ECHOES_MAX: usize = 6000;

/// How long an echo is awaited: the cloud delivers within seconds while we are connected, and after an outage what it had kept.
pub const ECHO_MAX: Duration = Duration::from_secs(300);

/// Echoes that are awaited by one uplink.
#[derive(Debug, Default)]
pub struct Echoes {
    awaited: BTreeMap<u64, u32>,
    order: VecDeque<(BootNs, u64)>,
}

/// Names a message by its topic and body.
#[must_use]
pub fn print(topic: &str, body: &[u8]) -> u64 {
    // The same numbers in every run; nobody gains by two messages with one print but whoever may publish both.
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    body.hash(&mut hasher);
    hasher.finish()
}

impl Echoes {
    /// A message was sent that will come back.
    pub fn sent(&mut self, now: BootNs, print: u64) {
        self.forget(now);
        if self.order.len() >= ECHOES_MAX
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.take(oldest);
        }
        self.order.push_back((now, print));
        *self.awaited.entry(print).or_insert(0) += 1;
    }

    /// A message came: whether it is an echo, which then has come.
    pub fn came(&mut self, now: BootNs, print: u64) -> bool {
        self.forget(now);
        if !self.take(print) {
            return false;
        }
        if let Some(place) = self.order.iter().position(|(_, known)| *known == print) {
            self.order.remove(place);
        }
        true
    }

    /// How many are awaited.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is awaited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn take(&mut self, print: u64) -> bool {
        let Some(count) = self.awaited.get_mut(&print) else { return false };
        *count -= 1;
        if *count == 0 {
            self.awaited.remove(&print);
        }
        true
    }

    fn forget(&mut self, now: BootNs) {
        while let Some((_, print)) = self.order.pop_front_if(|(at, _)| now >= at.plus(ECHO_MAX)) {
            self.take(print);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> BootNs {
        BootNs(0).plus(Duration::from_secs(s))
    }

    #[test]
    fn as_many_echoes_are_taken_out_as_messages_were_sent_and_the_next_one_is_somebody_elses() {
        let mut echoes = Echoes::default();
        let on = print("lamp", b"on");
        echoes.sent(at(0), on);
        echoes.sent(at(1), on);
        assert!(!echoes.came(at(2), print("lamp", b"off")));
        assert!(echoes.came(at(2), on));
        assert!(echoes.came(at(3), on));
        assert!(!echoes.came(at(3), on));
        assert!(echoes.is_empty());
    }

    #[test]
    fn an_echo_that_does_not_come_is_awaited_for_a_while_only() {
        let mut echoes = Echoes::default();
        echoes.sent(at(0), 1);
        echoes.sent(at(10), 1);
        assert!(echoes.came(at(301), 1));
        assert!(!echoes.came(at(301), 1));
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut echoes = Echoes::default();
        for number in 0..=ECHOES_MAX as u64 {
            echoes.sent(at(0), number);
        }
        assert_eq!(echoes.len(), ECHOES_MAX);
        assert!(!echoes.came(at(0), 0));
        assert!(echoes.came(at(0), 1));
    }

    #[test]
    fn topic_and_body_do_not_run_into_each_other() {
        assert_ne!(print("ab", b"c"), print("a", b"bc"));
    }
}

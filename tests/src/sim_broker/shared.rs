//! What must be true of shared subscriptions: each message reaches one member of the group.

use std::collections::BTreeMap;

use super::oracle::{Name, Verdict};

/// The subscription of every member.
pub const SHARED: &str = "$share/team/s/+/+";

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: u64,
    /// Sent more than once: the broker may have taken it twice with QoS 1.
    again: bool,
    acknowledged: bool,
}

/// The messages of the group.
#[derive(Debug, Default)]
pub struct Shared {
    sent: BTreeMap<Name, Sent>,
    /// When the first member's SUBACK came.
    since: Option<u64>,
    taken: BTreeMap<Name, BTreeMap<usize, u64>>,
    /// Messages that a member took.
    pub received: u64,
}

impl Shared {
    /// A member's SUBACK came; durable members stay.
    pub fn joined(&mut self, now: u64) {
        self.since.get_or_insert(now);
    }

    /// A message leaves its publisher.
    pub fn sent(&mut self, now: u64, name: Name) {
        let fresh = Sent { at: now, again: false, acknowledged: false };
        self.sent.entry(name).and_modify(|sent| sent.again = true).or_insert(fresh);
    }

    /// Its publisher is told that it is safe.
    pub fn acknowledged(&mut self, name: Name) {
        if let Some(sent) = self.sent.get_mut(&name) {
            sent.acknowledged = true;
        }
    }

    /// A member takes a message.
    ///
    /// # Errors
    /// Nobody sent it, or somebody else has it.
    pub fn taken(&mut self, client: usize, name: Name, qos: u8) -> Verdict {
        let Some(sent) = self.sent.get(&name) else {
            return Err(format!("{client} takes {name:?} of the group, which nobody published"));
        };
        let taken = self.taken.entry(name).or_default();
        *taken.entry(client).or_default() += 1;
        let times: u64 = taken.values().sum();
        self.received += u64::from(times == 1);
        if qos == 2 && times > 1 {
            return Err(format!("{name:?} of the group is taken {times} times: {taken:?}"));
        }
        if !sent.again && taken.len() > 1 {
            return Err(format!("{name:?} of the group reaches two members: {taken:?}"));
        }
        Ok(())
    }

    /// What was acknowledged and reached nobody.
    #[must_use]
    pub fn owed(&self) -> Vec<Name> {
        let Some(since) = self.since else { return Vec::new() };
        let owed = self
            .sent
            .iter()
            .filter(|(name, sent)| sent.acknowledged && sent.at > since && !self.taken.contains_key(*name));
        owed.map(|(name, _)| *name).collect()
    }
}

//! What must be true of every message, whatever went wrong.

use std::collections::BTreeMap;

use super::shared::Shared;
use super::uplink::Uplink;
use super::wills::Wills;

/// One published message: who, with which QoS, and its number among those.
pub type Name = (usize, u8, u64);

/// Fine, or the promise that was broken.
pub type Verdict = Result<(), String>;

#[derive(Debug, Clone, Copy)]
struct Published {
    sent_at: u64,
    acknowledged_at: Option<u64>,
}

/// What a subscriber knows of its subscription to everybody's messages.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    /// SUBACK came.
    since: Option<u64>,
    /// SUBSCRIBE was sent.
    asked: Option<u64>,
    /// UNSUBACK came, after the last SUBSCRIBE.
    ended: Option<u64>,
}

#[derive(Debug, Default)]
struct Subscriber {
    durable: bool,
    qos: u8,
    wish: Wish,
    /// What it was owed when it unsubscribed, or at the end.
    owed: Vec<Name>,
    taken: BTreeMap<Name, u64>,
    /// Highest number taken for the first time, of each publisher and QoS.
    highest: BTreeMap<(usize, u8), u64>,
}

/// Follows every message from its first PUBLISH to every subscriber.
#[derive(Debug, Default)]
pub struct Oracle {
    published: BTreeMap<Name, Published>,
    subscribers: BTreeMap<usize, Subscriber>,
    /// Of each publisher: the last retained number acknowledged, and the last one sent.
    retained: BTreeMap<usize, (u64, u64)>,
    /// Longest time from PUBLISH to PUBACK, if there is one that may not be exceeded, ns.
    pub patience: Option<u64>,
    /// Messages of the group.
    pub shared: Shared,
    /// Last wills.
    pub wills: Wills,
    /// The cloud behind its bridge.
    pub uplink: Uplink,
    /// Messages may be dropped, and counted: one that is sent again then comes late.
    pub lossy: bool,
    /// Messages that may be missing at the end, because somebody counted them as dropped.
    pub dropped: u64,
    /// Messages taken for the first time.
    pub received: u64,
    /// Messages taken again, as QoS 1 allows.
    pub repeated: u64,
    /// Messages acknowledged to their publishers.
    pub acknowledged: u64,
}

impl Oracle {
    /// A client that may subscribe.
    pub fn subscriber(&mut self, client: usize, durable: bool, qos: u8) {
        self.subscribers.insert(client, Subscriber { durable, qos, ..Subscriber::default() });
    }

    /// A message leaves its publisher, for the first time or again.
    pub fn sent(&mut self, now: u64, name: Name) {
        self.published.entry(name).or_insert(Published { sent_at: now, acknowledged_at: None });
    }

    /// A publisher is told that its message is safe.
    ///
    /// # Errors
    /// It is not.
    pub fn acknowledged(&mut self, now: u64, name: Name) -> Verdict {
        self.uplink.acknowledged(name)?;
        if let Some(published) = self.published.get_mut(&name) {
            self.acknowledged += u64::from(published.acknowledged_at.is_none());
            published.acknowledged_at.get_or_insert(now);
            let took = now - published.sent_at;
            if self.patience.is_some_and(|patience| took > patience) {
                return Err(format!("{name:?} was acknowledged after {} ms", took / 1_000_000));
            }
        }
        Ok(())
    }

    /// A retained message is sent.
    pub fn retained_sent(&mut self, publisher: usize, number: u64) {
        let entry = self.retained.entry(publisher).or_default();
        entry.1 = entry.1.max(number);
    }

    /// A retained message is acknowledged.
    pub fn retained_acknowledged(&mut self, publisher: usize, number: u64) {
        let entry = self.retained.entry(publisher).or_default();
        entry.0 = entry.0.max(number);
    }

    /// The last retained number of a publisher that was acknowledged.
    #[must_use]
    pub fn retained_since(&self) -> BTreeMap<usize, u64> {
        self.retained.iter().map(|(publisher, (acknowledged, _))| (*publisher, *acknowledged)).collect()
    }

    /// Whether such a retained message exists.
    ///
    /// # Errors
    /// Nobody sent it.
    pub fn retained_taken(&self, publisher: usize, number: u64) -> Verdict {
        match self.retained.get(&publisher) {
            Some((_, sent)) if number <= *sent => Ok(()),
            _ => Err(format!("retained message {number} of {publisher} was never published")),
        }
    }

    /// SUBSCRIBE leaves.
    pub fn asks(&mut self, now: u64, client: usize) {
        if let Some(subscriber) = self.subscribers.get_mut(&client) {
            subscriber.wish = Wish { asked: Some(now), ..subscriber.wish };
            subscriber.wish.ended = None;
        }
    }

    /// SUBACK came.
    pub fn subscribed(&mut self, now: u64, client: usize) {
        if let Some(subscriber) = self.subscribers.get_mut(&client) {
            subscriber.wish.since.get_or_insert(now);
        }
    }

    /// Whether SUBACK came and nothing ended the subscription.
    #[must_use]
    pub fn is_subscribed(&self, client: usize) -> bool {
        self.subscribers.get(&client).is_some_and(|subscriber| subscriber.wish.since.is_some())
    }

    /// UNSUBSCRIBE leaves: what was acknowledged before it is owed.
    pub fn leaves(&mut self, client: usize) {
        let owed = self.owed(client);
        if let Some(subscriber) = self.subscribers.get_mut(&client) {
            subscriber.owed.extend(owed);
            subscriber.wish.since = None;
        }
    }

    /// UNSUBACK came.
    pub fn left(&mut self, now: u64, client: usize) {
        if let Some(subscriber) = self.subscribers.get_mut(&client) {
            subscriber.wish = Wish { ended: Some(now), ..Wish::default() };
        }
    }

    /// The session of a volatile client is gone with its connection.
    pub fn forgets(&mut self, client: usize) {
        if let Some(subscriber) = self.subscribers.get_mut(&client) {
            let Subscriber { durable, qos, .. } = *subscriber;
            *subscriber = Subscriber { durable, qos, ..Subscriber::default() };
        }
    }

    fn owed(&self, client: usize) -> Vec<Name> {
        let Some(subscriber) = self.subscribers.get(&client).filter(|subscriber| subscriber.durable) else {
            return Vec::new();
        };
        let Some(since) = subscriber.wish.since else { return Vec::new() };
        let owed = self.published.iter().filter(|(name, published)| {
            published.sent_at > since
                && published.acknowledged_at.is_some()
                && !subscriber.taken.contains_key(*name)
        });
        owed.map(|(name, _)| *name).collect()
    }

    /// A subscriber takes a message; repetitions of a QoS 2 delivery under one identifier are not told.
    ///
    /// # Errors
    /// It must not come, or not now.
    pub fn taken(&mut self, client: usize, name: Name, qos: u8) -> Verdict {
        let Some(published) = self.published.get(&name) else {
            return Err(format!("{client} takes {name:?}, which nobody published"));
        };
        let Some(subscriber) = self.subscribers.get_mut(&client) else {
            return Err(format!("{client} takes {name:?} and never subscribed"));
        };
        if qos != subscriber.qos.min(name.1) {
            return Err(format!(
                "{client} takes {name:?} with QoS {qos} and subscribed with {}",
                subscriber.qos
            ));
        }
        let Wish { asked, ended, .. } = subscriber.wish;
        if asked.is_none() && ended.is_none_or(|ended| published.sent_at > ended) {
            return Err(format!("{client} takes {name:?}, published after it had unsubscribed"));
        }
        let times = subscriber.taken.entry(name).or_default();
        *times += 1;
        if *times > 1 {
            self.repeated += 1;
            if qos == 2 {
                return Err(format!("{client} takes {name:?} twice"));
            }
            return Ok(());
        }
        self.received += 1;
        // A message that was on its way when the subscription began may reach it at a second attempt only, after later ones.
        if subscriber.wish.since.is_none_or(|since| published.sent_at <= since) {
            return Ok(());
        }
        let highest = subscriber.highest.entry((name.0, name.1)).or_default();
        if name.2 < *highest && !self.lossy {
            return Err(format!("{client} takes {name:?} for the first time after number {highest}"));
        }
        *highest = name.2.max(*highest);
        Ok(())
    }

    /// When everything is quiet: nobody is owed anything that nobody counted.
    ///
    /// # Errors
    /// Something was lost.
    pub fn quiet(&self, now: u64) -> Verdict {
        for (name, published) in &self.published {
            if published.acknowledged_at.is_none() {
                return Err(format!("{name:?} was never acknowledged"));
            }
        }
        let mut missing = Vec::new();
        for (client, subscriber) in &self.subscribers {
            let mut owed = self.owed(*client);
            owed.extend(subscriber.owed.iter().filter(|name| !subscriber.taken.contains_key(*name)));
            missing.extend(owed.iter().map(|name| format!("{client} was never given {name:?}")));
        }
        missing
            .extend(self.shared.owed().iter().map(|name| format!("nobody of the group was given {name:?}")));
        let wills = self.wills.owed(now);
        missing.extend(
            wills.iter().map(|(who, conn)| format!("the will of connection {conn} of {who} is not heard")),
        );
        match missing.first() {
            Some(first) if missing.len() as u64 > self.dropped => Err(format!(
                "{first}, {} in all, and {} were counted as dropped",
                missing.len(),
                self.dropped
            )),
            _ => Ok(()),
        }
    }
}

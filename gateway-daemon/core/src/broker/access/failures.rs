//! Failed log-ins: the more of them, the later each is told, and from [`LOCK_AFTER`] on nothing is compared for a while.
//!
//! ```text
//! wrong password --> Failures::failed(now, peer, user) --> Penalty { wait, lock }
//!                      the refusal goes out after `wait`; `lock`: who is refused from here on without a comparison, and for how long
//! ```
//! What counts is an address, or a user at an address; never a user everywhere, so that nobody can be locked out or delayed by guesses that somebody else
//! makes elsewhere. An address where somebody has logged in (several machines behind one router, say) is locked out as a whole only after
//! [`LOCK_TRUSTED_AFTER`], of which one is forgotten each minute, so that one machine with a wrong password does not shut out its neighbours.
//!
//! Bounds: [`FAILURES_MAX`] addresses, users at addresses, and successes. When full, the one that was seen longest ago is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Peer;
use crate::tag::BootNs;

/// Most addresses, most users at addresses and most successes that are remembered: some hundred bytes each.
pub const FAILURES_MAX: usize = 512;

/// What is kept of a name that somebody claims to have, bytes: it may be 65,535 long.
const NAME_BYTES_MAX: usize = 64;

/// The refusal of the first failures comes at once: people mistype.
const FREE: u32 = 2;

/// Pause before the first refusal that is slowed down; doubles with each.
const WAIT_MIN: Duration = Duration::from_millis(500);

/// Longest pause before a refusal. The connection counts against the limits of connections meanwhile.
pub const WAIT_MAX: Duration = Duration::from_secs(16);

/// Failures after which an address, or a user at an address, is locked out: more than a person mistypes.
pub const LOCK_AFTER: u32 = 10;

/// Failures after which an address is locked out where somebody has logged in.
pub const LOCK_TRUSTED_AFTER: u32 = 100;

/// How long the first lock-out takes; the next one, after one more failure, takes twice as long.
pub const LOCK_MIN: Duration = Duration::from_secs(300);

/// Longest lock-out.
pub const LOCK_MAX: Duration = Duration::from_secs(3600);

/// A failure is forgotten after this long without another one, longer than any lock-out.
const FORGET: Duration = Duration::from_secs(2 * 3600);

/// How long it takes until one failure of a trusted address is forgotten.
const LEAK: Duration = Duration::from_secs(60);

/// What follows from a failed log-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Penalty {
    /// How long the refusal is held back, zero to [`WAIT_MAX`].
    pub wait: Duration,
    /// A lock-out that begins.
    pub lock: Option<Lock>,
}

/// A lock-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The address.
    pub peer: Peer,
    /// The user there; `None` is the whole address.
    pub user: Option<Box<str>>,
    /// How long it takes.
    pub time: Duration,
    /// Failures that led to it.
    pub failures: u32,
}

/// An address, or a user there.
type Key = (Peer, Option<Box<str>>);

/// Failed log-ins, and successes.
#[derive(Debug, Default)]
pub struct Failures {
    entries: BTreeMap<Key, Entry>,
    locks: BTreeSet<(BootNs, Key)>,
    /// Who has logged in from where, and when it was last.
    trusted: BTreeMap<Key, BootNs>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    count: u32,
    last: BootNs,
    locked_until: Option<BootNs>,
    /// How many lock-outs there were.
    locks: u32,
}

impl Failures {
    /// Whether a log-in is refused without a comparison.
    #[must_use]
    pub fn is_locked(&self, now: BootNs, peer: &Peer, user: &str) -> bool {
        let is_locked = |key: &Key| {
            self.entries.get(key).and_then(|entry| entry.locked_until).is_some_and(|until| until > now)
        };
        is_locked(&(peer.clone(), None)) || is_locked(&key(peer, user))
    }

    /// Whether this user has logged in from this address.
    #[must_use]
    pub fn is_trusted(&self, peer: &Peer, user: &str) -> bool {
        self.trusted.contains_key(&key(peer, user))
    }

    /// Takes note of a wrong password: where it came from, and as whom.
    pub fn failed(&mut self, now: BootNs, peer: &Peer, user: &str) -> Penalty {
        let trusted =
            self.trusted.range((peer.clone(), None)..).next().is_some_and(|(key, _)| key.0 == *peer);
        let whole = (peer.clone(), None);
        let (one, all) = (self.count(now, key(peer, user), false), self.count(now, whole.clone(), trusted));
        let (slow, limit) = if trusted { (one, LOCK_TRUSTED_AFTER) } else { (one.max(all), LOCK_AFTER) };
        let lock = if all >= limit {
            self.lock(now, whole)
        } else if one >= LOCK_AFTER {
            self.lock(now, key(peer, user))
        } else {
            None
        };
        Penalty { wait: wait(slow), lock }
    }

    /// Takes note of a right password: failures of this user at this address are forgotten.
    pub fn succeeded(&mut self, now: BootNs, peer: &Peer, user: &str) {
        let key = key(peer, user);
        if let Some(entry) = self.entries.remove(&key) {
            if let Some(until) = entry.locked_until {
                self.locks.remove(&(until, key.clone()));
            }
            if let Some(all) = self.entries.get_mut(&(peer.clone(), None)) {
                all.count = all.count.saturating_sub(entry.count);
            }
        }
        if self.trusted.len() >= FAILURES_MAX && !self.trusted.contains_key(&key) {
            let oldest = self.trusted.iter().min_by_key(|(_, last)| **last).map(|(key, _)| key.clone());
            oldest.map(|oldest| self.trusted.remove(&oldest));
        }
        self.trusted.insert(key, now);
    }

    /// When a lock-out ends.
    #[must_use]
    pub fn timeout(&self) -> Option<BootNs> {
        self.locks.first().map(|(until, _)| *until)
    }

    /// A lock-out that has ended; to be asked until there is none.
    pub fn expire(&mut self, now: BootNs) -> Option<Lock> {
        if self.locks.first()?.0 > now {
            return None;
        }
        let (_, key) = self.locks.pop_first()?;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.locked_until = None;
        }
        let (peer, user) = key;
        Some(Lock { peer, user, time: Duration::ZERO, failures: 0 })
    }

    /// Ends all lock-outs, because users have changed: whoever was locked out may have been given the right password.
    pub fn forgive(&mut self) {
        self.entries.clear();
        self.locks = std::mem::take(&mut self.locks).into_iter().map(|(_, key)| (BootNs(0), key)).collect();
    }

    /// How many are locked out.
    #[must_use]
    pub fn locked(&self) -> usize {
        self.locks.len()
    }

    /// How many addresses and users at addresses are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One more failure; gives how many there are.
    fn count(&mut self, now: BootNs, key: Key, leaks: bool) -> u32 {
        if self.entries.len() >= 2 * FAILURES_MAX && !self.entries.contains_key(&key) {
            self.make_room();
        }
        let fresh = Entry { count: 0, last: now, locked_until: None, locks: 0 };
        let entry = self.entries.entry(key).or_insert(fresh);
        let since = now.since(entry.last);
        if since >= FORGET {
            *entry = Entry { locked_until: entry.locked_until, ..fresh };
        } else if leaks {
            let leaked = u32::try_from(since.as_secs() / LEAK.as_secs()).unwrap_or(u32::MAX);
            entry.count = entry.count.saturating_sub(leaked);
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        entry.count
    }

    fn make_room(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last);
        let Some((key, until)) = oldest.map(|(key, entry)| (key.clone(), entry.locked_until)) else { return };
        self.entries.remove(&key);
        if let Some(until) = until {
            // It is told that it is over, because it is.
            self.locks.remove(&(until, key.clone()));
            self.locks.insert((BootNs(0), key));
        }
    }

    fn lock(&mut self, now: BootNs, key: Key) -> Option<Lock> {
        let entry = self.entries.get_mut(&key)?;
        if entry.locked_until.is_some() {
            // A comparison that was under way when it began.
            return None;
        }
        let time = LOCK_MIN.saturating_mul(1 << entry.locks.min(8)).min(LOCK_MAX);
        entry.locks = entry.locks.saturating_add(1);
        let (until, failures) = (now.plus(time), entry.count);
        entry.locked_until = Some(until);
        self.locks.insert((until, key.clone()));
        let (peer, user) = key;
        Some(Lock { peer, user, time, failures })
    }
}

fn key(peer: &Peer, user: &str) -> Key {
    (peer.clone(), Some(user[..user.floor_char_boundary(NAME_BYTES_MAX)].into()))
}

fn wait(count: u32) -> Duration {
    match count.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => WAIT_MIN.saturating_mul(1 << doublings.min(16)).min(WAIT_MAX),
    }
}

#[cfg(test)]
mod tests;

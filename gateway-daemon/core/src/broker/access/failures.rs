//! Failed log-ins: the more of them, the later each is told, and few lines in the log.
//!
//! ```text
//! wrong password --> Failures::note(now, peer, user) --> Penalty { wait, log }
//!                      the refusal goes out after `wait`; with `log`, one line with the count since the last one
//! ```
//!
//! Whoever knows the password is never delayed, so that nobody can be locked out by somebody else's guesses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::tag::BootNs;

/// Most addresses, and most users, that are remembered. When full, the one whose last failure is longest ago is forgotten.
pub const FAILURES_MAX: usize = 256;

/// What is kept of a name that somebody claims to have, bytes: it may be 65,535 long.
const NAME_BYTES_MAX: usize = 64;

/// The refusal of the first failures comes at once: people mistype.
const FREE: u32 = 2;

/// Pause before the first refusal that is slowed down; doubles with each.
const WAIT_MIN: Duration = Duration::from_millis(500);

/// Longest pause before a refusal. The connection counts against the limit of connections meanwhile.
pub const WAIT_MAX: Duration = Duration::from_secs(16);

/// A failure is forgotten after this long without another one.
const FORGET: Duration = Duration::from_secs(600);

/// At most one line about an address in this long.
pub const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// At most this many lines about all addresses in [`LOG_INTERVAL`]; what is beyond is in the count of a later line.
const LINES_MAX: u32 = 10;

/// What follows from a failed log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Penalty {
    /// How long the refusal is held back, zero to [`WAIT_MAX`].
    pub wait: Duration,
    /// Write a line: so many log-ins have failed since the last one, this one included.
    pub log: Option<u64>,
}

/// Failed log-ins by address and by user.
#[derive(Debug, Default)]
pub struct Failures {
    peers: Table<Peer>,
    users: Table<Box<str>>,
    /// Failures that no line has told.
    untold: u64,
    lines: u32,
    lines_since: Option<BootNs>,
}

/// Where somebody comes from: one machine owns 64 bits of IPv6 addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::broker) enum Peer {
    Ip(IpAddr),
    Other(Box<str>),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    count: u32,
    last: BootNs,
    told: Option<BootNs>,
}

#[derive(Debug)]
struct Table<K>(BTreeMap<K, Entry>);

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl Failures {
    /// Takes note of a failed log-in: where it came from (an address with or without its port) and as whom, if it said so.
    pub fn note(&mut self, now: BootNs, peer: &str, user: Option<&str>) -> Penalty {
        self.untold = self.untold.saturating_add(1);
        let by_peer = self.peers.count(now, peer_of(peer));
        let by_user = user.map_or(0, |user| self.users.count(now, cut(user).into()).count);
        let wait = wait(by_peer.count.max(by_user));
        Penalty { wait, log: self.line(now, peer, &by_peer) }
    }

    /// How many addresses are remembered.
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.0.len()
    }

    fn line(&mut self, now: BootNs, peer: &str, entry: &Entry) -> Option<u64> {
        let over = |since: BootNs| now.since(since) >= LOG_INTERVAL;
        if entry.told.is_some_and(|told| !over(told)) {
            return None;
        }
        if self.lines_since.is_none_or(over) {
            (self.lines, self.lines_since) = (0, Some(now));
        }
        if self.lines >= LINES_MAX {
            return None;
        }
        self.lines += 1;
        if let Some(entry) = self.peers.0.get_mut(&peer_of(peer)) {
            entry.told = Some(now);
        }
        Some(std::mem::take(&mut self.untold))
    }
}

impl<K: Ord + Clone> Table<K> {
    /// One more failure of a key.
    fn count(&mut self, now: BootNs, key: K) -> Entry {
        if self.0.len() >= FAILURES_MAX && !self.0.contains_key(&key) {
            self.0.retain(|_, e| now.since(e.last) < FORGET);
        }
        if self.0.len() >= FAILURES_MAX && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, e)| e.last).map(|(k, _)| k.clone());
            oldest.map(|key| self.0.remove(&key));
        }
        let entry = self.0.entry(key).or_insert(Entry { count: 0, last: now, told: None });
        if now.since(entry.last) >= FORGET {
            entry.count = 0;
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        *entry
    }
}

fn wait(count: u32) -> Duration {
    match count.checked_sub(FREE + 1) {
        None => Duration::ZERO,
        Some(doublings) => WAIT_MIN.saturating_mul(1 << doublings.min(16)).min(WAIT_MAX),
    }
}

pub(in crate::broker) fn peer_of(text: &str) -> Peer {
    let ip = text.parse::<SocketAddr>().map(|a| a.ip()).or_else(|_| text.parse::<IpAddr>());
    match ip.map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V6(ip)) => Peer::Ip(IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)))),
        Ok(ip) => Peer::Ip(ip),
        Err(_) => Peer::Other(cut(text).into()),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(NAME_BYTES_MAX)]
}

//! What one connection has sent and not heard of: the window.

use std::collections::BTreeMap;
use std::time::Duration;

use super::link::Token;
use super::queue::Lane;
use super::row::Seq;
use super::share::Lanes;
use crate::tag::BootNs;

/// A message that others have overtaken is waited for this many times as long as the acknowledgement timeout.
const OVERTAKEN_TIMES: u32 = 3;

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cargo {
    Row(Seq, Lane),
    Birth,
    Ledger,
    Bulletin,
    Stopped,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    pub(super) cargo: Cargo,
    pub(super) sent: BootNs,
    /// Whether a PUBACK is due; QoS 0 is settled once it is written.
    pub(super) acked_by_cloud: bool,
}

/// Everything in flight on one connection. Tokens count from one on each connection.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_token: BTreeMap<u64, Flight>,
    last_token: u64,
    newest_acked: u64,
    progress: BootNs,
    lanes: Lanes,
    /// Tokens of the last ledger and stop message.
    ledger: Option<u64>,
    stopped: Option<u64>,
}

impl Flights {
    pub(super) fn lanes(&self) -> Lanes {
        self.lanes
    }

    pub(super) fn depart(&mut self, now: BootNs, cargo: Cargo, acked_by_cloud: bool) -> Token {
        self.last_token += 1;
        self.by_token.insert(self.last_token, Flight { cargo, sent: now, acked_by_cloud });
        match cargo {
            Cargo::Row(_, lane) => *self.lanes.of(lane) += 1,
            Cargo::Birth | Cargo::Bulletin => {}
            Cargo::Ledger => self.ledger = Some(self.last_token),
            Cargo::Stopped => self.stopped = Some(self.last_token),
        }
        Token(self.last_token)
    }

    /// An acknowledgement; `None` if nothing under way has this token.
    pub(super) fn arrive(&mut self, now: BootNs, token: Token) -> Option<Flight> {
        let flight = self.remove(token)?;
        self.progress = now;
        self.newest_acked = self.newest_acked.max(token.0);
        Some(flight)
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Flight> {
        let flight = self.by_token.remove(&token.0)?;
        if let Cargo::Row(_, lane) = flight.cargo {
            let count = self.lanes.of(lane);
            *count = count.saturating_sub(1);
        }
        Some(flight)
    }

    pub(super) fn holds_ledger(&self) -> bool {
        self.ledger.is_some_and(|token| self.by_token.contains_key(&token))
    }

    pub(super) fn holds_stopped(&self) -> bool {
        self.stopped.is_some_and(|token| self.by_token.contains_key(&token))
    }

    /// Everything in flight, oldest first.
    pub(super) fn cargos(&self) -> impl Iterator<Item = Cargo> {
        self.by_token.values().map(|flight| flight.cargo)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.by_token.len()
    }

    /// When the link counts as half-open: no acknowledgement at all for `timeout` while one is due, or the oldest one overtaken by later ones
    /// and missing for several timeouts.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<BootNs> {
        let (token, oldest) = self.by_token.iter().next()?;
        let silent = oldest.sent.max(self.progress).plus(timeout);
        let overtaken = *token < self.newest_acked;
        let stuck = overtaken.then(|| oldest.sent.plus(timeout.saturating_mul(OVERTAKEN_TIMES)));
        Some(stuck.map_or(silent, |stuck| stuck.min(silent)))
    }
}

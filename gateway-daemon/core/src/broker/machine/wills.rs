//! Room for last wills: of connected clients, and delayed ones.
//!
//! Bounds: [`wills_bytes_max`](crate::broker::Limits::wills_bytes_max) bytes of memory. One user has half of it at most, and so have the clients of one
//! address. The last eighth is for holders that have little: so nobody who comes with one small will is refused because somebody else has many. A holder is a
//! user, or an address for those without a user. After a restart addresses are not known: wills of an earlier run without a user count for each address as if
//! its clients had left them, apart from what is little.
//!
//! A will that takes no more than the one that its client had is always taken. The sum is made when somebody asks, of what is there: wills come and go in many
//! places, and no counter can drift away from them.

use super::Broker;
use crate::broker::ConnId;
use crate::broker::access::{Identity, Peer};
use crate::broker::packet::Testament;
use crate::broker::session::Session;

/// Of the total a holder has so much as little: 8 KiB of 2 MiB, some twenty small wills.
const LITTLE_PART: u64 = 256;

/// Of the total so much is for those that have little.
const RESERVE_PART: u64 = 8;

/// Bytes of wills, as one client that comes with one sees them.
#[derive(Debug, Default)]
struct Sums {
    all: u64,
    /// Of its user; nothing without one.
    user: u64,
    /// Of everybody from its address.
    address: u64,
    /// Of those without a user from its address.
    nobody: u64,
    /// Of those without a user of an earlier run.
    earlier: u64,
    /// Of the client itself, in no other sum.
    before: u64,
}

impl Broker {
    /// Whether there is room for the will of a connection that is to be let in.
    pub(super) fn will_fits(&self, will: &Testament, conn: ConnId, who: &Identity) -> bool {
        let max = self.settings.limits.wills_bytes_max as u64;
        let address = self.conns.get(&conn).map(|open| &open.peer);
        let (sums, cost) = (self.sums(who, address), will.cost());
        if cost <= sums.before {
            return true;
        }
        let fits = |sum: u64, max: u64| sum.saturating_add(cost) <= max;
        let holder = if who.user.is_some() { sums.user } else { sums.nobody };
        let little = fits(holder, max / LITTLE_PART);
        let unknown = if who.user.is_some() { 0 } else { sums.earlier };
        let ordinary = fits(sums.all, max - max / RESERVE_PART)
            && fits(sums.user, max / 2)
            && fits(sums.address.saturating_add(unknown), max / 2);
        fits(sums.all, max) && (little || ordinary)
    }

    /// Bytes of memory that wills cost.
    pub(super) fn wills_bytes(&self) -> u64 {
        self.wills().map(|(_, cost)| cost).sum()
    }

    fn sums(&self, who: &Identity, address: Option<&Peer>) -> Sums {
        let mut sums = Sums::default();
        for (session, cost) in self.wills() {
            if session.client == who.client {
                sums.before += cost;
                continue;
            }
            let here = address.is_some() && session.address.as_ref() == address;
            let add = |sum: &mut u64, counts: bool| *sum += if counts { cost } else { 0 };
            add(&mut sums.all, true);
            add(&mut sums.user, who.user.is_some() && session.user == who.user);
            add(&mut sums.address, here);
            add(&mut sums.nobody, here && session.user.is_none());
            add(&mut sums.earlier, session.user.is_none() && session.address.is_none());
        }
        sums
    }

    /// Each will's session and cost.
    fn wills(&self) -> impl Iterator<Item = (&Session, u64)> {
        self.sessions.values().flat_map(|session| {
            let open =
                session.conn.and_then(|conn| self.conns.get(&conn)).and_then(|open| open.will.as_deref());
            let delayed = session.will.as_ref().map(|(_, will)| &**will);
            open.into_iter().chain(delayed).map(move |will| (session, will.cost()))
        })
    }
}

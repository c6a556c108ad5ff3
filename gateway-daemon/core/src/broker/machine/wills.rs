//! Room for last wills: of connected clients, and delayed ones.
//!
//! Bounds: [`wills_bytes_max`](crate::broker::Limits::wills_bytes_max) bytes of memory, of which one user has half and clients without a user have half together: so
//! none of them keeps another client with a will out. Who is beyond is refused at CONNECT. The sum is made when somebody asks, of what is there: wills come
//! and go in many places, and no counter can drift away from them.

use std::sync::Arc;

use super::Broker;
use crate::broker::packet::Testament;

impl Broker {
    /// Whether there is room for a will of this user; the will that the client had before makes room.
    pub(super) fn will_fits(&self, will: &Testament, client: &str, user: Option<&Arc<str>>) -> bool {
        let max = self.settings.limits.wills_bytes_max as u64;
        let (mut all, mut own) = (will.cost(), will.cost());
        for (id, user_of_it, cost) in self.wills() {
            if id == client {
                continue;
            }
            all = all.saturating_add(cost);
            if user_of_it == user {
                own = own.saturating_add(cost);
            }
        }
        all <= max && own <= max / 2
    }

    /// Bytes of memory that wills cost.
    pub(super) fn wills_bytes(&self) -> u64 {
        self.wills().map(|(_, _, cost)| cost).sum()
    }

    /// Client id, user and cost of each will.
    fn wills(&self) -> impl Iterator<Item = (&str, Option<&Arc<str>>, u64)> {
        self.sessions.values().flat_map(|session| {
            let open =
                session.conn.and_then(|conn| self.conns.get(&conn)).and_then(|open| open.will.as_deref());
            let delayed = session.will.as_ref().map(|(_, will)| &**will);
            let wills = open.into_iter().chain(delayed);
            wills.map(|will| (&*session.client, session.user.as_ref(), will.cost()))
        })
    }
}

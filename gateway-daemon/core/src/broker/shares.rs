//! How many lasting sessions each user and each address has made, so that one cannot take the places of all others.
//!
//! A session counts for whoever made it as long as it lives, whoever resumes it. Sessions that end with their connections are bounded by the limits of
//! connections and do not count. After a restart stored sessions count for their users only: where they came from is not stored.
//!
//! Bounds: one entry for each session at most.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::access::Peer;

/// Who made a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Maker {
    /// `None` made it without a user name: those share no quota but that of their address.
    pub(super) user: Option<Arc<str>>,
    /// `None` of a session of an earlier run.
    pub(super) address: Option<Peer>,
}

/// Counts by user and by address.
#[derive(Debug, Default)]
pub(super) struct Shares {
    users: BTreeMap<Arc<str>, usize>,
    addresses: BTreeMap<Peer, usize>,
}

impl Shares {
    /// One more session.
    pub(super) fn add(&mut self, maker: &Maker) {
        if let Some(user) = &maker.user {
            *self.users.entry(Arc::clone(user)).or_default() += 1;
        }
        if let Some(address) = &maker.address {
            *self.addresses.entry(address.clone()).or_default() += 1;
        }
    }

    /// A session is gone.
    pub(super) fn take(&mut self, maker: &Maker) {
        maker.user.as_ref().inspect(|user| less(&mut self.users, *user));
        maker.address.as_ref().inspect(|address| less(&mut self.addresses, *address));
    }

    /// Sessions of a user.
    pub(super) fn of_user(&self, user: &str) -> usize {
        self.users.get(user).copied().unwrap_or_default()
    }

    /// Sessions of an address.
    pub(super) fn of_address(&self, address: &Peer) -> usize {
        self.addresses.get(address).copied().unwrap_or_default()
    }
}

fn less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_counted_until_it_is_taken_and_nothing_is_left() {
        let mut shares = Shares::default();
        let maker = |user: &str, address| Maker { user: Some(user.into()), address: Some(Peer::of(address)) };
        let all = [maker("ada", "10.0.0.1:4"), maker("ada", "10.0.0.2:4"), maker("bob", "10.0.0.1:5")];
        all.iter().for_each(|maker| shares.add(maker));
        assert_eq!((shares.of_user("ada"), shares.of_user("bob"), shares.of_user("eve")), (2, 1, 0));
        assert_eq!(shares.of_address(&Peer::of("10.0.0.1")), 2);
        all.iter().for_each(|maker| shares.take(maker));
        shares.take(&all[0]);
        assert!(shares.users.is_empty() && shares.addresses.is_empty());
    }
}

//! Who may come in, publish and subscribe.
//!
//! Who somebody is: a certificate's name is the user; without one, a user name with its password ([`Access::login`]); without either,
//! nobody, where the listener lets nobody in. What somebody may do: the rules of its client id, then of its user, then of everybody are
//! asked, in each of the three what is denied before what is allowed; the first that fits decides ([`Access::grants`]). What none
//! fits is refused as soon as one of them allows anything, and allowed otherwise. Two rules stand around all others: no client publishes below
//! `$SYS`, and everybody may read it unless a rule says otherwise.
//!
//! A client id is chosen by the client. Rules of a client id that allow more than the user's own need
//! [`Client::users`], or anybody who is let in can take them.
//!
//! Bounds: [`RULES_MAX`] rules of one table, [`grants::STEPS_MAX`] steps to decide a subscription (granted when anything of it is allowed; what is denied
//! is left out at delivery), [`failures::FAILURES_MAX`] remembered addresses, [`WAITING_PER_PEER_MAX`] log-ins of one address that wait,
//! [`HELLO_BYTES_TOTAL_MAX`] bytes of whoever is not let in. Never: compares a password itself, reads a clock, or keeps one.

pub mod failures;
mod grants;
mod login;
mod pace;
mod peer;
mod peers;
pub mod phc;
mod queue;
mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use failures::{Failures, Lock, Penalty};
pub use grants::{Grants, STEPS_MAX};
pub use login::{Claim, Login, PASSWORD_BYTES_MAX};
pub use pace::Pace;
pub use peer::Peer;
pub use peers::{HELLO_BYTES_PER_ADDRESS_MAX, HELLO_BYTES_TOTAL_MAX, Peers, Traffic};
pub use queue::{LoginQueue, Standing, WAITING_PER_PEER_MAX, Waiting};
pub use rule::{Deed, Rule, RuleError};

/// Most rules of one user, of one client id, or of everybody: each publish asks them in order.
pub const RULES_MAX: usize = 200;

/// A user. Its hash is in no `Debug` output: it is as good as a weak password.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Argon2 hash of the password in PHC format; `None` comes in by certificate only.
    pub hash: Option<Arc<str>>,
    /// Its rules, what is denied first.
    pub rules: Vec<Rule>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hash = self.hash.as_ref().map(|_| format_args!("***"));
        f.debug_struct("User").field("hash", &hash).field("rules", &self.rules).finish()
    }
}

/// A client id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Client {
    /// Who may use it; `None` is everybody who is let in.
    pub users: Option<Vec<Arc<str>>>,
    /// Its rules, what is denied first.
    pub rules: Vec<Rule>,
}

/// Users and rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// By name.
    pub users: BTreeMap<Arc<str>, User>,
    /// By client id.
    pub clients: BTreeMap<Arc<str>, Client>,
    /// Rules of everybody, what is denied first.
    pub everybody: Vec<Rule>,
}

/// Who a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The client id.
    pub client: Arc<str>,
    /// The user; `None` is anonymous.
    pub user: Option<Arc<str>>,
}

impl Access {
    /// What a connection may do, to be asked for once when it is let in: the rules with its names filled in.
    #[must_use]
    pub fn grants(&self, who: &Identity) -> Grants {
        let client = self.clients.get(&who.client).map_or(&[][..], |c| &c.rules);
        let user = who.user.as_ref().and_then(|u| self.users.get(u)).map_or(&[][..], |u| &u.rules);
        Grants::new(client.iter().chain(user).chain(&self.everybody), who)
    }

    /// Whether `users` of a client id names both: its session belongs to both then.
    #[must_use]
    pub fn is_shared(&self, client: &str, one: &str, other: &str) -> bool {
        let users = self.clients.get(client).and_then(|c| c.users.as_ref());
        let names = |user: &str| users.is_some_and(|users| users.iter().any(|u| **u == *user));
        names(one) && names(other)
    }

    /// Whether a user (`None` is anonymous) may use a client id.
    #[must_use]
    pub fn may_use(&self, client: &str, user: Option<&str>) -> bool {
        match self.clients.get(client).and_then(|c| c.users.as_ref()) {
            None => true,
            Some(users) => user.is_some_and(|user| users.iter().any(|u| **u == *user)),
        }
    }
}

#[cfg(test)]
mod tests;

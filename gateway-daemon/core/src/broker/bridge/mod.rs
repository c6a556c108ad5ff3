//! Rules of a bridge: which topics pass, and what their messages are on the other side.
//!
//! The same rules serve both ways: up, from local topics to those of the cloud, and down. The first rule that takes a topic decides, so a topic
//! passes at most once and special rules stand before general ones. Topics are mapped by whole levels at their beginning, and a rule
//! whose topics could not be mapped is refused when it is made; what is left to be refused per message ([`Way::Illegal`]) is a topic that
//! gets too long or too deep, loses everything, or would become one of the server's own (`$...`) by losing its beginning.
//!
//! Pure and without state; [`loops`] finds rules that would send messages around in circles. Bounds: [`RULES_MAX`] rules of one direction.

pub mod down;
pub mod echo;
pub mod loops;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::topic::{TopicError, TopicFilter, TopicName, is_reserved};
use crate::payload::Draft;
use crate::uplink::row::{Priority, Qos};
use crate::uplink::settings::{RULES_MAX, Retain, Rule};

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// The filter is none.
    #[error("{0}")]
    Filter(TopicError),
    /// What is stripped cannot be the beginning of a topic.
    #[error("`strip`: {0}")]
    Strip(TopicError),
    /// What is added cannot be the beginning of a topic.
    #[error("`add`: {0}")]
    Add(TopicError),
    /// Some topics do not begin with what is stripped.
    #[error(
        "the filter \"{filter}\" takes topics that do not begin with `strip` = \"{strip}\": begin the filter with it"
    )]
    Elsewhere {
        /// The filter.
        filter: TopicFilter,
        /// What was to be stripped.
        strip: Arc<str>,
    },
    /// Nothing is left of the only topic.
    #[error("nothing is left of \"{0}\" when `strip` is taken off: set `add`")]
    Nothing(TopicFilter),
    /// The server's own topics are nobody else's.
    #[error(
        "`add` begins with \"$SYS\", which is for the figures of the broker itself: use another beginning"
    )]
    System,
    /// Too many rules.
    #[error("more than {RULES_MAX} rules")]
    TooMany,
}

/// A rule, checked. See [`Rule`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeRule {
    filter: TopicFilter,
    qos_max: Qos,
    /// Ends with a slash, or is empty.
    strip: Arc<str>,
    /// Ends with a slash, or is empty.
    add: Arc<str>,
    retain: Retain,
    priority: Option<Priority>,
    /// A topic that begins with `$` on the other side is meant.
    reserved: bool,
}

/// Rules of one direction, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeRules(Vec<BridgeRule>);

/// Where a topic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way<'a> {
    /// No rule takes it.
    Closed,
    /// The first rule that takes it makes something of it that is no topic.
    Illegal,
    /// It passes.
    Open {
        /// The rule.
        rule: &'a BridgeRule,
        /// The topic on the other side.
        topic: TopicName,
    },
}

impl BridgeRule {
    /// Checks a rule.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence that names the key.
    pub fn new(rule: &Rule) -> Result<Self, RuleFault> {
        let filter = TopicFilter::new(Arc::clone(&rule.filter)).map_err(RuleFault::Filter)?;
        let strip = beginning(&rule.strip).map_err(RuleFault::Strip)?;
        let add = beginning(&rule.add).map_err(RuleFault::Add)?;
        if add.split('/').next() == Some("$SYS") {
            return Err(RuleFault::System);
        }
        let (fits, left) = match without(&filter, &strip) {
            Some(rest) => (true, rest.len() > 1 || !rest.concat().is_empty()),
            None => (false, false),
        };
        if !fits {
            return Err(RuleFault::Elsewhere { filter, strip });
        }
        if add.is_empty() && !left {
            return Err(RuleFault::Nothing(filter));
        }
        let reserved = is_reserved(&add) || (strip.is_empty() && is_reserved(filter.as_str()));
        let Rule { qos_max, retain, priority, .. } = *rule;
        Ok(Self { filter, qos_max, strip, add, retain, priority, reserved })
    }

    /// What it takes.
    #[must_use]
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }

    /// Most QoS on the other side.
    #[must_use]
    pub fn qos_max(&self) -> Qos {
        self.qos_max
    }

    /// The retain flag on the other side.
    #[must_use]
    pub fn retain(&self, flag: bool) -> bool {
        flag && self.retain == Retain::Keep
    }

    /// A topic on the other side; `None` if it would be none. Only for topics that the filter takes.
    #[must_use]
    pub fn map(&self, topic: &TopicName) -> Option<TopicName> {
        if self.strip.is_empty() && self.add.is_empty() {
            return Some(topic.clone());
        }
        let text = match topic.as_str().strip_prefix(&*self.strip) {
            Some(rest) => [&*self.add, rest].concat(),
            // The parent that `a/#` includes.
            None => bare(&self.add).to_owned(),
        };
        TopicName::new(text).ok().filter(|name| self.reserved || !is_reserved(name.as_str()))
    }

    /// What its topics are on the other side.
    #[must_use]
    pub fn image(&self) -> Option<TopicFilter> {
        let rest = without(&self.filter, &self.strip)?;
        let text =
            if rest.is_empty() { bare(&self.add).to_owned() } else { [&*self.add, &rest.join("/")].concat() };
        TopicFilter::new(text).ok()
    }
}

impl BridgeRules {
    /// Checks rules.
    ///
    /// # Errors
    /// The index of the first bad rule and what is wrong with it.
    pub fn new(rules: &[Rule]) -> Result<Self, (usize, RuleFault)> {
        if rules.len() > RULES_MAX {
            return Err((RULES_MAX, RuleFault::TooMany));
        }
        let checked = rules.iter().enumerate();
        checked
            .map(|(index, rule)| BridgeRule::new(rule).map_err(|fault| (index, fault)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The rules.
    #[must_use]
    pub fn as_slice(&self) -> &[BridgeRule] {
        &self.0
    }

    /// What to subscribe to: each filter once, with the highest QoS that a rule with it allows.
    #[must_use]
    pub fn filters(&self) -> Vec<(TopicFilter, Qos)> {
        let mut filters: Vec<(TopicFilter, Qos)> = Vec::with_capacity(self.0.len());
        for rule in &self.0 {
            match filters.iter_mut().find(|(filter, _)| *filter == rule.filter) {
                Some((_, qos)) => *qos = rule.qos_max.max(*qos),
                None => filters.push((rule.filter.clone(), rule.qos_max)),
            }
        }
        filters
    }

    /// Where a topic goes: the first rule that takes it decides.
    #[must_use]
    pub fn way(&self, topic: &TopicName) -> Way<'_> {
        match self.0.iter().find(|rule| rule.filter.matches(topic)) {
            None => Way::Closed,
            Some(rule) => match rule.map(topic) {
                Some(topic) => Way::Open { rule, topic },
                None => Way::Illegal,
            },
        }
    }

    /// A message of this side as it goes into the queue of the other: `Ok(None)` if no rule takes it.
    ///
    /// # Errors
    /// The mapped topic would be none; the message cannot pass and is to be counted.
    pub fn pass(&self, topic: &TopicName, draft: &Draft, qos: Qos) -> Result<Option<(Qos, Draft)>, Unmapped> {
        match self.way(topic) {
            Way::Closed => Ok(None),
            Way::Illegal => Err(Unmapped),
            Way::Open { rule, topic } => {
                let draft = Draft {
                    topic: Arc::clone(topic.shared()),
                    priority: rule.priority.unwrap_or(draft.priority),
                    retain: rule.retain(draft.retain),
                    ..draft.clone()
                };
                Ok(Some((qos.min(rule.qos_max), draft)))
            }
        }
    }
}

/// A topic that no bridge can carry: see [`Way::Illegal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmapped;

/// The beginning of topics, with its slash.
fn beginning(text: &Arc<str>) -> Result<Arc<str>, TopicError> {
    if text.is_empty() {
        return Ok(Arc::clone(text));
    }
    let name = TopicName::new(Arc::clone(text))?;
    Ok(if text.ends_with('/') { Arc::clone(name.shared()) } else { format!("{name}/").into() })
}

/// The levels of a filter after those of a beginning; `None` if it does not begin so.
fn without<'a>(filter: &'a TopicFilter, strip: &str) -> Option<Vec<&'a str>> {
    let mut levels = filter.levels();
    let stripped = strip.is_empty() || bare(strip).split('/').all(|level| levels.next() == Some(level));
    stripped.then(|| levels.collect())
}

/// The same without its slash.
fn bare(beginning: &str) -> &str {
    beginning.strip_suffix('/').unwrap_or(beginning)
}

//! Rules that send messages around in circles.
//!
//! A message that came down from an uplink never goes up to it again, so one uplink alone cannot make a circle; it can hear its own messages
//! ([`Risk::Echo`]). Two uplinks to one server can: up by the first, down by the second, up by the first again ([`Risk::Circle`]).
//! Both are found by overlapping filters alone, so a finding says what may happen; servers that are connected to each other elsewhere are unknown here.

use super::{BridgeRule, BridgeRules};
use crate::broker::topic::{TopicFilter, is_reserved};

/// The rules of one uplink and where it leads.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// What goes up.
    pub up: &'a BridgeRules,
    /// What comes down.
    pub down: &'a BridgeRules,
    /// Host and port of its servers.
    pub servers: &'a [(&'a str, u16)],
}

/// What may happen, by indices of uplinks and of their rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Risk {
    /// What rule `up` sends comes back by rule `down` of the same uplink, once: local subscribers would get it twice if it were not recognised.
    Echo {
        /// The uplink.
        uplink: usize,
        /// Its rule up.
        up: usize,
        /// Its rule down.
        down: usize,
    },
    /// What rule `up` of the uplink `from` sends comes back by rule `down` of the uplink `to` and goes up again, without end.
    Circle {
        /// The uplink that sends.
        from: usize,
        /// Its rule up.
        up: usize,
        /// The uplink that hears.
        to: usize,
        /// Its rule down.
        down: usize,
    },
}

/// Whether some topic is taken by both filters.
#[must_use]
pub fn overlap(one: &TopicFilter, other: &TopicFilter) -> bool {
    let wild = |filter: &TopicFilter| filter.as_str().starts_with(['+', '#']);
    if (wild(one) && is_reserved(other.as_str())) || (wild(other) && is_reserved(one.as_str())) {
        return false;
    }
    let (mut ones, mut others) = (one.levels(), other.levels());
    loop {
        match (ones.next(), others.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// What may go wrong with these uplinks together.
#[must_use]
pub fn risks(sides: &[Side<'_>]) -> Vec<Risk> {
    let returns = returns(sides);
    let mut risks: Vec<Risk> = returns
        .iter()
        .filter(|step| step.from == step.to)
        .map(|step| Risk::Echo { uplink: step.from, up: step.up, down: step.down })
        .collect();
    for (index, step) in returns.iter().enumerate().filter(|(_, step)| step.from != step.to) {
        if comes_around(sides, &returns, index) {
            let Return { from, up, to, down } = *step;
            risks.push(Risk::Circle { from, up, to, down });
        }
    }
    risks
}

/// What one rule sends, another one hears.
#[derive(Debug, Clone, Copy)]
struct Return {
    from: usize,
    up: usize,
    to: usize,
    down: usize,
}

fn returns(sides: &[Side<'_>]) -> Vec<Return> {
    let mut returns = Vec::new();
    for (from, sender) in sides.iter().enumerate() {
        for (to, hearer) in sides.iter().enumerate() {
            let same = sender.servers.iter().any(|server| hearer.servers.contains(server));
            if !same && from != to {
                continue;
            }
            for (up, rule) in sender.up.as_slice().iter().enumerate() {
                let Some(image) = rule.image() else { continue };
                for (down, heard) in hearer.down.as_slice().iter().enumerate() {
                    if overlap(&image, heard.filter()) {
                        returns.push(Return { from, up, to, down });
                    }
                }
            }
        }
    }
    returns
}

/// Whether what is heard by a step is sent again until it passes the same step: each step once, so this ends.
fn comes_around(sides: &[Side<'_>], returns: &[Return], start: usize) -> bool {
    let mut seen = vec![false; returns.len()];
    let mut todo = vec![start];
    while let Some(index) = todo.pop() {
        let Some(step) = returns.get(index) else { continue };
        for (next, onward) in returns.iter().enumerate() {
            if onward.from == step.to || !goes_on(sides, *step, *onward) {
                continue;
            }
            if next == start {
                return true;
            }
            if !std::mem::replace(&mut seen[next], true) {
                todo.push(next);
            }
        }
    }
    false
}

fn goes_on(sides: &[Side<'_>], step: Return, onward: Return) -> bool {
    let rule = |rules: &BridgeRules, index: usize| rules.as_slice().get(index).cloned();
    let heard = sides.get(step.to).and_then(|side| rule(side.down, step.down));
    let sent = sides.get(onward.from).and_then(|side| rule(side.up, onward.up));
    let image = heard.as_ref().and_then(BridgeRule::image);
    image.zip(sent).is_some_and(|(image, sent)| overlap(&image, sent.filter()))
}

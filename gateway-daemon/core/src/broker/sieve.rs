//! What of the stored facts fits into memory, looked at one by one as the store reads them.
//!
//! An earlier version took more than this one: retained messages and wills with thousands of properties, any number of QoS 2 messages. A start over such a
//! database must not need more memory than the running broker may have, so what does not fit is left out while it is read and not afterwards.
//! It stays on disk, and is counted in [`LeftOut`]. Nothing is deleted by that; whatever takes the place of a fact later does so on disk as well.

use std::fmt;
use std::sync::Arc;

use super::change::{FactKey, FactKind};
use super::facts::{self, Damaged};
use super::retained;
use super::session::UNFINISHED_BYTES;
use super::settings::{Limits, RECEIVED_BYTES_MAX, RECOVERED_FILTERS_BYTES_MAX};
use crate::tag::BootId;

/// Most bytes of facts that cannot be understood whose content is kept.
const DAMAGED_BYTES_MAX: u64 = 1 << 20;

/// So many, and their bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Portion {
    /// How many.
    pub count: u64,
    /// Bytes of memory that they cost.
    pub bytes: u64,
}

impl Portion {
    fn add(&mut self, bytes: u64) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What is on disk and did not fit into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Retained messages: subscribers do not get them before a start with more room.
    pub retained: Portion,
    /// Last wills, of which the sessions are there.
    pub wills: Portion,
    /// QoS 2 messages that clients have not released; of each the identifier is there.
    pub received: Portion,
    /// Subscriptions of durable sessions.
    pub subscriptions: Portion,
}

impl LeftOut {
    /// Whether everything is there.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// How many of all kinds.
    #[must_use]
    pub fn count(&self) -> u64 {
        [self.retained, self.wills, self.received, self.subscriptions]
            .iter()
            .map(|portion| portion.count)
            .sum()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.retained, "retained messages"),
            (self.wills, "last wills"),
            (self.received, "QoS 2 messages without their release"),
            (self.subscriptions, "subscriptions"),
        ];
        let mut comma = "";
        for (Portion { count, bytes }, what) in all.iter().filter(|(portion, _)| portion.count > 0) {
            write!(f, "{comma}{count} {what} ({bytes} bytes of memory)")?;
            comma = ", ";
        }
        Ok(())
    }
}

/// Looks at facts one by one, in the order in which they were first stored.
#[derive(Debug, Clone)]
pub struct Sieve {
    retained_max: u64,
    retained_bytes_max: u64,
    wills_bytes_max: u64,
    retained: Portion,
    retained_plain_bytes: u64,
    wills: Portion,
    received: Portion,
    subscriptions: Portion,
    damaged: Portion,
    left_out: LeftOut,
}

impl Sieve {
    /// With the bounds that hold for what is received.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let (retained, wills, received, subscriptions, damaged, left_out) = Default::default();
        Self {
            retained_max: limits.retained_max as u64,
            retained_bytes_max: limits.retained_bytes_max as u64,
            wills_bytes_max: limits.wills_bytes_max as u64,
            retained,
            retained_plain_bytes: 0,
            wills,
            received,
            subscriptions,
            damaged,
            left_out,
        }
    }

    /// What is kept in memory of a fact: all of it, all but its message, or nothing.
    pub fn look(&mut self, fact: &FactKey, value: &[u8]) -> Option<Arc<[u8]>> {
        let kept = match fact.kind {
            FactKind::Retained => self.retained(value),
            FactKind::Session => self.session(value),
            FactKind::Received => self.received(value),
            FactKind::Subscription if *fact != facts::clock_key() => self.subscription(fact, value),
            FactKind::Subscription | FactKind::Released => Ok(Some(value.into())),
        };
        kept.unwrap_or_else(|Damaged| Some(self.damaged(value)))
    }

    /// It will be counted, and removed; without its content if there is much of it.
    fn damaged(&mut self, value: &[u8]) -> Arc<[u8]> {
        self.damaged.add(value.len() as u64);
        if self.damaged.bytes <= DAMAGED_BYTES_MAX { value.into() } else { Arc::default() }
    }

    /// What was left out.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    fn retained(&mut self, value: &[u8]) -> Result<Option<Arc<[u8]>>, Damaged> {
        let message = facts::read_retained(value, BootId(0))?;
        let (cost, plain) = (retained::cost(&message), retained::plain(&message));
        // See `Retained::recover`.
        let before = message.properties.is_none()
            && self.retained_plain_bytes.saturating_add(plain) <= self.retained_bytes_max;
        let fits = self.retained.count < self.retained_max
            && (before || self.retained.bytes.saturating_add(cost) <= self.retained_bytes_max);
        if fits {
            self.retained_plain_bytes = self.retained_plain_bytes.saturating_add(plain);
        }
        if fits { &mut self.retained } else { &mut self.left_out.retained }.add(cost);
        Ok(fits.then(|| value.into()))
    }

    fn session(&mut self, value: &[u8]) -> Result<Option<Arc<[u8]>>, Damaged> {
        let Some(will) = facts::read_session(value, BootId(0))?.will else { return Ok(Some(value.into())) };
        let cost = will.cost();
        if self.wills.bytes.saturating_add(cost) <= self.wills_bytes_max {
            self.wills.add(cost);
            return Ok(Some(value.into()));
        }
        self.left_out.wills.add(cost);
        facts::without_will(value).map(Some)
    }

    fn received(&mut self, value: &[u8]) -> Result<Option<Arc<[u8]>>, Damaged> {
        let facts::Received::Held(message) = facts::read_received(value, BootId(0))? else {
            return Ok(Some(value.into()));
        };
        let cost = message.cost() + UNFINISHED_BYTES;
        if self.received.bytes.saturating_add(cost) <= RECEIVED_BYTES_MAX {
            self.received.add(cost);
            return Ok(Some(value.into()));
        }
        self.left_out.received.add(cost);
        Ok(Some(facts::LEFT_OUT.into()))
    }

    fn subscription(&mut self, fact: &FactKey, value: &[u8]) -> Result<Option<Arc<[u8]>>, Damaged> {
        facts::read_subscription(value)?;
        let bytes = fact.key.len() as u64;
        let fits = self.subscriptions.bytes.saturating_add(bytes) <= RECOVERED_FILTERS_BYTES_MAX;
        if fits { &mut self.subscriptions } else { &mut self.left_out.subscriptions }.add(bytes);
        Ok(fits.then(|| value.into()))
    }
}

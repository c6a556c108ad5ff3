//! A turn: what it takes, and what becomes of it.

use super::dirty::{DirtyFact, DirtyQueue, Shared};
use super::{Journal, PAUSE_MAX, PAUSE_MIN, Progress, Slot, TURN_BYTES_MAX};
use crate::broker::change::{Change, FactKey, FactKind, QueueName, Turn};
use crate::broker::facts;
use crate::broker::mutant::Mutant;
use crate::tag::BootNs;
use crate::uplink::row::{Seq, StoreFault};

/// The turn that the store is at.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) number: u64,
    queues: Vec<(Slot, DirtyQueue)>,
    facts: Vec<(FactKey, DirtyFact)>,
    bytes: u64,
}

impl Journal {
    pub(super) fn build(&mut self, now: BootNs) -> Option<Turn> {
        let run = self.settings.run;
        let mut changes = Vec::new();
        let mut under_way = UnderWay { number: self.number + 1, queues: vec![], facts: vec![], bytes: 0 };
        let mut room = TURN_BYTES_MAX;
        let rows_left = self.take_rows(now, &mut under_way, &mut changes, &mut room);
        self.take_lazy(now, &mut room);
        under_way.facts.extend(std::mem::take(&mut self.facts));
        (self.urgent, self.fresh, self.tight_at) = (rows_left, false, None);
        if self.faults.has(Mutant::SplitReceived) {
            self.split_received(&mut under_way);
        }
        for (key, fact) in &under_way.facts {
            under_way.bytes += fact.size;
            changes.push(fact.write(key, run.boot));
        }
        self.rows_at = self.first_row();
        if changes.is_empty() {
            return None;
        }
        self.number = under_way.number;
        self.under_way = Some(under_way);
        Some(Turn { number: self.number, changes })
    }

    /// Takes deletes and drops, and rows that are due as far as there is room. Whether some of those are left: their queues are the first in the next
    /// turn.
    fn take_rows(
        &mut self,
        now: BootNs,
        under_way: &mut UnderWay,
        changes: &mut Vec<Change>,
        room: &mut u64,
    ) -> bool {
        let everything = self.flushing || self.is_full();
        let horizon = now.plus(self.settings.commit_interval / 2);
        let mut shared = Shared::default();
        let (mut left, mut listed) = (Vec::new(), Vec::new());
        for slot in std::mem::take(&mut self.dirty) {
            let state = &mut self.queues[slot.0 as usize];
            let ready = if everything { state.rows.len() } else { state.ready(now, horizon) };
            let count = state.fitting(ready, room);
            let taken = state.split(count);
            state.listed = !state.rows.is_empty();
            if count < ready {
                left.push(slot);
            } else if state.listed {
                listed.push(slot);
            }
            if !taken.is_empty() {
                taken.write(self.settings.run, &mut shared, changes);
                under_way.bytes += taken.size();
                under_way.queues.push((slot, taken));
            }
        }
        let any_left = !left.is_empty();
        left.append(&mut listed);
        self.dirty = left;
        any_left
    }

    /// Moves lazy facts that are due to those of this turn, as far as there is room.
    fn take_lazy(&mut self, now: BootNs, room: &mut u64) {
        let horizon = now.plus(self.settings.retained_interval / 2);
        let due = self.flushing || self.is_full() || self.lazy_at.is_some_and(|at| at <= horizon);
        if !due {
            return;
        }
        while *room > 0
            && let Some((key, fact)) = self.lazy.pop_first()
        {
            *room = room.saturating_sub(fact.size);
            self.facts.insert(key, fact);
        }
        self.lazy_at = (!self.lazy.is_empty()).then_some(now);
    }

    pub(super) fn done(&mut self, number: u64) {
        let Some(turn) = self.under_way.take_if(|turn| turn.number == number) else { return };
        self.done = number;
        (self.failures, self.fault) = (0, None);
        self.dirty_bytes -= turn.bytes;
        for (slot, taken) in turn.queues {
            self.safe.extend(taken.rows.iter().filter_map(|row| row.ticket));
            // Dropped meanwhile: what is durable is of a queue that is gone.
            let state = &self.queues[slot.0 as usize];
            if let Some(queue) = taken.name.filter(|_| state.open && !state.dropped) {
                let until = taken.rows.back().map(|row| row.seq);
                self.progress.push_back(Progress { queue, until });
            }
            self.retire(slot);
        }
        for (key, fact) in turn.facts {
            self.safe.extend(fact.tickets);
            if let Some(queue) = queue_of_session(&key)
                && self.names.contains_key(&queue)
            {
                self.progress.push_back(Progress { queue, until: None });
            }
        }
    }

    pub(super) fn failed(&mut self, now: BootNs, number: u64, fault: StoreFault) {
        let Some(turn) = self.under_way.take_if(|turn| turn.number == number) else { return };
        self.fault = Some(fault);
        if self.faults.has(Mutant::BelieveFailed) {
            self.under_way = Some(turn);
            return self.done(number);
        }
        if self.faults.has(Mutant::ForgetFailed) {
            self.dirty_bytes -= turn.bytes;
            return;
        }
        let pause = PAUSE_MIN.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = (self.failures + 1).min(16);
        self.paused_until = Some(now.plus(pause.min(PAUSE_MAX)));
        for (slot, taken) in turn.queues {
            let gone = self.queues[slot.0 as usize].join(taken);
            for row in gone {
                self.dirty_bytes -= row.size;
                self.safe.extend(row.ticket);
            }
            self.list(slot);
        }
        for (key, mut old) in turn.facts {
            if let Some(lazy) = self.lazy.remove(&key) {
                self.dirty_bytes -= old.size;
                old = DirtyFact { tickets: old.tickets, ..lazy };
            }
            match self.facts.get_mut(&key) {
                Some(young) => {
                    self.dirty_bytes -= old.size;
                    old.tickets.append(&mut young.tickets);
                    young.tickets = old.tickets;
                }
                None => {
                    self.facts.insert(key, old);
                }
            }
        }
        (self.urgent, self.fresh) = (true, true);
    }

    /// Whether a row is in the turn that the store is at.
    pub(super) fn is_under_way(&self, slot: Slot, seq: Seq) -> bool {
        let queues = self.under_way.iter().flat_map(|turn| &turn.queues);
        queues.filter(|(other, _)| *other == slot).any(|(_, taken)| taken.holds(seq))
    }

    /// Of a mutant: received identifiers wait for the next turn if this one has rows.
    fn split_received(&mut self, under_way: &mut UnderWay) {
        let has_rows = under_way.queues.iter().any(|(_, taken)| !taken.rows.is_empty());
        let keep = |key: &FactKey| has_rows && key.kind == FactKind::Received;
        let (kept, taken): (Vec<_>, Vec<_>) =
            std::mem::take(&mut under_way.facts).into_iter().partition(|(key, _)| keep(key));
        under_way.facts = taken;
        (self.urgent, self.fresh) = (!kept.is_empty(), !kept.is_empty());
        self.facts.extend(kept);
    }

    /// Gives the slot of a dropped queue free once nothing of it is dirty.
    fn retire(&mut self, slot: Slot) {
        let state = self.queue(slot);
        if state.open || state.listed {
            return;
        }
        if let Some(name) = state.name.take() {
            self.names.remove(&name);
            self.free.push(slot);
        }
    }
}

/// The queue of the session that a fact is about.
fn queue_of_session(key: &FactKey) -> Option<QueueName> {
    let client = std::str::from_utf8(&key.key).ok().filter(|_| key.kind == FactKind::Session)?;
    Some(facts::queue_name(client))
}

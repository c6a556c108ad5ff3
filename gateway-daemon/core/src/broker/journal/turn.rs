//! A turn: what it takes, and what becomes of it.

use super::dirty::{DirtyFact, DirtyQueue};
use super::{Journal, PAUSE_MAX, PAUSE_MIN, Progress, Slot};
use crate::broker::change::{FactKey, Turn};
use crate::tag::BootNs;
use crate::uplink::row::StoreFault;

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
        let horizon = now.plus(self.settings.commit_interval / 2);
        let mut changes = Vec::new();
        let mut under_way = UnderWay { number: self.number + 1, queues: vec![], facts: vec![], bytes: 0 };
        for slot in std::mem::take(&mut self.dirty) {
            let state = &mut self.queues[slot.0 as usize];
            let all = state.urgent || self.flushing || state.due().is_some_and(|due| due <= horizon);
            let taken = state.split(all);
            state.listed = !state.rows.is_empty();
            if state.listed {
                self.dirty.push(slot);
            }
            if !taken.is_empty() {
                taken.write(run, &mut changes);
                under_way.bytes += taken.size();
                under_way.queues.push((slot, taken));
            }
        }
        let lazy_horizon = now.plus(self.settings.retained_interval / 2);
        if self.flushing || self.lazy_at.is_some_and(|at| at <= lazy_horizon) {
            self.lazy_at = None;
            self.facts.append(&mut self.lazy);
        }
        under_way.facts.extend(std::mem::take(&mut self.facts));
        for (key, fact) in &under_way.facts {
            under_way.bytes += fact.size;
            changes.push(fact.write(key, run.boot));
        }
        (self.urgent, self.fresh, self.tight_at) = (false, false, None);
        self.rows_at = self.first_row();
        if changes.is_empty() {
            return None;
        }
        self.number = under_way.number;
        self.under_way = Some(under_way);
        Some(Turn { number: self.number, changes })
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
        for (_, fact) in turn.facts {
            self.safe.extend(fact.tickets);
        }
    }

    pub(super) fn failed(&mut self, now: BootNs, number: u64, fault: StoreFault) {
        let Some(turn) = self.under_way.take_if(|turn| turn.number == number) else { return };
        self.fault = Some(fault);
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

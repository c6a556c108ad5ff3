//! The store: one op after the other, late, failing, or replaced by another database.

use gateway_core::broker::{Answer, Change, Read, Turn};
use gateway_core::uplink::row::StoreFault;

use super::{Event, MS, World};

#[derive(Debug)]
pub(super) enum Op {
    Turn(Turn),
    Read(Read),
}

impl Op {
    /// What is said of an op that was not done.
    fn failed(&self, fault: StoreFault) -> Answer {
        match self {
            Self::Turn(turn) => Answer::Failed { number: turn.number, fault },
            Self::Read(read) => Answer::Unread { number: read.number, fault },
        }
    }
}

impl World {
    pub(super) fn ask(&mut self, op: Op) {
        self.ops.push_back(op);
        if !std::mem::replace(&mut self.busy, true) {
            let delay = self.chance.around(self.disk_delay);
            self.after(delay, Event::Store { epoch: self.epoch });
        }
    }

    /// The store does what comes first; its answer takes a moment.
    pub(super) fn carry_out(&mut self) {
        let Some(op) = self.ops.pop_front() else { return };
        let fails = self.turns_fail && !self.chance.one_in(4);
        let answer = match &op {
            Op::Turn(turn) => {
                self.report.turns.0 += 1;
                self.report.turns.1 += u64::from(fails);
                if !fails || self.chance.one_in(3) {
                    self.write(turn);
                }
                if fails { op.failed(StoreFault::Io) } else { Answer::Done { number: turn.number } }
            }
            Op::Read(_) if fails => op.failed(StoreFault::Io),
            Op::Read(read) => self.disk.read(read),
        };
        // Answers keep their order: the next op begins when this answer is on its way.
        let delay = self.chance.around(2 * MS);
        self.answers.push_back(answer);
        self.after(delay, Event::Answer { epoch: self.epoch });
        self.busy = !self.ops.is_empty();
        if self.busy {
            let delay = delay + self.chance.around(self.disk_delay);
            self.after(delay, Event::Store { epoch: self.epoch });
        }
    }

    /// The next answer arrives.
    pub(super) fn answer(&mut self) {
        let now = self.boot_now();
        if let (Some(answer), Some(broker)) = (self.answers.pop_front(), &mut self.broker) {
            broker.handle_answer(now, answer);
        }
    }

    /// Another database takes the place of a damaged one, where messages may be lost perhaps without the rows of one queue: whatever was asked and not answered fails.
    pub(super) fn replace(&mut self) {
        let now = self.boot_now();
        let Some(broker) = &mut self.broker else { return };
        self.report.resets += 1;
        self.epoch += 1;
        self.busy = false;
        let fault = StoreFault::Corrupt;
        let under_way = std::mem::take(&mut self.answers).into_iter().map(|answer| match answer {
            Answer::Done { number } | Answer::Failed { number, .. } => Answer::Failed { number, fault },
            Answer::Rows { number, .. } | Answer::Unread { number, .. } => Answer::Unread { number, fault },
            other => other,
        });
        let asked = std::mem::take(&mut self.ops).into_iter().map(|op| op.failed(fault));
        for answer in under_way.chain(asked) {
            broker.handle_answer(now, answer);
        }
        if self.case.tight.is_some() && self.chance.one_in(2) {
            let damaged = self.disk.damage(usize::try_from(self.chance.of(0..=5)).unwrap_or(0));
            for client in &mut self.clients {
                client.robbed |=
                    damaged.as_ref().is_some_and(|queue| queue.ends_with(&format!("client-{}", client.me)));
            }
        }
        broker.handle_answer(now, Answer::Reset { found: self.disk.found() });
    }

    pub(super) fn write(&mut self, turn: &Turn) {
        let inserts = turn.changes.iter().filter(|change| matches!(change, Change::Insert { .. }));
        self.report.rows_written += inserts.count() as u64;
        self.disk.apply(turn);
    }
}

//! What is known about each row that was ever produced: a few bits, so that days of rows fit.

use gateway_core::tag::RunId;
use gateway_core::uplink::row::{Row, Seq};

/// The cloud has received it.
pub const RECEIVED: u16 = 1;
/// An acknowledgement of the connection on which it was sent was delivered to the gateway.
pub const ACKED: u16 = 2;
/// It was dropped by a policy, visibly.
pub const DROPPED: u16 = 4;
/// It was in memory when the gateway crashed.
pub const LOST: u16 = 8;
/// Its publisher was told that it is safe, or that it is dropped.
pub const TOLD: u16 = 16;
/// The link refused it.
pub const REFUSED: u16 = 32;
/// It was lost with the store's file.
pub const STORE_LOST: u16 = 64;
/// It is set aside: the cloud will not take it.
pub const ASIDE: u16 = 128;
/// The cloud ends the connection when it reads it.
pub const HOSTILE: u16 = 256;

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Fact {
    /// When it was produced, ns of the world.
    pub at: u64,
    /// What is known.
    pub bits: u16,
}

/// The rows of one run of the gateway.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    first: Seq,
    /// In the order of their seqs.
    pub facts: Vec<Fact>,
    /// Rows below this were all dealt with when it was last looked.
    pub low: usize,
}

/// All rows of all runs.
#[derive(Debug, Default)]
pub struct Facts {
    runs: Vec<Run>,
}

impl Facts {
    /// A run begins.
    pub fn begin(&mut self, id: RunId, first: Seq) {
        self.runs.push(Run { id, first, facts: Vec::new(), low: 0 });
    }

    /// The current run.
    #[must_use]
    pub fn current(&mut self) -> Option<&mut Run> {
        self.runs.last_mut()
    }

    /// What is known about a row of any run.
    pub fn of(&mut self, row: &Row) -> Option<&mut Fact> {
        self.of_run(row.run, row.seq)
    }

    /// What is known about a row of a run.
    pub fn of_run(&mut self, run: RunId, seq: Seq) -> Option<&mut Fact> {
        self.runs.iter_mut().rev().find(|known| known.id == run)?.get(seq)
    }

    /// Whether rows are set aside has been forgotten, but for those that are marked.
    pub fn forget_aside(&mut self, is_marked: impl Fn(Seq) -> bool) {
        for run in &mut self.runs {
            let first = run.first.0;
            for (seq, fact) in (first..).zip(&mut run.facts) {
                if fact.bits & ASIDE != 0 && !is_marked(Seq(seq)) {
                    fact.bits &= !ASIDE;
                }
            }
        }
    }

    /// Every run.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }
}

impl Run {
    /// The seq of a place.
    #[must_use]
    pub fn seq(&self, index: usize) -> Seq {
        Seq(self.first.0 + index as u64)
    }

    /// Which run it is.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.id
    }

    /// What is known about a seq.
    pub fn get(&mut self, seq: Seq) -> Option<&mut Fact> {
        let index = usize::try_from(seq.0.checked_sub(self.first.0)?).ok()?;
        self.facts.get_mut(index)
    }
}

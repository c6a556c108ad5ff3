//! What the store is asked to carry out, by queues and by the broker, and its answers.

use std::sync::Arc;

use gateway_core::broker::change::QUEUE_PREFIX;
use gateway_core::broker::{Answer, Change, FactKind, Read, Turn};
use gateway_core::uplink::row::{Body, QueueId, StoreEvent, StoreFault, StoreOp};

use super::ops;

/// An ask as it comes from outside.
#[derive(Debug)]
pub(super) enum Want {
    /// An op of an open queue.
    Op(QueueId, StoreOp),
    /// Changes of the broker.
    Turn(Turn),
    /// Rows for the broker.
    Read(Read),
}

impl Want {
    /// What is answered when nothing of it is done.
    pub(super) fn failed(&self, fault: StoreFault) -> Reply {
        match self {
            Self::Op(_, op) => Reply::Event(StoreEvent::Failed { op: ops::op_number(op), fault }),
            Self::Turn(turn) => Reply::Answer(Answer::Failed { number: turn.number, fault }),
            Self::Read(read) => Reply::Answer(Answer::Unread { number: read.number, fault }),
        }
    }
}

/// An ask whose queue has its name.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    /// An op of a queue.
    Op(Arc<str>, StoreOp),
    /// Changes of the broker.
    Turn(Turn),
    /// Rows for the broker.
    Read(Read),
}

impl Ask {
    /// Whether it may write.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Op(_, op) => ops::writes(op),
            Self::Turn(turn) => !turn.changes.is_empty(),
            Self::Read(_) => false,
        }
    }

    /// Whether its commit must reach the disk before it is answered. Losing the deletion of rows in a power cut only sends them twice, and
    /// a release that comes back to life is only told and answered once more. Everything else of a turn is waited for: an identifier of a
    /// received message that comes back to life would swallow the next message that bears it.
    pub(super) fn is_waited_for(&self) -> bool {
        match self {
            Self::Op(_, op) => ops::stores_rows(op),
            Self::Turn(turn) => turn.changes.iter().any(|change| match change {
                Change::Delete { .. } => false,
                Change::Remove { fact } => fact.kind != FactKind::Released,
                Change::Insert { .. } | Change::Drop { .. } | Change::Put { .. } => true,
            }),
            Self::Read(_) => false,
        }
    }

    /// Whether it stores something whose meaning may depend on the clock history.
    pub(super) fn stores(&self) -> bool {
        match self {
            Self::Op(_, op) => ops::stores_rows(op),
            Self::Turn(turn) => {
                turn.changes.iter().any(|change| matches!(change, Change::Insert { .. } | Change::Put { .. }))
            }
            Self::Read(_) => false,
        }
    }

    /// Whether it stores rows that may need schemas.
    pub(super) fn stores_records(&self) -> bool {
        let is_record = |change: &Change| matches!(change, Change::Insert { row, .. } if matches!(row.body, Body::Record(_)));
        match self {
            Self::Op(_, op) => ops::stores_rows(op),
            Self::Turn(turn) => turn.changes.iter().any(is_record),
            Self::Read(_) => false,
        }
    }

    /// The queues it may change.
    pub(super) fn changed_queues(&self) -> Vec<&Arc<str>> {
        match self {
            Self::Op(name, _) => vec![name],
            Self::Turn(turn) => {
                let mut names: Vec<_> = turn.changes.iter().filter_map(queue_of).collect();
                names.sort_unstable();
                names.dedup();
                names
            }
            Self::Read(_) => Vec::new(),
        }
    }

    /// What is answered when nothing of it is done.
    pub(super) fn failed(&self, fault: StoreFault) -> Reply {
        match self {
            Self::Op(_, op) => Reply::Event(StoreEvent::Failed { op: ops::op_number(op), fault }),
            Self::Turn(turn) => Reply::Answer(Answer::Failed { number: turn.number, fault }),
            Self::Read(read) => Reply::Answer(Answer::Unread { number: read.number, fault }),
        }
    }
}

/// An answer, by whom it is for.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// For a queue.
    Event(StoreEvent),
    /// For the broker.
    Answer(Answer),
}

/// Whether a queue belongs to a local session.
pub(super) fn is_local(name: &str) -> bool {
    name.starts_with(QUEUE_PREFIX)
}

fn queue_of(change: &Change) -> Option<&Arc<str>> {
    match change {
        Change::Insert { queue, .. } | Change::Delete { queue, .. } | Change::Drop { queue } => Some(queue),
        Change::Put { .. } | Change::Remove { .. } => None,
    }
}

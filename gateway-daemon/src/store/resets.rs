//! Word for the owners of queues that what was stored under them is another now.
//!
//! Until a reset has been taken, the ops of its owner fail: no answer about what was replaced can overtake it. At most one reset waits per open
//! queue, and one for the broker: a later one takes the place of the former.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway_core::broker::Found;
use gateway_core::uplink::row::{Mark, QueueId, Stored};
use tokio::sync::Notify;

/// What is stored in a queue, and which rows of it are set aside.
type Held = (Stored, Vec<Arc<Mark>>);

#[derive(Debug, Default)]
struct Waiting {
    queues: BTreeMap<QueueId, Held>,
    broker: Option<Found>,
}

/// Resets that wait to be taken. Put by the writer, taken by the owners of the queues and the broker: they contend for the lock, which is held for
/// one map operation at a time.
#[derive(Debug, Default)]
pub(super) struct Resets {
    waiting: Mutex<Waiting>,
    queue_waits: Notify,
    broker_waits: Notify,
}

impl Resets {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is stored in a queue was replaced.
    pub(super) fn put_queue(&self, queue: QueueId, held: Held) {
        self.waiting().queues.insert(queue, held);
    }

    /// What is stored for the broker was replaced.
    pub(super) fn put_broker(&self, found: Found) {
        self.waiting().broker = Some(found);
    }

    /// Whether the owner of a queue has yet to hear of a reset.
    pub(super) fn holds_queue(&self, queue: QueueId) -> bool {
        self.waiting().queues.contains_key(&queue)
    }

    /// Whether the broker has yet to hear of a reset.
    pub(super) fn holds_broker(&self) -> bool {
        self.waiting().broker.is_some()
    }

    /// The owner has just been told what is stored.
    pub(super) fn forget_queue(&self, queue: QueueId) {
        self.waiting().queues.remove(&queue);
    }

    /// The broker has just been told what is stored.
    pub(super) fn forget_broker(&self) {
        self.waiting().broker = None;
    }

    /// Wakes whoever waits: resets may have been put.
    pub(super) fn tell(&self) {
        self.queue_waits.notify_one();
        self.broker_waits.notify_one();
    }

    /// Takes the next reset of a queue. Cancel safe; for one caller at a time.
    pub(super) async fn next_queue(&self) -> (QueueId, Held) {
        loop {
            if let Some(reset) = self.waiting().queues.pop_first() {
                return reset;
            }
            self.queue_waits.notified().await;
        }
    }

    /// Takes the next reset of the broker. Cancel safe; for one caller at a time.
    pub(super) async fn next_broker(&self) -> Found {
        loop {
            if let Some(found) = self.waiting().broker.take() {
                return found;
            }
            self.broker_waits.notified().await;
        }
    }
}

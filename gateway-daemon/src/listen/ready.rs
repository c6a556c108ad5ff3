//! Which connections are worth looking at.
//!
//! Every connection has one waker that puts its number into one list and wakes whoever waits for the list: a thousand connections cost one
//! wake-up for all that are ready together, and none of them needs a task or a channel of its own.
//!
//! Bound: a connection stands in the list at most once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use gateway_core::broker::ConnId;

#[derive(Default)]
struct List {
    queue: VecDeque<ConnId>,
    waiter: Option<Waker>,
}

/// The list. Contended by the thread that learns of sockets' readiness, which adds a number, and the loop of the doors, which takes all.
#[derive(Clone, Default)]
pub(super) struct Ready(Arc<Mutex<List>>);

impl Ready {
    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to wake when a connection becomes ready.
    pub(super) fn wait(&self, waiter: &Waker) {
        let mut list = self.lock();
        match &mut list.waiter {
            Some(known) => known.clone_from(waiter),
            none => *none = Some(waiter.clone()),
        }
    }

    /// Moves what is in the list behind what is in `turn`.
    pub(super) fn take(&self, turn: &mut VecDeque<ConnId>) {
        turn.append(&mut self.lock().queue);
    }

    /// The place of a connection in the list, which is empty at first.
    pub(super) fn slot(&self, conn: ConnId) -> Arc<Slot> {
        Arc::new(Slot { conn, listed: AtomicBool::new(false), ready: self.clone() })
    }
}

/// The place of one connection.
pub(super) struct Slot {
    conn: ConnId,
    listed: AtomicBool,
    ready: Ready,
}

impl Slot {
    /// Marks it as listed by the caller; `false` if it is listed already.
    pub(super) fn claim(&self) -> bool {
        !self.listed.swap(true, Ordering::AcqRel)
    }

    /// To be called before the connection is looked at, so that what happens meanwhile lists it again.
    pub(super) fn clear(&self) {
        self.listed.store(false, Ordering::Release);
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.claim() {
            let waiter = {
                let mut list = self.ready.lock();
                list.queue.push_back(self.conn);
                list.waiter.take()
            };
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }
}

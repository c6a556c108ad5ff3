//! The broker at the store: what it finds, and what it hears when the database was replaced.

use gateway_core::broker::{Answer, Found, Sieve};
use gateway_core::uplink::row::StoreFault;
use std::sync::Arc;

use super::Engine;
use crate::store::ask::{Ask, Reply, is_local};

impl Engine {
    /// What is stored for the broker, as far as the sieve lets it through; nothing is written. From here on it hears of resets.
    pub(in crate::store) fn found(&mut self, sieve: Sieve) -> Found {
        let found = self.look(sieve.clone());
        self.opened.broker = Some(sieve);
        self.resets.forget_broker();
        found.unwrap_or(Found { blind: true, ..Found::default() })
    }

    /// What is stored is told to the broker before its next turn is carried out.
    pub(super) fn reset_broker(&mut self) {
        if let Some(sieve) = self.opened.broker.clone()
            && let Some(found) = self.look(sieve)
        {
            self.resets.put_broker(found);
        }
    }

    fn look(&mut self, mut sieve: Sieve) -> Option<Found> {
        let db = self.db.as_ref()?;
        match db.facts.read(&db.conn, &mut sieve) {
            Ok(facts) => {
                let (queues, left_out) = (self.queues_where(is_local), sieve.left_out());
                if !left_out.is_nothing() {
                    log::error!(
                        retained = left_out.retained.count,
                        retained_bytes = left_out.retained.bytes,
                        wills = left_out.wills.count,
                        wills_bytes = left_out.wills.bytes,
                        received = left_out.received.count,
                        received_bytes = left_out.received.bytes,
                        subscriptions = left_out.subscriptions.count,
                        subscriptions_bytes = left_out.subscriptions.bytes;
                        "more is stored for the local broker than fits into memory: {left_out} stay on disk and are not handed on; higher \
                         `retained_bytes_max` and `wills_bytes_max` in [broker.limits] and a restart bring back what there is memory for"
                    );
                }
                Some(Found { facts, queues, blind: false, left_out })
            }
            Err(trouble) => {
                self.meet(trouble.fault(), trouble.to_string());
                None
            }
        }
    }

    /// Rows that do not decode are left out once they are known: a read that met them is carried out again.
    pub(super) fn read_again(&mut self, asks: &[Ask], replies: &mut [Reply], rotten: &[Arc<str>]) {
        for (ask, reply) in asks.iter().zip(replies) {
            let Some(db) = &mut self.db else { return };
            if let Ask::Read(read) = ask
                && rotten.contains(&read.queue)
                && matches!(reply, Reply::Answer(Answer::Unread { fault: StoreFault::Corrupt, .. }))
                && let Ok((rows, more)) = db.read(read)
            {
                *reply = Reply::Answer(Answer::Rows { number: read.number, rows, more });
            }
        }
    }
}

//! The broker at the store: what it finds, and what it hears when the database was replaced.

use gateway_core::broker::{Answer, Found};
use gateway_core::uplink::row::StoreFault;
use std::sync::Arc;

use super::Engine;
use crate::store::ask::{Ask, Reply, is_local};

impl Engine {
    /// What is stored for the broker; nothing is written. From here on it hears of resets.
    pub(in crate::store) fn found(&mut self) -> Found {
        let found = self.look();
        self.opened.broker = true;
        self.resets.forget_broker();
        found.unwrap_or(Found { blind: true, ..Found::default() })
    }

    /// What is stored is told to the broker before its next turn is carried out.
    pub(super) fn reset_broker(&mut self) {
        if self.opened.broker
            && let Some(found) = self.look()
        {
            self.resets.put_broker(found);
        }
    }

    fn look(&mut self) -> Option<Found> {
        let db = self.db.as_ref()?;
        match db.facts.read(&db.conn) {
            Ok(facts) => Some(Found { facts, queues: self.queues_where(is_local), blind: false }),
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

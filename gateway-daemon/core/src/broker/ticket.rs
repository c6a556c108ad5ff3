//! Tickets: what is owed to somebody once a message is safe everywhere.
//!
//! A ticket is opened with one count of its own, which the opener settles last; so it cannot reach zero while the message is still on
//! its way into its places. A number is never valid twice: settling a ticket that is gone does nothing.
//!
//! Bound: one entry per message that is acknowledged later; publishers are held above the dirty bytes of the journal.

use super::Ticket;

/// What is owed, by ticket.
#[derive(Debug)]
pub(super) struct Tickets<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    owed: u32,
    /// Somebody has the message, or nobody wanted it.
    kept: bool,
    what: Option<T>,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Tickets<T> {
    /// A ticket with a count of one. `what` comes back when the count is zero.
    pub(super) fn open(&mut self, what: T) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, owed: 0, kept: false, what: None });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        (slot.owed, slot.kept) = (1, false);
        slot.what = Some(what);
        Ticket(u64::from(slot.generation) << 32 | u64::from(index))
    }

    /// `places` more must be safe.
    pub(super) fn owe(&mut self, ticket: Ticket, places: u32) {
        if let Some(slot) = self.slot(ticket) {
            slot.owed = slot.owed.saturating_add(places);
        }
    }

    /// Somebody has the message.
    pub(super) fn keep(&mut self, ticket: Ticket) {
        if let Some(slot) = self.slot(ticket) {
            slot.kept = true;
        }
    }

    /// One place is safe, or has dropped the message. Gives what was owed if it was the last one, and whether anybody has it; the ticket is gone then.
    pub(super) fn settle(&mut self, ticket: Ticket) -> Option<(T, bool)> {
        let slot = self.slot(ticket)?;
        slot.owed = slot.owed.saturating_sub(1);
        if slot.owed > 0 {
            return None;
        }
        let kept = slot.kept;
        Some((self.close(ticket)?, kept))
    }

    /// Nobody waits any more; whatever is settled later does nothing.
    pub(super) fn close(&mut self, ticket: Ticket) -> Option<T> {
        let slot = self.slot(ticket)?;
        let what = slot.what.take();
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index(ticket));
        what
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(index(ticket) as usize)?;
        (u64::from(slot.generation) == ticket.0 >> 32 && slot.what.is_some()).then_some(slot)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is the index")]
fn index(ticket: Ticket) -> u32 {
    ticket.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_gives_what_is_owed_when_the_last_place_is_safe_and_never_again() {
        let mut tickets = Tickets::default();
        let ticket = tickets.open("puback");
        tickets.owe(ticket, 2);
        assert_eq!(tickets.settle(ticket), None);
        assert_eq!(tickets.settle(ticket), None);
        assert_eq!(tickets.len(), 1);
        assert_eq!(tickets.settle(ticket), Some(("puback", false)));
        assert_eq!(tickets.settle(ticket), None);
        assert_eq!(tickets.len(), 0);
    }

    #[test]
    fn a_ticket_that_is_gone_does_not_settle_the_one_in_its_place() {
        let mut tickets = Tickets::default();
        let old = tickets.open(1);
        assert_eq!(tickets.close(old), Some(1));
        let young = tickets.open(2);
        assert_ne!(old, young);
        assert_eq!(tickets.settle(old), None);
        tickets.owe(old, 5);
        tickets.keep(old);
        assert_eq!(tickets.settle(young), Some((2, false)));
        assert_eq!(tickets.settle(Ticket(u64::MAX)), None);
    }
}

//! A queue is full, or all of them together are: what makes room.
//!
//! A session's share is an equal part of the total for each session that holds anything. A message for a session that stays within its share
//! gets in: whoever holds most above it loses messages that were never sent, its newest or its oldest as [`WhenFull`] says, counted as all drops for want
//! of room are. Whoever is above its share loses what comes. Where nobody can make room at the moment (a queue of a run before, of which only the sum
//! is known), each session still holds [`least`]: so a total may be exceeded by that much for each session, and by no more.

use super::totals::{Totals, least};
use super::{Chunk, Delivery, Desk, DropReason, Due, Held, Outbound, WhenFull};

impl Outbound {
    /// Its share of a total that is full, if one more message leaves it within that; `None` if there is room, or if it has to lose itself.
    pub(in crate::broker) fn needs_room(&self, totals: &Totals, delivery: &Delivery) -> Option<(Held, u64)> {
        let (durable, size) = (self.is_durable(), self.size_of(delivery));
        if totals.fits(durable, size) {
            return None;
        }
        let share = totals.share(durable, self.held.rows == 0);
        self.stays_within(share, size).then_some((share, size))
    }

    /// How much more than its share it holds, in a measure that fits what is short.
    pub(in crate::broker) fn excess(&self, share: Held) -> Option<u64> {
        let rows = self.held.rows.saturating_sub(share.rows);
        let bytes = self.held.bytes.saturating_sub(share.bytes);
        (rows > 0 || bytes > 0).then(|| bytes.saturating_add(rows.saturating_mul(Self::ROW_WEIGHT)))
    }

    /// A row of which there are too many counts as so many bytes that are too many.
    const ROW_WEIGHT: u64 = 256;

    /// Drops messages that were never sent until `bytes` are free or the session is down to its share. Whether it dropped any.
    pub(in crate::broker) fn give_way(&mut self, desk: &mut Desk<'_>, share: Held, bytes: u64) -> bool {
        let before = self.held;
        let goal = before.bytes.saturating_sub(bytes);
        while self.held.bytes > goal && (self.held.bytes > share.bytes || self.held.rows > share.rows) {
            let dropped = match self.limit.when_full {
                WhenFull::DropNewest => self.drop_newest(desk),
                WhenFull::DropOldest => self.drop_oldest(desk, DropReason::TotalFull),
            };
            if !dropped {
                break;
            }
        }
        self.held != before
    }

    /// Whether a message gets in although all together are full and nobody can make room.
    pub(super) fn has_minimum(&self, totals: &Totals, size: u64) -> bool {
        let durable = self.is_durable();
        !totals.fits(durable, size) && self.stays_within(least(durable), size)
    }

    fn stays_within(&self, share: Held, size: u64) -> bool {
        self.held.rows < share.rows && self.held.bytes.saturating_add(size) <= share.bytes
    }

    /// Drops the newest of what was never sent; `false` if there is nothing, or nothing that can be dropped at this moment.
    fn drop_newest(&mut self, desk: &mut Desk<'_>) -> bool {
        let sent = self.sent;
        let mut waiting = self.tail.pop_back_if(|parcel| parcel.seq > sent);
        if waiting.is_none() && self.tail.is_empty() {
            if let Some(chunk) = self.shelf.pop_back_after(sent) {
                self.discard(desk, &chunk, DropReason::TotalFull);
                return true;
            }
            if self.shelf.is_empty() {
                waiting = self.head.pop_back_if(|parcel| parcel.seq > sent);
            }
        }
        let Some(parcel) = waiting else { return false };
        self.strike(desk, (parcel.seq, parcel.size), Due::Soon);
        desk.totals.drop(DropReason::TotalFull, 1);
        true
    }

    /// Drops what the policy says until a message of `size` bytes fits.
    pub(super) fn make_room(&mut self, desk: &mut Desk<'_>, size: u64) -> Result<(), DropReason> {
        let durable = self.queue.is_some();
        loop {
            let waiting = self.held.rows.saturating_sub(self.flights.len() as u64);
            let full =
                waiting >= self.limit.rows_max || self.held.bytes.saturating_add(size) > self.limit.bytes_max;
            if !full {
                let fits = desk.totals.fits(durable, size) || self.has_minimum(desk.totals, size);
                return if fits { Ok(()) } else { Err(DropReason::TotalFull) };
            }
            if self.limit.when_full == WhenFull::DropNewest || !self.drop_oldest(desk, DropReason::Full) {
                return Err(DropReason::Full);
            }
        }
    }

    /// Drops the oldest of what was never sent; `false` if there is nothing, or nothing that can be dropped at this moment.
    pub(super) fn drop_oldest(&mut self, desk: &mut Desk<'_>, reason: DropReason) -> bool {
        if self.head.is_empty()
            && let Some((first, _)) = self.shelf.span()
        {
            if first <= self.sent || !self.shelf.is_split() {
                self.wants_split = first > self.sent;
                return false;
            }
            let Some(chunk) = self.shelf.pop_front() else { return false };
            self.discard(desk, &chunk, reason);
            return true;
        }
        let Some(parcel) = self.front().filter(|parcel| parcel.seq > self.sent) else { return false };
        debug_assert!(parcel.size > 0, "a row has a size");
        let Some(parcel) = self.pop_front() else { return false };
        self.strike(desk, (parcel.seq, parcel.size), Due::Soon);
        desk.totals.drop(reason, 1);
        true
    }

    /// Stored rows go, and are counted.
    pub(super) fn discard(&mut self, desk: &mut Desk<'_>, chunk: &Chunk, reason: DropReason) {
        desk.totals.take(true, &mut self.held, chunk.held);
        desk.totals.drop(reason, chunk.held.rows);
        if let Some(queue) = &self.queue {
            desk.journal.delete_range(desk.now, queue.slot, (chunk.first, chunk.last), Due::Soon);
            self.note_gone(desk.journal.position(), chunk.first, chunk.last);
        }
    }
}

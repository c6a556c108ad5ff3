//! All sessions together are full: who fills them makes room for the others.
//!
//! A session's share is an equal part of the total for each session that holds anything. A message for a session that stays within its share
//! gets in: whoever holds most above it loses messages that were never sent, its newest or its oldest as [`WhenFull`] says, counted as all drops for want
//! of room are. Whoever is above its share loses what comes. Where nobody can make room at the moment (a queue of a run before, of which only the sum
//! is known), each session still holds [`least`]: so a total may be exceeded by that much for each session, and by no more.

use super::totals::{Totals, least};
use super::{Delivery, Desk, DropReason, Due, Held, Outbound, WhenFull};

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
}

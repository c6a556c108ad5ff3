//! From a session to its connection, and what the client says to it.

use super::Broker;
use super::conn::{Conn, Kind, Owed, Why};
use super::work::{GIVE, ROW, SESSIONS_PER_UNIT};
use crate::broker::outbound::{Desk, DropReason, Held, Pushed, Receipt, Send};
use crate::broker::packet::{Code, Delivery, Reply};
use crate::broker::session::{Owner, Session};
use crate::broker::topic::TopicName;
use crate::broker::{CloseReason, ConnId, SessionId, Ticket};
use crate::tag::BootNs;
use crate::uplink::row::Qos;

/// What one session frees at least for others when all together are full, bytes: so that not every message costs a look at all sessions.
const WAY_BYTES: u64 = 64 << 10;

/// What a message that waits to be encoded counts for beside its text: its place in the list.
const LATER_BYTES: usize = 64;

/// An acknowledgement of a client for a message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// PUBACK.
    Acknowledged,
    /// PUBREC; with an error it ends the exchange.
    Received { refused: bool },
    /// PUBCOMP.
    Completed,
}

impl Broker {
    /// Gives a message to a session: QoS 0 at once or not at all, others through its queue. `false`: it should have been kept, and there was no room.
    pub(super) fn deliver(
        &mut self,
        now: BootNs,
        id: SessionId,
        delivery: Delivery,
        ticket: Option<Ticket>,
    ) -> bool {
        if delivery.qos == Qos::AtMostOnce {
            self.deliver_at_once(now, id, delivery);
            return true;
        }
        // What it may not read does not wait for it, unless its rules are being changed or it is away: then it is asked for when it is sent.
        if !self.work.is_spent() && !self.may_receive(id, &delivery.message.topic) {
            self.counters.dropped_forbidden_messages_total += 1;
            return true;
        }
        let Some(session) = self.sessions.get(&id) else { return true };
        if let Some((share, size)) = session.outbound.needs_room(&self.totals, &delivery) {
            self.crowd_out(now, session.outbound.is_durable(), share, size);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return true };
        let rows = usize::from(session.outbound.is_durable());
        self.work.charge(GIVE + rows * ROW);
        self.work.charge_bytes(rows * delivery.message.body.len());
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        let pushed = session.outbound.push(&mut desk, delivery, ticket);
        if let (Pushed::Owed, Some(ticket)) = (pushed, ticket) {
            self.tickets.owe(ticket, 1);
        }
        self.pump(now, id);
        !matches!(pushed, Pushed::Dropped(_))
    }

    /// Sessions that hold more than their share lose messages until one of `size` bytes fits, those that hold most first.
    fn crowd_out(&mut self, now: BootNs, durable: bool, share: Held, size: u64) {
        let fills = |(id, session): (&SessionId, &Session)| {
            let same = session.owner == Owner::Client && session.outbound.is_durable() == durable;
            Some((session.outbound.excess(share).filter(|_| same)?, *id))
        };
        self.work.charge(self.sessions.len() / SESSIONS_PER_UNIT);
        let mut heavy: Vec<(u64, SessionId)> = self.sessions.iter().filter_map(fills).collect();
        heavy.sort_unstable();
        while !self.totals.fits(durable, size)
            && let Some((_, id)) = heavy.pop()
        {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
            session.outbound.give_way(&mut desk, share, size.max(WAY_BYTES));
        }
    }

    fn deliver_at_once(&mut self, now: BootNs, id: SessionId, delivery: Delivery) {
        let conn = self.sessions.get(&id).and_then(|session| session.conn);
        conn.inspect(|conn| self.make_room_to(*conn));
        let Some((conn, open)) = conn.and_then(|conn| Some((conn, self.conns.get_mut(&conn)?))) else {
            self.counters.dropped_away_messages_total += 1;
            return;
        };
        if !open.may_get(self.settings.limits.outbox_bytes_max, &self.unwritten) {
            self.counters.dropped_slow_messages_total += 1;
        } else if self.work.is_spent() || !open.later.is_empty() || open.is_held_for(Why::Rules) {
            self.work.charge(GIVE);
            open.later_bytes += later_size(&delivery);
            open.later.push_back(delivery);
            open.note(now, &mut self.unwritten);
            self.fall_behind(id);
        } else {
            self.tell_at_once(now, conn, &delivery);
        }
    }

    fn tell_at_once(&mut self, now: BootNs, conn: ConnId, delivery: &Delivery) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        let message = &delivery.message;
        self.work.charge(GIVE + open.rules() / 2);
        self.work.charge_bytes(message.body.len());
        if !open.may_receive(&message.topic) {
            open.note(now, &mut self.unwritten);
            self.counters.dropped_forbidden_messages_total += 1;
            return;
        }
        let age_s = message.age_s(now);
        let told = open.tell(conn, &mut self.dirty, Reply::Publish { delivery, id: 0, again: false, age_s });
        open.note(now, &mut self.unwritten);
        self.counters.sent_packets_total += u64::from(told);
        self.counters.sent_messages_total += u64::from(told);
        self.counters.dropped_large_messages_total += u64::from(!told);
    }

    /// Encodes QoS 0 messages that were put down.
    fn tell_later(&mut self, now: BootNs, conn: ConnId) {
        while !self.work.is_spent() {
            let Some(open) = self.conns.get_mut(&conn) else { return };
            let Some(delivery) = open.later.pop_front() else { return };
            open.later_bytes -= later_size(&delivery);
            self.tell_at_once(now, conn, &delivery);
        }
    }

    /// Sends what a session owes its client, as far as window and connection have room, or puts it down if the budget is spent.
    pub(super) fn pump(&mut self, now: BootNs, id: SessionId) {
        let conn = self.sessions.get(&id).and_then(|session| session.conn);
        conn.inspect(|conn| self.make_room_to(*conn));
        let Some(conn) = conn.filter(|conn| {
            // Whose rules are not looked at is pumped when they are.
            self.conns.get(conn).is_some_and(|open| !open.is_held_for(Why::Rules))
        }) else {
            return;
        };
        self.tell_later(now, conn);
        if self.work.is_spent() {
            return self.fall_behind(id);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(open) = self.conns.get_mut(&conn) else { return };
        let mut put_down = false;
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        let outbox_bytes_max = self.settings.limits.outbox_bytes_max;
        while open.may_get(outbox_bytes_max, &self.unwritten) {
            if self.work.is_spent() {
                put_down = true;
                break;
            }
            let (packet, reason) = match session.outbound.next(&mut desk, session.window) {
                None => break,
                Some(Send::Release(packet)) => {
                    open.tell(conn, &mut self.dirty, Reply::Release(packet, Code::Success));
                    open.note(now, &mut self.unwritten);
                    self.counters.sent_packets_total += 1;
                    continue;
                }
                Some(Send::Publish { id: packet, delivery, again }) => {
                    self.work.charge(GIVE + open.rules() / 2);
                    self.work.charge_bytes(delivery.message.body.len());
                    let age_s = delivery.message.age_s(now);
                    let publish = Reply::Publish { delivery, id: packet, again, age_s };
                    if !open.may_receive(&delivery.message.topic) {
                        (packet, DropReason::Forbidden)
                    } else if open.tell(conn, &mut self.dirty, publish) {
                        open.note(now, &mut self.unwritten);
                        self.counters.sent_packets_total += 1;
                        self.counters.sent_messages_total += u64::from(!again);
                        self.counters.resent_messages_total += u64::from(again);
                        continue;
                    } else {
                        (packet, DropReason::TooLarge)
                    }
                }
            };
            session.outbound.give_up(&mut desk, packet, reason);
        }
        if put_down {
            self.fall_behind(id);
        }
        self.want_read(now, id);
    }

    /// The client is back: what it did not acknowledge comes again, in the order of its first sending (4.4, 4.6), then what waited.
    pub(super) fn resume(&mut self, now: BootNs, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.outbound.online(self.journal.position());
        }
        self.pump(now, id);
    }

    /// An acknowledgement of a message of ours. One for nothing does no harm; one of the wrong kind ends the connection.
    pub(super) fn heard(
        &mut self,
        now: BootNs,
        conn: ConnId,
        id: SessionId,
        packet: u16,
        word: Word,
    ) -> Result<(), CloseReason> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let outbound = &mut session.outbound;
        let mut desk = Desk { now, journal: &mut self.journal, totals: &mut self.totals };
        let known = match word {
            Word::Acknowledged => outbound.acknowledged(&mut desk, packet),
            Word::Completed => outbound.completed(&mut desk, packet),
            Word::Received { refused: true } => outbound.give_up(&mut desk, packet, DropReason::Refused),
            Word::Received { refused: false } => outbound.received(&mut desk, packet) == Receipt::Release,
        };
        if !known && outbound.is_in_flight(packet) {
            return Err(CloseReason::Protocol("an acknowledgement of the wrong kind"));
        }
        if !known {
            self.counters.stray_acknowledgements_total += 1;
            if word == (Word::Received { refused: false }) {
                // Ends an exchange that only the client remembers (4.3.3).
                self.tell(conn, Reply::Release(packet, Code::PacketIdUnknown));
            }
            return Ok(());
        }
        self.pump(now, id);
        self.list_replay(id);
        Ok(())
    }

    /// An acknowledgement that is true once everything changed so far is durable.
    pub(super) fn owe_after(&mut self, conn: ConnId, id: SessionId, kind: Kind, owed: Owed) {
        if !self.is_durable(id) {
            self.owe(conn, kind, owed, true);
            return;
        }
        if let Some(number) = self.owe(conn, kind, owed, false) {
            self.allow_after((conn, kind, number));
        }
    }

    /// An acknowledgement that waits may go once everything changed so far is durable.
    pub(super) fn allow_after(&mut self, (conn, kind, number): (ConnId, Kind, u64)) {
        let position = self.journal.position();
        if self.journal.is_durable(position) {
            self.allow(conn, kind, number);
        } else {
            self.after.push_back((position, (conn, kind, number)));
        }
    }
}

impl Conn {
    pub(super) fn may_receive(&self, topic: &TopicName) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.may_receive(topic))
    }

    /// How many rules are asked for a message.
    pub(super) fn rules(&self) -> usize {
        self.grants.as_ref().map_or(0, |grants| grants.rules())
    }
}

/// What a message that is not encoded yet counts for in the outbox.
fn later_size(delivery: &Delivery) -> usize {
    let message = &delivery.message;
    LATER_BYTES + message.topic.as_str().len() + message.body.len() + 4 * delivery.identifiers.len()
}

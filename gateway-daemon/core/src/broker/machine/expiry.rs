//! What time does: handshakes, keep-alive, ends of sessions, wills, retained messages, figures.

use super::Broker;
use super::login::Stage;
use super::work::{PACKET, ROW};
use crate::broker::note::{Event, Who};
use crate::broker::outbound::DropReason;
use crate::broker::{CloseReason, ConnId, SessionId};
use crate::tag::BootNs;

/// What may be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A connection may have been silent for too long; its own deadline may be later, then it is put in again.
    Conn(ConnId),
    /// A connection that was too fast may go on.
    Rate(ConnId),
    /// A will speaks. Before the end of its session at the same moment.
    Will(SessionId),
    /// A session ends.
    End(SessionId),
    /// A read that failed is asked again.
    Read(SessionId),
    /// The figures of `$SYS` are told.
    Figures,
}

impl Broker {
    /// When [`Broker::timeout`] wants to be called next; early is harmless.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNs> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        let work = self.has_work().then_some(self.now);
        let access = [self.notes.timeout(), self.failures.timeout(), self.peers.timeout()];
        let others = [
            alarm,
            self.retained.next_expiry(),
            self.clock_due,
            self.journal_timeout(),
            access.into_iter().flatten().min(),
            work,
        ];
        others.into_iter().flatten().min()
    }

    /// A turn of the loop begins, with a full budget of work: does what is due and goes on with what was put down.
    pub fn timeout(&mut self, now: BootNs) {
        self.now = self.now.max(now);
        self.work.begin();
        while !self.work.is_spent()
            && let Some((at, alarm)) = self.alarms.first().copied().filter(|(at, _)| *at <= now)
        {
            self.work.charge(PACKET);
            self.alarms.remove(&(at, alarm));
            match alarm {
                Alarm::Conn(conn) => self.conn_may_be_late(now, conn),
                Alarm::Rate(conn) => self.rate_is_due(conn),
                Alarm::Will(id) => self.will_is_due(now, id),
                Alarm::End(id) => {
                    self.counters.expired_sessions_total += 1;
                    self.note_expired(id);
                    self.finish_session(now, id, DropReason::SessionExpired);
                }
                Alarm::Read(id) => self.want_read(now, id),
                Alarm::Figures => self.tell_figures(now),
            }
        }
        self.tell_clock(now);
        self.expire_access(now);
        self.expire_retained(now);
        self.work.go_on();
        self.let_go(now);
        self.settle(now);
        self.work.open();
    }

    /// Retained messages whose time is over go, from memory and from disk.
    fn expire_retained(&mut self, now: BootNs) {
        while !self.work.is_spent()
            && let Some(topic) = self.retained.expire(now)
        {
            self.work.charge(ROW);
            self.counters.expired_retained_total += 1;
            self.remove_retained(now, &topic, None);
        }
    }

    fn conn_may_be_late(&mut self, now: BootNs, conn: ConnId) {
        let Some(open) = self.conns.get_mut(&conn).filter(|open| !open.condemned) else { return };
        open.alarm = None;
        if open.is_held() && matches!(open.stage, Stage::Up) {
            // It is not heard, which is not its fault.
            open.deadline = now.plus(open.silence_max);
        }
        if open.deadline > now {
            open.alarm = Some(open.deadline);
            self.alarms.insert((open.deadline, Alarm::Conn(conn)));
            return;
        }
        let reason = match open.stage {
            Stage::Up => CloseReason::KeepAlive,
            Stage::Refusing { .. } => self.refuse_now(conn),
            Stage::Verifying { .. } => self.give_up_waiting(conn),
            Stage::Fresh => CloseReason::Handshake,
        };
        self.doom(conn, reason);
    }

    /// Says what a session held that expires.
    fn note_expired(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let messages = session.outbound.held().rows;
        let who = Who::of_session(&session.client, session.user.as_ref());
        self.note(Event::SessionExpired { messages }, who);
    }
}

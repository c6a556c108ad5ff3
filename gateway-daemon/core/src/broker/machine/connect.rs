//! CONNECT of somebody who is let in: take-over, session present, and what the session is still owed.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use super::conn::Conn;
use super::expiry::Alarm;
use super::login::{Client, Stage};
use crate::broker::access::Identity;
use crate::broker::front::ALIASES_MAX;
use crate::broker::packet::{Code, Hello, Reply, Version, Welcome};
use crate::broker::session::Session;
use crate::broker::{CloseReason, ConnId, SessionId};
use crate::tag::BootNs;

impl Broker {
    /// Gives a connection its session ("MQTT Version 5.0", 3.1.4).
    pub(super) fn connect(
        &mut self,
        now: BootNs,
        conn: ConnId,
        mut hello: Hello,
        client: Client,
        user: Option<Arc<str>>,
    ) -> Result<(), CloseReason> {
        if let Some(will) = &hello.will
            && !self.will_fits(will, &client.id, user.as_ref())
        {
            self.counters.wills_refused_total += 1;
            return Err(self.refuse(conn, Code::QuotaExceeded, "no room for another last will"));
        }
        let mut old = self.clients.get(&client.id).copied();
        if let Some(rival) = old.and_then(|id| self.sessions.get(&id)?.conn) {
            // The will of a session that goes on is heard only if it has no delay (3.1.3.2.2).
            self.close(now, rival, CloseReason::TakenOver);
            old = self.clients.get(&client.id).copied();
        }
        // A session belongs to whoever made it: nobody gets the messages of another user by its client id.
        let foreign = |id| self.sessions.get(&id).is_some_and(|session: &Session| session.user != user);
        let anew = hello.clean || (!self.open_to_all && old.is_some_and(foreign));
        if let (Some(id), true) = (old, anew) {
            self.finish_session(now, id);
            old = None;
        }
        if old.is_none() && self.sessions.len() >= self.settings.limits.sessions_max {
            return Err(self.refuse(conn, Code::ServerUnavailable, "too many sessions"));
        }
        if old.is_none() && hello.expiry_s > 0 && self.blind {
            return Err(self.refuse(conn, Code::ServerUnavailable, "stored sessions cannot be read yet"));
        }
        let id = match old {
            Some(id) => id,
            None => self.open_session(now, &client.id, &hello),
        };
        if let Some(open) = self.conns.get_mut(&conn) {
            open.will = hello.will.take().map(Box::new);
        }
        self.attach(now, conn, id, &hello, user);
        let welcome = self.welcome(&hello, client, old.is_some());
        self.tell(conn, Reply::Connected(welcome));
        self.resume(now, id);
        Ok(())
    }

    /// Makes the session of a client.
    fn open_session(&mut self, now: BootNs, client: &Arc<str>, hello: &Hello) -> SessionId {
        let durable = self.store && hello.expiry_s > 0;
        let outbound = self.new_outbound(now, client, durable);
        let id = self.add_session(Session::of_client(Arc::clone(client), outbound));
        self.clients.insert(Arc::clone(client), id);
        id
    }

    fn attach(&mut self, now: BootNs, conn: ConnId, id: SessionId, hello: &Hello, user: Option<Arc<str>>) {
        let silence_max = self.silence_max(hello);
        let (Some(open), Some(session)) = (self.conns.get_mut(&conn), self.sessions.get_mut(&id)) else {
            return;
        };
        let ends = session.ends_at.take().map(|at| (at, Alarm::End(id)));
        let speaks = session.will.take().map(|(at, _)| (at, Alarm::Will(id)));
        for alarm in [ends, speaks].into_iter().flatten() {
            self.alarms.remove(&alarm);
        }
        session.conn = Some(conn);
        session.user = user;
        session.version = hello.version;
        session.expiry_s = hello.expiry_s;
        session.window = usize::from(hello.receive_max).min(self.settings.limits.inflight_max);
        open.session = Some(id);
        open.stage = Stage::Up;
        if !self.open_to_all {
            let who = Identity { client: Arc::clone(&session.client), user: session.user.clone() };
            let grants = self.settings.access.grants(&who);
            self.counters.unfit_rules_total += grants.unfit() as u64;
            open.grants = Some(Box::new(grants));
        }
        open.silence_max = silence_max;
        if let Some(alarm) = open.alarm.take() {
            self.alarms.remove(&(alarm, Alarm::Conn(conn)));
        }
        if !silence_max.is_zero() {
            open.deadline = now.plus(silence_max);
            open.alarm = Some(open.deadline);
            self.alarms.insert((open.deadline, Alarm::Conn(conn)));
        }
        self.write_session(now, id);
    }

    /// One and a half times the keep-alive (3.1.2.10), of which 5.0 may be told a shorter one.
    fn silence_max(&self, hello: &Hello) -> Duration {
        let keep_alive = self.keep_alive(hello).unwrap_or(hello.keep_alive);
        Duration::from_millis(u64::from(keep_alive) * 1500)
    }

    /// The server's keep-alive, if it is shorter than what the client wants.
    fn keep_alive(&self, hello: &Hello) -> Option<u16> {
        let max = self.settings.limits.keep_alive_max_s;
        let longer = hello.keep_alive == 0 || hello.keep_alive > max;
        (hello.version == Version::V5 && max > 0 && longer).then_some(max)
    }

    fn welcome(&self, hello: &Hello, client: Client, session_present: bool) -> Welcome {
        let limits = &self.settings.limits;
        Welcome {
            session_present,
            assigned: client.assigned.then_some(client.id),
            expiry_s: (hello.expiry_s > limits.session_expiry_max_s).then_some(limits.session_expiry_max_s),
            keep_alive: self.keep_alive(hello),
            receive_max: u16::try_from(limits.receive_max).unwrap_or(u16::MAX).max(1),
            packet_bytes_max: u32::try_from(limits.packet_bytes_max).unwrap_or(u32::MAX),
            aliases_max: ALIASES_MAX,
        }
    }
}

impl Conn {
    /// Whether it speaks 5.0.
    pub(super) fn is_v5(&self) -> bool {
        self.version == Version::V5
    }
}

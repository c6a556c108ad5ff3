//! CONNECT of somebody who is let in: take-over, session present, and what the session is still owed.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use super::conn::Conn;
use super::expiry::Alarm;
use super::login::{Client, Stage};
use super::sessions::Claim;
use super::work::{RULE, SESSION};
use crate::broker::access::Identity;
use crate::broker::front::ALIASES_MAX;
use crate::broker::note::{Attempt, Event};
use crate::broker::outbound::DropReason;
use crate::broker::packet::{Code, Hello, Reply, Version, Welcome};
use crate::broker::session::Session;
use crate::broker::{CloseReason, ConnId, SessionId};
use crate::tag::BootNs;

impl Broker {
    /// Gives a connection its session ("MQTT Version 5.0", 3.1.4). Whatever is refused is refused before anything changes.
    pub(super) fn connect(
        &mut self,
        now: BootNs,
        conn: ConnId,
        mut hello: Hello,
        client: Client,
        user: Option<Arc<str>>,
    ) -> Result<(), CloseReason> {
        self.work.charge(SESSION);
        let who = Identity { client: Arc::clone(&client.id), user };
        let mut old = self.clients.get(&client.id).copied();
        let anew = self.may_connect(now, conn, &hello, &who, old)?;
        if let Some(rival) = old.and_then(|id| self.sessions.get(&id)?.conn) {
            // The will of a session that goes on is heard only if it has no delay (3.1.3.2.2).
            self.close(now, rival, CloseReason::TakenOver);
            old = self.clients.get(&client.id).copied();
        }
        if let (Some(id), true) = (old, anew) {
            self.finish_session(now, id, DropReason::Ended);
            old = None;
        }
        let id = match old {
            Some(id) => id,
            None => self.open_session(now, conn, &who, &hello),
        };
        if let Some(open) = self.conns.get_mut(&conn) {
            open.will = hello.will.take().map(Box::new);
        }
        self.attach(now, conn, id, &hello, who);
        let welcome = self.welcome(&hello, client, old.is_some());
        if !self.tell(conn, Reply::Connected(welcome)) {
            return Err(CloseReason::Small);
        }
        self.resume(now, id);
        Ok(())
    }

    /// Whether a connection may have the session that it asks for. Gives whether it begins an empty one in the place of the one that is there.
    fn may_connect(
        &mut self,
        now: BootNs,
        conn: ConnId,
        hello: &Hello,
        who: &Identity,
        old: Option<SessionId>,
    ) -> Result<bool, CloseReason> {
        if let Some(will) = &hello.will
            && !self.open_to_all
            && !self.may_publish(Some(&self.settings.access.grants(who)), &will.message.topic)
        {
            self.counters.wills_refused_total += 1;
            let refusal = self.refusal(Attempt::Will, &will.message.topic);
            self.note(refusal, self.who_is(conn, who));
            return Err(self.refuse(conn, Code::NotAuthorized, "the topic of the will is not allowed"));
        }
        let claim = old.map_or(Claim::Own, |id| self.claim(id, who.user.as_deref()));
        if claim == Claim::Foreign {
            self.counters.foreign_sessions_total += 1;
            let why = "the client id belongs to another user";
            self.note(Event::ConnectionRefused(why), self.who_is(conn, who));
            return Err(self.refuse(conn, Code::NotAuthorized, why));
        }
        if let Some(will) = &hello.will
            && !self.will_fits(will, conn, who)
        {
            self.counters.wills_full_total += 1;
            return Err(self.refuse(conn, Code::QuotaExceeded, "no room for another last will"));
        }
        let anew = hello.clean || claim == Claim::Anew;
        let stays = old.and_then(|id| self.sessions.get(&id)).is_some_and(|old| !anew && !old.is_fleeting());
        if stays {
            return Ok(false);
        }
        let lasting = hello.expiry_s > 0;
        if lasting && self.blind {
            return Err(self.refuse(conn, Code::ServerUnavailable, "stored sessions cannot be read yet"));
        }
        self.admit(now, conn, (who, lasting), old)?;
        Ok(anew)
    }

    /// Makes the session of a client.
    fn open_session(&mut self, now: BootNs, conn: ConnId, who: &Identity, hello: &Hello) -> SessionId {
        let client = &who.client;
        let lasting = hello.expiry_s > 0;
        let outbound = self.new_outbound(now, client, self.store && lasting);
        let maker = lasting.then(|| self.maker(conn, who.user.as_ref()));
        maker.as_ref().inspect(|maker| self.shares.add(maker));
        let session = Session { maker, ..Session::of_client(Arc::clone(client), outbound) };
        let id = self.add_session(session);
        self.clients.insert(Arc::clone(client), id);
        id
    }

    fn attach(&mut self, now: BootNs, conn: ConnId, id: SessionId, hello: &Hello, who: Identity) {
        let silence_max = self.silence_max(hello);
        self.clear_end(id);
        let since = self.running(now);
        let (Some(open), Some(session)) = (self.conns.get_mut(&conn), self.sessions.get_mut(&id)) else {
            return;
        };
        if let Some((at, _)) = session.will.take() {
            self.alarms.remove(&(at, Alarm::Will(id)));
        }
        self.vacant.remove(&(session.since, id));
        session.since = since;
        session.conn = Some(conn);
        session.user.clone_from(&who.user);
        session.address = Some(open.peer.clone());
        session.certified = Some(open.origin.certificate.is_some());
        session.version = hello.version;
        session.expiry_s = hello.expiry_s;
        session.window = usize::from(hello.receive_max).min(self.settings.limits.inflight_max);
        open.session = Some(id);
        open.stage = Stage::Up;
        if !self.open_to_all {
            let grants = self.settings.access.grants(&who);
            self.counters.unfit_rules_total += grants.unfit() as u64;
            self.work.charge(grants.rules() * RULE);
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
        self.lose_left_out_will(id);
        self.write_attached(now, id);
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

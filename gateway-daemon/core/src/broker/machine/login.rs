//! Who a connection is: from its CONNECT to the session that it gets.
//!
//! While a password waits for its comparison, or is compared, nothing is kept of the connection but the bytes of its CONNECT. They have been read once, so that
//! nonsense is refused at once, and are read again when the answer is yes.

use std::sync::Arc;

use super::Broker;
use super::conn::Why;
use super::expiry::Alarm;
use super::work::{RULE, SESSION};
use crate::broker::access::{Claim, Identity, Lock, Login, Peer, Standing, Waiting};
use crate::broker::note::{Event, Shown, Who};
use crate::broker::packet::{Code, Hello, Reply, Version};
use crate::broker::{Action, CloseReason, ConnId};
use crate::tag::BootNs;

/// Most connections, and most of one address, whose refusal is held back; what is beyond is refused at once.
const REFUSING_MAX: usize = 64;
const REFUSING_PER_ADDRESS_MAX: usize = 8;

/// What a log-in that waits costs beside its CONNECT and its password: its places in the queue, bytes.
const WAITING_BYTES: usize = 512;

/// Why a user that is known is not let in with a client id.
const FOREIGN_ID: &str = "the client id belongs to others";

/// Smallest CONNACK of 5.0 (3.2), bytes.
const CONNACK_BYTES_MIN: u32 = 5;

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// No CONNECT.
    Fresh,
    /// Its password waits to be compared, or is being. `bytes`: what it costs in the queue.
    Verifying { hello: Box<[u8]>, user: Arc<str>, bytes: usize },
    /// It will be refused when its deadline comes.
    Refusing { code: Code },
    /// It has a session.
    Up,
}

/// A client id, and whether the broker gave it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) id: Arc<str>,
    pub(super) assigned: bool,
}

/// Whose password is compared. Remembered apart from the connection: who leaves at once has guessed all the same.
#[derive(Debug)]
pub(super) struct Asked {
    conn: ConnId,
    peer: Peer,
    user: Arc<str>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy)]
struct Refusal<'a> {
    code: Code,
    why: &'static str,
    user: Option<&'a str>,
    client: Option<&'a str>,
}

impl Broker {
    /// CONNECT: who is it?
    pub(super) fn hello(&mut self, now: BootNs, conn: ConnId, hello: Box<Hello>) -> Result<(), CloseReason> {
        let Some(open) = self.conns.get_mut(&conn) else { return Ok(()) };
        let bytes = open.front.take_hello();
        if !matches!(open.stage, Stage::Fresh) {
            return Err(CloseReason::Protocol("a second CONNECT"));
        }
        open.version = hello.version;
        self.peers.known(conn, &open.peer);
        self.peers.login(now, &open.peer, self.settings.limits.logins_per_minute_max);
        self.hold_strangers();
        if hello.packet_bytes_max.is_some_and(|max| max < CONNACK_BYTES_MIN) {
            return Err(CloseReason::Small);
        }
        if hello.authentication_method {
            return Err(self.refuse(
                conn,
                Code::BadAuthenticationMethod,
                "enhanced authentication is not offered",
            ));
        }
        let nameless = hello.client.is_empty();
        if nameless && (hello.version == Version::V31 || (hello.version == Version::V311 && !hello.clean)) {
            return Err(CloseReason::ClientId);
        }
        match self.login_of(conn, &hello) {
            Login::Accepted(user) => self.let_in(now, conn, *hello, user),
            Login::Verify { user, hash, known } => {
                self.wait_for_verdict(now, conn, &hello, bytes, (user, hash, known))
            }
            Login::BadPassword => {
                let refusal = Refusal {
                    code: Code::BadUserOrPassword,
                    why: "no password that could be right",
                    ..of(&hello)
                };
                self.fail(now, conn, &refusal)
            }
            Login::NotAuthorized => {
                let certificate = self.conns.get(&conn).and_then(|open| open.origin.certificate.clone());
                let user = certificate.as_deref().or(hello.user.as_deref());
                let why = if user.is_some() { FOREIGN_ID } else { "a user name and a password are needed" };
                Err(self.refuse_login(conn, &Refusal { why, user, ..of(&hello) }))
            }
        }
    }

    fn login_of(&self, conn: ConnId, hello: &Hello) -> Login {
        if self.open_to_all {
            return Login::Accepted(hello.user.as_deref().map(Into::into));
        }
        let Some(open) = self.conns.get(&conn) else { return Login::NotAuthorized };
        let anonymous = match self.settings.listeners.get(open.origin.listener) {
            Some(listener) => listener.anonymous,
            // Without listeners there is nobody to say it: a broker of this process lets everybody in.
            None => self.settings.listeners.is_empty(),
        };
        self.settings.access.login(&Claim {
            client: &hello.client,
            certificate: open.origin.certificate.as_deref(),
            anonymous,
            user: hello.user.as_deref(),
            password: hello.password.as_deref(),
        })
    }

    /// A password is to be compared: the connection waits, unless it is locked out or too many wait.
    fn wait_for_verdict(
        &mut self,
        now: BootNs,
        conn: ConnId,
        hello: &Hello,
        bytes: Box<[u8]>,
        (user, hash, known): (Arc<str>, Arc<str>, bool),
    ) -> Result<(), CloseReason> {
        let Some(open) = self.conns.get_mut(&conn) else { return Ok(()) };
        let peer = open.peer.clone();
        if self.failures.is_locked(now, &peer, &user) {
            self.counters.logins_locked_total += 1;
            let refusal = Refusal { code: Code::ConnectionRateExceeded, why: "locked out", ..of(hello) };
            return Err(self.refuse_login(conn, &refusal));
        }
        let standing = match known {
            true if self.failures.is_trusted(&peer, &user) => Standing::Trusted,
            true => Standing::Known,
            false => Standing::Unknown,
        };
        let password = hello.password.clone().unwrap_or_default();
        let cost = WAITING_BYTES + password.len() + 2 * user.len();
        let waiting = Waiting { conn, peer, user: Arc::clone(&user), standing, password, hash };
        if !self.logins.push(waiting) {
            self.counters.logins_busy_total += 1;
            let refusal =
                Refusal { code: Code::ServerBusy, why: "too many log-ins of its address wait", ..of(hello) };
            return Err(self.refuse_login(conn, &refusal));
        }
        open.stage = Stage::Verifying { hello: bytes, user, bytes: cost };
        self.put_off(conn, now.plus(self.settings.limits.handshake_max));
        self.hold(conn, Why::Login);
        self.compare_next(now);
        Ok(())
    }

    /// Asks for the next comparison, if none is under way. Who was locked out while it waited is not compared any more.
    fn compare_next(&mut self, now: BootNs) {
        while self.comparing.is_none() {
            let Some(Waiting { conn, peer, user, password, hash, .. }) = self.logins.pop() else { return };
            if self.is_doomed(conn) {
                continue;
            }
            if self.failures.is_locked(now, &peer, &user) {
                self.counters.logins_locked_total += 1;
                let code = Code::ConnectionRateExceeded;
                let refusal = Refusal { code, why: "locked out", user: Some(&user), client: None };
                let reason = self.refuse_login(conn, &refusal);
                self.doom(conn, reason);
                continue;
            }
            self.comparing = Some(Asked { conn, peer, user });
            self.actions.push_back(Action::Verify { conn, password, hash });
        }
    }

    /// A password was compared with its hash, as [`Action::Verify`] asked.
    pub fn handle_verified(&mut self, now: BootNs, conn: ConnId, ok: bool) {
        self.now = self.now.max(now);
        if let Some(Asked { peer, user, .. }) = self.comparing.take_if(|asked| asked.conn == conn) {
            if let Err(reason) = self.verified(now, conn, &peer, &user, ok) {
                self.doom(conn, reason);
            }
            self.charge(now, conn);
        }
        self.compare_next(now);
        self.settle(now);
    }

    fn verified(
        &mut self,
        now: BootNs,
        conn: ConnId,
        peer: &Peer,
        user: &Arc<str>,
        ok: bool,
    ) -> Result<(), CloseReason> {
        let penalty = if ok {
            self.failures.succeeded(now, peer, user);
            None
        } else {
            Some(self.failures.failed(now, peer, user))
        };
        if let Some(lock) = penalty.as_ref().and_then(|penalty| penalty.lock.as_ref()) {
            self.counters.lockouts_total += 1;
            let event = Event::LockedOut { time: lock.time, failures: lock.failures };
            self.note(event, locked(lock));
        }
        let open = self.conns.get_mut(&conn).filter(|open| !open.condemned);
        let Some(open) = open else { return Ok(()) };
        let Stage::Verifying { hello, .. } = &mut open.stage else { return Ok(()) };
        let hello = std::mem::take(hello);
        let hello = open.front.hello_again(now, &hello)?;
        open.stage = Stage::Fresh;
        if let Some(penalty) = penalty {
            let refusal =
                Refusal { code: Code::BadUserOrPassword, why: "wrong user name or password", ..of(&hello) };
            return self.hold_back(now, conn, &refusal, penalty.wait);
        }
        if !self.settings.access.may_use(&hello.client, Some(user)) {
            return Err(self.refuse_login(conn, &Refusal { why: FOREIGN_ID, ..of(&hello) }));
        }
        let outcome = self.let_in(now, conn, *hello, Some(Arc::clone(user)));
        self.unhold(conn, Why::Login);
        outcome
    }

    /// Lets somebody in whose identity is known.
    fn let_in(
        &mut self,
        now: BootNs,
        conn: ConnId,
        hello: Hello,
        user: Option<Arc<str>>,
    ) -> Result<(), CloseReason> {
        let assigned = hello.client.is_empty();
        let id = if assigned { self.new_client_id(conn) } else { hello.client.as_str().into() };
        let rival = self.clients.get(&id).and_then(|id| self.sessions.get(id)?.conn);
        if let Some(user) = &user
            && !self.has_place(user, rival)
        {
            self.counters.connections_refused_total += 1;
            let why = "too many connections of this user";
            return Err(self.refuse_login(conn, &Refusal { code: Code::QuotaExceeded, why, ..of(&hello) }));
        }
        let outcome = self.connect(now, conn, hello, Client { id, assigned }, user.clone());
        if outcome.is_ok() {
            self.counters.logins_total += 1;
            self.count_user(conn, user);
            self.slow_down_for_others(now, conn);
            self.note(Event::LoggedIn, self.who(conn));
        }
        outcome
    }

    /// Turns a connection away that guessed without a comparison.
    fn fail(&mut self, now: BootNs, conn: ConnId, refusal: &Refusal<'_>) -> Result<(), CloseReason> {
        let Some(open) = self.conns.get(&conn) else { return Ok(()) };
        let penalty = self.failures.failed(now, &open.peer, refusal.user.unwrap_or_default());
        if let Some(lock) = &penalty.lock {
            self.counters.lockouts_total += 1;
            self.note(Event::LockedOut { time: lock.time, failures: lock.failures }, locked(lock));
        }
        self.hold_back(now, conn, refusal, penalty.wait)
    }

    /// Turns a connection away after a while, unless as many wait for that as are allowed. Nothing of it is kept meanwhile.
    fn hold_back(
        &mut self,
        now: BootNs,
        conn: ConnId,
        refusal: &Refusal<'_>,
        wait: std::time::Duration,
    ) -> Result<(), CloseReason> {
        let Some(open) = self.conns.get(&conn) else { return Ok(()) };
        let refused = |peer: Option<&Peer>| {
            self.conns
                .values()
                .filter(|other| other.is_refused() && peer.is_none_or(|p| other.peer == *p))
                .count()
        };
        let is_full =
            || refused(None) >= REFUSING_MAX || refused(Some(&open.peer)) >= REFUSING_PER_ADDRESS_MAX;
        if wait.is_zero() || is_full() {
            return Err(self.refuse_login(conn, refusal));
        }
        self.tell_refusal(conn, refusal);
        let Some(open) = self.conns.get_mut(&conn) else { return Ok(()) };
        open.stage = Stage::Refusing { code: refusal.code };
        open.front.forget();
        self.peers.idle(conn, &open.peer);
        self.put_off(conn, now.plus(wait));
        self.hold(conn, Why::Login);
        Ok(())
    }

    /// Gives a connection another deadline.
    fn put_off(&mut self, conn: ConnId, deadline: BootNs) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        if let Some(alarm) = open.alarm.replace(deadline) {
            self.alarms.remove(&(alarm, Alarm::Conn(conn)));
        }
        open.deadline = deadline;
        self.alarms.insert((deadline, Alarm::Conn(conn)));
    }

    /// Tells a connection in [`Stage::Refusing`] that it is turned away.
    pub(super) fn refuse_now(&mut self, conn: ConnId) -> CloseReason {
        let Some(open) = self.conns.get(&conn) else { return CloseReason::Handshake };
        let Stage::Refusing { code } = open.stage else { return CloseReason::Handshake };
        self.tell(conn, Reply::Refused(code, ""));
        CloseReason::Login
    }

    /// A log-in has waited for its comparison as long as clients wait.
    pub(super) fn give_up_waiting(&mut self, conn: ConnId) -> CloseReason {
        self.counters.logins_busy_total += 1;
        let user = match self.conns.get(&conn).map(|open| &open.stage) {
            Some(Stage::Verifying { user, .. }) => Arc::clone(user),
            _ => return CloseReason::Handshake,
        };
        let why = "its password waited too long to be compared";
        let refusal = Refusal { code: Code::ServerBusy, why, user: Some(&user), client: None };
        self.refuse_login(conn, &refusal)
    }

    /// Turns a connection away at once.
    fn refuse_login(&mut self, conn: ConnId, refusal: &Refusal<'_>) -> CloseReason {
        self.tell_refusal(conn, refusal);
        self.tell(conn, Reply::Refused(refusal.code, ""));
        CloseReason::Login
    }

    /// Says in the log who was not let in.
    fn tell_refusal(&mut self, conn: ConnId, refusal: &Refusal<'_>) {
        let mut who = self.who(conn);
        who.user = refusal.user.map(Shown::new);
        who.client = refusal.client.map(Shown::new);
        self.note(Event::LoginRefused(refusal.why), who);
    }

    /// Refuses CONNECT.
    pub(super) fn refuse(&mut self, conn: ConnId, code: Code, why: &'static str) -> CloseReason {
        self.tell(conn, Reply::Refused(code, why));
        CloseReason::Refused(why)
    }

    /// An id that no session has, of any run.
    fn new_client_id(&self, conn: ConnId) -> Arc<str> {
        let mut id: Arc<str> = format!("auto-{}-{}", self.run, conn.0).into();
        let mut again = 0_u64;
        while self.clients.contains_key(&id) {
            again += 1;
            id = format!("auto-{}-{}-{again}", self.run, conn.0).into();
        }
        id
    }

    /// Users and rules have changed: who is connected keeps its connection if it would be let in, with the rules of now. Until they are looked at,
    /// nothing is read from it and nothing said to it.
    pub(super) fn check_everybody(&mut self) {
        let conns = self.conns.iter().filter(|(_, open)| open.session.is_some() && !open.condemned);
        let conns: Vec<ConnId> = conns.map(|(conn, _)| *conn).collect();
        for conn in conns {
            if !self.work.is_spent() {
                self.check(conn);
            } else if self.conns.get(&conn).is_some_and(|open| !open.is_held_for(Why::Rules)) {
                self.hold(conn, Why::Rules);
                self.work.stale.push_back(conn);
            }
        }
    }

    /// The rules of a connection.
    pub(super) fn check(&mut self, conn: ConnId) {
        let Some(open) = self.conns.get_mut(&conn).filter(|open| !open.condemned) else { return };
        let Some((id, session)) = open.session.and_then(|id| Some((id, self.sessions.get(&id)?))) else {
            return;
        };
        let access = &self.settings.access;
        let user = session.user.as_deref();
        let certified = open.origin.certificate.is_some();
        let known = user.is_none_or(|user| certified || access.users.contains_key(user));
        self.work.charge(SESSION);
        if !known || !access.may_use(&session.client, user) {
            self.doom(conn, CloseReason::NotAuthorized);
            return;
        }
        let who = Identity { client: Arc::clone(&session.client), user: session.user.clone() };
        let grants = access.grants(&who);
        self.work.charge(grants.rules() * RULE);
        open.grants = Some(Box::new(grants));
        if open.is_held_for(Why::Rules) {
            self.unhold(conn, Why::Rules);
            self.fall_behind(id);
            self.list_replay(id);
        }
    }
}

fn of(hello: &Hello) -> Refusal<'_> {
    Refusal {
        code: Code::NotAuthorized,
        why: "",
        user: hello.user.as_deref(),
        client: (!hello.client.is_empty()).then_some(hello.client.as_str()),
    }
}

/// Whom a lock-out is about.
pub(super) fn locked(lock: &Lock) -> Who {
    Who { user: lock.user.as_deref().map(Shown::new), ..Who::at(&lock.peer.text()) }
}

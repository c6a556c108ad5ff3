//! Who a connection is: from its CONNECT to the session that it gets.

use std::sync::Arc;

use super::Broker;
use super::conn::Why;
use super::expiry::Alarm;
use super::work::{RULE, SESSION};
use crate::broker::access::{Claim, Identity, Login};
use crate::broker::packet::{Code, Hello, Reply, Version};
use crate::broker::{Action, CloseReason, ConnId};
use crate::tag::BootNs;

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// No CONNECT.
    Fresh,
    /// Its password is being compared.
    Verifying { hello: Box<Hello>, client: Client, user: Arc<str> },
    /// It will be refused when its deadline comes.
    Refusing { code: Code, failures: Option<u64> },
    /// It has a session.
    Up,
}

/// A client id, and whether the broker gave it.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) id: Arc<str>,
    pub(super) assigned: bool,
}

impl Broker {
    /// CONNECT: who is it?
    pub(super) fn hello(&mut self, now: BootNs, conn: ConnId, hello: Box<Hello>) -> Result<(), CloseReason> {
        let Some(open) = self.conns.get_mut(&conn) else { return Ok(()) };
        if !matches!(open.stage, Stage::Fresh) {
            return Err(CloseReason::Protocol("a second CONNECT"));
        }
        open.version = hello.version;
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
        let id = if nameless { self.new_client_id(conn) } else { hello.client.as_str().into() };
        let client = Client { id, assigned: nameless };
        let Some(open) = self.conns.get(&conn) else { return Ok(()) };
        let anonymous = match self.settings.listeners.get(open.origin.listener) {
            Some(listener) => listener.anonymous,
            // Without listeners there is nobody to say it: a broker of this process lets everybody in.
            None => self.settings.listeners.is_empty(),
        };
        let claim = Claim {
            client: &client.id,
            certificate: open.origin.certificate.as_deref(),
            anonymous,
            user: hello.user.as_deref(),
            password: hello.password.as_deref(),
        };
        let login = if self.open_to_all {
            Login::Accepted(hello.user.as_deref().map(Into::into))
        } else {
            self.settings.access.login(&claim)
        };
        match login {
            Login::Accepted(user) => self.connect(now, conn, *hello, client, user),
            Login::Verify { user, hash } => {
                let password = hello.password.clone().unwrap_or_default();
                self.hold(conn, Why::Login);
                if let Some(open) = self.conns.get_mut(&conn) {
                    open.stage = Stage::Verifying { hello, client, user };
                }
                self.actions.push_back(Action::Verify { conn, password, hash });
                Ok(())
            }
            Login::BadPassword => self.fail(now, conn, Code::BadUserOrPassword, hello.user.as_deref()),
            Login::NotAuthorized => self.fail(now, conn, Code::NotAuthorized, hello.user.as_deref()),
        }
    }

    /// The password of a connection was compared.
    pub(super) fn verified(&mut self, now: BootNs, conn: ConnId, ok: bool) -> Result<(), CloseReason> {
        let Some(open) = self.conns.get_mut(&conn) else { return Ok(()) };
        if !matches!(open.stage, Stage::Verifying { .. }) {
            return Ok(());
        }
        let Stage::Verifying { hello, client, user } = std::mem::replace(&mut open.stage, Stage::Fresh)
        else {
            return Ok(());
        };
        if !ok {
            return self.fail(now, conn, Code::BadUserOrPassword, Some(&user));
        }
        let outcome = self.connect(now, conn, *hello, client, Some(user));
        self.unhold(conn, Why::Login);
        outcome
    }

    /// Turns a connection away, later the more often it was.
    fn fail(&mut self, now: BootNs, conn: ConnId, code: Code, user: Option<&str>) -> Result<(), CloseReason> {
        let Some(open) = self.conns.get_mut(&conn) else { return Ok(()) };
        let penalty = self.failures.note(now, &open.origin.peer, user);
        open.stage = Stage::Refusing { code, failures: penalty.log };
        if penalty.wait.is_zero() {
            return Err(self.refuse_now(conn));
        }
        if let Some(alarm) = open.alarm.take() {
            self.alarms.remove(&(alarm, Alarm::Conn(conn)));
        }
        open.deadline = now.plus(penalty.wait);
        open.alarm = Some(open.deadline);
        self.alarms.insert((open.deadline, Alarm::Conn(conn)));
        self.hold(conn, Why::Login);
        Ok(())
    }

    /// Tells a connection in [`Stage::Refusing`] that it is turned away.
    pub(super) fn refuse_now(&mut self, conn: ConnId) -> CloseReason {
        let Some(open) = self.conns.get(&conn) else { return CloseReason::Handshake };
        let Stage::Refusing { code, failures } = open.stage else { return CloseReason::Handshake };
        let peer = open.origin.peer.as_str().into();
        self.tell(conn, Reply::Refused(code, ""));
        CloseReason::Login { failures, peer }
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
        let conns = self.conns.iter().filter(|(_, open)| open.session.is_some());
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
        let Some(open) = self.conns.get_mut(&conn) else { return };
        let Some((id, session)) = open.session.and_then(|id| Some((id, self.sessions.get(&id)?))) else {
            return;
        };
        let access = &self.settings.access;
        let user = session.user.as_deref();
        let certified = open.origin.certificate.is_some();
        let known = user.is_none_or(|user| certified || access.users.contains_key(user));
        self.work.charge(SESSION);
        if !known || !access.may_use(&session.client, user) {
            self.doomed.push_back((conn, CloseReason::NotAuthorized));
            return;
        }
        let who = Identity { client: Arc::clone(&session.client), user: session.user.clone() };
        let grants = access.grants(&who);
        self.work.charge(grants.rules() * RULE);
        open.grants = Some(Box::new(grants));
        if open.is_held_for(Why::Rules) {
            self.unhold(conn, Why::Rules);
            self.fall_behind(id);
        }
    }
}

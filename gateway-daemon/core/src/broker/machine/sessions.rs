//! To whom sessions belong, how many there may be, and what a person sees and does of them.
//!
//! A session belongs to the user that made it. Another one's CONNECT with its client id is refused and changes nothing, unless `users` of the client id names both.
//! A session of nobody in particular gives way to a user, and one of a user that is not let in any more to whoever is: they begin an empty one.
//!
//! When there are too many sessions, those that hold nothing give way, the one first that was left longest ago: no connection, no subscription, no message.

use std::sync::Arc;
use std::time::Duration;

use super::Broker;
use crate::broker::access::Identity;
use crate::broker::note::{Event, Who};
use crate::broker::outbound::DropReason;
use crate::broker::packet::Code;
use crate::broker::session::{Owner, Session};
use crate::broker::shares::Maker;
use crate::broker::topic::TopicName;
use crate::broker::{CloseReason, ConnId, SessionId, access::Grants};
use crate::settings::CertificateIdentity;
use crate::tag::BootNs;

/// What a CONNECT may do with the session that is there under its client id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is its own.
    Own,
    /// It may end it and begin an empty one.
    Anew,
    /// It belongs to somebody else.
    Foreign,
}

/// A session as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its number, of this run of the daemon.
    pub number: SessionId,
    /// The client id.
    pub client: Arc<str>,
    /// To whom it belongs; `None` is nobody in particular.
    pub user: Option<Arc<str>>,
    /// Whether its client is there.
    pub connected: bool,
    /// Running time of the daemon since the client came, or left.
    pub since: Duration,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Messages of QoS 1 and 2 that wait or are in flight.
    pub messages: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Running time after which it ends unless its client comes, or after its client has left; `None` is never.
    pub expires_in: Option<Duration>,
}

/// Names a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its client id.
    Client(Box<str>),
    /// By its number.
    Number(SessionId),
}

impl Broker {
    /// Topics on which the gateway itself sends: from here on nobody else publishes there. Wills that are to come are asked when they speak.
    pub fn replace_own(&mut self, own: Arc<crate::broker::Own>) {
        self.own = own;
    }

    /// Sessions of clients in the order of their numbers, behind one of them.
    pub fn sessions(&self, now: BootNs, after: Option<SessionId>) -> impl Iterator<Item = SessionView> {
        self.sessions
            .behind(after)
            .filter(|(_, session)| session.owner == Owner::Client)
            .map(move |(id, session)| self.view(now, *id, session))
    }

    /// Ends a session for a person, with everything that it holds; its client is told if it is there. `None` if there is none.
    pub fn drop_session(&mut self, now: BootNs, which: &Which) -> Option<SessionView> {
        self.now = self.now.max(now);
        let id = match which {
            Which::Client(client) => *self.clients.get(&**client)?,
            Which::Number(id) => *id,
        };
        let session = self.sessions.get(&id).filter(|session| session.owner == Owner::Client)?;
        let view = self.view(now, id, session);
        let who = Who::of_session(&session.client, session.user.as_ref());
        let conn = session.conn;
        self.note(Event::SessionDropped { messages: view.messages }, who);
        self.counters.removed_sessions_total += 1;
        if let Some(conn) = conn {
            self.close(now, conn, CloseReason::Administrative);
        }
        self.finish_session(now, id, DropReason::Ended);
        self.settle(now);
        Some(view)
    }

    fn view(&self, now: BootNs, id: SessionId, session: &Session) -> SessionView {
        let held = session.outbound.held();
        let expiry = self.expiry(session.expiry_s);
        let left = session.ends_at.map(|at| at.since(now));
        SessionView {
            number: id,
            client: Arc::clone(&session.client),
            user: session.user.clone(),
            connected: session.conn.is_some(),
            since: self.running(now).saturating_sub(session.since),
            subscriptions: session.filters.len(),
            messages: held.rows,
            bytes: held.bytes,
            expires_in: if session.conn.is_some() { expiry } else { left },
        }
    }

    /// How long a session outlives its connection; `None` is for ever.
    pub(super) fn expiry(&self, wish_s: u32) -> Option<Duration> {
        let expiry_s = wish_s.min(self.settings.limits.session_expiry_max_s);
        (expiry_s != u32::MAX).then(|| Duration::from_secs(expiry_s.into()))
    }

    /// Whether somebody may publish to a topic; without grants everybody may do everything.
    pub(super) fn may_publish(&self, grants: Option<&Grants>, topic: &TopicName) -> bool {
        grants.is_none_or(|grants| {
            grants.may_publish(topic) && (!self.own.holds(topic.as_str()) || grants.names(topic))
        })
    }

    /// Whether a user (`None` is nobody in particular) would be let in with a client id. `certified`: whether a certificate named it, if that is known.
    pub(super) fn is_let_in(&self, client: &str, user: Option<&str>, certified: Option<bool>) -> bool {
        let (listeners, access) = (&self.settings.listeners, &self.settings.access);
        let by_certificate = || {
            let named = |tls: &crate::settings::ListenerTls| {
                tls.client_ca.is_some() && tls.identity != CertificateIdentity::None
            };
            listeners.iter().any(|listener| listener.tls.as_ref().is_some_and(named))
        };
        let known = match user {
            None => listeners.is_empty() || listeners.iter().any(|listener| listener.anonymous),
            Some(user) => access.users.contains_key(user) || certified.unwrap_or_else(by_certificate),
        };
        known && access.may_use(client, user)
    }

    /// Whether a will may speak for whoever left it: the rules of this moment count, not those of the moment when it was left.
    pub(super) fn may_speak(&self, who: &Identity, certified: Option<bool>, topic: &TopicName) -> bool {
        if self.open_to_all {
            return true;
        }
        self.is_let_in(&who.client, who.user.as_deref(), certified)
            && self.may_publish(Some(&self.settings.access.grants(who)), topic)
    }

    /// What a user may do with a session.
    pub(super) fn claim(&self, id: SessionId, user: Option<&str>) -> Claim {
        let Some(session) = self.sessions.get(&id).filter(|_| !self.open_to_all) else { return Claim::Own };
        match (session.user.as_deref(), user) {
            (owner, user) if owner == user => Claim::Own,
            (None, _) => Claim::Anew,
            (Some(owner), Some(user)) if self.settings.access.is_shared(&session.client, owner, user) => {
                Claim::Own
            }
            (owner, _) if !self.is_let_in(&session.client, owner, session.certified) => Claim::Anew,
            _ => Claim::Foreign,
        }
    }

    /// Makes room for one more session, which may take the place of one that is there. Nobody gives way to one that is refused.
    ///
    /// # Errors
    /// There is none; the connection is refused.
    pub(super) fn admit(
        &mut self,
        now: BootNs,
        conn: ConnId,
        (who, lasting): (&Identity, bool),
        replaced: Option<SessionId>,
    ) -> Result<(), CloseReason> {
        let limits = self.settings.limits;
        let (mut of_user, mut of_address, mut any) = (None, None, None);
        if lasting {
            let maker = self.maker(conn, who.user.as_ref());
            let before = replaced.and_then(|id| self.sessions.get(&id)?.maker.clone()).unwrap_or_default();
            if let Some(user) = maker.user.as_ref().filter(|user| before.user.as_ref() != Some(*user))
                && self.shares.of_user(user) >= limits.sessions_per_user_max
            {
                of_user = self.vacant(|maker| maker.user.as_ref() == Some(user));
                if of_user.is_none() {
                    return Err(self.refuse_session(conn, who, "too many sessions of this user"));
                }
            }
            if let Some(address) =
                maker.address.as_ref().filter(|address| before.address.as_ref() != Some(*address))
                && self.shares.of_address(address) >= limits.sessions_per_address_max
            {
                of_address = self.vacant(|maker| maker.address.as_ref() == Some(address));
                if of_address.is_none() {
                    return Err(self.refuse_session(conn, who, "too many sessions from this address"));
                }
            }
        }
        let full = replaced.is_none() && self.clients.len() >= limits.sessions_max;
        if full && of_user.or(of_address).is_none() {
            any = self.vacant(|_| true);
            if any.is_none() {
                return Err(self.refuse_session(conn, who, "too many sessions"));
            }
        }
        for id in [of_user, of_address, any].into_iter().flatten() {
            self.evict(now, id);
        }
        Ok(())
    }

    /// One more session, under a number that none has.
    pub(super) fn add_session(&mut self, session: Session) -> SessionId {
        while self.sessions.contains_key(&SessionId(self.last_session)) {
            self.last_session = self.last_session.wrapping_add(1);
        }
        let id = SessionId(self.last_session);
        // The next one has another, because this one may stand in the tree for a while after its end.
        self.last_session = self.last_session.wrapping_add(1);
        self.sessions.insert(id, session);
        id
    }

    fn refuse_session(&mut self, conn: ConnId, who: &Identity, why: &'static str) -> CloseReason {
        self.counters.sessions_refused_total += 1;
        self.note(Event::SessionRefused(why), self.who_is(conn, who));
        self.refuse(conn, Code::QuotaExceeded, why)
    }

    /// For whom a session of this connection counts.
    pub(super) fn maker(&self, conn: ConnId, user: Option<&Arc<str>>) -> Maker {
        let address = self.conns.get(&conn).map(|open| open.peer.clone());
        Maker { user: user.cloned(), address }
    }

    /// The session that holds nothing and was left longest ago, of those that count for somebody.
    fn vacant(&self, fits: impl Fn(&Maker) -> bool) -> Option<SessionId> {
        let of = |id: &SessionId| self.sessions.get(id).and_then(|session| session.maker.as_ref());
        self.vacant.iter().find(|(_, id)| of(id).is_some_and(&fits)).map(|(_, id)| *id)
    }

    /// Ends a session that gives way, if it is still there.
    fn evict(&mut self, now: BootNs, id: SessionId) {
        if self.sessions.contains_key(&id) {
            self.counters.evicted_sessions_total += 1;
            self.finish_session(now, id, DropReason::Ended);
        }
    }

    /// Notes whether a session that was left holds nothing.
    pub(super) fn note_vacancy(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.is_vacant() {
            self.vacant.insert((session.since, id));
        }
    }
}

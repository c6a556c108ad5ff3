//! Clients that have gone while nothing is read from them, and clients whose certificate was called back.
//!
//! Nothing is read from a connection while its publishes wait for the disk, its password is compared, or it does not take its answers. What the client has
//! sent by then stays in the kernel, its end behind it: telling the broker of the end at once would overtake the messages before it, a DISCONNECT among
//! them. So an end is only noted, and what came before it is dealt with when the connection is let go on. But such a connection takes a place and a
//! descriptor, and the disk may stay full for days: it is closed after [`ENDED_MAX`], or at once when there is no other place for a client that comes. What
//! it had sent is not acknowledged; its client sends it again.

use std::collections::BTreeSet;
use std::future::Future as _;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use gateway_core::broker::ConnId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::Instant;

use super::super::identity;
use super::super::revoked::Revoked;
use super::{Doors, Incoming};

/// How often connections that nothing is read from are looked at: one system call for all of them.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Least time between two looks because a client came and found no place.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How long a connection is kept whose client has gone while nothing was read from it: as long as a client of usual keep-alive would be waited for.
const ENDED_MAX: Duration = Duration::from_secs(60);

/// Connections that nothing is read from.
#[derive(Default)]
pub(super) struct Deaf {
    /// All of them; some may be read again by now.
    conns: BTreeSet<ConnId>,
    /// Those whose client has gone, in the order in which that was noticed.
    ended: Vec<(Instant, ConnId)>,
    looked: Option<Instant>,
    pub(super) next_look: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

impl Deaf {
    pub(super) fn add(&mut self, conn: ConnId) {
        self.conns.insert(conn);
    }
}

impl Doors {
    /// Looks once in a while who has gone.
    pub(super) fn look_at_deaf(&mut self, cx: &mut Context<'_>) {
        while !self.deaf.conns.is_empty() {
            let next = || Box::pin(tokio::time::sleep(LOOK_INTERVAL));
            if self.deaf.next_look.get_or_insert_with(next).as_mut().poll(cx).is_pending() {
                return;
            }
            self.deaf.next_look = None;
            self.notice_ends();
            let now = Instant::now();
            let late = |(at, _): &(Instant, ConnId)| *at + ENDED_MAX <= now;
            while let Some((_, conn)) = self.deaf.ended.first().copied().filter(late) {
                self.reap(conn);
            }
            // No client may come in at all: whoever has gone must not keep the others out.
            if self.short_of_places() {
                while let Some((_, conn)) = self.deaf.ended.first().copied() {
                    self.reap(conn);
                }
            }
        }
    }

    /// Makes a place for one more client, if those who have gone leave one.
    pub(super) fn make_place(&mut self) {
        if self.conns.len() < self.connections_max || self.connections().count() < self.connections_max {
            return;
        }
        if self.deaf.looked.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL_MIN) {
            self.notice_ends();
        }
        if let Some((_, conn)) = self.deaf.ended.first().copied() {
            self.reap(conn);
        }
    }

    /// Asks the kernel which clients have gone of those that nothing is read from.
    fn notice_ends(&mut self) {
        self.deaf.looked = Some(Instant::now());
        let conns = &self.conns;
        self.deaf.conns.retain(|conn| conns.get(conn).is_some_and(|open| open.is_deaf()));
        let deaf = &self.deaf.conns;
        self.deaf.ended.retain(|(_, conn)| deaf.contains(conn));
        let known: BTreeSet<ConnId> = self.deaf.ended.iter().map(|(_, conn)| *conn).collect();
        let asked: Vec<(ConnId, _)> = (deaf.iter().filter(|conn| !known.contains(conn)))
            .filter_map(|conn| Some((*conn, conns.get(conn)?.stream())))
            .collect();
        let mut fds: Vec<PollFd<'_>> =
            asked.iter().map(|(_, stream)| PollFd::new(*stream, PollFlags::RDHUP)).collect();
        if fds.is_empty() || poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_err() {
            return;
        }
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let now = Instant::now();
        for ((conn, _), fd) in asked.iter().zip(&fds) {
            if fd.revents().intersects(gone) {
                self.deaf.ended.push((now, *conn));
            }
        }
    }

    /// Closes a connection whose client has gone, with what it had sent.
    fn reap(&mut self, conn: ConnId) {
        self.deaf.ended.retain(|(_, ended)| *ended != conn);
        self.deaf.conns.remove(&conn);
        if self.conns.remove(&conn).is_some() {
            self.reaped_total += 1;
            log::info!(conn = conn.0, reason = "gone"; "connection of a client closed: the client had gone while nothing was read from it");
            self.told.push_back(Incoming::Closed(conn));
        }
    }

    /// Certificates of a listener were called back: whoever is connected with one of them is cut.
    pub(super) fn revoke(&mut self, listener: usize, revoked: Arc<Revoked>) {
        let cut: Vec<ConnId> = (self.conns.iter())
            .filter(|(_, open)| open.is_open() && open.listener() == listener)
            .filter(|(_, open)| open.certificate().is_some_and(|der| revoked.holds(der)))
            .map(|(conn, _)| *conn)
            .collect();
        self.revoked.insert(listener, revoked);
        for conn in cut {
            self.cut_revoked(conn);
        }
    }

    /// Whether the certificate of a client that has just come in was called back while its handshake was under way.
    pub(super) fn is_revoked(&self, listener: usize, certificate: Option<&[u8]>) -> bool {
        let list = self.revoked.get(&listener);
        list.zip(certificate).is_some_and(|(list, der)| list.holds(der))
    }

    pub(super) fn cut_revoked(&mut self, conn: ConnId) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        self.revoked_total += 1;
        let who = open.certificate().map_or_else(|| "a certificate".to_owned(), identity::shown);
        log::warn!(event = "revoked", conn = conn.0, reason = "revoked"; "connection of a client closed: {who} was called back");
        open.fail();
        self.part(conn);
        self.told.push_back(Incoming::Closed(conn));
    }
}

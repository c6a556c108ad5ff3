//! What keeps the way down from stopping the way up: a SUBSCRIBE for which a server ends the connection, and messages of the cloud that end it.
//!
//! ```text
//!   all filters at once --DEATHS_MIN deaths without SUBACK--> one at a time --LONE_DEATHS_MIN deaths with the same one--> left out, asked again later
//!   messages that cannot be taken --DEATHS_MIN deaths in a row--> the session at the server is discarded
//!                                 --once more--> nothing is subscribed for a while
//! ```
//!
//! A message of the cloud that is larger than `packet_max` cannot be read, so it cannot be acknowledged, and a persistent session delivers it first on each
//! connection. MQTT 3.1.1 knows no other way to be rid of it than to begin a fresh session, which forgets everything else that waits there.
//!
//! Bounds: the filters of the rules, and one entry for each server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::tag::BootNs;
use gateway_core::uplink::loss::Loss;
use gateway_core::uplink::row::Qos;

/// Connections that end in a row before something is done: less may be a bad line.
const DEATHS_MIN: u32 = 3;
/// Connections that end while one filter alone waits for its SUBACK, before it is left out.
const LONE_DEATHS_MIN: u32 = 6;
/// A filter that was left out, or all of them, are asked for again after this time: a server's rules are mended by people.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// A filter and the most QoS wanted.
pub(super) type Wanted = (Arc<str>, Qos);

/// One server.
#[derive(Debug, Default)]
struct Server {
    /// It has heard of our subscriptions in this run.
    subscribed: bool,
    /// Connections in a row that ended without an answer to SUBSCRIBE.
    deaths: u32,
    /// The same by filter, of those asked for alone.
    lone: BTreeMap<Arc<str>, u32>,
    left_out: BTreeMap<Arc<str>, BootNs>,
    /// Connections in a row that ended by a message that cannot be taken, and what was done about it.
    unreadable: u32,
    discard: bool,
    discarded: bool,
    silent_until: BootNs,
}

/// What became of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server ends the connection for this filter: it is left out for a while.
    Filter(Arc<str>),
    /// Messages that wait at the server cannot be taken: its session is discarded with the next connection.
    Discard,
    /// They come again: nothing is subscribed for a while.
    Silence,
}

/// What happened, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::app) struct Counters {
    /// Filters left out because the server ends the connection for them.
    pub filters_left_out_total: u64,
    /// Sessions at servers discarded because a message in them cannot be taken.
    pub sessions_discarded_total: u64,
}

/// Subscriptions of one uplink and its servers.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    servers: Vec<Server>,
    /// Asked for on this connection and not answered.
    pending: Vec<Wanted>,
    /// To be asked for on this connection, one after the other.
    waiting: Vec<Wanted>,
    counters: Counters,
}

impl Hearing {
    pub(super) fn new(servers: usize) -> Self {
        Self { servers: (0..servers.max(1)).map(|_| Server::default()).collect(), ..Self::default() }
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// The rules have changed: every server has to hear of them.
    pub(super) fn rules_changed(&mut self) {
        let servers = self.servers.len();
        *self = Self { counters: self.counters, ..Self::new(servers) };
    }

    /// Whether the next connection to a server begins a fresh session on purpose.
    pub(super) fn connecting(&mut self, server: usize) -> bool {
        self.pending.clear();
        self.waiting.clear();
        let Some(server) = self.servers.get_mut(server) else { return false };
        let discard = std::mem::take(&mut server.discard);
        server.subscribed &= !discard;
        discard
    }

    /// The connection is up. Gives what to ask for now, if anything.
    pub(super) fn up(
        &mut self,
        now: BootNs,
        index: usize,
        session_present: bool,
        mut filters: Vec<Wanted>,
    ) -> Vec<Wanted> {
        let Some(server) = self.servers.get_mut(index) else { return filters };
        if now < server.silent_until {
            return Vec::new();
        }
        let count = server.left_out.len();
        server.left_out.retain(|_, until| now < *until);
        let again = server.left_out.len() < count;
        if session_present && server.subscribed && !again {
            return Vec::new();
        }
        filters.retain(|(filter, _)| !server.left_out.contains_key(filter));
        if server.deaths < DEATHS_MIN {
            self.pending.clone_from(&filters);
            return filters;
        }
        filters.reverse();
        self.waiting = filters;
        self.next()
    }

    fn next(&mut self) -> Vec<Wanted> {
        self.pending = self.waiting.pop().into_iter().collect();
        self.pending.clone()
    }

    /// The server has answered; `refused` is what it refuses. Gives what to ask for next.
    pub(super) fn answered(&mut self, index: usize, refused: bool) -> Vec<Wanted> {
        let asked = self.servers.get_mut(index).filter(|_| !self.pending.is_empty());
        let Some(server) = asked else { return Vec::new() };
        for (filter, _) in self.pending.drain(..) {
            server.lone.remove(&filter);
        }
        if self.waiting.is_empty() {
            server.deaths = 0;
            server.subscribed = !refused && server.left_out.is_empty();
        }
        self.next()
    }

    /// Whether a connection that ends now may have ended because of what was asked for.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Filters that this server does not get to hear of.
    pub(super) fn left_out(&self, index: usize) -> impl Iterator<Item = &Arc<str>> {
        self.servers.get(index).into_iter().flat_map(|server| server.left_out.keys())
    }

    /// A connection that was up has ended.
    pub(super) fn lost(&mut self, now: BootNs, index: usize, loss: &Loss) -> Option<Trouble> {
        let (pending, alone) = (std::mem::take(&mut self.pending), !self.waiting.is_empty());
        self.waiting.clear();
        let server = self.servers.get_mut(index)?;
        if matches!(loss, Loss::IncomingOversize { .. }) {
            return self.unreadable(now, index);
        }
        (server.unreadable, server.discarded) = (0, false);
        let (filter, _) = pending.first()?;
        let alone = alone || (server.deaths >= DEATHS_MIN && pending.len() == 1);
        server.deaths = server.deaths.saturating_add(1);
        if !alone {
            return None;
        }
        let deaths = server.lone.entry(Arc::clone(filter)).or_default();
        *deaths += 1;
        if *deaths < LONE_DEATHS_MIN {
            return None;
        }
        server.lone.remove(filter);
        server.left_out.insert(Arc::clone(filter), now.plus(AGAIN_AFTER));
        self.counters.filters_left_out_total += 1;
        Some(Trouble::Filter(Arc::clone(filter)))
    }

    fn unreadable(&mut self, now: BootNs, index: usize) -> Option<Trouble> {
        let server = self.servers.get_mut(index)?;
        server.unreadable = server.unreadable.saturating_add(1);
        if server.unreadable < DEATHS_MIN {
            return None;
        }
        (server.unreadable, server.discard) = (0, true);
        self.counters.sessions_discarded_total += 1;
        if !std::mem::replace(&mut server.discarded, true) {
            return Some(Trouble::Discard);
        }
        server.discarded = false;
        server.silent_until = now.plus(AGAIN_AFTER);
        Some(Trouble::Silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Loss = Loss::Closed { stage: None };
    const LARGE: Loss = Loss::IncomingOversize { limit: 1000 };

    fn filters(names: &[&str]) -> Vec<Wanted> {
        names.iter().map(|name| (Arc::from(*name), Qos::AtLeastOnce)).collect()
    }

    /// A server that ends the connection when it is asked for `hostile`; connections until all others are subscribed.
    fn connect_until_heard(hearing: &mut Hearing, hostile: &str, now: BootNs) -> (u32, Vec<Trouble>) {
        let mut troubles = Vec::new();
        for connection in 1..100 {
            assert!(!hearing.connecting(0));
            let mut asked = hearing.up(now, 0, true, filters(&["a/#", "b/#", "c/#"]));
            while !asked.is_empty() && asked.iter().all(|(filter, _)| **filter != *hostile) {
                asked = hearing.answered(0, false);
            }
            if asked.is_empty() {
                return (connection, troubles);
            }
            assert!(hearing.is_pending());
            troubles.extend(hearing.lost(now, 0, &CUT));
        }
        panic!("never");
    }

    #[test]
    fn a_filter_for_which_the_server_ends_the_connection_is_left_out_and_the_others_are_subscribed() {
        for hostile in ["a/#", "b/#", "c/#"] {
            let mut hearing = Hearing::new(1);
            let (connections, troubles) = connect_until_heard(&mut hearing, hostile, BootNs(0));
            assert_eq!(troubles, [Trouble::Filter(hostile.into())]);
            assert_eq!(connections, DEATHS_MIN + LONE_DEATHS_MIN + 1, "{hostile}");
            assert_eq!(hearing.left_out(0).map(|filter| &**filter).collect::<Vec<_>>(), [hostile]);
        }
    }

    #[test]
    fn a_filter_that_was_left_out_is_asked_for_again_after_an_hour() {
        let mut hearing = Hearing::new(1);
        connect_until_heard(&mut hearing, "b/#", BootNs(0));
        let later = BootNs(0).plus(AGAIN_AFTER);
        hearing.connecting(0);
        let asked = hearing.up(later, 0, true, filters(&["a/#", "b/#", "c/#"]));
        assert_eq!(asked.len(), 3);
        assert!(hearing.answered(0, false).is_empty());
        hearing.connecting(0);
        assert!(
            hearing.up(later, 0, true, filters(&["a/#", "b/#", "c/#"])).is_empty(),
            "all are known there"
        );
    }

    #[test]
    fn a_line_that_breaks_now_and_then_leaves_nothing_out() {
        let mut hearing = Hearing::new(2);
        for round in 0..100 {
            hearing.connecting(0);
            assert_eq!(hearing.up(BootNs(0), 0, false, filters(&["a", "b"])).len(), 2);
            if round % 3 == 2 {
                hearing.answered(0, false);
            }
            assert_eq!(hearing.lost(BootNs(0), 0, &CUT), None);
        }
    }

    #[test]
    fn messages_that_cannot_be_taken_cost_the_session_and_then_the_subscriptions_but_never_the_way_up() {
        let mut hearing = Hearing::new(1);
        let mut seen = Vec::new();
        for connection in 0..7 {
            let fresh = hearing.connecting(0);
            let asked = hearing.up(BootNs(0), 0, !fresh && connection > 0, filters(&["a"]));
            seen.push((fresh, asked.len()));
            hearing.answered(0, false);
            if connection < 6 {
                seen_trouble(connection, hearing.lost(BootNs(0), 0, &LARGE));
            }
        }
        assert_eq!(seen, [(false, 1), (false, 0), (false, 0), (true, 1), (false, 0), (false, 0), (true, 0)]);
        assert_eq!(hearing.counters().sessions_discarded_total, 2);
        hearing.connecting(0);
        assert_eq!(hearing.up(BootNs(0).plus(AGAIN_AFTER), 0, true, filters(&["a"])).len(), 1);
    }

    fn seen_trouble(connection: u32, trouble: Option<Trouble>) {
        let expected = match connection {
            2 => Some(Trouble::Discard),
            5 => Some(Trouble::Silence),
            _ => None,
        };
        assert_eq!(trouble, expected, "{connection}");
    }

    #[test]
    fn a_connection_that_ends_for_another_reason_in_between_ends_the_count() {
        let mut hearing = Hearing::new(1);
        for round in 0..20 {
            hearing.connecting(0);
            let loss = if round % 3 == 2 { &CUT } else { &LARGE };
            assert_eq!(hearing.lost(BootNs(0), 0, loss), None);
        }
    }
}

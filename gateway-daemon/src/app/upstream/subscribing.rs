//! Subscriptions at the cloud: what is asked for, what is refused, and what is said about it.

use std::sync::Arc;

use gateway_core::tag::BootNs;
use gateway_core::uplink::link::{Epoch, LinkCommand};
use gateway_core::uplink::loss::Loss;
use gateway_core::uplink::row::Qos;

use super::super::aside;
use super::Upstream;
use super::hearing::{Counters, Trouble};

impl Upstream {
    /// The cloud's session remembers subscriptions, but not whether they are those of this configuration: they are said once to each server in a run, and
    /// again when its session is fresh or it has refused one.
    pub(super) fn subscribe(&mut self, now: BootNs, epoch: Epoch, session_present: bool) {
        let server = self.uplink.server();
        let mut filters = self.down.rules().filters();
        filters.extend(self.commands.filter());
        let filters = filters.into_iter().map(|(filter, qos)| (Arc::from(filter.as_str()), qos)).collect();
        let filters = self.hearing.up(now, server, session_present, filters);
        self.refused = self.hearing.left_out(server).cloned().collect();
        self.ask_for(epoch, filters);
    }

    fn ask_for(&mut self, epoch: Epoch, filters: Vec<(Arc<str>, Qos)>) {
        if !filters.is_empty() {
            self.command(epoch, LinkCommand::Subscribe { filters });
        }
    }

    /// A connection has ended: perhaps because of what was asked for, or of what the cloud has sent.
    pub(super) fn end_hearing(&mut self, now: BootNs, loss: &Loss) {
        if self.hearing.is_pending() {
            self.uplink.excuse();
        }
        let (uplink, server) = (self.name.as_str(), self.uplink.server());
        match self.hearing.lost(now, server, loss) {
            None => {}
            Some(Trouble::Filter(filter)) => {
                let filter = aside::escaped(&filter);
                log::error!(uplink, reason = "subscription-refused"; "uplink {uplink}: the cloud ends the connection whenever {filter} is subscribed; it is left out for an hour; check `accept` and the access rules of the cloud");
            }
            Some(Trouble::Discard) => {
                log::error!(uplink, reason = "session-discarded"; "uplink {uplink}: messages that wait for this gateway at the cloud end each connection: {loss}; the session there is discarded, with everything that waits in it");
            }
            Some(Trouble::Silence) => {
                log::error!(uplink, reason = "session-discarded"; "uplink {uplink}: messages of the cloud end each connection, also in a fresh session: {loss}; nothing is subscribed for an hour; raise `packet_max` or narrow `accept`");
            }
        }
    }

    /// What happened to subscriptions.
    pub(in crate::app) fn hearing(&self) -> Counters {
        self.hearing.counters()
    }

    /// The cloud has answered completely.
    pub(super) fn subscribed(&mut self, epoch: Epoch, refused: &[Arc<str>]) {
        let server = self.uplink.server();
        let left_out = self.hearing.left_out(server).cloned();
        self.refused.extend(refused.iter().cloned().chain(left_out));
        self.refused.sort_unstable();
        self.refused.dedup();
        let filters = self.hearing.answered(server, !refused.is_empty());
        self.ask_for(epoch, filters);
    }
}

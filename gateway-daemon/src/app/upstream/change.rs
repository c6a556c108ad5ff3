//! What an uplink at work takes on from a changed configuration.

use std::sync::Arc;

use gateway_core::broker::SessionId;
use gateway_core::broker::bridge::BridgeRules;
use gateway_core::settings::LinkSettings;
use gateway_core::tag::BootNs;

use super::Upstream;

impl Upstream {
    /// Other rules for what goes up, and the session of the broker that was opened for them. Gives back the former session.
    pub(in super::super) fn replace_up(&mut self, session: SessionId, up: BridgeRules) -> SessionId {
        self.up = up;
        std::mem::replace(&mut self.session, session)
    }

    /// Other rules for what comes down. They are subscribed on the next connection.
    pub(in super::super) fn replace_down(&mut self, down: BridgeRules) {
        if *self.down.rules() != down {
            self.down.replace_rules(down);
            self.hearing.rules_changed();
        }
    }

    /// What a fault of this program could do: the link's task is gone and has said nothing.
    #[cfg(test)]
    pub(in super::super) fn break_link(&mut self) {
        if let Some(port) = &self.port {
            port.forward.abort();
        }
    }

    /// Cuts the connection and makes one with these settings.
    pub(in super::super) fn reconnect(&mut self, now: BootNs, link: LinkSettings) {
        self.cut();
        self.refused.clear();
        self.link_settings = Arc::new(link.to_server(0));
        self.hearing = super::Hearing::new(link.servers());
        self.uplink.name_servers(names_of(&link));
        self.uplink.reconnect(now, link.servers());
        self.all_servers = link;
    }
}

/// Host and port of each server, for people.
pub(super) fn names_of(link: &LinkSettings) -> Vec<Arc<str>> {
    let servers = (0..link.servers()).map(|index| link.to_server(index));
    servers.map(|server| format!("{}:{}", server.host, server.port).into()).collect()
}

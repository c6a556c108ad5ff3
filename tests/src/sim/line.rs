//! What happens to a connection and to each message on it.

use std::sync::Arc;
use std::time::Duration;

use gateway_core::uplink::Action;
use gateway_core::uplink::link::{Epoch, LinkEvent, PublishFault, Token};
use gateway_core::uplink::loss::{ConnectRefusal, Login, Loss, Stage};
use gateway_core::uplink::machine::State;
use gateway_core::uplink::row::{Body, Qos, Row};

use super::net::{Broker, Connection, Network, connect_time};
use super::oracle::Verdict;
use super::plan::MS;
use super::world::{Event, World};

/// Payloads above this are refused by the link.
pub(super) const PACKET_MAX: usize = 2000;

/// Topic of messages for which the cloud ends the connection.
pub(super) const HOSTILE_TOPIC: &str = "gateway/hostile";
/// A topic for which any server may end it.
pub(super) const UNFIT_TOPIC: &str = "gateway/un\u{1}fit";
/// Bodies above this end the connection, too.
pub(super) const CLOUD_MAX: usize = 1000;

/// Whether the cloud ends the connection when it reads this.
pub(super) fn is_hostile(row: &Row) -> bool {
    let large = matches!(row.body, Body::Raw(_)) && row.body.bytes().len() > CLOUD_MAX;
    *row.topic == *HOSTILE_TOPIC || *row.topic == *UNFIT_TOPIC || large
}

impl World {
    pub(super) fn dial(&mut self, epoch: Epoch) -> Verdict {
        self.oracle.backoff.attempt(self.now)?;
        self.connections += 1;
        self.connection = Some(Connection::new(self.connections, epoch.0));
        let delay = connect_time(&self.plan, self.network, &mut self.chance);
        self.after(delay, Event::Connected { connection: self.connections });
        Ok(())
    }

    pub(super) fn connected(&mut self, id: u64) {
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.id == id) else {
            return;
        };
        let epoch = Epoch(connection.epoch);
        let refusal = Loss::Refused { refusal: ConnectRefusal::ServerUnavailable, login: Login::Nothing };
        let down = |loss| LinkEvent::Down { loss, up_for: None };
        let event = match (self.network, self.broker) {
            (Network::BlackHole, _) => {
                down(Loss::ConnectTimeout { stage: Stage::Tcp, after: Duration::from_secs(30) })
            }
            (_, Broker::Refusing) => down(refusal),
            _ => {
                connection.up_at = Some(self.now);
                LinkEvent::Up { session_present: self.chance.one_in(2) }
            }
        };
        if self.broker == Broker::Flapping && matches!(event, LinkEvent::Up { .. }) {
            let loss = if self.chance.one_in(4) {
                Loss::Closed { stage: None }
            } else {
                Loss::Protocol { detail: "flapping".into() }
            };
            let down = LinkEvent::Down { loss, up_for: Some(Duration::from_millis(50)) };
            self.after(50 * MS, Event::Link { gateway: self.gateway, epoch, event: down });
        }
        self.after(0, Event::Link { gateway: self.gateway, epoch, event });
    }

    pub(super) fn transmit(&mut self, action: &Action) -> Verdict {
        let Some(uplink) = &self.uplink else { return Ok(()) };
        self.oracle.sent(self.now, action, uplink, &self.plan, &self.disk)?;
        let (epoch, token, row, qos) = match action {
            Action::Send { epoch, token, row, .. } => (*epoch, *token, Some(Arc::clone(row)), row.qos),
            Action::Announce { epoch, token, qos, .. } => (*epoch, *token, None, *qos),
            _ => return Ok(()),
        };
        let gateway = self.gateway;
        let open = |connection: &&mut Connection| connection.epoch == epoch.0 && connection.up_at.is_some();
        let Some(connection) = self.connection.as_mut().filter(open) else {
            return Err(format!("sent on epoch {} which is not up", epoch.0));
        };
        let size = row.as_ref().map_or(0, |row| row.body.bytes().len());
        if size > PACKET_MAX {
            let why = PublishFault::Oversize { size, limit: PACKET_MAX };
            self.after(0, Event::Link { gateway, epoch, event: LinkEvent::Refused { token, why } });
            return Ok(());
        }
        let id = connection.id;
        let arrival = connection.arrival(self.now, &self.plan, self.network, &mut self.chance);
        if qos == Qos::AtMostOnce {
            self.after(MS, Event::Link { gateway, epoch, event: LinkEvent::Acked { token } });
        }
        if let Some(at) = arrival {
            self.after(at - self.now, Event::Arrives { connection: id, token, row, qos });
        }
        Ok(())
    }

    pub(super) fn arrives(&mut self, id: u64, token: Token, row: Option<Arc<Row>>, qos: Qos) {
        let alive = self.connection.as_ref().is_some_and(|connection| connection.id == id);
        // What was already on its way when the connection ended may arrive or not.
        if !alive && self.chance.one_in(2) {
            return;
        }
        let dead = self.connection.as_ref().is_some_and(|connection| connection.id == id && connection.dead);
        if dead {
            return;
        }
        let breaks =
            self.plan.cut_one_in < u64::MAX && !self.quiet && self.chance.one_in(self.plan.cut_one_in);
        if breaks || row.as_deref().is_some_and(is_hostile) {
            self.end(id);
            return;
        }
        if let Some(row) = &row {
            self.oracle.arrived(row);
        }
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.id == id) else {
            return;
        };
        if qos == Qos::AtMostOnce {
            return;
        }
        let ways = (self.network, self.broker);
        let epoch = Epoch(connection.epoch);
        let back = connection.acknowledgement(self.now, &self.plan, ways, &mut self.chance);
        let Some(at) = back else { return };
        let gateway = self.gateway;
        let acked = || Event::Link { gateway, epoch, event: LinkEvent::Acked { token } };
        self.after(at - self.now, acked());
        if self.chance.one_in(200) {
            self.after(at - self.now + MS, acked());
        }
    }

    /// The cloud or the line ends a connection; the gateway hears of it when the news has travelled.
    fn end(&mut self, id: u64) {
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.id == id) else {
            return;
        };
        connection.dead = true;
        let up_for = connection.up_at.map(|at| Duration::from_nanos(self.now - at));
        let (epoch, loss) = (Epoch(connection.epoch), Loss::Closed { stage: None });
        let event = LinkEvent::Down { loss, up_for };
        self.after(self.plan.delay, Event::Link { gateway: self.gateway, epoch, event });
    }

    /// An event of a connection, delivered even if that connection is gone: the machine has to know better.
    pub(super) fn link(&mut self, epoch: Epoch, event: LinkEvent) -> Verdict {
        let now = self.boot_now();
        let current = self.connection.as_ref().is_some_and(|connection| connection.epoch == epoch.0);
        let Some(uplink) = &mut self.uplink else { return Ok(()) };
        let before = uplink.queue().ledger().acknowledged.rows;
        let down = matches!(event, LinkEvent::Down { .. });
        let mut settles = false;
        match &event {
            LinkEvent::Acked { token } if current => {
                let steady = match uplink.state() {
                    State::Up { since } => now >= since.plus(self.plan.settings.ack_timeout),
                    _ => false,
                };
                let ends_backoff = steady || self.plan.settings.qos != Qos::AtMostOnce;
                settles = self.oracle.acknowledged(self.now, token.0, ends_backoff);
            }
            LinkEvent::Refused { token, .. } if current => self.oracle.refused(token.0),
            _ => {}
        }
        uplink.link(now, epoch, event);
        let after = uplink.queue().ledger().acknowledged.rows;
        if after - before != u64::from(settles) {
            let settled = after - before;
            return Err(format!("an acknowledgement of epoch {} settled {settled} rows", epoch.0));
        }
        if down && current {
            self.note_loss();
            self.connection = None;
            self.oracle.link_gone();
        }
        Ok(())
    }

    /// Tells the back-off model that the gateway has lost its link.
    pub(super) fn note_loss(&mut self) {
        let Some(uplink) = &self.uplink else { return };
        let taken_over = matches!(uplink.last_loss(), Some(Loss::TakenOver { .. }));
        let flap = self.broker == Broker::Flapping
            && self.connection.as_ref().is_some_and(|connection| connection.up_at.is_some());
        self.oracle.backoff.lost(self.now, flap, taken_over);
    }
}

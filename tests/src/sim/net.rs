//! The network and the cloud's broker: what they do to each message, and how they can fail.

use super::chance::Chance;
use super::plan::{MS, Plan, S};

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// As planned.
    Good,
    /// So many times slower, with a random delay on top of every message (lost packets that TCP repeats).
    Slow(u64),
    /// Nothing gets through, and nobody says so: a half-open connection.
    BlackHole,
}

/// How the broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broker {
    /// Acknowledges at once and in order.
    Good,
    /// Acknowledges after so many ns, in order.
    Late(u64),
    /// Acknowledges in any order.
    Disordered,
    /// Takes messages and acknowledges none.
    Mute,
    /// Forgets to acknowledge one in ten.
    Forgetful,
    /// Accepts a connection and closes it before acknowledging anything.
    Flapping,
    /// Refuses connections with a CONNACK code.
    Refusing,
}

/// One connection: what one epoch of one run of the gateway sees.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Unique in the simulation.
    pub id: u64,
    /// Its epoch in the run that made it.
    pub epoch: u64,
    /// The cloud or the line has ended it: nothing more arrives, and the gateway is about to hear of it.
    pub dead: bool,
    /// CONNACK was delivered, at this time.
    pub up_at: Option<u64>,
    /// The last message leaves the narrowest line then.
    line_free: u64,
    /// The last message in order arrives at the cloud then.
    arrives: u64,
    /// The last acknowledgement in order is back then.
    acked: u64,
}

impl Connection {
    /// A connection that is being made.
    #[must_use]
    pub fn new(id: u64, epoch: u64) -> Self {
        Self { id, epoch, dead: false, up_at: None, line_free: 0, arrives: 0, acked: 0 }
    }

    /// When a message sent now arrives at the cloud; `None` is never.
    pub fn arrival(&mut self, now: u64, plan: &Plan, network: Network, chance: &mut Chance) -> Option<u64> {
        let (factor, extra) = match network {
            Network::Good => (1, 0),
            Network::Slow(factor) => (factor, if chance.one_in(10) { chance.of(0..=1500) * MS } else { 0 }),
            Network::BlackHole => return None,
        };
        self.line_free = self.line_free.max(now) + plan.service.saturating_mul(factor);
        self.arrives = self.arrives.max(self.line_free + plan.delay.saturating_mul(factor) + extra);
        Some(self.arrives)
    }

    /// When the acknowledgement of a message that arrives now is back at the gateway; `None` is never.
    pub fn acknowledgement(
        &mut self,
        now: u64,
        plan: &Plan,
        ways: (Network, Broker),
        chance: &mut Chance,
    ) -> Option<u64> {
        let back = match ways.0 {
            Network::Good => plan.delay,
            Network::Slow(factor) => plan.delay.saturating_mul(factor),
            Network::BlackHole => return None,
        };
        let thinks = match ways.1 {
            Broker::Good => 0,
            Broker::Late(late) => late,
            Broker::Disordered => return Some(now + back + chance.of(0..=4000) * MS),
            Broker::Mute | Broker::Flapping | Broker::Refusing => return None,
            Broker::Forgetful if chance.one_in(10) => return None,
            Broker::Forgetful => 0,
        };
        self.acked = self.acked.max(now + thinks + back);
        Some(self.acked)
    }
}

/// How long it takes to connect, or to find out that it is impossible.
#[must_use]
pub fn connect_time(plan: &Plan, network: Network, chance: &mut Chance) -> u64 {
    match network {
        Network::Good => plan.delay * 4,
        Network::Slow(factor) => plan.delay.saturating_mul(4 * factor),
        Network::BlackHole => chance.pick(&[0, 3 * S, 30 * S]),
    }
}

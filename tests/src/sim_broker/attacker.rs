//! Clients that keep no promise: garbage, halves of packets, thousands of subscriptions, answers that are never read or never given. What they do may end
//! their own connections and nothing else, so the oracle does not know them.

use super::wire::{self, Hello};
use crate::sim::chance::Chance;

/// What an attacker does on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// Bytes that are no MQTT.
    Garbage,
    /// The head of a large packet, and then a byte now and then.
    Half,
    /// Subscribes to very many filters.
    Hoard,
    /// Subscribes to everything and never reads.
    Deaf,
    /// Subscribes to everything and never acknowledges.
    Lazy,
    /// Pings without end.
    Ping,
    /// QoS 2 messages that it never releases.
    Unreleased,
    /// Retained messages on ever new topics.
    Retain,
    /// Good packets with a byte that is not.
    Mutate,
    /// Connects and says nothing.
    Silent,
    /// A shared subscription of its own group, given up and taken again.
    Share,
    /// Nobody, with the client id of somebody.
    TakeOver,
    /// Somebody's name with a wrong password.
    Guess,
}

const MOVES: [Move; 13] = [
    Move::Garbage,
    Move::Half,
    Move::Hoard,
    Move::Deaf,
    Move::Lazy,
    Move::Ping,
    Move::Unreleased,
    Move::Retain,
    Move::Mutate,
    Move::Silent,
    Move::Share,
    Move::TakeOver,
    Move::Guess,
];

/// One attacker.
#[derive(Debug)]
pub struct Attacker {
    me: usize,
    /// Number of its connection.
    pub conn: Option<u64>,
    doing: Move,
    v5: bool,
    step: u64,
}

impl Attacker {
    /// One that was never connected.
    #[must_use]
    pub fn new(me: usize) -> Self {
        Self { me, conn: None, doing: Move::Silent, v5: false, step: 0 }
    }

    /// A connection is there: what it sends first.
    pub fn open(&mut self, conn: u64, chance: &mut Chance) -> Vec<u8> {
        self.conn = Some(conn);
        self.doing = chance.pick(&MOVES);
        self.v5 = chance.one_in(2);
        let (name, durable) = (format!("evil-{}-{}", self.me, chance.of(0..=3)), chance.one_in(3));
        let other = chance.of(0..=5);
        let hello = Hello { v5: self.v5, id: &name, durable, receive_max: 65_535, will: None, user: None };
        let (theirs, user) = (format!("client-{other}"), format!("user-{other}"));
        let hello = wire::connect(&match self.doing {
            Move::TakeOver => Hello { id: &theirs, ..hello },
            Move::Guess => Hello { user: Some((&user, "wrong")), ..hello },
            _ => hello,
        });
        match self.doing {
            Move::Garbage => (0..chance.of(1..=60)).map(|_| byte(chance)).collect(),
            Move::Half => hello[..hello.len() / 2].to_vec(),
            Move::Silent => Vec::new(),
            Move::Deaf | Move::Lazy => [hello, wire::subscribe(self.v5, 1, "#", 2)].concat(),
            Move::Mutate => mutated(hello, chance),
            _ => hello,
        }
    }

    /// What it sends next.
    pub fn next(&mut self, chance: &mut Chance) -> Vec<u8> {
        self.step += 1;
        let (v5, step) = (self.v5, self.step);
        match self.doing {
            Move::Garbage => (0..chance.of(1..=200)).map(|_| byte(chance)).collect(),
            Move::Half => vec![byte(chance)],
            Move::Hoard => (0..100)
                .flat_map(|n| wire::subscribe(v5, 2, &format!("evil/{}/{step}/{n}/+", self.me), 1))
                .collect(),
            Move::Ping => [0xc0, 0].repeat(500),
            Move::Unreleased => {
                let id = u16::try_from(step % 60_000).unwrap_or(0) + 1;
                wire::publish(v5, 4, id, "evil/x", "x")
            }
            Move::Retain => wire::publish(v5, 3, 5, &format!("evil/{}/{step}", self.me), "kept"),
            Move::Mutate => mutated(wire::publish(v5, 2, 6, "evil/y", "some text"), chance),
            Move::Share if step.is_multiple_of(2) => wire::unsubscribe(v5, 7, "$share/evil/m/#"),
            Move::Share => wire::subscribe(v5, 8, "$share/evil/m/#", 1),
            Move::Deaf | Move::Lazy | Move::Silent | Move::TakeOver | Move::Guess => Vec::new(),
        }
    }

    /// Whether it reads what it is sent.
    #[must_use]
    pub fn reads(&self) -> bool {
        !matches!(self.doing, Move::Deaf | Move::Ping)
    }
}

fn byte(chance: &mut Chance) -> u8 {
    u8::try_from(chance.of(0..=255)).unwrap_or(0)
}

/// With one byte behind the fixed header changed: names of others are longer than one byte away.
fn mutated(mut packet: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
    let last = packet.len().saturating_sub(1) as u64;
    let place = usize::try_from(chance.of(0..=last)).unwrap_or(0);
    packet[place] = byte(chance);
    packet
}
